//! The coordinator's rows, in SQLite or PostgreSQL, behind one set of queries.
//!
//! [`Store::transaction`] runs a closure in one serialisable transaction; what it returns is answered only after the commit
//! is on disk. The queries are written once and made for both backends by a macro, since diesel's are typed by backend.
//! Absent: rules (see `service`).

mod queries;
mod rows;
mod schema;

pub use rows::{ChainRow, CheckpointRow, CosignatureRow, MemberRow, WorkerRow};

use diesel::sqlite::SqliteConnection;
use diesel::{Connection as _, RunQueryDsl as _};
use diesel_async::AsyncPgConnection;
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

const SQLITE_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// How often a transaction is begun again that PostgreSQL could not serialise.
const SERIALISATION_TRIES: usize = 20;

/// A connection to PostgreSQL without libpq, used from blocking threads.
type PgConnection = AsyncConnectionWrapper<AsyncPgConnection>;

/// Why the database fails.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened or reached.
    #[error("cannot open the database {database}: {reason}")]
    Open {
        /// The file, or the URL without its password.
        database: String,
        /// What the driver said.
        reason: String,
    },
    /// A query failed.
    #[error("the database failed: {0}")]
    Query(#[from] diesel::result::Error),
    /// A row holds what it cannot.
    #[error("the database is damaged: {0}")]
    Damaged(String),
}

enum Backend {
    Sqlite(SqliteConnection),
    Postgres(Box<PgConnection>),
}

/// The database.
pub struct Store(Mutex<Backend>);

/// The queries, within a transaction.
pub trait Tx {
    /// A setting.
    ///
    /// # Errors
    /// Where the database fails; so for all of these.
    fn setting(&mut self, name: &str) -> Result<Option<String>, StoreError>;
    /// Keeps a setting that was not there.
    ///
    /// # Errors
    /// Where the database fails.
    fn add_setting(&mut self, name: &str, value: &str) -> Result<(), StoreError>;
    /// Keeps a challenge; forgets those that are over.
    ///
    /// # Errors
    /// Where the database fails.
    fn add_challenge(&mut self, challenge: &str, expires_ms: i64, now_ms: i64) -> Result<(), StoreError>;
    /// Takes a challenge that is not over; it is gone then. Gives whether it was there.
    ///
    /// # Errors
    /// Where the database fails.
    fn take_challenge(&mut self, challenge: &str, now_ms: i64) -> Result<bool, StoreError>;
    /// How many challenges are out.
    ///
    /// # Errors
    /// Where the database fails.
    fn count_challenges(&mut self) -> Result<i64, StoreError>;
    /// All chains, by name.
    ///
    /// # Errors
    /// Where the database fails.
    fn chains(&mut self) -> Result<Vec<ChainRow>, StoreError>;
    /// A chain.
    ///
    /// # Errors
    /// Where the database fails.
    fn chain(&mut self, name: &str) -> Result<Option<ChainRow>, StoreError>;
    /// Adds a chain.
    ///
    /// # Errors
    /// Where the database fails, or there is one of this name.
    fn add_chain(&mut self, chain: &ChainRow) -> Result<(), StoreError>;
    /// Sets a chain's term and leader.
    ///
    /// # Errors
    /// Where the database fails.
    fn set_leader(
        &mut self,
        chain: &str,
        term: i64,
        leader: Option<&str>,
        since_ms: i64,
    ) -> Result<(), StoreError>;
    /// Sets how many blocks are final.
    ///
    /// # Errors
    /// Where the database fails.
    fn set_final(&mut self, chain: &str, size: i64) -> Result<(), StoreError>;
    /// A worker by id.
    ///
    /// # Errors
    /// Where the database fails.
    fn worker(&mut self, id: &str) -> Result<Option<WorkerRow>, StoreError>;
    /// A worker by key.
    ///
    /// # Errors
    /// Where the database fails.
    fn worker_of_key(&mut self, key: &str) -> Result<Option<WorkerRow>, StoreError>;
    /// How many workers there are, members or not.
    ///
    /// # Errors
    /// Where the database fails.
    fn count_workers(&mut self) -> Result<i64, StoreError>;
    /// Adds a worker.
    ///
    /// # Errors
    /// Where the database fails, or the id or key is taken.
    fn add_worker(&mut self, worker: &WorkerRow) -> Result<(), StoreError>;
    /// Gives a worker a new token and name.
    ///
    /// # Errors
    /// Where the database fails.
    fn set_worker(&mut self, id: &str, name: Option<&str>, token_hash: &str) -> Result<(), StoreError>;
    /// A chain's members with their workers, the longest registered first.
    ///
    /// # Errors
    /// Where the database fails.
    fn members(&mut self, chain: &str) -> Result<Vec<(MemberRow, WorkerRow)>, StoreError>;
    /// Adds a member, or puts it in place of what was known of it.
    ///
    /// # Errors
    /// Where the database fails.
    fn put_member(&mut self, member: &MemberRow) -> Result<(), StoreError>;
    /// Takes a member out; gives whether it was one.
    ///
    /// # Errors
    /// Where the database fails.
    fn remove_member(&mut self, chain: &str, worker: &str) -> Result<bool, StoreError>;
    /// The checkpoint of a size.
    ///
    /// # Errors
    /// Where the database fails.
    fn checkpoint(&mut self, chain: &str, size: i64) -> Result<Option<CheckpointRow>, StoreError>;
    /// The newest checkpoint.
    ///
    /// # Errors
    /// Where the database fails.
    fn last_checkpoint(&mut self, chain: &str) -> Result<Option<CheckpointRow>, StoreError>;
    /// Checkpoints of at least a size, in order.
    ///
    /// # Errors
    /// Where the database fails.
    fn checkpoints(&mut self, chain: &str, from: i64, limit: i64) -> Result<Vec<CheckpointRow>, StoreError>;
    /// Adds a checkpoint; never replaces one.
    ///
    /// # Errors
    /// Where the database fails, or there is one of this size.
    fn add_checkpoint(&mut self, checkpoint: &CheckpointRow) -> Result<(), StoreError>;
    /// A checkpoint's cosignatures.
    ///
    /// # Errors
    /// Where the database fails.
    fn cosignatures(&mut self, chain: &str, size: i64) -> Result<Vec<CosignatureRow>, StoreError>;
    /// Adds a cosignature; a second one of the same key changes nothing.
    ///
    /// # Errors
    /// Where the database fails.
    fn add_cosignature(&mut self, cosignature: &CosignatureRow) -> Result<(), StoreError>;
}

impl Store {
    /// Opens or creates a SQLite file; every commit is synced.
    ///
    /// # Errors
    /// Where it cannot be opened, or was written by a later version.
    pub fn open_sqlite(path: &Path) -> Result<Self, StoreError> {
        let database = path.display().to_string();
        let open = |reason: String| StoreError::Open {
            database: database.clone(),
            reason,
        };
        let mut connection =
            SqliteConnection::establish(&database).map_err(|error| open(error.to_string()))?;
        for pragma in [
            "journal_mode = WAL",
            "synchronous = FULL",
            "busy_timeout = 5000",
            "foreign_keys = ON",
        ] {
            let set = diesel::sql_query(format!("PRAGMA {pragma}")).execute(&mut connection);
            set.map_err(|error| open(error.to_string()))?;
        }
        connection
            .run_pending_migrations(SQLITE_MIGRATIONS)
            .map_err(|error| open(error.to_string()))?;
        Ok(Self(Mutex::new(Backend::Sqlite(connection))))
    }

    /// Connects to PostgreSQL. Call it, and use the store, from a thread that may block.
    ///
    /// # Errors
    /// Where it cannot be reached or refuses, or was written by a later version.
    pub fn open_postgres(url: &str) -> Result<Self, StoreError> {
        let open = |reason: String| StoreError::Open {
            database: without_password(url),
            reason,
        };
        let mut connection = PgConnection::establish(url).map_err(|error| open(error.to_string()))?;
        connection
            .run_pending_migrations(POSTGRES_MIGRATIONS)
            .map_err(|error| open(error.to_string()))?;
        Ok(Self(Mutex::new(Backend::Postgres(Box::new(connection)))))
    }

    /// Runs a closure in one serialisable transaction. Where it fails nothing is changed.
    ///
    /// # Errors
    /// The closure's error, or that of the database. A closure may run several times on PostgreSQL.
    pub fn transaction<T, E>(&self, mut run: impl FnMut(&mut dyn Tx) -> Result<T, E>) -> Result<T, E>
    where
        E: From<StoreError>,
    {
        let mut backend = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tries = 0;
        loop {
            tries += 1;
            let result = match &mut *backend {
                Backend::Sqlite(connection) => {
                    connection.immediate_transaction(|connection| run(connection).map_err(Failure::Refused))
                }
                Backend::Postgres(connection) => connection.transaction(|connection: &mut PgConnection| {
                    diesel::sql_query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE").execute(connection)?;
                    run(connection).map_err(Failure::Refused)
                }),
            };
            match result {
                Ok(value) => return Ok(value),
                Err(Failure::Refused(error)) => return Err(error),
                Err(Failure::Database(error)) => {
                    use diesel::result::{DatabaseErrorKind, Error};
                    let again = matches!(
                        &error,
                        Error::DatabaseError(DatabaseErrorKind::SerializationFailure, _)
                    );
                    if !again || tries >= SERIALISATION_TRIES {
                        return Err(StoreError::Query(error).into());
                    }
                }
            }
        }
    }
}

enum Failure<E> {
    Refused(E),
    Database(diesel::result::Error),
}

impl<E> From<diesel::result::Error> for Failure<E> {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(error)
    }
}

/// A database URL as it may be shown.
#[must_use]
pub fn without_password(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(mut parsed) => {
            if parsed.password().is_some() && parsed.set_password(Some("***")).is_err() {
                return "a database".to_owned();
            }
            parsed.set_query(None);
            parsed.to_string()
        }
        Err(_) => "a database URL that cannot be read".to_owned(),
    }
}
