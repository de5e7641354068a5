//! A coordinator's service with workers, and what they would send.

use block_chain_common::agreement::Acknowledgement;
use block_chain_common::checkpoint::witness_name;
use block_chain_common::codec::encode;
use block_chain_common::coordinator_api::{
    API_VERSION, ChainView, CommitAnswer, CommitRequest, CosignRequest, Heartbeat, RegisterRequest,
    registration_bytes,
};
use block_chain_common::hash::{BlockHash, ChainId, Root, sha256};
use block_chain_common::history::{Frontier, HistoryNodes, NodePlace, prove_consistency};
use block_chain_common::keys::SecretKey;
use block_chain_common::note::SignedNote;
use block_chain_common::quantity::{Height, Term, Timestamp};
use block_chain_server::error::ServiceError;
use block_chain_server::service::{Capability, Join, Service, Settings};
use block_chain_server::store::Store;
use std::collections::BTreeMap;
use std::convert::Infallible;

const START: u64 = 1_700_000_000_000;

pub(crate) fn at(ms: u64) -> Timestamp {
    Timestamp::new(START + ms)
}

pub(crate) fn start(store: Store) -> Service {
    Service::start(store, Settings::default(), Join::Open, |_| ()).unwrap()
}

pub(crate) struct Worker {
    pub(crate) key: SecretKey,
    pub(crate) who: Capability,
    pub(crate) token: String,
}

/// A registration that is right in everything; tests change one thing.
pub(crate) fn registration(service: &Service, seed: u8, now: Timestamp) -> RegisterRequest {
    let challenge = service.challenge(now).unwrap().challenge;
    sign(seed, &challenge)
}

pub(crate) fn sign(seed: u8, challenge: &str) -> RegisterRequest {
    let key = SecretKey::from_seed(&[seed; 32]);
    let public_key = key.public_key();
    RegisterRequest {
        api_version: API_VERSION,
        chain: "main".to_owned(),
        public_key,
        name: Some(format!("worker-{seed}")),
        token: None,
        addresses: vec![format!("127.0.0.1:{}", 4_000 + u16::from(seed))],
        api: None,
        signature: key.sign(&registration_bytes(challenge, "main", &public_key)),
        challenge: challenge.to_owned(),
    }
}

pub(crate) fn join(service: &Service, seed: u8, now: Timestamp) -> Worker {
    let registered = service.register(&registration(service, seed, now), now).unwrap();
    let token = registered.worker_token;
    let who = service
        .authenticate(Some(registered.worker_id), Some(&token))
        .unwrap();
    let key = SecretKey::from_seed(&[seed; 32]);
    Worker { key, who, token }
}

/// A coordinator with this many workers; the first leads term 1.
pub(crate) fn network(store: Store, workers: u8) -> (Service, Vec<Worker>) {
    let service = start(store);
    // One a millisecond, so that the longest registered is known.
    let workers = (1..=workers)
        .map(|seed| join(&service, seed, at(seed.into())))
        .collect();
    (service, workers)
}

pub(crate) fn beat(service: &Service, worker: &Worker, height: u64, now: Timestamp) -> ChainView {
    let beat = heartbeat(service, height);
    service.heartbeat(&worker.who, &beat, now).unwrap()
}

/// A heartbeat of a worker that holds all that is committed.
pub(crate) fn heartbeat(service: &Service, height: u64) -> Heartbeat {
    let view = service.view("main", at(0)).unwrap();
    let size = view.checkpoint.map_or(0, |checkpoint| checkpoint.size);
    Heartbeat {
        chain: "main".to_owned(),
        height: Height::new(height),
        head: BlockHash::ZERO,
        committed: Height::new(size.saturating_sub(1)),
        term: view.term,
        checkpoint_size: size,
        addresses: Vec::new(),
        api: None,
        stepping_down: false,
        orders: 0,
        version: None,
    }
}

/// A tree of headers, each made of its place and a salt: two salts are two histories.
pub(crate) struct Tree {
    nodes: BTreeMap<(u8, u64), [u8; 32]>,
    frontiers: Vec<Frontier>,
}

impl HistoryNodes for Tree {
    type Error = Infallible;

    fn node(&self, place: NodePlace) -> Result<Option<[u8; 32]>, Infallible> {
        Ok(self.nodes.get(&(place.level, place.index)).copied())
    }
}

impl Tree {
    pub(crate) fn new(size: u64, salt: u8) -> Self {
        let mut this = Self {
            nodes: BTreeMap::new(),
            frontiers: vec![Frontier::default()],
        };
        this.extend(size, salt);
        this
    }

    /// Goes on to so many headers, with this salt.
    pub(crate) fn extend(&mut self, size: u64, salt: u8) {
        let mut frontier = self.frontiers.last().unwrap().clone();
        for index in frontier.size()..size {
            for (place, hash) in frontier.append(&[&index.to_be_bytes()[..], &[salt]].concat()) {
                self.nodes.insert((place.level, place.index), hash);
            }
            self.frontiers.push(frontier.clone());
        }
    }

    pub(crate) fn root(&self, size: u64) -> Root {
        self.frontiers[usize::try_from(size).unwrap()].root()
    }

    /// The leader's request, with the acknowledgements of these workers.
    pub(crate) fn request(
        &self,
        service: &Service,
        (old_size, size): (u64, u64),
        workers: &[&Worker],
    ) -> CommitRequest {
        let chain = service.chain("main").unwrap().id;
        let term = service.view("main", at(0)).unwrap().term;
        let (block, root) = (block(size, &self.root(size)), self.root(size));
        let proof = match old_size {
            0 => Vec::new(),
            old if old < size => prove_consistency(old, size, self).unwrap(),
            _ => Vec::new(),
        };
        CommitRequest {
            term,
            old_size,
            size,
            block,
            root,
            consistency: proof.into_iter().map(Root::from_bytes).collect(),
            acknowledgements: acknowledge(chain, term, (size, block, root), workers),
        }
    }

    pub(crate) fn commit(
        &self,
        service: &Service,
        sizes: (u64, u64),
        leader: &Worker,
        workers: &[&Worker],
    ) -> Result<CommitAnswer, ServiceError> {
        service.commit(&leader.who, "main", &self.request(service, sizes, workers))
    }
}

fn block(size: u64, root: &Root) -> BlockHash {
    BlockHash::from_bytes(sha256(&[&size.to_be_bytes(), root.as_bytes()]))
}

pub(crate) fn acknowledge(
    chain: ChainId,
    term: Term,
    (size, block, root): (u64, BlockHash, Root),
    workers: &[&Worker],
) -> Vec<String> {
    let height = Height::new(size - 1);
    let sign = |worker: &&Worker| Acknowledgement::sign(chain, term, (height, block, root), &worker.key);
    workers
        .iter()
        .map(|worker| hex::encode(encode(&sign(worker))))
        .collect()
}

/// The stored checkpoint's note with a worker's cosignature.
pub(crate) fn cosigned(service: &Service, size: u64, key: &SecretKey) -> CosignRequest {
    let page = service.checkpoints("main", size, 1).unwrap();
    let stored = SignedNote::parse(&page.checkpoints[0].note).unwrap();
    let mut note = SignedNote::new(stored.text().to_owned()).unwrap();
    note.cosign(&witness_name(&key.public_key()), key, 1_700_000_000);
    let note = note.to_string();
    CosignRequest { size, note }
}

pub(crate) fn code<T>(result: Result<T, ServiceError>) -> String {
    match result {
        Ok(_) => "accepted".to_owned(),
        Err(error) => error.code().to_owned(),
    }
}
