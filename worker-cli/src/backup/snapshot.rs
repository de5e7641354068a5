//! A chain alone, with its state at the last final block: what a new worker begins with. It holds no secrets.

use super::WorkerBackupError;
use crate::storage::{ChainPart, Seeder, Store};
use block_chain_backup::{BackupReader, BackupWriter, Cause, Series, Written, open_checked};
use block_chain_common::chain_keys::ChainKeys;
use block_chain_common::chain_spec::CheckedSpec;
use borsh::{BorshDeserialize, BorshSerialize, to_vec};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// How the names of snapshots begin, before the chain's.
const WHAT: &str = "snapshot-of-";
/// The format that this program writes.
const FORMAT: u8 = 1;
/// How long a moment is waited for in which all that is committed is final.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);
/// Where the store grows, in the data directory.
const GROWING: &str = "snapshot.tmp";

#[derive(Debug, BorshSerialize, BorshDeserialize)]
enum Part {
    Head { format: u8, chain: String, id: String },
    OfChain(ChainPart),
}

/// Makes a snapshot of a chain in a folder, in a worker's name; how many blocks it covers. `made_ms`: now, in milliseconds
/// since 1970.
///
/// # Errors
/// Where nothing is final, or what is committed does not become so; where something cannot be read or written.
pub fn make_snapshot(
    store: &Store,
    (chain, worker): (&str, &str),
    (folder, made_ms): (&Path, u64),
) -> Result<(Written, u64), WorkerBackupError> {
    let deadline = Instant::now() + PATIENCE;
    let series = Series::new(&format!("{WHAT}{chain}"), worker, Cause::Asked);
    let bytes = store.disk_bytes()?;
    loop {
        let mut writer = BackupWriter::create(folder, &series, made_ms, bytes)?;
        let mut put = |part: &Part| -> Result<(), WorkerBackupError> {
            // Into memory: it cannot fail.
            Ok(writer.part(&to_vec(part).unwrap_or_default())?)
        };
        put(&Part::Head {
            format: FORMAT,
            chain: chain.to_owned(),
            id: store.chain()?.to_string(),
        })?;
        if let Some(checkpoint) = store.seed(|part| put(&Part::OfChain(part)))? {
            return Ok((writer.finish()?, checkpoint.size));
        }
        if Instant::now() > deadline {
            return Err(WorkerBackupError::NotFinal {
                chain: chain.to_owned(),
            });
        }
        std::thread::sleep(LOOK);
    }
}

/// Makes the store of a directory that has none from a snapshot; how many blocks it has. `keys`: whose word counts.
///
/// # Errors
/// Where the snapshot is not sound, or of another chain, or no majority of the members has cosigned its checkpoint; where
/// there is a store already, or the system refuses. Nothing is changed then.
pub fn begin_with(
    from: &Path,
    dir: &Path,
    (spec, keys): (&CheckedSpec, &ChainKeys),
    mut progress: impl FnMut(u64, u64),
) -> Result<u64, WorkerBackupError> {
    if Store::is_there(dir) {
        return Err(WorkerBackupError::Occupied {
            dir: dir.to_owned(),
            holds: "a replica".to_owned(),
        });
    }
    let mut reader = open_checked(from, |done, of| progress(done, of.saturating_mul(2)))?;
    let unsound = |reason: &str| WorkerBackupError::unsound(from, reason);
    let Some(Part::Head { format, chain, id }) = next(&mut reader, from)? else {
        return Err(unsound("it is no snapshot of a chain"));
    };
    if format != FORMAT {
        return Err(unsound("it was written by another version"));
    }
    if id != spec.id().to_string() {
        return Err(unsound(&format!(
            "it is of chain {chain}, {id}, not of {}",
            spec.id()
        )));
    }
    let growing = dir.join(GROWING);
    let made = grow(&mut reader, from, (&growing, spec, keys), &mut progress);
    let moved = made.and_then(|size| {
        let named = fs::rename(growing.join("blocks"), dir.join("blocks"));
        named.map_err(WorkerBackupError::io("move", &growing))?;
        Ok(size)
    });
    match fs::remove_dir_all(&growing) {
        Err(error) if moved.is_ok() && error.kind() != std::io::ErrorKind::NotFound => {
            Err(WorkerBackupError::io("remove", &growing)(error))
        }
        _ => moved,
    }
}

fn grow(
    reader: &mut BackupReader,
    from: &Path,
    (growing, spec, keys): (&Path, &CheckedSpec, &ChainKeys),
    progress: &mut impl FnMut(u64, u64),
) -> Result<u64, WorkerBackupError> {
    if growing.exists() {
        fs::remove_dir_all(growing).map_err(WorkerBackupError::io("remove", growing))?;
    }
    let failed = |error| WorkerBackupError::of_chain(from, error);
    let mut seeder = Seeder::create(growing, spec, keys).map_err(failed)?;
    let bytes = reader.bytes();
    while let Some(part) = next(reader, from)? {
        let Part::OfChain(part) = part else {
            return Err(WorkerBackupError::unsound(from, "a part stands where it cannot"));
        };
        seeder.take(part).map_err(failed)?;
        let done = bytes.saturating_sub(reader.left());
        progress(bytes.saturating_add(done), bytes.saturating_mul(2));
    }
    seeder.finish().map_err(failed)
}

fn next(reader: &mut BackupReader, from: &Path) -> Result<Option<Part>, WorkerBackupError> {
    let Some(bytes) = reader.part()? else {
        return Ok(None);
    };
    let part = Part::try_from_slice(&bytes);
    let part = part.or(Err(WorkerBackupError::unsound(from, "a part cannot be read")))?;
    Ok(Some(part))
}
