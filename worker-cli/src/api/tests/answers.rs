//! What every route answers.

use super::*;
use crate::machine::ChainRead as _;

#[actix_web::test]
async fn the_cookie_and_the_address_are_in_the_data_directory_and_nobody_elses() {
    let served = Served::start().await;
    let dir = served.fake.dir.path().to_owned();
    let mode = |name: &str| std::fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("api.cookie"), mode("node.json")), (0o600, 0o600));
    assert_eq!(served.cookie.len(), 64);
    let about: Value = serde_json::from_slice(&std::fs::read(dir.join("node.json")).unwrap()).unwrap();
    assert_eq!(about["api"], format!("http://{}", served.address));
    served.server.stop().await;
    assert!(!dir.join("node.json").exists());
}

#[actix_web::test]
async fn records_become_blocks_and_receipts() {
    let served = Served::start().await;
    let body = json!({ "records": [["a key", "a value"], ["b", "{\"x\": 1}"]] });
    let accepted: Accepted = served.post("/v1/records", &body).await.json();
    assert_eq!((accepted.count, accepted.status), (2, Status::Pending));
    let id = accepted.transaction_ids[0];
    let waiting: MempoolView = served.get("/v1/mempool?limit=1").await.json();
    assert_eq!((waiting.transactions.len(), waiting.count), (1, 2));
    let view: TransactionView = served.get(&format!("/v1/transactions/{id}")).await.json();
    assert_eq!((view.status, view.block), (Status::Pending, None));
    let early = served.get(&format!("/v1/receipts/{id}")).await;
    assert_eq!(early.refusal("pending"), (409, "not_committed".to_owned()));

    let mined: Mined = served.post("/v1/mine", &json!({})).await.json();
    assert_eq!((mined.block.index.get(), mined.block.transactions.len()), (1, 2));
    let early = served.get(&format!("/v1/receipts/{id}")).await;
    assert_eq!(early.refusal("included"), (409, "not_committed".to_owned()));
    let view: TransactionView = served.get(&format!("/v1/transactions/{id}")).await.json();
    assert_eq!(
        (view.status, view.block, view.index),
        (Status::Included, Some(Height::new(1)), Some(0))
    );

    served.fake.commit(2);
    let receipt = served.get(&format!("/v1/receipts/{id}")).await;
    assert!(Receipt::parse(&receipt.text()).is_ok(), "{}", receipt.text());
    let record: RecordView = served.get("/v1/record?key=a%20key&history=true").await.json();
    assert_eq!(record.current.value.as_deref(), Some("a value"));
    assert_eq!(
        (record.current.status, record.history.unwrap().len()),
        (Status::Committed, 1)
    );
    let address = served.fake.key.public_key().address();
    let account: AccountView = served.get(&format!("/v1/accounts/{address}")).await.json();
    assert_eq!(
        (account.nonce, account.next_nonce),
        (Nonce::new(2), Nonce::new(2))
    );
    let by_hash: BlockView = served
        .get(&format!("/v1/blocks/{}", mined.block.hash))
        .await
        .json();
    let by_height: BlockView = served.get("/v1/blocks/1").await.json();
    assert_eq!(by_hash, by_height);
}

#[actix_web::test]
async fn signed_transactions_are_taken_in_both_forms_once() {
    let served = Served::start().await;
    let (first, second) = (served.message(0, b"one"), served.message(1, &[0xff, 0]));
    let bytes = batch(std::slice::from_ref(&first));
    let kind = "application/octet-stream";
    let taken: Accepted = served.post_as("/v1/transactions", kind, &bytes).await.json();
    assert_eq!((taken.transaction_ids, taken.known), (vec![first.id()], 0));
    let body = json!({ "transactions": [hex::encode(encode(&first)), hex::encode(encode(&second))] });
    let taken: Accepted = served.post("/v1/transactions", &body).await.json();
    assert_eq!((taken.count, taken.known), (2, 1));
}

#[actix_web::test]
async fn blocks_stream_as_lines_however_large() {
    let served = Served::start().await;
    served.fake.grow(30, 2);
    // A block of several pieces.
    served.fake.grow(1, 2_000);
    let all = served.get("/v1/blocks").await;
    let blocks: Vec<BlockView> = all
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(blocks.len(), 32);
    assert!(
        blocks
            .windows(2)
            .all(|pair| pair[1].previous_hash == pair[0].hash)
    );
    assert_eq!(blocks[31].transactions.len(), 2_000);
    let one: BlockView = served.get("/v1/blocks/31").await.json();
    assert_eq!(one, blocks[31]);
    for (query, heights) in [
        ("from=5&limit=3", vec![5, 6, 7]),
        ("from=30", vec![30, 31]),
        ("from=32", vec![]),
        ("limit=0", vec![]),
        ("from=18446744073709551615&limit=18446744073709551615", vec![]),
    ] {
        let text = served.get(&format!("/v1/blocks?{query}")).await.text();
        let got = text
            .lines()
            .map(|line| serde_json::from_str::<BlockView>(line).unwrap());
        assert_eq!(
            got.map(|block| block.index.get()).collect::<Vec<_>>(),
            heights,
            "{query}"
        );
    }
}

#[actix_web::test]
async fn a_stream_over_a_damaged_block_breaks_rather_than_end_as_if_whole() {
    let served = Served::start().await;
    served.fake.grow(4, 2);
    let at = Height::new(3).to_key();
    served.fake.node.store().damage("heights", |key| key == at);
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let request = format!("GET /v1/blocks HTTP/1.1\r\nhost: {}\r\n\r\n", served.address);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    // The connection is closed, though it was to be kept: the last chunk, of length 0, never comes.
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes)).await;
    assert!(read.is_ok());
    assert!(!bytes.ends_with(b"0\r\n\r\n"));
}

#[actix_web::test]
async fn the_other_routes_answer_and_are_counted() {
    let served = Served::start().await;
    served.fake.grow(2, 1);
    let status: NodeStatus = served.get("/v1/status").await.json();
    assert_eq!(status.height, Height::new(2));
    let leader: LeaderView = served.get("/v1/leader").await.json();
    assert!(!leader.is_me);
    let peers: PeersView = served.get("/v1/peers").await.json();
    assert_eq!(peers.count, 0);
    let progress: CheckProgress = served.get("/v1/check").await.json();
    assert!(!progress.running);
    let report: CheckReport = served.post("/v1/check", &json!({})).await.json();
    assert!(report.consistent);
    let dump: DumpStatus = served.get("/v1/dump").await.json();
    assert!(!dump.following);
    let stopped: DumpStopped = served.post("/v1/dump/stop", &json!({})).await.json();
    assert!(!stopped.stopped);
    assert_eq!(served.get("/healthz").await.json::<Value>()["status"], "ok");
    assert_eq!(served.get("/readyz").await.json::<Value>()["status"], "ready");
    served.fake.node.0.status.write().unwrap().syncing_to = Some(Height::new(9));
    assert_eq!(served.get("/readyz").await.status, 503);
    let metrics = served.get("/metrics").await.text();
    for line in [
        "block_chain_node_height{chain=\"main\"} 2",
        "block_chain_node_requests_total{route=\"/v1/status\",status=\"200\"} 1",
        "block_chain_node_requests_total{route=\"/readyz\",status=\"503\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    let document: Value = served.get("/openapi.json").await.json();
    assert!(document["paths"]["/v1/blocks/{which}"]["get"].is_object());
    let docs = served.get("/docs/").await;
    assert_eq!(docs.status, 200);
    assert!(!docs.text().contains("https://"), "the page works offline");
    let left: Disconnected = served.post("/v1/disconnect", &json!({})).await.json();
    assert!(left.disconnected);
    assert_eq!(served.post("/v1/stop", &json!({})).await.status, 200);
}

#[actix_web::test]
async fn the_pages_show_what_is_there_and_escape_it() {
    let served = Served::start().await;
    served.fake.grow(25, 1);
    let body = json!({ "records": [["<b>k</b>", "<img src=x onerror=alert(1)>"]] });
    let accepted: Accepted = served.post("/v1/records", &body).await.json();
    let home = served.get("/").await;
    assert!(
        home.head
            .contains("content-security-policy: default-src 'none'; script-src 'self'")
    );
    assert!(home.head.contains("x-content-type-options: nosniff"));
    assert!(home.text().contains("href=\"blocks/25\"") && !home.text().contains("href=\"blocks/0\""));
    served.post("/v1/mine", &json!({})).await.json::<Mined>();
    let pages = [
        "/".to_owned(),
        "/blocks/26".to_owned(),
        "/blocks/26?from=1".to_owned(),
        "/blocks/26?node=0.0".to_owned(),
        "/?from=3".to_owned(),
        "/records?key=%3Cb%3Ek%3C/b%3E".to_owned(),
        format!("/transactions/{}", accepted.transaction_ids[0]),
        format!("/accounts/{}", served.fake.key.public_key().address()),
        "/forks".to_owned(),
        "/node".to_owned(),
        "/wallet".to_owned(),
        "/login".to_owned(),
    ];
    for path in pages {
        let page = served.get(&path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.text());
        assert!(
            !page.text().contains("<img") && !page.text().contains("<b>k"),
            "{path}"
        );
    }
}

#[actix_web::test]
async fn what_is_looked_for_is_found_by_what_it_is() {
    let served = Served::start().await;
    served.fake.append(vec![
        ("3".to_owned(), "a number".to_owned()),
        ("a b&c".to_owned(), String::new()),
    ]);
    served.fake.grow(3, 1);
    let store = served.fake.node.store();
    let (hash, address) = (store.head().1, served.fake.key.public_key().address());
    let id = store.transactions(&hash).unwrap().unwrap()[0].id();
    let table = [
        ("2".to_owned(), "/blocks/2".to_owned()),
        (hash.to_string(), "/blocks/4".to_owned()),
        (id.to_string(), format!("/transactions/{id}")),
        (address.to_string(), format!("/accounts/{address}")),
        ("a+b%26c".to_owned(), "/records?key=a+b%26c".to_owned()),
    ];
    for (wanted, page) in table {
        let found = served.get(&format!("/find?q={wanted}")).await;
        assert_eq!(found.status, 303, "{wanted}: {}", found.text());
        assert!(
            found.head.contains(&format!("location: {page}")),
            "{}",
            found.head
        );
        assert_eq!(served.get(&page).await.status, 200, "{page}");
    }
    // A key and a height.
    let both = served.get("/find?q=3").await;
    assert_eq!(both.status, 200);
    assert!(both.text().contains("blocks/3") && both.text().contains("records?key=3"));
}

#[actix_web::test]
async fn a_browser_signs_in_with_the_word_and_only_the_own_pages_change_anything() {
    let served = Served::start().await;
    let (host, word) = (served.address, served.cookie.clone());
    let send = async |method: &str, path: &str, more: &str, body: &str| {
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{more}");
        let text = format!("{head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
        served.raw(text.as_bytes()).await
    };
    let own = format!("origin: http://{host}\r\n");
    let signing = json!({ "word": word }).to_string();
    assert_eq!(
        send("POST", "/v1/session", &own, "{\"word\":\"no\"}")
            .await
            .status,
        401
    );
    assert_eq!(
        send("POST", "/v1/session", "origin: http://evil.example\r\n", &signing)
            .await
            .status,
        403
    );
    let signed = send("POST", "/v1/session", &own, &signing).await;
    assert_eq!(signed.status, 200, "{}", signed.text());
    let cookie = signed
        .head
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: "))
        .unwrap();
    assert!(
        cookie.contains("httponly") && cookie.contains("samesite=strict"),
        "{cookie}"
    );
    let cookie = format!("cookie: {}\r\n", cookie.split(';').next().unwrap());

    let page = send("GET", "/wallet", &cookie, "").await.text();
    assert!(
        page.contains("Create a wallet") && !page.contains(&word),
        "{page}"
    );
    let listed = send("GET", "/v1/wallets", &cookie, "").await;
    assert!(
        listed.status == 200 && !listed.text().contains("seed"),
        "{}",
        listed.text()
    );
    assert_eq!(served.get("/v1/wallets").await.status, 401);
    // Without an origin, or from elsewhere, the session counts for nothing that changes something.
    let body = "{\"label\":\"savings\",\"passphrase\":\"pass\"}";
    assert_eq!(send("POST", "/v1/wallets", &cookie, body).await.status, 401);
    let elsewhere = format!("{cookie}origin: http://evil.example\r\n");
    assert_eq!(send("POST", "/v1/wallets", &elsewhere, body).await.status, 403);
    assert_eq!(send("POST", "/v1/wallets", &own, body).await.status, 401);
    let made = send("POST", "/v1/wallets", &format!("{cookie}{own}"), body).await;
    let made: Value = made.json();
    assert!(made["locked"].as_bool().unwrap());
    let path = format!("/v1/wallets/{}/sign", made["address"].as_str().unwrap());
    let both = format!("{cookie}{own}");
    let put = |pass: &str| json!({ "type": "put", "key": "k", "value": "v", "passphrase": pass }).to_string();
    assert_eq!(send("POST", &path, &both, &put("wrong")).await.status, 403);
    let signed: Accepted = send("POST", &path, &both, &put("pass")).await.json();
    assert_eq!(signed.count, 1);
    // Out again.
    assert_eq!(send("DELETE", "/v1/session", &both, "").await.status, 200);
    assert_eq!(send("GET", "/v1/wallets", &cookie, "").await.status, 401);
}

#[actix_web::test]
async fn events_reach_a_listener_and_end_with_the_node() {
    let served = Served::start().await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let request = format!("GET /v1/events HTTP/1.1\r\nhost: {}\r\n\r\n", served.address);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|w| w == b"\r\n\r\n") {
        stream.read_buf(&mut bytes).await.unwrap();
    }
    let event = crate::node::NodeEvent::Committed { size: 3 };
    served.fake.node.0.events.send(event).unwrap();
    while !String::from_utf8_lossy(&bytes).contains("{\"event\":\"committed\",\"size\":3}") {
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0);
    }
    served.server.stop().await;
    let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes)).await;
    assert!(ended.is_ok(), "the stream ends with the node");
}

#[actix_web::test]
async fn every_chain_has_every_route_under_its_name() {
    let served = Served::start().await;
    let other = FakeNode::start();
    other.grow(3, 1);
    let chain = Arc::new(OpenChain::driven_elsewhere(other.node.clone()));
    served.chains.open_here("audit", chain);
    let height = async |path: &str| served.get(path).await.json::<NodeStatus>().height.get();
    assert_eq!(height("/v1/status").await, 0);
    assert_eq!(height("/chains/main/v1/status").await, 0);
    assert_eq!(height("/chains/audit/v1/status").await, 3);
    let block: BlockView = served.get("/chains/audit/v1/blocks/2").await.json();
    assert_eq!(block.index.get(), 2);
    let record = served.get("/chains/audit/v1/record?key=key-3-0").await;
    assert_eq!(record.json::<RecordView>().current.value.unwrap(), "value-3-0");
    assert_eq!(served.get("/v1/record?key=key-3-0").await.status, 404);
    // Pages too, with and without a slash at the end; what changes something asks for the cookie as ever.
    for path in ["/chains/audit", "/chains/audit/", "/chains/audit/blocks/1"] {
        let page = served.get(path).await.text();
        assert!(page.contains("<base href=\"/chains/audit/\">"), "{path}: {page}");
        // Every other link is relative to it, but for those to other chains.
        let absolute = page
            .replace("href=\"/chains/", "")
            .replace("href=\"/assets/", "")
            .contains("href=\"/");
        assert!(!absolute, "{path}: {page}");
    }
    let home = served.get("/").await.text();
    assert!(
        home.contains("<base href=\"/\">") && home.contains("<a href=\"/chains/audit/\">audit</a>"),
        "{home}"
    );
    let (host, path) = (served.address, "/chains/audit/v1/mine");
    let bare =
        format!("POST {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(served.raw(bare.as_bytes()).await.status, 401);
    let metrics = served.get("/metrics").await.text();
    for figure in ["height{chain=\"audit\"} 3", "height{chain=\"main\"} 0"] {
        assert!(metrics.contains(figure), "{figure} is not in {metrics}");
    }
    let hostile = [
        "/chains/none/v1/status",
        "/chains//v1/status",
        "/chains/..%2f/v1/status",
        "/chains/%00/v1/status",
        "/chains/audit/chains/main/v1/status",
        "/chains/AUDIT/v1/status",
    ];
    for path in hostile {
        assert_eq!(served.get(path).await.status, 404, "{path}");
    }
    let refused = served.get("/chains/none/v1/status").await;
    assert_eq!(
        refused.refusal("no chain \"none\""),
        (404, "not_joined".to_owned())
    );
}

#[actix_web::test]
async fn records_and_headers_come_in_bulk() {
    let served = Served::start().await;
    served.fake.grow(3, 2);
    let records = served.get("/v1/records").await.text();
    assert_eq!(records.lines().count(), 6);
    assert!(
        records.lines().all(|line| line.starts_with("{\"key\":\"key-")),
        "{records}"
    );
    let headers = served.get("/v1/headers?from=1&limit=2").await.body;
    let mut frontier = block_chain_common::history::Frontier::default();
    let genesis = served.fake.node.spec().genesis().header.leaf_bytes();
    frontier.append(&genesis);
    let (mut rest, mut count) = (headers.as_slice(), 0);
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (leaf, next) = after.split_at(usize::from(u16::from_be_bytes(*length)));
        frontier.append(leaf);
        (rest, count) = (next, count + 1);
    }
    assert_eq!((count, rest.len()), (2, 0));
    let third = served
        .fake
        .node
        .store()
        .header_at(Height::new(3))
        .unwrap()
        .unwrap()
        .1;
    assert_eq!(frontier.root(), third.history_root);
    assert_eq!(
        served.get("/v1/checkpoint").await.refusal("no block is final").0,
        409
    );
}
