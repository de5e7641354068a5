//! Transactions, blocks, records and accounts as JSON.

use super::Status;
use block_chain_common::hash::{BlockHash, ChainId, Digest, Root, TxId};
use block_chain_common::keys::{Address, PublicKey};
use block_chain_common::quantity::{Amount, Height, Nonce, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A transaction as people and programs read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TransactionJson {
    /// Its id.
    pub id: TxId,
    /// Its payload's name: `put`, `message`, `transfer`…
    #[serde(rename = "type")]
    #[schema(example = "put")]
    pub kind: String,
    /// The sender's address.
    pub sender: Address,
    /// The sender's key.
    pub public_key: PublicKey,
    /// Its number among the sender's, from 0.
    pub nonce: Nonce,
    /// The payload's own fields: `key`, `value` (text) or `value_hex`, `to`, `amount`, `memo`, `role`, `address`…
    #[serde(flatten)]
    #[schema(value_type = PayloadFields)]
    pub fields: serde_json::Map<String, serde_json::Value>,
}

/// The fields of payloads, for the description of the interface: each has those of its type. Bytes that are not UTF-8 stand
/// in hex, under the name that says so.
#[derive(Debug, ToSchema)]
pub struct PayloadFields {
    /// `put`: the record's key.
    #[schema(required = false, example = "invoice/2026/17")]
    pub key: String,
    /// `put`: the record's key.
    #[schema(required = false)]
    pub key_hex: String,
    /// `put`: the record's value.
    #[schema(required = false, example = "{\"paid\":true}")]
    pub value: String,
    /// `put`: the record's value.
    #[schema(required = false)]
    pub value_hex: String,
    /// `message`: its text.
    #[schema(required = false)]
    pub message: String,
    /// `message`: its bytes.
    #[schema(required = false)]
    pub message_hex: String,
    /// `transfer`, `deposit`: to whom.
    #[schema(required = false)]
    pub to: Address,
    /// `transfer`, `deposit`, `stake`, `unstake`: how much.
    #[schema(required = false)]
    pub amount: Amount,
    /// `transfer`: a note.
    #[schema(required = false)]
    pub memo: String,
    /// `transfer`: a note.
    #[schema(required = false)]
    pub memo_hex: String,
    /// `grant`, `revoke`: whose role.
    #[schema(required = false)]
    pub address: Address,
    /// `grant`, `revoke`: which role.
    #[schema(required = false, example = "issue")]
    pub role: String,
}

/// A block as people and programs read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockView {
    /// Its height.
    pub index: Height,
    /// Its hash.
    pub hash: BlockHash,
    /// The hash of the block before.
    pub previous_hash: BlockHash,
    /// RFC 6962 root over the transactions' ids.
    pub merkle_root: Root,
    /// Digest of the state after it.
    pub state_digest: Digest,
    /// RFC 6962 root over the earlier headers.
    pub history_root: Root,
    /// When it was made, in milliseconds since 1970.
    pub timestamp: Timestamp,
    /// The work's nonce; 0 where its proof has none.
    pub nonce: u64,
    /// The work's target in compact form; 0 where its proof has none.
    pub bits: u32,
    /// The slot, on a chain of stake.
    pub slot: Option<u64>,
    /// Who made it.
    pub producer: Address,
    /// What it pays its producer, in new units.
    pub reward: Amount,
    /// How far it is agreed to.
    pub status: Status,
    /// Its transactions. The last field: a stream of blocks writes them one by one.
    pub transactions: Vec<TransactionJson>,
}

/// One transaction and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TransactionView {
    /// The transaction.
    #[serde(flatten)]
    pub transaction: TransactionJson,
    /// How far it is agreed to.
    pub status: Status,
    /// Its block's height, once it is in one.
    pub block: Option<Height>,
    /// Its block's hash, once it is in one.
    pub block_hash: Option<BlockHash>,
    /// Its index in the block, once it is in one.
    pub index: Option<u32>,
}

/// Records to put, all or none.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RecordsRequest {
    /// The records, in order: of each its key and its value.
    #[schema(min_items = 1, max_items = 20_000, example = json!([["invoice/2026/17", "{\"paid\":true}"]]))]
    pub records: Vec<(String, String)>,
}

/// Signed transactions, all or none.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TransactionsRequest {
    /// Encoded transactions, in hex.
    #[schema(min_items = 1, max_items = 20_000)]
    pub transactions: Vec<String>,
}

/// Transactions that are in the mempool and on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// Their ids, in order.
    pub transaction_ids: Vec<TxId>,
    /// How many.
    pub count: usize,
    /// How many of them were known before: the same signed transaction twice is one.
    pub known: usize,
    /// `pending`.
    pub status: Status,
}

/// What waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MempoolView {
    /// The transactions, in order of arrival; at most the limit asked for, and of at most 8 MiB.
    pub transactions: Vec<TransactionJson>,
    /// How many wait in all.
    pub count: usize,
    /// Their encoded bytes in all.
    pub bytes: usize,
    /// Where the next page begins, where there is more: its `from`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<u64>,
}

/// Asks for a block now.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct MineRequest {
    /// How long to wait for it, in milliseconds; 60 s where not given.
    #[serde(default)]
    pub wait_ms: Option<u64>,
}

/// A mined block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Mined {
    /// The block.
    #[serde(flatten)]
    pub block: BlockView,
    /// How long the search took, in milliseconds.
    pub elapsed_ms: u64,
    /// How many nonces were tried.
    pub attempts: u64,
    /// Attempts per second.
    pub hash_rate: u64,
}

/// A value that a key had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordVersion {
    /// The value, where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value: Option<String>,
    /// The value in hex, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value_hex: Option<String>,
    /// The transaction that set it.
    pub transaction_id: TxId,
    /// Who set it.
    pub sender: Address,
    /// Its block; 0 where the chain has inherited it.
    pub block: Height,
    /// When its block was made.
    pub timestamp: Timestamp,
    /// Where it was set, where the chain is a fork and has inherited it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub inherited: Option<Origin>,
    /// How far it is agreed to.
    pub status: Status,
}

impl RecordVersion {
    /// The block in words: of an inherited value its block on the chain that it was set on.
    pub(crate) fn block_in_words(&self) -> String {
        match &self.inherited {
            Some(Origin { chain, block }) => {
                let chain: String = chain.to_string().chars().take(16).collect();
                format!("{block} of chain {chain}")
            }
            None => self.block.to_string(),
        }
    }
}

/// Where an inherited value was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Origin {
    /// The chain, whose receipt proves it.
    pub chain: ChainId,
    /// The block there.
    pub block: Height,
}

/// A key's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordView {
    /// The key.
    #[schema(example = "invoice/2026/17")]
    pub key: String,
    /// The value now.
    #[serde(flatten)]
    pub current: RecordVersion,
    /// All values, newest first, where the history was asked for; at most the limit asked for, and of at most 8 MiB.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub history: Option<Vec<RecordVersion>>,
    /// What asks for those before, where there are more: its `before`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}
