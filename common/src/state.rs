//! The state of a chain: accounts, records' current values, roles; how blocks change it, and its digest.
//!
//! Everything is an entry `StateKey → StateValue`. The digest covers every entry and is updated from the changed ones
//! alone ([`LatticeHash`]). What a block changes is a [`StateDelta`] with both sides, so that it can be undone.

mod delta;
mod execute;
mod lattice;

pub use delta::{Change, StateDelta, Undo};
pub(crate) use execute::genesis_state;
pub use execute::{ApplyError, Executor};
pub use lattice::LatticeHash;

use crate::codec::BoundedVec;
use crate::hash::Digest;
use crate::keys::Address;
use crate::quantity::{Amount, Height, Nonce};
use crate::stake::{Draw, Stakes, Turn};
use crate::transaction::{RecordKey, Role};
use borsh::{BorshDeserialize, BorshSerialize};

/// Releases of stake that may wait in one account at a time.
pub const MAX_RELEASES: usize = 64;

/// The name of an entry of the state. Its borsh bytes are its name in the store and under the digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum StateKey {
    /// An address's account.
    Account(Address) = 0,
    /// A record's current value.
    Record(RecordKey) = 1,
    /// A role that an address holds.
    Grant(Address, Role) = 2,
    /// How many hold a role (kept for `admin`: the last cannot be removed).
    Holders(Role) = 3,
    /// All units there are: balances, stakes and releases together.
    Supply = 4,
    /// Who has stake, on chains of stake.
    Stakers = 5,
    /// The seed with the last block, on chains of stake.
    Seed = 6,
    /// What producers are drawn from, on chains of stake.
    Draw(Turn) = 7,
}

/// An entry of the state.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum StateValue {
    /// Of [`StateKey::Account`].
    Account(Account) = 0,
    /// Of [`StateKey::Record`].
    Record(RecordState) = 1,
    /// Of [`StateKey::Grant`].
    Granted = 2,
    /// Of [`StateKey::Holders`].
    Count(u64) = 3,
    /// Of [`StateKey::Supply`].
    Amount(Amount) = 4,
    /// Of [`StateKey::Stakers`].
    Stakes(Stakes) = 5,
    /// Of [`StateKey::Seed`].
    Seed(Digest) = 6,
    /// Of [`StateKey::Draw`].
    Draw(Draw) = 7,
}

/// What an address has.
#[derive(Debug, Clone, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub struct Account {
    /// The nonce of its next transaction.
    pub nonce: Nonce,
    /// What it can spend; releases that are due count from the account's next use on.
    pub balance: Amount,
    /// What is locked as stake.
    pub stake: Amount,
    /// Unstaked, and free from a height on.
    pub releases: BoundedVec<Release, MAX_RELEASES>,
}

impl Account {
    /// The account as the block at a height finds it: releases that are due count to its balance.
    ///
    /// # Errors
    /// The release that would make the balance more than 2⁶⁴ − 1, which no chain's rules allow.
    pub fn at(mut self, height: Height) -> Result<Self, Amount> {
        let releases = std::mem::take(&mut self.releases).into_vec().into_iter();
        let (due, waiting): (Vec<_>, Vec<_>) = releases.partition(|release| release.from <= height);
        for release in due {
            self.balance = self
                .balance
                .checked_add(release.amount.get())
                .ok_or(release.amount)?;
        }
        self.releases = BoundedVec::new(waiting).unwrap_or_default();
        Ok(self)
    }
}

/// Units that become free.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Release {
    /// Free in blocks from this height on.
    pub from: Height,
    /// How much.
    pub amount: Amount,
}

/// Where a key's current value stands. The value itself is in its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct RecordState {
    /// SHA-256 of the value.
    pub value_digest: Digest,
    /// The block that set it.
    pub height: Height,
    /// The transaction's index in that block.
    pub index: u32,
}

/// Where the state before a block is read from.
pub trait StateView {
    /// What reading can fail with.
    type Error;
    /// An entry, or `None` where there is none.
    ///
    /// # Errors
    /// Where reading fails.
    fn get(&self, key: &StateKey) -> Result<Option<StateValue>, Self::Error>;
}

/// The state of nothing: what a genesis block is made on.
#[derive(Debug, Clone, Copy, Default)]
pub struct EmptyState;

impl StateView for EmptyState {
    type Error = std::convert::Infallible;
    fn get(&self, _: &StateKey) -> Result<Option<StateValue>, Self::Error> {
        Ok(None)
    }
}
