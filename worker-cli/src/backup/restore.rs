//! Putting one in a directory's place.
//!
//! Everything is made and judged in a folder beside what is there, while a node may run: every byte against the hashes, every
//! block by the rules, every checkpoint by the coordinator's key. Only then, where no node runs, and in steps that a kill
//! leaves to the next start, what a worker has there is put aside, and what was made gets its place. Nothing is deleted, and
//! what no worker has made stays where it is.

use super::make::{FILES, FOLDERS, is_file_name};
use super::{Manifest, Part, WorkerBackupError, manifest, read_manifest};
use crate::identity::{ChainFile, WorkerFile, chain_dir, load_key, make_private_dir, write_private};
use crate::storage::{ChainEnd, StoreBuilder, lock};
use block_chain_backup::{BackupReader, open_checked};
use block_chain_common::chain_spec::CheckedSpec;
use borsh::BorshDeserialize as _;
use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Where what is restored grows, in the data directory.
const GROWING: &str = "restore.tmp";
/// Held by the one restore that a directory has at a time.
const LOCK: &str = "restore.lock";
/// In it: all of it is there, and the word says how far its move is.
const PHASE: &str = "restore.phase";
/// How the folder begins to which what was there is put aside.
const ASIDE: &str = "replaced-";
/// What a worker has in its data directory besides what is in a backup's files and folders: chains, and what is of this
/// machine or of a moment. Its backups, locks and logs stay where they are.
const OTHERS: [&str; 11] = [
    "blocks",
    "blocks.damaged",
    "chains",
    "node.json",
    "api.cookie",
    "alive",
    "rebuild",
    "rebuild.wanted",
    "check.tmp",
    "fork.tmp",
    "snapshot.tmp",
];

/// Whether a name is a worker's own, and makes way: all others are the system's or somebody's.
fn is_own(name: &str) -> bool {
    // Evidence of two blocks of a producer for one slot.
    let is_double = || name.starts_with("double-") && name.ends_with(".txt");
    FILES.contains(&name) || FOLDERS.contains(&name) || OTHERS.contains(&name) || is_double()
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

/// What a backup holds, judged and whole beside what is there. Dropped, it leaves nothing.
#[derive(Debug)]
pub struct Prepared {
    data_dir: PathBuf,
    manifest: Manifest,
    sha256: String,
    replace: bool,
    is_put: bool,
    _one_at_a_time: File,
}

/// Restores a backup in a data directory whose node does not run. `progress` is told how many bytes are done, of how many.
///
/// # Errors
/// As [`prepare`] and [`Prepared::put`].
pub fn restore(
    from: &Path,
    data_dir: &Path,
    (replace, now_ms): (bool, u64),
    progress: impl FnMut(u64, u64),
) -> Result<Restored, WorkerBackupError> {
    prepare(from, data_dir, replace, progress)?.put(now_ms)
}

/// Makes and judges all of a backup beside what a data directory has; its node may run. `progress` is told how many bytes are
/// done, of how many.
///
/// # Errors
/// Where the backup is not sound in all its parts, the directory has a worker and is not to be replaced, or the system
/// refuses; everything is then as it was.
pub fn prepare(
    from: &Path,
    data_dir: &Path,
    replace: bool,
    mut progress: impl FnMut(u64, u64),
) -> Result<Prepared, WorkerBackupError> {
    // A first look: a file that is something else is not read whole.
    manifest(from)?;
    make_private_dir(data_dir)?;
    finish_restore(data_dir)?;
    check_free(data_dir, replace)?;
    let held = one_at_a_time(data_dir)?;
    let growing = data_dir.join(GROWING);
    remove(&growing)?;
    make_private_dir(&growing)?;
    let (manifest, sha256) = match grow(from, &growing, &mut progress) {
        Ok(made) => made,
        Err(error) => {
            remove(&growing)?;
            return Err(error);
        }
    };
    Ok(Prepared {
        data_dir: data_dir.to_owned(),
        manifest,
        sha256,
        replace,
        is_put: false,
        _one_at_a_time: held,
    })
}

impl Prepared {
    /// Puts it in the directory's place; no node may run. `now_ms`: now, in milliseconds since 1970.
    ///
    /// # Errors
    /// Where a node runs, the directory has got a worker and is not to be replaced, or the system refuses to put aside what is
    /// there; everything is then as it was. Where it refuses the very last moves, the next command does them.
    pub fn put(mut self, now_ms: u64) -> Result<Restored, WorkerBackupError> {
        // No node may start here meanwhile.
        let _held = lock(&self.data_dir)?;
        // Much may have come since the first look: this one counts.
        let is_there = check_free(&self.data_dir, self.replace)?;
        let aside = is_there.then(|| {
            let names = (now_ms..).map(|ms| format!("{ASIDE}{ms}"));
            let mut free = names.filter(|name| !is_there_at(&self.data_dir.join(name)));
            free.next().unwrap_or_default()
        });
        let word = format!("aside {}", aside.as_deref().unwrap_or_default());
        write_private(&self.data_dir.join(GROWING).join(PHASE), word.as_bytes())?;
        // From here on what grew is the next command's, unless it is taken back.
        self.is_put = true;
        finish(&self.data_dir)?;
        Ok(Restored {
            manifest: self.manifest.clone(),
            sha256: self.sha256.clone(),
            aside: aside.map(|name| self.data_dir.join(name)),
        })
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if !self.is_put {
            // The next restore removes what cannot be removed now.
            remove(&self.data_dir.join(GROWING)).ok();
        }
    }
}

/// Whether there is something of a worker that has to make way.
///
/// # Errors
/// Where there is, and it is not to be replaced.
fn check_free(data_dir: &Path, replace: bool) -> Result<bool, WorkerBackupError> {
    let is_there = names(data_dir)?.iter().any(|name| is_own(name));
    if is_there && !replace {
        let worker = WorkerFile::load(data_dir).ok().flatten();
        return Err(WorkerBackupError::Occupied {
            dir: data_dir.to_owned(),
            holds: match worker {
                Some(worker) => format!("worker {}", worker.worker_id),
                None => "files of a worker".to_owned(),
            },
        });
    }
    Ok(is_there)
}

fn one_at_a_time(data_dir: &Path) -> Result<File, WorkerBackupError> {
    let path = data_dir.join(LOCK);
    let opened = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    let file = opened.map_err(WorkerBackupError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(WorkerBackupError::Restoring {
            dir: data_dir.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(WorkerBackupError::io("lock", &path)(error)),
    }
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
        let aside = (!aside.is_empty()).then(|| data_dir.join(aside));
        let moved = put_aside(data_dir, aside.as_deref()).and_then(|()| Ok(write_private(&phase, b"place")?));
        if let Err(error) = moved {
            // Where even that fails, the next command tries again from the phase that is still there.
            take_back(data_dir, aside.as_deref())?;
            return Err(error);
        }
    }
    for name in names(&growing)? {
        if name != PHASE && name != "node.lock" {
            rename(&growing.join(&name), &data_dir.join(&name))?;
        }
    }
    sync(data_dir)?;
    remove(&growing)
}

/// Moves what is a worker's into a folder.
fn put_aside(data_dir: &Path, aside: Option<&Path>) -> Result<(), WorkerBackupError> {
    if let Some(aside) = aside {
        make_private_dir(aside)?;
        let mut names = names(data_dir)?;
        names.sort_unstable();
        for name in names.iter().filter(|name| is_own(name)) {
            rename(&data_dir.join(name), &aside.join(name))?;
        }
        sync(aside)?;
    }
    sync(data_dir)
}

/// Moves it back, and gives up what has grown: everything is as it was.
fn take_back(data_dir: &Path, aside: Option<&Path>) -> Result<(), WorkerBackupError> {
    if let Some(aside) = aside.filter(|aside| aside.exists()) {
        for name in names(aside)? {
            let place = data_dir.join(&name);
            if !is_there_at(&place) {
                rename(&aside.join(&name), &place)?;
            }
        }
        sync(data_dir)?;
        // It is kept where something is left in it, which was there before.
        fs::remove_dir(aside).ok();
    }
    let growing = data_dir.join(GROWING);
    let phase = growing.join(PHASE);
    // First: without it nothing of the rest counts.
    fs::remove_file(&phase).map_err(WorkerBackupError::io("remove", &phase))?;
    sync(&growing)?;
    remove(&growing)
}

/// Whether a path leads to something, be it a link to nothing.
fn is_there_at(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
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
