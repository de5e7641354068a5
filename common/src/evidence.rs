//! Evidence that a coordinator has contradicted itself, in a file that anybody can judge: rule AGR-8.
//!
//! ```text
//! block-chain-evidence/<chain id, 64 hex digits>
//! coordinator <public key, 64 hex digits>
//! reason <one line>
//! --- first
//! <a checkpoint's note, or "own <blocks> <root>": what the worker's chain gives>
//! --- second
//! <a checkpoint's note>
//! --- end
//! ```

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::hash::{ChainId, Root};
use crate::keys::PublicKey;
use crate::limits::MAX_CHECKPOINT_BYTES;

const PREFIX: &str = "block-chain-evidence/";
/// The largest file: two notes and the lines around them.
pub const MAX_EVIDENCE_BYTES: usize = 2 * MAX_CHECKPOINT_BYTES + 4_096;

/// Two statements that cannot both be true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The chain.
    pub chain: ChainId,
    /// The key that is said to have signed both.
    pub coordinator: PublicKey,
    /// How they contradict each other, for people.
    pub reason: String,
    /// What was known first.
    pub first: Statement,
    /// The note that contradicts it.
    pub second: String,
}

/// What was known first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// A checkpoint's note.
    Note(String),
    /// What the worker's own chain gives for so many blocks.
    Own(u64, Root),
}

/// What evidence proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The coordinator has signed both: whoever knows its key needs to believe nobody else.
    Contradiction {
        /// Blocks that both cover.
        size: u64,
        /// The first checkpoint.
        first: Checkpoint,
        /// The second.
        second: Checkpoint,
    },
    /// The coordinator has signed a checkpoint that the worker's chain does not give: true if the worker is believed.
    WordOfOne {
        /// The checkpoint.
        second: Checkpoint,
        /// The root that the worker's chain gives for so many blocks.
        own: Root,
    },
}

/// A file that is no evidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// Too long.
    #[error("it has {found} bytes, evidence has at most {MAX_EVIDENCE_BYTES}")]
    TooLong {
        /// Bytes given.
        found: usize,
    },
    /// Not in its form.
    #[error("it is not evidence in its one form: {0}")]
    Malformed(&'static str),
    /// A checkpoint in it is not the coordinator's.
    #[error("its {which} checkpoint proves nothing: {error}")]
    Checkpoint {
        /// First or second.
        which: &'static str,
        /// Why.
        error: CheckpointError,
    },
    /// They can both be true.
    #[error("its checkpoints, of {first} and {second} blocks, do not contradict each other")]
    NoContradiction {
        /// Blocks that the first covers.
        first: u64,
        /// Blocks that the second covers.
        second: u64,
    },
}

impl Evidence {
    /// Whether a text begins like evidence.
    #[must_use]
    pub fn is_begun_by(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// The file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let first = match &self.first {
            Statement::Note(note) => note.clone(),
            Statement::Own(size, root) => format!("own {size} {root}\n"),
        };
        format!(
            "{PREFIX}{}\ncoordinator {}\nreason {}\n--- first\n{first}--- second\n{}--- end\n",
            self.chain,
            self.coordinator,
            self.reason.replace('\n', " "),
            self.second
        )
    }

    /// Reads a file, without judging it.
    ///
    /// # Errors
    /// Where it is too long or not in its form.
    pub fn parse(text: &str) -> Result<Self, EvidenceError> {
        use EvidenceError::Malformed;
        if text.len() > MAX_EVIDENCE_BYTES {
            return Err(EvidenceError::TooLong { found: text.len() });
        }
        let (head, rest) = text
            .split_once("--- first\n")
            .ok_or(Malformed("it has no first part"))?;
        let (first, rest) = rest
            .split_once("--- second\n")
            .ok_or(Malformed("it has no second part"))?;
        let second = rest.strip_suffix("--- end\n").ok_or(Malformed("it has no end"))?;
        let mut lines = head.lines();
        let mut field = |name: &str| lines.next()?.strip_prefix(name);
        let chain = field(PREFIX).and_then(|id| id.parse().ok());
        let coordinator = field("coordinator ").and_then(|key| key.parse().ok());
        let reason = field("reason ").ok_or(Malformed("it gives no reason"))?;
        let read = Self {
            chain: chain.ok_or(Malformed("it names no chain"))?,
            coordinator: coordinator.ok_or(Malformed("it names no coordinator"))?,
            reason: reason.to_owned(),
            first: match first.strip_prefix("own ") {
                Some(own) => own_statement(own).ok_or(Malformed("what the worker's chain gives"))?,
                None => Statement::Note(first.to_owned()),
            },
            second: second.to_owned(),
        };
        if read.to_text() == text {
            Ok(read)
        } else {
            Err(Malformed("it is spelled in another way"))
        }
    }

    /// What it proves, by the signatures alone.
    ///
    /// # Errors
    /// Where a checkpoint is not signed by the coordinator for this chain, or both can be true.
    pub fn judge(&self) -> Result<Verdict, EvidenceError> {
        let checkpoint = |which, note: &str| {
            Checkpoint::verify(note, &self.chain, &self.coordinator)
                .map(|(checkpoint, _)| checkpoint)
                .map_err(|error| EvidenceError::Checkpoint { which, error })
        };
        let second = checkpoint("second", &self.second)?;
        match &self.first {
            Statement::Note(note) => {
                let first = checkpoint("first", note)?;
                let same = (first.root, first.block) == (second.root, second.block);
                if first.size != second.size || same {
                    return Err(EvidenceError::NoContradiction {
                        first: first.size,
                        second: second.size,
                    });
                }
                Ok(Verdict::Contradiction {
                    size: first.size,
                    first,
                    second,
                })
            }
            Statement::Own(size, root) if *size == second.size && *root != second.root => {
                Ok(Verdict::WordOfOne { second, own: *root })
            }
            Statement::Own(size, _) => Err(EvidenceError::NoContradiction {
                first: *size,
                second: second.size,
            }),
        }
    }
}

fn own_statement(text: &str) -> Option<Statement> {
    let (size, root) = text.strip_suffix('\n')?.split_once(' ')?;
    Some(Statement::Own(size.parse().ok()?, root.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "a test that meets what it does not expect has failed"
    )]

    use super::*;
    use crate::hash::{BlockHash, sha256};
    use crate::keys::SecretKey;
    use crate::quantity::Term;

    fn note(key: &SecretKey, size: u64, root: u8) -> String {
        let checkpoint = Checkpoint {
            chain: ChainId::from_bytes(sha256(&[b"chain"])),
            size,
            root: Root::from_bytes([root; 32]),
            term: Term::new(1),
            block: BlockHash::from_bytes([7; 32]),
        };
        checkpoint.sign(key).unwrap().to_string()
    }

    fn evidence(first: Statement, second: String) -> Evidence {
        Evidence {
            chain: ChainId::from_bytes(sha256(&[b"chain"])),
            coordinator: SecretKey::from_seed(&[1; 32]).public_key(),
            reason: "two checkpoints of 5 blocks differ".to_owned(),
            first,
            second,
        }
    }

    #[test]
    fn two_checkpoints_of_one_size_contradict_each_other() {
        let key = SecretKey::from_seed(&[1; 32]);
        let proof = evidence(Statement::Note(note(&key, 5, 1)), note(&key, 5, 2));
        let read = Evidence::parse(&proof.to_text()).unwrap();
        assert_eq!(read, proof);
        assert!(matches!(read.judge(), Ok(Verdict::Contradiction { size: 5, .. })));
    }

    #[test]
    fn what_can_both_be_true_proves_nothing() {
        let key = SecretKey::from_seed(&[1; 32]);
        for second in [note(&key, 5, 1), note(&key, 6, 2)] {
            let judged = evidence(Statement::Note(note(&key, 5, 1)), second).judge();
            assert!(matches!(judged, Err(EvidenceError::NoContradiction { .. })));
        }
        let own = Statement::Own(5, Root::from_bytes([1; 32]));
        assert!(evidence(own, note(&key, 5, 1)).judge().is_err());
    }

    #[test]
    fn what_another_has_signed_proves_nothing() {
        let (key, other) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
        let judged = evidence(Statement::Note(note(&key, 5, 1)), note(&other, 5, 2)).judge();
        assert!(matches!(
            judged,
            Err(EvidenceError::Checkpoint { which: "second", .. })
        ));
    }

    #[test]
    fn the_workers_own_chain_is_the_word_of_one() {
        let key = SecretKey::from_seed(&[1; 32]);
        let own = evidence(Statement::Own(5, Root::from_bytes([1; 32])), note(&key, 5, 2));
        let read = Evidence::parse(&own.to_text()).unwrap();
        assert!(matches!(read.judge(), Ok(Verdict::WordOfOne { .. })));
    }

    #[test]
    fn other_spellings_are_refused() {
        let key = SecretKey::from_seed(&[1; 32]);
        let text = evidence(Statement::Note(note(&key, 5, 1)), note(&key, 5, 2)).to_text();
        for bad in [
            text.replacen("coordinator ", "coordinator  ", 1),
            text.replacen("--- second", "--- third", 1),
            format!("{text}\n"),
            text.replacen("reason", "cause", 1),
            "x".repeat(MAX_EVIDENCE_BYTES + 1),
        ] {
            assert!(Evidence::parse(&bad).is_err());
        }
    }
}
