//! A coordinator in this process, and nodes in their own.

use super::wire::Connection;
use block_chain_common::codec::encode;
use block_chain_common::hash::ChainId;
use block_chain_common::transaction::Transaction;
use block_chain_server::settings::{ProofFlag, Settings};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often a status is looked at: what is waited for takes at least twenty times as long.
const LOOK: Duration = Duration::from_millis(10);

pub(crate) struct Network {
    dir: tempfile::TempDir,
    server: block_chain_server::Running,
    _runtime: tokio::runtime::Runtime,
}

/// A node that runs in a process of its own, and is stopped when this is dropped.
pub(crate) struct Node {
    dir: PathBuf,
    server: String,
    pub(crate) api: String,
    cookie: String,
    /// Before every path, where another chain than the first is asked.
    prefix: String,
}

impl Network {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime");
        let settings = Settings {
            bind: Some(([127, 0, 0, 1], 0).into()),
            data_dir: Some(dir.path().join("server")),
            // What is measured is the ledger, not the search: the leader signs, and blocks are made on demand.
            proof: Some(ProofFlag::Authority),
            block_interval_ms: Some(0),
            ..Settings::default()
        };
        let server = runtime
            .block_on(block_chain_server::start(settings))
            .expect("a coordinator");
        Self {
            dir,
            server,
            _runtime: runtime,
        }
    }

    pub(crate) fn node(&self, name: &str) -> Node {
        let dir = self.dir.path().join(name);
        let registered = command(&dir, &self.server.url, &["register", "--name", name]);
        let api = registered["api"].as_str().expect("a URL").to_owned();
        let cookie = read_cookie(&dir);
        Node {
            dir,
            server: self.server.url.clone(),
            api,
            cookie,
            prefix: String::new(),
        }
    }
}

impl Node {
    pub(crate) fn connect(&self) -> Connection {
        Connection::open(&self.api, &self.cookie, &self.prefix)
    }

    /// Makes a chain, and asks that one from now on.
    pub(crate) fn create(&mut self, name: &str, spec: &Value) {
        let body = serde_json::json!({ "name": name, "spec": spec }).to_string();
        self.connect()
            .post("/v1/chains", "application/json", body.as_bytes());
        self.prefix = format!("/chains/{name}");
    }

    /// Joins a chain, and asks that one from now on.
    pub(crate) fn join(&mut self, name: &str) {
        let path = format!("/v1/chains/{name}/join");
        self.connect().post(&path, "application/json", b"{}");
        self.prefix = format!("/chains/{name}");
    }

    pub(crate) fn chain(&self) -> ChainId {
        let status = self.connect().get("/v1/status");
        serde_json::from_value(status["chain_id"].clone()).expect("a chain's id")
    }

    /// Makes a block of what waits, and gives its height.
    pub(crate) fn mine(&self) -> u64 {
        let mined = self.connect().post("/v1/mine", "application/json", b"{}");
        mined["block"]["index"]
            .as_u64()
            .or(mined["index"].as_u64())
            .expect("a height")
    }

    /// Until a number of the node's status has reached a value; how long that took.
    pub(crate) fn wait(&self, field: &str, value: u64) -> Duration {
        let (started, mut connection) = (Instant::now(), self.connect());
        while connection.get("/v1/status")[field].as_u64() < Some(value) {
            assert!(started.elapsed() < PATIENCE, "{field} does not reach {value}");
            std::thread::sleep(LOOK);
        }
        started.elapsed()
    }

    /// Hands in transactions: every connection its bodies, one after the other.
    pub(crate) fn submit(&self, prepared: &[Vec<Vec<u8>>]) {
        let mut connections: Vec<_> = prepared.iter().map(|_| self.connect()).collect();
        std::thread::scope(|scope| {
            for (connection, bodies) in connections.iter_mut().zip(prepared) {
                scope.spawn(move || {
                    for body in bodies {
                        connection.post_raw("/v1/transactions", "application/octet-stream", body);
                    }
                });
            }
        });
    }

    pub(crate) fn status(&self) -> Value {
        self.connect().get("/v1/status")
    }

    /// MiB of memory, now and at most so far: `VmRSS` and `VmHWM`.
    pub(crate) fn memory(&self) -> (f64, f64) {
        let pid = self.status()["pid"].as_u64().expect("a process");
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux");
        let field = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(name)).expect("a field");
            let number = line.split_whitespace().nth(1).expect("a number");
            number.parse::<f64>().expect("a number") / 1_024.0
        };
        (field("VmRSS:"), field("VmHWM:"))
    }

    /// Bytes that the node's process has written so far, to files and sockets.
    pub(crate) fn written(&self) -> u64 {
        let pid = self.status()["pid"].as_u64().expect("a process");
        let text = std::fs::read_to_string(format!("/proc/{pid}/io")).expect("Linux");
        let line = text.lines().find_map(|line| line.strip_prefix("wchar: "));
        line.expect("a field").parse().expect("a number")
    }

    /// Stops the node's process, and waits until it is gone.
    pub(crate) fn stop(&self) {
        let pid = self.status()["pid"].as_u64().expect("a process");
        self.connect().post_raw("/v1/stop", "application/json", b"{}");
        while Path::new(&format!("/proc/{pid}")).exists() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Starts the node's process again; how long until it answers.
    pub(crate) fn start(&mut self) -> Duration {
        let started = Instant::now();
        let status = command(&self.dir, &self.server, &["status"]);
        let took = started.elapsed();
        self.api = status["api"].as_str().expect("a URL").to_owned();
        self.cookie = read_cookie(&self.dir);
        took
    }

    /// Bytes on disk.
    pub(crate) fn disk(&self) -> u64 {
        let output = Command::new("du").arg("-sb").arg(&self.dir).output().expect("du");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_whitespace()
            .next()
            .and_then(|word| word.parse().ok())
            .unwrap_or(0)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Not while a failure unwinds: another would hide it.
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

/// The body of `POST /v1/transactions` in its binary form.
pub(crate) fn batch(transactions: &[Transaction]) -> Vec<u8> {
    let mut body = u32::try_from(transactions.len())
        .expect("few")
        .to_le_bytes()
        .to_vec();
    for transaction in transactions {
        let bytes = encode(transaction);
        body.extend_from_slice(&u32::try_from(bytes.len()).expect("small").to_le_bytes());
        body.extend_from_slice(&bytes);
    }
    body
}

fn command(dir: &Path, server: &str, words: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_block-chain-worker"));
    command
        .args(["--json", "--server", server, "--data-dir"])
        .arg(dir)
        .args(words);
    let output = command.stdin(Stdio::null()).output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn read_cookie(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("api.cookie"))
        .expect("a cookie")
        .trim()
        .to_owned()
}
