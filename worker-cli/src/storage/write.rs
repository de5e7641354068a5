//! Writing the store: each batch is atomic, and refused whole where it does not follow from what is stored.

use super::accounts::{account_key, changed_accounts, concerned};
use super::read::{
    COMMITTED, FINAL, append_to_part, body_key, checkpoint_key, history_key, index_key, key_history_key,
};
use super::{Cached, FORMAT, Head, Keyspaces, StorageError, Store, StoredCheckpoint, db_error};
use crate::machine::{ChainRead, Place, StoredHeader, Write};
use block_chain_common::block::ConnectedBlock;
use block_chain_common::chain_spec::CheckedSpec;
use block_chain_common::hash::{BlockHash, sha256};
use block_chain_common::history::NodePlace;
use block_chain_common::keys::Address;
use block_chain_common::merkle::leaf_hash;
use block_chain_common::quantity::Height;
use block_chain_common::state::{Account, LatticeHash, StateKey, StateValue, Undo};
use block_chain_common::transaction::{CheckedTransaction, Payload, RecordKey};
use block_chain_common::work::Work;
use borsh::BorshSerialize;
use fjall::{Database, OwnedWriteBatch, PersistMode};
use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// When a part of a block's body is full: a few dozen of these are a block, and one is read to find a transaction.
const PART_BYTES: usize = 32 * 1_024;

/// What may be in memtables, full ones that wait to be flushed included.
const BUFFERED_BYTES: u64 = 44 * 1_048_576;
/// How long a write waits for room: a merge takes seconds; where flushing has stopped, the next write says why.
const LONGEST_MERGE: Duration = Duration::from_secs(30);

/// Writes the genesis block into an empty database, synced; of a fork, whose state is there already, with that state's hash.
pub(super) fn create(
    db: &Database,
    keyspaces: &Keyspaces,
    spec: &CheckedSpec,
    inherited: Option<&LatticeHash>,
) -> Result<Head, StorageError> {
    let state = match (spec.genesis_state(), inherited) {
        (Some(delta), _) => delta.hash_after(),
        (None, Some(hash)) => hash,
        (None, None) => return Err(StorageError::NoParent),
    };
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
    if let Some(delta) = spec.genesis_state() {
        put_state(&mut batch, keyspaces, delta.afters());
    }
    batch.insert(&keyspaces.meta, "state_hash", state.to_bytes());
    batch.insert(&keyspaces.meta, "head", bytes(&head));
    let committed = batch.commit();
    committed.map_err(|error| db_error("create", Path::new("the store"), &error))?;
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
            accounts: Vec::new(),
        };
        for write in writes {
            batch.add(write)?;
        }
        let Batch {
            batch,
            cached: after,
            accounts,
            ..
        } = batch;
        // The cached head and the data change together for whoever takes a snapshot.
        let mut cached = self.inner.cached.write().unwrap_or_else(PoisonError::into_inner);
        batch.commit().map_err(|error| {
            self.inner.poisoned.store(true, Ordering::Release);
            db_error("write", &self.inner.dir, &error)
        })?;
        *cached = after;
        drop(cached);
        self.inner.accounts.write(accounts);
        self.wait_for_flushes()
    }

    /// Waits where more is in memory than may be. fjall's one thread also seals full memtables, so while it merges tables
    /// they would grow by all that comes in meanwhile: the more, the longer the chain.
    pub(super) fn wait_for_flushes(&self) -> Result<(), StorageError> {
        let counted = self.inner.db.write_buffer_size();
        if counted.saturating_sub(self.inner.miscounted.load(Ordering::Relaxed)) <= BUFFERED_BYTES {
            return Ok(());
        }
        let Keyspaces {
            bodies,
            tx_index,
            state,
            undo,
            mempool,
            ..
        } = &self.inner.keyspaces;
        let large = [bodies, tx_index, state, undo, mempool];
        for keyspace in large {
            let sealed = keyspace.rotate_memtable();
            sealed.map_err(|error| db_error("flush", &self.inner.dir, &error))?;
        }
        let deadline = Instant::now() + LONGEST_MERGE;
        while large
            .into_iter()
            .any(|keyspace| keyspace.sealed_memtable_count() > 0)
        {
            if Instant::now() >= deadline {
                return Ok(());
            }
            // fjall tells nobody when a flush is over.
            std::thread::sleep(Duration::from_millis(2));
        }
        // Next to nothing is left. fjall adds to its count after a write and takes away after a flush; should the two ever
        // drift apart, writes must not wait for what is not there.
        let left = self.inner.db.write_buffer_size();
        self.inner.miscounted.store(left, Ordering::Relaxed);
        Ok(())
    }

    /// Removes a block's transactions, but for the parts whose keys are given.
    pub(super) fn remove_body(
        &self,
        batch: &mut OwnedWriteBatch,
        (height, hash): (Height, &BlockHash),
        kept: &BTreeSet<[u8; 44]>,
    ) -> Result<(), StorageError> {
        let (from, to) = (body_key(height, hash, 0), body_key(height, hash, u32::MAX));
        for guard in self.range(&self.inner.keyspaces.bodies, &from, &to) {
            let key = guard
                .key()
                .map_err(|error| db_error("read", &self.inner.dir, &error))?;
            if !kept.iter().any(|kept| *kept == *key) {
                batch.remove(&self.inner.keyspaces.bodies, key);
            }
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
    /// Accounts after the writes, in their order.
    accounts: Vec<(Address, Option<Account>)>,
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
            Write::Disconnect { hash, undo } => self.disconnect(hash, undo)?,
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
        put_index(&mut self.batch, self.keyspaces, height, block.transactions());
        let payloads = block.transactions().iter().map(|tx| &tx.transaction().payload);
        for (key, place) in superseded(height, payloads, connected.delta().befores()) {
            self.batch
                .insert(&self.keyspaces.key_history, history_name(key, place), []);
        }
        let bodies = block.transactions().iter().map(CheckedTransaction::transaction);
        for (address, place) in concerned(block.header(), bodies) {
            let name = account_key(&address, place);
            self.batch.insert(&self.keyspaces.account_history, name, []);
        }
        put_state(&mut self.batch, self.keyspaces, connected.delta().afters());
        self.accounts.extend(changed_accounts(connected.delta().afters()));
        for (place, node) in connected.history_nodes() {
            self.batch
                .insert(&self.keyspaces.history, history_key(*place), *node);
        }
        self.batch.insert(
            &self.keyspaces.undo,
            *hash.as_bytes(),
            connected.delta().undo_bytes(),
        );
        self.set_head(Head { height, hash }, connected.delta().hash_after());
        Ok(())
    }

    fn disconnect(&mut self, hash: &BlockHash, undo: &Undo) -> Result<(), StorageError> {
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
        let transactions = self.store.stream_transactions(height, hash);
        let transactions = transactions.collect::<Result<Vec<_>, _>>()?;
        for transaction in &transactions {
            self.batch
                .remove(&self.keyspaces.tx_index, index_key(&transaction.id()));
        }
        for (key, place) in superseded(height, transactions.iter().map(|tx| &tx.payload), undo.entries()) {
            self.batch
                .remove(&self.keyspaces.key_history, history_name(key, place));
        }
        for (address, place) in concerned(&stored.header, transactions.iter()) {
            let name = account_key(&address, place);
            self.batch.remove(&self.keyspaces.account_history, name);
        }
        put_state(&mut self.batch, self.keyspaces, undo.entries());
        self.accounts.extend(changed_accounts(undo.entries()));
        self.batch.remove(&self.keyspaces.undo, *hash.as_bytes());
        self.batch.remove(&self.keyspaces.heights, height.to_key());
        self.batch
            .insert(&self.keyspaces.candidates, candidate_key(height, hash), []);
        self.set_head(
            Head {
                height: height.previous(),
                hash: stored.header.previous,
            },
            undo.hash_before(),
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
        self.store
            .remove_body(&mut self.batch, (height, &hash), &BTreeSet::new())
    }

    fn set_head(&mut self, head: Head, state_hash: &LatticeHash) {
        self.batch.insert(&self.keyspaces.meta, "head", bytes(&head));
        self.batch
            .insert(&self.keyspaces.meta, "state_hash", state_hash.to_bytes());
        self.cached.head = head;
    }
}

/// Stores a block's transactions in parts: one entry a transaction would cost the tree several times as much. Gives the
/// parts' keys.
pub(super) fn put_body(
    batch: &mut OwnedWriteBatch,
    keyspaces: &Keyspaces,
    height: Height,
    hash: &BlockHash,
    transactions: &[CheckedTransaction],
) -> BTreeSet<[u8; 44]> {
    let mut keys = BTreeSet::new();
    let mut first = 0_u32;
    let mut part = Vec::new();
    for (transaction, next) in transactions.iter().zip(1_u32..) {
        append_to_part(&mut part, transaction.bytes());
        if part.len() >= PART_BYTES || usize::try_from(next) == Ok(transactions.len()) {
            let key = body_key(height, hash, first);
            batch.insert(&keyspaces.bodies, key, std::mem::take(&mut part));
            keys.insert(key);
            first = next;
        }
    }
    keys
}

/// In the order of the ids: neighbours are then inserted one after the other, which is several times as fast.
pub(super) fn put_index(
    batch: &mut OwnedWriteBatch,
    keyspaces: &Keyspaces,
    height: Height,
    transactions: &[CheckedTransaction],
) {
    let numbered = transactions.iter().zip(0_u32..);
    let mut ids: Vec<_> = numbered.map(|(tx, index)| (tx.id(), index)).collect();
    ids.sort_unstable();
    for (id, index) in ids {
        batch.insert(
            &keyspaces.tx_index,
            index_key(&id),
            bytes(&Place { height, index }),
        );
    }
}

/// Where values were set that a block replaces, those that it sets and replaces itself among them.
pub(crate) fn superseded<'a>(
    height: Height,
    payloads: impl DoubleEndedIterator<Item = &'a Payload> + ExactSizeIterator + Clone,
    befores: impl Iterator<Item = (&'a StateKey, Option<&'a StateValue>)>,
) -> Vec<(&'a RecordKey, Place)> {
    let (mut found, mut keys) = (Vec::new(), 0_usize);
    for entry in befores {
        let (StateKey::Record(key), before) = entry else {
            continue;
        };
        keys = keys.saturating_add(1);
        if let Some(StateValue::Record(before)) = before {
            let (height, index) = (before.height, before.index);
            found.push((key, Place { height, index }));
        }
    }
    let puts = payloads
        .clone()
        .filter(|payload| matches!(payload, Payload::Put { .. }));
    if puts.count() == keys {
        // As many as there are keys: none is set twice.
        return found;
    }
    let mut current = HashSet::new();
    let last = u32::try_from(payloads.len()).unwrap_or(u32::MAX);
    for (payload, index) in payloads.rev().zip((0..last).rev()) {
        if let Payload::Put { key, .. } = payload
            && !current.insert(key.as_slice())
        {
            found.push((key, Place { height, index }));
        }
    }
    found
}

pub(super) fn history_name(key: &RecordKey, place: Place) -> [u8; 44] {
    key_history_key(&sha256(&[key.as_slice()]), place)
}

/// In the order of the stored names, as [`put_index`]. All are encoded into one piece of memory.
fn put_state<'a>(
    batch: &mut OwnedWriteBatch,
    keyspaces: &Keyspaces,
    entries: impl Iterator<Item = (&'a StateKey, Option<&'a StateValue>)>,
) {
    let mut encoded = Vec::new();
    let mut places: Vec<(Range<usize>, Option<Range<usize>>)> = Vec::new();
    for (key, value) in entries {
        let name = append(&mut encoded, key);
        places.push((name, value.map(|value| append(&mut encoded, value))));
    }
    let at = |place: &Range<usize>| encoded.get(place.clone()).unwrap_or_default();
    places.sort_unstable_by(|(a, _), (b, _)| at(a).cmp(at(b)));
    for (name, value) in &places {
        match value {
            Some(value) => batch.insert(&keyspaces.state, at(name), at(value)),
            None => batch.remove(&keyspaces.state, at(name)),
        }
    }
}

fn candidate_key(height: Height, hash: &BlockHash) -> [u8; 40] {
    let mut key = [0; 40];
    key[..8].copy_from_slice(&height.to_key());
    key[8..].copy_from_slice(hash.as_bytes());
    key
}

pub(super) fn bytes<T: BorshSerialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    append(&mut bytes, value);
    bytes
}

/// Where in the bytes it was put. Borsh into memory cannot fail for our types.
fn append<T: BorshSerialize>(bytes: &mut Vec<u8>, value: &T) -> Range<usize> {
    let from = bytes.len();
    let written = value.serialize(bytes);
    debug_assert!(written.is_ok(), "writing into memory cannot fail");
    from..bytes.len()
}
