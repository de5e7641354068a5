//! A worker with a chain of its own: receipts and the keys that they are checked with; a search that nobody waits for.

use super::faults::signal;
use super::node::{Coordinator, Registered};
use super::{refused, run, worker};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn json(dir: &Path, words: &[&str]) -> Value {
    let output = run(dir, &[&["--json"], words].concat());
    let (said, answer) = (
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout),
    );
    assert!(output.status.success(), "{words:?}: {said}{answer}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Asks again and again, with nothing but the asking in between, until the answer is right.
pub(super) fn wait(dir: &Path, words: &[&str], mut right: impl FnMut(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let answer = json(dir, words);
        if right(&answer) {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "{words:?}: {answer}");
    }
}

#[test]
fn a_receipt_is_final_to_whoever_has_the_chain_s_keys() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let coordinator = Coordinator::start(server.path(), 4);
    let dir = home.path();
    let _registered = Registered(dir);
    json(dir, &["register", "--server", &coordinator.url]);
    let added = json(dir, &["add_transaction", "--key", "k", "--value", "v\u{1b}[2J"]);
    let id = added["transaction_ids"][0].as_str().unwrap();
    json(dir, &["mine_block"]);
    wait(dir, &["transaction", id], |answer| answer["status"] == "final");

    let outside = tempfile::tempdir().unwrap();
    let at = |name: &str| outside.path().join(name).to_str().unwrap().to_owned();
    let (receipt, keys) = (at("receipt"), at("keys"));
    json(dir, &["receipt", id, "--out", &receipt]);
    json(dir, &["keys", "--out", &keys]);
    let shown = json(dir, &["keys"]);
    assert_eq!(shown["members"].as_array().unwrap().len(), 1, "{shown}");

    // Where no worker is: nothing but the files.
    let empty = outside.path();
    let standing = |dir: &Path, words: &[&str]| {
        let proven = json(dir, &[&["verify", &receipt], words].concat());
        assert_eq!(
            (proven["transaction_id"].as_str(), proven["key"].as_str()),
            (Some(id), Some("k")),
            "{proven}"
        );
        (
            proven["standing"].as_str().unwrap().to_owned(),
            proven["cosignatures"].as_u64(),
        )
    };
    let chain = shown["chain_id"].as_str().unwrap();
    let key = shown["coordinator_key"].as_str().unwrap();
    assert_eq!(standing(empty, &[]), ("claimed".to_owned(), Some(1)));
    assert_eq!(
        standing(empty, &["--coordinator-key", key, "--chain-id", chain]),
        ("committed".to_owned(), Some(1))
    );
    assert_eq!(standing(empty, &["--keys", &keys]), ("final".to_owned(), Some(1)));
    assert_eq!(standing(dir, &[]), ("final".to_owned(), Some(1)));
    let table = run(empty, &["verify", &receipt, "--keys", &keys]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(
        table.contains("by 1 of 1 trusted members, 1 are needed"),
        "{table}"
    );
    assert!(
        !table.contains('\u{1b}'),
        "what others wrote moves no cursor: {table}"
    );

    other_keys(empty, &receipt, &keys);
}

/// Keys that are not this chain's members', and files that hold none.
fn other_keys(empty: &Path, receipt: &str, keys: &str) {
    let text = std::fs::read_to_string(keys).unwrap();
    let (rest, member) = text.trim_end().rsplit_once("member ").unwrap();
    let coordinator = rest.split("coordinator ").nth(1).unwrap().trim_end();
    let other = empty.join("other");
    let table = [
        (
            text.replace(member, coordinator),
            "RCP-10: 0 of the 1 trusted members",
        ),
        (text.replace("main", "Main"), "KEYS-2: line 2"),
        (rest.to_owned(), "KEYS-3: the file names 0 members"),
        ("x".repeat(40_000), "KEYS-1"),
    ];
    for (text, part) in table {
        std::fs::write(&other, text).unwrap();
        let output = run(empty, &["verify", receipt, "--keys", other.to_str().unwrap()]);
        let (code, said) = refused(&output, part);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(part) && said.contains("\nhint: "), "{said}");
    }
    let missing = run(empty, &["verify", receipt, "--keys", "/nowhere"]);
    assert!(refused(&missing, "keys").1.contains("cannot read /nowhere"));
}

#[test]
fn a_search_ends_with_the_last_who_waits_for_it() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // No machine finds 2^60 attempts' worth.
    let coordinator = Coordinator::start(server.path(), 60);
    let dir = home.path();
    let _registered = Registered(dir);
    json(dir, &["register", "--server", &coordinator.url]);
    let searching = |answer: &Value| !answer["mining"].is_null();
    let mut waiting: Vec<_> = (0..2)
        .map(|_| {
            let mut command = worker(dir, &["mine_block"]);
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    wait(dir, &["status"], searching);
    let mut last = waiting.pop().unwrap();
    for child in &mut waiting {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // One still waits.
    assert!(searching(&json(dir, &["status"])));
    last.kill().unwrap();
    last.wait().unwrap();
    wait(dir, &["status"], |answer| !searching(answer));

    // And several that give up at the same time.
    let both: Vec<_> = (0..2)
        .map(|_| {
            let mut command = worker(dir, &["mine_block", "--wait-ms", "300"]);
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in both {
        let (code, said) = refused(&child.wait_with_output().unwrap(), "mine_block");
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("no block was found in 300 ms"), "{said}");
    }
    wait(dir, &["status"], |answer| !searching(answer));
}

/// How far the chain is when a worker comes back.
const AWAY: u64 = 10_000;

#[test]
fn a_worker_that_was_away_for_10_000_blocks_catches_up_and_says_how_far_it_is() {
    let homes = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [server, leader, away] = homes.each_ref().map(tempfile::TempDir::path);
    let coordinator = Coordinator::with(server, &["--proof", "authority", "--block-interval-ms", "0"]);
    let _registered = [Registered(leader), Registered(away)];
    let at_leader = json(leader, &["register", "--server", &coordinator.url]);
    json(away, &["register", "--server", &coordinator.url]);
    signal(away, "TERM");
    mine(leader, at_leader["api"].as_str().unwrap(), AWAY);

    // Only the leader has what the other lacks, and it needs the other for a majority.
    let mut seen = Vec::new();
    let caught_up = wait(away, &["status"], |status| {
        seen.extend(status["syncing"].as_object().cloned());
        status["height"].as_u64() >= Some(AWAY)
    });
    assert!(caught_up["syncing"].is_null(), "{caught_up}");
    assert!(!seen.is_empty(), "it has said how far it is");
    for syncing in &seen {
        assert!(syncing["to"].as_u64() >= Some(AWAY), "{syncing:?}");
        assert!(
            syncing["remaining_ms"].is_u64() || syncing["blocks_per_second"] == 0,
            "{syncing:?}"
        );
    }
    wait(away, &["status"], |status| {
        status["final_size"].as_u64() > Some(AWAY)
    });
    assert_eq!(json(away, &["check_consistency"])["consistent"], true);
}

/// Makes blocks one after the other, each with nothing in it.
fn mine(dir: &Path, api: &str, blocks: u64) {
    let cookie = std::fs::read_to_string(dir.join("api.cookie")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // Another test of this process may have been first.
    drop(rustls::crypto::ring::default_provider().install_default());
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        for _ in 0..blocks {
            let asked = client.post(format!("{api}/v1/mine")).bearer_auth(&cookie);
            let answer = asked.body("{}").send().await.unwrap();
            assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
        }
    });
}

#[test]
fn a_file_of_more_records_than_may_wait_goes_on_when_blocks_are_made() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let coordinator = Coordinator::with(
        server.path(),
        &["--proof", "authority", "--block-interval-ms", "0"],
    );
    let dir = home.path();
    let _registered = Registered(dir);
    json(dir, &["register", "--server", &coordinator.url]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let lines = (0..103_000).map(|n| format!("{{\"key\":\"{n}\",\"value\":1}}\n"));
    std::fs::write(file.path(), lines.collect::<String>()).unwrap();
    let mut command = worker(dir, &["--json", "add_transaction", "--file"]);
    let command = command
        .arg(file.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut adding = command.spawn().unwrap();
    // It says that it waits, and only then there is room.
    let mut said = String::new();
    let mut lines = BufReader::new(adding.stderr.take().unwrap());
    while !said.contains("going on when a block is made") {
        assert!(lines.read_line(&mut said).unwrap() > 0, "it has ended: {said}");
    }
    assert_eq!(json(dir, &["status"])["mempool_count"], 100_000);
    json(dir, &["mine_block"]);
    let added = adding.wait_with_output().unwrap();
    assert!(added.status.success(), "{said}");
    let answer: Value = serde_json::from_slice(&added.stdout).unwrap();
    assert_eq!(answer["count"], 103_000);
}
