//! The rules of transactions, chain specs and checkpoints, each beside what it takes; and that every rule of
//! `docs/PROTOCOL.md` has an error and a test that name it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that meets what it does not expect has failed"
)]

mod support;

use block_chain_common::chain_spec::{Allocation, ChainSpec, ProofSpec, SpecError};
use block_chain_common::checkpoint::{Checkpoint, CheckpointError};
use block_chain_common::codec::BoundedVec;
use block_chain_common::hash::{BlockHash, ChainId, Root};
use block_chain_common::keys::PublicKey;
use block_chain_common::quantity::{Amount, Nonce, Term};
use block_chain_common::transaction::{
    CheckedTransaction, Payload, RecordKey, RecordValue, Role, Transaction, TransactionError,
};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use support::{easy, key, put};

#[test]
fn tx_2_is_kept_by_the_largest_transaction_that_can_be_made() {
    // Its parts' own limits are tighter, so nothing that decodes breaks it: the rule guards those limits.
    let spec = easy().check().unwrap();
    let payload = Payload::Put {
        key: RecordKey::new(vec![b'k'; 1_024]).unwrap(),
        value: RecordValue::new(vec![b'v'; 1_048_576]).unwrap(),
    };
    let largest = Transaction::sign(spec.id(), Nonce::new(u64::MAX - 1), payload, &key(2));
    assert!(CheckedTransaction::check(largest, spec.id()).is_ok());
    let refused = TransactionError::Size { found: 1_153_434 };
    assert!(
        refused
            .to_string()
            .starts_with("TX-2: the transaction has 1153434 bytes")
    );
}

fn checkpoint(chain: ChainId) -> Checkpoint {
    Checkpoint {
        chain,
        size: 5,
        root: Root::from_bytes([3; 32]),
        term: Term::new(2),
        block: BlockHash::from_bytes([4; 32]),
    }
}

fn judge(note: &str, signer: &PublicKey) -> Result<Checkpoint, CheckpointError> {
    Checkpoint::verify(note, &ChainId::from_bytes([1; 32]), signer).map(|(checkpoint, _)| checkpoint)
}

#[test]
fn cp_1_to_4_take_a_checkpoint_and_refuse_what_breaks_one_of_them() {
    let chain = ChainId::from_bytes([1; 32]);
    let (good, signer) = (checkpoint(chain), key(9).public_key());
    let note = good.sign(&key(9)).unwrap().to_string();
    assert_eq!(judge(&note, &signer), Ok(good));

    let rule = |note: &str, signer: &PublicKey| {
        let error = judge(note, signer).unwrap_err().to_string();
        error.split(':').next().unwrap().to_owned()
    };
    for broken in ["", "no note", note.trim_end(), &note.replace("\n\n", "\n")] {
        assert_eq!(rule(broken, &signer), "CP-1", "{broken:?}");
    }
    for (one, other) in [
        ("term 2", "term 02"),
        ("term 2", "term two"),
        ("\n5\n", "\n+5\n"),
        ("term 2\n", ""),
        ("block 04", "block 4"),
        ("block-chain/", "other/"),
    ] {
        assert_eq!(rule(&note.replacen(one, other, 1), &signer), "CP-2", "{other:?}");
    }
    assert_eq!(rule(&note, &key(8).public_key()), "CP-3");
    assert_eq!(rule(&note.replacen("term 2", "term 3", 1), &signer), "CP-3");
    let elsewhere = checkpoint(ChainId::from_bytes([2; 32])).sign(&key(9)).unwrap();
    assert_eq!(rule(&elsewhere.to_string(), &signer), "CP-4");
}

/// Every rule's number in a text: `BLK-12`, and `BLK-1 to BLK-4` as its two ends.
fn numbers(text: &str) -> BTreeSet<String> {
    let families = ["TX", "BLK", "STA", "SPEC", "AGR", "CP", "MEM", "RCP", "KEYS"];
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '-'));
    words
        .filter(|word| {
            let parts = word.split_once('-');
            parts.is_some_and(|(family, number)| families.contains(&family) && number.parse::<u8>().is_ok())
        })
        .map(str::to_owned)
        .collect()
}

/// All sources below a folder, in one text.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(path).unwrap();
        }
    }
    text
}

#[test]
fn every_rule_of_the_protocol_has_a_test_that_names_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let protocol = numbers(&fs::read_to_string(root.join("docs/PROTOCOL.md")).unwrap());
    assert!(
        protocol.len() > 50,
        "the document's rules are found: {protocol:?}"
    );
    let folders = ["common/tests", "server/tests", "worker-cli/tests"];
    let tests: String = folders.map(|folder| sources(&root.join(folder))).concat();
    // By its number in a message, or by the function's name.
    let named = |rule: &String| {
        let function = format!("fn {}_", rule.to_lowercase().replace('-', "_"));
        tests.contains(&format!("{rule}\""))
            || tests.contains(&format!("\"{rule}"))
            || tests.contains(&function)
    };
    let missing: Vec<_> = protocol.iter().filter(|rule| !named(rule)).collect();
    assert_eq!(missing, Vec::<&String>::new(), "rules without a test");
}

#[test]
fn rules_of_a_transaction_alone_are_told_apart() {
    let spec = easy().check().unwrap();
    let good = Transaction::sign(spec.id(), Nonce::ZERO, put(0), &key(1));
    assert!(CheckedTransaction::check(good.clone(), spec.id()).is_ok());
    let error = CheckedTransaction::check(good.clone(), ChainId::ZERO).unwrap_err();
    assert!(matches!(error, TransactionError::Chain { .. }), "TX-1");
    let mut forged = good;
    forged.nonce = Nonce::new(1);
    let error = CheckedTransaction::check(forged, spec.id()).unwrap_err();
    assert!(matches!(error, TransactionError::Signature { .. }), "TX-3");
    let zero = Transaction::sign(
        spec.id(),
        Nonce::ZERO,
        Payload::Stake { amount: Amount::ZERO },
        &key(1),
    );
    assert_eq!(
        CheckedTransaction::check(zero, spec.id()),
        Err(TransactionError::ZeroAmount),
        "TX-4"
    );
}

#[test]
fn rules_of_a_spec_are_told_apart() {
    let good = || ChainSpec::default_for("main", key(1).public_key().address());
    assert!(good().check().is_ok());
    let check = |change: fn(&mut ChainSpec)| {
        let mut spec = good();
        change(&mut spec);
        spec.check().expect_err("a rule is broken")
    };
    assert!(
        matches!(check(|s| s.name = "Main!".to_owned()), SpecError::Name(_)),
        "SPEC-1"
    );
    assert!(
        matches!(
            check(|s| s.proof = ProofSpec::Work { initial_bits: 0 }),
            SpecError::Target(_)
        ),
        "SPEC-2"
    );
    assert!(
        matches!(check(|s| s.decimals = 19), SpecError::Decimals { found: 19 }),
        "SPEC-3"
    );
    let zero = |s: &mut ChainSpec| {
        let entry = Allocation {
            address: key(1).public_key().address(),
            amount: Amount::ZERO,
        };
        s.balances = BoundedVec::new(vec![entry]).unwrap();
    };
    assert!(matches!(check(zero), SpecError::Allocation), "SPEC-4");
    let stake_without_slots = |s: &mut ChainSpec| {
        s.proof = ProofSpec::Stake;
        s.block_interval_ms = 0;
    };
    let unsorted = |s: &mut ChainSpec| s.open_roles = BoundedVec::new(vec![Role::Mine, Role::Write]).unwrap();
    assert!(matches!(check(unsorted), SpecError::Roles), "SPEC-5");
    assert!(
        matches!(
            check(stake_without_slots),
            SpecError::Stake { interval_ms: 0, .. }
        ),
        "SPEC-6"
    );
}
