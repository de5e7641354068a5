//! Rows, as they are stored. Numbers are signed because SQL's are; the service converts and checks them.

use super::schema::{chains, checkpoints, claims, cosignatures, members, orders, recoveries, workers};
use diesel::{AsChangeset, Insertable, Queryable, Selectable};

/// A chain.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = chains)]
pub struct ChainRow {
    /// Its name.
    pub name: String,
    /// Its id, in hex.
    pub id: String,
    /// Its encoded spec, in hex.
    pub spec: String,
    /// The term now.
    pub term: i64,
    /// The leader's worker id.
    pub leader: Option<String>,
    /// Since when it leads.
    pub leader_since_ms: i64,
    /// Blocks final.
    pub final_size: i64,
}

/// A worker.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = workers)]
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
}

/// A worker's membership in a chain.
#[derive(Debug, Clone, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = members, treat_none_as_null = true)]
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
}

impl MemberRow {
    /// Whether it counts in the quorum.
    #[must_use]
    pub const fn does_count(&self) -> bool {
        self.counts != 0
    }
}

/// A checkpoint.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = checkpoints)]
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
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = cosignatures)]
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
#[derive(Debug, Clone, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = claims)]
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
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = recoveries)]
pub struct RecoveryRow {
    /// The chain.
    pub chain: String,
    /// When.
    pub at_ms: i64,
    /// The statement, signed by the coordinator.
    pub note: String,
}

/// A transaction that the coordinator has signed, for workers to put on the chain.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = orders)]
pub struct OrderRow {
    /// The chain.
    pub chain: String,
    /// The transaction's nonce: the coordinator's count of them.
    pub nonce: i64,
    /// The encoded transaction, in hex.
    pub body: String,
}
