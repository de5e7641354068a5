//! The rules of the state, STA-1 to STA-9, on both sides; that value is conserved, and that every block can be undone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that meets what it does not expect has failed"
)]

mod support;

use block_chain_common::chain_spec::{Allocation, CheckedSpec};
use block_chain_common::codec::BoundedVec;
use block_chain_common::quantity::{Amount, Height};
use block_chain_common::state::{ApplyError, Executor, LatticeHash, MAX_RELEASES, StateKey, StateValue};
use block_chain_common::transaction::{Memo, Payload, Role};
use proptest::prelude::*;
use std::collections::BTreeMap;
use support::{State, easy, key, payloads, put, signed};

/// The chain that any nonce proves, on which key 1 has 1,000 units.
fn spec() -> CheckedSpec {
    let mut spec = easy();
    let balance = Allocation {
        address: key(1).public_key().address(),
        amount: Amount::new(1_000),
    };
    spec.balances = BoundedVec::new(vec![balance]).unwrap();
    spec.check().unwrap()
}

/// All units that the entries hold.
fn units(state: &State) -> u64 {
    state
        .0
        .values()
        .map(|value| match value {
            StateValue::Account(account) => {
                let releases: u64 = account
                    .releases
                    .as_slice()
                    .iter()
                    .map(|release| release.amount.get())
                    .sum();
                account.balance.get() + account.stake.get() + releases
            }
            _ => 0,
        })
        .sum()
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one case after another, each beside its accepted neighbour"
)]
fn rules_of_the_state_are_told_apart() {
    let spec = spec();
    let (state, hash) = State::genesis(&spec);
    let me = key(1).public_key().address();
    let other = key(2).public_key().address();
    let apply = |seed: u8, nonce: u64, payload: Payload| {
        Executor::new(&state, spec.spec(), Height::new(1), &hash)
            .apply(&signed(&spec, seed, nonce, payload), 0)
    };
    let memo = || Memo::new(Vec::new()).unwrap();
    let transfer = |to, amount| Payload::Transfer {
        to,
        amount: Amount::new(amount),
        memo: memo(),
    };
    assert_eq!(apply(1, 0, transfer(other, 1_000)), Ok(()));
    assert!(
        matches!(apply(1, 0, transfer(other, 1_001)), Err(ApplyError::Funds { .. })),
        "STA-4"
    );
    assert!(
        matches!(apply(1, 1, put(0)), Err(ApplyError::NonceGap { .. })),
        "STA-2"
    );
    assert!(
        matches!(apply(1, 0, transfer(me, 1)), Err(ApplyError::OwnAddress)),
        "STA-9"
    );
    let deposit = |amount| Payload::Deposit {
        to: other,
        amount: Amount::new(amount),
    };
    assert_eq!(apply(1, 0, deposit(5)), Ok(()));
    assert!(
        matches!(
            apply(2, 0, deposit(5)),
            Err(ApplyError::Role {
                role: Role::Issue,
                ..
            })
        ),
        "STA-3"
    );
    assert!(
        matches!(apply(1, 0, deposit(u64::MAX)), Err(ApplyError::Supply { .. })),
        "STA-5"
    );
    assert!(
        matches!(
            apply(
                1,
                0,
                Payload::Unstake {
                    amount: Amount::new(1)
                }
            ),
            Err(ApplyError::Stake { .. })
        ),
        "STA-6"
    );
    let revoke = Payload::Revoke {
        address: me,
        role: Role::Admin,
    };
    assert!(
        matches!(apply(1, 0, revoke), Err(ApplyError::LastAdmin { .. })),
        "STA-8"
    );
    let mut executor = Executor::new(&state, spec.spec(), Height::new(1), &hash);
    executor.apply(&signed(&spec, 1, 0, put(0)), 0).unwrap();
    let again = executor.apply(&signed(&spec, 1, 0, put(1)), 1);
    assert!(matches!(again, Err(ApplyError::NonceUsed { .. })), "STA-1");
}

#[test]
fn sta_7_takes_64_releases_and_refuses_another() {
    let mut spec = easy();
    let staker = key(2).public_key().address();
    spec.stakes = BoundedVec::new(vec![Allocation {
        address: staker,
        amount: Amount::new(100),
    }])
    .unwrap();
    let spec = spec.check().unwrap();
    let (state, _) = State::genesis(&spec);
    let hash = LatticeHash::default();
    let mut executor = Executor::new(&state, spec.spec(), Height::new(1), &hash);
    let amount = Amount::new(1);
    let mut apply = |nonce: u64| executor.apply(&signed(&spec, 2, nonce, Payload::Unstake { amount }), 0);
    let releases = u64::try_from(MAX_RELEASES).unwrap();
    for nonce in 0..releases {
        assert_eq!(apply(nonce), Ok(()));
    }
    assert_eq!(apply(releases), Err(ApplyError::Releases { sender: staker }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn value_is_conserved_and_blocks_can_be_undone(steps in proptest::collection::vec((1_u8..4, payloads()), 1..60)) {
        let spec = spec();
        let (mut state, mut hash) = State::genesis(&spec);
        let (mut nonces, mut deposited, mut undo) = (BTreeMap::new(), 0_u64, Vec::new());
        for (height, block) in (1_u64..).zip(steps.chunks(7)) {
            let mut executor = Executor::new(&state, spec.spec(), Height::new(height), &hash);
            for (seed, payload) in block {
                let nonce = nonces.entry(*seed).or_insert(0_u64);
                if executor.apply(&signed(&spec, *seed, *nonce, payload.clone()), 0).is_ok() {
                    *nonce += 1;
                    if let Payload::Deposit { amount, .. } = payload { deposited += amount.get(); }
                }
            }
            let delta = executor.finish(key(9).public_key().address(), None).unwrap();
            state.redo(&delta);
            hash = delta.hash_after().clone();
            prop_assert_eq!(state.hash().digest(), delta.digest());
            prop_assert_eq!(units(&state), 1_000 + deposited + height);
            prop_assert_eq!(state.0.get(&StateKey::Supply), Some(&StateValue::Amount(Amount::new(units(&state)))));
            undo.push(delta);
        }
        for delta in undo.iter().rev() {
            state.undo(delta);
            prop_assert_eq!(state.hash().digest(), delta.hash_before().digest());
        }
        prop_assert_eq!(state.0, State::genesis(&spec).0.0);
    }
}
