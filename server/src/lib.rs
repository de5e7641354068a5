//! The coordinator: it gives workers their ids, elects leaders, and commits checkpoints. It holds no blocks.
//!
//! `routes` (HTTP) → `service` (rules) → `store` (rows). Time is an argument of the service; the clock is read in `routes`
//! and by the ticker here.

pub mod backup;
pub mod error;
mod operating;
pub mod program;
mod relay;
pub mod routes;
pub mod service;
pub mod settings;
pub mod store;

use crate::backup::CoordinatorBackupError;
use actix_web::dev::ServerHandle;
use actix_web::{HttpServer, web};
use block_chain_backup::{Cause, Plan, Schedule};
use block_chain_web::connections::{Connections, UNREAD, end_unread};
use block_chain_web::host::Way;
use block_chain_web::session::Sessions;
use block_chain_web::slow;
use block_chain_web::tls::{Certificate, Source, TlsError};
use routes::{Access, State};
use service::{Join, Service};
use settings::Settings;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
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
    Tls(#[from] TlsError),
    /// A recovery that is not done.
    #[error(transparent)]
    Recovery(#[from] error::ServiceError),
    /// A backup.
    #[error(transparent)]
    Backup(#[from] CoordinatorBackupError),
    /// Another server runs on the same file.
    #[error("another server runs in {dir}")]
    InUse {
        /// The data directory.
        dir: String,
    },
    /// A flag that cannot be.
    #[error("{0}")]
    Flag(String),
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
            Self::Backup(error) => error.hint(),
            Self::InUse { .. } => Some("stop it first, or give this one another --data-dir"),
            Self::Tls(_) => Some("--tls-cert and --tls-key name a certificate and its key, in PEM"),
            _ => None,
        }
    }
}

impl StartError {
    /// Whether a flag, not the machine, is to blame.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Store(StoreError::Url(_)) | Self::Flag(_))
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
    /// Where the relay listens, where it serves one.
    pub relay: Option<SocketAddr>,
    _relay: Option<relay::Relay>,
    /// Until it has stopped nobody else serves the same file.
    _lock: Option<std::fs::File>,
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
    let lock = lock(&settings)?;
    let told = (settings.backup_to.as_deref(), settings.backup_keep);
    let backups = Plan::of(settings.backup_every.as_deref(), told, &dir).map_err(StartError::Flag)?;
    let opening = settings.clone();
    let opened = web::block(move || open(&opening)).await;
    let service = opened.map_err(|error| StartError::File {
        path: dir.display().to_string(),
        reason: error.to_string(),
    })??;
    let new_join_token = service.new_join_token().map(str::to_owned);
    let service = Arc::new(service);
    let relay = start_relay(&settings, &service).await?;
    let certificate = certificate(&settings, &dir)?;
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let bind = settings.bind();
    let refused = |error: std::io::Error| StartError::Bind {
        bind,
        reason: error.to_string(),
    };
    let listener = std::net::TcpListener::bind(bind).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    end_unread(&listener, UNREAD).map_err(refused)?;
    let access = access(&settings, &dir, address, certificate.clone())?;
    let way = access.way;
    let state = web::Data::new(State::new(Arc::clone(&service), stopping.clone(), access)?);
    let server = HttpServer::new(move || routes::app(state.clone()));
    let server = server.workers(2).shutdown_timeout(1).disable_signals();
    let server = server
        .client_request_timeout(slow::HEAD)
        .max_connections(slow::CONNECTIONS)
        .on_connect(Arc::new(Connections::of(way)).counter());
    let fingerprint = certificate.as_ref().map(|certificate| certificate.fingerprint());
    let (scheme, server) = match certificate {
        Some(certificate) => {
            let server = server
                .listen_rustls_0_23(listener, certificate.config()?)
                .map_err(refused)?;
            tokio::spawn(certificate.keep_fresh(stopping.clone(), |_| ()));
            ("https", server)
        }
        None => ("http", server.listen(listener).map_err(refused)?),
    };
    let server = server.run();
    let handle = server.handle();
    if let Some(plan) = backups {
        tokio::spawn(keep_backing_up(settings, plan, stopping.clone()));
    }
    tokio::spawn(tick(service, stopping));
    let server = tokio::spawn(server);
    Ok(Running {
        url: format!("{scheme}://{address}"),
        fingerprint,
        new_join_token,
        handle,
        stop,
        server,
        relay: relay.as_ref().map(|relay| relay.address),
        _relay: relay,
        _lock: lock,
    })
}

/// The relay that the settings ask for, if any; workers are told of it.
async fn start_relay(
    settings: &Settings,
    service: &Arc<Service>,
) -> Result<Option<relay::Relay>, StartError> {
    let Some(bind) = settings.relay_bind().map_err(StartError::Flag)? else {
        return Ok(None);
    };
    let relay = relay::start(bind, Arc::clone(service)).await?;
    // Workers know by which name they reach this machine.
    let port = || format!(":{}", relay.address.port());
    service.advertise_relay(settings.relay_url.clone().unwrap_or_else(port));
    Ok(Some(relay))
}

/// The certificate that the settings ask for, if any.
fn certificate(settings: &Settings, dir: &Path) -> Result<Option<Arc<Certificate>>, TlsError> {
    let source = match (&settings.tls_cert, &settings.tls_key) {
        (Some(cert), Some(key)) => Source::Files {
            cert: cert.clone(),
            key: key.clone(),
        },
        _ if settings.tls_self_signed => Source::SelfSigned {
            dir: dir.to_owned(),
            address: settings.bind().ip(),
        },
        _ => return Ok(None),
    };
    Certificate::open(source).map(|certificate| Some(Arc::new(certificate)))
}

/// A new word for the operator, in a file that nobody else can read.
fn access(
    settings: &Settings,
    dir: &Path,
    address: SocketAddr,
    certificate: Option<Arc<Certificate>>,
) -> Result<Access, StartError> {
    let word = service::random_hex::<32>()?;
    let file = dir.join("api.cookie");
    write_private(&file, &word).map_err(|error| StartError::File {
        path: file.display().to_string(),
        reason: error.to_string(),
    })?;
    let is_secure = certificate.is_some();
    Ok(Access {
        sessions: Sessions::new(&word, address.port(), is_secure),
        file,
        address,
        any_name: settings.tls_cert.is_some(),
        is_here_only: address.ip().is_loopback() && settings.join_token.is_none() && !settings.open,
        way: Way::of(settings.private_way, is_secure),
        certificate,
    })
}

/// Whole or not at all, and never readable by others even for a moment.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let part = path.with_extension("part");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&part, path)
}

/// The database's file, where no other database is given.
const SQLITE_FILE: &str = "coordinator.sqlite";

/// Only one server at a time serves a file of SQLite; with PostgreSQL there may be several.
fn lock(settings: &Settings) -> Result<Option<std::fs::File>, StartError> {
    if settings.database_url.is_some() {
        return Ok(None);
    }
    let dir = settings.data_dir();
    let path = dir.join("server.lock");
    let opened = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    let file = opened.map_err(|error| StartError::File {
        path: path.display().to_string(),
        reason: error.to_string(),
    })?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Err(StartError::InUse {
            dir: dir.display().to_string(),
        }),
        Err(std::fs::TryLockError::Error(error)) => Err(StartError::File {
            path: path.display().to_string(),
            reason: error.to_string(),
        }),
    }
}

/// Makes backups for as long as the server runs, each time something has changed. It reads through a connection of its own:
/// nobody waits for it.
async fn keep_backing_up(settings: Settings, plan: Plan, mut stopping: tokio::sync::watch::Receiver<bool>) {
    let plan = Arc::new(plan);
    let mut schedule = Schedule::new(plan.every);
    loop {
        tokio::select! {
            () = tokio::time::sleep(schedule.wait()) => {}
            _ = stopping.changed() => return,
        }
        let tried = Instant::now();
        let (settings, plan) = (settings.clone(), Arc::clone(&plan));
        let before = schedule.last().copied();
        let done = web::block(move || -> Result<_, CoordinatorBackupError> {
            let store = open_store(&settings)?;
            let mark = backup::mark(&store)?;
            if before == Some(mark) {
                return Ok(None);
            }
            let began = Instant::now();
            let written = backup::make(
                &store,
                (&plan.folder, backup::WHAT),
                (Cause::Automatic, Some(plan.keep)),
                routes::now().get(),
            )?;
            Ok(Some((mark, written, began.elapsed())))
        });
        match done.await {
            Ok(Ok(None)) => {}
            Ok(Ok(Some((mark, written, took)))) => {
                tracing::info!(file = %written.path.display(), bytes = written.bytes, "a backup is made");
                schedule.made(mark, took);
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "a backup cannot be made");
                schedule.failed(tried.elapsed());
            }
            Err(error) => {
                tracing::error!(%error, "a backup cannot be made");
                schedule.failed(tried.elapsed());
            }
        }
    }
}

fn open_store(settings: &Settings) -> Result<Store, StoreError> {
    match &settings.database_url {
        Some(url) => Store::open_postgres(url),
        None => Store::open_sqlite(&settings.data_dir().join(SQLITE_FILE)),
    }
}

fn open(settings: &Settings) -> Result<Service, StartError> {
    let store = open_store(settings)?;
    let join = match &settings.join_token {
        Some(token) => {
            if let Some(warning) = short_token(token) {
                tracing::warn!("{warning}");
            }
            Join::Token(Zeroizing::new(token.clone()))
        }
        None if settings.open || settings.bind().ip().is_loopback() => Join::Open,
        None => Join::Kept,
    };
    let service = Service::start(store, settings.service(), join, |spec| {
        settings.apply_to(spec);
    })?;
    service.begin(routes::now())?;
    Ok(service)
}

/// Characters from which on a join token is hard to guess, at 30 guesses a minute and address.
const LONG_TOKEN: usize = 16;

/// What is to be said of a join token that may be guessed.
fn short_token(token: &str) -> Option<String> {
    let found = token.chars().count();
    (found < LONG_TOKEN).then(|| {
        format!("the join token has {found} characters: take {LONG_TOKEN} or more for anything but a trial")
    })
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

#[cfg(test)]
mod tests {
    use super::short_token;

    #[test]
    fn a_short_join_token_is_said_and_not_shown() {
        let said = short_token("trial").unwrap();
        assert!(
            said.contains("5 characters") && !said.contains("trial has"),
            "{said}"
        );
        assert!(short_token("fifteen-letters").is_some());
        assert!(short_token("sixteen-letters!").is_none());
    }
}
