//! Agreement: the leader proposes, workers acknowledge what they hold, the coordinator commits, workers cosign.
//!
//! Nothing here reads a clock for safety: terms and the coordinator's compare-and-set decide. Times only say when to ask
//! again. Rules AGR-1 to AGR-8 of the protocol.

mod cosign;

use super::chain::load_frontier;
use super::sync::later;
use super::{ChainRead, Effect, Machine, Message, Output, Write};
use crate::storage::StorageError;
use block_chain_common::agreement::{Acknowledgement, SafetyRule, majority};
use block_chain_common::checkpoint::{Checkpoint, is_final};
use block_chain_common::codec::{BoundedBytes, encode};
use block_chain_common::coordinator_api::{ChainView, CheckpointView, CommitRequest};
use block_chain_common::evidence::{Evidence, Statement};
use block_chain_common::hash::{BlockHash, ChainId, Root};
use block_chain_common::history::prove_consistency;
use block_chain_common::keys::PublicKey;
use block_chain_common::note::SignedNote;
use block_chain_common::quantity::{Height, Term, Timestamp};
use std::collections::BTreeMap;

/// How long to wait before asking again for what was not answered.
const RETRY_MS: u64 = 1_000;
/// How long a committed block may be on its way before the peers are asked whether it follows what is here.
const COMPARE_MS: u64 = 10_000;

/// What became of a commit.
#[derive(Debug, Clone)]
pub enum CommitOutcome {
    /// It is committed.
    Done(CheckpointView),
    /// The coordinator refused it; its code and sentence.
    Refused(String, String),
    /// No coordinator answered.
    Unreachable,
}

#[derive(Debug)]
struct Proposal {
    term: Term,
    height: Height,
    block: BlockHash,
    root: Root,
    acknowledgements: BTreeMap<PublicKey, Acknowledgement>,
    /// When to tell the others again.
    repeat_at: Timestamp,
    /// When to ask the coordinator (again), once there is a majority.
    commit_at: Timestamp,
}

/// A checkpoint whose signature is good.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) checkpoint: Checkpoint,
    pub(super) note: SignedNote,
}

/// Where agreement stands.
#[derive(Debug)]
pub(super) struct Agreement {
    chain: ChainId,
    coordinator: PublicKey,
    view: Option<ChainView>,
    term: Term,
    /// The newest checkpoint that is persisted.
    committed: Option<Known>,
    final_size: u64,
    /// A verified checkpoint that is not adopted yet: newer, or with more cosignatures.
    pending: Option<Known>,
    /// When to tell the peers what is committed here, while a newer checkpoint's block does not come.
    compare_at: Option<Timestamp>,
    proposal: Option<Proposal>,
    /// What the leader has proposed, until it is acknowledged.
    asked: Option<(PublicKey, Term, Height, BlockHash)>,
    /// The size that this worker's cosignature is still to be given for, and when to try again.
    cosign: Option<(u64, Timestamp)>,
    evidence: Option<Evidence>,
    /// The rule that a simulation leaves out.
    left_out: Option<SafetyRule>,
}

impl Agreement {
    pub(super) fn new(
        chain: ChainId,
        coordinator: PublicKey,
        committed: Option<String>,
        final_size: u64,
        term: Term,
        evidence: Option<Evidence>,
    ) -> Self {
        let committed = committed.and_then(|note| Checkpoint::verify(&note, &chain, &coordinator).ok());
        let committed = committed.map(|(checkpoint, note)| Known { checkpoint, note });
        // The answer to the last cosignature may have been lost with the process.
        let cosign = committed
            .as_ref()
            .filter(|known| known.checkpoint.size > final_size);
        let cosign = cosign.map(|known| (known.checkpoint.size, Timestamp::ZERO));
        Self {
            chain,
            coordinator,
            view: None,
            term,
            committed,
            final_size,
            pending: None,
            compare_at: None,
            proposal: None,
            asked: None,
            cosign,
            evidence,
            left_out: None,
        }
    }

    pub(super) const fn leave_out(&mut self, rule: SafetyRule) {
        self.left_out = Some(rule);
    }

    pub(super) fn keeps(&self, rule: SafetyRule) -> bool {
        self.left_out != Some(rule)
    }

    pub(super) fn committed_size(&self) -> u64 {
        self.committed.as_ref().map_or(0, |known| known.checkpoint.size)
    }

    pub(super) const fn final_size(&self) -> u64 {
        self.final_size
    }

    /// The newest checkpoint that is persisted.
    pub(super) const fn committed(&self) -> Option<&Known> {
        self.committed.as_ref()
    }

    /// The chain, and the key whose word counts for it.
    pub(super) const fn authority(&self) -> (ChainId, PublicKey) {
        (self.chain, self.coordinator)
    }

    /// Agrees to nothing more.
    pub(super) fn stop(&mut self, evidence: Evidence) {
        self.evidence = Some(evidence);
    }

    pub(super) const fn evidence(&self) -> Option<&Evidence> {
        self.evidence.as_ref()
    }

    /// The very note that is persisted, and final: it comes with every heartbeat, and was verified once.
    pub(super) fn says_nothing_new(&self, note: &str) -> bool {
        let same = |known: &Known| known.checkpoint.size <= self.final_size && known.note.to_string() == note;
        self.committed.as_ref().is_some_and(same)
    }

    /// The block that the coordinator has committed beyond this worker's chain: every branch must hold it.
    pub(super) fn required_block(&self) -> Option<BlockHash> {
        let pending = self.pending.as_ref().filter(|_| self.keeps(SafetyRule::Lock))?;
        (pending.checkpoint.size > self.committed_size()).then_some(pending.checkpoint.block)
    }

    /// The term, if this worker leads.
    pub(super) fn leading(&self, me: &PublicKey) -> Option<Term> {
        let leader = self.view.as_ref()?.leader.as_ref()?;
        (leader.public_key == *me && leader.term >= self.term).then_some(leader.term)
    }

    fn members(&self) -> Vec<PublicKey> {
        let counting = self.view.iter().flat_map(ChainView::counting);
        counting.map(|member| member.public_key).collect()
    }

    /// How many acknowledgements are enough to ask the coordinator.
    fn needed(&self, members: usize) -> usize {
        if self.keeps(SafetyRule::Majority) {
            majority(members)
        } else {
            1
        }
    }

    fn is_final(&self, note: &SignedNote) -> bool {
        is_final(note, &self.members())
    }

    /// Whether it is the last final checkpoint with the cosignatures that a majority of the members of now needs, which what
    /// was known of it lacks.
    fn is_final_to_more(&self, new: &Known) -> bool {
        let size = new.checkpoint.size;
        let known = self
            .committed
            .as_ref()
            .filter(|known| size == self.final_size && known.checkpoint.size == size);
        known.is_some_and(|known| known.note != new.note && !self.is_final(&known.note))
            && self.is_final(&new.note)
    }
}

impl Machine {
    /// What the coordinator says: its word counts for leader, term and members; its checkpoint is checked like any other.
    pub(super) fn on_view(&mut self, view: ChainView, now: Timestamp, out: &mut Output) {
        if view.term < self.agreement.term && self.agreement.keeps(SafetyRule::Backwards) {
            // A coordinator that went back: it is not followed (AGR-8).
            tracing::error!(found = %view.term, known = %self.agreement.term, "the coordinator's term went backwards: a restored backup?");
            return;
        }
        if view.term > self.agreement.term {
            self.agreement.term = view.term;
            self.agreement.proposal = None;
            out.writes.push(Write::Term(view.term));
        }
        let checkpoint = view.checkpoint.clone();
        self.agreement.view = Some(view);
        if let Some(checkpoint) = checkpoint {
            self.on_checkpoint_note(&checkpoint.note, out);
            // Also where it was final to fewer members than count now: whoever trusts these asks for their cosignatures.
            if checkpoint.size == self.agreement.committed_size()
                && (!checkpoint.is_final || checkpoint.cosignatures < checkpoint.needed)
                && !self.has_cosigned(&checkpoint.note)
            {
                self.agreement.cosign.get_or_insert((checkpoint.size, now));
            }
        }
    }

    /// The coordinator's own word for a checkpoint.
    fn on_checkpoint_note(&mut self, note: &str, out: &mut Output) {
        if self.agreement.says_nothing_new(note) {
            return;
        }
        let (chain, coordinator) = self.agreement.authority();
        match Checkpoint::verify(note, &chain, &coordinator) {
            Ok((checkpoint, note)) => self.on_checkpoint(Known { checkpoint, note }, out),
            Err(error) => tracing::warn!(%error, "the coordinator's checkpoint is refused"),
        }
    }

    /// A checkpoint from a peer or the coordinator; kept if it is newer or has more cosignatures.
    pub(super) fn on_checkpoint(&mut self, new: Known, out: &mut Output) {
        let known = self
            .agreement
            .pending
            .as_ref()
            .or(self.agreement.committed.as_ref());
        let newest = known.map_or(0, |known| known.checkpoint.size);
        let size = new.checkpoint.size;
        if size > newest
            || (size == newest && size > self.agreement.final_size)
            || size == self.agreement.committed_size()
        {
            self.consider(new, out);
        }
    }

    fn consider(&mut self, new: Known, out: &mut Output) {
        let held = [self.agreement.committed.as_ref(), self.agreement.pending.as_ref()];
        let same_size = held
            .into_iter()
            .flatten()
            .find(|known| known.checkpoint.size == new.checkpoint.size);
        if let Some(known) = same_size
            && (known.checkpoint.root != new.checkpoint.root
                || known.checkpoint.block != new.checkpoint.block)
        {
            let reason = format!("two checkpoints of {} blocks differ", new.checkpoint.size);
            let first = Statement::Note(known.note.to_string());
            self.stop_for(reason, first, &new.note, out);
            return;
        }
        if !self.agreement.keeps(SafetyRule::Cosign) && new.checkpoint.size > self.agreement.committed_size()
        {
            out.effects.push(self.cosignature(&new, Timestamp::ZERO));
        }
        let better_pending = self.agreement.pending.as_ref().is_none_or(|pending| {
            pending.checkpoint.size < new.checkpoint.size || self.agreement.is_final(&new.note)
        });
        if better_pending {
            self.agreement.pending = Some(new);
            self.tree.replan();
        }
    }

    /// Persists the pending checkpoint once this worker's chain holds its block; whether anything was written.
    pub(super) fn adopt_checkpoint<R: ChainRead>(
        &mut self,
        read: &R,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<bool, StorageError> {
        let Some(pending) = self.agreement.pending.clone() else {
            return Ok(false);
        };
        let Some(height) = pending.checkpoint.height() else {
            return Ok(false);
        };
        if read.hash_at(height)? != Some(pending.checkpoint.block) {
            return Ok(false);
        }
        let size = pending.checkpoint.size;
        let frontier = if height == self.tip.height {
            self.tip.frontier.clone()
        } else {
            load_frontier(read, size)?
        };
        if frontier.root() != pending.checkpoint.root {
            let reason =
                format!("the coordinator's root over {size} blocks is not that of this worker's chain");
            let first = Statement::Own(size, frontier.root());
            self.stop_for(reason, first, &pending.note, out);
            return Ok(false);
        }
        self.agreement.pending = None;
        let mut wrote = false;
        let note = pending.note.to_string();
        if size > self.agreement.committed_size() {
            out.writes.push(Write::Committed {
                size,
                note: note.clone(),
            });
            out.effects.push(Effect::CommittedTo(size));
            self.agreement
                .proposal
                .take_if(|proposal| proposal.height <= height);
            self.agreement.asked.take_if(|(_, _, asked, _)| *asked <= height);
            if self.agreement.keeps(SafetyRule::Lock) {
                self.tree.prune(read, height)?;
            }
            self.agreement.cosign = Some((size, now));
            wrote = true;
        }
        if size > self.agreement.final_size && self.agreement.is_final(&pending.note) {
            out.writes.push(Write::Final { size, note });
            out.effects.push(Effect::FinalTo(size));
            self.agreement.final_size = size;
            self.agreement.cosign.take_if(|(cosigned, _)| *cosigned <= size);
            wrote = true;
        } else if self.agreement.is_final_to_more(&pending) {
            out.writes.push(Write::Final { size, note });
            wrote = true;
        }
        if size >= self.agreement.committed_size() {
            self.agreement.committed = Some(pending);
        }
        // The cosignature leaves in the same step: effects come after the writes are on disk.
        self.send_cosignature(now, out);
        Ok(wrote)
    }

    pub(super) fn send_checkpoint(&self, peer: PublicKey, out: &mut Output) {
        if let Some(known) = &self.agreement.committed
            && let Ok(note) = BoundedBytes::new(known.note.to_string().into_bytes())
        {
            out.effects.push(Effect::Send(peer, Message::Checkpoint(note)));
        }
    }

    pub(super) fn agreement_tick(&mut self, now: Timestamp, out: &mut Output) {
        if self.agreement.evidence.is_some() {
            return;
        }
        self.send_cosignature(now, out);
        self.ask_whether_it_follows(now, out);
    }

    /// A newer checkpoint whose block does not come may contradict the one here: a peer that holds both blocks' places
    /// sees it, and answers with the evidence.
    fn ask_whether_it_follows(&mut self, now: Timestamp, out: &mut Output) {
        let committed = self.agreement.committed_size();
        let waits = |known: &Known| known.checkpoint.size > committed;
        if committed == 0 || !self.agreement.pending.as_ref().is_some_and(waits) {
            self.agreement.compare_at = None;
            return;
        }
        let due = *self.agreement.compare_at.get_or_insert(later(now, COMPARE_MS));
        if due <= now
            && let Some(known) = &self.agreement.committed
        {
            self.agreement.compare_at = Some(later(now, COMPARE_MS));
            broadcast_note(&known.note.to_string(), out);
        }
    }

    /// As the leader: proposes the head, and asks the coordinator once a majority has acknowledged it (AGR-1, AGR-3).
    pub(super) fn propose(&mut self, now: Timestamp, out: &mut Output) {
        let Some(term) = self.agreement.leading(&self.me) else {
            self.agreement.proposal = None;
            return;
        };
        let (height, block) = (self.tip.height, self.tip.hash);
        if height.get() < self.agreement.committed_size() {
            return;
        }
        // A proposal is kept while its block is on the chain and young; else the head takes its place.
        let current = |p: &Proposal| p.term == term && (p.block == block || p.repeat_at > now);
        if !self.agreement.proposal.as_ref().is_some_and(current) {
            let root = self.tip.frontier.root();
            let mine = Acknowledgement::sign(self.agreement.chain, term, (height, block, root), &self.key);
            let acknowledgements = BTreeMap::from([(self.me, mine)]);
            self.agreement.proposal = Some(Proposal {
                term,
                height,
                block,
                root,
                acknowledgements,
                repeat_at: now,
                commit_at: now,
            });
        }
        if let Some(proposal) = self.agreement.proposal.as_mut()
            && proposal.repeat_at <= now
        {
            proposal.repeat_at = later(now, RETRY_MS);
            let (height, block) = (proposal.height, proposal.block);
            out.effects
                .push(Effect::Broadcast(Message::Propose { term, height, block }));
        }
    }

    /// Asks the coordinator to commit the proposal that a majority holds.
    pub(super) fn commit<R: ChainRead>(
        &mut self,
        read: &R,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), StorageError> {
        let members = self.agreement.members();
        let old_size = self.agreement.committed_size();
        let needed = self.agreement.needed(members.len());
        let Some(proposal) = self.agreement.proposal.as_mut() else {
            return Ok(());
        };
        let held = members
            .iter()
            .filter(|member| proposal.acknowledgements.contains_key(member))
            .count();
        let size = proposal.height.get().saturating_add(1);
        if members.is_empty() || held < needed || proposal.commit_at > now || size <= old_size {
            return Ok(());
        }
        if read.hash_at(proposal.height)? != Some(proposal.block) {
            self.agreement.proposal = None;
            return Ok(());
        }
        proposal.commit_at = later(now, RETRY_MS * 5);
        let proof = prove_consistency(old_size, size, read)?;
        let acknowledgements = proposal
            .acknowledgements
            .values()
            .map(|ack| hex::encode(encode(ack)))
            .collect();
        out.effects.push(Effect::Commit(Box::new(CommitRequest {
            term: proposal.term,
            old_size,
            size,
            block: proposal.block,
            root: proposal.root,
            consistency: proof.into_iter().map(Root::from_bytes).collect(),
            acknowledgements,
        })));
        Ok(())
    }

    pub(super) fn on_committed(&mut self, outcome: CommitOutcome, now: Timestamp, out: &mut Output) {
        match outcome {
            CommitOutcome::Done(view) => {
                self.agreement.proposal = None;
                self.on_checkpoint_note(&view.note, out);
                broadcast_note(&view.note, out);
            }
            CommitOutcome::Refused(code, message) => {
                tracing::warn!(code, message, "the coordinator refuses to commit");
                // The next view says what has changed; until then the proposal waits.
                if let Some(proposal) = self.agreement.proposal.as_mut() {
                    proposal.commit_at = later(now, RETRY_MS);
                }
            }
            CommitOutcome::Unreachable => {
                if let Some(proposal) = self.agreement.proposal.as_mut() {
                    proposal.commit_at = later(now, RETRY_MS);
                }
            }
        }
    }

    pub(super) fn on_propose(&mut self, from: PublicKey, term: Term, height: Height, block: BlockHash) {
        let leader = self.agreement.view.as_ref().and_then(|view| view.leader.as_ref());
        // The coordinator has not told of a later term yet: the proposal is taken, and the coordinator judges the term.
        let is_leader = leader.is_none_or(|leader| leader.term < term || leader.public_key == from);
        if term < self.agreement.term || !is_leader {
            return;
        }
        // The term is not taken over from a peer: one that lies could lock this worker out of the true one.
        self.agreement.asked = Some((from, term, height, block));
    }

    /// Acknowledges what the leader proposed, once it is on this worker's chain, in full and synced (AGR-2).
    pub(super) fn acknowledge_proposal<R: ChainRead>(
        &mut self,
        read: &R,
        out: &mut Output,
    ) -> Result<(), StorageError> {
        let Some((leader, term, height, block)) = self.agreement.asked else {
            return Ok(());
        };
        if read.hash_at(height)? != Some(block) {
            return Ok(());
        }
        self.agreement.asked = None;
        let size = height.get().saturating_add(1);
        if size <= self.agreement.committed_size() {
            return Ok(());
        }
        let frontier = if height == self.tip.height {
            self.tip.frontier.clone()
        } else {
            load_frontier(read, size)?
        };
        let signed = Acknowledgement::sign(
            self.agreement.chain,
            term,
            (height, block, frontier.root()),
            &self.key,
        );
        out.effects
            .push(Effect::Send(leader, Message::Acknowledge(signed)));
        Ok(())
    }

    pub(super) fn on_acknowledge(
        &mut self,
        from: PublicKey,
        acknowledgement: Acknowledgement,
        out: &mut Output,
    ) {
        let chain = self.agreement.chain;
        let is_member = self.agreement.members().contains(&acknowledgement.worker);
        let Some(proposal) = self.agreement.proposal.as_mut() else {
            return;
        };
        let fits = acknowledgement.chain == chain
            && acknowledgement.term == proposal.term
            && acknowledgement.height == proposal.height
            && acknowledgement.block == proposal.block
            && acknowledgement.tree_root == proposal.root;
        if !fits || !is_member || acknowledgement.worker != from {
            return;
        }
        if acknowledgement.verify().is_err() {
            out.effects.push(Effect::Drop(
                from,
                "an acknowledgement with a bad signature".to_owned(),
            ));
            return;
        }
        proposal.acknowledgements.insert(from, acknowledgement);
    }
}

fn broadcast_note(note: &str, out: &mut Output) {
    if let Ok(note) = BoundedBytes::new(note.as_bytes().to_vec()) {
        out.effects.push(Effect::Broadcast(Message::Checkpoint(note)));
    }
}
