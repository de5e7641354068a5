//! What a block leaves in the store, and that nothing of it is left when it is undone.

mod damage;
mod fork;
mod seed;

use crate::machine::{ChainRead as _, Place, Write};
use crate::node::fake::FakeNode;
use crate::storage::{REWARD, Store};
use block_chain_common::quantity::Height;
use block_chain_common::transaction::{Payload, RecordKey, Transaction};

/// Each record's value; together they fill several parts of a body, and one alone is larger than a part.
const SIZES: [usize; 7] = [10, 20_000, 20_000, 5, 70_000, 0, 300];

fn key(name: &str) -> RecordKey {
    RecordKey::new(name.as_bytes().to_vec()).unwrap()
}

fn place(height: u64, index: u32) -> Place {
    Place {
        height: Height::new(height),
        index,
    }
}

fn value_length(transaction: &Transaction) -> usize {
    match &transaction.payload {
        Payload::Put { value, .. } => value.as_slice().len(),
        other => panic!("{other:?}"),
    }
}

fn grown(blocks: &[&[(&str, &str)]]) -> FakeNode {
    let fake = FakeNode::start();
    for records in blocks {
        let records = records
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        fake.append(records.collect());
    }
    fake
}

fn undo_head(store: &Store) {
    let (_, hash) = store.head();
    let undo = store.undo(&hash).unwrap().unwrap();
    let undone = Write::Disconnect { hash, undo };
    store.apply(&[undone]).unwrap();
}

#[tokio::test]
async fn every_transaction_is_found_in_a_body_of_several_parts() {
    let fake = FakeNode::start();
    let records = SIZES.iter().enumerate();
    fake.append(
        records
            .map(|(n, size)| (format!("key-{n}"), "v".repeat(*size)))
            .collect(),
    );
    let store = fake.node.store();
    let (height, hash) = store.head();
    let all = store.transactions(&hash).unwrap().unwrap();
    assert_eq!(all.iter().map(value_length).collect::<Vec<_>>(), SIZES);
    let ids = store.transaction_ids(height, &hash).unwrap();
    for ((transaction, id), index) in all.iter().zip(&ids).zip(0_u32..) {
        let found = place(height.get(), index);
        assert_eq!(transaction.id(), *id);
        assert_eq!(store.place(id).unwrap(), Some(found));
        assert_eq!(store.transaction(found).unwrap().as_ref(), Some(transaction));
    }
    let beyond = place(height.get(), u32::try_from(SIZES.len()).unwrap());
    assert_eq!(store.transaction(beyond).unwrap(), None);
    assert_eq!(store.transaction(place(height.get(), u32::MAX)).unwrap(), None);
}

#[tokio::test]
async fn a_damaged_part_is_told() {
    let fake = grown(&[&[("a", "1"), ("b", "2")]]);
    let store = fake.node.store();
    let (height, hash) = store.head();
    store.cut("bodies", |key| key.starts_with(&height.to_key()));
    let error = store.transactions(&hash).unwrap_err().to_string();
    assert!(error.contains("ends within a transaction"), "{error}");
    let error = store.transaction(place(height.get(), 1)).unwrap_err().to_string();
    assert!(error.contains("block 1"), "{error}");
}

#[tokio::test]
async fn a_keys_history_has_every_value_once_and_none_that_was_undone() {
    let blocks: [&[(&str, &str)]; 3] = [
        &[("k", "1"), ("other", "1")],
        &[("k", "2"), ("k", "3")],
        &[("other", "2"), ("k", "4")],
    ];
    let fake = grown(&blocks);
    let store = fake.node.store();
    let history = |limit| store.record_history(&key("k"), None, limit).unwrap();
    let all = [place(3, 1), place(2, 1), place(2, 0), place(1, 0)];
    assert_eq!(history(100), all);
    assert_eq!(history(2), all[..2], "newest first");
    let before = |place| store.record_history(&key("k"), Some(place), 2).unwrap();
    assert_eq!(before(all[0]), all[1..3], "what was before it");
    assert_eq!(before(all[2]), all[3..]);
    assert_eq!(
        before(place(9, 0)),
        all[..2],
        "all of it was before a place to come"
    );
    assert_eq!(before(all[3]), []);
    undo_head(store);
    assert_eq!(history(100), all[1..]);
    assert_eq!(
        store.record_history(&key("other"), None, 9).unwrap(),
        [place(1, 1)]
    );
    undo_head(store);
    assert_eq!(history(100), all[3..]);
    undo_head(store);
    assert_eq!(history(100), []);
    assert_eq!(
        store.inner.keyspaces.key_history.iter().count(),
        0,
        "nothing is left behind"
    );
    assert_eq!(store.inner.keyspaces.tx_index.iter().count(), 0);
    assert_eq!(store.record(&key("k")).unwrap(), None);
}

#[tokio::test]
async fn an_accounts_history_has_its_blocks_and_none_that_was_undone() {
    let fake = grown(&[&[("a", "1")], &[("b", "2")], &[]]);
    let store = fake.node.store();
    let producer = store.header_at(Height::new(1)).unwrap().unwrap().1.producer;
    let history = |before, limit| store.account_history(&producer, before, limit).unwrap();
    let all = [3, 2, 1].map(|height| place(height, REWARD));
    assert_eq!(history(None, 100), all);
    assert_eq!(history(None, 2), all[..2], "newest first");
    assert_eq!(history(Some(all[1]), 100), all[2..]);
    undo_head(store);
    assert_eq!(history(None, 100), all[1..]);
    undo_head(store);
    undo_head(store);
    assert_eq!(
        store.inner.keyspaces.account_history.iter().count(),
        0,
        "nothing is left behind"
    );
}

#[tokio::test]
async fn what_is_settled_is_still_there() {
    let fake = FakeNode::start();
    // More than may stay unflushed.
    for block in 0..8 {
        fake.append(vec![(format!("key-{block}"), "v".repeat(900_000))]);
    }
    let store = fake.node.store();
    store.settle_and_wait().unwrap();
    assert!(
        store.inner.db.write_buffer_size() < super::IDLE_BYTES,
        "it was moved into tables"
    );
    let (height, hash) = store.head();
    assert_eq!(height, Height::new(8));
    assert_eq!(
        value_length(&store.transactions(&hash).unwrap().unwrap()[0]),
        900_000
    );
    assert_eq!(store.record(&key("key-0")).unwrap(), Some(place(1, 0)));
}

fn journal_bytes(dir: &std::path::Path) -> u64 {
    let files = std::fs::read_dir(dir.join("blocks")).unwrap().map(Result::unwrap);
    files
        .filter(|file| file.path().extension().is_some_and(|end| end == "jnl"))
        .map(|file| file.metadata().unwrap().len())
        .sum()
}

/// A node with some blocks, stopped: settled or as it is, with all its handles gone.
fn stopped(settled: bool) -> (tempfile::TempDir, Height) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let within = runtime.enter();
    let FakeNode { node, dir, .. } = {
        let fake = FakeNode::start();
        for block in 0..8 {
            fake.append(vec![(format!("key-{block}"), "v".repeat(900_000))]);
        }
        fake
    };
    if settled {
        node.store().settle_and_wait().unwrap();
    }
    let (height, _) = node.store().head();
    drop(node);
    drop(within);
    drop(runtime);
    (dir, height)
}

#[test]
fn a_stop_in_good_order_leaves_no_journal_to_read() {
    let (dir, height) = stopped(true);
    assert_eq!(journal_bytes(dir.path()), 0);
    let spec = crate::node::fake::spec();
    let store = Store::open(dir.path(), &spec).unwrap();
    assert_eq!(store.head().0, height);
    for block in 0..8 {
        let found = store.record(&key(&format!("key-{block}"))).unwrap();
        assert_eq!(found, Some(place(block + 1, 0)));
    }
    // What is written afterwards counts on from there; not settled, it is read from the journal again.
    store.put_meta("after", b"emptied").unwrap();
    undo_head(&store);
    store.sync().unwrap();
    drop(store);
    assert!(journal_bytes(dir.path()) > 0);
    let store = Store::open(dir.path(), &spec).unwrap();
    assert_eq!(store.get_meta("after").unwrap(), Some(b"emptied".to_vec()));
    assert_eq!(store.head().0, height.previous());
}

#[test]
fn a_journal_that_holds_what_no_table_does_stays() {
    let (dir, height) = stopped(false);
    assert!(journal_bytes(dir.path()) > 7_000_000);
    let store = Store::open(dir.path(), &crate::node::fake::spec()).unwrap();
    assert_eq!(store.head().0, height);
}
