//! Nodes, coordinator, network and clocks, and the queue of what happens next.

mod clients;
mod coordinate;
mod drive;
mod faults;
mod kind;
mod network;
mod receipts;

use crate::disk::Disk;
use crate::promises::Promises;
use block_chain_common::agreement::SafetyRule;
use block_chain_common::chain_spec::{Allocation, CheckedSpec, ProofSpec};
use block_chain_common::codec::BoundedVec;
use block_chain_common::coordinator_api::{API_VERSION, CommitRequest, RegisterRequest, registration_bytes};
use block_chain_common::hash::TxId;
use block_chain_common::keys::{PublicKey, SecretKey};
use block_chain_common::limits::MAX_SPEC_ENTRIES;
use block_chain_common::quantity::{Amount, Timestamp};
use block_chain_common::receipt::Receipt;
use block_chain_common::transaction::CheckedTransaction;
use block_chain_common::work::Target;
use block_chain_server::service::{Capability, Join, Service, Settings, stored_spec};
use block_chain_server::store::{Store, StoreError};
use block_chain_worker::machine::{Effect, Event, Machine, Message};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// When the simulated world begins, in milliseconds since 1970.
const BEGINNING: u64 = 1_700_000_000_000;
const TICK_MS: u64 = 100;
const HEARTBEAT_MS: u64 = 1_000;
/// How long after the faults everything must be agreed on and final.
const RECOVERY_MS: u64 = 120_000;
const CLIENTS: u64 = 3;

/// A rule of safety that is left out, to see that a seed finds it missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Without {
    /// Answers and messages leave before what they speak of is on disk.
    SyncBeforeAnswer,
    /// Workers acknowledge what they do not hold, so that a quorum means nothing (AGR-2, AGR-5).
    HoldingBeforeAcknowledging,
    /// A rule that coordinator and machine can be made to forget.
    Rule(SafetyRule),
}

/// What one run is made of.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// How long faults go on, in simulated milliseconds.
    pub faults_ms: u64,
    /// The rule that is left out.
    pub without: Option<Without>,
    /// Whether to tell what happens.
    pub trace: bool,
}

impl Options {
    /// Every fifth seed is of a chain of stake; the others are of work.
    const fn is_of_stake(&self) -> bool {
        self.seed % 5 == 4
    }

    /// The rule that coordinator and machine are made to forget.
    const fn left_out(&self) -> Option<SafetyRule> {
        match self.without {
            Some(Without::Rule(rule)) => Some(rule),
            _ => None,
        }
    }
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// When, in simulated milliseconds from the beginning.
    pub at_ms: u64,
    /// What.
    pub what: String,
}

/// What a run that kept its promises has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Nodes.
    pub nodes: usize,
    /// The height that was reached.
    pub height: u64,
    /// Transactions that were accepted.
    pub accepted: usize,
    /// Receipts that were given, and verified at the end.
    pub receipts: usize,
    /// Steps of machines.
    pub steps: u64,
    /// Faults.
    pub faults: u64,
    /// A digest of all that happened: the same seed gives the same.
    pub trace: u64,
}

enum ToCoordinator {
    Heartbeat,
    Commit(Box<CommitRequest>),
    Cosign(u64, String),
}

/// What happens next. A node's number stands with its life: what a crash has overtaken is forgotten.
enum What {
    Tick(usize, u64),
    Heartbeat(usize, u64),
    Sync(usize, u64),
    Deliver(usize, usize, Message),
    Ask(usize, u64, ToCoordinator),
    Answer(usize, u64, Box<Event>),
    Peer(usize, usize, bool),
    CoordinatorTick(usize),
    CoordinatorUp(usize),
    /// An operator has the coordinator go on from what the nodes have.
    Recover,
    Client(u64),
    Thief,
    Start(usize),
    Heal(Fault),
    /// Miners look for a block at the same time.
    Race,
    NextFault,
}

/// What fails, and is mended again.
#[derive(Debug, Clone)]
enum Fault {
    Cut(BTreeSet<(usize, usize)>),
    Unreachable(usize, bool),
    Loss(u32),
}

struct Node {
    key: SecretKey,
    worker: Capability,
    disk: Disk,
    machine: Option<Machine>,
    /// How often it was started.
    life: u64,
    /// Effects that wait for the sync.
    held: Vec<Effect>,
    sync_due: bool,
    paused_until: u64,
    /// Its clock runs so many thousandths fast, and is so many milliseconds ahead.
    clock: (i64, i64),
    /// It has stopped: it knows of checkpoints that contradict each other.
    evidence: Option<String>,
}

struct Client {
    key: SecretKey,
    nonce: u64,
    waiting: Option<CheckedTransaction>,
}

struct World {
    options: Options,
    rng: StdRng,
    now: u64,
    queue: BTreeMap<(u64, u64), What>,
    next: u64,
    folder: tempfile::TempDir,
    /// The coordinator's processes, over one database.
    coordinators: Vec<Option<Service>>,
    spec: Arc<CheckedSpec>,
    coordinator: PublicKey,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    tokens: BTreeMap<u64, (u64, TxId)>,
    accepted: BTreeMap<TxId, u64>,
    promises: Promises,
    checked: network::Checked,
    receipts: Vec<Receipt>,
    cut: BTreeSet<(usize, usize)>,
    /// Nodes whose requests, or answers to them, do not come through.
    deaf: BTreeSet<(usize, bool)>,
    /// There is a copy of the coordinator's database.
    copied: bool,
    loss_percent: u32,
    /// What a message between nodes takes at most, but for those that are late.
    latency_ms: u64,
    faults_over: bool,
    steps: u64,
    faults: u64,
    trace: u64,
}

/// Runs one seed.
///
/// # Errors
/// The promise that it breaks.
pub fn run(options: Options) -> Result<Summary, Broken> {
    let mut world = World::new(options).map_err(|what| Broken { at_ms: 0, what })?;
    let result = world.live();
    result.map_err(|what| Broken {
        at_ms: world.now,
        what,
    })
}

fn start_service(path: PathBuf, options: &Options) -> Result<Service, String> {
    let store = Store::open_sqlite(&path).map_err(|error| error.to_string())?;
    let key = hex::encode([9; 32]);
    let settings = Settings {
        heartbeat_ms: HEARTBEAT_MS,
        lease_ms: 3_000,
        evict_after_ms: 20_000,
    };
    let fixed = store.transaction::<_, StoreError>(|tx| match tx.setting("coordinator_key")? {
        Some(_) => Ok(()),
        None => tx.add_setting("coordinator_key", &key),
    });
    fixed.map_err(|error| error.to_string())?;
    let service = Service::start(store, settings, Join::Open, |spec| {
        spec.block_interval_ms = 1_000;
        spec.proof = ProofSpec::Work {
            initial_bits: Target::from_leading_zero_bits(0).to_bits(),
        };
        spec.balances = clients::first_balances();
        if options.is_of_stake() {
            spec.proof = ProofSpec::Stake;
            spec.stakes = first_stakes();
        }
    });
    let service = service.map_err(|error| error.to_string())?;
    Ok(service.without(options.left_out()))
}

/// The first two nodes have stake, and nobody else.
fn first_stakes() -> BoundedVec<Allocation, MAX_SPEC_ENTRIES> {
    let mut stakes = [(1, 30), (2, 70)].map(|(node, amount)| Allocation {
        address: SecretKey::from_seed(&[node; 32]).public_key().address(),
        amount: Amount::new(amount),
    });
    stakes.sort_by_key(|stake| stake.address);
    BoundedVec::new(stakes.to_vec()).unwrap_or_default()
}

/// A slow network has more races between miners.
fn latency(rng: &mut StdRng) -> u64 {
    match rng.random_range(0..10_u32) {
        0..=5 => 40,
        6..=8 => 400,
        _ => 1_500,
    }
}

impl World {
    fn new(options: Options) -> Result<Self, String> {
        let mut rng = StdRng::seed_from_u64(options.seed);
        // In memory where there is such a folder: the database syncs every commit.
        let memory = std::path::Path::new("/dev/shm");
        let folder = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        let folder = folder.map_err(|error| error.to_string())?;
        let database = folder.path().join("db");
        let service = start_service(database.clone(), &options)?;
        let others = if rng.random_range(0..10_u32) < 6 {
            0
        } else {
            rng.random_range(1..=2)
        };
        let info = service.chain("main").map_err(|error| error.to_string())?;
        let spec = stored_spec(&info).map_err(|error| error.to_string())?;
        let spec = spec.check().map_err(|error| error.to_string())?;
        let count = match rng.random_range(0..10_u32) {
            0 => 1,
            1 => 2,
            2..=5 => 3,
            6 => 4,
            7 | 8 => 5,
            _ => rng.random_range(6..=9),
        };
        let mut world = Self {
            latency_ms: latency(&mut rng),
            coordinator: service.public_key(),
            options,
            rng,
            now: 0,
            queue: BTreeMap::new(),
            next: 0,
            folder,
            coordinators: vec![Some(service)],
            spec: Arc::new(spec),
            nodes: Vec::new(),
            clients: Vec::new(),
            tokens: BTreeMap::new(),
            accepted: BTreeMap::new(),
            promises: Promises::default(),
            checked: network::Checked::default(),
            receipts: Vec::new(),
            cut: BTreeSet::new(),
            deaf: BTreeSet::new(),
            copied: false,
            loss_percent: 0,
            faults_over: false,
            steps: 0,
            faults: 0,
            trace: 0,
        };
        for _ in 0..others {
            let service = start_service(database.clone(), &options)?;
            world.coordinators.push(Some(service));
        }
        world.begin(count)?;
        Ok(world)
    }

    /// Nodes register and start, clients begin to send, the first fault comes.
    fn begin(&mut self, nodes: usize) -> Result<(), String> {
        for _ in 0..nodes {
            self.now = self.now.saturating_add(10);
            self.join()?;
        }
        for number in 0..CLIENTS {
            let seed = u8::try_from(number.saturating_add(100)).map_err(|error| error.to_string())?;
            let key = SecretKey::from_seed(&[seed; 32]);
            self.clients.push(Client {
                key,
                nonce: 0,
                waiting: None,
            });
            self.later(500, What::Client(number));
        }
        self.later(1_000, What::Thief);
        for number in 0..nodes {
            self.later(0, What::Start(number));
        }
        for number in 0..self.coordinators.len() {
            self.later(500, What::CoordinatorTick(number));
        }
        self.later(3_000, What::NextFault);
        Ok(())
    }

    fn join(&mut self) -> Result<(), String> {
        let number = self.nodes.len();
        let seed = u8::try_from(number.saturating_add(1)).map_err(|error| error.to_string())?;
        let key = SecretKey::from_seed(&[seed; 32]);
        let now = Timestamp::new(BEGINNING.saturating_add(self.now));
        let service = self
            .any_coordinator()
            .ok_or("the coordinator is there at the beginning")?;
        let challenge = service
            .challenge(now)
            .map_err(|error| error.to_string())?
            .challenge;
        let signature = key.sign(&registration_bytes(&challenge, "main", &key.public_key()));
        let request = RegisterRequest {
            api_version: API_VERSION,
            chain: "main".to_owned(),
            public_key: key.public_key(),
            name: None,
            token: None,
            addresses: Vec::new(),
            api: None,
            challenge,
            signature,
        };
        let registration = service
            .register(&request, now)
            .map_err(|error| error.to_string())?;
        self.nodes.push(Node {
            worker: Capability {
                worker: registration.worker_id,
                public_key: key.public_key().to_string(),
            },
            key,
            disk: Disk::new(&self.spec),
            machine: None,
            life: 0,
            held: Vec::new(),
            sync_due: false,
            paused_until: 0,
            clock: (0, 0),
            evidence: None,
        });
        Ok(())
    }

    /// One of the coordinator's processes that is up.
    fn any_coordinator(&self) -> Option<&Service> {
        self.coordinators.iter().flatten().next()
    }

    fn later(&mut self, after: u64, what: What) {
        self.next = self.next.saturating_add(1);
        self.queue
            .insert((self.now.saturating_add(after), self.next), what);
    }

    fn percent(&mut self, chance: u32) -> bool {
        self.rng.random_range(0..100) < chance
    }

    fn tell(&self, text: impl FnOnce() -> String) {
        if self.options.trace {
            // The trace of one run is what the program was asked for.
            #[expect(clippy::print_stderr, reason = "asked for by --trace")]
            {
                eprintln!("{:>8} {}", self.now, text());
            }
        }
    }

    fn note(&mut self, word: u64) {
        // FNV-1a, 64 bit.
        for byte in word.to_le_bytes() {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Until the faults are over and everything has settled.
    fn live(&mut self) -> Result<Summary, String> {
        let end = self.options.faults_ms.saturating_add(RECOVERY_MS);
        while let Some(((at, _), what)) = self.queue.pop_first() {
            self.now = at;
            if at >= self.options.faults_ms && !self.faults_over {
                self.end_faults()?;
            }
            if at >= end {
                break;
            }
            // Settled early: the clients are done, and nothing is left to agree on.
            if self.faults_over && at % 1_000 == 0 && self.settled().is_ok() {
                break;
            }
            self.happen(what)?;
        }
        if let Err(broken) = self.settled() {
            self.describe();
            return Err(broken);
        }
        self.check_receipts()?;
        Ok(Summary {
            nodes: self.nodes.len(),
            height: self.promises.height(),
            accepted: self.accepted.len(),
            receipts: self.receipts.len(),
            steps: self.steps,
            faults: self.faults,
            trace: self.trace,
        })
    }

    /// Where everybody stands, for the trace.
    fn describe(&self) {
        for (number, node) in self.nodes.iter().enumerate() {
            let tables = node.disk.visible();
            let waiting: Vec<_> = tables
                .mempool()
                .iter()
                .map(|(_, tx)| tx.id().to_string())
                .collect();
            self.tell(|| {
                format!(
                    "node {number} {}: head {:?}, {} committed, {} final, term {}, waiting {waiting:?}",
                    node.key.public_key(),
                    tables.head(),
                    tables.committed_size(),
                    tables.final_size(),
                    tables.term()
                )
            });
        }
        let now = Timestamp::new(BEGINNING.saturating_add(self.now));
        if let Some(view) = self.any_coordinator().map(|service| service.view("main", now)) {
            self.tell(|| format!("the coordinator: {view:?}"));
        }
    }

    fn settled(&self) -> Result<(), String> {
        if let Some((number, node)) = self
            .nodes
            .iter()
            .enumerate()
            .find(|(_, node)| node.evidence.is_some())
        {
            let reason = node.evidence.clone().unwrap_or_default();
            return Err(format!("node {number} has stopped: {reason}"));
        }
        if self.clients.iter().any(|client| client.waiting.is_some()) {
            return Err("a transaction is not accepted".to_owned());
        }
        let tables = self.nodes.iter().map(|node| node.disk.durable());
        self.promises.at_the_end(tables, &self.accepted)
    }

    fn clock(&self, number: usize) -> Timestamp {
        let (thousandths, ahead) = self.nodes.get(number).map_or((0, 0), |node| node.clock);
        let passed = i64::try_from(self.now).unwrap_or(i64::MAX);
        let drift = passed.saturating_mul(thousandths) / 1_000;
        let shown = BEGINNING.saturating_add(self.now);
        Timestamp::new(shown.saturating_add_signed(drift.saturating_add(ahead)))
    }

    fn is_alive(&self, number: usize, life: u64) -> bool {
        let node = self.nodes.get(number);
        node.is_some_and(|node| node.machine.is_some() && node.life == life)
    }

    /// A paused node does nothing until it is woken; then everything comes at once.
    fn woken_at(&self, number: usize) -> Option<u64> {
        let until = self.nodes.get(number)?.paused_until;
        (until > self.now).then(|| until.saturating_sub(self.now))
    }

    fn happen(&mut self, what: What) -> Result<(), String> {
        let about = match &what {
            What::Tick(number, _)
            | What::Heartbeat(number, _)
            | What::Sync(number, _)
            | What::Deliver(_, number, _)
            | What::Answer(number, ..) => Some(*number),
            _ => None,
        };
        if let Some(pause) = about.and_then(|number| self.woken_at(number)) {
            self.later(pause, what);
            return Ok(());
        }
        match what {
            What::Tick(number, life) if self.is_alive(number, life) => {
                self.later(TICK_MS, What::Tick(number, life));
                self.step(number, Event::Tick)
            }
            What::Heartbeat(number, life) if self.is_alive(number, life) => {
                let next = self.rng.random_range(HEARTBEAT_MS / 2..=HEARTBEAT_MS);
                self.later(next, What::Heartbeat(number, life));
                self.ask(number, ToCoordinator::Heartbeat);
                Ok(())
            }
            What::Sync(number, life) if self.is_alive(number, life) => self.sync(number),
            What::Deliver(from, to, message) => self.deliver(from, to, message),
            What::Ask(number, life, request) if self.is_alive(number, life) => {
                self.coordinate(number, life, request)
            }
            What::Answer(number, life, event) if self.is_alive(number, life) => self.step(number, *event),
            What::Peer(number, other, up) => self.peer(number, other, up),
            What::CoordinatorTick(number) => self.coordinator_tick(number),
            What::CoordinatorUp(number) => self.start_coordinator(number),
            What::Recover => self.recover(),
            What::Client(number) => self.client(number),
            What::Thief => self.thief(),
            What::Start(number) => self.start(number),
            What::Heal(fault) => self.heal(fault),
            What::Race if !self.faults_over => self.race(),
            What::NextFault if !self.faults_over => {
                let next = self.rng.random_range(300..6_000);
                self.later(next, What::NextFault);
                self.fault()
            }
            _ => Ok(()),
        }
    }
}
