//! Backups from outside: made while the node runs, restored in another place, and by themselves; what is damaged is refused.

use super::chain::{json, wait};
use super::faults::{ids, signal};
use super::node::{Coordinator, Registered};
use super::{refused, run};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

fn add(dir: &Path, key: &str) -> String {
    let added = json(dir, &["add_transaction", "--key", key, "--value", "v"]);
    ids(&added).remove(0)
}

/// The chain of a worker, as it tells it.
fn chain(dir: &Path) -> Value {
    json(dir, &["get_chain"])["blocks"].clone()
}

fn backups(dir: &Path, folder: &Path) -> Value {
    json(dir, &["backups", folder.to_str().unwrap()])["backups"].clone()
}

#[test]
fn a_worker_moves_to_another_machine_with_its_backup() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let coordinator = Coordinator::on_demand(server.path());
    let (old, new, folder) = (
        home.path().join("old"),
        home.path().join("new"),
        home.path().join("kept"),
    );
    let registered = json(&old, &["register", "--name", "a", "--server", &coordinator.url]);
    json(&old, &["wallet", "create", "--label", "savings"]);
    let first = add(&old, "first");
    json(&old, &["mine_block"]);
    wait(&old, &["status"], |status| status["final_size"] == 2);
    let made = json(&old, &["backup", folder.to_str().unwrap()]);
    assert_eq!(made["chains"][0]["final"], 2);
    let file = PathBuf::from(made["file"].as_str().unwrap());
    // More than is in the backup, and what only the others would know of.
    let wallets = json(&old, &["wallet", "list"]);
    let blocks = chain(&old);
    json(&old, &["backup", folder.to_str().unwrap(), "--keep", "1"]);
    assert_eq!(backups(&old, &folder).as_array().unwrap().len(), 1);
    assert!(!file.exists());
    let file = PathBuf::from(backups(&old, &folder)[0]["file"].as_str().unwrap());

    // It runs: nothing is put in its place unless that is said.
    let output = run(&old, &["restore", file.to_str().unwrap()]);
    let (code, said) = refused(&output, "occupied");
    assert!(
        code == 1 && said.contains("holds worker") && said.contains("--replace"),
        "{said}"
    );
    // The machine is lost.
    signal(&old, "KILL");
    let restored = json(&new, &["restore", file.to_str().unwrap()]);
    assert_eq!(restored["worker_id"], registered["worker_id"]);
    let again = Registered(&new);
    assert_eq!(chain(&new), blocks);
    assert_eq!(json(&new, &["wallet", "list"]), wallets);
    assert_eq!(json(&new, &["transaction", &first])["status"], "final");
    assert_eq!(json(&new, &["check_consistency"])["consistent"], true);
    // It is the same worker, and takes part.
    let second = add(&new, "second");
    json(&new, &["mine_block"]);
    wait(&new, &["transaction", &second], |found| {
        found["status"] == "final"
    });

    // In the place of a worker that runs: it is stopped, and what it has is put aside.
    let replaced = json(&new, &["restore", file.to_str().unwrap(), "--replace"]);
    let aside = PathBuf::from(replaced["aside"].as_str().unwrap());
    assert!(aside.join("worker.json").exists() && aside.join("blocks").exists());
    assert_eq!(chain(&new).as_array().unwrap().len(), 2);
    drop(again);
}

#[test]
fn damaged_backups_are_named_and_restore_nothing() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let coordinator = Coordinator::on_demand(server.path());
    let (dir, none, folder) = (
        home.path().join("w"),
        home.path().join("none"),
        home.path().join("kept"),
    );
    let registered = Registered(&dir);
    json(&dir, &["register", "--server", &coordinator.url]);
    add(&dir, "k");
    json(&dir, &["mine_block"]);
    let made = json(&dir, &["backup", folder.to_str().unwrap()]);
    let file = PathBuf::from(made["file"].as_str().unwrap());
    let good = fs::read(&file).unwrap();
    let text = file.to_str().unwrap();
    let middle = good.len() / 2;
    let mut changed = good.clone();
    changed[middle] ^= 1;
    let table: [(&[u8], &str); 5] = [
        (&[], "does not begin as a backup does"),
        (&good[..20], "does not begin as a backup does"),
        (&good[..middle], "cut short or changed"),
        (&changed, "cut short or changed"),
        (&[&good[..], b"more"].concat(), "cut short or changed"),
    ];
    for (bytes, reason) in table {
        fs::write(&file, bytes).unwrap();
        let (code, said) = refused(&run(&none, &["restore", text]), reason);
        assert!(
            code == 1 && said.contains(reason) && said.contains(text),
            "{reason}: {said}"
        );
        assert!(!none.join("worker.json").exists() && !none.join("blocks").exists());
        let output = run(&dir, &["--json", "backups", folder.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
        let error = listed["backups"][0]["error"].as_str().unwrap();
        assert!(error.contains("no sound backup"), "{error}");
    }
    fs::write(&file, &good).unwrap();
    assert_eq!(backups(&dir, &folder)[0]["sha256"], made["sha256"]);
    for (words, reason) in [
        (["restore", "/nowhere.backup"].as_slice(), "/nowhere.backup"),
        (&["restore", "/dev/null"], "/dev/null"),
        (&["restore", dir.to_str().unwrap()], dir.to_str().unwrap()),
        (&["backup", "/proc/nowhere"], "/proc/nowhere"),
    ] {
        let (code, said) = refused(&run(&dir, words), reason);
        assert!(code == 1 && said.contains(reason), "{reason}: {said}");
    }
    for words in [
        ["backup", "--keep", "0"].as_slice(),
        &["run", "--backup-every", "29s"],
        &["run", "--backup-every", "soon"],
        &["register", "--backup-keep", "0"],
    ] {
        let output = run(&dir, words);
        assert_eq!(refused(&output, words[2]).0, 2);
    }
    drop(registered);
}

/// A backup whose hashes are right, and that lacks the end of its last chain.
fn without_its_end(good: &Path, folder: &Path) -> PathBuf {
    use block_chain_backup::{BackupWriter, Cause, Series, open_checked};
    let mut reader = open_checked(good, |_, _| {}).unwrap();
    let mut parts = Vec::new();
    while let Some(part) = reader.part().unwrap() {
        parts.push(part);
    }
    parts.pop();
    let series = Series::new("worker", "f0", Cause::Asked);
    let mut writer = BackupWriter::create(folder, &series, 1_795_257_015_482, 0).unwrap();
    for part in parts {
        writer.part(&part).unwrap();
    }
    writer.finish().unwrap().path
}

#[test]
fn a_backup_that_is_not_sound_does_not_stop_the_node() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let coordinator = Coordinator::on_demand(server.path());
    let (dir, folder) = (home.path().join("w"), home.path().join("kept"));
    let registered = Registered(&dir);
    json(&dir, &["register", "--server", &coordinator.url]);
    add(&dir, "k");
    json(&dir, &["mine_block"]);
    let made = json(&dir, &["backup", folder.to_str().unwrap()]);
    let file = PathBuf::from(made["file"].as_str().unwrap());
    let node = || fs::read_to_string(dir.join("node.json")).unwrap();
    let before = node();
    let forged = without_its_end(&file, &folder);
    let changed = home.path().join("changed.backup");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&changed, &bytes).unwrap();
    for (bad, reason) in [
        (&forged, "the end of a chain is missing"),
        (&changed, "cut short or changed"),
    ] {
        let output = run(&dir, &["restore", bad.to_str().unwrap(), "--replace"]);
        let (code, said) = refused(&output, reason);
        assert!(code == 1 && said.contains(reason), "{reason}: {said}");
        assert_eq!(node(), before);
        assert!(!dir.join("restore.tmp").exists());
    }
    // The same node answers still; with a sound one it is stopped.
    assert_eq!(chain(&dir).as_array().unwrap().len(), 2);
    assert_eq!(node(), before);
    let replaced = json(&dir, &["restore", file.to_str().unwrap(), "--replace"]);
    let aside = PathBuf::from(replaced["aside"].as_str().unwrap());
    assert!(aside.join("worker.json").exists());
    assert_eq!(chain(&dir).as_array().unwrap().len(), 2);
    assert_ne!(node(), before);
    drop(registered);
}

#[test]
fn a_chain_that_cannot_be_opened_is_named_and_no_older_backup_gives_way() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let coordinator = Coordinator::on_demand(server.path());
    let (dir, folder) = (home.path().join("w"), home.path().join("kept"));
    let registered = Registered(&dir);
    json(&dir, &["register", "--server", &coordinator.url]);
    json(
        &dir,
        &["chain", "create", "--name", "second", "--proof", "authority"],
    );
    let back_up = || json(&dir, &["backup", folder.to_str().unwrap(), "--keep", "1"]);
    let whole = back_up();
    assert_eq!(
        (whole["chains"].as_array().unwrap().len(), &whole["missing"]),
        (2, &Value::Array(Vec::new()))
    );
    signal(&dir, "KILL");
    let path = dir.join("chains/second/chain.json");
    let good = fs::read(&path).unwrap();
    fs::write(&path, "damaged").unwrap();
    let lacking = back_up();
    assert_eq!(lacking["missing"], Value::Array(vec!["second".into()]));
    assert_eq!(
        (lacking["chains"].as_array().unwrap().len(), &lacking["removed"]),
        (1, &Value::from(0))
    );
    let kept = backups(&dir, &folder);
    assert_eq!(kept[0]["missing"], whole["missing"]);
    assert_eq!(kept[1]["missing"], lacking["missing"]);
    // Once it can be opened again, all older ones give way.
    signal(&dir, "KILL");
    fs::write(&path, good).unwrap();
    assert_eq!(back_up()["removed"], 2);
    assert_eq!(backups(&dir, &folder).as_array().unwrap().len(), 1);
    drop(registered);
}

#[test]
fn a_node_makes_backups_by_itself_where_something_has_changed() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let coordinator = Coordinator::on_demand(server.path());
    let dir = home.path().join("w");
    let registered = Registered(&dir);
    let words = [
        "register",
        "--server",
        &coordinator.url,
        "--backup-every",
        "30s",
        "--backup-keep",
        "1",
    ];
    json(&dir, &words);
    add(&dir, "k");
    json(&dir, &["mine_block"]);
    let folder = dir.join("backups");
    let words = ["backups", folder.to_str().unwrap()];
    let found = wait(&dir, &words, |found| found["backups"] != Value::Array(Vec::new()));
    let found = &found["backups"];
    assert_eq!(found[0]["chains"][0]["height"], 1);
    assert_eq!(found[0]["error"], Value::Null);
    drop(registered);
}

#[test]
fn a_new_worker_begins_with_a_snapshot() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let coordinator = Coordinator::on_demand(server.path());
    let (old, new, folder) = (
        home.path().join("old"),
        home.path().join("new"),
        home.path().join("kept"),
    );
    let first = Registered(&old);
    json(&old, &["register", "--name", "a", "--server", &coordinator.url]);
    // Nothing is final yet but the first block, or not even that.
    let id = add(&old, "k");
    json(&old, &["mine_block"]);
    json(&old, &["mine_block"]);
    wait(&old, &["status"], |status| status["final_size"] == 3);
    let made = json(&old, &["backup", "--snapshot", folder.to_str().unwrap()]);
    assert_eq!(made["size"], 3);
    let file = made["file"].as_str().unwrap();
    let begin = |file: &str| {
        run(
            &new,
            &[
                "register",
                "--name",
                "b",
                "--server",
                &coordinator.url,
                "--snapshot",
                file,
            ],
        )
    };
    // A backup is no snapshot, nor is one that was changed.
    let backup = json(&old, &["backup", folder.to_str().unwrap()]);
    let (code, said) = refused(&begin(backup["file"].as_str().unwrap()), "a backup");
    assert!(code == 1 && said.contains("cannot be restored"), "{said}");
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let changed = home.path().join("changed");
    fs::write(&changed, &bytes).unwrap();
    let (code, said) = refused(&begin(changed.to_str().unwrap()), "changed");
    assert!(code == 1 && said.contains("cut short or changed"), "{said}");
    assert!(!new.join("blocks").exists() && !new.join("snapshot.tmp").exists());

    let second = Registered(&new);
    let output = begin(file);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(chain(&new), chain(&old));
    assert_eq!(json(&new, &["transaction", &id])["status"], "final");
    assert_eq!(json(&new, &["check_consistency"])["consistent"], true);
    assert_eq!(json(&new, &["get", "--key", "k"])["value"], "v");
    // Once there is a replica, a snapshot has no place.
    let (code, said) = refused(&begin(file), "twice");
    assert!(code == 1 && said.contains("holds a replica already"), "{said}");
    // It takes part: what one adds is final to both.
    let later = add(&new, "later");
    wait(&old, &["mempool"], |waiting| waiting["count"] == 1);
    json(&old, &["mine_block"]);
    for dir in [&old, &new] {
        wait(dir, &["transaction", &later], |found| found["status"] == "final");
    }
    drop((second, first));
}
