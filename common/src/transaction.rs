//! Transactions: what a sender signs, and the payloads it can carry.

use crate::codec::{BoundedBytes, Format, USUAL_BYTES, append, encode};
use crate::hash::{ChainId, TxId, sha256};
use crate::keys::{Address, PublicKey, SecretKey, Signature, SignedMessage};
use crate::limits::{MAX_KEY_BYTES, MAX_MEMO_BYTES, MAX_TRANSACTION_BYTES, MAX_VALUE_BYTES, MIN_KEY_BYTES};
use crate::quantity::{Amount, Nonce};
use borsh::{BorshDeserialize, BorshSerialize};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Stands before the bytes that a transaction's signature covers, so that no other signature of ours can be one.
const SIGNING_DOMAIN: &[u8] = b"block-chain/transaction\0";

/// A record's key: 1 to 1,024 bytes.
pub type RecordKey = BoundedBytes<MIN_KEY_BYTES, MAX_KEY_BYTES>;
/// A record's value, or a message: up to 1 MiB.
pub type RecordValue = BoundedBytes<0, MAX_VALUE_BYTES>;
/// A transfer's memo: up to 256 bytes.
pub type Memo = BoundedBytes<0, MAX_MEMO_BYTES>;

/// What an address may do on a chain.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Role {
    /// Grants and revokes roles.
    Admin = 0,
    /// Deposits: makes new units.
    Issue = 1,
    /// Sends transactions.
    Write = 2,
    /// Produces blocks.
    Mine = 3,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Admin => "admin",
            Self::Issue => "issue",
            Self::Write => "write",
            Self::Mine => "mine",
        })
    }
}

/// What a transaction does.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Payload {
    /// Sets a key's value; the earlier values stay readable as its history.
    Put {
        /// The key.
        key: RecordKey,
        /// The value, any bytes.
        value: RecordValue,
    } = 0,
    /// Puts bytes on the chain under no key.
    Message {
        /// The message, any bytes.
        bytes: RecordValue,
    } = 1,
    /// Moves units from the sender to an address.
    Transfer {
        /// Who receives.
        to: Address,
        /// How much, at least 1.
        amount: Amount,
        /// A note for people.
        memo: Memo,
    } = 2,
    /// Makes new units (role `issue`).
    Deposit {
        /// Who receives.
        to: Address,
        /// How much, at least 1.
        amount: Amount,
    } = 3,
    /// Locks units of the sender as stake.
    Stake {
        /// How much, at least 1.
        amount: Amount,
    } = 4,
    /// Releases units of the sender's stake, after the blocks that the chain's spec says.
    Unstake {
        /// How much, at least 1.
        amount: Amount,
    } = 5,
    /// Gives a role (role `admin`).
    Grant {
        /// Who receives the role.
        address: Address,
        /// The role.
        role: Role,
    } = 6,
    /// Takes a role away (role `admin`).
    Revoke {
        /// Who loses the role.
        address: Address,
        /// The role.
        role: Role,
    } = 7,
}

impl Payload {
    /// The payload's name in JSON, tables and SQL.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Put { .. } => "put",
            Self::Message { .. } => "message",
            Self::Transfer { .. } => "transfer",
            Self::Deposit { .. } => "deposit",
            Self::Stake { .. } => "stake",
            Self::Unstake { .. } => "unstake",
            Self::Grant { .. } => "grant",
            Self::Revoke { .. } => "revoke",
        }
    }
}

/// A signed transaction. Not yet checked: see [`CheckedTransaction`].
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Transaction {
    /// The chain it is for; it is refused on every other.
    pub chain: ChainId,
    /// Who signs.
    pub sender: PublicKey,
    /// How many transactions the sender had on this chain before.
    pub nonce: Nonce,
    /// What it does.
    pub payload: Payload,
    /// Over [`Transaction::signing_bytes`].
    pub signature: Signature,
}

impl Format for Transaction {
    const NAME: &'static str = "transaction";
    const VERSION: u8 = 1;
    const MAX_BYTES: usize = MAX_TRANSACTION_BYTES;
}

impl Transaction {
    /// Makes and signs a transaction.
    #[must_use]
    pub fn sign(chain: ChainId, nonce: Nonce, payload: Payload, key: &SecretKey) -> Self {
        let sender = key.public_key();
        let signature = key.sign(&signing_bytes(&chain, &sender, nonce, &payload));
        Self {
            chain,
            sender,
            nonce,
            payload,
            signature,
        }
    }

    /// What the signature covers: a domain, the version byte, and every field before the signature.
    #[must_use]
    pub fn signing_bytes(&self) -> Vec<u8> {
        signing_bytes(&self.chain, &self.sender, self.nonce, &self.payload)
    }

    /// The id: SHA-256 of the encoding, signature included, so that a Merkle root covers signatures too.
    #[must_use]
    pub fn id(&self) -> TxId {
        TxId::from_bytes(sha256(&[&encode(self)]))
    }

    /// The signature as an item of a batch.
    #[must_use]
    pub fn signed_message(&self) -> SignedMessage {
        SignedMessage {
            key: self.sender,
            message: self.signing_bytes(),
            signature: self.signature,
        }
    }
}

fn signing_bytes(chain: &ChainId, sender: &PublicKey, nonce: Nonce, payload: &Payload) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    bytes.extend_from_slice(SIGNING_DOMAIN);
    bytes.push(Transaction::VERSION);
    append(chain, &mut bytes);
    append(sender, &mut bytes);
    append(&nonce, &mut bytes);
    append(payload, &mut bytes);
    bytes
}

/// A rule that needs only the transaction and its chain's id, broken for ever.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// TX-1: it is for this chain.
    #[error("TX-1: the transaction is for chain {found}, this is chain {expected}")]
    Chain {
        /// The chain it names.
        found: ChainId,
        /// This chain.
        expected: ChainId,
    },
    /// TX-2: its encoding is at most [`MAX_TRANSACTION_BYTES`].
    #[error("TX-2: the transaction has {found} bytes, at most {MAX_TRANSACTION_BYTES} are allowed")]
    Size {
        /// Bytes of its encoding.
        found: usize,
    },
    /// TX-3: its signature is valid by ZIP 215.
    #[error("TX-3: the signature of transaction {id} is not valid")]
    Signature {
        /// The transaction.
        id: TxId,
    },
    /// TX-4: an amount is at least 1.
    #[error("TX-4: the amount is 0, at least 1 is needed")]
    ZeroAmount,
}

/// A transaction whose own rules hold (TX-1 to TX-4), with its id and encoded bytes. Only a check makes one.
///
/// Cheap to clone: the mempool, a block and whoever reads them share one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedTransaction(Arc<Encoded>);

/// A transaction with what is computed from it once, and asked for often. Nothing of it is checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Encoded {
    transaction: Transaction,
    sender: Address,
    id: TxId,
    bytes: Vec<u8>,
}

impl Encoded {
    pub(crate) fn new(transaction: Transaction) -> Self {
        let bytes = encode(&transaction);
        let id = TxId::from_bytes(sha256(&[&bytes]));
        let sender = transaction.sender.address();
        Self {
            transaction,
            sender,
            id,
            bytes,
        }
    }

    pub(crate) const fn id(&self) -> TxId {
        self.id
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// TX-1, TX-2 and TX-4: what needs no signature.
    fn check_fields(self, chain: ChainId) -> Result<CheckedTransaction, TransactionError> {
        if self.transaction.chain != chain {
            return Err(TransactionError::Chain {
                found: self.transaction.chain,
                expected: chain,
            });
        }
        match &self.transaction.payload {
            Payload::Transfer { amount, .. }
            | Payload::Deposit { amount, .. }
            | Payload::Stake { amount }
            | Payload::Unstake { amount }
                if *amount == Amount::ZERO =>
            {
                return Err(TransactionError::ZeroAmount);
            }
            _ => {}
        }
        if self.bytes.len() > MAX_TRANSACTION_BYTES {
            return Err(TransactionError::Size {
                found: self.bytes.len(),
            });
        }
        Ok(CheckedTransaction(Arc::new(self)))
    }
}

impl CheckedTransaction {
    /// Checks one transaction; for many, [`check_transactions`] is several times faster.
    ///
    /// # Errors
    /// The first rule of TX-1 to TX-4 that it breaks.
    pub fn check(transaction: Transaction, chain: ChainId) -> Result<Self, TransactionError> {
        let checked = Encoded::new(transaction).check_fields(chain)?;
        let transaction = checked.transaction();
        let verified = transaction
            .sender
            .verify(&transaction.signing_bytes(), &transaction.signature);
        match verified {
            Ok(()) => Ok(checked),
            Err(_) => Err(TransactionError::Signature { id: checked.id() }),
        }
    }

    /// Takes bytes from this node's own store or from its cache of verified transactions: the fields are checked,
    /// the signature is not, because it was before it was stored.
    ///
    /// # Errors
    /// TX-1, TX-2 or TX-4.
    pub fn assume_signature_valid(
        transaction: Transaction,
        chain: ChainId,
    ) -> Result<Self, TransactionError> {
        Encoded::new(transaction).check_fields(chain)
    }

    /// The transaction.
    #[must_use]
    pub fn transaction(&self) -> &Transaction {
        &self.0.transaction
    }

    /// The sender's address: computed once, since every rule and index asks for it.
    #[must_use]
    pub fn sender(&self) -> Address {
        self.0.sender
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> TxId {
        self.0.id
    }

    /// Its encoding, as stored and sent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }
}

/// Checks many transactions with batched signatures on all cores; the results stand in the order given.
#[must_use]
pub fn check_transactions(
    transactions: Vec<Transaction>,
    chain: ChainId,
) -> Vec<Result<CheckedTransaction, TransactionError>> {
    check_encoded(
        transactions.into_par_iter().map(Encoded::new).collect(),
        chain,
        |_| None,
    )
}

/// As [`check_transactions`]; those that `known` gives were checked before. An id covers the signature, so a known id means
/// the same bytes.
pub(crate) fn check_encoded(
    transactions: Vec<Encoded>,
    chain: ChainId,
    known: impl Fn(&TxId) -> Option<CheckedTransaction> + Sync,
) -> Vec<Result<CheckedTransaction, TransactionError>> {
    let mut results: Vec<_> = transactions
        .into_par_iter()
        .map(|encoded| match known(&encoded.id) {
            Some(known) => (Ok(known), false),
            None => (encoded.check_fields(chain), true),
        })
        .collect();
    let unverified = |(place, (result, new)): (usize, &(Result<CheckedTransaction, _>, bool))| {
        (*new && result.is_ok()).then_some(place)
    };
    let places: Vec<usize> = results.iter().enumerate().filter_map(unverified).collect();
    let signed: Vec<SignedMessage> = results
        .par_iter()
        .filter(|(_, new)| *new)
        .filter_map(|(result, _)| result.as_ref().ok())
        .map(|checked| checked.transaction().signed_message())
        .collect();
    for bad in crate::keys::find_invalid_signatures(&signed) {
        let Some((result, _)) = places.get(bad).and_then(|place| results.get_mut(*place)) else {
            continue;
        };
        if let Ok(checked) = result {
            *result = Err(TransactionError::Signature { id: checked.id() });
        }
    }
    results.into_iter().map(|(result, _)| result).collect()
}
