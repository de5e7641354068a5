//! What a block changes in the state, both ways.

use super::{LatticeHash, StateKey, StateValue};
use crate::codec::append;
use crate::hash::Digest;
use borsh::{BorshDeserialize, BorshSerialize};
use rayon::prelude::*;

/// An entry before and after; `None` where it is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The entry's name.
    pub key: StateKey,
    /// Before the block.
    pub before: Option<StateValue>,
    /// After the block.
    pub after: Option<StateValue>,
}

/// All changes of a block, sorted by key, and the state's hash before and after them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDelta {
    changes: Vec<Change>,
    hash_before: LatticeHash,
    hash_after: LatticeHash,
}

/// What undoes a block: the entries that it changed as they were before it, and the state's hash then. What they were after
/// it need not be kept: where the block is the head, the state has it.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Undo {
    entries: Vec<(StateKey, Option<StateValue>)>,
    hash_before: LatticeHash,
}

impl Undo {
    /// The entries before the block, sorted by key; `None` where there was none.
    pub fn entries(&self) -> impl Iterator<Item = (&StateKey, Option<&StateValue>)> {
        self.entries.iter().map(|(key, before)| (key, before.as_ref()))
    }

    /// The running hash of the state before the block.
    #[must_use]
    pub const fn hash_before(&self) -> &LatticeHash {
        &self.hash_before
    }
}

/// Room taken at once for an entry of undo data: a name of usual length, and whether there was a value.
const USUAL_ENTRY_BYTES: usize = 48;
/// Changes hashed by one task at a time.
const HASHED_TOGETHER: usize = 512;

impl StateDelta {
    /// From changes sorted by key, and the hash of the state before them.
    pub(super) fn new(changes: Vec<Change>, hash_before: &LatticeHash) -> Self {
        let mut hash_after = hash_before.clone();
        let parts: Vec<LatticeHash> = changes
            .par_chunks(HASHED_TOGETHER)
            .map(|chunk| {
                let mut part = LatticeHash::default();
                for change in chunk {
                    if let Some(before) = &change.before {
                        part.remove(&element(&change.key, before));
                    }
                    if let Some(after) = &change.after {
                        part.add(&element(&change.key, after));
                    }
                }
                part
            })
            .collect();
        for part in &parts {
            hash_after.merge(part);
        }
        Self {
            changes,
            hash_before: hash_before.clone(),
            hash_after,
        }
    }

    /// The changes, sorted by key.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The running hash of the state after the block.
    #[must_use]
    pub const fn hash_after(&self) -> &LatticeHash {
        &self.hash_after
    }

    /// The running hash of the state before the block.
    #[must_use]
    pub const fn hash_before(&self) -> &LatticeHash {
        &self.hash_before
    }

    /// The entries before the block, sorted by key; `None` where there was none.
    pub fn befores(&self) -> impl Iterator<Item = (&StateKey, Option<&StateValue>)> {
        self.changes
            .iter()
            .map(|change| (&change.key, change.before.as_ref()))
    }

    /// The entries after the block, sorted by key; `None` where there is none.
    pub fn afters(&self) -> impl Iterator<Item = (&StateKey, Option<&StateValue>)> {
        self.changes
            .iter()
            .map(|change| (&change.key, change.after.as_ref()))
    }

    /// What undoes it: the borsh bytes of an [`Undo`].
    #[must_use]
    pub fn undo_bytes(&self) -> Vec<u8> {
        let entries: Vec<_> = self.befores().collect();
        let mut bytes = Vec::with_capacity(entries.len().saturating_mul(USUAL_ENTRY_BYTES));
        append(&entries, &mut bytes);
        append(&self.hash_before, &mut bytes);
        bytes
    }

    /// The digest that the block's header must carry.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.hash_after.digest()
    }
}

/// An entry as it is counted in the digest: the borsh bytes of its name and its value.
#[must_use]
pub(super) fn element(key: &StateKey, value: &StateValue) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(160);
    append(key, &mut bytes);
    append(value, &mut bytes);
    bytes
}

impl LatticeHash {
    /// Counts an entry of the state in: for checking a whole state against its digest.
    pub fn add_entry(&mut self, key: &StateKey, value: &StateValue) {
        self.add(&element(key, value));
    }
}
