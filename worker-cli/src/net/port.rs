//! The UDP port that the chains of a node share: one QUIC endpoint, on which the ALPN of a connection names its chain.

use super::addressing::{addressee, alpn, is_meant_for};
use super::{HANDSHAKE, Network, transport};
use block_chain_common::hash::ChainId;
use block_chain_common::keys::{PublicKey, SecretKey};
use iroh::endpoint::{Incoming, NetReportConfig, PortmapperConfig, presets};
use iroh::{Endpoint, RelayConfig, RelayMap, RelayMode, RelayUrl};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

/// Handshakes from outside that are under way at a time.
const MAX_HANDSHAKES: usize = 64;
/// Addresses told to the coordinator, which takes no more.
const MAX_ADDRESSES: usize = 16;

/// Why the network cannot start.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for peers on {bind}: {reason}")]
pub struct NetError {
    bind: SocketAddr,
    reason: String,
}

/// The port. Cheap to clone.
#[derive(Clone)]
pub struct Port(Arc<Inner>);

struct Inner {
    /// Taken out at the end: the port is free when nobody holds it any more.
    endpoint: Mutex<Option<Endpoint>>,
    me: PublicKey,
    bind: SocketAddr,
    chains: RwLock<HashMap<Vec<u8>, Network>>,
    tasks: TaskTracker,
    relay: Mutex<Option<RelayUrl>>,
}

impl Port {
    /// Listens with a worker's key; no chain is answered yet.
    ///
    /// # Errors
    /// Where the port cannot be had.
    pub async fn open(secret: &SecretKey, bind: SocketAddr) -> Result<Self, NetError> {
        let refused = |reason: String| NetError { bind, reason };
        // The relay, where there is one, is asked over HTTP whether it is there: it speaks no QUIC itself.
        let mut probes = NetReportConfig::minimal();
        probes.https_probes = true;
        let endpoint = Endpoint::builder(presets::Minimal)
            .secret_key(iroh::SecretKey::from_bytes(&secret.seed()))
            // None but the one that the coordinator serves.
            .relay_mode(RelayMode::Custom(RelayMap::empty()))
            .clear_address_lookup()
            .portmapper_config(PortmapperConfig::Disabled)
            .net_report_config(probes)
            .transport_config(transport::config())
            .clear_ip_transports()
            .bind_addr(bind)
            .map_err(|error| refused(error.to_string()))?
            .bind()
            .await
            .map_err(|error| refused(format!("{error:#}")))?;
        let port = Self(Arc::new(Inner {
            endpoint: Mutex::new(Some(endpoint.clone())),
            me: secret.public_key(),
            bind,
            chains: RwLock::default(),
            tasks: TaskTracker::new(),
            relay: Mutex::default(),
        }));
        port.0.tasks.spawn(port.clone().accept(endpoint));
        Ok(port)
    }

    /// The key that peers know this node by.
    pub(super) fn key(&self) -> PublicKey {
        self.0.me
    }

    /// Answers peers of a chain from now on.
    pub(super) fn serve(&self, chain: ChainId, network: Network) {
        let mut chains = self.0.chains.write().unwrap_or_else(PoisonError::into_inner);
        chains.insert(alpn(&chain), network);
        self.announce(&chains);
    }

    pub(super) fn serve_no_more(&self, chain: &ChainId) {
        let mut chains = self.0.chains.write().unwrap_or_else(PoisonError::into_inner);
        chains.remove(&alpn(chain));
        self.announce(&chains);
    }

    fn announce(&self, chains: &HashMap<Vec<u8>, Network>) {
        if let Some(endpoint) = self.endpoint() {
            endpoint.set_alpns(chains.keys().cloned().collect());
        }
    }

    /// Peers that are not reached otherwise are met at this relay from now on.
    pub fn set_relay(&self, relay: Option<RelayUrl>) {
        let before = std::mem::replace(&mut *self.relay_slot(), relay.clone());
        if before == relay {
            return;
        }
        let Some(endpoint) = self.endpoint() else { return };
        self.0.tasks.spawn(async move {
            if let Some(relay) = relay {
                tracing::info!(%relay, "peers that are not reached otherwise are met at a relay");
                let config = Arc::new(RelayConfig::new(relay.clone(), None));
                endpoint.insert_relay(relay, config).await;
            }
            if let Some(before) = before {
                endpoint.remove_relay(&before).await;
            }
        });
    }

    /// The relay, where there is one.
    pub(super) fn relay(&self) -> Option<RelayUrl> {
        self.relay_slot().clone()
    }

    fn relay_slot(&self) -> MutexGuard<'_, Option<RelayUrl>> {
        self.0.relay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where peers reach this node.
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

    /// Ends every chain's network; the port is free when this returns.
    pub async fn shutdown(&self) {
        let chains = std::mem::take(&mut *self.0.chains.write().unwrap_or_else(PoisonError::into_inner));
        for network in chains.into_values() {
            network.shutdown().await;
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
    pub(super) fn endpoint(&self) -> Option<Endpoint> {
        self.endpoint_slot().clone()
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
            let port = self.clone();
            self.0.tasks.spawn(async move {
                if tokio::time::timeout(HANDSHAKE, port.answer(incoming, permit))
                    .await
                    .is_err()
                {
                    tracing::debug!("a handshake from outside took too long");
                }
            });
        }
    }

    async fn answer(&self, incoming: Incoming, permit: OwnedSemaphorePermit) {
        let Ok(accepting) = incoming.accept() else { return };
        let Ok(connection) = accepting.await else { return };
        let chains = self.0.chains.read().unwrap_or_else(PoisonError::into_inner);
        // A chain may have been left in the meantime: the connection ends as it is dropped.
        if let Some(network) = chains.get(connection.alpn()) {
            network.take(connection, permit);
        }
    }
}
