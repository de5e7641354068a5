//! Proof of stake: slots, who is drawn for each, and the beacon that the draw comes from.
//!
//! Time is divided into slots of the chain's block interval. A slot has one producer, drawn by stake. An epoch is 32 blocks;
//! its draw rests on a seed and on stakes that were fixed at the end of the epoch before the last, so that they are
//! final long before they count: nobody can choose keys, stakes or blocks to be drawn more often. The seed is hashed from the
//! VRF outputs (RFC 9381) of all blocks before: a producer cannot choose its own, it can only leave its slot unused. A slot that
//! nobody used goes on to the next, which has a draw of its own. While nobody has any stake, whoever may mine may use any slot.

use crate::chain_spec::Allocation;
use crate::codec::BoundedVec;
use crate::hash::{ChainId, Digest, sha256};
use crate::keys::Address;
use crate::quantity::{Amount, Height, Timestamp};
use crate::vrf::Output;
use borsh::{BorshDeserialize, BorshSerialize};

/// Blocks of an epoch.
pub const EPOCH_BLOCKS: u64 = 32;
/// Addresses that may have stake at a time: as many as workers of a chain.
pub const MAX_STAKERS: usize = 256;
/// The shortest slot: a block must reach the others within it.
pub const MIN_SLOT_MS: u64 = 100;
/// How far ahead of this machine's clock a slot may begin, at least: clocks of machines that are kept are closer.
const MIN_AHEAD_MS: u64 = 1_000;

const SEED_DOMAIN: &[u8] = b"block-chain/seed/v1\0";
const DRAW_DOMAIN: &[u8] = b"block-chain/draw/v1\0";
const SLOT_DOMAIN: &[u8] = b"block-chain/slot/v1\0";

/// Stakes, sorted by address; none is 0.
pub type Stakes = BoundedVec<Allocation, MAX_STAKERS>;

/// Which of the two draws that the state keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Turn {
    /// That of this epoch.
    Current = 0,
    /// That of the next.
    Next = 1,
}

/// What the producers of an epoch are drawn from.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Draw {
    /// The seed.
    pub seed: Digest,
    /// The stakes.
    pub stakes: Stakes,
}

impl Draw {
    /// Who may use a slot; `None` where nobody has stake, and everybody may.
    ///
    /// `SHA-256(domain ‖ seed ‖ slot)` as a number, modulo the sum of all stakes, falls on a place in their row: of 2¹²⁸
    /// values each unit of stake has as many as every other, to within one in 2⁶⁴.
    #[must_use]
    pub fn producer(&self, slot: u64) -> Option<Address> {
        let amounts = self
            .stakes
            .as_slice()
            .iter()
            .map(|stake| u128::from(stake.amount.get()));
        let total: u128 = amounts.fold(0, u128::saturating_add);
        let hash = sha256(&[DRAW_DOMAIN, self.seed.as_bytes(), &slot.to_le_bytes()]);
        let number = hash
            .first_chunk::<16>()
            .map_or(0, |bytes| u128::from_le_bytes(*bytes));
        let mut place = number.checked_rem(total)?;
        for stake in self.stakes.as_slice() {
            match place.checked_sub(u128::from(stake.amount.get())) {
                Some(rest) => place = rest,
                None => return Some(stake.address),
            }
        }
        None
    }

    /// Whether an address may be drawn.
    #[must_use]
    pub fn includes(&self, address: &Address) -> bool {
        let stakes = self.stakes.as_slice();
        stakes.is_empty()
            || stakes
                .binary_search_by(|stake| stake.address.cmp(address))
                .is_ok()
    }

    /// What the producer of a slot proves its VRF output for.
    #[must_use]
    pub fn input(&self, chain: &ChainId, slot: u64) -> Vec<u8> {
        [
            SLOT_DOMAIN,
            chain.as_bytes(),
            self.seed.as_bytes(),
            &slot.to_le_bytes(),
        ]
        .concat()
    }
}

/// The first seed: the digest of the chain's spec.
#[must_use]
pub fn first_seed(spec: &[u8]) -> Digest {
    Digest::from_bytes(sha256(&[SEED_DOMAIN, &sha256(&[spec])]))
}

/// The seed with one block more.
#[must_use]
pub fn next_seed(seed: &Digest, output: &Output) -> Digest {
    Digest::from_bytes(sha256(&[SEED_DOMAIN, seed.as_bytes(), output.as_bytes()]))
}

/// Whether the draws change after the block at a height.
#[must_use]
pub const fn ends_epoch(height: Height) -> bool {
    height.get().is_multiple_of(EPOCH_BLOCKS)
}

/// The block after which the stakes were as they count for the block at a height.
#[must_use]
pub const fn decided_at(height: Height) -> Height {
    let epoch = height.get().saturating_sub(1) / EPOCH_BLOCKS;
    Height::new(epoch.saturating_sub(1).saturating_mul(EPOCH_BLOCKS))
}

/// The slot of a time; slots are counted from 1970 on.
#[must_use]
pub fn slot_at(time: Timestamp, interval_ms: u64) -> u64 {
    time.get().checked_div(interval_ms).unwrap_or(0)
}

/// When a slot begins.
#[must_use]
pub const fn slot_start(slot: u64, interval_ms: u64) -> Timestamp {
    Timestamp::new(slot.saturating_mul(interval_ms))
}

/// How far ahead of this machine's clock a block's time may be: a slot, so that nobody uses the slots of others before they
/// come.
#[must_use]
pub fn allowed_ahead_ms(interval_ms: u64) -> u64 {
    interval_ms.clamp(MIN_AHEAD_MS, crate::limits::MAX_FUTURE_MS)
}

/// The stakes where an address has this much now; `None` where there would be more than [`MAX_STAKERS`].
#[must_use]
pub fn with_stake(stakes: &Stakes, address: Address, amount: Amount) -> Option<Stakes> {
    let mut all = stakes.as_slice().to_vec();
    match all.binary_search_by(|stake| stake.address.cmp(&address)) {
        Ok(place) if amount == Amount::ZERO => {
            all.remove(place);
        }
        Ok(place) => {
            if let Some(stake) = all.get_mut(place) {
                stake.amount = amount;
            }
        }
        Err(_) if amount == Amount::ZERO => {}
        Err(place) => all.insert(place, Allocation { address, amount }),
    }
    BoundedVec::new(all).ok()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::arithmetic_side_effects,
        clippy::cast_precision_loss,
        clippy::float_arithmetic,
        reason = "a test that meets what it does not expect has failed; statistics are of floating point"
    )]

    use super::*;
    use crate::keys::SecretKey;
    use crate::vrf::prove;
    use std::collections::BTreeMap;

    fn address(seed: u8) -> Address {
        SecretKey::from_seed(&[seed; 32]).public_key().address()
    }

    fn draw(stakes: &[(u8, u64)]) -> Draw {
        let mut all = Stakes::default();
        for (seed, amount) in stakes {
            all = with_stake(&all, address(*seed), Amount::new(*amount)).unwrap();
        }
        let seed = first_seed(b"spec");
        Draw { seed, stakes: all }
    }

    #[test]
    fn over_ten_thousand_slots_each_has_its_share() {
        let stakes = [(1, 1), (2, 10), (3, 100), (4, 389), (5, 500)];
        let draw = draw(&stakes);
        let mut slots: BTreeMap<Address, u32> = BTreeMap::new();
        for slot in 0..10_000 {
            *slots.entry(draw.producer(slot).unwrap()).or_default() += 1;
        }
        for (seed, amount) in stakes {
            let share = amount as f64 / 1_000.0;
            let deviation = (10_000.0 * share * (1.0 - share)).sqrt();
            let found = f64::from(slots.get(&address(seed)).copied().unwrap_or_default());
            assert!(
                (found - 10_000.0 * share).abs() <= 3.0 * deviation,
                "{amount}: {found}"
            );
        }
    }

    #[test]
    fn the_seed_decides_and_nobody_chooses_it() {
        let (one, mut other) = (draw(&[(1, 1), (2, 1)]), draw(&[(1, 1), (2, 1)]));
        let key = SecretKey::from_seed(&[1; 32]);
        let chain = ChainId::from_bytes([3; 32]);
        let (_, output) = prove(&key, &one.input(&chain, 7));
        // A key has one output for a slot, whatever is in the block.
        assert_eq!(prove(&key, &one.input(&chain, 7)).1, output);
        other.seed = next_seed(&one.seed, &output);
        let differ = (0..100)
            .filter(|slot| one.producer(*slot) != other.producer(*slot))
            .count();
        assert!((25..75).contains(&differ), "{differ}");
        assert_ne!(one.input(&chain, 7), one.input(&chain, 8));
        assert_ne!(one.input(&chain, 7), other.input(&chain, 7));
    }

    #[test]
    fn without_stake_everybody_may_and_with_it_who_has_some() {
        let nobody = draw(&[]);
        assert_eq!(nobody.producer(1), None);
        assert!(nobody.includes(&address(9)));
        let some = draw(&[(1, 5), (2, 5)]);
        assert!(some.includes(&address(1)) && !some.includes(&address(9)));
        let largest = draw(&[(1, u64::MAX), (2, u64::MAX)]);
        assert!(largest.producer(1).is_some());
    }

    #[test]
    fn stakes_stay_sorted_and_bounded() {
        let mut stakes = Stakes::default();
        for seed in 0..=255 {
            stakes = with_stake(&stakes, address(seed), Amount::new(1)).unwrap();
        }
        assert!(stakes.as_slice().is_sorted_by(|a, b| a.address < b.address));
        let stranger = Address::from_bytes([7; 32]);
        assert_eq!(with_stake(&stakes, stranger, Amount::new(1)), None);
        assert_eq!(with_stake(&stakes, stranger, Amount::ZERO).unwrap(), stakes);
        let fewer = with_stake(&stakes, address(0), Amount::ZERO).unwrap();
        assert_eq!(fewer.as_slice().len(), 255);
        assert!(with_stake(&fewer, stranger, Amount::new(1)).is_some());
    }

    #[test]
    fn epochs_rest_on_what_was_before_the_last() {
        for (height, decided) in [(1, 0), (32, 0), (33, 0), (64, 0), (65, 32), (96, 32), (97, 64)] {
            assert_eq!(decided_at(Height::new(height)).get(), decided, "{height}");
        }
        assert!(ends_epoch(Height::new(32)) && !ends_epoch(Height::new(33)));
        assert_eq!(slot_at(Timestamp::new(1_999), 1_000), 1);
        assert_eq!(slot_start(2, 1_000), Timestamp::new(2_000));
        assert_eq!(
            [100, 5_000, 1_000_000].map(allowed_ahead_ms),
            [1_000, 5_000, 120_000]
        );
    }
}
