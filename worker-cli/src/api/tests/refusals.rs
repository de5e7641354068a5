//! What the interface refuses, and how it says so.

use super::*;
use block_chain_common::keys::Address;

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
        "/v1/chains",
        "/v1/chains/main/join",
        "/v1/chains/main/leave",
        "/chains/main/v1/records",
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
        ("/v1/accounts/nobody/history", 400, ""),
        (
            &*format!("/v1/accounts/{}/history?before=7", Address::ZERO),
            400,
            "17-3",
        ),
        ("/v1/roles?after=nobody", 400, "query"),
        ("/blocks/abc", 400, "abc"),
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
async fn what_was_signed_for_another_chain_is_refused_with_all_that_came_with_it() {
    let served = Served::start().await;
    let mine = served.message(0, b"here");
    let foreign = Transaction::sign(
        block_chain_common::hash::ChainId::from_bytes([9; 32]),
        Nonce::new(0),
        mine.payload.clone(),
        &served.fake.key,
    );
    let post = async |transaction: &Transaction| {
        let body = json!({ "transactions": [hex::encode(encode(transaction))] });
        served.post("/v1/transactions", &body).await
    };
    let refused = post(&foreign).await;
    assert_eq!(refused.refusal("TX-1").0, 400);
    let both = json!({ "transactions": [hex::encode(encode(&mine)), hex::encode(encode(&foreign))] });
    let refused = served.post("/v1/transactions", &both).await;
    assert_eq!(refused.refusal("transaction 1: TX-1").0, 400);
    let waiting: MempoolView = served.get("/v1/mempool").await.json();
    assert_eq!(waiting.count, 0, "all or none");
}

#[actix_web::test]
async fn beyond_this_machine_only_who_shows_the_cookie_reads() {
    use actix_web::test::{TestRequest, call_service, init_service};
    let served = Served::start().await;
    let interface = |is_open| {
        let word = "the word";
        actix_web::web::Data::new(super::super::Interface {
            chains: Arc::clone(&served.chains),
            manager: None,
            metrics: super::super::metrics::Metrics::new().unwrap(),
            listeners: Arc::new(tokio::sync::Semaphore::new(1)),
            streams: Arc::new(tokio::sync::Semaphore::new(1)),
            sessions: block_chain_web::session::Sessions::new(word, 1, false),
            cookie_file: served.fake.dir.path().join("api.cookie"),
            wallets: crate::wallet::Wallets::of(served.fake.dir.path()),
            limiter: block_chain_web::limit::Limiter::new(block_chain_web::limit::Limits {
                refusals_per_minute: 12.0,
                ..Default::default()
            }),
            is_open,
            has_legacy: false,
            any_name: false,
            way: block_chain_web::host::Way::Open,
            certificate: None,
            address: "0.0.0.0:4000".parse().unwrap(),
            stopping: tokio::sync::watch::channel(false).1,
        })
    };
    let ask = |method: actix_web::http::Method, path: &str, peer: &str, word: &str| {
        let request = TestRequest::with_uri(path)
            .method(method)
            .peer_addr(peer.parse().unwrap());
        let request = request.insert_header(("host", "10.0.0.1:4000"));
        let request = match word {
            "" => request,
            word => request.insert_header(("authorization", format!("Bearer {word}"))),
        };
        request.to_request()
    };
    let get = actix_web::http::Method::GET;
    let stranger = "10.0.0.7:1000";
    let closed = init_service(super::super::routes::app(interface(false))).await;
    let paths = [
        "/",
        "/v1/status",
        "/v1/blocks",
        "/metrics",
        "/forks",
        "/v1/events",
    ];
    for path in paths {
        assert_eq!(
            call_service(&closed, ask(get.clone(), path, stranger, ""))
                .await
                .status(),
            401,
            "{path}"
        );
        assert_eq!(
            call_service(&closed, ask(get.clone(), path, "127.0.0.1:9", ""))
                .await
                .status(),
            200,
            "{path}"
        );
    }
    for path in ["/healthz", "/login", "/assets/script.js"] {
        assert_eq!(
            call_service(&closed, ask(get.clone(), path, stranger, ""))
                .await
                .status(),
            200,
            "{path}"
        );
    }
    assert_eq!(
        call_service(&closed, ask(get.clone(), "/v1/status", stranger, "the word"))
            .await
            .status(),
        200
    );
    // A passphrase is not taken in the clear.
    let passphrase = TestRequest::post()
        .uri("/v1/wallets")
        .peer_addr(stranger.parse().unwrap());
    let passphrase = passphrase
        .insert_header(("host", "10.0.0.1:4000"))
        .insert_header(("authorization", "Bearer the word"));
    let passphrase = passphrase
        .set_json(json!({ "label": "a", "passphrase": "p" }))
        .to_request();
    assert_eq!(call_service(&closed, passphrase).await.status(), 403);
    // Nor the word to sign in with, and no proxy is trusted to keep either.
    let sign_in = |peer: &str, via: &[(&str, &str)]| {
        let request = TestRequest::post()
            .uri("/v1/session")
            .peer_addr(peer.parse().unwrap())
            .insert_header(("host", "10.0.0.1:4000"));
        let with = |request: TestRequest, (name, value): &(&str, &str)| {
            request.insert_header(((*name).to_owned(), (*value).to_owned()))
        };
        let request = via.iter().fold(request, with);
        request.set_json(json!({ "word": "the word" })).to_request()
    };
    let proxied: &[_] = &[("x-forwarded-for", "10.0.0.7")];
    for (peer, via, status) in [
        (stranger, &[][..], 403),
        ("127.0.0.1:9", proxied, 403),
        ("127.0.0.1:9", &[][..], 200),
    ] {
        let answer = call_service(&closed, sign_in(peer, via)).await;
        assert_eq!(answer.status(), status, "{peer} {via:?}");
    }
    let through = ask(get.clone(), "/v1/status", "127.0.0.1:9", "");
    assert_eq!(call_service(&closed, through).await.status(), 200);
    let through = TestRequest::get()
        .uri("/v1/status")
        .peer_addr("127.0.0.1:9".parse().unwrap())
        .insert_header(("host", "10.0.0.1:4000"))
        .insert_header(("forwarded", "for=10.0.0.7"));
    assert_eq!(call_service(&closed, through.to_request()).await.status(), 401);
    // Who is refused often waits, and is told how long; this machine does not.
    let mut refused = 0;
    let limited = loop {
        let answer = call_service(&closed, ask(get.clone(), "/v1/status", stranger, "guess")).await;
        if answer.status() == 429 {
            break answer;
        }
        refused += 1;
        assert!(refused < 20);
    };
    let seconds: u64 = limited
        .headers()
        .get("retry-after")
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=6).contains(&seconds), "{seconds}");
    // Others' guesses are not the operator's.
    let known = ask(get.clone(), "/v1/status", stranger, "the word");
    assert_eq!(call_service(&closed, known).await.status(), 200);
    assert_eq!(
        call_service(&closed, ask(get.clone(), "/healthz", stranger, ""))
            .await
            .status(),
        200
    );
    assert_eq!(
        call_service(&closed, ask(get.clone(), "/v1/status", "127.0.0.1:9", ""))
            .await
            .status(),
        200
    );
    // What everybody may ask says nothing of the worker, its chains and its machine.
    let text = async |path: &str, peer: &str| {
        let request = TestRequest::with_uri(path)
            .peer_addr(peer.parse().unwrap())
            .insert_header(("host", "10.0.0.1:4000"))
            .insert_header(("accept", "text/html"));
        let answer = call_service(&closed, request.to_request()).await;
        let status = answer.status().as_u16();
        let body = actix_web::test::read_body(answer).await;
        (status, String::from_utf8_lossy(&body).into_owned())
    };
    let folder = served.fake.dir.path().display().to_string();
    for (path, status) in [
        ("/login", 200),
        ("/readyz", 200),
        ("/", 401),
        ("/chains/main/", 401),
    ] {
        let (found, shown) = text(path, "10.0.0.9:1000").await;
        assert_eq!(found, status, "{path}");
        for told in ["main", "height", "/chains/", "Forks", &folder] {
            assert!(
                !shown.contains(&format!("{told}\"")) && !shown.contains(&format!("{told}<")),
                "{told}: {shown}"
            );
        }
        assert!(!shown.contains(&folder), "{shown}");
    }
    for path in ["/chains/main/login", "/chains/none/login", "/chains/main/readyz"] {
        assert_eq!(
            text(path, "10.0.0.9:1000").await.0,
            401,
            "whether it is here: {path}"
        );
    }
    assert!(text("/login", "127.0.0.1:9").await.1.contains(&folder));
    assert!(text("/readyz", "127.0.0.1:9").await.1.contains("height"));
    assert_eq!(text("/chains/main/login", "127.0.0.1:9").await.0, 200);
    let open = init_service(super::super::routes::app(interface(true))).await;
    for path in paths {
        if path != "/v1/events" {
            assert_eq!(
                call_service(&open, ask(get.clone(), path, stranger, ""))
                    .await
                    .status(),
                200,
                "{path}"
            );
        }
    }
    assert_eq!(
        call_service(
            &open,
            ask(actix_web::http::Method::POST, "/v1/mine", stranger, "")
        )
        .await
        .status(),
        401
    );
}
