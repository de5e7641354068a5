//! `sslmode`, against a cluster with a certificate made here.

use super::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::path::{Path, PathBuf};

struct Certificates {
    dir: tempfile::TempDir,
}

impl Certificates {
    /// An authority, a server's certificate by it for some name, and one that signed itself.
    fn make(name: &str) -> (Self, [String; 2], [String; 2]) {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params.clone(), KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&key, &authority)
            .unwrap();
        let own_key = KeyPair::generate().unwrap();
        params.subject_alt_names = CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .subject_alt_names;
        let own = params.self_signed(&own_key).unwrap();
        std::fs::write(dir.path().join("authority.pem"), authority.pem()).unwrap();
        std::fs::write(dir.path().join("own.pem"), own.pem()).unwrap();
        let other = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(dir.path().join("other.pem"), other.pem()).unwrap();
        (
            Self { dir },
            [server.pem(), key.serialize_pem()],
            [own.pem(), own_key.serialize_pem()],
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn cluster(hba: &str, [certificate, key]: &[String; 2]) -> Postgres {
    let database = Postgres::start_with("UTF8", Some(hba), &[]);
    let (certificate, key) = (
        database.write("server.crt", certificate),
        database.write("server.key", key),
    );
    // It is told after it has started, because only now its folder is known.
    let set = |name: &str, value: &Path| {
        database.query_locally(&format!("alter system set {name} = '{}'", value.display()))
    };
    set("ssl_cert_file", &certificate);
    set("ssl_key_file", &key);
    database.query_locally("alter system set ssl = on");
    database.stop();
    database.start_again();
    database
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_is_checked_as_far_as_sslmode_says() {
    let (files, by_authority, _) = Certificates::make("localhost");
    let database = cluster("hostssl all all 127.0.0.1/32 scram-sha-256", &by_authority);
    let control = DumpControl::new(Chain::new("main").node());
    let (right, wrong) = (files.path("authority.pem"), files.path("other.pem"));
    let table = [
        // Only encrypted connections are taken here.
        ("127.0.0.1", "disable", None, false),
        ("127.0.0.1", "allow", None, true),
        ("127.0.0.1", "prefer", None, true),
        ("127.0.0.1", "require", None, true),
        ("127.0.0.1", "require", Some(&right), true),
        ("127.0.0.1", "require", Some(&wrong), false),
        ("127.0.0.1", "verify-ca", Some(&right), true),
        ("127.0.0.1", "verify-ca", Some(&wrong), false),
        // The public authorities do not know it.
        ("127.0.0.1", "verify-ca", None, false),
        // Its certificate is for `localhost`.
        ("127.0.0.1", "verify-full", Some(&right), false),
        ("localhost", "verify-full", Some(&right), true),
        ("localhost", "verify-full", Some(&wrong), false),
        ("localhost", "verify-full", None, false),
    ];
    for (host, mode, root, succeeds) in table {
        let root = root
            .map(|path| format!("&sslrootcert={}", path.display()))
            .unwrap_or_default();
        let port = database.port;
        let url = format!("postgresql://ledger:secret-word@{host}:{port}/postgres?sslmode={mode}{root}");
        let ended = once(&control, &url).await;
        assert_eq!(ended.is_ok(), succeeds, "{host} {mode} {root}: {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_signed_itself_can_be_trusted_alone() {
    let (files, _, own) = Certificates::make("localhost");
    let database = cluster("hostssl all all 127.0.0.1/32 scram-sha-256", &own);
    let control = DumpControl::new(Chain::new("main").node());
    for (host, name, succeeds) in [
        ("localhost", "own.pem", true),
        ("127.0.0.1", "own.pem", false),
        ("localhost", "other.pem", false),
    ] {
        let (port, root) = (database.port, files.path(name));
        let root = root.display();
        let url = format!(
            "postgresql://ledger:secret-word@{host}:{port}/postgres?sslmode=verify-full&sslrootcert={root}"
        );
        let ended = once(&control, &url).await;
        assert_eq!(ended.is_ok(), succeeds, "{host} {name}: {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prefer_and_sockets_do_without_tls() {
    let (_files, by_authority, _) = Certificates::make("localhost");
    // Only connections that are not encrypted are taken here, by a server that could.
    let database = cluster("hostnossl all all 127.0.0.1/32 scram-sha-256", &by_authority);
    let control = DumpControl::new(Chain::new("main").node());
    let (port, folder) = (database.port, database.folder().display().to_string());
    for (url, succeeds) in [
        (
            format!("postgresql://ledger:secret-word@127.0.0.1:{port}/postgres"),
            true,
        ),
        (
            format!("postgresql://ledger:secret-word@127.0.0.1:{port}/postgres?sslmode=disable"),
            true,
        ),
        (
            format!("postgresql://ledger:secret-word@127.0.0.1:{port}/postgres?sslmode=require"),
            false,
        ),
        (
            format!(
                "postgresql://ledger:secret-word@/postgres?host={folder}&port={port}&sslmode=verify-full"
            ),
            true,
        ),
    ] {
        let ended = once(&control, &url).await;
        assert_eq!(ended.is_ok(), succeeds, "{url}: {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_has_expired_is_refused_and_that_is_said() {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("authority.pem");
    std::fs::write(&root, authority.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 2, 1);
    let server = params.signed_by(&key, &authority).unwrap();
    let database = cluster(
        "hostssl all all 127.0.0.1/32 scram-sha-256",
        &[server.pem(), key.serialize_pem()],
    );
    let control = DumpControl::new(Chain::new("main").node());
    let (port, root) = (database.port, root.display());
    let url = |mode: &str| {
        format!("postgresql://ledger:secret-word@localhost:{port}/postgres?sslmode={mode}&sslrootcert={root}")
    };
    for mode in ["verify-ca", "verify-full"] {
        let refused = once(&control, &url(mode)).await.unwrap_err().to_string();
        assert!(refused.contains("expired"), "{mode}: {refused}");
    }
}
