//! A block of 10,000 transactions, from the order to make it until all three nodes have it committed.

use super::median;
use super::network::{Network, Node, batch};
use super::reference::Sender;
use std::time::{Duration, Instant};

const TRANSACTIONS: usize = 10_000;
const ROUNDS: usize = 7;

pub(crate) fn run() {
    let network = Network::start();
    let nodes: Vec<Node> = ["one", "two", "three"].map(|name| network.node(name)).into();
    let leader = &nodes[0];
    for node in &nodes {
        node.wait("members", 3);
        node.wait("peers", 2);
    }
    let first = leader.mine();
    nodes.iter().for_each(|node| {
        node.wait("committed_size", first + 1);
    });
    let mut sender = Sender::new(leader.chain(), 1);
    let (mut at_leader, mut at_all) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let body = batch(&sender.sign(TRANSACTIONS));
        leader
            .connect()
            .post_raw("/v1/transactions", "application/octet-stream", &body);
        for node in &nodes {
            node.wait("mempool_count", TRANSACTIONS as u64);
        }
        let (leads, all) = one_block(&nodes);
        at_leader.push(leads);
        at_all.push(all);
    }
    println!(
        "commit: a block of {TRANSACTIONS}, three nodes: at the leader {:.0?}, at all {:.0?} (wanted: under 1.5 s)",
        median(at_leader),
        median(at_all)
    );
}

fn one_block(nodes: &[Node]) -> (Duration, Duration) {
    let started = Instant::now();
    let height = nodes[0].mine();
    nodes[0].wait("committed_size", height + 1);
    let at_leader = started.elapsed();
    for node in nodes {
        node.wait("committed_size", height + 1);
    }
    (at_leader, started.elapsed())
}
