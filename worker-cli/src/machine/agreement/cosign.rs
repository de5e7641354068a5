//! Cosigning: a worker's signature under the coordinator's checkpoints, rule AGR-7.

use super::{Known, RETRY_MS, broadcast_note};
use crate::machine::sync::later;
use crate::machine::{Effect, Machine, Output};
use block_chain_common::checkpoint::witness_name;
use block_chain_common::coordinator_api::CheckpointView;
use block_chain_common::note::SignedNote;
use block_chain_common::quantity::Timestamp;

impl Machine {
    /// Whether this worker's cosignature is under a note already.
    pub(super) fn has_cosigned(&self, note: &str) -> bool {
        SignedNote::parse(note)
            .is_ok_and(|note| note.cosigned_by(&witness_name(&self.me), &self.me).is_some())
    }

    /// Gives the coordinator the cosignature that is due, and again until it is taken.
    pub(super) fn send_cosignature(&mut self, now: Timestamp, out: &mut Output) {
        let Some((size, at)) = self.agreement.cosign else {
            return;
        };
        let Some(known) = self
            .agreement
            .committed
            .as_ref()
            .filter(|known| known.checkpoint.size == size)
        else {
            self.agreement.cosign = None;
            return;
        };
        if at > now {
            return;
        }
        out.effects.push(self.cosignature(known, now));
        self.agreement.cosign = Some((size, later(now, RETRY_MS * 2)));
    }

    pub(super) fn cosignature(&self, known: &Known, now: Timestamp) -> Effect {
        let mut note = known.note.clone();
        note.cosign(&witness_name(&self.me), &self.key, self.wall(now).get() / 1_000);
        Effect::Cosign(known.checkpoint.size, note.to_string())
    }

    /// What the coordinator has of the checkpoint now; nothing where it did not answer.
    pub(in crate::machine) fn on_cosigned(&mut self, view: Option<CheckpointView>, out: &mut Output) {
        let Some(view) = view else { return };
        self.agreement.cosign.take_if(|(size, _)| *size <= view.size);
        self.on_checkpoint_note(&view.note, out);
        if view.is_final {
            broadcast_note(&view.note, out);
        }
    }
}
