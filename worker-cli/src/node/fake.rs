//! For tests: a handle over a real store, with a task that answers commands as the driver would, without network or clock.

use super::NodeHandle;
use super::handle::{Command, MinedBlock, Shared};
use crate::api::types::{Accepted, NodeStatus, Status};
use crate::machine::{ChainRead, Write};
use crate::storage::Store;
use block_chain_common::block::{Block, CheckedBlock, ConnectedBlock, build_block, connect_block};
use block_chain_common::chain_spec::{ChainSpec, CheckedSpec, ProofSpec};
use block_chain_common::checkpoint::Checkpoint;
use block_chain_common::codec::BoundedVec;
use block_chain_common::hash::BlockHash;
use block_chain_common::header::Proof;
use block_chain_common::keys::{PublicKey, SecretKey};
use block_chain_common::quantity::{Height, Nonce, Term, Timestamp};
use block_chain_common::transaction::{CheckedTransaction, Payload, RecordKey, RecordValue, Transaction};
use block_chain_common::work::Target;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, mpsc};
use uuid::Uuid;

/// What peers answer.
#[derive(Default)]
pub(crate) struct Peers {
    /// A replica that is asked for blocks and, under any key, for hashes.
    pub(crate) replica: Option<Store>,
    /// Hashes that a peer claims instead; nothing for no answer.
    pub(crate) claims: HashMap<PublicKey, Vec<(Height, Option<BlockHash>)>>,
    /// Peers that do not answer.
    pub(crate) silent: Vec<PublicKey>,
}

pub(crate) struct FakeNode {
    pub(crate) node: NodeHandle,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) key: SecretKey,
    pub(crate) peers: Arc<Mutex<Peers>>,
    coordinator: SecretKey,
    sequence: Arc<AtomicU64>,
}

pub(crate) fn spec() -> CheckedSpec {
    let mut spec = ChainSpec::default_for("main", SecretKey::from_seed(&[7; 32]).public_key().address());
    spec.proof = ProofSpec::Work {
        initial_bits: Target::from_leading_zero_bits(2).to_bits(),
    };
    spec.block_interval_ms = 0;
    spec.check().unwrap()
}

impl FakeNode {
    /// A node with the first block only. Within a runtime.
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let spec = Arc::new(spec());
        let store = Store::open(dir.path(), &spec).unwrap();
        let key = SecretKey::from_seed(&[7; 32]);
        let coordinator = SecretKey::from_seed(&[9; 32]);
        let (commands, receiver) = mpsc::channel(64);
        let ready = status(&spec, &store, &key);
        let shared = Shared::new(
            dir.path().to_owned(),
            (store, spec),
            (coordinator.public_key(), key.clone()),
            commands,
        );
        let shared = Shared {
            status: RwLock::new(ready),
            events: broadcast::channel(16).0,
            // Long enough ago that nobody waits for it to be connected.
            started: Mutex::new(
                Instant::now()
                    .checked_sub(Duration::from_secs(10))
                    .unwrap_or_else(Instant::now),
            ),
            ..shared
        };
        let fake = Self {
            node: NodeHandle(Arc::new(shared)),
            dir,
            key,
            peers: Arc::default(),
            coordinator,
            sequence: Arc::default(),
        };
        let driver = Driver {
            node: fake.node.clone(),
            peers: Arc::clone(&fake.peers),
            sequence: Arc::clone(&fake.sequence),
        };
        tokio::spawn(driver.run(receiver));
        fake
    }

    /// Appends blocks, each with records `key-HEIGHT-N` → `value-HEIGHT-N`.
    pub(crate) fn grow(&self, blocks: u64, records: u64) {
        for _ in 0..blocks {
            let next = self.node.store().head().0.next();
            let records = (0..records).map(|n| (format!("key-{next}-{n}"), format!("value-{next}-{n}")));
            self.append(records.collect());
        }
    }

    /// Appends a block with these records.
    pub(crate) fn append(&self, records: Vec<(String, String)>) {
        let (chain, sender) = (self.node.chain_id(), self.key.public_key().address());
        let first = self.node.store().account(&sender).unwrap().nonce.get();
        let transactions = records.into_iter().zip(first..).map(|((key, value), nonce)| {
            let payload = Payload::Put {
                key: RecordKey::new(key.into_bytes()).unwrap(),
                value: RecordValue::new(value.into_bytes()).unwrap(),
            };
            let signed = Transaction::sign(chain, Nonce::new(nonce), payload, &self.key);
            CheckedTransaction::check(signed, chain).unwrap()
        });
        append(&self.node, transactions.collect());
    }

    /// Commits the first `size` blocks.
    pub(crate) fn commit(&self, size: u64) {
        let store = self.node.store();
        let (block, _) = store.header_at(Height::new(size - 1)).unwrap().unwrap();
        let checkpoint = Checkpoint {
            chain: self.node.chain_id(),
            size,
            root: crate::machine::load_frontier(store, size).unwrap().root(),
            term: Term::new(1),
            block,
        };
        let note = checkpoint.sign(&self.coordinator).unwrap().to_string();
        store.apply(&[Write::Committed { size, note }]).unwrap();
        self.node.0.status.write().unwrap().committed_size = size;
    }
}

/// Mines a block of these transactions and connects it.
fn append(node: &NodeHandle, transactions: Vec<CheckedTransaction>) -> BlockHash {
    let (store, spec) = (node.store(), node.spec());
    let (tip, state_hash) = (store.tip().unwrap(), store.state_hash().unwrap());
    let bits = tip.next_target(spec).unwrap().to_bits();
    let producer = node.secret_key().public_key().address();
    let now = Timestamp::new(tip.times.last().unwrap().get() + 1_000);
    let wanted = (producer, Proof::Work { bits, nonce: 0 }, now);
    let template = build_block(transactions, &tip, spec, (store, &state_hash), wanted).unwrap();
    let transactions: Vec<_> = template
        .transactions
        .iter()
        .map(|tx| tx.transaction().clone())
        .collect();
    let checked = (0..).find_map(|nonce| {
        let mut header = template.header.clone();
        header.proof = Proof::Work { bits, nonce };
        let transactions = BoundedVec::new(transactions.clone()).unwrap();
        CheckedBlock::check(Block { header, transactions }, node.chain_id()).ok()
    });
    let connected: ConnectedBlock =
        connect_block(checked.unwrap(), &tip, spec, (store, &state_hash), now).unwrap();
    let hash = connected.block().hash();
    store.apply(&[Write::Connect(Box::new(connected))]).unwrap();
    let mut status = node.0.status.write().unwrap();
    (status.height, status.head) = store.head();
    hash
}

struct Driver {
    node: NodeHandle,
    peers: Arc<Mutex<Peers>>,
    sequence: Arc<AtomicU64>,
}

impl Driver {
    async fn run(self, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.recv().await {
            self.answer(command);
        }
    }

    /// Whoever asked may be gone, as in the driver.
    fn answer(&self, command: Command) {
        match command {
            Command::Submit { transactions, reply } => drop(reply.send(Ok(self.submit(transactions)))),
            Command::NextNonce { address, reply } => {
                let waiting = u64::try_from(self.node.mempool(usize::MAX).count).unwrap();
                let account = self.node.store().account(&address).unwrap();
                let mine = address == self.node.secret_key().public_key().address();
                let next = account.nonce.get() + if mine { waiting } else { 0 };
                drop(reply.send(Ok(Nonce::new(next))));
            }
            Command::Mine { reply } => {
                let hash = append(&self.node, self.take_waiting());
                let mined = MinedBlock {
                    hash,
                    elapsed_ms: 2,
                    attempts: 10,
                };
                drop(reply.send(Ok(mined)));
            }
            Command::Hashes { peer, heights, reply } => {
                let peers = self.peers.lock().unwrap();
                if peers.silent.contains(&peer) {
                    return;
                }
                let of = |height: Height| peers.replica.as_ref().and_then(|r| r.hash_at(height).unwrap());
                let claimed = peers.claims.get(&peer).cloned();
                let hashes = claimed.unwrap_or_else(|| heights.into_iter().map(|h| (h, of(h))).collect());
                drop(reply.send(hashes));
            }
            Command::Fetch { hash, reply } => {
                let peers = self.peers.lock().unwrap();
                let found = peers.replica.as_ref().and_then(|replica| {
                    let header = replica.header(&hash).unwrap()?.header;
                    let transactions = BoundedVec::new(replica.transactions(&hash).unwrap()?).unwrap();
                    Some(Block { header, transactions })
                });
                drop(reply.send(found));
            }
            Command::Leave { reply } => drop(reply.send(Ok(true))),
            Command::StopMining | Command::Stop => {}
        }
    }

    fn submit(&self, transactions: Vec<CheckedTransaction>) -> Accepted {
        let mut writes = Vec::new();
        let mut mirror = self.node.0.mempool.write().unwrap();
        let ids: Vec<_> = transactions.iter().map(CheckedTransaction::id).collect();
        let known = ids.iter().filter(|id| mirror.get(id).is_some()).count();
        for transaction in transactions {
            let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
            mirror.add(sequence, transaction.clone());
            writes.push(Write::MempoolAdd {
                sequence,
                transaction,
            });
        }
        self.node.store().apply(&writes).unwrap();
        Accepted {
            count: ids.len(),
            transaction_ids: ids,
            known,
            status: Status::Pending,
        }
    }

    fn take_waiting(&self) -> Vec<CheckedTransaction> {
        let mut mirror = self.node.0.mempool.write().unwrap();
        let waiting = std::mem::take(&mut *mirror);
        let writes = waiting
            .by_sequence
            .keys()
            .map(|sequence| Write::MempoolRemove { sequence: *sequence });
        self.node.store().apply(&writes.collect::<Vec<_>>()).unwrap();
        waiting.by_sequence.into_values().collect()
    }
}

fn status(spec: &CheckedSpec, store: &Store, key: &SecretKey) -> NodeStatus {
    let (height, head) = store.head();
    NodeStatus {
        version: "0.0.0".to_owned(),
        worker_id: Uuid::from_u128(1),
        name: Some("<script>a&b".to_owned()),
        public_key: key.public_key(),
        address: key.public_key().address(),
        servers: vec!["http://127.0.0.1:1/?<i>".to_owned()],
        server_reachable: true,
        chain: "main".to_owned(),
        chain_id: spec.id(),
        api: String::new(),
        pid: 1,
        uptime_ms: 0,
        height,
        head,
        head_time: Timestamp::ZERO,
        committed_size: 0,
        final_size: 0,
        leader_id: None,
        term: Term::new(1),
        is_leader: false,
        mempool_count: 0,
        mempool_bytes: 0,
        peers: 0,
        members: 1,
        syncing_to: None,
        syncing: None,
        clock_offset_ms: None,
        mining: None,
        slots: None,
        waiting: None,
        stopped: None,
    }
}
