//! Starting a node in the background.

use super::ClientError;
use crate::flags::NodeFlags;
use crate::identity::{IdentityError, read_private};
use crate::storage::is_rebuild_wanted;
use block_chain_telemetry::LogFormat;
use serde::Deserialize;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a node may take to answer after its start.
const START: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(25);

/// A log that is longer is put aside at the next start.
const MAX_LOG_BYTES: u64 = 16 * 1_048_576;
/// The end of the log, where the reason stands of a node that has not started.
const LOG_END_BYTES: u64 = 65_536;

#[derive(Deserialize)]
struct NodeFile {
    pid: u32,
    api: String,
    /// Of its certificate, where it serves TLS.
    #[serde(default)]
    fingerprint: Option<String>,
}

/// Where a node runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningNode {
    /// Its address, as clients on this machine ask it.
    pub api: String,
    /// The fingerprint of its certificate, where it serves TLS.
    pub fingerprint: Option<String>,
}

/// The address of the running node of a data directory; `None` where none answers.
pub async fn running_api(dir: &Path) -> Option<RunningNode> {
    let text = read_private(dir, "node.json").ok()??;
    let NodeFile {
        pid,
        api,
        fingerprint,
    } = serde_json::from_str(&text).ok()?;
    let http = super::local_http(fingerprint.as_deref()).ok()?;
    let http = http.timeout(Duration::from_secs(2)).build().ok()?;
    let answer = http.get(format!("{api}/v1/status")).send().await.ok()?;
    let body = super::bounded(answer).await.ok()?;
    let status: NodeStatus = serde_json::from_slice(&body).ok()?;
    // After a crash the port may be another worker's.
    (status.pid == pid).then_some(RunningNode { api, fingerprint })
}

#[derive(Deserialize)]
struct NodeStatus {
    pid: u32,
}

/// Whether no node has the data directory open.
#[must_use]
pub fn has_ended(dir: &Path) -> bool {
    match File::open(dir.join("node.lock")) {
        Ok(lock) => !matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)),
        Err(_) => true,
    }
}

/// Starts the node of a data directory, and waits until it answers. Two at a time start one.
///
/// # Errors
/// Where it does not start, with the last line of its log.
pub async fn launch(dir: &Path, servers: &[String], listen: &NodeFlags) -> Result<(), ClientError> {
    let deadline = Instant::now() + START;
    let not_started = |reason: &str| ClientError::Launch {
        dir: dir.to_owned(),
        reason: reason.to_owned(),
        hint: None,
    };
    let _one_at_a_time = lock(dir, deadline).await?;
    // One that is just ending still has its store open; one that is just starting will answer.
    loop {
        if running_api(dir).await.is_some() {
            return Ok(());
        }
        if has_ended(dir) {
            break;
        }
        if Instant::now() > deadline {
            return Err(not_started("one is running that does not answer"));
        }
        tokio::time::sleep(LOOK).await;
    }
    let log = open_log(dir).map_err(|error| not_started(&format!("its log: {error}")))?;
    let before = log.metadata().map_or(0, |metadata| metadata.len());
    let mut child = spawn(dir, log, servers, listen).map_err(|error| not_started(&error.to_string()))?;
    loop {
        if running_api(dir).await.is_some() {
            return Ok(());
        }
        let ended = child.try_wait().ok().flatten();
        let late = Instant::now() > deadline && !is_rebuild_wanted(dir);
        if ended.is_some() || late {
            return Err(match (last_error(dir, before), ended) {
                (Some((reason, hint)), _) => ClientError::Launch {
                    dir: dir.to_owned(),
                    reason,
                    hint,
                },
                (None, Some(status)) => {
                    not_started(&format!("it has ended ({status}), and its log does not say why"))
                }
                (None, None) => not_started("it does not answer in 20 s"),
            });
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn open_log(dir: &Path) -> std::io::Result<File> {
    let path = dir.join("node.log");
    if std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() > MAX_LOG_BYTES) {
        std::fs::rename(&path, dir.join("node.log.1"))?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

fn spawn(dir: &Path, log: File, servers: &[String], listen: &NodeFlags) -> std::io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("run")
        .arg("--data-dir")
        .arg(std::path::absolute(dir)?);
    if !servers.is_empty() {
        command.arg("--server").arg(servers.join(","));
    }
    if let Some(api) = listen.api {
        command.arg("--api").arg(api.to_string());
    }
    if let Some(port) = listen.p2p_port {
        command.arg("--p2p-port").arg(port.to_string());
    }
    if let Some(bind) = listen.p2p_bind {
        command.arg("--p2p-bind").arg(bind.to_string());
    }
    for (flag, path) in [
        ("--api-tls-cert", &listen.api_tls_cert),
        ("--api-tls-key", &listen.api_tls_key),
        ("--backup-to", &listen.backup_to),
    ] {
        if let Some(path) = path {
            command.arg(flag).arg(std::path::absolute(path)?);
        }
    }
    if listen.api_tls_self_signed {
        command.arg("--api-tls-self-signed");
    }
    if listen.api_open {
        command.arg("--api-open");
    }
    if listen.legacy_routes {
        command.arg("--legacy-routes");
    }
    if let Some(every) = &listen.backup_every {
        command.arg("--backup-every").arg(every);
    }
    if let Some(keep) = listen.backup_keep {
        command.arg("--backup-keep").arg(keep.to_string());
    }
    match listen.log_format {
        Some(LogFormat::Json) => command.args(["--log-format", "json"]),
        Some(LogFormat::Human) => command.args(["--log-format", "human"]),
        None => &mut command,
    };
    for (flag, text) in [("--log", &listen.log), ("--otlp", &listen.otlp)] {
        if let Some(text) = text {
            command.arg(flag).arg(text);
        }
    }
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // A group of its own: the terminal's Ctrl-C is for the command, not for the node. Not in its folder either.
    command
        .process_group(0)
        .current_dir("/")
        .env_remove("BLOCK_CHAIN_DB_URL")
        .env_remove("BLOCK_CHAIN_JOIN_TOKEN");
    command.spawn()
}

/// Freed by the system when this process ends.
async fn lock(dir: &Path, deadline: Instant) -> Result<File, ClientError> {
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
    while file.try_lock().is_err() {
        if Instant::now() > deadline {
            let reason = "another command has been starting it for 20 s".to_owned();
            return Err(ClientError::Launch {
                dir: dir.to_owned(),
                reason,
                hint: None,
            });
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(file)
}

/// The last error that the node wrote into its log after `before`, and its hint.
fn last_error(dir: &Path, before: u64) -> Option<(String, Option<String>)> {
    let mut log = File::open(dir.join("node.log")).ok()?;
    let length = log.metadata().ok()?.len();
    log.seek(SeekFrom::Start(before.max(length.saturating_sub(LOG_END_BYTES))))
        .ok()?;
    let mut end = Vec::new();
    log.take(LOG_END_BYTES).read_to_end(&mut end).ok()?;
    let end = String::from_utf8_lossy(&end);
    let mut hint = None;
    for line in end.lines().rev() {
        if let Some(error) = line.strip_prefix("error: ") {
            return Some((error.to_owned(), hint));
        }
        hint = line.strip_prefix("hint: ").map(str::to_owned);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_starts_error_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let old = "error: an old one\n";
        let table = [
            (format!("{old}starting\n"), None),
            (
                format!("{old}starting\nerror: new\nhint: do\n"),
                Some(("new", Some("do"))),
            ),
            (
                format!("{old}{}\nerror: after much\nmore\n", "x".repeat(200_000)),
                Some(("after much", None)),
            ),
        ];
        for (log, told) in table {
            std::fs::write(dir.path().join("node.log"), log).unwrap();
            let before = u64::try_from(old.len()).unwrap();
            let told =
                told.map(|(error, hint): (&str, Option<&str>)| (error.to_owned(), hint.map(str::to_owned)));
            assert_eq!(last_error(dir.path(), before), told);
        }
    }

    #[test]
    fn a_node_has_ended_when_its_lock_is_free() {
        let dir = tempfile::tempdir().unwrap();
        assert!(has_ended(dir.path()), "there was none");
        let held = File::create(dir.path().join("node.lock")).unwrap();
        held.lock().unwrap();
        assert!(!has_ended(dir.path()));
        drop(held);
        assert!(has_ended(dir.path()));
    }

    #[test]
    fn a_long_log_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let log = File::create(dir.path().join("node.log")).unwrap();
        log.set_len(MAX_LOG_BYTES + 1).unwrap();
        assert_eq!(open_log(dir.path()).unwrap().metadata().unwrap().len(), 0);
        assert!(dir.path().join("node.log.1").exists());
    }
}
