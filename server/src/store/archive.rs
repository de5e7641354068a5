//! All rows as JSON, a table at a time, for backups: read in pages within one transaction, and written the same way.
//!
//! The same rows come from SQLite and from PostgreSQL, so a backup of the one can be restored in the other. Not kept:
//! challenges, which are good for a minute.

use super::{Store, StoreError, Tx};

/// Rows read or written at a time.
pub const PAGE: usize = 500;

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
        format!(
            "SELECT {line} AS line FROM (SELECT {columns} FROM {name} {after} ORDER BY {keys} LIMIT {PAGE}) AS page"
        )
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

/// Gives all rows of a table, a page at a time, each a JSON object.
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
        if !page.is_empty() {
            put(&page)?;
        }
        if page.len() < PAGE {
            return Ok(());
        }
        last = page.into_iter().next_back();
    }
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
