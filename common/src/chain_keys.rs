//! A chain's public keys as a file: what someone needs, besides a receipt, to know that it is final.
//!
//! ```text
//! block-chain keys v1
//! chain <id> <name>
//! coordinator <public key>
//! member <public key>                  one line a member, ascending
//! ```

use crate::hash::ChainId;
use crate::keys::PublicKey;
use crate::limits::{MAX_CHAIN_WORKERS, check_name};
use crate::lines::{BadLine, Lines};
use crate::receipt::TrustedKeys;

/// The longest file: 256 members of 72 bytes, and the lines before them.
pub const MAX_KEYS_BYTES: usize = 32_768;
const FIRST_LINE: &str = "block-chain keys v1";

/// The public keys of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainKeys {
    /// The chain's id.
    pub chain: ChainId,
    /// The chain's name.
    pub name: String,
    /// The key that signs its checkpoints.
    pub coordinator: PublicKey,
    members: Vec<PublicKey>,
}

/// Why a text is no such file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainKeysError {
    /// KEYS-1: its size is within the limit.
    #[error("KEYS-1: the file has {found} bytes, at most {MAX_KEYS_BYTES} are allowed")]
    TooLong {
        /// Bytes given.
        found: usize,
    },
    /// KEYS-2: it has the lines of such a file, in their order and their one form.
    #[error("KEYS-2: line {line} of the file is not {expected}")]
    Malformed {
        /// The line, from 1.
        line: usize,
        /// What should be there.
        expected: &'static str,
    },
    /// KEYS-3: it names 1 to 256 members.
    #[error("KEYS-3: the file names {found} members, 1 to {MAX_CHAIN_WORKERS} are allowed")]
    Members {
        /// Members named.
        found: usize,
    },
}

impl From<BadLine> for ChainKeysError {
    fn from(BadLine { line, expected }: BadLine) -> Self {
        Self::Malformed { line, expected }
    }
}

impl ChainKeys {
    /// The keys of a chain; members may come in any order, and doubled.
    ///
    /// # Errors
    /// KEYS-3.
    pub fn new(
        (chain, name): (ChainId, String),
        coordinator: PublicKey,
        mut members: Vec<PublicKey>,
    ) -> Result<Self, ChainKeysError> {
        members.sort_unstable();
        members.dedup();
        if members.is_empty() || members.len() > MAX_CHAIN_WORKERS {
            return Err(ChainKeysError::Members { found: members.len() });
        }
        Ok(Self {
            chain,
            name,
            coordinator,
            members,
        })
    }

    /// The members, ascending.
    #[must_use]
    pub fn members(&self) -> &[PublicKey] {
        &self.members
    }

    /// As what a receipt is verified with.
    #[must_use]
    pub fn trusted(&self) -> TrustedKeys {
        TrustedKeys {
            chain: self.chain,
            coordinator: self.coordinator,
            members: self.members.clone(),
        }
    }

    /// The file's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let members: String = self.members.iter().map(|key| format!("member {key}\n")).collect();
        format!(
            "{FIRST_LINE}\nchain {} {}\ncoordinator {}\n{members}",
            self.chain, self.name, self.coordinator
        )
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// KEYS-1 to KEYS-3.
    pub fn parse(text: &str) -> Result<Self, ChainKeysError> {
        if text.len() > MAX_KEYS_BYTES {
            return Err(ChainKeysError::TooLong { found: text.len() });
        }
        let mut lines = Lines::new(text);
        lines.exact(FIRST_LINE, "the first line of a file of a chain's keys")?;
        let chain = chain_line(&mut lines)?;
        let coordinator = lines.parsed("coordinator ", "`coordinator KEY`")?;
        let mut members = Vec::new();
        while !lines.rest().is_empty() {
            members.push(lines.parsed("member ", "`member KEY`")?);
        }
        let keys = Self::new(chain, coordinator, members)?;
        let written = keys.to_text();
        if written != text {
            return Err(Lines::first_difference(&written, text).into());
        }
        Ok(keys)
    }
}

/// `chain ID NAME`
pub(crate) fn chain_line(lines: &mut Lines<'_>) -> Result<(ChainId, String), BadLine> {
    const EXPECTED: &str = "`chain ID NAME`";
    let (id, name) = lines
        .value("chain ", EXPECTED)?
        .split_once(' ')
        .ok_or_else(|| lines.bad(EXPECTED))?;
    let id = id.parse().ok().ok_or_else(|| lines.bad(EXPECTED))?;
    check_name(name).ok().ok_or_else(|| lines.bad(EXPECTED))?;
    Ok((id, name.to_owned()))
}
