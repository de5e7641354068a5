//! The OpenAPI document against the server that serves it: no route that is not there, none that is not described, and no
//! answer that is not as described.

use crate::http::{client, run};
use crate::network::{Tree, Worker, cosigned, sign, start};
use crate::schema::Document;
use block_chain_common::chain_spec::ChainSpec;
use block_chain_common::codec::encode;
use block_chain_common::keys::SecretKey;
use block_chain_server::store::Store;
use reqwest::Method;
use serde_json::{Value, json};

/// The interface that workers rely on. A route that is added, renamed or lost changes this list.
const ROUTES: [(&str, &str); 45] = [
    ("GET", "/"),
    ("GET", "/chains"),
    ("GET", "/check_leader"),
    ("GET", "/docs"),
    ("GET", "/figures"),
    ("GET", "/healthz"),
    ("GET", "/login"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/readyz"),
    ("GET", "/tokens"),
    ("GET", "/v1/chains"),
    ("GET", "/v1/chains/{name}"),
    ("GET", "/v1/chains/{name}/checkpoints"),
    ("GET", "/v1/chains/{name}/figures"),
    ("GET", "/v1/chains/{name}/orders"),
    ("GET", "/v1/chains/{name}/recoveries"),
    ("GET", "/v1/chains/{name}/terms"),
    ("GET", "/v1/chains/{name}/view"),
    ("GET", "/v1/log"),
    ("DELETE", "/v1/session"),
    ("GET", "/v1/events"),
    ("GET", "/v1/tokens"),
    ("POST", "/check_leader"),
    ("POST", "/register"),
    ("POST", "/v1/chains"),
    ("POST", "/v1/chains/{name}"),
    ("POST", "/v1/chains/{name}/checkpoints"),
    ("POST", "/v1/chains/{name}/cosignatures"),
    ("POST", "/v1/chains/{name}/forks"),
    ("POST", "/v1/chains/{name}/members/{worker}/evict"),
    ("POST", "/v1/challenges"),
    ("POST", "/v1/log"),
    ("POST", "/v1/session"),
    ("POST", "/v1/tokens"),
    ("POST", "/v1/tokens/{id}/revoke"),
    ("POST", "/v1/workers"),
    ("POST", "/v1/workers/{id}/ban"),
    ("POST", "/v1/workers/{id}/claim"),
    ("POST", "/v1/workers/{id}/figures"),
    ("POST", "/v1/workers/{id}/heartbeat"),
    ("POST", "/v1/workers/{id}/heartbeats"),
    ("POST", "/v1/workers/{id}/leave"),
    ("POST", "/v1/workers/{id}/unban"),
    // Not in the document: the files of the page at /docs.
    ("GET", "/docs/"),
];

async fn document(client: &reqwest::Client, url: &str) -> Document {
    let answer = client.get(format!("{url}/openapi.json")).send().await.unwrap();
    Document(answer.json().await.unwrap())
}

#[actix_web::test]
async fn what_is_described_is_served_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (client, running) = (client(), run(folder.path()).await);
    let document = document(&client, &running.url).await;
    document.check_completeness();
    let mut described = document.operations();
    described.insert(("GET".to_owned(), "/docs/".to_owned()));
    let expected = ROUTES.map(|(method, path)| (method.to_owned(), path.to_owned()));
    assert_eq!(described, expected.into());
    for (_, path) in &described {
        for method in [
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ] {
            let real = path.replace("{id}", "00000000-0000-4000-8000-000000000000");
            let request = client.request(
                method.clone(),
                format!("{}{}", running.url, real.replace("{name}", "main")),
            );
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            if described.contains(&(method.to_string(), path.clone())) {
                assert!(![404, 405].contains(&status), "{method} {path}: {status}");
            } else if path == "/docs/" {
                assert_eq!(status, 404, "{method} {path}");
            } else {
                assert_eq!(status, 405, "{method} {path}");
                let allowed = answer.headers()["allow"].to_str().unwrap().to_owned();
                let methods = described.iter().filter(|(_, other)| other == path);
                let methods: Vec<&str> = methods.map(|(method, _)| method.as_str()).collect();
                assert_eq!(allowed, methods.join(", "), "{path}");
                let refused: Value = answer.json().await.unwrap();
                assert_eq!(refused["code"], "method", "{path}");
            }
        }
    }
    running.stop().await;
}

/// A server whose answers are all held against its document.
struct Checked {
    client: reqwest::Client,
    url: String,
    document: Document,
}

impl Checked {
    async fn ask(
        &self,
        (method, path): (&str, &str),
        body: Option<&Value>,
        worker: Option<(&str, &str)>,
    ) -> (u16, Value) {
        let (id, token) = worker.unwrap_or_default();
        let real = path.replace("{id}", id).replace("{name}", "main");
        let method_name = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self
            .client
            .request(method_name, format!("{}{real}", self.url))
            .bearer_auth(token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        self.document.check_answer((method, path), status, &body);
        (status, body)
    }

    async fn done(&self, route: (&str, &str), body: Option<&Value>, worker: Option<(&str, &str)>) -> Value {
        let (status, answer) = self.ask(route, body, worker).await;
        assert_eq!(status, 200, "{route:?}: {answer}");
        answer
    }
}

#[actix_web::test]
async fn real_answers_are_as_described() {
    let folder = tempfile::tempdir().unwrap();
    let (client, running) = (client(), run(folder.path()).await);
    let url = running.url.clone();
    let document = document(&client, &url).await;
    let checked = Checked {
        client,
        url,
        document,
    };
    let challenge = checked.done(("POST", "/v1/challenges"), None, None).await;
    let registration = sign(1, challenge["challenge"].as_str().unwrap());
    let registration = serde_json::to_value(registration).unwrap();
    let registered = checked
        .done(("POST", "/v1/workers"), Some(&registration), None)
        .await;
    let (id, token) = (
        registered["worker_id"].as_str().unwrap(),
        registered["worker_token"].as_str().unwrap(),
    );
    let me = Some((id, token));
    let again = checked
        .ask(("POST", "/v1/workers"), Some(&registration), None)
        .await;
    assert_eq!(again.0, 403, "a challenge is good for one use");

    // The rules over the same database, to make what a worker would send.
    let service = start(Store::open_sqlite(&folder.path().join("coordinator.sqlite")).unwrap());
    let who = service
        .authenticate(Some(id.parse().unwrap()), Some(token))
        .unwrap();
    let worker = Worker {
        key: SecretKey::from_seed(&[1; 32]),
        who,
        token: token.to_owned(),
    };
    let commit = Tree::new(3, 0).request(&service, (0, 3), &[&worker]);
    let commit = serde_json::to_value(commit).unwrap();
    let checkpoints = ("POST", "/v1/chains/{name}/checkpoints");
    checked.done(checkpoints, Some(&commit), me).await;
    let stale = Tree::new(2, 0).request(&service, (0, 2), &[&worker]);
    let stale = serde_json::to_value(stale).unwrap();
    assert_eq!(checked.ask(checkpoints, Some(&stale), me).await.0, 409);
    let cosignature = serde_json::to_value(cosigned(&service, 3, &worker.key)).unwrap();
    let cosigned = checked
        .done(("POST", "/v1/chains/{name}/cosignatures"), Some(&cosignature), me)
        .await;
    assert_eq!(cosigned["is_final"], true);

    let beat = json!({
        "chain": "main", "height": 2, "head": "0".repeat(64), "committed": 2, "term": 1, "checkpoint_size": 3,
        "addresses": ["127.0.0.1:1"], "api": "http://127.0.0.1:2"
    });
    checked
        .done(("POST", "/v1/workers/{id}/heartbeat"), Some(&beat), me)
        .await;
    assert_eq!(
        checked
            .ask(
                ("POST", "/v1/workers/{id}/heartbeat"),
                Some(&beat),
                Some((id, "wrong"))
            )
            .await
            .0,
        401
    );
    let unknown = json!({
        "chain": "none", "height": 0, "head": "0".repeat(64), "committed": 0, "term": 0, "checkpoint_size": 0,
        "addresses": []
    });
    let beats = json!({ "beats": [beat, unknown] });
    let heartbeats = ("POST", "/v1/workers/{id}/heartbeats");
    let heard = checked.done(heartbeats, Some(&beats), me).await;
    assert_eq!(heard["chains"][0]["view"]["chain"], "main");
    assert_eq!(heard["chains"][1]["refused"]["code"], "unknown_chain");
    let too_many = json!({ "beats": vec![beat.clone(); 65] });
    assert_eq!(checked.ask(heartbeats, Some(&too_many), me).await.0, 400);
    let new = ChainSpec::default_for("audit", worker.key.public_key().address());
    let new = json!({ "spec": hex::encode(encode(&new)) });
    let create = ("POST", "/v1/chains");
    assert_eq!(checked.done(create, Some(&new), me).await["name"], "audit");
    for unreadable in [json!({ "spec": "00" }), json!({ "spec": "zz" }), json!({})] {
        assert_eq!(checked.ask(create, Some(&unreadable), me).await.0, 400);
    }
    let claim = ("POST", "/v1/workers/{id}/claim");
    let later = json!({ "chain": "main", "term": 4 });
    assert_eq!(
        checked.done(claim, Some(&later), me).await["behind_by"],
        json!([3, 0])
    );
    let nothing = json!({ "chain": "main", "term": 1 });
    assert_eq!(checked.ask(claim, Some(&nothing), me).await.0, 400);
    for path in [
        "/v1/chains/{name}/recoveries",
        "/v1/chains",
        "/v1/chains/{name}",
        "/v1/chains/{name}/view",
        "/v1/chains/{name}/checkpoints",
    ] {
        checked.done(("GET", path), None, None).await;
    }
    for path in ["/healthz", "/readyz", "/check_leader"] {
        checked.done(("GET", path), None, None).await;
    }
    checked.done(("POST", "/check_leader"), None, None).await;
    checked.done(("POST", "/register"), None, None).await;
    let left = checked
        .done(
            ("POST", "/v1/workers/{id}/leave"),
            Some(&json!({ "chain": "main" })),
            me,
        )
        .await;
    assert_eq!(left["left"], true);
    running.stop().await;
}

#[actix_web::test]
async fn the_page_of_the_document_needs_nothing_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let (client, running) = (client(), run(folder.path()).await);
    let get = async |path: &str| {
        let answer = client.get(format!("{}{path}", running.url)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.text().await.unwrap()
    };
    // Followed: `/docs` leads to `/docs/`.
    let page = get("/docs").await;
    assert!(!page.contains("https://"), "{page}");
    let sources = page
        .split(['"', '\''])
        .filter(|part| part.ends_with(".js") || part.ends_with(".css"));
    let mut read = 0;
    for source in sources {
        get(&format!("/docs/{}", source.trim_start_matches("./"))).await;
        read += 1;
    }
    assert!(read >= 3, "{page}");
    running.stop().await;
}
