//! Peers over QUIC (iroh): dialled by public key, encrypted, authenticated, and closed to everybody else.
//!
//! No relays, no discovery: addresses come from the directory that the coordinator keeps, and only keys in it are answered.
//! A pair keeps one connection: the side with the smaller key dials first, and its connection stays where both dialled.
//! Each direction has a stream for small messages, which begins with a hello, and one for bulk, see `frame`. The chain's
//! id is in the ALPN and in the hello, so chains never mix. Queues are bounded by bytes; what does not fit is not sent,
//! and the periodic pull makes up for it. Of each peer the events are `Up`, its messages, `Down`, and so on from there.

mod addressing;
mod book;
mod connection;
mod frame;
#[cfg(test)]
mod tests;
mod transport;

use crate::machine::Message;
use addressing::{addressee, alpn, is_meant_for, reachable};
use block_chain_common::codec::encode_long;
use block_chain_common::hash::ChainId;
use block_chain_common::keys::{PublicKey, SecretKey};
use book::{BACK_OFF, Book};
use bytes::Bytes;
use connection::{Link, Streams, close, greet};
use iroh::endpoint::{ConnectOptions, Connection, Incoming, NetReportConfig, PortmapperConfig, presets};
use iroh::{Endpoint, EndpointAddr, RelayMode};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a connection may take to be made, hellos included.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes from outside that are under way at a time.
const MAX_HANDSHAKES: usize = 32;
/// Peers connected at a time: each may take memory for its queues.
const MAX_CONNECTIONS: usize = 256;
/// How long a peer of another version or chain is let alone.
const MISMATCH: Duration = Duration::from_secs(30);
/// Addresses told to the coordinator, which takes no more.
const MAX_ADDRESSES: usize = 16;

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

struct Peers {
    book: Book,
    links: HashMap<PublicKey, Link>,
    /// Held from a peer's `Up` until its `Down`, so that those of two connections do not mix.
    turns: HashMap<PublicKey, Turn>,
}

type Turn = Arc<tokio::sync::Mutex<()>>;

struct Inner {
    /// Taken out at the end: the port is free when nobody holds it any more.
    endpoint: Mutex<Option<Endpoint>>,
    tasks: TaskTracker,
    me: PublicKey,
    chain: ChainId,
    bind: SocketAddr,
    peers: Mutex<Peers>,
    events: mpsc::Sender<NetEvent>,
    changed: Notify,
    stopping: CancellationToken,
}

/// A connection that is registered, before it runs.
struct Session {
    key: PublicKey,
    id: usize,
    turn: Turn,
    streams: Streams,
}

impl Network {
    /// Listens, and begins to dial whom the directory names.
    ///
    /// # Errors
    /// Where the port cannot be had.
    pub async fn start(config: NetConfig, events: mpsc::Sender<NetEvent>) -> Result<Self, NetError> {
        let NetConfig { secret, chain, bind } = config;
        let refused = |reason: String| NetError { bind, reason };
        let endpoint = Endpoint::builder(presets::Minimal)
            .secret_key(iroh::SecretKey::from_bytes(&secret.seed()))
            .alpns(vec![alpn(&chain)])
            .relay_mode(RelayMode::Disabled)
            .clear_address_lookup()
            .portmapper_config(PortmapperConfig::Disabled)
            .net_report_config(NetReportConfig::minimal())
            .transport_config(transport::config())
            .clear_ip_transports()
            .bind_addr(bind)
            .map_err(|error| refused(error.to_string()))?
            .bind()
            .await
            .map_err(|error| refused(format!("{error:#}")))?;
        let me = secret.public_key();
        let network = Self(Arc::new(Inner {
            endpoint: Mutex::new(Some(endpoint.clone())),
            tasks: TaskTracker::new(),
            me,
            chain,
            bind,
            peers: Mutex::new(Peers {
                book: Book::new(me),
                links: HashMap::new(),
                turns: HashMap::new(),
            }),
            events,
            changed: Notify::new(),
            stopping: CancellationToken::new(),
        }));
        network.0.tasks.spawn(network.clone().accept(endpoint));
        network.0.tasks.spawn(network.clone().dial());
        Ok(network)
    }

    /// Where peers reach this node: what the directory is to say.
    ///
    /// Where it listens on all addresses, those of this machine's interfaces, and the loopback one for workers beside it.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        let Some(endpoint) = self.endpoint() else {
            return Vec::new();
        };
        let bound = endpoint.bound_sockets();
        if !self.0.bind.ip().is_unspecified() {
            return bound;
        }
        let loopback: IpAddr = match self.0.bind {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        let beside = bound
            .first()
            .map(|socket| SocketAddr::new(loopback, socket.port()));
        let mut addresses: Vec<_> = endpoint.addr().ip_addrs().copied().collect();
        addresses.retain(|address| Some(*address) != beside);
        addresses.truncate(MAX_ADDRESSES - 1);
        addresses.extend(beside);
        addresses
    }

    /// Who takes part: only they are dialled and answered; connections to others are closed.
    pub fn set_directory(&self, peers: Vec<PeerAddress>) {
        let mut guard = self.peers();
        let state = &mut *guard;
        if !state.book.set_directory(peers) {
            return;
        }
        let book = &state.book;
        state.links.retain(|key, link| {
            let stays = book.is_listed(key);
            if !stays {
                link.close("not in the chain's directory");
            }
            stays
        });
        state
            .turns
            .retain(|key, turn| book.is_listed(key) || Arc::strong_count(turn) > 1);
        drop(guard);
        self.0.changed.notify_one();
    }

    /// Sends to a peer, without waiting; whether it was taken: not where the peer is not connected or its queue is full.
    pub fn send(&self, peer: &PublicKey, message: &Message) -> bool {
        let bytes = Bytes::from(encode_long(message));
        self.peers()
            .links
            .get(peer)
            .is_some_and(|link| link.queue(message.is_bulk(), &bytes))
    }

    /// Sends to every connected peer.
    pub fn broadcast(&self, message: &Message) {
        let bytes = Bytes::from(encode_long(message));
        for (peer, link) in &self.peers().links {
            if !link.queue(message.is_bulk(), &bytes) {
                tracing::debug!(%peer, "a peer's queue is full: an announcement is left to the pull");
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
        state.book.ban(*peer, Instant::now() + ban);
        if let Some(link) = state.links.remove(peer) {
            link.close(reason);
        }
    }

    /// Closes everything; the port is free when this returns. No event comes after it.
    pub async fn shutdown(&self) {
        self.0.stopping.cancel();
        for (_, link) in self.peers().links.drain() {
            link.close("the node stops");
        }
        let endpoint = self.endpoint_slot().take();
        let mut sockets = Vec::new();
        if let Some(endpoint) = endpoint {
            sockets = endpoint.bound_sockets();
            endpoint.close().await;
        }
        self.0.tasks.close();
        self.0.tasks.wait().await;
        // The library's own tasks let go of the sockets a moment later, and say nothing of it.
        let freed = async {
            while sockets.iter().any(|socket| UdpSocket::bind(socket).is_err()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(1), freed).await.is_err() {
            tracing::debug!("the port is not free yet, or somebody else's already");
        }
    }

    fn endpoint_slot(&self) -> MutexGuard<'_, Option<Endpoint>> {
        self.0.endpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` after the end.
    fn endpoint(&self) -> Option<Endpoint> {
        self.endpoint_slot().clone()
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.0.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn accept(self, endpoint: Endpoint) {
        let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        let me = addressee(&self.0.me);
        while let Some(incoming) = endpoint.accept().await {
            if !is_meant_for(&me, &incoming) {
                incoming.ignore();
                continue;
            }
            let free = handshakes.available_permits();
            if free < MAX_HANDSHAKES / 2 && !incoming.remote_addr_validated() {
                // Under load an address has to be shown to be the sender's own, which costs nothing here.
                if let Err(error) = incoming.retry() {
                    tracing::debug!(%error, "a peer is not asked to try again");
                }
                continue;
            }
            let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else {
                incoming.ignore();
                continue;
            };
            let network = self.clone();
            self.0.tasks.spawn(async move {
                let session = tokio::time::timeout(HANDSHAKE, network.answer(incoming)).await;
                drop(permit);
                if let Ok(Some(session)) = session {
                    network.run(session).await;
                }
            });
        }
    }

    async fn answer(&self, incoming: Incoming) -> Option<Session> {
        let connection = incoming.accept().ok()?.await.ok()?;
        let key = PublicKey::from_bytes(*connection.remote_id().as_bytes());
        let refusal = self.peers().book.refusal(&key, Instant::now());
        match refusal {
            Some(reason) => {
                tracing::debug!(peer = %key, reason, "a peer is not answered");
                close(&connection, reason);
                None
            }
            None => self.establish(key, connection, key < self.0.me).await,
        }
    }

    async fn dial(self) {
        while !self.0.stopping.is_cancelled() {
            for (key, addresses) in self.due() {
                let network = self.clone();
                self.0.tasks.spawn(async move {
                    let session = tokio::time::timeout(HANDSHAKE, network.reach(key, addresses)).await;
                    network.dialled(&key, matches!(session, Ok(Some(_))));
                    if let Ok(Some(session)) = session {
                        network.run(session).await;
                    }
                });
            }
            let next = self.next_attempt();
            tokio::select! {
                () = self.0.changed.notified() => {}
                () = tokio::time::sleep_until(next.into()) => {}
                () = self.0.stopping.cancelled() => {}
            }
        }
    }

    fn due(&self) -> Vec<(PublicKey, Vec<SocketAddr>)> {
        let mut guard = self.peers();
        let Peers { book, links, .. } = &mut *guard;
        book.due(Instant::now(), |key| links.contains_key(key))
    }

    fn next_attempt(&self) -> Instant {
        let guard = self.peers();
        let Peers { book, links, .. } = &*guard;
        let latest = Instant::now() + BACK_OFF.1;
        book.next_attempt(|key| links.contains_key(key))
            .map_or(latest, |next| next.min(latest))
    }

    fn dialled(&self, key: &PublicKey, is_reached: bool) {
        let mut state = self.peers();
        state.book.dialled(key);
        if !is_reached {
            state.book.postpone(*key, Instant::now(), rand::random());
        }
        drop(state);
        self.0.changed.notify_one();
    }

    async fn reach(&self, key: PublicKey, addresses: Vec<SocketAddr>) -> Option<Session> {
        let id = iroh::EndpointId::from_bytes(key.as_bytes()).ok()?;
        let address = reachable(addresses, &self.local_addresses())
            .into_iter()
            .fold(EndpointAddr::new(id), EndpointAddr::with_ip_addr);
        let options = ConnectOptions::new().with_additional_alpns(vec![addressee(&key)]);
        let endpoint = self.endpoint()?;
        let protocol = alpn(&self.0.chain);
        let connected = async {
            let connecting = endpoint.connect_with_opts(address, &protocol, options).await;
            let connecting = connecting.map_err(|error| error.to_string())?;
            connecting.await.map_err(|error| error.to_string())
        };
        let connection = connected
            .await
            .inspect_err(|error| tracing::debug!(peer = %key, error, "a peer cannot be reached"))
            .ok()?;
        self.establish(key, connection, self.0.me < key).await
    }

    /// Exchanges hellos, and makes this the peer's connection where there is no better one.
    async fn establish(&self, key: PublicKey, connection: Connection, is_preferred: bool) -> Option<Session> {
        let (link, streams) = match greet(connection.clone(), self.0.chain, is_preferred).await {
            Ok(greeted) => greeted,
            Err(error) => {
                let reason = error.to_string();
                if error.is_malformed() {
                    self.drop_peer(&key, &reason, MISMATCH);
                }
                tracing::debug!(peer = %key, reason, "a peer said no hello");
                close(&connection, &reason);
                return None;
            }
        };
        let id = link.id();
        match self.register(key, link, &connection) {
            Ok(turn) => Some(Session {
                key,
                id,
                turn,
                streams,
            }),
            Err(reason) => {
                tracing::debug!(peer = %key, reason, "a connection is not kept");
                close(&connection, reason);
                None
            }
        }
    }

    fn register(&self, key: PublicKey, link: Link, connection: &Connection) -> Result<Turn, &'static str> {
        let mut guard = self.peers();
        let state = &mut *guard;
        if self.0.stopping.is_cancelled() {
            return Err("the node stops");
        }
        if let Some(reason) = state.book.refusal(&key, Instant::now()) {
            return Err(reason);
        }
        if connection.close_reason().is_some() {
            return Err("closed already");
        }
        match state.links.get(&key) {
            Some(old) if !old.yields_to(&link) => return Err("another connection is open"),
            Some(old) => old.close("another connection took its place"),
            None if state.links.len() >= MAX_CONNECTIONS => return Err("too many connections"),
            None => {}
        }
        state.links.insert(key, link);
        Ok(Arc::clone(state.turns.entry(key).or_default()))
    }

    async fn run(&self, session: Session) {
        let Session {
            key,
            id,
            turn,
            streams,
        } = session;
        let running = async {
            let turn = turn.lock_owned().await;
            let began = Instant::now();
            let reason = match self.0.events.send(NetEvent::Up(key)).await {
                Ok(()) => streams.run(key, &self.0.events).await,
                Err(_) => "the node stops".to_owned(),
            };
            self.forget(key, id, began.elapsed());
            if self.0.events.send(NetEvent::Down(key, reason)).await.is_err() {
                tracing::debug!("the node stops");
            }
            drop(turn);
        };
        tokio::select! {
            () = running => {}
            () = self.0.stopping.cancelled() => {}
        }
    }

    /// Takes a connection that ended off the list. One that did not last long counts as an attempt that failed.
    fn forget(&self, key: PublicKey, id: usize, lasted: Duration) {
        let mut guard = self.peers();
        let state = &mut *guard;
        if state.links.get(&key).is_some_and(|link| link.id() == id) {
            state.links.remove(&key);
            if lasted < BACK_OFF.1 {
                state.book.postpone(key, Instant::now(), rand::random());
            } else {
                state.book.forgive(&key);
            }
        }
        drop(guard);
        self.0.changed.notify_one();
    }
}
