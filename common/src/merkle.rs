//! The Merkle tree over a block's transaction ids, as in RFC 6962 section 2.1, with `rs_merkle` and a hasher of ours.
//!
//! `rs_merkle` gives no root for an empty tree and an empty proof for an index out of range; both are handled here.

use crate::hash::{Root, TxId, sha256};
use crate::history::verify_inclusion;
use borsh::{BorshDeserialize, BorshSerialize};
use rs_merkle::{Hasher, MerkleTree};

/// RFC 6962: `SHA-256(0x00 ‖ leaf)`.
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> [u8; 32] {
    sha256(&[&[0], leaf])
}

/// RFC 6962: `SHA-256(0x01 ‖ left ‖ right)`.
#[must_use]
pub fn node_hash(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    sha256(&[&[1], left, right])
}

/// The RFC's root of a tree without leaves: SHA-256 of nothing.
#[must_use]
pub fn empty_root() -> Root {
    Root::from_bytes(sha256(&[]))
}

#[derive(Clone)]
struct Rfc6962;

impl Hasher for Rfc6962 {
    type Hash = [u8; 32];

    fn hash(data: &[u8]) -> [u8; 32] {
        leaf_hash(data)
    }

    fn concat_and_hash(left: &[u8; 32], right: Option<&[u8; 32]>) -> [u8; 32] {
        right.map_or(*left, |right| node_hash(left, right))
    }
}

/// The nodes above those of a level. An odd one is promoted as it is, which gives the RFC's split at the largest power of two.
#[must_use]
pub fn level_above(level: &[[u8; 32]]) -> Vec<[u8; 32]> {
    let pairs = level.chunks(2).map(|pair| match pair {
        [left, right] => node_hash(left, right),
        odd => odd.first().copied().unwrap_or_default(),
    });
    pairs.collect()
}

/// The root over transaction ids, in their order. Level by level without keeping the tree: every block that comes is
/// checked against its root, while a tree to prove from is asked for now and then.
#[must_use]
pub fn transactions_root(ids: &[TxId]) -> Root {
    let mut level: Vec<[u8; 32]> = ids.iter().map(|id| leaf_hash(id.as_bytes())).collect();
    while level.len() > 1 {
        level = level_above(&level);
    }
    level
        .first()
        .map_or_else(empty_root, |root| Root::from_bytes(*root))
}

fn tree(ids: &[TxId]) -> MerkleTree<Rfc6962> {
    let leaves: Vec<[u8; 32]> = ids.iter().map(|id| leaf_hash(id.as_bytes())).collect();
    MerkleTree::from_leaves(&leaves)
}

/// That one transaction stands at an index among a block's: the sibling hashes from the leaf up (RFC 6962 audit path).
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct TransactionProof {
    /// The transaction's place in its block, from 0.
    pub index: u32,
    /// The block's number of transactions.
    pub count: u32,
    /// Sibling hashes, from the leaf's own up.
    pub path: Vec<[u8; 32]>,
}

/// Proves that `ids[index]` stands at `index`; `None` where there is no such index.
#[must_use]
pub fn prove_transaction(ids: &[TxId], index: u32) -> Option<TransactionProof> {
    let place = usize::try_from(index).ok()?;
    ids.get(place)?;
    let count = u32::try_from(ids.len()).ok()?;
    let path = tree(ids).proof(&[place]).proof_hashes().to_vec();
    Some(TransactionProof { index, count, path })
}

impl TransactionProof {
    /// Whether the proof leads from this id to this root.
    #[must_use]
    pub fn verify(&self, id: &TxId, root: &Root) -> bool {
        // Not rs_merkle's own check, which takes a path with hashes left over: one proof must have one form.
        verify_inclusion(
            id.as_bytes(),
            self.index.into(),
            self.count.into(),
            &self.path,
            root,
        )
    }
}
