//! The ledger as a whole, with real processes: what a node accepts, how long a commitment takes, how fast a newcomer
//! catches up, and what a long chain costs to hold, to open and to ask.
//!
//! `cargo bench --bench ledger -- [accept] [transfer] [stake] [commit] [sync]`; all of them where none is named. `BENCH_TRANSACTIONS` (1000000)
//! is the length of the chain for `sync`. Every rate stands beside the rate of batch verification alone in the same run.

#![expect(clippy::print_stdout, reason = "its output is the figures")]
#![expect(clippy::cast_precision_loss, reason = "rates are for people to read")]

mod accept;
mod commit;
mod network;
mod reference;
mod stake;
mod sync;
mod transfer;
mod wire;

use std::time::Duration;

fn main() {
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let wants = |name: &str| asked.is_empty() || asked.iter().any(|word| word == name);
    if wants("accept") {
        accept::run();
    }
    if wants("transfer") {
        transfer::run();
    }
    if wants("stake") {
        stake::run();
    }
    if wants("commit") {
        commit::run();
    }
    if wants("sync") {
        sync::run(setting("BENCH_TRANSACTIONS", 1_000_000));
    }
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}
