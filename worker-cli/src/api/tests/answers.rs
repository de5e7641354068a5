//! What every route answers.

use super::*;

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
        "block_chain_node_height 2",
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
            .contains("content-security-policy: default-src 'self' 'unsafe-inline'")
    );
    assert!(home.head.contains("x-content-type-options: nosniff"));
    assert!(home.text().contains("/blocks/25") && !home.text().contains("/blocks/4>"));
    assert!(home.text().contains("&lt;script&gt;a&amp;b"));
    served.post("/v1/mine", &json!({})).await.json::<Mined>();
    let pages = [
        "/".to_owned(),
        "/blocks/26".to_owned(),
        "/blocks/26?from=1".to_owned(),
        "/find?q=%3Cb%3Ek%3C/b%3E".to_owned(),
        format!("/find?q={}", accepted.transaction_ids[0]),
        format!("/find?q={}", served.fake.node.store().head().1),
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
