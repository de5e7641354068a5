//! What the copy to PostgreSQL is asked, and says.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Asks for a copy to PostgreSQL.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DumpRequest {
    /// The database: `postgresql://USER:PASSWORD@HOST:PORT/DATABASE[?sslmode=…]`.
    #[schema(example = "postgresql://ledger:password@127.0.0.1:5432/ledger?sslmode=prefer")]
    pub db_url: String,
    /// Copy what is there and stop.
    #[serde(default)]
    pub once: bool,
}

/// The copy now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DumpStatus {
    /// Blocks in the database.
    pub dumped_blocks: u64,
    /// Transactions in the database.
    pub dumped_transactions: u64,
    /// Committed blocks there are to copy.
    pub blocks: u64,
    /// Whether it goes on with every later block.
    pub following: bool,
    /// The database, without its password.
    pub database: Option<String>,
    /// What stands in the way now, where something does.
    pub error: Option<String>,
}

/// The copy has stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DumpStopped {
    /// Whether one was following.
    pub stopped: bool,
}
