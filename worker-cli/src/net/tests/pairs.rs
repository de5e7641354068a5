//! Who is connected to whom, and until when.

use super::{ANY_PORT, CHAIN, Node, secret, seeds, within};
use crate::machine::Message;
use crate::net::{NetEvent, Network, Port};
use block_chain_common::hash::ChainId;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;

#[test]
fn a_key_is_the_same_for_both_libraries() {
    for seed in 0..=50 {
        let theirs = iroh::SecretKey::from_bytes(&secret(seed).seed()).public();
        assert_eq!(theirs.as_bytes(), secret(seed).public_key().as_bytes());
    }
}

#[tokio::test]
async fn addresses_are_where_it_listens() {
    let node = Node::start(1, CHAIN).await;
    let addresses = node.network.local_addresses();
    assert_eq!(addresses.len(), 1);
    assert!(addresses[0].ip().is_loopback() && addresses[0].port() != 0);

    let everywhere = Port::open(&secret(1), "0.0.0.0:0".parse().unwrap())
        .await
        .unwrap();
    let addresses = everywhere.local_addresses();
    assert!(addresses.len() <= 16, "the coordinator takes no more");
    assert!(addresses.iter().all(|address| !address.ip().is_unspecified()));
    let port = addresses[0].port();
    assert!(port != 0 && addresses.contains(&SocketAddr::new(ANY_PORT.ip(), port)));
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let node = Node::start(1, CHAIN).await;
    let bind = node.network.local_addresses()[0];
    let error = Port::open(&secret(2), bind).await.err().unwrap();
    let start = format!("cannot listen for peers on {bind}: ");
    assert!(error.to_string().starts_with(&start), "{error}");
}

#[tokio::test]
async fn the_port_is_free_after_the_end() {
    let (a, mut b) = Node::pair().await;
    let bind = a.network.local_addresses()[0];
    within(a.port.shutdown()).await;
    assert!(b.expect_down(a.key).await.contains("the node stops"));
    std::net::UdpSocket::bind(bind).unwrap();
    assert_eq!(a.network.connected(), []);
    assert!(!a.network.send(&b.key, &Message::GetMempool));
}

#[tokio::test]
async fn the_greater_key_dials_where_the_smaller_cannot() {
    let (small, great) = seeds();
    let (mut a, mut b) = (Node::start(small, CHAIN).await, Node::start(great, CHAIN).await);
    let mut unreachable = b.address();
    unreachable.addresses.clear();
    a.network.set_directory(vec![unreachable]);
    b.knows(&[&a]);
    a.expect_up(b.key).await;
    b.expect_up(a.key).await;
}

#[tokio::test]
async fn of_two_connections_one_stays() {
    let (mut a, mut b) = Node::pair().await;
    // The other side dials too, as it does where it cannot know yet that it is connected.
    let reached = within(b.network.reach(a.key, a.network.local_addresses())).await;
    if let Some(session) = reached {
        // Its greeting was faster than the refusal: it registers nothing, for the one it has is preferred.
        panic!("a second connection is kept: {}", session.id);
    }
    assert!(a.network.send(&b.key, &Message::GetMempool));
    assert_eq!(b.expect_message(a.key).await, Message::GetMempool);
    // The preferred side's newer connection takes the old one's place, on both sides.
    let session = within(a.network.reach(b.key, b.network.local_addresses()))
        .await
        .unwrap();
    let network = a.network.clone();
    tokio::spawn(async move { network.run(session).await });
    for (node, peer) in [(&mut a, b.key), (&mut b, secret(seeds().0).public_key())] {
        let reason = node.expect_down(peer).await;
        assert!(reason.contains("another connection took its place"), "{reason}");
        node.expect_up(peer).await;
        assert_eq!(node.network.connected(), [peer]);
    }
    assert!(b.network.send(&a.key, &Message::GetMempool));
    assert_eq!(a.expect_message(b.key).await, Message::GetMempool);
}

#[tokio::test]
async fn two_that_dial_at_once_end_with_one_connection() {
    let (small, great) = seeds();
    let (mut a, mut b) = (Node::start(small, CHAIN).await, Node::start(great, CHAIN).await);
    // Both are in the directory without an address, so that only the test dials.
    let silent = |node: &Node| crate::net::PeerAddress {
        key: node.key,
        addresses: Vec::new(),
    };
    a.network.set_directory(vec![silent(&b)]);
    b.network.set_directory(vec![silent(&a)]);
    let dial = |from: &Node, to: &Node| {
        let (network, key, addresses) = (from.network.clone(), to.key, to.network.local_addresses());
        async move {
            if let Some(session) = network.reach(key, addresses).await {
                network.run(session).await;
            }
        }
    };
    tokio::spawn(dial(&a, &b));
    tokio::spawn(dial(&b, &a));
    // Whatever came up first and went again, the last word is the preferred connection's, on which both agree.
    let settled = async {
        let mut last = (None, None);
        loop {
            if last == (Some(true), Some(true)) {
                let (from_a, from_b) = (a.link_preferred(&b), b.link_preferred(&a));
                if from_a == Some(true) && from_b == Some(true) {
                    return;
                }
            }
            tokio::select! {
                event = a.events.recv() => last.0 = Some(matches!(event, Some(NetEvent::Up(_)))),
                event = b.events.recv() => last.1 = Some(matches!(event, Some(NetEvent::Up(_)))),
            }
        }
    };
    within(settled).await;
    assert!(a.network.send(&b.key, &Message::GetMempool));
    // What it was told of the connection that gave way may still wait before the message.
    let message = loop {
        match b.next().await {
            NetEvent::Message(from, message) if from == a.key => break message,
            NetEvent::Up(_) | NetEvent::Down(..) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(message, Message::GetMempool);
}

impl Node {
    fn link_preferred(&self, other: &Self) -> Option<bool> {
        let peers = self.network.peers();
        peers.links.get(&other.key).map(super::super::Link::is_preferred)
    }
}

#[tokio::test]
async fn a_restarted_peer_on_another_port_is_found_by_the_new_directory() {
    let (mut a, b) = Node::pair().await;
    let (_, great) = seeds();
    let before = b.network.local_addresses();
    within(b.port.shutdown()).await;
    a.expect_down(b.key).await;
    drop(b);
    let mut again = Node::start(great, CHAIN).await;
    assert_ne!(again.network.local_addresses(), before);
    again.knows(&[&a]);
    a.knows(&[&again]);
    again.expect_up(a.key).await;
    a.expect_up(again.key).await;
    assert!(again.network.send(&a.key, &Message::GetMempool));
    assert_eq!(a.expect_message(again.key).await, Message::GetMempool);
}

#[tokio::test]
async fn addresses_that_lead_elsewhere_do_not_hide_the_right_one() {
    let (small, great) = seeds();
    let (mut a, mut b) = (Node::start(small, CHAIN).await, Node::start(great, CHAIN).await);
    let other = Node::start(3, CHAIN).await;
    let mut mixed = b.address();
    // This node's own, another's, one that never answers.
    for node in [&a, &other] {
        mixed.addresses.insert(0, node.network.local_addresses()[0]);
    }
    mixed.addresses.push("127.0.0.1:9".parse().unwrap());
    a.network.set_directory(vec![mixed]);
    let mut nameless = a.address();
    nameless.addresses.clear();
    b.network.set_directory(vec![nameless]);
    a.expect_up(b.key).await;
    b.expect_up(a.key).await;
}

#[test]
fn loopback_is_for_peers_without_another_address() {
    let parse =
        |texts: &[&str]| -> Vec<SocketAddr> { texts.iter().map(|text| text.parse().unwrap()).collect() };
    let own = parse(&["172.17.0.1:5", "127.0.0.1:5"]);
    let cases: [(&[&str], &[&str]); 4] = [
        (&["10.0.0.2:5", "172.17.0.1:5", "127.0.0.1:5"], &["10.0.0.2:5"]),
        (&["10.0.0.2:5", "127.0.0.1:6"], &["10.0.0.2:5"]),
        (&["127.0.0.1:6", "[::1]:6"], &["127.0.0.1:6", "[::1]:6"]),
        (&["172.17.0.1:5", "127.0.0.1:6"], &["127.0.0.1:6"]),
    ];
    for (addresses, expected) in cases {
        assert_eq!(crate::net::reachable(parse(addresses), &own), parse(expected));
    }
}

#[tokio::test]
async fn who_leaves_the_directory_is_closed() {
    let (mut a, mut b) = Node::pair().await;
    a.network.set_directory(Vec::new());
    let reason = "not in the chain's directory";
    assert_eq!(a.expect_down(b.key).await, reason);
    assert!(b.expect_down(a.key).await.contains(reason));
    assert_eq!(a.network.connected(), []);
    a.knows(&[&b]);
    a.expect_up(b.key).await;
    b.expect_up(a.key).await;
}

#[tokio::test]
async fn who_is_dropped_is_banned() {
    let (mut a, mut b) = Node::pair().await;
    a.network
        .drop_peer(&b.key, "it lied", Duration::from_millis(1_500));
    let dropped = std::time::Instant::now();
    assert_eq!(a.expect_down(b.key).await, "it lied");
    assert!(b.expect_down(a.key).await.contains("it lied"));
    let refused = within(b.network.reach(a.key, a.network.local_addresses())).await;
    assert!(refused.is_none() || dropped.elapsed() > Duration::from_millis(1_500));
    a.expect_up(b.key).await;
    assert!(dropped.elapsed() >= Duration::from_millis(1_500));
}

#[tokio::test]
async fn chains_never_mix() {
    let (small, great) = seeds();
    let a = Node::start(small, CHAIN).await;
    let b = Node::start(great, ChainId::from_bytes([8; 32])).await;
    a.knows(&[&b]);
    b.knows(&[&a]);
    assert!(
        within(a.network.reach(b.key, b.network.local_addresses()))
            .await
            .is_none()
    );
    assert!(
        within(b.network.reach(a.key, a.network.local_addresses()))
            .await
            .is_none()
    );
    assert_eq!((a.network.connected(), b.network.connected()), (vec![], vec![]));
}

#[tokio::test]
async fn a_dozen_connect_to_each_other() {
    let mut nodes = Vec::new();
    for seed in 1..=12 {
        nodes.push(Node::start(seed, CHAIN).await);
    }
    let all: Vec<_> = nodes.iter().map(Node::address).collect();
    for node in &nodes {
        node.network.set_directory(all.clone());
    }
    for node in &mut nodes {
        while node.network.connected().len() < all.len() - 1 {
            assert!(!matches!(
                node.next().await,
                NetEvent::Message(..) | NetEvent::Malformed(..)
            ));
        }
    }
}

#[tokio::test]
async fn chains_share_a_port_and_nothing_else() {
    const OTHER: ChainId = ChainId::from_bytes([8; 32]);
    let (mut a, mut b) = Node::pair().await;
    // Only one of them is in the other chain: it is not answered there.
    let (sender, mut a_events) = mpsc::channel(64);
    let a_other = Network::start(&a.port, OTHER, sender);
    a_other.set_directory(vec![b.address()]);
    let (sender, mut b_events) = mpsc::channel(64);
    let b_other = Network::start(&b.port, OTHER, sender);
    b_other.set_directory(vec![a.address()]);
    assert!(matches!(within(a_events.recv()).await, Some(NetEvent::Up(key)) if key == b.key));
    assert!(matches!(within(b_events.recv()).await, Some(NetEvent::Up(key)) if key == a.key));
    assert_eq!(a_other.local_addresses(), a.network.local_addresses());

    assert!(a_other.send(&b.key, &Message::GetMempool));
    let heard = within(b_events.recv()).await;
    assert!(matches!(heard, Some(NetEvent::Message(key, Message::GetMempool)) if key == a.key));

    // One chain is left: the other goes on, on the connection that it had.
    within(b_other.shutdown()).await;
    assert!(matches!(within(a_events.recv()).await, Some(NetEvent::Down(key, _)) if key == b.key));
    assert!(a.network.send(&b.key, &Message::GetMempool));
    assert_eq!(b.expect_message(a.key).await, Message::GetMempool);
    assert!(b.network.send(&a.key, &Message::GetMempool));
    assert_eq!(a.expect_message(b.key).await, Message::GetMempool);
    assert_eq!(a_other.connected(), []);
}
