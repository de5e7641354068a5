//! Blocks and the stages of their checking.
//!
//! ```text
//! Block ──check──► CheckedBlock ──connect──► ConnectedBlock ──► the store
//!        BLK rules               BLK + STA rules
//!        (block alone)           (parent, state, time)
//! ```
//! Only the checks make the later types; the store takes nothing less than a [`ConnectedBlock`]. A rule broken for ever
//! ([`BlockError`]) is not the same as a block that cannot be judged now ([`ConnectError::NotYet`]).

mod connect;

pub use connect::{
    BlockTemplate, ChainTip, CompletedNodes, ConnectError, ConnectedBlock, HeaderError, build_block,
    connect_block, current_draw,
};

use crate::codec::{BoundedVec, Format, encode};
use crate::hash::{BlockHash, ChainId, Root, TxId};
use crate::header::{Header, Proof};
use crate::limits::{MAX_BLOCK_BYTES, MAX_BLOCK_TRANSACTIONS};
use crate::merkle::transactions_root;
use crate::transaction::{CheckedTransaction, Encoded, Transaction, TransactionError, check_encoded};
use crate::work::{Target, TargetError};
use borsh::{BorshDeserialize, BorshSerialize};
use rayon::prelude::*;

/// Within a block a transaction has no version byte of its own.
const VERSION_BYTES: usize = 1;

/// A block as it is sent and stored. Not yet checked.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Block {
    /// The header.
    pub header: Header,
    /// The transactions, in order.
    pub transactions: BoundedVec<Transaction, MAX_BLOCK_TRANSACTIONS>,
}

impl Format for Block {
    const NAME: &'static str = "block";
    const VERSION: u8 = 1;
    const MAX_BYTES: usize = MAX_BLOCK_BYTES;
}

/// A rule that needs only the block and its chain's id, broken for ever.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// BLK-1: it is for this chain.
    #[error("BLK-1: the block is for chain {found}, this is chain {expected}")]
    Chain {
        /// The chain it names.
        found: ChainId,
        /// This chain.
        expected: ChainId,
    },
    /// BLK-2: its encoding is at most [`MAX_BLOCK_BYTES`].
    #[error("BLK-2: the block has {found} bytes, at most {MAX_BLOCK_BYTES} are allowed")]
    Size {
        /// Bytes of its encoding.
        found: usize,
    },
    /// BLK-3: the header's count is that of its transactions.
    #[error("BLK-3: the header counts {header} transactions, the block has {found}")]
    Count {
        /// The header's count.
        header: u32,
        /// Transactions there are.
        found: usize,
    },
    /// BLK-4: the header's Merkle root is that of its transactions.
    #[error("BLK-4: the header's transactions root is {header}, the transactions give {found}")]
    TransactionsRoot {
        /// The header's root.
        header: Root,
        /// The root over the transactions.
        found: Root,
    },
    /// BLK-5: the proof is valid in itself: the hash meets the target, or the signature is the producer's.
    #[error("BLK-5: {0}")]
    Proof(#[from] ProofError),
    /// BLK-6: every transaction is valid in itself (TX-1 to TX-4).
    #[error("BLK-6: transaction {index}: {error}")]
    Transaction {
        /// Its place in the block.
        index: usize,
        /// The rule it breaks.
        error: TransactionError,
    },
}

/// Why a proof is not valid in itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Only the chain's own first block has no proof.
    #[error("a block after the first has no proof")]
    Missing,
    /// The bits stand for no target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The hash is above the target.
    #[error("hash {hash} does not meet the target of bits {bits:#010x}")]
    Work {
        /// The block's hash.
        hash: BlockHash,
        /// The bits it claims.
        bits: u32,
    },
    /// The signature is not the producer's.
    #[error("the block is not signed by its producer")]
    Signature,
}

/// A header whose proof is valid in itself, with its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedHeader {
    header: Header,
    hash: BlockHash,
}

impl CheckedHeader {
    /// Checks BLK-1 and BLK-5.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check(header: Header, chain: ChainId) -> Result<Self, BlockError> {
        let hash = header.hash();
        if header.chain != chain {
            return Err(BlockError::Chain {
                found: header.chain,
                expected: chain,
            });
        }
        check_proof(&header, hash)?;
        Ok(Self { header, hash })
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Its hash.
    #[must_use]
    pub const fn hash(&self) -> BlockHash {
        self.hash
    }
}

fn check_proof(header: &Header, hash: BlockHash) -> Result<(), ProofError> {
    match &header.proof {
        Proof::Genesis => Err(ProofError::Missing),
        Proof::Work { bits, .. } => {
            if Target::from_bits(*bits)?.is_met_by(&hash) {
                Ok(())
            } else {
                Err(ProofError::Work { hash, bits: *bits })
            }
        }
        Proof::Stake { key, signature, .. } | Proof::Authority { key, signature, .. } => {
            let signed = key.verify(&header.signing_bytes(), signature).is_ok();
            if signed && key.address() == header.producer {
                Ok(())
            } else {
                Err(ProofError::Signature)
            }
        }
    }
}

/// A block whose own rules hold (BLK-1 to BLK-6), with its hash. Only the check makes one.
#[derive(Debug, Clone)]
pub struct CheckedBlock {
    header: CheckedHeader,
    transactions: Vec<CheckedTransaction>,
}

impl CheckedBlock {
    /// Checks everything that needs only the block: all signatures in batches, on all cores.
    ///
    /// # Errors
    /// The first rule of BLK-1 to BLK-6 that does not hold.
    pub fn check(block: Block, chain: ChainId) -> Result<Self, BlockError> {
        Self::check_with_known(block, chain, |_| None)
    }

    /// As [`Self::check`]; signatures of transactions that this node verified before are not verified again. An id covers
    /// the signature, so a known id means the same bytes.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn check_with_known(
        block: Block,
        chain: ChainId,
        known: impl Fn(&TxId) -> Option<CheckedTransaction> + Sync,
    ) -> Result<Self, BlockError> {
        let encoded: Vec<Encoded> = block
            .transactions
            .into_vec()
            .into_par_iter()
            .map(Encoded::new)
            .collect();
        let ids: Vec<TxId> = encoded.iter().map(Encoded::id).collect();
        let bytes = encoded.iter().map(|tx| tx.bytes().len()).sum();
        let header = check_whole(block.header, &ids, bytes, chain)?;
        let mut transactions = Vec::with_capacity(encoded.len());
        for (index, result) in check_encoded(encoded, chain, known).into_iter().enumerate() {
            transactions.push(result.map_err(|error| BlockError::Transaction { index, error })?);
        }
        Ok(Self { header, transactions })
    }

    /// Puts a block together from transactions that were checked for this chain before.
    ///
    /// # Errors
    /// The first rule of BLK-1 to BLK-6 that does not hold.
    pub fn assemble(
        header: Header,
        transactions: Vec<CheckedTransaction>,
        chain: ChainId,
    ) -> Result<Self, BlockError> {
        let ids: Vec<TxId> = transactions.iter().map(CheckedTransaction::id).collect();
        let bytes = transactions.iter().map(|tx| tx.bytes().len()).sum();
        let header = check_whole(header, &ids, bytes, chain)?;
        for (index, transaction) in transactions.iter().enumerate() {
            let found = transaction.transaction().chain;
            if found != chain {
                let error = TransactionError::Chain {
                    found,
                    expected: chain,
                };
                return Err(BlockError::Transaction { index, error });
            }
        }
        Ok(Self { header, transactions })
    }

    /// The header with its hash.
    #[must_use]
    pub const fn checked_header(&self) -> &CheckedHeader {
        &self.header
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header.header
    }

    /// The block's hash.
    #[must_use]
    pub const fn hash(&self) -> BlockHash {
        self.header.hash
    }

    /// The transactions, in order.
    #[must_use]
    pub fn transactions(&self) -> &[CheckedTransaction] {
        &self.transactions
    }

    /// The block as it is sent.
    #[must_use]
    pub fn to_block(&self) -> Block {
        let transactions = self
            .transactions
            .iter()
            .map(|tx| tx.transaction().clone())
            .collect();
        Block {
            header: self.header.header.clone(),
            transactions: BoundedVec::new(transactions).unwrap_or_default(),
        }
    }
}

/// The rules of a block as a whole: its header's own, its size, its number of transactions, their root. `bytes` is the
/// length of the transactions' encodings, each with its version byte.
fn check_whole(
    header: Header,
    ids: &[TxId],
    bytes: usize,
    chain: ChainId,
) -> Result<CheckedHeader, BlockError> {
    let frame = encode(&Block {
        header: header.clone(),
        transactions: BoundedVec::default(),
    });
    let header = CheckedHeader::check(header, chain)?;
    let bodies = bytes.saturating_sub(ids.len().saturating_mul(VERSION_BYTES));
    let size = frame.len().saturating_add(bodies);
    if size > MAX_BLOCK_BYTES {
        return Err(BlockError::Size { found: size });
    }
    let count = header.header.transaction_count;
    if u32::try_from(ids.len()) != Ok(count) {
        return Err(BlockError::Count {
            header: count,
            found: ids.len(),
        });
    }
    let root = transactions_root(ids);
    if root != header.header.transactions_root {
        return Err(BlockError::TransactionsRoot {
            header: header.header.transactions_root,
            found: root,
        });
    }
    Ok(header)
}
