//! A long chain of small transactions: into an empty node, at rest, at a start, and asked for one record.

use super::network::{Network, Node, batch};
use super::reference::{Sender, batch_verification};
use super::{median, rate};
use std::time::{Duration, Instant};

const BLOCK: usize = 20_000;
const LOOKUPS: u64 = 2_000;
/// How long a node has nothing to do before it counts as at rest.
const REST: Duration = Duration::from_secs(10);

pub(crate) fn run(count: usize) {
    let network = Network::start();
    let source = network.node("source");
    let (height, sender) = fill(&source, count);
    let before = batch_verification(source.chain());
    let started = Instant::now();
    let mut newcomer = network.node("newcomer");
    newcomer.wait("height", height);
    let took = started.elapsed();
    let ((_, peak), written) = (newcomer.memory(), newcomer.written());
    newcomer.wait("committed_size", height + 1);
    let verified = f64::midpoint(before, batch_verification(source.chain()));
    let synced = rate(count, took);
    println!("sync: batch verification alone {verified:>9.0}/s");
    println!(
        "sync: {count} transactions in {took:.1?}: {synced:.0}/s  ratio {:.2} (wanted: 0.5)",
        synced / verified
    );
    println!("sync: {} bytes written a transaction", written / count as u64);
    println!("sync: at most {peak:.0} MiB while it syncs (wanted: under 300)");
    std::thread::sleep(REST);
    println!(
        "sync: {:.0} MiB at rest after it (wanted: under 150)",
        newcomer.memory().0
    );
    let starts: Vec<Duration> = (0..5)
        .map(|_| {
            newcomer.stop();
            newcomer.start()
        })
        .collect();
    println!(
        "start: {:.0?} with that chain, until it answers (wanted: under 300 ms)",
        median(starts)
    );
    println!("start: {:.0} MiB after it", newcomer.memory().0);
    look_up(&newcomer, &sender, count as u64);
    println!("disk: {} bytes a transaction", newcomer.disk() / count as u64);
}

/// Puts that many transactions on the chain, in full blocks.
fn fill(node: &Node, count: usize) -> (u64, Sender) {
    let mut sender = Sender::new(node.chain(), 1);
    let (mut height, mut done) = (0, 0);
    let started = Instant::now();
    while done < count {
        let part = BLOCK.min(count - done);
        let body = batch(&sender.sign(part));
        node.connect()
            .post_raw("/v1/transactions", "application/octet-stream", &body);
        height = node.mine();
        done += part;
    }
    node.wait("committed_size", height + 1);
    println!(
        "sync: the chain was made in {:.0?} ({} blocks)",
        started.elapsed(),
        height
    );
    (height, sender)
}

fn look_up(node: &Node, sender: &Sender, count: u64) {
    let mut connection = node.connect();
    let times = (0..LOOKUPS).map(|turn| {
        let key = sender.record(turn.wrapping_mul(0x9e37_79b9) % count);
        let started = Instant::now();
        let found = connection.get(&format!("/v1/record?key={key}"));
        let took = started.elapsed();
        assert_eq!(found["key"].as_str(), Some(key.as_str()));
        took
    });
    println!(
        "get: {:.0?} a record, asked over HTTP (wanted: under 1 ms)",
        median(times.collect())
    );
}
