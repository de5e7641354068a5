//! Who sends transactions, and remembers which were accepted.

use super::{CLIENTS, What, World};
use block_chain_common::chain_spec::Allocation;
use block_chain_common::codec::BoundedVec;
use block_chain_common::keys::SecretKey;
use block_chain_common::limits::MAX_SPEC_ENTRIES;
use block_chain_common::quantity::{Amount, Nonce};
use block_chain_common::transaction::{
    CheckedTransaction, Memo, Payload, RecordKey, RecordValue, Transaction,
};
use block_chain_worker::machine::Event;
use rand::Rng as _;

/// The seed of the thief's key.
pub(super) const THIEF: u8 = 99;
/// What each client, and the thief, have at the start: more than clients ever send, so that no transfer waits for money.
const FIRST_BALANCE: u64 = 1_000_000;

/// What clients and the thief have at the start.
pub(super) fn first_balances() -> BoundedVec<Allocation, MAX_SPEC_ENTRIES> {
    let clients = (0..CLIENTS).filter_map(|number| u8::try_from(number.saturating_add(100)).ok());
    let mut balances: Vec<Allocation> = clients
        .chain([THIEF])
        .map(|seed| Allocation {
            address: SecretKey::from_seed(&[seed; 32]).public_key().address(),
            amount: Amount::new(FIRST_BALANCE),
        })
        .collect();
    balances.sort_by_key(|entry| entry.address);
    BoundedVec::new(balances).unwrap_or_default()
}

/// A client's transaction: every third is a transfer to the next client.
fn payload(number: u64, nonce: u64) -> Result<Payload, String> {
    if nonce % 3 == 2 {
        let next = number.saturating_add(1).checked_rem(CLIENTS).unwrap_or(0);
        let seed = u8::try_from(next.saturating_add(100)).map_err(|error| error.to_string())?;
        return Ok(Payload::Transfer {
            to: SecretKey::from_seed(&[seed; 32]).public_key().address(),
            amount: Amount::new(nonce),
            memo: Memo::new(Vec::new()).map_err(|error| error.to_string())?,
        });
    }
    Ok(Payload::Put {
        key: RecordKey::new(format!("{number}/{}", nonce % 7).into_bytes())
            .map_err(|error| error.to_string())?,
        value: RecordValue::new(nonce.to_le_bytes().to_vec()).map_err(|error| error.to_string())?,
    })
}

impl World {
    /// A client sends its next transaction to some node, and the same again until one has accepted it.
    pub(super) fn client(&mut self, number: u64) -> Result<(), String> {
        let next = self.rng.random_range(100..1_500);
        let node = self.rng.random_range(0..self.nodes.len());
        let (chain, over) = (self.spec.id(), self.faults_over);
        let Some(client) = usize::try_from(number)
            .ok()
            .and_then(|place| self.clients.get_mut(place))
        else {
            return Ok(());
        };
        if client.waiting.is_none() && !over {
            let payload = payload(number, client.nonce)?;
            let signed = Transaction::sign(chain, Nonce::new(client.nonce), payload, &client.key);
            client.waiting =
                Some(CheckedTransaction::check(signed, chain).map_err(|error| error.to_string())?);
        }
        let waiting = client.waiting.clone();
        self.later(next, What::Client(number));
        let Some(transaction) = waiting else { return Ok(()) };
        if self.woken_at(node).is_some() {
            return Ok(());
        }
        let token = self.next;
        self.tokens.insert(token, (number, transaction.id()));
        self.step(node, Event::Submit(token, vec![transaction]))
    }

    /// A thief spends all that it has twice: the same nonce to two addresses, through two nodes. Neither is promised
    /// anything; that no unit is made of it is checked with every block.
    pub(super) fn thief(&mut self) -> Result<(), String> {
        if self.faults_over {
            return Ok(());
        }
        let next = self.rng.random_range(200..2_000);
        self.later(next, What::Thief);
        let key = SecretKey::from_seed(&[THIEF; 32]);
        let (chain, me) = (self.spec.id(), key.public_key().address());
        let richest = self.nodes.iter().max_by_key(|node| node.disk.visible().head().0);
        let account = richest
            .map(|node| node.disk.visible().account(&me))
            .unwrap_or_default();
        if account.balance == Amount::ZERO {
            return Ok(());
        }
        for to in [100_u8, 101] {
            let payload = Payload::Transfer {
                to: SecretKey::from_seed(&[to; 32]).public_key().address(),
                amount: account.balance,
                memo: Memo::new(Vec::new()).map_err(|error| error.to_string())?,
            };
            let signed = Transaction::sign(chain, account.nonce, payload, &key);
            let signed = CheckedTransaction::check(signed, chain).map_err(|error| error.to_string())?;
            let node = self.rng.random_range(0..self.nodes.len());
            if self.woken_at(node).is_none() {
                let token = self.next;
                self.step(node, Event::Submit(token, vec![signed]))?;
            }
        }
        Ok(())
    }

    pub(super) fn submitted(&mut self, token: u64, accepted: bool) {
        let Some((number, id)) = self.tokens.remove(&token).filter(|_| accepted) else {
            return;
        };
        self.accepted.entry(id).or_insert(self.now);
        if let Some(client) = usize::try_from(number)
            .ok()
            .and_then(|place| self.clients.get_mut(place))
            && client.waiting.as_ref().is_some_and(|waiting| waiting.id() == id)
        {
            client.waiting = None;
            client.nonce = client.nonce.saturating_add(1);
        }
    }
}
