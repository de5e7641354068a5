//! A chain of stake of three nodes with slots of a second, under a load of 2,000 transfers a slot.

use super::network::{Network, Node, batch};
use super::transfer::Wallets;
use rayon::prelude::*;
use serde_json::json;
use std::time::{Duration, Instant};

/// Slots that are measured.
const SLOTS: u64 = 20;
const SLOT: Duration = Duration::from_secs(1);
/// Transfers of a slot.
const EACH: usize = 2_000;

pub(crate) fn run() {
    let network = Network::start();
    let mut nodes: Vec<Node> = ["one", "two", "three"].map(|name| network.node(name)).into();
    let wallets = Wallets::new(EACH);
    let stakes: serde_json::Value = nodes
        .iter()
        .map(|node| json!({ "address": node.status()["address"], "amount": 1_000 }))
        .collect();
    let spec = json!({ "proof": "stake", "block_interval_ms": 1_000, "stakes": stakes, "balances": wallets.balances() });
    nodes[0].create("stake", &spec);
    for node in &mut nodes[1..] {
        node.join("stake");
    }
    for node in &nodes {
        node.wait("members", 3);
        node.wait("peers", 2);
    }
    let chain = nodes[0].chain();
    // Two more at the front, until all is under way, and one behind, so that something waits in the last slot too.
    let bodies: Vec<Vec<u8>> = (0..SLOTS + 3)
        .map(|nonce| {
            let signed = (0..EACH).into_par_iter();
            batch(
                &signed
                    .map(|sender| wallets.transfer(chain, sender, nonce))
                    .collect::<Vec<_>>(),
            )
        })
        .collect();
    let started = Instant::now();
    let mut connections: Vec<_> = nodes.iter().map(Node::connect).collect();
    let mut first = 0;
    for (number, body) in (0_u32..).zip(&bodies) {
        std::thread::sleep((SLOT * number).saturating_sub(started.elapsed()));
        // Each time at another node; all are sent one slot's worth of what is to be in the block.
        let connection = &mut connections[usize::try_from(number).expect("small") % 3];
        connection.post_raw("/v1/transactions", "application/octet-stream", body);
        if number == 2 {
            first = nodes[0].status()["height"].as_u64().expect("a number") + 1;
        }
    }
    let last = nodes[0].status()["height"].as_u64().expect("a number");
    let (mut slots, mut transfers) = (Vec::new(), Vec::new());
    for node in &nodes {
        node.wait("committed_size", last + 1);
    }
    let all_committed = started.elapsed();
    for height in first..=last {
        let block = nodes[0].connect().get(&format!("/v1/blocks/{height}"));
        slots.push(block["slot"].as_u64().expect("a slot"));
        transfers.push(block["transactions"].as_array().map_or(0, Vec::len));
    }
    let span = slots
        .last()
        .zip(slots.first())
        .map_or(0, |(last, first)| last - first + 1);
    transfers.sort_unstable();
    println!(
        "stake: three nodes, slots of 1 s: {} blocks in {span} slots (wanted: one in every slot), transfers in a block: \
         {} in the middle, {} at least; everything committed {:.1?} after the last was sent",
        slots.len(),
        transfers[transfers.len() / 2],
        transfers[0],
        all_committed.saturating_sub(SLOT * u32::try_from(bodies.len() - 1).expect("small"))
    );
}
