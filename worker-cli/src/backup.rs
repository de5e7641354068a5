//! A worker's backups: who it is, its wallets, and every chain of its node, in one file of the form that
//! `block_chain_backup` describes.
//!
//! A backup is of one moment of each chain, made while the node runs. It holds secret keys, as they are at rest here.

mod make;
mod restore;
mod snapshot;

pub use make::{Mark, Source, make};
pub use restore::{Prepared, Restored, finish_restore, prepare, restore};
pub use snapshot::{begin_with, make_snapshot};

use crate::identity::IdentityError;
use crate::storage::{ArchiveError, ChainPart, StorageError};
use block_chain_backup::{BackupError, BackupReader};
use block_chain_common::limits::check_name;
use borsh::{BorshDeserialize, BorshSerialize};
use std::path::{Path, PathBuf};

/// How the names of a worker's backups begin.
pub const WHAT: &str = "worker";
/// The format that this program writes.
const FORMAT: u8 = 1;

/// What a backup holds: its first part.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Manifest {
    /// The format of the parts.
    pub format: u8,
    /// When it was made, in milliseconds since 1970.
    pub made_ms: u64,
    /// The version of the program that made it.
    pub version: String,
    /// The worker's id.
    pub worker: String,
    /// The name of its home chain.
    pub home: String,
    /// The chains, by name.
    pub chains: Vec<ManifestChain>,
    /// Chains that the worker has joined and could not open, so that none of their blocks are in it. They stand after the
    /// manifest in its part, and nowhere where there are none.
    #[borsh(skip)]
    pub missing: Vec<String>,
}

/// A chain in a backup.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ManifestChain {
    /// Its name.
    pub name: String,
    /// Its id, in hex.
    pub id: String,
    /// The head's height.
    pub height: u64,
    /// How many blocks are committed.
    pub committed: u64,
    /// How many are final.
    pub finalised: u64,
}

/// A part: the manifest, then the files, then each chain by its name and its own parts.
#[derive(Debug, BorshSerialize, BorshDeserialize)]
enum Part {
    Manifest(Manifest),
    /// A small file, by its path in the data directory.
    File(String, Vec<u8>),
    /// What follows is of this chain.
    Chain(String),
    OfChain(ChainPart),
    /// In place of the manifest alone: with the chains that are missing.
    Incomplete(Manifest, Vec<String>),
}

/// Why a backup cannot be made or restored.
#[derive(Debug, thiserror::Error)]
pub enum WorkerBackupError {
    /// Its file.
    #[error(transparent)]
    File(#[from] BackupError),
    /// A small file of the worker.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A chain's store.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// It is whole, but does not hold what a worker's backup does.
    #[error("{} cannot be restored: {reason}", path.display())]
    Unsound {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The directory has a worker already.
    #[error("{} holds {holds} already", dir.display())]
    Occupied {
        /// The directory.
        dir: PathBuf,
        /// What is there.
        holds: String,
    },
    /// Another command restores in the same directory.
    #[error("another restore is at work in {}", dir.display())]
    Restoring {
        /// The directory.
        dir: PathBuf,
    },
    /// What is committed does not become final.
    #[error(
        "chain {chain} has no moment in which all that is committed is final: a snapshot is of such a one"
    )]
    NotFinal {
        /// The chain.
        chain: String,
    },
    /// The system refuses.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl WorkerBackupError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    fn unsound(path: &Path, reason: impl Into<String>) -> Self {
        Self::Unsound {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    fn of_chain(path: &Path, error: ArchiveError) -> Self {
        match error {
            ArchiveError::Unsound(reason) => Self::unsound(path, reason),
            ArchiveError::Storage(error) => error.into(),
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::File(BackupError::Unsound { .. }) | Self::Unsound { .. } => {
                Some("nothing was replaced; block-chain-worker backups shows the others")
            }
            Self::Occupied { .. } => {
                Some("restore --replace puts it aside in the same directory, and takes the backup's place")
            }
            Self::Restoring { .. } => Some("wait until it has ended"),
            Self::NotFinal { .. } => Some("block-chain-worker status says what is not final, and why"),
            Self::Storage(error) => error.hint(),
            Self::File(BackupError::Io { source, .. }) | Self::Io { source, .. } => {
                crate::storage::system_hint(source.kind())
            }
            Self::File(BackupError::NoRoom { .. }) => {
                Some("make room there, or name a folder on another disk: block-chain-worker backup FOLDER")
            }
            Self::File(BackupError::Part { .. } | BackupError::Taken { .. }) | Self::Identity(_) => None,
        }
    }
}

/// What a backup says that it holds; nothing else of it is read.
///
/// # Errors
/// Where it cannot be read, or is none of a worker.
pub fn manifest(path: &Path) -> Result<Manifest, WorkerBackupError> {
    let part = BackupReader::first_part(path)?;
    read_manifest(path, &part)
}

fn read_manifest(path: &Path, part: &[u8]) -> Result<Manifest, WorkerBackupError> {
    let (manifest, missing) = match Part::try_from_slice(part) {
        Ok(Part::Manifest(manifest)) => (manifest, Vec::new()),
        Ok(Part::Incomplete(manifest, missing)) => (manifest, missing),
        _ => return Err(WorkerBackupError::unsound(path, "it is no backup of a worker")),
    };
    if manifest.format != FORMAT {
        let reason = format!(
            "it has format {}, this program reads {FORMAT}: it was written by another version, {}",
            manifest.format, manifest.version
        );
        return Err(WorkerBackupError::unsound(path, reason));
    }
    // They become folders.
    let chains = manifest.chains.iter().map(|chain| &chain.name);
    for name in chains.chain(&missing).chain([&manifest.home]) {
        check_name(name).map_err(|error| WorkerBackupError::unsound(path, format!("a chain's {error}")))?;
    }
    Ok(Manifest { missing, ..manifest })
}

#[cfg(test)]
mod tests;
