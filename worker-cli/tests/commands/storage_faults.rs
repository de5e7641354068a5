//! Writes, syncs, renames and truncations that fail, at one point after the other: the node goes on or stops with a clear
//! error, and what was acknowledged is there when it is started again. The system's calls are made to fail by `strace`.

use super::chain::json;
use super::faults::{ids, signal, signal_where_running};
use super::node::{Coordinator, Registered};
use super::{run, worker};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What fails: system calls, the error, and whether only on the journal's files.
const FAULTS: [(&str, &str, bool); 7] = [
    ("fsync,fdatasync", "EIO", false),
    ("fsync,fdatasync", "ENOSPC", false),
    ("write,writev,pwrite64", "ENOSPC", true),
    ("write,writev,pwrite64", "EIO", true),
    ("rename,renameat,renameat2", "EIO", false),
    ("ftruncate,fallocate", "ENOSPC", false),
    ("unlink,unlinkat", "EIO", false),
];
/// Which of a thread's calls fails; with `+` all from there on.
const POINTS: [&str; 5] = ["1", "2", "3", "5", "4+"];
/// Transactions that a user tries to add meanwhile.
const TRIES: usize = 5;

#[test]
fn what_fails_on_the_disk_stops_the_node_or_does_not_and_loses_nothing() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let coordinator = Coordinator::start(server.path(), 4);
    let dir = home.path();
    let _registered = Registered(dir);
    json(dir, &["register", "--server", &coordinator.url]);
    signal(dir, "TERM");
    let (mut acknowledged, mut stopped) = (Vec::new(), 0);
    for fault in FAULTS {
        for point in POINTS {
            stopped += u32::from(under(dir, fault, point, &mut acknowledged));
        }
    }
    println!(
        "{stopped} of {} faults stopped the node",
        FAULTS.len() * POINTS.len()
    );
    assert!(stopped >= 5, "{stopped}: do the calls fail at all?");
    assert!(acknowledged.len() > TRIES, "nothing was tried");
    for id in &acknowledged {
        json(dir, &["transaction", id]);
    }
}

/// A node whose calls fail; whether that stopped it.
fn under(dir: &Path, fault: (&str, &str, bool), point: &str, acknowledged: &mut Vec<String>) -> bool {
    let mut node = start(dir, fault, point);
    let mut ended = None;
    for turn in 0..TRIES {
        ended = node.try_wait().unwrap();
        if ended.is_some() {
            break;
        }
        let number = acknowledged.len().to_string();
        let added = run(
            dir,
            &["--json", "add_transaction", "--key", "k", "--value", &number],
        );
        if added.status.success() {
            acknowledged.extend(ids(&serde_json::from_slice(&added.stdout).unwrap()));
        }
        if turn == TRIES / 2 && node.try_wait().unwrap().is_none() {
            // It may fail, and say so.
            let mined = run(dir, &["mine_block"]);
            assert!(!String::from_utf8_lossy(&mined.stderr).contains("panicked"));
        }
    }
    if ended.is_none() && node.try_wait().unwrap().is_none() {
        signal_where_running(dir, "TERM");
    }
    let ended = node.wait_with_output().unwrap();
    let log = String::from_utf8_lossy(&ended.stderr);
    let what = format!("{fault:?} at {point}: {log}");
    assert!(!log.contains("panicked"), "{what}");
    let failed = !ended.status.success();
    assert!(!failed || log.contains("error: "), "{what}");

    // Without the fault it opens, and everything is in order.
    let report = json(dir, &["check_consistency"]);
    assert_eq!(report["consistent"], true, "{report} after {what}");
    if let Some(last) = acknowledged.last() {
        json(dir, &["transaction", last]);
    }
    signal(dir, "TERM");
    failed
}

fn start(dir: &Path, (calls, error, in_journal): (&str, &str, bool), point: &str) -> Child {
    // Of an earlier node.
    if dir.join("node.json").exists() {
        fs::remove_file(dir.join("node.json")).unwrap();
    }
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e"]);
    command.arg(format!("trace={calls}")).arg("-e");
    command.arg(format!("inject={calls}:error={error}:when={point}"));
    for path in journals(&dir.join("blocks")).iter().filter(|_| in_journal) {
        command.arg("-P").arg(path);
    }
    let node = worker(dir, &["run"]);
    command.arg(node.get_program()).args(node.get_args());
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while fs::read(dir.join("node.json")).is_err() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child
}

fn journals(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_journal = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "jnl");
    entries.filter(is_journal).collect()
}
