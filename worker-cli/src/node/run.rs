//! Starting and stopping a node.

use super::chain_thread::{ChainThread, Input};
use super::handle::{Command, NodeHandle, Shared, first_status};
use super::inbound::{Asked, Inbound};
use super::link::Link;
use super::mirror::MempoolMirror;
use super::router::Router;
use crate::api::ApiServer;
use crate::api::types::{NodeStatus, Stopped};
use crate::coordinator::CoordinatorClient;
use crate::dump::{DatabaseUrl, DumpControl};
use crate::identity::{EVIDENCE, WorkerFile, load_key, read_private};
use crate::machine::{ChainRead as _, Event, Machine, Start};
use crate::net::{NetConfig, NetEvent, Network};
use crate::storage::{StorageError, Store, rebuild_where_wanted};
use anyhow::{Context as _, anyhow};
use block_chain_common::chain_spec::CheckedSpec;
use block_chain_common::evidence::Evidence;
use block_chain_common::keys::SecretKey;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, broadcast, mpsc, watch};

/// How often the machine is told that time passes.
const TICK: Duration = Duration::from_millis(100);

/// How long the chain's thread may take to write what is under way.
const END: Duration = Duration::from_secs(10);

/// How long the coordinator may take to hear that another is to lead.
const STEP_DOWN: Duration = Duration::from_secs(2);

/// What a node is told.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Where everything is.
    pub data_dir: PathBuf,
    /// The coordinators; those of the registration where empty.
    pub servers: Vec<String>,
    /// Where the HTTP interface listens.
    pub api: SocketAddr,
    /// Where peers are listened for.
    pub p2p: SocketAddr,
    /// Copied to from the start, in place of a database that was named to a node that runs.
    pub database: Option<DatabaseUrl>,
}

/// What a start finds and opens, before anything runs.
struct Opened {
    worker: WorkerFile,
    key: SecretKey,
    spec: Arc<CheckedSpec>,
    store: Store,
    client: CoordinatorClient,
    servers: Vec<String>,
}

/// The threads and tasks of a running node.
struct Running {
    link: Link,
    chain: mpsc::UnboundedSender<Input>,
    failed: mpsc::Receiver<Result<(), StorageError>>,
    stopping: watch::Receiver<bool>,
}

/// Runs a node until it is stopped, by a signal or through its interface.
///
/// # Errors
/// Where it cannot start, or its store fails.
pub async fn run(settings: NodeSettings) -> anyhow::Result<()> {
    let opened = open(&settings)?;
    // Messages that wait unchecked: eight of the largest blocks.
    let (net_events, from_net) = mpsc::channel(8);
    let config = NetConfig {
        secret: opened.key.clone(),
        chain: opened.spec.id(),
        bind: settings.p2p,
    };
    let network = Network::start(config, net_events).await?;
    let evidence = kept_evidence(&settings.data_dir)?;
    let (machine, mirror) = load(&opened, evidence.as_ref())?;
    let (commands, from_users) = mpsc::channel(1_024);
    let shared = Arc::new(share(&settings, &opened, commands, mirror));
    if let Some(evidence) = evidence {
        let stopped = Stopped::by(&evidence, &settings.data_dir.join(EVIDENCE));
        let mut status = shared.status.write().unwrap_or_else(PoisonError::into_inner);
        status.stopped = Some(stopped);
    }
    let handle = NodeHandle(Arc::clone(&shared));
    let dump = DumpControl::new(handle.clone());
    let (address, api) = ApiServer::start(handle, dump.clone(), settings.api, &settings.data_dir).await?;
    let url = format!("http://{address}");
    let mut running = spawn(
        &opened,
        &shared,
        &network,
        machine,
        (from_net, from_users),
        url.clone(),
    )?;
    match settings.database {
        Some(url) => dump.keep_copying(url),
        None => dump.resume(),
    }
    tracing::info!(worker = %opened.worker.worker_id, api = url, "the node runs");

    let result = tokio::select! {
        () = wait_for_signal() => Ok(()),
        _ = running.stopping.changed() => Ok(()),
        result = running.failed.recv() => match result {
            Some(Err(error)) => Err(anyhow::Error::new(error).context("the store failed, so the node stops")),
            _ => Err(anyhow!("the chain's thread has ended")),
        },
    };
    // While it still answers its peers: another worker is to lead.
    if tokio::time::timeout(STEP_DOWN, running.link.step_down())
        .await
        .is_err()
    {
        tracing::debug!("the coordinator is not told that this node stops");
    }
    // The interface ends first, so that nobody is answered by half a node; then what is under way is written.
    api.stop().await;
    dump.shutdown().await;
    network.shutdown().await;
    result.and(running.end().await)
}

impl Running {
    /// Has the chain's thread write what is under way, and waits for it.
    async fn end(mut self) -> anyhow::Result<()> {
        if self.chain.send(Input::Command(Command::Stop)).is_err() {
            return Ok(());
        }
        match tokio::time::timeout(END, self.failed.recv()).await {
            Ok(Some(Err(error))) => Err(anyhow::Error::new(error).context("the last write failed")),
            Ok(_) => Ok(()),
            Err(_) => Err(anyhow!("the chain's thread does not end")),
        }
    }
}

fn open(settings: &NodeSettings) -> anyhow::Result<Opened> {
    let dir = &settings.data_dir;
    let no_worker = || anyhow!("no worker is registered in {}", dir.display());
    let worker = WorkerFile::load(dir)?.ok_or_else(no_worker)?;
    let key = load_key(dir)?.ok_or_else(no_worker)?;
    let token = read_private(dir, "worker.token")?;
    let spec = Arc::new(worker.checked_spec(dir)?);
    rebuild_where_wanted(dir, &spec)?;
    let store = Store::open(dir, &spec)?;
    let servers = if settings.servers.is_empty() {
        worker.servers.clone()
    } else {
        settings.servers.clone()
    };
    let client = CoordinatorClient::new(servers.clone(), token, worker.fingerprint.as_deref())?;
    Ok(Opened {
        worker,
        key,
        spec,
        store,
        client,
        servers,
    })
}

fn share(
    settings: &NodeSettings,
    opened: &Opened,
    commands: mpsc::Sender<Command>,
    mirror: MempoolMirror,
) -> Shared {
    Shared {
        data_dir: settings.data_dir.clone(),
        store: opened.store.clone(),
        spec: Arc::clone(&opened.spec),
        coordinator_key: opened.worker.coordinator_key,
        key: opened.key.clone(),
        commands,
        status: RwLock::new(status_of(opened)),
        view: RwLock::new(None),
        mempool: RwLock::new(mirror),
        connected: RwLock::new(Vec::new()),
        events: broadcast::channel(256).0,
        signing: tokio::sync::Mutex::new(()),
        started: Mutex::new(Instant::now()),
        steps: AtomicU64::new(0),
        failure: OnceLock::new(),
    }
}

fn spawn(
    opened: &Opened,
    shared: &Arc<Shared>,
    network: &Network,
    machine: Machine,
    (from_net, from_users): (mpsc::Receiver<NetEvent>, mpsc::Receiver<Command>),
    api: String,
) -> anyhow::Result<Running> {
    let (chain, inputs) = mpsc::unbounded_channel();
    let (to_coordinator, requests) = mpsc::unbounded_channel();
    let (stop, stopping) = watch::channel(false);
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
    let (ended, failed) = mpsc::channel(1);
    std::thread::Builder::new()
        .name("chain".to_owned())
        .spawn(move || {
            let result = thread.run();
            if ended.blocking_send(result).is_err() {
                tracing::debug!("the node has stopped already");
            }
        })?;
    let inbound = Inbound {
        shared: Arc::clone(shared),
        network: network.clone(),
        chain: chain.clone(),
        asked: Arc::clone(&asked),
    };
    tokio::spawn(inbound.run(from_net));
    let router = Router {
        chain: chain.clone(),
        coordinator: to_coordinator,
        network: network.clone(),
        asked,
        stop,
    };
    tokio::spawn(router.run(from_users));
    let link = Link {
        shared: Arc::clone(shared),
        client: opened.client.clone(),
        network: network.clone(),
        chain: chain.clone(),
        worker: opened.worker.worker_id,
        chain_name: opened.worker.chain.clone(),
        api,
        news: Arc::new(Notify::new()),
        left: Arc::new(tokio::sync::Mutex::new(false)),
        liveness: Arc::default(),
        carrying: Arc::default(),
    };
    let own = link.clone();
    tokio::spawn(link.clone().requests(requests));
    tokio::spawn(link.clone().listen());
    tokio::spawn(link.heartbeats());
    tokio::spawn(tick(chain.clone()));
    Ok(Running {
        link: own,
        chain,
        failed,
        stopping,
    })
}

fn load(opened: &Opened, evidence: Option<&Evidence>) -> anyhow::Result<(Machine, MempoolMirror)> {
    let Opened {
        worker,
        key,
        spec,
        store,
        ..
    } = opened;
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
        coordinator: worker.coordinator_key,
        key: key.clone(),
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

/// The contradiction that this worker has met at some time: it stays stopped until a person has judged it and has moved the
/// file away.
fn kept_evidence(data_dir: &Path) -> anyhow::Result<Option<Evidence>> {
    let path = data_dir.join(EVIDENCE);
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

fn status_of(opened: &Opened) -> NodeStatus {
    NodeStatus {
        worker_id: opened.worker.worker_id,
        name: opened.worker.name.clone(),
        chain: opened.worker.chain.clone(),
        servers: opened.servers.clone(),
        ..first_status(&opened.store, &opened.spec, &opened.key)
    }
}

async fn tick(chain: mpsc::UnboundedSender<Input>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if chain.send(Input::Event(Event::Tick, None)).is_err() {
            return;
        }
    }
}

async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
        }
        _ => std::future::pending().await,
    }
}
