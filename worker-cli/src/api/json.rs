//! Blocks and transactions as JSON.

use super::types::{BlockView, Status, TransactionJson};
use crate::machine::ChainRead;
use crate::node::{NodeHandle, RequestError};
use block_chain_common::chain_spec::CheckedSpec;
use block_chain_common::double_block::made_for;
use block_chain_common::hash::BlockHash;
use block_chain_common::header::{Header, Proof};
use block_chain_common::quantity::{Amount, Height};
use block_chain_common::transaction::{CheckedTransaction, Payload, Transaction};
use serde_json::{Map, Value};

/// A transaction that waits.
#[must_use]
pub fn transaction_json(checked: &CheckedTransaction) -> TransactionJson {
    to_json(checked.transaction(), checked.id())
}

/// A transaction with its id.
#[must_use]
pub fn to_json(transaction: &Transaction, id: block_chain_common::hash::TxId) -> TransactionJson {
    TransactionJson {
        id,
        kind: transaction.payload.kind().to_owned(),
        sender: transaction.sender.address(),
        public_key: transaction.sender,
        nonce: transaction.nonce,
        fields: payload_fields(&transaction.payload),
    }
}

/// A block of the chain, with its transactions.
///
/// # Errors
/// Where the store fails, or has no such block.
pub fn block_view(node: &NodeHandle, hash: &BlockHash) -> Result<BlockView, RequestError> {
    let missing = || RequestError::Refused(format!("there is no block {hash}"));
    let stored = node.store().header(hash)?.ok_or_else(missing)?;
    let transactions = node.store().transactions(hash)?.ok_or_else(missing)?;
    let status = node.block_status(stored.header.height);
    let reward = reward_of(node.spec(), stored.header.height);
    let mut view = block_header_view(stored.header, *hash, (status, reward));
    view.transactions = transactions.iter().map(|tx| to_json(tx, tx.id())).collect();
    Ok(view)
}

/// What the block at a height pays its producer; the first block has none.
#[must_use]
pub fn reward_of(spec: &CheckedSpec, height: Height) -> Amount {
    if height == Height::ZERO {
        return Amount::ZERO;
    }
    spec.spec().reward_at(height)
}

/// A block with no transactions listed yet.
#[must_use]
pub fn block_header_view(header: Header, hash: BlockHash, (status, reward): (Status, Amount)) -> BlockView {
    let (nonce, bits) = match header.proof {
        Proof::Work { nonce, bits } => (nonce, bits),
        Proof::Genesis | Proof::Stake { .. } | Proof::Authority { .. } => (0, 0),
    };
    BlockView {
        index: header.height,
        hash,
        previous_hash: if header.height == Height::ZERO {
            BlockHash::ZERO
        } else {
            header.previous
        },
        merkle_root: header.transactions_root,
        state_digest: header.state_digest,
        history_root: header.history_root,
        timestamp: header.timestamp,
        nonce,
        bits,
        slot: made_for(&header).map(|(_, slot)| slot),
        producer: header.producer,
        reward,
        status,
        transactions: Vec::new(),
    }
}

/// What a payload says, by name.
pub(crate) fn payload_fields(payload: &Payload) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    match payload {
        Payload::Put { key, value } => {
            bytes_field(&mut put, "key", key.as_slice());
            bytes_field(&mut put, "value", value.as_slice());
        }
        Payload::Message { bytes } => bytes_field(&mut put, "message", bytes.as_slice()),
        Payload::Transfer { to, amount, memo } => {
            put("to", to.to_string().into());
            put("amount", amount.get().into());
            bytes_field(&mut put, "memo", memo.as_slice());
        }
        Payload::Deposit { to, amount } => {
            put("to", to.to_string().into());
            put("amount", amount.get().into());
        }
        Payload::Stake { amount } | Payload::Unstake { amount } => {
            put("amount", amount.get().into());
        }
        Payload::Grant { address, role } | Payload::Revoke { address, role } => {
            put("address", address.to_string().into());
            put("role", role.to_string().into());
        }
    }
    fields
}

/// Text as it is; other bytes in hex, under a name that says so.
fn bytes_field(put: &mut impl FnMut(&str, Value) -> Option<Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => put(name, text.into()),
        Err(_) => put(&format!("{name}_hex"), hex::encode(bytes).into()),
    };
}
