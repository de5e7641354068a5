//! Checkpoints: what the coordinator commits to, as C2SP `tlog-checkpoint` notes.
//!
//! ```text
//! block-chain/<chain id, 64 hex digits>
//! <number of blocks>
//! <base64 of the RFC 6962 root over all headers>
//! term <term of the leader that had it committed>
//! block <hash of the last block, 64 hex digits>
//! ```
//! The last two are extension lines. The coordinator signs as `block-chain/<chain id>`, workers cosign as
//! `block-chain-worker/<public key, 64 hex digits>`.

use crate::agreement::majority;
use crate::hash::{BlockHash, ChainId, Root};
use crate::keys::{PublicKey, SecretKey};
use crate::note::{NoteError, SignedNote};
use crate::quantity::{Height, Term};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeSet;

/// What a checkpoint says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The chain.
    pub chain: ChainId,
    /// The number of blocks committed, genesis included: the last one's height plus one.
    pub size: u64,
    /// The RFC 6962 root over their headers.
    pub root: Root,
    /// The term under which it was committed.
    pub term: Term,
    /// The last block.
    pub block: BlockHash,
}

/// A text that is not a checkpoint of this chain and coordinator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// CP-1: it is a signed note.
    #[error("CP-1: {0}")]
    Note(#[from] NoteError),
    /// CP-2: its text has the five lines of a checkpoint.
    #[error("CP-2: the checkpoint is malformed: {0}")]
    Malformed(&'static str),
    /// CP-3: it is signed by the chain's coordinator.
    #[error("CP-3: the checkpoint is not signed by the coordinator {key}")]
    NotSigned {
        /// The coordinator's key.
        key: PublicKey,
    },
    /// CP-4: it is for this chain.
    #[error("CP-4: the checkpoint is for chain {found}, this is chain {expected}")]
    Chain {
        /// The chain it names.
        found: ChainId,
        /// This chain.
        expected: ChainId,
    },
}

impl Checkpoint {
    /// The checkpoint's text, which the signatures cover.
    #[must_use]
    pub fn text(&self) -> String {
        let root = STANDARD.encode(self.root.as_bytes());
        format!(
            "{}\n{}\n{root}\nterm {}\nblock {}\n",
            origin(&self.chain),
            self.size,
            self.term,
            self.block
        )
    }

    /// The last committed block's height; `None` for a checkpoint of no blocks.
    #[must_use]
    pub const fn height(&self) -> Option<Height> {
        match self.size.checked_sub(1) {
            Some(height) => Some(Height::new(height)),
            None => None,
        }
    }

    /// Signs as the coordinator.
    ///
    /// # Errors
    /// Never for the text of a checkpoint; the type is that of [`SignedNote::new`].
    pub fn sign(&self, key: &SecretKey) -> Result<SignedNote, NoteError> {
        let mut note = SignedNote::new(self.text())?;
        note.sign(&origin(&self.chain), key);
        Ok(note)
    }

    /// Reads the text of a note, without judging signatures.
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`], with what is wrong.
    pub fn from_note(note: &SignedNote) -> Result<Self, CheckpointError> {
        use CheckpointError::Malformed;
        let lines: Vec<&str> = note.text().trim_end_matches('\n').split('\n').collect();
        let [origin, size, root, term, block] = *lines.as_slice() else {
            return Err(Malformed("it has not five lines"));
        };
        let chain = origin.strip_prefix(ORIGIN_PREFIX).and_then(|id| id.parse().ok());
        let root = STANDARD
            .decode(root)
            .ok()
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let checkpoint = Self {
            chain: chain.ok_or(Malformed("its origin is not block-chain/ and a chain's id"))?,
            size: size.parse().or(Err(Malformed("its size is not a number")))?,
            root: Root::from_bytes(root.ok_or(Malformed("its root is not 32 bytes of base64"))?),
            term: Term::new(number(term, "term ").ok_or(Malformed("its term is not a number"))?),
            block: block
                .strip_prefix("block ")
                .and_then(|h| h.parse().ok())
                .ok_or(Malformed("its block is no hash"))?,
        };
        // One text for one checkpoint: no leading zeros, upper-case hex or other spellings.
        if checkpoint.text() == note.text() {
            Ok(checkpoint)
        } else {
            Err(Malformed("it is not in its one form"))
        }
    }

    /// Reads a note and checks that the coordinator signed it for this chain (CP-1 to CP-4).
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn verify(
        note: &str,
        chain: &ChainId,
        coordinator: &PublicKey,
    ) -> Result<(Self, SignedNote), CheckpointError> {
        let note = SignedNote::parse(note)?;
        let checkpoint = Self::from_note(&note)?;
        if checkpoint.chain != *chain {
            return Err(CheckpointError::Chain {
                found: checkpoint.chain,
                expected: *chain,
            });
        }
        if !note.is_signed_by(&origin(chain), coordinator) {
            return Err(CheckpointError::NotSigned { key: *coordinator });
        }
        Ok((checkpoint, note))
    }
}

const ORIGIN_PREFIX: &str = "block-chain/";

/// The first line of a chain's checkpoints, and the name of the coordinator's key for it.
#[must_use]
pub fn origin(chain: &ChainId) -> String {
    format!("{ORIGIN_PREFIX}{chain}")
}

/// The name of a worker's key when it cosigns.
#[must_use]
pub fn witness_name(worker: &PublicKey) -> String {
    format!("block-chain-worker/{worker}")
}

/// Whether a majority of `members` has cosigned; a doubled member counts once.
#[must_use]
pub fn is_final(note: &SignedNote, members: &[PublicKey]) -> bool {
    let members: BTreeSet<&PublicKey> = members.iter().collect();
    let needed = majority(members.len());
    let names: BTreeSet<&str> = note.signatures().iter().map(|line| line.name.as_str()).collect();
    let named = members.into_iter().map(|key| (witness_name(key), key));
    let named: Vec<_> = named.filter(|(name, _)| names.contains(name.as_str())).collect();
    // Signatures are verified only where there are enough to decide it, and no more of them.
    let mut missing = needed;
    named.len() >= needed
        && named.iter().any(|(name, key)| {
            missing = missing.saturating_sub(usize::from(note.cosigned_by(name, key).is_some()));
            missing == 0
        })
}

fn number(line: &str, prefix: &str) -> Option<u64> {
    line.strip_prefix(prefix)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "a test that meets what it does not expect has failed"
    )]

    use super::*;

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed(&[seed; 32])
    }

    fn cosigned(by: &[u8]) -> SignedNote {
        let checkpoint = Checkpoint {
            chain: ChainId::from_bytes([1; 32]),
            size: 5,
            root: Root::from_bytes([2; 32]),
            term: Term::new(3),
            block: BlockHash::from_bytes([4; 32]),
        };
        let mut note = checkpoint.sign(&key(9)).unwrap();
        for seed in by {
            note.cosign(
                &witness_name(&key(*seed).public_key()),
                &key(*seed),
                1_700_000_000,
            );
        }
        note
    }

    #[test]
    fn a_majority_of_distinct_members_makes_final() {
        let members: Vec<_> = [1, 2, 3, 4].map(|seed| key(seed).public_key()).to_vec();
        assert!(is_final(&cosigned(&[1, 2, 4]), &members));
        assert!(
            !is_final(&cosigned(&[1, 2]), &members),
            "half is not more than half"
        );
        assert!(
            !is_final(&cosigned(&[1, 2, 7, 8]), &members),
            "strangers do not count"
        );
        assert!(!is_final(&cosigned(&[1, 2]), &[]), "nobody is no majority");
        let doubled = [1, 1, 1, 2].map(|seed| key(seed).public_key());
        assert!(is_final(&cosigned(&[1, 2]), &doubled) && !is_final(&cosigned(&[1]), &doubled));
    }

    #[test]
    fn lines_that_are_not_good_do_not_count() {
        let members: Vec<_> = [1, 2, 3].map(|seed| key(seed).public_key()).to_vec();
        let mut note = cosigned(&[1]);
        // Key 7 signs under the name of key 2; and key 1's line stands under that of key 3.
        note.cosign(&witness_name(&members[1]), &key(7), 1_700_000_000);
        let mut line = note.signatures()[1].clone();
        line.name = witness_name(&members[2]);
        note.add(line);
        assert!(!is_final(&note, &members));
        note.cosign(&witness_name(&members[1]), &key(2), 1_700_000_000);
        assert!(is_final(&note, &members));
    }
}
