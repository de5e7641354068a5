//! What is particular to each database: opening, versions, lost connections, passwords.

use crate::cluster::Cluster;
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

#[test]
fn a_database_that_is_not_there_is_named_without_its_password() {
    for url in [
        "postgresql://me:secret-word@127.0.0.1:1/records",
        "postgresql://me:secret-word@127.0.0.1:1/records?sslmode=maybe",
        "mysql://me:secret-word@127.0.0.1/records",
        "host=127.0.0.1 password=secret-word",
    ] {
        let refused = Store::open_postgres(url).err().unwrap().to_string();
        assert!(!refused.contains("secret-word"), "{refused}");
    }
}

#[test]
fn a_restarted_postgres_is_found_again() {
    let cluster = Cluster::start();
    let service = start(Store::open_postgres(&cluster.new_database()).unwrap());
    let worker = join(&service, 1, at(0));
    cluster.restart();
    let view = service.view("main", at(1)).unwrap();
    assert_eq!(view.members[0].worker_id, worker.who.worker);
    join(&service, 2, at(2));
}

#[test]
fn what_another_server_did_is_told_by_the_next_tick() {
    let cluster = Cluster::start();
    let url = cluster.new_database();
    let open = || start(Store::open_postgres(&url).unwrap());
    let (one, other) = (open(), open());
    one.tick(at(0)).unwrap();
    let mut events = one.subscribe();
    one.tick(at(1)).unwrap();
    assert!(events.try_recv().is_err(), "nothing happened");
    join(&other, 1, at(2));
    one.tick(at(3)).unwrap();
    assert!(events.try_recv().is_ok());
}

#[test]
fn servers_that_start_at_once_share_one_key() {
    let cluster = Cluster::start();
    let url = cluster.new_database();
    let keys = std::thread::scope(|scope| {
        let starts =
            [(); 4].map(|()| scope.spawn(|| start(Store::open_postgres(&url).unwrap()).public_key()));
        starts.map(|start| start.join().unwrap())
    });
    assert!(keys.iter().all(|key| *key == keys[0]));
}
