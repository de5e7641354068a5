//! Properties of the two Merkle trees: what is proven verifies, and nothing else does.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that meets what it does not expect has failed"
)]

mod support;

use block_chain_common::hash::{Root, TxId};
use block_chain_common::history::{
    Frontier, prove_consistency, prove_inclusion, verify_consistency, verify_inclusion,
};
use block_chain_common::merkle::{empty_root, leaf_hash, node_hash, prove_transaction, transactions_root};
use proptest::prelude::*;
use support::Nodes;

/// RFC 6962 section 2.1, word for word.
fn mth(leaves: &[Vec<u8>]) -> Root {
    match leaves {
        [] => empty_root(),
        [leaf] => Root::from_bytes(leaf_hash(leaf)),
        _ => {
            let split = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(split);
            Root::from_bytes(node_hash(mth(left).as_bytes(), mth(right).as_bytes()))
        }
    }
}

/// A tree of so many leaves, with its root after each.
fn tree(leaves: &[Vec<u8>]) -> (Nodes, Vec<Root>) {
    let (mut frontier, mut nodes) = (Frontier::default(), Nodes::default());
    let mut roots = vec![frontier.root()];
    for leaf in leaves {
        nodes.0.extend(frontier.append(leaf));
        roots.push(frontier.root());
    }
    (nodes, roots)
}

fn leaves(count: u8) -> Vec<Vec<u8>> {
    (0..count)
        .map(|number| vec![number; usize::from(number % 40)])
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn roots_are_those_of_the_definition(count in 0_u8..100) {
        let leaves = leaves(count);
        let (nodes, roots) = tree(&leaves);
        for (size, root) in roots.iter().enumerate() {
            prop_assert_eq!(*root, mth(&leaves[..size]));
            prop_assert_eq!(Frontier::load(size as u64, &nodes).unwrap().root(), *root);
        }
        let ids: Vec<_> = (0..count).map(|number| TxId::from_bytes([number; 32])).collect();
        let bytes: Vec<_> = ids.iter().map(|id| id.as_bytes().to_vec()).collect();
        prop_assert_eq!(transactions_root(&ids), mth(&bytes));
    }

    #[test]
    fn a_leaf_is_proven_in_its_place_alone(count in 1_u8..100, at: prop::sample::Index, size: prop::sample::Index, bit: usize) {
        let leaves = leaves(count);
        let (nodes, roots) = tree(&leaves);
        let size = 1 + size.index(leaves.len());
        let index = at.index(size);
        let (place, total) = (index as u64, size as u64);
        let path = prove_inclusion(place, total, &nodes).unwrap();
        let verify = |leaf: &[u8], place, total, path: &[[u8; 32]], root| verify_inclusion(leaf, place, total, path, root);
        prop_assert!(verify(&leaves[index], place, total, &path, &roots[size]));
        prop_assert!(!verify(b"another leaf", place, total, &path, &roots[size]));
        prop_assert!(!verify(&leaves[index], place, total, &path, &roots[size - 1]));
        prop_assert!(!verify(&leaves[index], total, total, &path, &roots[size]), "outside the tree");
        for other in (0..total).filter(|other| *other != place) {
            prop_assert!(!verify(&leaves[index], other, total, &path, &roots[size]), "in place {}", other);
        }
        let mut longer = path.clone();
        longer.push([0; 32]);
        prop_assert!(!verify(&leaves[index], place, total, &longer, &roots[size]));
        if let Some((_, shorter)) = path.split_last() {
            prop_assert!(!verify(&leaves[index], place, total, shorter, &roots[size]));
            let mut flipped = path.clone();
            let bit = bit % (path.len() * 256);
            flipped[bit / 256][bit % 256 / 8] ^= 1 << (bit % 8);
            prop_assert!(!verify(&leaves[index], place, total, &flipped, &roots[size]));
        }
    }

    #[test]
    fn an_older_tree_is_proven_the_beginning_of_a_later_one(count in 1_u8..100, a: prop::sample::Index, b: prop::sample::Index, bit: usize) {
        let leaves = leaves(count);
        let (nodes, roots) = tree(&leaves);
        let (a, b) = (a.index(leaves.len() + 1), b.index(leaves.len() + 1));
        let (old, new) = (a.min(b), a.max(b));
        let (from, to) = (old as u64, new as u64);
        let path = prove_consistency(from, to, &nodes).unwrap();
        prop_assert!(verify_consistency(from, &roots[old], to, &roots[new], &path));
        let mut forged = leaves.clone();
        // A history that differs in one early block is no continuation, whatever path it gives.
        if old > 0 {
            forged[old - 1].push(255);
            let (forged_nodes, forged_roots) = tree(&forged);
            let forged_path = prove_consistency(from, to, &forged_nodes).unwrap();
            prop_assert!(!verify_consistency(from, &roots[old], to, &forged_roots[new], &forged_path));
            prop_assert!(!verify_consistency(from, &roots[old], to, &forged_roots[new], &path));
        }
        if !path.is_empty() {
            let mut flipped = path.clone();
            let bit = bit % (path.len() * 256);
            flipped[bit / 256][bit % 256 / 8] ^= 1 << (bit % 8);
            prop_assert!(!verify_consistency(from, &roots[old], to, &roots[new], &flipped));
            prop_assert!(!verify_consistency(from, &roots[old], to, &roots[new], &path[1..]));
        }
    }

    #[test]
    fn a_transaction_is_proven_in_its_block_alone(count in 1_u8..100, at: prop::sample::Index) {
        let ids: Vec<_> = (0..count).map(|number| TxId::from_bytes([number; 32])).collect();
        let index = at.index(ids.len());
        let root = transactions_root(&ids);
        let proof = prove_transaction(&ids, u32::try_from(index).unwrap()).unwrap();
        prop_assert!(proof.verify(&ids[index], &root));
        prop_assert!(!proof.verify(&TxId::from_bytes([200; 32]), &root));
        prop_assert!(prove_transaction(&ids, u32::from(count)).is_none());
        let mut elsewhere = proof;
        elsewhere.index = (elsewhere.index + 1) % u32::from(count);
        prop_assert!(count == 1 || !elsewhere.verify(&ids[index], &root));
    }
}
