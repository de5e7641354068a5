//! What `check_consistency` reads beyond the rest, and how it puts damaged entries right.
//!
//! Invariant: only what follows from checked blocks of the chain is written, and only where the chain is still the one
//! that was checked; a block connected or undone meanwhile is never overwritten.

use super::read::{COMMITTED, FINAL, checkpoint_key, history_key};
use super::scratch::ScratchState;
use super::write::{bytes, history_name, put_body, put_index};
use super::{StorageError, Store, StoredCheckpoint, db_error, decode};
use crate::machine::{ChainRead as _, Place, StoredHeader};
use block_chain_common::block::{ChainTip, CheckedBlock, CompletedNodes};
use block_chain_common::hash::BlockHash;
use block_chain_common::state::{LatticeHash, StateKey};
use block_chain_common::transaction::RecordKey;
use fjall::PersistMode;
use std::sync::PoisonError;

/// An entry of the state, as stored, and what should be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDifference {
    name: Vec<u8>,
    right: Option<Vec<u8>>,
}

impl StateDifference {
    /// The entry for people.
    #[must_use]
    pub fn describe(&self) -> String {
        let entry = match decode::<StateKey>(&self.name, "a name") {
            Ok(StateKey::Record(key)) => format!("record {:?}", String::from_utf8_lossy(key.as_slice())),
            Ok(StateKey::Account(address)) => format!("account {address}"),
            Ok(StateKey::Grant(address, role)) => format!("role {role} of {address}"),
            Ok(StateKey::Holders(role)) => format!("count of those with role {role}"),
            Ok(StateKey::Supply) => "supply".to_owned(),
            Ok(StateKey::Stakers) => "list of those with stake".to_owned(),
            Ok(StateKey::Seed) => "seed".to_owned(),
            Ok(StateKey::Draw(_)) => "draw of producers".to_owned(),
            Err(_) => format!("entry {}", hex::encode(&self.name)),
        };
        match self.right {
            Some(_) => format!("the state's {entry} is not what the blocks give"),
            None => format!("the state's {entry} is from no block"),
        }
    }
}

impl Store {
    /// Whether the history of a key leads to a place whose value was replaced.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn has_key_history(&self, key: &RecordKey, place: Place) -> Result<bool, StorageError> {
        let name = history_name(key, place);
        Ok(self.get(&self.inner.keyspaces.key_history, &name)?.is_some())
    }

    /// Puts a place back into the history of a key, synced.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn restore_key_history(&self, key: &RecordKey, place: Place) -> Result<(), StorageError> {
        let mut batch = self.inner.db.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&self.inner.keyspaces.key_history, history_name(key, place), []);
        batch
            .commit()
            .map_err(|error| db_error("write", &self.inner.dir, &error))
    }

    /// The checkpoints stored for a size: committed, final.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn checkpoints_at(&self, size: u64) -> Result<Vec<StoredCheckpoint>, StorageError> {
        let mut found = Vec::new();
        for kind in [COMMITTED, FINAL] {
            let stored = self.get(&self.inner.keyspaces.checkpoints, &checkpoint_key(kind, size))?;
            if let Some(bytes) = stored {
                found.push(decode(&bytes, &format!("a checkpoint of {size} blocks"))?);
            }
        }
        Ok(found)
    }

    /// Where the stored state differs from one that was computed again; the first `limit` entries.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn state_differences(
        &self,
        computed: &ScratchState,
        limit: usize,
    ) -> Result<Vec<StateDifference>, StorageError> {
        let read = |guard: Option<fjall::Guard>| {
            guard
                .map(fjall::Guard::into_inner)
                .transpose()
                .map_err(|error| db_error("read", &self.inner.dir, &error))
        };
        let mut stored = self.range(&self.inner.keyspaces.state, &[], &[u8::MAX; 8]);
        let mut right = computed.entries()?;
        let (mut here, mut there) = (read(stored.next())?, read(right.next())?);
        let mut differences = Vec::new();
        while differences.len() < limit {
            let order = match (&here, &there) {
                (None, None) => break,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some((a, _)), Some((b, _))) => a.cmp(b),
            };
            let value = there.as_ref().map(|(_, value)| value.to_vec());
            let (name, right_value) = match order {
                std::cmp::Ordering::Less => (here.as_ref(), None),
                std::cmp::Ordering::Equal if here == there => (None, None),
                std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => (there.as_ref(), value),
            };
            if let Some((name, _)) = name {
                differences.push(StateDifference {
                    name: name.to_vec(),
                    right: right_value,
                });
            }
            if order.is_le() {
                here = read(stored.next())?;
            }
            if order.is_ge() {
                there = read(right.next())?;
            }
        }
        Ok(differences)
    }

    /// Writes what was found to differ, and the state's hash, where the head is still the one it was found at; synced.
    ///
    /// # Errors
    /// Where the head has moved on, or the system refuses.
    pub fn repair_state(
        &self,
        head: BlockHash,
        differences: &[StateDifference],
        hash: &LatticeHash,
    ) -> Result<(), StorageError> {
        let keyspaces = &self.inner.keyspaces;
        let mut batch = self.inner.db.batch().durability(Some(PersistMode::SyncAll));
        for StateDifference { name, right } in differences {
            match right {
                Some(value) => batch.insert(&keyspaces.state, name.clone(), value.clone()),
                None => batch.remove(&keyspaces.state, name.clone()),
            }
        }
        batch.insert(&keyspaces.meta, "state_hash", hash.to_bytes());
        // Under the lock that every write takes.
        let cached = self.inner.cached.write().unwrap_or_else(PoisonError::into_inner);
        if cached.head.hash != head {
            let found = cached.head.height;
            return Err(StorageError::Misuse(format!(
                "the chain has moved on to block {found} during the repair"
            )));
        }
        let committed = batch.commit();
        // What was computed of damaged entries may be kept there.
        self.inner.accounts.clear();
        committed.map_err(|error| db_error("write", &self.inner.dir, &error))
    }

    /// Puts a block of the chain back with all that leads to it: height, header, body, indexes, history nodes; synced.
    /// `tip` is the chain's with it, `seen` what was stored as the hash at its height when it was checked.
    ///
    /// # Errors
    /// Where the chain has another block there by now, or the system refuses.
    pub fn restore_block(
        &self,
        block: &CheckedBlock,
        (tip, nodes): (&ChainTip, &CompletedNodes),
        seen: Option<BlockHash>,
    ) -> Result<(), StorageError> {
        let (hash, height) = (block.hash(), block.header().height);
        let keyspaces = &self.inner.keyspaces;
        let mut batch = self.inner.db.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&keyspaces.heights, height.to_key(), *hash.as_bytes());
        let stored = StoredHeader {
            header: block.header().clone(),
            work: tip.work,
        };
        batch.insert(&keyspaces.headers, *hash.as_bytes(), bytes(&stored));
        // A batch has no order of its own: nothing is removed that is also written.
        let kept = put_body(&mut batch, keyspaces, height, &hash, block.transactions());
        self.remove_body(&mut batch, (height, &hash), &kept)?;
        put_index(&mut batch, keyspaces, height, block.transactions());
        for (place, node) in nodes {
            batch.insert(&keyspaces.history, history_key(*place), *node);
        }
        let cached = self.inner.cached.write().unwrap_or_else(PoisonError::into_inner);
        if cached.head.height < height || self.hash_at(height).ok().flatten() != seen {
            return Err(StorageError::Misuse(format!(
                "the chain has another block at height {height} by now"
            )));
        }
        batch
            .commit()
            .map_err(|error| db_error("write", &self.inner.dir, &error))
    }
}

/// For tests: what a fault of the disk would do.
#[cfg(test)]
impl Store {
    /// Turns one bit over in the middle of the value of the first entry whose key fits; an empty value's entry is removed.
    pub(crate) fn damage(&self, keyspace: &str, fits: impl Fn(&[u8]) -> bool) {
        let keyspace = self.keyspace(keyspace);
        let mut entries = keyspace.iter().map(|guard| guard.into_inner().unwrap());
        let (key, value) = entries.find(|(key, _)| fits(key)).expect("an entry to damage");
        let mut value = value.to_vec();
        let middle = value.len() / 2;
        match value.get_mut(middle) {
            Some(byte) => {
                *byte ^= 1;
                keyspace.insert(key, value).unwrap();
            }
            None => keyspace.remove(key).unwrap(),
        }
    }

    /// Takes the last byte from the value of the first entry whose key fits.
    pub(crate) fn cut(&self, keyspace: &str, fits: impl Fn(&[u8]) -> bool) {
        let keyspace = self.keyspace(keyspace);
        let mut entries = keyspace.iter().map(|guard| guard.into_inner().unwrap());
        let (key, value) = entries.find(|(key, _)| fits(key)).expect("an entry to cut");
        let mut value = value.to_vec();
        value.pop();
        keyspace.insert(key, value).unwrap();
    }

    fn keyspace(&self, name: &str) -> &fjall::Keyspace {
        let keyspaces = &self.inner.keyspaces;
        match name {
            "meta" => &keyspaces.meta,
            "headers" => &keyspaces.headers,
            "heights" => &keyspaces.heights,
            "bodies" => &keyspaces.bodies,
            "tx_index" => &keyspaces.tx_index,
            "key_history" => &keyspaces.key_history,
            "account_history" => &keyspaces.account_history,
            "state" => &keyspaces.state,
            "undo" => &keyspaces.undo,
            "history" => &keyspaces.history,
            "mempool" => &keyspaces.mempool,
            "checkpoints" => &keyspaces.checkpoints,
            other => panic!("there is no keyspace {other}"),
        }
    }
}
