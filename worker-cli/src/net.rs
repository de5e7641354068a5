//! Peers over QUIC (iroh): dialled by public key, encrypted, authenticated, and closed to everybody else.
//!
//! No relays, no discovery: addresses come from the directory that the coordinator keeps, and only keys in it are answered.
//! A pair keeps one connection: the side with the smaller key dials first, and its connection stays where both dialled.
//! Each direction has a stream for small messages, which begins with a hello, and one for bulk, see `frame`. The chains of a
//! node share a [`Port`], and nothing else: the chain's id is in the ALPN and in the hello, and a pair has a connection for
//! each chain that both are in, with windows and queues of its own, so chains never mix, and none holds up another. Queues are bounded by bytes; what does not fit is not sent,
//! and the periodic pull makes up for it. Of each peer the events are `Up`, its messages, `Down`, and so on from there.

mod addressing;
mod book;
mod connection;
mod frame;
mod port;
#[cfg(test)]
mod tests;
mod transport;

use crate::machine::Message;
use addressing::{addressee, alpn, reachable};
use block_chain_common::codec::encode_long;
use block_chain_common::hash::ChainId;
use block_chain_common::keys::PublicKey;
use book::{BACK_OFF, Book};
use bytes::Bytes;
use connection::{Link, Streams, close, greet};
use iroh::EndpointAddr;
pub use iroh::RelayUrl;
use iroh::endpoint::{ConnectOptions, Connection};
pub use port::{NetError, Port};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a connection may take to be made, hellos included.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Peers connected at a time: each may take memory for its queues.
const MAX_CONNECTIONS: usize = 256;
/// How long a peer of another version or chain is let alone.
const MISMATCH: Duration = Duration::from_secs(30);

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

/// A chain's network. Cheap to clone.
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
    port: Port,
    tasks: TaskTracker,
    me: PublicKey,
    chain: ChainId,
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
    /// Begins to answer a chain's peers on a port, and to dial whom the directory names.
    pub fn start(port: &Port, chain: ChainId, events: mpsc::Sender<NetEvent>) -> Self {
        let me = port.key();
        let network = Self(Arc::new(Inner {
            port: port.clone(),
            tasks: TaskTracker::new(),
            me,
            chain,
            peers: Mutex::new(Peers {
                book: Book::new(me),
                links: HashMap::new(),
                turns: HashMap::new(),
            }),
            events,
            changed: Notify::new(),
            stopping: CancellationToken::new(),
        }));
        port.serve(chain, network.clone());
        network.0.tasks.spawn(network.clone().dial());
        network
    }

    /// Where peers reach this node: what the directory is to say.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.0.port.local_addresses()
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

    /// Those of the connected peers that are reached through the relay alone.
    #[must_use]
    pub fn relayed(&self) -> Vec<PublicKey> {
        let state = self.peers();
        let relayed = state.links.iter().filter(|(_, link)| link.is_relayed());
        relayed.map(|(key, _)| *key).collect()
    }

    /// Peers that are not reached otherwise are met at this relay from now on: those of all chains of the port.
    pub fn set_relay(&self, relay: Option<RelayUrl>) {
        self.0.port.set_relay(relay);
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

    /// Closes the chain's connections. No event comes after it.
    pub async fn shutdown(&self) {
        self.0.stopping.cancel();
        self.0.port.serve_no_more(&self.0.chain);
        for (_, link) in self.peers().links.drain() {
            link.close("the node stops");
        }
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.0.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection from outside that is for this chain, in a task of its own.
    fn take(&self, connection: Connection, handshake: OwnedSemaphorePermit) {
        let network = self.clone();
        self.0.tasks.spawn(async move {
            let session = tokio::time::timeout(HANDSHAKE, network.answer(connection)).await;
            drop(handshake);
            if let Ok(Some(session)) = session {
                network.run(session).await;
            }
        });
    }

    async fn answer(&self, connection: Connection) -> Option<Session> {
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
        let address = self
            .0
            .port
            .relay()
            .into_iter()
            .fold(address, EndpointAddr::with_relay_url);
        let options = ConnectOptions::new().with_additional_alpns(vec![addressee(&key)]);
        let endpoint = self.0.port.endpoint()?;
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
