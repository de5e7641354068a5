//! What the coordinator and the nodes serve people alike: the frame of a page, its style and script, charts, and who is
//! signed in. Everything comes from the program itself; a page loads nothing from elsewhere, and its policy forbids it.

pub mod assets;
pub mod chart;
pub mod connections;
pub mod host;
pub mod interface;
pub mod limit;
pub mod page;
pub mod session;
pub mod slow;
pub mod strict;
pub mod time;
pub mod tls;
