//! Signed transactions over HTTP, each answered only when it is on disk.

use super::network::{Network, Node, batch};
use super::reference::{Sender, batch_verification};
use super::{median, rate};
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 32;
const ROUNDS: usize = 5;
/// Of one connection in one round.
const SINGLES: usize = 1_000;
const BATCH: usize = 5_000;
const BATCHERS: usize = 4;
/// Batches of one connection in one round.
const BATCHES: usize = 4;

pub(crate) fn run() {
    let network = Network::start();
    let node = network.node("one");
    let chain = node.chain();
    let (mut verified, mut single, mut batched) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        verified.push(batch_verification(chain));
        single.push(one_a_request(&node, round));
        batched.push(many_a_request(&node, round));
    }
    verified.sort_unstable_by(f64::total_cmp);
    let verified = verified[ROUNDS / 2];
    let batched = rate(BATCHERS * BATCHES * BATCH, median(batched));
    let single = rate(CONNECTIONS * SINGLES, median(single));
    println!("accept: batch verification alone      {verified:>9.0}/s");
    println!(
        "accept: batches of {BATCH} over HTTP      {batched:>9.0}/s  ratio {:.2} (wanted: 0.4)",
        batched / verified
    );
    println!("accept: one a request, {CONNECTIONS} connections {single:>9.0}/s  (wanted: 8000)");
}

fn one_a_request(node: &Node, round: usize) -> Duration {
    let prepared: Vec<Vec<Vec<u8>>> = (0..CONNECTIONS)
        .map(|number| {
            let signed = Sender::new(node.chain(), round * 1_000 + number).sign(SINGLES);
            signed.iter().map(|tx| batch(std::slice::from_ref(tx))).collect()
        })
        .collect();
    send(node, &prepared)
}

fn many_a_request(node: &Node, round: usize) -> Duration {
    let prepared: Vec<Vec<Vec<u8>>> = (0..BATCHERS)
        .map(|number| {
            let mut sender = Sender::new(node.chain(), round * 1_000 + 500 + number);
            (0..BATCHES).map(|_| batch(&sender.sign(BATCH))).collect()
        })
        .collect();
    send(node, &prepared)
}

/// Every connection its bodies, one after the other; then what waits is mined, so that each round begins alike.
fn send(node: &Node, prepared: &[Vec<Vec<u8>>]) -> Duration {
    let started = Instant::now();
    node.submit(prepared);
    let took = started.elapsed();
    while node.status()["mempool_count"].as_u64() != Some(0) {
        let height = node.mine();
        node.wait("committed_size", height + 1);
    }
    took
}
