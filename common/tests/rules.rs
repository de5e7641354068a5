//! Rules that no table of `formats.rs` covers, each beside what it takes; and that every rule of `docs/PROTOCOL.md` has an
//! error and a test that name it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "a test that meets what it does not expect has failed"
)]

use block_chain_common::block::{
    Block, BlockError, ChainTip, CheckedBlock, ConnectError, build_block, connect_block,
};
use block_chain_common::chain_spec::{ChainSpec, CheckedSpec, Parent, ProofSpec, SpecError};
use block_chain_common::checkpoint::{Checkpoint, CheckpointError};
use block_chain_common::codec::BoundedVec;
use block_chain_common::hash::{BlockHash, ChainId, Digest, Root};
use block_chain_common::header::Proof;
use block_chain_common::keys::{PublicKey, SecretKey};
use block_chain_common::quantity::{Amount, Height, Nonce, Term, Timestamp};
use block_chain_common::state::{
    ApplyError, Executor, LatticeHash, MAX_RELEASES, StateKey, StateValue, StateView,
};
use block_chain_common::transaction::{
    CheckedTransaction, Payload, RecordKey, RecordValue, Transaction, TransactionError,
};
use block_chain_common::work::Target;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs;
use std::path::Path;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn easy() -> ChainSpec {
    let mut spec = ChainSpec::default_for("main", key(1).public_key().address());
    spec.proof = ProofSpec::Work {
        initial_bits: Target::from_leading_zero_bits(0).to_bits(),
    };
    spec
}

struct State(BTreeMap<StateKey, StateValue>);

impl StateView for State {
    type Error = Infallible;
    fn get(&self, key: &StateKey) -> Result<Option<StateValue>, Infallible> {
        Ok(self.0.get(key).cloned())
    }
}

fn genesis(spec: &CheckedSpec) -> State {
    let changes = spec.genesis_state().changes().iter();
    State(
        changes
            .filter_map(|change| Some((change.key.clone(), change.after.clone()?)))
            .collect(),
    )
}

fn put(spec: &CheckedSpec, nonce: u64, value: usize) -> Transaction {
    let payload = Payload::Put {
        key: RecordKey::new(vec![b'k'; 1_024]).unwrap(),
        value: RecordValue::new(vec![b'v'; value]).unwrap(),
    };
    Transaction::sign(spec.id(), Nonce::new(nonce), payload, &key(2))
}

/// A block of these transactions, made by the rules.
fn block(spec: &CheckedSpec, transactions: &[Transaction]) -> Block {
    let (state, hash) = (genesis(spec), spec.genesis_state().hash_after());
    let candidates = transactions
        .iter()
        .map(|transaction| CheckedTransaction::check(transaction.clone(), spec.id()).unwrap());
    let proof = Proof::Work {
        bits: Target::from_leading_zero_bits(0).to_bits(),
        nonce: 0,
    };
    let made = (key(3).public_key().address(), proof, Timestamp::new(1_000_000));
    let template = build_block(candidates, &ChainTip::genesis(spec), spec, (&state, hash), made).unwrap();
    let transactions = template
        .transactions
        .iter()
        .map(|checked| checked.transaction().clone());
    Block {
        header: template.header,
        transactions: BoundedVec::new(transactions.collect()).unwrap(),
    }
}

#[test]
fn blk_2_refuses_more_than_8_mib_and_takes_as_much() {
    let spec = easy().check().unwrap();
    // Seven of the largest values, and one that fills the rest but for a byte.
    let all: Vec<_> = (0..7).map(|nonce| put(&spec, nonce, 1_048_576)).collect();
    let with = |last: usize| {
        let mut transactions = all.clone();
        transactions.push(put(&spec, 7, last));
        let mut block = block(&spec, &transactions[..1]);
        block.header.transaction_count = 8;
        let ids: Vec<_> = transactions.iter().map(Transaction::id).collect();
        block.header.transactions_root = block_chain_common::merkle::transactions_root(&ids);
        block.transactions = BoundedVec::new(transactions).unwrap();
        CheckedBlock::check(block, spec.id())
    };
    let found = |last: usize| match with(last) {
        Err(BlockError::Size { found }) => found,
        other => panic!("{other:?}"),
    };
    let over = found(1_048_576);
    let fits = 1_048_576 - (over - 8 * 1_048_576);
    assert!(with(fits).is_ok());
    assert_eq!(found(fits + 1), 8 * 1_048_576 + 1);
}

#[test]
fn blk_16_refuses_a_transaction_that_does_not_apply_and_names_it() {
    let spec = easy().check().unwrap();
    let good = block(&spec, &[put(&spec, 0, 1), put(&spec, 1, 2)]);
    let connect = |block: Block| {
        let state = genesis(&spec);
        let checked = CheckedBlock::check(block, spec.id()).unwrap();
        let now = Timestamp::new(1_000_000);
        let view = (&state, spec.genesis_state().hash_after());
        connect_block(checked, &ChainTip::genesis(&spec), &spec, view, now).map(|_| ())
    };
    assert_eq!(connect(good.clone()), Ok(()));
    let mut gap = good;
    let transactions = vec![put(&spec, 0, 1), put(&spec, 2, 2)];
    let ids: Vec<_> = transactions.iter().map(Transaction::id).collect();
    gap.header.transactions_root = block_chain_common::merkle::transactions_root(&ids);
    gap.transactions = BoundedVec::new(transactions).unwrap();
    let error = connect(gap).unwrap_err();
    assert!(
        matches!(
            error,
            ConnectError::Transaction {
                index: 1,
                error: ApplyError::NonceGap { .. }
            }
        ),
        "{error}"
    );
    assert!(
        error.to_string().starts_with("BLK-16: transaction 1: STA-2"),
        "{error}"
    );
}

#[test]
fn tx_2_is_kept_by_the_largest_transaction_that_can_be_made() {
    // Its parts' own limits are tighter, so nothing that decodes breaks it: the rule guards those limits.
    let spec = easy().check().unwrap();
    let largest = put(&spec, u64::MAX - 1, 1_048_576);
    assert!(CheckedTransaction::check(largest, spec.id()).is_ok());
    let refused = TransactionError::Size { found: 1_153_434 };
    assert!(
        refused
            .to_string()
            .starts_with("TX-2: the transaction has 1153434 bytes")
    );
}

#[test]
fn sta_7_takes_64_releases_and_refuses_another() {
    let mut spec = easy();
    let staker = key(2).public_key().address();
    spec.stakes = BoundedVec::new(vec![block_chain_common::chain_spec::Allocation {
        address: staker,
        amount: Amount::new(100),
    }])
    .unwrap();
    let spec = spec.check().unwrap();
    let (state, hash) = (genesis(&spec), LatticeHash::default());
    let mut executor = Executor::new(&state, spec.spec(), Height::new(1), &hash);
    let amount = Amount::new(1);
    let mut apply = |nonce: u64| {
        let signed = Transaction::sign(spec.id(), Nonce::new(nonce), Payload::Unstake { amount }, &key(2));
        executor.apply(&CheckedTransaction::check(signed, spec.id()).unwrap(), 0)
    };
    let releases = u64::try_from(MAX_RELEASES).unwrap();
    for nonce in 0..releases {
        assert_eq!(apply(nonce), Ok(()));
    }
    assert_eq!(apply(releases), Err(ApplyError::Releases { sender: staker }));
}

#[test]
fn spec_7_refuses_a_fork_and_takes_a_chain_of_its_own() {
    assert!(easy().check().is_ok());
    let mut fork = easy();
    fork.parent = Some(Parent {
        chain: ChainId::from_bytes([7; 32]),
        height: Height::new(1),
        block: BlockHash::from_bytes([8; 32]),
        state_digest: Digest::from_bytes([9; 32]),
    });
    assert_eq!(fork.check().unwrap_err(), SpecError::Fork);
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
    let folders = [
        "common/tests",
        "server/tests",
        "worker-cli/tests",
        "worker-cli/src/machine",
    ];
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
