//! What a chain is: the data that its genesis block is made of. Never a clock or a random number.

use crate::block::Block;
use crate::codec::{BoundedVec, Format, encode};
use crate::hash::{BlockHash, ChainId, Digest, sha256};
use crate::header::{Header, Proof};
use crate::history::Frontier;
use crate::keys::Address;
use crate::limits::{MAX_SPEC_BYTES, MAX_SPEC_ENTRIES, NameError, check_name};
use crate::merkle::empty_root;
use crate::quantity::{Amount, Height, Timestamp};
use crate::stake::{MAX_STAKERS, MIN_SLOT_MS};
use crate::state::{StateDelta, genesis_state};
use crate::transaction::Role;
use crate::work::{Target, TargetError};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How blocks of a chain are proven.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum ProofSpec {
    /// Proof of work.
    Work {
        /// The first block's target, and the easiest ever, in compact form.
        initial_bits: u32,
    } = 1,
    /// Proof of stake, in slots of the block interval.
    Stake = 2,
    /// Proof of authority: the leader signs.
    Authority = 3,
}

impl ProofSpec {
    /// The proof's name in commands, JSON and errors.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Work { .. } => "work",
            Self::Stake => "stake",
            Self::Authority => "authority",
        }
    }
}

/// An address and an amount it starts with.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize, ToSchema)]
pub struct Allocation {
    /// Who.
    pub address: Address,
    /// How much.
    pub amount: Amount,
}

/// A role that an address starts with.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize, ToSchema)]
pub struct Grant {
    /// Who.
    pub address: Address,
    /// The role.
    pub role: Role,
}

/// Where a forked chain begins.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize, ToSchema)]
pub struct Parent {
    /// The chain forked from.
    pub chain: ChainId,
    /// The block whose state the fork begins with.
    pub height: Height,
    /// That block's hash.
    pub block: BlockHash,
    /// The digest of the state that the fork begins with: see [`crate::fork`].
    pub state_digest: Digest,
}

/// Everything that defines a chain. Its genesis block, and so its id, follows from it alone.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ChainSpec {
    /// The chain's name on its coordinator.
    pub name: String,
    /// How blocks are proven.
    pub proof: ProofSpec,
    /// The interval between blocks that is aimed at, in milliseconds; 0: none, blocks only on demand and no retargeting.
    pub block_interval_ms: u64,
    /// What a block pays its producer.
    pub reward: Amount,
    /// Halve the reward every so many blocks; 0: never.
    pub reward_halving_blocks: u64,
    /// Digits after the point when amounts are shown; base units count.
    pub decimals: u8,
    /// After how many blocks unstaked units are free.
    pub unstake_blocks: u64,
    /// Roles that everybody has.
    pub open_roles: BoundedVec<Role, 4>,
    /// Roles given at the start.
    pub grants: BoundedVec<Grant, MAX_SPEC_ENTRIES>,
    /// Balances at the start.
    pub balances: BoundedVec<Allocation, MAX_SPEC_ENTRIES>,
    /// Stakes at the start.
    pub stakes: BoundedVec<Allocation, MAX_SPEC_ENTRIES>,
    /// The chain forked from, where this is a fork.
    pub parent: Option<Parent>,
}

impl Format for ChainSpec {
    const NAME: &'static str = "chain spec";
    const VERSION: u8 = 1;
    const MAX_BYTES: usize = MAX_SPEC_BYTES;
}

/// A chain spec that defines no chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// SPEC-1: the name.
    #[error("SPEC-1: {0}")]
    Name(#[from] NameError),
    /// SPEC-2: the initial target is a valid compact target.
    #[error("SPEC-2: {0}")]
    Target(#[from] TargetError),
    /// SPEC-3: at most 18 decimals, so that one whole unit fits in 64 bits.
    #[error("SPEC-3: {found} decimals, at most 18 are allowed")]
    Decimals {
        /// The decimals found.
        found: u8,
    },
    /// SPEC-4: first balances and stakes together fit in 64 bits, none is 0, and no address stands twice in one list.
    #[error("SPEC-4: first balances or stakes are 0, doubled, or over 2^64 - 1 together")]
    Allocation,
    /// SPEC-5: open roles and grants are sorted and not doubled.
    #[error("SPEC-5: open roles or grants are not sorted, or doubled")]
    Roles,
    /// SPEC-6: a chain of stake has slots, of at least 100 ms, and at most 256 first stakes.
    #[error(
        "SPEC-6: slots of {interval_ms} ms and {stakes} first stakes; at least {MIN_SLOT_MS} ms are needed, at most {MAX_STAKERS} stakes are allowed"
    )]
    Stake {
        /// The slots' length.
        interval_ms: u64,
        /// How many first stakes.
        stakes: usize,
    },
    /// SPEC-7: a fork has its parent's state, so its spec gives nobody anything.
    #[error("SPEC-7: a fork has its parent's state, and its spec gives no roles, balances or stakes")]
    Fork,
}

/// A spec whose rules hold, with its genesis. Only the check makes one.
#[derive(Debug, Clone)]
pub struct CheckedSpec {
    spec: ChainSpec,
    id: ChainId,
    genesis: Block,
    state: GenesisState,
}

/// The state that a chain begins with.
#[derive(Debug, Clone)]
enum GenesisState {
    /// The spec has it all.
    Given(StateDelta),
    /// The parent of a fork has it; its digest.
    Inherited(Digest),
}

impl GenesisState {
    fn digest(&self) -> Digest {
        match self {
            Self::Given(delta) => delta.digest(),
            Self::Inherited(digest) => *digest,
        }
    }
}

impl ChainSpec {
    /// The default chain: proof of work of 2²⁰ attempts, a block every 15 s when something waits, reward 1, open to
    /// write and mine; `creator` alone administers and issues.
    #[must_use]
    pub fn default_for(name: &str, creator: Address) -> Self {
        let grants = [Role::Admin, Role::Issue].map(|role| Grant {
            address: creator,
            role,
        });
        Self {
            name: name.to_owned(),
            proof: ProofSpec::Work {
                initial_bits: Target::from_leading_zero_bits(20).to_bits(),
            },
            block_interval_ms: 15_000,
            reward: Amount::new(1),
            reward_halving_blocks: 0,
            decimals: 0,
            unstake_blocks: 100,
            open_roles: BoundedVec::new(vec![Role::Write, Role::Mine]).unwrap_or_default(),
            grants: BoundedVec::new(grants.to_vec()).unwrap_or_default(),
            balances: BoundedVec::default(),
            stakes: BoundedVec::default(),
            parent: None,
        }
    }

    /// The reward of the block at a height.
    #[must_use]
    pub fn reward_at(&self, height: Height) -> Amount {
        match height.get().checked_div(self.reward_halving_blocks) {
            Some(halvings) if halvings >= 64 => Amount::ZERO,
            Some(halvings) => Amount::new(self.reward.get() >> halvings),
            None => self.reward,
        }
    }

    /// SPEC-2 and SPEC-6.
    fn check_proof(&self) -> Result<(), SpecError> {
        match self.proof {
            ProofSpec::Work { initial_bits } => {
                Target::from_bits(initial_bits)?;
            }
            ProofSpec::Authority => {}
            ProofSpec::Stake => {
                let (interval_ms, stakes) = (self.block_interval_ms, self.stakes.as_slice().len());
                if interval_ms < MIN_SLOT_MS || stakes > MAX_STAKERS {
                    return Err(SpecError::Stake { interval_ms, stakes });
                }
            }
        }
        Ok(())
    }

    /// Checks the rules and makes the genesis block.
    ///
    /// # Errors
    /// The first rule of SPEC-1 to SPEC-7 that does not hold.
    pub fn check(self) -> Result<CheckedSpec, SpecError> {
        check_name(&self.name)?;
        self.check_proof()?;
        if self.decimals > 18 {
            return Err(SpecError::Decimals { found: self.decimals });
        }
        let gives = !self.grants.as_slice().is_empty()
            || !self.balances.as_slice().is_empty()
            || !self.stakes.as_slice().is_empty();
        if self.parent.is_some() && gives {
            return Err(SpecError::Fork);
        }
        let sorted_roles = self.open_roles.as_slice().is_sorted_by(|a, b| a < b);
        let sorted_grants = self
            .grants
            .as_slice()
            .is_sorted_by(|a, b| (a.address, a.role) < (b.address, b.role));
        if !sorted_roles || !sorted_grants {
            return Err(SpecError::Roles);
        }
        let lists = [self.balances.as_slice(), self.stakes.as_slice()];
        let sorted = lists
            .iter()
            .all(|list| list.is_sorted_by(|a, b| a.address < b.address));
        let amounts = || {
            lists
                .iter()
                .flat_map(|list| list.iter())
                .map(|entry| entry.amount)
        };
        let total = amounts().try_fold(Amount::ZERO, |sum, amount| sum.checked_add(amount.get()));
        if !sorted || total.is_none() || amounts().any(|amount| amount == Amount::ZERO) {
            return Err(SpecError::Allocation);
        }
        let state = match &self.parent {
            None => GenesisState::Given(genesis_state(&self)),
            Some(parent) => GenesisState::Inherited(parent.state_digest),
        };
        let header = Header {
            chain: ChainId::ZERO,
            height: Height::ZERO,
            timestamp: Timestamp::ZERO,
            previous: BlockHash::from_bytes(sha256(&[&encode(&self)])),
            transactions_root: empty_root(),
            transaction_count: 0,
            state_digest: state.digest(),
            history_root: Frontier::default().root(),
            producer: Address::ZERO,
            proof: Proof::Genesis,
        };
        let id = ChainId::from_bytes(*header.hash().as_bytes());
        let genesis = Block {
            header,
            transactions: BoundedVec::default(),
        };
        Ok(CheckedSpec {
            spec: self,
            id,
            genesis,
            state,
        })
    }
}

impl CheckedSpec {
    /// The spec.
    #[must_use]
    pub const fn spec(&self) -> &ChainSpec {
        &self.spec
    }

    /// The chain's id: the genesis block's hash.
    #[must_use]
    pub const fn id(&self) -> ChainId {
        self.id
    }

    /// The genesis block.
    #[must_use]
    pub const fn genesis(&self) -> &Block {
        &self.genesis
    }

    /// The state that the chain begins with, as a change from nothing; `None` for a fork, which has its parent's: see
    /// [`crate::fork`].
    #[must_use]
    pub const fn genesis_state(&self) -> Option<&StateDelta> {
        match &self.state {
            GenesisState::Given(delta) => Some(delta),
            GenesisState::Inherited(_) => None,
        }
    }
}
