//! The coordinator's rows, in SQLite or PostgreSQL, behind one set of queries.
//!
//! [`Store::transaction`] runs a closure in one serialisable transaction; what it returns is answered only after the commit
//! is on disk. [`Store::read`] is for what changes nothing. The queries are written once and made for both backends by a
//! macro, since diesel's are typed by backend. Absent: rules (see `service`).

mod archive;
mod connect;
mod postgres;
mod queries;
mod rows;
mod schema;
mod tls;

pub use archive::{PAGE, PAGE_BYTES, TABLES, Table, check_rows, each_page};
pub use rows::{
    ChainRow, CheckpointRow, ClaimRow, CosignatureRow, FigureRow, ForkWishRow, JoinTokenRow, MemberRow,
    NewChainRow, OrderRow, RecoveryRow, TermRow, WorkerRow,
};

use diesel::migration::{Migration, MigrationSource};
use diesel::result::Error as QueryError;
use diesel::sqlite::SqliteConnection;
use diesel::{Connection as _, RunQueryDsl as _};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use postgres::{PgConnection, Postgres};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

const SQLITE_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// Why the database fails.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL is none.
    #[error("the database URL cannot be read: {0}")]
    Url(String),
    /// It cannot be opened or reached.
    #[error("cannot open the database {database}: {reason}")]
    Open {
        /// The file, or the URL without its password.
        database: String,
        /// What the driver said.
        reason: String,
    },
    /// It was written by a later version of this program.
    #[error("the database {database} has schema {found}, which this version does not know")]
    Newer {
        /// The file, or the URL without its password.
        database: String,
        /// The first version of the schema that is not known here.
        found: String,
    },
    /// A query failed.
    #[error("the database failed: {0}")]
    Query(#[from] diesel::result::Error),
    /// A row holds what it cannot.
    #[error("the database is damaged: {0}")]
    Damaged(String),
}

/// An error that may be the database's: a transaction that could not be serialised is then run again.
pub trait Refusal: From<StoreError> {
    /// The database's error, where it is one.
    fn store_error(&self) -> Option<&StoreError>;
}

impl Refusal for StoreError {
    fn store_error(&self) -> Option<&StoreError> {
        Some(self)
    }
}

/// The database.
pub struct Store(Backend);

enum Backend {
    Sqlite(Mutex<SqliteConnection>),
    Postgres(Postgres),
}

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
    /// Keeps a setting, in place of what it was.
    ///
    /// # Errors
    /// Where the database fails.
    fn set_setting(&mut self, name: &str, value: &str) -> Result<(), StoreError>;
    /// Records that a challenge is used, until it is over; forgets those that are. Gives whether it was not used before.
    ///
    /// # Errors
    /// Where the database fails.
    fn use_challenge(&mut self, challenge: &str, expires_ms: i64, now_ms: i64) -> Result<bool, StoreError>;
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
    /// The encoded spec of a chain, in hex.
    ///
    /// # Errors
    /// Where the database fails.
    fn spec(&mut self, chain: &str) -> Result<Option<String>, StoreError>;
    /// How many chains a worker has made.
    ///
    /// # Errors
    /// Where the database fails.
    fn count_made_by(&mut self, worker: &str) -> Result<i64, StoreError>;
    /// Adds a chain.
    ///
    /// # Errors
    /// Where the database fails, or there is one of this name.
    fn add_chain(&mut self, chain: &NewChainRow) -> Result<(), StoreError>;
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
    /// Bans a worker from a moment on and takes its token, or lets it back in.
    ///
    /// # Errors
    /// Where the database fails.
    fn set_banned(&mut self, id: &str, since_ms: Option<i64>) -> Result<(), StoreError>;
    /// The workers that are banned, the last one first.
    ///
    /// # Errors
    /// Where the database fails.
    fn banned(&mut self) -> Result<Vec<WorkerRow>, StoreError>;
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
    /// What workers have shown that is not known here, by worker.
    ///
    /// # Errors
    /// Where the database fails.
    fn claims(&mut self, chain: &str) -> Result<Vec<ClaimRow>, StoreError>;
    /// Keeps what a worker shows, in place of what it showed before.
    ///
    /// # Errors
    /// Where the database fails.
    fn put_claim(&mut self, claim: &ClaimRow) -> Result<(), StoreError>;
    /// Forgets what workers have shown.
    ///
    /// # Errors
    /// Where the database fails.
    fn remove_claims(&mut self, chain: &str) -> Result<(), StoreError>;
    /// The recoveries of a chain, oldest first.
    ///
    /// # Errors
    /// Where the database fails.
    fn recoveries(&mut self, chain: &str) -> Result<Vec<RecoveryRow>, StoreError>;
    /// Records a recovery; never replaces one.
    ///
    /// # Errors
    /// Where the database fails, or there is one of this moment.
    fn add_recovery(&mut self, recovery: &RecoveryRow) -> Result<(), StoreError>;
    /// The coordinator's own transactions on a chain from a nonce on, in order, at most `limit`.
    ///
    /// # Errors
    /// Where the database fails.
    fn orders(&mut self, chain: &str, from: i64, limit: i64) -> Result<Vec<OrderRow>, StoreError>;
    /// The nonce of the coordinator's next transaction on a chain.
    ///
    /// # Errors
    /// Where the database fails.
    fn next_order(&mut self, chain: &str) -> Result<i64, StoreError>;
    /// Records a transaction of the coordinator's; never replaces one.
    ///
    /// # Errors
    /// Where the database fails, or there is one with this nonce.
    fn add_order(&mut self, order: &OrderRow) -> Result<(), StoreError>;
    /// All join tokens, the newest first.
    ///
    /// # Errors
    /// Where the database fails.
    fn join_tokens(&mut self) -> Result<Vec<JoinTokenRow>, StoreError>;
    /// The join token of a hash.
    ///
    /// # Errors
    /// Where the database fails.
    fn join_token(&mut self, hash: &str) -> Result<Option<JoinTokenRow>, StoreError>;
    /// Adds a join token, or puts it in place of what was known of it.
    ///
    /// # Errors
    /// Where the database fails.
    fn put_join_token(&mut self, token: &JoinTokenRow) -> Result<(), StoreError>;
    /// Forgets join tokens that were no good any more at a time.
    ///
    /// # Errors
    /// Where the database fails.
    fn forget_join_tokens(&mut self, before_ms: i64) -> Result<(), StoreError>;
    /// The last terms of a chain, the newest first.
    ///
    /// # Errors
    /// Where the database fails.
    fn terms(&mut self, chain: &str, limit: i64) -> Result<Vec<TermRow>, StoreError>;
    /// Records who leads in a term; a second time changes nothing.
    ///
    /// # Errors
    /// Where the database fails.
    fn add_term(&mut self, term: &TermRow) -> Result<(), StoreError>;
    /// The figures of a chain from a minute on, in order.
    ///
    /// # Errors
    /// Where the database fails.
    fn figures(&mut self, chain: &str, from: i64) -> Result<Vec<FigureRow>, StoreError>;
    /// The figures of a minute.
    ///
    /// # Errors
    /// Where the database fails.
    fn figure(&mut self, chain: &str, minute: i64) -> Result<Option<FigureRow>, StoreError>;
    /// Keeps the figures of a minute, in place of what they were.
    ///
    /// # Errors
    /// Where the database fails.
    fn put_figure(&mut self, figure: &FigureRow) -> Result<(), StoreError>;
    /// Forgets the figures of minutes before one.
    ///
    /// # Errors
    /// Where the database fails.
    fn forget_figures(&mut self, before: i64) -> Result<(), StoreError>;
    /// The forks that were asked for, by name.
    ///
    /// # Errors
    /// Where the database fails.
    fn fork_wishes(&mut self) -> Result<Vec<ForkWishRow>, StoreError>;
    /// Asks for a fork.
    ///
    /// # Errors
    /// Where the database fails, or one of this name was asked for.
    fn add_fork_wish(&mut self, wish: &ForkWishRow) -> Result<(), StoreError>;
    /// Forgets a fork that was asked for.
    ///
    /// # Errors
    /// Where the database fails.
    fn remove_fork_wish(&mut self, name: &str) -> Result<(), StoreError>;
    /// The next [`PAGE`] rows of a table as JSON, in the order of its key: the first, or those after a row.
    ///
    /// # Errors
    /// Where the database fails.
    fn page(&mut self, table: &Table, after: Option<&str>) -> Result<Vec<String>, StoreError>;
    /// Adds the rows of a JSON array, of which these columns are taken; how many there were.
    ///
    /// # Errors
    /// Where the database fails, or one is there already.
    fn load_rows(&mut self, table: &Table, columns: &[&str], rows: &str) -> Result<usize, StoreError>;
    /// What the database takes on its disk, in bytes.
    ///
    /// # Errors
    /// Where the database fails.
    fn disk_bytes(&mut self) -> Result<i64, StoreError>;
    /// Removes all rows of a table.
    ///
    /// # Errors
    /// Where the database fails.
    fn clear(&mut self, table: &Table) -> Result<(), StoreError>;
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
        // It holds the coordinator's key. SQLite gives its other files the mode of this one.
        let private = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path);
        private.map_err(|error| open(error.to_string()))?;
        let mut connection =
            SqliteConnection::establish(&database).map_err(|error| open(error.to_string()))?;
        for pragma in [
            "busy_timeout = 5000",
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
        ] {
            let set = diesel::sql_query(format!("PRAGMA {pragma}")).execute(&mut connection);
            set.map_err(|error| open(error.to_string()))?;
        }
        migrate(&mut connection, SQLITE_MIGRATIONS, &database)?;
        Ok(Self(Backend::Sqlite(Mutex::new(connection))))
    }

    /// Whether other servers may write to the same database.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        matches!(self.0, Backend::Postgres(_))
    }

    /// Connects to PostgreSQL. Call it, and use the store, from a thread that may block.
    ///
    /// # Errors
    /// Where it cannot be reached or refuses, or was written by a later version.
    pub fn open_postgres(url: &str) -> Result<Self, StoreError> {
        Ok(Self(Backend::Postgres(Postgres::open(url)?)))
    }

    /// Runs a closure in one serialisable transaction. Where it fails nothing is changed.
    ///
    /// # Errors
    /// The closure's error, or that of the database. A closure may run several times on PostgreSQL.
    pub fn transaction<T, E: Refusal>(
        &self,
        mut run: impl FnMut(&mut dyn Tx) -> Result<T, E>,
    ) -> Result<T, E> {
        match &self.0 {
            Backend::Sqlite(connection) => {
                let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                let result = connection.immediate_transaction(|tx| run(tx).map_err(Failure::Refused));
                result.map_err(Failure::into_error)
            }
            Backend::Postgres(postgres) => postgres.transaction(run),
        }
    }

    /// Runs a closure that only reads, all of it as of one moment.
    ///
    /// # Errors
    /// The closure's error, or that of the database: one that writes may be refused.
    pub fn read<T, E: Refusal>(&self, mut run: impl FnMut(&mut dyn Tx) -> Result<T, E>) -> Result<T, E> {
        match &self.0 {
            Backend::Sqlite(connection) => {
                let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                let result = connection.transaction(|tx| run(tx).map_err(Failure::Refused));
                result.map_err(Failure::into_error)
            }
            Backend::Postgres(postgres) => postgres.read(run),
        }
    }
}

enum Failure<E> {
    Refused(E),
    Store(StoreError),
}

impl<E: Refusal> Failure<E> {
    fn into_error(self) -> E {
        match self {
            Self::Refused(error) => error,
            Self::Store(error) => error.into(),
        }
    }
}

impl<E> From<QueryError> for Failure<E> {
    fn from(error: QueryError) -> Self {
        Self::Store(StoreError::Query(error))
    }
}

/// Brings the tables up to this version, unless a later one has made them.
fn migrate<C, B>(connection: &mut C, source: EmbeddedMigrations, database: &str) -> Result<(), StoreError>
where
    B: diesel::backend::Backend,
    C: MigrationHarness<B>,
{
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| StoreError::Open {
        database: database.to_owned(),
        reason: error.to_string(),
    };
    let known: Vec<Box<dyn Migration<B>>> = source.migrations().map_err(failed)?;
    let applied = connection.applied_migrations().map_err(failed)?;
    let is_known = |version: &_| {
        known
            .iter()
            .any(|migration| migration.name().version() == *version)
    };
    if let Some(unknown) = applied.into_iter().find(|version| !is_known(version)) {
        return Err(StoreError::Newer {
            database: database.to_owned(),
            found: unknown.to_string(),
        });
    }
    connection.run_pending_migrations(source).map_err(failed)?;
    Ok(())
}
