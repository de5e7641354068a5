//! What a check of everything is asked, and says.

use block_chain_common::hash::BlockHash;
use block_chain_common::quantity::Height;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Asks for a check of everything.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct CheckRequest {
    /// Whether to fetch damaged blocks again.
    #[serde(default)]
    pub repair: bool,
}

/// How far a check is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckProgress {
    /// Whether one is under way.
    pub running: bool,
    /// Blocks checked.
    pub blocks_checked: u64,
    /// Blocks to check.
    pub blocks: u64,
}

/// A fault of this replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LocalFault {
    /// The block, where it lies in one.
    pub height: Option<Height>,
    /// What is wrong.
    pub message: String,
}

/// This replica's soundness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckReport {
    /// Nothing wrong here, and no replica differs.
    pub consistent: bool,
    /// The store's files are damaged beyond what can be put right in place: it is made anew at the node's next start.
    pub rebuild: bool,
    /// This replica.
    pub local: LocalCheck,
    /// Every live worker, this one included.
    pub replicas: Vec<ReplicaCheck>,
    /// What the coordinator says against this replica: its last checkpoint, and whether it is this chain's.
    pub coordinator: Option<CoordinatorCheck>,
}

/// The coordinator compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CoordinatorCheck {
    /// Blocks its last checkpoint covers.
    pub size: u64,
    /// Whether its root is the one over this replica's headers; `None` where this replica is shorter.
    pub same: Option<bool>,
}
