//! A client that costs next to nothing: HTTP/1.1 on one connection that stays open.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

/// One connection to a node.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    head: String,
    /// Before every path, where another chain than the first is asked.
    prefix: String,
}

impl Connection {
    pub(crate) fn open(api: &str, cookie: &str, prefix: &str) -> Self {
        let host = api.trim_start_matches("http://");
        let stream = TcpStream::connect(host).expect("the node listens");
        stream.set_nodelay(true).expect("an option of TCP");
        let head = format!("host: {host}\r\nauthorization: Bearer {cookie}\r\n");
        Self {
            stream: BufReader::new(stream),
            head,
            prefix: prefix.to_owned(),
        }
    }

    pub(crate) fn get(&mut self, path: &str) -> serde_json::Value {
        let request = format!("GET {}{path} HTTP/1.1\r\n{}\r\n", self.prefix, self.head);
        self.ask(request.into_bytes())
    }

    pub(crate) fn post(&mut self, path: &str, kind: &str, body: &[u8]) -> serde_json::Value {
        serde_json::from_slice(&self.post_raw(path, kind, body)).expect("JSON")
    }

    /// The answer's bytes, so that nothing is spent on reading them.
    pub(crate) fn post_raw(&mut self, path: &str, kind: &str, body: &[u8]) -> Vec<u8> {
        let head = format!(
            "POST {}{path} HTTP/1.1\r\n{}content-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            self.prefix,
            self.head,
            body.len()
        );
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        self.exchange(&request)
    }

    fn ask(&mut self, request: Vec<u8>) -> serde_json::Value {
        serde_json::from_slice(&self.exchange(&request)).expect("JSON")
    }

    fn exchange(&mut self, request: &[u8]) -> Vec<u8> {
        self.stream.get_mut().write_all(request).expect("the node reads");
        let (mut line, mut length, mut first) = (String::new(), 0, String::new());
        loop {
            line.clear();
            assert!(
                self.stream.read_line(&mut line).expect("the node answers") > 0,
                "the node hung up"
            );
            let text = line.trim_end();
            if first.is_empty() {
                text.clone_into(&mut first);
            }
            if let Some((name, value)) = text.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().expect("a number");
            }
            if text.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("the whole answer");
        assert!(
            first.contains(" 200 "),
            "{first}: {}",
            String::from_utf8_lossy(&body)
        );
        body
    }
}
