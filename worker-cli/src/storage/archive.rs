//! A chain's store as parts of a backup, and a store made of them: every block is judged and executed again.
//!
//! Candidates beside the chain are left out: they are nobody's record, and peers have them.

use super::read::{COMMITTED, FINAL, checkpoint_key};
use super::replay::execute;
use super::{ForkBuilder, Inherited, StorageError, Store, StoredCheckpoint, db_error, decode, is_value_of};
use crate::machine::{ChainRead as _, Write};
use block_chain_common::block::{Block, ChainTip};
use block_chain_common::chain_spec::CheckedSpec;
use block_chain_common::checkpoint::Checkpoint;
use block_chain_common::hash::{BlockHash, Digest};
use block_chain_common::keys::PublicKey;
use block_chain_common::quantity::{Height, Term};
use block_chain_common::state::{LatticeHash, StateKey, StateValue};
use block_chain_common::transaction::{CheckedTransaction, Transaction};
use borsh::{BorshDeserialize, BorshSerialize};
use std::path::{Path, PathBuf};

/// Blocks between two syncs: what an apply may leave in memory.
const BLOCKS_TOGETHER: u64 = 64;

/// A part. What is inherited comes first, then the blocks, each followed by the checkpoints that cover it, then the rest.
#[derive(Debug, BorshSerialize, BorshDeserialize)]
pub enum ChainPart {
    /// Of a fork: an entry of the state that it has begun with, and what set it where it is a record.
    Inherited(StateKey, StateValue, Option<Inherited>),
    /// A block, from the one after the first on.
    Block(Block),
    /// A checkpoint of the blocks so far.
    Committed(StoredCheckpoint),
    /// A checkpoint of the blocks so far that is final.
    Final(StoredCheckpoint),
    /// What waits for a block, in order of arrival.
    Waiting(Transaction),
    /// A small thing that is kept under a name.
    Kept(String, Vec<u8>),
    /// The end: what all of it gives.
    End(ChainEnd),
    /// Entries of the state: in place of all that follows from blocks, see `seed`.
    State(Vec<(StateKey, StateValue)>),
}

/// What a chain's parts give.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ChainEnd {
    /// The head's height.
    pub height: Height,
    /// The head.
    pub hash: BlockHash,
    /// The state's digest there.
    pub state: Digest,
    /// The highest term seen.
    pub term: Term,
}

/// Why a store cannot be made of parts.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A block, checkpoint or transaction breaks a rule, or stands where it cannot.
    #[error("{0}")]
    Unsound(String),
    /// The new store fails.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Store {
    /// Gives one moment of this store as parts.
    ///
    /// # Errors
    /// Where reading fails, or what `put` says.
    pub fn archive<E: From<StorageError>>(
        &self,
        mut put: impl FnMut(ChainPart) -> Result<(), E>,
    ) -> Result<(), E> {
        let store = self.snapshot();
        store.archive_inherited(&mut put)?;
        let (height, hash) = store.head();
        let mut checkpoints = [COMMITTED, FINAL].map(|kind| store.checkpoints(kind).peekable());
        for at in (0..=height.get()).map(Height::new) {
            if at > Height::ZERO {
                put(ChainPart::Block(store.block_part(at)?))?;
            }
            let kinds = [
                ChainPart::Committed as fn(StoredCheckpoint) -> ChainPart,
                ChainPart::Final,
            ];
            for (found, part) in checkpoints.iter_mut().zip(kinds) {
                let covered = |found: &Result<StoredCheckpoint, _>| {
                    found.as_ref().map_or(true, |found| found.size <= at.get() + 1)
                };
                while let Some(checkpoint) = found.next_if(covered) {
                    put(part(checkpoint?))?;
                }
            }
        }
        for (_, waiting) in store.mempool()? {
            put(ChainPart::Waiting(waiting.transaction().clone()))?;
        }
        for guard in store.range(&store.inner.keyspaces.meta, b"job/", b"job0") {
            let (name, value) = guard.into_inner().map_err(|error| store.unread(&error))?;
            let name = name.strip_prefix(b"job/").unwrap_or(&name);
            let name = String::from_utf8_lossy(name).into_owned();
            put(ChainPart::Kept(name, value.to_vec()))?;
        }
        put(ChainPart::End(ChainEnd {
            height,
            hash,
            state: store.state_hash()?.digest(),
            term: store.term(),
        }))
    }

    pub(super) fn archive_inherited<E: From<StorageError>>(
        &self,
        put: &mut impl FnMut(ChainPart) -> Result<(), E>,
    ) -> Result<(), E> {
        for entry in self.inherited_state() {
            let (key, value) = entry?;
            let origin = match &value {
                StateValue::Record(record) => self.inherited(record.index)?,
                _ => None,
            };
            put(ChainPart::Inherited(key, value, origin))?;
        }
        Ok(())
    }

    fn checkpoints(&self, kind: u8) -> impl Iterator<Item = Result<StoredCheckpoint, StorageError>> + '_ {
        let (from, to) = (checkpoint_key(kind, 0), checkpoint_key(kind, u64::MAX));
        let found = self.range(&self.inner.keyspaces.checkpoints, &from, &to);
        found.map(|guard| {
            let value = guard.value().map_err(|error| self.unread(&error))?;
            decode(&value, "a checkpoint")
        })
    }

    /// A block of the chain, as a part holds it.
    pub(super) fn block_part(&self, height: Height) -> Result<Block, StorageError> {
        self.whole_block(height)
            .map_err(|reason| StorageError::damaged(format!("block {height} cannot be read whole: {reason}")))
    }

    fn unread(&self, error: &fjall::Error) -> StorageError {
        db_error("read", &self.inner.dir, error)
    }
}

/// A store that begins with what it has inherited, where it is a fork's, and then grows.
pub(super) struct Beginning<'a, G> {
    dir: PathBuf,
    spec: &'a CheckedSpec,
    /// Opens what has its first block.
    open: Open<G>,
    stage: Stage<G>,
}

type Open<G> = fn(&Path, &CheckedSpec) -> Result<G, StorageError>;

enum Stage<G> {
    Inheriting(ForkBuilder),
    Growing(Box<G>),
    /// It could not begin.
    Failed,
}

impl<'a, G> Beginning<'a, G> {
    pub(super) fn create(dir: &Path, spec: &'a CheckedSpec, open: Open<G>) -> Result<Self, ArchiveError> {
        let stage = if spec.genesis_state().is_none() {
            Stage::Inheriting(ForkBuilder::open(dir)?)
        } else {
            Stage::Growing(Box::new(open(dir, spec)?))
        };
        Ok(Self {
            dir: dir.to_owned(),
            spec,
            open,
            stage,
        })
    }

    /// Takes an entry that a fork has inherited, and, of a record, what has set it.
    pub(super) fn inherit(
        &mut self,
        key: &StateKey,
        value: &StateValue,
        origin: Option<&Inherited>,
    ) -> Result<(), ArchiveError> {
        let Stage::Inheriting(builder) = &mut self.stage else {
            return Err(unsound("something inherited stands where nothing is"));
        };
        if let (StateValue::Record(record), Some(found)) = (value, origin)
            && !is_value_of(found, key, &record.value_digest)
        {
            return Err(unsound(format!(
                "an inherited record is not what transaction {} has set",
                found.transaction.id()
            )));
        }
        builder.take(key, value, origin)
    }

    /// What grows: it begins with the first part that is not inherited.
    pub(super) fn growing(&mut self) -> Result<&mut G, ArchiveError> {
        if let Stage::Inheriting(_) = self.stage
            && let Stage::Inheriting(builder) = std::mem::replace(&mut self.stage, Stage::Failed)
        {
            let finished = builder.finish(self.spec);
            finished.map_err(|error| unsound(error.to_string()))?;
            self.stage = Stage::Growing(Box::new((self.open)(&self.dir, self.spec)?));
        }
        match &mut self.stage {
            Stage::Growing(growing) => Ok(growing),
            _ => Err(unsound("there is nothing that it could be added to")),
        }
    }

    pub(super) fn into_growing(mut self) -> Result<G, ArchiveError> {
        self.growing()?;
        match self.stage {
            Stage::Growing(growing) => Ok(*growing),
            _ => Err(unsound("there is nothing in it")),
        }
    }
}

/// A store that is being made of parts. Nothing of it counts before [`Self::finish`].
pub struct StoreBuilder<'a> {
    spec: &'a CheckedSpec,
    coordinator: PublicKey,
    store: Beginning<'a, Growing>,
    end: Option<ChainEnd>,
}

struct Growing {
    store: Store,
    tip: ChainTip,
    state: LatticeHash,
    waiting: u64,
}

impl<'a> StoreBuilder<'a> {
    /// A store in a directory that has none.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn create(dir: &Path, spec: &'a CheckedSpec, coordinator: PublicKey) -> Result<Self, ArchiveError> {
        Ok(Self {
            spec,
            coordinator,
            store: Beginning::create(dir, spec, Growing::of)?,
            end: None,
        })
    }

    /// Takes a part; whether it was the last.
    ///
    /// # Errors
    /// Where it breaks a rule, or the system refuses.
    pub fn take(&mut self, part: ChainPart) -> Result<bool, ArchiveError> {
        if self.end.is_some() {
            return Err(unsound("something stands after the end of the chain"));
        }
        if let ChainPart::Inherited(key, value, origin) = part {
            self.store.inherit(&key, &value, origin.as_ref())?;
            return Ok(false);
        }
        let growing = self.store.growing()?;
        match part {
            ChainPart::Block(block) => growing.connect(block, self.spec)?,
            ChainPart::Committed(checkpoint) => {
                growing.check(&checkpoint, self.spec, &self.coordinator)?;
                let StoredCheckpoint { size, note } = checkpoint;
                growing.store.apply(&[Write::Committed { size, note }])?;
            }
            ChainPart::Final(checkpoint) => {
                growing.check(&checkpoint, self.spec, &self.coordinator)?;
                let StoredCheckpoint { size, note } = checkpoint;
                growing.store.apply(&[Write::Final { size, note }])?;
            }
            ChainPart::Waiting(transaction) => growing.wait(transaction, self.spec)?,
            ChainPart::Kept(name, value) => growing.store.put_meta(&name, &value)?,
            ChainPart::End(end) => {
                growing.end(&end)?;
                self.end = Some(end);
                return Ok(true);
            }
            ChainPart::Inherited(..) | ChainPart::State(_) => {
                return Err(unsound("a part stands where it cannot"));
            }
        }
        Ok(false)
    }

    /// What the store holds, all of it on disk.
    ///
    /// # Errors
    /// Where the last part is missing.
    pub fn finish(self) -> Result<ChainEnd, ArchiveError> {
        self.end.ok_or_else(|| unsound("the end of the chain is missing"))
    }
}

impl Growing {
    fn of(dir: &Path, spec: &CheckedSpec) -> Result<Self, StorageError> {
        let store = Store::open(dir, spec)?;
        Ok(Self {
            tip: store.tip()?,
            state: store.state_hash()?,
            store,
            waiting: 0,
        })
    }

    fn connect(&mut self, block: Block, spec: &CheckedSpec) -> Result<(), ArchiveError> {
        let height = self.tip.height.next();
        let wrong =
            |reason: String| unsound(format!("block {height} of chain {}: {reason}", spec.spec().name));
        let connected = execute(block, (&self.tip, spec), (&self.store, &self.state)).map_err(wrong)?;
        self.tip = connected.tip().clone();
        self.state = connected.delta().hash_after().clone();
        self.store.apply(&[Write::Connect(Box::new(connected))])?;
        if height.get().is_multiple_of(BLOCKS_TOGETHER) {
            self.store.sync()?;
        }
        Ok(())
    }

    /// A checkpoint is the coordinator's, and of these blocks.
    fn check(
        &self,
        stored: &StoredCheckpoint,
        spec: &CheckedSpec,
        coordinator: &PublicKey,
    ) -> Result<(), ArchiveError> {
        let StoredCheckpoint { size, note } = stored;
        let wrong = |reason: String| {
            unsound(format!(
                "the checkpoint of {size} blocks of chain {}: {reason}",
                spec.spec().name
            ))
        };
        let verified = Checkpoint::verify(note, &spec.id(), coordinator);
        let (checkpoint, _) = verified.map_err(|error| wrong(error.to_string()))?;
        let of = self.tip.height.get().saturating_add(1);
        if (checkpoint.size, *size) != (of, of) {
            return Err(wrong(format!("it is one of {}, after {of}", checkpoint.size)));
        }
        if (checkpoint.root, checkpoint.block) != (self.tip.frontier.root(), self.tip.hash) {
            return Err(wrong("it is of other blocks".to_owned()));
        }
        Ok(())
    }

    fn wait(&mut self, transaction: Transaction, spec: &CheckedSpec) -> Result<(), ArchiveError> {
        let id = transaction.id();
        let wrong = |reason: String| {
            let name = &spec.spec().name;
            unsound(format!("transaction {id}, which waits on chain {name}: {reason}"))
        };
        let checked = CheckedTransaction::check(transaction, spec.id());
        let transaction = checked.map_err(|error| wrong(error.to_string()))?;
        let sequence = self.waiting;
        self.waiting = sequence.saturating_add(1);
        self.store.apply(&[Write::MempoolAdd {
            sequence,
            transaction,
        }])?;
        Ok(())
    }

    fn end(&self, end: &ChainEnd) -> Result<(), ArchiveError> {
        let found = (self.tip.height, self.tip.hash, self.state.digest());
        if found != (end.height, end.hash, end.state) {
            let (height, hash) = (self.tip.height, self.tip.hash);
            let reason = format!(
                "it ends with block {height}, {hash}, and says {}, {}",
                end.height, end.hash
            );
            return Err(unsound(reason));
        }
        self.store.apply(&[Write::Term(end.term)])?;
        self.store.sync()?;
        Ok(self.store.settle_and_wait()?)
    }
}

pub(super) fn unsound(reason: impl Into<String>) -> ArchiveError {
    ArchiveError::Unsound(reason.into())
}
