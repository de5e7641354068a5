//! The link to the coordinator: heartbeats, what it says of the chain's network, commits and cosignatures.

use super::chain_thread::Input;
use super::handle::{NodeEvent, NodeHandle, RequestError, Shared};
use super::liveness::Liveness;
use super::{clock, now};
use crate::coordinator::{CoordinatorClient, CoordinatorError};
use crate::identity::{CHAIN_KEYS, write_private};
use crate::machine::{CommitOutcome, Event, claim};
use crate::net::{Network, PeerAddress};
use block_chain_common::codec::decode;
use block_chain_common::coordinator_api::{ChainView, CommitRequest, CosignRequest, Heartbeat};
use block_chain_common::finality::{Waiting, waiting};
use block_chain_common::quantity::{Height, Timestamp};
use block_chain_common::transaction::Transaction;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex, Notify, mpsc, oneshot};
use uuid::Uuid;

/// Between heartbeats, until the coordinator says how often.
const FIRST_HEARTBEAT: Duration = Duration::from_secs(1);
/// Before listening for events again after the stream ended.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// What the chain's thread and users ask of the coordinator.
pub(crate) enum ToCoordinator {
    Commit(Box<CommitRequest>),
    Cosign(u64, String),
    Leave(oneshot::Sender<Result<bool, RequestError>>),
}

/// The link.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) shared: Arc<Shared>,
    pub(super) client: CoordinatorClient,
    pub(super) network: Network,
    pub(super) chain: mpsc::UnboundedSender<Input>,
    pub(super) worker: Uuid,
    pub(super) chain_name: String,
    pub(super) api: String,
    pub(super) news: Arc<Notify>,
    /// Whether the worker has left. Held during a heartbeat, so that none can arrive after the leaving and undo it.
    pub(super) left: Arc<Mutex<bool>>,
    pub(super) liveness: Arc<Liveness>,
    /// Held while what the coordinator has signed is put on the chain; why it was not, the last time.
    pub(super) carrying: Arc<Mutex<String>>,
}

impl Link {
    /// Heartbeats: every so often, and when there is news.
    pub(super) async fn heartbeats(self) {
        let mut pause = FIRST_HEARTBEAT;
        let mut told = Vec::new();
        loop {
            let left = self.left.lock().await;
            if *left {
                return;
            }
            if let Err(reason) = self.liveness.show(&self.shared).await {
                drop(left);
                self.cannot_work(reason, &mut told);
                tokio::time::sleep(pause).await;
                continue;
            }
            let beat = self.beat(false).await;
            drop(left);
            match beat {
                Ok(view) => {
                    pause = Duration::from_millis(view.heartbeat_ms.clamp(100, 60_000));
                    self.take(view);
                    told.clear();
                }
                Err(error) => {
                    self.lost(&error, &mut told);
                    if is_unknown(&error) {
                        self.register_again().await;
                    } else if is_behind(&error)
                        && let Err(error) = self.claim().await
                    {
                        tracing::warn!(%error, "the coordinator does not take what this worker shows");
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.news.notified() => {}
            }
        }
    }

    /// Compares clocks, and says so once where they are apart.
    fn compare_clocks(&self, asked: Timestamp, view: &ChainView) {
        let offset = clock::offset_ms(asked, view.time, now());
        let mut status = self.shared.status.write().unwrap_or_else(PoisonError::into_inner);
        let before = status.clock_offset_ms.replace(offset).and_then(clock::complaint);
        drop(status);
        match (before, clock::complaint(offset)) {
            (None, Some(complaint)) => tracing::warn!("{complaint}"),
            (Some(_), None) => tracing::info!("this machine's clock agrees with the coordinator's again"),
            _ => {}
        }
    }

    /// Another is to lead: this node stops. No heartbeat follows.
    pub(super) async fn step_down(&self) {
        let mut left = self.left.lock().await;
        if !std::mem::replace(&mut *left, true)
            && let Err(error) = self.beat(true).await
        {
            tracing::debug!(%error, "the coordinator is not told that this node stops");
        }
    }

    /// A lease is for who can do a leader's work: without it no heartbeat is sent.
    fn cannot_work(&self, reason: String, told: &mut Vec<String>) {
        if told.last() != Some(&reason) {
            tracing::error!(reason, "no heartbeat is sent");
            told.push(reason.clone());
        }
        self.waits(reason, Some("look at this machine's disk".to_owned()));
    }

    /// Nothing becomes final, for a reason that lies between this node and the coordinator.
    fn waits(&self, reason: String, hint: Option<String>) {
        let mut status = self.shared.status.write().unwrap_or_else(PoisonError::into_inner);
        status.waiting = Some(Waiting {
            reason,
            missing: Vec::new(),
            needed: 1,
            hint,
        });
    }

    async fn beat(&self, stepping_down: bool) -> Result<ChainView, CoordinatorError> {
        let store = &self.shared.store;
        let (height, head) = store.head();
        let checkpoint_size = store.committed().map_or(0, |checkpoint| checkpoint.size);
        let beat = Heartbeat {
            chain: self.chain_name.clone(),
            height,
            head,
            committed: Height::new(checkpoint_size.saturating_sub(1)),
            term: store.term(),
            checkpoint_size,
            addresses: self
                .network
                .local_addresses()
                .iter()
                .map(ToString::to_string)
                .collect(),
            api: Some(self.api.clone()),
            stepping_down,
        };
        let asked = now();
        let view = self.client.heartbeat(self.worker, &beat).await?;
        self.compare_clocks(asked, &view);
        Ok(view)
    }

    fn take(&self, view: ChainView) {
        let peers = view.members.iter().map(|member| PeerAddress {
            key: member.public_key,
            addresses: member
                .addresses
                .iter()
                .filter_map(|address| address.parse().ok())
                .collect(),
        });
        self.network.set_directory(peers.collect());
        {
            let mut status = self.shared.status.write().unwrap_or_else(PoisonError::into_inner);
            status.server_reachable = true;
            status.leader_id = view.leader.as_ref().map(|leader| leader.worker_id);
            status.term = view.term;
            status.is_leader = status.leader_id == Some(self.worker);
            status.members = view.members.len();
            status.waiting = waiting(&view, status.height);
        }
        self.keep_keys(&view);
        if view.orders > 0 {
            tokio::spawn(self.clone().carry_orders(view.orders));
        }
        let mut known = self.shared.view.write().unwrap_or_else(PoisonError::into_inner);
        let leader_of = |view: &ChainView| view.leader.as_ref().map(|leader| leader.worker_id);
        let news = known
            .as_ref()
            .is_none_or(|k| leader_of(k) != leader_of(&view) || k.members.len() != view.members.len());
        *known = Some(view.clone());
        drop(known);
        if news && self.shared.events.send(NodeEvent::Members).is_err() {
            tracing::trace!("nobody listens to events");
        }
        self.tell(Event::View(Box::new(view)));
    }

    /// Puts what the coordinator has signed on the chain, where the chain and what waits lack it.
    async fn carry_orders(self, there: u64) {
        let node = NodeHandle(Arc::clone(&self.shared));
        let Ok(mut told) = self.carrying.try_lock() else {
            return;
        };
        let carried = async {
            let next = node.next_nonce(self.shared.coordinator_key.address()).await?;
            if next.get() >= there {
                return anyhow::Ok(());
            }
            let orders = self.client.orders(&self.chain_name, next.get()).await?;
            let decoded = orders.transactions.iter().map(|text| {
                let bytes = hex::decode(text)?;
                anyhow::Ok(decode::<Transaction>(&bytes)?)
            });
            let decoded = decoded.collect::<anyhow::Result<Vec<_>>>()?;
            if !decoded.is_empty() {
                let accepted = node.submit(decoded).await?;
                tracing::info!(
                    count = accepted.count,
                    "what the coordinator has signed waits for a block"
                );
            }
            Ok(())
        };
        // It is tried with every heartbeat, and said once.
        let failed = carried
            .await
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        if !failed.is_empty() && *told != failed {
            tracing::warn!(
                error = failed,
                "what the coordinator has signed cannot be put on the chain"
            );
        }
        *told = failed;
    }

    /// Keeps the chain's keys where `verify` finds them without a node.
    fn keep_keys(&self, view: &ChainView) {
        let Some(keys) = self.shared.keys_with(view) else {
            return;
        };
        let before = self.shared.view.read().unwrap_or_else(PoisonError::into_inner);
        let same = before.as_ref().and_then(|view| self.shared.keys_with(view)) == Some(keys.clone());
        drop(before);
        let path = self.shared.data_dir.join(CHAIN_KEYS);
        if !same && let Err(error) = write_private(&path, keys.to_text().as_bytes()) {
            tracing::warn!(%error, "the chain's keys cannot be kept");
        }
    }

    fn lost(&self, error: &CoordinatorError, told: &mut Vec<String>) {
        let text = error.to_string();
        if told.last() != Some(&text) {
            tracing::warn!(error = text, "the coordinator");
            told.push(text.clone());
        }
        let mut status = self.shared.status.write().unwrap_or_else(PoisonError::into_inner);
        status.server_reachable = !matches!(error, CoordinatorError::Unreachable { .. });
        drop(status);
        self.waits(text, error.hint());
    }

    /// The coordinator does not know this worker's token: the same key gets the same id, and a new token.
    async fn register_again(&self) {
        match self
            .client
            .register(&self.shared.key, &self.chain_name, None, None)
            .await
        {
            Ok(registration) if registration.worker_id == self.worker => {
                let path = self.shared.data_dir.join("worker.token");
                if let Err(error) = write_private(&path, registration.worker_token.as_bytes()) {
                    tracing::error!(%error, "the worker's new token cannot be kept");
                }
                self.take(registration.view);
            }
            Ok(registration) => {
                tracing::error!(given = %registration.worker_id, own = %self.worker, "this coordinator does not know this worker: it gives it another id");
            }
            Err(error) => tracing::warn!(%error, "cannot register again"),
        }
    }

    /// Shows a coordinator that went back what this worker has, so that an operator can have it go on from there.
    async fn claim(&self) -> anyhow::Result<()> {
        let view = self.client.view(&self.chain_name).await?;
        let old_size = view.checkpoint.map_or(0, |checkpoint| checkpoint.size);
        let store = &self.shared.store;
        let shown = claim(
            &self.chain_name,
            store.term(),
            store.committed(),
            (old_size, store),
        )?;
        let taken = self.client.claim(self.worker, &shown).await?;
        let (terms, blocks) = taken.behind_by;
        tracing::debug!(terms, blocks, "the coordinator was shown what it lacks");
        Ok(())
    }

    /// Listens for events, so that news comes before the next heartbeat.
    pub(super) async fn listen(self) {
        loop {
            let news = Arc::clone(&self.news);
            if let Err(error) = self.client.listen(move || news.notify_one()).await {
                tracing::debug!(%error, "no events");
            }
            tokio::time::sleep(LISTEN_AGAIN).await;
        }
    }

    /// Carries what the machine and users ask to the coordinator, in order.
    pub(super) async fn requests(self, mut requests: mpsc::UnboundedReceiver<ToCoordinator>) {
        while let Some(request) = requests.recv().await {
            match request {
                ToCoordinator::Commit(request) => {
                    let outcome = match self.client.commit(&self.chain_name, &request).await {
                        Ok(answer) => CommitOutcome::Done(answer.checkpoint),
                        Err(CoordinatorError::Refused(error)) => {
                            self.news.notify_one();
                            CommitOutcome::Refused(error.code, error.message)
                        }
                        Err(error) => {
                            tracing::debug!(%error, "no commit");
                            CommitOutcome::Unreachable
                        }
                    };
                    self.tell(Event::Committed(outcome));
                }
                ToCoordinator::Cosign(size, note) => {
                    let answer = self
                        .client
                        .cosign(&self.chain_name, &CosignRequest { size, note })
                        .await;
                    let answer = answer
                        .map_err(|error| tracing::debug!(%error, "no cosignature"))
                        .ok();
                    self.tell(Event::Cosigned(answer));
                }
                ToCoordinator::Leave(reply) => {
                    let mut has_left = self.left.lock().await;
                    let left = self.client.leave(self.worker, &self.chain_name).await;
                    *has_left = left.is_ok();
                    drop(has_left);
                    let left = left
                        .map(|left| left.left)
                        .map_err(|error| RequestError::Unreachable(error.to_string()));
                    if reply.send(left).is_err() {
                        tracing::debug!("nobody waits for the answer");
                    }
                }
            }
        }
    }

    fn tell(&self, event: Event) {
        if self.chain.send(Input::Event(event, None)).is_err() {
            tracing::debug!("the chain's thread has ended");
        }
    }
}

fn is_unknown(error: &CoordinatorError) -> bool {
    matches!(error, CoordinatorError::Refused(error) if error.code == "worker_token" || error.code == "unknown_worker")
}

/// AGR-8: it was restored from an old copy.
fn is_behind(error: &CoordinatorError) -> bool {
    matches!(error, CoordinatorError::Refused(error) if error.code == "coordinator_behind")
}
