//! The JSON of the node's HTTP interface; the CLI prints the same with `--json`.
//!
//! | route | body → answer |
//! | --- | --- |
//! | `GET /v1/status` | → [`NodeStatus`] |
//! | `GET /v1/leader` | → [`LeaderView`] |
//! | `POST /v1/records` | [`RecordsRequest`] → [`Accepted`] (the node signs with its worker's key) |
//! | `POST /v1/transactions` | borsh (`application/octet-stream`: count u32, then length u32 and encoded transaction each) or JSON [`TransactionsRequest`] → [`Accepted`] |
//! | `GET /v1/mempool?limit=N` | → [`MempoolView`] |
//! | `POST /v1/mine` | [`MineRequest`] → [`Mined`] |
//! | `GET /v1/blocks?from=H&limit=N` | → NDJSON stream, a [`BlockView`] a line, oldest first |
//! | `GET /v1/blocks/{height or hash}` | → [`BlockView`] |
//! | `GET /v1/transactions/{id}` | → [`TransactionView`] |
//! | `GET /v1/record?key=K[&history=true][&limit=N]` | → [`RecordView`] |
//! | `GET /v1/accounts/{address}` | → [`AccountView`] |
//! | `GET /v1/receipts/{id}` | → text of the receipt |
//! | `GET /v1/peers` | → [`PeersView`] |
//! | `POST /v1/check` | [`CheckRequest`] → [`CheckReport`] |
//! | `GET /v1/check` | → [`CheckProgress`] |
//! | `POST /v1/dump` · `GET /v1/dump` · `POST /v1/dump/stop` | [`DumpRequest`] → [`DumpStatus`] · → [`DumpStatus`] · → [`DumpStopped`] |
//! | `POST /v1/disconnect` | → [`Disconnected`]; the node then stops |
//! | `POST /v1/stop` | → `{}`; the node stops without leaving the network |
//! | `GET /v1/events` | server-sent events |
//! | `GET /find?q=KEY or ID` | a page for people |
//!
//! Everything but GET needs `Authorization: Bearer <content of api.cookie in the data directory>`.

use block_chain_common::hash::{BlockHash, ChainId, Digest, Root, TxId};
use block_chain_common::keys::{Address, PublicKey};
use block_chain_common::quantity::{Amount, Height, Nonce, Term, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How far a transaction or block is agreed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits in the mempool.
    Pending,
    /// In a block of this node's chain.
    Included,
    /// A majority holds the block and the coordinator has committed it: it is never undone.
    Committed,
    /// A majority has cosigned the checkpoint.
    Final,
}

impl Status {
    /// As it is written in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Included => "included",
            Self::Committed => "committed",
            Self::Final => "final",
        }
    }
}

/// A transaction as people and programs read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionJson {
    /// Its id.
    pub id: TxId,
    /// Its payload's name: `put`, `message`, `transfer`…
    #[serde(rename = "type")]
    pub kind: String,
    /// The sender's address.
    pub sender: Address,
    /// The sender's key.
    pub public_key: PublicKey,
    /// Its number among the sender's, from 0.
    pub nonce: Nonce,
    /// The payload's own fields: `key`, `value` (text) or `value_hex`, `to`, `amount`, `memo`, `role`, `address`…
    #[serde(flatten)]
    pub fields: serde_json::Map<String, serde_json::Value>,
}

/// A block as people and programs read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockView {
    /// Its height.
    pub index: Height,
    /// Its hash.
    pub hash: BlockHash,
    /// The hash of the block before.
    pub previous_hash: BlockHash,
    /// RFC 6962 root over the transactions' ids.
    pub merkle_root: Root,
    /// Digest of the state after it.
    pub state_digest: Digest,
    /// RFC 6962 root over the earlier headers.
    pub history_root: Root,
    /// When it was made, in milliseconds since 1970.
    pub timestamp: Timestamp,
    /// The work's nonce; 0 where its proof has none.
    pub nonce: u64,
    /// The work's target in compact form; 0 where its proof has none.
    pub bits: u32,
    /// Who made it.
    pub producer: Address,
    /// How far it is agreed to.
    pub status: Status,
    /// Its transactions. The last field: a stream of blocks writes them one by one.
    pub transactions: Vec<TransactionJson>,
}

/// One transaction and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionView {
    /// The transaction.
    #[serde(flatten)]
    pub transaction: TransactionJson,
    /// How far it is agreed to.
    pub status: Status,
    /// Its block's height, once it is in one.
    pub block: Option<Height>,
    /// Its block's hash, once it is in one.
    pub block_hash: Option<BlockHash>,
    /// Its index in the block, once it is in one.
    pub index: Option<u32>,
}

/// Records to put, all or none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecordsRequest {
    /// The records, in order.
    pub records: Vec<(String, String)>,
}

/// Signed transactions, all or none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TransactionsRequest {
    /// Encoded transactions, in hex.
    pub transactions: Vec<String>,
}

/// Transactions that are in the mempool and on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Their ids, in order.
    pub transaction_ids: Vec<TxId>,
    /// How many.
    pub count: usize,
    /// How many of them were known before: the same signed transaction twice is one.
    pub known: usize,
    /// `pending`.
    pub status: Status,
}

/// What waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MempoolView {
    /// The transactions, in order of arrival; at most the limit asked for.
    pub transactions: Vec<TransactionJson>,
    /// How many wait in all.
    pub count: usize,
    /// Their encoded bytes in all.
    pub bytes: usize,
}

/// Asks for a block now.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct MineRequest {
    /// How long to wait for it, in milliseconds; 60 s where not given.
    #[serde(default)]
    pub wait_ms: Option<u64>,
}

/// A mined block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mined {
    /// The block.
    #[serde(flatten)]
    pub block: BlockView,
    /// How long the search took, in milliseconds.
    pub elapsed_ms: u64,
    /// How many nonces were tried.
    pub attempts: u64,
    /// Attempts per second.
    pub hash_rate: u64,
}

/// A search for a block that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mining {
    /// The height of the block.
    pub height: Height,
    /// Attempts so far.
    pub attempts: u64,
    /// Attempts that are needed on average.
    pub expected: u64,
    /// For how long, in milliseconds.
    pub elapsed_ms: u64,
}

/// Why the newest block is not final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// A sentence for people.
    pub reason: String,
    /// Workers that are missing, by id.
    pub missing: Vec<Uuid>,
    /// How many are needed.
    pub needed: usize,
    /// What to do.
    pub hint: Option<String>,
}

/// The node now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The program's version.
    pub version: String,
    /// The worker's id.
    pub worker_id: Uuid,
    /// The worker's name for people.
    pub name: Option<String>,
    /// The worker's key.
    pub public_key: PublicKey,
    /// The worker's address.
    pub address: Address,
    /// The coordinators.
    pub servers: Vec<String>,
    /// Whether the coordinator answered last.
    pub server_reachable: bool,
    /// The chain's name.
    pub chain: String,
    /// The chain's id.
    pub chain_id: ChainId,
    /// URL of this interface.
    pub api: String,
    /// Process id.
    pub pid: u32,
    /// For how long it has run, in milliseconds.
    pub uptime_ms: u64,
    /// Its head's height.
    pub height: Height,
    /// Its head.
    pub head: BlockHash,
    /// When the head was made.
    pub head_time: Timestamp,
    /// Blocks committed.
    pub committed_size: u64,
    /// Blocks final.
    pub final_size: u64,
    /// The leader, where known.
    pub leader_id: Option<Uuid>,
    /// The term.
    pub term: Term,
    /// Whether this worker leads.
    pub is_leader: bool,
    /// Transactions that wait.
    pub mempool_count: usize,
    /// Their bytes.
    pub mempool_bytes: usize,
    /// Peers connected.
    pub peers: usize,
    /// Workers of the chain.
    pub members: usize,
    /// The height it is catching up to, while it is.
    pub syncing_to: Option<Height>,
    /// The search for a block, while there is one.
    pub mining: Option<Mining>,
    /// Why the head is not final, where it is not.
    pub waiting: Option<Waiting>,
}

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderView {
    /// The leader.
    pub leader_id: Option<Uuid>,
    /// Its term.
    pub term: Term,
    /// Since when, in milliseconds since 1970.
    pub since: Option<Timestamp>,
    /// Whether it is this worker.
    pub is_me: bool,
}

/// A value that a key had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordVersion {
    /// The value, where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value: Option<String>,
    /// The value in hex, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value_hex: Option<String>,
    /// The transaction that set it.
    pub transaction_id: TxId,
    /// Who set it.
    pub sender: Address,
    /// Its block.
    pub block: Height,
    /// When its block was made.
    pub timestamp: Timestamp,
    /// How far it is agreed to.
    pub status: Status,
}

/// A key's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordView {
    /// The key.
    pub key: String,
    /// The value now.
    #[serde(flatten)]
    pub current: RecordVersion,
    /// All values, newest first, where the history was asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub history: Option<Vec<RecordVersion>>,
}

/// What an address has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountView {
    /// The address.
    pub address: Address,
    /// What it can spend, as of the head.
    pub confirmed: Amount,
    /// Its stake.
    pub stake: Amount,
    /// The nonce of its next transaction on the chain.
    pub nonce: Nonce,
    /// The nonce of its next transaction, those that wait counted.
    pub next_nonce: Nonce,
}

/// A peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerView {
    /// Its worker id.
    pub worker_id: Uuid,
    /// Its key.
    pub public_key: PublicKey,
    /// Its name for people.
    pub name: Option<String>,
    /// Where it is reached.
    pub addresses: Vec<String>,
    /// Whether it is connected.
    pub connected: bool,
    /// Whether the coordinator hears it.
    pub alive: bool,
    /// Its head's height, as known.
    pub height: Height,
    /// The last committed height, as known.
    pub committed: Height,
}

/// All other workers of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeersView {
    /// The peers.
    pub peers: Vec<PeerView>,
    /// How many.
    pub count: usize,
}

/// Asks for a check of everything.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CheckRequest {
    /// Whether to fetch damaged blocks again.
    #[serde(default)]
    pub repair: bool,
}

/// How far a check is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckProgress {
    /// Whether one is under way.
    pub running: bool,
    /// Blocks checked.
    pub blocks_checked: u64,
    /// Blocks to check.
    pub blocks: u64,
}

/// A fault of this replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalFault {
    /// The block, where it lies in one.
    pub height: Option<Height>,
    /// What is wrong.
    pub message: String,
}

/// This replica's soundness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalCheck {
    /// Blocks whose every byte was checked.
    pub blocks_checked: u64,
    /// Transactions among them.
    pub transactions_checked: u64,
    /// Faults, the first block's first.
    pub errors: Vec<LocalFault>,
    /// Blocks fetched again and put right.
    pub repaired: Vec<Height>,
}

/// What a replica says of itself against this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The same blocks at every height that both have, and the same head.
    Same,
    /// The same blocks, but fewer.
    Behind,
    /// The same blocks, and more.
    Ahead,
    /// Another block at a height that is not committed: a fork that may still settle.
    Forked,
    /// Another block at a committed height.
    Differs,
    /// No answer.
    Unreachable,
}

/// A replica compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaCheck {
    /// The worker.
    pub worker_id: Uuid,
    /// Its name for people.
    pub name: Option<String>,
    /// Its head's height.
    pub height: Height,
    /// Its head.
    pub hash: BlockHash,
    /// Its last committed height.
    pub committed: Height,
    /// The comparison.
    pub verdict: Verdict,
    /// The first height at which it has another block.
    pub first_difference: Option<Height>,
}

/// Whether all is sound and the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// Nothing wrong here, and no replica differs.
    pub consistent: bool,
    /// This replica.
    pub local: LocalCheck,
    /// Every live worker, this one included.
    pub replicas: Vec<ReplicaCheck>,
    /// What the coordinator says against this replica: its last checkpoint, and whether it is this chain's.
    pub coordinator: Option<CoordinatorCheck>,
}

/// The coordinator compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoordinatorCheck {
    /// Blocks its last checkpoint covers.
    pub size: u64,
    /// Whether its root is the one over this replica's headers; `None` where this replica is shorter.
    pub same: Option<bool>,
}

/// Asks for a copy to PostgreSQL.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DumpRequest {
    /// The database.
    pub db_url: String,
    /// Copy what is there and stop.
    #[serde(default)]
    pub once: bool,
}

/// The copy now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpStatus {
    /// Blocks in the database.
    pub dumped_blocks: u64,
    /// Transactions in the database.
    pub dumped_transactions: u64,
    /// Committed blocks there are to copy.
    pub blocks: u64,
    /// Whether it goes on with every later block.
    pub following: bool,
    /// The database, without its password.
    pub database: Option<String>,
    /// What stands in the way now, where something does.
    pub error: Option<String>,
}

/// The copy has stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpStopped {
    /// Whether one was following.
    pub stopped: bool,
}

/// The worker has left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disconnected {
    /// Whether the coordinator has it recorded.
    pub disconnected: bool,
}
