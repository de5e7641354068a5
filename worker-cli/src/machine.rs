//! The node as a pure state machine: events in, effects out; no disk, network, clock or randomness of its own.

pub mod message;
pub mod read;

pub use message::Message;
pub use read::{ChainRead, Place, StoredHeader, Write};
