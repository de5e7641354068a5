//! The worker: a node that holds a full replica of a chain, and the commands that talk to it.
//!
//! `machine` is pure (events in, effects out) and is what the simulation runs; `node` drives it with the disk
//! (`storage`), the network (`net`), the miner and the clock. `commands` are clients of the node's HTTP `api`.

pub mod api;
pub mod backup;
pub mod check;
pub mod cli;
pub mod client;
pub mod commands;
pub mod coordinator;
pub mod dump;
pub mod flags;
pub mod identity;
pub mod machine;
pub mod miner;
pub mod net;
pub mod node;
pub mod output;
pub mod spec_file;
pub mod storage;
pub mod tls;
pub mod wallet;

#[cfg(test)]
use crate as worker;
#[cfg(test)]
#[path = "../tests/support/chain.rs"]
mod test_chain;
