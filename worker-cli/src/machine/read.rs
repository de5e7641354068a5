//! What the machine reads from the store, and what it asks to have written.
//!
//! A step's [`Write`]s are one atomic batch, synced before any other effect of the step is carried out.

use crate::storage::StorageError;
use block_chain_common::block::ConnectedBlock;
use block_chain_common::hash::{BlockHash, TxId};
use block_chain_common::header::Header;
use block_chain_common::history::HistoryNodes;
use block_chain_common::quantity::{Height, Term};
use block_chain_common::state::{LatticeHash, StateView, Undo};
use block_chain_common::transaction::{CheckedTransaction, Transaction};
use block_chain_common::work::Work;
use borsh::{BorshDeserialize, BorshSerialize};

/// A header that the store holds, with what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct StoredHeader {
    /// The header.
    pub header: Header,
    /// Summed work of its branch up to and with it.
    pub work: Work,
}

/// Where a transaction stands on the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct Place {
    /// The block.
    pub height: Height,
    /// Its index there.
    pub index: u32,
}

/// The store as the machine sees it. "Chain" is the branch that the node follows; others are candidates.
pub trait ChainRead: StateView<Error = StorageError> + HistoryNodes<Error = StorageError> {
    /// A header of the chain or of a candidate whose body is stored.
    ///
    /// # Errors
    /// Where reading fails.
    fn header(&self, hash: &BlockHash) -> Result<Option<StoredHeader>, StorageError>;

    /// The chain's block at a height.
    ///
    /// # Errors
    /// Where reading fails.
    fn hash_at(&self, height: Height) -> Result<Option<BlockHash>, StorageError>;

    /// The transactions of a block of the chain or of a candidate, in order; `None` where the block is not stored.
    ///
    /// # Errors
    /// Where reading fails.
    fn transactions(&self, hash: &BlockHash) -> Result<Option<Vec<Transaction>>, StorageError>;

    /// What a block of the chain changed in the state; kept only above the last committed block.
    ///
    /// # Errors
    /// Where reading fails.
    fn undo(&self, hash: &BlockHash) -> Result<Option<Undo>, StorageError>;

    /// Where on the chain a transaction stands.
    ///
    /// # Errors
    /// Where reading fails.
    fn place(&self, id: &TxId) -> Result<Option<Place>, StorageError>;

    /// The running hash of the state at the head.
    ///
    /// # Errors
    /// Where reading fails.
    fn state_hash(&self) -> Result<LatticeHash, StorageError>;
}

/// Something to be written.
#[derive(Debug, Clone)]
pub enum Write {
    /// Store a valid candidate's header and body beside the chain (it is not connected, so has no effect on the state).
    Candidate {
        /// Its header with its summed work.
        header: StoredHeader,
        /// Its hash.
        hash: BlockHash,
        /// Its transactions.
        transactions: Vec<CheckedTransaction>,
    },
    /// Append a block to the chain: header, body where not stored yet, transaction index, key history, state, undo data,
    /// history nodes, state hash, head.
    Connect(Box<ConnectedBlock>),
    /// Take the head off the chain: the state as before it, its index entries gone, its parent the head. Header and body
    /// stay as a candidate's.
    Disconnect {
        /// The head.
        hash: BlockHash,
        /// The state before it, from [`ChainRead::undo`].
        undo: Undo,
    },
    /// A transaction waits, under a number that keeps the order of arrival.
    MempoolAdd {
        /// Larger than all before.
        sequence: u64,
        /// The transaction.
        transaction: CheckedTransaction,
    },
    /// A transaction no longer waits.
    MempoolRemove {
        /// Its number.
        sequence: u64,
    },
    /// The blocks up to `size` are committed: undo data at and below is dropped, and candidates at and below it.
    Committed {
        /// Blocks the checkpoint covers.
        size: u64,
        /// The signed note.
        note: String,
    },
    /// The blocks up to `size` are final, with the note that shows it.
    Final {
        /// Blocks the checkpoint covers.
        size: u64,
        /// The signed note with its cosignatures.
        note: String,
    },
    /// The highest term seen.
    Term(Term),
}
