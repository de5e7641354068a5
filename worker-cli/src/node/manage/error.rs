//! Why a chain cannot be joined, left or made.

use crate::backup::WorkerBackupError;
use crate::coordinator::CoordinatorError;
use crate::identity::IdentityError;
use crate::spec_file::SpecFileError;
use crate::storage::{ForkFailure, StorageError};
use block_chain_common::chain_spec::SpecError;
use block_chain_common::hash::ChainId;
use block_chain_common::limits::{MAX_NODE_CHAINS, NameError};
use block_chain_common::quantity::Height;
use std::path::PathBuf;

/// Why a chain cannot be joined, left or made.
#[derive(Debug, thiserror::Error)]
pub enum ChainsError {
    /// The name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// This node has not joined the chain.
    #[error("this node has no chain {name:?}")]
    NotJoined {
        /// The chain.
        name: String,
    },
    /// The node has joined the chain, and cannot open it.
    #[error("chain {name:?} cannot be opened: {reason}")]
    Failed {
        /// The chain.
        name: String,
        /// Why.
        reason: String,
    },
    /// The home chain stays as long as the worker.
    #[error("chain {name:?} is the one that this worker is registered for, and is left with the network")]
    Home {
        /// The chain.
        name: String,
    },
    /// There are too many.
    #[error("this node has {MAX_NODE_CHAINS} chains, no more are allowed")]
    TooMany,
    /// There is a chain of this name already.
    #[error("there is a chain {name:?} already, with another spec")]
    Exists {
        /// The chain.
        name: String,
    },
    /// The directory holds something else.
    #[error("{} holds a replica of another chain {name:?}", dir.display())]
    OtherChain {
        /// The chain.
        name: String,
        /// The directory.
        dir: PathBuf,
    },
    /// The coordinator gives a chain that it has not made.
    #[error("the coordinator gives chain {name:?} with {what} that is not its own")]
    Contradiction {
        /// The chain.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A fork begins at a final block.
    #[error("block {height} of chain {from:?} is not final: it has {blocks} blocks, of which {finals} are")]
    NotFinal {
        /// The chain to fork from.
        from: String,
        /// The height asked for.
        height: Height,
        /// Its blocks.
        blocks: u64,
        /// Those that are final.
        finals: u64,
    },
    /// A fork is made of its parent's replica, which is not here yet.
    #[error(
        "chain {name:?} is a fork of chain {parent:?} at block {height}, which this node has not fetched yet"
    )]
    ParentBehind {
        /// The fork.
        name: String,
        /// Its parent.
        parent: String,
        /// The block that is wanted.
        height: Height,
    },
    /// A fork's parent is no chain of the coordinator.
    #[error("chain {name:?} is a fork of chain {parent}, which the coordinator does not know")]
    NoParent {
        /// The fork.
        name: String,
        /// Its parent.
        parent: ChainId,
    },
    /// A fork's store cannot be made.
    #[error(transparent)]
    Fork(#[from] ForkFailure),
    /// A new chain's spec breaks a rule.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A new chain's spec cannot be read.
    #[error(transparent)]
    File(#[from] SpecFileError),
    /// The coordinator refuses, or does not answer.
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
    /// The chain's file.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The chain's store.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A backup cannot be made.
    #[error(transparent)]
    Backup(#[from] WorkerBackupError),
    /// The chain cannot be started or ended.
    #[error("{0}")]
    Driver(String),
}

impl ChainsError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotJoined { name } => Some(format!(
                "block-chain-worker chain join {name}; chain list shows the chains"
            )),
            Self::Failed { name, .. } => Some(format!(
                "block-chain-worker check_consistency --repair --chain {name}"
            )),
            Self::Home { .. } => Some("block-chain-worker disconnect leaves all".to_owned()),
            Self::Exists { .. } => Some("take another name".to_owned()),
            Self::OtherChain { dir, .. } => Some(format!("move {} away, and join again", dir.display())),
            Self::NotFinal { from, .. } => Some(format!(
                "block-chain-worker status --chain {from} says what is final, and what the rest waits for"
            )),
            Self::ParentBehind { name, .. } => Some(format!("block-chain-worker chain join {name}, later")),
            Self::Coordinator(error) => error.hint(),
            Self::Storage(error) => error.hint().map(str::to_owned),
            Self::Backup(error) => error.hint().map(str::to_owned),
            _ => None,
        }
    }
}
