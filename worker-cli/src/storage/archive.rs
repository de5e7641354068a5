//! A chain's store as parts of a backup, and a store made of them: every block is judged and executed again.
//!
//! Candidates beside the chain are left out: they are nobody's record, and peers have them.

use super::read::{COMMITTED, FINAL, checkpoint_key};
use super::{ForkBuilder, Inherited, StorageError, Store, StoredCheckpoint, db_error, decode, is_value_of};
use crate::machine::{ChainRead as _, Write};
use block_chain_common::block::{Block, ChainTip, CheckedBlock, connect_block};
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
                put(ChainPart::Block(store.whole_block(at)?))?;
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

    fn unread(&self, error: &fjall::Error) -> StorageError {
        db_error("read", &self.inner.dir, error)
    }
}

/// A store that is being made of parts. Nothing of it counts before [`Self::finish`].
pub struct StoreBuilder<'a> {
    dir: PathBuf,
    spec: &'a CheckedSpec,
    coordinator: PublicKey,
    stage: Stage,
}

enum Stage {
    /// Of a fork, whose store begins with what it has inherited.
    Inheriting(ForkBuilder),
    Growing(Box<Growing>),
    Ended(ChainEnd),
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
        let stage = if spec.genesis_state().is_none() {
            Stage::Inheriting(ForkBuilder::open(dir)?)
        } else {
            Stage::Growing(Box::new(Growing::of(dir, spec)?))
        };
        Ok(Self {
            dir: dir.to_owned(),
            spec,
            coordinator,
            stage,
        })
    }

    /// Takes a part; whether it was the last.
    ///
    /// # Errors
    /// Where it breaks a rule, or the system refuses.
    pub fn take(&mut self, part: ChainPart) -> Result<bool, ArchiveError> {
        if let ChainPart::Inherited(key, value, origin) = part {
            let Stage::Inheriting(builder) = &mut self.stage else {
                return Err(unsound("something inherited stands where nothing is"));
            };
            if let (StateValue::Record(record), Some(found)) = (&value, &origin)
                && !is_value_of(found, &key, &record.value_digest)
            {
                return Err(unsound(format!(
                    "an inherited record is not what transaction {} has set",
                    found.transaction.id()
                )));
            }
            builder.take(&key, &value, origin.as_ref())?;
            return Ok(false);
        }
        let growing = self.growing()?;
        match part {
            ChainPart::Block(block) => growing.0.connect(block, growing.1)?,
            ChainPart::Committed(checkpoint) => {
                growing.0.check(&checkpoint, growing.1, &growing.2)?;
                let StoredCheckpoint { size, note } = checkpoint;
                growing.0.store.apply(&[Write::Committed { size, note }])?;
            }
            ChainPart::Final(checkpoint) => {
                growing.0.check(&checkpoint, growing.1, &growing.2)?;
                let StoredCheckpoint { size, note } = checkpoint;
                growing.0.store.apply(&[Write::Final { size, note }])?;
            }
            ChainPart::Waiting(transaction) => growing.0.wait(transaction, growing.1)?,
            ChainPart::Kept(name, value) => growing.0.store.put_meta(&name, &value)?,
            ChainPart::End(end) => {
                growing.0.end(&end)?;
                self.stage = Stage::Ended(end);
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
        match self.stage {
            Stage::Ended(end) => Ok(end),
            _ => Err(unsound("the end of the chain is missing")),
        }
    }

    fn growing(&mut self) -> Result<(&mut Growing, &'a CheckedSpec, PublicKey), ArchiveError> {
        if let Stage::Inheriting(_) = self.stage {
            let placeholder = Stage::Ended(ChainEnd {
                height: Height::ZERO,
                hash: self.spec.genesis().header.hash(),
                state: self.spec.genesis().header.state_digest,
                term: Term::default(),
            });
            if let Stage::Inheriting(builder) = std::mem::replace(&mut self.stage, placeholder) {
                let finished = builder.finish(self.spec);
                finished.map_err(|error| unsound(error.to_string()))?;
            }
            self.stage = Stage::Growing(Box::new(Growing::of(&self.dir, self.spec)?));
        }
        match &mut self.stage {
            Stage::Growing(growing) => Ok((growing, self.spec, self.coordinator)),
            _ => Err(unsound("something stands after the end of the chain")),
        }
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
        // It was on time when it came.
        let now = block.header.timestamp;
        let checked = CheckedBlock::check(block, spec.id()).map_err(|error| wrong(error.to_string()))?;
        let connected = connect_block(checked, &self.tip, spec, (&self.store, &self.state), now);
        let connected = connected.map_err(|error| wrong(error.to_string()))?;
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
