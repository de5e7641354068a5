//! Peers over QUIC (iroh): dialled by public key, encrypted, authenticated, and closed to everybody else.
//!
//! No relays, no discovery: addresses come from the directory that the coordinator keeps, and only keys in it are answered.
//! Of two workers the one with the smaller key dials, so a pair has one connection. Each direction has a stream for small
//! messages and one for bulk, of frames `length (u32, big-endian) ‖ encoded message`. The chain's id is in the ALPN, so
//! chains never mix. Queues are bounded by bytes; what does not fit is not sent, and the periodic pull makes up for it.

mod connection;

use crate::machine::Message;
use block_chain_common::codec::encode;
use block_chain_common::hash::ChainId;
use block_chain_common::keys::{PublicKey, SecretKey};
use block_chain_common::limits::MAX_PEERS_ASKED;
use connection::Link;
use iroh::endpoint::{Connection, QuicTransportConfig, VarInt, presets};
use iroh::{Endpoint, EndpointAddr, RelayMode};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore, mpsc};

/// A peer that says nothing for so long is gone.
const IDLE: Duration = Duration::from_secs(6);
/// How often a silent connection shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_millis(1_500);
/// How long a connection may take to be made.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// The first and the longest pause between two attempts to reach a peer.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Handshakes from outside that are under way at a time.
const MAX_HANDSHAKES: usize = 32;
/// What may be on its way on one connection: two of the largest blocks.
const WINDOW_BYTES: u32 = 16 * 1_048_576;

/// What the network needs to start.
pub struct NetConfig {
    /// The worker's key: its address on the network.
    pub secret: SecretKey,
    /// The chain.
    pub chain: ChainId,
    /// Where to listen (UDP).
    pub bind: SocketAddr,
}

/// A peer of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    /// Its key.
    pub key: PublicKey,
    /// Where it may be reached.
    pub addresses: Vec<SocketAddr>,
}

/// What happens on the network.
#[derive(Debug)]
pub enum NetEvent {
    /// A peer is connected.
    Up(PublicKey),
    /// A peer is gone, and why.
    Down(PublicKey, String),
    /// A peer said something.
    Message(PublicKey, Message),
    /// A peer sent what is no message; its connection is closed.
    Malformed(PublicKey, String),
}

/// Why the network cannot start.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for peers on {bind}: {reason}")]
pub struct NetError {
    bind: SocketAddr,
    reason: String,
}

/// The network. Cheap to clone.
#[derive(Clone)]
pub struct Network(Arc<Inner>);

struct Attempts {
    next: Instant,
    pause: Duration,
}

#[derive(Default)]
struct Peers {
    directory: BTreeMap<PublicKey, Vec<SocketAddr>>,
    links: HashMap<PublicKey, Link>,
    banned: HashMap<PublicKey, Instant>,
    attempts: HashMap<PublicKey, Attempts>,
    dialling: HashSet<PublicKey>,
}

struct Inner {
    endpoint: Endpoint,
    me: PublicKey,
    bind: SocketAddr,
    alpn: Vec<u8>,
    peers: Mutex<Peers>,
    events: mpsc::Sender<NetEvent>,
    changed: Notify,
}

impl Network {
    /// Listens, and begins to dial whom the directory names.
    ///
    /// # Errors
    /// Where the port cannot be had.
    pub async fn start(config: NetConfig, events: mpsc::Sender<NetEvent>) -> Result<Self, NetError> {
        let bind = config.bind;
        let refused = |reason: String| NetError { bind, reason };
        let alpn = format!("block-chain/1/{}", config.chain).into_bytes();
        let builder = Endpoint::builder(presets::Minimal)
            .secret_key(iroh::SecretKey::from_bytes(&config.secret.seed()))
            .alpns(vec![alpn.clone()])
            .relay_mode(RelayMode::Disabled)
            .clear_address_lookup()
            .transport_config(transport())
            .clear_ip_transports()
            .bind_addr(bind)
            .map_err(|error| refused(error.to_string()))?;
        let endpoint = builder
            .bind()
            .await
            .map_err(|error| refused(format!("{error:?}")))?;
        let inner = Inner {
            endpoint,
            me: config.secret.public_key(),
            bind,
            alpn,
            peers: Mutex::new(Peers::default()),
            events,
            changed: Notify::new(),
        };
        let network = Self(Arc::new(inner));
        tokio::spawn(network.clone().accept());
        tokio::spawn(network.clone().dial());
        Ok(network)
    }

    /// Where peers reach this node: what the directory is to say.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        if self.0.bind.ip().is_unspecified() {
            let known: Vec<SocketAddr> = self.0.endpoint.addr().ip_addrs().copied().collect();
            if !known.is_empty() {
                return known;
            }
        }
        self.0.endpoint.bound_sockets()
    }

    /// Who takes part: only they are dialled and answered; connections to others are closed.
    pub fn set_directory(&self, peers: Vec<PeerAddress>) {
        let directory: BTreeMap<_, _> = peers
            .into_iter()
            .filter(|peer| peer.key != self.0.me)
            .map(|peer| (peer.key, peer.addresses))
            .collect();
        let mut guard = self.peers();
        let state = &mut *guard;
        if state.directory == directory {
            return;
        }
        let before = &state.directory;
        state
            .attempts
            .retain(|key, _| before.get(key) == directory.get(key));
        state.links.retain(|key, link| {
            let stays = directory.contains_key(key);
            if !stays {
                link.close("not in the chain's directory");
            }
            stays
        });
        state.directory = directory;
        drop(guard);
        self.0.changed.notify_one();
    }

    /// Sends to a peer, without waiting; whether it was taken: not where the peer is not connected or its queue is full.
    pub fn send(&self, peer: &PublicKey, message: &Message) -> bool {
        let bytes = encode(message);
        self.peers()
            .links
            .get(peer)
            .is_some_and(|link| link.queue(message.is_bulk(), &bytes.into()))
    }

    /// Sends to every connected peer.
    pub fn broadcast(&self, message: &Message) {
        let bytes: Arc<[u8]> = encode(message).into();
        for link in self.peers().links.values() {
            if !link.queue(message.is_bulk(), &bytes) {
                tracing::debug!("a peer's queue is full: an announcement is left to the pull");
            }
        }
    }

    /// The connected peers.
    #[must_use]
    pub fn connected(&self) -> Vec<PublicKey> {
        self.peers().links.keys().copied().collect()
    }

    /// Closes the connection to a peer that broke a rule, and has nothing to do with it for a while.
    pub fn drop_peer(&self, peer: &PublicKey, reason: &str, ban: Duration) {
        tracing::warn!(%peer, reason, "a peer is dropped");
        let mut state = self.peers();
        state.banned.insert(*peer, Instant::now() + ban);
        if let Some(link) = state.links.remove(peer) {
            link.close(reason);
        }
    }

    /// Closes everything; the port is free when this returns.
    pub async fn shutdown(&self) {
        self.0.endpoint.close().await;
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.0.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_welcome(&self, key: &PublicKey) -> bool {
        let mut state = self.peers();
        state.banned.retain(|_, until| *until > Instant::now());
        state.directory.contains_key(key) && !state.banned.contains_key(key)
    }

    async fn accept(self) {
        let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        while let Some(incoming) = self.0.endpoint.accept().await {
            let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else {
                incoming.ignore();
                continue;
            };
            let network = self.clone();
            tokio::spawn(async move {
                let connected =
                    tokio::time::timeout(HANDSHAKE, async { incoming.accept().ok()?.await.ok() }).await;
                drop(permit);
                if let Ok(Some(connection)) = connected {
                    network.welcome(connection).await;
                }
            });
        }
    }

    async fn welcome(self, connection: Connection) {
        let key = PublicKey::from_bytes(*connection.remote_id().as_bytes());
        if self.is_welcome(&key) {
            self.run(key, connection).await;
        } else {
            connection.close(VarInt::from_u32(1), b"not in the chain's directory");
        }
    }

    async fn dial(self) {
        loop {
            for (key, addresses) in self.due() {
                let network = self.clone();
                tokio::spawn(async move {
                    let connected = network.connect(&key, addresses).await;
                    network.peers().dialling.remove(&key);
                    match connected {
                        Some(connection) => network.run(key, connection).await,
                        None => network.postpone(key),
                    }
                });
            }
            if self.0.endpoint.is_closed() {
                return;
            }
            // Woken by a new directory; else the back-off decides.
            tokio::select! {
                () = self.0.changed.notified() => {}
                () = tokio::time::sleep(BACK_OFF.0) => {}
            }
        }
    }

    /// Whom to dial now: at most ten at a time.
    fn due(&self) -> Vec<(PublicKey, Vec<SocketAddr>)> {
        let now = Instant::now();
        let mut state = self.peers();
        let room = MAX_PEERS_ASKED.saturating_sub(state.dialling.len());
        let mut due: Vec<(PublicKey, Vec<SocketAddr>)> = state
            .directory
            .iter()
            .filter(|(key, addresses)| **key > self.0.me && !addresses.is_empty())
            .filter(|(key, _)| !state.links.contains_key(key) && !state.dialling.contains(key))
            .filter(|(key, _)| state.banned.get(key).is_none_or(|until| *until <= now))
            .filter(|(key, _)| {
                state
                    .attempts
                    .get(key)
                    .is_none_or(|attempts| attempts.next <= now)
            })
            .map(|(key, addresses)| (*key, addresses.clone()))
            .collect();
        rand::seq::SliceRandom::shuffle(due.as_mut_slice(), &mut rand::rng());
        due.truncate(room);
        state.dialling.extend(due.iter().map(|(key, _)| *key));
        due
    }

    async fn connect(&self, key: &PublicKey, addresses: Vec<SocketAddr>) -> Option<Connection> {
        let id = iroh::EndpointId::from_bytes(key.as_bytes()).ok()?;
        let address = addresses
            .into_iter()
            .fold(EndpointAddr::new(id), EndpointAddr::with_ip_addr);
        let connecting = self.0.endpoint.connect(address, &self.0.alpn);
        match tokio::time::timeout(HANDSHAKE, connecting).await {
            Ok(Ok(connection)) => Some(connection),
            Ok(Err(error)) => {
                tracing::debug!(peer = %key, %error, "a peer cannot be reached");
                None
            }
            Err(_) => None,
        }
    }

    fn postpone(&self, key: PublicKey) {
        let mut state = self.peers();
        let attempts = state.attempts.entry(key).or_insert(Attempts {
            next: Instant::now(),
            pause: BACK_OFF.0,
        });
        // A random half, so that nodes that lost each other do not meet at the same moments only.
        attempts.next = Instant::now() + attempts.pause.mul_f64(0.5 + rand::random::<f64>() / 2.0);
        attempts.pause = (attempts.pause * 2).min(BACK_OFF.1);
    }

    async fn run(&self, key: PublicKey, connection: Connection) {
        let (link, streams) = Link::new(connection.clone());
        let id = connection.stable_id();
        self.remember(key, link);
        let up = self.0.events.send(NetEvent::Up(key)).await;
        let reason = match up {
            Ok(()) => streams.run(key, &connection, &self.0.events).await,
            Err(_) => "the node stops".to_owned(),
        };
        connection.close(VarInt::from_u32(0), b"");
        if self.forget(&key, id) && self.0.events.send(NetEvent::Down(key, reason)).await.is_err() {
            tracing::debug!("the node stops");
        }
    }
}

impl Network {
    /// Takes a connection that ended off the list; whether it was the peer's current one.
    fn forget(&self, key: &PublicKey, id: usize) -> bool {
        let mut state = self.peers();
        let is_current = state.links.get(key).is_none_or(|link| link.id() == id);
        state.links.retain(|other, link| other != key || link.id() != id);
        // It was reached: the next attempt comes at once.
        state.attempts.remove(key);
        is_current
    }

    /// Makes this the peer's current connection.
    fn remember(&self, key: PublicKey, link: Link) {
        if let Some(old) = self.peers().links.insert(key, link) {
            old.close("another connection took its place");
        }
    }
}

fn transport() -> QuicTransportConfig {
    let window = VarInt::from_u32(WINDOW_BYTES);
    let builder = QuicTransportConfig::builder()
        .keep_alive_interval(KEEP_ALIVE)
        .stream_receive_window(window)
        .receive_window(VarInt::from_u32(WINDOW_BYTES * 2))
        .send_window(u64::from(WINDOW_BYTES) * 2)
        .max_concurrent_uni_streams(VarInt::from_u32(2))
        .max_concurrent_bidi_streams(VarInt::from_u32(0));
    match IDLE.try_into() {
        Ok(idle) => builder.max_idle_timeout(Some(idle)).build(),
        Err(_) => builder.build(),
    }
}
