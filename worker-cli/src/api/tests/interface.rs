//! The OpenAPI document against the node that serves it: no route that is not there, none that is not described, and no
//! answer that is not as described.

use super::schema::Document;
use super::*;

/// The interface that commands and programs rely on. A route that is added, renamed or lost changes this list.
const ROUTES: [(&str, &str); 57] = [
    ("GET", "/"),
    ("GET", "/accounts/{address}"),
    ("GET", "/blocks/{which}"),
    ("GET", "/docs"),
    ("GET", "/find"),
    ("GET", "/forks"),
    ("GET", "/healthz"),
    ("GET", "/login"),
    ("GET", "/metrics"),
    ("GET", "/node"),
    ("GET", "/openapi.json"),
    ("GET", "/readyz"),
    ("GET", "/records"),
    ("GET", "/transactions/{id}"),
    ("GET", "/v1/accounts/{address}"),
    ("GET", "/v1/accounts/{address}/history"),
    ("GET", "/v1/blocks"),
    ("GET", "/v1/blocks/{which}"),
    ("GET", "/v1/chains"),
    ("GET", "/v1/chains/{name}"),
    ("GET", "/v1/check"),
    ("GET", "/v1/checkpoint"),
    ("GET", "/v1/dump"),
    ("GET", "/v1/events"),
    ("GET", "/v1/headers"),
    ("GET", "/v1/keys"),
    ("GET", "/v1/leader"),
    ("GET", "/v1/log"),
    ("GET", "/v1/mempool"),
    ("GET", "/v1/peers"),
    ("GET", "/v1/receipts/{id}"),
    ("GET", "/v1/receipts/{id}/verification"),
    ("GET", "/v1/record"),
    ("GET", "/v1/records"),
    ("GET", "/v1/roles"),
    ("GET", "/v1/status"),
    ("GET", "/v1/transactions/{id}"),
    ("GET", "/v1/wallets"),
    ("GET", "/wallet"),
    ("DELETE", "/v1/session"),
    ("POST", "/v1/backups"),
    ("POST", "/v1/chains"),
    ("POST", "/v1/chains/{name}/join"),
    ("POST", "/v1/chains/{name}/leave"),
    ("POST", "/v1/check"),
    ("POST", "/v1/disconnect"),
    ("POST", "/v1/dump"),
    ("POST", "/v1/dump/stop"),
    ("POST", "/v1/log"),
    ("POST", "/v1/mine"),
    ("POST", "/v1/records"),
    ("POST", "/v1/session"),
    ("POST", "/v1/snapshots"),
    ("POST", "/v1/stop"),
    ("POST", "/v1/transactions"),
    ("POST", "/v1/wallets"),
    ("POST", "/v1/wallets/{address}/sign"),
];

/// What programs of the earlier systems rely on.
const LEGACY_ROUTES: [(&str, &str); 18] = [
    ("GET", "/blockchain/chain/"),
    ("GET", "/blockchain/mine_block/"),
    ("GET", "/blockchain/nodes/resolve/"),
    ("GET", "/blockchain/validate/"),
    ("GET", "/chain"),
    ("GET", "/data"),
    ("GET", "/discover"),
    ("GET", "/json-chain"),
    ("GET", "/leap"),
    ("GET", "/neighbours"),
    ("GET", "/stats"),
    ("POST", "/discover"),
    ("POST", "/inject"),
    ("POST", "/transaction/deposit/"),
    ("POST", "/transaction/new_transaction/"),
    ("POST", "/wallet/get_balance/"),
    ("POST", "/wallet/new_wallet/"),
    ("PUT", "/add"),
];

#[actix_web::test]
async fn what_is_described_is_served_and_nothing_else() {
    described_and_served(Served::start().await, &ROUTES).await;
}

#[actix_web::test]
async fn the_earlier_systems_routes_are_described_and_served_too() {
    let served = Served::with_legacy(true).await;
    described_and_served(served, &[&ROUTES[..], &LEGACY_ROUTES].concat()).await;
}

async fn described_and_served(served: Served, expected: &[(&str, &str)]) {
    let document = Document(served.get("/openapi.json").await.json());
    document.check_completeness();
    let described = document.operations();
    let expected = expected
        .iter()
        .map(|(method, path)| ((*method).to_owned(), (*path).to_owned()));
    assert_eq!(described, expected.collect());
    let (host, cookie, address) = (
        served.address,
        &served.cookie,
        served.fake.key.public_key().address(),
    );
    for (_, path) in &described {
        // The two that stop the node are asked by a method that does nothing alone; they are tried by other tests.
        let stops = path == "/v1/disconnect" || path == "/v1/stop";
        let real = path
            .replace("{which}", "0")
            .replace("{name}", "main")
            .replace("{id}", "none");
        let real = real.replace("{address}", &address.to_string());
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let is_described = described.contains(&(method.to_owned(), path.clone()));
            // A stream of events has no end to wait for.
            if is_described && (stops || path == "/v1/events") {
                continue;
            }
            let request = format!(
                "{method} {real} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
                 authorization: Bearer {cookie}\r\ncontent-length: 0\r\n\r\n"
            );
            let answer = served.raw(request.as_bytes()).await;
            if is_described {
                assert!(
                    ![404, 405].contains(&answer.status),
                    "{method} {path}: {}",
                    answer.text()
                );
            } else {
                assert_eq!(answer.refusal("only").0, 405, "{method} {path}");
                let of_path = described.iter().filter(|(_, other)| other == path);
                let methods: Vec<String> = of_path.map(|(method, _)| method.to_lowercase()).collect();
                let allow = format!("allow: {}", methods.join(", "));
                assert!(answer.head.contains(&allow), "{method} {path}: {}", answer.head);
            }
        }
    }
}

impl Served {
    /// An answer that is held against the document.
    async fn checked(
        &self,
        document: &Document,
        method: &str,
        route: &str,
        real: &str,
        body: Option<&Value>,
    ) -> u16 {
        let answer = match body {
            Some(body) => self.post(real, body).await,
            None => self.get(real).await,
        };
        let value: Value = serde_json::from_slice(&answer.body).unwrap();
        document.check_answer((method, route), answer.status, &value);
        answer.status
    }
}

#[actix_web::test]
async fn real_answers_are_as_described() {
    let served = Served::start().await;
    served.fake.grow(3, 2);
    let document = Document(served.get("/openapi.json").await.json());
    let body = json!({ "records": [["a key", "a value"]] });
    let accepted: Accepted = served.post("/v1/records", &body).await.json();
    let bytes = encode(&served.message(1, &[0xff, 0]));
    let taken = json!({ "transactions": [hex::encode(bytes)] });
    let (id, address) = (
        accepted.transaction_ids[0],
        served.fake.key.public_key().address(),
    );
    let transaction = format!("/v1/transactions/{id}");
    let posts = [
        ("/v1/records", json!({ "records": [["b", "c"]] }), 200),
        ("/v1/records", json!({ "records": [] }), 400),
        ("/v1/transactions", taken, 200),
        ("/v1/mine", json!({}), 200),
        ("/v1/check", json!({}), 200),
        ("/v1/dump", json!({ "db_url": "nonsense" }), 400),
        ("/v1/dump/stop", json!({}), 200),
    ];
    let waiting = ["/v1/mempool", &transaction];
    for (route, real) in [("/v1/mempool", waiting[0]), ("/v1/transactions/{id}", waiting[1])] {
        assert_eq!(
            served.checked(&document, "GET", route, real, None).await,
            200,
            "{real}"
        );
    }
    for (route, body, status) in posts {
        let answered = served.checked(&document, "POST", route, route, Some(&body)).await;
        assert_eq!(answered, status, "{route} {body}");
    }
    let gets = [
        ("/v1/status", "/v1/status", 200),
        ("/v1/leader", "/v1/leader", 200),
        ("/v1/peers", "/v1/peers", 200),
        ("/v1/check", "/v1/check", 200),
        ("/v1/dump", "/v1/dump", 200),
        ("/healthz", "/healthz", 200),
        ("/readyz", "/readyz", 200),
        ("/v1/blocks/{which}", "/v1/blocks/4", 200),
        ("/v1/blocks/{which}", "/v1/blocks/99", 404),
        ("/v1/transactions/{id}", &transaction, 200),
        ("/v1/record", "/v1/record?key=a%20key&history=true", 200),
        ("/v1/accounts/{address}", &format!("/v1/accounts/{address}"), 200),
        (
            "/v1/accounts/{address}/history",
            &format!("/v1/accounts/{address}/history?limit=2"),
            200,
        ),
        ("/v1/roles", "/v1/roles?limit=1", 200),
        ("/v1/receipts/{id}", "/v1/receipts/nonsense", 400),
    ];
    for (route, real, status) in gets {
        assert_eq!(
            served.checked(&document, "GET", route, real, None).await,
            status,
            "{real}"
        );
    }
    served.fake.node.0.status.write().unwrap().syncing_to = Some(Height::new(9));
    assert_eq!(
        served.checked(&document, "GET", "/readyz", "/readyz", None).await,
        503
    );
    for (route, left) in [("/v1/disconnect", 200), ("/v1/stop", 200)] {
        assert_eq!(
            served
                .checked(&document, "POST", route, route, Some(&json!({})))
                .await,
            left,
            "{route}"
        );
    }
}
