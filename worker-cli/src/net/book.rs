//! Whom to dial, when, and whom not to know: the directory, the pauses between attempts, the bans. Time is an argument.

use super::PeerAddress;
use block_chain_common::keys::PublicKey;
use block_chain_common::limits::MAX_PEERS_ASKED;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The first and the longest pause between two attempts to reach a peer.
pub(super) const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long the side with the greater key waits for the other to dial: one connection is enough, but a peer that cannot
/// be reached from outside must be able to reach others.
const HEAD_START: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
struct Attempt {
    next: Instant,
    pause: Duration,
}

/// What is known of peers that are not connected.
pub(super) struct Book {
    me: PublicKey,
    directory: BTreeMap<PublicKey, Vec<SocketAddr>>,
    banned: HashMap<PublicKey, Instant>,
    attempts: HashMap<PublicKey, Attempt>,
    dialling: BTreeSet<PublicKey>,
}

impl Book {
    pub(super) fn new(me: PublicKey) -> Self {
        Self {
            me,
            directory: BTreeMap::new(),
            banned: HashMap::new(),
            attempts: HashMap::new(),
            dialling: BTreeSet::new(),
        }
    }

    /// Takes a directory; whether it says anything new. Peers with new addresses are tried at once.
    pub(super) fn set_directory(&mut self, peers: Vec<PeerAddress>) -> bool {
        let directory: BTreeMap<_, _> = peers
            .into_iter()
            .filter(|peer| peer.key != self.me)
            .map(|peer| (peer.key, peer.addresses))
            .collect();
        if self.directory == directory {
            return false;
        }
        let before = std::mem::replace(&mut self.directory, directory);
        let now = &self.directory;
        self.attempts.retain(|key, _| before.get(key) == now.get(key));
        true
    }

    pub(super) fn is_listed(&self, key: &PublicKey) -> bool {
        self.directory.contains_key(key)
    }

    pub(super) fn ban(&mut self, key: PublicKey, until: Instant) {
        let end = self.banned.entry(key).or_insert(until);
        *end = until.max(*end);
    }

    /// Why a peer is neither answered nor dialled, where that is so.
    pub(super) fn refusal(&mut self, key: &PublicKey, now: Instant) -> Option<&'static str> {
        self.banned.retain(|_, until| *until > now);
        if !self.is_listed(key) {
            return Some("not in the chain's directory");
        }
        self.banned
            .contains_key(key)
            .then_some("dropped for breaking a rule, and not answered for a while")
    }

    /// Whom to dial now, in random order: no more than may be dialled at a time. They count as dialled until
    /// [`Self::dialled`].
    pub(super) fn due(
        &mut self,
        now: Instant,
        is_connected: impl Fn(&PublicKey) -> bool,
    ) -> Vec<(PublicKey, Vec<SocketAddr>)> {
        let wanted: Vec<PublicKey> = self
            .directory
            .iter()
            .filter(|(key, addresses)| !addresses.is_empty() && !is_connected(key))
            .map(|(key, _)| *key)
            .collect();
        let mut due: Vec<_> = wanted
            .into_iter()
            .filter(|key| {
                if self.dialling.contains(key) || self.refusal(key, now).is_some() {
                    return false;
                }
                let head_start = if *key < self.me {
                    HEAD_START
                } else {
                    Duration::ZERO
                };
                let attempt = self.attempts.entry(*key).or_insert(Attempt {
                    next: now + head_start,
                    pause: BACK_OFF.0,
                });
                attempt.next <= now
            })
            .collect();
        rand::seq::SliceRandom::shuffle(due.as_mut_slice(), &mut rand::rng());
        due.truncate(MAX_PEERS_ASKED.saturating_sub(self.dialling.len()));
        self.dialling.extend(&due);
        due.into_iter()
            .map(|key| (key, self.directory.get(&key).cloned().unwrap_or_default()))
            .collect()
    }

    /// The attempt to reach a peer is over.
    pub(super) fn dialled(&mut self, key: &PublicKey) {
        self.dialling.remove(key);
    }

    /// A peer was not reached, or not for long: the next attempt comes after a pause that doubles. Half of it is random
    /// (`draw`, from 0 to 1), so that nodes that lost each other do not meet at the same moments only.
    pub(super) fn postpone(&mut self, key: PublicKey, now: Instant, draw: f64) {
        let attempt = self.attempts.entry(key).or_insert(Attempt {
            next: now,
            pause: BACK_OFF.0,
        });
        let head_start = if key < self.me { HEAD_START } else { Duration::ZERO };
        attempt.next = now + head_start + attempt.pause.mul_f64(0.5 + draw / 2.0);
        attempt.pause = (attempt.pause * 2).min(BACK_OFF.1);
    }

    /// A peer was connected for long: the next attempt comes at once.
    pub(super) fn forgive(&mut self, key: &PublicKey) {
        self.attempts.remove(key);
    }

    /// When [`Self::due`] may give somebody, if nothing else happens before.
    pub(super) fn next_attempt(&self, is_connected: impl Fn(&PublicKey) -> bool) -> Option<Instant> {
        if self.dialling.len() >= MAX_PEERS_ASKED {
            return None;
        }
        self.directory
            .iter()
            .filter(|(key, addresses)| !addresses.is_empty() && !is_connected(key))
            .filter(|(key, _)| !self.dialling.contains(key))
            .filter_map(|(key, _)| {
                let next = self.attempts.get(key).map(|attempt| attempt.next);
                next.max(self.banned.get(key).copied())
            })
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> PublicKey {
        PublicKey::from_bytes([byte; 32])
    }

    fn peer(byte: u8, port: u16) -> PeerAddress {
        PeerAddress {
            key: key(byte),
            addresses: vec![SocketAddr::from(([127, 0, 0, 1], port))],
        }
    }

    fn due(book: &mut Book, now: Instant) -> Vec<PublicKey> {
        let mut keys: Vec<_> = book.due(now, |_| false).into_iter().map(|(key, _)| key).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn the_side_with_the_smaller_key_dials_first() {
        let start = Instant::now();
        let mut book = Book::new(key(5));
        assert!(book.set_directory(vec![peer(4, 1), peer(5, 1), peer(6, 1)]));
        assert!(
            !book.set_directory(vec![peer(6, 1), peer(4, 1)]),
            "nothing is new"
        );
        assert_eq!(due(&mut book, start), [key(6)]);
        assert_eq!(
            due(&mut book, start + HEAD_START / 2),
            [],
            "one is dialled already"
        );
        assert_eq!(book.next_attempt(|_| false), Some(start + HEAD_START));
        assert_eq!(due(&mut book, start + HEAD_START), [key(4)]);
    }

    #[test]
    fn pauses_double_and_new_addresses_end_them() {
        let mut now = Instant::now();
        let mut book = Book::new(key(1));
        book.set_directory(vec![peer(2, 1)]);
        for pause_ms in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
            assert_eq!(due(&mut book, now), [key(2)]);
            book.dialled(&key(2));
            book.postpone(key(2), now, 1.0);
            let next = now + Duration::from_millis(pause_ms);
            assert_eq!(book.next_attempt(|_| false), Some(next));
            assert_eq!(due(&mut book, next - Duration::from_millis(1)), []);
            now = next;
        }
        book.postpone(key(2), now, 0.0);
        assert_eq!(
            book.next_attempt(|_| false),
            Some(now + Duration::from_millis(2_500))
        );
        book.set_directory(vec![peer(2, 9)]);
        assert_eq!(due(&mut book, now), [key(2)]);
    }

    #[test]
    fn ten_are_dialled_at_a_time() {
        let now = Instant::now();
        let mut book = Book::new(key(0));
        book.set_directory((1..=30).map(|byte| peer(byte, 1)).collect());
        let first = due(&mut book, now);
        assert_eq!(first.len(), MAX_PEERS_ASKED);
        assert_eq!(due(&mut book, now), []);
        book.dialled(&first[0]);
        book.dialled(&first[1]);
        book.postpone(first[0], now, 1.0);
        book.postpone(first[1], now, 1.0);
        let second = due(&mut book, now);
        assert_eq!(second.len(), 2);
        assert!(second.iter().all(|key| !first.contains(key)));
    }

    #[test]
    fn strangers_and_the_banned_are_refused() {
        let now = Instant::now();
        let until = now + Duration::from_secs(60);
        let mut book = Book::new(key(1));
        assert_eq!(book.refusal(&key(2), now), Some("not in the chain's directory"));
        book.set_directory(vec![peer(2, 1)]);
        assert_eq!(book.refusal(&key(2), now), None);
        book.ban(key(2), until);
        book.ban(key(2), now);
        assert!(
            book.refusal(&key(2), now).is_some(),
            "a shorter ban ends no longer one"
        );
        assert_eq!(due(&mut book, now), []);
        assert_eq!(book.refusal(&key(2), until), None);
        assert_eq!(due(&mut book, until), [key(2)]);
    }
}
