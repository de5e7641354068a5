//! A coordinator and workers as real processes, each in its namespace; asked with the commands that users have.

use crate::namespace::{Namespace, may};
use crate::switch::Switch;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long one command may take while the network fails.
const COMMAND_SECONDS: &str = "10";
/// Between two looks at something that changes by itself.
const LOOK: Duration = Duration::from_millis(100);

/// The namespaces and folders: node 0 is the coordinator, the others are workers.
pub(crate) struct Places {
    namespaces: Vec<Namespace>,
    folder: TempDir,
    /// Workers that are down: a command would start their nodes again.
    down: Mutex<BTreeSet<usize>>,
}

impl Places {
    pub(crate) fn workers(&self) -> usize {
        self.namespaces.len() - 1
    }

    fn down(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dir(&self, node: usize) -> PathBuf {
        self.folder.path().join(format!("node-{node}"))
    }

    /// What a command of a worker answers; nothing where it fails.
    pub(crate) fn ask(&self, worker: usize, words: &[&str]) -> Option<Value> {
        let dir = self.dir(worker);
        if self.down().contains(&worker) {
            return None;
        }
        let mut command = self.namespaces[worker].command("timeout");
        let command = command
            .args([
                COMMAND_SECONDS,
                env!("CARGO_BIN_EXE_block-chain-worker"),
                "--data-dir",
            ])
            .arg(&dir)
            .arg("--json")
            .args(words);
        let output = command.stdin(Stdio::null()).output().unwrap();
        if !output.status.success() {
            return None;
        }
        Some(serde_json::from_slice(&output.stdout).unwrap())
    }
}

pub(crate) struct Cluster {
    pub(crate) places: Arc<Places>,
    pub(crate) switch: Switch,
    processes: Vec<Option<Child>>,
    /// The committed head that each worker has named last, and every one that any has named, by height.
    committed: BTreeMap<usize, u64>,
    hashes: BTreeMap<u64, String>,
}

impl Cluster {
    /// So many workers of a coordinator; nothing where the test runs elsewhere, with the rights that it needs.
    pub(crate) fn start(workers: usize, test: &str) -> Option<Self> {
        if !may(test) {
            return None;
        }
        let (namespaces, devices): (Vec<_>, Vec<_>) = (0..=workers)
            .map(|node| Namespace::new(u8::try_from(node + 1).unwrap()))
            .unzip();
        let places = Places {
            namespaces,
            folder: tempfile::tempdir().unwrap(),
            down: Mutex::default(),
        };
        let mut this = Self {
            places: Arc::new(places),
            switch: Switch::start(devices),
            processes: Vec::new(),
            committed: BTreeMap::new(),
            hashes: BTreeMap::new(),
        };
        for node in 0..=workers {
            this.processes.push(None);
            this.run(node);
        }
        this.wait(Duration::from_secs(60), "all workers are there", |cluster| {
            let all = |worker| {
                let status = cluster.status(worker)?;
                Some(status["members"] == workers && status["peers"] == workers - 1)
            };
            (1..=workers)
                .all(|worker| all(worker) == Some(true))
                .then_some(())
        });
        Some(this)
    }

    /// Starts a node's process.
    pub(crate) fn run(&mut self, node: usize) {
        let dir = self.places.dir(node);
        std::fs::create_dir_all(&dir).unwrap();
        let server = "http://10.77.0.1:18000";
        let program = if node == 0 {
            server_program()
        } else {
            worker_program()
        };
        let mut command = self.places.namespaces[node].command(program.to_str().unwrap());
        command.arg("--data-dir").arg(&dir);
        if node == 0 {
            command.args(["--bind", "10.77.0.1:18000", "--open"]);
            command.args(["--difficulty", "12", "--block-interval-ms", "1000"]);
        } else {
            command.args(["--server", server, "run"]);
        }
        let log = std::fs::File::options()
            .append(true)
            .create(true)
            .open(self.places.folder.path().join(format!("node-{node}.log")));
        let log = log.unwrap();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.processes[node] = Some(command.spawn().unwrap());
        self.places.down().remove(&node);
        if node == 0 {
            self.await_server();
        }
    }

    fn await_server(&mut self) {
        self.wait(Duration::from_secs(30), "the server is ready", |cluster| {
            let mut command = cluster.places.namespaces[0].command("timeout");
            // The shell's own network: a bare machine has no program that asks over HTTP.
            let script = "exec 3<>/dev/tcp/10.77.0.1/18000 && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && head -1 <&3";
            let output = command.args(["2", "bash", "-c", script]).output().unwrap();
            let answered = String::from_utf8_lossy(&output.stdout).contains(" 200 ");
            answered.then_some(())
        });
    }

    /// Kills a node's process as a loss of power would.
    pub(crate) fn kill(&mut self, node: usize) {
        self.places.down().insert(node);
        // `ip netns exec` becomes the program: this is its process.
        let mut child = self.processes[node].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn status(&self, worker: usize) -> Option<Value> {
        self.processes[worker].as_ref()?;
        self.places.ask(worker, &["status"])
    }

    fn wait<T>(&mut self, longest: Duration, what: &str, mut look: impl FnMut(&mut Self) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            if began.elapsed() > longest {
                self.describe();
                panic!("after {longest:?} it is still not so that {what}");
            }
            // What other processes do has no event here.
            std::thread::sleep(LOOK);
        }
    }

    fn describe(&self) {
        for node in 0..self.processes.len() {
            let log = std::fs::read_to_string(self.places.folder.path().join(format!("node-{node}.log")));
            let log = log.unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(12).collect();
            println!(
                "node {node}: {}",
                last.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
            if node > 0 {
                println!("{:?}", self.status(node));
            }
        }
    }

    /// The worker that leads, by its own word and the others'.
    pub(crate) fn leader(&mut self) -> usize {
        let workers = self.places.workers();
        self.wait(Duration::from_secs(30), "one leads", |cluster| {
            (1..=workers).find(|worker| {
                cluster
                    .status(*worker)
                    .is_some_and(|status| status["is_leader"] == true)
            })
        })
    }

    /// The most blocks that any worker calls committed. Each look checks that none takes anything back, and that no two name
    /// another block at one height.
    pub(crate) fn committed(&mut self) -> u64 {
        (1..=self.places.workers())
            .filter_map(|worker| self.committed_by(worker))
            .max()
            .unwrap_or(0)
    }

    fn committed_by(&mut self, worker: usize) -> Option<u64> {
        let status = self.status(worker)?;
        let size = status["committed_size"].as_u64().unwrap();
        let before = self.committed.insert(worker, size).unwrap_or(0);
        assert!(
            before <= size,
            "worker {worker} takes back {before} committed blocks: {status}"
        );
        assert!(status["stopped"].is_null(), "{status}");
        let height = status["height"].as_u64().unwrap();
        if height + 1 == size {
            let hash = status["head"].as_str().unwrap().to_owned();
            let known = self.hashes.entry(height).or_insert_with(|| hash.clone());
            assert_eq!(*known, hash, "two blocks are committed at height {height}");
        }
        Some(size)
    }

    /// Waits until so many more blocks are committed.
    pub(crate) fn await_commits(&mut self, more: u64, longest: Duration) {
        let before = self.committed();
        self.await_committed(before + more, longest);
    }

    pub(crate) fn await_committed(&mut self, size: u64, longest: Duration) {
        self.wait(longest, &format!("{size} blocks are committed"), |cluster| {
            (cluster.committed() >= size).then_some(())
        });
    }

    /// The same, by the word of other workers than this one.
    pub(crate) fn await_committed_elsewhere(&mut self, than: usize, size: u64, longest: Duration) {
        let workers = self.places.workers();
        self.wait(longest, &format!("{size} blocks are committed"), |cluster| {
            let mut others = (1..=workers).filter(|worker| *worker != than);
            others
                .any(|worker| cluster.committed_by(worker) >= Some(size))
                .then_some(())
        });
    }

    /// When the faults are over: one chain, final, with everything that was accepted on it once.
    pub(crate) fn check_promises(&mut self, accepted: Vec<String>, longest: Duration) {
        let workers = self.places.workers();
        self.wait(longest, "all agree, and all is final", |cluster| {
            let statuses: Vec<Value> = (1..=workers)
                .map(|worker| cluster.status(worker))
                .collect::<Option<_>>()?;
            let first = statuses.first()?;
            let settled = |status: &Value| {
                status["head"] == first["head"]
                    && status["mempool_count"] == 0
                    && status["final_size"].as_u64() == status["height"].as_u64().map(|height| height + 1)
            };
            statuses.iter().all(settled).then_some(())
        });
        self.committed();
        for worker in 1..=workers {
            let chain = self.places.ask(worker, &["get_chain"]).unwrap();
            let mut found: BTreeMap<&str, u32> = BTreeMap::new();
            for block in chain["blocks"].as_array().unwrap() {
                for transaction in block["transactions"].as_array().unwrap() {
                    *found.entry(transaction["id"].as_str().unwrap()).or_default() += 1;
                }
            }
            for id in &accepted {
                assert_eq!(
                    found.get(id.as_str()),
                    Some(&1),
                    "accepted {id} on worker {worker}"
                );
            }
            let checked = self.places.ask(worker, &["check_consistency"]);
            assert!(checked.is_some(), "worker {worker}'s replica is not consistent");
        }
        println!(
            "{} transactions accepted under faults, all final on {workers} workers",
            accepted.len()
        );
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.processes.iter_mut().flatten() {
            let ended = child.kill().and_then(|()| child.wait());
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

fn worker_program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_block-chain-worker"))
}

/// Built beside the worker's.
fn server_program() -> PathBuf {
    let path = worker_program().with_file_name("block-chain-server");
    assert!(path.exists(), "{} is not built: run `make build`", path.display());
    path
}
