//! The link of a chain to the coordinator: what is told in heartbeats, what it says of the chain's network, commits and cosignatures.

use super::chain_thread::Input;
use super::figures;
use super::handle::{NodeEvent, NodeHandle, RequestError, Shared};
use super::liveness::ThreadWatch;
use super::pulse::News;
use crate::coordinator::{CoordinatorClient, CoordinatorError};
use crate::identity::{CHAIN_KEYS, write_private};
use crate::machine::{CommitOutcome, Event, claim};
use crate::net::{Network, PeerAddress, RelayUrl};
use block_chain_common::codec::decode;
use block_chain_common::coordinator_api::{ChainView, CommitRequest, CosignRequest, Heartbeat};
use block_chain_common::finality::{Waiting, waiting};
use block_chain_common::quantity::Height;
use block_chain_common::transaction::Transaction;
use std::sync::{Arc, PoisonError};
use std::time::Instant;
use tokio::sync::{Mutex, mpsc, oneshot};
use uuid::Uuid;

/// What the chain's thread and users ask of the coordinator.
pub(crate) enum ToCoordinator {
    Commit(Box<CommitRequest>),
    Cosign(u64, String),
    Leave(oneshot::Sender<Result<bool, RequestError>>),
}

/// The link of one chain.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) shared: Arc<Shared>,
    pub(super) client: CoordinatorClient,
    pub(super) network: Network,
    pub(super) chain: mpsc::UnboundedSender<Input>,
    pub(super) worker: Uuid,
    pub(super) chain_name: String,
    pub(super) news: Arc<News>,
    /// Whether the worker has left. Held during a heartbeat, so that none can arrive after the leaving and undo it.
    pub(super) left: Arc<Mutex<bool>>,
    pub(super) thread: Arc<ThreadWatch>,
    /// Held while what the coordinator has signed is put on the chain; why it was not, the last time.
    pub(super) carrying: Arc<Mutex<String>>,
    /// What is wrong with the coordinator, as it was said last.
    pub(super) told: Arc<std::sync::Mutex<String>>,
}

impl Link {
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

    /// Whether this was said already; it is from now on.
    fn is_told(&self, text: &str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *told == text;
        text.clone_into(&mut told);
        before
    }

    /// A lease is for who can do a leader's work: without it no heartbeat is sent.
    pub(super) fn cannot_work(&self, reason: String) {
        if !self.is_told(&reason) {
            tracing::error!(chain = self.chain_name, reason, "no heartbeat is sent");
        }
        self.waits(reason, Some("look at this machine's disk".to_owned()));
    }

    /// Whether the chain's thread works; why not.
    pub(super) fn thread_works(&self) -> Result<(), String> {
        self.thread.works(&self.shared, Instant::now())
    }

    /// What the worker has of the chain.
    pub(super) fn heartbeat(&self, stepping_down: bool) -> Heartbeat {
        let store = &self.shared.store;
        let (height, head) = store.head();
        let checkpoint_size = store.committed().map_or(0, |checkpoint| checkpoint.size);
        let coordinator = store.account(&self.shared.coordinator_key.address());
        let status = self.shared.status.read().unwrap_or_else(PoisonError::into_inner);
        Heartbeat {
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
            api: Some(status.api.clone()),
            stepping_down,
            // A store that cannot be read is said by all else that reads it.
            orders: coordinator.map(|account| account.nonce.get()).unwrap_or_default(),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        }
    }

    /// What the coordinator answers to a heartbeat.
    pub(super) async fn heard(&self, answer: Result<ChainView, CoordinatorError>, offset_ms: Option<i64>) {
        match answer {
            Ok(view) => {
                let mut status = self.shared.status.write().unwrap_or_else(PoisonError::into_inner);
                status.clock_offset_ms = offset_ms;
                drop(status);
                self.take(view);
                self.is_told("");
            }
            Err(error) => {
                let text = error.to_string();
                if !self.is_told(&text) {
                    tracing::warn!(chain = self.chain_name, error = text, "the coordinator");
                }
                self.lost(&error);
                if is_behind(&error) {
                    if let Err(error) = self.claim().await {
                        tracing::warn!(%error, "the coordinator does not take what this worker shows");
                    }
                } else if is_unknown_chain(&error) {
                    // It was restored from a copy that is older than the chain, which is defined by its spec alone.
                    match self.client.create_chain(self.shared.spec.spec()).await {
                        Ok(_) => tracing::warn!(
                            chain = self.chain_name,
                            "the coordinator did not know the chain, and has it again"
                        ),
                        Err(error) => tracing::debug!(%error, "the coordinator does not take the chain"),
                    }
                }
            }
        }
    }

    pub(super) fn take(&self, view: ChainView) {
        let peers = view.members.iter().map(|member| PeerAddress {
            key: member.public_key,
            addresses: member
                .addresses
                .iter()
                .filter_map(|address| address.parse().ok())
                .collect(),
        });
        self.network
            .set_relay(relay_url(view.relay.as_deref(), self.client.server()));
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

    /// The coordinator's word is missing, for a reason that the caller has said.
    pub(super) fn lost(&self, error: &CoordinatorError) {
        let mut status = self.shared.status.write().unwrap_or_else(PoisonError::into_inner);
        let is_there = !matches!(
            error,
            CoordinatorError::Unreachable { .. } | CoordinatorError::Certificate { .. }
        );
        status.server_reachable = is_there;
        drop(status);
        self.waits(error.to_string(), error.hint());
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

    /// Tells the coordinator what the blocks hold that it has committed, for its page of figures. It is no matter where it fails.
    async fn tell_figures(self, (old_size, size): (u64, u64)) {
        let (shared, chain) = (Arc::clone(&self.shared), self.chain_name.clone());
        let read = move || figures::of(&shared.store, chain, (old_size, size));
        let told = match tokio::task::spawn_blocking(read).await {
            Ok(Ok(figures)) => self.client.tell_figures(self.worker, &figures).await,
            Ok(Err(error)) => return tracing::debug!(%error, "the figures of blocks cannot be read"),
            Err(error) => return tracing::debug!(%error, "the figures of blocks cannot be read"),
        };
        if let Err(error) = told {
            tracing::debug!(%error, "the coordinator does not take figures");
        }
    }

    /// Carries what the machine and users ask to the coordinator, in order.
    pub(super) async fn requests(self, mut requests: mpsc::UnboundedReceiver<ToCoordinator>) {
        while let Some(request) = requests.recv().await {
            match request {
                ToCoordinator::Commit(request) => {
                    let outcome = match self.client.commit(&self.chain_name, &request).await {
                        Ok(answer) => {
                            let blocks = (request.old_size, request.size);
                            tokio::spawn(self.clone().tell_figures(blocks));
                            CommitOutcome::Done(answer.checkpoint)
                        }
                        Err(CoordinatorError::Refused(error)) => {
                            self.news.of(Some(&self.chain_name));
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

fn is_unknown_chain(error: &CoordinatorError) -> bool {
    matches!(error, CoordinatorError::Refused(error) if error.code == "unknown_chain")
}

/// AGR-8: it was restored from an old copy.
fn is_behind(error: &CoordinatorError) -> bool {
    matches!(error, CoordinatorError::Refused(error) if error.code == "coordinator_behind")
}

/// The relay that a coordinator tells of: a URL, or a port on the host by which this worker reaches that coordinator.
fn relay_url(told: Option<&str>, server: &str) -> Option<RelayUrl> {
    let told = told?;
    let url = match told.strip_prefix(':') {
        Some(port) => {
            let server = url::Url::parse(server).ok()?;
            format!("http://{}:{port}", server.host_str()?)
        }
        None => told.to_owned(),
    };
    let parsed = url.parse();
    parsed
        .inspect_err(|_| tracing::warn!(relay = url, "the coordinator tells of a relay that is none"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::relay_url;

    #[test]
    fn a_relay_is_a_url_or_a_port_of_the_coordinators_host() {
        let table = [
            (None, "http://a:1", None),
            (Some(":7"), "http://10.0.0.1:18000", Some("http://10.0.0.1:7/")),
            (Some(":7"), "https://[::1]:18000", Some("http://[::1]:7/")),
            (
                Some("https://relay.example/"),
                "http://a:1",
                Some("https://relay.example/"),
            ),
            (Some(":x"), "http://a:1", None),
            (Some("nonsense"), "http://a:1", None),
            (Some(":7"), "nonsense", None),
        ];
        for (told, server, expected) in table {
            let found = relay_url(told, server).map(|url| url.to_string());
            assert_eq!(found.as_deref(), expected, "{told:?} {server}");
        }
    }
}
