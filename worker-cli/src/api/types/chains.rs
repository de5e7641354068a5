//! The chains of a node and of its coordinator as JSON.

use super::NodeStatus;
use crate::node::NodeHandle;
use crate::spec_file::SpecFile;
use block_chain_common::chain_spec::Parent;
use block_chain_common::coordinator_api::ChainSummary;
use block_chain_common::hash::ChainId;
use block_chain_common::keys::Address;
use block_chain_common::quantity::{Height, Term};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// All chains.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ChainList {
    /// By name.
    pub chains: Vec<ChainEntry>,
    /// Why the coordinator's are not known, where it does not answer: then these are the node's own alone.
    pub error: Option<String>,
}

/// A chain in the list.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ChainEntry {
    /// Its name.
    #[schema(example = "main")]
    pub name: String,
    /// Its id.
    pub id: ChainId,
    /// How its blocks are proven: `work`, `stake` or `authority`.
    #[schema(example = "work")]
    pub proof: String,
    /// The chain that it was forked from, where it is a fork.
    pub parent: Option<ChainId>,
    /// Whether this node has joined it.
    pub joined: bool,
    /// Whether it is the one that this worker is registered for: the one that is meant where none is named.
    pub home: bool,
    /// The height of this node's replica, where it has joined.
    pub height: Option<Height>,
    /// How many blocks are committed.
    pub committed_size: u64,
    /// How many blocks are final.
    pub final_size: u64,
    /// Its workers.
    pub members: usize,
    /// The term now.
    pub term: Term,
    /// Why this node cannot open it although it has joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl ChainEntry {
    pub(crate) fn new(known: &ChainSummary, own: Option<NodeStatus>, is_home: bool) -> Self {
        Self {
            name: known.name.clone(),
            id: known.id,
            proof: known.proof.clone(),
            parent: known.parent,
            joined: own.is_some(),
            home: is_home,
            height: own.map(|status| status.height),
            committed_size: known.committed_size,
            final_size: known.final_size,
            members: known.members,
            term: known.term,
            failed: None,
        }
    }

    /// Of a chain that only the node tells of.
    pub(crate) fn local(node: &NodeHandle, is_home: bool) -> Self {
        let (status, spec) = (node.status(), node.spec().spec());
        Self {
            id: status.chain_id,
            proof: spec.proof.name().to_owned(),
            parent: spec.parent.as_ref().map(|parent| parent.chain),
            joined: true,
            home: is_home,
            height: Some(status.height),
            committed_size: status.committed_size,
            final_size: status.final_size,
            members: status.members,
            term: status.term,
            name: status.chain,
            failed: None,
        }
    }
}

/// A chain's spec.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ChainDetail {
    /// Its name.
    #[schema(example = "main")]
    pub name: String,
    /// Its id: the hash of its first block, which follows from the spec alone.
    pub id: ChainId,
    /// Whether this node has joined it.
    pub joined: bool,
    /// All of its spec, as a new chain may be given.
    pub spec: SpecFile,
    /// Where it was forked, where it is a fork.
    pub parent: Option<Parent>,
}

/// A chain to make.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewChain {
    /// Its name.
    #[schema(pattern = "^[a-z0-9-]{1,64}$", example = "audit")]
    pub name: String,
    /// Who administers it and issues, where the spec's grants do not say; the worker where it is left out.
    #[serde(default)]
    pub creator: Option<Address>,
    /// What it has that the default chain, or the parent of a fork, has not.
    #[serde(default)]
    pub spec: SpecFile,
    /// Where to fork it from another chain.
    #[serde(default)]
    pub fork: Option<ForkPoint>,
}

/// A block to fork from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForkPoint {
    /// The chain, which this node has joined.
    #[schema(example = "main")]
    pub from: String,
    /// The final block whose state the fork begins with.
    pub at: Height,
}

/// A chain was joined.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Joined {
    /// Its name.
    pub chain: String,
    /// Its id.
    pub chain_id: ChainId,
    /// Whether this node had not joined it before.
    pub joined: bool,
}

/// A chain was left.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ChainLeft {
    /// Its name.
    pub chain: String,
    /// Whether the coordinator had this worker as a member.
    pub left: bool,
}
