//! The statement that a coordinator signs when an operator has it go on from what its workers show: rule AGR-9.
//!
//! ```text
//! block-chain-recovery/<chain id, 64 hex digits>
//! at <milliseconds since 1970>
//! term <before> <after>
//! size <blocks before> <blocks after>
//! ```
//! A signed note; the coordinator signs with the name and key of its checkpoints.

use crate::checkpoint::{CheckpointError, origin};
use crate::hash::ChainId;
use crate::keys::{PublicKey, SecretKey};
use crate::note::{NoteError, SignedNote};
use crate::quantity::{Term, Timestamp};

const PREFIX: &str = "block-chain-recovery/";

/// What a recovery changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// The chain.
    pub chain: ChainId,
    /// When, by the coordinator's clock.
    pub at: Timestamp,
    /// The term before and after: the latter is above every term that was shown.
    pub term: (Term, Term),
    /// Blocks committed before and after.
    pub size: (u64, u64),
}

impl Recovery {
    /// The text, which the signature covers.
    #[must_use]
    pub fn text(&self) -> String {
        let Self {
            chain,
            at,
            term,
            size,
        } = self;
        format!(
            "{PREFIX}{chain}\nat {at}\nterm {} {}\nsize {} {}\n",
            term.0, term.1, size.0, size.1
        )
    }

    /// Signs as the coordinator.
    ///
    /// # Errors
    /// Never for the text of a recovery; the type is that of [`SignedNote::new`].
    pub fn sign(&self, key: &SecretKey) -> Result<SignedNote, NoteError> {
        let mut note = SignedNote::new(self.text())?;
        note.sign(&origin(&self.chain), key);
        Ok(note)
    }

    /// Reads a note and checks that the coordinator signed it for this chain.
    ///
    /// # Errors
    /// As for a checkpoint: CP-1 to CP-4.
    pub fn verify(note: &str, chain: &ChainId, coordinator: &PublicKey) -> Result<Self, CheckpointError> {
        let note = SignedNote::parse(note)?;
        let malformed = CheckpointError::Malformed("it is not a recovery in its one form");
        let recovery = Self::read(note.text()).ok_or(malformed)?;
        if recovery.chain != *chain {
            return Err(CheckpointError::Chain {
                found: recovery.chain,
                expected: *chain,
            });
        }
        if !note.is_signed_by(&origin(chain), coordinator) {
            return Err(CheckpointError::NotSigned { key: *coordinator });
        }
        Ok(recovery)
    }

    fn read(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.trim_end_matches('\n').split('\n').collect();
        let [chain, at, term, size] = *lines.as_slice() else {
            return None;
        };
        let pair = |line: &str, name: &str| -> Option<(u64, u64)> {
            let (before, after) = line.strip_prefix(name)?.split_once(' ')?;
            Some((before.parse().ok()?, after.parse().ok()?))
        };
        let term = pair(term, "term ")?;
        let read = Self {
            chain: chain.strip_prefix(PREFIX)?.parse().ok()?,
            at: Timestamp::new(at.strip_prefix("at ")?.parse().ok()?),
            term: (Term::new(term.0), Term::new(term.1)),
            size: pair(size, "size ")?,
        };
        (read.text() == text).then_some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::sha256;

    fn example() -> (Recovery, SecretKey) {
        let recovery = Recovery {
            chain: ChainId::from_bytes(sha256(&[b"chain"])),
            at: Timestamp::new(1_700_000_000_000),
            term: (Term::new(3), Term::new(9)),
            size: (7, 12),
        };
        (recovery, SecretKey::from_seed(&[4; 32]))
    }

    #[test]
    fn what_is_signed_is_read_again() {
        let (recovery, key) = example();
        let note = recovery.sign(&key).map(|note| note.to_string());
        let note = note.unwrap_or_default();
        assert_eq!(
            Recovery::verify(&note, &recovery.chain, &key.public_key()),
            Ok(recovery)
        );
    }

    #[test]
    fn another_chain_key_or_spelling_is_refused() {
        let (recovery, key) = example();
        let note = recovery.sign(&key).map(|note| note.to_string());
        let note = note.unwrap_or_default();
        let chain = ChainId::from_bytes(sha256(&[b"another"]));
        assert!(matches!(
            Recovery::verify(&note, &chain, &key.public_key()),
            Err(CheckpointError::Chain { .. })
        ));
        let other = SecretKey::from_seed(&[5; 32]).public_key();
        assert!(matches!(
            Recovery::verify(&note, &recovery.chain, &other),
            Err(CheckpointError::NotSigned { .. })
        ));
        for (from, to) in [("term 3", "term 03"), ("at 1", "at +1"), ("size 7 ", "size 7  ")] {
            let bad = Recovery::verify(&note.replace(from, to), &recovery.chain, &key.public_key());
            assert!(
                matches!(bad, Err(CheckpointError::Malformed(_))),
                "{from}: {bad:?}"
            );
        }
    }
}
