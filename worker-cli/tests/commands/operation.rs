//! What an operator has: `doctor`, logs and their filter, spans for a collector, manual pages, and a stop that is quick.

use super::chain::json;
use super::faults::signal;
use super::node::{Coordinator, Registered};
use super::{refused, run, worker};
use serde_json::Value;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// What doctor finds: its exit code, and of each check its verdict, its words and what mends it.
fn doctor(dir: &Path) -> (i32, Vec<(String, String, String, String)>) {
    let output = run(dir, &["--json", "doctor"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let findings = found["findings"].as_array().unwrap().iter().map(|finding| {
        (
            text(finding, "check"),
            text(finding, "verdict"),
            text(finding, "says"),
            text(finding, "mend"),
        )
    });
    (output.status.code().unwrap(), findings.collect())
}

/// The first finding of a check that is not `ok`.
fn complaint(dir: &Path, check: &str) -> (String, String, String) {
    let (_, findings) = doctor(dir);
    let found = findings
        .iter()
        .find(|(name, verdict, ..)| name == check && verdict != "ok");
    assert!(found.is_some(), "{check}: {findings:?}");
    let (_, verdict, says, mend) = found.unwrap().clone();
    (verdict, says, mend)
}

#[test]
fn doctor_names_what_is_wrong_and_what_mends_it() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let coordinator = Coordinator::on_demand(server.path());
    let dir = home.path().join("w");
    let (verdict, says, mend) = complaint(&dir, "registration");
    assert_eq!(
        (verdict.as_str(), mend.as_str()),
        ("problem", "block-chain-worker register")
    );
    assert!(says.contains("no worker is registered"), "{says}");

    let registered = Registered(&dir);
    json(&dir, &["register", "--server", &coordinator.url]);
    json(&dir, &["mine_block"]);
    super::chain::wait(&dir, &["status"], |status| status["final_size"] == 2);
    let (code, findings) = doctor(&dir);
    assert!(
        code == 0 && findings.iter().all(|(_, verdict, ..)| verdict == "ok"),
        "{findings:?}"
    );
    for check in [
        "registration",
        "disk",
        "ports",
        "coordinator",
        "node",
        "clock",
        "finality",
        "peers",
    ] {
        assert!(
            findings.iter().any(|(name, ..)| name == check),
            "{check}: {findings:?}"
        );
    }
    // People get a table.
    let table = run(&dir, &["doctor"]);
    assert!(String::from_utf8_lossy(&table.stdout).contains("What mends it"));

    let key = dir.join("identity.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let (_, says, mend) = complaint(&dir, "secrets");
    assert!(
        says.contains("read by other users") && mend.starts_with("chmod 600"),
        "{says} {mend}"
    );
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    signal(&dir, "KILL");
    let (verdict, says, mend) = complaint(&dir, "node");
    assert!(
        verdict == "problem" && says == "it does not run" && mend.contains("status starts it"),
        "{says}"
    );
    // It has started nothing.
    assert_eq!(complaint(&dir, "node").1, "it does not run");
    a_taken_port(&dir);
    let output = run(&dir, &["--json", "--server", "http://127.0.0.1:1", "doctor"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut findings = found["findings"].as_array().unwrap().iter();
    let asked = findings
        .find(|finding| finding["check"] == "coordinator")
        .unwrap();
    assert_eq!(asked["verdict"], "problem");
    drop(registered);
}

/// A port that another program has taken while the node is down.
fn a_taken_port(dir: &Path) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let file = dir.join("worker.json");
    let mut worker: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let told = worker["listen"].clone();
    worker["listen"]["api"] = address.clone().into();
    fs::write(&file, worker.to_string()).unwrap();
    let (verdict, says, mend) = complaint(dir, "ports");
    assert!(
        verdict == "problem" && says.contains(&address) && mend.contains("--api IP:PORT"),
        "{says}"
    );
    drop(taken);
    assert!(
        doctor(dir)
            .1
            .iter()
            .all(|(check, verdict, ..)| check != "ports" || verdict == "ok")
    );
    worker["listen"] = told;
    fs::write(&file, worker.to_string()).unwrap();
}

#[test]
fn a_log_is_for_programs_too_and_its_filter_changes_while_the_node_runs() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let coordinator = Coordinator::start(server.path(), 4);
    let dir = home.path().join("w");
    let registered = Registered(&dir);
    // A collector that takes what it is sent, and says so.
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let otlp = format!("http://{}", collector.local_addr().unwrap());
    let received = std::thread::spawn(move || {
        let (mut stream, _) = collector.accept().unwrap();
        let mut head = [0; 4_096];
        let count = stream.read(&mut head).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .unwrap();
        String::from_utf8_lossy(&head[..count]).into_owned()
    });
    let words = [
        "register",
        "--server",
        &coordinator.url,
        "--log-format",
        "json",
        "--otlp",
        &otlp,
    ];
    json(&dir, &words);
    let filter = json(&dir, &["log"])["filter"].clone();
    assert!(
        filter.as_str().unwrap().ends_with(",block_chain_worker=info"),
        "{filter}"
    );
    let log = || fs::read_to_string(dir.join("node.log")).unwrap();
    let lines = || -> Vec<Value> {
        let text = log();
        let parsed = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")));
        parsed.collect()
    };
    assert!(
        lines()
            .iter()
            .any(|line| line["message"] == "the node runs" && line["level"] == "INFO")
    );
    let debug = |lines: &[Value]| lines.iter().any(|line| line["level"] == "DEBUG");
    assert!(!debug(&lines()));
    assert_eq!(json(&dir, &["log", "debug"])["filter"], "debug");
    json(&dir, &["mine_block"]);
    assert!(debug(&lines()));
    let cookie = fs::read_to_string(dir.join("api.cookie")).unwrap();
    assert!(!log().contains(cookie.trim()), "no secret in a log");
    for (filter, word) in [("loud", "none of off, error"), ("", "it is empty")] {
        let (code, said) = refused(&run(&dir, &["log", filter]), filter);
        assert!(code == 1 && said.contains(word), "{said}");
    }
    assert_eq!(json(&dir, &["log", "warn"])["filter"], "warn");
    let asked = received.join().unwrap();
    assert!(asked.starts_with("POST /v1/traces HTTP/1.1"), "{asked}");
    for words in [["run", "--log", "loud"], ["run", "--log-format", "xml"]] {
        assert_eq!(refused(&run(&dir, &words), words[2]).0, 2);
    }
    drop(registered);
}

#[test]
fn a_node_stops_within_ten_seconds_and_has_its_manual() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let coordinator = Coordinator::start(server.path(), 4);
    let dir = home.path().join("w");
    let registered = Registered(&dir);
    json(&dir, &["register", "--server", &coordinator.url]);
    // While it mines, and while somebody listens.
    let mut mining = worker(&dir, &["mine_block"]);
    let mut mining = mining
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    signal(&dir, "TERM");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    mining.wait().unwrap();
    json(&dir, &["status"]);
    drop(registered);

    let manual = home.path().join("man");
    assert!(run(&dir, &["man", manual.to_str().unwrap()]).status.success());
    let page = fs::read_to_string(manual.join("block-chain-worker.1")).unwrap();
    assert!(
        page.contains(".TH block-chain-worker 1") && manual.join("block-chain-worker-restore.1").exists()
    );
}
