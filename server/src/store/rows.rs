//! Rows, as they are stored. Numbers are signed because SQL's are; the service converts and checks them.
//!
//! A backup has them as JSON: read so, a row is what its type says, or none.

use super::schema::{
    chains, checkpoints, claims, cosignatures, figures, fork_wishes, join_tokens, members, orders,
    recoveries, terms, workers,
};
use diesel::{AsChangeset, Insertable, Queryable, Selectable};
use serde::Deserialize;

/// A setting.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what it is read for is whether it can be")]
pub(super) struct SettingRow {
    /// Its name.
    name: String,
    /// What it is set to.
    value: String,
}

/// A chain, without its spec: that may have two megabytes, and is asked for where it is needed.
#[derive(Debug, Clone, Queryable, Selectable, Insertable, Deserialize)]
#[diesel(table_name = chains)]
pub struct ChainRow {
    /// Its name.
    pub name: String,
    /// Its id, in hex.
    pub id: String,
    /// The term now.
    pub term: i64,
    /// The leader's worker id.
    pub leader: Option<String>,
    /// Since when it leads.
    pub leader_since_ms: i64,
    /// Blocks final.
    pub final_size: i64,
}

/// A chain that is made.
#[derive(Debug, Clone, Insertable, Deserialize)]
#[diesel(table_name = chains)]
pub struct NewChainRow {
    /// What is kept of every chain.
    #[diesel(embed)]
    #[serde(flatten)]
    pub row: ChainRow,
    /// Its encoded spec, in hex.
    pub spec: String,
    /// The worker that makes it; none where the operator does.
    pub made_by: Option<String>,
}

/// A worker.
#[derive(Debug, Clone, Queryable, Selectable, Insertable, Deserialize)]
#[diesel(table_name = workers)]
#[serde(deny_unknown_fields)]
pub struct WorkerRow {
    /// Its UUID.
    pub id: String,
    /// Its key, in hex; none for ids given without one.
    pub public_key: Option<String>,
    /// Its name for people.
    pub name: Option<String>,
    /// SHA-256 of its token, in hex.
    pub token_hash: Option<String>,
    /// When it was first registered.
    pub registered_ms: i64,
    /// Since when it is banned, where it is.
    pub banned_ms: Option<i64>,
}

/// A worker's membership in a chain.
#[derive(Debug, Clone, Queryable, Selectable, Insertable, AsChangeset, Deserialize)]
#[diesel(table_name = members, treat_none_as_null = true)]
#[serde(deny_unknown_fields)]
pub struct MemberRow {
    /// The chain.
    pub chain: String,
    /// The worker.
    pub worker: String,
    /// When it joined.
    pub joined: i64,
    /// Where peers reach it: a JSON list.
    pub addresses: String,
    /// Where people reach it.
    pub api: Option<String>,
    /// When it was last heard.
    pub last_seen_ms: i64,
    /// Its head's height.
    pub height: i64,
    /// Its head.
    pub head: String,
    /// The last committed height that it holds.
    pub committed: i64,
    /// Whether it counts in the quorum: 1; one that has joined and holds less than is committed: 0.
    pub counts: i64,
    /// The coordinator's own transactions that it has seen in blocks.
    pub orders: i64,
    /// The version of its program, where it says so.
    pub version: Option<String>,
}

impl MemberRow {
    /// Whether it counts in the quorum.
    #[must_use]
    pub const fn does_count(&self) -> bool {
        self.counts != 0
    }
}

/// A checkpoint.
#[derive(Debug, Clone, Queryable, Selectable, Insertable, Deserialize)]
#[diesel(table_name = checkpoints)]
#[serde(deny_unknown_fields)]
pub struct CheckpointRow {
    /// The chain.
    pub chain: String,
    /// Blocks it covers.
    pub size: i64,
    /// The root, in hex.
    pub root: String,
    /// The last block.
    pub block: String,
    /// The note, signed by the coordinator.
    pub note: String,
}

/// A cosignature.
#[derive(Debug, Clone, Queryable, Selectable, Insertable, Deserialize)]
#[diesel(table_name = cosignatures)]
#[serde(deny_unknown_fields)]
pub struct CosignatureRow {
    /// The chain.
    pub chain: String,
    /// The checkpoint's size.
    pub size: i64,
    /// Whose it is.
    pub public_key: String,
    /// Key id and signature, in hex.
    pub line: String,
}

/// What a worker has shown that this coordinator does not know (any more).
#[derive(Debug, Clone, Queryable, Selectable, Insertable, AsChangeset, Deserialize)]
#[diesel(table_name = claims)]
#[serde(deny_unknown_fields)]
pub struct ClaimRow {
    /// The chain.
    pub chain: String,
    /// Who shows it.
    pub worker: String,
    /// The highest term that it has seen, by its own word.
    pub term: i64,
    /// Blocks that its checkpoint covers; 0 where it shows none.
    pub size: i64,
    /// The checkpoint, signed by this coordinator; empty where it shows none.
    pub note: String,
    /// When.
    pub claimed_ms: i64,
}

/// A recovery that was made.
#[derive(Debug, Clone, Queryable, Selectable, Insertable, Deserialize)]
#[diesel(table_name = recoveries)]
#[serde(deny_unknown_fields)]
pub struct RecoveryRow {
    /// The chain.
    pub chain: String,
    /// When.
    pub at_ms: i64,
    /// The statement, signed by the coordinator.
    pub note: String,
}

/// A transaction that the coordinator has signed, for workers to put on the chain.
#[derive(Debug, Clone, Queryable, Selectable, Insertable, Deserialize)]
#[diesel(table_name = orders)]
#[serde(deny_unknown_fields)]
pub struct OrderRow {
    /// The chain.
    pub chain: String,
    /// The transaction's nonce: the coordinator's count of them.
    pub nonce: i64,
    /// The encoded transaction, in hex.
    pub body: String,
}

/// What lets workers in.
#[derive(Debug, Clone, Queryable, Selectable, Insertable, AsChangeset, Deserialize)]
#[diesel(table_name = join_tokens, treat_none_as_null = true)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenRow {
    /// What it is listed and revoked by.
    pub id: String,
    /// SHA-256 of it, in hex.
    pub hash: String,
    /// What it is for.
    pub label: String,
    /// When it was made.
    pub created_ms: i64,
    /// From when on it is no good; never where it is not said.
    pub expires_ms: Option<i64>,
    /// How many workers it still lets in; any number where it is not said.
    pub uses_left: Option<i64>,
    /// How many it has let in.
    pub used: i64,
    /// When it was revoked.
    pub revoked_ms: Option<i64>,
}

/// Who led in a term.
#[derive(Debug, Clone, Queryable, Selectable, Insertable, Deserialize)]
#[diesel(table_name = terms)]
#[serde(deny_unknown_fields)]
pub struct TermRow {
    /// The chain.
    pub chain: String,
    /// The term.
    pub term: i64,
    /// The leader.
    pub worker: String,
    /// Since when.
    pub since_ms: i64,
}

/// What was committed on a chain in a minute.
#[derive(Debug, Clone, Default, Queryable, Selectable, Insertable, AsChangeset, Deserialize)]
#[diesel(table_name = figures)]
#[serde(deny_unknown_fields)]
pub struct FigureRow {
    /// The chain.
    pub chain: String,
    /// Minutes since 1970.
    pub minute: i64,
    /// Blocks.
    pub blocks: i64,
    /// Their transactions.
    pub transactions: i64,
    /// Their encoded bytes.
    pub bytes: i64,
    /// Attempts that their proofs of work stand for, on average.
    pub work: f64,
    /// Checkpoints.
    pub checkpoints: i64,
    /// How long those that became final took for it, together.
    pub final_ms: i64,
    /// How many became final.
    pub finals: i64,
    /// Who has how much of the stake, as JSON; empty where nothing was told.
    pub shares: String,
}

/// A fork that an operator has asked for.
#[derive(Debug, Clone, Queryable, Selectable, Insertable, Deserialize)]
#[diesel(table_name = fork_wishes)]
#[serde(deny_unknown_fields)]
pub struct ForkWishRow {
    /// Its name.
    pub name: String,
    /// The chain that it is to be forked from.
    pub chain: String,
    /// The block whose state it begins with.
    pub height: i64,
    /// When it was asked for.
    pub asked_ms: i64,
}
