//! How transactions change the state: the rules STA-1 to STA-10.
//!
//! A transaction is applied wholly or not at all, so a block builder can leave out those that do not fit.
//! "Not yet" (a nonce that is still to come) is an error of its own, because such a transaction may wait.

use super::{
    Account, Change, EmptyState, LatticeHash, RecordState, Release, StateDelta, StateKey, StateValue,
    StateView,
};
use crate::chain_spec::{ChainSpec, ProofSpec};
use crate::codec::{BoundedVec, encode};
use crate::hash::{Digest, sha256};
use crate::keys::Address;
use crate::quantity::{Amount, Height, Nonce};
use crate::stake::{Draw, MAX_STAKERS, Stakes, Turn, ends_epoch, first_seed, next_seed, with_stake};
use crate::transaction::{CheckedTransaction, Payload, RecordKey, Role};
use crate::vrf::Output;
use std::collections::BTreeMap;

/// Why a transaction cannot be applied to a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError<E> {
    /// STA-1: a sender's nonces count up by one; this one was used.
    #[error("STA-1: nonce {found} of {sender} was used already, the next is {expected}")]
    NonceUsed {
        /// The sender.
        sender: Address,
        /// The transaction's nonce.
        found: Nonce,
        /// The one that comes next.
        expected: Nonce,
    },
    /// STA-2: a sender's nonces count up by one; those before this one are missing. May become valid.
    #[error("STA-2: nonce {found} of {sender} is too early, the next is {expected}")]
    NonceGap {
        /// The sender.
        sender: Address,
        /// The transaction's nonce.
        found: Nonce,
        /// The one that comes next.
        expected: Nonce,
    },
    /// STA-3: the sender holds the role that the payload needs.
    #[error("STA-3: {sender} lacks the role {role}")]
    Role {
        /// The sender.
        sender: Address,
        /// The role.
        role: Role,
    },
    /// STA-4: the sender can pay.
    #[error("STA-4: {sender} has {available}, {needed} are needed")]
    Funds {
        /// The sender.
        sender: Address,
        /// What can be spent.
        available: Amount,
        /// What was asked for.
        needed: Amount,
    },
    /// STA-5: all units together fit in 64 bits.
    #[error("STA-5: {amount} more would make more than 2^64 - 1 units in all")]
    Supply {
        /// What was to be added.
        amount: Amount,
    },
    /// STA-6: the sender has so much at stake.
    #[error("STA-6: {sender} has {available} at stake, {needed} were to be released")]
    Stake {
        /// The sender.
        sender: Address,
        /// What is at stake.
        available: Amount,
        /// What was asked for.
        needed: Amount,
    },
    /// STA-7: at most 64 releases of an account wait at a time.
    #[error("STA-7: {sender} has as many releases waiting as are allowed (64)")]
    Releases {
        /// The sender.
        sender: Address,
    },
    /// STA-8: the last admin cannot be removed.
    #[error("STA-8: {address} is the last admin and cannot be removed")]
    LastAdmin {
        /// The admin.
        address: Address,
    },
    /// STA-9: a transfer goes to another address than the sender's.
    #[error("STA-9: a transfer to the sender's own address")]
    OwnAddress,
    /// STA-10: on a chain of stake, at most 256 addresses have stake at a time.
    #[error("STA-10: {MAX_STAKERS} addresses have stake already, no more are allowed")]
    Stakers,
    /// The state cannot be read, or holds an entry of the wrong kind: nothing is known of the transaction.
    #[error("the state cannot be read")]
    Read(E),
}

/// Applies a block's transactions one after the other on top of a state.
pub struct Executor<'a, V> {
    view: &'a V,
    spec: &'a ChainSpec,
    height: Height,
    hash_before: &'a LatticeHash,
    /// What was read or written, before and after; but for what [`Self::read_ahead`] read.
    changes: BTreeMap<StateKey, (Option<StateValue>, Option<StateValue>)>,
    /// What [`Self::read_ahead`] read, in the order of the keys: looking a record up in a map costs more than all else
    /// that a `put` does.
    records: Vec<Change>,
    /// For each transaction that was read ahead, where its record stands in `records`.
    record_of: Vec<Option<usize>>,
}

type Writes = Vec<(StateKey, Option<StateValue>)>;

impl<'a, V: StateView> Executor<'a, V> {
    /// Begins the block at `height` on the state that `view` shows and `hash_before` is the hash of.
    pub fn new(view: &'a V, spec: &'a ChainSpec, height: Height, hash_before: &'a LatticeHash) -> Self {
        Self {
            view,
            spec,
            height,
            hash_before,
            changes: BTreeMap::new(),
            records: Vec::new(),
            record_of: Vec::new(),
        }
    }

    /// Reads the records that a whole block's transactions set, in the order of their keys: a store answers neighbours
    /// several times as fast as it answers at random. For the beginning, before anything is applied; then all of these
    /// transactions are applied with their places in the block.
    ///
    /// # Errors
    /// [`ApplyError::Read`] where the state cannot be read.
    pub fn read_ahead(&mut self, transactions: &[CheckedTransaction]) -> Result<(), ApplyError<V::Error>> {
        debug_assert!(
            self.changes.is_empty(),
            "what was changed already must not be read again"
        );
        let payloads = transactions.iter().map(|checked| &checked.transaction().payload);
        let mut keys: Vec<(&RecordKey, usize)> = payloads
            .enumerate()
            .filter_map(|(index, payload)| match payload {
                Payload::Put { key, .. } => Some((key, index)),
                _ => None,
            })
            .collect();
        keys.sort_unstable();
        self.record_of = vec![None; transactions.len()];
        let mut last: Option<&RecordKey> = None;
        for (key, index) in keys {
            if last != Some(key) {
                last = Some(key);
                let key = StateKey::Record(key.clone());
                let before = self.view.get(&key).map_err(ApplyError::Read)?;
                self.records.push(Change {
                    key,
                    after: before.clone(),
                    before,
                });
            }
            if let Some(place) = self.record_of.get_mut(index) {
                *place = self.records.len().checked_sub(1);
            }
        }
        Ok(())
    }

    /// Applies one transaction, wholly or not at all. `index` is its place in the block.
    ///
    /// # Errors
    /// The first of the rules STA-1 to STA-9 that it breaks, see [`ApplyError`].
    pub fn apply(&mut self, checked: &CheckedTransaction, index: u32) -> Result<(), ApplyError<V::Error>> {
        let transaction = checked.transaction();
        let sender = checked.sender();
        let mut account = self.account(&sender)?;
        if transaction.nonce < account.nonce {
            return Err(ApplyError::NonceUsed {
                sender,
                found: transaction.nonce,
                expected: account.nonce,
            });
        }
        if transaction.nonce > account.nonce {
            return Err(ApplyError::NonceGap {
                sender,
                found: transaction.nonce,
                expected: account.nonce,
            });
        }
        self.need_role(sender, Role::Write)?;
        account.nonce = account.nonce.next();
        let mut writes = self.effects(&mut account, sender, &transaction.payload)?;
        writes.push((StateKey::Account(sender), Some(StateValue::Account(account))));
        let place = self.read_before(index);
        let record = match &transaction.payload {
            Payload::Put { key, value } => {
                let record = StateValue::Record(RecordState {
                    value_digest: Digest::from_bytes(sha256(&[value.as_slice()])),
                    height: self.height,
                    index,
                });
                if place.is_none() {
                    writes.push((StateKey::Record(key.clone()), Some(record.clone())));
                }
                Some(record)
            }
            _ => None,
        };
        self.write(writes)?;
        if let Some(change) = place.and_then(|place| self.records.get_mut(place)) {
            change.after = record;
        }
        Ok(())
    }

    /// Where the record of a transaction that was read ahead stands.
    fn read_before(&self, index: u32) -> Option<usize> {
        let index = usize::try_from(index).ok()?;
        self.record_of.get(index).copied().flatten()
    }

    /// Pays the producer, and gives all changes with the state's new hash. On a chain of stake the block's VRF output goes
    /// into the seed.
    ///
    /// # Errors
    /// STA-3 where the producer lacks the role `mine`, STA-5, or where the state cannot be read.
    pub fn finish(
        mut self,
        producer: Address,
        output: Option<&Output>,
    ) -> Result<StateDelta, ApplyError<V::Error>> {
        self.need_role(producer, Role::Mine)?;
        let reward = self.spec.reward_at(self.height);
        if reward > Amount::ZERO {
            let mut writes = vec![self.mint(reward)?];
            let mut account = self.account(&producer)?;
            account.balance = add(account.balance, reward)?;
            writes.push((StateKey::Account(producer), Some(StateValue::Account(account))));
            self.write(writes)?;
        }
        if let Some(output) = output {
            self.turn_beacon(output)?;
        }
        Ok(self.into_delta())
    }

    /// The seed with this block; at an epoch's end, the next draw.
    fn turn_beacon(&mut self, output: &Output) -> Result<(), ApplyError<V::Error>> {
        let Some(StateValue::Seed(seed)) = self.get(&StateKey::Seed)? else {
            return Ok(());
        };
        let seed = next_seed(&seed, output);
        let mut writes = vec![(StateKey::Seed, Some(StateValue::Seed(seed)))];
        if ends_epoch(self.height) {
            let next = self.get(&StateKey::Draw(Turn::Next))?;
            let stakes = self.stakers()?;
            let after = StateValue::Draw(Draw { seed, stakes });
            writes.push((StateKey::Draw(Turn::Current), next));
            writes.push((StateKey::Draw(Turn::Next), Some(after)));
        }
        self.write(writes)
    }

    fn stakers(&self) -> Result<Stakes, ApplyError<V::Error>> {
        Ok(match self.get(&StateKey::Stakers)? {
            Some(StateValue::Stakes(stakes)) => stakes,
            _ => Stakes::default(),
        })
    }

    /// Who has stake, where a sender's has changed; on other chains nobody keeps a list.
    fn stakers_with(&self, sender: Address, stake: Amount) -> Result<Writes, ApplyError<V::Error>> {
        if self.spec.proof != ProofSpec::Stake {
            return Ok(Vec::new());
        }
        let stakes = with_stake(&self.stakers()?, sender, stake).ok_or(ApplyError::Stakers)?;
        Ok(vec![(StateKey::Stakers, Some(StateValue::Stakes(stakes)))])
    }

    fn into_delta(self) -> StateDelta {
        let others = self
            .changes
            .into_iter()
            .map(|(key, (before, after))| Change { key, before, after });
        let mut changes: Vec<Change> = self
            .records
            .into_iter()
            .chain(others)
            .filter(|change| change.before != change.after)
            .collect();
        // The records are in order already, which the sort makes use of.
        changes.sort_by(|a, b| a.key.cmp(&b.key));
        StateDelta::new(changes, self.hash_before)
    }

    fn effects(
        &self,
        account: &mut Account,
        sender: Address,
        payload: &Payload,
    ) -> Result<Writes, ApplyError<V::Error>> {
        match payload {
            Payload::Put { .. } | Payload::Message { .. } => Ok(Vec::new()),
            Payload::Transfer { to, amount, .. } => {
                if *to == sender {
                    return Err(ApplyError::OwnAddress);
                }
                spend(account, sender, *amount)?;
                self.credit(*to, *amount).map(|write| vec![write])
            }
            Payload::Deposit { to, amount } => {
                self.need_role(sender, Role::Issue)?;
                let minted = self.mint(*amount)?;
                if *to == sender {
                    account.balance = add(account.balance, *amount)?;
                    return Ok(vec![minted]);
                }
                Ok(vec![minted, self.credit(*to, *amount)?])
            }
            Payload::Stake { amount } => {
                spend(account, sender, *amount)?;
                account.stake = add(account.stake, *amount)?;
                self.stakers_with(sender, account.stake)
            }
            Payload::Unstake { amount } => {
                self.unstake(account, sender, *amount)?;
                self.stakers_with(sender, account.stake)
            }
            Payload::Grant { address, role } => {
                self.need_role(sender, Role::Admin)?;
                self.set_role(*address, *role, true)
            }
            Payload::Revoke { address, role } => {
                self.need_role(sender, Role::Admin)?;
                self.set_role(*address, *role, false)
            }
        }
    }

    fn unstake(
        &self,
        account: &mut Account,
        sender: Address,
        amount: Amount,
    ) -> Result<(), ApplyError<V::Error>> {
        let refused = ApplyError::Stake {
            sender,
            available: account.stake,
            needed: amount,
        };
        account.stake = account.stake.checked_sub(amount.get()).ok_or(refused)?;
        let from = Height::new(self.height.get().saturating_add(self.spec.unstake_blocks));
        let mut releases = std::mem::take(&mut account.releases).into_vec();
        releases.push(Release { from, amount });
        account.releases = BoundedVec::new(releases).or(Err(ApplyError::Releases { sender }))?;
        Ok(())
    }

    fn set_role(&self, address: Address, role: Role, give: bool) -> Result<Writes, ApplyError<V::Error>> {
        let key = StateKey::Grant(address, role);
        let has = self.get(&key)?.is_some();
        if has == give {
            return Ok(Vec::new());
        }
        let holders = match self.get(&StateKey::Holders(role))? {
            Some(StateValue::Count(count)) => count,
            _ => 0,
        };
        let after = if give {
            holders.saturating_add(1)
        } else {
            holders.saturating_sub(1)
        };
        if after == 0 && role == Role::Admin {
            return Err(ApplyError::LastAdmin { address });
        }
        let count = (after > 0).then_some(StateValue::Count(after));
        Ok(vec![
            (key, give.then_some(StateValue::Granted)),
            (StateKey::Holders(role), count),
        ])
    }

    fn need_role(&self, address: Address, role: Role) -> Result<(), ApplyError<V::Error>> {
        if self.spec.open_roles.as_slice().contains(&role)
            || self.get(&StateKey::Grant(address, role))?.is_some()
        {
            return Ok(());
        }
        Err(ApplyError::Role {
            sender: address,
            role,
        })
    }

    fn mint(&self, amount: Amount) -> Result<(StateKey, Option<StateValue>), ApplyError<V::Error>> {
        let supply = match self.get(&StateKey::Supply)? {
            Some(StateValue::Amount(supply)) => supply,
            _ => Amount::ZERO,
        };
        Ok((StateKey::Supply, Some(StateValue::Amount(add(supply, amount)?))))
    }

    fn credit(
        &self,
        to: Address,
        amount: Amount,
    ) -> Result<(StateKey, Option<StateValue>), ApplyError<V::Error>> {
        let mut account = self.account(&to)?;
        account.balance = add(account.balance, amount)?;
        Ok((StateKey::Account(to), Some(StateValue::Account(account))))
    }

    /// The account with the releases that are due counted to its balance.
    fn account(&self, address: &Address) -> Result<Account, ApplyError<V::Error>> {
        let account = match self.get(&StateKey::Account(*address))? {
            Some(StateValue::Account(account)) => account,
            _ => Account::default(),
        };
        account
            .at(self.height)
            .map_err(|amount| ApplyError::Supply { amount })
    }

    fn get(&self, key: &StateKey) -> Result<Option<StateValue>, ApplyError<V::Error>> {
        match self.changes.get(key) {
            Some((_, after)) => Ok(after.clone()),
            None => self.view.get(key).map_err(ApplyError::Read),
        }
    }

    fn write(&mut self, writes: Writes) -> Result<(), ApplyError<V::Error>> {
        // Everything that can fail comes first, so that a transaction is never half applied.
        let mut befores = Vec::with_capacity(writes.len());
        for (key, _) in &writes {
            let known = self.changes.contains_key(key);
            befores.push(if known {
                None
            } else {
                self.view.get(key).map_err(ApplyError::Read)?
            });
        }
        for ((key, after), before) in writes.into_iter().zip(befores) {
            match self.changes.get_mut(&key) {
                Some(change) => change.1 = after,
                None => {
                    self.changes.insert(key, (before, after));
                }
            }
        }
        Ok(())
    }
}

fn spend<E>(account: &mut Account, sender: Address, amount: Amount) -> Result<(), ApplyError<E>> {
    let refused = ApplyError::Funds {
        sender,
        available: account.balance,
        needed: amount,
    };
    account.balance = account.balance.checked_sub(amount.get()).ok_or(refused)?;
    Ok(())
}

fn add<E>(sum: Amount, amount: Amount) -> Result<Amount, ApplyError<E>> {
    sum.checked_add(amount.get()).ok_or(ApplyError::Supply { amount })
}

/// The state a chain begins with. The spec's lists are checked (SPEC-4, SPEC-5) before this is called.
pub(crate) fn genesis_state(spec: &ChainSpec) -> StateDelta {
    let mut entries: BTreeMap<StateKey, StateValue> = BTreeMap::new();
    let mut accounts: BTreeMap<Address, Account> = BTreeMap::new();
    let mut supply = 0_u64;
    for entry in spec.balances.as_slice() {
        accounts.entry(entry.address).or_default().balance = entry.amount;
        supply = supply.saturating_add(entry.amount.get());
    }
    for entry in spec.stakes.as_slice() {
        accounts.entry(entry.address).or_default().stake = entry.amount;
        supply = supply.saturating_add(entry.amount.get());
    }
    for (address, account) in accounts {
        entries.insert(StateKey::Account(address), StateValue::Account(account));
    }
    for grant in spec.grants.as_slice() {
        entries.insert(StateKey::Grant(grant.address, grant.role), StateValue::Granted);
        let holders = entries
            .entry(StateKey::Holders(grant.role))
            .or_insert(StateValue::Count(0));
        if let StateValue::Count(count) = holders {
            *count = count.saturating_add(1);
        }
    }
    if supply > 0 {
        entries.insert(StateKey::Supply, StateValue::Amount(Amount::new(supply)));
    }
    if spec.proof == ProofSpec::Stake {
        let seed = first_seed(&encode(spec));
        let stakes = Stakes::new(spec.stakes.as_slice().to_vec()).unwrap_or_default();
        let draw = Draw {
            seed,
            stakes: stakes.clone(),
        };
        entries.insert(StateKey::Stakers, StateValue::Stakes(stakes));
        entries.insert(StateKey::Seed, StateValue::Seed(seed));
        for turn in [Turn::Current, Turn::Next] {
            entries.insert(StateKey::Draw(turn), StateValue::Draw(draw.clone()));
        }
    }
    let hash_before = LatticeHash::default();
    let mut executor = Executor::new(&EmptyState, spec, Height::ZERO, &hash_before);
    executor.changes = entries
        .into_iter()
        .map(|(key, value)| (key, (None, Some(value))))
        .collect();
    executor.into_delta()
}
