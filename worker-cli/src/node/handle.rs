//! What the HTTP interface, the SQL copy and the check may ask of a running node.
//!
//! Reads go to the store directly; everything that changes something goes through the chain's thread, and is answered
//! only when it is on disk.

use super::mirror::{MempoolMirror, Waiting};
use super::seen::SeenBlocks;
use crate::api::types::{Accepted, MAX_PAGE_BYTES, MempoolView, Mined, NodeStatus, Status};
use crate::net::Network;
use crate::storage::{StorageError, Store, concerns};
use block_chain_common::block::Block;
use block_chain_common::chain_keys::ChainKeys;
use block_chain_common::chain_spec::CheckedSpec;
use block_chain_common::coordinator_api::{ChainView, ForkWish};
use block_chain_common::hash::{BlockHash, ChainId, TxId};
use block_chain_common::keys::{Address, PublicKey, SecretKey};
use block_chain_common::quantity::{Height, Nonce};
use block_chain_common::transaction::{
    CheckedTransaction, Payload, RecordKey, RecordValue, Transaction, TransactionError, check_transactions,
};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use tokio::sync::{broadcast, mpsc, oneshot};

/// Events that a slow listener may fall behind by before it misses some.
const EVENTS_KEPT: usize = 256;

/// Something happened at the node; listeners of `/v1/events` get it as JSON.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum NodeEvent {
    /// The head changed.
    Head {
        /// Its height.
        height: Height,
        /// Its hash.
        hash: BlockHash,
    },
    /// Blocks were committed.
    Committed {
        /// How many there are now.
        size: u64,
    },
    /// Blocks became final.
    Final {
        /// How many there are now.
        size: u64,
    },
    /// Transactions came to wait.
    Pending {
        /// How many wait now.
        count: usize,
    },
    /// The leader or the workers changed.
    Members,
}

/// Why a request to the node fails.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// A transaction breaks a rule of its own.
    #[error("transaction {index}: {error}")]
    Transaction {
        /// Its place in the request.
        index: usize,
        /// The rule.
        error: TransactionError,
    },
    /// A transaction does not apply to the state and what waits already, or the mempool is full.
    #[error("{0}")]
    Refused(String),
    /// Nothing came in the time given.
    #[error("{0}")]
    Timeout(String),
    /// The coordinator or a peer that is needed does not answer.
    #[error("{0}")]
    Unreachable(String),
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The node stops.
    #[error("the node is stopping")]
    Stopping,
}

/// What the chain's thread is asked to do; each is answered when it is done and on disk.
pub(crate) enum Command {
    /// Take checked transactions into the mempool, all or none.
    Submit {
        transactions: Vec<CheckedTransaction>,
        reply: oneshot::Sender<Result<Accepted, RequestError>>,
    },
    /// The nonce of an address's next transaction, those that wait counted.
    NextNonce {
        address: Address,
        reply: oneshot::Sender<Result<Nonce, RequestError>>,
    },
    /// Make a block now.
    Mine {
        reply: oneshot::Sender<Result<MinedBlock, RequestError>>,
    },
    /// Nobody waits for the block any more.
    StopMining,
    /// Ask a peer for hashes of its chain.
    Hashes {
        peer: PublicKey,
        heights: Vec<Height>,
        reply: oneshot::Sender<HashesAnswer>,
    },
    /// Ask peers for a block.
    Fetch {
        hash: BlockHash,
        reply: oneshot::Sender<Option<Block>>,
    },
    /// Leave the network.
    Leave {
        reply: oneshot::Sender<Result<bool, RequestError>>,
    },
    /// Stop.
    Stop,
}

/// Heights of a peer's chain with its hashes there.
pub(crate) type HashesAnswer = Vec<(Height, Option<BlockHash>)>;

/// A block that this node found.
#[derive(Debug, Clone)]
pub struct MinedBlock {
    /// Its hash.
    pub hash: BlockHash,
    /// How long the search took, in milliseconds.
    pub elapsed_ms: u64,
    /// Nonces tried.
    pub attempts: u64,
}

pub(crate) struct Shared {
    pub(crate) data_dir: PathBuf,
    pub(crate) coordinator_key: PublicKey,
    pub(crate) store: Store,
    pub(crate) spec: Arc<CheckedSpec>,
    pub(crate) key: SecretKey,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) status: RwLock<NodeStatus>,
    pub(crate) view: RwLock<Option<ChainView>>,
    pub(crate) mempool: RwLock<MempoolMirror>,
    pub(crate) connected: RwLock<Vec<PublicKey>>,
    /// The chain's network; a test's node has none.
    pub(crate) network: OnceLock<Network>,
    pub(crate) seen: SeenBlocks,
    pub(crate) events: broadcast::Sender<NodeEvent>,
    /// Held while records are signed, so that their nonces follow each other.
    pub(crate) signing: tokio::sync::Mutex<()>,
    pub(crate) started: Mutex<std::time::Instant>,
    /// Groups of inputs that the chain's thread has worked off.
    pub(crate) steps: AtomicU64,
    /// Whether nothing happens and nothing is waited for: time then passes in longer steps.
    pub(crate) quiet: AtomicBool,
    /// Why the chain's thread has ended, where the store failed it.
    pub(crate) failure: OnceLock<StorageError>,
}

impl Shared {
    /// Of a replica on which nothing has happened yet; `keys` are the coordinator's and the worker's.
    pub(crate) fn new(
        data_dir: PathBuf,
        (store, spec): (Store, Arc<CheckedSpec>),
        (coordinator_key, key): (PublicKey, SecretKey),
        commands: mpsc::Sender<Command>,
    ) -> Self {
        let (status, seen) = (first_status(&store, &spec, &key), SeenBlocks::of(&store));
        Self {
            data_dir,
            store,
            spec,
            coordinator_key,
            key,
            commands,
            status: RwLock::new(status),
            view: RwLock::new(None),
            mempool: RwLock::new(MempoolMirror::default()),
            connected: RwLock::new(Vec::new()),
            network: OnceLock::new(),
            seen,
            events: broadcast::channel(EVENTS_KEPT).0,
            signing: tokio::sync::Mutex::new(()),
            started: Mutex::new(std::time::Instant::now()),
            steps: AtomicU64::new(0),
            quiet: AtomicBool::new(false),
            failure: OnceLock::new(),
        }
    }

    /// The chain's public keys, where the coordinator names members.
    pub(crate) fn keys_with(&self, view: &ChainView) -> Option<ChainKeys> {
        let members = view.counting().map(|member| member.public_key).collect();
        let chain = (self.spec.id(), self.spec.spec().name.clone());
        ChainKeys::new(chain, self.coordinator_key, members).ok()
    }
}

/// A running node.
#[derive(Clone)]
pub struct NodeHandle(pub(crate) Arc<Shared>);

impl NodeHandle {
    /// The store, for reading.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The chain.
    #[must_use]
    pub fn spec(&self) -> &CheckedSpec {
        &self.0.spec
    }

    /// The key that signs the chain's checkpoints.
    #[must_use]
    pub fn coordinator_key(&self) -> PublicKey {
        self.0.coordinator_key
    }

    /// The worker's key.
    pub(crate) fn secret_key(&self) -> &SecretKey {
        &self.0.key
    }

    /// The chain's id.
    #[must_use]
    pub fn chain_id(&self) -> ChainId {
        self.0.spec.id()
    }

    /// The node now.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        let mut status = self
            .0
            .status
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let started = self.0.started.lock().unwrap_or_else(PoisonError::into_inner);
        status.uptime_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        status
    }

    /// Says where the HTTP interface listens.
    pub(crate) fn set_api(&self, url: String) {
        self.0.status.write().unwrap_or_else(PoisonError::into_inner).api = url;
    }

    /// The peers that are connected.
    #[must_use]
    pub fn connected(&self) -> Vec<PublicKey> {
        self.0
            .connected
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Those of them that are reached through the relay alone.
    #[must_use]
    pub fn relayed(&self) -> Vec<PublicKey> {
        self.0.network.get().map(Network::relayed).unwrap_or_default()
    }

    /// What the coordinator said last.
    #[must_use]
    pub fn chain_view(&self) -> Option<ChainView> {
        self.0.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forks that the operator has asked for, where this worker leads the chain.
    pub(crate) fn wished_forks(&self) -> Vec<ForkWish> {
        if !self
            .0
            .status
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_leader
        {
            return Vec::new();
        }
        let view = self.0.view.read().unwrap_or_else(PoisonError::into_inner);
        view.as_ref().map(|view| view.forks.clone()).unwrap_or_default()
    }

    /// The chain's public keys; `None` until a coordinator has said who its members are.
    #[must_use]
    pub fn chain_keys(&self) -> Option<ChainKeys> {
        self.0.keys_with(&self.chain_view()?)
    }

    /// How far a block of the chain is agreed to.
    #[must_use]
    pub fn block_status(&self, height: Height) -> Status {
        let covered = |size: u64| height.get() < size;
        if self.store().final_checkpoint().is_some_and(|c| covered(c.size)) {
            Status::Final
        } else if self.store().committed().is_some_and(|c| covered(c.size)) {
            Status::Committed
        } else {
            Status::Included
        }
    }

    /// What waits, oldest first, at most `limit` of it.
    #[must_use]
    pub fn mempool(&self, limit: usize) -> MempoolView {
        self.mempool_from(0, limit)
    }

    /// What waits from a place on, at most `limit` of it, and of at most 8 MiB.
    #[must_use]
    pub fn mempool_from(&self, from: u64, limit: usize) -> MempoolView {
        let ((part, next), count, bytes) = {
            let mempool = self.0.mempool.read().unwrap_or_else(PoisonError::into_inner);
            let part = mempool.part(from, (limit, MAX_PAGE_BYTES), |_| true);
            (part, mempool.by_sequence.len(), mempool.bytes)
        };
        // Writers wait for the lock, not for this.
        MempoolView {
            transactions: part.iter().map(crate::api::json::transaction_json).collect(),
            count,
            bytes,
            next,
        }
    }

    /// The messages that wait, oldest first, at most `limit` of them and of at most 8 MiB.
    pub(crate) fn waiting_messages(&self, limit: usize) -> Vec<CheckedTransaction> {
        let mempool = self.0.mempool.read().unwrap_or_else(PoisonError::into_inner);
        let is_message = |transaction: &Transaction| matches!(transaction.payload, Payload::Message { .. });
        mempool.part(0, (limit, MAX_PAGE_BYTES), is_message).0
    }

    /// A transaction that waits.
    #[must_use]
    pub fn pending(&self, id: &TxId) -> Option<CheckedTransaction> {
        let mempool = self.0.mempool.read().unwrap_or_else(PoisonError::into_inner);
        mempool.get(id).cloned()
    }

    /// What waits to be added to an address and taken from it.
    pub(crate) fn waiting_value(&self, address: &Address) -> Waiting {
        let mempool = self.0.mempool.read().unwrap_or_else(PoisonError::into_inner);
        mempool.value_of(address)
    }

    /// What waits and concerns an address, oldest first, at most `limit` of it.
    pub(crate) fn waiting_of(&self, address: &Address, limit: usize) -> Vec<CheckedTransaction> {
        let mempool = self.0.mempool.read().unwrap_or_else(PoisonError::into_inner);
        let concerned = |transaction: &Transaction| concerns(transaction, address);
        mempool.part(0, (limit, MAX_PAGE_BYTES), concerned).0
    }

    /// What happens at the node from now on. A listener that falls behind misses events.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<NodeEvent> {
        self.0.events.subscribe()
    }

    /// Takes signed transactions, all or none; answers when they are on disk.
    ///
    /// # Errors
    /// The first transaction that breaks a rule, or does not fit.
    pub async fn submit(&self, transactions: Vec<Transaction>) -> Result<Accepted, RequestError> {
        let chain = self.chain_id();
        let checked = if transactions.len() == 1 {
            transactions
                .into_iter()
                .map(|tx| CheckedTransaction::check(tx, chain))
                .collect()
        } else {
            let checking = tokio::task::spawn_blocking(move || check_transactions(transactions, chain));
            checking.await.or(Err(RequestError::Stopping))?
        };
        let mut all = Vec::with_capacity(checked.len());
        for (index, result) in checked.into_iter().enumerate() {
            all.push(result.map_err(|error| RequestError::Transaction { index, error })?);
        }
        self.submit_checked(all).await
    }

    /// Signs records with the worker's key and takes them, all or none; answers when they are on disk.
    ///
    /// # Errors
    /// Where one does not fit.
    pub async fn submit_records(
        &self,
        records: Vec<(RecordKey, RecordValue)>,
    ) -> Result<Accepted, RequestError> {
        let _one_at_a_time = self.0.signing.lock().await;
        let first = self.next_nonce(self.0.key.public_key().address()).await?;
        let (key, chain) = (self.0.key.clone(), self.chain_id());
        let signing = tokio::task::spawn_blocking(move || sign_records(records, first, chain, &key));
        let signed = signing.await.or(Err(RequestError::Stopping))?;
        let mut all = Vec::with_capacity(signed.len());
        for (index, result) in signed.into_iter().enumerate() {
            all.push(result.map_err(|error| RequestError::Transaction { index, error })?);
        }
        self.submit_checked(all).await
    }

    /// Signs with a wallet's key, with its next nonce, and takes it; answers when it is on disk.
    ///
    /// # Errors
    /// Where it breaks a rule or does not fit; [`RequestError::Refused`] too where another program signed with the key at the
    /// same moment.
    pub async fn sign_and_submit(&self, key: &SecretKey, payload: Payload) -> Result<Accepted, RequestError> {
        let _one_at_a_time = self.0.signing.lock().await;
        let nonce = self.next_nonce(key.public_key().address()).await?;
        let transaction = Transaction::sign(self.chain_id(), nonce, payload, key);
        self.submit(vec![transaction]).await
    }

    async fn submit_checked(&self, transactions: Vec<CheckedTransaction>) -> Result<Accepted, RequestError> {
        self.ask(|reply| Command::Submit { transactions, reply }).await?
    }

    /// The nonce of an address's next transaction, those that wait counted.
    ///
    /// # Errors
    /// Where the store fails or the node stops.
    pub async fn next_nonce(&self, address: Address) -> Result<Nonce, RequestError> {
        self.ask(|reply| Command::NextNonce { address, reply }).await?
    }

    /// Makes a block now, empty where nothing waits.
    ///
    /// # Errors
    /// [`RequestError::Timeout`] where none is found in time.
    pub async fn mine(&self, wait: std::time::Duration) -> Result<Mined, RequestError> {
        // However the wait ends: with the block, with the time, or because the client has left and this future is dropped.
        let _told = TellAtEnd(self);
        let asked = self.ask(|reply| Command::Mine { reply });
        let Ok(found) = tokio::time::timeout(wait, asked).await else {
            let waited = wait.as_millis();
            return Err(RequestError::Timeout(format!(
                "no block was found in {waited} ms"
            )));
        };
        let found = found??;
        let block = crate::api::json::block_view(self, &found.hash)?;
        let hash_rate = found
            .attempts
            .saturating_mul(1_000)
            .checked_div(found.elapsed_ms.max(1))
            .unwrap_or(0);
        Ok(Mined {
            block,
            elapsed_ms: found.elapsed_ms,
            attempts: found.attempts,
            hash_rate,
        })
    }

    /// Asks a peer for the hashes of its chain at some heights (at most 64).
    ///
    /// # Errors
    /// [`RequestError::Unreachable`] where it does not answer in 5 s.
    pub async fn peer_hashes(
        &self,
        peer: PublicKey,
        heights: Vec<Height>,
    ) -> Result<HashesAnswer, RequestError> {
        let asked = self.ask(|reply| Command::Hashes { peer, heights, reply });
        match tokio::time::timeout(std::time::Duration::from_secs(5), asked).await {
            Ok(Ok(hashes)) => Ok(hashes),
            Ok(Err(RequestError::Stopping)) | Err(_) => Err(RequestError::Unreachable(format!(
                "worker {peer} does not answer"
            ))),
            Ok(Err(error)) => Err(error),
        }
    }

    /// Asks peers for a block by its hash, which the answer is checked against.
    ///
    /// # Errors
    /// [`RequestError::Unreachable`] where none has it in 10 s.
    pub async fn fetch_block(&self, hash: BlockHash) -> Result<Block, RequestError> {
        let asked = self.ask(|reply| Command::Fetch { hash, reply });
        match tokio::time::timeout(std::time::Duration::from_secs(10), asked).await {
            Ok(Ok(Some(block))) => Ok(block),
            Ok(Err(RequestError::Stopping)) | Ok(Ok(None)) | Err(_) => {
                Err(RequestError::Unreachable(format!("no peer gives block {hash}")))
            }
            Ok(Err(error)) => Err(error),
        }
    }

    /// Leaves the network; whether the coordinator has it recorded. The node stops after its answer.
    ///
    /// # Errors
    /// [`RequestError::Unreachable`] where no coordinator answers.
    pub async fn leave(&self) -> Result<bool, RequestError> {
        self.ask(|reply| Command::Leave { reply }).await?
    }

    /// Stops the node without leaving the network.
    pub async fn stop(&self) {
        self.tell(Command::Stop).await;
    }

    async fn tell(&self, command: Command) {
        if self.0.commands.send(command).await.is_err() {
            tracing::debug!("the chain's thread has ended already");
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, RequestError> {
        let (reply, answer) = oneshot::channel();
        let ended = || match self.0.failure.get() {
            Some(error) => RequestError::Storage(error.clone()),
            None => RequestError::Stopping,
        };
        let sent = self.0.commands.send(command(reply)).await;
        sent.ok().ok_or_else(ended)?;
        answer.await.ok().ok_or_else(ended)
    }
}

/// Tells the chain's thread that a wait for a block has ended: it stops the search where nobody else waits.
struct TellAtEnd<'a>(&'a NodeHandle);

impl Drop for TellAtEnd<'_> {
    fn drop(&mut self) {
        let node = self.0.clone();
        // The queue may be full, and a drop cannot wait.
        tokio::spawn(async move { node.tell(Command::StopMining).await });
    }
}

/// What a node says of itself before anything has happened to it; whose worker it is, is for the caller to add.
pub(crate) fn first_status(store: &Store, spec: &CheckedSpec, key: &SecretKey) -> NodeStatus {
    let (height, head) = store.head();
    NodeStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        worker_id: uuid::Uuid::nil(),
        name: None,
        public_key: key.public_key(),
        address: key.public_key().address(),
        servers: Vec::new(),
        server_reachable: false,
        chain: spec.spec().name.clone(),
        chain_id: spec.id(),
        api: String::new(),
        pid: std::process::id(),
        uptime_ms: 0,
        height,
        head,
        head_time: Default::default(),
        committed_size: store.committed().map_or(0, |checkpoint| checkpoint.size),
        final_size: store.final_checkpoint().map_or(0, |checkpoint| checkpoint.size),
        leader_id: None,
        term: store.term(),
        is_leader: false,
        mempool_count: 0,
        mempool_bytes: 0,
        peers: 0,
        members: 0,
        syncing_to: None,
        syncing: None,
        clock_offset_ms: None,
        mining: None,
        slots: None,
        waiting: None,
        stopped: None,
    }
}

fn sign_records(
    records: Vec<(RecordKey, RecordValue)>,
    first: Nonce,
    chain: ChainId,
    key: &SecretKey,
) -> Vec<Result<CheckedTransaction, TransactionError>> {
    use rayon::prelude::*;
    let numbered: Vec<_> = records.into_iter().zip(first.get()..).collect();
    let signed = numbered.into_par_iter().map(|((record, value), nonce)| {
        let payload = Payload::Put { key: record, value };
        let transaction = Transaction::sign(chain, Nonce::new(nonce), payload, key);
        // We signed it in this very line.
        CheckedTransaction::assume_signature_valid(transaction, chain)
    });
    signed.collect()
}
