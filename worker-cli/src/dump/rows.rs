//! Rows in PostgreSQL's text `COPY` format, and the tables they go to.

use block_chain_common::transaction::Payload;
use std::fmt::Write as _;

/// The version of these tables.
pub(super) const SCHEMA_VERSION: i32 = 1;

/// The tables; `IF NOT EXISTS`, because two workers may set up one database.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS block_chain_schema (version INT NOT NULL);
CREATE TABLE IF NOT EXISTS chains (chain TEXT PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS dump_watermarks (
  chain TEXT PRIMARY KEY, blocks BIGINT NOT NULL, transactions BIGINT NOT NULL, hash TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS blocks (
  chain TEXT NOT NULL, height BIGINT NOT NULL, hash TEXT NOT NULL, previous_hash TEXT NOT NULL,
  merkle_root TEXT NOT NULL, time TIMESTAMPTZ NOT NULL, producer TEXT NOT NULL, transactions INT NOT NULL,
  PRIMARY KEY (chain, height));
CREATE TABLE IF NOT EXISTS transactions (
  chain TEXT NOT NULL, height BIGINT NOT NULL, index INT NOT NULL, id TEXT NOT NULL, type TEXT NOT NULL,
  sender TEXT NOT NULL, nonce NUMERIC(20) NOT NULL, key TEXT, key_bytes BYTEA, value TEXT, value_bytes BYTEA,
  value_json JSONB, recipient TEXT, amount NUMERIC(20), role TEXT,
  PRIMARY KEY (chain, height, index));
CREATE INDEX IF NOT EXISTS transactions_by_id ON transactions (id);
CREATE TABLE IF NOT EXISTS key_values (
  chain TEXT NOT NULL, key_bytes BYTEA NOT NULL, key TEXT, value TEXT, value_bytes BYTEA NOT NULL, value_json JSONB,
  height BIGINT NOT NULL, index INT NOT NULL,
  PRIMARY KEY (chain, key_bytes));
CREATE TABLE IF NOT EXISTS wallets (
  chain TEXT NOT NULL, address TEXT NOT NULL, balance NUMERIC(20) NOT NULL, stake NUMERIC(20) NOT NULL,
  releasing NUMERIC(20) NOT NULL,
  PRIMARY KEY (chain, address));
CREATE OR REPLACE VIEW key_value_history AS
  SELECT t.chain, t.key, t.value, t.value_json, t.key_bytes, t.value_bytes, t.height, t.index, t.id, t.sender, b.time
  FROM transactions t JOIN blocks b ON b.chain = t.chain AND b.height = t.height WHERE t.type = 'put';
";

/// Digits in a row that `jsonb` may refuse: its numbers have limits that JSON's have not.
const MAX_DIGITS: usize = 1_000;

/// One row of text `COPY`, cell by cell.
#[derive(Debug, Default)]
pub(super) struct Rows(String);

impl Rows {
    /// A cell of text.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.separate();
        for c in text.chars() {
            match c {
                '\\' => self.0.push_str("\\\\"),
                '\n' => self.0.push_str("\\n"),
                '\r' => self.0.push_str("\\r"),
                '\t' => self.0.push_str("\\t"),
                c => self.0.push(c),
            }
        }
        self
    }

    /// A cell of something that needs no escaping: a number, an id.
    pub(super) fn plain(&mut self, value: impl std::fmt::Display) -> &mut Self {
        self.separate();
        let written = write!(self.0, "{value}");
        debug_assert!(written.is_ok(), "writing into a string cannot fail");
        self
    }

    /// A cell of bytes.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.separate();
        self.0.push_str("\\\\x");
        self.0.push_str(&hex::encode(bytes));
        self
    }

    /// An empty cell.
    pub(super) fn null(&mut self) -> &mut Self {
        self.separate();
        self.0.push_str("\\N");
        self
    }

    /// Text where there is some.
    pub(super) fn optional(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(text),
            None => self.null(),
        }
    }

    /// Ends the row.
    pub(super) fn end(&mut self) {
        self.0.push('\n');
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn take(&mut self) -> bytes::Bytes {
        bytes::Bytes::from(std::mem::take(&mut self.0))
    }

    fn separate(&mut self) {
        if !self.0.is_empty() && !self.0.ends_with('\n') {
            self.0.push('\t');
        }
    }
}

/// The bytes as text, where PostgreSQL can hold them as such: UTF-8 without NUL.
pub(super) fn as_text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))
}

/// The text as JSON, where `jsonb` can hold it.
pub(super) fn as_json(text: Option<&str>) -> Option<&str> {
    let text = text?;
    let looks = matches!(
        text.trim_start().as_bytes().first(),
        Some(b'{' | b'[' | b'"' | b'0'..=b'9' | b'-' | b't' | b'f' | b'n')
    );
    if !looks || text.contains("\\u0000") || has_long_number(text) {
        return None;
    }
    serde_json::from_str::<serde_json::Value>(text).ok().map(|_| text)
}

fn has_long_number(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_digit())
        .any(|digits| digits.len() > MAX_DIGITS)
}

/// Key, key bytes, value, value bytes, JSON: the cells that records have.
pub(super) fn record_cells(rows: &mut Rows, payload: &Payload) {
    match payload {
        Payload::Put { key, value } => {
            let text = as_text(value.as_slice());
            rows.optional(as_text(key.as_slice())).bytes(key.as_slice());
            rows.optional(text)
                .bytes(value.as_slice())
                .optional(as_json(text));
        }
        Payload::Message { bytes } => {
            let text = as_text(bytes.as_slice());
            rows.null()
                .null()
                .optional(text)
                .bytes(bytes.as_slice())
                .optional(as_json(text));
        }
        Payload::Transfer { memo, .. } => {
            rows.null()
                .null()
                .optional(as_text(memo.as_slice()))
                .bytes(memo.as_slice())
                .null();
        }
        _ => {
            rows.null().null().null().null().null();
        }
    }
}

/// Recipient, amount, role: the cells that value payloads have.
pub(super) fn value_cells(rows: &mut Rows, payload: &Payload) {
    match payload {
        Payload::Transfer { to, amount, .. } | Payload::Deposit { to, amount } => {
            rows.plain(to).plain(amount).null();
        }
        Payload::Stake { amount } | Payload::Unstake { amount } => {
            rows.null().plain(amount).null();
        }
        Payload::Grant { address, role } | Payload::Revoke { address, role } => {
            rows.plain(address).null().plain(role);
        }
        Payload::Put { .. } | Payload::Message { .. } => {
            rows.null().null().null();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_escaped_and_separated() {
        let mut rows = Rows::default();
        rows.text("a\tb\\c\nd").plain(7).null().bytes(&[0, 255]);
        rows.end();
        rows.text("x");
        rows.end();
        assert_eq!(rows.take(), "a\\tb\\\\c\\nd\t7\t\\N\t\\\\x00ff\nx\n");
    }

    #[test]
    fn only_what_jsonb_takes_is_json() {
        let long = "9".repeat(200_000);
        let table = [
            ("{\"a\":[1,2.5,null]}", true),
            ("\"text\"", true),
            ("plain text", false),
            ("\"\\u0000\"", false),
            ("1e400", false),
            (long.as_str(), false),
            ("{\"a\":1", false),
            ("", false),
        ];
        for (text, is_json) in table {
            assert_eq!(
                as_json(Some(text)).is_some(),
                is_json,
                "{}",
                &text[..text.len().min(20)]
            );
        }
        assert_eq!(
            (as_text(b"a\0b"), as_text(&[0xff]), as_text(b"ab")),
            (None, None, Some("ab"))
        );
    }
}
