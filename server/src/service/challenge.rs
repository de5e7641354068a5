//! Challenges, which a worker signs to register: good for one use within a minute, and kept nowhere before that.
//!
//! Whoever asks gets one, so that to remember them all would be to let a stranger fill the place of workers. A challenge
//! carries a random number, its own end, and a keyed hash of both: whoever has the database's secret knows it again, so the
//! servers of a database take each other's. Only those that were used are kept, until they are over.

use super::random_hex;
use crate::error::ServiceError;
use block_chain_common::hash::sha256;
use block_chain_common::quantity::Timestamp;
use zeroize::Zeroizing;

/// How long a challenge is good for.
const GOOD_MS: u64 = 60_000;
const KEY_DOMAIN: &[u8] = b"block-chain/challenge-key/v1\0";
/// Bytes of the random number: of those given in a minute no two are the same.
const NONCE: usize = 10;
/// Bytes of the end in milliseconds, enough for eight thousand years.
const ENDS: usize = 6;
/// Bytes of the keyed hash: nobody tries 2^128.
const MARK: usize = 16;

/// Makes challenges and knows them again.
pub(super) struct Challenges(Zeroizing<[u8; 32]>);

/// A challenge of ours that is not over.
pub(super) struct Good {
    /// As it is recorded.
    pub(super) text: String,
    /// When it is over.
    pub(super) ends_ms: u64,
}

impl Challenges {
    /// With a key that follows from the coordinator's, and says nothing of it.
    pub(super) fn of(seed: &[u8; 32]) -> Self {
        Self(Zeroizing::new(sha256(&[KEY_DOMAIN, seed])))
    }

    /// Hashed twice under the key, so that nothing can be appended.
    fn mark(&self, signed: &[u8]) -> [u8; 32] {
        let key = self.0.as_slice();
        sha256(&[key, &sha256(&[key, signed])])
    }

    /// A challenge that is good from now on.
    ///
    /// # Errors
    /// Where the system gives no randomness.
    pub(super) fn make(&self, now: Timestamp) -> Result<String, ServiceError> {
        let random = random_hex::<NONCE>().map_err(|error| ServiceError::Busy(error.to_string()))?;
        let ends = now.get().saturating_add(GOOD_MS).to_be_bytes();
        let (_, ends) = ends.split_at(ends.len() - ENDS);
        let signed = format!("{}{}", random.as_str(), hex::encode(ends));
        let mark = self.mark(signed.as_bytes());
        let (mark, _) = mark.split_at(MARK);
        Ok(format!("{signed}{}", hex::encode(mark)))
    }

    /// Whether a text is a challenge of ours that is not over.
    pub(super) fn check(&self, text: &str, now: Timestamp) -> Option<Good> {
        if text.len() != 2 * (NONCE + ENDS + MARK) || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
            return None;
        }
        let text = text.to_ascii_lowercase();
        let (signed, given) = text.split_at(2 * (NONCE + ENDS));
        let mark = self.mark(signed.as_bytes());
        let (mark, _) = mark.split_at(MARK);
        // Hashes are compared, so a difference in time says nothing of the mark.
        if sha256(&[given.as_bytes()]) != sha256(&[hex::encode(mark).as_bytes()]) {
            return None;
        }
        let (_, ends) = signed.split_at(2 * NONCE);
        let ends_ms = u64::from_str_radix(ends, 16).ok()?;
        (ends_ms > now.get()).then_some(Good { text, ends_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_made_here_is_good_and_until_its_end() {
        let (ours, other) = (Challenges::of(&[1; 32]), Challenges::of(&[2; 32]));
        let now = Timestamp::new(1_700_000_000_000);
        let later = |ms| Timestamp::new(now.get() + ms);
        let made = ours.make(now).unwrap();
        assert_eq!(made.len(), 64, "as it always was");
        assert_ne!(made, ours.make(now).unwrap());
        let good = ours.check(&made, later(GOOD_MS - 1)).unwrap();
        assert_eq!((good.text, good.ends_ms), (made.clone(), later(GOOD_MS).get()));
        assert!(ours.check(&made, later(GOOD_MS)).is_none(), "it is over");
        assert!(other.check(&made, now).is_none(), "another network's");
        for place in 0..made.len() {
            let mut changed = made.clone().into_bytes();
            changed[place] = if changed[place] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(ours.check(&changed, now).is_none(), "{changed}");
        }
        for bad in [
            "",
            "zz",
            &made[1..],
            &made.replace(|c: char| c.is_ascii_digit(), "ä"),
        ] {
            assert!(ours.check(bad, now).is_none(), "{bad}");
        }
        // Letters of another case are the same challenge: it is used once.
        assert_eq!(ours.check(&made.to_ascii_uppercase(), now).unwrap().text, made);
    }
}
