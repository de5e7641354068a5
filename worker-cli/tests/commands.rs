//! The program from outside: exit codes, one `error:` line, nothing changed, never a panic.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as its functions do")]

#[path = "commands/access.rs"]
mod access;
#[path = "commands/backups.rs"]
mod backups;
#[path = "support/browser.rs"]
mod browser;
#[path = "commands/chain.rs"]
mod chain;
#[path = "commands/chains.rs"]
mod chains;
#[path = "commands/examples.rs"]
mod examples;
#[path = "commands/faults.rs"]
mod faults;
#[path = "commands/legacy.rs"]
mod legacy;
#[path = "commands/node.rs"]
mod node;
#[path = "commands/operation.rs"]
mod operation;
#[path = "commands/pages.rs"]
mod pages;
#[path = "support/postgres.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod postgres;
#[path = "commands/servers.rs"]
mod servers;
#[path = "commands/storage_faults.rs"]
mod storage_faults;
#[path = "commands/stories.rs"]
mod stories;

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn worker(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_block-chain-worker"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BLOCK_CHAIN_") {
            command.env_remove(name);
        }
    }
    command
        .env_remove("RUST_LOG")
        .arg("--data-dir")
        .arg(dir)
        .args(words)
        .stdin(Stdio::null());
    command
}

fn run(dir: &Path, words: &[&str]) -> Output {
    worker(dir, words).output().unwrap()
}

/// Exit code, what standard error says; standard output is empty, and there is one `error:` line.
fn refused(output: &Output, what: &str) -> (i32, String) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let errors = said.lines().filter(|line| line.starts_with("error:"));
    assert_eq!(errors.count(), 1, "{what}: {said}");
    assert!(!said.contains("panicked"), "{what}: {said}");
    assert!(output.stdout.is_empty(), "{what}: {:?}", output.stdout);
    (output.status.code().unwrap(), said)
}

#[test]
fn every_command_that_needs_a_worker_says_where_none_is_registered() {
    let dir = tempfile::tempdir().unwrap();
    let id = "00".repeat(32);
    let commands: [&[&str]; 19] = [
        &["get_id"],
        &["get_leader"],
        &["check_consistency"],
        &["mine_block"],
        &["get_chain"],
        &["add_transaction", "--key", "k", "--value", "v"],
        &["dump_data", "--db-url", "postgresql://a@127.0.0.1:1/b"],
        &["stop_dump_data"],
        &["disconnect"],
        &["status"],
        &["get", "--key", "k"],
        &["transaction", &id],
        &["mempool"],
        &["peers"],
        &["receipt", &id],
        &["--json", "get_id"],
        &["backup"],
        &["log"],
        &["backup", "--snapshot"],
    ];
    for words in commands {
        let (code, said) = refused(&run(dir.path(), words), words[0]);
        assert_eq!(code, 1, "{words:?}");
        assert!(said.contains("no worker is registered in"), "{words:?}: {said}");
        assert!(said.contains("hint: block-chain-worker register"), "{said}");
    }
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "nothing is left behind"
    );
}

#[test]
fn a_slip_in_the_words_is_a_usage_error() {
    let dir = tempfile::tempdir().unwrap();
    let id = "ab".repeat(31);
    let commands: [&[&str]; 25] = [
        &[],
        &["nonsense"],
        &["add_transaction"],
        &["add_transaction", "--key", "only"],
        &["add_transaction", "--key", "k", "--value", "v", "--file", "f"],
        &["mine_block", "--wait-ms", "-1"],
        &["dump_data", "--db-url", "nonsense"],
        &["status", "--server", "nonsense"],
        &["register", "--server", "ftp://host"],
        &["register", "--server", "http://"],
        &["register", "--server", "http://host,"],
        &["register", "--server", "http://host,,http://other"],
        &["register", "--server", "http://host,other:18000"],
        &["register", "--server", "http://me:secret-word@host"],
        &["register", "--server", "me:secret-word@host"],
        &["register", "--server", "http://host?token=secret-word"],
        &[
            "register",
            "--server",
            "http://host",
            "--fingerprint",
            &"ab".repeat(32),
        ],
        &["register", "--server", "https://host", "--fingerprint", "ab"],
        &["transaction", &id],
        &["transaction", "../status"],
        &["receipt", "nonsense"],
        &["receipt", ""],
        &["dump_data", "--db-url", "postgresql://me:secret-word@/ledger"],
        &["run", "--api", "localhost"],
        &["demo", "--records", "0"],
    ];
    for words in commands {
        let output = run(dir.path(), words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        assert!(output.stdout.is_empty(), "{words:?}");
        assert!(!said.contains("secret-word"), "{words:?}: {said}");
    }
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 0, "nothing is left behind");
}

#[test]
fn a_proxy_of_the_environment_is_not_asked_for_the_own_node() {
    let dir = tempfile::tempdir().unwrap();
    let proxy = servers::json(r#"{"pid":1}"#);
    std::fs::write(
        dir.path().join("node.json"),
        r#"{"pid":1,"api":"http://127.0.0.1:1"}"#,
    )
    .unwrap();
    let mut command = worker(dir.path(), &["disconnect"]);
    let output = command.env("http_proxy", &proxy).env("HTTP_PROXY", &proxy);
    let (code, said) = refused(&output.output().unwrap(), "disconnect");
    assert_eq!(code, 1);
    assert!(said.contains("no worker is registered"), "{said}");
}

#[test]
fn a_data_directory_that_is_not_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let table = [
        ("{\"format\":9}", "format 9"),
        ("nonsense", "worker.json is damaged"),
        ("\u{1b}[2J{", "worker.json is damaged"),
    ];
    for (text, part) in table {
        std::fs::write(dir.path().join("worker.json"), text).unwrap();
        for words in [&["get_id"], &["status"], &["register"], &["run"]] {
            let (code, said) = refused(&run(dir.path(), words), part);
            assert_eq!(code, 1, "{words:?}");
            assert!(
                said.contains(part) && !said.contains('\u{1b}'),
                "{words:?}: {said}"
            );
        }
        assert_eq!(
            std::fs::read_to_string(dir.path().join("worker.json")).unwrap(),
            text
        );
    }
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (code, said) = refused(&run(&file, &["get_id"]), "a file");
    assert_eq!(code, 1);
    assert!(said.contains("cannot read"), "{said}");
}

#[test]
fn a_broken_line_names_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = worker(dir.path(), &["add_transaction", "--file", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(b"{\"key\":\"a\",\"value\":\"1\"}\nnot json\n")
        .unwrap();
    drop(stdin);
    let (code, said) = refused(&child.wait_with_output().unwrap(), "stdin");
    assert_eq!(code, 1);
    assert!(
        said.contains("line 2:") && said.contains("nothing of the file was added"),
        "{said}"
    );
}

#[test]
fn what_is_no_receipt_proves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    let name = file.display().to_string();
    let (code, said) = refused(&run(dir.path(), &["verify", &name]), "none");
    assert!(code == 1 && said.contains("cannot read"), "{said}");
    let binary: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for bytes in [b"".as_slice(), b"nonsense\n", &binary, &[b'a'; 4_000_000]] {
        std::fs::write(&file, bytes).unwrap();
        let (code, said) = refused(&run(dir.path(), &["verify", &name]), "nonsense");
        assert_eq!(code, 1, "{said}");
        assert!(said.len() < 1_000, "{said}");
    }
    let keys = ["verify", &name, "--coordinator-key", "zz", "--chain-id", "00"];
    std::fs::write(&file, "nonsense").unwrap();
    refused(&run(dir.path(), &keys), "keys");
}

#[test]
fn a_reader_that_is_gone_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = worker(dir.path(), &["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn completions_know_the_commands_whatever_the_settings_say() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("worker.toml"), "not toml").unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = run(dir.path(), &["completions", shell]);
        assert!(output.status.success());
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(
            script.contains("add_transaction") && script.contains("stop_dump_data"),
            "{shell}"
        );
    }
}

#[test]
fn evidence_is_judged_by_its_signatures() {
    use block_chain_common::checkpoint::Checkpoint;
    use block_chain_common::evidence::{Evidence, Statement};
    use block_chain_common::hash::{BlockHash, ChainId, Root};
    use block_chain_common::keys::SecretKey;
    use block_chain_common::quantity::Term;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("evidence.txt");
    let name = file.display().to_string();
    let (chain, key) = (ChainId::from_bytes([6; 32]), SecretKey::from_seed(&[1; 32]));
    let note = |root: u8| {
        let checkpoint = Checkpoint {
            chain,
            size: 5,
            root: Root::from_bytes([root; 32]),
            term: Term::new(1),
            block: BlockHash::from_bytes([7; 32]),
        };
        checkpoint.sign(&key).unwrap().to_string()
    };
    let mut evidence = Evidence {
        chain,
        coordinator: key.public_key(),
        reason: "two checkpoints of 5 blocks differ".to_owned(),
        first: Statement::Note(note(1)),
        second: note(2),
        header: None,
    };
    std::fs::write(&file, evidence.to_text()).unwrap();
    let judged = run(dir.path(), &["--json", "verify", &name]);
    let answer: serde_json::Value = serde_json::from_slice(&judged.stdout).unwrap();
    assert_eq!(
        (&answer["proven"], &answer["size"]),
        (&true.into(), &5.into()),
        "{answer}"
    );
    let table = run(dir.path(), &["verify", &name]);
    let said = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(
        table.status.success() && said.contains("has contradicted itself"),
        "{said}"
    );

    // Of another coordinator than the one that the reader knows; and two that can both be true.
    let other = SecretKey::from_seed(&[2; 32]).public_key().to_string();
    let id = chain.to_string();
    let known = ["verify", &name, "--coordinator-key", &other, "--chain-id", &id];
    let (code, said) = refused(&run(dir.path(), &known), "another key");
    assert!(code == 1 && said.contains("another coordinator's key"), "{said}");
    evidence.second = note(1);
    std::fs::write(&file, evidence.to_text()).unwrap();
    let (code, said) = refused(&run(dir.path(), &["verify", &name]), "no contradiction");
    assert!(
        code == 1 && said.contains("do not contradict each other"),
        "{said}"
    );
}
