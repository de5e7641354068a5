//! The copy against real PostgreSQL clusters, each test with its own.

#[path = "../../tests/support/postgres.rs"]
mod postgres;

mod database;
mod tls;

use super::{DumpControl, DumpError};
use crate::api::types::{DumpRequest, DumpStatus};
use crate::node::NodeEvent;
use crate::storage::{ForkBuilder, Store};
use crate::test_chain::Chain;
use block_chain_common::chain_spec::{ChainSpec, Parent};
use block_chain_common::codec::BoundedBytes;
use block_chain_common::hash::Digest;
use block_chain_common::keys::SecretKey;
use block_chain_common::quantity::{Amount, Height};
use block_chain_common::transaction::{Payload, Role};
use postgres::Postgres;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

fn request(db_url: impl Into<String>, once: bool) -> DumpRequest {
    DumpRequest {
        db_url: db_url.into(),
        once,
    }
}

async fn once(control: &DumpControl, url: &str) -> Result<DumpStatus, DumpError> {
    control.start(request(url, true)).await
}

/// Waits until the copy's status says so.
async fn copied(control: &DumpControl, what: &str, holds: impl FnMut(&DumpStatus) -> bool) {
    let mut changes = control.0.status.subscribe();
    let waited = tokio::time::timeout(PATIENCE, changes.wait_for(holds)).await;
    assert!(waited.is_ok(), "not in {PATIENCE:?}: {what}");
}

/// Looks at the database until it shows something: no event tells us of its sessions and of others' commits.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// As the node does when blocks are committed.
fn announce(control: &DumpControl, size: u64) {
    control.0.node.announce(NodeEvent::Committed { size });
}

fn records(chain: &mut Chain, from: usize, count: usize) {
    let all = (from..from + count)
        .map(|n| chain.put(format!("key-{n}"), format!("{{\"n\":{n}}}")))
        .collect();
    chain.mine(all);
}

#[tokio::test(flavor = "multi_thread")]
async fn once_copies_what_is_committed_and_nothing_twice() {
    let (database, mut chain) = (Postgres::start(), Chain::new("main"));
    records(&mut chain, 0, 30);
    records(&mut chain, 20, 20);
    let later = chain.put("later", "not committed");
    chain.append(vec![later]);
    let control = DumpControl::new(chain.node());
    for _ in 0..2 {
        let status = once(&control, &database.url()).await.unwrap();
        assert_eq!(
            (status.dumped_blocks, status.dumped_transactions, status.following),
            (3, 50, false)
        );
        assert!(!status.database.unwrap().contains(postgres::PASSWORD));
        assert_eq!(database.query("select count(*) from transactions"), "50");
        assert_eq!(
            database.query("select count(*), count(distinct key), min(height), max(height) from key_values"),
            "40|40|1|2"
        );
        assert_eq!(
            database.query("select height, value_json->>'n' from key_values where key = 'key-25'"),
            "2|25"
        );
        assert_eq!(
            database.query("select count(*) from key_value_history where key = 'key-25'"),
            "2"
        );
        assert_eq!(
            database.query("select height, transactions from blocks order by 1"),
            "0|0\n1|30\n2|20"
        );
        assert_eq!(
            database
                .query("select name, blocks, transactions from chains join dump_watermarks using (chain)"),
            "main|3|50"
        );
    }
    chain.commit();
    assert_eq!(
        once(&control, &database.url()).await.unwrap().dumped_transactions,
        51
    );
    let (hash, header) = chain.store.header_at(chain.store.head().0).unwrap().unwrap();
    let row = database.query(
        "select hash, previous_hash, extract(epoch from time)::bigint, producer from blocks where height = 3",
    );
    assert_eq!(
        row,
        format!(
            "{hash}|{}|{}|{}",
            header.previous,
            header.timestamp.get() / 1_000,
            header.producer
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wallets_are_as_the_chain_has_them() {
    let (database, mut chain) = (Postgres::start(), Chain::new("main"));
    let (own, other) = (
        chain.key.public_key().address(),
        SecretKey::from_seed(&[8; 32]).public_key().address(),
    );
    let control = DumpControl::new(chain.node());
    let of = |address| {
        database.query(&format!(
            "select balance, stake, releasing from wallets where address = '{address}'"
        ))
    };
    let amount = Amount::new;
    let memo = BoundedBytes::new(b"for tea".to_vec()).unwrap();
    let first = vec![
        chain.sign(Payload::Transfer {
            to: other,
            amount: amount(100),
            memo,
        }),
        chain.sign(Payload::Stake { amount: amount(50) }),
        chain.sign(Payload::Unstake { amount: amount(20) }),
        chain.sign(Payload::Unstake { amount: amount(10) }),
        chain.sign(Payload::Deposit {
            to: other,
            amount: amount(u64::MAX - 5_000),
        }),
        chain.sign(Payload::Grant {
            address: other,
            role: Role::Mine,
        }),
    ];
    chain.mine(first);
    once(&control, &database.url()).await.unwrap();
    // The reward is 5 a block, and what is unstaked in block 1 is free from block 3 on.
    assert_eq!(of(own), "855|20|30");
    assert_eq!(of(other), format!("{}|0|0", u64::MAX - 4_900));
    chain.mine(Vec::new());
    once(&control, &database.url()).await.unwrap();
    assert_eq!(of(own), "890|20|0");
    let spend = chain.sign(Payload::Stake { amount: amount(890) });
    chain.mine(vec![spend]);
    once(&control, &database.url()).await.unwrap();
    assert_eq!(of(own), "5|910|0");
    let account = chain.store.account(&own).unwrap();
    assert_eq!((account.balance.get(), account.stake.get()), (5, 910));
    let movements = "select type, amount, memo from value_movements order by height, index limit 2";
    assert_eq!(database.query(movements), "transfer|100|for tea\nstake|50|");
    assert_eq!(
        database.query("select role, recipient is not null from transactions where type = 'grant'"),
        "mine|t"
    );
    assert_eq!(database.query("select count(*) from wallet_releases"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_bytes_are_copied_unchanged() {
    for encoding in ["UTF8", "SQL_ASCII"] {
        let (database, mut chain) = (Postgres::start_with(encoding, None, &[]), Chain::new("main"));
        let values: Vec<Vec<u8>> = vec![
            b"".to_vec(),
            b"a\0b".to_vec(),
            vec![0xff, 0xfe, 0x00, 0x80],
            "\t\n\\N \u{e9}\u{1f980}".as_bytes().to_vec(),
            b"\"\\u0000\"".to_vec(),
            b"\"\\ud800\"".to_vec(),
            b"\"\\u00e9\\ud83e\\udd80\"".to_vec(),
            b"[1e400, 1e-20000]".to_vec(),
            b"[1e-20000]".to_vec(),
            format!("[{}]", "9".repeat(200_000)).into_bytes(),
            ["[".repeat(100_000), "]".repeat(100_000)].concat().into_bytes(),
            ["[".repeat(120), "]".repeat(120)].concat().into_bytes(),
            b"{\"a\":1,\"a\":2,\"\":\"\x7f\"}".to_vec(),
            b"-0.00e-300".to_vec(),
            vec![b'x'; 1_048_576],
        ];
        let keys = [vec![0xff; 1_024], vec![0], "\u{1f980}".repeat(256).into_bytes()];
        let mut transactions = Vec::new();
        for (number, value) in values.iter().enumerate() {
            transactions.push(chain.put(format!("key-{number:02}"), value.clone()));
        }
        for key in &keys {
            transactions.push(chain.put(key.clone(), "1"));
        }
        transactions.push(chain.sign(Payload::Message {
            bytes: BoundedBytes::new(vec![0, 0xff]).unwrap(),
        }));
        chain.mine(transactions);
        once(&DumpControl::new(chain.node()), &database.url())
            .await
            .unwrap();
        for table in ["transactions", "key_values"] {
            let order = "key_bytes like 'key-%'::bytea order by key_bytes";
            let hashes = database.query(&format!(
                "select encode(sha256(value_bytes), 'hex') from {table} where {order}"
            ));
            let expected = values
                .iter()
                .map(|value| hex::encode(<sha2::Sha256 as sha2::Digest>::digest(value)));
            assert_eq!(
                hashes,
                expected.collect::<Vec<_>>().join("\n"),
                "{table} in {encoding}"
            );
            let texts = database.query(&format!("select string_agg((value is null)::int::text, '' order by key_bytes) from {table} where {order}", order = "key_bytes like 'key-%'::bytea"));
            assert_eq!(texts, "011000000000000", "{table} in {encoding}");
        }
        let json = database.query("select string_agg(key, ' ' order by key) from key_values where value_json is not null and key like 'key-%'");
        let escaped = if encoding == "UTF8" { "key-06 " } else { "" };
        assert_eq!(json, format!("{escaped}key-11 key-12 key-13"), "{encoding}");
        assert_eq!(
            database.query("select count(*) from key_values where length(key_bytes) = 1024"),
            "2"
        );
        assert_eq!(
            database.query("select count(*) from key_values where key is null"),
            "2"
        );
        assert_eq!(
            database.query("select value_bytes from transactions where type = 'message'"),
            "\\x00ff"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_goes_on_until_it_is_stopped() {
    let (database, mut chain) = (Postgres::start(), Chain::new("main"));
    let control = DumpControl::new(chain.node());
    records(&mut chain, 0, 10);
    let status = control.start(request(database.url(), false)).await.unwrap();
    assert!(status.following);
    copied(&control, "what was there", |s| s.dumped_transactions == 10).await;
    for n in 1..5 {
        records(&mut chain, n * 10, 10);
        announce(&control, chain.commit());
        let all = 10 * (u64::try_from(n).unwrap() + 1);
        copied(&control, "a later block", |s| s.dumped_transactions == all).await;
    }
    // The same again is no second follower, and nothing twice.
    assert!(
        control
            .start(request(database.url(), false))
            .await
            .unwrap()
            .following
    );
    records(&mut chain, 50, 10);
    announce(&control, chain.commit());
    copied(&control, "a block after the second start", |s| {
        s.dumped_transactions == 60
    })
    .await;
    let connections = "select count(*) from pg_stat_activity where application_name = 'block-chain-worker'";
    until("there is one connection", || database.query(connections) == "1").await;
    assert!(control.stop().await.unwrap().stopped);
    assert!(!control.status().following);
    assert!(!control.stop().await.unwrap().stopped);
    records(&mut chain, 60, 10);
    announce(&control, chain.commit());
    until("the connection is gone", || database.query(connections) == "0").await;
    assert_eq!(database.query("select count(*) from transactions"), "60");
    // A node that starts now has nothing to take up again.
    let next = DumpControl::new(chain.node());
    next.resume();
    assert!(!next.status().following);
    assert_eq!(chain.store.get_meta(super::JOB).unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_database_replaces_the_first() {
    let (first, second, mut chain) = (Postgres::start(), Postgres::start(), Chain::new("main"));
    let control = DumpControl::new(chain.node());
    records(&mut chain, 0, 5);
    control.start(request(first.url(), false)).await.unwrap();
    copied(&control, "the first has it", |s| s.dumped_transactions == 5).await;
    let status = control.start(request(second.url(), false)).await.unwrap();
    assert!(status.database.unwrap().contains(&second.port.to_string()));
    records(&mut chain, 5, 5);
    announce(&control, chain.commit());
    until("the second has it", || {
        second.query("select count(*) from transactions") == "10"
    })
    .await;
    assert_eq!(first.query("select count(*) from transactions"), "5");
    assert!(control.stop().await.unwrap().stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_chains_share_a_database() {
    let (database, mut one, mut two) = (Postgres::start(), Chain::new("one"), Chain::new("two"));
    records(&mut one, 0, 5);
    records(&mut two, 0, 7);
    for chain in [&one, &two] {
        once(&DumpControl::new(chain.node()), &database.url())
            .await
            .unwrap();
    }
    let counts = "select name, count(*) from transactions join chains using (chain) group by 1 order by 1";
    assert_eq!(database.query(counts), "one|5\ntwo|7");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_copy_one_chain_into_one_database_do_not_clash() {
    let (database, mut chain) = (Postgres::start(), Chain::new("main"));
    let controls: Vec<_> = (0..3).map(|_| DumpControl::new(chain.node())).collect();
    // At once, so that they make the tables at once too.
    let mut starting = tokio::task::JoinSet::new();
    for control in &controls {
        let (control, url) = (control.clone(), database.url());
        starting.spawn(async move {
            control
                .start(request(url, false))
                .await
                .map(|status| status.following)
        });
    }
    assert!(
        starting
            .join_all()
            .await
            .into_iter()
            .all(|started| started.unwrap())
    );
    for n in 0..20 {
        records(&mut chain, n * 50, 50);
        let size = chain.commit();
        controls.iter().for_each(|control| announce(control, size));
    }
    for control in &controls {
        copied(control, "each knows that all is there", |s| {
            s.dumped_transactions == 1_000
        })
        .await;
        assert_eq!(control.status().error, None);
    }
    for control in &controls {
        assert!(control.stop().await.unwrap().stopped);
    }
    assert_eq!(
        database.query("select count(*), count(distinct id) from transactions"),
        "1000|1000"
    );
    assert_eq!(database.query("select balance from wallets"), "1100");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_does_not_end_with_the_runtime_that_asked_for_it() {
    let (database, mut chain) = (Postgres::start(), Chain::new("main"));
    let control = DumpControl::new(chain.node());
    let (asking, asked) = (control.clone(), request(database.url(), false));
    // As the HTTP interface's threads do, which have a runtime of one thread each.
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(asking.start(asked)).unwrap().following
    });
    assert!(thread.join().unwrap());
    records(&mut chain, 0, 10);
    announce(&control, chain.commit());
    copied(&control, "it", |s| s.dumped_transactions == 10).await;
    assert!(control.stop().await.unwrap().stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_transfers_and_what_the_chain_is_are_in_the_copy() {
    let (database, mut chain) = (Postgres::start(), Chain::new("main"));
    let to = SecretKey::from_seed(&[8; 32]).public_key().address();
    let (grant, revoke) = (
        |address, role| Payload::Grant { address, role },
        |address, role| Payload::Revoke { address, role },
    );
    let amount = Amount::new(7);
    let memo = BoundedBytes::new(b"rent".to_vec()).unwrap();
    let me = chain.key.public_key().address();
    let block = vec![
        chain.sign(grant(to, Role::Issue)),
        chain.sign(grant(to, Role::Mine)),
        chain.sign(revoke(to, Role::Issue)),
        chain.sign(Payload::Transfer { to, amount, memo }),
    ];
    chain.mine(block);
    let control = DumpControl::new(chain.node());
    once(&control, &database.url()).await.unwrap();
    let roles = "select role from roles where address = '%' order by 1";
    let of = |address: &block_chain_common::keys::Address| {
        database.query(&roles.replace('%', &address.to_string()))
    };
    assert_eq!((of(&me).as_str(), of(&to).as_str()), ("admin\nissue", "mine"));
    assert_eq!(database.query("select amount, memo from transfers"), "7|rent");
    assert_eq!(
        database.query("select name, proof, reward, decimals, open_roles, parent_chain is null from chains"),
        "main|authority|5|0|{write,mine}|t"
    );
    let block = vec![
        chain.sign(revoke(to, Role::Mine)),
        chain.sign(revoke(me, Role::Issue)),
    ];
    chain.mine(block);
    for _ in 0..2 {
        once(&control, &database.url()).await.unwrap();
        assert_eq!((of(&me).as_str(), of(&to).as_str()), ("admin", ""));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_is_copied_with_what_it_inherited() {
    let (database, mut parent) = (Postgres::start(), Chain::new("main"));
    records(&mut parent, 0, 3);
    let amount = Amount::new(100);
    let block = vec![
        parent.put("key-1", "{\"n\":7}"),
        parent.sign(Payload::Stake { amount }),
    ];
    parent.mine(block);
    let block = vec![parent.sign(Payload::Unstake {
        amount: Amount::new(40),
    })];
    parent.mine(block);
    let dir = tempfile::tempdir().unwrap();
    let (block, _) = parent.store.header_at(parent.store.head().0).unwrap().unwrap();
    let mut spec = ChainSpec {
        name: "fork".to_owned(),
        grants: Default::default(),
        balances: Default::default(),
        parent: Some(Parent {
            chain: parent.spec.id(),
            height: parent.store.head().0,
            block,
            state_digest: Digest::ZERO,
        }),
        ..parent.spec.spec().clone()
    };
    let builder = ForkBuilder::build(dir.path(), (&parent.store, &parent.spec), &spec).unwrap();
    spec.parent.as_mut().unwrap().state_digest = builder.digest();
    let spec = spec.check().unwrap();
    builder.finish(&spec).unwrap();
    let store = Store::open(dir.path(), &spec).unwrap();
    let mut fork = Chain::of(dir, store, spec, 6);
    fork.commit();
    let block = vec![fork.put("key-2", "{\"n\":9}")];
    fork.mine(block);
    for chain in [&parent, &fork] {
        let status = once(&DumpControl::new(chain.node()), &database.url())
            .await
            .unwrap();
        assert_eq!(
            status.dumped_transactions,
            if chain.spec.id() == fork.spec.id() { 1 } else { 6 }
        );
    }
    let of_fork = format!("chain = '{}'", fork.spec.id());
    let values = format!("select key, value_json->>'n', height from key_values where {of_fork} order by 1");
    assert_eq!(database.query(&values), "key-0|0|0\nkey-1|7|0\nkey-2|9|1");
    let account = fork.store.account(&fork.key.public_key().address()).unwrap();
    let wallet = format!("select balance, stake, releasing from wallets where {of_fork}");
    let releasing = account
        .releases
        .as_slice()
        .iter()
        .map(|release| release.amount.get());
    assert_eq!(
        releasing.sum::<u64>(),
        40,
        "unstaked on the parent, and free in the fork's second block"
    );
    let account = account.at(Height::new(2)).unwrap();
    // The reward of the fork's first block is 5.
    let expected = format!("{}|{}|0", account.balance, account.stake);
    assert_eq!(database.query(&wallet), expected);
    let parents = format!("select parent_height from chains where {of_fork}");
    assert_eq!(database.query(&parents), "3");
    assert_eq!(
        database.query(&format!("select count(*) from roles where {of_fork}")),
        "2"
    );
}
