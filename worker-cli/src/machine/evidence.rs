//! Checkpoints that contradict each other: found here, or shown by a peer. Rule AGR-8.

use super::agreement::Known;
use super::chain::load_frontier;
use super::{ChainRead, Effect, Machine, Message, Output};
use crate::storage::StorageError;
use block_chain_common::checkpoint::Checkpoint;
use block_chain_common::codec::BoundedBytes;
use block_chain_common::evidence::{CoveredHeader, Evidence, Statement, Verdict};
use block_chain_common::hash::Root;
use block_chain_common::history::prove_inclusion;
use block_chain_common::keys::PublicKey;
use block_chain_common::note::SignedNote;
use block_chain_common::quantity::Height;

impl Machine {
    /// A peer's checkpoint: a newer one is taken up, an older one compared with what is committed here.
    pub(super) fn on_peer_checkpoint<R: ChainRead>(
        &mut self,
        read: &R,
        from: PublicKey,
        note: &str,
        out: &mut Output,
    ) -> Result<(), StorageError> {
        if self.agreement.evidence().is_some() {
            // Whoever still agrees to something is told why this worker does not.
            self.send_evidence(from, out);
            return Ok(());
        }
        if self.agreement.says_nothing_new(note) {
            return Ok(());
        }
        let (chain, coordinator) = self.agreement.authority();
        match Checkpoint::verify(note, &chain, &coordinator) {
            Ok((checkpoint, note)) if checkpoint.size < self.agreement.committed_size() => {
                self.compare_older(read, &Known { checkpoint, note }, out)?;
            }
            Ok((checkpoint, note)) => self.on_checkpoint(Known { checkpoint, note }, out),
            Err(error) => out.effects.push(Effect::Drop(from, error.to_string())),
        }
        Ok(())
    }

    /// A checkpoint of the past must be one of this chain's; else the newest one here is shown not to follow it.
    fn compare_older<R: ChainRead>(
        &mut self,
        read: &R,
        older: &Known,
        out: &mut Output,
    ) -> Result<(), StorageError> {
        let Some(newest) = self.agreement.committed().cloned() else {
            return Ok(());
        };
        let size = older.checkpoint.size;
        let Some(index) = size.checked_sub(1) else {
            return Ok(());
        };
        let Some(hash) = read.hash_at(Height::new(index))? else {
            return Ok(());
        };
        if hash == older.checkpoint.block {
            let root = load_frontier(read, size)?.root();
            if root != older.checkpoint.root {
                let reason =
                    format!("the coordinator's root over {size} blocks is not that of this worker's chain");
                self.stop_for(reason, Statement::Own(size, root), &older.note, out);
            }
            return Ok(());
        }
        let covers = newest.checkpoint.size;
        let header = read.header(&hash)?;
        let header = header.ok_or_else(|| StorageError::damaged(format!("block {index} has no header")))?;
        let proof = prove_inclusion(index, covers, read)?;
        let header = CoveredHeader {
            header: header.header,
            proof: proof.into_iter().map(Root::from_bytes).collect(),
        };
        let reason = format!("a checkpoint of {covers} blocks does not follow one of {size}");
        let first = Statement::Note(older.note.to_string());
        self.stop(
            Evidence {
                header: Some(header),
                ..self.contradiction(reason, first, &newest.note)
            },
            out,
        );
        Ok(())
    }

    /// A peer shows that the coordinator has contradicted itself; the signatures alone decide whether it has.
    pub(super) fn on_evidence(&mut self, from: PublicKey, file: &[u8], out: &mut Output) {
        if self.agreement.evidence().is_some() {
            return;
        }
        let judged = std::str::from_utf8(file)
            .map_err(|error| error.to_string())
            .and_then(|text| Evidence::parse(text).map_err(|error| error.to_string()))
            .and_then(|evidence| match evidence.judge() {
                Ok(Verdict::Contradiction { .. }) => Ok(evidence),
                Ok(Verdict::WordOfOne { .. }) => Err("it is the word of one worker".to_owned()),
                Err(error) => Err(error.to_string()),
            });
        match judged {
            Ok(evidence) if (evidence.chain, evidence.coordinator) == self.agreement.authority() => {
                self.stop(evidence, out);
            }
            Ok(_) => out.effects.push(Effect::Drop(
                from,
                "evidence about another coordinator".to_owned(),
            )),
            Err(error) => out.effects.push(Effect::Drop(
                from,
                format!("evidence that proves nothing: {error}"),
            )),
        }
    }

    /// Agrees to nothing more, for what a checkpoint says.
    pub(super) fn stop_for(
        &mut self,
        reason: String,
        first: Statement,
        second: &SignedNote,
        out: &mut Output,
    ) {
        self.stop(self.contradiction(reason, first, second), out);
    }

    fn contradiction(&self, reason: String, first: Statement, second: &SignedNote) -> Evidence {
        let (chain, coordinator) = self.agreement.authority();
        Evidence {
            chain,
            coordinator,
            reason,
            first,
            second: second.to_string(),
            header: None,
        }
    }

    fn stop(&mut self, evidence: Evidence, out: &mut Output) {
        out.effects.push(Effect::Evidence(Box::new(evidence.clone())));
        self.agreement.stop(evidence);
        if let Some(message) = self.evidence_message() {
            out.effects.push(Effect::Broadcast(message));
        }
    }

    pub(super) fn send_evidence(&self, peer: PublicKey, out: &mut Output) {
        if let Some(message) = self.evidence_message() {
            out.effects.push(Effect::Send(peer, message));
        }
    }

    /// What others need not take this worker's word for.
    fn evidence_message(&self) -> Option<Message> {
        let evidence = self.agreement.evidence()?;
        matches!(evidence.first, Statement::Note(_))
            .then(|| BoundedBytes::new(evidence.to_text().into_bytes()).ok())
            .flatten()
            .map(Message::Evidence)
    }
}
