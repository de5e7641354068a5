//! Acknowledgements and quorums: what the coordinator asks for before it commits a block.

use crate::codec::{Format, append};
use crate::hash::{BlockHash, ChainId, Root};
use crate::keys::{KeyError, PublicKey, SecretKey, Signature};
use crate::quantity::{Height, Term};
use borsh::{BorshDeserialize, BorshSerialize};

const SIGNING_DOMAIN: &[u8] = b"block-chain/acknowledgement\0";

/// How many of `members` make a majority: more than half.
#[must_use]
pub const fn majority(members: usize) -> usize {
    (members >> 1).saturating_add(1)
}

/// A rule of safety that can be left out, so that a simulation shows that it finds the rule missing. No flag, file or message
/// leads here: only a program that is made to do so leaves one out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SafetyRule {
    /// AGR-3: only the leader of the current term commits.
    Term,
    /// AGR-4 and AGR-6: a checkpoint follows the last one, and is consistent with it.
    Follows,
    /// AGR-5: a majority has acknowledged the block.
    Majority,
    /// AGR-7: a worker cosigns what is on its own chain and on its disk.
    Cosign,
    /// AGR-8: a worker does not follow a coordinator that went backwards, and the coordinator does not go on as if it had not.
    Backwards,
    /// Fork choice: only branches that hold the last committed block.
    Lock,
}

/// A worker's word that it holds a block and all before it in full, validated and synced to disk.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Acknowledgement {
    /// The chain.
    pub chain: ChainId,
    /// The term of the leader that asked.
    pub term: Term,
    /// The block's height.
    pub height: Height,
    /// The block.
    pub block: BlockHash,
    /// RFC 6962 root over all headers up to and with this block's.
    pub tree_root: Root,
    /// Who acknowledges.
    pub worker: PublicKey,
    /// Over everything before it.
    pub signature: Signature,
}

impl Format for Acknowledgement {
    const NAME: &'static str = "acknowledgement";
    const VERSION: u8 = 1;
    const MAX_BYTES: usize = 256;
}

impl Acknowledgement {
    /// Makes and signs one.
    #[must_use]
    pub fn sign(
        chain: ChainId,
        term: Term,
        (height, block, tree_root): (Height, BlockHash, Root),
        key: &SecretKey,
    ) -> Self {
        let mut unsigned = Self {
            chain,
            term,
            height,
            block,
            tree_root,
            worker: key.public_key(),
            signature: Signature::from_bytes([0; 64]),
        };
        unsigned.signature = key.sign(&unsigned.signing_bytes());
        unsigned
    }

    /// Verifies the worker's signature.
    ///
    /// # Errors
    /// [`KeyError::Signature`].
    pub fn verify(&self) -> Result<(), KeyError> {
        self.worker.verify(&self.signing_bytes(), &self.signature)
    }

    fn signing_bytes(&self) -> Vec<u8> {
        let mut bytes = SIGNING_DOMAIN.to_vec();
        bytes.push(Self::VERSION);
        append(&self.chain, &mut bytes);
        append(&self.term, &mut bytes);
        append(&self.height, &mut bytes);
        append(&self.block, &mut bytes);
        append(&self.tree_root, &mut bytes);
        append(&self.worker, &mut bytes);
        bytes
    }
}
