//! A part of a block's Merkle tree, to look at: a node and what is up to four levels below it.

use crate::api::error::ApiError;
use block_chain_common::hash::TxId;
use block_chain_common::merkle::{leaf_hash, level_above};

/// Levels below the node that is shown.
const LEVELS: usize = 4;

/// A node, in the order in which a tree is read: before what is below it.
pub(super) struct TreeRow {
    /// Levels below the first row.
    pub(super) depth: usize,
    pub(super) hash: String,
    /// The index of the first transaction below it.
    pub(super) first: usize,
    /// How many are below it.
    pub(super) leaves: usize,
    /// The transaction, where it is a leaf.
    pub(super) transaction: Option<String>,
    /// `LEVEL.INDEX`.
    pub(super) place: String,
    /// Whether there is more below it than is shown.
    pub(super) more: bool,
}

/// The levels of the tree, from the leaves up to the root.
fn levels(ids: &[TxId]) -> Vec<Vec<[u8; 32]>> {
    let mut levels = vec![ids.iter().map(|id| leaf_hash(id.as_bytes())).collect::<Vec<_>>()];
    while let Some(level) = levels.last().filter(|level| level.len() > 1) {
        levels.push(level_above(level));
    }
    levels
}

/// The node that is asked for, `LEVEL.INDEX`, with what is below it; and the place of the node above it.
pub(super) fn part(ids: &[TxId], asked: Option<&str>) -> Result<(Vec<TreeRow>, Option<String>), ApiError> {
    if ids.is_empty() {
        return Ok((Vec::new(), None));
    }
    let levels = levels(ids);
    let top = levels.len().saturating_sub(1);
    let place = asked.map_or(Some((top, 0)), |text| {
        let (level, index) = text.split_once('.')?;
        Some((level.parse::<usize>().ok()?, index.parse::<usize>().ok()?))
    });
    let is_there = |(level, index): &(usize, usize)| levels.get(*level).is_some_and(|row| *index < row.len());
    let (level, index) = place.filter(is_there).ok_or_else(|| {
        let shown: String = asked.unwrap_or_default().chars().take(40).collect();
        ApiError::NotFound(format!(
            "there is no node {shown:?} in the block's tree, whose root is {top}.0"
        ))
    })?;
    let mut tree = Tree {
        ids,
        levels: &levels,
        rows: Vec::new(),
    };
    tree.add(level, index, 0);
    let above = (level < top).then(|| {
        let up = level.saturating_add(LEVELS).min(top);
        format!("{up}.{}", index >> up.saturating_sub(level))
    });
    Ok((tree.rows, above))
}

struct Tree<'a> {
    ids: &'a [TxId],
    levels: &'a [Vec<[u8; 32]>],
    rows: Vec<TreeRow>,
}

impl Tree<'_> {
    fn add(&mut self, level: usize, index: usize, depth: usize) {
        let first = index << level;
        let leaves = (1_usize << level).min(self.ids.len().saturating_sub(first));
        let Some(hash) = self.levels.get(level).and_then(|row| row.get(index)) else {
            return;
        };
        let (below, left) = (level.saturating_sub(1), index.saturating_mul(2));
        // A node that was promoted is the one below it.
        if level > 0
            && self
                .levels
                .get(below)
                .is_some_and(|row| row.len() <= left.saturating_add(1))
        {
            return self.add(below, left, depth);
        }
        let more = level > 0 && depth == LEVELS;
        self.rows.push(TreeRow {
            depth,
            hash: hex::encode(hash),
            first,
            leaves,
            transaction: self
                .ids
                .get(first)
                .filter(|_| level == 0)
                .map(ToString::to_string),
            place: format!("{level}.{index}"),
            more,
        });
        if level > 0 && !more {
            for child in [left, left.saturating_add(1)] {
                self.add(below, child, depth.saturating_add(1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use block_chain_common::merkle::transactions_root;

    fn ids(count: usize) -> Vec<TxId> {
        (0..count)
            .map(|n| TxId::from_bytes([u8::try_from(n % 251).unwrap(); 32]))
            .collect()
    }

    #[test]
    fn the_root_is_the_header_s_and_every_transaction_is_below_it() {
        for count in [1, 2, 3, 5, 7, 8, 16, 17, 33] {
            let ids = ids(count);
            let (rows, above) = part(&ids, None).unwrap();
            assert_eq!(rows[0].hash, transactions_root(&ids).to_string(), "{count}");
            assert_eq!((rows[0].leaves, above), (count, None), "{count}");
            // Each node that shows nothing below it stands for its leaves.
            let leaves: usize = rows
                .iter()
                .filter(|row| row.more || row.transaction.is_some())
                .map(|row| row.leaves)
                .sum();
            assert_eq!(leaves, count);
        }
    }

    #[test]
    fn a_large_tree_is_shown_in_parts_that_lead_down_and_up_again() {
        let ids = ids(1_000);
        let (rows, _) = part(&ids, None).unwrap();
        let below = rows.iter().find(|row| row.more).unwrap();
        let (inner, above) = part(&ids, Some(&below.place)).unwrap();
        assert_eq!((&inner[0].hash, inner[0].leaves), (&below.hash, below.leaves));
        assert_eq!(above.unwrap(), "10.0");
        for wrong in ["11.0", "0.1000", "x", "1", "-1.0", "0.99999999999999999999"] {
            assert!(part(&ids, Some(wrong)).is_err(), "{wrong}");
        }
        assert!(part(&[], None).unwrap().0.is_empty());
    }
}
