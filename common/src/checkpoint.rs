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

use crate::hash::{BlockHash, ChainId, Root};
use crate::keys::{PublicKey, SecretKey};
use crate::note::{NoteError, SignedNote};
use crate::quantity::{Height, Term};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

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

/// How many of `members` have cosigned; a doubled member counts once.
#[must_use]
pub fn count_cosignatures(note: &SignedNote, members: &[PublicKey]) -> usize {
    let distinct: std::collections::BTreeSet<&PublicKey> = members.iter().collect();
    distinct
        .into_iter()
        .filter(|key| note.cosigned_by(&witness_name(key), key).is_some())
        .count()
}

fn number(line: &str, prefix: &str) -> Option<u64> {
    line.strip_prefix(prefix)?.parse().ok()
}
