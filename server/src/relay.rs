//! The relay: workers that do not reach each other (behind NAT, or where UDP is blocked) meet here.
//!
//! It is iroh's own, over HTTP and WebSockets, on a port of its own. What it carries is QUIC between the workers, encrypted and
//! authenticated from end to end: it sees who talks to whom and how much, never what. It serves the workers of this
//! coordinator alone, who prove their keys.

use crate::StartError;
use crate::error::ServiceError;
use crate::service::Service;
use actix_web::web;
use block_chain_common::keys::PublicKey;
use iroh_relay::server::{Access, AccessControl, ClientRequest, RelayConfig, Server, ServerConfig};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// A relay that runs, until it is dropped.
pub(crate) struct Relay {
    _server: Server,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

/// Who may use it.
struct Workers(Arc<Service>);

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Workers")
    }
}

impl AccessControl for Workers {
    async fn on_connect(&self, request: &ClientRequest) -> Access {
        let key = PublicKey::from_bytes(*request.endpoint_id().as_bytes());
        let service = Arc::clone(&self.0);
        let known = web::block(move || service.knows(&key)).await;
        match known {
            Ok(Ok(true)) => Access::Allow,
            Ok(Ok(false)) => {
                tracing::debug!(%key, "the relay is for workers of this coordinator alone");
                Access::Deny {
                    reason: Some("not a worker of this coordinator".to_owned()),
                }
            }
            Ok(Err(error @ ServiceError::Banned { .. })) => {
                tracing::debug!(%key, "a banned worker asks for the relay");
                Access::Deny {
                    reason: Some(error.to_string()),
                }
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "whether a worker may use the relay cannot be told");
                Access::Deny { reason: None }
            }
            Err(_) => Access::Deny { reason: None },
        }
    }
}

/// Starts it.
///
/// # Errors
/// Where the port cannot be had.
pub(crate) async fn start(bind: SocketAddr, service: Arc<Service>) -> Result<Relay, StartError> {
    let mut relay = RelayConfig::new(bind);
    relay.access = Arc::new(Workers(service));
    let mut config = ServerConfig::default();
    config.relay = Some(relay);
    let refused = |reason: String| StartError::Bind { bind, reason };
    let server = Server::spawn(config)
        .await
        .map_err(|error| refused(error.to_string()))?;
    let address = server
        .http_addr()
        .ok_or_else(|| refused("it has no address".to_owned()))?;
    Ok(Relay {
        _server: server,
        address,
    })
}
