//! The thread that owns the machine and writes the store.

use super::handle::{Command, MinedBlock, NodeEvent, RequestError, Shared};
use super::link::ToCoordinator;
use super::now;
use super::progress::Progress;
use crate::api::types::{Accepted, Mining, Status, Stopped};
use crate::identity::{EVIDENCE, write_private};
use crate::machine::{Effect, Event, FoundNonce, Known, Machine, Mined, Token, Write};
use crate::miner::{Puzzle, Search};
use crate::net::Network;
use crate::storage::StorageError;
use block_chain_common::block::BlockTemplate;
use block_chain_common::double_block::DoubleBlock;
use block_chain_common::evidence::Evidence;
use block_chain_common::header::Proof;
use block_chain_common::quantity::Height;
use block_chain_common::work::{Target, Work};
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

/// Inputs whose writes share one sync.
const GROUP: usize = 512;
/// How long a peer that broke a rule is left alone.
const BAN: Duration = Duration::from_secs(60);
/// How long nothing is written before the store is settled.
const IDLE: Duration = Duration::from_secs(3);

/// How long nothing comes before time passes in longer steps.
const QUIET_AFTER: Duration = Duration::from_secs(3);

/// What the chain's thread works on.
pub(crate) enum Input {
    /// For the machine; the permit bounds what waits, and is given back when it is done.
    Event(Event, Option<OwnedSemaphorePermit>),
    /// From a user.
    Command(Command),
}

enum Reply {
    Submitted(oneshot::Sender<Result<Accepted, RequestError>>),
    Mined(oneshot::Sender<Result<MinedBlock, RequestError>>),
}

struct Searching {
    search: Search,
    height: Height,
    expected: Work,
}

/// The thread's own.
pub(crate) struct ChainThread {
    pub(crate) machine: Machine,
    pub(crate) shared: Arc<Shared>,
    pub(crate) network: Network,
    pub(crate) inputs: mpsc::UnboundedReceiver<Input>,
    /// For the miner's threads to tell what they found.
    pub(crate) found: mpsc::UnboundedSender<Input>,
    pub(crate) coordinator: mpsc::UnboundedSender<ToCoordinator>,
    pub(crate) mining_threads: NonZeroUsize,
}

struct Running {
    thread: ChainThread,
    replies: HashMap<Token, Reply>,
    next_token: Token,
    searching: Option<Searching>,
    /// Until the store was settled after it.
    last_write: Option<Instant>,
    /// When something else came last than that time passes, or what the coordinator says all the time.
    last_news: Instant,
    progress: Progress,
}

impl ChainThread {
    /// Works until it is told to stop.
    ///
    /// # Errors
    /// Where the store fails: what the machine believes may then not be on disk, so the node must stop.
    pub(crate) fn run(self) -> Result<(), StorageError> {
        Running {
            thread: self,
            replies: HashMap::new(),
            next_token: 0,
            searching: None,
            last_write: None,
            last_news: Instant::now(),
            progress: Progress::default(),
        }
        .run()
    }
}

impl Running {
    fn run(mut self) -> Result<(), StorageError> {
        let ended = self.work();
        if let Err(error) = &ended {
            // Before the replies are dropped: whoever waits for one is told why there is none.
            self.thread.shared.failure.get_or_init(|| error.clone());
        }
        ended
    }

    fn work(&mut self) -> Result<(), StorageError> {
        let mut group = Vec::with_capacity(GROUP);
        while self.thread.inputs.blocking_recv_many(&mut group, GROUP) > 0 {
            let (mut effects, mut wrote) = (Vec::new(), false);
            // Held until everything of the group is done.
            let mut permits = Vec::new();
            for input in group.drain(..) {
                if !matches!(input, Input::Event(Event::Tick | Event::View(_), _)) {
                    self.last_news = Instant::now();
                }
                let event = match input {
                    Input::Event(event, permit) => {
                        permits.extend(permit);
                        event
                    }
                    Input::Command(Command::Stop) => {
                        self.thread.shared.store.sync()?;
                        return self.thread.shared.store.settle_and_wait();
                    }
                    Input::Command(command) => match self.begin(command)? {
                        Some(event) => event,
                        None => continue,
                    },
                };
                wrote |= self.step(event, &mut effects)?;
            }
            if wrote {
                self.thread.shared.store.sync()?;
                self.last_write = Some(Instant::now());
            } else if self.last_write.is_some_and(|last| last.elapsed() > IDLE) {
                self.last_write = None;
                self.thread.shared.store.settle()?;
            }
            for effect in effects {
                self.perform(effect);
            }
            self.thread.shared.steps.fetch_add(1, Ordering::Relaxed);
            self.publish_status();
        }
        Ok(())
    }

    /// Steps until there is nothing more to do at once; whether anything was written.
    fn step(&mut self, event: Event, effects: &mut Vec<Effect>) -> Result<bool, StorageError> {
        let (mut next, mut wrote) = (Some(event), false);
        while let Some(event) = next.take() {
            let store = &self.thread.shared.store;
            let output = self.thread.machine.step(store, now(), event)?;
            if !output.writes.is_empty() {
                store.apply(&output.writes)?;
                self.mirror(&output.writes);
                wrote = true;
            }
            effects.extend(output.effects);
            if output.again {
                next = Some(Event::Continue);
            }
        }
        Ok(wrote)
    }

    /// Keeps the readers' copy of the mempool as the store's.
    fn mirror(&self, writes: &[Write]) {
        let mut mempool = self
            .thread
            .shared
            .mempool
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        for write in writes {
            self.thread.shared.seen.note(write);
            match write {
                Write::MempoolAdd {
                    sequence,
                    transaction,
                } => mempool.add(*sequence, transaction.clone()),
                Write::MempoolRemove { sequence } => mempool.remove(*sequence),
                _ => {}
            }
        }
    }

    fn begin(&mut self, command: Command) -> Result<Option<Event>, StorageError> {
        self.next_token = self.next_token.wrapping_add(1);
        let token = self.next_token;
        Ok(match command {
            Command::Submit { transactions, reply } => {
                self.replies.insert(token, Reply::Submitted(reply));
                Some(Event::Submit(token, transactions))
            }
            Command::NextNonce { address, reply } => {
                let nonce = self
                    .thread
                    .machine
                    .next_nonce(&self.thread.shared.store, &address)?;
                answer(reply, Ok(nonce));
                None
            }
            Command::Mine { reply } => {
                self.replies.insert(token, Reply::Mined(reply));
                Some(Event::Mine(token))
            }
            Command::StopMining => {
                // Whose receiver is gone no longer waits.
                let gone = |reply: &Reply| matches!(reply, Reply::Mined(reply) if reply.is_closed());
                let gone: Vec<Token> = self
                    .replies
                    .iter()
                    .filter(|(_, r)| gone(r))
                    .map(|(t, _)| *t)
                    .collect();
                for token in &gone {
                    self.replies.remove(token);
                }
                Some(Event::StopMining(gone))
            }
            // The router answers these itself.
            Command::Hashes { .. } | Command::Fetch { .. } | Command::Leave { .. } | Command::Stop => None,
        })
    }

    fn perform(&mut self, effect: Effect) {
        let network = &self.thread.network;
        match effect {
            Effect::Send(peer, message) => {
                if !network.send(&peer, &message) {
                    tracing::debug!(%peer, "a message was not taken");
                }
            }
            Effect::Broadcast(message) => network.broadcast(&message),
            Effect::Drop(peer, reason) => network.drop_peer(&peer, &reason, BAN),
            Effect::Submitted(token, result) => self.submitted(token, result),
            Effect::Search(template) => self.search(&template),
            Effect::StopSearch => self.searching = None,
            Effect::Mined(tokens, result) => self.mined(&tokens, &result),
            Effect::Commit(request) => self.tell_coordinator(ToCoordinator::Commit(request)),
            Effect::Cosign(size, note) => self.tell_coordinator(ToCoordinator::Cosign(size, note)),
            Effect::Head(height, hash) => self.event(NodeEvent::Head { height, hash }),
            Effect::CommittedTo(size) => self.event(NodeEvent::Committed { size }),
            Effect::FinalTo(size) => self.event(NodeEvent::Final { size }),
            Effect::Evidence(evidence) => self.keep_evidence(&evidence),
            Effect::DoubleBlock(double) => self.keep_double_block(&double),
        }
    }

    fn keep_evidence(&self, evidence: &Evidence) {
        let (text, reason) = (evidence.to_text(), evidence.reason.as_str());
        let path = self.thread.shared.data_dir.join(EVIDENCE);
        match write_private(&path, text.as_bytes()) {
            Ok(()) => {
                tracing::error!(file = %path.display(), reason, "the coordinator contradicts itself: this worker agrees to nothing more");
            }
            Err(error) => {
                tracing::error!(%error, text, "the coordinator contradicts itself, and the evidence cannot be kept");
            }
        }
        let status = &self.thread.shared.status;
        status.write().unwrap_or_else(PoisonError::into_inner).stopped = Some(Stopped::by(evidence, &path));
    }

    /// In a file for each producer and slot: a producer can fill a disk with none of them, since its next stake is the price.
    fn keep_double_block(&self, double: &DoubleBlock) {
        let (producer, slot) = (double.producer(), double.slot());
        let name: String = producer.to_string().chars().take(16).collect();
        let path = self
            .thread
            .shared
            .data_dir
            .join(format!("double-{slot}-{name}.txt"));
        tracing::warn!(%producer, slot, file = %path.display(), "a producer has made two blocks for one slot; verify judges the file");
        if let Err(error) = write_private(&path, double.to_text().as_bytes()) {
            tracing::error!(%error, "the evidence of two blocks for one slot cannot be kept");
        }
    }

    fn submitted(
        &mut self,
        token: Token,
        result: Result<Vec<(block_chain_common::hash::TxId, Known)>, crate::machine::MempoolError>,
    ) {
        let Some(Reply::Submitted(reply)) = self.replies.remove(&token) else {
            return;
        };
        let accepted = result
            .map_err(|error| RequestError::Refused(error.to_string()))
            .map(|answers| Accepted {
                count: answers.len(),
                known: answers
                    .iter()
                    .filter(|(_, known)| *known == Known::Before)
                    .count(),
                transaction_ids: answers.into_iter().map(|(id, _)| id).collect(),
                status: Status::Pending,
            });
        if accepted.is_ok() {
            let (count, _) = self.thread.machine.mempool_size();
            self.event(NodeEvent::Pending { count });
        }
        answer(reply, accepted);
    }

    fn mined(&mut self, tokens: &[Token], result: &Result<Mined, String>) {
        for token in tokens {
            if let Some(Reply::Mined(reply)) = self.replies.remove(token) {
                let mined = result.clone().map_err(RequestError::Refused);
                answer(
                    reply,
                    mined.map(|m| MinedBlock {
                        hash: m.hash,
                        elapsed_ms: m.elapsed_ms,
                        attempts: m.attempts,
                    }),
                );
            }
        }
    }

    fn search(&mut self, template: &BlockTemplate) {
        self.searching = None;
        let Proof::Work { bits, .. } = template.header.proof else {
            return;
        };
        let Ok(target) = Target::from_bits(bits) else {
            return;
        };
        let digest = template.header.digest_without_proof();
        let found = self.thread.found.clone();
        let puzzle = Puzzle {
            digest,
            bits,
            target: target.to_be_bytes(),
        };
        let started = Search::start(puzzle, self.thread.mining_threads, move |result| {
            let Some(result) = result else { return };
            let elapsed_ms = u64::try_from(result.elapsed.as_millis()).unwrap_or(u64::MAX);
            let found_nonce = FoundNonce {
                digest,
                nonce: result.nonce,
                attempts: result.attempts,
                elapsed_ms,
            };
            if found.send(Input::Event(Event::Found(found_nonce), None)).is_err() {
                tracing::debug!("a nonce was found after the node stopped");
            }
        });
        match started {
            Ok(search) => {
                let height = template.header.height;
                self.searching = Some(Searching {
                    search,
                    height,
                    expected: target.work(),
                });
            }
            Err(error) => tracing::error!(%error, "cannot start the search for a block"),
        }
    }

    fn tell_coordinator(&self, request: ToCoordinator) {
        if self.thread.coordinator.send(request).is_err() {
            tracing::debug!("the coordinator's link has ended");
        }
    }

    fn event(&self, event: NodeEvent) {
        if self.thread.shared.events.send(event).is_err() {
            tracing::trace!("nobody listens to events");
        }
    }

    fn publish_status(&mut self) {
        let (height, head) = self.thread.machine.head();
        let (count, bytes) = self.thread.machine.mempool_size();
        let target = self.thread.machine.syncing_to();
        let syncing = self.progress.observe(height, target, Instant::now());
        let store = &self.thread.shared.store;
        let mining = self.searching.as_ref().map(|searching| Mining {
            height: searching.height,
            attempts: searching.search.attempts(),
            expected: u64::try_from(searching.expected.to_u128()).unwrap_or(u64::MAX),
            elapsed_ms: u64::try_from(searching.search.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        let connected = self.thread.network.connected();
        let peers = connected.len();
        *self
            .thread
            .shared
            .connected
            .write()
            .unwrap_or_else(PoisonError::into_inner) = connected;
        let mut status = self
            .thread
            .shared
            .status
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        (status.height, status.head) = (height, head);
        (status.mempool_count, status.mempool_bytes) = (count, bytes);
        status.committed_size = store.committed().map_or(0, |checkpoint| checkpoint.size);
        status.final_size = store.final_checkpoint().map_or(0, |checkpoint| checkpoint.size);
        status.syncing_to = syncing.as_ref().map(|syncing| syncing.to);
        status.syncing = syncing;
        status.mining = mining.filter(|mining| mining.height > height);
        status.peers = peers;
        // Also one whose blocks are not all final waits for something.
        let is_busy = count > 0
            || status.syncing.is_some()
            || status.final_size <= height.get()
            || self.searching.is_some()
            || !self.replies.is_empty()
            || self.last_news.elapsed() < QUIET_AFTER;
        self.thread.shared.quiet.store(!is_busy, Ordering::Relaxed);
    }
}

/// Answers; whoever asked may be gone.
fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    if reply.send(value).is_err() {
        tracing::debug!("an answer is no longer waited for");
    }
}
