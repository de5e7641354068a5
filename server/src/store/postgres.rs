//! The connection to PostgreSQL: made again where it broke, and driven by a runtime of its own.
//!
//! The runtime is its own because the HTTP server's threads each have one that ends with them.

use super::connect::DatabaseUrl;
use super::{Failure, POSTGRES_MIGRATIONS, PgConnection, StoreError, Tx, migrate};
use diesel::Connection as _;
use diesel::connection::SimpleConnection as _;
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use tokio::runtime::{Builder, Runtime};

/// Serialisable, on disk before it is answered, and never stuck behind a lock for ever.
const SESSION: &str = "SET default_transaction_isolation = 'serializable'; \
    SET synchronous_commit = on; SET statement_timeout = '10s'; SET lock_timeout = '10s'";

/// Servers that start at once make the tables one after the other.
const LOCK_MIGRATIONS: &str = "SELECT pg_advisory_lock(7203412201)";
const UNLOCK_MIGRATIONS: &str = "SELECT pg_advisory_unlock(7203412201)";

pub(super) struct Postgres {
    url: DatabaseUrl,
    connection: Option<PgConnection>,
    /// Only `drop` takes it.
    runtime: Option<Runtime>,
}

impl Postgres {
    pub(super) fn open(url: &str) -> Result<Self, StoreError> {
        let failed = |database: &str, reason: String| StoreError::Open {
            database: database.to_owned(),
            reason,
        };
        let url = DatabaseUrl::parse(url).map_err(|reason| failed("of --database-url", reason))?;
        let shown = url.shown();
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("postgres")
            .enable_all()
            .build();
        let mut this = Self {
            url,
            connection: None,
            runtime: Some(runtime.map_err(|error| failed(&shown, error.to_string()))?),
        };
        let mut connection = this.connect()?;
        let locked = connection.batch_execute(LOCK_MIGRATIONS);
        locked.map_err(|error| failed(&shown, error.to_string()))?;
        migrate(&mut connection, POSTGRES_MIGRATIONS, &shown)?;
        let unlocked = connection.batch_execute(UNLOCK_MIGRATIONS);
        unlocked.map_err(|error| failed(&shown, error.to_string()))?;
        this.connection = Some(connection);
        Ok(this)
    }

    fn connect(&self) -> Result<PgConnection, StoreError> {
        let failed = |reason: String| StoreError::Open {
            database: self.url.shown(),
            reason,
        };
        let runtime = self.runtime.as_ref();
        let runtime = runtime.ok_or_else(|| failed("it is being closed".to_owned()))?;
        let connected = runtime.block_on(self.url.connect()).map_err(failed)?;
        // The wrapper keeps the handle of the runtime that it is made in.
        let entered = runtime.enter();
        let mut connection = PgConnection::from(connected);
        drop(entered);
        let set = connection.batch_execute(SESSION);
        set.map_err(|error| failed(error.to_string()))?;
        Ok(connection)
    }

    /// Tries a transaction once, on a new connection where there is none.
    pub(super) fn attempt<T, E>(
        &mut self,
        run: impl FnOnce(&mut dyn Tx) -> Result<T, Failure<E>>,
    ) -> Result<T, Failure<E>> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().map_err(Failure::Store)?,
        };
        let result = connection.transaction(|tx: &mut PgConnection| run(tx));
        self.connection = Some(connection);
        result
    }

    /// Gives up the connection where an error may mean that it broke; gives whether it did.
    pub(super) fn forget_broken(&mut self, error: &QueryError) -> bool {
        use DatabaseErrorKind::{ClosedConnection, UnableToSendCommand, Unknown};
        let broken = match error {
            QueryError::DatabaseError(kind, _) => {
                matches!(kind, ClosedConnection | UnableToSendCommand | Unknown)
            }
            QueryError::NotFound | QueryError::DeserializationError(_) => false,
            _ => true,
        };
        if broken {
            self.connection = None;
        }
        broken
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.connection = None;
        // A runtime must not be waited for where the last holder is asynchronous.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
