//! The node: for each of its chains the machine's driver, with the disk, the network, the miner, the coordinator and the clock.
//!
//! ```text
//! peers ──► inbound (checks signatures) ──┐                      ┌──► network, miner
//! HTTP  ──► handle ──► router ────────────┼──► chain thread ─────┼──► replies, events
//! coordinator ◄──► link ──────────────────┘    machine + store   └──► link (commit, cosign)
//! ```
//! Chains share the port for peers, the HTTP interface and the heartbeats (`pulse`), and nothing that one could use up: each
//! has a thread, a store, queues and limits of its own.
//!
//! The chain's thread takes what waits, steps the machine for each, syncs once, and only then carries out the effects: a
//! group commit. It never waits for a network or a lock that is held across I/O.

mod chain;
mod chain_thread;
mod chains;
pub mod clock;
mod detached;
#[cfg(test)]
pub(crate) mod fake;
mod figures;
pub mod handle;
mod inbound;
mod link;
mod liveness;
mod manage;
mod mirror;
mod progress;
mod pulse;
mod router;
mod run;
mod seen;

pub use chains::{Chains, OpenChain};
pub use handle::{NodeEvent, NodeHandle, RequestError};
pub use manage::{ChainsError, Manager};
pub use run::{NodeSettings, run};
pub(crate) use seen::SeenBlock;

use block_chain_common::quantity::Timestamp;
use std::time::{SystemTime, UNIX_EPOCH};

/// The clock, read at the edge: the machine takes time as an argument.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::new(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
