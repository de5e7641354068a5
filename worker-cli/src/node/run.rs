//! Starting and stopping a node.

use super::chain::{Common, Replica};
use super::chains::{Chains, OpenChain};
use super::liveness::DiskWatch;
use super::manage::Manager;
use super::pulse::{News, Pulse};
use crate::api::types::{ForkPoint, NewChain};
use crate::api::{ApiServer, ApiSettings};
use crate::coordinator::CoordinatorClient;
use crate::dump::DatabaseUrl;
use crate::identity::{WorkerFile, load_key, read_private};
use crate::net::Port;
use crate::spec_file::SpecFile;
use anyhow::{Context as _, anyhow};
use block_chain_backup::Plan;
use block_chain_common::coordinator_api::ForkWish;
use block_chain_common::keys::SecretKey;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// How often a machine is told that time passes, where it waits for something.
const TICK: Duration = Duration::from_millis(100);
/// How many of these a quiet chain is left out of.
const QUIET_TICKS: u32 = 30;

/// How often a node looks for forks that the operator has asked for.
const LOOK_FOR_FORKS: Duration = Duration::from_secs(2);
/// How long the coordinator may take to hear that another is to lead.
const STEP_DOWN: Duration = Duration::from_secs(2);

/// What a node is told.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Where everything is.
    pub data_dir: PathBuf,
    /// The coordinators; those of the registration where empty.
    pub servers: Vec<String>,
    /// Where and how the HTTP interface listens.
    pub api: ApiSettings,
    /// Where peers are listened for.
    pub p2p: SocketAddr,
    /// The home chain is copied to it from the start, in place of a database that was named to a node that runs.
    pub database: Option<DatabaseUrl>,
    /// Backups that it makes by itself.
    pub backups: Option<Plan>,
}

/// Who this node is.
struct Worker {
    file: WorkerFile,
    key: SecretKey,
    client: CoordinatorClient,
    servers: Vec<String>,
}

/// Runs a node until it is stopped, by a signal or through its interface.
///
/// # Errors
/// Where it cannot start, or its store fails.
pub async fn run(settings: NodeSettings) -> anyhow::Result<()> {
    let worker = identify(&settings)?;
    let dir = &settings.data_dir;
    let (stop, mut stopping) = watch::channel(false);
    let (failed, mut failures) = mpsc::channel(1);
    let home = Replica::open(dir, worker.file.checked_spec(dir)?)?;
    let port = Port::open(&worker.key, settings.p2p).await?;
    let news = Arc::new(News::default());
    let common = Arc::new(Common {
        worker: worker.file.worker_id,
        name: worker.file.name.clone(),
        servers: worker.servers,
        key: worker.key.clone(),
        coordinator_key: worker.file.coordinator_key,
        client: worker.client.clone(),
        port: port.clone(),
        news: Arc::clone(&news),
        stop,
        failed,
    });
    let home = Arc::new(common.start(home)?);
    let chains = Arc::new(Chains::new(&worker.file.chain, Arc::clone(&home)));
    let manager = Arc::new(Manager::new(common, Arc::clone(&chains), dir.clone()));
    manager.open_joined().await;
    let (address, api) =
        ApiServer::start(Arc::clone(&chains), Some(Arc::clone(&manager)), settings.api, dir).await?;
    let pulse = Arc::new(Pulse {
        chains: Arc::clone(&chains),
        client: worker.client,
        worker: worker.file.worker_id,
        key: worker.key,
        data_dir: dir.clone(),
        news,
        disk: DiskWatch::new(dir.clone()),
        clock: Mutex::default(),
        told: Mutex::default(),
    });
    tokio::spawn(Arc::clone(&pulse).run());
    tokio::spawn(Arc::clone(&pulse).listen());
    tokio::spawn(tick(Arc::clone(&chains)));
    if let Some(plan) = settings.backups {
        tokio::spawn(Arc::clone(&manager).keep_backing_up(plan));
    }
    tokio::spawn(make_forks(manager, Arc::clone(&chains)));
    match settings.database {
        Some(url) => home.dump.keep_copying(url),
        None => home.dump.resume(),
    }
    tracing::info!(worker = %worker.file.worker_id, api = %address, "the node runs");

    let result = tokio::select! {
        () = wait_for_signal() => Ok(()),
        _ = stopping.changed() => Ok(()),
        failure = failures.recv() => match failure {
            Some((chain, error)) => Err(anyhow::Error::new(error)
                .context(format!("the store of chain {chain} failed, so the node stops"))),
            None => Err(anyhow!("nobody is left to tell of a failure")),
        },
    };
    // While it still answers its peers: another worker is to lead.
    if tokio::time::timeout(STEP_DOWN, pulse.step_down()).await.is_err() {
        tracing::debug!("the coordinator is not told that this node stops");
    }
    // The interface ends first, so that nobody is answered by half a node; then what is under way is written.
    api.stop().await;
    let ended = end_all(&chains).await;
    port.shutdown().await;
    result.and(ended)
}

/// Makes the forks that the operator has asked for, of the chains that this worker leads.
async fn make_forks(manager: Arc<Manager>, chains: Arc<Chains>) {
    let mut tried = BTreeSet::new();
    let mut interval = tokio::time::interval(LOOK_FOR_FORKS);
    loop {
        interval.tick().await;
        for (from, chain) in chains.open() {
            let wished = chain.node.wished_forks();
            for ForkWish { name, at } in wished {
                // Once: who asks again does so under another name, or after a restart.
                if !tried.insert((from.clone(), name.clone(), at)) {
                    continue;
                }
                tracing::info!(chain = from, fork = name, %at, "the operator has asked for a fork");
                let fork = NewChain {
                    name: name.clone(),
                    creator: None,
                    spec: SpecFile::default(),
                    fork: Some(ForkPoint {
                        from: from.clone(),
                        at,
                    }),
                };
                if let Err(error) = manager.create(fork).await {
                    tracing::error!(fork = name, %error, "the fork that the operator has asked for is not made");
                }
            }
        }
    }
}

/// Ends all chains at a time; the first failure.
async fn end_all(chains: &Chains) -> anyhow::Result<()> {
    let open = chains.open().into_iter();
    let ending: Vec<_> = open
        .map(|(_, chain): (_, Arc<OpenChain>)| tokio::spawn(async move { chain.end().await }))
        .collect();
    let mut result = Ok(());
    for end in ending {
        result = result.and(end.await.context("ending a chain failed").flatten());
    }
    result
}

fn identify(settings: &NodeSettings) -> anyhow::Result<Worker> {
    let dir = &settings.data_dir;
    let no_worker = || anyhow!("no worker is registered in {}", dir.display());
    let file = WorkerFile::load(dir)?.ok_or_else(no_worker)?;
    let key = load_key(dir)?.ok_or_else(no_worker)?;
    let token = read_private(dir, "worker.token")?;
    let servers = if settings.servers.is_empty() {
        file.servers.clone()
    } else {
        settings.servers.clone()
    };
    let client = CoordinatorClient::new(servers.clone(), token, &file.trust)?;
    Ok(Worker {
        file,
        key,
        client,
        servers,
    })
}

/// Tells the machines that time passes, those of quiet chains less often.
async fn tick(chains: Arc<Chains>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for round in 0_u32.. {
        interval.tick().await;
        for (_, chain) in chains.open() {
            let is_due = round.is_multiple_of(QUIET_TICKS);
            if is_due || !chain.node.0.quiet.load(Ordering::Relaxed) {
                chain.tick();
            }
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
