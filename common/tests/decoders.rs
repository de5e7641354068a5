//! Every decoder against arbitrary and against damaged bytes: the bodies of the fuzz targets, on every `make test`.
//! And the list of formats: one that is added must be added here, with a seed and a target.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that meets what it does not expect has failed"
)]

#[path = "../../fuzz/bodies.rs"]
mod bodies;
mod support;

use block_chain_common::agreement::Acknowledgement;
use block_chain_common::block::Block;
use block_chain_common::chain_keys::ChainKeys;
use block_chain_common::chain_spec::ChainSpec;
use block_chain_common::checkpoint::{Checkpoint, witness_name};
use block_chain_common::codec::encode;
use block_chain_common::double_block::DoubleBlock;
use block_chain_common::evidence::Evidence;
use block_chain_common::hash::{BlockHash, ChainId, Root};
use block_chain_common::header::Proof;
use block_chain_common::keys::{SecretKey, Signature};
use block_chain_common::merkle::TransactionProof;
use block_chain_common::peer_message::Message;
use block_chain_common::quantity::{Amount, Height, Nonce, Term, Timestamp};
use block_chain_common::receipt::Receipt;
use block_chain_common::recovery::Recovery;
use block_chain_common::transaction::{Memo, Payload, Transaction};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A well-formed input for each target, so that damage reaches behind the first check.
fn seeds() -> BTreeMap<&'static str, Vec<u8>> {
    let key = SecretKey::from_seed(&[1; 32]);
    let spec = ChainSpec::default_for("main", key.public_key().address());
    let checked = spec.clone().check().unwrap();
    let payload = Payload::Transfer {
        to: key.public_key().address(),
        amount: Amount::new(5),
        memo: Memo::new(b"memo".to_vec()).unwrap(),
    };
    let transaction = Transaction::sign(checked.id(), Nonce::new(3), payload, &key);
    let header = checked.genesis().header.clone();
    let easy = support::easy().check().unwrap();
    let block = support::block_of(&easy, [support::signed(&easy, 2, 0, support::put(0))], 2);
    let held = (
        Height::new(1),
        BlockHash::from_bytes([2; 32]),
        Root::from_bytes([3; 32]),
    );
    let acknowledgement = Acknowledgement::sign(checked.id(), Term::new(4), held, &key);
    let (root, block_hash) = (Root::from_bytes([3; 32]), BlockHash::from_bytes([2; 32]));
    let checkpoint = Checkpoint {
        chain: checked.id(),
        size: 2,
        root,
        term: Term::new(4),
        block: block_hash,
    };
    let mut note = checkpoint.sign(&key).unwrap();
    note.cosign(&witness_name(&key.public_key()), &key, 1_700_000_000);
    let receipt = Receipt {
        chain: checked.id(),
        chain_name: "main".to_owned(),
        coordinator: key.public_key(),
        members: vec![key.public_key()],
        transaction: transaction.clone(),
        header: header.clone(),
        proof: TransactionProof {
            index: 1,
            count: 3,
            path: vec![[4; 32]; 2],
        },
        history: vec![[5; 32]],
        checkpoint: note.to_string(),
    };
    let chain = (checked.id(), "main".to_owned());
    let keys = ChainKeys::new(chain, key.public_key(), vec![key.public_key()]).unwrap();
    BTreeMap::from([
        ("transaction", encode(&transaction)),
        ("header", encode(&header)),
        ("block", encode(&block)),
        ("chain_spec", encode(&spec)),
        ("acknowledgement", encode(&acknowledgement)),
        ("peer_message", encode(&Message::Block(Box::new(block)))),
        ("checkpoint", note.to_string().into_bytes()),
        ("receipt", receipt.to_text().into_bytes()),
        ("chain_keys", keys.to_text().into_bytes()),
        ("address", key.public_key().address().to_string().into_bytes()),
        ("double_block", double_block().to_text().into_bytes()),
        ("evidence", include_bytes!("vectors/evidence_later").to_vec()),
        (
            "recovery",
            recovery().sign(&key).unwrap().to_string().into_bytes(),
        ),
    ])
}

/// Two blocks of key 1 for slot 7.
fn double_block() -> DoubleBlock {
    let key = SecretKey::from_seed(&[1; 32]);
    let made = |time: u64| {
        let genesis = ChainSpec::default_for("main", key.public_key().address())
            .check()
            .unwrap();
        let mut header = genesis.genesis().header.clone();
        header.timestamp = Timestamp::new(time);
        header.proof = Proof::Stake {
            key: key.public_key(),
            slot: 7,
            vrf_proof: [0; 80],
            signature: Signature::from_bytes([0; 64]),
        };
        let signing = header.signing_bytes();
        if let Proof::Stake { signature, .. } = &mut header.proof {
            *signature = key.sign(&signing);
        }
        header
    };
    DoubleBlock::check(made(1), made(2)).unwrap()
}

fn recovery() -> Recovery {
    Recovery {
        chain: ChainId::from_bytes([6; 32]),
        at: Timestamp::new(1_700_000_000_000),
        term: (Term::new(3), Term::new(9)),
        size: (7, 12),
    }
}

/// What each seed is decoded as, so that no seed is refused at its first byte.
#[test]
fn every_seed_is_well_formed() {
    use block_chain_common::codec::decode;
    let seeds = seeds();
    assert!(decode::<Transaction>(&seeds["transaction"]).is_ok());
    assert!(decode::<block_chain_common::header::Header>(&seeds["header"]).is_ok());
    assert!(decode::<Block>(&seeds["block"]).is_ok());
    assert!(decode::<ChainSpec>(&seeds["chain_spec"]).is_ok());
    assert!(decode::<Acknowledgement>(&seeds["acknowledgement"]).is_ok());
    assert!(Receipt::parse(std::str::from_utf8(&seeds["receipt"]).unwrap()).is_ok());
    assert!(ChainKeys::parse(std::str::from_utf8(&seeds["chain_keys"]).unwrap()).is_ok());
    assert!(DoubleBlock::parse(std::str::from_utf8(&seeds["double_block"]).unwrap()).is_ok());
    assert!(Evidence::parse(std::str::from_utf8(&seeds["evidence"]).unwrap()).is_ok());
    let (statement, key) = (
        std::str::from_utf8(&seeds["recovery"]).unwrap(),
        SecretKey::from_seed(&[1; 32]),
    );
    assert!(Recovery::verify(statement, &ChainId::from_bytes([6; 32]), &key.public_key()).is_ok());
}

#[test]
fn every_format_has_a_seed_and_a_fuzz_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named: Vec<_> = bodies::TARGETS.iter().map(|(name, _)| *name).collect();
    let manifest = fs::read_to_string(root.join("../fuzz/Cargo.toml")).unwrap();
    for name in &named {
        assert!(seeds().contains_key(name), "{name} has no seed");
        assert!(
            manifest.contains(&format!("name = \"{name}\"")),
            "{name} is not in fuzz/Cargo.toml"
        );
        assert!(
            root.join(format!("../fuzz/fuzz_targets/{name}.rs")).exists(),
            "{name} has no fuzz target"
        );
    }
    for file in formats_in(&root.join("src")) {
        assert!(
            named.contains(&file.as_str()),
            "the format {file:?} has no fuzz target"
        );
    }
}

/// The names of all that implement `Format` below a folder.
fn formats_in(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names.extend(formats_in(&path));
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        let implementations = source.split("impl Format for ").skip(1);
        names.extend(implementations.map(|text| {
            let name = text.split_once("NAME: &'static str = \"").unwrap().1;
            name.split_once('"').unwrap().0.replace(' ', "_")
        }));
    }
    names
}

#[test]
fn every_cut_and_every_seed_keeps_the_promises() {
    let seeds = seeds();
    for (name, body) in bodies::TARGETS {
        let seed = &seeds[name];
        for length in 0..=seed.len() {
            body(&seed[..length]);
        }
        body(&[seed.as_slice(), &[0]].concat());
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_keep_the_promises(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for (_, body) in bodies::TARGETS {
            body(&bytes);
        }
    }

    #[test]
    fn damaged_bytes_keep_the_promises(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let seeds = seeds();
        for (name, body) in bodies::TARGETS {
            let mut bytes = seeds[name].clone();
            for (place, byte) in &damage {
                let place = place.index(bytes.len());
                bytes[place] = *byte;
            }
            body(&bytes);
        }
    }
}
