//! The coordinator's rules on both databases, its HTTP interface, and its program.

#[cfg(test)]
#[path = "coordinator/access.rs"]
mod access;
#[cfg(test)]
#[path = "coordinator/backups.rs"]
mod backups;
#[cfg(test)]
#[path = "coordinator/both.rs"]
mod both;
#[cfg(test)]
#[path = "coordinator/chains.rs"]
mod chains;
#[cfg(test)]
#[path = "coordinator/cluster.rs"]
mod cluster;
#[cfg(test)]
#[path = "coordinator/http.rs"]
mod http;
#[cfg(test)]
#[path = "coordinator/interface.rs"]
mod interface;
#[cfg(test)]
#[path = "coordinator/membership.rs"]
mod membership;
#[cfg(test)]
#[path = "coordinator/network.rs"]
mod network;
#[cfg(test)]
#[path = "coordinator/operator.rs"]
mod operator;
#[cfg(test)]
#[path = "coordinator/orders.rs"]
mod orders;
#[cfg(test)]
#[path = "coordinator/postgres.rs"]
mod postgres;
#[cfg(test)]
#[path = "coordinator/property.rs"]
mod property;
#[cfg(test)]
#[path = "coordinator/recovery.rs"]
mod recovery;
#[cfg(test)]
#[path = "coordinator/rules.rs"]
mod rules;
#[cfg(test)]
#[path = "../../common/tests/support/schema.rs"]
mod schema;
#[cfg(test)]
#[path = "coordinator/stores.rs"]
mod stores;
