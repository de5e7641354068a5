//! Writing one.

use crate::kept::{file_name, hash_path};
use crate::{BackupError, MAGIC, MAX_PART_BYTES};
use sha2::{Digest as _, Sha256};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A backup that is being written, under a name that ends in `.tmp` until it is whole.
#[derive(Debug)]
pub struct BackupWriter {
    temporary: PathBuf,
    path: PathBuf,
    out: BufWriter<File>,
    parts: Sha256,
    whole: Sha256,
    bytes: u64,
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
    /// Begins a backup of `what` in a folder, which is made where there is none. `at_ms`: the time in its name, in
    /// milliseconds since 1970.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn create(folder: &Path, what: &str, at_ms: u64) -> Result<Self, BackupError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(BackupError::io("create", folder))?;
        let path = folder.join(file_name(what, at_ms));
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(BackupError::io("remove", &temporary)(error));
            }
            _ => {}
        }
        // It holds secret keys.
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary);
        let file = opened.map_err(BackupError::io("create", &temporary))?;
        let mut writer = Self {
            temporary,
            path,
            out: BufWriter::with_capacity(1 << 20, file),
            parts: Sha256::new(),
            whole: Sha256::new(),
            bytes: 0,
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
        // The hash comes first: a backup without one is not told from one whose hash was taken away.
        let hash = hash_path(&self.path);
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let line = format!("{sha256}  {name}\n");
        let put = || -> std::io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&hash)?;
            file.write_all(line.as_bytes())?;
            file.sync_all()
        };
        put().map_err(BackupError::io("write", &hash))?;
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
        }
    }
}
