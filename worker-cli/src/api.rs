//! The node's HTTP interface, on loopback. GETs change nothing and need nothing; everything else needs the cookie.
//!
//! The cookie is a random word in `api.cookie` in the data directory (mode 0600), new at every start. The `Host` header
//! must be this address, so that no web page elsewhere can reach the node through a browser.

mod blocks;
mod body;
mod error;
mod find;
mod guard;
pub mod json;
mod metrics;
mod openapi;
mod page;
mod routes;
mod service;
#[cfg(test)]
mod tests;
pub mod types;

use crate::check::CheckState;
use crate::dump::DumpControl;
use crate::identity::{IdentityError, write_private};
use crate::node::NodeHandle;
use crate::storage::remove_scratch;
use actix_web::dev::ServerHandle;
use actix_web::{HttpServer, web};
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
    /// Two figures have one name: a fault of this program.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

/// What every handler is given.
pub(crate) struct ApiState {
    pub(crate) node: NodeHandle,
    pub(crate) dump: DumpControl,
    pub(crate) check: Arc<CheckState>,
    metrics: metrics::Metrics,
    listeners: Arc<Semaphore>,
    cookie: String,
    address: SocketAddr,
    stopping: tokio::sync::watch::Receiver<bool>,
}

/// The interface, while it runs.
pub struct ApiServer {
    handle: ServerHandle,
    stop: tokio::sync::watch::Sender<bool>,
    check: Arc<CheckState>,
    described: PathBuf,
}

impl ApiServer {
    /// Listens; writes `api.cookie`, then `node.json` with the address, in the data directory.
    ///
    /// # Errors
    /// Where the port cannot be had or the files cannot be written.
    pub async fn start(
        node: NodeHandle,
        dump: DumpControl,
        bind: SocketAddr,
        data_dir: &Path,
    ) -> Result<(SocketAddr, Self), ApiStartError> {
        if let Err(error) = remove_scratch(data_dir) {
            tracing::warn!(%error, "what an interrupted check left stays");
        }
        let mut secret = [0_u8; 32];
        getrandom::fill(&mut secret).map_err(|error| ApiStartError::Random(error.to_string()))?;
        let cookie = hex::encode(secret);
        write_private(&data_dir.join("api.cookie"), cookie.as_bytes())?;
        let listener =
            std::net::TcpListener::bind(bind).map_err(|source| ApiStartError::Bind { bind, source })?;
        let address = listener
            .local_addr()
            .map_err(|source| ApiStartError::Bind { bind, source })?;
        // Before anybody can ask.
        node.set_api(format!("http://{address}"));
        let check = Arc::new(CheckState::default());
        let (stop, stopping) = tokio::sync::watch::channel(false);
        let state = ApiState {
            node,
            dump,
            check: Arc::clone(&check),
            metrics: metrics::Metrics::new()?,
            listeners: Arc::new(Semaphore::new(MAX_LISTENERS)),
            cookie,
            address,
            stopping,
        };
        let state = web::Data::new(state);
        let server = HttpServer::new(move || routes::app(state.clone()));
        let server = server.workers(WORKERS).shutdown_timeout(1).disable_signals();
        // A client that leaves ends what was done for it: a search for a block must not outlive who asked for it.
        let server = server.h1_allow_half_closed(false);
        let server = server
            .listen(listener)
            .map_err(|source| ApiStartError::Bind { bind, source })?
            .run();
        let handle = server.handle();
        tokio::spawn(server);
        let described = data_dir.join("node.json");
        let about = serde_json::json!({
            "pid": std::process::id(),
            "api": format!("http://{address}"),
            "version": env!("CARGO_PKG_VERSION"),
        });
        write_private(&described, about.to_string().as_bytes())?;
        Ok((
            address,
            Self {
                handle,
                stop,
                check,
                described,
            },
        ))
    }

    /// Stops it; open requests have a second to end.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.check.cancel();
        if let Err(error) = std::fs::remove_file(&self.described) {
            tracing::warn!(%error, file = %self.described.display(), "cannot remove");
        }
        self.handle.stop(true).await;
    }
}
