//! Writing one.

use crate::kept::{hash_path, is_at, last_bytes, next_ms, remove_unfinished, unfinished_path};
use crate::room::check_room;
use crate::{BackupError, MAGIC, MAX_PART_BYTES, Series};
use sha2::{Digest as _, Sha256};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Names that are tried: as many backups of one series as may begin in the same moment, and more.
const TRIES: u64 = 1_000;

/// A backup that is being written, under a name that ends in `.tmp` until it is whole, and locked meanwhile.
#[derive(Debug)]
pub struct BackupWriter {
    temporary: PathBuf,
    path: PathBuf,
    out: BufWriter<File>,
    parts: Sha256,
    whole: Sha256,
    bytes: u64,
    has_hash: bool,
    is_done: bool,
}

/// A backup that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The file.
    pub path: PathBuf,
    /// Its SHA-256 in hex.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
}

impl BackupWriter {
    /// Begins a backup of a series in a folder, which is made where there is none; what killed programs have left of the same
    /// owner's there is removed. `at_ms`: now, in milliseconds since 1970, which is the time in its name unless a newer one is
    /// there. `estimate`: its bytes where no earlier backup tells them.
    ///
    /// # Errors
    /// Where the folder has no room for another one as large as the last, or the system refuses.
    pub fn create(folder: &Path, series: &Series, at_ms: u64, estimate: u64) -> Result<Self, BackupError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(BackupError::io("create", folder))?;
        remove_unfinished(folder, series)?;
        check_room(folder, last_bytes(folder, series)?.unwrap_or(estimate))?;
        let (path, file) = begin(folder, series, at_ms)?;
        let mut writer = Self {
            temporary: unfinished_path(&path),
            path,
            out: BufWriter::with_capacity(1 << 20, file),
            parts: Sha256::new(),
            whole: Sha256::new(),
            bytes: 0,
            has_hash: false,
            is_done: false,
        };
        writer.put(MAGIC)?;
        Ok(writer)
    }

    /// Adds a part.
    ///
    /// # Errors
    /// Where it is empty or longer than [`MAX_PART_BYTES`], or the system refuses.
    pub fn part(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        let length = u32::try_from(bytes.len()).ok();
        let length = length.filter(|length| (1..=MAX_PART_BYTES).contains(length));
        let length = length.ok_or(BackupError::Part { bytes: bytes.len() })?;
        self.put(&length.to_le_bytes())?;
        self.put(bytes)
    }

    /// Ends it: the file and the hash beside it are on disk, and have their names.
    ///
    /// # Errors
    /// Where the system refuses; nothing stays then.
    pub fn finish(mut self) -> Result<Written, BackupError> {
        self.put(&0_u32.to_le_bytes())?;
        let parts = self.parts.clone().finalize();
        self.put(&parts)?;
        let synced = self.out.flush().and_then(|()| self.out.get_ref().sync_all());
        synced.map_err(BackupError::io("write", &self.temporary))?;
        let sha256 = hex::encode(self.whole.clone().finalize());
        if self.path.exists() {
            let path = self.path.clone();
            return Err(BackupError::Taken { path });
        }
        // The hash comes first: a backup without one is not told from one whose hash was taken away.
        let hash = hash_path(&self.path);
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let line = format!("{sha256}  {name}\n");
        let mut file = new_private(&hash).map_err(BackupError::io("create", &hash))?;
        self.has_hash = true;
        let written = file.write_all(line.as_bytes()).and_then(|()| file.sync_all());
        written.map_err(BackupError::io("write", &hash))?;
        let named = fs::rename(&self.temporary, &self.path);
        named.map_err(BackupError::io("write", &self.path))?;
        self.is_done = true;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(BackupError::io("sync", folder))?;
        Ok(Written {
            path: self.path.clone(),
            sha256,
            bytes: self.bytes,
        })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.parts.update(bytes);
        self.whole.update(bytes);
        self.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let written = self.out.write_all(bytes);
        written.map_err(BackupError::io("write", &self.temporary))
    }
}

impl Drop for BackupWriter {
    fn drop(&mut self) {
        if !self.is_done {
            // Half a backup is none. Where even this fails, its name still says so.
            fs::remove_file(&self.temporary).ok();
            if self.has_hash {
                fs::remove_file(hash_path(&self.path)).ok();
            }
        }
    }
}

/// A name that nobody has, and the file that takes it up: who has made that has the name to himself.
fn begin(folder: &Path, series: &Series, at_ms: u64) -> Result<(PathBuf, File), BackupError> {
    let first = next_ms(folder, series, at_ms)?;
    let mut path = folder.join(series.file_name(first));
    for at_ms in first..first.saturating_add(TRIES) {
        path = folder.join(series.file_name(at_ms));
        let temporary = unfinished_path(&path);
        let file = match new_private(&temporary) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
            opened => opened.map_err(BackupError::io("create", &temporary))?,
        };
        // Before it was locked somebody may have taken it for one that was left.
        let is_lost = matches!(file.try_lock(), Err(TryLockError::WouldBlock)) || !is_at(&file, &temporary);
        if !is_lost && !path.exists() && !hash_path(&path).exists() {
            return Ok((path, file));
        }
        if !is_lost {
            fs::remove_file(&temporary).map_err(BackupError::io("remove", &temporary))?;
        }
    }
    Err(BackupError::Taken { path })
}

/// A file that was not there. It holds secret keys, or the hash of what does.
fn new_private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}
