//! A coordinator and workers as real processes, each in its namespace; asked with the commands that users have.

use crate::namespace::{Namespace, may};
use crate::switch::Switch;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long one command may take while the network fails.
const COMMAND_SECONDS: &str = "10";
/// Between two looks at something that changes by itself.
const LOOK: Duration = Duration::from_millis(100);

/// Where the programs run: servers in place 0, each worker in one of its own.
enum Ground {
    Namespaces(Vec<Namespace>),
    Loopback,
}

/// Where the programs and their folders are.
pub(crate) struct Places {
    ground: Ground,
    workers: usize,
    folder: TempDir,
    /// Workers that are down: a command would start their nodes again.
    down: Mutex<BTreeSet<usize>>,
}

impl Places {
    pub(crate) fn workers(&self) -> usize {
        self.workers
    }

    /// A program that will run in a place.
    fn command(&self, place: usize, program: &Path) -> Command {
        match &self.ground {
            Ground::Namespaces(all) => all[place].command(program),
            Ground::Loopback => Command::new(program),
        }
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
        let mut command = self.command(worker, Path::new("timeout"));
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

struct Server {
    /// Where it listens; a free port before its first start.
    bind: String,
    url: String,
    process: Option<Child>,
}

pub(crate) struct Cluster {
    pub(crate) places: Arc<Places>,
    /// Between namespaces.
    pub(crate) switch: Option<Switch>,
    database: Option<String>,
    /// Whether the coordinator serves a relay.
    has_relay: bool,
    servers: Vec<Server>,
    /// The process of worker 1 is the first.
    workers: Vec<Option<Child>>,
    /// How many blocks each worker has called committed last, and every committed head that any has named, by height.
    committed: BTreeMap<usize, u64>,
    hashes: BTreeMap<u64, String>,
}

impl Cluster {
    /// So many workers of one coordinator, in namespaces; nothing where the test runs elsewhere, with the rights it needs.
    pub(crate) fn start(workers: usize, test: &str) -> Option<Self> {
        Self::in_namespaces(workers, test, false)
    }

    /// So many workers in namespaces that reach their coordinator and not each other; it serves a relay.
    pub(crate) fn apart(workers: usize, test: &str) -> Option<Self> {
        Self::in_namespaces(workers, test, true)
    }

    fn in_namespaces(workers: usize, test: &str, are_apart: bool) -> Option<Self> {
        if !may(test) {
            return None;
        }
        let (namespaces, devices): (Vec<_>, Vec<_>) = (0..=workers)
            .map(|node| Namespace::new(u8::try_from(node + 1).unwrap()))
            .unzip();
        let switch = Switch::start(devices);
        if are_apart {
            let all: Vec<usize> = (1..=workers).collect();
            switch.cut(&all, &all);
        }
        let binds = vec!["10.77.0.1:18000".to_owned()];
        let ground = (Ground::Namespaces(namespaces), Some(switch));
        Some(Self::with(ground, workers, binds, None, are_apart))
    }

    /// So many workers of several coordinators over one database, without namespaces.
    pub(crate) fn on_loopback(workers: usize, servers: usize, database: Option<String>) -> Self {
        let binds = vec!["127.0.0.1:0".to_owned(); servers];
        Self::with((Ground::Loopback, None), workers, binds, database, false)
    }

    fn with(
        (ground, switch): (Ground, Option<Switch>),
        workers: usize,
        binds: Vec<String>,
        database: Option<String>,
        has_relay: bool,
    ) -> Self {
        let places = Places {
            ground,
            workers,
            folder: tempfile::tempdir().unwrap(),
            down: Mutex::default(),
        };
        let server = |bind| Server {
            bind,
            url: String::new(),
            process: None,
        };
        let mut this = Self {
            places: Arc::new(places),
            switch,
            database,
            has_relay,
            servers: binds.into_iter().map(server).collect(),
            workers: (0..workers).map(|_| None).collect(),
            committed: BTreeMap::new(),
            hashes: BTreeMap::new(),
        };
        for server in 0..this.servers.len() {
            this.run_server(server);
        }
        for worker in 1..=workers {
            this.run(worker);
        }
        this.wait(Duration::from_secs(60), "all workers are there", |cluster| {
            let is_there = |worker| {
                let status = cluster.status(worker)?;
                Some(status["members"] == workers && status["peers"] == workers - 1)
            };
            (1..=workers)
                .all(|worker| is_there(worker) == Some(true))
                .then_some(())
        });
        this
    }

    pub(crate) fn switch(&self) -> &Switch {
        self.switch.as_ref().unwrap()
    }

    fn log(&self, name: &str) -> PathBuf {
        self.places.folder.path().join(format!("{name}.log"))
    }

    /// Starts a program whose words go to a log of its own.
    fn spawn(&self, mut command: Command, name: &str) -> Child {
        let log = std::fs::File::options()
            .append(true)
            .create(true)
            .open(self.log(name));
        let log = log.unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap());
        command.stderr(log).spawn().unwrap()
    }

    /// Starts a server, and waits until it answers.
    pub(crate) fn run_server(&mut self, server: usize) {
        let name = format!("server-{server}");
        let dir = self.places.folder.path().join(&name);
        let mut command = self.places.command(0, &server_program());
        command.args(["--bind", &self.servers[server].bind, "--open"]);
        command.args(["--difficulty", "12", "--block-interval-ms", "1000"]);
        command.arg("--data-dir").arg(&dir);
        if self.has_relay {
            command.arg("--relay");
        }
        if let Some(database) = &self.database {
            command.env("BLOCK_CHAIN_DATABASE_URL", database);
        }
        let said = |cluster: &Self| -> Vec<String> {
            let log = std::fs::read_to_string(cluster.log(&name)).unwrap_or_default();
            let lines = log.lines().filter_map(|line| line.strip_prefix("listening on "));
            lines.map(str::to_owned).collect()
        };
        let before = said(self).len();
        self.servers[server].process = Some(self.spawn(command, &name));
        // It says so when it answers.
        let url = self.wait(Duration::from_secs(30), "the server is ready", |cluster| {
            said(cluster).get(before).cloned()
        });
        let address = url.strip_prefix("http://").unwrap().to_owned();
        self.servers[server].bind = address;
        self.servers[server].url = url;
    }

    /// Starts a worker's node.
    pub(crate) fn run(&mut self, worker: usize) {
        let dir = self.places.dir(worker);
        let urls: Vec<&str> = self.servers.iter().map(|server| server.url.as_str()).collect();
        let mut command = self.places.command(worker, &worker_program());
        command.arg("--data-dir").arg(&dir);
        command.args(["--server", &urls.join(","), "run"]);
        self.workers[worker - 1] = Some(self.spawn(command, &format!("worker-{worker}")));
        self.places.down().remove(&worker);
    }

    /// Kills a worker's node as a loss of power would.
    pub(crate) fn kill(&mut self, worker: usize) {
        self.places.down().insert(worker);
        // `ip netns exec` becomes the program: this is its process.
        end(self.workers[worker - 1].take().unwrap());
    }

    /// Has a worker's node end in good order.
    pub(crate) fn terminate(&mut self, worker: usize) {
        self.places.down().insert(worker);
        let mut child = self.workers[worker - 1].take().unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(
            child.wait().unwrap().success(),
            "worker {worker} does not end well"
        );
    }

    /// A server's own database, where it has one.
    pub(crate) fn database_file(&self) -> PathBuf {
        self.places.folder.path().join("server-0/coordinator.sqlite")
    }

    /// What `block-chain-server recover` says, and whether it did what it was asked for.
    pub(crate) fn recover(&self, more: &[&str]) -> (bool, String) {
        let mut command = self.places.command(0, &server_program());
        command.arg("recover").arg("--data-dir");
        let command = command.arg(self.places.folder.path().join("server-0")).args(more);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let (said, error) = (output.stdout, output.stderr);
        let text = String::from_utf8_lossy(&[said, error].concat()).into_owned();
        (output.status.success(), text)
    }

    /// Kills a server in the same way.
    pub(crate) fn kill_server(&mut self, server: usize) {
        end(self.servers[server].process.take().unwrap());
    }

    pub(crate) fn status(&self, worker: usize) -> Option<Value> {
        self.places.ask(worker, &["status"])
    }

    pub(crate) fn wait<T>(
        &mut self,
        longest: Duration,
        what: &str,
        mut look: impl FnMut(&mut Self) -> Option<T>,
    ) -> T {
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
        let servers = (0..self.servers.len()).map(|server| format!("server-{server}"));
        let workers = (1..=self.places.workers()).map(|worker| format!("worker-{worker}"));
        for name in servers.chain(workers) {
            let log = std::fs::read_to_string(self.log(&name)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines.get(lines.len().saturating_sub(12)..).unwrap_or_default();
            println!("{name}:\n{}", last.join("\n"));
        }
        for worker in 1..=self.places.workers() {
            println!("worker {worker}: {:?}", self.status(worker));
        }
    }

    /// What the nodes that run hold in memory of their own, in MiB.
    pub(crate) fn memory(&self) -> Vec<(usize, u64)> {
        let own = |process: &Child| {
            let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
            let kib = line.split_whitespace().next()?.parse::<u64>().ok()?;
            Some(kib / 1_024)
        };
        let workers = self.workers.iter().enumerate();
        let running = workers.filter_map(|(place, process)| Some((place + 1, own(process.as_ref()?)?)));
        running.collect()
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
        let servers = self.servers.iter_mut().filter_map(|server| server.process.take());
        let workers = self.workers.iter_mut().filter_map(Option::take);
        servers.chain(workers).for_each(end);
    }
}

fn end(mut child: Child) {
    let ended = child.kill().and_then(|()| child.wait());
    assert!(ended.is_ok() || std::thread::panicking());
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
