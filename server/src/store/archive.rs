//! All rows as JSON, a table at a time, for backups: read in pages within one transaction, and written the same way.
//!
//! The same rows come from SQLite and from PostgreSQL, so a backup of the one can be restored in the other. Not kept:
//! challenges, which are good for a minute.

use super::rows::{
    CheckpointRow, ClaimRow, CosignatureRow, FigureRow, ForkWishRow, JoinTokenRow, MemberRow, NewChainRow,
    OrderRow, RecoveryRow, SettingRow, TermRow, WorkerRow,
};
use super::{Store, StoreError, Tx};
use serde::de::DeserializeOwned;

/// Rows read at a time: most have a few hundred bytes, and the longest, notes of checkpoints, 64 KiB.
pub const PAGE: usize = 500;
/// Chains read at a time: a spec of a mebibyte is twice as long in hex.
const CHAINS: usize = 4;
/// Bytes of rows that are given together, unless one row alone is longer: half of what a part of a backup may have.
pub const PAGE_BYTES: usize = 8 * 1_048_576;

/// A table: its name, its primary key, its columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    key: &'static [&'static str],
    /// Its columns.
    pub columns: &'static [&'static str],
}

/// The SQL that a database speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    pub(super) const fn disk_bytes_sql(self) -> &'static str {
        match self {
            Self::Sqlite => {
                "SELECT page_count * page_size AS bytes FROM pragma_page_count(), pragma_page_size()"
            }
            Self::Postgres => "SELECT pg_database_size(current_database()) AS bytes",
        }
    }
}

/// Columns of a key that hold numbers.
const NUMBERS: [&str; 6] = ["size", "at_ms", "nonce", "term", "minute", "expires_ms"];

const fn table(name: &'static str, key: &'static [&'static str], columns: &'static [&'static str]) -> Table {
    Table { name, key, columns }
}

/// All tables, in the order in which they are restored.
pub const TABLES: [Table; 13] = [
    table("settings", &["name"], &["name", "value"]),
    table(
        "chains",
        &["name"],
        &[
            "name",
            "id",
            "spec",
            "term",
            "leader",
            "leader_since_ms",
            "final_size",
            "made_by",
        ],
    ),
    table(
        "workers",
        &["id"],
        &[
            "id",
            "public_key",
            "name",
            "token_hash",
            "registered_ms",
            "banned_ms",
        ],
    ),
    table(
        "members",
        &["chain", "worker"],
        &[
            "chain",
            "worker",
            "joined",
            "addresses",
            "api",
            "last_seen_ms",
            "height",
            "head",
            "committed",
            "counts",
            "orders",
            "version",
        ],
    ),
    table(
        "checkpoints",
        &["chain", "size"],
        &["chain", "size", "root", "block", "note"],
    ),
    table(
        "cosignatures",
        &["chain", "size", "public_key"],
        &["chain", "size", "public_key", "line"],
    ),
    table(
        "claims",
        &["chain", "worker"],
        &["chain", "worker", "term", "size", "note", "claimed_ms"],
    ),
    table("recoveries", &["chain", "at_ms"], &["chain", "at_ms", "note"]),
    table("orders", &["chain", "nonce"], &["chain", "nonce", "body"]),
    table(
        "join_tokens",
        &["id"],
        &[
            "id",
            "hash",
            "label",
            "created_ms",
            "expires_ms",
            "uses_left",
            "used",
            "revoked_ms",
        ],
    ),
    table(
        "terms",
        &["chain", "term"],
        &["chain", "term", "worker", "since_ms"],
    ),
    table(
        "figures",
        &["chain", "minute"],
        &[
            "chain",
            "minute",
            "blocks",
            "transactions",
            "bytes",
            "work",
            "checkpoints",
            "final_ms",
            "finals",
            "shares",
        ],
    ),
    table("fork_wishes", &["name"], &["name", "chain", "height", "asked_ms"]),
];

impl Table {
    /// One row a line as JSON, in the order of the key, after the row that is bound where one is.
    pub(super) fn page_sql(&self, dialect: Dialect, is_after: bool) -> String {
        let (name, keys) = (self.name, self.key.join(", "));
        let after = match dialect {
            _ if !is_after => String::new(),
            Dialect::Sqlite => {
                let values: Vec<_> = self.key.iter().map(|key| format!("(?1 ->> '{key}')")).collect();
                format!("WHERE ({keys}) > ({})", values.join(", "))
            }
            Dialect::Postgres => {
                let value = |key: &&str| match NUMBERS.contains(key) {
                    true => format!("($1::json ->> '{key}')::bigint"),
                    false => format!("($1::json ->> '{key}')"),
                };
                let values: Vec<_> = self.key.iter().map(value).collect();
                format!("WHERE ({keys}) > ({})", values.join(", "))
            }
        };
        let columns = self.columns.join(", ");
        let line = match dialect {
            Dialect::Sqlite => {
                let pairs: Vec<_> = self
                    .columns
                    .iter()
                    .map(|column| format!("'{column}', {column}"))
                    .collect();
                format!("json_object({})", pairs.join(", "))
            }
            Dialect::Postgres => "row_to_json(page)::text".to_owned(),
        };
        let limit = self.page();
        format!(
            "SELECT {line} AS line FROM (SELECT {columns} FROM {name} {after} ORDER BY {keys} LIMIT {limit}) AS page"
        )
    }

    /// Rows that are read at a time.
    fn page(&self) -> usize {
        match self.name {
            "chains" => CHAINS,
            _ => PAGE,
        }
    }

    /// Whether a row, as JSON, is what the queries read: SQLite keeps any text in a column of numbers, and gives zero for it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_row(&self, row: &str) -> Result<(), StoreError> {
        let read = match self.name {
            "settings" => is_row::<SettingRow>(row),
            "chains" => is_row::<NewChainRow>(row),
            "workers" => is_row::<WorkerRow>(row),
            "members" => is_row::<MemberRow>(row),
            "checkpoints" => is_row::<CheckpointRow>(row),
            "cosignatures" => is_row::<CosignatureRow>(row),
            "claims" => is_row::<ClaimRow>(row),
            "recoveries" => is_row::<RecoveryRow>(row),
            "orders" => is_row::<OrderRow>(row),
            "join_tokens" => is_row::<JoinTokenRow>(row),
            "terms" => is_row::<TermRow>(row),
            "figures" => is_row::<FigureRow>(row),
            "fork_wishes" => is_row::<ForkWishRow>(row),
            _ => Err("its type is not known".to_owned()),
        };
        read.map_err(|reason| StoreError::Damaged(format!("a row of table {}: {reason}", self.name)))
    }

    /// Writes the rows of a JSON array that is bound, with these columns of theirs.
    pub(super) fn load_sql(&self, dialect: Dialect, columns: &[&str]) -> String {
        let (name, list) = (self.name, columns.join(", "));
        match dialect {
            Dialect::Sqlite => {
                let values: Vec<_> = columns
                    .iter()
                    .map(|column| format!("value ->> '{column}'"))
                    .collect();
                format!(
                    "INSERT INTO {name} ({list}) SELECT {} FROM json_each(?1)",
                    values.join(", ")
                )
            }
            Dialect::Postgres => {
                format!(
                    "INSERT INTO {name} ({list}) SELECT {list} FROM json_populate_recordset(NULL::{name}, $1::json)"
                )
            }
        }
    }
}

fn is_row<T: DeserializeOwned>(row: &str) -> Result<(), String> {
    serde_json::from_str::<T>(row)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// Reads every row of a table back, as what it is.
///
/// # Errors
/// Where the database fails, or one is something else.
pub fn check_rows(tx: &mut dyn Tx, table: &Table) -> Result<(), StoreError> {
    each_page(tx, table, |page| {
        page.iter().try_for_each(|row| table.check_row(row))
    })
}

/// Gives all rows of a table, each a JSON object, so many at a time that they fit a part of a backup.
///
/// # Errors
/// Where the database fails, or what `put` says.
pub fn each_page<E: From<StoreError>>(
    tx: &mut dyn Tx,
    table: &Table,
    mut put: impl FnMut(&[String]) -> Result<(), E>,
) -> Result<(), E> {
    let mut last: Option<String> = None;
    loop {
        let page = tx.page(table, last.as_deref())?;
        let mut rest = page.as_slice();
        while !rest.is_empty() {
            let (piece, others) = rest.split_at(fitting(rest));
            put(piece)?;
            rest = others;
        }
        if page.len() < table.page() {
            return Ok(());
        }
        last = page.into_iter().next_back();
    }
}

/// How many of some rows are given together: one at least.
fn fitting(rows: &[String]) -> usize {
    let mut bytes = 0_usize;
    let fit = rows.iter().take_while(|row| {
        bytes = bytes.saturating_add(row.len());
        bytes <= PAGE_BYTES
    });
    fit.count().max(1)
}

impl Store {
    /// Whether nothing was ever kept here.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        self.read(|tx| {
            for table in &TABLES {
                if !tx.page(table, None)?.is_empty() {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }
}
