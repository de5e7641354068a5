//! Several chains in one node: a hundred that are quiet, one that is flooded, imports that are killed; and value on them.

use super::chain::{json, wait};
use super::faults::signal;
use super::node::{Coordinator, Registered};
use super::{run, worker};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Resident memory of a node, in MiB.
fn memory(dir: &Path) -> u64 {
    let pid = json(dir, &["status"])["pid"].as_u64().unwrap();
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1_024
}

/// So many records as NDJSON.
fn lines(count: usize, value: &str) -> String {
    (0..count)
        .map(|n| format!("{{\"key\":\"k{n}\",\"value\":\"{value}\"}}\n"))
        .collect()
}

fn refused(dir: &Path, words: &[&str], part: &str) {
    let (_, said) = super::refused(&run(dir, words), &words.join(" "));
    assert!(said.contains(part), "{words:?}: {said}");
}

#[test]
fn a_hundred_quiet_chains_take_little_and_are_all_there_after_a_restart() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let coordinator = Coordinator::start(server.path(), 4);
    let dir = home.path();
    let _registered = Registered(dir);
    json(dir, &["register", "--server", &coordinator.url]);
    for number in 1..100 {
        json(
            dir,
            &[
                "chain",
                "create",
                "--name",
                &format!("c{number}"),
                "--proof",
                "authority",
            ],
        );
    }
    json(
        dir,
        &["add_transaction", "--key", "k", "--value", "v", "--chain", "c99"],
    );
    wait(dir, &["status", "--chain", "c99"], |status| {
        status["final_size"] == 2
    });
    let used = memory(dir);
    assert!(used < 300, "{used} MiB");
    signal(dir, "KILL");
    let listed = json(dir, &["chain", "list"]);
    let joined = listed["chains"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|chain| chain["joined"] == true);
    assert_eq!(joined.count(), 100);
    assert_eq!(json(dir, &["get", "--key", "k", "--chain", "c99"])["value"], "v");
    wait(dir, &["status", "--chain", "c50"], |status| {
        status["server_reachable"] == true
    });
}

#[test]
fn a_flooded_chain_holds_up_no_other() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let coordinator = Coordinator::start(server.path(), 4);
    let dir = home.path();
    let _registered = Registered(dir);
    json(dir, &["register", "--server", &coordinator.url]);
    for name in ["busy", "quiet"] {
        let words = [
            "chain",
            "create",
            "--name",
            name,
            "--proof",
            "authority",
            "--interval",
            "0.2",
        ];
        json(dir, &words);
    }
    let file = dir.join("records.ndjson");
    std::fs::write(&file, lines(150_000, &"x".repeat(200))).unwrap();
    let file = file.to_str().unwrap();
    let mut import = worker(dir, &["--chain", "busy", "import", file])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut slowest = Duration::ZERO;
    let mut rounds = 0;
    // As long as the flood lasts, and once at least.
    loop {
        let (key, started) = (format!("q{rounds}"), Instant::now());
        json(
            dir,
            &[
                "--chain",
                "quiet",
                "add_transaction",
                "--key",
                &key,
                "--value",
                "v",
            ],
        );
        wait(dir, &["--chain", "quiet", "mempool"], |waiting| {
            waiting["count"] == 0
        });
        wait(dir, &["--chain", "quiet", "status"], |status| {
            status["final_size"].as_u64() > status["height"].as_u64()
        });
        slowest = slowest.max(started.elapsed());
        rounds += 1;
        if import.try_wait().unwrap().is_some() {
            break;
        }
    }
    assert!(slowest < Duration::from_secs(5), "{slowest:?} of {rounds} rounds");
    let again = json(dir, &["--chain", "busy", "import", file]);
    assert_eq!(
        (&again["imported"], &again["before"]),
        (&0.into(), &150_000.into())
    );
}

/// What kills an import, or takes its nonces, between two attempts.
fn disturb(dir: &Path, attempt: u64) {
    match attempt % 4 {
        1 => {
            let key = format!("other{attempt}");
            let words = [
                "--chain",
                "audit",
                "add_transaction",
                "--key",
                &key,
                "--value",
                "v",
            ];
            json(dir, &words);
        }
        3 => {
            json(dir, &["status"]);
            signal(dir, "KILL");
        }
        _ => {}
    }
}

/// Whether an import ends by itself within a time; it is killed where it does not.
fn ends_within(dir: &Path, words: &[&str], time: Duration) -> bool {
    let mut import = worker(dir, words)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let until = Instant::now() + time;
    while Instant::now() < until {
        if let Some(status) = import.try_wait().unwrap() {
            return status.success();
        }
        std::thread::yield_now();
    }
    import.kill().unwrap();
    import.wait().unwrap();
    false
}

#[test]
fn an_import_that_is_killed_again_and_again_puts_each_record_there_once() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let coordinator = Coordinator::start(server.path(), 4);
    let dir = home.path();
    let _registered = Registered(dir);
    json(dir, &["register", "--server", &coordinator.url]);
    let words = [
        "chain",
        "create",
        "--name",
        "audit",
        "--proof",
        "authority",
        "--interval",
        "0.1",
    ];
    json(dir, &words);
    let count = 40_000;
    let file = dir.join("records.ndjson");
    std::fs::write(&file, lines(count, "v")).unwrap();
    let words = ["--chain", "audit", "import", file.to_str().unwrap()];
    // Each time a little later.
    let ended = (0..40).any(|attempt| {
        let time = Duration::from_millis(60 + attempt * 37 % 400);
        let ended = ends_within(dir, &words, time);
        disturb(dir, attempt);
        ended
    });
    if !ended {
        json(dir, &words);
    }
    wait(dir, &["--chain", "audit", "mempool"], |waiting| {
        waiting["count"] == 0
    });
    let blocks = json(dir, &["--chain", "audit", "get_chain"]);
    let puts = blocks["blocks"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|block| block["transactions"].as_array().unwrap());
    let keys = puts.map(|put| put["key"].as_str().unwrap());
    let mut keys: Vec<&str> = keys.filter(|key| key.starts_with('k')).collect();
    let all = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!((all, keys.len()), (count, count), "every record, and none twice");
}

/// Two workers on a chain of coins, whose blocks are made on demand.
struct Coins {
    homes: [tempfile::TempDir; 2],
    _server: tempfile::TempDir,
    _coordinator: Coordinator,
}

impl Coins {
    fn start() -> Self {
        let (server, homes) = (
            tempfile::tempdir().unwrap(),
            [(); 2].map(|()| tempfile::tempdir().unwrap()),
        );
        let coordinator = Coordinator::start(server.path(), 4);
        for home in &homes {
            json(home.path(), &["register", "--server", &coordinator.url]);
        }
        let spec = "--difficulty 4 --interval 0 --reward 8 --halving 2";
        let words: Vec<&str> = "chain create --name coins"
            .split(' ')
            .chain(spec.split(' '))
            .collect();
        json(homes[0].path(), &words);
        json(homes[1].path(), &["chain", "join", "coins"]);
        Self {
            homes,
            _server: server,
            _coordinator: coordinator,
        }
    }

    fn dir(&self, number: usize) -> &Path {
        self.homes[number].path()
    }

    fn on(&self, number: usize, words: &[&str]) -> serde_json::Value {
        json(self.dir(number), &[&["--chain", "coins"], words].concat())
    }

    fn wait(&self, number: usize, words: &[&str], right: impl FnMut(&serde_json::Value) -> bool) {
        wait(self.dir(number), &[&["--chain", "coins"], words].concat(), right);
    }

    fn refused(&self, number: usize, words: &[&str], part: &str) {
        refused(self.dir(number), &[&["--chain", "coins"], words].concat(), part);
    }

    fn address(&self, number: usize, whose: &[&str]) -> String {
        let found = self.on(number, &[&["balance"], whose].concat());
        found["address"].as_str().unwrap().to_owned()
    }

    /// Five blocks by the first worker.
    fn five_blocks(&self) {
        for height in 1..=5 {
            self.on(0, &["mine_block"]);
            self.wait(1, &["status"], |status| status["height"] == height);
        }
    }
}

impl Drop for Coins {
    fn drop(&mut self) {
        for home in &self.homes {
            drop(Registered(home.path()));
        }
    }
}

#[test]
fn rewards_halve() {
    let coins = Coins::start();
    coins.five_blocks();
    coins.wait(0, &["status"], |status| status["final_size"] == 6);
    // 8 for block 1, 4 for 2 and 3, 2 for 4 and 5.
    let address = coins.address(0, &[]);
    for number in 0..2 {
        assert_eq!(coins.on(number, &["balance", &address])["confirmed"], 20);
    }
    let rewards: Vec<u64> = coins.on(0, &["get_chain"])["blocks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|block| block["reward"].as_u64().unwrap_or_default())
        .collect();
    assert_eq!(rewards, [0, 8, 4, 4, 2, 2]);
}

#[test]
fn one_wallet_at_two_workers_spends_what_it_has_once() {
    let coins = Coins::start();
    coins.five_blocks();
    let exported = coins.dir(0).join("wallet.json");
    coins.on(0, &["wallet", "create", "--label", "shared"]);
    let written = run(
        coins.dir(0),
        &["wallet", "export", "shared", "--out", exported.to_str().unwrap()],
    );
    assert!(written.status.success());
    coins.on(1, &["wallet", "import", exported.to_str().unwrap()]);
    let shared = coins.address(0, &["shared"]);
    coins.on(0, &["transfer", "--to", &shared, "--amount", "20"]);
    coins.on(0, &["mine_block"]);
    coins.wait(1, &["balance", "shared"], |found| found["confirmed"] == 20);
    coins.on(1, &["wallet", "create", "--label", "loot"]);
    let loot = coins.address(1, &["loot"]);

    // At the same moment: each worker may take its transfer, and the chain takes one.
    let spend = |number: usize| {
        let words = "--chain coins transfer --from shared --amount 15 --to";
        let words: Vec<&str> = words.split(' ').chain([loot.as_str()]).collect();
        worker(coins.dir(number), &words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let spending = [spend(0), spend(1)];
    let taken = spending.map(|mut command| command.wait().unwrap().success());
    assert!(taken.contains(&true), "{taken:?}");
    coins.on(1, &["mine_block"]);
    for number in 0..2 {
        coins.wait(number, &["mempool"], |waiting| waiting["count"] == 0);
        assert_eq!(coins.on(number, &["balance", &loot])["confirmed"], 15);
        assert_eq!(coins.on(number, &["balance", &shared])["confirmed"], 5);
    }
    let spend_more = ["transfer", "--from", "shared", "--to", &loot, "--amount", "6"];
    coins.refused(0, &spend_more, "6 are needed");
}

#[test]
fn amounts_and_addresses_that_cannot_be_are_refused_with_the_limit() {
    let coins = Coins::start();
    let to = SOMEBODY;
    let (huge, beyond) = (u64::MAX.to_string(), "18446744073709551616");
    for (amount, part) in [
        ("0", "at least 1 is needed"),
        ("-1", "positive"),
        ("0.5", "whole base units"),
        (huge.as_str(), "are needed"),
        (beyond, "at most"),
        ("ten", "invalid value"),
    ] {
        coins.refused(0, &["transfer", "--to", to, "--amount", amount], part);
    }
    let deposit = ["deposit", "--to", to, "--amount", "1"];
    coins.refused(1, &deposit, "role issue");
    coins.refused(0, &["transfer", "--to", "nobody", "--amount", "1"], "nobody");
    coins.refused(0, &["stake", "--amount", "1"], "are needed");
    assert_eq!(coins.on(0, &["mempool"])["count"], 0, "nothing changed");
}

/// An address of the documentation's examples.
const SOMEBODY: &str = "bcw1qfjxmcmmxva6mhj0tv5e365mx08ksuxh2q0g0a2c7dmf7znfs3dsjzzuvd";
