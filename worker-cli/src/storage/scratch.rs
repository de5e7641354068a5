//! A state that is computed again from the first block, on disk beside the store: for checking and repairing it.
//!
//! Nothing of it is synced or kept: it is removed when it is dropped, and what a crash left is removed by the next.

use super::write::bytes;
use super::{StorageError, Store, db_error, decode, io_error};
use block_chain_common::chain_spec::CheckedSpec;
use block_chain_common::state::{LatticeHash, StateDelta, StateKey, StateValue, StateView};
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use std::path::{Path, PathBuf};

/// Its directory in the data directory.
const NAME: &str = "check.tmp";
const CACHE_BYTES: u64 = 16 * 1_048_576;
const MEMTABLE_BYTES: u64 = 16 * 1_048_576;
const JOURNAL_BYTES: u64 = 64 * 1_048_576;

/// The state, as far as it was computed.
pub struct ScratchState {
    // Before the directory, so that it is closed when that is removed.
    open: Option<(Database, Keyspace)>,
    dir: PathBuf,
}

impl ScratchState {
    /// An empty one in the data directory; one that was left there is removed.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn create(data_dir: &Path) -> Result<Self, StorageError> {
        let dir = data_dir.join(NAME);
        remove_scratch(data_dir)?;
        let failed = |error: fjall::Error| db_error("create", &dir, &error);
        let db = Database::builder(&dir)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(1)
            .open()
            .map_err(failed)?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let state = db.keyspace("state", options).map_err(failed)?;
        Ok(Self {
            open: Some((db, state)),
            dir,
        })
    }

    fn open(&self) -> Result<&(Database, Keyspace), StorageError> {
        let closed = || StorageError::Misuse("the computed state is closed".to_owned());
        self.open.as_ref().ok_or_else(closed)
    }

    /// Begins with the state that a chain begins with; gives its hash. A fork's is read from its store.
    ///
    /// # Errors
    /// Where the store is damaged, or the system refuses.
    pub fn begin(&self, store: &Store, spec: &CheckedSpec) -> Result<LatticeHash, StorageError> {
        if let Some(genesis) = spec.genesis_state() {
            self.apply(genesis)?;
            return Ok(genesis.hash_after().clone());
        }
        let (_, state) = self.open()?;
        let mut hash = LatticeHash::default();
        for entry in store.inherited_state() {
            let (key, value) = entry?;
            hash.add_entry(&key, &value);
            let written = state.insert(bytes(&key), bytes(&value));
            written.map_err(|error| db_error("write", &self.dir, &error))?;
        }
        Ok(hash)
    }

    /// Applies what a block changes.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn apply(&self, delta: &StateDelta) -> Result<(), StorageError> {
        let (db, state) = self.open()?;
        let mut batch = db.batch();
        for change in delta.changes() {
            match &change.after {
                Some(value) => batch.insert(state, bytes(&change.key), bytes(value)),
                None => batch.remove(state, bytes(&change.key)),
            }
        }
        batch
            .commit()
            .map_err(|error| db_error("write", &self.dir, &error))
    }

    pub(super) fn entries(&self) -> Result<fjall::Iter, StorageError> {
        Ok(self.open()?.1.iter())
    }
}

impl StateView for ScratchState {
    type Error = StorageError;

    fn get(&self, key: &StateKey) -> Result<Option<StateValue>, StorageError> {
        let found = self.open()?.1.get(bytes(key));
        let found = found.map_err(|error| db_error("read", &self.dir, &error))?;
        found
            .map(|bytes| decode(&bytes, "an entry of the computed state"))
            .transpose()
    }
}

impl Drop for ScratchState {
    fn drop(&mut self) {
        self.open = None;
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            tracing::warn!(%error, dir = %self.dir.display(), "cannot remove what a check left");
        }
    }
}

/// Removes what a check that was interrupted has left in a data directory.
///
/// # Errors
/// Where the system refuses.
pub fn remove_scratch(data_dir: &Path) -> Result<(), StorageError> {
    let dir = data_dir.join(NAME);
    match std::fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_error("remove", &dir, &error)),
        _ => Ok(()),
    }
}
