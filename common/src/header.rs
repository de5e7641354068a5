//! Block headers and their proofs.

use crate::codec::{Format, append, encode};
use crate::hash::{BlockHash, ChainId, Digest, Root, sha256};
use crate::keys::{Address, PublicKey, Signature};
use crate::limits::MAX_HEADER_BYTES;
use crate::quantity::{Height, Term, Timestamp};
use borsh::{BorshDeserialize, BorshSerialize};

/// Why a block may stand: work, stake or authority.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Proof {
    /// The first block needs none: everybody makes the same from the chain's spec.
    Genesis = 0,
    /// Proof of work: the block's hash, as a big-endian number, is at most the target that `bits` stands for.
    Work {
        /// The target in Bitcoin's compact form; must be the one the retargeting rule gives.
        bits: u32,
        /// What the search varied.
        nonce: u64,
    } = 1,
    /// Proof of stake: the slot's producer, drawn by stake, signs.
    Stake {
        /// The producer's key.
        key: PublicKey,
        /// The slot, counted from the chain's first.
        slot: u64,
        /// The RFC 9381 proof (ECVRF-EDWARDS25519-SHA512-ELL2) that feeds the beacon.
        vrf_proof: [u8; 80],
        /// Over [`Header::signing_bytes`].
        signature: Signature,
    } = 2,
    /// Proof of authority: the leader of a term signs.
    Authority {
        /// The leader's key.
        key: PublicKey,
        /// Its term.
        term: Term,
        /// Over [`Header::signing_bytes`].
        signature: Signature,
    } = 3,
}

/// Stands before the bytes that a block's signature covers.
const SIGNING_DOMAIN: &[u8] = b"block-chain/header\0";

/// A block's header: everything that its hash covers.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Header {
    /// The chain; in a genesis block, whose hash is the chain's id, all zero.
    pub chain: ChainId,
    /// The block's place in the chain.
    pub height: Height,
    /// When its producer says it was made.
    pub timestamp: Timestamp,
    /// The block before; in a genesis block, the digest of the chain's spec.
    pub previous: BlockHash,
    /// RFC 6962 root over the transactions' ids.
    pub transactions_root: Root,
    /// How many transactions.
    pub transaction_count: u32,
    /// Digest of the whole state after this block (LtHash).
    pub state_digest: Digest,
    /// RFC 6962 root over all earlier headers.
    pub history_root: Root,
    /// Who made it and is paid.
    pub producer: Address,
    /// Why it may stand.
    pub proof: Proof,
}

impl Format for Header {
    const NAME: &'static str = "header";
    const VERSION: u8 = 1;
    const MAX_BYTES: usize = MAX_HEADER_BYTES;
}

impl Header {
    /// SHA-256 of the encoding without the proof: what a miner starts from.
    #[must_use]
    pub fn digest_without_proof(&self) -> [u8; 32] {
        sha256(&[&self.bytes_without_proof()])
    }

    /// The block's hash: `SHA-256(SHA-256(header without proof) ‖ proof)`.
    #[must_use]
    pub fn hash(&self) -> BlockHash {
        proof_hash(&self.digest_without_proof(), &self.proof)
    }

    /// The leaf of the history tree: the whole encoding.
    #[must_use]
    pub fn leaf_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// What a producer signs under stake and authority: a domain, the digest without proof, and the proof's own fields.
    #[must_use]
    pub fn signing_bytes(&self) -> Vec<u8> {
        let mut bytes = SIGNING_DOMAIN.to_vec();
        bytes.extend_from_slice(&self.digest_without_proof());
        match &self.proof {
            Proof::Genesis | Proof::Work { .. } => {}
            Proof::Stake {
                key, slot, vrf_proof, ..
            } => {
                append(key, &mut bytes);
                append(slot, &mut bytes);
                append(vrf_proof, &mut bytes);
            }
            Proof::Authority { key, term, .. } => {
                append(key, &mut bytes);
                append(term, &mut bytes);
            }
        }
        bytes
    }

    fn bytes_without_proof(&self) -> Vec<u8> {
        let mut bytes = vec![Self::VERSION];
        append(&self.chain, &mut bytes);
        append(&self.height, &mut bytes);
        append(&self.timestamp, &mut bytes);
        append(&self.previous, &mut bytes);
        append(&self.transactions_root, &mut bytes);
        append(&self.transaction_count, &mut bytes);
        append(&self.state_digest, &mut bytes);
        append(&self.history_root, &mut bytes);
        append(&self.producer, &mut bytes);
        bytes
    }
}

/// The block's hash from the digest of its header without proof: one SHA-256 compression for proof of work, because
/// 32 bytes and 13 of proof fit one 64-byte block with its padding.
#[must_use]
pub fn proof_hash(digest_without_proof: &[u8; 32], proof: &Proof) -> BlockHash {
    let mut proof_bytes = Vec::with_capacity(192);
    append(proof, &mut proof_bytes);
    BlockHash::from_bytes(sha256(&[digest_without_proof, &proof_bytes]))
}
