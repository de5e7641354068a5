//! Messages between workers. Every one goes one way; an answer is a message like any other and describes itself.
//!
//! Small ones (announcements, agreement) and bulk ones (headers, blocks, transactions) travel on streams of their own,
//! so that a block on its way does not hold up an acknowledgement. What is lost is made up for by the periodic pull.

use crate::agreement::Acknowledgement;
use crate::block::Block;
use crate::codec::{BoundedBytes, BoundedVec, Format};
use crate::evidence::MAX_EVIDENCE_BYTES;
use crate::hash::{BlockHash, TxId};
use crate::header::Header;
use crate::limits::{
    MAX_BLOCK_TRANSACTIONS, MAX_CHECKPOINT_BYTES, MAX_HEADERS_PER_MESSAGE, MAX_PEER_MESSAGE_BYTES,
};
use crate::quantity::{Height, Term};
use crate::transaction::Transaction;
use borsh::{BorshDeserialize, BorshSerialize};

/// Hashes in a locator: one for each doubling of the distance from the head, and some.
pub const MAX_LOCATOR: usize = 64;
/// Blocks asked for in one message.
pub const MAX_BLOCKS_ASKED: usize = 64;

/// What a worker says to another.
#[expect(
    clippy::large_enum_variant,
    reason = "one message at a time is in memory for each peer, and most are lists"
)]
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Message {
    /// What the sender has; the periodic pull, and the answer to nothing.
    Status(Status) = 0,
    /// A new block: its header and its transactions' ids, which most peers hold already.
    Compact {
        /// The header.
        header: Header,
        /// The transactions' ids, in order.
        ids: BoundedVec<TxId, MAX_BLOCK_TRANSACTIONS>,
    } = 1,
    /// Transactions: new ones, or those asked for.
    Transactions(BoundedVec<Transaction, MAX_BLOCK_TRANSACTIONS>) = 2,
    /// The leader proposes a block for commitment.
    Propose {
        /// The leader's term.
        term: Term,
        /// The block's height.
        height: Height,
        /// The block.
        block: BlockHash,
    } = 3,
    /// The sender holds a proposed block, synced.
    Acknowledge(Acknowledgement) = 4,
    /// A signed checkpoint, with the cosignatures known to the sender.
    Checkpoint(BoundedBytes<1, MAX_CHECKPOINT_BYTES>) = 5,
    /// Headers after the first of these hashes that the receiver has on its chain.
    GetHeaders(BoundedVec<BlockHash, MAX_LOCATOR>) = 6,
    /// Headers in order of height, each following the one before.
    Headers(BoundedVec<Header, MAX_HEADERS_PER_MESSAGE>) = 7,
    /// Whole blocks; each comes as a message of its own.
    GetBlocks(BoundedVec<BlockHash, MAX_BLOCKS_ASKED>) = 8,
    /// A whole block.
    Block(Box<Block>) = 9,
    /// Asked-for blocks that the sender does not have.
    NotFound(BoundedVec<BlockHash, MAX_BLOCKS_ASKED>) = 10,
    /// The ids of the transactions that wait at the receiver.
    GetMempool = 11,
    /// Ids of waiting transactions.
    MempoolIds(BoundedVec<TxId, MAX_BLOCK_TRANSACTIONS>) = 12,
    /// Transactions by id, from the mempool.
    GetTransactions(BoundedVec<TxId, MAX_BLOCK_TRANSACTIONS>) = 13,
    /// The hashes of the receiver's chain at these heights: for comparing replicas.
    GetHashes(BoundedVec<Height, MAX_LOCATOR>) = 14,
    /// Hashes of the sender's chain; `None` above its head.
    Hashes(BoundedVec<(Height, Option<BlockHash>), MAX_LOCATOR>) = 15,
    /// Two checkpoints that contradict each other, as in the file that a worker keeps.
    Evidence(BoundedBytes<1, MAX_EVIDENCE_BYTES>) = 16,
}

/// What a worker has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Status {
    /// Its head's height.
    pub height: Height,
    /// Its head.
    pub head: BlockHash,
    /// Blocks that it knows to be committed.
    pub committed_size: u64,
    /// Blocks that it knows to be final.
    pub final_size: u64,
    /// The first eight bytes of the ids that wait at it, XORed: two mempools with the same transactions have the same.
    pub mempool_mark: u64,
}

impl Format for Message {
    const NAME: &'static str = "peer message";
    const VERSION: u8 = 1;
    const MAX_BYTES: usize = MAX_PEER_MESSAGE_BYTES;
}

impl Message {
    /// Whether it travels on the bulk stream.
    #[must_use]
    pub const fn is_bulk(&self) -> bool {
        matches!(
            self,
            Self::Transactions(_) | Self::Headers(_) | Self::Block(_) | Self::MempoolIds(_)
        )
    }

    /// Whether it asks something that is answered from the store alone.
    #[must_use]
    pub const fn is_request(&self) -> bool {
        matches!(
            self,
            Self::GetHeaders(_) | Self::GetBlocks(_) | Self::GetHashes(_)
        )
    }
}
