//! The history tree: RFC 6962 over a chain's headers, with inclusion and consistency proofs.
//!
//! A [`Frontier`] (the roots of the complete subtrees from the left) is all that is needed to append and to give the
//! root, so neither grows with the chain. Proofs read complete subtrees through [`HistoryNodes`]; the node at
//! `(level, index)` covers the leaves `index << level .. (index + 1) << level`, as in C2SP tiles.
//! Algorithms: RFC 6962 section 2.1.1 and 2.1.2 to make proofs, RFC 9162 section 2.1.3.2 and 2.1.4.2 to verify.

use crate::hash::Root;
use crate::merkle::{empty_root, leaf_hash, node_hash};
use borsh::{BorshDeserialize, BorshSerialize};

/// A place in the history tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodePlace {
    /// 0 for leaves; a node at level n covers 2ⁿ leaves.
    pub level: u8,
    /// The node's place among those of its level, from the left.
    pub index: u64,
}

/// Where complete subtrees' hashes are read from.
pub trait HistoryNodes {
    /// What reading can fail with.
    type Error;
    /// The hash of the complete subtree at this place, or `None` where it is not stored.
    ///
    /// # Errors
    /// Where reading fails.
    fn node(&self, place: NodePlace) -> Result<Option<[u8; 32]>, Self::Error>;
}

/// Why a proof could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError<E> {
    /// A size or index outside the tree.
    #[error("no proof from {from} in a tree of {size} headers")]
    Range {
        /// The index or the smaller size.
        from: u64,
        /// The tree's size.
        size: u64,
    },
    /// A node that should be stored is not.
    #[error("the history tree lacks its node {index} at level {level}")]
    Missing {
        /// The level.
        level: u8,
        /// The index.
        index: u64,
    },
    /// Reading failed.
    #[error("cannot read the history tree")]
    Read(E),
}

/// The complete subtrees of a tree of `size` leaves, largest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub struct Frontier {
    size: u64,
    roots: Vec<[u8; 32]>,
}

impl Frontier {
    /// The number of leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the complete subtrees, largest (leftmost) first: one for each bit set in the size.
    #[must_use]
    pub fn subtree_roots(&self) -> &[[u8; 32]] {
        &self.roots
    }

    /// Appends a leaf's bytes; gives every node that became complete, the leaf's own first.
    pub fn append(&mut self, leaf: &[u8]) -> Vec<(NodePlace, [u8; 32])> {
        let mut hash = leaf_hash(leaf);
        let mut place = NodePlace {
            level: 0,
            index: self.size,
        };
        let mut completed = vec![(place, hash)];
        while place.index & 1 == 1 {
            let Some(left) = self.roots.pop() else { break };
            hash = node_hash(&left, &hash);
            place = NodePlace {
                level: place.level.saturating_add(1),
                index: place.index >> 1,
            };
            completed.push((place, hash));
        }
        self.roots.push(hash);
        self.size = self.size.saturating_add(1);
        completed
    }

    /// The root over all leaves.
    #[must_use]
    pub fn root(&self) -> Root {
        let mut from_right = self.roots.iter().rev();
        let Some(first) = from_right.next() else {
            return empty_root();
        };
        Root::from_bytes(from_right.fold(*first, |right, left| node_hash(left, &right)))
    }

    /// Rebuilds the frontier of the first `size` leaves from stored nodes.
    ///
    /// # Errors
    /// Where a node is missing or cannot be read.
    pub fn load<N: HistoryNodes>(size: u64, nodes: &N) -> Result<Self, HistoryError<N::Error>> {
        let mut roots = Vec::new();
        let mut start = 0_u64;
        for level in (0..64_u8).rev() {
            let width = 1_u64 << level;
            if size & width != 0 {
                roots.push(read(
                    nodes,
                    NodePlace {
                        level,
                        index: start >> level,
                    },
                )?);
                start = start.saturating_add(width);
            }
        }
        Ok(Self { size, roots })
    }
}

/// The siblings from leaf `index` to the root of the first `size` leaves (RFC 6962 section 2.1.1).
///
/// # Errors
/// Where the index is not in the tree, or a node is missing.
pub fn prove_inclusion<N: HistoryNodes>(
    index: u64,
    size: u64,
    nodes: &N,
) -> Result<Vec<[u8; 32]>, HistoryError<N::Error>> {
    if index >= size {
        return Err(HistoryError::Range { from: index, size });
    }
    // From the whole tree down to the leaf, taking the other half at each split; then turned round.
    let (mut start, mut end) = (0_u64, size);
    let mut path = Vec::new();
    while end.saturating_sub(start) > 1 {
        let middle = start.saturating_add(split(end.saturating_sub(start)));
        if index < middle {
            path.push(range_root(middle, end, nodes)?);
            end = middle;
        } else {
            path.push(range_root(start, middle, nodes)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// That the tree of `old` leaves is a prefix of the one of `new` (RFC 6962 section 2.1.2). Empty where they are equal or
/// `old` is 0.
///
/// # Errors
/// Where `old` is larger than `new`, or a node is missing.
pub fn prove_consistency<N: HistoryNodes>(
    old: u64,
    new: u64,
    nodes: &N,
) -> Result<Vec<[u8; 32]>, HistoryError<N::Error>> {
    if old > new {
        return Err(HistoryError::Range { from: old, size: new });
    }
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    let (mut start, mut end) = (0_u64, new);
    let mut path = Vec::new();
    let mut whole_prefix = true;
    while old != end {
        let middle = start.saturating_add(split(end.saturating_sub(start)));
        if old <= middle {
            path.push(range_root(middle, end, nodes)?);
            end = middle;
        } else {
            path.push(range_root(start, middle, nodes)?);
            start = middle;
            whole_prefix = false;
        }
    }
    if !whole_prefix {
        path.push(range_root(start, end, nodes)?);
    }
    path.reverse();
    Ok(path)
}

/// Verifies an inclusion proof (RFC 9162 section 2.1.3.2) of a leaf's bytes.
#[must_use]
pub fn verify_inclusion(leaf: &[u8], index: u64, size: u64, path: &[[u8; 32]], root: &Root) -> bool {
    if index >= size {
        return false;
    }
    let (mut place, mut last) = (index, size.saturating_sub(1));
    let mut hash = leaf_hash(leaf);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            hash = node_hash(sibling, &hash);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    last == 0 && Root::from_bytes(hash) == *root
}

/// Verifies a consistency proof (RFC 9162 section 2.1.4.2). A tree of no leaves is a prefix of every other.
#[must_use]
pub fn verify_consistency(old: u64, old_root: &Root, new: u64, new_root: &Root, path: &[[u8; 32]]) -> bool {
    if old > new || (old == new && old_root != new_root) || (old == 0 && *old_root != empty_root()) {
        return false;
    }
    if old == new || old == 0 {
        return path.is_empty();
    }
    let mut siblings = path.iter();
    let first = if old.is_power_of_two() {
        Some(old_root.as_bytes())
    } else {
        siblings.next()
    };
    let Some(first) = first else { return false };
    let (mut place, mut last) = (old.saturating_sub(1), new.saturating_sub(1));
    while place & 1 == 1 {
        place >>= 1;
        last >>= 1;
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in siblings {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    last == 0 && Root::from_bytes(old_hash) == *old_root && Root::from_bytes(new_hash) == *new_root
}

/// The largest power of two below `width`; `width` is at least 2.
const fn split(width: u64) -> u64 {
    1 << (63_u32.saturating_sub(width.saturating_sub(1).leading_zeros()))
}

/// The RFC 6962 root of the leaves `start..end`, where `start` is a multiple of the largest subtree within.
fn range_root<N: HistoryNodes>(start: u64, end: u64, nodes: &N) -> Result<[u8; 32], HistoryError<N::Error>> {
    let mut roots = Vec::new();
    let mut from = start;
    while from < end {
        let width = end.saturating_sub(from);
        let level = u8::try_from(63_u32.saturating_sub(width.leading_zeros())).unwrap_or(0);
        roots.push(read(
            nodes,
            NodePlace {
                level,
                index: from >> level,
            },
        )?);
        from = from.saturating_add(1 << level);
    }
    let mut from_right = roots.iter().rev();
    let first = from_right.next().ok_or(HistoryError::Range {
        from: start,
        size: end,
    })?;
    Ok(from_right.fold(*first, |right, left| node_hash(left, &right)))
}

fn read<N: HistoryNodes>(nodes: &N, place: NodePlace) -> Result<[u8; 32], HistoryError<N::Error>> {
    let found = nodes.node(place).map_err(HistoryError::Read)?;
    found.ok_or(HistoryError::Missing {
        level: place.level,
        index: place.index,
    })
}
