//! Why the store cannot be opened, read or written.

use block_chain_common::hash::ChainId;
use std::path::PathBuf;

/// Why the store cannot be opened, read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// Another process has the directory open.
    #[error("data directory {} is in use by another node{}", dir.display(), pid.as_deref().map(|p| format!(" (process {p})")).unwrap_or_default())]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The process that wrote itself into its lock file.
        pid: Option<String>,
    },
    /// Written by a later version of this program.
    #[error(
        "the store has format {found}, this program reads up to {known}: it was written by a later version"
    )]
    NewerFormat {
        /// The format found.
        found: u8,
        /// The format known here.
        known: u8,
    },
    /// The directory holds another chain.
    #[error("the data directory holds chain {found}, not {expected}")]
    OtherChain {
        /// The chain in it.
        found: ChainId,
        /// The chain asked for.
        expected: ChainId,
    },
    /// Bytes that are not what was written.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The system refused (disk full, read-only, no rights, a fault of the disk).
    #[error("cannot {doing} {}: {reason}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A write that does not follow from what is stored: a fault of this program, and nothing was written.
    #[error("refused to write: {0}")]
    Misuse(String),
    /// An earlier write failed; reads go on, writes need a restart.
    #[error("an earlier write failed, so nothing more is written until the node is restarted")]
    Poisoned,
}

impl StorageError {
    /// Bytes that are not what was written.
    #[must_use]
    pub fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }
}
