//! The node's HTTP interface.

pub mod types;
