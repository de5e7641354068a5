//! What the operator does: join tokens, terms, figures, taking workers out, making chains; and who may read.

use crate::both::{Open, on_both};
use crate::network::{Tree, at, beat, code, cosigned, heartbeat, join, network, registration};
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use block_chain_common::chain_spec::ChainSpec;
use block_chain_common::codec::encode;
use block_chain_common::coordinator_api::{CommitFigures, StakeShare};
use block_chain_common::keys::SecretKey;
use block_chain_common::quantity::Height;
use block_chain_server::routes::{Access, State, app};
use block_chain_server::service::{Join, NewToken, Service, Settings};
use block_chain_server::store::Store;
use block_chain_web::session::Sessions;
use serde_json::{Value, json};
use std::sync::Arc;
use uuid::Uuid;
use zeroize::Zeroizing;

on_both!(
    a_token_lets_in_as_many_as_it_says_until_it_is_over_or_revoked,
    a_token_beyond_a_limit_is_not_made,
    every_term_is_remembered_with_its_leader,
    a_worker_is_taken_out_but_for_the_last_that_counts,
    a_banned_worker_is_out_of_everything_until_it_is_let_back_in,
    a_ban_leaves_the_last_that_counts_until_another_takes_its_place,
    a_ban_of_the_only_member_can_be_taken_back,
    figures_are_counted_once_and_kept_by_the_minute,
    a_fork_is_asked_of_the_leader_until_it_is_made,
);

fn with_token(open: Open<'_>) -> Service {
    let join = Join::Token(Zeroizing::new("the first token".to_owned()));
    Service::start(open(), Settings::default(), join, |_| ()).unwrap()
}

fn registers(service: &Service, seed: u8, token: &str, ms: u64) -> String {
    let mut request = registration(service, seed, at(ms));
    request.token = Some(token.to_owned());
    match service.register(&request, at(ms)) {
        Ok(_) => "in".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn a_token_lets_in_as_many_as_it_says_until_it_is_over_or_revoked(open: Open<'_>) {
    let service = with_token(open);
    let make = |lifetime_ms, uses| {
        let label = "for ana".to_owned();
        let new = NewToken {
            label,
            lifetime_ms,
            uses,
        };
        service.create_token(&new, at(0)).unwrap()
    };
    let ((once, _), (hour, _), (revoked, row)) =
        (make(None, Some(1)), make(Some(3_600_000), None), make(None, None));
    assert!(
        !format!("{:?}", service.tokens().unwrap()).contains(once.as_str()),
        "only hashes are kept"
    );
    assert_eq!(registers(&service, 1, &once, 1), "in");
    assert_eq!(registers(&service, 2, &once, 2), "the join token is used up");
    // A key that was let in needs no token again, and uses none up.
    assert_eq!(registers(&service, 1, &once, 3), "in");
    assert_eq!(registers(&service, 2, &hour, 3_599_999), "in");
    assert_eq!(
        registers(&service, 3, &hour, 3_600_000),
        "the join token is expired"
    );
    assert_eq!(registers(&service, 3, &revoked, 4), "in");
    service.revoke_token(row.id.parse().unwrap(), at(5)).unwrap();
    assert_eq!(registers(&service, 4, &revoked, 6), "the join token is revoked");
    assert_eq!(registers(&service, 4, "made up", 6), "the join token is wrong");
    assert_eq!(registers(&service, 4, "the first token", 6), "in");
    assert_eq!(code(service.revoke_token(Uuid::nil(), at(7))), "unknown_token");
    let used: Vec<i64> = service.tokens().unwrap().iter().map(|token| token.used).collect();
    assert_eq!(used.iter().sum::<i64>(), 3, "{used:?}");
    // What is over stays in the list for a month.
    let later = 40 * 86_400_000;
    service.create_token(&NewToken::default(), at(later)).unwrap();
    assert_eq!(
        service.tokens().unwrap().len(),
        2,
        "the used-up one and the new one"
    );
}

fn a_token_beyond_a_limit_is_not_made(open: Open<'_>) {
    let service = with_token(open);
    let make = |label: &str, lifetime_ms, uses| {
        let label = label.to_owned();
        code(service.create_token(
            &NewToken {
                label,
                lifetime_ms,
                uses,
            },
            at(0),
        ))
    };
    assert_eq!(make(&"x".repeat(64), None, None), "accepted");
    assert_eq!(make(&"x".repeat(65), None, None), "malformed");
    assert_eq!(make("a\nb", None, None), "malformed");
    assert_eq!(make("", Some(0), None), "malformed");
    assert_eq!(make("", Some(u64::MAX), None), "malformed");
    assert_eq!(make("", None, Some(0)), "malformed");
    assert_eq!(make("", None, Some(1_000_000)), "accepted");
    assert_eq!(make("", None, Some(1_000_001)), "malformed");
}

fn every_term_is_remembered_with_its_leader(open: Open<'_>) {
    let (service, workers) = network(open(), 2);
    service.leave(&workers[0].who, "main", at(10)).unwrap();
    let terms = service.terms("main", 10).unwrap();
    let seen: Vec<(i64, String)> = terms.into_iter().map(|row| (row.term, row.worker)).collect();
    let expected = [(2, workers[1].who.worker), (1, workers[0].who.worker)];
    assert_eq!(seen, expected.map(|(term, worker)| (term, worker.to_string())));
    assert_eq!(service.terms("main", 1).unwrap().len(), 1);
    assert_eq!(code(service.terms("none", 1)), "unknown_chain");
}

fn a_worker_is_taken_out_but_for_the_last_that_counts(open: Open<'_>) {
    let (service, workers) = network(open(), 1);
    let (first, tree) = (&workers[0], Tree::new(4, 0));
    tree.commit(&service, (0, 2), first, &[first]).unwrap();
    let second = join(&service, 2, at(10));
    // It holds nothing of what is committed yet.
    assert_eq!(
        code(service.evict("main", first.who.worker, at(11))),
        "last_member"
    );
    assert_eq!(code(service.evict("main", Uuid::nil(), at(11))), "unknown_worker");
    beat(&service, &second, 1, at(12));
    assert!(service.evict("main", first.who.worker, at(13)).unwrap().left);
    let view = service.view("main", at(14)).unwrap();
    assert_eq!(view.members.len(), 1);
    assert!(view.members[0].counts && view.leader.unwrap().worker_id == second.who.worker);
    // One that still runs is back with its next heartbeat.
    beat(&service, first, 1, at(15));
    assert_eq!(service.view("main", at(16)).unwrap().members.len(), 2);
}

fn a_banned_worker_is_out_of_everything_until_it_is_let_back_in(open: Open<'_>) {
    let (service, workers) = network(open(), 2);
    let [first, second] = &workers[..] else { panic!() };
    let spec = ChainSpec::default_for("audit", second.key.public_key().address());
    service
        .create_chain(&second.who, &hex::encode(encode(&spec)))
        .unwrap();
    let mut there = heartbeat(&service, 0);
    "audit".clone_into(&mut there.chain);
    (there.term, there.checkpoint_size) = Default::default();
    service.heartbeat(&second.who, &there, at(10)).unwrap();
    assert_eq!(code(service.ban(Uuid::nil(), at(11))), "unknown_worker");
    let id = second.who.worker;
    let done = service.ban(id, at(11)).unwrap();
    assert_eq!(done.left, ["audit", "main"]);
    assert!(done.stays.is_empty());
    let members = |ms| service.view("main", at(ms)).unwrap().members;
    assert_eq!(members(12).len(), 1);
    // Nothing that it does is taken: by its token, by its key, at the relay.
    let refused = service.authenticate(Some(id), Some(&second.token)).unwrap_err();
    assert_eq!(refused.code(), "banned");
    assert!(refused.to_string().contains(&id.to_string()), "{refused}");
    let again = registration(&service, 2, at(13));
    assert_eq!(code(service.register(&again, at(13))), "banned");
    assert_eq!(code(service.knows(&second.key.public_key())), "banned");
    // The other goes on.
    assert!(service.knows(&first.key.public_key()).unwrap());
    assert_eq!(code(service.authenticate(None, Some(&first.token))), "accepted");
    let banned = |service: &Service| -> Vec<String> {
        service.banned().unwrap().into_iter().map(|row| row.id).collect()
    };
    assert_eq!(banned(&service), [id.to_string()]);
    drop(service);
    let service = crate::network::start(open());
    assert_eq!(banned(&service), [id.to_string()], "after a restart too");

    service.unban(id).unwrap();
    assert!(banned(&service).is_empty());
    // Its token is gone for good; its key lets it in.
    assert_eq!(
        code(service.authenticate(Some(id), Some(&second.token))),
        "worker_token"
    );
    let back = join(&service, 2, at(20));
    assert_eq!(back.who.worker, id);
    // Who is not banned keeps its token.
    service.unban(id).unwrap();
    assert_eq!(
        code(service.authenticate(Some(id), Some(&back.token))),
        "accepted"
    );
    assert_eq!(code(service.unban(Uuid::nil())), "unknown_worker");
}

fn a_ban_leaves_the_last_that_counts_until_another_takes_its_place(open: Open<'_>) {
    let (service, workers) = network(open(), 1);
    let (first, tree) = (&workers[0], Tree::new(4, 0));
    tree.commit(&service, (0, 2), first, &[first]).unwrap();
    let second = join(&service, 2, at(10));
    service.tick(at(10)).unwrap();
    // The second holds nothing of what is committed yet.
    let done = service.ban(first.who.worker, at(11)).unwrap();
    assert_eq!((done.left.len(), done.stays), (0, vec!["main".to_owned()]));
    assert_eq!(code(service.authenticate(None, Some(&first.token))), "banned");
    assert_eq!(service.view("main", at(12)).unwrap().members.len(), 2);
    beat(&service, &second, 1, at(61_000));
    service.tick(at(61_001)).unwrap();
    let view = service.view("main", at(61_002)).unwrap();
    assert_eq!(
        (view.members.len(), view.members[0].worker_id),
        (1, second.who.worker)
    );
    assert!(view.members[0].counts);
}

fn a_ban_of_the_only_member_can_be_taken_back(open: Open<'_>) {
    let (service, workers) = network(open(), 1);
    let (only, tree) = (&workers[0], Tree::new(4, 0));
    tree.commit(&service, (0, 2), only, &[only]).unwrap();
    let done = service.ban(only.who.worker, at(10)).unwrap();
    assert_eq!(done.left, ["main"]);
    assert!(service.view("main", at(11)).unwrap().members.is_empty());
    service.unban(only.who.worker).unwrap();
    let back = join(&service, 1, at(20));
    // Nobody counts: the first that holds all that is committed does.
    let mut empty = heartbeat(&service, 0);
    empty.committed = Height::ZERO;
    let view = service.heartbeat(&back.who, &empty, at(21)).unwrap();
    assert!(!view.members[0].counts && view.leader.is_none());
    let view = beat(&service, &back, 1, at(22));
    assert_eq!((view.quorum, view.members[0].counts), (1, true));
    assert_eq!(view.leader.unwrap().worker_id, back.who.worker);
    tree.commit(&service, (2, 3), &back, &[&back]).unwrap();
}

fn figures_are_counted_once_and_kept_by_the_minute(open: Open<'_>) {
    let (service, workers) = network(open(), 1);
    let tree = Tree::new(8, 0);
    let told = |old_size, size| CommitFigures {
        chain: "main".to_owned(),
        old_size,
        size,
        transactions: 10,
        bytes: 1_000,
        work: 256.0,
        shares: Vec::new(),
    };
    assert_eq!(
        code(service.note_figures(&told(0, 3), at(0))),
        "malformed",
        "nothing is committed"
    );
    tree.commit(&service, (0, 3), &workers[0], &[&workers[0]])
        .unwrap();
    service.note_committed("main", 3, at(1_000));
    service.note_figures(&told(0, 3), at(1_000)).unwrap();
    service.note_figures(&told(0, 3), at(2_000)).unwrap();
    service.note_final("main", 3, at(1_250));
    service.note_final("main", 3, at(9_000));
    let first = service.figures("main", 60, at(3_000)).unwrap();
    tree.commit(&service, (3, 4), &workers[0], &[&workers[0]])
        .unwrap();
    // Of a chain of stake, who has how much of it: as it was told last.
    let share = |byte: u8, ppm: u64| StakeShare {
        address: SecretKey::from_seed(&[byte; 32]).public_key().address(),
        ppm,
    };
    let mut with_shares = told(3, 4);
    with_shares.shares = vec![share(1, 750_000), share(2, 250_000)];
    service.note_figures(&with_shares, at(4_000)).unwrap();
    let rows = service.figures("main", 60, at(5_000)).unwrap();
    assert_eq!((first.len(), rows.len()), (1, 1));
    let row = &rows[0];
    assert_eq!((row.blocks, row.transactions, row.bytes), (4, 20, 2_000));
    assert_eq!((row.checkpoints, row.finals, row.final_ms), (1, 1, 250));
    assert!((row.work - 512.0).abs() < 1e-9);
    let shares: Vec<StakeShare> = serde_json::from_str(&row.shares).unwrap();
    assert_eq!(shares, with_shares.shares);
    assert_eq!(
        service.figures("main", 60, at(3 * 3_600_000)).unwrap().len(),
        0,
        "an hour ago"
    );
    let mut bad = told(4, 4);
    assert_eq!(code(service.note_figures(&bad, at(0))), "malformed");
    bad = told(3, 4);
    bad.work = f64::NAN;
    assert_eq!(code(service.note_figures(&bad, at(0))), "malformed");
}

fn a_fork_is_asked_of_the_leader_until_it_is_made(open: Open<'_>) {
    let (service, workers) = network(open(), 1);
    let ask = |name: &str, at_height| service.ask_for_fork("main", name, Height::new(at_height), at(0));
    assert_eq!(code(ask("fork", 0)), "spec", "nothing is final");
    let tree = Tree::new(4, 0);
    tree.commit(&service, (0, 2), &workers[0], &[&workers[0]])
        .unwrap();
    let request = cosigned(&service, 2, &workers[0].key);
    service.cosign(&workers[0].who, "main", &request).unwrap();
    assert_eq!(code(ask("main", 1)), "chain_exists");
    assert_eq!(code(ask("No Name", 1)), "malformed");
    assert_eq!(code(ask("fork", 2)), "spec");
    ask("fork", 1).unwrap();
    let wished = service.view("main", at(2)).unwrap().forks;
    assert_eq!(
        (wished.len(), wished[0].name.as_str(), wished[0].at.get()),
        (1, "fork", 1)
    );
    service.tick(at(1_000)).unwrap();
    assert_eq!(service.fork_wishes().unwrap().len(), 1);
    service.tick(at(11 * 60_000)).unwrap();
    assert_eq!(
        service.fork_wishes().unwrap().len(),
        0,
        "nobody has made it in its time"
    );
}

#[actix_web::test]
async fn strangers_read_nothing_where_a_token_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_sqlite(&dir.path().join("db")).unwrap();
    let join = Join::Token(Zeroizing::new("let me in".to_owned()));
    let service = Arc::new(Service::start(store, Settings::default(), join, |_| ()).unwrap());
    let mut request = registration(&service, 1, at(0));
    request.token = Some("let me in".to_owned());
    let worker = service.register(&request, at(0)).unwrap().worker_token;
    let (_stop, stopping) = tokio::sync::watch::channel(false);
    let access = Access {
        sessions: Sessions::new("the word", 18_000, false),
        file: dir.path().join("api.cookie"),
        address: "0.0.0.0:18000".parse().unwrap(),
        any_name: false,
        is_here_only: false,
        way: block_chain_web::host::Way::Tls,
        certificate: None,
    };
    let state = actix_web::web::Data::new(State::new(service, stopping, access).unwrap());
    let app = init_service(app(state)).await;
    let ask = async |path: &str, peer: &str, bearer: &str| {
        let request = TestRequest::get().uri(path).peer_addr(peer.parse().unwrap());
        let request = match bearer {
            "" => request,
            word => request.insert_header(("authorization", format!("Bearer {word}"))),
        };
        let answer = call_service(&app, request.to_request()).await;
        (answer.status().as_u16(), read_body(answer).await)
    };
    let closed = [
        "/",
        "/chains",
        "/figures",
        "/metrics",
        "/v1/chains",
        "/v1/chains/main/view",
        "/v1/chains/main/checkpoints",
        "/check_leader",
        "/v1/tokens",
    ];
    for path in closed {
        let (status, body) = ask(path, "10.0.0.7:1000", "").await;
        assert_eq!(status, 401, "{path}");
        assert!(!String::from_utf8_lossy(&body).contains("worker-1"), "{path}");
        assert_eq!(ask(path, "10.0.0.7:1000", "made up").await.0, 401, "{path}");
        assert_eq!(ask(path, "10.0.0.7:1000", "the word").await.0, 200, "{path}");
        // This machine reads, but for what is the operator's.
        let here = if path == "/v1/tokens" { 401 } else { 200 };
        for peer in ["127.0.0.1:1000", "[::1]:1000", "[::ffff:127.0.0.1]:1000"] {
            assert_eq!(ask(path, peer, "").await.0, here, "{path} from {peer}");
        }
        let of_a_worker = if path == "/v1/tokens" { 401 } else { 200 };
        assert_eq!(ask(path, "10.0.0.7:1000", &worker).await.0, of_a_worker, "{path}");
    }
    for path in [
        "/healthz",
        "/readyz",
        "/login",
        "/openapi.json",
        "/assets/style.css",
    ] {
        assert_eq!(ask(path, "10.0.0.7:1000", "").await.0, 200, "{path}");
    }
    // Signing in with a browser.
    let word = json!({ "word": "the word" });
    let sign = |origin: &str| {
        let request = TestRequest::post()
            .uri("/v1/session")
            .peer_addr("10.0.0.7:1000".parse().unwrap());
        let request = request
            .insert_header(("host", "server:18000"))
            .insert_header(("origin", origin.to_owned()));
        request.set_json(&word).to_request()
    };
    assert_eq!(
        call_service(&app, sign("https://evil.example")).await.status(),
        403
    );
    let signed = call_service(&app, sign("https://server:18000")).await;
    assert_eq!(signed.status(), 200);
    let cookie = signed.response().cookies().next().unwrap().into_owned();
    let page = TestRequest::get()
        .uri("/tokens")
        .peer_addr("10.0.0.7:1000".parse().unwrap())
        .cookie(cookie.clone());
    let page = read_body(call_service(&app, page.to_request()).await).await;
    assert!(String::from_utf8_lossy(&page).contains("Make a token"));
    // What changes something is for the server's own pages.
    let make = |origin: &str| {
        let request = TestRequest::post()
            .uri("/v1/tokens")
            .peer_addr("10.0.0.7:1000".parse().unwrap());
        let request = request
            .insert_header(("host", "server:18000"))
            .insert_header(("origin", origin.to_owned()));
        request
            .cookie(cookie.clone())
            .set_json(json!({ "label": "a", "uses": 1 }))
            .to_request()
    };
    assert_eq!(
        call_service(&app, make("https://evil.example")).await.status(),
        403
    );
    let made = call_service(&app, make("https://server:18000")).await;
    let made: Value = serde_json::from_slice(&read_body(made).await).unwrap();
    assert_eq!(made["token"].as_str().unwrap().len(), 32, "{made}");
}
