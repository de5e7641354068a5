//! The node's store: blocks, state, indexes, mempool, checkpoints, in one fjall database.
//!
//! Invariants: a batch of `Write`s is there wholly or not at all, whatever kills the process; nothing is durable before
//! [`Store::sync`] returns; opening reads a few entries and replays nothing but fjall's journal; one process a directory.
//! After a failed write the store refuses to write until it is opened again. Absent: the rules (see `block_chain_common`).
//!
//! | keyspace | key → value |
//! | --- | --- |
//! | `meta` | name → head, format, chain, term, small jobs |
//! | `headers` | block hash → header and summed work |
//! | `heights` | height → hash, of the chain |
//! | `bodies` | height, hash, first index → about 32 KiB of encoded transactions, of the chain and of candidates |
//! | `tx_index` | first 20 bytes of a transaction's id → height, index |
//! | `key_history` | SHA-256 of key, height, index → nothing, for values that were replaced; `state` has the current one |
//! | `account_history` | address, height, index → nothing, for what moved its value or changed its roles |
//! | `state` | state key → value · `undo` block hash → delta · `history` level, index → node |
//! | `mempool` | sequence → transaction · `checkpoints` kind, size → note · `candidates` height, hash → nothing |
//! | `inherited` | of a fork: `s`, state key → value at its beginning · `t`, number → a record's transaction, and whence |

mod accounts;
mod archive;
mod ascending;
mod error;
mod fork;
mod journal;
mod read;
mod rebuild;
mod repair;
mod replay;
mod scratch;
mod seed;
#[cfg(test)]
mod tests;
mod write;

pub use accounts::REWARD;
use accounts::RecentAccounts;
pub(crate) use accounts::{concerned, concerns};
pub use archive::{ArchiveError, ChainEnd, ChainPart, StoreBuilder};
pub use error::{StorageError, system_hint};
use error::{db_error, io_error};
pub(crate) use fork::is_value_of;
pub use fork::{ForkBuilder, ForkFailure, Inherited};
use journal::JournalEnd;
pub use rebuild::{Missing, is_rebuild_wanted, rebuild_where_wanted, want_rebuild};
pub use repair::StateDifference;
pub use scratch::{ScratchState, remove_scratch};
pub use seed::Seeder;
pub(crate) use write::superseded;

use block_chain_common::block::ChainTip;
use block_chain_common::chain_spec::CheckedSpec;
use block_chain_common::hash::{BlockHash, ChainId};
use block_chain_common::quantity::{Height, Term};
use block_chain_common::state::LatticeHash;
use borsh::{BorshDeserialize, BorshSerialize};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, UserValue};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// The format this program writes.
const FORMAT: u8 = 1;
/// fjall's block cache: hot index blocks; the system's own cache holds the rest.
const CACHE_BYTES: u64 = 32 * 1_048_576;
/// One keyspace's memtable; up to four more wait to be flushed.
const MEMTABLE_BYTES: u64 = 8 * 1_048_576;
/// Tables that a keyspace gathers before they are merged into the next level: each is one filter more for a read of what
/// is not there, and with fjall's own 4 a long sync writes a tenth more and takes an eighth longer.
const TABLES_BEFORE_MERGE: u8 = 8;
/// The same for the index of transactions, whose names are spread at random, so that every merge touches all of it; it is
/// asked for little.
const INDEX_TABLES_BEFORE_MERGE: u8 = 16;
/// The journal before its oldest keyspaces are flushed: what a start after a crash reads again (fjall's least).
const JOURNAL_BYTES: u64 = 64 * 1_048_576;
/// What may stay unflushed while there is nothing to do.
const IDLE_BYTES: u64 = 4 * 1_048_576;
/// How long a stop waits for what it flushes. Everything is in the journal already: only the next start would take longer.
const FLUSH_WAIT: Duration = Duration::from_secs(10);

/// A checkpoint as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct StoredCheckpoint {
    /// Blocks it covers.
    pub size: u64,
    /// The signed note.
    pub note: String,
}

#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct Head {
    height: Height,
    hash: BlockHash,
}

struct Keyspaces {
    meta: Keyspace,
    headers: Keyspace,
    heights: Keyspace,
    bodies: Keyspace,
    tx_index: Keyspace,
    key_history: Keyspace,
    account_history: Keyspace,
    state: Keyspace,
    undo: Keyspace,
    history: Keyspace,
    mempool: Keyspace,
    checkpoints: Keyspace,
    candidates: Keyspace,
    /// Of a fork alone; written once.
    inherited: Option<Keyspace>,
}

impl Keyspaces {
    const fn all(&self) -> [&Keyspace; 13] {
        [
            &self.meta,
            &self.headers,
            &self.heights,
            &self.bodies,
            &self.tx_index,
            &self.key_history,
            &self.account_history,
            &self.state,
            &self.undo,
            &self.history,
            &self.mempool,
            &self.checkpoints,
            &self.candidates,
        ]
    }
}

/// What is asked for all the time, as of the last write.
#[derive(Debug, Clone)]
struct Cached {
    head: Head,
    committed: Option<StoredCheckpoint>,
    finalised: Option<StoredCheckpoint>,
    term: Term,
}

struct Inner {
    dir: PathBuf,
    db: Database,
    keyspaces: Keyspaces,
    cached: RwLock<Cached>,
    accounts: RecentAccounts,
    poisoned: AtomicBool,
    /// What fjall counts as unflushed where next to nothing is.
    miscounted: AtomicU64,
    /// Dropped after the database.
    journal: JournalEnd,
    /// Held as long as the store is open: the operating system frees it with the process.
    _lock: File,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nobody else has it now. A memtable that still turns out to hold something is flushed by the next open.
        let is_empty = |keyspace: &Keyspace| {
            matches!(keyspace.rotate_memtable(), Ok(false)) && keyspace.sealed_memtable_count() == 0
        };
        if !self.poisoned.load(Ordering::Acquire) && self.keyspaces.all().into_iter().all(is_empty) {
            self.journal.spent();
        }
    }
}

/// The store, or with [`Store::snapshot`] one moment of it. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    moment: Option<Arc<(fjall::Snapshot, Cached)>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("dir", &self.inner.dir)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store in a directory, or creates it with the chain's genesis.
    ///
    /// # Errors
    /// Where another process has it open, it is of a later format or another chain, or the system refuses.
    pub fn open(dir: &Path, spec: &CheckedSpec) -> Result<Self, StorageError> {
        let io = |doing| move |error: std::io::Error| io_error(doing, dir, &error);
        fs::create_dir_all(dir).map_err(io("create"))?;
        let lock = lock(dir)?;
        let db = open_database(dir).map_err(|error| db_error("open", dir, &error))?;
        let is_fork = spec.genesis_state().is_none();
        let keyspaces = open_keyspaces(&db, is_fork).map_err(|error| db_error("open", dir, &error))?;
        let read = |key: &str| {
            keyspaces
                .meta
                .get(key)
                .map_err(|error| db_error("read", dir, &error))
        };
        if let Some(found) = read("format")?.and_then(|value| value.first().copied())
            && found > FORMAT
        {
            return Err(StorageError::NewerFormat { found, known: FORMAT });
        }
        let head = match read("head")? {
            Some(bytes) => decode(&bytes, "the head")?,
            None => write::create(&db, &keyspaces, spec, None)?,
        };
        let found: ChainId = decode(&read("chain")?.unwrap_or_default(), "the chain's id")?;
        if found != spec.id() {
            return Err(StorageError::OtherChain {
                found,
                expected: spec.id(),
            });
        }
        let optional = |key: &str| -> Result<Option<StoredCheckpoint>, StorageError> {
            read(key)?.map(|bytes| decode(&bytes, key)).transpose()
        };
        let cached = Cached {
            head,
            committed: optional("committed")?,
            finalised: optional("final")?,
            term: read("term")?
                .map(|bytes| decode(&bytes, "the term"))
                .transpose()?
                .unwrap_or_default(),
        };
        let inner = Inner {
            dir: dir.to_owned(),
            db,
            keyspaces,
            cached: RwLock::new(cached),
            accounts: RecentAccounts::default(),
            poisoned: AtomicBool::new(false),
            miscounted: AtomicU64::new(0),
            journal: JournalEnd::new(dir.join("blocks")),
            _lock: lock,
        };
        Ok(Self {
            inner: Arc::new(inner),
            moment: None,
        })
    }

    /// One moment of the store: what is read through it does not change while blocks are connected.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        // Under the lock, so that the cached head is that of the snapshot.
        let cached = self.inner.cached.read().unwrap_or_else(PoisonError::into_inner);
        let moment = (self.inner.db.snapshot(), cached.clone());
        Self {
            inner: Arc::clone(&self.inner),
            moment: Some(Arc::new(moment)),
        }
    }

    /// What it takes on the disk, in bytes.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn disk_bytes(&self) -> Result<u64, StorageError> {
        let space = self.inner.db.disk_space();
        space.map_err(|error| db_error("read", &self.inner.dir, &error))
    }

    /// Makes everything that was applied so far durable.
    ///
    /// # Errors
    /// Where the system refuses; the store then writes no more.
    pub fn sync(&self) -> Result<(), StorageError> {
        let synced = self.inner.db.persist(PersistMode::SyncAll);
        synced.map_err(|error| {
            self.inner.poisoned.store(true, Ordering::Release);
            db_error("sync", &self.inner.dir, &error)
        })
    }

    /// Moves what is in memory into tables, in the background: for when there is nothing else to do. A start then has
    /// little to read again, and the memory is given back.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn settle(&self) -> Result<(), StorageError> {
        self.inner.accounts.clear();
        if self.inner.db.write_buffer_size() <= IDLE_BYTES {
            return Ok(());
        }
        self.flush_all()
    }

    fn flush_all(&self) -> Result<(), StorageError> {
        for keyspace in self.inner.keyspaces.all() {
            let rotated = keyspace.rotate_memtable();
            rotated.map_err(|error| db_error("flush", &self.inner.dir, &error))?;
        }
        Ok(())
    }

    /// As [`Self::settle`], but wholly where the journal is long, and waits for it, for ten seconds at most: for a stop.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn settle_and_wait(&self) -> Result<(), StorageError> {
        if self.inner.journal.is_long() {
            self.flush_all()?;
        } else {
            self.settle()?;
        }
        let deadline = Instant::now() + FLUSH_WAIT;
        let waiting = |keyspace: &Keyspace| keyspace.sealed_memtable_count() > 0;
        while self.inner.keyspaces.all().into_iter().any(waiting) && Instant::now() < deadline {
            // fjall tells nobody when a flush is over.
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// The head's height and hash.
    #[must_use]
    pub fn head(&self) -> (Height, BlockHash) {
        let head = self.cached().head;
        (head.height, head.hash)
    }

    /// The newest checkpoint that was persisted.
    #[must_use]
    pub fn committed(&self) -> Option<StoredCheckpoint> {
        self.cached().committed
    }

    /// The newest checkpoint with a majority of cosignatures.
    #[must_use]
    pub fn final_checkpoint(&self) -> Option<StoredCheckpoint> {
        self.cached().finalised
    }

    /// The highest term seen.
    #[must_use]
    pub fn term(&self) -> Term {
        self.cached().term
    }

    /// The chain's tip: what the next block is judged by.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn tip(&self) -> Result<ChainTip, StorageError> {
        let (_, hash) = self.head();
        crate::machine::tip_at(self, &hash)?
            .ok_or_else(|| StorageError::damaged("the head's header is missing"))
    }

    /// Keeps a small thing under a name, synced.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn put_meta(&self, name: &str, value: &[u8]) -> Result<(), StorageError> {
        let name = format!("job/{name}");
        self.inner
            .keyspaces
            .meta
            .insert(name, value)
            .map_err(|error| db_error("write", &self.inner.dir, &error))?;
        self.sync()
    }

    /// What was kept under a name.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn get_meta(&self, name: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let found = self.get(&self.inner.keyspaces.meta, format!("job/{name}").as_bytes())?;
        Ok(found.map(|value| value.to_vec()))
    }

    /// Forgets what was kept under a name, synced.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn delete_meta(&self, name: &str) -> Result<(), StorageError> {
        let removed = self.inner.keyspaces.meta.remove(format!("job/{name}"));
        removed.map_err(|error| db_error("write", &self.inner.dir, &error))?;
        self.sync()
    }

    fn cached(&self) -> Cached {
        match &self.moment {
            Some(moment) => moment.1.clone(),
            None => self
                .inner
                .cached
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }

    fn get(&self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<UserValue>, StorageError> {
        let found = match &self.moment {
            Some(moment) => moment.0.get(keyspace, key),
            None => keyspace.get(key),
        };
        found.map_err(|error| db_error("read", &self.inner.dir, &error))
    }

    fn range(&self, keyspace: &Keyspace, from: &[u8], to: &[u8]) -> fjall::Iter {
        match &self.moment {
            Some(moment) => moment.0.range(keyspace, from..to),
            None => keyspace.range(from..to),
        }
    }

    /// Everything that it holds, byte for byte, but for the names of the keyspaces' own formats.
    #[cfg(test)]
    fn everything(&self) -> Vec<(usize, Vec<u8>, Vec<u8>)> {
        let all = self.inner.keyspaces.all().into_iter().enumerate();
        all.flat_map(|(number, keyspace)| {
            keyspace.iter().map(move |guard| {
                let (key, value) = guard.into_inner().unwrap();
                (number, key.to_vec(), value.to_vec())
            })
        })
        .collect()
    }

    fn state_hash_entry(&self) -> Result<LatticeHash, StorageError> {
        let bytes = self.get(&self.inner.keyspaces.meta, b"state_hash")?;
        let hash = bytes.and_then(|bytes| LatticeHash::from_bytes(&bytes));
        hash.ok_or_else(|| StorageError::damaged("the state's hash"))
    }
}

fn open_database(dir: &Path) -> fjall::Result<Database> {
    Database::builder(dir.join("blocks"))
        .cache_size(CACHE_BYTES)
        .max_journaling_size(JOURNAL_BYTES)
        // A start reads the journal again: it must be quick, not small.
        .journal_compression(CompressionType::None)
        // With more, the first of them spins while another merges (it puts what it may not do back into the queue).
        .worker_threads(1)
        .open()
}

fn open_keyspaces(db: &Database, is_fork: bool) -> fjall::Result<Keyspaces> {
    let merged_at = |name: &str, tables: u8| {
        db.keyspace(name, || {
            let compaction = fjall::compaction::Leveled::default().with_l0_threshold(tables);
            KeyspaceCreateOptions::default()
                .max_memtable_size(MEMTABLE_BYTES)
                .compaction_strategy(Arc::new(compaction))
        })
    };
    let open = |name: &str| merged_at(name, TABLES_BEFORE_MERGE);
    Ok(Keyspaces {
        meta: open("meta")?,
        headers: open("headers")?,
        heights: open("heights")?,
        bodies: open("bodies")?,
        tx_index: merged_at("tx_index", INDEX_TABLES_BEFORE_MERGE)?,
        key_history: open("key_history")?,
        account_history: open("account_history")?,
        state: open("state")?,
        undo: open("undo")?,
        history: open("history")?,
        mempool: open("mempool")?,
        checkpoints: open("checkpoints")?,
        candidates: open("candidates")?,
        inherited: is_fork.then(|| open("inherited")).transpose()?,
    })
}

/// Takes a directory for this process, until the file is dropped.
///
/// # Errors
/// Where another process has it.
pub(crate) fn lock(dir: &Path) -> Result<File, StorageError> {
    let path = dir.join("node.lock");
    let opened = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let mut file = opened.map_err(|error| io_error("open", &path, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let pid = fs::read_to_string(&path)
                .ok()
                .map(|text| text.trim().to_owned())
                .filter(|pid| !pid.is_empty());
            return Err(StorageError::InUse {
                dir: dir.to_owned(),
                pid,
            });
        }
        Err(fs::TryLockError::Error(error)) => return Err(io_error("lock", &path, &error)),
    }
    let written = file
        .set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(|error| io_error("write", &path, &error))?;
    Ok(file)
}

fn decode<T: BorshDeserialize>(bytes: &[u8], what: &str) -> Result<T, StorageError> {
    T::try_from_slice(bytes).map_err(|error| StorageError::damaged(format!("{what}: {error}")))
}
