//! The SQL copy beside `psql \copy` of the same rows into the same tables, in turns, on one private cluster.
//!
//! `BENCH_TRANSACTIONS` (100000) and `BENCH_ROUNDS` (5) change the size. Prints the rates and the ratio of the medians.

#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark prints rates"
)]

#[path = "../tests/support/chain.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod chain;
#[path = "../tests/support/postgres.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod postgres;
use block_chain_worker as worker;

use chain::Chain;
use postgres::Postgres;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use worker::api::types::DumpRequest;
use worker::dump::DumpControl;

const TABLES: [&str; 4] = ["transactions", "blocks", "key_values", "wallets"];
const SCHEMA: &str = include_str!("../migrations/sqlcopy-0001_tables/up.sql");
const BLOCK: usize = 10_000;

fn main() {
    let setting = |name, default| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let (count, rounds): (usize, usize) =
        (setting("BENCH_TRANSACTIONS", 100_000), setting("BENCH_ROUNDS", 5));
    let mut chain = Chain::new("main");
    for from in (0..count).step_by(BLOCK) {
        let records = (from..count.min(from + BLOCK))
            .map(|n| chain.put(key(n), value(n)))
            .collect();
        chain.mine(records);
    }
    let database = Postgres::start();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    let entered = runtime.enter();
    let control = DumpControl::new(chain.node());
    drop(entered);
    let (mut ours, mut psql) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let name = format!("ours_{round}");
        database.query(&format!("create database {name}"));
        let db_url = database.url().replace("/postgres", &format!("/{name}"));
        let started = Instant::now();
        let status = runtime.block_on(control.start(DumpRequest {
            db_url: db_url.clone(),
            once: true,
        }));
        let took = started.elapsed();
        assert_eq!(status.expect("it copies").dumped_transactions, count as u64);
        if round == 0 {
            // Warms both up, and gives the rows that `psql` copies.
            TABLES
                .iter()
                .for_each(|table| run_psql(&db_url, &[&copy(table, "TO", database.folder())]));
        } else {
            ours.push(took);
        }
        database.query(&format!("drop database {name}"));
        let took = copy_by_psql(&database, &format!("psql_{round}"));
        if round > 0 {
            psql.push(took);
        }
    }
    let (ours, psql) = (median(ours), median(psql));
    let rate = |took: Duration| count as f64 / took.as_secs_f64();
    println!("transactions {count}, rounds {rounds}");
    println!("ours  {:>9.0} transactions/s ({ours:.2?})", rate(ours));
    println!("psql  {:>9.0} transactions/s ({psql:.2?})", rate(psql));
    println!("ratio {:.2} (at least 0.7 is wanted)", rate(ours) / rate(psql));
}

fn key(n: usize) -> String {
    format!("sensor/{:08x}/{n}", n.wrapping_mul(2_654_435_761) & 0xffff_ffff)
}

fn value(n: usize) -> String {
    let note = "measured, checked, and written down ".repeat(4);
    format!(
        "{{\"n\":{n},\"temperature\":{}.5,\"ok\":true,\"note\":\"{note}\"}}",
        n % 40
    )
}

fn copy_by_psql(database: &Postgres, name: &str) -> Duration {
    database.query(&format!("create database {name}"));
    let url = database.url().replace("/postgres", &format!("/{name}"));
    run_psql(&url, &[SCHEMA]);
    let commands: Vec<String> = TABLES
        .iter()
        .map(|table| copy(table, "FROM", database.folder()))
        .collect();
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let started = Instant::now();
    run_psql(&url, &commands);
    let took = started.elapsed();
    database.query(&format!("drop database {name}"));
    took
}

fn copy(table: &str, direction: &str, folder: &Path) -> String {
    format!(
        "\\copy {table} {direction} '{}/{table}.copy' (FORMAT binary)",
        folder.display()
    )
}

/// All commands in one transaction of one process.
fn run_psql(url: &str, commands: &[&str]) {
    let mut psql = Command::new("psql");
    psql.args(["-Xq1", "-v", "ON_ERROR_STOP=1", url]);
    for command in commands {
        psql.args(["-c", command]);
    }
    let output = psql.output().expect("psql runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
