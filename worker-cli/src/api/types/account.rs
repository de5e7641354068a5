//! What addresses have, did, and may do, as JSON.

use super::Status;
use block_chain_common::hash::TxId;
use block_chain_common::keys::Address;
use block_chain_common::quantity::{Amount, Height, Nonce, Timestamp};
use block_chain_common::transaction::Role;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an address has, in whole base units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountView {
    /// The address.
    pub address: Address,
    /// Its balance as of the head.
    pub confirmed: Amount,
    /// What the transactions that wait will add to it, or take from it where it is below 0.
    #[schema(value_type = i64)]
    pub pending: i128,
    /// What it can spend now: its balance without what waits to be spent of it.
    pub available: Amount,
    /// Its stake.
    pub stake: Amount,
    /// Unstaked, and not free yet.
    pub releasing: Vec<ReleaseView>,
    /// Roles that it holds; those that are open to everybody are not among them.
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<Role>,
    /// Digits after the point when amounts are shown.
    pub decimals: u8,
    /// The nonce of its next transaction on the chain.
    pub nonce: Nonce,
    /// The nonce of its next transaction, those that wait counted.
    pub next_nonce: Nonce,
}

/// Units that become free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReleaseView {
    /// How much.
    pub amount: Amount,
    /// Free in blocks from this height on.
    pub from: Height,
}

/// What concerned an address, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HistoryView {
    /// The address.
    pub address: Address,
    /// Digits after the point when amounts are shown.
    pub decimals: u8,
    /// What waits stands first, where the newest were asked for.
    pub entries: Vec<Movement>,
    /// Ask for what was before this, where there is more.
    #[schema(example = "17-3")]
    pub next: Option<String>,
}

/// One thing that concerned an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Movement {
    /// `transfer`, `deposit`, `stake`, `unstake`, `grant`, `revoke`, or `reward` for a block that it made.
    #[serde(rename = "type")]
    #[schema(example = "transfer")]
    pub kind: String,
    /// How much moved, or was staked or unstaked.
    pub amount: Option<Amount>,
    /// What it added to the balance, or took from it where it is below 0; what is unstaked is free only later.
    #[schema(value_type = i64)]
    pub change: i128,
    /// The other side, where there is one.
    pub with: Option<Address>,
    /// A transfer's note, where it is UTF-8 and not empty.
    pub memo: Option<String>,
    /// The role that was given or taken.
    #[schema(value_type = Option<String>)]
    pub role: Option<Role>,
    /// The transaction; a reward has none.
    pub transaction_id: Option<TxId>,
    /// How far it is agreed to.
    pub status: Status,
    /// Its block, once it is in one.
    pub block: Option<Height>,
    /// When its block was made.
    pub timestamp: Option<Timestamp>,
}

/// Who may do what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RolesView {
    /// Roles that everybody has.
    #[schema(value_type = Vec<String>)]
    pub open: Vec<Role>,
    /// Who holds roles of their own, sorted by address.
    pub holders: Vec<HolderView>,
    /// Ask for those after this address, where there are more.
    pub next: Option<Address>,
}

/// The roles of one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HolderView {
    /// The address.
    pub address: Address,
    /// Its roles.
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<Role>,
}
