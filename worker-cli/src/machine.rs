//! The node as a pure state machine: events in, effects out; no disk, network, clock or randomness of its own.
//!
//! ```text
//! Event ──► step ──► writes (one atomic batch, synced first), then effects in order; `again`: step(Continue) next
//! ```
//! Invariants: nothing is sent or answered before the writes of its step are on disk; a block is connected only as a
//! `ConnectedBlock`; a committed block is never disconnected; every queue and table here has a bound. At most one change
//! of the chain happens in a step, so that reads always see the store as the machine believes it to be.

mod agreement;
mod chain;
mod claim;
mod evidence;
mod mempool;
mod mining;
mod overlay;
pub mod read;
mod serve;
mod slots;
mod sync;

pub use agreement::CommitOutcome;
pub use chain::{load_frontier, tip_at};
pub use claim::claim;
pub use mempool::MempoolError;
pub use mining::FoundNonce;
pub use read::{ChainRead, Place, StoredHeader, Write};
pub use serve::serve;

pub use block_chain_common::peer_message::Message;

use crate::storage::StorageError;
use agreement::Agreement;
use block_chain_common::agreement::SafetyRule;
use block_chain_common::block::{BlockTemplate, ChainTip, CheckedBlock, CheckedHeader};
use block_chain_common::chain_spec::CheckedSpec;
use block_chain_common::coordinator_api::{ChainView, CheckpointView, CommitRequest};
use block_chain_common::double_block::DoubleBlock;
use block_chain_common::evidence::Evidence;
use block_chain_common::hash::{BlockHash, TxId};
use block_chain_common::keys::{Address, PublicKey, SecretKey};
use block_chain_common::quantity::{Height, Nonce, Term, Timestamp};
use block_chain_common::state::LatticeHash;
use block_chain_common::transaction::CheckedTransaction;
use chain::Tree;
use mempool::Mempool;
use mining::Mining;
use std::sync::Arc;
use sync::Sync;

/// Names the asker of a request, so that the answer finds it.
pub type Token = u64;

/// What happens to a node.
#[derive(Debug)]
pub enum Event {
    /// A peer is connected.
    PeerUp(PublicKey),
    /// A peer is gone.
    PeerDown(PublicKey),
    /// A peer said something that needs no checking of signatures.
    Message(PublicKey, Message),
    /// Headers from a peer, each valid in itself, in order.
    Headers(PublicKey, Vec<CheckedHeader>),
    /// A block from a peer, valid in itself.
    Block(PublicKey, Box<CheckedBlock>),
    /// Transactions from a peer, valid in themselves.
    Transactions(PublicKey, Vec<CheckedTransaction>),
    /// Transactions from a user of this node: all or none.
    Submit(Token, Vec<CheckedTransaction>),
    /// A user asks for a block now.
    Mine(Token),
    /// The user no longer waits.
    StopMining(Vec<Token>),
    /// The search found a nonce.
    Found(FoundNonce),
    /// What the coordinator says.
    View(Box<ChainView>),
    /// What became of a commit.
    Committed(CommitOutcome),
    /// The coordinator's answer to a cosignature; `None` where there was none.
    Cosigned(Option<CheckpointView>),
    /// Time passes: about ten times a second.
    Tick,
    /// The step before has more to do.
    Continue,
}

/// What the driver is to do, in order, after the step's writes are on disk.
#[derive(Debug)]
pub enum Effect {
    /// Send to one peer.
    Send(PublicKey, Message),
    /// Send to every connected peer.
    Broadcast(Message),
    /// Close the connection to a peer that broke a rule, and do not answer it for a while.
    Drop(PublicKey, String),
    /// Answer a submission.
    Submitted(Token, Result<Vec<(TxId, Known)>, MempoolError>),
    /// Search for this block's nonce; a search under way stops.
    Search(Box<BlockTemplate>),
    /// Stop the search under way.
    StopSearch,
    /// Answer everybody who asked for a block.
    Mined(Vec<Token>, Result<Mined, String>),
    /// Ask the coordinator to commit.
    Commit(Box<CommitRequest>),
    /// Give the coordinator this worker's cosignature: blocks covered, and the note with it.
    Cosign(u64, String),
    /// The head changed.
    Head(Height, BlockHash),
    /// Blocks up to a size are committed.
    CommittedTo(u64),
    /// Blocks up to a size are final.
    FinalTo(u64),
    /// Two checkpoints contradict each other: keep both, agree to nothing more, and say so.
    Evidence(Box<Evidence>),
    /// A producer has made two blocks for one slot: keep both, and say so.
    DoubleBlock(Box<DoubleBlock>),
}

/// Whether a submitted transaction was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It was not.
    Before,
    /// It was.
    New,
}

/// A block that this node made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mined {
    /// Its hash.
    pub hash: BlockHash,
    /// How long the search took, in milliseconds.
    pub elapsed_ms: u64,
    /// Nonces tried.
    pub attempts: u64,
}

/// What a step gives.
#[derive(Debug, Default)]
pub struct Output {
    /// One atomic batch, to be on disk before the effects.
    pub writes: Vec<Write>,
    /// In order.
    pub effects: Vec<Effect>,
    /// Whether to step again with [`Event::Continue`] when the writes are visible.
    pub again: bool,
}

/// What a node begins with: its store's last state.
#[derive(Debug)]
pub struct Start {
    /// The chain.
    pub spec: Arc<CheckedSpec>,
    /// The chain's coordinator.
    pub coordinator: PublicKey,
    /// This worker's key.
    pub key: SecretKey,
    /// The head.
    pub tip: ChainTip,
    /// The running hash of the state at the head.
    pub state_hash: LatticeHash,
    /// The newest checkpoint, where there is one.
    pub committed: Option<String>,
    /// Blocks final.
    pub final_size: u64,
    /// The highest term seen.
    pub term: Term,
    /// What waits, in order of arrival.
    pub mempool: Vec<(u64, CheckedTransaction)>,
    /// The contradiction that it has met before: it agrees to nothing more.
    pub evidence: Option<Evidence>,
}

/// The node.
#[derive(Debug)]
pub struct Machine {
    spec: Arc<CheckedSpec>,
    key: SecretKey,
    me: PublicKey,
    tip: ChainTip,
    state_hash: LatticeHash,
    tree: Tree,
    mempool: Mempool,
    sync: Sync,
    agreement: Agreement,
    mining: Mining,
    clock: Clock,
}

/// Deadlines count by a time that does not go back: the clock's, and all that it was set back by.
#[derive(Debug, Default)]
struct Clock {
    shown: Timestamp,
    set_back_ms: u64,
}

impl Clock {
    fn steady(&mut self, shown: Timestamp) -> Timestamp {
        let back = self.shown.get().saturating_sub(shown.get());
        self.set_back_ms = self.set_back_ms.saturating_add(back);
        self.shown = shown;
        Timestamp::new(shown.get().saturating_add(self.set_back_ms))
    }
}

impl Machine {
    /// Takes up where the store left off.
    #[must_use]
    pub fn new(start: Start) -> Self {
        let me = start.key.public_key();
        let mempool = Mempool::restore(start.mempool);
        let agreement = Agreement::new(
            start.spec.id(),
            start.coordinator,
            start.committed,
            start.final_size,
            start.term,
            start.evidence,
        );
        Self {
            spec: start.spec,
            key: start.key,
            me,
            tip: start.tip,
            state_hash: start.state_hash,
            tree: Tree::default(),
            mempool,
            sync: Sync::default(),
            agreement,
            mining: Mining::default(),
            clock: Clock::default(),
        }
    }

    /// For simulations alone: goes on without this rule.
    pub const fn leave_out(&mut self, rule: SafetyRule) {
        self.agreement.leave_out(rule);
    }

    /// One step. The writes of the step before must be visible through `read`.
    ///
    /// # Errors
    /// Where the store cannot be read: the node must stop, since what it knows may be incomplete.
    pub fn step<R: ChainRead>(
        &mut self,
        read: &R,
        now: Timestamp,
        event: Event,
    ) -> Result<Output, StorageError> {
        let mut out = Output::default();
        let now = self.clock.steady(now);
        match event {
            Event::PeerUp(peer) => self.on_peer_up(peer, &mut out),
            Event::PeerDown(peer) => self.sync.on_peer_down(&peer),
            Event::Message(peer, message) => self.on_message(read, now, peer, message, &mut out)?,
            Event::Headers(peer, headers) => self.on_headers(read, now, peer, &headers, &mut out)?,
            Event::Block(peer, block) => self.on_block(read, peer, *block, &mut out)?,
            Event::Transactions(_, transactions) => self.on_transactions(read, transactions, &mut out)?,
            Event::Submit(token, transactions) => self.on_submit(read, token, transactions, &mut out)?,
            Event::Mine(token) => self.on_mine(token, &mut out),
            Event::StopMining(tokens) => self.on_stop_mining(&tokens),
            Event::Found(found) => self.on_found(found, &mut out),
            Event::View(view) => self.on_view(*view, now, &mut out),
            Event::Committed(outcome) => self.on_committed(outcome, now, &mut out),
            Event::Cosigned(view) => self.on_cosigned(view, &mut out),
            Event::Tick => self.on_tick(now, &mut out),
            Event::Continue => {}
        }
        self.advance(read, now, &mut out)?;
        let doubles = std::mem::take(&mut self.mining.doubles).into_iter();
        out.effects
            .extend(doubles.map(|double| Effect::DoubleBlock(Box::new(double))));
        Ok(out)
    }

    /// Does what has become possible: at most one change of the chain.
    fn advance<R: ChainRead>(
        &mut self,
        read: &R,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), StorageError> {
        if let Some(evidence) = self.agreement.evidence() {
            let reason = format!("this worker has stopped: {}", evidence.reason);
            self.give_up_mining(&reason, out);
            return Ok(());
        }
        let wall = self.wall(now);
        let changed = self.adopt_checkpoint(read, now, out)? || self.advance_chain(read, wall, out)?;
        if changed {
            out.again = true;
            return Ok(());
        }
        self.fetch(read, now, out)?;
        self.propose(now, out);
        self.commit(read, now, out)?;
        self.acknowledge_proposal(read, out)?;
        self.drive_mining(read, wall, out)
    }

    /// What the clock shows, of a time that deadlines count by.
    const fn wall(&self, steady: Timestamp) -> Timestamp {
        Timestamp::new(steady.get().saturating_sub(self.clock.set_back_ms))
    }

    /// The head's height and hash.
    #[must_use]
    pub const fn head(&self) -> (Height, BlockHash) {
        (self.tip.height, self.tip.hash)
    }

    /// The nonce of an address's next transaction, those that wait counted.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn next_nonce<R: ChainRead>(&self, read: &R, address: &Address) -> Result<Nonce, StorageError> {
        self.mempool.next_nonce(read, address)
    }

    /// How many transactions wait, and their bytes.
    #[must_use]
    pub fn mempool_size(&self) -> (usize, usize) {
        (self.mempool.count(), self.mempool.bytes())
    }

    /// The height it is catching up to, while it lies behind what it knows of.
    #[must_use]
    pub fn syncing_to(&self) -> Option<Height> {
        self.sync.target(self.tip.height)
    }

    fn on_message<R: ChainRead>(
        &mut self,
        read: &R,
        now: Timestamp,
        peer: PublicKey,
        message: Message,
        out: &mut Output,
    ) -> Result<(), StorageError> {
        match message {
            Message::Status(status) => self.on_status(now, peer, status, out),
            Message::Propose { term, height, block } => self.on_propose(peer, term, height, block),
            Message::Acknowledge(acknowledgement) => self.on_acknowledge(peer, acknowledgement, out),
            Message::Evidence(file) => self.on_evidence(peer, file.as_slice(), out),
            Message::Checkpoint(note) => match std::str::from_utf8(note.as_slice()) {
                Ok(note) => self.on_peer_checkpoint(read, peer, note, out)?,
                Err(_) => out
                    .effects
                    .push(Effect::Drop(peer, "a checkpoint that is not UTF-8".to_owned())),
            },
            Message::NotFound(hashes) => self.sync.on_not_found(&peer, hashes.as_slice()),
            Message::GetMempool => self.send_mempool_ids(peer, out),
            Message::MempoolIds(ids) => self.ask_for_transactions(read, peer, ids.as_slice(), out)?,
            Message::GetTransactions(ids) => self.send_transactions(peer, ids.as_slice(), out),
            // Checked by the driver before they come here, or answered from the store alone.
            Message::Compact { .. }
            | Message::Transactions(_)
            | Message::Headers(_)
            | Message::Block(_)
            | Message::GetHeaders(_)
            | Message::GetBlocks(_)
            | Message::GetHashes(_)
            | Message::Hashes(_) => {}
        }
        Ok(())
    }
}
