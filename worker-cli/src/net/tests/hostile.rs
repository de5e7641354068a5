//! Peers that break the rules: bare endpoints that write what they like.

use super::{ANY_PORT, CHAIN, Node, secret, within};
use crate::machine::Message;
use crate::net::{NetEvent, PeerAddress, alpn};
use block_chain_common::codec::encode;
use block_chain_common::keys::PublicKey;
use block_chain_common::limits::MAX_PEER_MESSAGE_BYTES;
use iroh::endpoint::{Connection, ConnectionError, SendStream, presets};
use iroh::{Endpoint, EndpointAddr, RelayMode};

struct Raw {
    key: PublicKey,
    endpoint: Endpoint,
    connection: Connection,
}

async fn endpoint(seed: u8) -> Endpoint {
    Endpoint::builder(presets::Minimal)
        .secret_key(iroh::SecretKey::from_bytes(&secret(seed).seed()))
        .relay_mode(RelayMode::Disabled)
        .clear_ip_transports()
        .bind_addr(ANY_PORT)
        .unwrap()
        .bind()
        .await
        .unwrap()
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(bytes);
    frame
}

fn hello() -> Vec<u8> {
    framed(&super::super::frame::hello(&CHAIN))
}

impl Raw {
    /// Connects to a node, which has it in its directory or not.
    async fn connect(node: &Node, seed: u8, is_listed: bool) -> Self {
        let key = secret(seed).public_key();
        let directory = is_listed.then(|| PeerAddress {
            key,
            addresses: Vec::new(),
        });
        node.network.set_directory(directory.into_iter().collect());
        let endpoint = endpoint(seed).await;
        let id = iroh::EndpointId::from_bytes(node.key.as_bytes()).unwrap();
        let address = EndpointAddr::new(id).with_ip_addr(node.network.local_addresses()[0]);
        let connection = within(endpoint.connect(address, &alpn(&CHAIN))).await.unwrap();
        Self {
            key,
            endpoint,
            connection,
        }
    }

    async fn open(&self, bytes: &[u8]) -> SendStream {
        let mut stream = within(self.connection.open_uni()).await.unwrap();
        within(stream.write_all(bytes)).await.unwrap();
        stream
    }

    async fn closed_for(&self) -> String {
        match within(self.connection.closed()).await {
            ConnectionError::ApplicationClosed(close) => String::from_utf8(close.reason.to_vec()).unwrap(),
            other => panic!("{other}"),
        }
    }
}

/// What is written after the hello, on the stream with it or on one of its own, and what the node says of it.
async fn is_malformed(control: &[u8], bulk: Option<&[u8]>, expected: &str) {
    let mut node = Node::start(1, CHAIN).await;
    let raw = Raw::connect(&node, 2, true).await;
    let _control = raw.open(&[&[0], hello().as_slice(), control].concat()).await;
    let _bulk = match bulk {
        Some(bytes) => Some(raw.open(bytes).await),
        None => None,
    };
    node.expect_up(raw.key).await;
    match node.next().await {
        NetEvent::Malformed(key, reason) => {
            assert_eq!(key, raw.key);
            assert!(reason.contains(expected), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert!(raw.closed_for().await.contains(expected));
    node.expect_down(raw.key).await;
    assert_eq!(node.network.connected(), []);
}

#[tokio::test]
async fn what_is_no_message_closes_the_connection() {
    let over = u32::try_from(MAX_PEER_MESSAGE_BYTES + 1).unwrap().to_be_bytes();
    let too_long = "a message of 8650753 bytes, at most 8650752 are allowed";
    is_malformed(&over, None, too_long).await;
    is_malformed(&[], Some(&[&[1], over.as_slice()].concat()), too_long).await;
    is_malformed(&[], Some(&[0]), "a stream of kind 0, expected 1").await;
    is_malformed(&framed(&[]), None, "peer message is empty").await;
    is_malformed(&framed(&[9, 0]), None, "format version 9").await;
    is_malformed(&framed(&[1, 200]), None, "peer message is malformed").await;
}

#[tokio::test]
async fn a_stranger_is_refused_before_any_stream() {
    let mut node = Node::start(1, CHAIN).await;
    let raw = Raw::connect(&node, 2, false).await;
    assert_eq!(raw.closed_for().await, "not in the chain's directory");
    assert!(node.events.try_recv().is_err());
    assert_eq!(node.network.connected(), []);
}

#[tokio::test]
async fn a_wrong_hello_is_refused() {
    let mut newer = super::super::frame::hello(&CHAIN).to_vec();
    newer[0] = 2;
    let other = super::super::frame::hello(&block_chain_common::hash::ChainId::ZERO);
    let cases = [
        (framed(&newer), "protocol version 2, this program speaks 1"),
        (framed(&other), "chain 0000"),
        (framed(&[1, 2, 3]), "a hello of 3 bytes, expected 33"),
    ];
    for (hello, expected) in cases {
        let mut node = Node::start(1, CHAIN).await;
        let raw = Raw::connect(&node, 2, true).await;
        let _stream = raw.open(&[&[0], hello.as_slice()].concat()).await;
        let reason = raw.closed_for().await;
        assert!(reason.starts_with(expected), "{reason}");
        assert!(node.events.try_recv().is_err(), "it never was up");
    }
    let node = Node::start(1, CHAIN).await;
    let raw = Raw::connect(&node, 2, true).await;
    let _stream = raw.open(&[7]).await;
    assert_eq!(raw.closed_for().await, "a stream of kind 7, expected 0");
}

#[tokio::test]
async fn who_says_nothing_is_not_waited_for() {
    let mut node = Node::start(1, CHAIN).await;
    let raw = Raw::connect(&node, 2, true).await;
    within(raw.connection.closed()).await;
    assert!(node.events.try_recv().is_err(), "it never was up");
}

#[tokio::test]
async fn a_peer_that_dies_without_a_word_is_noticed() {
    let mut node = Node::start(1, CHAIN).await;
    // It lives in a runtime of its own, which ends as a killed process does.
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let (die, dead) = tokio::sync::oneshot::channel::<()>();
    let address = node.address();
    node.network.set_directory(vec![PeerAddress {
        key: secret(2).public_key(),
        addresses: Vec::new(),
    }]);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let living = runtime.block_on(async move {
            let endpoint = endpoint(2).await;
            let id = iroh::EndpointId::from_bytes(address.key.as_bytes()).unwrap();
            let target = EndpointAddr::new(id).with_ip_addr(address.addresses[0]);
            let connection = endpoint.connect(target, &alpn(&CHAIN)).await.unwrap();
            let mut stream = connection.open_uni().await.unwrap();
            stream
                .write_all(&[&[0], hello().as_slice()].concat())
                .await
                .unwrap();
            sender.send(()).unwrap();
            dead.await.unwrap();
            (endpoint, connection, stream)
        });
        // No task runs any more, so nothing is said when these go.
        runtime.shutdown_background();
        std::mem::forget(living);
    });
    within(receiver).await.unwrap();
    node.expect_up(secret(2).public_key()).await;
    die.send(()).unwrap();
    thread.join().unwrap();
    let died = std::time::Instant::now();
    let reason = node.expect_down(secret(2).public_key()).await;
    assert!(
        died.elapsed() < 2 * crate::net::transport::IDLE,
        "after {:?}",
        died.elapsed()
    );
    assert!(reason.contains("timed out"), "{reason}");
}

#[tokio::test]
async fn a_promised_length_holds_up_nobody_else() {
    let mut node = Node::start(1, CHAIN).await;
    let raw = Raw::connect(&node, 2, true).await;
    let mut start = [&[0], hello().as_slice()].concat();
    start.extend_from_slice(&u32::try_from(MAX_PEER_MESSAGE_BYTES).unwrap().to_be_bytes());
    let _control = raw.open(&start).await;
    let bulk = [&[1], framed(&encode(&Message::GetMempool)).as_slice()].concat();
    let _bulk = raw.open(&bulk).await;
    node.expect_up(raw.key).await;
    assert_eq!(node.expect_message(raw.key).await, Message::GetMempool);
    raw.endpoint.close().await;
    node.expect_down(raw.key).await;
}
