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
//! --- header
//! <the header that the second checkpoint covers where the first ends, in hex>
//! <the hashes of its inclusion proof, one a line, in hex>
//! --- end
//! ```
//! The header stands there where the two checkpoints cover different numbers of blocks.

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::codec::{decode, encode};
use crate::hash::{ChainId, Root};
use crate::header::Header;
use crate::history::verify_inclusion;
use crate::keys::PublicKey;
use crate::limits::{MAX_CHECKPOINT_BYTES, MAX_HEADER_BYTES};

const PREFIX: &str = "block-chain-evidence/";
const HEADER_LINE: &str = "--- header\n";
/// Hashes in an inclusion proof: one for each level of a tree of 2⁶⁴ leaves.
const MAX_PROOF_HASHES: usize = 64;
/// The largest file: two notes, a header and its proof in hex, and the lines around them.
pub const MAX_EVIDENCE_BYTES: usize =
    2 * MAX_CHECKPOINT_BYTES + 2 * MAX_HEADER_BYTES + 65 * MAX_PROOF_HASHES + 4_096;

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
    /// Where the second covers more blocks than the first: what shows that it does not cover the first's last block.
    pub header: Option<CoveredHeader>,
}

/// A header, and the proof that a checkpoint covers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoveredHeader {
    /// The header; its height is its place in the tree.
    pub header: Header,
    /// The inclusion proof (RFC 6962 section 2.1.1), from the leaf up.
    pub proof: Vec<Root>,
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
        /// Blocks that the first covers: the second covers others, or more and others.
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
    /// The header in it is not proven.
    #[error("the header of block {height} in it is not covered by its second checkpoint, of {size} blocks")]
    Header {
        /// The header's height.
        height: u64,
        /// Blocks that the second checkpoint covers.
        size: u64,
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
        let header = self.header.as_ref().map(CoveredHeader::to_lines);
        format!(
            "{PREFIX}{}\ncoordinator {}\nreason {}\n--- first\n{first}--- second\n{}{}--- end\n",
            self.chain,
            self.coordinator,
            self.reason.replace('\n', " "),
            self.second,
            header.unwrap_or_default()
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
        let rest = rest.strip_suffix("--- end\n").ok_or(Malformed("it has no end"))?;
        let (second, header) = match rest.split_once(HEADER_LINE) {
            Some((second, lines)) => {
                let header = CoveredHeader::from_lines(lines);
                (second, Some(header.ok_or(Malformed("the header and its proof"))?))
            }
            None => (rest, None),
        };
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
            header,
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
        let consistent = |first| EvidenceError::NoContradiction {
            first,
            second: second.size,
        };
        match &self.first {
            Statement::Note(note) => {
                let first = checkpoint("first", note)?;
                let contradict = match &self.header {
                    None => {
                        first.size == second.size && (first.root, first.block) != (second.root, second.block)
                    }
                    Some(covered) => {
                        let (height, size) = (covered.header.height.get(), second.size);
                        if !covered.is_in(&second) {
                            return Err(EvidenceError::Header { height, size });
                        }
                        first.size.checked_sub(1) == Some(height) && covered.header.hash() != first.block
                    }
                };
                if !contradict {
                    return Err(consistent(first.size));
                }
                Ok(Verdict::Contradiction {
                    size: first.size,
                    first,
                    second,
                })
            }
            Statement::Own(size, root)
                if *size == second.size && *root != second.root && self.header.is_none() =>
            {
                Ok(Verdict::WordOfOne { second, own: *root })
            }
            Statement::Own(size, _) => Err(consistent(*size)),
        }
    }
}

impl CoveredHeader {
    /// Whether the checkpoint covers this header, at its height.
    fn is_in(&self, checkpoint: &Checkpoint) -> bool {
        let path: Vec<[u8; 32]> = self.proof.iter().map(|hash| *hash.as_bytes()).collect();
        let (leaf, index) = (self.header.leaf_bytes(), self.header.height.get());
        verify_inclusion(&leaf, index, checkpoint.size, &path, &checkpoint.root)
    }

    fn to_lines(&self) -> String {
        let mut lines = format!("{HEADER_LINE}{}\n", hex::encode(encode(&self.header)));
        for hash in &self.proof {
            lines.push_str(&hash.to_string());
            lines.push('\n');
        }
        lines
    }

    fn from_lines(lines: &str) -> Option<Self> {
        let mut lines = lines.lines();
        let header = hex::decode(lines.next()?).ok()?;
        let proof: Option<Vec<Root>> = lines.map(|line| line.parse().ok()).collect();
        Some(Self {
            header: decode(&header).ok()?,
            proof: proof.filter(|proof| proof.len() <= MAX_PROOF_HASHES)?,
        })
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
        clippy::arithmetic_side_effects,
        reason = "a test that meets what it does not expect has failed"
    )]

    use super::*;
    use crate::hash::{BlockHash, Digest, sha256};
    use crate::header::Proof;
    use crate::history::{Frontier, HistoryNodes, NodePlace, prove_inclusion};
    use crate::keys::SecretKey;
    use crate::merkle::empty_root;
    use crate::quantity::{Height, Term, Timestamp};
    use std::collections::BTreeMap;

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
            header: None,
        }
    }

    /// Headers of a chain whose blocks from a height on are other ones.
    fn headers(other_from: u64) -> Vec<Header> {
        let mut previous = BlockHash::from_bytes([0; 32]);
        let header = |height: u64| {
            let header = Header {
                chain: ChainId::from_bytes(sha256(&[b"chain"])),
                height: Height::new(height),
                timestamp: Timestamp::new(if height < other_from {
                    height
                } else {
                    height + 1_000
                }),
                previous,
                transactions_root: empty_root(),
                transaction_count: 0,
                state_digest: Digest::from_bytes([4; 32]),
                history_root: empty_root(),
                producer: SecretKey::from_seed(&[1; 32]).public_key().address(),
                proof: Proof::Genesis,
            };
            previous = header.hash();
            header
        };
        (0..8).map(header).collect()
    }

    /// The tree over headers and its nodes; a checkpoint over the first so many.
    fn signed(headers: &[Header], size: usize) -> (String, BTreeMap<NodePlace, [u8; 32]>) {
        let mut frontier = Frontier::default();
        let mut nodes = BTreeMap::new();
        for header in &headers[..size] {
            nodes.extend(frontier.append(&header.leaf_bytes()));
        }
        let checkpoint = Checkpoint {
            chain: ChainId::from_bytes(sha256(&[b"chain"])),
            size: frontier.size(),
            root: frontier.root(),
            term: Term::new(1),
            block: headers[size - 1].hash(),
        };
        let key = SecretKey::from_seed(&[1; 32]);
        (checkpoint.sign(&key).unwrap().to_string(), nodes)
    }

    struct Nodes(BTreeMap<NodePlace, [u8; 32]>);

    impl HistoryNodes for Nodes {
        type Error = std::convert::Infallible;

        fn node(&self, place: NodePlace) -> Result<Option<[u8; 32]>, Self::Error> {
            Ok(self.0.get(&place).copied())
        }
    }

    /// A checkpoint of five blocks, and one of eight whose fifth block is another from `other_from` on.
    fn of_different_sizes(other_from: u64, shown: u64) -> Evidence {
        let (first, _) = signed(&headers(u64::MAX), 5);
        let others = headers(other_from);
        let (second, nodes) = signed(&others, 8);
        let proof = prove_inclusion(shown, 8, &Nodes(nodes)).unwrap();
        let header = CoveredHeader {
            header: others[usize::try_from(shown).unwrap()].clone(),
            proof: proof.into_iter().map(Root::from_bytes).collect(),
        };
        Evidence {
            header: Some(header),
            ..evidence(Statement::Note(first), second)
        }
    }

    #[test]
    fn a_later_checkpoint_without_the_earlier_ones_block_contradicts_it() {
        for other_from in [1, 3, 4] {
            let proof = of_different_sizes(other_from, 4);
            let read = Evidence::parse(&proof.to_text()).unwrap();
            assert_eq!(read, proof);
            assert!(matches!(read.judge(), Ok(Verdict::Contradiction { size: 5, .. })));
        }
    }

    #[test]
    fn a_header_that_proves_nothing_is_refused() {
        // The later checkpoint covers the earlier one's last block; or the header is another's; or its proof is.
        for harmless in [
            of_different_sizes(5, 4),
            of_different_sizes(3, 5),
            of_different_sizes(3, 3),
        ] {
            let judged = harmless.judge();
            assert!(matches!(
                judged,
                Err(EvidenceError::NoContradiction { first: 5, second: 8 })
            ));
        }
        let mut forged = of_different_sizes(3, 4);
        forged.header.as_mut().unwrap().header.transaction_count = 1;
        assert_eq!(forged.judge(), Err(EvidenceError::Header { height: 4, size: 8 }));
        let mut short = of_different_sizes(3, 4);
        short.header.as_mut().unwrap().proof.pop();
        assert_eq!(short.judge(), Err(EvidenceError::Header { height: 4, size: 8 }));
        let text = of_different_sizes(3, 4).to_text();
        let long = "0".repeat(64);
        assert!(Evidence::parse(&text.replace("--- end", &format!("{long}\n").repeat(70))).is_err());
        assert!(Evidence::parse(&text.replace("--- header\n", "--- header\n\n")).is_err());
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
