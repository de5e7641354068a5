//! Starting a node in the background.

use super::ClientError;
use crate::cli::Listen;
use crate::identity::{IdentityError, read_private};
use serde::Deserialize;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a node may take to answer after its start.
const START: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(25);

#[derive(Deserialize)]
struct NodeFile {
    api: String,
}

/// The address of the running node of a data directory; `None` where none answers.
pub async fn running_api(dir: &Path) -> Option<String> {
    let text = read_private(dir, "node.json").ok()??;
    let NodeFile { api } = serde_json::from_str(&text).ok()?;
    let http = crate::tls::http_client(None)
        .timeout(Duration::from_secs(2))
        .build()
        .ok()?;
    let health: serde_json::Value = http
        .get(format!("{api}/healthz"))
        .send()
        .await
        .ok()?
        .json()
        .await
        .ok()?;
    (health["service"] == "block-chain-worker").then_some(api)
}

/// Starts the node of a data directory, and waits until it answers. Two at a time start one.
///
/// # Errors
/// Where it does not start, with the last line of its log.
pub async fn launch(dir: &Path, servers: &[String], listen: &Listen) -> Result<(), ClientError> {
    let _one_at_a_time = lock(dir).await?;
    if running_api(dir).await.is_some() {
        return Ok(());
    }
    let mut child = spawn(dir, servers, listen)?;
    let deadline = Instant::now() + START;
    loop {
        if running_api(dir).await.is_some() {
            return Ok(());
        }
        let ended = child.try_wait().ok().flatten();
        if ended.is_some() || Instant::now() > deadline {
            let reason = last_error(dir).unwrap_or_else(|| "it does not answer in 20 s".to_owned());
            return Err(ClientError::Launch {
                dir: dir.to_owned(),
                reason,
            });
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn spawn(dir: &Path, servers: &[String], listen: &Listen) -> Result<Child, ClientError> {
    let failed = |reason: std::io::Error| ClientError::Launch {
        dir: dir.to_owned(),
        reason: reason.to_string(),
    };
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(dir.join("node.log"))
        .map_err(failed)?;
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.arg("run").arg("--data-dir").arg(dir);
    if !servers.is_empty() {
        command.arg("--server").arg(servers.join(","));
    }
    command
        .arg("--api")
        .arg(listen.api.to_string())
        .arg("--p2p-port")
        .arg(listen.p2p_port.to_string());
    if let Some(bind) = listen.p2p_bind {
        command.arg("--p2p-bind").arg(bind.to_string());
    }
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(failed)?)
        .stderr(log);
    // A group of its own: the terminal's Ctrl-C is for the command, not for the node. Not in its folder either.
    command
        .process_group(0)
        .current_dir("/")
        .env_remove("BLOCK_CHAIN_DB_URL")
        .env_remove("BLOCK_CHAIN_JOIN_TOKEN");
    command.spawn().map_err(failed)
}

/// Freed by the system when this process ends.
async fn lock(dir: &Path) -> Result<File, ClientError> {
    let path = dir.join("launch.lock");
    let io = |source| IdentityError::Io {
        doing: "open",
        path: path.clone(),
        source,
    };
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io)?;
    let deadline = Instant::now() + START;
    while file.try_lock().is_err() {
        if Instant::now() > deadline {
            let reason = "another command has been starting it for 20 s".to_owned();
            return Err(ClientError::Launch {
                dir: dir.to_owned(),
                reason,
            });
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(file)
}

fn last_error(dir: &Path) -> Option<String> {
    let log = std::fs::read_to_string(dir.join("node.log")).ok()?;
    let line = log.lines().rev().find_map(|line| line.strip_prefix("error: "));
    line.map(str::to_owned)
}
