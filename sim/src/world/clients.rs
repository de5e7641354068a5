//! Who sends transactions, and remembers which were accepted.

use super::{What, World};
use block_chain_common::quantity::Nonce;
use block_chain_common::transaction::{CheckedTransaction, Payload, RecordKey, RecordValue, Transaction};
use block_chain_worker::machine::Event;
use rand::Rng as _;

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
            let payload = Payload::Put {
                key: RecordKey::new(format!("{number}/{}", client.nonce % 7).into_bytes())
                    .map_err(|error| error.to_string())?,
                value: RecordValue::new(client.nonce.to_le_bytes().to_vec())
                    .map_err(|error| error.to_string())?,
            };
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
