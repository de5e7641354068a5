//! The backups of a folder: their names, and how many are kept.

use crate::{BackupError, EXTENSION, HASH_EXTENSION};
use block_chain_web::time::utc;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// A backup of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The file.
    pub path: PathBuf,
    /// When it was made, as its name says: `YYYYMMDDTHHMMSS.mmmZ`, UTC.
    pub made: String,
    /// Its length.
    pub bytes: u64,
}

/// `WHAT-YYYYMMDDTHHMMSS.mmmZ.backup`: in the order of their names they are in the order of time.
pub(crate) fn file_name(what: &str, at_ms: u64) -> String {
    let stamp: String = utc(at_ms).chars().filter(|c| !matches!(c, '-' | ':')).collect();
    format!("{what}-{stamp}.{EXTENSION}")
}

/// The file of the hash beside a backup.
pub(crate) fn hash_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".");
    name.push(HASH_EXTENSION);
    PathBuf::from(name)
}

/// The stamp in a name of `what`; `None` where it is no such name.
fn stamp<'a>(name: &'a str, what: &str) -> Option<&'a str> {
    let rest = name.strip_prefix(what)?.strip_prefix('-')?;
    let stamp = rest.strip_suffix(EXTENSION)?.strip_suffix('.')?;
    let is_digit = |place: &usize| !matches!(place, 8 | 15 | 19);
    let bytes = stamp.as_bytes();
    let fits = bytes.len() == 20
        && (bytes.get(8), bytes.get(15), bytes.get(19)) == (Some(&b'T'), Some(&b'.'), Some(&b'Z'))
        && (0..20)
            .filter(is_digit)
            .all(|place| bytes.get(place).is_some_and(u8::is_ascii_digit));
    fits.then_some(stamp)
}

/// The backups of `what` in a folder, oldest first; none where there is no such folder.
///
/// # Errors
/// Where the system refuses.
pub fn list(folder: &Path, what: &str) -> Result<Vec<Kept>, BackupError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(BackupError::io("read", folder))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(BackupError::io("read", folder))?;
        let name = entry.file_name();
        let Some(made) = name.to_str().and_then(|name| stamp(name, what)) else {
            continue;
        };
        let metadata = entry.metadata().map_err(BackupError::io("read", folder))?;
        if metadata.is_file() {
            found.push(Kept {
                path: entry.path(),
                made: made.to_owned(),
                bytes: metadata.len(),
            });
        }
    }
    found.sort_by(|a, b| a.made.cmp(&b.made));
    Ok(found)
}

/// Removes the oldest backups of `what` but for `keep`; those that were removed.
///
/// # Errors
/// Where the system refuses.
pub fn prune(folder: &Path, what: &str, keep: usize) -> Result<Vec<PathBuf>, BackupError> {
    let kept = list(folder, what)?;
    let surplus = kept.len().saturating_sub(keep.max(1));
    let mut removed = Vec::new();
    for backup in kept.into_iter().take(surplus) {
        fs::remove_file(&backup.path).map_err(BackupError::io("remove", &backup.path))?;
        let hash = hash_path(&backup.path);
        if hash.exists() {
            fs::remove_file(&hash).map_err(BackupError::io("remove", &hash))?;
        }
        removed.push(backup.path);
    }
    Ok(removed)
}
