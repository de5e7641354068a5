//! A store made anew beside one whose files cannot be read any more: what is sound is taken over, the rest comes from peers.
//!
//! Entries are put right in place (see `repair`), but a table that the disk has damaged stays damaged, and every range that
//! leads through it fails. So the node is asked, by a file in its data directory, to make the store anew at its next start:
//! every block from the first on that can be read and keeps every rule is connected again. Invariant: the old store is
//! replaced only by one that is whole, or, where peers were seen to have them, lacks the last blocks; whenever the process
//! is killed, the next start has the one or the other.

use super::error::{db_error, io_error};
use super::fork::ForkBuilder;
use super::read::{COMMITTED, FINAL, checkpoint_key};
use super::replay::execute;
use super::{StorageError, Store, StoredCheckpoint, decode};
use crate::machine::{ChainRead as _, Write};
use block_chain_common::block::ChainTip;
use block_chain_common::chain_spec::CheckedSpec;
use block_chain_common::quantity::Height;
use block_chain_common::state::LatticeHash;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The file that asks for it.
const WANTED: &str = "rebuild.wanted";
/// Where the new store grows.
const GROWING: &str = "rebuild";
/// Blocks between two syncs: what an apply may leave in memory.
const BLOCKS_TOGETHER: u64 = 64;
/// How often the log is told how far it is.
const TELL: Duration = Duration::from_secs(5);

/// What may be left to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Blocks that are damaged here: another replica was seen to have them.
    FromPeers,
    /// Nothing.
    None,
}

/// Asks that the store of a data directory be made anew at the node's next start.
///
/// # Errors
/// Where the system refuses.
pub fn want_rebuild(data_dir: &Path, missing: Missing) -> Result<(), StorageError> {
    let path = data_dir.join(WANTED);
    let word = match missing {
        Missing::FromPeers => "peers",
        Missing::None => "alone",
    };
    fs::write(&path, word).map_err(|error| io_error("write", &path, &error))
}

/// Whether it was asked for and is not done.
#[must_use]
pub fn is_rebuild_wanted(data_dir: &Path) -> bool {
    data_dir.join(WANTED).exists()
}

/// Makes the store anew where that was asked for; the directory is not open.
///
/// # Errors
/// Where the old store cannot be opened at all, or the system refuses; the old store is then as it was.
pub fn rebuild_where_wanted(data_dir: &Path, spec: &CheckedSpec) -> Result<(), StorageError> {
    let paths = Paths::of(data_dir);
    let Ok(word) = fs::read_to_string(&paths.wanted) else {
        return Ok(());
    };
    if paths.blocks.exists() {
        remove(&paths.growing)?;
        let done = take_over(data_dir, &paths.growing, spec);
        if done.is_err() {
            // Asked for again by whoever wants it; the next start is as before.
            remove(&paths.wanted)?;
        }
        let done = done?;
        if !done.is_whole() && word != "peers" {
            remove(&paths.growing)?;
            remove(&paths.wanted)?;
            tracing::error!(height = %done.height, of = %done.of, "the store cannot be made anew: a block is damaged, and no peer was seen to have it");
            return Ok(());
        }
        remove(&paths.damaged)?;
        rename(&paths.blocks, &paths.damaged)?;
        tracing::warn!(height = %done.height, of = %done.of, "the store was made anew");
    }
    // From here on there is no old store: a start after a kill goes on here.
    rename(&paths.growing.join("blocks"), &paths.blocks)?;
    remove(&paths.growing)?;
    remove(&paths.wanted)?;
    remove(&paths.damaged)
}

struct Paths {
    wanted: PathBuf,
    growing: PathBuf,
    blocks: PathBuf,
    damaged: PathBuf,
}

impl Paths {
    fn of(data_dir: &Path) -> Self {
        let at = |name: &str| data_dir.join(name);
        Self {
            wanted: at(WANTED),
            growing: at(GROWING),
            blocks: at("blocks"),
            damaged: at("blocks.damaged"),
        }
    }
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<(), StorageError> {
    fs::rename(from, to).map_err(|error| io_error("rename", from, &error))
}

pub(super) fn remove(path: &Path) -> Result<(), StorageError> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_error("remove", path, &error)),
        _ => Ok(()),
    }
}

/// How far the new store reaches.
struct TakenOver {
    height: Height,
    of: Height,
}

impl TakenOver {
    fn is_whole(&self) -> bool {
        self.height == self.of
    }
}

fn take_over(data_dir: &Path, growing: &Path, spec: &CheckedSpec) -> Result<TakenOver, StorageError> {
    let old = Store::open(data_dir, spec)?;
    if spec.genesis_state().is_none() {
        let builder = ForkBuilder::copy(growing, &old)?;
        builder
            .finish(spec)
            .map_err(|error| StorageError::damaged(error.to_string()))?;
    }
    let new = Store::open(growing, spec)?;
    let (of, _) = old.head();
    let (mut tip, mut state_hash) = (new.tip()?, new.state_hash()?);
    let mut told = Instant::now();
    while tip.height < of {
        let height = tip.height.next();
        match connect(&old, &new, spec, (height, &tip, &state_hash)) {
            Ok(next) => (tip, state_hash) = next,
            Err(reason) => {
                tracing::warn!(%height, reason, "a block cannot be taken over");
                break;
            }
        }
        if height.get() % BLOCKS_TOGETHER == 0 {
            new.sync()?;
        }
        if told.elapsed() > TELL {
            told = Instant::now();
            tracing::info!(%height, %of, "making the store anew");
        }
    }
    let done = TakenOver {
        height: tip.height,
        of,
    };
    new.apply(&[Write::Term(old.term())])?;
    take_checkpoints(&old, &new, tip.height)?;
    take_jobs(&old, &new)?;
    match old.mempool() {
        // What waits follows from the head; without its blocks it would not fit, and peers have it too.
        Ok(waiting) if done.is_whole() => {
            let writes: Vec<Write> = waiting
                .into_iter()
                .map(|(sequence, transaction)| Write::MempoolAdd {
                    sequence,
                    transaction,
                })
                .collect();
            new.apply(&writes)?;
        }
        Ok(waiting) => tracing::warn!(count = waiting.len(), "what waited here is left to the peers"),
        Err(error) => tracing::warn!(%error, "what waited here cannot be read, and is left to the peers"),
    }
    new.sync()?;
    new.settle_and_wait()?;
    Ok(done)
}

/// Connects the old store's block at a height to the new one.
fn connect(
    old: &Store,
    new: &Store,
    spec: &CheckedSpec,
    (height, tip, state_hash): (Height, &ChainTip, &LatticeHash),
) -> Result<(ChainTip, LatticeHash), String> {
    let connected = execute(old.whole_block(height)?, (tip, spec), (new, state_hash))?;
    let next = (connected.tip().clone(), connected.delta().hash_after().clone());
    new.apply(&[Write::Connect(Box::new(connected))])
        .map_err(|error| error.to_string())?;
    Ok(next)
}

/// The checkpoints that cover no more than there is. Those that cannot be read are left out: later ones cover their blocks.
fn take_checkpoints(old: &Store, new: &Store, height: Height) -> Result<(), StorageError> {
    let beyond = height.get().saturating_add(2);
    for kind in [COMMITTED, FINAL] {
        let (from, to) = (checkpoint_key(kind, 0), checkpoint_key(kind, beyond));
        let mut writes = Vec::new();
        for guard in old.range(&old.inner.keyspaces.checkpoints, &from, &to) {
            let Ok(value) = guard.value() else {
                tracing::warn!("checkpoints cannot be read");
                break;
            };
            let Ok(StoredCheckpoint { size, note }) = decode(&value, "a checkpoint") else {
                tracing::warn!("a checkpoint cannot be read");
                continue;
            };
            writes.push(if kind == COMMITTED {
                Write::Committed { size, note }
            } else {
                Write::Final { size, note }
            });
        }
        for write in writes {
            new.apply(&[write])?;
        }
    }
    Ok(())
}

/// Small things that were kept under a name.
fn take_jobs(old: &Store, new: &Store) -> Result<(), StorageError> {
    for guard in old.range(&old.inner.keyspaces.meta, b"job/", b"job0") {
        let Ok((name, value)) = guard.into_inner() else {
            tracing::warn!("what was kept for later cannot be read");
            break;
        };
        new.inner
            .keyspaces
            .meta
            .insert(name, value)
            .map_err(|error| db_error("write", &new.inner.dir, &error))?;
    }
    Ok(())
}
