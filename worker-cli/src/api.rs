//! The node's HTTP interface.

pub mod json;
pub mod types;
