//! What is particular to PostgreSQL: many connections of many servers, lost ones, TLS, passwords.

use crate::cluster::{Cluster, PASSWORD};
use crate::network::{Tree, Worker, acknowledge, at, beat, code, join, network, start};
use block_chain_common::agreement::majority;
use block_chain_common::coordinator_api::CommitRequest;
use block_chain_common::hash::{BlockHash, ChainId, sha256};
use block_chain_server::error::ServiceError;
use block_chain_server::service::Service;
use block_chain_server::store::Store;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex};

#[test]
fn a_database_that_is_not_there_is_named_without_its_password() {
    for url in [
        "postgresql://me:secret-word@127.0.0.1:1/records",
        "postgresql://me:secret-word@127.0.0.1:1/records?sslmode=verify-full&sslrootcert=/nowhere.pem",
        "postgresql://me:secret-word@127.0.0.1:1/records?sslmode=maybe",
        "mysql://me:secret-word@127.0.0.1/records",
        "host=127.0.0.1 password=secret-word",
    ] {
        let refused = Store::open_postgres(url).err().unwrap().to_string();
        assert!(!refused.contains("secret-word"), "{refused}");
    }
}

#[test]
fn a_restarted_postgres_is_found_again() {
    let cluster = Cluster::start();
    let service = start(Store::open_postgres(&cluster.new_database()).unwrap());
    let worker = join(&service, 1, at(0));
    cluster.restart();
    let view = service.view("main", at(1)).unwrap();
    assert_eq!(view.members[0].worker_id, worker.who.worker);
    join(&service, 2, at(2));
}

#[test]
fn what_another_server_did_is_told_by_the_next_tick() {
    let cluster = Cluster::start();
    let url = cluster.new_database();
    let open = || start(Store::open_postgres(&url).unwrap());
    let (one, other) = (open(), open());
    one.tick(at(0)).unwrap();
    let mut events = one.subscribe();
    one.tick(at(1)).unwrap();
    assert!(events.try_recv().is_err(), "nothing happened");
    join(&other, 1, at(2));
    one.tick(at(3)).unwrap();
    assert!(events.try_recv().is_ok());
}

#[test]
fn servers_that_start_at_once_share_one_key() {
    let cluster = Cluster::start();
    let url = cluster.new_database();
    let keys = std::thread::scope(|scope| {
        let starts =
            [(); 4].map(|()| scope.spawn(|| start(Store::open_postgres(&url).unwrap()).public_key()));
        starts.map(|start| start.join().unwrap())
    });
    assert!(keys.iter().all(|key| *key == keys[0]));
}

/// The leader's requests for blocks 1 to `sizes`, each after the one before.
fn requests(service: &Service, sizes: u64) -> Vec<CommitRequest> {
    let tree = Tree::new(sizes, 0);
    let request = |size| tree.request(service, (size - 1, size), &[]);
    (1..=sizes).map(request).collect()
}

/// The same request for a block of this contender's own.
fn candidate(chain: ChainId, request: &CommitRequest, contender: u8, workers: &[&Worker]) -> CommitRequest {
    let mut request = request.clone();
    request.block = BlockHash::from_bytes(sha256(&[&request.size.to_be_bytes(), &[contender]]));
    let what = (request.size, request.block, request.root);
    request.acknowledgements = acknowledge(chain, request.term, what, workers);
    request
}

#[test]
fn of_concurrent_commits_through_two_servers_one_wins_at_each_height() {
    const SIZES: u64 = 24;
    let cluster = Cluster::start();
    let url = cluster.new_database();
    let (one, workers) = network(Store::open_postgres(&url).unwrap(), 3);
    let other = start(Store::open_postgres(&url).unwrap());
    let workers: Vec<&Worker> = workers.iter().collect();
    let (requests, chain) = (requests(&one, SIZES), one.chain("main").unwrap().id);
    for request in &requests {
        let size = request.size;
        if size == SIZES / 2 {
            cluster.restart();
        }
        let ready = Barrier::new(6);
        let results: Vec<_> = std::thread::scope(|scope| {
            let contend = |contender: u8| {
                let service = if contender.is_multiple_of(2) { &one } else { &other };
                let request = candidate(chain, request, contender, &workers);
                let (ready, leader) = (&ready, &workers[0].who);
                scope.spawn(move || {
                    ready.wait();
                    (request.block, service.commit(leader, "main", &request))
                })
            };
            let contenders: Vec<_> = (0..6).map(contend).collect();
            contenders
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(|(_, result)| result.is_ok());
        assert_eq!(won.len(), 1, "size {size}: {lost:?}");
        assert!(
            lost.into_iter()
                .all(|(_, result)| code(result) == "stale_checkpoint"),
            "size {size}"
        );
        let stored = cluster.sql(
            url.rsplit('/').next().unwrap(),
            &format!("SELECT block FROM checkpoints WHERE size = {size}"),
        );
        assert_eq!(stored, won[0].0.to_string(), "size {size}");
    }
}

#[test]
fn commits_go_on_through_restarts_and_no_height_is_committed_twice() {
    const SIZES: u64 = 60;
    let cluster = Cluster::start();
    let url = cluster.new_database();
    let (one, workers) = network(Store::open_postgres(&url).unwrap(), 3);
    let other = start(Store::open_postgres(&url).unwrap());
    let workers: Vec<&Worker> = workers.iter().collect();
    let (requests, chain) = (requests(&one, SIZES), one.chain("main").unwrap().id);
    let won = Mutex::new(BTreeSet::new());
    let done = AtomicBool::new(false);
    let contend = |contender: u8| {
        let service = if contender.is_multiple_of(2) { &one } else { &other };
        while !done.load(Ordering::Relaxed) {
            // While the database is away nothing is known; that is an error, and never a wrong answer.
            let Ok(view) = service.view("main", at(0)) else {
                continue;
            };
            let size = view.checkpoint.map_or(0, |checkpoint| checkpoint.size) + 1;
            if size > SIZES {
                done.store(true, Ordering::Relaxed);
                return;
            }
            let request = candidate(
                chain,
                &requests[usize::try_from(size - 1).unwrap()],
                contender,
                &workers,
            );
            match service.commit(&workers[0].who, "main", &request) {
                Ok(_) => assert!(won.lock().unwrap().insert((size, request.block))),
                Err(ServiceError::StaleCheckpoint { .. } | ServiceError::Store(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
    };
    std::thread::scope(|scope| {
        let contend = &contend;
        for contender in 0..4 {
            scope.spawn(move || contend(contender));
        }
        for _ in 0..3 {
            cluster.restart();
        }
    });
    let won = won.into_inner().unwrap();
    let heights: BTreeSet<u64> = won.iter().map(|(size, _)| *size).collect();
    assert_eq!(heights.len(), won.len(), "a height has two winners");
    let rows = cluster.sql(
        url.rsplit('/').next().unwrap(),
        "SELECT size, block FROM checkpoints ORDER BY size",
    );
    let stored: Vec<(u64, BlockHash)> = rows
        .lines()
        .map(|row| {
            let (size, block) = row.split_once('|').unwrap();
            (size.parse().unwrap(), block.parse().unwrap())
        })
        .collect();
    assert_eq!(
        stored.iter().map(|(size, _)| *size).collect::<Vec<_>>(),
        (1..=SIZES).collect::<Vec<_>>()
    );
    assert!(
        won.iter().all(|winner| stored.contains(winner)),
        "what was answered is stored"
    );
}

#[test]
fn servers_and_threads_at_once_are_all_answered() {
    let cluster = Cluster::start();
    let url = cluster.new_database();
    let services = [(); 2].map(|()| start(Store::open_postgres(&url).unwrap()));
    // More than a server has connections.
    let workers: Vec<Worker> = std::thread::scope(|scope| {
        let joins = (1..=24_u8).map(|seed| {
            let service = &services[usize::from(seed) % 2];
            scope.spawn(move || join(service, seed, at(seed.into())))
        });
        let joins: Vec<_> = joins.collect();
        joins.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let ids: BTreeSet<_> = workers.iter().map(|worker| worker.who.worker).collect();
    assert_eq!(ids.len(), 24);
    std::thread::scope(|scope| {
        for (number, worker) in workers.iter().enumerate() {
            let service = &services[number % 2];
            scope.spawn(move || {
                for time in 0..10 {
                    let view = beat(service, worker, 0, at(100 + time));
                    assert_eq!((view.members.len(), view.quorum), (24, majority(24)));
                }
            });
        }
    });
}

struct Certificates(tempfile::TempDir);

impl Certificates {
    /// An authority's file, a server's certificate by it, and one that signed itself, both for `localhost`.
    fn make() -> (Self, [String; 2], [String; 2]) {
        let files = Self(tempfile::tempdir().unwrap());
        let names = vec!["localhost".to_owned()];
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority =
            || CertifiedIssuer::self_signed(params.clone(), KeyPair::generate().unwrap()).unwrap();
        let (right, wrong, key) = (authority(), authority(), KeyPair::generate().unwrap());
        let signed = CertificateParams::new(names.clone())
            .unwrap()
            .signed_by(&key, &right)
            .unwrap();
        let (mut own, own_key) = (
            CertificateParams::new(names).unwrap(),
            KeyPair::generate().unwrap(),
        );
        own.is_ca = params.is_ca;
        let own = own.self_signed(&own_key).unwrap();
        std::fs::write(files.path("right"), right.pem()).unwrap();
        std::fs::write(files.path("wrong"), wrong.pem()).unwrap();
        std::fs::write(files.path("own"), own.pem()).unwrap();
        (
            files,
            [signed.pem(), key.serialize_pem()],
            [own.pem(), own_key.serialize_pem()],
        )
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }
}

/// Host, sslmode, root certificate, and whether a server starts.
type Case<'a> = (&'a str, &'a str, Option<&'a str>, bool);

fn check(cluster: &Cluster, files: &Certificates, cases: &[Case<'_>]) {
    for (host, mode, root, succeeds) in cases {
        let root = root
            .map(|name| format!("&sslrootcert={}", files.path(name).display()))
            .unwrap_or_default();
        let url = format!(
            "postgresql://ledger:{PASSWORD}@{host}:{}/postgres?sslmode={mode}{root}",
            cluster.port()
        );
        let opened = Store::open_postgres(&url);
        let error = opened.err().map(|error| error.to_string());
        assert_eq!(error.is_none(), *succeeds, "{host} {mode} {root}: {error:?}");
        assert!(
            !error.is_some_and(|error| error.contains(PASSWORD)),
            "{host} {mode}"
        );
    }
}

#[test]
fn the_databases_certificate_is_checked_as_far_as_sslmode_says() {
    let (files, signed, _) = Certificates::make();
    let cluster = Cluster::start_with("hostssl all all 127.0.0.1/32 scram-sha-256", Some(&signed));
    check(
        &cluster,
        &files,
        &[
            // Only encrypted connections are taken here.
            ("127.0.0.1", "disable", None, false),
            ("127.0.0.1", "allow", None, true),
            ("127.0.0.1", "prefer", None, true),
            ("127.0.0.1", "require", None, true),
            ("127.0.0.1", "require", Some("right"), true),
            ("127.0.0.1", "require", Some("wrong"), false),
            ("127.0.0.1", "require", Some("missing"), false),
            ("127.0.0.1", "verify-ca", Some("right"), true),
            ("127.0.0.1", "verify-ca", Some("wrong"), false),
            // The public authorities do not know it.
            ("127.0.0.1", "verify-ca", None, false),
            // Its certificate is for `localhost`.
            ("127.0.0.1", "verify-full", Some("right"), false),
            ("localhost", "verify-full", Some("right"), true),
            ("localhost", "verify-full", Some("wrong"), false),
            ("localhost", "verify-full", None, false),
        ],
    );
    let encrypted = cluster.sql(
        "postgres",
        "SELECT count(*) FROM pg_hba_file_rules WHERE type = 'host'",
    );
    assert_eq!(encrypted, "0", "no rule lets in who does not encrypt");
}

#[test]
fn a_database_that_signed_its_certificate_itself_can_be_trusted_alone() {
    let (files, _, own) = Certificates::make();
    let cluster = Cluster::start_with("hostssl all all 127.0.0.1/32 scram-sha-256", Some(&own));
    check(
        &cluster,
        &files,
        &[
            ("localhost", "verify-full", Some("own"), true),
            ("127.0.0.1", "verify-full", Some("own"), false),
            ("127.0.0.1", "verify-ca", Some("own"), true),
            ("localhost", "verify-full", Some("wrong"), false),
        ],
    );
}

#[test]
fn a_database_without_tls_serves_who_does_not_insist() {
    let (files, ..) = Certificates::make();
    let cluster = Cluster::start();
    check(
        &cluster,
        &files,
        &[
            ("127.0.0.1", "disable", None, true),
            ("127.0.0.1", "allow", None, true),
            ("127.0.0.1", "prefer", None, true),
            ("127.0.0.1", "require", None, false),
            ("localhost", "verify-full", Some("right"), false),
        ],
    );
}
