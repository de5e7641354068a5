//! `register` and `disconnect`.

use super::{Refusal, registration_servers};
use crate::api::types::Disconnected;
use crate::cli::{Global, Listen};
use crate::client::{NodeClient, launch, running_api};
use crate::coordinator::CoordinatorClient;
use crate::identity::{WorkerFile, load_or_create_key, read_private, write_private};
use crate::output::{self, Format, facts};
use block_chain_common::keys::PublicKey;
use serde_json::json;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a node may take to end after it has left.
const END: Duration = Duration::from_secs(15);

pub(super) async fn run(
    global: &Global,
    name: Option<String>,
    token: Option<String>,
    fingerprint: Option<String>,
    listen: &Listen,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let (worker, key) = register_only(global, name, token, fingerprint).await?;
    let dir = global.data_dir();
    if running_api(&dir).await.is_none() {
        launch(&dir, &worker.servers, listen).await?;
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
    name: Option<String>,
    token: Option<String>,
    fingerprint: Option<String>,
) -> anyhow::Result<(WorkerFile, PublicKey)> {
    let dir = global.data_dir();
    let known = WorkerFile::load(&dir)?;
    if let Some(known) = known.as_ref().filter(|known| known.chain != global.chain) {
        let message = format!(
            "{} holds a worker of chain {:?}, not {:?}",
            dir.display(),
            known.chain,
            global.chain
        );
        return Err(Refusal::failed(message, Some("another worker needs another --data-dir")).into());
    }
    let servers = registration_servers(global, known.as_ref());
    for server in &servers {
        let parsed = url::Url::parse(server);
        if !parsed
            .as_ref()
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        {
            let message = format!("server {server:?} is not an http or https URL");
            return Err(Refusal {
                message,
                hint: Some("--server http://HOST:18000".to_owned()),
                code: 2,
            }
            .into());
        }
    }
    let fingerprint = fingerprint.or_else(|| known.as_ref().and_then(|known| known.fingerprint.clone()));
    let client = CoordinatorClient::new(servers.clone(), None, fingerprint.as_deref())?;
    client.check().await?;
    let key = load_or_create_key(&dir)?;
    let registration = client.register(&key, &global.chain, name.clone(), token).await?;
    let worker = WorkerFile::new(
        &registration,
        servers,
        name.or(known.as_ref().and_then(|k| k.name.clone())),
        fingerprint,
    );
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
    Ok((worker, key.public_key()))
}

pub(super) async fn disconnect(global: &Global, format: Format) -> anyhow::Result<ExitCode> {
    let dir = global.data_dir();
    let disconnected = if running_api(&dir).await.is_some() {
        let node = NodeClient::of(&dir).await?;
        let left: Disconnected = node.post("/v1/disconnect", &json!({})).await?;
        let deadline = Instant::now() + END;
        while running_api(&dir).await.is_some() {
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
        let client = CoordinatorClient::new(
            servers,
            read_private(&dir, "worker.token")?,
            worker.fingerprint.as_deref(),
        )?;
        client.leave(worker.worker_id, &worker.chain).await?.left
    };
    if format == Format::Json {
        output::json(&Disconnected { disconnected })?;
    } else {
        output::line("disconnected; the data stays, and register takes the same id up again")?;
    }
    Ok(ExitCode::SUCCESS)
}
