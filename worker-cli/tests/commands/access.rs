//! Who gets in, and how: TLS on both programs, certificates that change, clients that are slow.

#![expect(
    clippy::too_many_lines,
    reason = "a story is read from its beginning to its end"
)]

use super::chain::{json, wait};
use super::node::{Coordinator, Registered};
use super::{run, worker};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn node_json(dir: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(dir.join("node.json")).unwrap()).unwrap()
}

#[test]
fn both_programs_serve_tls_and_a_new_certificate_without_a_restart() {
    let (server, home, other) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let flags = [
        "--difficulty",
        "4",
        "--tls-self-signed",
        "--join-token",
        "a token",
    ];
    let coordinator = Coordinator::with(server.path(), &flags);
    assert!(coordinator.url.starts_with("https://"));
    let dir = home.path();
    let pem = std::fs::read(server.path().join("tls.crt")).unwrap();
    let fingerprint = fingerprint(&pem);
    let refused = |words: &[&str], part: &str| {
        let output = run(
            other.path(),
            &[&["register", "--server", &coordinator.url], words].concat(),
        );
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains(part),
            "{words:?}: {said}"
        );
        assert!(!other.path().join("worker.json").exists(), "nothing was changed");
    };
    refused(&["--token", "a token"], "certificate");
    refused(
        &["--token", "a token", "--fingerprint", &"ab".repeat(32)],
        "fingerprint",
    );
    refused(
        &["--token", "another", "--fingerprint", &fingerprint],
        "the join token is wrong",
    );
    refused(&["--fingerprint", &fingerprint], "the join token is missing");

    let _registered = Registered(dir);
    let words = [
        "register",
        "--server",
        &coordinator.url,
        "--token",
        "a token",
        "--fingerprint",
        &fingerprint,
    ];
    json(dir, &[&words[..], &["--api-tls-self-signed"]].concat());
    json(dir, &["add_transaction", "--key", "k", "--value", "v"]);
    json(dir, &["mine_block"]);
    let before = node_json(dir);
    assert!(
        before["api"].as_str().unwrap().starts_with("https://"),
        "{before}"
    );
    // The word of TLS, not ours, to who speaks without it.
    let address = before["api"]
        .as_str()
        .unwrap()
        .trim_start_matches("https://")
        .to_owned();
    let mut clear = TcpStream::connect(&address).unwrap();
    clear
        .write_all(b"GET /v1/status HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let ended = clear.read_to_end(&mut answer);
    assert!(
        !String::from_utf8_lossy(&answer).contains("worker_id"),
        "{ended:?}"
    );

    // Another certificate, and the commands find the node by it.
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(dir.join("tls.crt"), made.cert.pem()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while node_json(dir)["fingerprint"] == before["fingerprint"] {
        assert!(Instant::now() < deadline, "the new certificate is not served");
        std::thread::yield_now();
    }
    wait(dir, &["status"], |status| {
        status["final_size"].as_u64() >= Some(2)
    });
    assert_eq!(node_json(dir)["pid"], before["pid"], "the same process");
}

/// As `openssl x509 -fingerprint -sha256` has it.
fn fingerprint(pem: &[u8]) -> String {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;
    use sha2::Digest as _;
    let der = CertificateDer::from_pem_slice(pem).unwrap();
    hex::encode(sha2::Sha256::digest(&der))
}

/// A certificate for a name, good until the beginning of a year, with its key and the authority that has issued it; in files.
struct Issued {
    authority: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

fn issued(dir: &Path, what: &str, name: &str, ends: i32) -> Issued {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = date_time_ymd(2_000, 1, 1);
    params.not_after = date_time_ymd(ends, 1, 1);
    let cert = params.signed_by(&key, &authority).unwrap();
    let put = |kind: &str, text: String| {
        let path = dir.join(format!("{what}.{kind}"));
        std::fs::write(&path, text).unwrap();
        path
    };
    Issued {
        authority: put("ca", authority.pem()),
        cert: put("crt", cert.pem()),
        key: put("key", key.serialize_pem()),
    }
}

#[test]
fn a_coordinator_is_believed_by_a_certificate_of_the_authorities_that_are_told() {
    let (files, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let good = issued(files.path(), "good", "127.0.0.1", 4_000);
    let serve = |dir: &Path, issued: &Issued| {
        let (cert, key) = (issued.cert.to_str().unwrap(), issued.key.to_str().unwrap());
        Coordinator::with(
            dir,
            &[
                "--difficulty",
                "4",
                "--tls-cert",
                cert,
                "--tls-key",
                key,
                "--join-token",
                "a token",
            ],
        )
    };
    let nobody = home.path().join("nobody");
    let refused = |url: &str, more: &[&str], part: &str| {
        let words = ["register", "--server", url, "--token", "a token"];
        let output = run(&nobody, &[&words[..], more].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains(part),
            "{more:?}: {said}"
        );
        assert!(!nobody.join("worker.json").exists(), "nothing was changed");
    };
    // One that has expired, one that is for another name, one that another authority has issued.
    let of = |issued: &Issued| issued.authority.to_str().unwrap().to_owned();
    for (what, name, ends, part) in [
        ("old", "127.0.0.1", 2_001, "certificate expired"),
        ("other", "10.0.0.7", 4_000, "not valid for name"),
    ] {
        let (server, bad) = (
            tempfile::tempdir().unwrap(),
            issued(files.path(), what, name, ends),
        );
        let coordinator = serve(server.path(), &bad);
        refused(&coordinator.url, &["--server-ca", &of(&bad)], part);
    }
    let server = tempfile::tempdir().unwrap();
    let coordinator = serve(server.path(), &good);
    let stranger = issued(files.path(), "stranger", "127.0.0.1", 4_000);
    refused(
        &coordinator.url,
        &["--server-ca", &of(&stranger)],
        "is not trusted: ",
    );
    refused(&coordinator.url, &[], "is not trusted: ");
    refused(
        &coordinator.url,
        &["--server-ca", "/nowhere.pem"],
        "authorities /nowhere.pem",
    );
    let key = good.key.to_str().unwrap();
    refused(&coordinator.url, &["--server-ca", key], "no certificate in it");
    refused("http://127.0.0.1:1", &["--server-ca", &of(&good)], "without TLS");

    // By flags, and by variables at the first start in the foreground; both go on to trust it.
    let (dir, second) = (home.path().join("a"), home.path().join("b"));
    let _registered = (Registered(&dir), Registered(&second));
    let words = [
        "register",
        "--server",
        &coordinator.url,
        "--token",
        "a token",
        "--server-ca",
        &of(&good),
    ];
    json(&dir, &words);
    let mut node = worker(&second, &["run", "--server", &coordinator.url]);
    let mut node = node
        .env("BLOCK_CHAIN_NAME", "ben")
        .env("BLOCK_CHAIN_JOIN_TOKEN", "a token")
        .env("BLOCK_CHAIN_SERVER_CA", &good.authority)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !second.join("node.json").exists() {
        assert!(Instant::now() < deadline, "it does not start");
        std::thread::yield_now();
    }
    assert_eq!(json(&second, &["status"])["name"], "ben");
    json(&dir, &["mine_block"]);
    for worker in [&dir, &second] {
        wait(worker, &["status"], |status| status["final_size"] == 2);
    }
    super::faults::signal(&second, "TERM");
    assert!(node.wait().unwrap().success());
}

#[test]
fn half_a_request_is_not_waited_for() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let coordinator = Coordinator::start(server.path(), 4);
    let dir = home.path();
    let _registered = Registered(dir);
    json(dir, &["register", "--server", &coordinator.url]);
    let node = node_json(dir)["api"].as_str().unwrap().to_owned();
    let started = Instant::now();
    let half: Vec<TcpStream> = [&coordinator.url, &node]
        .into_iter()
        .map(|url| {
            let mut stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
            stream
                .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-slow: ")
                .unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            stream
        })
        .collect();
    for mut stream in half {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.contains("408"), "{answer}");
    }
    assert!(
        started.elapsed() < Duration::from_secs(25),
        "{:?}",
        started.elapsed()
    );
    json(dir, &["status"]);
}
