//! The rules of blocks, BLK-1 to BLK-17, each beside the block that keeps them all.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that meets what it does not expect has failed"
)]

mod support;

use block_chain_common::block::{
    Block, BlockError, ChainTip, CheckedBlock, ConnectError, ConnectedBlock, HeaderError, connect_block,
};
use block_chain_common::chain_spec::CheckedSpec;
use block_chain_common::codec::BoundedVec;
use block_chain_common::hash::{BlockHash, ChainId, Digest, Root};
use block_chain_common::header::{Header, Proof};
use block_chain_common::merkle::transactions_root;
use block_chain_common::quantity::{Height, Nonce, Timestamp};
use block_chain_common::state::ApplyError;
use block_chain_common::transaction::{Payload, RecordKey, RecordValue, Transaction, TransactionError};
use block_chain_common::work::Target;
use std::convert::Infallible;
use support::{NOW, State, block_of, easy, key, prove, put, signed};

/// The first block of the chain with two transactions, proven.
fn first_block(spec: &CheckedSpec) -> Block {
    let transactions = [signed(spec, 2, 0, put(0)), signed(spec, 2, 1, put(1))];
    block_of(spec, transactions, 2)
}

/// Sets a long key to a value of so many bytes.
fn put_long(spec: &CheckedSpec, nonce: u64, value: usize) -> Transaction {
    let payload = Payload::Put {
        key: RecordKey::new(vec![b'k'; 1_024]).unwrap(),
        value: RecordValue::new(vec![b'v'; value]).unwrap(),
    };
    Transaction::sign(spec.id(), Nonce::new(nonce), payload, &key(2))
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
    let spec = easy().check().unwrap();
    let connected = connect(&spec, first_block(&spec).header).unwrap();
    assert_eq!(connected.tip().height, Height::new(1));
    assert_eq!(
        connected.delta().hash_before().clone(),
        *spec.genesis_state().unwrap().hash_after()
    );
}

#[test]
fn every_changed_field_of_a_header_breaks_its_own_rule() {
    let spec = easy().check().unwrap();
    let good = first_block(&spec).header;
    let broken = |change: fn(&mut Header)| {
        let mut header = good.clone();
        change(&mut header);
        prove(&mut header);
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
    prove(&mut at_the_edge);
    assert!(connect(&spec, at_the_edge).is_ok(), "BLK-15 allows two minutes");
}

#[test]
fn rules_of_a_block_alone_are_told_apart() {
    let spec = easy().check().unwrap();
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
    forged.header.transactions_root = transactions_root(&ids);
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
fn blk_2_refuses_more_than_8_mib_and_takes_as_much() {
    let spec = easy().check().unwrap();
    // Seven of the largest values, and one that fills the rest but for a byte.
    let all: Vec<_> = (0..7).map(|nonce| put_long(&spec, nonce, 1_048_576)).collect();
    let with = |last: usize| {
        let mut transactions = all.clone();
        transactions.push(put_long(&spec, 7, last));
        let mut block = first_block(&spec);
        block.header.transaction_count = 8;
        let ids: Vec<_> = transactions.iter().map(Transaction::id).collect();
        block.header.transactions_root = transactions_root(&ids);
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
    let good = first_block(&spec);
    let connect = |block: Block| {
        let (state, hash) = State::genesis(&spec);
        let checked = CheckedBlock::check(block, spec.id()).unwrap();
        connect_block(checked, &ChainTip::genesis(&spec), &spec, (&state, &hash), NOW).map(|_| ())
    };
    assert_eq!(connect(good.clone()), Ok(()));
    let mut gap = good;
    let transactions = vec![put_long(&spec, 0, 1), put_long(&spec, 2, 2)];
    let ids: Vec<_> = transactions.iter().map(Transaction::id).collect();
    gap.header.transactions_root = transactions_root(&ids);
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
