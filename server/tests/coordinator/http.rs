//! The coordinator over HTTP, in this process, and its program from outside.

use crate::network::sign;
use block_chain_common::coordinator_api::{ApiError, Challenge, Registration};
use block_chain_server::settings::Settings;
use block_chain_server::{Running, start};
use clap::Parser as _;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) fn client() -> reqwest::Client {
    // Installed by whichever test comes first.
    let _installed = rustls::crypto::ring::default_provider().install_default().is_ok();
    reqwest::Client::new()
}

pub(crate) async fn run(dir: &Path) -> Running {
    let dir = dir.to_str().unwrap();
    let flags = [
        "block-chain-server",
        "--bind",
        "127.0.0.1:0",
        "--data-dir",
        dir,
        "--difficulty",
        "4",
    ];
    start(Settings::parse_from(flags)).await.unwrap()
}

pub(crate) async fn register(client: &reqwest::Client, url: &str, seed: u8) -> Registration {
    let challenge: Challenge = client
        .post(format!("{url}/v1/challenges"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let answer = client
        .post(format!("{url}/v1/workers"))
        .json(&sign(seed, &challenge.challenge));
    answer.send().await.unwrap().json().await.unwrap()
}

#[actix_web::test]
async fn a_restart_keeps_ids_tokens_and_terms() {
    let folder = tempfile::tempdir().unwrap();
    let client = client();
    let running = run(folder.path()).await;
    let first = register(&client, &running.url, 1).await;
    running.stop().await;
    let running = run(folder.path()).await;
    let beat = json!({
        "chain": "main", "height": 0, "head": "0".repeat(64), "committed": 0, "term": first.view.term,
        "checkpoint_size": 0, "addresses": []
    });
    let path = format!("{}/v1/workers/{}/heartbeat", running.url, first.worker_id);
    let beaten = client
        .post(&path)
        .bearer_auth(&first.worker_token)
        .json(&beat)
        .send();
    let view: Value = beaten.await.unwrap().json().await.unwrap();
    assert_eq!(view["leader"]["worker_id"], json!(first.worker_id), "{view}");
    assert_eq!(
        register(&client, &running.url, 1).await.worker_id,
        first.worker_id
    );
    let refused = client
        .post(&path)
        .bearer_auth(&first.worker_token)
        .json(&beat)
        .send();
    assert_eq!(refused.await.unwrap().status(), 401, "the token before is over");
    running.stop().await;
}

#[actix_web::test]
async fn every_refusal_is_json_with_a_code() {
    let folder = tempfile::tempdir().unwrap();
    let (client, running) = (client(), run(folder.path()).await);
    let url = running.url.clone();
    let large = "x".repeat(3_000_000);
    let id = "00000000-0000-4000-8000-000000000000";
    let heartbeat = format!("/v1/workers/{id}/heartbeat");
    let get = |path: &str| client.get(format!("{url}{path}"));
    let post = |path: &str, body: &str| client.post(format!("{url}{path}")).body(body.to_owned());
    for (status, code, request) in [
        (404, "not_found", get("/v2/nothing")),
        (405, "method", client.delete(format!("{url}/v1/chains"))),
        (404, "unknown_chain", get("/v1/chains/other/view")),
        (404, "unknown_chain", get("/v1/chains/%00/view")),
        (400, "malformed", get("/v1/chains/main/checkpoints?from=-1")),
        (400, "malformed", get("/v1/chains/main/checkpoints?what=1")),
        (400, "malformed", post("/v1/workers", "{")),
        (400, "malformed", post("/v1/workers", "[]")),
        (413, "too_large", post("/v1/workers", &large)),
        (400, "malformed", post("/v1/workers", &"[".repeat(100_000))),
        (400, "malformed", post("/v1/workers/no-id/heartbeat", "{}")),
        (400, "malformed", post(&heartbeat, "{}")),
        (
            401,
            "worker_token",
            post(&format!("/v1/workers/{id}/leave"), "{\"chain\":\"main\"}"),
        ),
    ] {
        let shown = format!("{request:?}");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{shown}");
        let error: ApiError = answer.json().await.unwrap();
        assert_eq!(error.code, code, "{shown}: {error:?}");
        assert!(error.message.len() < 400, "{}", error.message);
    }
    let metrics = get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(
        metrics.contains("block_chain_server_refused_total{code=\"unknown_chain\"} 2"),
        "{metrics}"
    );
    assert!(metrics.contains("route=\"/v1/chains/{name}/view\""), "{metrics}");
    assert!(!metrics.contains("/v2/nothing"), "{metrics}");
    running.stop().await;
}

#[actix_web::test]
async fn pages_and_the_earlier_routes_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (client, running) = (client(), run(folder.path()).await);
    let url = running.url.clone();
    let json = async |request: reqwest::RequestBuilder| -> Value {
        request.send().await.unwrap().json().await.unwrap()
    };
    let health = json(client.get(format!("{url}/healthz"))).await;
    assert_eq!(
        (&health["service"], &health["api_version"]),
        (&json!("block-chain-server"), &json!(1))
    );
    assert_eq!(json(client.get(format!("{url}/readyz"))).await["status"], "ready");
    assert_eq!(
        json(client.get(format!("{url}/check_leader"))).await["leader"],
        Value::Null
    );
    let ids = [(); 2].map(|()| json(client.post(format!("{url}/register"))));
    let [first, second] = ids;
    let (first, second) = (first.await, second.await);
    assert!(first["worker_id"].as_str().is_some() && first != second);
    let worker = register(&client, &url, 1).await;
    assert_eq!(
        json(client.post(format!("{url}/check_leader"))).await["leader"],
        json!(worker.worker_id)
    );
    let page = client
        .get(format!("{url}/"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        page.contains("worker-1") && page.contains(&worker.worker_id.to_string()),
        "{page}"
    );
    assert_eq!(
        client.get(format!("{url}/docs/")).send().await.unwrap().status(),
        200
    );
    let paths = &json(client.get(format!("{url}/openapi.json"))).await["paths"];
    for path in ["/v1/workers", "/v1/chains/{name}/cosignatures", "/healthz"] {
        assert!(paths.get(path).is_some(), "{path}");
    }
    running.stop().await;
}

#[actix_web::test]
async fn an_event_stream_tells_of_a_worker_and_does_not_hold_up_the_stop() {
    let folder = tempfile::tempdir().unwrap();
    let (client, running) = (client(), run(folder.path()).await);
    let mut stream = client
        .get(format!("{}/v1/events", running.url))
        .send()
        .await
        .unwrap();
    assert!(stream.chunk().await.unwrap().unwrap().starts_with(b":"));
    register(&client, &running.url, 1).await;
    let told = stream.chunk().await.unwrap().unwrap();
    assert!(
        told.starts_with(b"data: {\"event\":\"members\",\"chain\":\"main\"}"),
        "{told:?}"
    );
    let begun = Instant::now();
    running.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

/// The program, ended with its value.
pub(crate) struct Program(pub(crate) Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.0.kill().is_ok() && self.0.wait().is_ok();
    }
}

pub(crate) fn program(dir: &Path, flags: &[&str]) -> Program {
    let child = Command::new(env!("CARGO_BIN_EXE_block-chain-server"))
        .arg("--data-dir")
        .arg(dir)
        .args(flags)
        .env_remove("RUST_LOG")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    Program(child.unwrap())
}

pub(crate) fn first_line(program: &mut Program) -> String {
    let mut line = String::new();
    let mut output = BufReader::new(program.0.stdout.as_mut().unwrap());
    output.read_line(&mut line).unwrap();
    line
}

pub(crate) fn refused(dir: &Path, flags: &[&str]) -> (i32, String) {
    let mut program = program(dir, flags);
    let mut text = String::new();
    program
        .0
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    (program.0.wait().unwrap().code().unwrap(), text)
}

#[actix_web::test]
async fn a_killed_program_has_kept_what_it_answered() {
    let (folder, client) = (tempfile::tempdir().unwrap(), client());
    let flags = ["--bind", "127.0.0.1:0"];
    let mut ids = Vec::new();
    for _ in 0..3 {
        let mut program = program(folder.path(), &flags);
        let line = first_line(&mut program);
        let url = line.trim_end().strip_prefix("listening on ").unwrap().to_owned();
        ids.push(register(&client, &url, 1).await.worker_id);
        program.0.kill().unwrap();
        program.0.wait().unwrap();
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn what_stops_a_start_is_said_in_two_lines() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let mut first = program(dir, &["--bind", "127.0.0.1:0"]);
    let line = first_line(&mut first);
    let address = line
        .trim_end()
        .strip_prefix("listening on http://")
        .unwrap()
        .to_owned();
    let stopped = tempfile::tempdir().unwrap();
    let mut second = program(stopped.path(), &["--bind", "127.0.0.1:0"]);
    first_line(&mut second);
    drop(second);
    let other = tempfile::tempdir().unwrap();
    let file = other.path().join("file");
    std::fs::write(&file, "").unwrap();
    for (dir, flags, expected) in [
        (other.path(), vec!["--bind", &address], (1, "cannot listen on")),
        (dir, vec!["--bind", "127.0.0.1:0"], (1, "another server runs in")),
        (
            stopped.path(),
            vec!["--bind", "127.0.0.1:0", "--difficulty", "3"],
            (1, "chain main exists with"),
        ),
        (file.as_path(), vec!["--bind", "127.0.0.1:0"], (1, "cannot")),
        (
            other.path(),
            vec!["--database-url", "postgresql://me:secret-word@127.0.0.1:1/none"],
            (1, "cannot open the database postgresql://me@127.0.0.1:1/none"),
        ),
        (
            other.path(),
            vec!["--config", "/nowhere.toml"],
            (2, "nowhere.toml"),
        ),
        (other.path(), vec!["--difficulty", "65"], (2, "65")),
        (
            other.path(),
            vec!["--open", "--join-token", "t"],
            (2, "cannot be used with"),
        ),
    ] {
        let (status, text) = refused(dir, &flags);
        assert_eq!(status, expected.0, "{flags:?}: {text}");
        assert!(
            text.contains("error: ") && text.contains(expected.1),
            "{flags:?}: {text}"
        );
        assert!(
            !text.contains("secret-word") && !text.contains("panicked"),
            "{text}"
        );
        assert!(status == 2 || text.contains("\nhint: "), "{flags:?}: {text}");
    }
}

#[actix_web::test]
async fn what_is_malformed_in_a_registration_is_named_and_nobody_is_registered() {
    let folder = tempfile::tempdir().unwrap();
    let (client, running) = (client(), run(folder.path()).await);
    let url = running.url.clone();
    let challenge = client.post(format!("{url}/v1/challenges")).send().await.unwrap();
    let challenge: Challenge = challenge.json().await.unwrap();
    let good = serde_json::to_value(sign(1, &challenge.challenge)).unwrap();
    for (field, value, status, word) in [
        ("public_key", json!("zz".repeat(32)), 400, "public key"),
        ("public_key", json!("ab".repeat(31)), 400, "public key"),
        ("public_key", json!(""), 400, "public key"),
        ("public_key", json!(7), 400, "string"),
        ("public_key", Value::Null, 400, "string"),
        // 32 bytes, but no point of the curve.
        (
            "public_key",
            json!(format!("02{}", "00".repeat(31))),
            403,
            "signed",
        ),
        ("signature", json!("ab"), 400, "body"),
        ("signature", json!("ab".repeat(64)), 403, "signed"),
        ("challenge", json!("ab".repeat(32)), 403, "signed"),
        ("api_version", json!(99), 409, "99"),
        ("api_version", json!(-1), 400, "-1"),
        ("name", json!("Upper Case"), 400, "Upper Case"),
        ("name", json!("x".repeat(65)), 400, "64"),
        ("addresses", json!(["127.0.0.1"]), 400, "127.0.0.1"),
        ("addresses", json!(vec!["127.0.0.1:1"; 17]), 400, "16"),
        ("api", json!("ftp://host"), 400, "http"),
    ] {
        let mut body = good.clone();
        body[field] = value;
        let answer = client
            .post(format!("{url}/v1/workers"))
            .json(&body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), status, "{body}");
        let error: ApiError = answer.json().await.unwrap();
        assert!(error.message.contains(word), "{field}: {error:?}");
    }
    let view = client
        .get(format!("{url}/v1/chains/main/view"))
        .send()
        .await
        .unwrap();
    let view: Value = view.json().await.unwrap();
    assert_eq!(view["members"], json!([]));
    // The challenge was not used up by what was refused.
    let accepted = client
        .post(format!("{url}/v1/workers"))
        .json(&good)
        .send()
        .await
        .unwrap();
    assert_eq!(accepted.status(), 200);
    running.stop().await;
}

#[test]
fn a_database_that_cannot_be_used_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let rules = "host all all 127.0.0.1/32 scram-sha-256";
    let cluster = crate::cluster::Cluster::start_with(rules, None);
    let port = cluster.port();
    let at = |rest: &str| format!("postgresql://ledger:secret-word@127.0.0.1:{port}/{rest}");
    for (url, code, word) in [
        (
            format!("postgresql://ledger:wrong-word@127.0.0.1:{port}/postgres"),
            1,
            "password authentication failed",
        ),
        (
            format!("postgresql://nobody:secret-word@127.0.0.1:{port}/postgres"),
            1,
            "password authentication failed",
        ),
        (at("nothing"), 1, "\"nothing\" does not exist"),
        (at("postgres?sslmode=require"), 1, "TLS"),
        (
            at("postgres?sslmode=verify-full&sslrootcert=/nowhere.pem"),
            1,
            "/nowhere.pem",
        ),
        (
            "postgresql://me:secret-word@127.0.0.1:1/records".to_owned(),
            1,
            "refused",
        ),
        (
            "postgresql://me:secret-word@no-such-host.invalid/records".to_owned(),
            1,
            "no-such-host.invalid",
        ),
        (
            "mysql://me:secret-word@127.0.0.1/records".to_owned(),
            2,
            "postgresql://",
        ),
        ("postgresql://me:secret-word@/records".to_owned(), 2, "no host"),
        (at("postgres?sslmode=maybe"), 2, "sslmode"),
    ] {
        let (status, text) = refused(folder.path(), &["--bind", "127.0.0.1:0", "--database-url", &url]);
        assert_eq!(status, code, "{url}: {text}");
        assert!(text.contains(word), "{url}: {text}");
        let lines = |start| text.lines().filter(|line| line.starts_with(start)).count();
        assert_eq!((lines("error: "), lines("hint: ")), (1, 1), "{text}");
        assert!(!text.contains("-word"), "{text}");
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            0,
            "nothing is written"
        );
    }
    assert_eq!(
        cluster.sql(
            "postgres",
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        ),
        "0"
    );
}
