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
use crate::checkpoint::{Checkpoint, CheckpointError, count_cosignatures};
use crate::codec::{DecodeError, decode, encode};
use crate::hash::{BlockHash, ChainId, TxId};
use crate::header::Header;
use crate::history::verify_inclusion;
use crate::keys::{Address, PublicKey};
use crate::limits::{MAX_CHAIN_WORKERS, MAX_CHECKPOINT_BYTES, MAX_TRANSACTION_BYTES, check_name};
use crate::merkle::TransactionProof;
use crate::quantity::{Height, Timestamp};
use crate::transaction::{CheckedTransaction, Transaction, TransactionError};

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

/// Keys that the reader knows from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKeys {
    /// The chain.
    pub chain: ChainId,
    /// The key that signs its checkpoints.
    pub coordinator: PublicKey,
}

/// What a receipt proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The transaction.
    pub id: TxId,
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
    /// Members that have cosigned the checkpoint.
    pub cosignatures: usize,
    /// Members that make a majority.
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
        let mut lines = Lines {
            rest: text,
            number: 0,
        };
        lines.value(FIRST_LINE, "the first line of a receipt")?;
        let chain = lines.value("chain ", "`chain ID NAME`")?;
        let (chain, chain_name) = chain
            .split_once(' ')
            .ok_or_else(|| lines.malformed("`chain ID NAME`"))?;
        let chain = chain
            .parse()
            .ok()
            .ok_or_else(|| lines.malformed("`chain ID NAME`"))?;
        check_name(chain_name)
            .ok()
            .ok_or_else(|| lines.malformed("`chain ID NAME`"))?;
        let coordinator = lines.value("coordinator ", "`coordinator KEY`")?;
        let coordinator = coordinator
            .parse()
            .ok()
            .ok_or_else(|| lines.malformed("`coordinator KEY`"))?;
        let mut members = Vec::new();
        while let Some(member) = lines.optional("member ") {
            members.push(
                member
                    .parse()
                    .ok()
                    .ok_or_else(|| lines.malformed("`member KEY`"))?,
            );
            if members.len() > MAX_CHAIN_WORKERS {
                return Err(lines.malformed("one of at most 256 members"));
            }
        }
        let transaction = decode(&lines.hex("transaction ", "`transaction HEX`")?)?;
        let header = decode(&lines.hex("header ", "`header HEX`")?)?;
        let place = lines.value("index ", "`index PLACE COUNT`")?;
        let numbers = place
            .split_once(' ')
            .and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        let (index, count) = numbers.ok_or_else(|| lines.malformed("`index PLACE COUNT`"))?;
        let path = lines.path("path", "`path HASH …`")?;
        let history = lines.path("history", "`history HASH …`")?;
        lines.value("", "an empty line")?;
        let checkpoint = lines.rest.to_owned();
        let proof = TransactionProof { index, count, path };
        let chain_name = chain_name.to_owned();
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
        receipt.check_form(text)?;
        Ok(receipt)
    }

    /// One text for one receipt: no upper-case hex, signs or leading zeros.
    fn check_form(&self, text: &str) -> Result<(), ReceiptError> {
        let written = self.to_text();
        if written == text {
            return Ok(());
        }
        let same = written.lines().zip(text.lines()).take_while(|(a, b)| a == b);
        Err(ReceiptError::Malformed {
            line: same.count().saturating_add(1),
            expected: "in its one form",
        })
    }

    /// Follows the proof from the transaction to the checkpoint and its signatures. Without `trusted` the keys in the file
    /// itself are taken: then it proves only that whoever holds those keys says so.
    ///
    /// # Errors
    /// The first of RCP-4 to RCP-9 that does not hold.
    pub fn verify(&self, trusted: Option<&TrustedKeys>) -> Result<Verified, ReceiptError> {
        if let Some(trusted) = trusted
            && (trusted.chain != self.chain || trusted.coordinator != self.coordinator)
        {
            let show = |chain: &ChainId, key: &PublicKey| format!("chain {chain} of coordinator {key}");
            let (found, known) = (
                show(&self.chain, &self.coordinator),
                show(&trusted.chain, &trusted.coordinator),
            );
            return Err(ReceiptError::Untrusted {
                found,
                trusted: known,
            });
        }
        let checked = CheckedTransaction::check(self.transaction.clone(), self.chain)?;
        let height = self.header.height;
        let is_of_chain =
            self.header.chain == self.chain && self.header.transaction_count == self.proof.count;
        if !is_of_chain || !self.proof.verify(&checked.id(), &self.header.transactions_root) {
            return Err(ReceiptError::NotInBlock { height });
        }
        let (checkpoint, note) = Checkpoint::verify(&self.checkpoint, &self.chain, &self.coordinator)?;
        let leaf = self.header.leaf_bytes();
        if !verify_inclusion(
            &leaf,
            height.get(),
            checkpoint.size,
            &self.history,
            &checkpoint.root,
        ) {
            return Err(ReceiptError::NotInCheckpoint {
                height,
                size: checkpoint.size,
            });
        }
        let found = count_cosignatures(&note, &self.members);
        let needed = majority(self.members.len());
        if found < needed {
            return Err(ReceiptError::NotFinal { found, needed });
        }
        Ok(Verified {
            id: checked.id(),
            sender: self.transaction.sender.address(),
            height,
            block: self.header.hash(),
            timestamp: self.header.timestamp,
            checkpoint_size: checkpoint.size,
            cosignatures: found,
            needed,
        })
    }
}

struct Lines<'a> {
    rest: &'a str,
    number: usize,
}

impl<'a> Lines<'a> {
    fn malformed(&self, expected: &'static str) -> ReceiptError {
        ReceiptError::Malformed {
            line: self.number,
            expected,
        }
    }

    /// The next line without its prefix, if it has it.
    fn optional(&mut self, prefix: &str) -> Option<&'a str> {
        let (line, rest) = self.rest.split_once('\n')?;
        let value = line.strip_prefix(prefix)?;
        self.rest = rest;
        self.number = self.number.saturating_add(1);
        Some(value)
    }

    fn value(&mut self, prefix: &str, expected: &'static str) -> Result<&'a str, ReceiptError> {
        let next = self.number.saturating_add(1);
        let exact = prefix.is_empty() || prefix == FIRST_LINE;
        match self.optional(prefix) {
            Some(value) if !exact || value.is_empty() => Ok(value),
            _ => Err(ReceiptError::Malformed { line: next, expected }),
        }
    }

    fn hex(&mut self, prefix: &str, expected: &'static str) -> Result<Vec<u8>, ReceiptError> {
        let text = self.value(prefix, expected)?;
        hex::decode(text).ok().ok_or_else(|| self.malformed(expected))
    }

    fn path(&mut self, prefix: &str, expected: &'static str) -> Result<Vec<[u8; 32]>, ReceiptError> {
        let text = self.value(prefix, expected)?;
        let mut path = Vec::new();
        for word in text.split(' ').skip(1) {
            let mut hash = [0; 32];
            hex::decode_to_slice(word, &mut hash)
                .ok()
                .ok_or_else(|| self.malformed(expected))?;
            path.push(hash);
            if path.len() > MAX_PATH {
                return Err(self.malformed("a path of at most 64 hashes"));
            }
        }
        Ok(path)
    }
}
