//! The backups of a folder: which there are, how many are kept, and what killed programs have left.

use crate::series::{Cause, Name, Series, is_stamp, ms_of, stamp};
use crate::{BackupError, EXTENSION, HASH_EXTENSION};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How the name of a backup ends that is not whole yet, after the name that it will have.
const UNFINISHED: &str = "tmp";

/// A backup of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The file.
    pub path: PathBuf,
    /// When it was made, as its name says: `YYYYMMDDTHHMMSS.mmmZ`, UTC.
    pub made: String,
    /// Its length.
    pub bytes: u64,
    /// How it came about, as its name says.
    pub cause: Cause,
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

/// The file of the hash beside a backup.
pub(crate) fn hash_path(path: &Path) -> PathBuf {
    with_ending(path, HASH_EXTENSION)
}

/// Where a backup is until it is whole.
pub(crate) fn unfinished_path(path: &Path) -> PathBuf {
    with_ending(path, UNFINISHED)
}

/// The names of a folder; none where there is no such folder.
fn names(folder: &Path) -> Result<Vec<String>, BackupError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(BackupError::io("read", folder))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(BackupError::io("read", folder))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

fn list_those(
    folder: &Path,
    what: &str,
    wanted: impl Fn(&Name<'_>) -> bool,
) -> Result<Vec<Kept>, BackupError> {
    let ending = format!(".{EXTENSION}");
    let mut found = Vec::new();
    for file in names(folder)? {
        let Some(name) = Name::parse(&file, what, &ending).filter(&wanted) else {
            continue;
        };
        let path = folder.join(&file);
        let metadata = match fs::symlink_metadata(&path) {
            // Somebody else has removed it just now.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            metadata => metadata.map_err(BackupError::io("read", &path))?,
        };
        if metadata.is_file() {
            found.push(Kept {
                path,
                made: name.stamp.to_owned(),
                bytes: metadata.len(),
                cause: name.cause,
            });
        }
    }
    found.sort_by(|a, b| (&a.made, &a.path).cmp(&(&b.made, &b.path)));
    Ok(found)
}

/// The backups of `what` in a folder, whosever they are, oldest first; none where there is no such folder.
///
/// # Errors
/// Where the system refuses.
pub fn list(folder: &Path, what: &str) -> Result<Vec<Kept>, BackupError> {
    list_those(folder, what, |_| true)
}

/// The length of the newest backup of a series' owner.
pub(crate) fn last_bytes(folder: &Path, series: &Series) -> Result<Option<u64>, BackupError> {
    let kept = list_those(folder, series.what(), |name| series.is_of_owner(name))?;
    Ok(kept.last().map(|kept| kept.bytes))
}

/// When the next backup of a series is made by its name: now, or a millisecond after the newest where the clock went back,
/// so that the order of names stays that in which they were made.
pub(crate) fn next_ms(folder: &Path, series: &Series, now_ms: u64) -> Result<u64, BackupError> {
    let endings = ["", ".sha256", ".tmp"].map(|ending| format!(".{EXTENSION}{ending}"));
    let newest = names(folder)?
        .iter()
        .filter_map(|file| {
            let mut parsed = endings
                .iter()
                .filter_map(|ending| Name::parse(file, series.what(), ending));
            parsed
                .next()
                .filter(|name| series.has(name))
                .map(|name| ms_of(name.stamp))
        })
        .flatten()
        .max();
    let after = newest.map(|newest| newest.saturating_add(1));
    // After the last year of four digits there is no name any more.
    let after = after.filter(|after| is_stamp(&stamp(*after)));
    Ok(after.map_or(now_ms, |after| after.max(now_ms)))
}

/// Removes the oldest backups of a series but for `keep`, of which `just`, the one that was just made, is always one; those
/// that were removed.
///
/// # Errors
/// Where the system refuses.
pub fn prune(folder: &Path, series: &Series, keep: usize, just: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let mut kept = list_those(folder, series.what(), |name| series.has(name))?;
    kept.retain(|kept| kept.path.file_name() != just.file_name());
    let surplus = kept.len().saturating_sub(keep.saturating_sub(1));
    let mut removed = Vec::new();
    for backup in kept.into_iter().take(surplus) {
        remove(&backup.path)?;
        remove(&hash_path(&backup.path))?;
        removed.push(backup.path);
    }
    Ok(removed)
}

/// Removes a file, unless somebody else just has.
fn remove(path: &Path) -> Result<(), BackupError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(BackupError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Removes what killed programs have left of the same owner's backups: as large as these, and with the same secrets. One that
/// is being written is locked by its writer, and stays.
///
/// # Errors
/// Where the system refuses.
pub(crate) fn remove_unfinished(folder: &Path, series: &Series) -> Result<(), BackupError> {
    let ending = format!(".{EXTENSION}.{UNFINISHED}");
    for file in names(folder)? {
        let name = Name::parse(&file, series.what(), &ending);
        if !name.is_some_and(|name| series.is_of_owner(&name)) {
            continue;
        }
        let path = folder.join(&file);
        let Ok(left) = File::open(&path) else { continue };
        // Where the system has no locks nobody knows, and it stays.
        if left.try_lock().is_err() || !is_at(&left, &path) {
            continue;
        }
        remove(&path)?;
    }
    Ok(())
}

/// Whether a path still leads to a file that is open.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    let place = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(there)) => place(open) == place(there),
        _ => false,
    }
}
