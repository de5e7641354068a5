//! The copy to PostgreSQL: committed blocks only, by `COPY`, the watermark in the same transaction, so exactly once.
//!
//! A follower goes on with every later block until it is stopped, through restarts of the database and of the node. Its
//! URL rests in the store encrypted (XChaCha20-Poly1305) under a key that follows from the worker's: a copied database or
//! backup without `identity.key` does not give the password away; whoever reads both files has it.

mod batch;
mod connect;
mod copy;
mod rows;
mod schema;
mod secret;
#[cfg(test)]
mod tests;
mod tls;
mod values;

pub use connect::{DatabaseUrl, UrlError};

use crate::api::types::{DumpRequest, DumpStatus, DumpStopped};
use crate::node::{NodeEvent, NodeHandle};
use crate::storage::StorageError;
use connect::Connections;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

/// The name of the job in the store.
const JOB: &str = "dump";
/// The pauses between attempts to reach a database that was lost.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// Looks for new blocks at least so often, should an event be missed.
const LOOK: Duration = Duration::from_secs(5);

/// Why a copy cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The URL is none.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The database cannot be reached, or refuses.
    #[error("the database {database}: {reason}")]
    Database {
        /// The database, without its password.
        database: String,
        /// What the driver said.
        reason: String,
    },
    /// The database holds a copy of other blocks.
    #[error(
        "the database holds block {height} as {found}, this chain has another: it is a copy of another replica's past"
    )]
    OtherBlocks {
        /// The height.
        height: u64,
        /// The hash there.
        found: String,
    },
    /// Written by a later version.
    #[error("the database's tables are of version {found}, this program knows {known}")]
    NewerSchema {
        /// The version there.
        found: String,
        /// The version here.
        known: String,
    },
    /// The database cannot hold every text.
    #[error("the database {database} has encoding {found}, UTF8 is needed (or SQL_ASCII)")]
    Encoding {
        /// The database, without its password.
        database: String,
        /// Its encoding.
        found: String,
    },
    /// The node stops.
    #[error("the node is stopping")]
    Stopping,
    /// The thread that reads the blocks has died.
    #[error("reading the blocks ended early")]
    Reader,
    /// The node's store fails.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The job cannot be kept.
    #[error("cannot keep the job: {0}")]
    Secret(String),
}

impl DumpError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Url(_) => Some("postgresql://USER:PASSWORD@HOST:PORT/DATABASE[?sslmode=…]"),
            Self::Database { .. } => {
                Some("is PostgreSQL running there, and do user, password and database exist?")
            }
            Self::OtherBlocks { .. } => Some("copy into an empty database"),
            Self::NewerSchema { .. } => {
                Some("run the version of this program that wrote them, or a later one")
            }
            Self::Encoding { .. } => Some("create database NAME encoding 'UTF8' template template0"),
            _ => None,
        }
    }

    /// Whether trying again may help without anybody doing something.
    const fn is_passing(&self) -> bool {
        matches!(self, Self::Database { .. } | Self::Reader)
    }
}

struct Follower {
    url: DatabaseUrl,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

struct Inner {
    node: NodeHandle,
    /// Where the copying is done: threads of the HTTP interface may neither block nor outlive it.
    runtime: Handle,
    follower: Mutex<Option<Follower>>,
    /// Whoever waits for the copy to get somewhere is told of every change.
    status: watch::Sender<DumpStatus>,
}

/// The copy's controls. Cheap to clone.
#[derive(Clone)]
pub struct DumpControl(Arc<Inner>);

impl DumpControl {
    /// Nothing is copied yet. What will be is copied on the runtime that this is called on, which has several threads.
    #[must_use]
    pub fn new(node: NodeHandle) -> Self {
        let status = DumpStatus {
            dumped_blocks: 0,
            dumped_transactions: 0,
            blocks: 0,
            following: false,
            database: None,
            error: None,
        };
        Self(Arc::new(Inner {
            node,
            runtime: Handle::current(),
            follower: Mutex::new(None),
            status: watch::Sender::new(status),
        }))
    }

    /// Takes a follower up again that was there before the node stopped.
    pub fn resume(&self) {
        let stored = self.0.node.store().get_meta(JOB);
        let url = match stored {
            Ok(Some(sealed)) => secret::open(self.0.node.secret_key(), &sealed)
                .and_then(|url| DatabaseUrl::parse(&url).map_err(|error| error.to_string())),
            Ok(None) => return,
            Err(error) => Err(error.to_string()),
        };
        match url {
            Ok(url) => self.keep_copying(url),
            Err(error) => {
                tracing::error!(error, "the copy to SQL cannot be taken up again");
                self.update(|status| status.error = Some(error));
            }
        }
    }

    /// Copies to a database from now on, whether it is there yet or not.
    pub fn keep_copying(&self, url: DatabaseUrl) {
        let control = self.clone();
        self.0
            .runtime
            .spawn(async move { control.follow(&mut *control.0.follower.lock().await, url).await });
    }

    /// Copies; with `once` what is committed now, else it goes on with every later block. Answers after the first contact
    /// with the database, so that what is wrong with it is told to whoever asked.
    ///
    /// # Errors
    /// See [`DumpError`].
    pub async fn start(&self, request: DumpRequest) -> Result<DumpStatus, DumpError> {
        let control = self.clone();
        let started = self
            .0
            .runtime
            .spawn(async move { control.start_here(request).await });
        started.await.or(Err(DumpError::Stopping))?
    }

    async fn start_here(&self, request: DumpRequest) -> Result<DumpStatus, DumpError> {
        let text = Zeroizing::new(request.db_url);
        let url = DatabaseUrl::parse(&text)?;
        let mut connections = Connections::default();
        let mut session = copy::Session::open(&url, &self.0.node, &mut connections).await?;
        self.update(|status| session.describe(status));
        if request.once {
            let committed = self.committed();
            while !session.has_reached(committed) {
                session.copy_batch(committed).await?;
                self.update(|status| session.describe(status));
            }
            return Ok(self.status());
        }
        drop(session);
        let mut follower = self.0.follower.lock().await;
        let sealed = secret::seal(self.0.node.secret_key(), &text).map_err(DumpError::Secret)?;
        self.0.node.store().put_meta(JOB, &sealed)?;
        self.follow(&mut follower, url).await;
        Ok(self.status())
    }

    async fn follow(&self, follower: &mut Option<Follower>, url: DatabaseUrl) {
        if follower
            .as_ref()
            .is_some_and(|running| running.url == url && !running.task.is_finished())
        {
            return;
        }
        if let Some(old) = follower.take() {
            end(old).await;
        }
        let (stop, stopping) = watch::channel(false);
        self.update(|status| {
            (status.following, status.error) = (true, None);
            status.database = Some(url.shown());
        });
        let task = self.0.runtime.spawn(self.clone().run(url.clone(), stopping));
        *follower = Some(Follower { url, stop, task });
    }

    fn committed(&self) -> u64 {
        self.0
            .node
            .store()
            .committed()
            .map_or(0, |checkpoint| checkpoint.size)
    }

    /// What is copied.
    #[must_use]
    pub fn status(&self) -> DumpStatus {
        let mut status = self.0.status.borrow().clone();
        status.blocks = self
            .0
            .node
            .store()
            .committed()
            .map_or(0, |checkpoint| checkpoint.size);
        status
    }

    /// Stops the follower, and forgets it; nothing is copied any more when this returns.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn stop(&self) -> Result<DumpStopped, DumpError> {
        let mut follower = self.0.follower.lock().await;
        self.0.node.store().delete_meta(JOB)?;
        Ok(DumpStopped {
            stopped: self.end_follower(&mut follower).await,
        })
    }

    /// Stops the follower; the node's next start takes it up again.
    pub async fn shutdown(&self) {
        self.end_follower(&mut *self.0.follower.lock().await).await;
    }

    async fn end_follower(&self, follower: &mut Option<Follower>) -> bool {
        let Some(follower) = follower.take() else {
            return false;
        };
        let was_following = !follower.task.is_finished();
        end(follower).await;
        self.update(|status| (status.following, status.error) = (false, None));
        was_following
    }

    fn update(&self, change: impl FnOnce(&mut DumpStatus)) {
        self.0.status.send_modify(change);
    }

    async fn run(self, url: DatabaseUrl, mut stopping: watch::Receiver<bool>) {
        let mut connections = Connections::default();
        let mut pause = BACK_OFF.0;
        loop {
            let ended = tokio::select! {
                ended = self.session(&url, &mut pause, &mut connections) => ended,
                _ = stopping.changed() => break,
            };
            connections.closed().await;
            if let Err(error) = ended {
                tracing::warn!(%error, "the copy to SQL");
                let following = error.is_passing();
                self.update(|status| (status.error, status.following) = (Some(error.to_string()), following));
                if !following {
                    return;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stopping.changed() => return,
            }
            pause = (pause * 2).min(BACK_OFF.1);
        }
        // What was on its way is in the database now, or never will be.
        connections.closed().await;
    }

    /// One connection, as long as it lasts.
    async fn session(
        &self,
        url: &DatabaseUrl,
        pause: &mut Duration,
        connections: &mut Connections,
    ) -> Result<(), DumpError> {
        let mut events = self.0.node.subscribe();
        let mut session = copy::Session::open(url, &self.0.node, connections).await?;
        loop {
            self.update(|status| {
                session.describe(status);
                status.error = None;
            });
            let committed = self.committed();
            if !session.has_reached(committed) {
                session.copy_batch(committed).await?;
                *pause = BACK_OFF.0;
                continue;
            }
            *pause = BACK_OFF.0;
            let news =
                async { while !matches!(events.recv().await, Ok(NodeEvent::Committed { .. }) | Err(_)) {} };
            if tokio::time::timeout(LOOK, news).await.is_err() {
                session.ping().await?;
            }
        }
    }
}

async fn end(follower: Follower) {
    follower.stop.send_replace(true);
    if let Err(error) = follower.task.await {
        tracing::error!(%error, "the copy to SQL did not end cleanly");
    }
}
