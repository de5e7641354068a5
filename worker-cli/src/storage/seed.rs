//! A store made of a chain's blocks and of its state at the last final one, without executing them: how a new worker begins
//! without a replay.
//!
//! What is believed, and on whose word: a majority of the members has cosigned the checkpoint; its root covers every header,
//! each header its transactions (by their ids, which cover the signatures) and the digest of the state after it. So headers,
//! proofs, bodies and the state are checked against that; what is not done again is to verify signatures of transactions and
//! to execute them. `check_consistency` does that at any time.
//!
//! The entries of the state come in ascending order of their encoded keys, over all parts: see [`Ascending`].

use super::accounts::{account_key, concerned};
use super::archive::{ArchiveError, Beginning, ChainPart, unsound};
use super::ascending::Ascending;
use super::write::{bytes, history_name, put_body, put_index};
use super::{Head, StorageError, Store, StoredCheckpoint, db_error, read};
use crate::machine::{ChainRead as _, Place, StoredHeader, Write};
use block_chain_common::block::{Block, ChainTip, CheckedBlock};
use block_chain_common::chain_keys::ChainKeys;
use block_chain_common::chain_spec::CheckedSpec;
use block_chain_common::checkpoint::{Checkpoint, is_final};
use block_chain_common::quantity::Height;
use block_chain_common::state::{LatticeHash, StateKey, StateValue};
use block_chain_common::transaction::{CheckedTransaction, Payload};
use fjall::{OwnedWriteBatch, PersistMode};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Entries of the state in a part.
const ENTRIES: usize = 1_000;
/// Blocks between two syncs.
const BLOCKS_TOGETHER: u64 = 64;

/// An entry as it was before some blocks; no value where there was none.
type Before = (StateKey, Option<StateValue>);

impl Store {
    /// Gives the chain up to its last final block as parts, with the state after it. `None` where blocks are committed and
    /// not final: the state in between is kept nowhere, and is there again a moment later.
    ///
    /// # Errors
    /// Where reading fails, or what `put` says.
    pub fn seed<E: From<StorageError>>(
        &self,
        mut put: impl FnMut(ChainPart) -> Result<(), E>,
    ) -> Result<Option<StoredCheckpoint>, E> {
        let store = self.snapshot();
        let Some(checkpoint) = store.final_checkpoint() else {
            return Ok(None);
        };
        if store
            .committed()
            .is_some_and(|committed| committed.size != checkpoint.size)
        {
            return Ok(None);
        }
        store.archive_inherited(&mut put)?;
        let last = Height::new(checkpoint.size).previous();
        for height in (1..=last.get()).map(Height::new) {
            put(ChainPart::Block(store.block_part(height)?))?;
        }
        put(ChainPart::Final(checkpoint.clone()))?;
        let mut entries = Vec::new();
        store.entries_after(last, |key, value| {
            entries.push((key, value));
            if entries.len() < ENTRIES {
                return Ok(());
            }
            put(ChainPart::State(std::mem::take(&mut entries)))
        })?;
        if !entries.is_empty() {
            put(ChainPart::State(entries))?;
        }
        Ok(Some(checkpoint))
    }

    /// Gives the state as it was after a block, in ascending order of the encoded keys.
    fn entries_after<E: From<StorageError>>(
        &self,
        last: Height,
        mut add: impl FnMut(StateKey, StateValue) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut changed = self.changed_since(last)?;
        for entry in self.state_entries() {
            let (key, mut value) = entry?;
            let name = bytes(&key);
            // What later blocks have removed is no entry any more, and has its place among those that are.
            while let Some(first) = changed.first_entry().filter(|first| *first.key() < name) {
                let (key, before) = first.remove();
                before.map_or(Ok(()), |before| add(key, before))?;
            }
            if let Some((_, before)) = changed.remove(&name) {
                let Some(before) = before else { continue };
                value = before;
            }
            add(key, value)?;
        }
        for (key, before) in changed.into_values() {
            before.map_or(Ok(()), |before| add(key, before))?;
        }
        Ok(())
    }

    /// What blocks above one have changed, as it was before them, by the encoded keys.
    fn changed_since(&self, last: Height) -> Result<BTreeMap<Vec<u8>, Before>, StorageError> {
        let mut before = BTreeMap::new();
        let mut height = self.head().0;
        while height > last {
            let damaged = || StorageError::damaged(format!("what block {height} has changed is missing"));
            let hash = self.hash_at(height)?.ok_or_else(damaged)?;
            let undo = self.undo(&hash)?.ok_or_else(damaged)?;
            before.extend(
                undo.entries()
                    .map(|(key, value)| (bytes(key), (key.clone(), value.cloned()))),
            );
            height = height.previous();
        }
        Ok(before)
    }
}

/// A store that is being made. Nothing of it counts before [`Self::finish`].
pub struct Seeder<'a> {
    dir: PathBuf,
    keys: (&'a CheckedSpec, &'a ChainKeys),
    store: Beginning<'a, Growing>,
}

struct Growing {
    store: Store,
    tip: ChainTip,
    /// The checkpoint, once it was judged.
    checkpoint: Option<StoredCheckpoint>,
    state: LatticeHash,
    keys: Ascending,
}

impl<'a> Seeder<'a> {
    /// A store in a directory that has none. `keys`: whose word counts.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn create(dir: &Path, spec: &'a CheckedSpec, keys: &'a ChainKeys) -> Result<Self, ArchiveError> {
        Ok(Self {
            dir: dir.to_owned(),
            keys: (spec, keys),
            store: Beginning::create(dir, spec, Growing::open)?,
        })
    }

    /// Takes a part.
    ///
    /// # Errors
    /// Where it does not fit, or the system refuses.
    pub fn take(&mut self, part: ChainPart) -> Result<(), ArchiveError> {
        match part {
            ChainPart::Inherited(key, value, origin) => self.store.inherit(&key, &value, origin.as_ref()),
            ChainPart::Block(block) => self.store.growing()?.block(block, self.keys.0),
            ChainPart::Final(checkpoint) => self.store.growing()?.judge(checkpoint, self.keys),
            ChainPart::State(entries) => self.store.growing()?.entries(&entries),
            _ => Err(unsound("a part stands where it cannot")),
        }
    }

    /// The store gets its head; how many blocks there are. All of it is on disk.
    ///
    /// # Errors
    /// Where the state is not the one that the last header names, or the system refuses.
    pub fn finish(self) -> Result<u64, ArchiveError> {
        self.store.into_growing()?.finish(&self.dir, self.keys.0)
    }
}

impl Growing {
    fn open(dir: &Path, spec: &CheckedSpec) -> Result<Self, StorageError> {
        let store = Store::open(dir, spec)?;
        let this = Self {
            tip: store.tip()?,
            checkpoint: None,
            state: LatticeHash::default(),
            keys: Ascending::default(),
            store,
        };
        // The state that the chain has begun with gives way to the one that comes; of its records there is a history.
        let mut batch = this.store.inner.db.batch();
        for entry in this.store.state_entries() {
            let (key, value) = entry?;
            batch.remove(&this.store.inner.keyspaces.state, bytes(&key));
            if let (StateKey::Record(key), StateValue::Record(record)) = (&key, &value) {
                let place = Place {
                    height: record.height,
                    index: record.index,
                };
                batch.insert(
                    &this.store.inner.keyspaces.key_history,
                    history_name(key, place),
                    [],
                );
            }
        }
        this.commit(batch)?;
        Ok(this)
    }

    fn commit(&self, batch: OwnedWriteBatch) -> Result<(), StorageError> {
        let committed = batch.commit();
        committed.map_err(|error| db_error("write", &self.store.inner.dir, &error))?;
        self.store.wait_for_flushes()
    }

    fn block(&mut self, block: Block, spec: &CheckedSpec) -> Result<(), ArchiveError> {
        let height = self.tip.height.next();
        let wrong = |reason: String| unsound(format!("block {height}: {reason}"));
        if self.checkpoint.is_some() {
            return Err(wrong("it comes after the checkpoint".to_owned()));
        }
        let Block { header, transactions } = block;
        let checked: Result<Vec<_>, _> = transactions
            .into_vec()
            .into_iter()
            .map(|transaction| CheckedTransaction::assume_signature_valid(transaction, spec.id()))
            .collect();
        let checked = checked.map_err(|error| wrong(error.to_string()))?;
        let block =
            CheckedBlock::assemble(header, checked, spec.id()).map_err(|error| wrong(error.to_string()))?;
        let extended = self.tip.extend(block.checked_header(), spec);
        let (tip, nodes) = extended.map_err(|error| wrong(error.to_string()))?;
        let (keyspaces, hash) = (&self.store.inner.keyspaces, block.hash());
        let mut batch = self.store.inner.db.batch();
        let stored = StoredHeader {
            header: block.header().clone(),
            work: tip.work,
        };
        put_body(&mut batch, keyspaces, height, &hash, block.transactions());
        batch.insert(&keyspaces.headers, *hash.as_bytes(), bytes(&stored));
        batch.insert(&keyspaces.heights, height.to_key(), *hash.as_bytes());
        put_index(&mut batch, keyspaces, height, block.transactions());
        for (transaction, index) in block.transactions().iter().zip(0_u32..) {
            if let Payload::Put { key, .. } = &transaction.transaction().payload {
                let name = history_name(key, Place { height, index });
                batch.insert(&keyspaces.key_history, name, []);
            }
        }
        let bodies = block.transactions().iter().map(CheckedTransaction::transaction);
        for (address, place) in concerned(block.header(), bodies) {
            batch.insert(&keyspaces.account_history, account_key(&address, place), []);
        }
        for (place, node) in &nodes {
            batch.insert(&keyspaces.history, read::history_key(*place), *node);
        }
        self.commit(batch)?;
        if height.get().is_multiple_of(BLOCKS_TOGETHER) {
            self.store.sync()?;
        }
        self.tip = tip;
        Ok(())
    }

    /// The checkpoint is of these blocks, signed by the coordinator, and cosigned by a majority.
    fn judge(
        &mut self,
        checkpoint: StoredCheckpoint,
        (spec, keys): (&CheckedSpec, &ChainKeys),
    ) -> Result<(), ArchiveError> {
        let wrong = |reason: &str| unsound(format!("its checkpoint of {} blocks: {reason}", checkpoint.size));
        let verified = Checkpoint::verify(&checkpoint.note, &spec.id(), &keys.coordinator);
        let (found, note) = verified.map_err(|error| wrong(&error.to_string()))?;
        let size = self.tip.height.get().saturating_add(1);
        if (found.size, checkpoint.size) != (size, size) {
            return Err(wrong(&format!("there are {size}")));
        }
        if (found.root, found.block) != (self.tip.frontier.root(), self.tip.hash) {
            return Err(wrong("it is of other blocks"));
        }
        if !is_final(&note, keys.members()) {
            return Err(wrong(
                "no majority of the members that there are now has cosigned it",
            ));
        }
        self.checkpoint = Some(checkpoint);
        Ok(())
    }

    fn entries(&mut self, entries: &[(StateKey, StateValue)]) -> Result<(), ArchiveError> {
        if self.checkpoint.is_none() {
            return Err(unsound("its checkpoint is missing where its state begins"));
        }
        let mut batch = self.store.inner.db.batch();
        let keyspaces = &self.store.inner.keyspaces;
        for (key, value) in entries {
            self.keys.take(key)?;
            self.state.add_entry(key, value);
            batch.insert(&keyspaces.state, bytes(key), bytes(value));
            if let (StateKey::Record(key), StateValue::Record(record)) = (key, value) {
                // The value now is no history.
                let place = Place {
                    height: record.height,
                    index: record.index,
                };
                batch.remove(&keyspaces.key_history, history_name(key, place));
            }
        }
        Ok(self.commit(batch)?)
    }

    fn finish(self, dir: &Path, spec: &CheckedSpec) -> Result<u64, ArchiveError> {
        let checkpoint = self
            .checkpoint
            .ok_or_else(|| unsound("its checkpoint is missing"))?;
        let missing = || StorageError::damaged("the last header is missing");
        let expected = match self.store.header(&self.tip.hash)? {
            Some(stored) => stored.header.state_digest,
            None => return Err(missing().into()),
        };
        let found = self.state.digest();
        if found != expected {
            return Err(unsound(format!(
                "its state has the digest {found}, and the last final block says {expected}"
            )));
        }
        let head = Head {
            height: self.tip.height,
            hash: self.tip.hash,
        };
        let keyspaces = &self.store.inner.keyspaces;
        let mut batch = self.store.inner.db.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&keyspaces.meta, "state_hash", self.state.to_bytes());
        batch.insert(&keyspaces.meta, "head", bytes(&head));
        let written = batch.commit();
        written.map_err(|error| db_error("write", dir, &error))?;
        self.store.settle_and_wait()?;
        // Opened again it knows its head.
        drop(self.store);
        let store = Store::open(dir, spec)?;
        let StoredCheckpoint { size, note } = checkpoint;
        let committed = Write::Committed {
            size,
            note: note.clone(),
        };
        store.apply(&[committed, Write::Final { size, note }])?;
        store.sync()?;
        store.settle_and_wait()?;
        Ok(size)
    }
}
