//! The client against servers that are not what they should be.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A server that reads each request's head, answers with these pieces, and then keeps the connection open.
async fn server(pieces: &'static [&'static str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut open: Vec<TcpStream> = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.windows(4).any(|window| window == b"\r\n\r\n") {
                stream.read_buf(&mut head).await.unwrap();
            }
            for piece in pieces {
                stream.write_all(piece.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
            }
            open.push(stream);
        }
    });
    url
}

fn client(servers: &[&str]) -> CoordinatorClient {
    let servers = servers.iter().map(|server| (*server).to_owned()).collect();
    CoordinatorClient::new(servers, None, &Trust::default()).unwrap()
}

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";

#[tokio::test]
async fn a_stream_that_falls_silent_is_given_up_and_its_events_were_told() {
    let half_open = server(&[
        STREAM,
        ": listening\n\nda",
        "ta: {\"event\":\"members\",\"chain\":\"audit\"}\n\n: alive\n\nevent: lagged\ndata: {}\n\n",
    ])
    .await;
    let (sender, woken) = mpsc::channel();
    let client = client(&[&half_open]);
    let listened = client.listen_for(Duration::from_millis(300), |chain| {
        sender.send(chain.map(str::to_owned)).unwrap();
    });
    let error = listened.await.unwrap_err().to_string();
    assert!(error.contains("silent for 300 ms"), "{error}");
    // The beginning, an event of a chain, and one of which nothing is known.
    let woken: Vec<_> = woken.try_iter().collect();
    assert_eq!(woken, [None, Some("audit".to_owned()), None]);
}

#[tokio::test]
async fn of_servers_the_one_that_streams_is_listened_to() {
    let other = server(&["HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"]).await;
    let right = server(&[STREAM, "data: {}\n\n"]).await;
    let woken = AtomicUsize::new(0);
    let client = client(&["http://127.0.0.1:1", &other, &right]);
    let wake = |_: Option<&str>| {
        woken.fetch_add(1, Ordering::Relaxed);
    };
    let error = client
        .listen_for(Duration::from_millis(100), wake)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("silent"), "{error}");
    assert_eq!(woken.load(Ordering::Relaxed), 2);
}

#[test]
fn events_are_seen_however_the_stream_is_cut() {
    let stream = b": listening\n\ndata: a\n\nevent: lagged\ndata: b\n\nmeta data: c\ndat: d\n";
    for size in 1..stream.len() {
        let mut lines = Lines::default();
        let seen: Vec<Vec<u8>> = stream
            .chunks(size)
            .flat_map(|chunk| lines.events(chunk))
            .collect();
        assert_eq!(seen, [b" a".to_vec(), b" b".to_vec()], "{size}");
    }
    // A line without end fills no memory.
    let mut lines = Lines::default();
    assert_eq!(lines.events(&[b'x'; 100_000]).len(), 0);
    assert!(lines.begun.len() <= Lines::LONGEST);
}

#[tokio::test]
async fn a_coordinator_of_another_version_is_named_as_that_also_to_who_is_registered() {
    let newer = server(&[
        "HTTP/1.1 200 OK\r\ncontent-length: 50\r\nconnection: close\r\n\r\n",
        r#"{"service":"block-chain-server","api_version": 99}"#,
    ])
    .await;
    let beat = Heartbeat {
        chain: "main".to_owned(),
        height: Default::default(),
        head: Default::default(),
        committed: Default::default(),
        term: Default::default(),
        checkpoint_size: 0,
        addresses: Vec::new(),
        api: None,
        stepping_down: false,
        orders: 0,
        version: None,
    };
    let error = client(&[&newer])
        .heartbeats(Uuid::nil(), vec![beat])
        .await
        .unwrap_err();
    assert!(
        matches!(error, CoordinatorError::Version { found: 99, .. }),
        "{error}"
    );
}

#[test]
fn this_machine_is_known_by_its_names() {
    for (server, here) in [
        ("http://localhost:18000", true),
        ("https://127.0.0.1", true),
        ("http://[::1]:18000", true),
        ("http://10.0.0.7:18000", false),
        ("http://localhost.example", false),
        ("nonsense", false),
    ] {
        assert_eq!(is_here(server), here, "{server}");
    }
}

#[test]
fn a_fingerprint_that_protects_nothing_is_refused() {
    let right = "AB:".repeat(31) + "AB";
    for (server, fingerprint, fits) in [
        ("https://host", right.as_str(), true),
        ("http://host", &right, false),
        ("https://host", "abc", false),
        ("https://host", &"zz".repeat(32), false),
    ] {
        let trust = Trust::pinned(fingerprint.to_owned());
        let made = CoordinatorClient::new(vec![server.to_owned()], None, &trust);
        assert_eq!(made.is_ok(), fits, "{server} {fingerprint}");
        if let Err(error) = made {
            assert!(
                matches!(error, CoordinatorError::Trust(_)) && error.hint().is_some(),
                "{error}"
            );
        }
    }
}
