//! ASERT against the published runs of `aserti3-2d`, see `vectors/asert/README`.

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
use std::fs;

const BITCOIN_LIMIT: u32 = 0x1d00_ffff;
/// Seconds, as the runs have them.
const INTERVAL: u64 = 600;
const HALF_LIFE: u64 = 172_800;

/// A run's lines `height, time, bits of the next block`, and its anchor's height, parent's time, and bits.
struct Run {
    anchor: (u64, i64, u32),
    lines: Vec<(u64, i64, u32)>,
}

fn read(number: u32) -> Run {
    let path = format!(
        "{}/tests/vectors/asert/run{number:02}",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = fs::read_to_string(path).unwrap();
    let said = |name: &str| {
        text.lines()
            .find_map(|line| line.split_once(name))
            .unwrap()
            .1
            .trim()
    };
    let bits = |text: &str| u32::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap();
    let anchor = (
        said("anchor height:").parse().unwrap(),
        said(if number < 11 {
            "anchor ancestor time:"
        } else {
            "anchor parent time:"
        })
        .parse()
        .unwrap(),
        bits(said("anchor nBits:")),
    );
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let lines: Vec<_> = lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (
                words[1].parse().unwrap(),
                words[2].parse().unwrap(),
                bits(words[3]),
            )
        })
        .collect();
    assert_eq!(said("iterations:"), lines.len().to_string(), "run {number}");
    Run { anchor, lines }
}

#[test]
fn the_published_runs_are_followed_bit_by_bit() {
    for number in 1..=12 {
        let Run { anchor, lines } = read(number);
        let (anchor_height, ancestor_time, anchor_bits) = anchor;
        let parameters = AsertParameters {
            anchor_target: Target::from_bits(anchor_bits).unwrap(),
            limit: Target::from_bits(BITCOIN_LIMIT).unwrap(),
            interval: INTERVAL,
            half_life: HALF_LIFE,
        };
        for (height, time, expected) in lines {
            let found = asert(&parameters, time - ancestor_time, height - anchor_height).to_bits();
            assert_eq!(found, expected, "run {number}, height {height}: {found:#010x}");
        }
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
