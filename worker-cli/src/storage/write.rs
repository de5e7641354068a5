//! Writing the store: each batch is atomic, and refused whole where it does not follow from what is stored.

use super::read::{COMMITTED, FINAL, body_key, checkpoint_key, history_key, key_history_key};
use super::{Cached, FORMAT, Head, Keyspaces, StorageError, Store, StoredCheckpoint, db_error};
use crate::machine::{ChainRead, Place, StoredHeader, Write};
use block_chain_common::block::ConnectedBlock;
use block_chain_common::chain_spec::CheckedSpec;
use block_chain_common::hash::{BlockHash, sha256};
use block_chain_common::history::NodePlace;
use block_chain_common::merkle::leaf_hash;
use block_chain_common::quantity::Height;
use block_chain_common::state::{Change, LatticeHash, StateDelta};
use block_chain_common::transaction::{CheckedTransaction, Payload, RecordKey};
use block_chain_common::work::Work;
use borsh::BorshSerialize;
use fjall::{Database, OwnedWriteBatch, PersistMode};
use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// Writes the genesis block into an empty database, synced.
pub(super) fn create(db: &Database, keyspaces: &Keyspaces, spec: &CheckedSpec) -> fjall::Result<Head> {
    let header = spec.genesis().header.clone();
    let head = Head {
        height: Height::ZERO,
        hash: header.hash(),
    };
    let mut batch = db.batch().durability(Some(PersistMode::SyncAll));
    batch.insert(&keyspaces.meta, "format", [FORMAT]);
    batch.insert(&keyspaces.meta, "chain", *spec.id().as_bytes());
    batch.insert(
        &keyspaces.history,
        history_key(NodePlace { level: 0, index: 0 }),
        leaf_hash(&header.leaf_bytes()),
    );
    batch.insert(&keyspaces.heights, head.height.to_key(), *head.hash.as_bytes());
    batch.insert(
        &keyspaces.headers,
        *head.hash.as_bytes(),
        bytes(&StoredHeader {
            header,
            work: Work::ZERO,
        }),
    );
    for change in spec.genesis_state().changes() {
        put_state(&mut batch, keyspaces, change, change.after.as_ref());
    }
    batch.insert(
        &keyspaces.meta,
        "state_hash",
        spec.genesis_state().hash_after().to_bytes(),
    );
    batch.insert(&keyspaces.meta, "head", bytes(&head));
    batch.commit()?;
    Ok(head)
}

impl Store {
    /// Applies writes as one atomic batch: visible at once, durable with the next [`Store::sync`].
    ///
    /// # Errors
    /// Where a write does not follow from what is stored (nothing is written then), or the system refuses.
    pub fn apply(&self, writes: &[Write]) -> Result<(), StorageError> {
        if self.moment.is_some() {
            return Err(StorageError::Misuse("a snapshot is read-only".to_owned()));
        }
        if self.inner.poisoned.load(Ordering::Acquire) {
            return Err(StorageError::Poisoned);
        }
        let mut batch = Batch {
            store: self,
            keyspaces: &self.inner.keyspaces,
            batch: self.inner.db.batch(),
            cached: self.cached(),
            bodies: BTreeSet::new(),
        };
        for write in writes {
            batch.add(write)?;
        }
        let Batch {
            batch, cached: after, ..
        } = batch;
        // The cached head and the data change together for whoever takes a snapshot.
        let mut cached = self.inner.cached.write().unwrap_or_else(PoisonError::into_inner);
        batch.commit().map_err(|error| {
            self.inner.poisoned.store(true, Ordering::Release);
            db_error("write", &self.inner.dir, &error)
        })?;
        *cached = after;
        Ok(())
    }

    /// Removes a block's transactions from an index on.
    pub(super) fn remove_body(
        &self,
        batch: &mut OwnedWriteBatch,
        (height, hash): (Height, &BlockHash),
        first: u32,
    ) -> Result<(), StorageError> {
        let (from, to) = (body_key(height, hash, first), body_key(height, hash, u32::MAX));
        for guard in self.range(&self.inner.keyspaces.bodies, &from, &to) {
            let key = guard
                .key()
                .map_err(|error| db_error("read", &self.inner.dir, &error))?;
            batch.remove(&self.inner.keyspaces.bodies, key);
        }
        Ok(())
    }
}

struct Batch<'a> {
    store: &'a Store,
    keyspaces: &'a Keyspaces,
    batch: OwnedWriteBatch,
    cached: Cached,
    /// Bodies that this batch itself stores.
    bodies: BTreeSet<BlockHash>,
}

impl Batch<'_> {
    fn add(&mut self, write: &Write) -> Result<(), StorageError> {
        match write {
            Write::Candidate {
                header,
                hash,
                transactions,
            } => self.candidate(header, hash, transactions),
            Write::Connect(connected) => self.connect(connected)?,
            Write::Disconnect {
                hash,
                delta,
                hash_before,
            } => self.disconnect(hash, delta, hash_before)?,
            Write::MempoolAdd {
                sequence,
                transaction,
            } => {
                self.batch.insert(
                    &self.keyspaces.mempool,
                    sequence.to_be_bytes(),
                    transaction.bytes(),
                );
            }
            Write::MempoolRemove { sequence } => {
                self.batch.remove(&self.keyspaces.mempool, sequence.to_be_bytes());
            }
            Write::Committed { size, note } => self.committed(*size, note)?,
            Write::Final { size, note } => {
                let checkpoint = StoredCheckpoint {
                    size: *size,
                    note: note.clone(),
                };
                let encoded = bytes(&checkpoint);
                self.batch.insert(
                    &self.keyspaces.checkpoints,
                    checkpoint_key(FINAL, *size),
                    encoded.clone(),
                );
                self.batch.insert(&self.keyspaces.meta, "final", encoded);
                self.cached.finalised = Some(checkpoint);
            }
            Write::Term(term) => {
                self.batch.insert(&self.keyspaces.meta, "term", bytes(term));
                self.cached.term = *term;
            }
        }
        Ok(())
    }

    fn candidate(&mut self, header: &StoredHeader, hash: &BlockHash, transactions: &[CheckedTransaction]) {
        let height = header.header.height;
        self.batch
            .insert(&self.keyspaces.headers, *hash.as_bytes(), bytes(header));
        self.batch
            .insert(&self.keyspaces.candidates, candidate_key(height, hash), []);
        put_body(&mut self.batch, self.keyspaces, height, hash, transactions);
        self.bodies.insert(*hash);
    }

    fn connect(&mut self, connected: &ConnectedBlock) -> Result<(), StorageError> {
        let block = connected.block();
        let (hash, height) = (block.hash(), block.header().height);
        let Head {
            height: head_height,
            hash: head_hash,
        } = self.cached.head;
        if block.header().previous != head_hash || height != head_height.next() {
            return Err(StorageError::Misuse(format!(
                "block {height} does not follow the head, {head_height}"
            )));
        }
        let stored = StoredHeader {
            header: block.header().clone(),
            work: connected.tip().work,
        };
        if !self.bodies.contains(&hash) && self.store.header(&hash)?.is_none() {
            put_body(
                &mut self.batch,
                self.keyspaces,
                height,
                &hash,
                block.transactions(),
            );
        }
        self.batch
            .insert(&self.keyspaces.headers, *hash.as_bytes(), bytes(&stored));
        self.batch
            .insert(&self.keyspaces.heights, height.to_key(), *hash.as_bytes());
        for (transaction, index) in block.transactions().iter().zip(0_u32..) {
            let place = Place { height, index };
            self.batch.insert(
                &self.keyspaces.tx_index,
                *transaction.id().as_bytes(),
                bytes(&place),
            );
            if let Some(key) = put_key(transaction) {
                let digest = sha256(&[key.as_slice()]);
                self.batch
                    .insert(&self.keyspaces.key_history, key_history_key(&digest, place), []);
            }
        }
        for change in connected.delta().changes() {
            put_state(&mut self.batch, self.keyspaces, change, change.after.as_ref());
        }
        for (place, node) in connected.history_nodes() {
            self.batch
                .insert(&self.keyspaces.history, history_key(*place), *node);
        }
        self.batch
            .insert(&self.keyspaces.undo, *hash.as_bytes(), bytes(connected.delta()));
        self.set_head(Head { height, hash }, connected.delta().hash_after());
        Ok(())
    }

    fn disconnect(
        &mut self,
        hash: &BlockHash,
        delta: &StateDelta,
        hash_before: &LatticeHash,
    ) -> Result<(), StorageError> {
        let height = self.cached.head.height;
        let covered = self
            .cached
            .committed
            .as_ref()
            .is_some_and(|checkpoint| height.get() < checkpoint.size);
        if self.cached.head.hash != *hash || covered {
            return Err(StorageError::Misuse(format!(
                "block {hash} is not an uncommitted head and cannot be undone"
            )));
        }
        let lost = || StorageError::damaged(format!("block {height} is missing"));
        let stored = self.store.header(hash)?.ok_or_else(lost)?;
        for (transaction, index) in self.store.stream_transactions(height, hash).zip(0_u32..) {
            let transaction = transaction?;
            self.batch
                .remove(&self.keyspaces.tx_index, *transaction.id().as_bytes());
            if let Payload::Put { key, .. } = &transaction.payload {
                let digest = sha256(&[key.as_slice()]);
                let place = Place { height, index };
                self.batch
                    .remove(&self.keyspaces.key_history, key_history_key(&digest, place));
            }
        }
        for change in delta.changes() {
            put_state(&mut self.batch, self.keyspaces, change, change.before.as_ref());
        }
        self.batch.remove(&self.keyspaces.undo, *hash.as_bytes());
        self.batch.remove(&self.keyspaces.heights, height.to_key());
        self.batch
            .insert(&self.keyspaces.candidates, candidate_key(height, hash), []);
        self.set_head(
            Head {
                height: height.previous(),
                hash: stored.header.previous,
            },
            hash_before,
        );
        Ok(())
    }

    fn committed(&mut self, size: u64, note: &str) -> Result<(), StorageError> {
        let before = self
            .cached
            .committed
            .as_ref()
            .map_or(0, |checkpoint| checkpoint.size);
        for height in (before..size).map(Height::new) {
            if let Some(hash) = self.store.hash_at(height)? {
                self.batch.remove(&self.keyspaces.undo, *hash.as_bytes());
            }
        }
        let beyond = Height::new(size).to_key();
        for guard in self.store.range(&self.keyspaces.candidates, &[], &beyond) {
            let key = guard
                .key()
                .map_err(|error| db_error("read", &self.store.inner.dir, &error))?;
            self.batch.remove(&self.keyspaces.candidates, key.clone());
            self.drop_candidate(&key)?;
        }
        let checkpoint = StoredCheckpoint {
            size,
            note: note.to_owned(),
        };
        let encoded = bytes(&checkpoint);
        self.batch.insert(
            &self.keyspaces.checkpoints,
            checkpoint_key(COMMITTED, size),
            encoded.clone(),
        );
        self.batch.insert(&self.keyspaces.meta, "committed", encoded);
        self.cached.committed = Some(checkpoint);
        Ok(())
    }

    /// Removes a candidate's header and body, unless it is on the chain by now.
    fn drop_candidate(&mut self, key: &[u8]) -> Result<(), StorageError> {
        let parts = key.split_first_chunk::<8>().and_then(|(height, hash)| {
            Some((
                Height::new(u64::from_be_bytes(*height)),
                BlockHash::from_bytes(hash.try_into().ok()?),
            ))
        });
        let (height, hash) = parts.ok_or_else(|| StorageError::damaged("a candidate's name"))?;
        if self.store.hash_at(height)? == Some(hash) {
            return Ok(());
        }
        self.batch.remove(&self.keyspaces.headers, *hash.as_bytes());
        self.store.remove_body(&mut self.batch, (height, &hash), 0)
    }

    fn set_head(&mut self, head: Head, state_hash: &LatticeHash) {
        self.batch.insert(&self.keyspaces.meta, "head", bytes(&head));
        self.batch
            .insert(&self.keyspaces.meta, "state_hash", state_hash.to_bytes());
        self.cached.head = head;
    }
}

pub(super) fn put_body(
    batch: &mut OwnedWriteBatch,
    keyspaces: &Keyspaces,
    height: Height,
    hash: &BlockHash,
    transactions: &[CheckedTransaction],
) {
    for (transaction, index) in transactions.iter().zip(0_u32..) {
        batch.insert(
            &keyspaces.bodies,
            body_key(height, hash, index),
            transaction.bytes(),
        );
    }
}

fn put_state(
    batch: &mut OwnedWriteBatch,
    keyspaces: &Keyspaces,
    change: &Change,
    value: Option<&block_chain_common::state::StateValue>,
) {
    match value {
        Some(value) => batch.insert(&keyspaces.state, bytes(&change.key), bytes(value)),
        None => batch.remove(&keyspaces.state, bytes(&change.key)),
    }
}

pub(super) fn put_key(transaction: &CheckedTransaction) -> Option<&RecordKey> {
    match &transaction.transaction().payload {
        Payload::Put { key, .. } => Some(key),
        _ => None,
    }
}

fn candidate_key(height: Height, hash: &BlockHash) -> [u8; 40] {
    let mut key = [0; 40];
    key[..8].copy_from_slice(&height.to_key());
    key[8..].copy_from_slice(hash.as_bytes());
    key
}

/// Borsh into memory cannot fail for our types.
pub(super) fn bytes<T: BorshSerialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    let written = value.serialize(&mut bytes);
    debug_assert!(written.is_ok(), "writing into memory cannot fail");
    bytes
}
