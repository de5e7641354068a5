//! How far an import is: a small file for each file and chain, synced before anything that it says is done.

use super::Refusal;
use crate::identity::{IdentityError, load_json, make_private_dir, save_json};
use block_chain_common::hash::{ChainId, Digest};
use block_chain_common::keys::Address;
use block_chain_common::quantity::Nonce;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The folder of the journals, in the data directory.
const FOLDER: &str = "imports";
/// The format of a journal.
const FORMAT: u32 = 1;

/// Records that are on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Batch {
    /// How many, from the first that is not done on.
    pub(super) count: usize,
    /// The nonce that the first of them is signed for.
    pub(super) nonce: Nonce,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    format: u32,
    records: u64,
    done: u64,
    from: Address,
    batch: Option<Batch>,
}

/// The journal of one file on one chain.
pub(super) struct Journal {
    path: PathBuf,
    written: Written,
    /// Held as long as the import runs: two at a time would put records on the chain twice.
    _lock: File,
}

impl Journal {
    /// The journal of a file, begun where there is none.
    ///
    /// # Errors
    /// Where another command imports the file, or has begun it with another wallet; where the system refuses.
    pub(super) fn open(
        data_dir: &Path,
        chain: ChainId,
        digest: &Digest,
        records: u64,
        from: Address,
    ) -> anyhow::Result<Self> {
        let folder = data_dir.join(FOLDER);
        make_private_dir(&folder)?;
        let short = |text: String| text.chars().take(32).collect::<String>();
        let name = format!("{}-{}", short(chain.to_string()), short(digest.to_string()));
        let path = folder.join(format!("{name}.json"));
        let lock = lock(&folder.join(format!("{name}.lock")))?;
        let found: Option<Written> = load_json(&path)?;
        let written = found.unwrap_or(Written {
            format: FORMAT,
            records,
            done: 0,
            from,
            batch: None,
        });
        if written.from != from && written.done < written.records {
            let message = format!("the import of this file was begun with wallet {}", written.from);
            let hint = format!("go on with --from {}", written.from);
            return Err(Refusal::failed(message, Some(&hint)).into());
        }
        Ok(Self {
            path,
            written,
            _lock: lock,
        })
    }

    /// Records that were taken.
    pub(super) const fn done(&self) -> u64 {
        self.written.done
    }

    /// Whether all were.
    pub(super) const fn is_done(&self) -> bool {
        self.written.done >= self.written.records
    }

    /// What is on its way: perhaps taken, perhaps not.
    pub(super) const fn batch(&self) -> Option<Batch> {
        self.written.batch
    }

    /// Begins with the first record again.
    pub(super) fn begin_again(&mut self) -> Result<(), IdentityError> {
        self.written.done = 0;
        self.save()
    }

    /// A batch is about to be sent.
    pub(super) fn begin(&mut self, batch: Batch) -> Result<(), IdentityError> {
        self.written.batch = Some(batch);
        self.save()
    }

    /// The batch was not taken, and can be no more.
    pub(super) fn forget(&mut self) -> Result<(), IdentityError> {
        self.written.batch = None;
        self.save()
    }

    /// The batch was taken.
    pub(super) fn end(&mut self) -> anyhow::Result<()> {
        if let Some(batch) = self.written.batch.take() {
            self.written.done += u64::try_from(batch.count)?;
        }
        Ok(self.save()?)
    }

    fn save(&self) -> Result<(), IdentityError> {
        save_json(&self.path, &self.written)
    }
}

fn lock(path: &Path) -> anyhow::Result<File> {
    let opened = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(path);
    let file =
        opened.map_err(|error| Refusal::failed(format!("cannot open {}: {error}", path.display()), None))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => {
            let hint = "wait for it to end; the same command then says what is left to do";
            Err(Refusal::failed("another command is importing this file", Some(hint)).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use block_chain_common::keys::SecretKey;

    fn open(dir: &Path, seed: u8) -> anyhow::Result<Journal> {
        let from = SecretKey::from_seed(&[seed; 32]).public_key().address();
        Journal::open(dir, ChainId::ZERO, &Digest::ZERO, 10, from)
    }

    #[test]
    fn what_was_begun_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let batch = Batch {
            count: 4,
            nonce: Nonce::new(7),
        };
        let mut journal = open(dir.path(), 1).unwrap();
        journal.begin(batch).unwrap();
        assert!(open(dir.path(), 1).is_err(), "one at a time");
        drop(journal);
        let mut journal = open(dir.path(), 1).unwrap();
        assert_eq!((journal.done(), journal.batch()), (0, Some(batch)));
        journal.end().unwrap();
        drop(journal);
        let error = open(dir.path(), 2).err().unwrap().to_string();
        assert!(error.contains("begun with wallet"), "{error}");
        let mut journal = open(dir.path(), 1).unwrap();
        assert_eq!(
            (journal.done(), journal.batch(), journal.is_done()),
            (4, None, false)
        );
        journal.begin(Batch { count: 6, ..batch }).unwrap();
        journal.forget().unwrap();
        assert_eq!((journal.done(), journal.batch()), (4, None));
        journal.begin(Batch { count: 6, ..batch }).unwrap();
        journal.end().unwrap();
        assert!(journal.is_done());
        drop(journal);
        // Whoever imports it once more may be another.
        let mut journal = open(dir.path(), 2).unwrap();
        journal.begin_again().unwrap();
        assert_eq!(journal.done(), 0);
    }
}
