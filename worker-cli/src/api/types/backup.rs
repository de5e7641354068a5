//! Backups as JSON.

use crate::backup::{Manifest, ManifestChain};
use block_chain_backup::Written;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use utoipa::ToSchema;

/// Make a backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBackup {
    /// The folder, by its whole path; `backups` in the data directory where none is named.
    #[schema(value_type = Option<String>, example = "/var/backups/ledger")]
    pub to: Option<PathBuf>,
    /// How many backups of this worker that were asked for are left in the folder; all where it is not said.
    #[schema(value_type = Option<usize>, minimum = 1)]
    pub keep: Option<NonZeroUsize>,
}

/// Make a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSnapshot {
    /// The folder, by its whole path; `backups` in the data directory where none is named.
    #[schema(value_type = Option<String>, example = "/srv/snapshots")]
    pub to: Option<PathBuf>,
}

/// A snapshot that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotMade {
    /// The file.
    #[schema(value_type = String)]
    pub file: PathBuf,
    /// The SHA-256 of the file, in hex.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
    /// How many blocks it has, all of them final.
    pub size: u64,
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackupMade {
    /// The file.
    #[schema(value_type = String)]
    pub file: PathBuf,
    /// The SHA-256 of the file, in hex.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
    /// The chains in it.
    pub chains: Vec<BackupChain>,
    /// Chains that this worker has joined and that could not be opened: they are not in it, and nothing was removed for it.
    pub missing: Vec<String>,
    /// How many older ones were removed.
    pub removed: usize,
}

/// A chain in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackupChain {
    /// Its name.
    pub name: String,
    /// The head's height.
    pub height: u64,
    /// How many blocks are committed.
    pub committed: u64,
    /// How many are final.
    #[serde(rename = "final")]
    pub finalised: u64,
}

impl BackupMade {
    pub(crate) fn new(written: &Written, manifest: Manifest, removed: usize) -> Self {
        Self {
            file: written.path.clone(),
            sha256: written.sha256.clone(),
            bytes: written.bytes,
            chains: manifest.chains.into_iter().map(BackupChain::from).collect(),
            missing: manifest.missing,
            removed,
        }
    }
}

impl From<ManifestChain> for BackupChain {
    fn from(chain: ManifestChain) -> Self {
        let ManifestChain {
            name,
            height,
            committed,
            finalised,
            ..
        } = chain;
        Self {
            name,
            height,
            committed,
            finalised,
        }
    }
}

/// The backups of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupList {
    /// The folder.
    pub folder: PathBuf,
    /// Oldest first.
    pub backups: Vec<BackupFile>,
}

/// A backup in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupFile {
    /// The file.
    pub file: PathBuf,
    /// When it was made, RFC 3339 in UTC.
    pub made: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256 in hex, where it is whole.
    pub sha256: Option<String>,
    /// What is wrong with it, where something is.
    pub error: Option<String>,
    /// The worker in it.
    pub worker: Option<String>,
    /// The chains in it.
    pub chains: Vec<BackupChain>,
    /// Chains that the worker has joined and that are not in it.
    pub missing: Vec<String>,
}
