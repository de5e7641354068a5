//! The JSON of the node's HTTP interface; the CLI prints the same with `--json`.
//!
//! The routes, with what each takes and answers, are described by their handlers and listed at `/docs`.
//!
//! Everything but GET needs `Authorization: Bearer <content of api.cookie in the data directory>`.

mod account;
mod backup;
mod chain;
mod chains;
mod check;
mod dump;
mod wallet;

pub use account::{AccountView, HistoryView, HolderView, Movement, ReleaseView, RolesView};
pub use backup::{BackupChain, BackupFile, BackupList, BackupMade, NewBackup, NewSnapshot, SnapshotMade};
pub use chain::{
    Accepted, BlockView, MempoolView, MineRequest, Mined, Origin, PayloadFields, RecordVersion, RecordView,
    RecordsRequest, TransactionJson, TransactionView, TransactionsRequest,
};
pub use chains::{ChainDetail, ChainEntry, ChainLeft, ChainList, ForkPoint, Joined, NewChain};
pub use check::{
    CheckProgress, CheckReport, CheckRequest, CoordinatorCheck, LocalCheck, LocalFault, ReplicaCheck, Verdict,
};
pub use dump::{DumpRequest, DumpStatus, DumpStopped};
pub use wallet::{NewWallet, SignIn, SignRequest, Signable, SignedIn, Verification, WalletList, WalletView};

use block_chain_common::evidence::Evidence;
use block_chain_common::finality::Waiting;
use block_chain_common::hash::{BlockHash, ChainId};
use block_chain_common::keys::{Address, PublicKey};
use block_chain_common::limits::MAX_BLOCK_BYTES;
use block_chain_common::quantity::{Height, Term, Timestamp};
use serde::{Deserialize, Serialize};
use std::path::Path;
use utoipa::ToSchema;
use uuid::Uuid;

/// Bytes of the values or transactions of one page: as many as a block may have. Each request holds its page in memory.
pub(crate) const MAX_PAGE_BYTES: usize = MAX_BLOCK_BYTES;

/// How far a transaction or block is agreed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
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

/// A search for a block that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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

/// How far a node is that catches up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Syncing {
    /// The height it began at.
    pub from: Height,
    /// The height it is catching up to; it grows with the chain.
    pub to: Height,
    /// For how long, in milliseconds.
    pub elapsed_ms: u64,
    /// Blocks a second, on average.
    pub blocks_per_second: u64,
    /// How long it will take at that rate, in milliseconds; nothing before the first block.
    pub remaining_ms: Option<u64>,
}

/// The node now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
    /// How far that is, while it is.
    pub syncing: Option<Syncing>,
    /// How far the coordinator's clock is ahead of this machine's, in milliseconds; nothing before it has answered.
    pub clock_offset_ms: Option<i64>,
    /// The search for a block, while there is one.
    pub mining: Option<Mining>,
    /// This worker's slots, on a chain of stake.
    pub slots: Option<Slots>,
    /// Why the head is not final, where it is not.
    pub waiting: Option<Waiting>,
    /// Why this worker agrees to nothing more, where that is so, and the file with the evidence.
    pub stopped: Option<Stopped>,
}

/// When a worker may make blocks on a chain of stake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Slots {
    /// A slot's length, in milliseconds.
    pub slot_ms: u64,
    /// Whether it may be drawn in this epoch.
    pub is_drawn: bool,
    /// Its share of the stake that counts in this epoch, in millionths; where nobody has any, everybody may make blocks.
    pub share_ppm: u64,
    /// When its next slot begins, as far as this epoch's draw tells: none within 10,000 slots is a very small share.
    pub next: Option<Timestamp>,
}

/// The coordinator has contradicted itself: this worker agrees to nothing more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stopped {
    /// How it contradicts itself.
    pub reason: String,
    /// The file with both statements; `verify` judges it.
    pub evidence: String,
}

impl Stopped {
    /// What is told of evidence that is kept in a file.
    pub(crate) fn by(evidence: &Evidence, file: &Path) -> Self {
        Self {
            reason: evidence.reason.clone(),
            evidence: file.display().to_string(),
        }
    }
}

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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

/// A peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
    /// Whether what is sent to it goes through the coordinator's relay; else it is reached directly.
    #[serde(default)]
    pub relayed: bool,
    /// Whether the coordinator hears it.
    pub alive: bool,
    /// Its head's height, as known.
    pub height: Height,
    /// The last committed height, as known.
    pub committed: Height,
}

/// All other workers of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeersView {
    /// The peers.
    pub peers: Vec<PeerView>,
    /// How many.
    pub count: usize,
}

/// The worker has left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Disconnected {
    /// Whether the coordinator has it recorded.
    pub disconnected: bool,
}

/// What a program logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogFilter {
    /// A level, or levels by target.
    #[schema(example = "warn,block_chain_worker=debug")]
    pub filter: String,
}

/// The node stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stopping {}

/// The process is up.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: &'static str,
    /// `block-chain-worker`: tells it from other programs.
    pub service: &'static str,
    /// The program's version.
    pub version: &'static str,
}

/// Whether the node is of use to others.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Readiness {
    /// `ready`, or `syncing`.
    pub status: &'static str,
    /// Its head's height, for who may read the chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<Height>,
    /// The height it is catching up to, while it is, for who may read the chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syncing_to: Option<Height>,
}
