//! Registering with what is not there, or is no coordinator.

use super::{refused, run};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};

/// A program on a free port that reads a request's head and then does this with the connection.
fn program(answer: impl Fn(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let is_head = |line: std::io::Result<String>| line.is_ok_and(|line| !line.is_empty());
            while lines.next().is_some_and(is_head) {}
            answer(stream);
        }
    });
    url
}

/// One that gives every request these bytes.
fn saying(bytes: String) -> String {
    program(move |mut stream| {
        // Whoever asked may be gone.
        let _gone = stream.write_all(bytes.as_bytes());
    })
}

fn http(status: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    saying(format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    ))
}

/// A server on a free port that gives every request the same answer.
pub(super) fn json(body: &str) -> String {
    http("200 OK", "application/json", body)
}

/// A server whose answer does not end.
fn endless() -> String {
    program(|mut stream| {
        let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while sent.is_ok() {
            sent = stream.write_all(&[b'x'; 65_536]);
        }
    })
}

#[test]
fn a_server_that_is_none_is_told_apart() {
    // A port that was free a moment ago may be another test's by now; this one is nobody's.
    let nobody = "http://127.0.0.1:1".to_owned();
    let other = "is not a block-chain-server";
    let page = "<!doctype html><title>Welcome</title>";
    let table = [
        (nobody.clone(), "no server answers", "--server"),
        (format!("{nobody},{nobody}/second"), "/second", "--server"),
        (
            "http://no-such-host.invalid".to_owned(),
            "no server answers",
            "--server",
        ),
        (json("hello"), other, "name the coordinator"),
        (http("200 OK", "text/html", page), other, "name the coordinator"),
        (
            http("404 Not Found", "text/html", page),
            "404",
            "name the coordinator",
        ),
        (http("302 Found", "text/html", ""), "302", "name the coordinator"),
        (
            json(r#"{"service":"other","api_version":1}"#),
            other,
            "name the coordinator",
        ),
        (
            json(r#"{"service":"block-chain-server","api_version":99}"#),
            "speaks version 99",
            "the same version",
        ),
        (
            json(r#"{"service":"block-chain-server"}"#),
            "speaks version 0",
            "the same version",
        ),
        (
            saying("220 mail.example ESMTP\r\n".to_owned()),
            "no server answers",
            "--server",
        ),
        (
            saying("\0\u{1b}[2J\u{7}".repeat(1_000)),
            "no server answers",
            "--server",
        ),
        (saying(String::new()), "no server answers", "--server"),
        // An answer without end is not read to its end.
        (endless(), other, "name the coordinator"),
        // TLS is spoken to one that has none.
        (
            json("hello").replace("http:", "https:"),
            "no server answers",
            "--server",
        ),
    ];
    for (server, message, hint) in table {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("worker");
        let (code, said) = refused(&run(&dir, &["register", "--server", &server]), message);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(message) && said.contains(hint), "{server}: {said}");
        assert_eq!(said.lines().count(), 2, "{server}: {said}");
        assert!(!said.contains('\u{1b}'), "{said}");
        assert!(!dir.exists(), "nothing is made before a coordinator answers");
    }
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    let silent = program(std::mem::forget);
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("worker");
    let (code, said) = refused(&run(&dir, &["register", "--server", &silent]), "silent");
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("no server answers") && said.contains("timed out"),
        "{said}"
    );
    assert!(!dir.exists(), "nothing is made before a coordinator answers");
}
