//! Transactions that wait: durable, bounded, each sender's in the order of their nonces, all pending spending counted.

use super::{ChainRead, Effect, Known, Machine, Message, Output, Token, Write};
use crate::storage::StorageError;
use block_chain_common::codec::BoundedVec;
use block_chain_common::hash::TxId;
use block_chain_common::keys::{Address, PublicKey};
use block_chain_common::limits::{MAX_BLOCK_TRANSACTIONS, MAX_MEMPOOL_BYTES, MAX_MEMPOOL_PER_SENDER};
use block_chain_common::quantity::{Amount, Height, Nonce};
use block_chain_common::state::{Account, StateKey, StateValue, StateView};
use block_chain_common::transaction::{CheckedTransaction, Payload, Role};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Encoded bytes of transactions in one message: half of what a message may have, so that frames always fit.
const MESSAGE_BYTES: usize = 4 * 1_048_576;

/// Why a transaction cannot wait here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MempoolError {
    /// MEM-1: its nonce was used on the chain or by another that waits.
    #[error("MEM-1: nonce {found} of {sender} is taken, the next is {expected}")]
    NonceUsed {
        /// The sender.
        sender: Address,
        /// Its nonce.
        found: Nonce,
        /// The next one free.
        expected: Nonce,
    },
    /// MEM-2: its nonce leaves a gap.
    #[error("MEM-2: nonce {found} of {sender} is too early, the next is {expected}")]
    NonceGap {
        /// The sender.
        sender: Address,
        /// Its nonce.
        found: Nonce,
        /// The next one.
        expected: Nonce,
    },
    /// MEM-3: the sender cannot pay for all that waits.
    #[error("MEM-3: {sender} has {available}, of which {pending} are pending; {needed} are needed")]
    Funds {
        /// The sender.
        sender: Address,
        /// Its balance or stake on the chain.
        available: Amount,
        /// What waits to be spent of it.
        pending: Amount,
        /// What this one asks for.
        needed: Amount,
    },
    /// MEM-4: the sender lacks a role.
    #[error("MEM-4: {sender} lacks the role {role}; an admin can give it: grant --to {sender} --role {role}")]
    Role {
        /// The sender.
        sender: Address,
        /// The role.
        role: Role,
    },
    /// MEM-5: so many of one sender wait.
    #[error("MEM-5: {MAX_MEMPOOL_PER_SENDER} transactions of {sender} wait already, no more are allowed")]
    SenderFull {
        /// The sender.
        sender: Address,
    },
    /// MEM-6: so many bytes wait.
    #[error("MEM-6: {bytes} bytes wait already, {MAX_MEMPOOL_BYTES} are allowed; mine a block first")]
    Full {
        /// Bytes that wait.
        bytes: usize,
    },
    /// MEM-7: a transfer to the sender itself.
    #[error("MEM-7: a transfer to the sender's own address")]
    OwnAddress,
}

#[derive(Debug)]
struct Entry {
    sequence: u64,
    transaction: CheckedTransaction,
}

#[derive(Debug, Default)]
struct Waiting {
    by_nonce: BTreeMap<Nonce, Entry>,
    /// Sum of what they spend of the balance.
    spent: u64,
    /// Sum of what they take off the stake.
    unstaked: u64,
}

impl Waiting {
    /// The last nonce, where there is none but those from `first` on, without a gap: as good as always, and known without
    /// going through a hundred thousand of them.
    fn last_of_all_from(&self, first: Nonce) -> Option<Nonce> {
        let (lowest, highest) = (self.by_nonce.first_key_value()?, self.by_nonce.last_key_value()?);
        let count = highest.0.get().checked_sub(first.get())?.checked_add(1)?;
        let is_whole = *lowest.0 == first && u64::try_from(self.by_nonce.len()) == Ok(count);
        is_whole.then_some(*highest.0)
    }
}

/// The transactions that wait.
#[derive(Debug, Default)]
pub(super) struct Mempool {
    senders: BTreeMap<Address, Waiting>,
    order: BTreeMap<u64, (Address, Nonce)>,
    ids: HashMap<TxId, u64>,
    bytes: usize,
    mark: u64,
    next_sequence: u64,
}

impl Mempool {
    /// From the store, in order of arrival.
    pub(super) fn restore(stored: Vec<(u64, CheckedTransaction)>) -> Self {
        let mut mempool = Self::default();
        for (sequence, transaction) in stored {
            mempool.next_sequence = mempool.next_sequence.max(sequence.saturating_add(1));
            mempool.insert(sequence, transaction);
        }
        mempool
    }

    pub(super) fn count(&self) -> usize {
        self.order.len()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// See [`block_chain_common::peer_message::Status::mempool_mark`].
    pub(super) const fn mark(&self) -> u64 {
        self.mark
    }

    pub(super) fn contains(&self, id: &TxId) -> bool {
        self.ids.contains_key(id)
    }

    pub(super) fn next_nonce<V: StateView<Error = StorageError>>(
        &self,
        view: &V,
        address: &Address,
    ) -> Result<Nonce, StorageError> {
        let mut next = account(view, address)?.nonce;
        if let Some(waiting) = self.senders.get(address) {
            if let Some(last) = waiting.last_of_all_from(next) {
                return Ok(last.next());
            }
            // Contiguous from the chain's nonce on; after a reorganisation there may be a gap, which is to be filled.
            for nonce in waiting.by_nonce.range(next..).map(|(nonce, _)| *nonce) {
                if nonce != next {
                    break;
                }
                next = next.next();
            }
        }
        Ok(next)
    }

    /// Judges one transaction against the state and all that waits, and takes it in.
    fn admit<V: StateView<Error = StorageError>>(
        &mut self,
        machine: (&V, &block_chain_common::chain_spec::ChainSpec, Height),
        expected: Nonce,
        transaction: CheckedTransaction,
    ) -> Result<Result<u64, MempoolError>, StorageError> {
        let (view, spec, height) = machine;
        let tx = transaction.transaction();
        let sender = transaction.sender();
        if tx.nonce < expected {
            return Ok(Err(MempoolError::NonceUsed {
                sender,
                found: tx.nonce,
                expected,
            }));
        }
        if tx.nonce > expected {
            return Ok(Err(MempoolError::NonceGap {
                sender,
                found: tx.nonce,
                expected,
            }));
        }
        let (count, spent, unstaked) = self
            .senders
            .get(&sender)
            .map_or((0, 0, 0), |w| (w.by_nonce.len(), w.spent, w.unstaked));
        if count >= MAX_MEMPOOL_PER_SENDER {
            return Ok(Err(MempoolError::SenderFull { sender }));
        }
        if self.bytes.saturating_add(transaction.bytes().len()) > MAX_MEMPOOL_BYTES {
            return Ok(Err(MempoolError::Full { bytes: self.bytes }));
        }
        for role in [Some(Role::Write), needed_role(&tx.payload)]
            .into_iter()
            .flatten()
        {
            let open = spec.open_roles.as_slice().contains(&role);
            if !open && view.get(&StateKey::Grant(sender, role))?.is_none() {
                return Ok(Err(MempoolError::Role { sender, role }));
            }
        }
        if matches!(&tx.payload, Payload::Transfer { to, .. } if *to == sender) {
            return Ok(Err(MempoolError::OwnAddress));
        }
        let (spends, unstakes) = amounts(&tx.payload);
        if spends > 0 || unstakes > 0 {
            let account = account(view, &sender)?;
            let account = account.at(height).map_err(|amount| {
                StorageError::damaged(format!("{amount} more than fit are released to {sender}"))
            })?;
            let sums = [
                (spends, account.balance, spent),
                (unstakes, account.stake, unstaked),
            ];
            for (needed, available, pending) in sums {
                if needed > 0 && pending.saturating_add(needed) > available.get() {
                    let (pending, needed) = (Amount::new(pending), Amount::new(needed));
                    return Ok(Err(MempoolError::Funds {
                        sender,
                        available,
                        pending,
                        needed,
                    }));
                }
            }
        }
        let sequence = self.next_sequence;
        self.next_sequence = sequence.saturating_add(1);
        self.insert(sequence, transaction);
        Ok(Ok(sequence))
    }

    fn insert(&mut self, sequence: u64, transaction: CheckedTransaction) {
        let tx = transaction.transaction();
        let (sender, nonce) = (transaction.sender(), tx.nonce);
        let (spends, unstakes) = amounts(&tx.payload);
        self.remove(&sender, nonce);
        self.bytes = self.bytes.saturating_add(transaction.bytes().len());
        self.ids.insert(transaction.id(), sequence);
        self.mark ^= mark_of(&transaction.id());
        self.order.insert(sequence, (sender, nonce));
        let waiting = self.senders.entry(sender).or_default();
        waiting.spent = waiting.spent.saturating_add(spends);
        waiting.unstaked = waiting.unstaked.saturating_add(unstakes);
        waiting.by_nonce.insert(
            nonce,
            Entry {
                sequence,
                transaction,
            },
        );
    }

    /// Takes one out; gives its number.
    fn remove(&mut self, sender: &Address, nonce: Nonce) -> Option<u64> {
        let waiting = self.senders.get_mut(sender)?;
        let entry = waiting.by_nonce.remove(&nonce)?;
        let (spends, unstakes) = amounts(&entry.transaction.transaction().payload);
        waiting.spent = waiting.spent.saturating_sub(spends);
        waiting.unstaked = waiting.unstaked.saturating_sub(unstakes);
        if waiting.by_nonce.is_empty() {
            self.senders.remove(sender);
        }
        self.order.remove(&entry.sequence);
        self.ids.remove(&entry.transaction.id());
        self.mark ^= mark_of(&entry.transaction.id());
        self.bytes = self.bytes.saturating_sub(entry.transaction.bytes().len());
        Some(entry.sequence)
    }

    /// Takes out what a block has included, or what its nonces have made impossible.
    pub(super) fn on_included(&mut self, included: &[CheckedTransaction], writes: &mut Vec<Write>) {
        let mut used: BTreeMap<Address, Nonce> = BTreeMap::new();
        for transaction in included {
            let highest = used.entry(transaction.sender()).or_default();
            *highest = transaction.transaction().nonce.max(*highest);
        }
        for (sender, highest) in used {
            let Some(waiting) = self.senders.get(&sender) else {
                continue;
            };
            let gone: Vec<Nonce> = waiting
                .by_nonce
                .range(..=highest)
                .map(|(nonce, _)| *nonce)
                .collect();
            for nonce in gone {
                if let Some(sequence) = self.remove(&sender, nonce) {
                    writes.push(Write::MempoolRemove { sequence });
                }
            }
        }
    }

    /// Takes back what an orphaned block had included.
    pub(super) fn on_orphaned(&mut self, transaction: CheckedTransaction, writes: &mut Vec<Write>) {
        let taken = self
            .senders
            .get(&transaction.sender())
            .is_some_and(|w| w.by_nonce.contains_key(&transaction.transaction().nonce));
        if taken {
            return;
        }
        let sequence = self.next_sequence;
        self.next_sequence = sequence.saturating_add(1);
        self.insert(sequence, transaction.clone());
        writes.push(Write::MempoolAdd {
            sequence,
            transaction,
        });
    }

    /// Takes out by id what can never be included.
    pub(super) fn drop_refused(&mut self, refused: &[TxId], writes: &mut Vec<Write>) {
        for id in refused {
            let place = self
                .ids
                .get(id)
                .and_then(|sequence| self.order.get(sequence))
                .copied();
            if let Some(sequence) = place.and_then(|(sender, nonce)| self.remove(&sender, nonce)) {
                writes.push(Write::MempoolRemove { sequence });
            }
        }
    }

    /// In order of arrival, but each sender's in the order of their nonces (a returned one has a late number).
    pub(super) fn candidates(&self) -> impl Iterator<Item = CheckedTransaction> + '_ {
        let mut given: HashSet<u64> = HashSet::new();
        self.order.values().flat_map(move |(sender, nonce)| {
            let waiting = self.senders.get(sender).into_iter();
            let earlier = waiting.flat_map(|waiting| waiting.by_nonce.range(..=*nonce));
            let fresh: Vec<CheckedTransaction> = earlier
                .rev()
                .take_while(|(_, entry)| !given.contains(&entry.sequence))
                .map(|(_, entry)| entry.transaction.clone())
                .collect();
            for transaction in &fresh {
                if let Some(sequence) = self.ids.get(&transaction.id()) {
                    given.insert(*sequence);
                }
            }
            fresh.into_iter().rev()
        })
    }

    fn by_id(&self, id: &TxId) -> Option<&CheckedTransaction> {
        let (sender, nonce) = self.order.get(self.ids.get(id)?)?;
        self.senders
            .get(sender)?
            .by_nonce
            .get(nonce)
            .map(|entry| &entry.transaction)
    }
}

impl Machine {
    /// All or none: what was taken in of a refused submission is taken out again before anything is written.
    pub(super) fn on_submit<R: ChainRead>(
        &mut self,
        read: &R,
        token: Token,
        transactions: Vec<CheckedTransaction>,
        out: &mut Output,
    ) -> Result<(), StorageError> {
        let (mut answers, mut added) = (Vec::with_capacity(transactions.len()), Vec::new());
        for transaction in transactions {
            let id = transaction.id();
            if self.mempool.contains(&id) {
                answers.push((id, Known::Before));
                continue;
            }
            match self.admit(read, transaction.clone())? {
                // What is on the chain has used its nonce, so only then it is looked for there.
                Err(MempoolError::NonceUsed { .. }) if read.place(&id)?.is_some() => {
                    answers.push((id, Known::Before));
                }
                Ok(sequence) => {
                    added.push((sequence, transaction));
                    answers.push((id, Known::New));
                }
                Err(error) => {
                    for (_, earlier) in added {
                        self.mempool
                            .remove(&earlier.sender(), earlier.transaction().nonce);
                    }
                    out.effects.push(Effect::Submitted(token, Err(error)));
                    return Ok(());
                }
            }
        }
        for message in transaction_messages(added.iter().map(|(_, transaction)| transaction)) {
            out.effects.push(Effect::Broadcast(message));
        }
        let writes = added
            .into_iter()
            .map(|(sequence, transaction)| Write::MempoolAdd {
                sequence,
                transaction,
            });
        out.writes.extend(writes);
        out.effects.push(Effect::Submitted(token, Ok(answers)));
        Ok(())
    }

    /// What peers send: each on its own; what does not fit now is left to the next pull.
    pub(super) fn on_transactions<R: ChainRead>(
        &mut self,
        read: &R,
        transactions: Vec<CheckedTransaction>,
        out: &mut Output,
    ) -> Result<(), StorageError> {
        for transaction in transactions {
            if self.mempool.contains(&transaction.id()) {
                continue;
            }
            if let Ok(sequence) = self.admit(read, transaction.clone())? {
                out.writes.push(Write::MempoolAdd {
                    sequence,
                    transaction,
                });
            }
        }
        Ok(())
    }

    fn admit<R: ChainRead>(
        &mut self,
        read: &R,
        transaction: CheckedTransaction,
    ) -> Result<Result<u64, MempoolError>, StorageError> {
        let expected = self.mempool.next_nonce(read, &transaction.sender())?;
        self.mempool.admit(
            (read, self.spec.spec(), self.tip.height.next()),
            expected,
            transaction,
        )
    }

    pub(super) fn send_mempool_ids(&self, peer: PublicKey, out: &mut Output) {
        let candidates = self.mempool.candidates().take(MAX_BLOCK_TRANSACTIONS);
        let ids: Vec<TxId> = candidates.map(|transaction| transaction.id()).collect();
        out.effects.push(Effect::Send(
            peer,
            Message::MempoolIds(BoundedVec::new(ids).unwrap_or_default()),
        ));
    }

    pub(super) fn ask_for_transactions<R: ChainRead>(
        &self,
        read: &R,
        peer: PublicKey,
        ids: &[TxId],
        out: &mut Output,
    ) -> Result<(), StorageError> {
        let mut wanted = Vec::new();
        for id in ids {
            if !self.mempool.contains(id) && read.place(id)?.is_none() {
                wanted.push(*id);
            }
        }
        if !wanted.is_empty() {
            let wanted = BoundedVec::new(wanted).unwrap_or_default();
            out.effects
                .push(Effect::Send(peer, Message::GetTransactions(wanted)));
        }
        Ok(())
    }

    pub(super) fn send_transactions(&self, peer: PublicKey, ids: &[TxId], out: &mut Output) {
        let found = ids.iter().filter_map(|id| self.mempool.by_id(id));
        for message in transaction_messages(found) {
            out.effects.push(Effect::Send(peer, message));
        }
    }
}

/// Puts transactions into as few messages as their sizes allow.
fn transaction_messages<'a>(transactions: impl Iterator<Item = &'a CheckedTransaction>) -> Vec<Message> {
    let (mut messages, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0_usize);
    let mut flush = |batch: &mut Vec<_>| {
        if !batch.is_empty() {
            let full = BoundedVec::new(std::mem::take(batch)).unwrap_or_default();
            messages.push(Message::Transactions(full));
        }
    };
    for transaction in transactions {
        let size = transaction.bytes().len();
        if bytes.saturating_add(size) > MESSAGE_BYTES || batch.len() >= MAX_BLOCK_TRANSACTIONS {
            flush(&mut batch);
            bytes = 0;
        }
        bytes = bytes.saturating_add(size);
        batch.push(transaction.transaction().clone());
    }
    flush(&mut batch);
    messages
}

fn account<V: StateView<Error = StorageError>>(view: &V, address: &Address) -> Result<Account, StorageError> {
    Ok(match view.get(&StateKey::Account(*address))? {
        Some(StateValue::Account(account)) => account,
        _ => Account::default(),
    })
}

fn mark_of(id: &TxId) -> u64 {
    id.as_bytes()
        .first_chunk::<8>()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

const fn needed_role(payload: &Payload) -> Option<Role> {
    match payload {
        Payload::Deposit { .. } => Some(Role::Issue),
        Payload::Grant { .. } | Payload::Revoke { .. } => Some(Role::Admin),
        _ => None,
    }
}

/// What a payload spends of the balance, and takes off the stake.
const fn amounts(payload: &Payload) -> (u64, u64) {
    match payload {
        Payload::Transfer { amount, .. } | Payload::Stake { amount } => (amount.get(), 0),
        Payload::Unstake { amount } => (0, amount.get()),
        _ => (0, 0),
    }
}
