//! What programs of the earlier systems ask, word for word, of one node with `--legacy-routes`.

#![expect(
    clippy::too_many_lines,
    reason = "a story is read from its beginning to its end"
)]

use super::chain::{json, wait};
use super::node::{Coordinator, Registered};
use serde_json::{Value, json as value};
use std::path::Path;

/// A program of an earlier system, with the node's cookie.
struct Program {
    client: reqwest::Client,
    url: String,
    cookie: String,
}

impl Program {
    fn of(dir: &Path) -> Self {
        // Installed by whichever test comes first.
        let _installed = rustls::crypto::ring::default_provider().install_default().is_ok();
        let about: Value =
            serde_json::from_str(&std::fs::read_to_string(dir.join("node.json")).unwrap()).unwrap();
        Self {
            client: reqwest::Client::new(),
            url: about["api"].as_str().unwrap().to_owned(),
            cookie: std::fs::read_to_string(dir.join("api.cookie")).unwrap(),
        }
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>, cookie: &str) -> (u16, Value) {
        let method = method.parse().unwrap();
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if !cookie.is_empty() {
            request = request.bearer_auth(cookie);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, None, &self.cookie).await
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.ask("POST", path, Some(body), &self.cookie).await
    }
}

fn refused((status, body): (u16, Value), part: &str) {
    assert_eq!(status, 400, "{body}");
    assert!(body["message"].as_str().unwrap().contains(part), "{body}");
}

#[test]
fn the_scripts_of_the_earlier_systems_work_against_one_node() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let coordinator = Coordinator::on_demand(server.path());
    let dir = home.path();
    let _registered = Registered(dir);
    json(
        dir,
        &["register", "--legacy-routes", "--server", &coordinator.url],
    );
    let me = json(dir, &["balance"])["address"].as_str().unwrap().to_owned();
    let program = Program::of(dir);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        wallets(&program, &me).await;
        any_json(&program).await;
        messages(&program).await;
    });
    wait(dir, &["status"], |status| status["mempool_count"] == 0);
}

/// System 2.
async fn wallets(program: &Program, me: &str) {
    let new = |number: &str| value!({ "number": number, "password": "secret" });
    let (status, ana) = program.post("/wallet/new_wallet/", new("+49 170 1")).await;
    assert_eq!(status, 200, "{ana}");
    let ana = ana["addr"].as_str().unwrap().to_owned();
    assert!(ana.starts_with("bcw1"), "{ana}");
    let (_, ben) = program
        .post("/wallet/new_wallet/", value!({ "number": "0170 2" }))
        .await;
    let ben = ben["addr"].as_str().unwrap().to_owned();
    let balance = async |number: &str| {
        let (status, answer) = program.post("/wallet/get_balance/", new(number)).await;
        assert_eq!(status, 200, "{answer}");
        assert!(answer["message"].is_string());
        answer["balance"].as_u64().unwrap()
    };
    assert_eq!(balance("+49 170 1").await, 0);
    let wrong = value!({ "number": "+49 170 1", "password": "another" });
    assert_eq!(program.post("/wallet/get_balance/", wrong).await.0, 403);
    refused(
        program.get("/blockchain/mine_block/").await,
        "No transactions for mining.",
    );
    // Nobody mints without the role.
    let (status, answer) = program
        .post("/transaction/deposit/", value!({ "wallet": ana, "amount": 10 }))
        .await;
    assert_ne!(status, 200, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("issue"), "{answer}");
    // Mining pays the worker, which sends from its own wallet.
    for _ in 0..3 {
        assert_eq!(program.get("/leap").await.0, 200);
    }
    let send = |sender: &str, recipient: &str, amount: Value, password: &str| value!({ "sender": sender, "recipient": recipient, "amount": amount, "password": password });
    let path = "/transaction/new_transaction/";
    let (status, answer) = program.post(path, send(me, &ana, value!(2), "")).await;
    assert_eq!(status, 200, "{answer}");
    refused(
        program.post(path, send("nobody", &ana, value!(1), "")).await,
        "Sender address validation failed.",
    );
    refused(
        program.post(path, send(me, "nobody", value!(1), "")).await,
        "Recipient address validation failed.",
    );
    refused(
        program.post(path, send(me, &ana, value!(2), "")).await,
        "Not enough funds.",
    );
    for amount in [value!(0), value!(-1), value!(0.5), value!("many"), Value::Null] {
        refused(
            program.post(path, send(me, &ana, amount, "")).await,
            "is not a whole number above 0",
        );
    }
    let (status, block) = program.get("/blockchain/mine_block/").await;
    assert_eq!(
        (status, block["transactions"].as_array().unwrap().len()),
        (200, 1),
        "{block}"
    );
    assert_eq!(balance("+49 170 1").await, 2);
    let (status, answer) = program.post(path, send(&ana, &ben, value!(1), "wrong")).await;
    assert_eq!(status, 403, "{answer}");
    // An address that is good, but whose key is elsewhere.
    let stranger = block_chain_common::keys::SecretKey::from_seed(&[7; 32])
        .public_key()
        .address();
    refused(
        program
            .post(path, send(&stranger.to_string(), &ben, value!(1), ""))
            .await,
        "There is no wallet",
    );
    assert_eq!(
        program
            .post(path, send(&ana, &ben, value!(1.0), "secret"))
            .await
            .0,
        200
    );
    assert_eq!(program.get("/blockchain/mine_block/").await.0, 200);
    let (_, chain) = program.get("/blockchain/chain/").await;
    assert_eq!(
        (chain["length"].as_u64(), chain["chain"].as_array().unwrap().len()),
        (Some(6), 6)
    );
    assert_eq!(program.get("/blockchain/validate/").await.1["valid"], true);
    assert_eq!(program.get("/blockchain/nodes/resolve/").await.1["length"], 6);
    // What changes something, or costs much, is for who has the cookie.
    for (method, path) in [
        ("GET", "/blockchain/mine_block/"),
        ("GET", "/leap"),
        ("GET", "/blockchain/validate/"),
        ("POST", "/wallet/new_wallet/"),
        ("POST", "/wallet/get_balance/"),
        ("POST", "/transaction/deposit/"),
        ("POST", "/transaction/new_transaction/"),
        ("POST", "/discover"),
        ("POST", "/inject"),
        ("PUT", "/add?message=m"),
    ] {
        let body = (method != "GET").then(|| value!({}));
        assert_eq!(program.ask(method, path, body, "").await.0, 401, "{path}");
    }
}

/// System 3.
async fn any_json(program: &Program) {
    let before = program.get("/stats").await.1["length"].as_u64().unwrap();
    let (status, sent) = program
        .post("/inject", value!({ "data": { "a": [1, "<b>"] } }))
        .await;
    assert_eq!(status, 200, "{sent}");
    assert_eq!(program.get("/leap").await.0, 200);
    let (_, stats) = program.get("/stats").await;
    assert_eq!(stats["length"].as_u64(), Some(before + 1));
    let (_, all) = program.get("/json-chain").await;
    let last = all.as_array().unwrap().last().unwrap();
    assert_eq!(last["hash"], stats["hash"]);
    assert_eq!(last["transactions"][0]["value"], "{\"a\":[1,\"<b>\"]}");
    assert_eq!(
        program
            .post("/discover", value!({ "host": "10.0.0.7:5000" }))
            .await
            .1["length"],
        0
    );
    assert_eq!(program.get("/discover").await.1["hosts"], value!([]));
    refused(program.post("/inject", value!({ "date": 1 })).await, "data");
    refused(program.post("/discover", value!({ "host": "" })).await, "host");
}

/// System 5.
async fn messages(program: &Program) {
    let add = async |query: &str| {
        program
            .ask("PUT", &format!("/add{query}"), None, &program.cookie)
            .await
    };
    assert_eq!(add("?message=hello%20there").await.0, 200);
    refused(add("").await, "There is no message.");
    refused(add("?message=").await, "There is no message.");
    // Whatever else waits.
    assert_eq!(program.post("/inject", value!({ "data": 1 })).await.0, 200);
    let (_, waiting) = program.get("/data").await;
    assert_eq!(waiting, value!({ "data": ["hello there"], "length": 1 }));
    assert_eq!(program.get("/leap").await.0, 200);
    assert_eq!(program.get("/data").await.1["length"], 0);
    let (_, chain) = program.get("/chain").await;
    let blocks = chain["chain"].as_array().unwrap();
    assert_eq!(
        chain["length"].as_u64().unwrap(),
        u64::try_from(blocks.len()).unwrap()
    );
    assert_eq!(
        blocks.last().unwrap()["transactions"][0]["message"],
        "hello there"
    );
    assert_eq!(
        program.get("/neighbours").await.1,
        value!({ "neighbours": [], "length": 0 })
    );
}

/// With neighbours, one of which dies; and money that who may issue it deposits.
#[test]
fn neighbours_that_live_are_named_and_who_may_issue_deposits() {
    let (server, home, other) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let flags = [
        "--difficulty",
        "4",
        "--block-interval-ms",
        "0",
        "--lease-ms",
        "3000",
        "--heartbeat-ms",
        "200",
    ];
    let coordinator = Coordinator::with(server.path(), &flags);
    let (dir, ben) = (home.path(), other.path());
    let _registered = (Registered(dir), Registered(ben));
    json(
        dir,
        &["register", "--legacy-routes", "--server", &coordinator.url],
    );
    json(
        ben,
        &["register", "--legacy-routes", "--server", &coordinator.url],
    );
    wait(dir, &["peers"], |found| found["count"] == 1);
    let me = json(dir, &["balance"])["address"].as_str().unwrap().to_owned();
    let program = Program::of(dir);
    let of_ben = Program::of(ben);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let host = of_ben.url.trim_start_matches("http://").to_owned();
    runtime.block_on(async {
        let expected = value!({ "neighbours": [host], "length": 1 });
        // Once a heartbeat has told where it is; a slow machine may miss one.
        while program.get("/neighbours").await.1 != expected {}
        let ask = value!({ "host": host });
        while program.post("/discover", ask.clone()).await.1["hosts"] != value!([host]) {}
        // It is one to ask.
        let (_, stats) = of_ben.get("/stats").await;
        assert_eq!(stats["length"], 1);
        // Both agree on the chain that one of them mines.
        assert_eq!(program.get("/leap").await.0, 200);
        while of_ben.get("/stats").await.1["length"] != 2 {}
        assert_eq!(of_ben.get("/stats").await.1, program.get("/stats").await.1);
        assert_eq!(of_ben.get("/blockchain/validate/").await.1["valid"], true);
    });
    // Whoever makes a chain may issue on it. The routes are there for each chain.
    let words = ["--proof", "authority", "--interval", "0"];
    json(
        dir,
        &[&["chain", "create", "--name", "money"], &words[..]].concat(),
    );
    runtime.block_on(async {
        let path = "/chains/money/transaction/deposit/";
        let (status, answer) = program.post(path, value!({ "wallet": me, "amount": 10 })).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(program.get("/chains/money/blockchain/mine_block/").await.0, 200);
    });
    // The deposit, and the block's reward.
    assert_eq!(
        json(dir, &["balance", "--chain", "money"])["confirmed"].as_u64(),
        Some(11)
    );
    super::faults::signal(ben, "KILL");
    runtime.block_on(async { while program.get("/neighbours").await.1["length"] != 0 {} });
    json(ben, &["status"]);
}
