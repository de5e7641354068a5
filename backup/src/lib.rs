//! Files of backups: how they are named, written, checked and kept. What is in them is each program's own.
//!
//! A file begins with [`MAGIC`]; then come parts, each a length (u32, little-endian, not zero) and its bytes; then a length
//! of zero and the SHA-256 of everything before it; then nothing. Beside it lies `NAME.sha256` as `sha256sum` writes it, of
//! the whole file. Invariants: a file has its name only when all of it is on disk, and is never changed or written over
//! afterwards; it is removed only for a newer one of the same [`Series`].

mod kept;
mod reader;
mod room;
mod schedule;
mod series;
#[cfg(test)]
mod tests;
mod writer;

pub use kept::{Kept, list, prune};
pub use reader::{BackupReader, open_checked};
pub use room::RESERVE_BYTES;
pub use schedule::{FOLDER, LEAST_INTERVAL, Plan, Schedule, checked_interval, interval};
pub use series::{Cause, Series};
pub use writer::{BackupWriter, Written};

use std::io;
use std::path::{Path, PathBuf};

/// How a backup begins.
pub const MAGIC: &[u8] = b"block-chain backup 1\n";
/// How its name ends.
pub const EXTENSION: &str = "backup";
/// How the name of the hash beside it ends, after the backup's own name.
pub const HASH_EXTENSION: &str = "sha256";
/// The longest part: a block of 8 MiB and what names it, with room.
pub const MAX_PART_BYTES: u32 = 16 * 1_048_576;

/// Why a backup cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The system refuses.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what was written.
    #[error("{} is no sound backup: {reason}", path.display())]
    Unsound {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The disk has too little room for it.
    #[error(
        "{} has {free} bytes free: a backup takes {wanted} bytes, and {RESERVE_BYTES} bytes stay free beside it",
        folder.display()
    )]
    NoRoom {
        /// The folder.
        folder: PathBuf,
        /// What is free there.
        free: u64,
        /// What a backup is reckoned to take.
        wanted: u64,
    },
    /// Another file has its name.
    #[error("{} is there already, and no backup is written over", path.display())]
    Taken {
        /// The file.
        path: PathBuf,
    },
    /// A part that cannot be written.
    #[error("a part of {bytes} bytes does not fit a backup, whose parts have 1 to {MAX_PART_BYTES}")]
    Part {
        /// Its length.
        bytes: usize,
    },
}

impl BackupError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    /// A file that is not what it should be.
    pub fn unsound(path: &Path, reason: impl Into<String>) -> Self {
        Self::Unsound {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }
}
