//! Vectors that others published: RFC 6962's reference trees and proofs, RFC 8032's signatures, ZIP 215's edge cases,
//! BIP 350's strings.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that meets what it does not expect has failed"
)]

mod support;

use block_chain_common::hash::Root;
use block_chain_common::history::{Frontier, prove_consistency, prove_inclusion};
use block_chain_common::history::{verify_consistency, verify_inclusion};
use block_chain_common::keys::{
    Address, PublicKey, SecretKey, Signature, SignedMessage, find_invalid_signatures,
};
use block_chain_common::merkle::{empty_root, leaf_hash};
use support::Nodes;

/// The inputs of the Certificate Transparency reference implementation's tests (google/certificate-transparency,
/// `merkle_tree_test.cc`), whose trees are those of RFC 6962 section 2.1.
const LEAVES: [&str; 8] = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
];
const ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn hash(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).unwrap();
    bytes
}

fn leaf(index: usize) -> Vec<u8> {
    hex::decode(LEAVES[index]).unwrap()
}

/// The tree of the reference leaves, with its root after each.
fn tree() -> (Nodes, Vec<Root>) {
    let (mut frontier, mut nodes, mut roots) = (Frontier::default(), Nodes::default(), vec![empty_root()]);
    for index in 0..LEAVES.len() {
        nodes.0.extend(frontier.append(&leaf(index)));
        roots.push(frontier.root());
    }
    (nodes, roots)
}

#[test]
fn the_reference_trees_have_their_published_roots() {
    let (_, roots) = tree();
    assert_eq!(
        roots[0].to_string(),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    for (size, root) in ROOTS.iter().enumerate() {
        assert_eq!(roots[size + 1].to_string(), *root, "{} leaves", size + 1);
    }
    assert_eq!(hex::encode(leaf_hash(&[])), ROOTS[0]);
}

#[test]
fn the_reference_inclusion_paths_are_the_published_ones() {
    let (nodes, roots) = tree();
    // Leaf, size, path: the reference implementation's, with its 1-based leaves counted from 0.
    let table: [(u64, u64, &[&str]); 5] = [
        (0, 1, &[]),
        (
            0,
            8,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            5,
            8,
            &[
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (
            2,
            3,
            &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
        ),
        (
            1,
            5,
            &[
                "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ];
    for (index, size, expected) in table {
        let path = prove_inclusion(index, size, &nodes).unwrap();
        assert_eq!(
            path.iter().map(hex::encode).collect::<Vec<_>>(),
            expected,
            "leaf {index} of {size}"
        );
        let root = &roots[usize::try_from(size).unwrap()];
        let bytes = leaf(usize::try_from(index).unwrap());
        assert!(verify_inclusion(&bytes, index, size, &path, root));
        assert!(!verify_inclusion(b"other", index, size, &path, root));
    }
}

#[test]
fn the_reference_consistency_proofs_are_the_published_ones() {
    let (nodes, roots) = tree();
    let table: [(u64, u64, &[&str]); 4] = [
        (1, 1, &[]),
        (
            1,
            8,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            6,
            8,
            &[
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (
            2,
            5,
            &[
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ];
    for (old, new, expected) in table {
        let path = prove_consistency(old, new, &nodes).unwrap();
        assert_eq!(
            path.iter().map(hex::encode).collect::<Vec<_>>(),
            expected,
            "{old} to {new}"
        );
    }
    for new in 0..=8_u64 {
        for old in 0..=new {
            let path = prove_consistency(old, new, &nodes).unwrap();
            let root = |size: u64| &roots[usize::try_from(size).unwrap()];
            assert!(
                verify_consistency(old, root(old), new, root(new), &path),
                "{old} to {new}"
            );
            if old != new && old > 0 {
                assert!(
                    !verify_consistency(old, root(new), new, root(new), &path),
                    "{old} to {new}"
                );
                assert!(
                    !verify_consistency(old, root(old), new, root(old), &path),
                    "{old} to {new}"
                );
            }
        }
    }
}

#[test]
fn rfc_8032_section_7_1_signs_and_verifies() {
    let table = [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ];
    for (seed, key, message, signature) in table {
        let secret = SecretKey::from_seed(&hash(seed));
        let message = hex::decode(message).unwrap();
        assert_eq!(secret.public_key().to_string(), key);
        let signed = secret.sign(&message);
        assert_eq!(hex::encode(signed.as_bytes()), signature);
        assert!(secret.public_key().verify(&message, &signed).is_ok());
        assert!(secret.public_key().verify(b"another message", &signed).is_err());
    }
}

/// The fourteen encodings of points of small order, canonical or not, of ZIP 215's conformance test.
const SMALL_ORDER: [&str; 14] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

#[test]
fn zip_215_takes_all_196_small_order_signatures_alone_and_in_batches() {
    let mut all = Vec::new();
    for key in SMALL_ORDER {
        for r in SMALL_ORDER {
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(&hash(r));
            let (key, signature) = (PublicKey::from_bytes(hash(key)), Signature::from_bytes(signature));
            assert!(key.verify(b"Zcash", &signature).is_ok(), "key {key}, R {r}");
            all.push(SignedMessage {
                key,
                message: b"Zcash".to_vec(),
                signature,
            });
        }
    }
    assert_eq!(all.len(), 196);
    assert_eq!(find_invalid_signatures(&all), Vec::<usize>::new());
}

#[test]
fn a_batch_names_exactly_the_signatures_that_fail_alone() {
    let key = SecretKey::from_seed(&[3; 32]);
    let mut all: Vec<SignedMessage> = (0..700_u32)
        .map(|n| {
            let message = n.to_be_bytes().to_vec();
            let signature = key.sign(&message);
            SignedMessage {
                key: key.public_key(),
                message,
                signature,
            }
        })
        .collect();
    // A signature with S not below the group's order, one of another message, and a key that is no point.
    let mut large = *all[10].signature.as_bytes();
    large[63] |= 0xe0;
    all[10].signature = Signature::from_bytes(large);
    all[255].message = b"another".to_vec();
    all[699].key = PublicKey::from_bytes([2; 32]);
    let alone: Vec<usize> = (0..all.len())
        .filter(|place| {
            all[*place]
                .key
                .verify(&all[*place].message, &all[*place].signature)
                .is_err()
        })
        .collect();
    assert_eq!(find_invalid_signatures(&all), alone);
    assert!(alone.contains(&10) && alone.contains(&255) && alone.contains(&699));
}

#[test]
fn bip_350_strings_are_judged_as_published() {
    let decode = bech32::primitives::decode::CheckedHrpstring::new::<bech32::Bech32m>;
    let valid = [
        "A1LQFN3A",
        "a1lqfn3a",
        "an83characterlonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11sg7hg6",
        "abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx",
        "split1checkupstagehandshakeupstreamerranterredcaperredlc445v",
        "?1v759aa",
    ];
    for text in valid {
        assert!(decode(text).is_ok(), "{text}");
    }
    for text in [
        "M1VUXWEZ",
        "qyrz8wqd2c9m",
        "1qyrz8wqd2c9m",
        "y1b0jsk6g",
        "lt1igcx5c0",
        "16plkw9",
        "1p2gdwpf",
        "in1muywd",
    ] {
        assert!(decode(text).is_err(), "{text}");
        assert!(text.parse::<Address>().is_err(), "{text}");
    }
}

#[test]
fn a_mistyped_address_is_refused_and_says_so() {
    let address = SecretKey::from_seed(&[5; 32]).public_key().address();
    let text = address.to_string();
    assert_eq!(text.parse::<Address>(), Ok(address));
    for place in 4..text.len() {
        let mut typed: Vec<char> = text.chars().collect();
        typed[place] = if typed[place] == 'q' { 'p' } else { 'q' };
        let typed: String = typed.into_iter().collect();
        let error = typed.parse::<Address>().unwrap_err().to_string();
        assert!(error.contains("mistyped"), "{error}");
    }
    assert!(
        "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr"
            .parse::<Address>()
            .is_err()
    );
}
