//! What a fork begins with: its parent's state after a block, entry by entry.
//!
//! Accounts, roles and the supply go over as they are; what was unstaked there becomes free here after as many blocks as
//! were left. A record's value was set in a block of the parent, which the fork does not have: here it stands at height 0,
//! where no block has transactions, numbered in the order of the keys. The draw of producers begins anew.
//!
//! The digest of that state is in the fork's spec, so every replica is made alike or not at all.

use crate::chain_spec::{Allocation, ChainSpec, Parent, ProofSpec};
use crate::codec::{BoundedVec, append, encode};
use crate::hash::Digest;
use crate::quantity::Height;
use crate::stake::{Draw, MAX_STAKERS, Stakes, Turn, first_seed};
use crate::state::{Account, LatticeHash, RecordState, Release, StateKey, StateValue};

/// Why a fork cannot begin with a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForkError {
    /// The spec names no parent.
    #[error("the spec names no chain to fork from")]
    NoParent,
    /// The entries do not come in order, or one comes twice.
    #[error("the parent's state does not come in the order of its keys")]
    Order,
    /// More records than can be numbered.
    #[error("the parent has more than 2^32 - 1 records")]
    Records,
    /// More addresses have stake than may on a chain of stake.
    #[error("more than {MAX_STAKERS} addresses have stake, too many for a chain of stake")]
    Stakers,
    /// SPEC-8: a fork begins with the state that its spec names.
    #[error("SPEC-8: the fork begins with a state of digest {found}, its spec says {expected}")]
    Digest {
        /// As the spec says.
        expected: Digest,
        /// As the parent's state gives.
        found: Digest,
    },
}

/// The state of a fork, while it is made.
#[derive(Debug)]
pub struct Inheritance {
    height: Height,
    /// Of a chain of stake.
    stakers: Option<Vec<Allocation>>,
    seed: Digest,
    hash: LatticeHash,
    records: u32,
    last: Vec<u8>,
}

impl Inheritance {
    /// Begins the state of the fork that a spec defines; what the spec says of the state's digest does not count.
    ///
    /// # Errors
    /// Where the spec names no parent.
    pub fn begin(spec: &ChainSpec) -> Result<Self, ForkError> {
        let parent = spec.parent.as_ref().ok_or(ForkError::NoParent)?;
        // The digest depends on the seed, so the seed on all but the digest.
        let without_digest = ChainSpec {
            parent: Some(Parent {
                state_digest: Digest::ZERO,
                ..parent.clone()
            }),
            ..spec.clone()
        };
        Ok(Self {
            height: parent.height,
            stakers: (spec.proof == ProofSpec::Stake).then(Vec::new),
            seed: first_seed(&encode(&without_digest)),
            hash: LatticeHash::default(),
            records: 0,
            last: Vec::new(),
        })
    }

    /// Takes the next entry of the parent's state, in the order of the keys' encodings; gives what the fork has in its
    /// place, where it has anything. The number of an inherited record is the index in its place.
    ///
    /// # Errors
    /// Where the entries are not in order, or there are too many of a kind.
    pub fn take(
        &mut self,
        key: StateKey,
        value: StateValue,
    ) -> Result<Option<(StateKey, StateValue)>, ForkError> {
        let mut name = Vec::with_capacity(64);
        append(&key, &mut name);
        if !self.last.is_empty() && name <= self.last {
            return Err(ForkError::Order);
        }
        self.last = name;
        let value = match (&key, value) {
            (StateKey::Stakers | StateKey::Seed | StateKey::Draw(_), _) => return Ok(None),
            (StateKey::Account(address), StateValue::Account(account)) => {
                if let Some(stakers) = self.stakers.as_mut().filter(|_| account.stake.get() > 0) {
                    if stakers.len() >= MAX_STAKERS {
                        return Err(ForkError::Stakers);
                    }
                    stakers.push(Allocation {
                        address: *address,
                        amount: account.stake,
                    });
                }
                StateValue::Account(self.moved(account))
            }
            (StateKey::Record(_), StateValue::Record(record)) => {
                let index = self.records;
                self.records = index.checked_add(1).ok_or(ForkError::Records)?;
                StateValue::Record(RecordState {
                    height: Height::ZERO,
                    index,
                    ..record
                })
            }
            (_, value) => value,
        };
        self.hash.add_entry(&key, &value);
        Ok(Some((key, value)))
    }

    /// An account in the fork, whose heights begin with 0 again.
    fn moved(&self, account: Account) -> Account {
        let releases = account.releases.as_slice().iter().map(|release| Release {
            from: Height::new(release.from.get().saturating_sub(self.height.get())),
            amount: release.amount,
        });
        Account {
            releases: BoundedVec::new(releases.collect()).unwrap_or_default(),
            ..account
        }
    }

    /// The entries that the fork has besides those taken, and the hash of its whole state.
    ///
    /// # Errors
    /// Where too many have stake.
    pub fn finish(mut self) -> Result<(Vec<(StateKey, StateValue)>, LatticeHash), ForkError> {
        let Some(mut stakers) = self.stakers.take() else {
            return Ok((Vec::new(), self.hash));
        };
        stakers.sort_unstable_by_key(|stake| stake.address);
        let stakes = Stakes::new(stakers).or(Err(ForkError::Stakers))?;
        let draw = Draw {
            seed: self.seed,
            stakes: stakes.clone(),
        };
        let entries = vec![
            (StateKey::Stakers, StateValue::Stakes(stakes)),
            (StateKey::Seed, StateValue::Seed(self.seed)),
            (StateKey::Draw(Turn::Current), StateValue::Draw(draw.clone())),
            (StateKey::Draw(Turn::Next), StateValue::Draw(draw)),
        ];
        for (key, value) in &entries {
            self.hash.add_entry(key, value);
        }
        Ok((entries, self.hash))
    }
}

/// Checks the state that a replica has made against its spec: SPEC-8.
///
/// # Errors
/// Where the spec names no parent, or another state.
pub fn check_inherited(spec: &ChainSpec, hash: &LatticeHash) -> Result<(), ForkError> {
    let expected = spec.parent.as_ref().ok_or(ForkError::NoParent)?.state_digest;
    let found = hash.digest();
    match found == expected {
        true => Ok(()),
        false => Err(ForkError::Digest { expected, found }),
    }
}
