//! Reading the store: by hash, height, id or key; streaming where there may be much.

use super::{StorageError, Store, StoredCheckpoint, db_error, decode};
use crate::machine::{ChainRead, Place, StoredHeader};
use block_chain_common::codec::decode as decode_format;
use block_chain_common::hash::{BlockHash, TxId, sha256};
use block_chain_common::header::Header;
use block_chain_common::history::{HistoryNodes, NodePlace};
use block_chain_common::keys::Address;
use block_chain_common::quantity::Height;
use block_chain_common::state::{Account, LatticeHash, StateDelta, StateKey, StateValue, StateView};
use block_chain_common::transaction::{CheckedTransaction, RecordKey, Transaction};

impl StateView for Store {
    type Error = StorageError;

    fn get(&self, key: &StateKey) -> Result<Option<StateValue>, StorageError> {
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

    fn undo(&self, hash: &BlockHash) -> Result<Option<StateDelta>, StorageError> {
        let found = self.get(&self.inner.keyspaces.undo, hash.as_bytes())?;
        found
            .map(|bytes| decode(&bytes, &format!("the undo data of block {hash}")))
            .transpose()
    }

    fn place(&self, id: &TxId) -> Result<Option<Place>, StorageError> {
        let found = self.get(&self.inner.keyspaces.tx_index, id.as_bytes())?;
        found
            .map(|bytes| decode(&bytes, &format!("the place of transaction {id}")))
            .transpose()
    }

    fn state_hash(&self) -> Result<LatticeHash, StorageError> {
        self.state_hash_entry()
    }
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

    /// One transaction of the chain; reads it alone, however large its block.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn transaction(&self, place: Place) -> Result<Option<Transaction>, StorageError> {
        let Some(hash) = self.hash_at(place.height)? else {
            return Ok(None);
        };
        let found = self.get(
            &self.inner.keyspaces.bodies,
            &body_key(place.height, &hash, place.index),
        )?;
        found
            .map(|bytes| decode_transaction(&bytes, place.height))
            .transpose()
    }

    /// A block's transactions in order, one at a time.
    pub fn stream_transactions(
        &self,
        height: Height,
        hash: &BlockHash,
    ) -> impl Iterator<Item = Result<Transaction, StorageError>> + use<> {
        let (from, to) = (body_key(height, hash, 0), body_key(height, hash, u32::MAX));
        let dir = self.inner.dir.clone();
        self.range(&self.inner.keyspaces.bodies, &from, &to)
            .map(move |guard| {
                let bytes = guard.value().map_err(|error| db_error("read", &dir, &error))?;
                decode_transaction(&bytes, height)
            })
    }

    /// The ids of a block's transactions, in order.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn transaction_ids(&self, height: Height, hash: &BlockHash) -> Result<Vec<TxId>, StorageError> {
        let (from, to) = (body_key(height, hash, 0), body_key(height, hash, u32::MAX));
        let entries = self.range(&self.inner.keyspaces.bodies, &from, &to);
        entries
            .map(|guard| {
                let bytes = guard
                    .value()
                    .map_err(|error| db_error("read", &self.inner.dir, &error))?;
                Ok(TxId::from_bytes(sha256(&[&bytes])))
            })
            .collect()
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

    /// Where a key's values were set, newest first, at most `limit` of them.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn record_history(&self, key: &RecordKey, limit: usize) -> Result<Vec<Place>, StorageError> {
        let digest = sha256(&[key.as_slice()]);
        let from = key_history_key(
            &digest,
            Place {
                height: Height::ZERO,
                index: 0,
            },
        );
        let to = key_history_key(
            &digest,
            Place {
                height: Height::new(u64::MAX),
                index: u32::MAX,
            },
        );
        let entries = self
            .range(&self.inner.keyspaces.key_history, &from, &to)
            .rev()
            .take(limit);
        entries
            .map(|guard| {
                let name = guard
                    .key()
                    .map_err(|error| db_error("read", &self.inner.dir, &error))?;
                let place = name
                    .get(32..40)
                    .zip(name.get(40..44))
                    .and_then(|(height, index)| {
                        let height = Height::new(u64::from_be_bytes(height.try_into().ok()?));
                        Some(Place {
                            height,
                            index: u32::from_be_bytes(index.try_into().ok()?),
                        })
                    });
                place.ok_or_else(|| StorageError::damaged("an entry of the key history"))
            })
            .collect()
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

    /// What waits, in order of arrival. It was verified before it was stored.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn mempool(&self) -> Result<Vec<(u64, CheckedTransaction)>, StorageError> {
        let chain = decode(
            &self
                .get(&self.inner.keyspaces.meta, b"chain")?
                .unwrap_or_default(),
            "the chain's id",
        )?;
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

pub(super) fn key_history_key(digest: &[u8; 32], place: Place) -> [u8; 44] {
    let mut key = [0; 44];
    key[..32].copy_from_slice(digest);
    key[32..40].copy_from_slice(&place.height.to_key());
    key[40..].copy_from_slice(&place.index.to_be_bytes());
    key
}

pub(super) fn history_key(place: NodePlace) -> [u8; 9] {
    let mut key = [place.level; 9];
    key[1..].copy_from_slice(&place.index.to_be_bytes());
    key
}

fn decode_transaction(bytes: &[u8], height: Height) -> Result<Transaction, StorageError> {
    decode_format(bytes)
        .map_err(|error| StorageError::damaged(format!("a transaction of block {height}: {error}")))
}
