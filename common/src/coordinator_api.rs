//! What workers and the coordinator say to each other: the JSON bodies of the coordinator's `/v1` routes, with the schemas
//! that its OpenAPI document has of them.
//!
//! | route | body → answer |
//! | --- | --- |
//! | `POST /v1/challenges` | – → [`Challenge`] |
//! | `POST /v1/workers` | [`RegisterRequest`] → [`Registration`] |
//! | `POST /v1/workers/{worker_id}/heartbeat` | [`Heartbeat`] → [`ChainView`] |
//! | `POST /v1/workers/{worker_id}/heartbeats` | [`Heartbeats`] → [`Heard`]: of several chains at once |
//! | `POST /v1/workers/{worker_id}/leave` | [`LeaveRequest`] → [`Left`] |
//! | `POST /v1/workers/{worker_id}/claim` | [`Claim`] → [`ClaimTaken`] |
//! | `POST /v1/chains` | [`CreateChain`] → [`ChainInfo`] |
//! | `GET /v1/chains` · `GET /v1/chains/{name}` | – → `Vec<`[`ChainSummary`]`>` · [`ChainInfo`] |
//! | `GET /v1/chains/{name}/view` | – → [`ChainView`] |
//! | `POST /v1/chains/{name}/checkpoints` | [`CommitRequest`] → [`CommitAnswer`] |
//! | `GET /v1/chains/{name}/checkpoints?from=SIZE&limit=N` | – → [`CheckpointPage`] |
//! | `GET /v1/chains/{name}/recoveries` | – → `Vec<String>`: signed notes, see [`crate::recovery`] |
//! | `POST /v1/chains/{name}/cosignatures` | [`CosignRequest`] → [`CheckpointView`] |
//! | `GET /v1/events` | – → server-sent events, each [`Event`] |
//!
//! Heartbeats, claims, leaving, new chains, commits and cosignatures carry `Authorization: Bearer <the worker's token>`.
//! Every error is [`ApiError`] with a fitting HTTP status.

use crate::hash::{BlockHash, ChainId, Root};
use crate::keys::{Address, PublicKey, Signature};
use crate::quantity::{Height, Term, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// The version of this interface: both sides refuse another.
pub const API_VERSION: u32 = 1;

/// How often the coordinator says something on a stream of events, in milliseconds: a few times as much silence means that
/// the server, or the way to it, is gone.
pub const EVENTS_KEEP_ALIVE_MS: u64 = 5_000;

/// The body of every error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiError {
    /// A short name for programs: `unknown_worker`, `stale_term`, `no_quorum`.
    #[schema(example = "unknown_chain")]
    pub code: String,
    /// A sentence for people.
    #[schema(example = "there is no chain \"other\"")]
    pub message: String,
    /// What to do about it, where there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// A nonce to sign, so that a registration seen by others cannot be sent again. Good for one use within a minute.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Challenge {
    /// 32 random bytes in hex.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub challenge: String,
}

/// A worker asks to be part of a chain's network.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RegisterRequest {
    /// [`API_VERSION`] of the worker.
    #[schema(example = 1)]
    pub api_version: u32,
    /// The chain's name.
    #[schema(example = "main")]
    pub chain: String,
    /// The worker's key: the same key gets the same id.
    pub public_key: PublicKey,
    /// A name for people, of `a-z0-9-`.
    #[serde(default)]
    #[schema(pattern = "^[a-z0-9-]{1,64}$", example = "warehouse-2")]
    pub name: Option<String>,
    /// The network's join token, where it asks for one.
    #[serde(default)]
    pub token: Option<String>,
    /// Where peers reach it: `IP:PORT`, UDP.
    #[schema(max_items = 16, example = json!(["192.0.2.7:4433"]))]
    pub addresses: Vec<String>,
    /// Where people reach its page and API, where that is told: an http URL.
    #[serde(default)]
    #[schema(max_length = 256, example = "http://192.0.2.7:8080")]
    pub api: Option<String>,
    /// The challenge that is signed.
    pub challenge: String,
    /// By `public_key`, over [`registration_bytes`].
    pub signature: Signature,
}

/// What a registration signs.
#[must_use]
pub fn registration_bytes(challenge: &str, chain: &str, key: &PublicKey) -> Vec<u8> {
    format!("block-chain/registration/v1\n{challenge}\n{chain}\n{key}\n").into_bytes()
}

/// A worker is part of the network.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Registration {
    /// The worker's id: never reused.
    pub worker_id: Uuid,
    /// The worker's own token for later requests; a registration replaces the one before.
    pub worker_token: String,
    /// The chain.
    pub chain: ChainInfo,
    /// Who is there, who leads, what is committed.
    pub view: ChainView,
}

/// A chain as the coordinator knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChainInfo {
    /// Its name.
    #[schema(example = "main")]
    pub name: String,
    /// Its id.
    pub id: ChainId,
    /// The encoded [`crate::chain_spec::ChainSpec`], in hex.
    pub spec: String,
    /// The key that signs its checkpoints.
    pub coordinator_key: PublicKey,
}

/// A chain in the list of all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChainSummary {
    /// Its name.
    #[schema(example = "main")]
    pub name: String,
    /// Its id.
    pub id: ChainId,
    /// How its blocks are proven: `work`, `stake` or `authority`.
    #[schema(example = "work")]
    pub proof: String,
    /// The interval between its blocks that is aimed at, in milliseconds; 0: only on demand.
    pub block_interval_ms: u64,
    /// The chain that it was forked from, where it is a fork.
    #[serde(default)]
    pub parent: Option<ChainId>,
    /// Its workers.
    pub members: usize,
    /// Those of them that were heard within their lease.
    pub alive: usize,
    /// The term now; 0 before the first election.
    pub term: Term,
    /// How many of its blocks are committed.
    pub committed_size: u64,
    /// How many of its blocks are final.
    pub final_size: u64,
}

/// A worker of a chain, for its peers and for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// Its id.
    pub worker_id: Uuid,
    /// Its key, by which peers dial it.
    pub public_key: PublicKey,
    /// Its name for people.
    pub name: Option<String>,
    /// Where peers reach it.
    pub addresses: Vec<String>,
    /// Where people reach its page and API.
    pub api: Option<String>,
    /// Whether it was heard within its lease.
    pub alive: bool,
    /// Milliseconds since it was last heard, by the coordinator's clock.
    pub silent_ms: u64,
    /// Its head, as it said last.
    pub height: Height,
    /// The hash of its head, as it said last.
    pub head: BlockHash,
    /// The last committed height it holds, as it said last.
    pub committed: Height,
    /// Whether it counts in the quorum; one that has joined lately counts once it holds what is committed.
    #[serde(default = "yes")]
    pub counts: bool,
    /// The version of its program, where it says so.
    #[serde(default)]
    pub version: Option<String>,
}

const fn yes() -> bool {
    true
}

/// A worker says that it lives, and what it has.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Heartbeat {
    /// The chain's name.
    #[schema(example = "main")]
    pub chain: String,
    /// Its head's height.
    pub height: Height,
    /// Its head.
    pub head: BlockHash,
    /// The last committed height that it holds in full.
    pub committed: Height,
    /// The highest term it has seen.
    pub term: Term,
    /// How many blocks the largest checkpoint it has persisted covers: one more than the coordinator has is a fault.
    pub checkpoint_size: u64,
    /// Where peers reach it now: `IP:PORT`, UDP.
    #[schema(max_items = 16, example = json!(["192.0.2.7:4433"]))]
    pub addresses: Vec<String>,
    /// Where people reach it now: an http URL.
    #[serde(default)]
    #[schema(max_length = 256, example = "http://192.0.2.7:8080")]
    pub api: Option<String>,
    /// Whether it stops now: it gives its lease back, so that another leads at once.
    #[serde(default)]
    pub stepping_down: bool,
    /// How many of the coordinator's own transactions are on its chain: see [`Orders`].
    #[serde(default)]
    pub orders: u64,
    /// The version of its program.
    #[serde(default)]
    pub version: Option<String>,
}

/// A worker says that it lives on several chains: one request, and one transaction of the coordinator's database.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Heartbeats {
    /// Of each chain.
    #[schema(max_items = 64)]
    pub beats: Vec<Heartbeat>,
}

/// What the coordinator says of each chain, in the order of the beats.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Heard {
    /// Of each chain.
    pub chains: Vec<ChainHeard>,
}

/// What the coordinator says of one chain.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChainHeard {
    /// The chain's network now.
    View(Box<ChainView>),
    /// Why this worker is not heard on this chain; the others are.
    Refused(ApiError),
}

/// A worker makes a chain.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CreateChain {
    /// The encoded [`crate::chain_spec::ChainSpec`], in hex.
    pub spec: String,
}

/// Who leads a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Leader {
    /// The leader.
    pub worker_id: Uuid,
    /// Its key.
    pub public_key: PublicKey,
    /// Its term.
    pub term: Term,
    /// Since when, by the coordinator's clock.
    pub since: Timestamp,
}

/// A checkpoint and how far it is agreed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckpointView {
    /// Blocks it covers.
    pub size: u64,
    /// The signed note with the cosignatures so far.
    pub note: String,
    /// Workers that have cosigned.
    pub cosignatures: usize,
    /// Cosignatures that make it final.
    pub needed: usize,
    /// Whether it is final.
    pub is_final: bool,
}

/// All that a worker must know of a chain's network now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChainView {
    /// The coordinator's clock when it said this: workers compare theirs.
    pub time: Timestamp,
    /// The chain's name.
    #[schema(example = "main")]
    pub chain: String,
    /// The term now; 0 before the first election.
    pub term: Term,
    /// The leader, where there is one.
    pub leader: Option<Leader>,
    /// The workers.
    pub members: Vec<Member>,
    /// Acknowledgements or cosignatures that make a majority.
    pub quorum: usize,
    /// The newest checkpoint.
    pub checkpoint: Option<CheckpointView>,
    /// How many blocks are final: covered by a checkpoint with a majority of cosignatures.
    pub final_size: u64,
    /// How long a worker counts as alive after it was heard, in milliseconds.
    pub lease_ms: u64,
    /// How often to be heard, in milliseconds.
    pub heartbeat_ms: u64,
    /// How many transactions the coordinator itself has signed for the chain: see [`Orders`].
    #[serde(default)]
    pub orders: u64,
    /// Where workers meet that do not reach each other: a URL, or `:PORT` on the coordinator's own host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = ":18010")]
    pub relay: Option<String>,
    /// Forks of the chain that the operator has asked for, and that its leader makes.
    #[serde(default)]
    pub forks: Vec<ForkWish>,
}

/// A fork that the operator has asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ForkWish {
    /// Its name.
    #[schema(example = "audit")]
    pub name: String,
    /// The final block whose state it begins with.
    pub at: Height,
}

/// What a leader tells of blocks that it had committed, for the coordinator's page of figures alone.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CommitFigures {
    /// The chain's name.
    #[schema(example = "main")]
    pub chain: String,
    /// Blocks that were committed before.
    pub old_size: u64,
    /// Blocks that are committed now.
    pub size: u64,
    /// Transactions in the new ones.
    pub transactions: u64,
    /// Their encoded bytes.
    pub bytes: u64,
    /// Attempts that the new blocks' proofs of work stand for, on average; 0 on other chains.
    pub work: f64,
    /// On a chain of stake, who is drawn with which share, the largest first.
    #[schema(max_items = 16)]
    pub shares: Vec<StakeShare>,
}

/// Shares that are told of.
pub const MAX_SHARES: usize = 16;

/// A share of the stake that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StakeShare {
    /// Whose.
    pub address: Address,
    /// How much, in millionths.
    pub ppm: u64,
}

/// Taken note of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Noted {}

/// Transactions that the coordinator has signed with its key, for workers to put on the chain: it makes a chain, so the chain's
/// first admin is its key, and it has no replica to send them from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Orders {
    /// Encoded transactions in hex, in the order of their nonces.
    pub transactions: Vec<String>,
}

impl ChainView {
    /// The workers that count in the quorum.
    pub fn counting(&self) -> impl Iterator<Item = &Member> + Clone {
        self.members.iter().filter(|member| member.counts)
    }
}

/// The leader asks that a block be committed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CommitRequest {
    /// The leader's term.
    pub term: Term,
    /// Size of the last checkpoint, which this follows; 0 where there is none.
    pub old_size: u64,
    /// Blocks up to and with the one to commit.
    pub size: u64,
    /// The block to commit.
    pub block: BlockHash,
    /// RFC 6962 root over the headers of these blocks.
    pub root: Root,
    /// RFC 6962 consistency proof from the last checkpoint, hashes in hex.
    pub consistency: Vec<Root>,
    /// Encoded [`crate::agreement::Acknowledgement`]s of a majority, in hex.
    pub acknowledgements: Vec<String>,
}

/// The block is committed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CommitAnswer {
    /// The checkpoint, signed by the coordinator.
    pub checkpoint: CheckpointView,
}

/// Checkpoints in order of size.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CheckpointPage {
    /// The checkpoints from the one asked for on.
    pub checkpoints: Vec<CheckpointView>,
    /// Where the next page begins, where there is more.
    pub next: Option<u64>,
}

/// A worker cosigns a checkpoint that it has persisted.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CosignRequest {
    /// Blocks the checkpoint covers.
    pub size: u64,
    /// The note's text with the worker's cosignature line.
    pub note: String,
}

/// A worker shows a coordinator that knows less what it has: the coordinator was restored from an old copy.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Claim {
    /// The chain's name.
    #[schema(example = "main")]
    pub chain: String,
    /// The highest term that the worker has seen.
    pub term: Term,
    /// Its newest checkpoint, where that covers more than the coordinator's.
    #[serde(default)]
    pub checkpoint: Option<ClaimedCheckpoint>,
}

/// A checkpoint that the coordinator has signed, and does not know any more.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ClaimedCheckpoint {
    /// The signed note, with cosignatures where there are some.
    pub note: String,
    /// Blocks that the coordinator's last checkpoint covers now.
    pub old_size: u64,
    /// RFC 6962 consistency proof from there, hashes in hex.
    pub consistency: Vec<Root>,
}

/// A claim is kept until an operator has the coordinator recover.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ClaimTaken {
    /// Terms and blocks that the coordinator lacks.
    pub behind_by: (u64, u64),
}

/// A worker leaves a chain's network.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LeaveRequest {
    /// The chain's name.
    #[schema(example = "main")]
    pub chain: String,
}

/// A worker has left.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Left {
    /// Whether it was a member before.
    pub left: bool,
}

/// Something happened on a chain: whoever listens asks for the [`ChainView`] again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A chain was made.
    Chain {
        /// The chain.
        chain: String,
    },
    /// Workers came, went or moved.
    Members {
        /// The chain.
        chain: String,
    },
    /// A leader was elected.
    Leader {
        /// The chain.
        chain: String,
        /// The term.
        term: Term,
    },
    /// A block was committed.
    Committed {
        /// The chain.
        chain: String,
        /// Blocks committed.
        size: u64,
    },
    /// A checkpoint became final.
    Final {
        /// The chain.
        chain: String,
        /// Blocks final.
        size: u64,
    },
}

impl Event {
    /// The chain that it happened on.
    #[must_use]
    pub fn chain(&self) -> &str {
        match self {
            Self::Chain { chain }
            | Self::Members { chain }
            | Self::Leader { chain, .. }
            | Self::Committed { chain, .. }
            | Self::Final { chain, .. } => chain,
        }
    }
}
