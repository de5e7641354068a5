//! A pool of connections to PostgreSQL: made again where they broke, and driven by a runtime of its own.
//!
//! A server reads on as many as there are, and writes on one: of two writing transactions at a time PostgreSQL would only
//! undo one, since nearly each reads what the other writes. Between servers that does happen, and the one undone runs again.
//! The runtime is its own because the HTTP server's threads each have one that ends with them.

use super::connect::DatabaseUrl;
use super::{Failure, POSTGRES_MIGRATIONS, Refusal, StoreError, Tx, migrate};
use diesel::connection::SimpleConnection as _;
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use diesel::sql_types::Text;
use diesel::{Connection as _, ConnectionError, RunQueryDsl as _};
use diesel_async::AsyncPgConnection;
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_async::pooled_connection::deadpool::{Object, Pool, PoolError};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod};
use futures_util::FutureExt as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// A connection of the pool, without libpq, used from blocking threads; dropped it is free again.
pub(super) type PgConnection = AsyncConnectionWrapper<Object<AsyncPgConnection>>;

/// Connections of one server: PostgreSQL's own 100 connections are enough for ten servers and their operator.
const CONNECTIONS: usize = 8;
/// How long to wait for a connection that is free: workers give up after as long.
const WAIT: Duration = Duration::from_secs(10);
/// How often a transaction is begun that others were faster than.
const CONFLICT_TRIES: u32 = 20;
/// The longest pause before it is begun again, in milliseconds.
const MAX_PAUSE_MS: u64 = 64;
/// How often a transaction is begun whose connection broke: what was cut off with it is commonly back at once.
const BROKEN_TRIES: u32 = 3;

/// Serialisable, on disk before it is answered, and never stuck behind a lock for ever.
const SESSION: &str = "SET default_transaction_isolation = 'serializable'; \
    SET synchronous_commit = on; SET statement_timeout = '10s'; SET lock_timeout = '10s'";

/// Readers see one moment, and are in nobody's way.
const SNAPSHOT: &str = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";

/// Servers that start at once make the tables one after the other.
const LOCK_MIGRATIONS: &str = "SELECT pg_advisory_lock(7203412201)";
const UNLOCK_MIGRATIONS: &str = "SELECT pg_advisory_unlock(7203412201)";

pub(super) struct Postgres {
    shown: String,
    pool: Pool<AsyncPgConnection>,
    /// Held by who writes.
    writing: Mutex<()>,
    /// Only `drop` takes it.
    runtime: Option<Runtime>,
}

impl Postgres {
    /// Connects, and brings the tables up to this version.
    pub(super) fn open(url: &str) -> Result<Self, StoreError> {
        let url = DatabaseUrl::parse(url).map_err(StoreError::Url)?;
        let shown = url.shown().to_owned();
        let failed = |reason: String| StoreError::Open {
            database: shown.clone(),
            reason,
        };
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("postgres")
            .enable_all()
            .build();
        let this = Self {
            pool: pool(url).map_err(failed)?,
            writing: Mutex::new(()),
            shown: shown.clone(),
            runtime: Some(runtime.map_err(|error| failed(error.to_string()))?),
        };
        let mut connection = this.connection()?;
        let locked = connection.batch_execute(LOCK_MIGRATIONS);
        locked.map_err(|error| failed(error.to_string()))?;
        migrate(&mut connection, POSTGRES_MIGRATIONS, &shown)?;
        let unlocked = connection.batch_execute(UNLOCK_MIGRATIONS);
        unlocked.map_err(|error| failed(error.to_string()))?;
        let fsync = diesel::dsl::sql::<Text>("current_setting('fsync')");
        let fsync: String = diesel::select(fsync)
            .get_result(&mut connection)
            .map_err(|error| failed(error.to_string()))?;
        if fsync != "on" {
            tracing::warn!(
                "PostgreSQL runs with fsync = {fsync}: what it commits may be lost, and workers refuse what went back"
            );
        }
        drop(connection);
        Ok(this)
    }

    /// A connection that is free, or a new one.
    fn connection(&self) -> Result<PgConnection, StoreError> {
        let failed = |reason: String| StoreError::Open {
            database: self.shown.clone(),
            reason,
        };
        let runtime = self.runtime.as_ref();
        let runtime = runtime.ok_or_else(|| failed("it is being closed".to_owned()))?;
        let got = runtime.block_on(async { tokio::time::timeout(WAIT, self.pool.get()).await });
        let busy = || {
            let seconds = WAIT.as_secs();
            failed(format!("all {CONNECTIONS} connections are busy for {seconds} s"))
        };
        let connection = got.ok().ok_or_else(busy)?.map_err(|error| match error {
            PoolError::Backend(error) => failed(error.to_string()),
            other => failed(other.to_string()),
        })?;
        // The wrapper keeps the handle of the runtime that it is made in.
        let _entered = runtime.enter();
        Ok(PgConnection::from(connection))
    }

    /// Runs a closure in one serialisable transaction; again where another server was faster, or the connection broke
    /// before the closure was through.
    pub(super) fn transaction<T, E: Refusal>(
        &self,
        run: impl FnMut(&mut dyn Tx) -> Result<T, E>,
    ) -> Result<T, E> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.attempts("", run)
    }

    /// Runs a closure that only reads, all of it as of one moment.
    pub(super) fn read<T, E: Refusal>(&self, run: impl FnMut(&mut dyn Tx) -> Result<T, E>) -> Result<T, E> {
        self.attempts(SNAPSHOT, run)
    }

    fn attempts<T, E: Refusal>(
        &self,
        mode: &str,
        mut run: impl FnMut(&mut dyn Tx) -> Result<T, E>,
    ) -> Result<T, E> {
        let (mut conflicts, mut breaks) = (0, 0);
        loop {
            let mut connection = self.connection()?;
            let mut through = false;
            let result = connection.transaction(|tx: &mut PgConnection| {
                if !mode.is_empty() {
                    tx.batch_execute(mode)?;
                }
                let result = run(tx);
                through = result.is_ok();
                result.map_err(Failure::Refused)
            });
            let error: E = match result {
                Ok(value) => return Ok(value),
                Err(failure) => failure.into_error(),
            };
            match error.store_error() {
                Some(StoreError::Query(query)) if is_conflict(query) => {
                    conflicts += 1;
                    if conflicts >= CONFLICT_TRIES {
                        return Err(error);
                    }
                    drop(connection);
                    std::thread::sleep(pause(conflicts));
                }
                Some(StoreError::Query(query)) if may_be_broken(query) => {
                    breaks += 1;
                    // Out of the pool with it: it may not know yet that it is closed.
                    drop(Object::take(connection.into_inner()));
                    // Where the connection broke at the commit, nobody knows whether it happened: the caller asks again.
                    if through || breaks >= BROKEN_TRIES {
                        return Err(error);
                    }
                }
                _ => return Err(error),
            }
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.pool.close();
        // A runtime must not be waited for where the last holder is asynchronous.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn pool(url: DatabaseUrl) -> Result<Pool<AsyncPgConnection>, String> {
    use diesel_async::SimpleAsyncConnection as _;
    let mut config = ManagerConfig::default();
    // A closed connection is noticed without asking the database.
    config.recycling_method = RecyclingMethod::Fast;
    config.custom_setup = Box::new(move |_| {
        let url = url.clone();
        async move {
            let mut connection = url.connect().await.map_err(ConnectionError::BadConnection)?;
            let set = connection.batch_execute(SESSION).await;
            set.map_err(ConnectionError::CouldntSetupConfiguration)?;
            Ok(connection)
        }
        .boxed()
    });
    // The set-up has the URL: what the manager is given besides, and might show, is nothing.
    let manager = AsyncDieselConnectionManager::new_with_config(String::new(), config);
    let pool = Pool::builder(manager).max_size(CONNECTIONS).build();
    pool.map_err(|error| error.to_string())
}

/// Another transaction was faster; this one did nothing and may run again.
const fn is_conflict(error: &QueryError) -> bool {
    use DatabaseErrorKind::{SerializationFailure, UniqueViolation};
    matches!(
        error,
        QueryError::DatabaseError(SerializationFailure | UniqueViolation, _)
    )
}

/// Whether an error may mean that the connection is of no more use.
const fn may_be_broken(error: &QueryError) -> bool {
    use DatabaseErrorKind::{ClosedConnection, UnableToSendCommand, Unknown};
    match error {
        QueryError::DatabaseError(kind, _) => {
            matches!(kind, ClosedConnection | UnableToSendCommand | Unknown)
        }
        QueryError::NotFound | QueryError::DeserializationError(_) => false,
        _ => true,
    }
}

/// Before the next try, by chance, so that those who were in each other's way are so no more.
fn pause(tries: u32) -> Duration {
    let longest = 1_u64.checked_shl(tries).unwrap_or(MAX_PAUSE_MS).min(MAX_PAUSE_MS);
    let chance = getrandom::u64().unwrap_or_default();
    Duration::from_millis(chance % longest.saturating_add(1))
}
