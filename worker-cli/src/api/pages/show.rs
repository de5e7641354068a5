//! What several pages show alike: transactions as rows, links to what they name.

use crate::api::types::TransactionJson;
use serde_json::Value;

/// Characters of a value in a row: it may have a megabyte.
const SHOWN: usize = 120;

/// A transaction as a row.
pub(super) struct Row {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) sender: String,
    pub(super) what: String,
    pub(super) more: String,
    /// The page of the record that it sets.
    pub(super) key_link: Option<String>,
}

pub(super) fn rows(transactions: &[TransactionJson]) -> Vec<Row> {
    transactions.iter().map(row).collect()
}

fn row(transaction: &TransactionJson) -> Row {
    let field = |name: &str| transaction.fields.get(name).map(text);
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
