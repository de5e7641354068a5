//! The end of fjall's journal when a store is closed in good order.
//!
//! fjall reads its journal at every open, three microseconds an entry, what its tables hold already too; and it begins a
//! new one only after 64 MB, so a start would take up to half a second for nothing. A store whose last handle goes, and
//! whose memtables are all in (synced) tables, needs none of its journal: it is emptied. Emptied, not removed: fjall
//! counts its sequence numbers on only where there is a journal. Where anything is left to flush, it stays as it is.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a start reads in a moment: not worth the care.
const SHORT_BYTES: u64 = 1_048_576;

/// Empties the journal when it is dropped, if it was spent; for a place behind the database in its owner.
pub(super) struct JournalEnd {
    dir: PathBuf,
    spent: AtomicBool,
}

impl JournalEnd {
    /// Of the database in this directory.
    pub(super) const fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            spent: AtomicBool::new(false),
        }
    }

    /// Every entry is in a table, and nobody can write any more.
    pub(super) fn spent(&self) {
        self.spent.store(true, Ordering::Release);
    }

    /// Whether emptying it is worth a flush of all that is not in tables.
    pub(super) fn is_long(&self) -> bool {
        self.long().is_ok_and(|journals| !journals.is_empty())
    }

    fn long(&self) -> std::io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let is_journal = path.extension().is_some_and(|end| end == "jnl");
            // What it takes on disk: fjall makes it longer than what is written.
            if is_journal && fs::metadata(&path)?.blocks().saturating_mul(512) > SHORT_BYTES {
                found.push(path);
            }
        }
        Ok(found)
    }

    fn empty(&self) -> std::io::Result<()> {
        for path in self.long()? {
            let file = File::options().write(true).open(&path)?;
            file.set_len(0)?;
            file.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for JournalEnd {
    fn drop(&mut self) {
        if self.spent.load(Ordering::Acquire)
            && let Err(error) = self.empty()
        {
            // The next start reads it again, as after a crash.
            tracing::debug!(%error, dir = %self.dir.display(), "the journal was left as it is");
        }
    }
}
