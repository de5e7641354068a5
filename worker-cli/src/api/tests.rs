//! Every route as a client sees it.

mod accounts;
mod answers;
mod interface;
mod refusals;
#[path = "../../../common/tests/support/schema.rs"]
mod schema;

use super::types::{
    Accepted, AccountView, BlockView, CheckProgress, CheckReport, Disconnected, DumpStatus, DumpStopped,
    LeaderView, MempoolView, Mined, NodeStatus, PeersView, RecordView, Status, TransactionView,
};
use super::{ApiServer, ApiSettings};
use crate::node::fake::FakeNode;
use crate::node::{Chains, OpenChain};
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
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

struct Served {
    fake: FakeNode,
    chains: Arc<Chains>,
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
        Self::with_legacy(false).await
    }

    async fn with_legacy(legacy: bool) -> Self {
        let fake = FakeNode::start();
        let home = Arc::new(OpenChain::driven_elsewhere(fake.node.clone()));
        let chains = Arc::new(Chains::new("main", home));
        let bind: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let settings = ApiSettings {
            legacy,
            ..bind.into()
        };
        let (address, server) = ApiServer::start(Arc::clone(&chains), None, settings, fake.dir.path())
            .await
            .unwrap();
        let cookie = std::fs::read_to_string(fake.dir.path().join("api.cookie")).unwrap();
        Self {
            fake,
            chains,
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
