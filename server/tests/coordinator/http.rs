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

fn client() -> reqwest::Client {
    // Installed by whichever test comes first.
    let _installed = rustls::crypto::ring::default_provider().install_default().is_ok();
    reqwest::Client::new()
}

async fn run(dir: &Path) -> Running {
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

async fn register(client: &reqwest::Client, url: &str, seed: u8) -> Registration {
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
    let large = "x".repeat(2_000_000);
    let id = "00000000-0000-4000-8000-000000000000";
    let heartbeat = format!("/v1/workers/{id}/heartbeat");
    let get = |path: &str| client.get(format!("{url}{path}"));
    let post = |path: &str, body: &str| client.post(format!("{url}{path}")).body(body.to_owned());
    for (status, code, request) in [
        (404, "not_found", get("/v2/nothing")),
        (404, "not_found", client.delete(format!("{url}/v1/chains"))),
        (404, "unknown_chain", get("/v1/chains/other/view")),
        (404, "unknown_chain", get("/v1/chains/%00/view")),
        (400, "malformed", get("/v1/chains/main/checkpoints?from=-1")),
        (400, "malformed", get("/v1/chains/main/checkpoints?what=1")),
        (400, "malformed", post("/v1/workers", "{")),
        (400, "malformed", post("/v1/workers", "[]")),
        (400, "malformed", post("/v1/workers", &large)),
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
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.0.kill().is_ok() && self.0.wait().is_ok();
    }
}

fn program(dir: &Path, flags: &[&str]) -> Program {
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

fn first_line(program: &mut Program) -> String {
    let mut line = String::new();
    let mut output = BufReader::new(program.0.stdout.as_mut().unwrap());
    output.read_line(&mut line).unwrap();
    line
}

fn refused(dir: &Path, flags: &[&str]) -> (i32, String) {
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
    let other = tempfile::tempdir().unwrap();
    let file = other.path().join("file");
    std::fs::write(&file, "").unwrap();
    for (dir, flags, expected) in [
        (other.path(), vec!["--bind", &address], (1, "cannot listen on")),
        (
            dir,
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
