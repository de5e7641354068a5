//! Blocks of stake: whether this worker may use the slot that it is, and when its next one comes.

use super::{ChainRead, Machine};
use crate::storage::StorageError;
use block_chain_common::block::current_draw;
use block_chain_common::double_block::{DoubleBlock, made_for};
use block_chain_common::header::{Header, Proof};
use block_chain_common::keys::Signature;
use block_chain_common::quantity::Timestamp;
use block_chain_common::stake::{decided_at, slot_at};
use block_chain_common::vrf;

/// Blocks of stake that are remembered by their slots and producers: some minutes of the shortest slots.
const MAX_SEEN: usize = 1_024;

/// What a worker may do in the slot that it is.
pub(super) enum Turn {
    /// Make a block, with this proof but for its signature.
    Now(Box<Proof>),
    /// Wait for another slot.
    Wait,
    /// It is not drawn in this epoch.
    Never(String),
}

impl Machine {
    /// Whether a block is one too many of its producer for its slot. Of two, the one that came first counts here, until the
    /// other is committed; both are kept.
    pub(super) fn is_one_too_many(&mut self, header: &Header) -> bool {
        let Some((producer, slot)) = made_for(header) else {
            return false;
        };
        let seen = &mut self.mining.seen;
        let Some(first) = seen.get(&(slot, producer)) else {
            if seen.len() >= MAX_SEEN {
                seen.pop_first();
            }
            seen.insert((slot, producer), header.clone());
            return false;
        };
        match DoubleBlock::check(first.clone(), header.clone()) {
            Ok(double) => {
                self.mining.doubles.push(double);
                self.agreement.required_block().is_none()
            }
            Err(_) => false,
        }
    }

    /// The proof of a block that this worker may make now.
    pub(super) fn turn<R: ChainRead>(&mut self, read: &R, now: Timestamp) -> Result<Turn, StorageError> {
        let interval = self.spec.spec().block_interval_ms;
        let slot = slot_at(now, interval);
        // What an earlier life of this process did in its first slot is not known any more.
        let last = *self.mining.last_slot.get_or_insert(slot);
        if slot <= last || slot <= self.tip.last_slot(interval) {
            return Ok(Turn::Wait);
        }
        if self
            .mining
            .draw
            .as_ref()
            .is_none_or(|(head, _)| *head != self.tip.hash)
        {
            self.mining.draw = current_draw(read)?.map(|draw| (self.tip.hash, draw));
        }
        let Some((_, draw)) = &self.mining.draw else {
            return Ok(Turn::Never("the chain has no draw".to_owned()));
        };
        let me = self.me.address();
        if !draw.includes(&me) {
            return Ok(Turn::Never(format!(
                "{me} has no stake in this epoch; stake --amount N gives it some, which counts from the epoch after the next on"
            )));
        }
        let decided = decided_at(self.tip.height.next());
        let is_decided = decided.get() == 0 || self.agreement.final_size() > decided.get();
        // While nobody has stake everybody may, but only the leader does without being asked.
        let is_mine = match draw.producer(slot) {
            Some(producer) => producer == me,
            None => !self.mining.waiters.is_empty() || self.agreement.leading(&self.me).is_some(),
        };
        if !is_decided || !is_mine {
            return Ok(Turn::Wait);
        }
        let (vrf_proof, _) = vrf::prove(&self.key, &draw.input(&self.spec.id(), slot));
        Ok(Turn::Now(Box::new(Proof::Stake {
            key: self.me,
            slot,
            vrf_proof,
            signature: Signature::from_bytes([0; 64]),
        })))
    }
}
