//! The blocks that a node has seen lately, those that lost their race among them: for the page of forks.

use super::handle::NodeHandle;
use crate::machine::Write;
use crate::storage::Store;
use block_chain_common::hash::BlockHash;
use block_chain_common::header::Header;
use block_chain_common::quantity::Height;
use std::collections::VecDeque;
use std::sync::{PoisonError, RwLock};

/// How many are kept: a page shows the last heights.
const KEPT: usize = 256;
/// Blocks below the head that a start looks back at: those that may still give way are few, and a start is quick.
const AT_START: u64 = 16;

/// A block, as far as it is known when it has lost: of those the store keeps nothing.
#[derive(Debug, Clone)]
pub(crate) struct SeenBlock {
    pub(crate) hash: BlockHash,
    pub(crate) header: Header,
}

impl SeenBlock {
    pub(crate) fn of(hash: BlockHash, header: &Header) -> Self {
        Self {
            hash,
            header: header.clone(),
        }
    }
}

/// The last ones, oldest first.
#[derive(Default)]
pub(crate) struct SeenBlocks(RwLock<VecDeque<SeenBlock>>);

impl SeenBlocks {
    /// The end of the chain as it is when a node starts: what of it gives way later was seen too.
    pub(crate) fn of(store: &Store) -> Self {
        let head = store.head().0.get();
        let seen = (head.saturating_sub(AT_START)..=head).filter_map(|height| {
            let (hash, header) = store.header_at(Height::new(height)).ok().flatten()?;
            Some(SeenBlock::of(hash, &header))
        });
        Self(RwLock::new(seen.collect()))
    }

    /// Takes a candidate that is stored beside the chain, or a block of the chain.
    pub(crate) fn note(&self, write: &Write) {
        let block = match write {
            Write::Candidate { header, hash, .. } => SeenBlock::of(*hash, &header.header),
            Write::Connect(connected) => {
                let block = connected.block();
                SeenBlock::of(block.hash(), block.header())
            }
            _ => return,
        };
        let mut seen = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if seen.iter().rev().all(|known| known.hash != block.hash) {
            if seen.len() >= KEPT {
                seen.pop_front();
            }
            seen.push_back(block);
        }
    }
}

impl NodeHandle {
    /// A block that this node has seen lately.
    pub(crate) fn seen_block(&self, hash: &BlockHash) -> Option<SeenBlock> {
        let seen = self.0.seen.0.read().unwrap_or_else(PoisonError::into_inner);
        seen.iter().find(|known| known.hash == *hash).cloned()
    }

    /// The blocks that this node has seen since it started, the last 256.
    pub(crate) fn seen_blocks(&self) -> Vec<SeenBlock> {
        let seen = self.0.seen.0.read().unwrap_or_else(PoisonError::into_inner);
        seen.iter().cloned().collect()
    }
}
