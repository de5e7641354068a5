//! Who is let in over HTTP: asked by which host, through what, in the clear or not, how often.

use crate::network::{at, registration, sign};
use actix_web::http::{ConnectionType, Method};
use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
use actix_web::web::Data;
use block_chain_common::coordinator_api::{ApiError, Challenge};
use block_chain_server::routes::{Access, State, app};
use block_chain_server::service::{Join, Service, Settings};
use block_chain_server::store::Store;
use block_chain_web::session::Sessions;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

const STRANGER: &str = "10.0.0.7:1000";
const HERE: &str = "127.0.0.1:1000";

/// A server whose operator's word is `the word`, with a worker where a join token is asked for; its token.
fn state(dir: &Path, join: Join, access: impl FnOnce(&mut Access)) -> (Data<State>, String) {
    let store = Store::open_sqlite(&dir.join("db")).unwrap();
    let service = Arc::new(Service::start(store, Settings::default(), join, |_| ()).unwrap());
    let mut request = registration(&service, 1, at(0));
    request.token = Some("let me in".to_owned());
    let worker = service.register(&request, at(0)).unwrap().worker_token;
    let (_stop, stopping) = tokio::sync::watch::channel(false);
    let mut of = Access {
        sessions: Sessions::new("the word", 18_000, false),
        file: dir.join("api.cookie"),
        address: "0.0.0.0:18000".parse().unwrap(),
        any_name: false,
        is_here_only: false,
        way: block_chain_web::host::Way::Open,
        certificate: None,
    };
    access(&mut of);
    (Data::new(State::new(service, stopping, of).unwrap()), worker)
}

fn asked_for_a_token() -> Join {
    Join::Token(Zeroizing::new("let me in".to_owned()))
}

fn ask(method: Method, path: &str, peer: &str, headers: &[(&str, &str)]) -> TestRequest {
    let request = TestRequest::with_uri(path)
        .method(method)
        .peer_addr(peer.parse().unwrap());
    let with = |request: TestRequest, (name, value): &(&str, &str)| {
        request.insert_header(((*name).to_owned(), (*value).to_owned()))
    };
    headers.iter().fold(request, with)
}

#[actix_web::test]
async fn on_loopback_only_this_machine_s_names_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let on_loopback = |access: &mut Access| access.address = "127.0.0.1:18000".parse().unwrap();
    let (closed, _) = state(dir.path(), Join::Open, on_loopback);
    let closed = init_service(app(closed)).await;
    for (host, status) in [
        ("127.0.0.1:18000", 200),
        ("localhost:18000", 200),
        ("[::1]:18000", 200),
        ("evil.example:18000", 403),
        ("localhost.evil.example:18000", 403),
        ("10.0.0.1:18000", 403),
        ("localhost:1", 403),
    ] {
        for path in ["/", "/healthz", "/v1/chains"] {
            let request = ask(Method::GET, path, HERE, &[("host", host)]);
            let answer = call_service(&closed, request.to_request()).await;
            assert_eq!(answer.status(), status, "{path} of {host}");
            if status == 403 {
                let error: ApiError = read_body_json(answer).await;
                assert_eq!(error.code, "wrong_host");
                assert!(error.hint.unwrap().contains("--bind"));
            }
        }
    }
    // Where its certificate says which names are good, a browser holds it to that.
    let other = tempfile::tempdir().unwrap();
    let certified = |access: &mut Access| {
        on_loopback(access);
        access.any_name = true;
    };
    let (named, _) = state(other.path(), Join::Open, certified);
    let named = init_service(app(named)).await;
    let request = ask(Method::GET, "/v1/chains", HERE, &[("host", "chain.example")]);
    assert_eq!(call_service(&named, request.to_request()).await.status(), 200);
}

#[actix_web::test]
async fn a_name_or_a_proxy_on_this_machine_makes_a_stranger() {
    let dir = tempfile::tempdir().unwrap();
    let (state, worker) = state(dir.path(), asked_for_a_token(), |_| ());
    let app = init_service(app(state)).await;
    let bearer = format!("Bearer {worker}");
    for (sent, status) in [
        (("host", "127.0.0.1:18000"), 200),
        (("host", "localhost"), 200),
        (("host", "10.0.0.1:18000"), 200),
        (("host", "chain.example"), 401),
        (("host", "rebound.evil.example:18000"), 401),
        (("x-forwarded-for", "10.0.0.7"), 401),
        (("forwarded", "for=10.0.0.7"), 401),
        (("via", "1.1 proxy"), 401),
    ] {
        let request = ask(Method::GET, "/v1/chains", HERE, &[sent]);
        let answer = call_service(&app, request.to_request()).await;
        assert_eq!(answer.status(), status, "{sent:?}");
        let proven = ask(
            Method::GET,
            "/v1/chains",
            HERE,
            &[sent, ("authorization", &bearer)],
        );
        let answer = call_service(&app, proven.to_request()).await;
        assert_eq!(answer.status(), 200, "{sent:?} with a worker's token");
    }
}

#[actix_web::test]
async fn a_server_for_its_own_machine_lets_no_proxy_open_it() {
    let dir = tempfile::tempdir().unwrap();
    let (state, worker) = state(dir.path(), Join::Open, |access| {
        access.address = "127.0.0.1:18000".parse().unwrap();
        access.is_here_only = true;
    });
    let app = init_service(app(state)).await;
    let host = ("host", "127.0.0.1:18000");
    let (operator, worker) = ("Bearer the word".to_owned(), format!("Bearer {worker}"));
    for (method, path) in [
        (Method::GET, "/v1/chains"),
        (Method::POST, "/register"),
        (Method::POST, "/v1/challenges"),
    ] {
        let ask = async |more: &[(&str, &str)]| {
            let request = ask(method.clone(), path, HERE, &[&[host], more].concat());
            let answer = call_service(&app, request.to_request()).await;
            answer.status().as_u16()
        };
        assert_eq!(ask(&[]).await, 200, "{path} here");
        assert_eq!(ask(&[("via", "1.1 proxy")]).await, 401, "{path} through a proxy");
        for known in [&operator, &worker] {
            let known = [("via", "1.1 proxy"), ("authorization", known.as_str())];
            assert_eq!(ask(&known).await, 200, "{path} by who is known");
        }
    }
    let health = ask(Method::GET, "/healthz", HERE, &[host, ("via", "1.1 proxy")]);
    assert_eq!(call_service(&app, health.to_request()).await.status(), 200);
}

#[actix_web::test]
async fn the_operator_s_word_crosses_no_network_in_the_clear() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (clear, _) = state(dir.path(), Join::Open, |_| ());
    let (secure, _) = state(other.path(), Join::Open, |access| {
        access.way = block_chain_web::host::Way::Tls
    });
    let (clear, secure) = (init_service(app(clear)).await, init_service(app(secure)).await);
    let proxied = ("x-forwarded-for", "10.0.0.7");
    let host = ("host", "10.0.0.1:18000");
    for (peer, headers, in_the_clear, under_tls) in [
        (STRANGER, vec![host], 403, 200),
        (HERE, vec![host], 200, 200),
        (HERE, vec![host, proxied], 403, 403),
        (HERE, vec![("host", "chain.example")], 403, 200),
    ] {
        let request = || {
            let request = ask(Method::POST, "/v1/session", peer, &headers);
            request.set_json(json!({ "word": "the word" })).to_request()
        };
        let answer = call_service(&clear, request()).await;
        assert_eq!(answer.status(), in_the_clear, "{peer} {headers:?}");
        if in_the_clear == 403 {
            let error: ApiError = read_body_json(answer).await;
            assert_eq!(error.code, "clear");
        }
        let answer = call_service(&secure, request()).await;
        assert_eq!(answer.status(), under_tls, "{peer} {headers:?} under TLS");
    }
}

#[actix_web::test]
async fn a_banned_worker_is_told_so_and_the_page_lets_it_back_in() {
    let dir = tempfile::tempdir().unwrap();
    let (state, worker) = state(dir.path(), asked_for_a_token(), |_| ());
    let app = init_service(app(state)).await;
    let id = worker.split('.').next().unwrap().to_owned();
    let ask = async |method: Method, path: &str, word: &str| {
        let bearer = format!("Bearer {word}");
        let request = ask(method, path, STRANGER, &[("authorization", &bearer)]);
        let answer = call_service(&app, request.to_request()).await;
        let status = answer.status().as_u16();
        let body = actix_web::test::read_body(answer).await;
        (status, String::from_utf8_lossy(&body).into_owned())
    };
    let leave = format!("/v1/workers/{id}/leave");
    let (ban, unban) = (format!("/v1/workers/{id}/ban"), format!("/v1/workers/{id}/unban"));
    assert_eq!(
        ask(Method::POST, &ban, &worker).await.0,
        401,
        "the operator alone"
    );
    let (_, page) = ask(Method::GET, "/", "the word").await;
    assert!(page.contains("worker-1") && page.contains(&ban[1..]), "{page}");
    assert!(page.contains("comes back with its next heartbeat"), "{page}");
    let (status, answer) = ask(Method::POST, &ban, "the word").await;
    assert_eq!(status, 200, "{answer}");
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(
        answer,
        json!({ "worker_id": id, "banned": true, "left": ["main"], "stays": [] })
    );
    for path in [&leave, "/v1/chains"] {
        let method = if path == leave { Method::POST } else { Method::GET };
        let (status, refused) = ask(method, path, &worker).await;
        let refused: ApiError = serde_json::from_str(&refused).unwrap();
        assert_eq!((status, refused.code.as_str()), (403, "banned"), "{path}");
    }
    let (_, page) = ask(Method::GET, "/", "the word").await;
    assert!(
        page.contains("Banned workers") && page.contains(&unban[1..]),
        "{page}"
    );
    assert_eq!(ask(Method::POST, &unban, "the word").await.0, 200);
    // Its token is over: it registers again by itself, for which it must be told so.
    let (status, refused) = ask(Method::POST, &leave, &worker).await;
    let refused: ApiError = serde_json::from_str(&refused).unwrap();
    assert_eq!((status, refused.code.as_str()), (401, "worker_token"));
    let (_, page) = ask(Method::GET, "/", "the word").await;
    assert!(!page.contains("Banned workers"), "{page}");
}

#[actix_web::test]
async fn guesses_run_out_and_who_is_known_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (state, worker) = state(dir.path(), asked_for_a_token(), |_| ());
    let app = init_service(app(state)).await;
    let get = |path: &str, bearer: &str| {
        let bearer = format!("Bearer {bearer}");
        let headers = [("authorization", bearer.as_str())];
        ask(
            Method::GET,
            path,
            STRANGER,
            &headers[usize::from(bearer == "Bearer ")..],
        )
        .to_request()
    };
    // What shows nothing guesses nothing.
    for _ in 0..40 {
        assert_eq!(call_service(&app, get("/v1/chains", "")).await.status(), 401);
    }
    // Who is let in uses none of the guesses up.
    for _ in 0..40 {
        assert_eq!(call_service(&app, get("/v1/chains", &worker)).await.status(), 200);
    }
    // Nor who shows what nobody guesses, as a worker does whose token is over: it must be able to register again.
    let over = "ab".repeat(32);
    for _ in 0..40 {
        assert_eq!(call_service(&app, get("/v1/chains", &over)).await.status(), 401);
    }
    // All at the same time: no more than one after another.
    let guesses = (0..60).map(|n| call_service(&app, get("/v1/chains", &format!("guess {n}"))));
    let answers = futures_util::future::join_all(guesses).await;
    let with = |status| answers.iter().filter(|answer| answer.status() == status).count();
    assert_eq!((with(401), with(429)), (30, 30));
    let limited = answers.iter().find(|answer| answer.status() == 429).unwrap();
    assert!(limited.headers().contains_key("retry-after"));
    let closes = |status| {
        let answer = answers.iter().find(|answer| answer.status() == status).unwrap();
        answer.response().head().connection_type() == ConnectionType::Close
    };
    assert!(closes(429) && !closes(401));
    // The innocent at the same address.
    for good in [worker.as_str(), "the word"] {
        assert_eq!(call_service(&app, get("/v1/chains", good)).await.status(), 200);
    }
    assert_eq!(call_service(&app, get("/healthz", "")).await.status(), 200);
    assert_eq!(call_service(&app, get("/v1/chains", "")).await.status(), 401);
    // A join token is not guessed either, not even by who shows another token that is good.
    let challenge = ask(Method::POST, "/v1/challenges", STRANGER, &[]).to_request();
    let challenge: Challenge = read_body_json(call_service(&app, challenge).await).await;
    let mut wrong = sign(2, &challenge.challenge);
    wrong.token = Some("guess".to_owned());
    let bearer = format!("Bearer {worker}");
    let join = ask(
        Method::POST,
        "/v1/workers",
        STRANGER,
        &[("authorization", &bearer)],
    );
    let refused = call_service(&app, join.set_json(&wrong).to_request()).await;
    assert_eq!(refused.status(), 429);
}
