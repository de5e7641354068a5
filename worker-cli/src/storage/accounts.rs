//! What concerns an address: where its value moved or its roles changed; and who holds which role.

use super::read::{key_history_key, place_in};
use super::{StorageError, Store, db_error, decode};
use crate::machine::Place;
use block_chain_common::header::Header;
use block_chain_common::keys::Address;
use block_chain_common::quantity::Height;
use block_chain_common::state::{Account, StateKey, StateValue};
use block_chain_common::transaction::{Payload, Role, Transaction};
use fjall::PersistMode;
use std::collections::{BTreeSet, HashMap};
use std::sync::{PoisonError, RwLock};

/// Accounts that are kept at most: some megabytes, and as many as are in use on a busy chain.
const MAX_RECENT: usize = 16_384;

/// Accounts that blocks have changed lately, as they are now: on a busy chain the same ones are asked for again and again,
/// to judge what waits, to build a block and to execute it.
///
/// Only the writer puts accounts in, after they are written, so none is ever older than the store.
#[derive(Default)]
pub(super) struct RecentAccounts(RwLock<HashMap<Address, Account>>);

impl RecentAccounts {
    pub(super) fn get(&self, address: &Address) -> Option<Account> {
        let recent = self.0.read().unwrap_or_else(PoisonError::into_inner);
        recent.get(address).cloned()
    }

    /// Accounts have been written, or removed.
    pub(super) fn write(&self, accounts: Vec<(Address, Option<Account>)>) {
        if accounts.is_empty() {
            return;
        }
        let mut recent = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (address, account) in accounts {
            match account {
                Some(account) => recent.insert(address, account),
                None => recent.remove(&address),
            };
        }
        if recent.len() > MAX_RECENT {
            recent.clear();
        }
    }

    /// Gives the memory back.
    pub(super) fn clear(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = HashMap::new();
    }
}

/// The accounts among changed entries of the state.
pub(super) fn changed_accounts<'a>(
    entries: impl Iterator<Item = (&'a StateKey, Option<&'a StateValue>)>,
) -> impl Iterator<Item = (Address, Option<Account>)> {
    entries.filter_map(|(key, value)| match (key, value) {
        (StateKey::Account(address), Some(StateValue::Account(account))) => {
            Some((*address, Some(account.clone())))
        }
        (StateKey::Account(address), _) => Some((*address, None)),
        _ => None,
    })
}

/// The index, in a block, of what it pays its producer: after all transactions.
pub const REWARD: u32 = u32::MAX;

/// The name of an entry of the history of accounts.
pub(super) fn account_key(address: &Address, place: Place) -> [u8; 44] {
    key_history_key(address.as_bytes(), place)
}

/// Whom a transaction concerns beside its sender: `None` where it moves neither value nor roles.
const fn other_side(payload: &Payload) -> Option<Option<Address>> {
    match payload {
        Payload::Put { .. } | Payload::Message { .. } => None,
        Payload::Stake { .. } | Payload::Unstake { .. } => Some(None),
        Payload::Transfer { to, .. } | Payload::Deposit { to, .. } => Some(Some(*to)),
        Payload::Grant { address, .. } | Payload::Revoke { address, .. } => Some(Some(*address)),
    }
}

/// Whether a transaction stands in the history of an address.
pub(crate) fn concerns(transaction: &Transaction, address: &Address) -> bool {
    other_side(&transaction.payload)
        .is_some_and(|other| other == Some(*address) || transaction.sender.address() == *address)
}

/// Whom a block concerns, and where in it.
pub(crate) fn concerned<'a>(
    header: &Header,
    transactions: impl Iterator<Item = &'a Transaction>,
) -> BTreeSet<(Address, Place)> {
    let place = |index| Place {
        height: header.height,
        index,
    };
    let mut found = BTreeSet::from([(header.producer, place(REWARD))]);
    for (transaction, index) in transactions.zip(0_u32..) {
        let Some(other) = other_side(&transaction.payload) else {
            continue;
        };
        let both = [Some(transaction.sender.address()), other];
        found.extend(both.into_iter().flatten().map(|address| (address, place(index))));
    }
    found
}

impl Store {
    /// Where something concerned an address, newest first: before `before`, where that is given, and at most `limit` places.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn account_history(
        &self,
        address: &Address,
        before: Option<Place>,
        limit: usize,
    ) -> Result<Vec<Place>, StorageError> {
        let (first, last) = (
            Place {
                height: Height::ZERO,
                index: 0,
            },
            Place {
                height: Height::new(u64::MAX),
                index: REWARD,
            },
        );
        let from = account_key(address, first);
        let to = account_key(address, before.unwrap_or(last));
        let places = self
            .range(&self.inner.keyspaces.account_history, &from, &to)
            .rev()
            .take(limit)
            .map(|guard| {
                let name = guard
                    .key()
                    .map_err(|error| db_error("read", &self.inner.dir, &error))?;
                place_in(&name, "an entry of the history of accounts")
            });
        places.collect()
    }

    /// Whether the history of an address leads to a place.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn has_account_history(&self, address: &Address, place: Place) -> Result<bool, StorageError> {
        let name = account_key(address, place);
        Ok(self.get(&self.inner.keyspaces.account_history, &name)?.is_some())
    }

    /// Puts a place back into the history of an address, synced.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn restore_account_history(&self, address: &Address, place: Place) -> Result<(), StorageError> {
        let mut batch = self.inner.db.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(
            &self.inner.keyspaces.account_history,
            account_key(address, place),
            [],
        );
        batch
            .commit()
            .map_err(|error| db_error("write", &self.inner.dir, &error))
    }

    /// Who holds a role of their own, sorted by address and role; those after `after`, at most `limit` grants.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn grants(&self, after: Option<Address>, limit: usize) -> Result<Vec<(Address, Role)>, StorageError> {
        // A grant's name is its kind, the address, the role.
        let kind = super::write::bytes(&StateKey::Grant(Address::ZERO, Role::Admin));
        let kind = kind.first().copied().unwrap_or_default();
        let from = match after {
            Some(address) => [[kind].as_slice(), address.as_bytes(), &[u8::MAX]].concat(),
            None => vec![kind],
        };
        let entries = self.range(&self.inner.keyspaces.state, &from, &[kind.saturating_add(1)]);
        let grants = entries.take(limit).map(|guard| {
            let name = guard
                .key()
                .map_err(|error| db_error("read", &self.inner.dir, &error))?;
            match decode(&name, "a name in the state")? {
                StateKey::Grant(address, role) => Ok((address, role)),
                _ => Err(StorageError::damaged("a role in the state")),
            }
        });
        grants.collect()
    }
}
