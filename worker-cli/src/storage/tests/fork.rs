//! Stores of forks: made of a parent's replica, whole or not at all, and as sound as any.

use crate::check::CheckState;
use crate::machine::ChainRead as _;
use crate::storage::{
    ForkBuilder, ForkFailure, Missing, StorageError, Store, rebuild_where_wanted, want_rebuild,
};
use crate::test_chain::Chain;
use block_chain_common::chain_spec::{ChainSpec, CheckedSpec, Parent};
use block_chain_common::codec::BoundedVec;
use block_chain_common::hash::{BlockHash, Digest};
use block_chain_common::quantity::{Amount, Height};
use block_chain_common::transaction::{Payload, RecordKey};
use std::path::Path;
use std::sync::Arc;

/// Three blocks of records, of which the second replaces one.
fn parent() -> Chain {
    let mut chain = Chain::new("main");
    let first = vec![chain.put("a", "1"), chain.put("b", "2")];
    chain.mine(first);
    let to = block_chain_common::keys::SecretKey::from_seed(&[5; 32])
        .public_key()
        .address();
    let amount = Amount::new(30);
    let second = vec![
        chain.put("a", "3"),
        chain.sign(Payload::Deposit { to, amount }),
        chain.sign(Payload::Stake { amount }),
    ];
    chain.mine(second);
    let third = vec![chain.put("c", "4"), chain.sign(Payload::Unstake { amount })];
    chain.mine(third);
    chain
}

fn unfinished((store, spec): (&Store, &CheckedSpec), at: u64) -> ChainSpec {
    let (block, _) = store.header_at(Height::new(at)).unwrap().unwrap();
    ChainSpec {
        name: "fork".to_owned(),
        grants: BoundedVec::default(),
        balances: BoundedVec::default(),
        stakes: BoundedVec::default(),
        parent: Some(Parent {
            chain: spec.id(),
            height: Height::new(at),
            block,
            state_digest: Digest::ZERO,
        }),
        ..spec.spec().clone()
    }
}

fn fork(dir: &Path, from: (&Store, &CheckedSpec), at: u64) -> (Store, CheckedSpec) {
    let mut spec = unfinished(from, at);
    let builder = ForkBuilder::build(dir, from, &spec).unwrap();
    spec.parent.as_mut().unwrap().state_digest = builder.digest();
    let spec = spec.check().unwrap();
    builder.finish(&spec).unwrap();
    (Store::open(dir, &spec).unwrap(), spec)
}

fn value(store: &Store, key: &str) -> Option<String> {
    let key = RecordKey::new(key.as_bytes().to_vec()).unwrap();
    let place = store.record(&key).unwrap()?;
    let Payload::Put { value, .. } = store.transaction(place).unwrap().unwrap().payload else {
        panic!("a record");
    };
    Some(String::from_utf8(value.into_vec()).unwrap())
}

#[test]
fn a_fork_has_the_values_of_the_block_that_it_begins_with() {
    let parent = parent();
    let from = (&parent.store, &parent.spec);
    let values = |store: &Store| ["a", "b", "c"].map(|key| value(store, key));
    let some = |values: [&str; 3]| values.map(|value| (!value.is_empty()).then(|| value.to_owned()));
    for (at, expected) in [
        (0, ["", "", ""]),
        (1, ["1", "2", ""]),
        (2, ["3", "2", ""]),
        (3, ["3", "2", "4"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (store, spec) = fork(dir.path(), from, at);
        assert_eq!(values(&store), some(expected), "at {at}");
        assert_eq!(store.head().0, Height::ZERO);
        let digest = spec.genesis().header.state_digest;
        assert_eq!(store.state_hash().unwrap().digest(), digest);
        assert!(!dir.path().join("fork.tmp").exists() && !dir.path().join("check.tmp").exists());
    }
}

#[test]
fn a_fork_of_a_fork_has_what_both_have_set() {
    let parent = parent();
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, spec) = fork(first.path(), (&parent.store, &parent.spec), 2);
    let (again, _) = fork(second.path(), (&store, &spec), 0);
    assert_eq!(
        (value(&again, "a"), value(&again, "b")),
        (Some("3".into()), Some("2".into()))
    );
    let key = RecordKey::new(b"a".to_vec()).unwrap();
    let place = again.record(&key).unwrap().unwrap();
    let inherited = again.inherited(place.index).unwrap().unwrap();
    assert_eq!(
        (inherited.chain, inherited.height),
        (parent.spec.id(), Height::new(2)),
        "where it was set, and not where it was inherited from"
    );
}

#[test]
fn a_fork_of_what_is_not_there_is_refused() {
    let parent = parent();
    let dir = tempfile::tempdir().unwrap();
    let from = (&parent.store, &parent.spec);
    let mut beyond = unfinished(from, 3);
    beyond.parent.as_mut().unwrap().height = Height::new(4);
    let refused = ForkBuilder::build(dir.path(), from, &beyond).err().unwrap();
    assert!(
        matches!(refused, ForkFailure::NoBlock(height) if height == Height::new(4)),
        "{refused}"
    );
    let mut other = unfinished(from, 3);
    other.parent.as_mut().unwrap().block = BlockHash::from_bytes([1; 32]);
    let refused = ForkBuilder::build(dir.path(), from, &other).err().unwrap();
    assert!(matches!(refused, ForkFailure::Unsound { .. }), "{refused}");
    // A spec that names another state than the parent's: nothing gets the store's place.
    let lying = unfinished(from, 3).check().unwrap();
    let refused = ForkBuilder::build(dir.path(), from, lying.spec())
        .unwrap()
        .finish(&lying)
        .unwrap_err();
    assert!(refused.to_string().starts_with("SPEC-8:"), "{refused}");
    assert!(!Store::is_there(dir.path()));
    let opened = Store::open(dir.path(), &lying).unwrap_err();
    assert_eq!(opened, StorageError::NoParent);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_fork_inherited_is_checked_and_survives_a_new_store() {
    let parent = parent();
    let dir = tempfile::tempdir().unwrap();
    let (store, spec) = fork(dir.path(), (&parent.store, &parent.spec), 3);
    let mut chain = Chain::of(dir, store, spec, 7);
    let block = vec![chain.put("a", "5")];
    chain.mine(block);
    let checked = |chain: &Chain| {
        let (node, progress) = (chain.node(), Arc::new(CheckState::default()));
        async move {
            let mut report = crate::check::run(&node, false, &progress).await.unwrap().local;
            // This chain has no coordinator: its checkpoints are no notes.
            report
                .errors
                .retain(|fault| !fault.message.starts_with("the checkpoint stored"));
            report
        }
    };
    let report = checked(&chain).await;
    assert_eq!((report.errors.len(), report.blocks_checked), (0, 2), "{report:?}");

    // A store made anew has all of it.
    let (dir, spec) = chain.closed();
    want_rebuild(dir.path(), Missing::None).unwrap();
    rebuild_where_wanted(dir.path(), &spec).unwrap();
    let store = Store::open(dir.path(), &spec).unwrap();
    assert_eq!(store.head().0, Height::new(1));
    assert_eq!(
        ["a", "b", "c"].map(|key| value(&store, key).unwrap()),
        ["5", "2", "4"]
    );
    let chain = Chain::of(dir, store, spec, 8);
    let report = checked(&chain).await;
    assert!(report.errors.is_empty(), "{report:?}");

    // A value that the disk has changed is found: the state names its hash.
    let mut wrong = chain.store.inherited(1).unwrap().unwrap();
    let Payload::Put { value, .. } = &mut wrong.transaction.payload else {
        panic!("a record");
    };
    *value = block_chain_common::codec::BoundedBytes::new(b"forged".to_vec()).unwrap();
    chain.store.damage_inherited(1, &wrong);
    let report = checked(&chain).await;
    assert!(
        report
            .errors
            .iter()
            .any(|fault| fault.message.contains("inherited record 1")),
        "{report:?}"
    );
}
