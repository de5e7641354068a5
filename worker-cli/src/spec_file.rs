//! A chain's spec as people write it: JSON with the names of DESIGN, every one of which may be left out.

use block_chain_common::chain_spec::{Allocation, ChainSpec, Grant, ProofSpec};
use block_chain_common::codec::BoundedVec;
use block_chain_common::quantity::Amount;
use block_chain_common::transaction::Role;
use block_chain_common::work::{MAX_DIFFICULTY, Target};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The difficulty of proof of work where it is not said.
const DEFAULT_DIFFICULTY: u8 = 20;
/// The block interval of proof of authority where it is not said: blocks cost nothing, so nobody has to wait.
const AUTHORITY_INTERVAL_MS: u64 = 1_000;

/// Why a spec cannot be made of what was said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecFileError {
    /// Only proof of work has a difficulty.
    #[error("difficulty {0} is of proof of work alone")]
    DifficultyOf(u8),
    /// A difficulty that nothing reaches.
    #[error("difficulty {0} leading zero bits, at most {MAX_DIFFICULTY} are allowed")]
    Difficulty(u8),
    /// A list is too long.
    #[error("{what}: {error}")]
    Long {
        /// The list.
        what: &'static str,
        /// Its limit.
        error: String,
    },
    /// A fork has its parent's state, and no other.
    #[error("a fork begins with its parent's state: {0} are for new chains")]
    OfFork(&'static str),
}

/// A proof, as people type it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProofName {
    /// Proof of work
    Work,
    /// Proof of stake, in slots of the block interval
    Stake,
    /// Proof of authority: the leader signs
    Authority,
}

/// What a new chain has that others have not. What is left out is as in the default chain, or as in a fork's parent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SpecFile {
    /// How blocks are proven.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<ProofName>,
    /// Proof of work: leading zero bits of the easiest hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 64)]
    pub difficulty: Option<u8>,
    /// The interval between blocks that is aimed at, in milliseconds, a slot's length on a chain of stake; 0: only on
    /// demand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_interval_ms: Option<u64>,
    /// What a block pays its producer, in base units.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward: Option<Amount>,
    /// Halve the reward every so many blocks; 0: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward_halving_blocks: Option<u64>,
    /// Digits after the point when amounts are shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 18)]
    pub decimals: Option<u8>,
    /// After how many blocks unstaked units are free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unstake_blocks: Option<u64>,
    /// Roles that everybody has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Role>>)]
    pub open_roles: Option<Vec<Role>>,
    /// Roles given at the start, in place of the creator's `admin` and `issue`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Grant>>)]
    pub grants: Option<Vec<Grant>>,
    /// Balances at the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Allocation>>)]
    pub balances: Option<Vec<Allocation>>,
    /// Stakes at the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Allocation>>)]
    pub stakes: Option<Vec<Allocation>>,
}

impl SpecFile {
    /// What a spec says; all of it.
    #[must_use]
    pub fn of(spec: &ChainSpec) -> Self {
        let list = |list: &[Allocation]| Some(list.to_vec());
        let (proof, difficulty) = match spec.proof {
            ProofSpec::Work { initial_bits } => {
                let target = Target::from_bits(initial_bits).ok();
                (ProofName::Work, target.map(Target::leading_zero_bits))
            }
            ProofSpec::Stake => (ProofName::Stake, None),
            ProofSpec::Authority => (ProofName::Authority, None),
        };
        Self {
            proof: Some(proof),
            difficulty,
            block_interval_ms: Some(spec.block_interval_ms),
            reward: Some(spec.reward),
            reward_halving_blocks: Some(spec.reward_halving_blocks),
            decimals: Some(spec.decimals),
            unstake_blocks: Some(spec.unstake_blocks),
            open_roles: Some(spec.open_roles.as_slice().to_vec()),
            grants: Some(spec.grants.as_slice().to_vec()),
            balances: list(spec.balances.as_slice()),
            stakes: list(spec.stakes.as_slice()),
        }
    }

    /// What is said here, and the rest as `other` says it.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            proof: self.proof.or(other.proof),
            difficulty: self.difficulty.or(other.difficulty),
            block_interval_ms: self.block_interval_ms.or(other.block_interval_ms),
            reward: self.reward.or(other.reward),
            reward_halving_blocks: self.reward_halving_blocks.or(other.reward_halving_blocks),
            decimals: self.decimals.or(other.decimals),
            unstake_blocks: self.unstake_blocks.or(other.unstake_blocks),
            open_roles: self.open_roles.or(other.open_roles),
            grants: self.grants.or(other.grants),
            balances: self.balances.or(other.balances),
            stakes: self.stakes.or(other.stakes),
        }
    }

    /// The spec that `base` becomes by what is said here. The rules of specs are for its check.
    ///
    /// # Errors
    /// Where a list is too long, or what is said does not go together.
    pub fn into_spec(self, mut base: ChainSpec) -> Result<ChainSpec, SpecFileError> {
        if base.parent.is_some() {
            let given = [
                ("grants", self.grants.is_some()),
                ("balances", self.balances.is_some()),
                ("stakes", self.stakes.is_some()),
            ];
            if let Some((what, _)) = given.into_iter().find(|(_, is_given)| *is_given) {
                return Err(SpecFileError::OfFork(what));
            }
        }
        self.set_proof(&mut base)?;
        base.block_interval_ms = self.block_interval_ms.unwrap_or(base.block_interval_ms);
        base.reward = self.reward.unwrap_or(base.reward);
        base.reward_halving_blocks = self.reward_halving_blocks.unwrap_or(base.reward_halving_blocks);
        base.decimals = self.decimals.unwrap_or(base.decimals);
        base.unstake_blocks = self.unstake_blocks.unwrap_or(base.unstake_blocks);
        if let Some(mut roles) = self.open_roles {
            roles.sort_unstable();
            base.open_roles = bounded("open_roles", roles)?;
        }
        if let Some(mut grants) = self.grants {
            grants.sort_by_key(|grant| (grant.address, grant.role));
            base.grants = bounded("grants", grants)?;
        }
        let lists = [
            ("balances", self.balances, &mut base.balances),
            ("stakes", self.stakes, &mut base.stakes),
        ];
        for (what, given, list) in lists {
            if let Some(mut entries) = given {
                entries.sort_by_key(|entry| entry.address);
                *list = bounded(what, entries)?;
            }
        }
        Ok(base)
    }

    fn set_proof(&self, base: &mut ChainSpec) -> Result<(), SpecFileError> {
        let is_work = |proof: &ProofSpec| matches!(proof, ProofSpec::Work { .. });
        match (self.proof, self.difficulty) {
            (Some(ProofName::Stake | ProofName::Authority), Some(bits)) => {
                return Err(SpecFileError::DifficultyOf(bits));
            }
            (None, Some(bits)) if !is_work(&base.proof) => return Err(SpecFileError::DifficultyOf(bits)),
            (_, Some(bits)) if bits > MAX_DIFFICULTY => return Err(SpecFileError::Difficulty(bits)),
            (Some(ProofName::Stake), None) => base.proof = ProofSpec::Stake,
            (Some(ProofName::Authority), None) => {
                if base.proof != ProofSpec::Authority {
                    base.block_interval_ms = AUTHORITY_INTERVAL_MS;
                }
                base.proof = ProofSpec::Authority;
            }
            (Some(ProofName::Work), None) if is_work(&base.proof) => {}
            (None, None) => {}
            (_, bits) => {
                base.proof = ProofSpec::Work {
                    initial_bits: Target::from_leading_zero_bits(bits.unwrap_or(DEFAULT_DIFFICULTY))
                        .to_bits(),
                };
            }
        }
        Ok(())
    }
}

fn bounded<T, const N: usize>(what: &'static str, list: Vec<T>) -> Result<BoundedVec<T, N>, SpecFileError> {
    BoundedVec::new(list).map_err(|error| SpecFileError::Long {
        what,
        error: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use block_chain_common::hash::{BlockHash, ChainId, Digest};
    use block_chain_common::keys::SecretKey;
    use block_chain_common::quantity::Height;
    use proptest::prelude::*;

    fn base() -> ChainSpec {
        ChainSpec::default_for("audit", SecretKey::from_seed(&[1; 32]).public_key().address())
    }

    #[test]
    fn what_is_left_out_is_as_in_the_default_chain() {
        assert_eq!(SpecFile::default().into_spec(base()).unwrap(), base());
        let authority: SpecFile = serde_json::from_str(r#"{"proof":"authority"}"#).unwrap();
        let spec = authority.into_spec(base()).unwrap();
        assert_eq!(
            (spec.proof, spec.block_interval_ms),
            (ProofSpec::Authority, 1_000)
        );
    }

    #[test]
    fn a_spec_that_is_shown_makes_the_same_chain_again() {
        let shown = serde_json::to_string(&SpecFile::of(&base())).unwrap();
        let again: SpecFile = serde_json::from_str(&shown).unwrap();
        let id = |spec: ChainSpec| spec.check().unwrap().id();
        assert_eq!(id(again.into_spec(base()).unwrap()), id(base()));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let table = [
            (r#"{"proof":"stake","difficulty":3}"#, "proof of work alone"),
            (r#"{"difficulty":65}"#, "at most 64"),
            (
                r#"{"open_roles":["write","mine","admin","issue","write"]}"#,
                "open_roles",
            ),
        ];
        for (text, part) in table {
            let file: SpecFile = serde_json::from_str(text).unwrap();
            let error = file.into_spec(base()).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        for unreadable in [
            r#"{"prof":"work"}"#,
            r#"{"difficulty":-1}"#,
            r#"{"reward":0.5}"#,
            "7",
        ] {
            assert!(
                serde_json::from_str::<SpecFile>(unreadable).is_err(),
                "{unreadable}"
            );
        }
        let mut fork = base();
        fork.parent = Some(block_chain_common::chain_spec::Parent {
            chain: ChainId::ZERO,
            height: Height::ZERO,
            block: BlockHash::ZERO,
            state_digest: Digest::ZERO,
        });
        let file: SpecFile = serde_json::from_str(r#"{"balances":[]}"#).unwrap();
        assert_eq!(file.into_spec(fork), Err(SpecFileError::OfFork("balances")));
    }

    proptest! {
        #[test]
        fn every_difficulty_is_shown_as_it_was_given(bits in 0..=MAX_DIFFICULTY) {
            let file = SpecFile { difficulty: Some(bits), ..SpecFile::default() };
            let spec = file.into_spec(base()).unwrap();
            prop_assert_eq!(SpecFile::of(&spec).difficulty, Some(bits));
        }
    }
}
