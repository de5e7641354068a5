//! The transactions that wait: a copy of the machine's for readers.

use block_chain_common::hash::TxId;
use block_chain_common::keys::Address;
use block_chain_common::quantity::Amount;
use block_chain_common::transaction::{CheckedTransaction, Payload, Transaction};
use std::collections::{BTreeMap, HashMap};

/// The transactions that wait, by id and in order of arrival.
#[derive(Default)]
pub(crate) struct MempoolMirror {
    pub(crate) by_sequence: BTreeMap<u64, CheckedTransaction>,
    pub(crate) by_id: HashMap<TxId, u64>,
    pub(crate) bytes: usize,
    /// What they move, of whom they concern.
    values: HashMap<Address, Waiting>,
}

/// What the transactions that wait add to an address and take from it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    added: u128,
    taken: u128,
}

impl Waiting {
    /// What the balance changes by.
    pub(crate) fn change(self) -> i128 {
        let signed = |sum: u128| i128::try_from(sum).unwrap_or(i128::MAX);
        signed(self.added).saturating_sub(signed(self.taken))
    }

    /// What can still be spent of a balance.
    pub(crate) fn left_of(self, balance: Amount) -> Amount {
        let taken = u64::try_from(self.taken).unwrap_or(u64::MAX);
        Amount::new(balance.get().saturating_sub(taken))
    }
}

/// What a transaction adds to addresses, and takes from them.
fn moved(transaction: &Transaction) -> [Option<(Address, Waiting)>; 2] {
    let added = |to: &Address, amount: &Amount| {
        let added = u128::from(amount.get());
        Some((*to, Waiting { added, taken: 0 }))
    };
    let taken = |amount: &Amount| {
        let taken = u128::from(amount.get());
        Some((transaction.sender.address(), Waiting { added: 0, taken }))
    };
    match &transaction.payload {
        Payload::Transfer { to, amount, .. } => [added(to, amount), taken(amount)],
        Payload::Deposit { to, amount } => [added(to, amount), None],
        Payload::Stake { amount } => [None, taken(amount)],
        // What is unstaked is free only after some blocks.
        Payload::Unstake { .. }
        | Payload::Put { .. }
        | Payload::Message { .. }
        | Payload::Grant { .. }
        | Payload::Revoke { .. } => [None, None],
    }
}

impl MempoolMirror {
    pub(crate) fn add(&mut self, sequence: u64, transaction: CheckedTransaction) {
        self.bytes = self.bytes.saturating_add(transaction.bytes().len());
        self.by_id.insert(transaction.id(), sequence);
        for (address, waiting) in moved(transaction.transaction()).into_iter().flatten() {
            let sum = self.values.entry(address).or_default();
            sum.added = sum.added.saturating_add(waiting.added);
            sum.taken = sum.taken.saturating_add(waiting.taken);
        }
        self.by_sequence.insert(sequence, transaction);
    }

    pub(crate) fn remove(&mut self, sequence: u64) {
        if let Some(transaction) = self.by_sequence.remove(&sequence) {
            self.bytes = self.bytes.saturating_sub(transaction.bytes().len());
            for (address, waiting) in moved(transaction.transaction()).into_iter().flatten() {
                let sum = self.values.entry(address).or_default();
                sum.added = sum.added.saturating_sub(waiting.added);
                sum.taken = sum.taken.saturating_sub(waiting.taken);
                if *sum == Waiting::default() {
                    self.values.remove(&address);
                }
            }
            if self.by_id.get(&transaction.id()) == Some(&sequence) {
                self.by_id.remove(&transaction.id());
            }
        }
    }

    pub(crate) fn get(&self, id: &TxId) -> Option<&CheckedTransaction> {
        self.by_sequence.get(self.by_id.get(id)?)
    }

    /// What waits from a place on, oldest first: at most so many, and of at most so many encoded bytes unless the first has
    /// more; and the place that the next part begins at. Each is shared, not copied.
    pub(crate) fn part(
        &self,
        from: u64,
        (most, most_bytes): (usize, usize),
        wanted: impl Fn(&Transaction) -> bool,
    ) -> (Vec<CheckedTransaction>, Option<u64>) {
        let (mut part, mut bytes) = (Vec::new(), 0_usize);
        for (sequence, checked) in self.by_sequence.range(from..) {
            if !wanted(checked.transaction()) {
                continue;
            }
            bytes = bytes.saturating_add(checked.bytes().len());
            if part.len() >= most || (bytes > most_bytes && !part.is_empty()) {
                return (part, Some(*sequence));
            }
            part.push(checked.clone());
        }
        (part, None)
    }

    /// What waits to be added to an address and taken from it.
    pub(crate) fn value_of(&self, address: &Address) -> Waiting {
        self.values.get(address).copied().unwrap_or_default()
    }
}
