//! What is particular to SQLite: its file, and versions.

use crate::network::{at, join, start};
use block_chain_server::store::{Store, StoreError};
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn the_sqlite_file_is_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("coordinator.sqlite");
    let service = start(Store::open_sqlite(&file).unwrap());
    join(&service, 1, at(0));
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.path());
    }
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("coordinator.sqlite");
    std::fs::write(&file, "this is a letter, not a database. ".repeat(200)).unwrap();
    let refused = Store::open_sqlite(&file).err().unwrap();
    assert!(matches!(refused, StoreError::Open { .. }), "{refused}");
    let missing = folder.path().join("none").join("coordinator.sqlite");
    assert!(Store::open_sqlite(&missing).is_err());
}

#[test]
fn a_newer_schema_is_refused() {
    use diesel::connection::SimpleConnection as _;
    use diesel::{Connection as _, SqliteConnection};
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("coordinator.sqlite");
    drop(Store::open_sqlite(&file).unwrap());
    drop(Store::open_sqlite(&file).unwrap());
    let mut connection = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    connection
        .batch_execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('20991231000000')")
        .unwrap();
    let refused = Store::open_sqlite(&file).err().unwrap();
    assert!(matches!(refused, StoreError::Newer { .. }), "{refused}");
    assert!(refused.to_string().contains("20991231000000"), "{refused}");
}
