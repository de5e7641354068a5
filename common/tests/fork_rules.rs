//! What forks begin with: SPEC-7 and SPEC-8 on both sides, and that nothing of the parent's state is lost or made.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that meets what it does not expect has failed"
)]

mod support;

use block_chain_common::chain_spec::{Allocation, ChainSpec, Grant, Parent, ProofSpec, SpecError};
use block_chain_common::codec::BoundedVec;
use block_chain_common::fork::{ForkError, Inheritance, check_inherited};
use block_chain_common::hash::{BlockHash, ChainId, Digest};
use block_chain_common::keys::Address;
use block_chain_common::quantity::{Amount, Height, Nonce};
use block_chain_common::stake::MAX_STAKERS;
use block_chain_common::state::{Account, LatticeHash, RecordState, Release, StateKey, StateValue};
use block_chain_common::transaction::{RecordKey, Role};
use proptest::prelude::*;
use std::collections::BTreeMap;
use support::{easy, key};

const AT: u64 = 50;

fn fork(proof: ProofSpec) -> ChainSpec {
    ChainSpec {
        name: "fork".to_owned(),
        proof,
        block_interval_ms: 1_000,
        grants: BoundedVec::default(),
        balances: BoundedVec::default(),
        stakes: BoundedVec::default(),
        parent: Some(Parent {
            chain: ChainId::from_bytes([7; 32]),
            height: Height::new(AT),
            block: BlockHash::from_bytes([8; 32]),
            state_digest: Digest::ZERO,
        }),
        ..easy()
    }
}

fn address(number: u16) -> Address {
    let mut seed = [0; 32];
    seed[..2].copy_from_slice(&number.to_le_bytes());
    block_chain_common::keys::SecretKey::from_seed(&seed)
        .public_key()
        .address()
}

fn account(balance: u64, stake: u64, releases: &[(u64, u64)]) -> StateValue {
    let releases = releases.iter().map(|(from, amount)| Release {
        from: Height::new(*from),
        amount: Amount::new(*amount),
    });
    StateValue::Account(Account {
        nonce: Nonce::new(3),
        balance: Amount::new(balance),
        stake: Amount::new(stake),
        releases: BoundedVec::new(releases.collect()).unwrap(),
    })
}

fn record(height: u64, index: u32) -> StateValue {
    StateValue::Record(RecordState {
        value_digest: Digest::from_bytes([u8::try_from(height % 256).unwrap(); 32]),
        height: Height::new(height),
        index,
    })
}

type State = Vec<(StateKey, StateValue)>;

/// In the order of the keys' encodings, as a store has them.
fn sorted(mut state: State) -> State {
    state.sort_by_key(|(key, _)| borsh::to_vec(key).unwrap());
    state
}

fn inherit(spec: &ChainSpec, state: State) -> Result<(State, LatticeHash), ForkError> {
    let mut inheritance = Inheritance::begin(spec)?;
    let mut taken = Vec::new();
    for (key, value) in sorted(state) {
        taken.extend(inheritance.take(key, value)?);
    }
    let (rest, hash) = inheritance.finish()?;
    taken.extend(rest);
    Ok((taken, hash))
}

#[test]
fn spec_7_takes_a_fork_that_gives_nothing_and_refuses_one_that_does() {
    assert!(fork(ProofSpec::Authority).check().is_ok());
    let one = Allocation {
        address: address(1),
        amount: Amount::new(1),
    };
    let grant = Grant {
        address: address(1),
        role: Role::Admin,
    };
    let mut gives = [
        fork(ProofSpec::Authority),
        fork(ProofSpec::Authority),
        fork(ProofSpec::Authority),
    ];
    gives[0].balances = BoundedVec::new(vec![one.clone()]).unwrap();
    gives[1].stakes = BoundedVec::new(vec![one]).unwrap();
    gives[2].grants = BoundedVec::new(vec![grant]).unwrap();
    for spec in gives {
        assert_eq!(spec.check().unwrap_err(), SpecError::Fork);
    }
}

#[test]
fn spec_8_takes_the_state_that_the_spec_names_and_no_other() {
    let state = vec![
        (StateKey::Account(address(1)), account(5, 0, &[])),
        (StateKey::Supply, StateValue::Amount(Amount::new(5))),
    ];
    let mut spec = fork(ProofSpec::Authority);
    let (_, hash) = inherit(&spec, state.clone()).unwrap();
    let refused = check_inherited(&spec, &hash).unwrap_err();
    assert!(
        refused.to_string().starts_with("SPEC-8:"),
        "the spec names no digest yet: {refused}"
    );
    spec.parent.as_mut().unwrap().state_digest = hash.digest();
    assert_eq!(check_inherited(&spec, &hash), Ok(()));
    // The digest in the spec changes nothing of what it is the digest of.
    let (_, again) = inherit(&spec, state).unwrap();
    assert_eq!(check_inherited(&spec, &again), Ok(()));
    let mut other = hash.clone();
    other.add_entry(&StateKey::Account(address(2)), &account(1, 0, &[]));
    assert!(matches!(
        check_inherited(&spec, &other),
        Err(ForkError::Digest { .. })
    ));
    assert_eq!(check_inherited(&easy(), &hash), Err(ForkError::NoParent));
    assert_eq!(Inheritance::begin(&easy()).unwrap_err(), ForkError::NoParent);
    // The first block has it, so another state is another chain.
    let checked = spec.clone().check().unwrap();
    assert_eq!(checked.genesis().header.state_digest, hash.digest());
    assert!(checked.genesis_state().is_none());
}

#[test]
fn records_stand_at_height_0_in_the_order_of_their_keys() {
    let name = |text: &str| StateKey::Record(RecordKey::new(text.as_bytes().to_vec()).unwrap());
    let state = vec![
        (name("b"), record(9, 4)),
        (name("a"), record(40, 0)),
        (name("aa"), record(1, 7)),
    ];
    let (taken, _) = inherit(&fork(ProofSpec::Authority), state).unwrap();
    let places: Vec<_> = taken
        .iter()
        .map(|(key, value)| match value {
            StateValue::Record(found) => (key.clone(), found.height.get(), found.index, found.value_digest),
            other => panic!("{other:?}"),
        })
        .collect();
    let digest = |byte: u8| Digest::from_bytes([byte; 32]);
    // Shorter keys come first: the length is in front.
    let expected = [
        (name("a"), 0, 0, digest(40)),
        (name("b"), 0, 1, digest(9)),
        (name("aa"), 0, 2, digest(1)),
    ];
    assert_eq!(places, expected);
}

#[test]
fn what_was_unstaked_is_free_after_as_many_blocks_as_were_left() {
    let state = vec![(
        StateKey::Account(address(1)),
        account(0, 0, &[(AT - 10, 1), (AT, 2), (AT + 1, 3), (AT + 90, 4)]),
    )];
    let (taken, _) = inherit(&fork(ProofSpec::Authority), state).unwrap();
    assert_eq!(
        taken[0].1,
        account(0, 0, &[(0, 1), (0, 2), (1, 3), (90, 4)]),
        "the fork's heights begin with 0"
    );
}

#[test]
fn a_fork_draws_anew_from_the_stakes_there_are() {
    let state = vec![
        (StateKey::Account(address(1)), account(5, 10, &[])),
        (StateKey::Account(address(2)), account(5, 0, &[])),
        (StateKey::Account(address(3)), account(0, 30, &[])),
        (StateKey::Seed, StateValue::Seed(Digest::from_bytes([3; 32]))),
    ];
    let (work, _) = inherit(&fork(ProofSpec::Authority), state.clone()).unwrap();
    assert!(work.iter().all(|(key, _)| matches!(key, StateKey::Account(_))));
    let (stake, _) = inherit(&fork(ProofSpec::Stake), state).unwrap();
    let by_key: BTreeMap<_, _> = stake.into_iter().collect();
    let Some(StateValue::Stakes(stakes)) = by_key.get(&StateKey::Stakers) else {
        panic!("it has stakers");
    };
    let mut expected = vec![(address(1), 10), (address(3), 30)];
    expected.sort();
    let found: Vec<_> = stakes
        .as_slice()
        .iter()
        .map(|stake| (stake.address, stake.amount.get()))
        .collect();
    assert_eq!(found, expected);
    let Some(StateValue::Seed(seed)) = by_key.get(&StateKey::Seed) else {
        panic!("it has a seed");
    };
    assert_ne!(
        *seed,
        Digest::from_bytes([3; 32]),
        "a fork has a beacon of its own"
    );
    assert_eq!(by_key.len(), 3 + 4);
}

#[test]
fn more_stakers_than_are_allowed_make_no_chain_of_stake() {
    let many = |count: usize| -> State {
        let stakers = (0..count).map(|n| address(u16::try_from(n).unwrap()));
        stakers
            .map(|address| (StateKey::Account(address), account(0, 1, &[])))
            .collect()
    };
    assert!(inherit(&fork(ProofSpec::Stake), many(MAX_STAKERS)).is_ok());
    let error = inherit(&fork(ProofSpec::Stake), many(MAX_STAKERS + 1)).unwrap_err();
    assert_eq!(error, ForkError::Stakers);
    assert!(inherit(&fork(ProofSpec::Authority), many(MAX_STAKERS + 1)).is_ok());
}

#[test]
fn a_state_out_of_order_is_refused() {
    let mut inheritance = Inheritance::begin(&fork(ProofSpec::Authority)).unwrap();
    let entry = || (StateKey::Supply, StateValue::Amount(Amount::new(1)));
    let (key, value) = entry();
    inheritance.take(key, value).unwrap();
    let (key, value) = entry();
    assert_eq!(inheritance.take(key, value), Err(ForkError::Order), "twice");
    let earlier = StateKey::Account(key_address());
    assert_eq!(
        inheritance.take(earlier, account(1, 0, &[])),
        Err(ForkError::Order)
    );
}

fn key_address() -> Address {
    key(1).public_key().address()
}

proptest! {
    #[test]
    fn no_unit_is_lost_or_made(
        accounts in proptest::collection::btree_map(0_u16..200, (0_u64..1_000, 0_u64..3, proptest::collection::vec((1_u64..200, 1_u64..50), 0..4)), 0..40),
        stake in any::<bool>(),
    ) {
        let state: State = accounts
            .iter()
            .map(|(number, (balance, stake, releases))| {
                (StateKey::Account(address(*number)), account(*balance, *stake, releases))
            })
            .collect();
        let sum = |state: &State| -> u64 {
            state
                .iter()
                .map(|(_, value)| match value {
                    StateValue::Account(found) => {
                        let releasing: u64 = found.releases.as_slice().iter().map(|r| r.amount.get()).sum();
                        found.balance.get() + found.stake.get() + releasing
                    }
                    _ => 0,
                })
                .sum()
        };
        let proof = if stake { ProofSpec::Stake } else { ProofSpec::Authority };
        let (taken, hash) = inherit(&fork(proof), state.clone()).unwrap();
        prop_assert_eq!(sum(&taken), sum(&state));
        let mut computed = LatticeHash::default();
        for (key, value) in &taken {
            computed.add_entry(key, value);
        }
        prop_assert_eq!(computed.digest(), hash.digest());
    }
}
