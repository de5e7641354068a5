//! Putting one in a directory's place.
//!
//! Everything is made and judged in a folder beside what is there: every byte against the hashes, every block by the rules,
//! every checkpoint by the coordinator's key. Only then, in steps that a kill leaves to the next start, what is there is put
//! aside, and what was made gets its place. Nothing is deleted.

use super::make::is_file_name;
use super::{Manifest, Part, WorkerBackupError, manifest, read_manifest};
use crate::identity::{ChainFile, WorkerFile, chain_dir, load_key, make_private_dir, write_private};
use crate::storage::{ChainEnd, StoreBuilder, lock};
use block_chain_backup::{BackupReader, FOLDER, open_checked};
use block_chain_common::chain_spec::CheckedSpec;
use borsh::BorshDeserialize as _;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Where what is restored grows, in the data directory.
const GROWING: &str = "restore.tmp";
/// In it: all of it is there, and the word says how far its move is.
const PHASE: &str = "restore.phase";
/// How the folder begins to which what was there is put aside.
const ASIDE: &str = "replaced-";
/// What stays where it is.
const STAYS: [&str; 6] = [
    GROWING,
    FOLDER,
    "node.lock",
    "launch.lock",
    "node.log",
    "node.log.1",
];

fn stays(name: &str) -> bool {
    STAYS.contains(&name) || name.starts_with(ASIDE)
}

/// What was restored.
#[derive(Debug, Clone)]
pub struct Restored {
    /// What the backup says it holds.
    pub manifest: Manifest,
    /// Its SHA-256 in hex.
    pub sha256: String,
    /// Where what was there before is now.
    pub aside: Option<PathBuf>,
}

/// Restores a backup in a data directory whose node does not run. `progress` is told how many bytes are done, of how many.
///
/// # Errors
/// Where the backup is not sound in all its parts, the directory has a worker and is not to be replaced, or the system
/// refuses; everything is then as it was.
pub fn restore(
    from: &Path,
    data_dir: &Path,
    (replace, now_ms): (bool, u64),
    mut progress: impl FnMut(u64, u64),
) -> Result<Restored, WorkerBackupError> {
    // A first look: a file that is something else is not read whole.
    manifest(from)?;
    make_private_dir(data_dir)?;
    finish_restore(data_dir)?;
    let is_there = names(data_dir)?.iter().any(|name| !stays(name));
    if is_there && !replace {
        let worker = WorkerFile::load(data_dir).ok().flatten();
        return Err(WorkerBackupError::Occupied {
            dir: data_dir.to_owned(),
            holds: match worker {
                Some(worker) => format!("worker {}", worker.worker_id),
                None => "files".to_owned(),
            },
        });
    }
    // No node may start here meanwhile.
    let _held = lock(data_dir)?;
    let growing = data_dir.join(GROWING);
    remove(&growing)?;
    make_private_dir(&growing)?;
    let made = grow(from, &growing, &mut progress);
    let (manifest, sha256) = match made {
        Ok(made) => made,
        Err(error) => {
            remove(&growing)?;
            return Err(error);
        }
    };
    let aside = is_there.then(|| format!("{ASIDE}{now_ms}"));
    write_private(
        &growing.join(PHASE),
        format!("aside {}", aside.as_deref().unwrap_or_default()).as_bytes(),
    )?;
    finish(data_dir)?;
    Ok(Restored {
        manifest,
        sha256,
        aside: aside.map(|name| data_dir.join(name)),
    })
}

/// Finishes a restore whose end a kill has prevented; nothing where there is none.
///
/// # Errors
/// Where the system refuses.
pub fn finish_restore(data_dir: &Path) -> Result<(), WorkerBackupError> {
    if !data_dir.join(GROWING).join(PHASE).exists() {
        return Ok(());
    }
    let _held = lock(data_dir)?;
    finish(data_dir)
}

fn finish(data_dir: &Path) -> Result<(), WorkerBackupError> {
    let growing = data_dir.join(GROWING);
    let phase = growing.join(PHASE);
    let Ok(word) = fs::read_to_string(&phase) else {
        return Ok(());
    };
    if let Some(aside) = word.strip_prefix("aside ") {
        if !aside.is_empty() {
            let aside = data_dir.join(aside);
            make_private_dir(&aside)?;
            for name in names(data_dir)? {
                if !stays(&name) {
                    rename(&data_dir.join(&name), &aside.join(&name))?;
                }
            }
            sync(&aside)?;
        }
        sync(data_dir)?;
        write_private(&phase, b"place")?;
    }
    for name in names(&growing)? {
        if name != PHASE && name != "node.lock" {
            rename(&growing.join(&name), &data_dir.join(&name))?;
        }
    }
    sync(data_dir)?;
    remove(&growing)
}

/// Makes all of it in a folder.
fn grow(
    from: &Path,
    growing: &Path,
    progress: &mut impl FnMut(u64, u64),
) -> Result<(Manifest, String), WorkerBackupError> {
    // Read twice: to check all of it, then to take it. Half of the way each.
    let mut reader = open_checked(from, |done, of| progress(done, of.saturating_mul(2)))?;
    let bytes = reader.bytes();
    let sha256 = reader.sha256().to_owned();
    let unsound = |reason: &str| WorkerBackupError::unsound(from, reason);
    let first = reader.part()?.ok_or_else(|| unsound("it is empty"))?;
    let manifest = read_manifest(from, &first)?;
    let mut next = next_part(&mut reader, from)?;
    while let Some(Part::File(name, content)) = next {
        if !is_file_name(&name) {
            return Err(unsound("it holds a file that no backup has"));
        }
        let path = growing.join(&name);
        if let Some(folder) = path.parent() {
            make_private_dir(folder)?;
        }
        write_private(&path, &content)?;
        next = next_part(&mut reader, from)?;
    }
    let worker = WorkerFile::load(growing)?.ok_or_else(|| unsound("its worker is missing"))?;
    if load_key(growing)?.is_none() {
        return Err(unsound("the worker's key is missing"));
    }
    if (worker.worker_id.to_string(), &worker.chain) != (manifest.worker.clone(), &manifest.home) {
        return Err(unsound("it is of another worker than it says"));
    }
    let mut done = BTreeSet::new();
    while let Some(part) = next {
        let Part::Chain(name) = part else {
            return Err(unsound("a part stands where a chain should begin"));
        };
        let listed = manifest.chains.iter().find(|chain| chain.name == name);
        let listed = listed.ok_or_else(|| unsound("it holds a chain that it does not list"))?;
        if !done.insert(name.clone()) {
            return Err(unsound("it holds a chain twice"));
        }
        let dir = chain_dir(growing, &worker.chain, &name);
        let spec = spec_of(&worker, &dir, (growing, from))?;
        let mut tell = |left: u64| progress(bytes + (bytes - left.min(bytes)), bytes.saturating_mul(2));
        let end = grow_chain((&mut reader, from), &dir, (&spec, &worker), &mut tell)?;
        if (spec.id().to_string(), end.height.get()) != (listed.id.clone(), listed.height) {
            return Err(unsound("a chain is not the one that it lists"));
        }
        next = next_part(&mut reader, from)?;
    }
    if done.len() != manifest.chains.len() {
        return Err(unsound("a chain that it lists is missing"));
    }
    Ok((manifest, sha256))
}

fn spec_of(
    worker: &WorkerFile,
    dir: &Path,
    (growing, from): (&Path, &Path),
) -> Result<CheckedSpec, WorkerBackupError> {
    if dir == growing {
        return Ok(worker.checked_spec(dir)?);
    }
    let missing = || WorkerBackupError::unsound(from, "a chain's spec is missing");
    Ok(ChainFile::load(dir)?.ok_or_else(missing)?.checked_spec(dir)?)
}

fn grow_chain(
    (reader, from): (&mut BackupReader, &Path),
    dir: &Path,
    (spec, worker): (&CheckedSpec, &WorkerFile),
    tell: &mut impl FnMut(u64),
) -> Result<ChainEnd, WorkerBackupError> {
    let failed = |error| WorkerBackupError::of_chain(from, error);
    let mut builder = StoreBuilder::create(dir, spec, worker.coordinator_key).map_err(failed)?;
    loop {
        let Some(Part::OfChain(part)) = next_part(reader, from)? else {
            return Err(WorkerBackupError::unsound(from, "the end of a chain is missing"));
        };
        tell(reader.left());
        if builder.take(part).map_err(failed)? {
            return builder.finish().map_err(failed);
        }
    }
}

fn next_part(reader: &mut BackupReader, from: &Path) -> Result<Option<Part>, WorkerBackupError> {
    let Some(bytes) = reader.part()? else {
        return Ok(None);
    };
    let part = Part::try_from_slice(&bytes);
    let part =
        part.map_err(|error| WorkerBackupError::unsound(from, format!("a part cannot be read: {error}")))?;
    Ok(Some(part))
}

fn names(folder: &Path) -> Result<Vec<String>, WorkerBackupError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(WorkerBackupError::io("read", folder))? {
        let entry = entry.map_err(WorkerBackupError::io("read", folder))?;
        // What is no text is none of ours, and stays.
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

fn rename(from: &Path, to: &Path) -> Result<(), WorkerBackupError> {
    fs::rename(from, to).map_err(WorkerBackupError::io("move", from))
}

fn sync(folder: &Path) -> Result<(), WorkerBackupError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(WorkerBackupError::io("sync", folder))
}

fn remove(path: &Path) -> Result<(), WorkerBackupError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(WorkerBackupError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}
