//! Rules and formats of the chain, for the coordinator, the workers and anybody's verifier.
//!
//! Pure: no I/O, no clock, no randomness, no async; time is an argument. Every byte is described in `docs/PROTOCOL.md`,
//! whose rule numbers (`BLK-3`, `TX-2`) stand in the error enums here. See `docs/ARCHITECTURE.md` for the map.

pub mod agreement;
pub mod block;
pub mod chain_keys;
pub mod chain_spec;
pub mod checkpoint;
pub mod codec;
pub mod coordinator_api;
pub mod double_block;
pub mod evidence;
pub mod finality;
pub mod fork;
pub mod hash;
pub mod header;
pub mod history;
pub mod keys;
pub mod limits;
mod lines;
pub mod merkle;
pub mod note;
pub mod peer_message;
pub mod quantity;
pub mod receipt;
pub mod recovery;
pub mod stake;
pub mod state;
pub mod transaction;
pub mod vrf;
pub mod work;
