//! The network, clock and coordinator of the machines' tests.

use block_chain_common::block::{CheckedBlock, CheckedHeader};
use block_chain_common::chain_spec::{Allocation, ChainSpec, CheckedSpec, ProofSpec};
use block_chain_common::codec::BoundedVec;
use block_chain_common::coordinator_api::{
    API_VERSION, ChainView, CosignRequest, Heartbeat, RegisterRequest, registration_bytes,
};
use block_chain_common::evidence::Evidence;
use block_chain_common::keys::{PublicKey, SecretKey};
use block_chain_common::quantity::{Amount, Height, Nonce, Term, Timestamp};
use block_chain_common::transaction::{
    CheckedTransaction, Payload, RecordKey, RecordValue, Transaction, check_transactions,
};
use block_chain_common::work::Target;
use block_chain_server::service::{Capability, Join, Service, Settings, stored_spec};
use block_chain_server::store::StoreError;
use block_chain_worker::machine::{
    ChainRead as _, CommitOutcome, Effect, Event, FoundNonce, Machine, MempoolError, Message, Start, serve,
};
use block_chain_worker::storage::Store;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use tempfile::TempDir;

pub struct Node {
    dir: TempDir,
    pub store: Store,
    pub machine: Machine,
    pub key: SecretKey,
    worker: Capability,
    pub submitted: Vec<Result<usize, MempoolError>>,
    mined: usize,
    /// Why blocks that were asked for are not made.
    pub not_mined: Vec<String>,
    pub dropped: Vec<String>,
    /// It has stopped.
    pub evidence: Option<Evidence>,
}

pub struct World {
    _dir: TempDir,
    pub service: Service,
    pub coordinator_up: bool,
    pub spec: Arc<CheckedSpec>,
    pub nodes: Vec<Node>,
    wire: VecDeque<(usize, usize, Message)>,
    /// Nodes that reach nobody, the coordinator included.
    pub cut: BTreeSet<usize>,
    /// What all clocks show, in milliseconds since 1970.
    pub now: u64,
}

/// The coordinator's key: tests sign what it would not.
const COORDINATOR: [u8; 32] = [9; 32];

fn machine(
    spec: &Arc<CheckedSpec>,
    coordinator: PublicKey,
    key: &SecretKey,
    store: &Store,
    evidence: Option<Evidence>,
) -> Machine {
    Machine::new(Start {
        spec: Arc::clone(spec),
        coordinator,
        key: key.clone(),
        tip: store.tip().unwrap(),
        state_hash: store.state_hash().unwrap(),
        committed: store.committed().map(|checkpoint| checkpoint.note),
        final_size: store.final_checkpoint().map_or(0, |checkpoint| checkpoint.size),
        term: store.term(),
        mempool: store.mempool().unwrap(),
        evidence,
    })
}

impl World {
    /// A chain on which any nonce proves the work.
    pub fn new(nodes: usize) -> Self {
        Self::with(nodes, |spec| {
            spec.proof = ProofSpec::Work {
                initial_bits: Target::from_leading_zero_bits(0).to_bits(),
            };
            spec.block_interval_ms = 0;
        })
    }

    /// A chain of stake with slots of a second; keys are made of a byte.
    pub fn of_stake(nodes: usize, stakes: &[(u8, u64)]) -> Self {
        Self::with(nodes, |spec| {
            spec.proof = ProofSpec::Stake;
            spec.block_interval_ms = 1_000;
            let mut all: Vec<_> = stakes
                .iter()
                .map(|(seed, amount)| Allocation {
                    address: SecretKey::from_seed(&[*seed; 32]).public_key().address(),
                    amount: Amount::new(*amount),
                })
                .collect();
            all.sort_by_key(|stake| stake.address);
            spec.stakes = BoundedVec::new(all).unwrap();
        })
    }

    fn with(nodes: usize, adjust: impl Fn(&mut ChainSpec)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = block_chain_server::store::Store::open_sqlite(&dir.path().join("db")).unwrap();
        let seed = hex::encode(COORDINATOR);
        let kept = store.transaction::<_, StoreError>(|tx| tx.add_setting("coordinator_key", &seed));
        kept.unwrap();
        let service = Service::start(store, Settings::default(), Join::Open, adjust).unwrap();
        let spec = stored_spec(&service.chain("main").unwrap())
            .unwrap()
            .check()
            .unwrap();
        let mut world = Self {
            _dir: dir,
            service,
            coordinator_up: true,
            spec: Arc::new(spec),
            nodes: Vec::new(),
            wire: VecDeque::new(),
            cut: BTreeSet::new(),
            now: 1_000_000,
        };
        for _ in 0..nodes {
            world.join();
        }
        world.settle();
        world
    }

    fn now(&self) -> Timestamp {
        Timestamp::new(self.now)
    }

    /// The leader's number.
    pub fn leader(&self) -> usize {
        self.number(&self.view().leader.unwrap().public_key)
    }

    /// What the coordinator says of the chain.
    pub fn view(&self) -> ChainView {
        self.service.view("main", self.now()).unwrap()
    }

    pub fn term(&self) -> Term {
        self.view().term
    }

    /// A new worker registers and starts with an empty store.
    pub fn join(&mut self) -> usize {
        let number = self.nodes.len();
        let key = SecretKey::from_seed(&[u8::try_from(number + 1).unwrap(); 32]);
        let challenge = self.service.challenge(self.now()).unwrap().challenge;
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
        let registration = self.service.register(&request, self.now()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &self.spec).unwrap();
        let machine = machine(&self.spec, self.service.public_key(), &key, &store, None);
        let worker = Capability {
            worker: registration.worker_id,
            public_key: key.public_key().to_string(),
        };
        let (submitted, dropped) = (Vec::new(), Vec::new());
        self.nodes.push(Node {
            dir,
            store,
            machine,
            key,
            worker,
            submitted,
            mined: 0,
            dropped,
            evidence: None,
            not_mined: Vec::new(),
        });
        for other in 0..number {
            let keys = (
                self.nodes[number].key.public_key(),
                self.nodes[other].key.public_key(),
            );
            self.step(number, Event::PeerUp(keys.1));
            self.step(other, Event::PeerUp(keys.0));
        }
        number
    }

    fn heartbeat(&mut self, node: usize) {
        if !self.coordinator_up || self.cut.contains(&node) {
            return;
        }
        let store = &self.nodes[node].store;
        let (height, head) = store.head();
        let checkpoint_size = store.committed().map_or(0, |checkpoint| checkpoint.size);
        let beat = Heartbeat {
            chain: "main".to_owned(),
            height,
            head,
            committed: Height::new(checkpoint_size.saturating_sub(1)),
            term: store.term(),
            checkpoint_size,
            addresses: Vec::new(),
            api: None,
            stepping_down: false,
            orders: 0,
            version: None,
        };
        let view = self
            .service
            .heartbeat(&self.nodes[node].worker, &beat, self.now())
            .unwrap();
        self.step(node, Event::View(Box::new(view)));
    }

    pub fn coordinator_key(&self) -> SecretKey {
        SecretKey::from_seed(&COORDINATOR)
    }

    /// One step, whose effects are not performed.
    pub fn step_alone(&mut self, node: usize, event: Event) -> Vec<Effect> {
        let now = self.now();
        let Node { machine, store, .. } = &mut self.nodes[node];
        let output = machine.step(store, now, event).unwrap();
        store.apply(&output.writes).unwrap();
        output.effects
    }

    /// As the chain's thread does: writes first, then effects.
    pub fn step(&mut self, node: usize, event: Event) {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let now = self.now();
            let Node { machine, store, .. } = &mut self.nodes[node];
            let output = machine.step(store, now, event).unwrap();
            store.apply(&output.writes).unwrap();
            let again = output.again;
            for effect in output.effects {
                self.perform(node, effect);
            }
            next = again.then_some(Event::Continue);
        }
    }

    fn number(&self, key: &PublicKey) -> usize {
        self.nodes
            .iter()
            .position(|node| node.key.public_key() == *key)
            .unwrap()
    }

    fn perform(&mut self, node: usize, effect: Effect) {
        let reachable = self.coordinator_up && !self.cut.contains(&node);
        match effect {
            Effect::Send(peer, message) => self.wire.push_back((node, self.number(&peer), message)),
            Effect::Broadcast(message) => {
                for other in (0..self.nodes.len()).filter(|other| *other != node) {
                    self.wire.push_back((node, other, message.clone()));
                }
            }
            Effect::Drop(_, reason) => self.nodes[node].dropped.push(reason),
            Effect::Submitted(_, result) => {
                self.nodes[node]
                    .submitted
                    .push(result.map(|answers| answers.len()));
            }
            Effect::Search(template) => {
                let digest = template.header.digest_without_proof();
                self.step(
                    node,
                    Event::Found(FoundNonce {
                        digest,
                        nonce: 0,
                        attempts: 1,
                        elapsed_ms: 0,
                    }),
                );
            }
            Effect::Mined(_, result) => {
                let node = &mut self.nodes[node];
                match result {
                    Ok(_) => node.mined += 1,
                    Err(reason) => node.not_mined.push(reason),
                }
            }
            Effect::Commit(request) => {
                let outcome = if reachable {
                    match self.service.commit(&self.nodes[node].worker, "main", &request) {
                        Ok(answer) => CommitOutcome::Done(answer.checkpoint),
                        Err(error) => CommitOutcome::Refused("refused".to_owned(), error.to_string()),
                    }
                } else {
                    CommitOutcome::Unreachable
                };
                self.step(node, Event::Committed(outcome));
            }
            Effect::Cosign(size, note) => {
                let request = CosignRequest { size, note };
                let cosign = |node: &Node| self.service.cosign(&node.worker, "main", &request).unwrap();
                let answer = reachable.then(|| cosign(&self.nodes[node]));
                self.step(node, Event::Cosigned(answer));
            }
            Effect::DoubleBlock(double) => panic!("{double:?}"),
            Effect::Evidence(evidence) => self.nodes[node].evidence = Some(*evidence),
            Effect::StopSearch | Effect::Head(..) | Effect::CommittedTo(_) | Effect::FinalTo(_) => {}
        }
    }

    /// As the node's inbound side does: what is valid in itself becomes an event.
    fn deliver(&mut self, from: usize, to: usize, message: Message) {
        if self.cut.contains(&from) || self.cut.contains(&to) {
            return;
        }
        let (peer, chain) = (self.nodes[from].key.public_key(), self.spec.id());
        let event = match message {
            request if request.is_request() => {
                let mut answers = Vec::new();
                serve(&self.nodes[to].store, &request, |answer| {
                    answers.push(answer);
                    true
                })
                .unwrap();
                self.wire
                    .extend(answers.into_iter().map(|answer| (to, from, answer)));
                return;
            }
            Message::Headers(headers) => {
                let checked = headers
                    .into_vec()
                    .into_iter()
                    .map(|h| CheckedHeader::check(h, chain).unwrap());
                Event::Headers(peer, checked.collect())
            }
            Message::Compact { header, .. } => {
                Event::Headers(peer, vec![CheckedHeader::check(header, chain).unwrap()])
            }
            Message::Block(block) => {
                Event::Block(peer, Box::new(CheckedBlock::check(*block, chain).unwrap()))
            }
            Message::Transactions(transactions) => {
                let checked = check_transactions(transactions.into_vec(), chain);
                Event::Transactions(peer, checked.into_iter().map(Result::unwrap).collect())
            }
            other => Event::Message(peer, other),
        };
        self.step(to, event);
    }

    /// Delivers what is on the wire, and lets twelve seconds pass.
    pub fn settle(&mut self) {
        for _ in 0..120 {
            self.now += 100;
            for node in 0..self.nodes.len() {
                self.step(node, Event::Tick);
                if self.now % 1_000 < 100 {
                    self.heartbeat(node);
                }
            }
            let mut delivered = 0;
            while let Some((from, to, message)) = self.wire.pop_front() {
                self.deliver(from, to, message);
                delivered += 1;
                assert!(delivered < 100_000, "messages without end");
            }
        }
    }

    pub fn submit(&mut self, node: usize, seed: u8, nonces: std::ops::Range<u64>) {
        let key = SecretKey::from_seed(&[seed; 32]);
        let transactions = nonces.map(|nonce| {
            let payload = Payload::Put {
                key: RecordKey::new(format!("{seed}/{nonce}").into_bytes()).unwrap(),
                value: RecordValue::new(vec![seed]).unwrap(),
            };
            let transaction = Transaction::sign(self.spec.id(), Nonce::new(nonce), payload, &key);
            CheckedTransaction::check(transaction, self.spec.id()).unwrap()
        });
        let transactions = transactions.collect();
        self.step(node, Event::Submit(1, transactions));
    }

    pub fn mine(&mut self, node: usize) {
        self.now += 10;
        let before = self.nodes[node].mined;
        self.step(node, Event::Mine(7));
        assert_eq!(self.nodes[node].mined, before + 1, "a block is found at once");
    }

    pub fn head(&self, node: usize) -> (u64, String) {
        let (height, hash) = self.nodes[node].store.head();
        (height.get(), hash.to_string())
    }

    pub fn final_size(&self, node: usize) -> u64 {
        self.nodes[node]
            .store
            .final_checkpoint()
            .map_or(0, |checkpoint| checkpoint.size)
    }

    /// The ids of a node's chain's transactions, from genesis on.
    pub fn transactions(&self, node: usize) -> Vec<String> {
        let store = &self.nodes[node].store;
        let (head, _) = store.head();
        let block = |height| store.transactions(&store.hash_at(Height::new(height)).unwrap().unwrap());
        let all = (0..=head.get()).flat_map(|height| block(height).unwrap().unwrap());
        all.map(|transaction| transaction.id().to_string()).collect()
    }

    /// One head everywhere, final, and nobody was dropped on the way.
    pub fn assert_agreed(&self) {
        let first = self.head(0);
        for node in 0..self.nodes.len() {
            assert_eq!(self.head(node), first, "node {node}");
            assert_eq!(self.final_size(node), first.0 + 1, "node {node}");
            assert_eq!(self.nodes[node].dropped, Vec::<String>::new(), "node {node}");
            assert_eq!(self.nodes[node].evidence, None, "node {node}");
        }
    }

    /// The node's process ends and starts again.
    pub fn restart(&mut self, node: usize) {
        self.restart_with(node, None);
    }

    /// It has kept evidence.
    pub fn restart_with(&mut self, node: usize, evidence: Option<Evidence>) {
        let (spec, coordinator) = (Arc::clone(&self.spec), self.service.public_key());
        let old = &mut self.nodes[node];
        let elsewhere = tempfile::tempdir().unwrap();
        // The directory is free only when the last handle of its store is gone.
        old.store = Store::open(elsewhere.path(), &spec).unwrap();
        old.store = Store::open(old.dir.path(), &spec).unwrap();
        old.evidence.clone_from(&evidence);
        old.machine = machine(&spec, coordinator, &old.key, &old.store, evidence);
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            let (mine, theirs) = (
                self.nodes[node].key.public_key(),
                self.nodes[other].key.public_key(),
            );
            self.step(other, Event::PeerDown(mine));
            self.step(node, Event::PeerUp(theirs));
            self.step(other, Event::PeerUp(mine));
        }
    }
}
