//! Transfers, from the first request until the last is committed: between ten thousand wallets, and all from one.

use super::network::{Network, Node, batch};
use super::reference::verification;
use super::{median, rate};
use block_chain_common::hash::ChainId;
use block_chain_common::keys::{Address, SecretKey};
use block_chain_common::quantity::{Amount, Nonce};
use block_chain_common::transaction::{Memo, Payload, Transaction};
use rayon::prelude::*;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const WALLETS: usize = 10_000;
const BATCH: usize = 5_000;
/// Connections that send for the ten thousand; one wallet's transfers are in order, so they have one.
const CONNECTIONS: usize = 4;
/// Transfers of each wallet in a round.
const EACH: u64 = 10;
const ROUNDS: usize = 3;

/// Wallets with money from the start.
pub(crate) struct Wallets {
    keys: Vec<SecretKey>,
    addresses: Vec<Address>,
}

impl Wallets {
    pub(crate) fn new(count: usize) -> Self {
        let keys: Vec<SecretKey> = (0..count)
            .map(|number| {
                let mut seed = [5; 32];
                seed[..8].copy_from_slice(&number.to_le_bytes());
                SecretKey::from_seed(&seed)
            })
            .collect();
        let addresses = keys.par_iter().map(|key| key.public_key().address()).collect();
        Self { keys, addresses }
    }

    /// For a chain's spec.
    pub(crate) fn balances(&self) -> Value {
        let each = self.addresses.iter();
        each.map(|address| json!({ "address": address, "amount": 1_000_000_000_u64 }))
            .collect()
    }

    /// A wallet's transfer of one unit to some other, by its nonce.
    pub(crate) fn transfer(&self, chain: ChainId, from: usize, nonce: u64) -> Transaction {
        let step = 1 + usize::try_from(nonce).expect("small") % (self.keys.len() - 1);
        let payload = Payload::Transfer {
            to: self.addresses[(from + step) % self.keys.len()],
            amount: Amount::new(1),
            memo: Memo::new(Vec::new()).expect("short"),
        };
        Transaction::sign(chain, Nonce::new(nonce), payload, &self.keys[from])
    }
}

pub(crate) fn run() {
    let network = Network::start();
    let mut node = network.node("one");
    let wallets = Wallets::new(WALLETS);
    let spec = json!({ "proof": "authority", "block_interval_ms": 100, "balances": wallets.balances() });
    node.create("value", &spec);
    let chain = node.chain();
    let (mut verified, mut spread, mut conflicting) = (Vec::new(), Vec::new(), Vec::new());
    let count = WALLETS * usize::try_from(EACH).expect("small");
    let mut hot = EACH * ROUNDS as u64;
    for round in 0..ROUNDS as u64 {
        let nonces = round * EACH..(round + 1) * EACH;
        // The limit: the same transactions, from as many senders, only verified.
        let same: Vec<Transaction> = nonces
            .clone()
            .into_par_iter()
            .flat_map_iter(|nonce| (0..WALLETS).map(move |sender| (nonce, sender)))
            .map(|(nonce, sender)| wallets.transfer(chain, sender, nonce))
            .collect();
        verified.push(verification(&same));
        let prepared: Vec<Vec<Vec<u8>>> = (0..CONNECTIONS)
            .map(|connection| {
                let share = WALLETS / CONNECTIONS;
                let senders = connection * share..(connection + 1) * share;
                let all: Vec<(u64, usize)> = nonces
                    .clone()
                    .flat_map(|nonce| senders.clone().map(move |sender| (nonce, sender)))
                    .collect();
                bodies(&wallets, chain, &all)
            })
            .collect();
        spread.push(send(&node, &prepared));
    }
    for _ in 0..ROUNDS {
        let last = hot + count as u64;
        let all: Vec<(u64, usize)> = (hot..last).map(|nonce| (nonce, 0)).collect();
        conflicting.push(send(&node, &[bodies(&wallets, chain, &all)]));
        hot = last;
    }
    verified.sort_unstable_by(f64::total_cmp);
    let verified = verified[ROUNDS / 2];
    let (spread, conflicting) = (median(spread), median(conflicting));
    let at = rate(count, spread);
    println!("transfer: batch verification of them alone      {verified:>9.0}/s");
    println!(
        "transfer: between {WALLETS} wallets, until committed {at:>9.0}/s  ratio {:.2} (wanted: 0.4)",
        at / verified
    );
    println!(
        "transfer: all from one wallet                   {:>9.0}/s  {:.2} times as long (wanted: 2 at most)",
        rate(count, conflicting),
        conflicting.as_secs_f64() / spread.as_secs_f64()
    );
}

fn bodies(wallets: &Wallets, chain: ChainId, all: &[(u64, usize)]) -> Vec<Vec<u8>> {
    all.chunks(BATCH)
        .map(|chunk| {
            let signed: Vec<Transaction> = chunk
                .par_iter()
                .map(|(nonce, sender)| wallets.transfer(chain, *sender, *nonce))
                .collect();
            batch(&signed)
        })
        .collect()
}

/// Every connection its bodies, one after the other; until all of them are in committed blocks.
fn send(node: &Node, prepared: &[Vec<Vec<u8>>]) -> Duration {
    let started = Instant::now();
    node.submit(prepared);
    loop {
        let status = node.status();
        let number = |field: &str| status[field].as_u64().expect("a number");
        if number("mempool_count") == 0 && number("committed_size") > number("height") {
            return started.elapsed();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
