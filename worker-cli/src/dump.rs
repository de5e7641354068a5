//! The copy to PostgreSQL: committed blocks only, by `COPY`, the watermark in the same transaction, so exactly once.
//!
//! A follower goes on with every later block until it is stopped, through restarts of the database and of the node. Its
//! URL rests in the store encrypted (XChaCha20-Poly1305) under a key that follows from the worker's: a copied database or
//! backup without `identity.key` does not give the password away; whoever reads both files has it.

mod connect;
mod copy;
mod rows;
mod secret;

pub use connect::{DatabaseUrl, UrlError};

use crate::api::types::{DumpRequest, DumpStatus, DumpStopped};
use crate::node::{NodeEvent, NodeHandle};
use crate::storage::StorageError;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

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
        found: i32,
        /// The version here.
        known: i32,
    },
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
            _ => None,
        }
    }

    /// Whether trying again may help without anybody doing something.
    const fn is_passing(&self) -> bool {
        matches!(self, Self::Database { .. })
    }
}

struct Follower {
    database: String,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

struct Inner {
    node: NodeHandle,
    follower: Mutex<Option<Follower>>,
    status: RwLock<DumpStatus>,
}

/// The copy's controls. Cheap to clone.
#[derive(Clone)]
pub struct DumpControl(Arc<Inner>);

impl DumpControl {
    /// Nothing is copied yet.
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
            follower: Mutex::new(None),
            status: RwLock::new(status),
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
            Ok(url) => {
                let control = self.clone();
                tokio::spawn(async move { control.follow(url).await });
            }
            Err(error) => tracing::error!(error, "the copy to SQL cannot be taken up again"),
        }
    }

    /// Copies; with `once` what is committed now, else it goes on with every later block. Answers after the first contact
    /// with the database, so that what is wrong with it is told to whoever asked.
    ///
    /// # Errors
    /// See [`DumpError`].
    pub async fn start(&self, request: DumpRequest) -> Result<DumpStatus, DumpError> {
        let url = DatabaseUrl::parse(&request.db_url)?;
        let mut session = copy::Session::open(&url, &self.0.node).await?;
        if request.once {
            while session.copy_batch().await? > 0 {
                self.update(|status| session.describe(status));
            }
            self.update(|status| session.describe(status));
            return Ok(self.status());
        }
        self.update(|status| session.describe(status));
        drop(session);
        let sealed = secret::seal(self.0.node.secret_key(), &request.db_url).map_err(DumpError::Secret)?;
        self.0.node.store().put_meta(JOB, &sealed)?;
        self.follow(url).await;
        Ok(self.status())
    }

    async fn follow(&self, url: DatabaseUrl) {
        let mut follower = self.0.follower.lock().await;
        if follower
            .as_ref()
            .is_some_and(|running| running.database == url.identity() && !running.task.is_finished())
        {
            return;
        }
        if let Some(old) = follower.take() {
            end(old).await;
        }
        let (stop, stopping) = watch::channel(false);
        let shown = url.shown();
        self.update(|status| {
            (status.following, status.error) = (true, None);
            status.database = Some(shown.clone());
        });
        let database = url.identity();
        let task = tokio::spawn(self.clone().run(url, stopping));
        *follower = Some(Follower { database, stop, task });
    }

    /// What is copied.
    #[must_use]
    pub fn status(&self) -> DumpStatus {
        let mut status = self
            .0
            .status
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
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
        self.0.node.store().delete_meta(JOB)?;
        Ok(DumpStopped {
            stopped: self.end_follower().await,
        })
    }

    /// Stops the follower; the node's next start takes it up again.
    pub async fn shutdown(&self) {
        self.end_follower().await;
    }

    async fn end_follower(&self) -> bool {
        let Some(follower) = self.0.follower.lock().await.take() else {
            return false;
        };
        end(follower).await;
        self.update(|status| status.following = false);
        true
    }

    fn update(&self, change: impl FnOnce(&mut DumpStatus)) {
        change(&mut self.0.status.write().unwrap_or_else(PoisonError::into_inner));
    }

    async fn run(self, url: DatabaseUrl, mut stopping: watch::Receiver<bool>) {
        let mut pause = BACK_OFF.0;
        loop {
            let ended = tokio::select! {
                ended = self.session(&url, &mut pause) => ended,
                _ = stopping.changed() => return,
            };
            if let Err(error) = ended {
                tracing::warn!(%error, "the copy to SQL");
                self.update(|status| status.error = Some(error.to_string()));
                if !error.is_passing() {
                    self.update(|status| status.following = false);
                    return;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stopping.changed() => return,
            }
            pause = (pause * 2).min(BACK_OFF.1);
        }
    }

    /// One connection, as long as it lasts.
    async fn session(&self, url: &DatabaseUrl, pause: &mut Duration) -> Result<(), DumpError> {
        let mut events = self.0.node.subscribe();
        let mut session = copy::Session::open(url, &self.0.node).await?;
        loop {
            while session.copy_batch().await? > 0 {
                self.update(|status| session.describe(status));
            }
            self.update(|status| {
                session.describe(status);
                status.error = None;
            });
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
