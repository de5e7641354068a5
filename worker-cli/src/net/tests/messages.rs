//! What is sent arrives, whole and in order.

use super::{CHAIN, Node, secret};
use crate::machine::Message;
use block_chain_common::agreement::Acknowledgement;
use block_chain_common::block::Block;
use block_chain_common::codec::{BoundedBytes, BoundedVec};
use block_chain_common::hash::{BlockHash, Digest, Root, TxId};
use block_chain_common::header::{Header, Proof};
use block_chain_common::keys::Address;
use block_chain_common::peer_message::Status;
use block_chain_common::quantity::{Height, Nonce, Term, Timestamp};
use block_chain_common::transaction::{Payload, Transaction};

fn header() -> Header {
    Header {
        chain: CHAIN,
        height: Height::new(5),
        timestamp: Timestamp::new(6),
        previous: BlockHash::from_bytes([1; 32]),
        transactions_root: Root::from_bytes([2; 32]),
        transaction_count: 1,
        state_digest: Digest::from_bytes([3; 32]),
        history_root: Root::from_bytes([4; 32]),
        producer: Address::from_bytes([5; 32]),
        proof: Proof::Work { bits: 9, nonce: 10 },
    }
}

fn transaction(nonce: u64, bytes: usize) -> Transaction {
    let payload = Payload::Message {
        bytes: BoundedBytes::new(vec![b'x'; bytes]).unwrap(),
    };
    Transaction::sign(CHAIN, Nonce::new(nonce), payload, &secret(9))
}

/// A block of about so many bytes; valid or not does not matter to the network.
pub(super) fn block(bytes: usize) -> Message {
    const PIECE: usize = 65_536;
    let piece = transaction(0, PIECE);
    let transactions = vec![piece; bytes.div_ceil(PIECE + 200)];
    Message::Block(Box::new(Block {
        header: header(),
        transactions: BoundedVec::new(transactions).unwrap(),
    }))
}

fn some<T, const MAX: usize>(items: Vec<T>) -> BoundedVec<T, MAX> {
    BoundedVec::new(items).ok().unwrap()
}

fn one_of_each() -> Vec<Message> {
    let ids = vec![TxId::from_bytes([1; 32]), TxId::from_bytes([2; 32])];
    let hashes = vec![BlockHash::from_bytes([3; 32])];
    let place = (Height::new(5), hashes[0], Root::ZERO);
    let all = vec![
        Message::Status(Status {
            height: Height::new(1),
            head: hashes[0],
            committed_size: 2,
            final_size: 3,
            mempool_mark: 4,
        }),
        Message::Compact {
            header: header(),
            ids: some(ids.clone()),
        },
        Message::Transactions(some(vec![transaction(0, 10), transaction(1, 0)])),
        Message::Propose {
            term: Term::new(1),
            height: Height::new(2),
            block: hashes[0],
        },
        Message::Acknowledge(Acknowledgement::sign(CHAIN, Term::new(1), place, &secret(9))),
        Message::Checkpoint(BoundedBytes::new(b"note".to_vec()).unwrap()),
        Message::GetHeaders(some(hashes.clone())),
        Message::Headers(some(vec![header(), header()])),
        Message::GetBlocks(some(hashes.clone())),
        block(100_000),
        Message::NotFound(some(hashes.clone())),
        Message::GetMempool,
        Message::MempoolIds(some(ids.clone())),
        Message::GetTransactions(some(ids)),
        Message::GetHashes(some(vec![Height::new(7)])),
        Message::Hashes(some(vec![
            (Height::new(7), Some(hashes[0])),
            (Height::new(8), None),
        ])),
        Message::Evidence(BoundedBytes::new(b"file".to_vec()).unwrap()),
    ];
    for (place, message) in all.iter().enumerate() {
        let encoded = block_chain_common::codec::encode(message);
        assert_eq!(usize::from(encoded[1]), place, "one of each kind, in order");
    }
    all
}

#[tokio::test]
async fn every_kind_of_message_arrives_both_ways() {
    let (mut a, mut b) = Node::pair().await;
    for message in one_of_each() {
        assert!(a.network.send(&b.key, &message));
        assert_eq!(b.expect_message(a.key).await, message);
        b.network.broadcast(&message);
        assert_eq!(a.expect_message(b.key).await, message);
    }
}

#[tokio::test]
async fn each_stream_keeps_its_order() {
    const COUNT: u64 = 2_000;
    let (a, mut b) = Node::pair().await;
    for number in 0..COUNT {
        let heights = some(vec![Height::new(number)]);
        assert!(a.network.send(&b.key, &Message::GetHashes(heights)));
        let id = [number.to_be_bytes(); 4].concat().try_into().unwrap();
        let bulk = Message::MempoolIds(some(vec![TxId::from_bytes(id)]));
        assert!(a.network.send(&b.key, &bulk));
    }
    let (mut small, mut bulk) = (0, 0);
    while small < COUNT || bulk < COUNT {
        match b.expect_message(a.key).await {
            Message::GetHashes(heights) => {
                assert_eq!(heights.as_slice(), [Height::new(small)]);
                small += 1;
            }
            Message::MempoolIds(ids) => {
                assert_eq!(ids.as_slice()[0].as_bytes()[..8], bulk.to_be_bytes());
                bulk += 1;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_full_queue_refuses_and_what_was_taken_arrives() {
    let (small, great) = super::seeds();
    let mut a = Node::start(small, CHAIN).await;
    // Nobody takes what comes after the first event: the streams fill up.
    let mut b = Node::start_with(great, CHAIN, 1).await;
    a.knows(&[&b]);
    b.knows(&[&a]);
    a.expect_up(b.key).await;
    let message = block(8_000_000);
    let mut taken = 0;
    while a.network.send(&b.key, &message) {
        taken += 1;
        assert!(taken < 100, "the queue has no limit");
    }
    assert!(
        taken >= 8,
        "the queue takes eight of the largest blocks, not {taken}"
    );
    // Bulk does not take the small ones' room.
    assert!(a.network.send(&b.key, &Message::GetMempool));
    b.expect_up(a.key).await;
    let mut heard_small = false;
    for _ in 0..=taken {
        match b.expect_message(a.key).await {
            Message::GetMempool => heard_small = true,
            other => assert!(other == message),
        }
    }
    assert!(heard_small);
    // The queue is empty again.
    assert!(a.network.send(&b.key, &message));
}

#[tokio::test]
async fn nothing_is_sent_to_nobody() {
    let a = Node::start(1, CHAIN).await;
    assert!(!a.network.send(&secret(2).public_key(), &Message::GetMempool));
    a.network.broadcast(&Message::GetMempool);
    assert_eq!(a.network.connected(), []);
}
