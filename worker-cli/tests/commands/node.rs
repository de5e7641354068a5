//! The commands of a worker that is registered, given what is not there: both programs and PostgreSQL as they are.

use super::postgres::{PASSWORD, Postgres};
use super::{refused, run, worker};
use block_chain_server::settings::Settings;
use clap::Parser as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread::JoinHandle;

/// A coordinator that runs in this process.
pub(super) struct Coordinator {
    pub(super) url: String,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Coordinator {
    pub(super) fn start(dir: &Path, difficulty: u8) -> Self {
        Self::with(dir, &["--difficulty", &difficulty.to_string()])
    }

    /// With a chain that has a block only when one is asked for, found at once.
    pub(super) fn on_demand(dir: &Path) -> Self {
        Self::with(dir, &["--difficulty", "4", "--block-interval-ms", "0"])
    }

    pub(super) fn with(dir: &Path, more: &[&str]) -> Self {
        let words = [
            "block-chain-server",
            "--bind",
            "127.0.0.1:0",
            "--data-dir",
            dir.to_str().unwrap(),
        ];
        let settings = Settings::parse_from(words.iter().chain(more));
        let (started, wait) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async {
                let running = block_chain_server::start(settings).await.unwrap();
                started.send(running.url.clone()).unwrap();
                stopped.await.unwrap();
                running.stop().await;
            });
        });
        Self {
            url: wait.recv().unwrap(),
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

/// A registered worker, whose node ends with this value.
pub(super) struct Registered<'a>(pub(super) &'a Path);

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let output = run(self.0, &["disconnect"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || std::thread::panicking(), "{said}");
    }
}

#[test]
fn what_a_node_does_not_have_and_a_database_that_refuses_change_nothing() {
    let (server, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let coordinator = Coordinator::start(server.path(), 4);
    let dir = dir.path();
    // The first of the list is not there.
    let servers = format!("http://127.0.0.1:1,{}", coordinator.url);
    let registered = Registered(dir);
    let output = run(dir, &["register", "--server", &servers]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let worker_file = std::fs::read(dir.join("worker.json")).unwrap();

    let unknown = "ab".repeat(32);
    let table: [(&[&str], &str); 5] = [
        (&["transaction", &unknown], &unknown),
        (&["receipt", &unknown, "--out", "-"], &unknown),
        (&["get", "--key", "none"], "none"),
        (&["status", "--chain", "other"], "other"),
        (&["get_chain", "--from", "7"], ""),
    ];
    for (words, part) in &table[..4] {
        let (code, said) = refused(&run(dir, words), part);
        assert_eq!(code, 1, "{words:?}: {said}");
        assert!(said.contains(part), "{words:?}: {said}");
    }
    let beyond = run(dir, table[4].0);
    assert!(
        beyond.status.success(),
        "a page after the end is empty: {}",
        String::from_utf8_lossy(&beyond.stderr)
    );

    databases(dir);
    assert_eq!(std::fs::read(dir.join("worker.json")).unwrap(), worker_file);
    drop(registered);
    let kept = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert!(
        !kept.into_iter().any(|name| name == "node.json"),
        "the node has ended"
    );
}

/// `dump_data` to what is not there, or refuses.
fn databases(dir: &Path) {
    let database = Postgres::start();
    let port = database.port;
    let at = |rest: &str| format!("postgresql://ledger:{PASSWORD}@127.0.0.1:{port}/{rest}");
    let table = [
        (
            "postgresql://ledger:secret-word@127.0.0.1:1/ledger".to_owned(),
            "refused",
        ),
        (
            format!("postgresql://ledger:wrong-word@127.0.0.1:{port}/postgres"),
            "password authentication failed",
        ),
        (
            format!("postgresql://nobody:secret-word@127.0.0.1:{port}/postgres"),
            "password authentication failed",
        ),
        (at("nothing"), "\"nothing\" does not exist"),
        (at("postgres?sslmode=require"), "TLS"),
        (
            at("postgres?sslmode=verify-full&sslrootcert=/nowhere.pem"),
            "/nowhere.pem",
        ),
        (
            "postgresql://ledger:secret-word@no-such-host.invalid/ledger".to_owned(),
            "no-such-host.invalid",
        ),
    ];
    for (url, part) in &table {
        for words in [
            &["dump_data", "--db-url", url.as_str()][..],
            &["dump_data", "--once", "--db-url", url],
        ] {
            let (code, said) = refused(&run(dir, words), part);
            assert_eq!(code, 1, "{url}: {said}");
            assert!(said.contains(part) && said.contains("\nhint: "), "{url}: {said}");
            assert_eq!(said.lines().count(), 2, "{said}");
            assert!(!said.contains("-word"), "{said}");
        }
    }
    // From standard input, where it is in no list of processes.
    let mut child = worker(dir, &["dump_data", "--db-url", "-"]);
    let mut child = child
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"mysql://me:secret-word@host/ledger\n")
        .unwrap();
    let (code, said) = refused(&child.wait_with_output().unwrap(), "stdin");
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("\nhint: ") && !said.contains("-word"), "{said}");

    let stopped = run(dir, &["--json", "stop_dump_data"]);
    let said: serde_json::Value = serde_json::from_slice(&stopped.stdout).unwrap();
    assert_eq!(said["stopped"], false, "no copy was begun");
    let tables = database.query("select count(*) from pg_tables where schemaname = 'public'");
    assert_eq!(tables, "0");
    let log = std::fs::read_to_string(dir.join("node.log")).unwrap();
    assert!(!log.contains("-word"), "{log}");
}
