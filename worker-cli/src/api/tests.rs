//! Every route as a client sees it, and what it refuses.

use super::ApiServer;
use super::types::{
    Accepted, AccountView, BlockView, CheckProgress, CheckReport, Disconnected, DumpStatus, DumpStopped,
    LeaderView, MempoolView, Mined, NodeStatus, PeersView, RecordView, Status, TransactionView,
};
use crate::dump::DumpControl;
use crate::node::fake::FakeNode;
use block_chain_common::codec::encode;
use block_chain_common::coordinator_api::ApiError;
use block_chain_common::limits::MAX_REQUEST_BYTES;
use block_chain_common::quantity::{Height, Nonce};
use block_chain_common::receipt::Receipt;
use block_chain_common::transaction::{Payload, RecordValue, Transaction};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

struct Served {
    fake: FakeNode,
    address: SocketAddr,
    server: ApiServer,
    cookie: String,
}

/// An answer: status, headers in lower case, body.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json<T: DeserializeOwned>(&self) -> T {
        assert_eq!(self.status, 200, "{}", self.text());
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The code of a refusal; what it says must hold a word.
    fn refusal(&self, word: &str) -> (u16, String) {
        let error: ApiError = serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("not an error of ours: {} {}", self.status, self.text()));
        assert!(error.message.contains(word), "{:?} lacks {word:?}", error.message);
        (self.status, error.code)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Served {
    async fn start() -> Self {
        let fake = FakeNode::start();
        let dump = DumpControl::new(fake.node.clone());
        let bind = "127.0.0.1:0".parse().unwrap();
        let (address, server) = ApiServer::start(fake.node.clone(), dump, bind, fake.dir.path())
            .await
            .unwrap();
        let cookie = std::fs::read_to_string(fake.dir.path().join("api.cookie")).unwrap();
        Self {
            fake,
            address,
            server,
            cookie,
        }
    }

    /// Sends bytes as they are, and reads to the end of the connection.
    async fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // A refusal may come, and the connection end, before all is sent.
        let sent = stream.write_all(request).await;
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes).await;
        assert!(!bytes.is_empty(), "no answer: {sent:?} {read:?}");
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut body = bytes[end + 4..].to_vec();
        if head.contains("transfer-encoding: chunked") {
            body = dechunked(&body);
        }
        Answer { status, head, body }
    }

    async fn get(&self, path: &str) -> Answer {
        let host = self.address;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        self.raw(request.as_bytes()).await
    }

    async fn post_as(&self, path: &str, kind: &str, body: &[u8]) -> Answer {
        let (host, cookie, length) = (self.address, &self.cookie, body.len());
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nauthorization: Bearer {cookie}\r\n\
             content-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
        );
        self.raw(&[head.as_bytes(), body].concat()).await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_as(path, "application/json", body.to_string().as_bytes())
            .await
    }

    fn message(&self, nonce: u64, bytes: &[u8]) -> Transaction {
        let bytes = RecordValue::new(bytes.to_vec()).unwrap();
        let chain = self.fake.node.chain_id();
        Transaction::sign(
            chain,
            Nonce::new(nonce),
            Payload::Message { bytes },
            &self.fake.key,
        )
    }
}

fn dechunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|w| w == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        if length == 0 {
            break;
        }
        body.extend_from_slice(&bytes[end + 2..end + 2 + length]);
        bytes = &bytes[end + 4 + length..];
    }
    body
}

fn batch(transactions: &[Transaction]) -> Vec<u8> {
    let mut bytes = u32::try_from(transactions.len()).unwrap().to_le_bytes().to_vec();
    for transaction in transactions {
        let encoded = encode(transaction);
        bytes.extend_from_slice(&u32::try_from(encoded.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(&encoded);
    }
    bytes
}

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
async fn what_changes_something_needs_the_cookie() {
    let served = Served::start().await;
    let host = served.address;
    let paths = [
        "/v1/records",
        "/v1/transactions",
        "/v1/mine",
        "/v1/check",
        "/v1/dump",
        "/v1/dump/stop",
    ];
    let paths = paths
        .into_iter()
        .chain(["/v1/disconnect", "/v1/stop", "/nowhere"]);
    for path in paths {
        for cookie in ["", "Bearer ", "Bearer wrong", &served.cookie] {
            let request = format!(
                "POST {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nauthorization: {cookie}\r\ncontent-length: 0\r\n\r\n"
            );
            let answer = served.raw(request.as_bytes()).await;
            assert_eq!(answer.refusal("cookie"), (401, "forbidden".to_owned()), "{path}");
        }
    }
    for host in ["evil.example", "evil.example:80", "127.0.0.1:1", "10.0.0.1"] {
        let request = format!("GET /v1/status HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = served.raw(request.as_bytes()).await;
        assert_eq!(answer.refusal("another host"), (403, "wrong_host".to_owned()));
    }
    let answer = served.raw(b"GET /v1/status HTTP/1.0\r\n\r\n").await;
    assert_eq!(answer.refusal("another host").0, 403);
}

#[actix_web::test]
async fn bodies_have_a_limit_that_is_named() {
    let served = Served::start().await;
    let (host, cookie, limit) = (served.address, &served.cookie, MAX_REQUEST_BYTES.to_string());
    for path in ["/v1/transactions", "/v1/records", "/v1/mine", "/v1/check"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nauthorization: Bearer {cookie}\r\n"
        );
        let announced = format!("{head}content-length: {}\r\n\r\n", MAX_REQUEST_BYTES + 1);
        let answer = served.raw(announced.as_bytes()).await;
        assert_eq!(answer.refusal(&limit), (413, "too_large".to_owned()), "{path}");
    }
    let head = format!(
        "POST /v1/transactions HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nauthorization: Bearer {cookie}\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
    let mut request = head.into_bytes();
    let chunk = vec![b' '; 1 << 20];
    for _ in 0..17 {
        request.extend_from_slice(b"100000\r\n");
        request.extend_from_slice(&chunk);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    let mut stream = TcpStream::connect(host).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let mut first = [0_u8; 12];
    // Read while it is sent: the refusal may come before the end.
    let (_, read) = tokio::join!(writer.write_all(&request), reader.read_exact(&mut first));
    assert!(read.is_ok());
    assert_eq!(first, *b"HTTP/1.1 413");
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
async fn malformed_batches_are_refused_whole() {
    let served = Served::start().await;
    let good = batch(&[served.message(0, b"one"), served.message(1, b"two")]);
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    let mut longer = good.clone();
    longer.push(0);
    let many = [u32::MAX.to_le_bytes().as_slice(), &good[4..]].concat();
    let huge = [1_u32.to_le_bytes(), u32::MAX.to_le_bytes()].concat();
    let table: [(&[u8], &str); 8] = [
        (b"", "ends within"),
        (&[0; 4], "0 transactions"),
        (&good[..good.len() - 1], "ends within"),
        (&longer, "1 bytes are left over"),
        (&many, "ends within"),
        (&huge, "ends within"),
        (&forged, "transaction 1"),
        (b"\x01\0\0\0\x03\0\0\0abc", "transaction 0"),
    ];
    for (body, word) in table {
        let answer = served
            .post_as("/v1/transactions", "application/octet-stream", body)
            .await;
        assert_eq!(answer.refusal(word).0, 400);
    }
    let waiting: MempoolView = served.get("/v1/mempool").await.json();
    assert_eq!(waiting.count, 0);
}

#[actix_web::test]
async fn what_is_malformed_or_unknown_is_named() {
    let served = Served::start().await;
    let unknown = "ab".repeat(32);
    let table = [
        ("/v1/transactions/xyz", 400, ""),
        (&*format!("/v1/transactions/{unknown}"), 404, &*unknown),
        ("/v1/receipts/xyz", 400, ""),
        (&*format!("/v1/receipts/{unknown}"), 404, &*unknown),
        ("/v1/blocks/7", 404, "7"),
        ("/v1/blocks/-1", 400, ""),
        ("/v1/blocks/99999999999999999999999", 400, ""),
        (&*format!("/v1/blocks/{unknown}"), 404, &*unknown),
        ("/v1/blocks?from=x", 400, "query"),
        ("/v1/blocks?form=1", 400, "form"),
        ("/v1/mempool?limit=-1", 400, "query"),
        ("/v1/record", 400, "key"),
        ("/v1/record?key=", 400, "key"),
        ("/v1/record?key=none", 404, "none"),
        ("/v1/accounts/nobody", 400, ""),
        ("/blocks/abc", 400, "path"),
        ("/blocks/9", 404, "9"),
        ("/find?q=none", 404, "none"),
        ("/find", 400, "q"),
        ("/v1/nowhere", 404, "/v1/nowhere"),
        ("/v1/transactions/%ff%fe", 400, ""),
    ];
    for (path, status, word) in table {
        assert_eq!(served.get(path).await.refusal(word).0, status, "{path}");
    }
    for (path, body, word) in [
        ("/v1/records", "{", "body"),
        ("/v1/records", "{\"records\":[]}", "0 records"),
        ("/v1/records", "{\"records\":[[\"\",\"v\"]]}", "record 0"),
        ("/v1/transactions", "{\"transactions\":[\"zz\"]}", "transaction 0"),
        ("/v1/mine", "[", "body"),
        ("/v1/check", "{\"repair\":3}", "body"),
        ("/v1/dump", "{\"db_url\":\"nonsense\"}", ""),
    ] {
        let answer = served.post_as(path, "application/json", body.as_bytes()).await;
        assert_eq!(answer.refusal(word).0, 400, "{path} {body}");
    }
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
