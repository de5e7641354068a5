//! What everything is compared with: batch verification of the same transactions, and nothing else, on all cores.

use block_chain_common::hash::ChainId;
use block_chain_common::keys::{SecretKey, find_invalid_signatures};
use block_chain_common::quantity::Nonce;
use block_chain_common::transaction::{Payload, RecordKey, RecordValue, Transaction};
use rayon::prelude::*;
use std::time::Instant;

/// One sender's transactions, its first nonce 0.
pub(crate) struct Sender {
    key: SecretKey,
    next: u64,
    chain: ChainId,
}

impl Sender {
    pub(crate) fn new(chain: ChainId, number: usize) -> Self {
        let mut seed = [9; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        Self {
            key: SecretKey::from_seed(&seed),
            next: 0,
            chain,
        }
    }

    /// The next `count` transactions, small records under keys that are spread at random.
    pub(crate) fn sign(&mut self, count: usize) -> Vec<Transaction> {
        let first = self.next;
        self.next += count as u64;
        (first..self.next)
            .into_par_iter()
            .map(|nonce| self.one(nonce))
            .collect()
    }

    fn one(&self, nonce: u64) -> Transaction {
        let address = self.key.public_key().address().to_string();
        let payload = Payload::Put {
            key: RecordKey::new(key_of(&address, nonce).into_bytes()).expect("a short key"),
            value: RecordValue::new(format!("{{\"n\":{nonce}}}").into_bytes()).expect("a short value"),
        };
        Transaction::sign(self.chain, Nonce::new(nonce), payload, &self.key)
    }

    /// The key of the record with this nonce.
    pub(crate) fn record(&self, nonce: u64) -> String {
        key_of(&self.key.public_key().address().to_string(), nonce)
    }
}

/// 26 bytes: a scrambled number first, so that neighbours in time are no neighbours in the tree.
fn key_of(address: &str, nonce: u64) -> String {
    let scrambled = nonce.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{scrambled:016x}-{}", &address[address.len() - 9..])
}

/// Signatures verified a second by batches on all cores, of one sender's transactions: the median of five rounds.
pub(crate) fn batch_verification(chain: ChainId) -> f64 {
    verification(&Sender::new(chain, usize::MAX).sign(100_000))
}

/// Signatures of these transactions verified a second by batches on all cores: the median of five rounds.
pub(crate) fn verification(transactions: &[Transaction]) -> f64 {
    let signed: Vec<_> = transactions.iter().map(Transaction::signed_message).collect();
    let rounds = (0..5).map(|_| {
        let started = Instant::now();
        assert!(find_invalid_signatures(&signed).is_empty());
        started.elapsed()
    });
    super::rate(signed.len(), super::median(rounds.collect()))
}
