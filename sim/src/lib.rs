//! The whole network in one thread: the coordinator's rules and up to nine nodes' machines, with a network, clocks and
//! disks that fail as one seed says. The same seed gives the same run.
//!
//! ```text
//! faults ──► world (queue of what happens next) ──► machine.step ──► disk, network, coordinator
//!                                │
//!                                └──► promises: checked after every step, and once the faults end
//! ```
//! Real: the machine, the coordinator's service with its SQLite database, all formats and signatures. Simulated: time,
//! messages, disks. Absent: HTTP, QUIC, fjall; tests with real processes cover those.

pub mod disk;
pub mod promises;
pub mod world;

pub use world::{Broken, Options, Summary, Without, run};
