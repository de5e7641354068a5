//! One chain of a node: its machine and store on a thread of its own, its network, its link to the coordinator.

use super::chain_thread::{ChainThread, Input};
use super::chains::OpenChain;
use super::handle::{Command, NodeHandle, Shared};
use super::inbound::{Asked, Inbound};
use super::link::Link;
use super::mirror::MempoolMirror;
use super::pulse::News;
use super::router::Router;
use crate::api::types::Stopped;
use crate::coordinator::CoordinatorClient;
use crate::dump::DumpControl;
use crate::identity::EVIDENCE;
use crate::machine::{ChainRead as _, Event, Machine, Start};
use crate::net::{NetEvent, Network, Port};
use crate::storage::{StorageError, Store, rebuild_where_wanted, remove_scratch};
use anyhow::{Context as _, anyhow};
use block_chain_common::chain_spec::CheckedSpec;
use block_chain_common::evidence::Evidence;
use block_chain_common::keys::{PublicKey, SecretKey};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use uuid::Uuid;

/// How long the chain's thread may take to write what is under way.
const END: Duration = Duration::from_secs(10);

/// What the chains of a node share.
pub(super) struct Common {
    pub(super) worker: Uuid,
    pub(super) name: Option<String>,
    pub(super) servers: Vec<String>,
    pub(super) key: SecretKey,
    pub(super) coordinator_key: PublicKey,
    pub(super) client: CoordinatorClient,
    pub(super) port: Port,
    pub(super) news: Arc<News>,
    /// Told when the node is to stop.
    pub(super) stop: watch::Sender<bool>,
    /// Told when a chain's thread has ended by itself: its store has failed.
    pub(super) failed: mpsc::Sender<(String, StorageError)>,
}

/// What drives an open chain.
pub(super) struct Running {
    pub(super) link: Link,
    pub(super) chain: mpsc::UnboundedSender<Input>,
    network: Network,
    ended: tokio::sync::Mutex<mpsc::Receiver<Result<(), StorageError>>>,
    tasks: Vec<AbortHandle>,
}

/// A chain's replica, opened.
pub(super) struct Replica {
    pub(super) dir: PathBuf,
    pub(super) spec: Arc<CheckedSpec>,
    pub(super) store: Store,
}

impl Replica {
    /// Opens the replica in a directory, or makes it with the chain's first block.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub(super) fn open(dir: &Path, spec: CheckedSpec) -> Result<Self, StorageError> {
        rebuild_where_wanted(dir, &spec)?;
        let store = Store::open(dir, &spec)?;
        if let Err(error) = remove_scratch(dir) {
            tracing::warn!(%error, "what an interrupted check left stays");
        }
        Ok(Self {
            dir: dir.to_owned(),
            spec: Arc::new(spec),
            store,
        })
    }
}

impl Common {
    /// Has a replica take part in its chain's network.
    ///
    /// # Errors
    /// Where its store cannot be read.
    pub(super) fn start(&self, replica: Replica) -> anyhow::Result<OpenChain> {
        let evidence = kept_evidence(&replica.dir)?;
        let (machine, mirror) = self.load(&replica, evidence.as_ref())?;
        // Messages that wait unchecked: eight of the largest blocks.
        let (net_events, from_net) = mpsc::channel(8);
        let network = Network::start(&self.port, replica.spec.id(), net_events);
        let (commands, from_users) = mpsc::channel(1_024);
        let shared = Arc::new(self.share(replica, commands, mirror, evidence.as_ref()));
        let node = NodeHandle(Arc::clone(&shared));
        let dump = DumpControl::new(node.clone());
        let running = self.spawn(&shared, network, machine, (from_net, from_users))?;
        Ok(OpenChain {
            node,
            dump,
            check: Arc::default(),
            running: Some(running),
        })
    }

    fn share(
        &self,
        replica: Replica,
        commands: mpsc::Sender<Command>,
        mirror: MempoolMirror,
        evidence: Option<&Evidence>,
    ) -> Shared {
        let Replica { dir, spec, store } = replica;
        let stopped = evidence.map(|evidence| Stopped::by(evidence, &dir.join(EVIDENCE)));
        let keys = (self.coordinator_key, self.key.clone());
        let mut shared = Shared::new(dir, (store, spec), keys, commands);
        shared.mempool = RwLock::new(mirror);
        let status = shared.status.get_mut().unwrap_or_else(PoisonError::into_inner);
        status.worker_id = self.worker;
        status.name.clone_from(&self.name);
        status.servers.clone_from(&self.servers);
        status.stopped = stopped;
        shared
    }

    fn spawn(
        &self,
        shared: &Arc<Shared>,
        network: Network,
        machine: Machine,
        (from_net, from_users): (mpsc::Receiver<NetEvent>, mpsc::Receiver<Command>),
    ) -> anyhow::Result<Running> {
        shared.network.get_or_init(|| network.clone());
        let name = shared.spec.spec().name.clone();
        let (chain, inputs) = mpsc::unbounded_channel();
        let (to_coordinator, requests) = mpsc::unbounded_channel();
        let asked = Arc::new(Mutex::new(Asked::default()));
        let thread = ChainThread {
            machine,
            shared: Arc::clone(shared),
            network: network.clone(),
            inputs,
            found: chain.clone(),
            coordinator: to_coordinator.clone(),
            mining_threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        };
        let (ended, end) = mpsc::channel(1);
        let (failed, of) = (self.failed.clone(), name.clone());
        std::thread::Builder::new()
            .name("chain".to_owned())
            .spawn(move || {
                let result = thread.run();
                if let Err(error) = &result
                    && failed.blocking_send((of, error.clone())).is_err()
                {
                    tracing::debug!("the node has stopped already");
                }
                if ended.blocking_send(result).is_err() {
                    tracing::debug!("the chain has been left already");
                }
            })?;
        let inbound = Inbound {
            shared: Arc::clone(shared),
            network: network.clone(),
            chain: chain.clone(),
            asked: Arc::clone(&asked),
        };
        let router = Router {
            chain: chain.clone(),
            coordinator: to_coordinator,
            network: network.clone(),
            asked,
            stop: self.stop.clone(),
        };
        let link = Link {
            shared: Arc::clone(shared),
            client: self.client.clone(),
            network: network.clone(),
            chain: chain.clone(),
            worker: self.worker,
            chain_name: name,
            news: Arc::clone(&self.news),
            left: Arc::default(),
            thread: Arc::default(),
            carrying: Arc::default(),
            told: Arc::default(),
        };
        let tasks = vec![
            tokio::spawn(inbound.run(from_net)).abort_handle(),
            tokio::spawn(router.run(from_users)).abort_handle(),
            tokio::spawn(link.clone().requests(requests)).abort_handle(),
        ];
        Ok(Running {
            link,
            chain,
            network,
            ended: tokio::sync::Mutex::new(end),
            tasks,
        })
    }

    fn load(
        &self,
        replica: &Replica,
        evidence: Option<&Evidence>,
    ) -> anyhow::Result<(Machine, MempoolMirror)> {
        let Replica { spec, store, .. } = replica;
        let waiting = match store.mempool() {
            // The chain is not lost with it, and peers have it too.
            Err(error @ StorageError::Damaged(_)) => {
                tracing::error!(%error, "what waits cannot be read: check_consistency --repair makes the store anew");
                Vec::new()
            }
            waiting => waiting.context("cannot read what waits")?,
        };
        let mut mirror = MempoolMirror::default();
        for (sequence, transaction) in &waiting {
            mirror.add(*sequence, transaction.clone());
        }
        let machine = Machine::new(Start {
            spec: Arc::clone(spec),
            coordinator: self.coordinator_key,
            key: self.key.clone(),
            tip: store.tip()?,
            state_hash: store.state_hash()?,
            committed: store.committed().map(|checkpoint| checkpoint.note),
            final_size: store.final_checkpoint().map_or(0, |checkpoint| checkpoint.size),
            term: store.term(),
            mempool: waiting,
            evidence: evidence.cloned(),
        });
        Ok((machine, mirror))
    }
}

impl OpenChain {
    /// Tells the machine that time passes.
    pub(super) fn tick(&self) {
        if let Some(running) = &self.running
            && running.chain.send(Input::Event(Event::Tick, None)).is_err()
        {
            tracing::trace!("the chain's thread has ended");
        }
    }

    /// Ends what is done with the chain, and has its thread write what is under way.
    ///
    /// # Errors
    /// Where the last write fails, or the thread does not end.
    pub(super) async fn end(&self) -> anyhow::Result<()> {
        self.check.cancel();
        self.dump.shutdown().await;
        let Some(running) = &self.running else {
            return Ok(());
        };
        running.network.shutdown().await;
        let mut ended = running.ended.lock().await;
        let told = running.chain.send(Input::Command(Command::Stop));
        let result = match tokio::time::timeout(END, ended.recv()).await {
            // It had ended before.
            _ if told.is_err() => Ok(()),
            Ok(Some(Err(error))) => Err(anyhow::Error::new(error).context("the last write failed")),
            Ok(_) => Ok(()),
            Err(_) => Err(anyhow!("the chain's thread does not end")),
        };
        for task in &running.tasks {
            task.abort();
        }
        result
    }
}

/// The contradiction that this worker has met at some time: it stays stopped until a person has judged it and has moved the
/// file away.
fn kept_evidence(dir: &Path) -> anyhow::Result<Option<Evidence>> {
    let path = dir.join(EVIDENCE);
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let evidence = Evidence::parse(&text).with_context(|| {
        let path = path.display();
        format!("{path} may say that the coordinator contradicts itself, and cannot be read; look at it and move it away")
    })?;
    tracing::error!(file = %path.display(), reason = evidence.reason, "the coordinator has contradicted itself: this worker agrees to nothing until the file is moved away; `verify` judges it");
    Ok(Some(evidence))
}
