//! The coordinator: it gives workers their ids, elects leaders, and commits checkpoints. It holds no blocks.
//!
//! `routes` (HTTP) → `service` (rules) → `store` (rows). Time is an argument of the service; the clock is read in `routes`
//! and by the ticker here.

pub mod error;
mod operating;
pub mod program;
pub mod routes;
pub mod service;
pub mod settings;
pub mod store;
pub mod tls;

use actix_web::dev::ServerHandle;
use actix_web::{HttpServer, web};
use routes::State;
use service::{Join, Service};
use settings::Settings;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::{Store, StoreError};
use zeroize::Zeroizing;

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file or folder.
    #[error("cannot use {path}: {reason}")]
    File {
        /// Where.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The port.
    #[error("cannot listen on {bind}: {reason}")]
    Bind {
        /// Where.
        bind: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// The rules.
    #[error(transparent)]
    Service(#[from] service::StartError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// A recovery that is not done.
    #[error(transparent)]
    Recovery(#[from] error::ServiceError),
    /// The figures' registry.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

impl StartError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Bind { .. } => {
                Some("another server may run there already; choose a port with --bind IP:PORT")
            }
            Self::File { .. } => Some("choose a folder that can be written with --data-dir DIR"),
            Self::Store(error) | Self::Service(service::StartError::Store(error)) => store_hint(error),
            Self::Service(service::StartError::OtherSpec { .. }) => {
                Some("start without these flags, or in another --data-dir")
            }
            Self::Recovery(error) => error.hint(),
            Self::Tls(_) => Some("--tls-cert and --tls-key name a certificate and its key, in PEM"),
            _ => None,
        }
    }
}

impl StartError {
    /// Whether a flag, not the machine, is to blame.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Store(StoreError::Url(_)))
    }
}

fn store_hint(error: &StoreError) -> Option<&'static str> {
    match error {
        StoreError::Url(_) => Some("postgresql://USER:PASSWORD@HOST:PORT/DATABASE[?sslmode=…]"),
        StoreError::Open { database, .. } if database.starts_with("postgresql://") => {
            Some("is the database there, and may this user make tables in it?")
        }
        StoreError::Open { .. } => {
            Some("choose a folder that can be written with --data-dir DIR, or give --database-url URL")
        }
        StoreError::Newer { .. } => Some("run the version that wrote it, or a later one"),
        StoreError::Damaged(_) => Some("restore a backup; workers notice how far it is behind"),
        StoreError::Query(_) => None,
    }
}

/// A server that runs.
pub struct Running {
    /// Its URL.
    pub url: String,
    /// The fingerprint of its certificate, where it uses TLS.
    pub fingerprint: Option<String>,
    /// A join token that was made at this start and is shown once.
    pub new_join_token: Option<String>,
    handle: ServerHandle,
    stop: tokio::sync::watch::Sender<bool>,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Running {
    /// Stops it and waits until it has.
    pub async fn stop(self) {
        // Open event streams end first: a graceful stop would wait for them.
        self.stop.send_replace(true);
        self.handle.stop(true).await;
        if let Err(error) = self.server.await {
            tracing::error!(%error, "the server did not end cleanly");
        }
    }
}

/// Starts the coordinator; it answers when this returns.
///
/// # Errors
/// See [`StartError`].
pub async fn start(settings: Settings) -> Result<Running, StartError> {
    let dir = settings.data_dir();
    make_private_dir(&dir)?;
    let opening = settings.clone();
    let opened = web::block(move || open(&opening)).await;
    let service = opened.map_err(|error| StartError::File {
        path: dir.display().to_string(),
        reason: error.to_string(),
    })??;
    let new_join_token = service.new_join_token().map(str::to_owned);
    let service = Arc::new(service);
    let tls = tls::configure(&settings, &dir)?;
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let state = web::Data::new(State::new(Arc::clone(&service), stopping.clone())?);
    let server = HttpServer::new(move || routes::app(state.clone()));
    let server = server.workers(2).shutdown_timeout(1).disable_signals();
    let bind = settings.bind();
    let refused = |error: std::io::Error| StartError::Bind {
        bind,
        reason: error.to_string(),
    };
    let (scheme, fingerprint, server) = match tls {
        Some((config, fingerprint)) => (
            "https",
            Some(fingerprint),
            server.bind_rustls_0_23(bind, config).map_err(refused)?,
        ),
        None => ("http", None, server.bind(bind).map_err(refused)?),
    };
    let address = server.addrs().first().copied().unwrap_or(bind);
    let server = server.run();
    let handle = server.handle();
    tokio::spawn(tick(service, stopping));
    let server = tokio::spawn(server);
    Ok(Running {
        url: format!("{scheme}://{address}"),
        fingerprint,
        new_join_token,
        handle,
        stop,
        server,
    })
}

/// The database's file, where no other database is given.
const SQLITE_FILE: &str = "coordinator.sqlite";

fn open_store(settings: &Settings) -> Result<Store, StoreError> {
    match &settings.database_url {
        Some(url) => Store::open_postgres(url),
        None => Store::open_sqlite(&settings.data_dir().join(SQLITE_FILE)),
    }
}

fn open(settings: &Settings) -> Result<Service, StartError> {
    let store = open_store(settings)?;
    let join = match &settings.join_token {
        Some(token) => Join::Token(Zeroizing::new(token.clone())),
        None if settings.open || settings.bind().ip().is_loopback() => Join::Open,
        None => Join::Kept,
    };
    let service = Service::start(store, settings.service(), join, |spec| {
        settings.apply_to(spec);
    })?;
    service.begin(routes::now())?;
    Ok(service)
}

fn make_private_dir(dir: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| StartError::File {
        path: dir.display().to_string(),
        reason: error.to_string(),
    })
}

/// Elections and evictions must not wait for somebody to ask.
async fn tick(service: Arc<Service>, mut stopping: tokio::sync::watch::Receiver<bool>) {
    let mut interval = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            _ = stopping.changed() => return,
        }
        let service = Arc::clone(&service);
        match web::block(move || service.tick(routes::now())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "elections fail"),
            Err(error) => tracing::error!(%error, "elections fail"),
        }
    }
}
