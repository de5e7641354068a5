//! The coordinator's rules on both databases, its HTTP interface, and its program.

#[path = "coordinator/cluster.rs"]
mod cluster;
#[path = "coordinator/http.rs"]
mod http;
#[path = "coordinator/network.rs"]
mod network;
#[path = "coordinator/property.rs"]
mod property;
#[path = "coordinator/rules.rs"]
mod rules;
#[path = "coordinator/stores.rs"]
mod stores;
