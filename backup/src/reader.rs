//! Reading one, after all of it was checked.

use crate::kept::hash_path;
use crate::{BackupError, MAGIC, MAX_PART_BYTES};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{BufReader, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// A length of zero, and a hash.
const END_BYTES: u64 = 36;
/// Read at a time.
const PIECE_BYTES: usize = 1 << 20;
/// A file of one hash and one name.
const MAX_HASH_FILE_BYTES: u64 = 1_024;

/// The parts of a backup, in order.
#[derive(Debug)]
pub struct BackupReader {
    path: PathBuf,
    from: BufReader<File>,
    /// Bytes of parts that are not read yet.
    left: u64,
    sha256: String,
    bytes: u64,
}

/// Opens a backup whose every byte was checked: against the hash at its end, and against the one beside it where there is one.
/// `progress` is told how many bytes were read, of how many.
///
/// # Errors
/// Where it cannot be read, or is not what was written.
pub fn open_checked(path: &Path, mut progress: impl FnMut(u64, u64)) -> Result<BackupReader, BackupError> {
    let mut file = File::open(path).map_err(BackupError::io("open", path))?;
    let metadata = file.metadata().map_err(BackupError::io("read", path))?;
    let unsound = |reason: &str| Err(BackupError::unsound(path, reason));
    if !metadata.is_file() {
        return unsound("it is not a file");
    }
    let bytes = metadata.len();
    let magic = u64::try_from(MAGIC.len()).unwrap_or(u64::MAX);
    if bytes < magic + END_BYTES {
        return unsound("it is too short");
    }
    let (mut parts, mut whole) = (Sha256::new(), Sha256::new());
    let (mut done, before_hash) = (0_u64, bytes - 32);
    let mut piece = vec![0; PIECE_BYTES];
    while done < bytes {
        // The hash at the end is not of itself.
        let until = if done < before_hash { before_hash } else { bytes };
        let length = usize::try_from(until - done)
            .unwrap_or(usize::MAX)
            .min(PIECE_BYTES);
        let piece = piece.get_mut(..length).unwrap_or_default();
        file.read_exact(piece).map_err(BackupError::io("read", path))?;
        if done == 0 && !piece.starts_with(MAGIC) {
            return unsound("it does not begin as a backup does");
        }
        whole.update(&*piece);
        if done < before_hash {
            parts.update(&*piece);
        } else if *piece != *parts.clone().finalize() {
            return unsound("it was cut short or changed: the hash at its end is of something else");
        }
        done += u64::try_from(length).unwrap_or(u64::MAX);
        progress(done, bytes);
    }
    let sha256 = hex::encode(whole.finalize());
    check_beside(path, &sha256)?;
    file.seek(SeekFrom::Start(magic))
        .map_err(BackupError::io("read", path))?;
    Ok(BackupReader {
        path: path.to_owned(),
        from: BufReader::with_capacity(PIECE_BYTES, file),
        left: bytes - magic - END_BYTES,
        sha256,
        bytes,
    })
}

/// The hash beside it, where there is one, is that of this file.
fn check_beside(path: &Path, sha256: &str) -> Result<(), BackupError> {
    let beside = hash_path(path);
    let file = match File::open(&beside) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(BackupError::io("open", &beside))?,
    };
    let mut text = Vec::new();
    let read = file.take(MAX_HASH_FILE_BYTES).read_to_end(&mut text);
    read.map_err(BackupError::io("read", &beside))?;
    let wanted = text.get(..64).unwrap_or_default();
    if wanted.eq_ignore_ascii_case(sha256.as_bytes()) {
        return Ok(());
    }
    let beside = beside.display();
    Err(BackupError::unsound(
        path,
        format!("its SHA-256 is {sha256}, and {beside} says another"),
    ))
}

impl BackupReader {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The SHA-256 of the whole file, in hex.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The length of the whole file.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of parts that are not read yet.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.left
    }

    /// Only the first part of a file, unchecked: what is shown in a list.
    ///
    /// # Errors
    /// Where it cannot be read, or has no such part.
    pub fn first_part(path: &Path) -> Result<Vec<u8>, BackupError> {
        let mut file = File::open(path).map_err(BackupError::io("open", path))?;
        let bytes = file.metadata().map_err(BackupError::io("read", path))?.len();
        let mut magic = [0; MAGIC.len()];
        let read = file.read_exact(&mut magic);
        if read.is_err() || magic != *MAGIC {
            return Err(BackupError::unsound(path, "it does not begin as a backup does"));
        }
        let mut reader = Self {
            path: path.to_owned(),
            from: BufReader::new(file),
            left: bytes.saturating_sub(u64::try_from(MAGIC.len()).unwrap_or(u64::MAX)),
            sha256: String::new(),
            bytes,
        };
        reader
            .part()?
            .ok_or_else(|| BackupError::unsound(path, "it has no parts"))
    }

    /// The next part; `None` after the last.
    ///
    /// # Errors
    /// Where it cannot be read, or its length cannot be.
    pub fn part(&mut self) -> Result<Option<Vec<u8>>, BackupError> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut length = [0; 4];
        self.fill(&mut length)?;
        let length = u32::from_le_bytes(length);
        if length == 0 || length > MAX_PART_BYTES || u64::from(length) > self.left {
            let left = self.left;
            let reason = format!("a part has {length} bytes, of {left} left and {MAX_PART_BYTES} at most");
            return Err(BackupError::unsound(&self.path, reason));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        self.fill(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), BackupError> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let left = self.left.checked_sub(length);
        self.left = left.ok_or_else(|| BackupError::unsound(&self.path, "a part is cut short"))?;
        let read = self.from.read_exact(bytes);
        read.map_err(BackupError::io("read", &self.path))
    }
}
