//! Networks in one process, on loopback; and bare endpoints that break the rules. Everything is awaited, with a limit.

mod hostile;
mod messages;
mod pairs;
mod rate;

use super::{NetEvent, Network, PeerAddress, Port};
use crate::machine::Message;
use block_chain_common::hash::ChainId;
use block_chain_common::keys::{PublicKey, SecretKey};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::sync::mpsc;

/// Longer than any event takes, on a machine with other things to do.
const LIMIT: Duration = Duration::from_secs(30);
const CHAIN: ChainId = ChainId::from_bytes([7; 32]);
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

struct Node {
    key: PublicKey,
    port: Port,
    network: Network,
    events: mpsc::Receiver<NetEvent>,
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LIMIT, future).await.expect("takes too long")
}

fn secret(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

/// Two seeds of which the first has the smaller key: the one that dials.
fn seeds() -> (u8, u8) {
    if secret(1).public_key() < secret(2).public_key() {
        (1, 2)
    } else {
        (2, 1)
    }
}

impl Node {
    async fn start(seed: u8, chain: ChainId) -> Self {
        Self::start_with(seed, chain, 64).await
    }

    async fn start_with(seed: u8, chain: ChainId, events: usize) -> Self {
        let (sender, events) = mpsc::channel(events);
        let port = Port::open(&secret(seed), ANY_PORT).await.unwrap();
        let network = Network::start(&port, chain, sender);
        Self {
            port,
            key: secret(seed).public_key(),
            network,
            events,
        }
    }

    /// Two that know each other, connected.
    async fn pair() -> (Self, Self) {
        let (small, great) = seeds();
        let (mut a, mut b) = (Self::start(small, CHAIN).await, Self::start(great, CHAIN).await);
        a.knows(&[&b]);
        b.knows(&[&a]);
        a.expect_up(b.key).await;
        b.expect_up(a.key).await;
        (a, b)
    }

    fn address(&self) -> PeerAddress {
        PeerAddress {
            key: self.key,
            addresses: self.network.local_addresses(),
        }
    }

    fn knows(&self, others: &[&Self]) {
        self.network
            .set_directory(others.iter().map(|other| other.address()).collect());
    }

    async fn next(&mut self) -> NetEvent {
        within(self.events.recv()).await.expect("the network runs")
    }

    async fn expect_up(&mut self, peer: PublicKey) {
        match self.next().await {
            NetEvent::Up(key) => assert_eq!(key, peer),
            other => panic!("{other:?}"),
        }
    }

    async fn expect_down(&mut self, peer: PublicKey) -> String {
        match self.next().await {
            NetEvent::Down(key, reason) => {
                assert_eq!(key, peer);
                reason
            }
            other => panic!("{other:?}"),
        }
    }

    async fn expect_message(&mut self, peer: PublicKey) -> Message {
        match self.next().await {
            NetEvent::Message(key, message) => {
                assert_eq!(key, peer);
                message
            }
            other => panic!("{other:?}"),
        }
    }
}
