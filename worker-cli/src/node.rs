//! The node: the machine's driver, with the disk, the network, the miner, the coordinator and the clock.

pub mod handle;

pub use handle::{NodeHandle, NodeEvent, RequestError};
