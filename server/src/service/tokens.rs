//! Join tokens: what lets workers in. Only their hashes are kept; each may expire, be good for so many workers, and be revoked.

use super::{Service, from_sql, random_hex, to_sql};
use crate::error::ServiceError;
use crate::store::{JoinTokenRow, Tx};
use block_chain_common::hash::sha256;
use block_chain_common::quantity::Timestamp;
use uuid::Uuid;
use zeroize::Zeroizing;

/// Tokens that are listed at a time.
const MAX_TOKENS: usize = 1_000;
/// The length of what a token is said to be for.
const MAX_LABEL_CHARS: usize = 64;
/// The longest that a token may be good for, in milliseconds: ten years. Longer is for ever, which is said by saying nothing.
const MAX_LIFETIME_MS: u64 = 10 * 365 * 86_400_000;
/// The most workers that a token may let in: longer lists are no limit.
const MAX_USES: u64 = 1_000_000;
/// How long tokens that are no good any more stay in the list.
const KEPT_MS: u64 = 30 * 86_400_000;

/// What a new token is for.
#[derive(Debug, Clone, Default)]
pub struct NewToken {
    /// In words.
    pub label: String,
    /// For how long it is good, in milliseconds; for ever where it is not said.
    pub lifetime_ms: Option<u64>,
    /// How many workers it lets in; any number where it is not said.
    pub uses: Option<u64>,
}

fn hash(token: &str) -> String {
    hex::encode(sha256(&[token.as_bytes()]))
}

impl Service {
    /// Whether a worker must show a token to register.
    #[must_use]
    pub const fn asks_for_token(&self) -> bool {
        self.join_token.is_some()
    }

    /// Makes a token; the token, which is not kept, and what is kept of it.
    ///
    /// # Errors
    /// Where a limit is broken, there are too many, or the database fails.
    pub fn create_token(
        &self,
        new: &NewToken,
        now: Timestamp,
    ) -> Result<(Zeroizing<String>, JoinTokenRow), ServiceError> {
        let label = new.label.trim();
        if label.chars().count() > MAX_LABEL_CHARS || label.chars().any(char::is_control) {
            return Err(ServiceError::Malformed(format!(
                "the label has more than {MAX_LABEL_CHARS} characters, or control characters"
            )));
        }
        let within =
            |number: Option<u64>, most: u64| number.is_none_or(|number| (1..=most).contains(&number));
        if !within(new.lifetime_ms, MAX_LIFETIME_MS) || !within(new.uses, MAX_USES) {
            return Err(ServiceError::Malformed(format!(
                "a token is good for 1 to {MAX_LIFETIME_MS} ms and 1 to {MAX_USES} workers, or without limit"
            )));
        }
        let token = random_hex::<16>().map_err(|error| ServiceError::Busy(error.to_string()))?;
        let row = JoinTokenRow {
            id: Uuid::new_v4().to_string(),
            hash: hash(&token),
            label: label.to_owned(),
            created_ms: to_sql(now.get()),
            expires_ms: new.lifetime_ms.map(|ms| to_sql(now.get().saturating_add(ms))),
            uses_left: new.uses.map(to_sql),
            used: 0,
            revoked_ms: None,
        };
        self.store.transaction(|tx| {
            tx.forget_join_tokens(to_sql(now.get().saturating_sub(KEPT_MS)))?;
            if tx.join_tokens()?.len() >= MAX_TOKENS {
                return Err(ServiceError::Busy(format!(
                    "{MAX_TOKENS} join tokens are there, no more are allowed"
                )));
            }
            Ok(tx.put_join_token(&row)?)
        })?;
        Ok((token, row))
    }

    /// All tokens, the newest first.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn tokens(&self) -> Result<Vec<JoinTokenRow>, ServiceError> {
        self.store.read(|tx| Ok(tx.join_tokens()?))
    }

    /// Revokes a token: it lets nobody in any more. Who it let in stays.
    ///
    /// # Errors
    /// Where there is no such token, or the database fails.
    pub fn revoke_token(&self, id: Uuid, now: Timestamp) -> Result<JoinTokenRow, ServiceError> {
        self.store.transaction(|tx| {
            let found = tx.join_tokens()?.into_iter().find(|row| row.id == id.to_string());
            let mut row = found.ok_or(ServiceError::UnknownToken { id })?;
            row.revoked_ms.get_or_insert(to_sql(now.get()));
            tx.put_join_token(&row)?;
            Ok(row)
        })
    }

    /// Lets a worker in by its token, and counts that.
    pub(super) fn use_join_token(
        &self,
        tx: &mut dyn Tx,
        given: Option<&str>,
        now: Timestamp,
    ) -> Result<(), ServiceError> {
        let Some(expected) = &self.join_token else {
            return Ok(());
        };
        let given = hash(given.ok_or(ServiceError::JoinToken("missing"))?);
        // Hashes are compared, so a difference in time says nothing of the token.
        if given == *expected {
            return Ok(());
        }
        let mut row = tx.join_token(&given)?.ok_or(ServiceError::JoinToken("wrong"))?;
        if row.revoked_ms.is_some() {
            return Err(ServiceError::JoinToken("revoked"));
        }
        if row
            .expires_ms
            .is_some_and(|expires| from_sql(expires) <= now.get())
        {
            return Err(ServiceError::JoinToken("expired"));
        }
        if row.uses_left == Some(0) {
            return Err(ServiceError::JoinToken("used up"));
        }
        row.uses_left = row.uses_left.map(|left| left.saturating_sub(1));
        row.used = row.used.saturating_add(1);
        Ok(tx.put_join_token(&row)?)
    }
}
