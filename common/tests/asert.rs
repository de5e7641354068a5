//! ASERT against the published runs of `aserti3-2d` (Bitcoin Cash Node's qa-assets, `test_vectors/aserti3-2d`, run01,
//! run03 and run05). Each line there is a block's height and time, and the bits of the block after it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that meets what it does not expect has failed"
)]

use block_chain_common::hash::BlockHash;
use block_chain_common::work::{AsertParameters, Target, Work, asert};
use proptest::prelude::*;

const BITCOIN_LIMIT: u32 = 0x1d00_ffff;
/// Seconds, as the runs have them.
const INTERVAL: u64 = 600;
const HALF_LIFE: u64 = 172_800;

/// The anchor of all three runs is block 1, whose parent has time 0.
fn next_bits(anchor_bits: u32, height: u64, time: i64) -> u32 {
    let parameters = AsertParameters {
        anchor_target: Target::from_bits(anchor_bits).unwrap(),
        limit: Target::from_bits(BITCOIN_LIMIT).unwrap(),
        interval: INTERVAL,
        half_life: HALF_LIFE,
    };
    asert(&parameters, time, height - 1).to_bits()
}

#[test]
fn run_1_steady_blocks_at_the_limit_stay_there() {
    for height in 2..=11_u32 {
        assert_eq!(
            next_bits(0x1d00_ffff, height.into(), i64::from(height) * 600),
            0x1d00_ffff
        );
    }
}

#[test]
fn run_3_steady_blocks_at_the_hardest_target_stay_there() {
    for height in 2..=11_u32 {
        assert_eq!(
            next_bits(0x0101_0000, height.into(), i64::from(height) * 600),
            0x0101_0000
        );
    }
}

#[test]
fn run_5_halves_the_target_with_each_half_life_ahead() {
    assert_eq!(next_bits(0x1d00_ffff, 2, 0), 0x1d00_fec5);
    // From the second line on: every 288 blocks, with the same eight mantissas for each byte of length.
    let mantissas = [
        0x7f62c0, 0x3fb160, 0x1fd8b0, 0x0fec58, 0x07f62c, 0x03fb16, 0x01fd8b, 0x00fec5,
    ];
    for line in 0..208_u32 {
        let expected = ((0x1c - line / 8) << 24) | mantissas[usize::try_from(line % 8).unwrap()];
        let height = 290 + 288 * u64::from(line);
        assert_eq!(next_bits(0x1d00_ffff, height, 0), expected, "height {height}");
    }
    let tail = [
        (60_194, 0x027f_6200),
        (60_482, 0x023f_b100),
        (60_770, 0x021f_d800),
        (61_058, 0x020f_ec00),
        (61_346, 0x0207_f600),
        (61_634, 0x0203_fb00),
        (61_922, 0x0201_fd00),
        (62_210, 0x0200_fe00),
        (62_498, 0x017f_0000),
        (62_786, 0x013f_0000),
        (63_074, 0x011f_0000),
        (63_362, 0x010f_0000),
        (63_650, 0x0107_0000),
        (63_938, 0x0103_0000),
        (64_226, 0x0101_0000),
        (64_514, 0x0101_0000),
    ];
    for (height, expected) in tail {
        assert_eq!(next_bits(0x1d00_ffff, height, 0), expected, "height {height}");
    }
}

#[test]
fn a_target_is_met_by_itself_and_not_by_one_more() {
    let target = Target::from_bits(0x0300_ffff).unwrap();
    let mut bytes = target.to_be_bytes();
    assert!(target.is_met_by(&BlockHash::from_bytes(bytes)));
    // 0xffff and one more is 0x10000.
    bytes[29..].copy_from_slice(&[1, 0, 0]);
    assert!(!target.is_met_by(&BlockHash::from_bytes(bytes)));
}

#[test]
fn malformed_bits_are_refused() {
    for bits in [
        0,
        0x0080_0000,
        0x0100_0000,
        0x1d80_0000,
        0xff00_ffff,
        0x0400_0012,
        0x2200_00ff,
    ] {
        let shortest = Target::from_bits(bits).map(Target::to_bits);
        assert!(shortest.is_err() || shortest == Ok(bits), "{bits:#010x}");
    }
    assert!(Target::from_bits(0).is_err() && Target::from_bits(0xff00_ffff).is_err());
}

proptest! {
    #[test]
    fn bits_and_targets_stand_for_each_other(zero_bits: u8) {
        let target = Target::from_leading_zero_bits(zero_bits);
        prop_assert_eq!(Target::from_bits(target.to_bits()), Ok(target));
    }

    #[test]
    fn a_harder_target_is_more_work(a: u8, b: u8) {
        let (x, y) = (Target::from_leading_zero_bits(a), Target::from_leading_zero_bits(b));
        prop_assert_eq!(x.cmp(&y), y.work().cmp(&x.work()));
        prop_assert!(x.work() > Work::ZERO);
    }

    #[test]
    fn no_input_is_too_large_for_asert(bits in 0x0101_0000_u32..0x2100_ffff, interval: u64, half_life: u64, time: i64, height: u64) {
        let limit = Target::from_leading_zero_bits(0);
        if let Ok(anchor_target) = Target::from_bits(bits) {
            let next = asert(&AsertParameters { anchor_target, limit, interval, half_life }, time, height);
            prop_assert!(next <= limit);
            prop_assert_eq!(Target::from_bits(next.to_bits()), Ok(next));
        }
    }
}
