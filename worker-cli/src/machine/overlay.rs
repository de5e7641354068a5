//! A state with changes on top that are not written yet: for judging a whole branch before switching to it.

use crate::storage::StorageError;
use block_chain_common::state::{StateDelta, StateKey, StateValue, StateView, Undo};
use std::collections::BTreeMap;

/// Changes on top of a view.
pub(super) struct Overlay<'a, V> {
    base: &'a V,
    changed: BTreeMap<StateKey, Option<StateValue>>,
}

impl<'a, V> Overlay<'a, V> {
    pub(super) const fn new(base: &'a V) -> Self {
        Self {
            base,
            changed: BTreeMap::new(),
        }
    }

    /// The state as before a block.
    pub(super) fn undo(&mut self, undo: &Undo) {
        for (key, before) in undo.entries() {
            self.changed.insert(key.clone(), before.cloned());
        }
    }

    /// The state as after a block.
    pub(super) fn redo(&mut self, delta: &StateDelta) {
        for change in delta.changes() {
            self.changed.insert(change.key.clone(), change.after.clone());
        }
    }
}

impl<V: StateView<Error = StorageError>> StateView for Overlay<'_, V> {
    type Error = StorageError;

    fn get(&self, key: &StateKey) -> Result<Option<StateValue>, StorageError> {
        match self.changed.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.base.get(key),
        }
    }
}
