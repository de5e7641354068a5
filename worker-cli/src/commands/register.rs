//! `register` and `disconnect`.

use super::{Refusal, registration_servers};
use crate::api::types::Disconnected;
use crate::backup::begin_with;
use crate::cli::Global;
use crate::client::{NodeClient, has_ended, launch, running_api};
use crate::coordinator::{CoordinatorClient, CoordinatorError};
use crate::flags::{JoinFlags, NodeFlags};
use crate::identity::{
    ChainFile, WorkerFile, chain_dir, joined_chains, load_key, load_or_create_key, read_private,
    write_private,
};
use crate::output::{self, Format, facts};
use anyhow::Context as _;
use block_chain_common::chain_keys::ChainKeys;
use block_chain_common::chain_spec::CheckedSpec;
use block_chain_common::coordinator_api::Registration;
use block_chain_common::keys::PublicKey;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The chain where none is told.
const DEFAULT_CHAIN: &str = "main";

/// How long a node may take to end after it has left.
const END: Duration = Duration::from_secs(15);

pub(super) async fn run(
    global: &Global,
    join: JoinFlags,
    snapshot: Option<&Path>,
    listen: &NodeFlags,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let (registration, worker, key) = register_only(global, join, listen).await?;
    let dir = global.data_dir();
    if let Some(snapshot) = snapshot {
        // The word of those that were there before.
        let members = registration.view.counting().map(|member| member.public_key);
        let keys = members.filter(|member| *member != key).collect();
        let chain = (registration.chain.id, worker.chain.clone());
        let keys = ChainKeys::new(chain, worker.coordinator_key, keys);
        begin(snapshot, &dir, (worker.checked_spec(&dir)?, keys?)).await?;
    }
    if running_api(&dir).await.is_none() {
        launch(&dir, &worker.servers, &worker.listen).await?;
    }
    let node = NodeClient::of(&dir).await?;
    let server = worker.servers.join(",");
    if format == Format::Json {
        output::json(&json!({
            "worker_id": worker.worker_id,
            "name": worker.name,
            "public_key": key,
            "address": key.address(),
            "server": server,
            "chain": worker.chain,
            "api": node.api(),
        }))?;
    } else {
        output::line(&facts(&[
            ("worker", worker.worker_id.to_string()),
            ("address", key.address().to_string()),
            ("chain", worker.chain),
            ("server", server),
            ("page", node.api().to_owned()),
            ("data", dir.display().to_string()),
        ]))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Registers the worker's key, and keeps what the coordinator gave.
pub(super) async fn register_only(
    global: &Global,
    join: JoinFlags,
    listen: &NodeFlags,
) -> anyhow::Result<(Registration, WorkerFile, PublicKey)> {
    let (dir, join) = (global.data_dir(), join.without_empty());
    let known = WorkerFile::load(&dir)?;
    let registered = known.as_ref().map_or(DEFAULT_CHAIN, |known| &known.chain);
    let chain = global.chain.as_deref().unwrap_or(registered).to_owned();
    if known.is_some() && chain != registered {
        let message = format!(
            "{} holds a worker that is registered for chain {registered:?}, not {chain:?}",
            dir.display()
        );
        let hint = "block-chain-worker chain join NAME takes part in one more; another worker needs another --data-dir";
        return Err(Refusal::failed(message, Some(hint)).into());
    }
    if known.is_some() && load_key(&dir)?.is_none() {
        // A new key would be a new worker, and the old one's records could be signed by nobody.
        let message = format!(
            "{} is gone, but the worker is registered",
            dir.join("identity.key").display()
        );
        let hint = "put it back from a backup, or register a new worker with another --data-dir";
        return Err(Refusal::failed(message, Some(hint)).into());
    }
    let servers = registration_servers(global, known.as_ref());
    let told = join.trust().map_err(CoordinatorError::from)?;
    let trust = told.or_else(|| known.as_ref().map(|known| known.trust.clone()));
    let trust = trust.unwrap_or_default();
    let client = CoordinatorClient::new(servers.clone(), None, &trust)?;
    client.check().await?;
    let key = load_or_create_key(&dir)?;
    let registration = client
        // One that is left empty, as by a template that has none, is none given.
        .register(&key, &chain, join.name.clone(), join.token)
        .await?;
    let mut worker = WorkerFile::new(
        &registration,
        servers,
        join.name.or(known.as_ref().and_then(|k| k.name.clone())),
        trust,
    );
    worker.listen = listen.or(&known
        .as_ref()
        .map(|known| known.listen.clone())
        .unwrap_or_default());
    let spec = worker.checked_spec(&dir)?;
    if spec.id() != registration.chain.id {
        return Err(Refusal::failed(
            "the coordinator's chain id is not that of the spec it gives",
            None,
        )
        .into());
    }
    if let Some(known) =
        known.filter(|known| known.spec != worker.spec || known.coordinator_key != worker.coordinator_key)
    {
        let message = format!(
            "{} holds a replica of another coordinator's chain {:?}",
            dir.display(),
            known.chain
        );
        return Err(Refusal::failed(message, Some("another network needs another --data-dir")).into());
    }
    write_private(&dir.join("worker.token"), registration.worker_token.as_bytes())?;
    worker.save(&dir)?;
    Ok((registration, worker, key.public_key()))
}

/// Makes the replica from a snapshot, before the node is started for the first time.
async fn begin(snapshot: &Path, dir: &Path, (spec, keys): (CheckedSpec, ChainKeys)) -> anyhow::Result<()> {
    let bar = output::bar(0, "{bar:40} {percent} % of the snapshot");
    let (from, into, shown) = (snapshot.to_owned(), dir.to_owned(), bar.clone());
    let beginning = tokio::task::spawn_blocking(move || {
        begin_with(&from, &into, (&spec, &keys), |done, of| {
            shown.set_length(of);
            shown.set_position(done);
        })
    });
    let size = beginning.await.context("the snapshot")??;
    bar.finish_and_clear();
    tracing::info!(size, "the replica begins with a snapshot");
    Ok(())
}

pub(super) async fn disconnect(global: &Global, format: Format) -> anyhow::Result<ExitCode> {
    let dir = global.data_dir();
    if let Some(worker) = WorkerFile::load(&dir)?
        && let Some(chain) = global.chain.as_ref().filter(|chain| **chain != worker.chain)
    {
        let message = format!("disconnect leaves the network with all chains, not {chain:?} alone");
        let hint = format!("block-chain-worker chain leave {chain}");
        return Err(Refusal::failed(message, Some(&hint)).into());
    }
    let disconnected = if running_api(&dir).await.is_some() {
        let node = NodeClient::of(&dir).await?;
        let left: Disconnected = node.post("/v1/disconnect", &json!({})).await?;
        let deadline = Instant::now() + END;
        while !has_ended(&dir) {
            if Instant::now() > deadline {
                return Err(Refusal::failed("the node has left the network, but does not end", None).into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        left.disconnected
    } else {
        // The node is down: the coordinator is told from here, without starting it only to stop it.
        let not_registered = || crate::client::ClientError::NotRegistered(dir.clone());
        let worker = WorkerFile::load(&dir)?.ok_or_else(not_registered)?;
        let servers = registration_servers(global, Some(&worker));
        let client = CoordinatorClient::new(servers, read_private(&dir, "worker.token")?, &worker.trust)?;
        for name in joined_chains(&dir)? {
            let file = ChainFile::load(&chain_dir(&dir, &worker.chain, &name))?;
            if file.is_some_and(|file| !file.left) {
                client.leave(worker.worker_id, &name).await?;
            }
        }
        client.leave(worker.worker_id, &worker.chain).await?.left
    };
    if format == Format::Json {
        output::json(&Disconnected { disconnected })?;
    } else {
        output::line("disconnected; the data stays, and register takes the same id up again")?;
    }
    Ok(ExitCode::SUCCESS)
}
