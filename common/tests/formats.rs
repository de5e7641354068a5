//! Round trips, strict decoding, and the rules of blocks and transactions on both sides.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that meets what it does not expect has failed"
)]

use block_chain_common::block::{
    Block, BlockError, ChainTip, CheckedBlock, ConnectError, ConnectedBlock, HeaderError, build_block,
    connect_block,
};
use block_chain_common::chain_spec::{Allocation, ChainSpec, CheckedSpec, ProofSpec, SpecError};
use block_chain_common::codec::{BoundedVec, DecodeError, Format, decode, encode};
use block_chain_common::hash::{BlockHash, ChainId, Digest, Root};
use block_chain_common::header::{Header, Proof};
use block_chain_common::keys::SecretKey;
use block_chain_common::quantity::{Amount, Height, Nonce, Timestamp};
use block_chain_common::state::{
    ApplyError, Executor, LatticeHash, StateDelta, StateKey, StateValue, StateView,
};
use block_chain_common::transaction::{
    CheckedTransaction, Memo, Payload, RecordKey, RecordValue, Role, Transaction, TransactionError,
};
use block_chain_common::work::Target;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::convert::Infallible;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

/// A chain on which any nonce proves the work, and key 1 has 1,000 units.
fn spec() -> CheckedSpec {
    let mut spec = ChainSpec::default_for("main", key(1).public_key().address());
    spec.proof = ProofSpec::Work {
        initial_bits: Target::from_leading_zero_bits(0).to_bits(),
    };
    let balance = Allocation {
        address: key(1).public_key().address(),
        amount: Amount::new(1_000),
    };
    spec.balances = BoundedVec::new(vec![balance]).unwrap();
    spec.check().unwrap()
}

fn put(nonce: u64) -> Payload {
    Payload::Put {
        key: RecordKey::new(format!("key {nonce}").into_bytes()).unwrap(),
        value: RecordValue::new(b"value".to_vec()).unwrap(),
    }
}

fn signed(spec: &CheckedSpec, seed: u8, nonce: u64, payload: Payload) -> CheckedTransaction {
    CheckedTransaction::check(
        Transaction::sign(spec.id(), Nonce::new(nonce), payload, &key(seed)),
        spec.id(),
    )
    .unwrap()
}

#[derive(Clone, Default)]
struct State(BTreeMap<StateKey, StateValue>);

impl StateView for State {
    type Error = Infallible;
    fn get(&self, key: &StateKey) -> Result<Option<StateValue>, Infallible> {
        Ok(self.0.get(key).cloned())
    }
}

impl State {
    fn genesis(spec: &CheckedSpec) -> (Self, LatticeHash) {
        let mut state = Self::default();
        state.redo(spec.genesis_state());
        (state, spec.genesis_state().hash_after().clone())
    }

    fn redo(&mut self, delta: &StateDelta) {
        for change in delta.changes() {
            match &change.after {
                Some(after) => self.0.insert(change.key.clone(), after.clone()),
                None => self.0.remove(&change.key),
            };
        }
    }

    fn undo(&mut self, delta: &StateDelta) {
        for change in delta.changes() {
            match &change.before {
                Some(before) => self.0.insert(change.key.clone(), before.clone()),
                None => self.0.remove(&change.key),
            };
        }
    }

    fn hash(&self) -> LatticeHash {
        let mut hash = LatticeHash::default();
        for (key, value) in &self.0 {
            hash.add_entry(key, value);
        }
        hash
    }

    fn units(&self) -> u64 {
        self.0
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
}

const NOW: Timestamp = Timestamp::new(1_000_000);

/// The first block of the chain with two transactions, proven.
fn first_block(spec: &CheckedSpec) -> Block {
    let (state, hash) = State::genesis(spec);
    let transactions = [signed(spec, 2, 0, put(0)), signed(spec, 2, 1, put(1))];
    let tip = ChainTip::genesis(spec);
    let proof = Proof::Work {
        bits: tip.next_target(spec).unwrap().to_bits(),
        nonce: 7,
    };
    let template = build_block(
        transactions,
        &tip,
        spec,
        (&state, &hash),
        (key(2).public_key().address(), proof, NOW),
    )
    .unwrap();
    let transactions = template
        .transactions
        .iter()
        .map(|tx| tx.transaction().clone())
        .collect();
    Block {
        header: template.header,
        transactions: BoundedVec::new(transactions).unwrap(),
    }
}

fn connect(spec: &CheckedSpec, header: Header) -> Result<ConnectedBlock, ConnectError<Infallible>> {
    let (state, hash) = State::genesis(spec);
    let block = Block {
        header,
        transactions: first_block(spec).transactions,
    };
    let checked =
        CheckedBlock::check(block, spec.id()).expect("only rules of the parent and state are broken here");
    connect_block(checked, &ChainTip::genesis(spec), spec, (&state, &hash), NOW)
}

#[test]
fn a_built_block_keeps_every_rule() {
    let spec = spec();
    let connected = connect(&spec, first_block(&spec).header).unwrap();
    assert_eq!(connected.tip().height, Height::new(1));
    assert_eq!(
        connected.delta().hash_before().clone(),
        *spec.genesis_state().hash_after()
    );
}

#[test]
fn every_changed_field_of_a_header_breaks_its_own_rule() {
    let spec = spec();
    let good = first_block(&spec).header;
    let broken = |change: fn(&mut Header)| {
        let mut header = good.clone();
        change(&mut header);
        connect(&spec, header).expect_err("a rule is broken")
    };
    use HeaderError::{HistoryRoot, Previous, Proof as WrongProof, TooOld};
    assert!(
        matches!(
            broken(|h| h.previous = BlockHash::ZERO),
            ConnectError::Header(Previous { .. })
        ),
        "BLK-10"
    );
    let error = broken(|h| h.height = Height::new(2));
    assert!(
        matches!(error, ConnectError::Header(HeaderError::Height { .. })),
        "BLK-11"
    );
    assert!(
        matches!(
            broken(|h| h.timestamp = Timestamp::ZERO),
            ConnectError::Header(TooOld { .. })
        ),
        "BLK-12"
    );
    assert!(
        matches!(
            broken(|h| h.history_root = Root::ZERO),
            ConnectError::Header(HistoryRoot { .. })
        ),
        "BLK-13"
    );
    let error = broken(|h| {
        h.proof = Proof::Work {
            bits: Target::from_leading_zero_bits(1).to_bits(),
            nonce: 0,
        }
    });
    // Half of all hashes meet a target of one zero bit; where this one does, BLK-14 refuses the easier bits.
    assert!(matches!(error, ConnectError::Header(WrongProof { .. })), "BLK-14");
    let error = broken(|h| h.timestamp = Timestamp::new(NOW.get() + 120_001));
    assert!(
        matches!(
            error,
            ConnectError::NotYet {
                ahead_ms: 120_001,
                ..
            }
        ),
        "BLK-15"
    );
    assert!(
        matches!(
            broken(|h| h.state_digest = Digest::ZERO),
            ConnectError::StateDigest { .. }
        ),
        "BLK-17"
    );
    let mut at_the_edge = good.clone();
    at_the_edge.timestamp = Timestamp::new(NOW.get() + 120_000);
    assert!(connect(&spec, at_the_edge).is_ok(), "BLK-15 allows two minutes");
}

#[test]
fn rules_of_a_block_alone_are_told_apart() {
    let spec = spec();
    let good = first_block(&spec);
    let check = |change: fn(&mut Block)| {
        let mut block = good.clone();
        change(&mut block);
        CheckedBlock::check(block, spec.id()).expect_err("a rule is broken")
    };
    assert!(CheckedBlock::check(good.clone(), spec.id()).is_ok());
    assert!(
        matches!(
            check(|b| b.header.chain = ChainId::ZERO),
            BlockError::Chain { .. }
        ),
        "BLK-1"
    );
    assert!(
        matches!(
            check(|b| b.header.transaction_count = 3),
            BlockError::Count { .. }
        ),
        "BLK-3"
    );
    assert!(
        matches!(
            check(|b| b.header.transactions_root = Root::ZERO),
            BlockError::TransactionsRoot { .. }
        ),
        "BLK-4"
    );
    assert!(
        matches!(check(|b| b.header.proof = Proof::Genesis), BlockError::Proof(_)),
        "BLK-5"
    );
    let mut forged = good.clone();
    let mut transactions = forged.transactions.into_vec();
    transactions[1].nonce = Nonce::new(9);
    let ids: Vec<_> = transactions.iter().map(Transaction::id).collect();
    forged.header.transactions_root = block_chain_common::merkle::transactions_root(&ids);
    forged.transactions = BoundedVec::new(transactions).unwrap();
    let error = CheckedBlock::check(forged, spec.id()).unwrap_err();
    let named = matches!(
        error,
        BlockError::Transaction {
            index: 1,
            error: TransactionError::Signature { .. }
        }
    );
    assert!(named, "BLK-6, TX-3");
}

#[test]
fn rules_of_a_transaction_alone_are_told_apart() {
    let spec = spec();
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
    let unsorted = |s: &mut ChainSpec| s.open_roles = BoundedVec::new(vec![Role::Mine, Role::Write]).unwrap();
    assert!(matches!(check(unsorted), SpecError::Roles), "SPEC-5");
    assert!(
        matches!(check(|s| s.proof = ProofSpec::Stake), SpecError::Proof { .. }),
        "SPEC-6"
    );
}

/// Fixed bytes: a change here is a change of the protocol, and of every chain there is.
#[test]
fn our_own_vectors_do_not_change() {
    let spec = spec();
    assert_eq!(
        ChainSpec::default_for("main", key(1).public_key().address())
            .check()
            .unwrap()
            .id()
            .to_string(),
        include_str!("vectors/default_chain_id").trim()
    );
    let transaction = Transaction::sign(ChainId::ZERO, Nonce::new(3), put(3), &key(1));
    assert_eq!(
        hex::encode(encode(&transaction)),
        include_str!("vectors/transaction_put").trim()
    );
    assert_eq!(
        hex::encode(encode(&first_block(&spec))),
        include_str!("vectors/block").trim()
    );
    assert_eq!(
        first_block(&spec).header.hash().to_string(),
        include_str!("vectors/block_hash").trim()
    );
    assert_eq!(
        key(1).public_key().address().to_string(),
        include_str!("vectors/address").trim()
    );
}

fn payloads() -> impl Strategy<Value = Payload> {
    let bytes = proptest::collection::vec(any::<u8>(), 1..40);
    let address = (1_u8..4).prop_map(|seed| key(seed).public_key().address());
    let amount = (1_u64..600).prop_map(Amount::new);
    let role = prop_oneof![
        Just(Role::Admin),
        Just(Role::Issue),
        Just(Role::Write),
        Just(Role::Mine)
    ];
    prop_oneof![
        (bytes.clone(), bytes.clone()).prop_map(|(key, value)| Payload::Put {
            key: RecordKey::new(key).unwrap(),
            value: RecordValue::new(value).unwrap()
        }),
        bytes.clone().prop_map(|bytes| Payload::Message {
            bytes: RecordValue::new(bytes).unwrap()
        }),
        (address.clone(), amount.clone(), bytes).prop_map(|(to, amount, memo)| Payload::Transfer {
            to,
            amount,
            memo: Memo::new(memo).unwrap()
        }),
        (address.clone(), amount.clone()).prop_map(|(to, amount)| Payload::Deposit { to, amount }),
        amount.clone().prop_map(|amount| Payload::Stake { amount }),
        amount.prop_map(|amount| Payload::Unstake { amount }),
        (address.clone(), role.clone()).prop_map(|(address, role)| Payload::Grant { address, role }),
        (address, role).prop_map(|(address, role)| Payload::Revoke { address, role }),
    ]
}

fn round_trips<T: Format + PartialEq + std::fmt::Debug>(value: &T) {
    let bytes = encode(value);
    assert_eq!(decode::<T>(&bytes).as_ref(), Ok(value));
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(decode::<T>(&longer).is_err(), "a byte left over");
    assert!(decode::<T>(&bytes[..bytes.len() - 1]).is_err(), "a byte missing");
    let mut later = bytes;
    later[0] = 2;
    assert!(matches!(
        decode::<T>(&later),
        Err(DecodeError::Version { found: 2, .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn transactions_round_trip(payload in payloads(), nonce: u64, seed: u8) {
        round_trips(&Transaction::sign(ChainId::from_bytes([seed; 32]), Nonce::new(nonce), payload, &key(seed)));
    }

    #[test]
    fn what_decodes_encodes_to_the_same_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), place: usize, byte: u8) {
        bytes.insert(0, 1);
        for bytes in [bytes, {
            let mut block = encode(&first_block(&spec()));
            let place = place % block.len();
            block[place] = byte;
            block
        }] {
            if let Ok(block) = decode::<Block>(&bytes) { prop_assert_eq!(encode(&block), bytes.clone()); }
            if let Ok(tx) = decode::<Transaction>(&bytes) { prop_assert_eq!(encode(&tx), bytes.clone()); }
            if let Ok(header) = decode::<Header>(&bytes) { prop_assert_eq!(encode(&header), bytes.clone()); }
            if let Ok(spec) = decode::<ChainSpec>(&bytes) { prop_assert_eq!(encode(&spec), bytes.clone()); }
        }
    }

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
            let delta = executor.finish(key(9).public_key().address()).unwrap();
            state.redo(&delta);
            hash = delta.hash_after().clone();
            prop_assert_eq!(state.hash().digest(), delta.digest());
            prop_assert_eq!(state.units(), 1_000 + deposited + height);
            prop_assert_eq!(state.0.get(&StateKey::Supply), Some(&StateValue::Amount(Amount::new(state.units()))));
            undo.push(delta);
        }
        for delta in undo.iter().rev() {
            state.undo(delta);
            prop_assert_eq!(state.hash().digest(), delta.hash_before().digest());
        }
        prop_assert_eq!(state.0, State::genesis(&spec).0.0);
    }
}

#[test]
fn a_length_is_refused_before_memory_is_taken() {
    // A transaction whose key claims four thousand million bytes.
    let mut bytes = vec![1];
    bytes.extend([0; 32 + 32 + 8]);
    bytes.push(0);
    bytes.extend(u32::MAX.to_le_bytes());
    let error = decode::<Transaction>(&bytes).unwrap_err().to_string();
    assert!(
        error.contains("4294967295 bytes, 1 to 1024 are allowed"),
        "{error}"
    );
    let long = vec![1; Transaction::MAX_BYTES + 1];
    assert!(matches!(
        decode::<Transaction>(&long),
        Err(DecodeError::TooLong { .. })
    ));
}
