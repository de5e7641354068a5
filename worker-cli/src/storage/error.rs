//! Why the store cannot be opened, read or written.

use block_chain_common::hash::ChainId;
use block_chain_common::history::HistoryError;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

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
        /// Of what kind the system's refusal is.
        kind: ErrorKind,
        /// What the system said.
        reason: String,
    },
    /// A write that does not follow from what is stored: a fault of this program, and nothing was written.
    #[error("refused to write: {0}")]
    Misuse(String),
    /// A fork's store cannot be made of nothing.
    #[error("the store of a fork is made of a replica of its parent, and there is none")]
    NoParent,
    /// An earlier write failed; reads go on, writes need a restart.
    #[error("an earlier write failed, so nothing more is written until the node is restarted")]
    Poisoned,
}

impl StorageError {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::InUse { .. } => Some("stop it, or give this node another --data-dir"),
            Self::NewerFormat { .. } => Some("run the version of the program that wrote it, or a later one"),
            Self::OtherChain { .. } => Some("give each chain a --data-dir of its own"),
            Self::Damaged(_) => Some(
                "block-chain-worker check_consistency --repair; where the node does not start, move blocks/ out of the data \
                 directory: it then fetches the chain again",
            ),
            Self::Io { kind, .. } => system_hint(*kind),
            Self::Poisoned => Some("block-chain-worker status starts it again, once it has ended"),
            Self::Misuse(_) => None,
            Self::NoParent => Some("block-chain-worker chain join NAME makes it anew"),
        }
    }

    /// Bytes that are not what was written.
    #[must_use]
    pub fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }
}

/// What to do where the system refuses to write.
#[must_use]
pub const fn system_hint(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            Some("make room on the disk: nothing that was acknowledged is lost")
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            Some("the data directory must be one that this user may write to")
        }
        _ => None,
    }
}

pub(super) fn io_error(doing: &'static str, path: &Path, error: &std::io::Error) -> StorageError {
    let reason = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "the disk is full".to_owned(),
        _ => error.to_string(),
    };
    StorageError::Io {
        doing,
        path: path.to_owned(),
        kind: error.kind(),
        reason,
    }
}

/// What fjall says: the system's refusals, a write after one of these, or bytes that are not what it wrote.
pub(super) fn db_error(doing: &'static str, path: &Path, error: &fjall::Error) -> StorageError {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            io_error(doing, path, error)
        }
        fjall::Error::Poisoned => StorageError::Poisoned,
        other => StorageError::damaged(format!("cannot {doing} {}: {other:?}", path.display())),
    }
}

impl From<HistoryError<Self>> for StorageError {
    fn from(error: HistoryError<Self>) -> Self {
        match error {
            HistoryError::Read(error) => error,
            other => Self::damaged(other.to_string()),
        }
    }
}
