//! Nodes that are killed, have no room, or are given a directory that is not theirs: nothing acknowledged is lost, each
//! refusal is one clear error, and what is refused changes nothing.

use super::chain::{json, wait};
use super::node::{Coordinator, Registered};
use super::{refused, run, worker};
use serde_json::Value;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn pid(dir: &Path) -> Option<String> {
    let about: Value = serde_json::from_slice(&fs::read(dir.join("node.json")).ok()?).unwrap();
    Some(about["pid"].to_string())
}

/// Sends a signal to the node, and waits until it is gone.
pub(super) fn signal(dir: &Path, name: &str) {
    assert!(
        signal_where_running(dir, name),
        "no node runs in {}",
        dir.display()
    );
}

/// As [`signal`]; a node that is just ending by itself is let end.
pub(super) fn signal_where_running(dir: &Path, name: &str) -> bool {
    let Some(pid) = pid(dir) else {
        return false;
    };
    // The shell's own: a bare machine has no program of that name.
    let sent = Command::new("sh")
        .args(["-c", "kill -s \"$0\" \"$1\"", name, &pid])
        .status()
        .unwrap();
    assert!(sent.success());
    let lock = fs::File::open(dir.join("node.lock")).unwrap();
    // Held by the node until its last breath.
    lock.lock().unwrap();
    true
}

pub(super) fn ids(answer: &Value) -> Vec<String> {
    let ids = answer["transaction_ids"].as_array().unwrap();
    ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
}

/// Records of one file.
const RECORDS: usize = 150;

/// Adds a file of records, in a process of its own.
fn add(dir: &Path, number: usize) -> Child {
    let lines = (0..RECORDS).map(|line| format!("{{\"key\":\"{number}/{line}\",\"value\":{line}}}\n"));
    let mut command = worker(dir, &["--json", "add_transaction", "--file", "-"]);
    let command = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(lines.collect::<String>().as_bytes()).unwrap();
    child
}

/// The ids of everything on the chain.
fn all_ids(dir: &Path) -> Vec<String> {
    let chain = json(dir, &["get_chain"]);
    let blocks = chain["blocks"].as_array().unwrap();
    let transactions = blocks
        .iter()
        .flat_map(|block| block["transactions"].as_array().unwrap());
    transactions
        .map(|found| found["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn what_was_acknowledged_is_there_after_every_kill() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let coordinator = Coordinator::start(server.path(), 4);
    let dir = home.path();
    let _registered = Registered(dir);
    json(dir, &["register", "--server", &coordinator.url]);
    let mut acknowledged = Vec::new();
    for round in 0..4 {
        let mut adding: Vec<_> = (0..5).map(|part| add(dir, round * 5 + part)).collect();
        let mut mining = worker(dir, &["mine_block"]);
        let mut mining = mining
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // When the first has its answer the node dies under the others.
        let first = adding.swap_remove(round).wait_with_output().unwrap();
        assert!(
            first.status.success(),
            "{}",
            String::from_utf8_lossy(&first.stderr)
        );
        signal(dir, "KILL");
        let others = adding.into_iter().map(|child| child.wait_with_output().unwrap());
        let answered = others.filter(|output| output.status.success()).chain([first]);
        acknowledged
            .extend(answered.flat_map(|output| ids(&serde_json::from_slice(&output.stdout).unwrap())));
        mining.wait().unwrap();
        // The next command starts the node again.
        for id in acknowledged.iter().step_by(37) {
            json(dir, &["transaction", id]);
        }
    }
    assert!(acknowledged.len() >= 4 * RECORDS);
    json(dir, &["mine_block"]);
    let last = acknowledged.last().unwrap();
    wait(dir, &["transaction", last], |answer| answer["status"] == "final");
    let on_chain = all_ids(dir);
    for id in &acknowledged {
        assert_eq!(on_chain.iter().filter(|found| *found == id).count(), 1, "{id}");
    }
    let report = json(dir, &["check_consistency"]);
    assert_eq!(report["consistent"], true, "{report}");
}

#[test]
fn a_disk_without_room_loses_nothing_that_was_acknowledged() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let coordinator = Coordinator::start(server.path(), 4);
    let dir = home.path();
    let _registered = Registered(dir);
    json(dir, &["register", "--server", &coordinator.url]);
    signal(dir, "TERM");
    // No file may grow beyond 8 MiB: as a full disk, but for the system's word for it.
    let limited = "trap '' XFSZ; ulimit -f 16384; exec \"$0\" run --data-dir \"$1\"";
    let mut node = Command::new("sh")
        .args(["-c", limited, env!("CARGO_BIN_EXE_block-chain-worker")])
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while fs::read(dir.join("node.json")).is_err() {
        assert_eq!(node.try_wait().unwrap(), None, "the node has ended");
        std::thread::yield_now();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut acknowledged = Vec::new();
    let said = loop {
        let number = acknowledged.len();
        let record = serde_json::json!({ "key": format!("key-{number}"), "value": "v".repeat(900_000) });
        fs::write(file.path(), record.to_string()).unwrap();
        let added = run(
            dir,
            &[
                "--json",
                "add_transaction",
                "--file",
                file.path().to_str().unwrap(),
            ],
        );
        if added.status.success() {
            acknowledged.extend(ids(&serde_json::from_slice(&added.stdout).unwrap()));
            assert!(acknowledged.len() < 20, "the limit does not hold");
        } else {
            break refused(&added, "add_transaction").1;
        }
    };
    assert!(
        said.contains("cannot write") && said.contains(dir.to_str().unwrap()),
        "{said}"
    );
    let ended = node.wait_with_output().unwrap();
    let log = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{log}");
    assert!(
        log.contains("error: the store of chain main failed, so the node stops: cannot write"),
        "{log}"
    );
    // With room again, the next command starts it.
    assert!(acknowledged.len() > 2, "{said}");
    for id in &acknowledged {
        json(dir, &["transaction", id]);
    }
    json(dir, &["mine_block"]);
    let report = json(dir, &["check_consistency"]);
    assert_eq!(report["consistent"], true, "{report}");
}

#[test]
fn a_directory_of_another_node_or_chain_is_refused_and_left_alone() {
    let homes = [(); 4].map(|()| tempfile::tempdir().unwrap());
    let [server, other_server, home, other] = homes.each_ref().map(tempfile::TempDir::path);
    let (coordinator, others) = (Coordinator::start(server, 4), Coordinator::start(other_server, 5));
    let registered = Registered(home);
    let elsewhere = Registered(other);
    json(home, &["register", "--server", &coordinator.url]);
    json(other, &["register", "--server", &others.url]);

    let (code, said) = refused(&run(home, &["run"]), "a second node");
    assert_eq!(code, 1);
    let expected = format!(
        "data directory {} is in use by another node (process {})",
        home.display(),
        pid(home).unwrap()
    );
    assert!(
        said.contains(&expected) && said.contains("\nhint: stop it"),
        "{said}"
    );

    signal(home, "TERM");
    signal(other, "TERM");
    let (own, foreign) = (home.join("blocks"), other.join("blocks"));
    let aside = home.join("aside");
    fs::rename(&own, &aside).unwrap();
    fs::rename(&foreign, &own).unwrap();
    let (code, said) = refused(&run(home, &["run"]), "another chain");
    assert_eq!(code, 1);
    assert!(
        said.contains("the data directory holds chain") && said.contains("\nhint: give each chain"),
        "{said}"
    );
    // A command that starts the node says the same.
    let (code, said) = refused(&run(home, &["status"]), "another chain");
    assert_eq!(code, 1);
    assert!(
        said.contains("the data directory holds chain") && said.contains("\nhint: give each chain"),
        "{said}"
    );

    // Back in its place, it is as it was.
    fs::rename(&own, &foreign).unwrap();
    fs::write(&own, "no directory").unwrap();
    let (code, said) = refused(&run(home, &["run"]), "a file");
    assert!(code == 1 && said.contains(home.to_str().unwrap()), "{said}");
    fs::remove_file(&own).unwrap();
    fs::rename(&aside, &own).unwrap();
    for dir in [home, other] {
        let report = json(dir, &["check_consistency"]);
        assert_eq!(report["consistent"], true, "{report}");
    }
    drop((registered, elsewhere));
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let coordinator = Coordinator::start(server.path(), 4);
    // Nobody, not even root, makes files there.
    for dir in ["/proc/block-chain", "/sys/block-chain"] {
        let dir = Path::new(dir);
        let (code, said) = refused(&run(dir, &["register", "--server", &coordinator.url]), "register");
        assert_eq!(code, 1);
        assert!(said.contains(dir.to_str().unwrap()), "{said}");
    }
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    let (code, said) = refused(
        &run(&file, &["register", "--server", &coordinator.url]),
        "register",
    );
    assert!(code == 1 && said.contains(file.to_str().unwrap()), "{said}");
    assert_eq!(fs::read(&file).unwrap(), b"");
}

/// Turns a bit in every table that is large enough to hold more than its frame.
fn damage_tables(dir: &Path) -> usize {
    let (mut folders, mut damaged) = (vec![dir.join("blocks/keyspaces")], 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if entry.metadata().unwrap().len() > 200_000 {
                let mut bytes = fs::read(entry.path()).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 16;
                fs::write(entry.path(), bytes).unwrap();
                damaged += 1;
            }
        }
    }
    damaged
}

#[test]
fn damaged_tables_are_named_and_repaired_from_the_other_workers() {
    let homes = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [server, a, b] = homes.each_ref().map(tempfile::TempDir::path);
    let coordinator = Coordinator::start(server, 4);
    let _registered = [Registered(a), Registered(b)];
    for dir in [a, b] {
        json(dir, &["register", "--server", &coordinator.url]);
    }
    let records = (0..8).map(|n| {
        format!(
            "{{\"key\":\"key-{n}\",\"value\":\"{}\"}}\n",
            n.to_string().repeat(900_000)
        )
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), records.collect::<String>()).unwrap();
    let added = json(a, &["add_transaction", "--file", file.path().to_str().unwrap()]);
    let last = ids(&added).pop().unwrap();
    json(a, &["mine_block"]);
    for dir in [a, b] {
        wait(dir, &["transaction", &last], |answer| answer["status"] == "final");
    }
    // A stop moves what is in memory into tables.
    signal(a, "TERM");
    assert!(damage_tables(a) > 0);
    let found = run(a, &["--json", "check_consistency"]);
    let report: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(
        (found.status.code(), &report["consistent"]),
        (Some(1), &Value::Bool(false)),
        "{report}"
    );
    assert!(
        report["local"]["errors"][0]["height"].is_u64(),
        "the first bad block is named: {report}"
    );

    let report = json(a, &["check_consistency", "--repair"]);
    assert_eq!(report["consistent"], true, "{report}");
    let found = json(a, &["get", "--key", "key-7"]);
    assert_eq!(found["value"].as_str().unwrap().len(), 900_000);
    assert_eq!(json(a, &["check_consistency"])["consistent"], true);
    let left = fs::read_dir(a)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(
        !left
            .into_iter()
            .any(|name| name.starts_with("rebuild") || name.ends_with("damaged"))
    );
}

#[test]
fn what_no_other_worker_has_is_not_thrown_away() {
    let homes = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [server, dir] = homes.each_ref().map(tempfile::TempDir::path);
    let coordinator = Coordinator::start(server, 4);
    let _registered = Registered(dir);
    json(dir, &["register", "--server", &coordinator.url]);
    for block in 0..8 {
        json(
            dir,
            &[
                "add_transaction",
                "--key",
                &format!("key-{block}"),
                "--value",
                &"v".repeat(100_000),
            ],
        );
        json(dir, &["mine_block"]);
    }
    let value = "v".repeat(1_000_000);
    let file = tempfile::NamedTempFile::new().unwrap();
    let records = (0..5).map(|n| format!("{{\"key\":\"large-{n}\",\"value\":\"{value}\"}}\n"));
    fs::write(file.path(), records.collect::<String>()).unwrap();
    json(dir, &["add_transaction", "--file", file.path().to_str().unwrap()]);
    json(dir, &["mine_block"]);
    let height = json(dir, &["status"])["height"].clone();
    signal(dir, "TERM");
    assert!(damage_tables(dir) > 0);
    let repaired = run(dir, &["--json", "check_consistency", "--repair"]);
    assert_eq!(repaired.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&repaired.stdout).unwrap();
    assert_eq!(report["consistent"], false, "{report}");
    let status = json(dir, &["status"]);
    assert_eq!(status["height"], height, "no block was given up");
    let log = fs::read_to_string(dir.join("node.log")).unwrap();
    assert!(log.contains("no peer was seen to have it"), "{log}");
}
