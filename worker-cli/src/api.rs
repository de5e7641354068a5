//! The node's HTTP interface, on loopback. GETs change nothing and need nothing; everything else needs the cookie.
//!
//! The cookie is a random word in `api.cookie` in the data directory (mode 0600), new at every start. The `Host` header
//! must be this address, so that no web page elsewhere can reach the node through a browser.
//!
//! A node may have several chains. All that is asked of the home chain is asked of another with `/chains/NAME` before the path.

mod blocks;
mod body;
mod error;
mod guard;
pub mod json;
mod legacy;
mod metrics;
mod openapi;
mod pages;
mod pieces;
mod routes;
mod service;
#[cfg(test)]
mod tests;
pub mod types;

use crate::check::CheckState;
use crate::dump::DumpControl;
use crate::flags::NodeFlags;
use crate::identity::{IdentityError, write_private};
use crate::node::{Chains, ChainsError, Manager, NodeHandle, RequestError};
use crate::wallet::Wallets;
use actix_web::dev::{Payload, ServerHandle};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, HttpServer, web};
use block_chain_web::connections::{Connections, UNREAD, end_unread};
use block_chain_web::host::{Way, is_private};
use block_chain_web::limit::{Limiter, Limits};
use block_chain_web::session::Sessions;
use block_chain_web::slow;
use block_chain_web::tls::{Certificate, Source, TlsError};
use error::ApiError;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Threads that answer requests: the work itself is done elsewhere.
const WORKERS: usize = 2;
/// Streams of events that are open at a time: each keeps a connection and a place among the listeners.
const MAX_LISTENERS: usize = 256;

/// Why the interface cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ApiStartError {
    /// The port cannot be had.
    #[error("cannot listen on {bind}: {source}")]
    Bind {
        /// Where.
        bind: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The cookie cannot be written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The system gives no randomness.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Two figures have one name: a fault of this program.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

/// Where and how the interface listens.
#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// Where.
    pub bind: SocketAddr,
    /// The certificate, where it serves TLS.
    pub tls: Option<Source>,
    /// Whether everybody may read who reaches it; else only this machine, and who shows the cookie.
    pub open: bool,
    /// Whether the routes of the earlier systems are served.
    pub legacy: bool,
    /// Whether nobody reads what crosses the way to it.
    pub private_way: bool,
}

impl From<SocketAddr> for ApiSettings {
    fn from(bind: SocketAddr) -> Self {
        Self {
            bind,
            tls: None,
            open: false,
            legacy: false,
            private_way: false,
        }
    }
}

impl ApiSettings {
    /// What the flags say, for a data directory.
    #[must_use]
    pub fn of(listen: &NodeFlags, data_dir: &Path) -> Self {
        let bind = listen.api.unwrap_or_else(|| ([127, 0, 0, 1], 0).into());
        let tls = match (&listen.api_tls_cert, &listen.api_tls_key) {
            (Some(cert), Some(key)) => Some(Source::Files {
                cert: cert.clone(),
                key: key.clone(),
            }),
            _ if listen.api_tls_self_signed => Some(Source::SelfSigned {
                dir: data_dir.to_owned(),
                address: bind.ip(),
            }),
            _ => None,
        };
        Self {
            bind,
            tls,
            open: listen.api_open,
            legacy: listen.legacy_routes,
            private_way: listen.api_private_way,
        }
    }
}

/// What the handlers of all chains share.
pub(crate) struct Interface {
    chains: Arc<Chains>,
    /// A test's node may have none.
    manager: Option<Arc<Manager>>,
    metrics: metrics::Metrics,
    listeners: Arc<Semaphore>,
    /// Long answers that may be begun, see `pieces`.
    streams: Arc<Semaphore>,
    sessions: Sessions,
    /// Where the word is that signs in.
    cookie_file: PathBuf,
    wallets: Wallets,
    limiter: Limiter,
    /// Whether everybody may read who reaches it.
    is_open: bool,
    /// Whether the routes of the earlier systems are served.
    has_legacy: bool,
    /// Whether it may be asked by any name: its certificate says which are good.
    any_name: bool,
    /// What is known of the way that requests take to it.
    way: Way,
    /// With this certificate.
    certificate: Option<Arc<Certificate>>,
    address: SocketAddr,
    stopping: tokio::sync::watch::Receiver<bool>,
}

/// What every handler is given: the chain that is asked for, and the rest.
#[derive(Clone)]
pub(crate) struct ApiState {
    pub(crate) node: NodeHandle,
    pub(crate) dump: DumpControl,
    pub(crate) check: Arc<CheckState>,
    /// What the paths of this chain's pages begin with.
    base: String,
    /// The path and query that were asked for, as the browser knows them.
    here: String,
    /// Whether whoever asks has shown the cookie, or is signed in.
    is_trusted: bool,
    /// Whether whoever asks may read the chains.
    may_read: bool,
    /// Whether nobody on the way can read what is asked: it comes from this machine, or under TLS, and through no proxy.
    is_private: bool,
    interface: Arc<Interface>,
}

impl ApiState {
    /// For what only who is signed in may read.
    fn require_trust(&self) -> Result<(), ApiError> {
        if self.is_trusted {
            Ok(())
        } else {
            Err(ApiError::Forbidden)
        }
    }

    fn manager(&self) -> Result<&Manager, ApiError> {
        let none = || ApiError::Conflict("this node has one chain alone".to_owned());
        self.interface.manager.as_deref().ok_or_else(none)
    }
}

/// The chain that a request's path names before anything else, see `guard`.
#[derive(Debug, Clone)]
struct NamedChain(String);

/// On a request of who may read the chains.
#[derive(Debug, Clone, Copy)]
struct Reader;

/// On a request of who has shown the cookie, or is signed in.
#[derive(Debug, Clone, Copy)]
struct Trusted;

impl FromRequest for ApiState {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let Some(interface) = request.app_data::<web::Data<Interface>>() else {
            return ready(Err(ApiError::Request(RequestError::Stopping)));
        };
        let named = request.extensions().get::<NamedChain>().cloned();
        let name = named.as_ref().map(|NamedChain(name)| name.as_str());
        let base = name.map_or_else(|| "/".to_owned(), |name| format!("/chains/{name}/"));
        let asked = request.uri().path_and_query().map_or("/", |path| path.as_str());
        ready(match interface.chains.get(name) {
            Some(chain) => Ok(Self {
                here: format!("{base}{}", asked.trim_start_matches('/')),
                is_private: is_private(request.peer_addr(), request.headers(), interface.way),
                is_trusted: request.extensions().get::<Trusted>().is_some(),
                may_read: request.extensions().get::<Reader>().is_some(),
                node: chain.node.clone(),
                dump: chain.dump.clone(),
                check: Arc::clone(&chain.check),
                base,
                interface: Arc::clone(interface),
            }),
            None => Err(not_open(&interface.chains, name.unwrap_or_default())),
        })
    }
}

fn not_open(chains: &Chains, name: &str) -> ApiError {
    let name: String = name.chars().take(80).collect();
    ApiError::Chains(match chains.failure(&name) {
        Some(reason) => ChainsError::Failed { name, reason },
        None => ChainsError::NotJoined { name },
    })
}

/// Answers from now on.
fn serve(
    interface: Interface,
    listener: std::net::TcpListener,
    certificate: Option<&Certificate>,
    bind: SocketAddr,
) -> Result<ServerHandle, ApiStartError> {
    let (way, interface) = (interface.way, web::Data::new(interface));
    let server = HttpServer::new(move || routes::app(interface.clone()));
    let server = server.workers(WORKERS).shutdown_timeout(1).disable_signals();
    // A client that leaves ends what was done for it: a search for a block must not outlive who asked for it.
    let server = server.h1_allow_half_closed(false);
    let refused = |source| ApiStartError::Bind { bind, source };
    end_unread(&listener, UNREAD).map_err(refused)?;
    let server = server
        .client_request_timeout(slow::HEAD)
        .max_connections(slow::CONNECTIONS)
        .on_connect(Arc::new(Connections::of(way)).counter());
    let server = match certificate {
        Some(certificate) => server.listen_rustls_0_23(listener, certificate.config()?),
        None => server.listen(listener),
    };
    let server = server.map_err(refused)?.run();
    let handle = server.handle();
    tokio::spawn(server);
    Ok(handle)
}

/// Says in `node.json` where the node is found.
fn describe(path: &Path, api: &str, fingerprint: Option<&str>) -> Result<(), IdentityError> {
    let about = serde_json::json!({
        "pid": std::process::id(),
        "api": api,
        "fingerprint": fingerprint,
        "version": env!("CARGO_PKG_VERSION"),
    });
    write_private(path, about.to_string().as_bytes())
}

/// The interface, while it runs.
pub struct ApiServer {
    handle: ServerHandle,
    stop: tokio::sync::watch::Sender<bool>,
    chains: Arc<Chains>,
    described: PathBuf,
}

impl ApiServer {
    /// Listens; writes `api.cookie`, then `node.json` with the address, in the data directory.
    ///
    /// # Errors
    /// Where the port cannot be had or the files cannot be written.
    pub async fn start(
        chains: Arc<Chains>,
        manager: Option<Arc<Manager>>,
        settings: impl Into<ApiSettings>,
        data_dir: &Path,
    ) -> Result<(SocketAddr, Self), ApiStartError> {
        let ApiSettings {
            bind,
            tls,
            open,
            legacy,
            private_way,
        } = settings.into();
        let any_name = matches!(tls, Some(Source::Files { .. }));
        let certificate = tls.map(Certificate::open).transpose()?.map(Arc::new);
        let scheme = if certificate.is_some() { "https" } else { "http" };
        let mut secret = [0_u8; 32];
        getrandom::fill(&mut secret).map_err(|error| ApiStartError::Random(error.to_string()))?;
        let cookie = hex::encode(secret);
        let cookie_file = data_dir.join("api.cookie");
        write_private(&cookie_file, cookie.as_bytes())?;
        let listener =
            std::net::TcpListener::bind(bind).map_err(|source| ApiStartError::Bind { bind, source })?;
        let address = listener
            .local_addr()
            .map_err(|source| ApiStartError::Bind { bind, source })?;
        // Before anybody can ask.
        for (_, chain) in chains.open() {
            chain.node.set_api(format!("{scheme}://{address}"));
        }
        let (stop, stopping) = tokio::sync::watch::channel(false);
        let stopped = stopping.clone();
        let interface = Interface {
            chains: Arc::clone(&chains),
            manager,
            metrics: metrics::Metrics::new()?,
            listeners: Arc::new(Semaphore::new(MAX_LISTENERS)),
            streams: Arc::new(Semaphore::new(pieces::MAX_STREAMS)),
            sessions: Sessions::new(&cookie, address.port(), certificate.is_some()),
            limiter: Limiter::new(Limits::default()),
            is_open: open,
            has_legacy: legacy,
            any_name,
            way: Way::of(private_way, certificate.is_some()),
            certificate: certificate.clone(),
            cookie_file,
            wallets: Wallets::of(data_dir),
            address,
            stopping,
        };
        let handle = serve(interface, listener, certificate.as_deref(), bind)?;
        let described = data_dir.join("node.json");
        let api = format!("{scheme}://{address}");
        let fingerprint = certificate.as_ref().map(|certificate| certificate.fingerprint());
        describe(&described, &api, fingerprint.as_deref())?;
        if let Some(certificate) = certificate {
            let file = described.clone();
            let changed = move |fingerprint: &str| {
                if let Err(error) = describe(&file, &api, Some(fingerprint)) {
                    tracing::error!(%error, "commands do not know the new certificate");
                }
            };
            tokio::spawn(certificate.keep_fresh(stopped, changed));
        }
        Ok((
            address,
            Self {
                handle,
                stop,
                chains,
                described,
            },
        ))
    }

    /// Stops it; open requests have a second to end.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for (_, chain) in self.chains.open() {
            chain.check.cancel();
        }
        if let Err(error) = std::fs::remove_file(&self.described) {
            tracing::warn!(%error, file = %self.described.display(), "cannot remove");
        }
        self.handle.stop(true).await;
    }
}
