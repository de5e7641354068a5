//! Receipts: one text file that proves one transaction, offline, with nothing but the file and the chain's public keys.
//!
//! ```text
//! block-chain receipt v1
//! chain <id> <name>
//! coordinator <public key>
//! member <public key>                  one line a member of the chain when the receipt was made
//! transaction <hex of the encoded transaction>
//! header <hex of the encoded header>
//! index <place> <count>                the transaction among its block's
//! path <hash> …                        its siblings in the block's Merkle tree, from the leaf up
//! history <hash> …                     the header's siblings in the history tree, from the leaf up
//!                                      an empty line, then the checkpoint: a C2SP signed note with cosignatures
//! ```

use crate::agreement::majority;
use crate::chain_keys::chain_line;
use crate::checkpoint::{Checkpoint, CheckpointError, witness_name};
use crate::codec::{DecodeError, decode, encode};
use crate::hash::{BlockHash, ChainId, TxId};
use crate::header::Header;
use crate::history::verify_inclusion;
use crate::keys::{Address, PublicKey};
use crate::limits::{MAX_CHAIN_WORKERS, MAX_CHECKPOINT_BYTES, MAX_TRANSACTION_BYTES};
use crate::lines::{BadLine, Lines};
use crate::merkle::TransactionProof;
use crate::note::SignedNote;
use crate::quantity::{Height, Timestamp};
use crate::transaction::{CheckedTransaction, Transaction, TransactionError};
use std::collections::BTreeSet;

/// The longest receipt: the largest transaction in hex, its proofs, 256 members, and a checkpoint they have cosigned.
pub const MAX_RECEIPT_BYTES: usize = MAX_TRANSACTION_BYTES
    .saturating_mul(2)
    .saturating_add(MAX_CHECKPOINT_BYTES)
    .saturating_add(65_536);
/// Hashes of one path: 64 levels are more than any tree has.
const MAX_PATH: usize = 64;
const FIRST_LINE: &str = "block-chain receipt v1";

/// A receipt. Not yet verified: see [`Receipt::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The chain's id.
    pub chain: ChainId,
    /// The chain's name.
    pub chain_name: String,
    /// The key that signs the chain's checkpoints.
    pub coordinator: PublicKey,
    /// The chain's members when the receipt was made.
    pub members: Vec<PublicKey>,
    /// The transaction.
    pub transaction: Transaction,
    /// The header of its block.
    pub header: Header,
    /// That it stands in that block.
    pub proof: TransactionProof,
    /// That the block stands in the checkpoint's tree.
    pub history: Vec<[u8; 32]>,
    /// The checkpoint.
    pub checkpoint: String,
}

/// Keys that the reader knows from elsewhere: [`ChainKeys`](crate::chain_keys::ChainKeys) reads them from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKeys {
    /// The chain.
    pub chain: ChainId,
    /// The key that signs its checkpoints.
    pub coordinator: PublicKey,
    /// Its members, doubled ones counting once; none where the reader does not know them.
    pub members: Vec<PublicKey>,
}

/// How far what a receipt proves depends on what the file itself says. The later, the less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// No key is trusted: whoever holds those that the file names says so.
    Claimed,
    /// The trusted coordinator has committed it. Who the members are that have cosigned it, only the file says.
    Committed,
    /// And a majority of the members that the reader trusts has cosigned it.
    Final,
}

impl Standing {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Committed => "committed",
            Self::Final => "final",
        }
    }
}

/// A member whose cosignature under the checkpoint is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cosigner {
    /// Whose it is.
    pub key: PublicKey,
    /// When it was made, by the member's clock, in seconds since 1970.
    pub unix_seconds: u64,
    /// Whether the reader trusts the key.
    pub trusted: bool,
}

/// What a receipt proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// How far it is proven.
    pub standing: Standing,
    /// The transaction.
    pub id: TxId,
    /// What it does: the payload's name.
    pub kind: &'static str,
    /// Who signed it.
    pub sender: Address,
    /// Its block's height.
    pub height: Height,
    /// Its block.
    pub block: BlockHash,
    /// When its block was made.
    pub timestamp: Timestamp,
    /// Blocks that the checkpoint covers.
    pub checkpoint_size: u64,
    /// Who has cosigned the checkpoint, of the members that the file names and those that the reader trusts; by key.
    pub cosigners: Vec<Cosigner>,
    /// Cosignatures that count: of trusted members where the reader knows any, else of those that the file names.
    pub cosignatures: usize,
    /// Of how many members.
    pub members: usize,
    /// How many of them make a majority.
    pub needed: usize,
}

/// Why a text is no receipt, or proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// RCP-1: its size is within the limit.
    #[error("RCP-1: the receipt has {found} bytes, at most {MAX_RECEIPT_BYTES} are allowed")]
    TooLong {
        /// Bytes given.
        found: usize,
    },
    /// RCP-2: it has the lines of a receipt, in their order.
    #[error("RCP-2: line {line} of the receipt is not {expected}")]
    Malformed {
        /// The line, from 1.
        line: usize,
        /// What should be there.
        expected: &'static str,
    },
    /// RCP-3: transaction and header are decodable.
    #[error("RCP-3: {0}")]
    Decode(#[from] DecodeError),
    /// RCP-4: it is for the chain and coordinator that the reader trusts.
    #[error("RCP-4: the receipt is for {found}, {trusted} is trusted")]
    Untrusted {
        /// What it names.
        found: String,
        /// What the reader knows.
        trusted: String,
    },
    /// RCP-5: the transaction is valid in itself.
    #[error("RCP-5: {0}")]
    Transaction(#[from] TransactionError),
    /// RCP-6: the transaction stands in the block.
    #[error("RCP-6: the transaction is not among those of block {height}")]
    NotInBlock {
        /// The block.
        height: Height,
    },
    /// RCP-7: the block stands in the checkpoint's tree.
    #[error("RCP-7: block {height} is not among the {size} blocks of the checkpoint")]
    NotInCheckpoint {
        /// The block.
        height: Height,
        /// Blocks of the checkpoint.
        size: u64,
    },
    /// RCP-8: the coordinator signed the checkpoint.
    #[error("RCP-8: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// RCP-9: a majority of the members has cosigned the checkpoint.
    #[error("RCP-9: {found} members have cosigned the checkpoint, {needed} are needed")]
    NotFinal {
        /// Members that have.
        found: usize,
        /// A majority.
        needed: usize,
    },
    /// RCP-10: where the reader trusts members, a majority of them has cosigned the checkpoint.
    #[error(
        "RCP-10: {found} of the {known} trusted members have cosigned the checkpoint, {needed} are needed"
    )]
    NotFinalToReader {
        /// Trusted members that have.
        found: usize,
        /// Trusted members.
        known: usize,
        /// A majority of them.
        needed: usize,
    },
}

impl From<BadLine> for ReceiptError {
    fn from(BadLine { line, expected }: BadLine) -> Self {
        Self::Malformed { line, expected }
    }
}

impl Receipt {
    /// The file's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let hashes = |path: &[[u8; 32]]| {
            path.iter()
                .map(|hash| format!(" {}", hex::encode(hash)))
                .collect::<String>()
        };
        let members: String = self.members.iter().map(|key| format!("member {key}\n")).collect();
        format!(
            "{FIRST_LINE}\nchain {} {}\ncoordinator {}\n{members}transaction {}\nheader {}\nindex {} {}\npath{}\nhistory{}\n\n{}",
            self.chain,
            self.chain_name,
            self.coordinator,
            hex::encode(encode(&self.transaction)),
            hex::encode(encode(&self.header)),
            self.proof.index,
            self.proof.count,
            hashes(&self.proof.path),
            hashes(&self.history),
            self.checkpoint,
        )
    }

    /// Reads a file's text; nothing in it is verified yet.
    ///
    /// # Errors
    /// RCP-1 to RCP-3.
    pub fn parse(text: &str) -> Result<Self, ReceiptError> {
        if text.len() > MAX_RECEIPT_BYTES {
            return Err(ReceiptError::TooLong { found: text.len() });
        }
        let mut lines = Lines::new(text);
        lines.exact(FIRST_LINE, "the first line of a receipt")?;
        let (chain, chain_name) = chain_line(&mut lines)?;
        let coordinator = lines.parsed("coordinator ", "`coordinator KEY`")?;
        let mut members = Vec::new();
        while let Some(member) = lines.optional("member ") {
            members.push(member.parse().ok().ok_or_else(|| lines.bad("`member KEY`"))?);
            if members.len() > MAX_CHAIN_WORKERS {
                return Err(lines.bad("one of at most 256 members").into());
            }
        }
        let transaction = decode(&lines.hex("transaction ", "`transaction HEX`")?)?;
        let header = decode(&lines.hex("header ", "`header HEX`")?)?;
        let numbers = lines
            .value("index ", "`index PLACE COUNT`")?
            .split_once(' ')
            .and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        let (index, count) = numbers.ok_or_else(|| lines.bad("`index PLACE COUNT`"))?;
        let path = hashes(&mut lines, "path", "`path HASH …`")?;
        let history = hashes(&mut lines, "history", "`history HASH …`")?;
        lines.exact("", "an empty line")?;
        let checkpoint = lines.rest().to_owned();
        let proof = TransactionProof { index, count, path };
        let receipt = Self {
            chain,
            chain_name,
            coordinator,
            members,
            transaction,
            header,
            proof,
            history,
            checkpoint,
        };
        // One text for one receipt: no upper-case hex, signs or leading zeros.
        let written = receipt.to_text();
        if written != text {
            return Err(Lines::first_difference(&written, text).into());
        }
        Ok(receipt)
    }

    /// Follows the proof from the transaction to the checkpoint and its signatures. What is left to the file's own word is
    /// said by [`Verified::standing`].
    ///
    /// # Errors
    /// The first of RCP-4 to RCP-10 that does not hold.
    pub fn verify(&self, trusted: Option<&TrustedKeys>) -> Result<Verified, ReceiptError> {
        if let Some(trusted) = trusted {
            self.check_source(trusted)?;
        }
        let checked = CheckedTransaction::check(self.transaction.clone(), self.chain)?;
        let height = self.header.height;
        let is_of_chain =
            self.header.chain == self.chain && self.header.transaction_count == self.proof.count;
        if !is_of_chain || !self.proof.verify(&checked.id(), &self.header.transactions_root) {
            return Err(ReceiptError::NotInBlock { height });
        }
        let (checkpoint, note) = Checkpoint::verify(&self.checkpoint, &self.chain, &self.coordinator)?;
        let (leaf, size) = (self.header.leaf_bytes(), checkpoint.size);
        if !verify_inclusion(&leaf, height.get(), size, &self.history, &checkpoint.root) {
            return Err(ReceiptError::NotInCheckpoint { height, size });
        }
        let quorum = self.check_cosignatures(&note, trusted.map_or(&[], |trusted| &trusted.members))?;
        Ok(Verified {
            standing: match trusted {
                None => Standing::Claimed,
                Some(trusted) if trusted.members.is_empty() => Standing::Committed,
                Some(_) => Standing::Final,
            },
            id: checked.id(),
            kind: self.transaction.payload.kind(),
            sender: self.transaction.sender.address(),
            height,
            block: self.header.hash(),
            timestamp: self.header.timestamp,
            checkpoint_size: size,
            cosigners: quorum.cosigners,
            cosignatures: quorum.found,
            members: quorum.members,
            needed: quorum.needed,
        })
    }

    fn check_source(&self, trusted: &TrustedKeys) -> Result<(), ReceiptError> {
        if (trusted.chain, trusted.coordinator) == (self.chain, self.coordinator) {
            return Ok(());
        }
        let show = |chain: &ChainId, key: &PublicKey| format!("chain {chain} of coordinator {key}");
        Err(ReceiptError::Untrusted {
            found: show(&self.chain, &self.coordinator),
            trusted: show(&trusted.chain, &trusted.coordinator),
        })
    }

    /// RCP-9 and RCP-10. The file may name fewer members than the reader trusts, or more: neither changes what is needed of
    /// those that the reader trusts.
    fn check_cosignatures(&self, note: &SignedNote, trusted: &[PublicKey]) -> Result<Quorum, ReceiptError> {
        let named: BTreeSet<&PublicKey> = self.members.iter().collect();
        let known: BTreeSet<&PublicKey> = trusted.iter().collect();
        let signed = |key: &&PublicKey| note.cosigned_by(&witness_name(key), key);
        let cosigners: Vec<Cosigner> = named
            .union(&known)
            .filter_map(|key| {
                Some(Cosigner {
                    key: **key,
                    unix_seconds: signed(key)?,
                    trusted: known.contains(key),
                })
            })
            .collect();
        let count = |of: &BTreeSet<&PublicKey>| cosigners.iter().filter(|c| of.contains(&c.key)).count();
        let (found, needed) = (count(&named), majority(self.members.len()));
        if found < needed {
            return Err(ReceiptError::NotFinal { found, needed });
        }
        if known.is_empty() {
            let members = named.len();
            return Ok(Quorum {
                cosigners,
                found,
                members,
                needed,
            });
        }
        let (found, needed, members) = (count(&known), majority(known.len()), known.len());
        if found < needed {
            return Err(ReceiptError::NotFinalToReader {
                found,
                known: members,
                needed,
            });
        }
        Ok(Quorum {
            cosigners,
            found,
            members,
            needed,
        })
    }
}

/// The members that were counted, and those that have cosigned.
struct Quorum {
    cosigners: Vec<Cosigner>,
    found: usize,
    members: usize,
    needed: usize,
}

fn hashes(lines: &mut Lines<'_>, name: &str, expected: &'static str) -> Result<Vec<[u8; 32]>, BadLine> {
    let text = lines.value(name, expected)?;
    let mut path = Vec::new();
    for word in text.split(' ').skip(1) {
        let mut hash = [0; 32];
        hex::decode_to_slice(word, &mut hash)
            .ok()
            .ok_or_else(|| lines.bad(expected))?;
        path.push(hash);
        if path.len() > MAX_PATH {
            return Err(lines.bad("a path of at most 64 hashes"));
        }
    }
    Ok(path)
}
