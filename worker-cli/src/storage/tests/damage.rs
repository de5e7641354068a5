//! A store whose files are not as they were written: cut, overwritten, or with a bit turned. It opens with what is sound of
//! it, wholly, or says that it is damaged; it never opens with half a block.

use super::*;
use crate::storage::StorageError;
use block_chain_common::chain_spec::CheckedSpec;
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

/// A store of six blocks, closed as a killed process leaves it: all of it is in the journal.
struct Written {
    dir: tempfile::TempDir,
    journal: PathBuf,
    /// Bytes of the journal that were written.
    used: usize,
}

impl Written {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _within = runtime.enter();
        let fake = FakeNode::start();
        for block in 0..6 {
            let records = (0..40).map(|n| (format!("key-{}", n % 7), format!("{block}/{n}")));
            fake.append(records.collect());
        }
        fake.node.store().sync().unwrap();
        let dir = tempfile::tempdir().unwrap();
        copy(fake.dir.path(), dir.path());
        let journal = files(dir.path())
            .into_iter()
            .find(|file| file.extension().is_some_and(|end| end == "jnl"));
        let journal = journal.unwrap();
        let bytes = fs::read(&journal).unwrap();
        let used = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
        Self { dir, journal, used }
    }

    /// A copy whose journal was changed.
    fn changed(&self, change: impl FnOnce(&mut Vec<u8>)) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        copy(self.dir.path(), dir.path());
        let journal = dir
            .path()
            .join(self.journal.strip_prefix(self.dir.path()).unwrap());
        let mut bytes = fs::read(&journal).unwrap();
        change(&mut bytes);
        fs::write(&journal, bytes).unwrap();
        dir
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let place = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(&file, place).unwrap();
    }
}

/// Opens it; where that goes, everything up to the head is there and fits together. Gives the head's height.
fn open(dir: &Path, spec: &CheckedSpec) -> Result<u64, StorageError> {
    let store = Store::open(dir, spec)?;
    let (height, hash) = store.head();
    let header = store.header(&hash)?.unwrap().header;
    assert_eq!(
        store.state_hash()?.digest(),
        header.state_digest,
        "the state is that of the head"
    );
    for height in (1..=height.get()).map(Height::new) {
        let hash = store.hash_at(height)?.unwrap();
        let transactions = store.transactions(&hash)?.unwrap();
        assert_eq!(transactions.len(), 40);
        for (transaction, index) in transactions.iter().zip(0..) {
            assert_eq!(store.place(&transaction.id())?, Some(place(height.get(), index)));
        }
    }
    for number in 0..7 {
        let newest = store.record(&key(&format!("key-{number}")))?;
        assert_eq!(
            newest.map(|found| found.height),
            (height.get() > 0).then_some(height)
        );
    }
    assert!(store.hash_at(height.next())?.is_none(), "and nothing after it");
    Ok(height.get())
}

#[test]
fn a_journal_that_is_cut_loses_only_what_comes_after() {
    let (written, spec) = (Written::new(), crate::node::fake::spec());
    assert_eq!(open(written.changed(|_| ()).path(), &spec), Ok(6));
    let mut heights = Vec::new();
    for part in 0..12 {
        let cut = written.changed(|bytes| bytes.truncate(written.used * part / 12));
        heights.push(open(cut.path(), &spec).unwrap());
    }
    assert!(heights.is_sorted(), "{heights:?}");
    assert_eq!((heights[0], heights.last()), (0, Some(&5)));
    // A write that was under way, of which the disk has kept anything.
    let torn = written.changed(|bytes| {
        for (place, byte) in bytes.iter_mut().skip(written.used).take(5_000).enumerate() {
            *byte = u8::try_from(place * 31 % 251).unwrap();
        }
    });
    assert_eq!(open(torn.path(), &spec), Ok(6), "what was synced before is there");
}

#[test]
fn a_turned_bit_is_noticed() {
    let (written, spec) = (Written::new(), crate::node::fake::spec());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let anywhere = (0..written.used, 0_u8..8);
    let judged = runner.run(&anywhere, |(place, bit)| {
        let changed = written.changed(|bytes| bytes[place] ^= 1 << bit);
        match open(changed.path(), &spec) {
            Ok(height) => prop_assert!(height <= 6),
            Err(StorageError::Damaged(_) | StorageError::Io { .. }) => {}
            Err(other) => prop_assert!(false, "{}", other),
        }
        Ok(())
    });
    judged.unwrap();
}

#[test]
fn a_store_of_a_later_format_is_left_alone() {
    let (written, spec) = (Written::new(), crate::node::fake::spec());
    {
        let store = Store::open(written.dir.path(), &spec).unwrap();
        store.inner.keyspaces.meta.insert("format", [9]).unwrap();
        store.sync().unwrap();
    }
    let found = Store::open(written.dir.path(), &spec).unwrap_err();
    assert_eq!(found, StorageError::NewerFormat { found: 9, known: 1 });
    assert!(found.hint().unwrap().contains("version"));
}
