//! Databases that fail, refuse, or hold something else; nodes that stop in the middle.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_survives_crashes_of_the_database() {
    let (database, mut chain) = (Postgres::start(), Chain::new("main"));
    let control = DumpControl::new(chain.node());
    control.start(request(database.url(), false)).await.unwrap();
    for round in 0..3 {
        for n in 0..10 {
            records(&mut chain, round * 1_000 + n * 100, 100);
            announce(&control, chain.commit());
        }
        // Wherever the copy is now.
        database.stop();
        records(&mut chain, round * 1_000, 100);
        announce(&control, chain.commit());
        until("the status says what is wrong", || {
            control.status().error.is_some()
        })
        .await;
        let status = control.status();
        assert!(status.following && !status.error.unwrap().contains(postgres::PASSWORD));
        database.start_again();
        let expected = (u64::try_from(round).unwrap() + 1) * 1_100;
        until("it has caught up", || {
            control.status().dumped_transactions == expected
        })
        .await;
        until("the error is gone", || control.status().error.is_none()).await;
    }
    assert_eq!(
        database.query("select count(*), count(distinct id) from transactions"),
        "3300|3300"
    );
    assert!(control.stop().await.unwrap().stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_waits_for_no_database() {
    let (database, chain) = (Postgres::start(), Chain::new("main"));
    let control = DumpControl::new(chain.node());
    control.start(request(database.url(), false)).await.unwrap();
    database.stop();
    let started = Instant::now();
    assert!(control.stop().await.unwrap().stopped);
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_again_takes_the_copy_up_where_it_was() {
    let (database, mut chain) = (Postgres::start(), Chain::new("main"));
    for n in 0..40 {
        records(&mut chain, n * 500, 500);
    }
    let control = DumpControl::new(chain.node());
    control.start(request(database.url(), false)).await.unwrap();
    // In the middle of a batch, most likely; whatever was under way is not there.
    control.shutdown().await;
    let sealed = chain.store.get_meta(super::super::JOB).unwrap().unwrap();
    assert!(
        !sealed
            .windows(postgres::PASSWORD.len())
            .any(|window| window == postgres::PASSWORD.as_bytes())
    );
    let next = DumpControl::new(chain.node());
    next.resume();
    until("all is copied", || next.status().dumped_transactions == 20_000).await;
    assert!(next.status().following);
    assert_eq!(
        database.query("select count(*), count(distinct id) from transactions"),
        "20000|20000"
    );
    assert_eq!(database.query("select count(*) from key_values"), "20000");
    // Even where the database is not there yet when the node starts.
    next.shutdown().await;
    database.stop();
    let last = DumpControl::new(chain.node());
    last.resume();
    until("it says what is wrong", || last.status().error.is_some()).await;
    database.start_again();
    records(&mut chain, 20_000, 1);
    announce(&last, chain.commit());
    until("the new block is copied", || {
        last.status().dumped_transactions == 20_001
    })
    .await;
    assert!(last.stop().await.unwrap().stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_database_is_said_without_its_password() {
    let (database, chain) = (Postgres::start(), Chain::new("main"));
    let control = DumpControl::new(chain.node());
    let port = database.port;
    let table = [
        (
            format!("postgresql://ledger:wr%6fng-word@127.0.0.1:{port}/postgres"),
            "password authentication failed",
        ),
        (
            format!("postgresql://nobody-here:secret-word@127.0.0.1:{port}/postgres"),
            "password authentication failed",
        ),
        (
            format!("postgresql://ledger:secret-word@127.0.0.1:{port}/nothing"),
            "database \"nothing\" does not exist",
        ),
        (
            "postgresql://ledger:secret-word@127.0.0.1:1/postgres".to_owned(),
            "refused",
        ),
        (
            format!("postgresql://ledger:secret-word@127.0.0.1:{port}/postgres?sslmode=require"),
            "TLS",
        ),
        (
            format!(
                "postgresql://ledger:secret-word@127.0.0.1:{port}/postgres?sslmode=verify-full&sslrootcert=/nothing.pem"
            ),
            "/nothing.pem",
        ),
        (
            "postgresql://ledger:secret-word@no-such-host.invalid/postgres".to_owned(),
            "no-such-host.invalid",
        ),
        ("nonsense".to_owned(), "postgresql://"),
    ];
    for (url, expected) in table {
        for once in [true, false] {
            let error = control
                .start(request(url.clone(), once))
                .await
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("-word"), "{error}");
        }
    }
    assert!(!control.status().following);
    assert_eq!(chain.store.get_meta(super::super::JOB).unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_are_not_ours_are_left_alone() {
    let (database, chain) = (Postgres::start(), Chain::new("main"));
    let control = DumpControl::new(chain.node());
    database.query("create table blocks (mine int); insert into blocks values (1)");
    let error = once(&control, &database.url()).await.unwrap_err().to_string();
    assert!(
        error.contains("blocks") && error.contains("already exists"),
        "{error}"
    );
    assert_eq!(database.query("select mine from blocks"), "1");
    assert_eq!(
        database.query("select count(*) from pg_tables where tablename in ('chains', 'transactions')"),
        "0"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_a_later_version_are_left_alone() {
    let (database, chain) = (Postgres::start(), Chain::new("main"));
    let control = DumpControl::new(chain.node());
    once(&control, &database.url()).await.unwrap();
    database.query("insert into __diesel_schema_migrations (version) values ('zz-another-programs')");
    once(&control, &database.url()).await.unwrap();
    database.query("insert into __diesel_schema_migrations (version) values ('sqlcopy9999')");
    let error = once(&control, &database.url()).await.unwrap_err();
    assert!(matches!(error, DumpError::NewerSchema { .. }), "{error}");
    assert!(error.to_string().contains("sqlcopy9999"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_other_blocks_is_left_alone_and_one_of_later_blocks_awaited() {
    let (database, mut chain) = (Postgres::start(), Chain::new("main"));
    records(&mut chain, 0, 10);
    let control = DumpControl::new(chain.node());
    once(&control, &database.url()).await.unwrap();
    let hash = database.query("select hash from dump_watermarks");
    // A replica that is behind.
    database.query("update dump_watermarks set blocks = 10, hash = 'ff'");
    assert!(
        control
            .start(request(database.url(), false))
            .await
            .unwrap()
            .following
    );
    records(&mut chain, 10, 10);
    announce(&control, chain.commit());
    assert!(control.stop().await.unwrap().stopped);
    assert_eq!(database.query("select count(*) from transactions"), "10");
    // Another past.
    database.query("update dump_watermarks set blocks = 2, hash = repeat('ab', 32)");
    let error = once(&control, &database.url()).await.unwrap_err();
    assert!(
        matches!(error, DumpError::OtherBlocks { height: 1, .. }),
        "{error}"
    );
    database.query(&format!("update dump_watermarks set hash = '{hash}'"));
    assert_eq!(
        once(&control, &database.url()).await.unwrap().dumped_transactions,
        20
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_hold_every_text_is_refused() {
    let (database, chain) = (Postgres::start_with("LATIN1", None, &[]), Chain::new("main"));
    let error = once(&DumpControl::new(chain.node()), &database.url())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, DumpError::Encoding { found, .. } if found == "LATIN1"),
        "{error}"
    );
}
