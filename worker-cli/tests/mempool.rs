//! The mempool's rules, MEM-1 to MEM-7, each beside what it takes. A refused submission changes nothing.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that meets what it does not expect has failed"
)]

use block_chain_common::chain_spec::{Allocation, ChainSpec, CheckedSpec, ProofSpec};
use block_chain_common::codec::BoundedVec;
use block_chain_common::keys::SecretKey;
use block_chain_common::limits::{MAX_MEMPOOL_BYTES, MAX_MEMPOOL_PER_SENDER};
use block_chain_common::quantity::{Amount, Nonce, Timestamp};
use block_chain_common::transaction::{
    CheckedTransaction, Memo, Payload, RecordKey, RecordValue, Role, Transaction,
};
use block_chain_common::work::Target;
use block_chain_worker::machine::{ChainRead as _, Effect, Event, Machine, Start, Write};
use block_chain_worker::storage::Store;
use std::sync::Arc;
use tempfile::TempDir;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

/// A node on a chain on which key 1 administers and issues and has 1,000 units, 100 of stake; and key 2 may not write.
struct Node {
    _dir: TempDir,
    store: Store,
    machine: Machine,
    spec: Arc<CheckedSpec>,
}

impl Node {
    fn new(open: &[Role]) -> Self {
        let me = key(1).public_key().address();
        let mut spec = ChainSpec::default_for("main", me);
        spec.proof = ProofSpec::Work {
            initial_bits: Target::from_leading_zero_bits(0).to_bits(),
        };
        let units = |amount| {
            let entry = Allocation {
                address: me,
                amount: Amount::new(amount),
            };
            BoundedVec::new(vec![entry]).unwrap()
        };
        (spec.balances, spec.stakes) = (units(1_000), units(100));
        spec.open_roles = BoundedVec::new(open.to_vec()).unwrap();
        let spec = Arc::new(spec.check().unwrap());
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &spec).unwrap();
        let machine = Machine::new(Start {
            spec: Arc::clone(&spec),
            coordinator: key(9).public_key(),
            key: key(1),
            tip: store.tip().unwrap(),
            state_hash: store.state_hash().unwrap(),
            committed: None,
            final_size: 0,
            term: store.term(),
            mempool: Vec::new(),
            evidence: None,
        });
        Self {
            _dir: dir,
            store,
            machine,
            spec,
        }
    }

    fn open() -> Self {
        Self::new(&[Role::Write, Role::Mine])
    }

    fn signed(&self, seed: u8, nonce: u64, payload: Payload) -> CheckedTransaction {
        let transaction = Transaction::sign(self.spec.id(), Nonce::new(nonce), payload, &key(seed));
        CheckedTransaction::assume_signature_valid(transaction, self.spec.id()).unwrap()
    }

    /// Submits at once; the rule that refuses it, or nothing. Where it is refused nothing is written and nothing waits
    /// that did not before.
    fn submit(&mut self, transactions: Vec<CheckedTransaction>) -> Option<String> {
        let (before, count) = (self.machine.mempool_size(), transactions.len());
        let submitted = Event::Submit(1, transactions);
        let output = self
            .machine
            .step(&self.store, Timestamp::new(1), submitted)
            .unwrap();
        let answer = output.effects.iter().find_map(|effect| match effect {
            Effect::Submitted(_, answer) => Some(answer.as_ref().map(Vec::len)),
            _ => None,
        });
        let added = output
            .writes
            .iter()
            .filter(|write| matches!(write, Write::MempoolAdd { .. }));
        match answer.unwrap() {
            Ok(answered) => {
                assert_eq!((answered, added.count()), (count, count));
                None
            }
            Err(error) => {
                assert_eq!((output.writes.len(), self.machine.mempool_size()), (0, before));
                Some(error.to_string().split(':').next().unwrap().to_owned())
            }
        }
    }

    fn one(&mut self, seed: u8, nonce: u64, payload: Payload) -> Option<String> {
        let transaction = self.signed(seed, nonce, payload);
        self.submit(vec![transaction])
    }
}

fn put(value: usize) -> Payload {
    Payload::Put {
        key: RecordKey::new(b"key".to_vec()).unwrap(),
        value: RecordValue::new(vec![7; value]).unwrap(),
    }
}

fn transfer(to: u8, amount: u64) -> Payload {
    Payload::Transfer {
        to: key(to).public_key().address(),
        amount: Amount::new(amount),
        memo: Memo::new(Vec::new()).unwrap(),
    }
}

fn refused(rule: &str) -> Option<String> {
    Some(rule.to_owned())
}

#[test]
fn mem_1_and_2_take_the_next_nonce_alone() {
    let mut node = Node::open();
    assert_eq!(node.one(2, 1, put(1)), refused("MEM-2"), "nonce 0 comes first");
    assert_eq!(node.one(2, 0, put(1)), None);
    assert_eq!(
        node.one(2, 0, put(2)),
        refused("MEM-1"),
        "another with the same nonce"
    );
    assert_eq!(node.one(2, 2, put(1)), refused("MEM-2"));
    assert_eq!(node.one(2, 1, put(1)), None);
    // In one submission each follows the one before; a gap in it refuses all of it.
    let whole = [2, 3, 4].map(|nonce| node.signed(2, nonce, put(1))).to_vec();
    let gap = [2, 4].map(|nonce| node.signed(2, nonce, put(1))).to_vec();
    assert_eq!(node.submit(gap), refused("MEM-2"));
    assert_eq!(node.submit(whole), None);
    assert_eq!(node.machine.mempool_size().0, 5);
    assert_eq!(node.one(2, u64::MAX, put(1)), refused("MEM-2"));
}

#[test]
fn the_same_transaction_again_is_answered_and_not_added() {
    let mut node = Node::open();
    let transaction = node.signed(2, 0, put(1));
    assert_eq!(node.submit(vec![transaction.clone()]), None);
    let again = Event::Submit(1, vec![transaction]);
    let output = node.machine.step(&node.store, Timestamp::new(1), again).unwrap();
    assert!(output.writes.is_empty());
    assert_eq!(node.machine.mempool_size().0, 1);
}

#[test]
fn mem_3_counts_what_is_pending_against_balance_and_stake() {
    let mut node = Node::open();
    assert_eq!(node.one(1, 0, transfer(2, 1_001)), refused("MEM-3"));
    assert_eq!(node.one(1, 0, transfer(2, 600)), None);
    assert_eq!(node.one(1, 1, transfer(3, 401)), refused("MEM-3"));
    let both = [(1, 300), (2, 101)].map(|(nonce, amount)| node.signed(1, nonce, transfer(3, amount)));
    assert_eq!(
        node.submit(both.to_vec()),
        refused("MEM-3"),
        "one submission is judged as a whole"
    );
    assert_eq!(
        node.one(
            1,
            1,
            Payload::Stake {
                amount: Amount::new(400)
            }
        ),
        None
    );
    assert_eq!(node.one(1, 2, transfer(3, 1)), refused("MEM-3"));
    let unstake = |amount| Payload::Unstake {
        amount: Amount::new(amount),
    };
    // What is only about to be staked is no stake yet.
    assert_eq!(node.one(1, 2, unstake(101)), refused("MEM-3"));
    assert_eq!(node.one(1, 2, unstake(100)), None);
    assert_eq!(node.one(1, 3, unstake(1)), refused("MEM-3"));
    // What is about to be received cannot be spent yet either, and u64::MAX does not wrap.
    assert_eq!(node.one(2, 0, transfer(3, 1)), refused("MEM-3"));
    assert_eq!(node.one(1, 3, transfer(3, u64::MAX)), refused("MEM-3"));
}

#[test]
fn mem_4_asks_for_the_role_of_what_is_done() {
    let mut node = Node::open();
    let deposit = || Payload::Deposit {
        to: key(2).public_key().address(),
        amount: Amount::new(1),
    };
    let grant = || Payload::Grant {
        address: key(2).public_key().address(),
        role: Role::Issue,
    };
    assert_eq!(node.one(2, 0, deposit()), refused("MEM-4"));
    assert_eq!(node.one(2, 0, grant()), refused("MEM-4"));
    assert_eq!(node.one(1, 0, deposit()), None);
    assert_eq!(node.one(1, 1, grant()), None);
    // Where writing is not open, and nobody was granted it, not even the admin writes.
    let mut closed = Node::new(&[Role::Mine]);
    assert_eq!(closed.one(2, 0, put(1)), refused("MEM-4"));
    assert_eq!(closed.one(1, 0, put(1)), refused("MEM-4"));
}

#[test]
fn mem_5_takes_100_000_of_a_sender() {
    let mut node = Node::open();
    let most = u64::try_from(MAX_MEMPOOL_PER_SENDER).unwrap();
    let all = (0..most).map(|nonce| node.signed(2, nonce, put(0))).collect();
    assert_eq!(node.submit(all), None);
    assert_eq!(node.one(2, most, put(0)), refused("MEM-5"));
    assert_eq!(node.one(3, 0, put(0)), None, "another sender's are counted apart");
}

#[test]
fn mem_6_takes_256_mib_in_all() {
    let mut node = Node::open();
    let largest = 1_048_576;
    let size = node.signed(2, 0, put(largest)).bytes().len();
    let fit = u64::try_from(MAX_MEMPOOL_BYTES / size).unwrap();
    for nonce in 0..fit {
        assert_eq!(node.one(2, nonce, put(largest)), None);
    }
    assert_eq!(node.one(2, fit, put(largest)), refused("MEM-6"));
    // To the last byte.
    let left = MAX_MEMPOOL_BYTES - node.machine.mempool_size().1;
    let rest = left - (size - largest);
    assert_eq!(node.one(3, 0, put(rest + 1)), refused("MEM-6"));
    assert_eq!(node.one(3, 0, put(rest)), None);
    assert_eq!(node.machine.mempool_size().1, MAX_MEMPOOL_BYTES);
}

#[test]
fn mem_7_refuses_a_transfer_to_oneself() {
    let mut node = Node::open();
    assert_eq!(node.one(1, 0, transfer(1, 1)), refused("MEM-7"));
    assert_eq!(node.one(1, 0, transfer(2, 1)), None);
}
