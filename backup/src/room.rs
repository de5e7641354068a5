//! Whether a disk has room for a backup.

use crate::BackupError;
use std::path::Path;

/// What a backup leaves free: a node may write to the same disk, and stops where that is full. It is twice of what `doctor`
/// calls too little, and so a few of the largest blocks, and what merging tables takes.
pub const RESERVE_BYTES: u64 = 256 << 20;

/// A disk has room for so many bytes, and for what is to stay free.
///
/// # Errors
/// Where it has less.
pub(crate) fn check_room(folder: &Path, wanted: u64) -> Result<(), BackupError> {
    match nix::sys::statvfs::statvfs(folder) {
        Ok(disk) => enough(
            folder,
            wanted,
            disk.blocks_available().saturating_mul(disk.fragment_size()),
        ),
        Err(error) => Err(BackupError::io("ask for the room of", folder)(error.into())),
    }
}

pub(crate) fn enough(folder: &Path, wanted: u64, free: u64) -> Result<(), BackupError> {
    if free < wanted.saturating_add(RESERVE_BYTES) {
        return Err(BackupError::NoRoom {
            folder: folder.to_owned(),
            free,
            wanted,
        });
    }
    Ok(())
}
