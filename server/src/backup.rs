//! Backups of the coordinator's database, in a file of the form that `block_chain_backup` describes. A part is JSON: what
//! the backup holds, then the rows of each table, a page a part.
//!
//! All rows are of one moment, and the servers go on meanwhile. It holds the coordinator's key.

use crate::service::decode_spec;
use crate::store::{CheckpointRow, Store, StoreError, TABLES, Table, Tx, check_rows, each_page};
use block_chain_backup::{
    BackupError, BackupReader, BackupWriter, Cause, Series, Written, open_checked, prune,
};
use block_chain_common::checkpoint::Checkpoint;
use block_chain_common::hash::{ChainId, sha256};
use block_chain_common::keys::{PublicKey, SecretKey};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// How the names of a coordinator's backups begin.
pub const WHAT: &str = "coordinator";
/// How the name begins of what a restore has put aside.
pub const REPLACED: &str = "replaced";
/// The format that this program writes.
const FORMAT: u32 = 1;
/// Checkpoints that are verified at a time.
const CHECKPOINTS: i64 = 500;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The format of the parts.
    pub format: u32,
    /// When it was made, in milliseconds since 1970.
    pub made_ms: u64,
    /// The version of the program that made it.
    pub version: String,
    /// The key that signs checkpoints.
    pub coordinator: PublicKey,
    /// How many workers have ids.
    pub workers: i64,
    /// The chains, by name.
    pub chains: Vec<ManifestChain>,
}

/// A chain in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestChain {
    /// Its name.
    pub name: String,
    /// Its id, in hex.
    pub id: String,
    /// The term.
    pub term: i64,
    /// How many blocks are committed.
    pub committed: i64,
    /// How many are final.
    #[serde(rename = "final")]
    pub finalised: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Part {
    Manifest(Manifest),
    Rows {
        table: String,
        columns: Vec<String>,
        rows: Vec<Box<RawValue>>,
    },
}

/// Why a backup cannot be made or restored.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorBackupError {
    /// Its file.
    #[error(transparent)]
    File(#[from] BackupError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is whole, but does not hold what a coordinator's backup does.
    #[error("{} cannot be restored: {reason}", path.display())]
    Unsound {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The database has rows already.
    #[error("the database holds a coordinator already")]
    Occupied,
    /// Servers work with the database.
    #[error("workers were heard {seconds} s ago: a server works with this database")]
    InUse {
        /// How long ago.
        seconds: u64,
    },
}

impl crate::store::Refusal for CoordinatorBackupError {
    fn store_error(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}

impl CoordinatorBackupError {
    fn unsound(path: &Path, reason: impl Into<String>) -> Self {
        Self::Unsound {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::File(BackupError::Unsound { .. }) | Self::Unsound { .. } => {
                Some("nothing was replaced; block-chain-server backups shows the others")
            }
            Self::Occupied => Some("restore --replace keeps a backup of it, and takes the other's place"),
            Self::InUse { .. } => Some("stop every server of this database first"),
            Self::File(BackupError::NoRoom { .. }) => {
                Some("make room there, or name a folder on another disk: block-chain-server backup FOLDER")
            }
            Self::File(_) | Self::Store(_) => None,
        }
    }
}

/// Makes a backup of all rows in a folder; then removes the oldest there of the same coordinator, that came about in the same
/// way, but for `keep`, where that is given.
///
/// # Errors
/// Where the database or the system refuses, or the disk has no room; nothing stays then.
pub fn make(
    store: &Store,
    (folder, what): (&Path, &str),
    (cause, keep): (Cause, Option<usize>),
    made_ms: u64,
) -> Result<Written, CoordinatorBackupError> {
    let mut writing = None;
    store.read::<_, CoordinatorBackupError>(|tx| {
        // Where the connection broke it begins again.
        writing = None;
        let manifest = manifest_of(tx, made_ms)?;
        let series = Series::new(what, &manifest.coordinator.to_string(), cause);
        let estimate = u64::try_from(tx.disk_bytes()?).unwrap_or_default();
        let writer = BackupWriter::create(folder, &series, made_ms, estimate)?;
        let (_, writer) = writing.insert((series, writer));
        put(writer, &Part::Manifest(manifest))?;
        for table in &TABLES {
            each_page(tx, table, |page| {
                let raw = |row: &String| RawValue::from_string(row.clone());
                let rows: Result<Vec<_>, _> = page.iter().map(raw).collect();
                let part = Part::Rows {
                    table: table.name.to_owned(),
                    columns: table.columns.iter().map(|&column| column.to_owned()).collect(),
                    rows: rows.map_err(|error| StoreError::Damaged(error.to_string()))?,
                };
                put(writer, &part)
            })?;
        }
        Ok(())
    })?;
    let unwritten = || StoreError::Damaged("nothing was read".to_owned());
    let (series, writer) = writing.ok_or_else(unwritten)?;
    let written = writer.finish()?;
    if let Some(keep) = keep {
        prune(folder, &series, keep, &written.path)?;
    }
    Ok(written)
}

fn put(writer: &mut BackupWriter, part: &Part) -> Result<(), CoordinatorBackupError> {
    let text = serde_json::to_vec(part).map_err(|error| StoreError::Damaged(error.to_string()))?;
    Ok(writer.part(&text)?)
}

fn key_of(tx: &mut dyn Tx) -> Result<SecretKey, StoreError> {
    let seed = tx.setting("coordinator_key")?.map(Zeroizing::new);
    let damaged = |reason: &str| StoreError::Damaged(format!("the coordinator's key {reason}"));
    let seed = seed.ok_or_else(|| damaged("is missing"))?;
    let mut bytes = Zeroizing::new([0; 32]);
    let decoded = hex::decode_to_slice(seed.as_str(), bytes.as_mut());
    decoded.or(Err(damaged("is not 64 hex digits")))?;
    Ok(SecretKey::from_seed(&bytes))
}

fn manifest_of(tx: &mut dyn Tx, made_ms: u64) -> Result<Manifest, StoreError> {
    let coordinator = key_of(tx)?.public_key();
    let workers = tx.count_workers()?;
    let mut chains = Vec::new();
    for chain in tx.chains()? {
        let last = tx.last_checkpoint(&chain.name)?;
        chains.push(ManifestChain {
            committed: last.map_or(0, |checkpoint| checkpoint.size),
            name: chain.name,
            id: chain.id,
            term: chain.term,
            finalised: chain.final_size,
        });
    }
    Ok(Manifest {
        format: FORMAT,
        made_ms,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        coordinator,
        workers,
        chains,
    })
}

/// A mark of what matters in a backup: another one is made only where this has changed. That workers are heard is no change.
///
/// # Errors
/// Where the database fails.
pub fn mark(store: &Store) -> Result<[u8; 32], StoreError> {
    store.read(|tx| {
        let mut text = String::new();
        for table in TABLES.iter().filter(|table| is_marked(table)) {
            each_page::<StoreError>(tx, table, |page| {
                let digest = sha256(&[page.concat().as_bytes()]);
                text.push_str(&hex::encode(digest));
                Ok(())
            })?;
        }
        for chain in tx.chains()? {
            let last = tx.last_checkpoint(&chain.name)?.map(|checkpoint| checkpoint.note);
            let members = tx.members(&chain.name)?;
            let members: Vec<_> = members
                .iter()
                .map(|(member, _)| (&member.worker, member.counts))
                .collect();
            let orders = tx.next_order(&chain.name)?;
            text.push_str(&format!("{last:?}{members:?}{orders}"));
        }
        Ok(sha256(&[text.as_bytes()]))
    })
}

/// Tables of which every row counts for the mark; of the others only what is at their ends, or nothing.
fn is_marked(table: &Table) -> bool {
    matches!(
        table.name,
        "settings" | "chains" | "workers" | "recoveries" | "join_tokens" | "fork_wishes"
    )
}

/// What a backup says that it holds; nothing else of it is read.
///
/// # Errors
/// Where it cannot be read, or is none of a coordinator.
pub fn manifest(path: &Path) -> Result<Manifest, CoordinatorBackupError> {
    let part = BackupReader::first_part(path)?;
    read_manifest(path, &part)
}

fn read_manifest(path: &Path, part: &[u8]) -> Result<Manifest, CoordinatorBackupError> {
    match serde_json::from_slice(part) {
        Ok(Part::Manifest(manifest)) if manifest.format == FORMAT => Ok(manifest),
        Ok(Part::Manifest(manifest)) => {
            let reason = format!(
                "it has format {}, this program reads {FORMAT}: it was written by another version, {}",
                manifest.format, manifest.version
            );
            Err(CoordinatorBackupError::unsound(path, reason))
        }
        _ => Err(CoordinatorBackupError::unsound(
            path,
            "it is no backup of a coordinator",
        )),
    }
}

/// Puts a backup in the place of what a database holds. `scratch`: an empty database to check it in. `aside`: the folder for
/// a backup of what is replaced; nothing is, where there is none.
///
/// # Errors
/// Where the backup is not sound in all its rows, the database has a coordinator that is not to be replaced, a server works
/// with it, or a database fails; everything is then as it was.
pub fn restore(
    from: &Path,
    scratch: &Store,
    (store, aside): (&Store, Option<&Path>),
    now_ms: u64,
) -> Result<(Manifest, Option<Written>), CoordinatorBackupError> {
    let manifest = load(from, scratch)?;
    check(scratch, &manifest).map_err(|reason| CoordinatorBackupError::unsound(from, reason))?;
    let is_empty = store.is_empty()?;
    if !is_empty && aside.is_none() {
        return Err(CoordinatorBackupError::Occupied);
    }
    let heard = store.read::<_, StoreError>(|tx| {
        let mut last = 0;
        for chain in tx.chains()? {
            let members = tx.members(&chain.name)?;
            last = members
                .iter()
                .map(|(member, _)| member.last_seen_ms)
                .fold(last, i64::max);
        }
        Ok(u64::try_from(last).unwrap_or_default())
    })?;
    let seconds = now_ms.saturating_sub(heard) / 1_000;
    if store.is_shared() && seconds < ALIVE_SECONDS {
        return Err(CoordinatorBackupError::InUse { seconds });
    }
    let kept = match aside.filter(|_| !is_empty) {
        Some(folder) => Some(make(store, (folder, REPLACED), (Cause::Asked, None), now_ms)?),
        None => None,
    };
    store.transaction::<_, CoordinatorBackupError>(|into| {
        for table in &TABLES {
            into.clear(table)?;
        }
        scratch.read::<_, StoreError>(|out| {
            for table in &TABLES {
                each_page::<StoreError>(out, table, |page| {
                    let rows = format!("[{}]", page.join(","));
                    into.load_rows(table, table.columns, &rows).map(drop)
                })?;
            }
            Ok(())
        })?;
        // Of this database's own reading: what it cannot give back as it was is not committed.
        for table in &TABLES {
            check_rows(into, table).map_err(|error| unread(from, error))?;
        }
        Ok(())
    })?;
    Ok((manifest, kept))
}

/// A row that is none is the backup's fault, and everything else the database's.
fn unread(from: &Path, error: StoreError) -> CoordinatorBackupError {
    match error {
        StoreError::Damaged(reason) => CoordinatorBackupError::unsound(from, reason),
        other => other.into(),
    }
}

/// A server that runs hears its workers more often.
const ALIVE_SECONDS: u64 = 10;

/// Reads all of a backup into an empty database.
fn load(from: &Path, scratch: &Store) -> Result<Manifest, CoordinatorBackupError> {
    let mut reader = open_checked(from, |_, _| {})?;
    let unsound = |reason: String| CoordinatorBackupError::unsound(from, reason);
    let first = reader.part()?.unwrap_or_default();
    let manifest = read_manifest(from, &first)?;
    while let Some(part) = reader.part()? {
        let part = serde_json::from_slice(&part);
        let Part::Rows { table, columns, rows } = part.map_err(|error| unsound(error.to_string()))? else {
            return Err(unsound("it says twice what it holds".to_owned()));
        };
        let known = TABLES.iter().find(|known| known.name == table);
        let known =
            known.ok_or_else(|| unsound(format!("it has a table {table:?} that is not known here")))?;
        // Those of an earlier version may be fewer.
        let names: Option<Vec<&str>> = columns
            .iter()
            .map(|column| known.columns.iter().copied().find(|known| known == column))
            .collect();
        let names =
            names.ok_or_else(|| unsound(format!("table {table} has columns that are not known here")))?;
        if names.iter().collect::<BTreeSet<_>>().len() != names.len() || names.is_empty() {
            return Err(unsound(format!("table {table} has a column twice, or none")));
        }
        let count = rows.len();
        let text = serde_json::to_string(&rows).map_err(|error| unsound(error.to_string()))?;
        let loaded = scratch.transaction::<_, StoreError>(|tx| tx.load_rows(known, &names, &text));
        match loaded {
            Ok(loaded) if loaded == count => {}
            Ok(loaded) => return Err(unsound(format!("table {table}: {loaded} of {count} rows fit"))),
            Err(error) => return Err(unsound(format!("table {table}: {error}"))),
        }
    }
    Ok(manifest)
}

/// Whether the rows are a coordinator's, and those that the manifest says; else what is wrong.
fn check(store: &Store, manifest: &Manifest) -> Result<(), String> {
    let failed = |error: StoreError| match error {
        // It is this backup's rows that are.
        StoreError::Damaged(reason) => reason,
        other => other.to_string(),
    };
    let read = store.read(|tx| TABLES.iter().try_for_each(|table| check_rows(tx, table)));
    read.map_err(failed)?;
    let found = store
        .read(|tx| manifest_of(tx, manifest.made_ms))
        .map_err(failed)?;
    let same = Manifest {
        version: manifest.version.clone(),
        ..found
    };
    if same != *manifest {
        return Err("it does not hold what it says".to_owned());
    }
    let chains = store.read(|tx| tx.chains()).map_err(failed)?;
    for chain in chains {
        let wrong = |reason: String| format!("chain {}: {reason}", chain.name);
        let spec = store.read(|tx| tx.spec(&chain.name)).map_err(failed)?;
        let spec = decode_spec(&chain.name, &spec.unwrap_or_default()).map_err(failed)?;
        let spec = spec.check().map_err(|error| wrong(error.to_string()))?;
        if spec.id().to_string() != chain.id || spec.spec().name != chain.name {
            return Err(wrong("its id is not that of its spec".to_owned()));
        }
        let (mut last, mut term) = (0_i64, 0);
        loop {
            let page = store
                .read(|tx| tx.checkpoints(&chain.name, last.saturating_add(1), CHECKPOINTS))
                .map_err(failed)?;
            for row in &page {
                term = check_row(row, (&spec.id(), &manifest.coordinator), term).map_err(wrong)?;
                last = row.size;
            }
            if page.is_empty() {
                break;
            }
        }
        if chain.final_size > last || term > chain.term {
            return Err(wrong("more is final, or of a later term, than it has".to_owned()));
        }
    }
    Ok(())
}

/// A checkpoint is what the coordinator has signed; its term, which is no earlier than the one before.
fn check_row(row: &CheckpointRow, (chain, key): (&ChainId, &PublicKey), term: i64) -> Result<i64, String> {
    let wrong = |reason: String| format!("the checkpoint of {} blocks: {reason}", row.size);
    let verified = Checkpoint::verify(&row.note, chain, key);
    let (checkpoint, _) = verified.map_err(|error| wrong(error.to_string()))?;
    let named = (
        i64::try_from(checkpoint.size).ok(),
        checkpoint.root.to_string(),
        checkpoint.block.to_string(),
    );
    if named != (Some(row.size), row.root.clone(), row.block.clone()) {
        return Err(wrong("its row says something else".to_owned()));
    }
    let found = i64::try_from(checkpoint.term.get()).unwrap_or(i64::MAX);
    if found < term {
        return Err(wrong(format!("its term is {found}, after {term}")));
    }
    Ok(found)
}
