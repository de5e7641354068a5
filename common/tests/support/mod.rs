//! What the tests of this crate share: keys by number, a chain that any nonce proves, and a state in memory.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "every test file takes what it needs; a test that meets what it does not expect has failed"
)]

use block_chain_common::block::{Block, ChainTip, build_block};
use block_chain_common::chain_spec::{ChainSpec, CheckedSpec, ProofSpec};
use block_chain_common::codec::BoundedVec;
use block_chain_common::header::{Header, Proof};
use block_chain_common::history::{HistoryNodes, NodePlace};
use block_chain_common::keys::SecretKey;
use block_chain_common::quantity::{Amount, Nonce, Timestamp};
use block_chain_common::state::{LatticeHash, StateDelta, StateKey, StateValue, StateView};
use block_chain_common::transaction::{
    CheckedTransaction, Memo, Payload, RecordKey, RecordValue, Role, Transaction,
};
use block_chain_common::work::Target;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::convert::Infallible;

/// When the blocks of the tests are made.
pub(crate) const NOW: Timestamp = Timestamp::new(1_000_000);

/// The key whose Ed25519 seed is this byte, 32 times.
pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

/// The default chain, created by key 1, on which nearly every nonce proves the work.
pub(crate) fn easy() -> ChainSpec {
    let mut spec = ChainSpec::default_for("main", key(1).public_key().address());
    spec.proof = ProofSpec::Work {
        initial_bits: Target::from_leading_zero_bits(0).to_bits(),
    };
    spec
}

/// `"key <nonce>"` set to `"value"`.
pub(crate) fn put(nonce: u64) -> Payload {
    Payload::Put {
        key: RecordKey::new(format!("key {nonce}").into_bytes()).unwrap(),
        value: RecordValue::new(b"value".to_vec()).unwrap(),
    }
}

/// Signed by key `seed` for the chain, and checked.
pub(crate) fn signed(spec: &CheckedSpec, seed: u8, nonce: u64, payload: Payload) -> CheckedTransaction {
    let transaction = Transaction::sign(spec.id(), Nonce::new(nonce), payload, &key(seed));
    CheckedTransaction::check(transaction, spec.id()).unwrap()
}

/// Every payload, with values that small balances cover now and then.
pub(crate) fn payloads() -> impl Strategy<Value = Payload> {
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

/// Block 1 of the chain by the rules, made by the key `producer` at [`NOW`].
pub(crate) fn block_of(
    spec: &CheckedSpec,
    transactions: impl IntoIterator<Item = CheckedTransaction>,
    producer: u8,
) -> Block {
    let (state, hash) = State::genesis(spec);
    let tip = ChainTip::genesis(spec);
    let bits = tip.next_target(spec).unwrap().to_bits();
    let made = (
        key(producer).public_key().address(),
        Proof::Work { bits, nonce: 0 },
        NOW,
    );
    let mut template = build_block(transactions, &tip, spec, (&state, &hash), made).unwrap();
    prove(&mut template.header);
    let transactions = template.transactions.iter().map(|tx| tx.transaction().clone());
    Block {
        transactions: BoundedVec::new(transactions.collect()).unwrap(),
        header: template.header,
    }
}

/// Counts the nonce of a header with a proof of work up from 0 to the first that meets its target.
pub(crate) fn prove(header: &mut Header) {
    let Proof::Work { bits, .. } = header.proof else {
        return;
    };
    let target = Target::from_bits(bits).unwrap();
    for nonce in 0.. {
        header.proof = Proof::Work { bits, nonce };
        if target.is_met_by(&header.hash()) {
            return;
        }
    }
}

/// A state in memory.
#[derive(Clone, Default)]
pub(crate) struct State(pub(crate) BTreeMap<StateKey, StateValue>);

impl StateView for State {
    type Error = Infallible;
    fn get(&self, key: &StateKey) -> Result<Option<StateValue>, Infallible> {
        Ok(self.0.get(key).cloned())
    }
}

impl State {
    /// What the chain begins with.
    pub(crate) fn genesis(spec: &CheckedSpec) -> (Self, LatticeHash) {
        let mut state = Self::default();
        state.redo(spec.genesis_state().unwrap());
        (state, spec.genesis_state().unwrap().hash_after().clone())
    }

    /// As it is after the change.
    pub(crate) fn redo(&mut self, delta: &StateDelta) {
        for (key, after) in delta.afters() {
            self.set(key, after);
        }
    }

    /// As it was before the change.
    pub(crate) fn undo(&mut self, delta: &StateDelta) {
        for (key, before) in delta.befores() {
            self.set(key, before);
        }
    }

    fn set(&mut self, key: &StateKey, value: Option<&StateValue>) {
        match value {
            Some(value) => self.0.insert(key.clone(), value.clone()),
            None => self.0.remove(key),
        };
    }

    /// Computed from every entry.
    pub(crate) fn hash(&self) -> LatticeHash {
        let mut hash = LatticeHash::default();
        for (key, value) in &self.0 {
            hash.add_entry(key, value);
        }
        hash
    }
}

/// Nodes of a history tree in memory.
#[derive(Default)]
pub(crate) struct Nodes(pub(crate) BTreeMap<NodePlace, [u8; 32]>);

impl HistoryNodes for Nodes {
    type Error = Infallible;
    fn node(&self, place: NodePlace) -> Result<Option<[u8; 32]>, Infallible> {
        Ok(self.0.get(&place).copied())
    }
}
