//! Reading the store: by hash, height, id or key; streaming where there may be much.

use super::{Inherited, StorageError, Store, StoredCheckpoint, db_error, decode};
use crate::machine::{ChainRead, Place, StoredHeader};
use block_chain_common::codec::decode as decode_format;
use block_chain_common::hash::{BlockHash, ChainId, TxId, sha256};
use block_chain_common::header::Header;
use block_chain_common::history::{HistoryNodes, NodePlace};
use block_chain_common::keys::Address;
use block_chain_common::quantity::Height;
use block_chain_common::state::{Account, LatticeHash, StateKey, StateValue, StateView, Undo};
use block_chain_common::transaction::{CheckedTransaction, RecordKey, Transaction};
use fjall::UserValue;

impl StateView for Store {
    type Error = StorageError;

    fn get(&self, key: &StateKey) -> Result<Option<StateValue>, StorageError> {
        if let (StateKey::Account(address), None) = (key, &self.moment)
            && let Some(account) = self.inner.accounts.get(address)
        {
            return Ok(Some(StateValue::Account(account)));
        }
        let name = borsh::to_vec(key).map_err(|error| StorageError::damaged(error.to_string()))?;
        let found = self.get(&self.inner.keyspaces.state, &name)?;
        found
            .map(|bytes| decode(&bytes, "an entry of the state"))
            .transpose()
    }
}

impl HistoryNodes for Store {
    type Error = StorageError;

    fn node(&self, place: NodePlace) -> Result<Option<[u8; 32]>, StorageError> {
        let found = self.get(&self.inner.keyspaces.history, &history_key(place))?;
        found
            .map(|bytes| decode(&bytes, "a node of the history tree"))
            .transpose()
    }
}

impl ChainRead for Store {
    fn header(&self, hash: &BlockHash) -> Result<Option<StoredHeader>, StorageError> {
        let found = self.get(&self.inner.keyspaces.headers, hash.as_bytes())?;
        found
            .map(|bytes| decode(&bytes, &format!("header {hash}")))
            .transpose()
    }

    fn hash_at(&self, height: Height) -> Result<Option<BlockHash>, StorageError> {
        let found = self.get(&self.inner.keyspaces.heights, &height.to_key())?;
        found
            .map(|bytes| decode(&bytes, &format!("the hash at height {height}")))
            .transpose()
    }

    fn transactions(&self, hash: &BlockHash) -> Result<Option<Vec<Transaction>>, StorageError> {
        let Some(stored) = self.header(hash)? else {
            return Ok(None);
        };
        let transactions = self
            .stream_transactions(stored.header.height, hash)
            .collect::<Result<Vec<_>, _>>()?;
        let (count, found) = (stored.header.transaction_count, transactions.len());
        if u32::try_from(found) != Ok(count) {
            let height = stored.header.height;
            return Err(StorageError::damaged(format!(
                "block {height} has {found} transactions stored, not {count}"
            )));
        }
        Ok(Some(transactions))
    }

    fn undo(&self, hash: &BlockHash) -> Result<Option<Undo>, StorageError> {
        let found = self.get(&self.inner.keyspaces.undo, hash.as_bytes())?;
        found
            .map(|bytes| decode(&bytes, &format!("the undo data of block {hash}")))
            .transpose()
    }

    fn place(&self, id: &TxId) -> Result<Option<Place>, StorageError> {
        let found = self.get(&self.inner.keyspaces.tx_index, index_key(id))?;
        found
            .map(|bytes| decode(&bytes, &format!("the place of transaction {id}")))
            .transpose()
    }

    fn state_hash(&self) -> Result<LatticeHash, StorageError> {
        self.state_hash_entry()
    }
}

/// Begins the names of the entries of an inherited state.
const INHERITED_STATE: &[u8] = b"s";
/// Begins the names of inherited transactions.
const INHERITED_TRANSACTIONS: &[u8] = b"t";

/// The name of an entry of the state that a fork begins with.
pub(super) fn inherited_state(key: &StateKey) -> Vec<u8> {
    [INHERITED_STATE, &super::write::bytes(key)].concat()
}

/// The name of the transaction that set an inherited record.
pub(super) fn inherited_transaction(number: u32) -> Vec<u8> {
    [INHERITED_TRANSACTIONS, &number.to_be_bytes()].concat()
}

impl Store {
    /// A block of the chain: its hash and header.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn header_at(&self, height: Height) -> Result<Option<(BlockHash, Header)>, StorageError> {
        let Some(hash) = self.hash_at(height)? else {
            return Ok(None);
        };
        Ok(self.header(&hash)?.map(|stored| (hash, stored.header)))
    }

    /// A transaction that set a record which this chain, a fork, has inherited: those stand at height 0, by this number.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn inherited(&self, number: u32) -> Result<Option<Inherited>, StorageError> {
        let Some(keyspace) = &self.inner.keyspaces.inherited else {
            return Ok(None);
        };
        let found = self.get(keyspace, &inherited_transaction(number))?;
        found
            .map(|bytes| decode(&bytes, &format!("inherited record {number}")))
            .transpose()
    }

    /// The state that this chain, a fork, has begun with, entry by entry; nothing where it is none.
    pub fn inherited_state(
        &self,
    ) -> impl Iterator<Item = Result<(StateKey, StateValue), StorageError>> + use<> {
        let dir = self.inner.dir.clone();
        let keyspace = self.inner.keyspaces.inherited.as_ref();
        let entries = keyspace.map(|keyspace| self.range(keyspace, INHERITED_STATE, INHERITED_TRANSACTIONS));
        entries.into_iter().flatten().map(move |guard| {
            let (key, value) = guard
                .into_inner()
                .map_err(|error| db_error("read", &dir, &error))?;
            let name = key.strip_prefix(INHERITED_STATE).unwrap_or_default();
            Ok((
                decode(name, "a name in the inherited state")?,
                decode(&value, "an entry of the inherited state")?,
            ))
        })
    }

    /// One transaction of the chain, or one that it has inherited; reads it alone, however large its block.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn transaction(&self, place: Place) -> Result<Option<Transaction>, StorageError> {
        if place.height == Height::ZERO {
            return Ok(self
                .inherited(place.index)?
                .map(|inherited| inherited.transaction));
        }
        let Some(hash) = self.hash_at(place.height)? else {
            return Ok(None);
        };
        // The part that begins at the transaction or last before it.
        let (from, to) = (
            body_key(place.height, &hash, 0),
            body_key(place.height, &hash, place.index.saturating_add(1)),
        );
        let Some(guard) = self.range(&self.inner.keyspaces.bodies, &from, &to).next_back() else {
            return Ok(None);
        };
        let (key, part) = guard
            .into_inner()
            .map_err(|error| db_error("read", &self.inner.dir, &error))?;
        let first = key
            .last_chunk::<4>()
            .map_or(0, |first| u32::from_be_bytes(*first));
        let skipped = usize::try_from(place.index.saturating_sub(first)).unwrap_or(usize::MAX);
        let found = Part::new(part, place.height).nth(skipped);
        found
            .map(|bytes| decode_transaction(&bytes?, place.height))
            .transpose()
    }

    /// A block's transactions in order, one at a time.
    pub fn stream_transactions(
        &self,
        height: Height,
        hash: &BlockHash,
    ) -> impl Iterator<Item = Result<Transaction, StorageError>> + use<> {
        self.encoded_transactions(height, hash)
            .map(move |bytes| decode_transaction(&bytes?, height))
    }

    /// The ids of a block's transactions, in order.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn transaction_ids(&self, height: Height, hash: &BlockHash) -> Result<Vec<TxId>, StorageError> {
        self.encoded_transactions(height, hash)
            .map(|bytes| Ok(TxId::from_bytes(sha256(&[&bytes?]))))
            .collect()
    }

    /// How many bytes a block's transactions take as they are stored.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn body_bytes(&self, height: Height, hash: &BlockHash) -> Result<u64, StorageError> {
        let (from, to) = (body_key(height, hash, 0), body_key(height, hash, u32::MAX));
        let parts = self.range(&self.inner.keyspaces.bodies, &from, &to);
        parts
            .map(|part| part.size().map(u64::from))
            .try_fold(0_u64, |sum, size| {
                let size = size.map_err(|error| db_error("read", &self.inner.dir, &error))?;
                Ok(sum.saturating_add(size))
            })
    }

    /// A block's transactions as they are stored; no more than one part of it is in memory.
    fn encoded_transactions(
        &self,
        height: Height,
        hash: &BlockHash,
    ) -> impl Iterator<Item = Result<Vec<u8>, StorageError>> + use<> {
        let (from, to) = (body_key(height, hash, 0), body_key(height, hash, u32::MAX));
        let dir = self.inner.dir.clone();
        self.range(&self.inner.keyspaces.bodies, &from, &to)
            .flat_map(move |guard| {
                let part = guard.value().map_err(|error| db_error("read", &dir, &error));
                let (part, failed) = match part {
                    Ok(part) => (Some(Part::new(part, height)), None),
                    Err(error) => (None, Some(Err(error))),
                };
                part.into_iter().flatten().chain(failed)
            })
    }

    /// Where a key's current value was set.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn record(&self, key: &RecordKey) -> Result<Option<Place>, StorageError> {
        match StateView::get(self, &StateKey::Record(key.clone()))? {
            Some(StateValue::Record(record)) => Ok(Some(Place {
                height: record.height,
                index: record.index,
            })),
            _ => Ok(None),
        }
    }

    /// Where a key's values were set, newest first, at most `limit` of them; those before a place, where one is given.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn record_history(
        &self,
        key: &RecordKey,
        before: Option<Place>,
        limit: usize,
    ) -> Result<Vec<Place>, StorageError> {
        let Some(current) = self.record(key)? else {
            return Ok(Vec::new());
        };
        let newest = before.is_none_or(|before| current < before).then_some(current);
        let end = before.map_or(current, |before| before.min(current));
        let digest = sha256(&[key.as_slice()]);
        let from = key_history_key(
            &digest,
            Place {
                height: Height::ZERO,
                index: 0,
            },
        );
        let earlier = self
            .range(
                &self.inner.keyspaces.key_history,
                &from,
                &key_history_key(&digest, end),
            )
            .rev()
            .map(|guard| {
                let name = guard
                    .key()
                    .map_err(|error| db_error("read", &self.inner.dir, &error))?;
                place_in(&name, "an entry of the key history")
            });
        newest.into_iter().map(Ok).chain(earlier).take(limit).collect()
    }

    /// What an address has.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn account(&self, address: &Address) -> Result<Account, StorageError> {
        match StateView::get(self, &StateKey::Account(*address))? {
            Some(StateValue::Account(account)) => Ok(account),
            _ => Ok(Account::default()),
        }
    }

    /// The whole state, entry by entry. Read it through a [`Store::snapshot`].
    pub fn state_entries(
        &self,
    ) -> impl Iterator<Item = Result<(StateKey, StateValue), StorageError>> + use<> {
        let dir = self.inner.dir.clone();
        let entries = self.range(&self.inner.keyspaces.state, &[], &[u8::MAX; 8]);
        entries.map(move |guard| {
            let (key, value) = guard
                .into_inner()
                .map_err(|error| db_error("read", &dir, &error))?;
            Ok((
                decode(&key, "a name in the state")?,
                decode(&value, "an entry of the state")?,
            ))
        })
    }

    /// The chain's id.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn chain(&self) -> Result<ChainId, StorageError> {
        let found = self.get(&self.inner.keyspaces.meta, b"chain")?;
        decode(&found.unwrap_or_default(), "the chain's id")
    }

    /// What waits, in order of arrival. It was verified before it was stored.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn mempool(&self) -> Result<Vec<(u64, CheckedTransaction)>, StorageError> {
        let chain = self.chain()?;
        let entries = self.range(&self.inner.keyspaces.mempool, &[], &[u8::MAX; 9]);
        entries
            .map(|guard| {
                let (key, value) = guard
                    .into_inner()
                    .map_err(|error| db_error("read", &self.inner.dir, &error))?;
                let number = <[u8; 8]>::try_from(key.as_ref());
                let sequence = number
                    .map(u64::from_be_bytes)
                    .or(Err(StorageError::damaged("a number in the mempool")))?;
                let damaged = |error: String| {
                    StorageError::damaged(format!("transaction {sequence} that waits: {error}"))
                };
                let transaction =
                    decode_format::<Transaction>(&value).map_err(|error| damaged(error.to_string()))?;
                let checked = CheckedTransaction::assume_signature_valid(transaction, chain);
                Ok((sequence, checked.map_err(|error| damaged(error.to_string()))?))
            })
            .collect()
    }

    /// The numbers of the first and the last transaction that wait; what waits in between changes with these or with the head.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn waiting_ends(&self) -> Result<Option<(u64, u64)>, StorageError> {
        let mut waiting = self.range(&self.inner.keyspaces.mempool, &[], &[u8::MAX; 9]);
        let number = |guard: fjall::Guard| {
            let key = guard
                .key()
                .map_err(|error| db_error("read", &self.inner.dir, &error))?;
            let number = <[u8; 8]>::try_from(key.as_ref());
            number
                .map(u64::from_be_bytes)
                .or(Err(StorageError::damaged("a number in the mempool")))
        };
        let Some(first) = waiting.next().map(number).transpose()? else {
            return Ok(None);
        };
        let last = waiting.next_back().map(number).transpose()?;
        Ok(Some((first, last.unwrap_or(first))))
    }

    /// The smallest final checkpoint that covers `size` blocks; else the smallest committed one.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn checkpoint_covering(&self, size: u64) -> Result<Option<StoredCheckpoint>, StorageError> {
        for kind in [FINAL, COMMITTED] {
            let from = checkpoint_key(kind, size);
            let to = checkpoint_key(kind, u64::MAX);
            if let Some(guard) = self.range(&self.inner.keyspaces.checkpoints, &from, &to).next() {
                let value = guard
                    .value()
                    .map_err(|error| db_error("read", &self.inner.dir, &error))?;
                return decode(&value, "a checkpoint").map(Some);
            }
        }
        Ok(None)
    }
}

pub(super) const COMMITTED: u8 = b'c';
pub(super) const FINAL: u8 = b'f';

pub(super) fn checkpoint_key(kind: u8, size: u64) -> [u8; 9] {
    let mut key = [kind; 9];
    key[1..].copy_from_slice(&size.to_be_bytes());
    key
}

pub(super) fn body_key(height: Height, hash: &BlockHash, index: u32) -> [u8; 44] {
    let mut key = [0; 44];
    key[..8].copy_from_slice(&height.to_key());
    key[8..40].copy_from_slice(hash.as_bytes());
    key[40..].copy_from_slice(&index.to_be_bytes());
    key
}

/// A transaction's name in the index: the first 20 bytes of its id. fjall keeps names of that length in place, longer ones
/// behind a pointer; and nobody finds two transactions alike in 160 bits.
pub(super) fn index_key(id: &TxId) -> &[u8] {
    id.as_bytes().first_chunk::<20>().map_or(&[], |name| name)
}

pub(super) fn key_history_key(digest: &[u8; 32], place: Place) -> [u8; 44] {
    let mut key = [0; 44];
    key[..32].copy_from_slice(digest);
    key[32..40].copy_from_slice(&place.height.to_key());
    key[40..].copy_from_slice(&place.index.to_be_bytes());
    key
}

/// The place at the end of such a name.
pub(super) fn place_in(name: &[u8], what: &str) -> Result<Place, StorageError> {
    let numbers = name.get(32..40).zip(name.get(40..44));
    let place = numbers.and_then(|(height, index)| {
        Some(Place {
            height: Height::new(u64::from_be_bytes(height.try_into().ok()?)),
            index: u32::from_be_bytes(index.try_into().ok()?),
        })
    });
    place.ok_or_else(|| StorageError::damaged(what))
}

pub(super) fn history_key(place: NodePlace) -> [u8; 9] {
    let mut key = [place.level; 9];
    key[1..].copy_from_slice(&place.index.to_be_bytes());
    key
}

/// Puts a transaction's encoding at the end of a part of a body: its length (u32, little-endian), then its bytes.
pub(super) fn append_to_part(part: &mut Vec<u8>, encoded: &[u8]) {
    // A transaction has at most 1.1 MiB.
    let length = u32::try_from(encoded.len()).unwrap_or(u32::MAX);
    part.extend_from_slice(&length.to_le_bytes());
    part.extend_from_slice(encoded);
}

/// The encodings in a part of a body, in order. What does not fit its lengths is damage, told once.
struct Part {
    bytes: UserValue,
    at: usize,
    height: Height,
}

impl Part {
    const fn new(bytes: UserValue, height: Height) -> Self {
        Self { bytes, at: 0, height }
    }

    fn next_end(&self) -> Option<(usize, usize)> {
        let length = self.bytes.get(self.at..)?.first_chunk::<4>()?;
        let from = self.at.checked_add(length.len())?;
        let end = from.checked_add(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        (end <= self.bytes.len()).then_some((from, end))
    }
}

impl Iterator for Part {
    type Item = Result<Vec<u8>, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let Some((from, end)) = self.next_end() else {
            self.at = self.bytes.len();
            let height = self.height;
            return Some(Err(StorageError::damaged(format!(
                "a part of block {height} ends within a transaction"
            ))));
        };
        self.at = end;
        self.bytes.get(from..end).map(|bytes| Ok(bytes.to_vec()))
    }
}

fn decode_transaction(bytes: &[u8], height: Height) -> Result<Transaction, StorageError> {
    decode_format(bytes)
        .map_err(|error| StorageError::damaged(format!("a transaction of block {height}: {error}")))
}
