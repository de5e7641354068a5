//! The node: the machine's driver, with the disk, the network, the miner, the coordinator and the clock.
//!
//! ```text
//! peers ──► inbound (checks signatures) ──┐                      ┌──► network, miner
//! HTTP  ──► handle ──► router ────────────┼──► chain thread ─────┼──► replies, events
//! coordinator ◄──► link ──────────────────┘    machine + store   └──► link (commit, cosign)
//! ```
//! The chain's thread takes what waits, steps the machine for each, syncs once, and only then carries out the effects: a
//! group commit. It never waits for a network or a lock that is held across I/O.

mod chain_thread;
pub mod clock;
mod detached;
#[cfg(test)]
pub(crate) mod fake;
pub mod handle;
mod inbound;
mod link;
mod liveness;
mod mirror;
mod progress;
mod router;
mod run;

pub use handle::{NodeEvent, NodeHandle, RequestError};
pub use run::{NodeSettings, run};

use block_chain_common::quantity::Timestamp;
use std::time::{SystemTime, UNIX_EPOCH};

/// The clock, read at the edge: the machine takes time as an argument.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::new(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
