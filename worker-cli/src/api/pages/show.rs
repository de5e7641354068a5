//! What several pages show alike: transactions as rows, links to what they name.

use super::names::Names;
use crate::api::ApiState;
use crate::api::types::TransactionJson;
use crate::output;
use serde_json::Value;

/// Characters of a value in a row: it may have a megabyte.
const SHOWN: usize = 120;

/// A transaction as a row.
pub(super) struct Row {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) sender: String,
    pub(super) sender_name: String,
    pub(super) what: String,
    pub(super) more: String,
    /// The page of the record that it sets.
    pub(super) key_link: Option<String>,
}

/// Transactions as rows: senders by the names that are known, amounts as the chain writes them.
pub(super) fn rows(state: &ApiState, transactions: &[TransactionJson]) -> Vec<Row> {
    let (names, decimals) = (Names::of(state), state.node.spec().spec().decimals);
    let row = |transaction| row(transaction, &names, decimals);
    transactions.iter().map(row).collect()
}

/// A field of a transaction in words: an amount as the chain writes it.
pub(super) fn field_text(name: &str, value: &Value, decimals: u8) -> String {
    match value.as_u64().filter(|_| name == "amount") {
        Some(amount) => output::units(i128::from(amount), decimals),
        None => text(value),
    }
}

fn row(transaction: &TransactionJson, names: &Names, decimals: u8) -> Row {
    let fields = &transaction.fields;
    let field = |name: &str| fields.get(name).map(|value| field_text(name, value, decimals));
    let (what, more) = match transaction.kind.as_str() {
        "put" => (
            field("key").or_else(|| field("key_hex")),
            field("value").or_else(|| field("value_hex")),
        ),
        "message" => (field("message").or_else(|| field("message_hex")), None),
        "transfer" | "deposit" => (
            Some(format!(
                "{} to {}",
                field("amount").unwrap_or_default(),
                field("to").unwrap_or_default()
            )),
            field("memo"),
        ),
        "grant" | "revoke" => (field("role"), field("address")),
        _ => (field("amount"), None),
    };
    Row {
        id: transaction.id.to_string(),
        kind: transaction.kind.clone(),
        sender: transaction.sender.to_string(),
        sender_name: names.address(&transaction.sender),
        what: cut(&what.unwrap_or_default(), SHOWN),
        more: cut(&more.unwrap_or_default(), SHOWN),
        key_link: key_link(transaction),
    }
}

/// The page of the record that a transaction sets.
pub(super) fn key_link(transaction: &TransactionJson) -> Option<String> {
    let key = transaction.fields.get("key").map(text);
    match (key, transaction.fields.get("key_hex").map(text)) {
        (Some(key), _) => Some(record_link(&key)),
        (None, Some(hex)) => Some(format!("records?key_hex={hex}")),
        (None, None) => None,
    }
}

pub(super) fn record_link(key: &str) -> String {
    let query: String = url::form_urlencoded::byte_serialize(key.as_bytes()).collect();
    format!("records?key={query}")
}

pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(super) fn cut(text: &str, most: usize) -> String {
    let mut shown: String = text.chars().take(most).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
