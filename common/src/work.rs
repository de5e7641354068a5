//! Proof of work: targets, summed work, and ASERT retargeting.
//!
//! ASERT is `aserti3-2d` (CHIP-2020-11, Bitcoin Cash), in milliseconds: the target doubles for each half-life by which
//! the chain is behind its schedule. The schedule starts at block 1, so an idle chain before it costs nothing.

use crate::hash::BlockHash;
use borsh::io::{self, Read, Write};
use borsh::{BorshDeserialize, BorshSerialize};
use ruint::Uint;
use ruint::aliases::U256;

/// The highest difficulty that a chain can be given, in leading zero bits: no machine there is finds such a block in its
/// life, so a higher one is a slip of the pen.
pub const MAX_DIFFICULTY: u8 = 64;

/// A target: a block's hash, read as a big-endian number, must not be above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target(U256);

/// Compact bits that stand for no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("compact target {bits:#010x} is negative, zero, over 256 bits, or not in its shortest form")]
pub struct TargetError {
    bits: u32,
}

impl Target {
    /// The easiest target with this many leading zero bits (0 to 255).
    #[must_use]
    pub fn from_leading_zero_bits(zero_bits: u8) -> Self {
        let target = Self(U256::MAX.wrapping_shr(usize::from(zero_bits)));
        // Through the compact form, so that a target and its bits always stand for each other.
        Self::from_bits(target.to_bits()).unwrap_or(target)
    }

    /// How many leading zero bits the target has.
    #[must_use]
    pub fn leading_zero_bits(self) -> u8 {
        let bits = 256_usize.saturating_sub(self.0.bit_len());
        u8::try_from(bits).unwrap_or(u8::MAX)
    }

    /// Reads Bitcoin's compact form.
    ///
    /// # Errors
    /// Where it is negative, zero, too large, or not what [`Self::to_bits`] writes.
    pub fn from_bits(bits: u32) -> Result<Self, TargetError> {
        let size = bits >> 24;
        let word = U256::from(bits & 0x007f_ffff);
        let value = if size <= 3 {
            word.checked_shr(usize::try_from(8_u32.saturating_mul(3_u32.saturating_sub(size))).unwrap_or(0))
        } else {
            word.checked_shl(
                usize::try_from(8_u32.saturating_mul(size.saturating_sub(3))).unwrap_or(usize::MAX),
            )
        };
        let target = Self(value.unwrap_or(U256::ZERO));
        if target.0.is_zero() || target.to_bits() != bits {
            return Err(TargetError { bits });
        }
        Ok(target)
    }

    /// Bitcoin's compact form: a length byte and three bytes of mantissa; loses the lower digits.
    #[must_use]
    pub fn to_bits(self) -> u32 {
        let mut size = u32::try_from(self.0.bit_len().div_ceil(8)).unwrap_or(32);
        let shifted = if size <= 3 {
            self.0
                .wrapping_shl(usize::try_from(8_u32.saturating_mul(3_u32.saturating_sub(size))).unwrap_or(0))
        } else {
            self.0
                .wrapping_shr(usize::try_from(8_u32.saturating_mul(size.saturating_sub(3))).unwrap_or(0))
        };
        let mut mantissa = u32::try_from(shifted & U256::from(0x00ff_ffff_u32)).unwrap_or(0);
        if mantissa & 0x0080_0000 != 0 {
            // The top bit is a sign in this form.
            mantissa >>= 8;
            size = size.saturating_add(1);
        }
        mantissa | (size << 24)
    }

    /// From 32 big-endian bytes.
    #[must_use]
    pub const fn from_be_bytes(bytes: [u8; 32]) -> Self {
        Self(U256::from_be_bytes(bytes))
    }

    /// 32 big-endian bytes.
    #[must_use]
    pub const fn to_be_bytes(self) -> [u8; 32] {
        self.0.to_be_bytes()
    }

    /// Whether a block's hash meets the target.
    #[must_use]
    pub fn is_met_by(&self, hash: &BlockHash) -> bool {
        U256::from_be_bytes(*hash.as_bytes()) <= self.0
    }

    /// The expected number of attempts: `2²⁵⁶ / (target + 1)`.
    #[must_use]
    pub fn work(&self) -> Work {
        let divisor = self.0.saturating_add(U256::ONE);
        let quotient = (!self.0).checked_div(divisor).unwrap_or(U256::ZERO);
        Work(quotient.saturating_add(U256::ONE))
    }
}

/// Summed work of a branch: what fork choice compares. Never its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Work(U256);

impl Work {
    /// None.
    pub const ZERO: Self = Self(U256::ZERO);
    /// One attempt: what a block counts that needs no work (authority), so that the longer branch has more.
    pub const ONE: Self = Self(U256::ONE);

    /// The sum; stays at the largest there is.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Roughly, for people and statistics.
    #[must_use]
    pub fn to_u128(self) -> u128 {
        u128::try_from(self.0).unwrap_or(u128::MAX)
    }
}

impl BorshSerialize for Work {
    fn serialize<W: Write>(&self, writer: &mut W) -> io::Result<()> {
        writer.write_all(&self.0.to_be_bytes::<32>())
    }
}

impl BorshDeserialize for Work {
    fn deserialize_reader<R: Read>(reader: &mut R) -> io::Result<Self> {
        Ok(Self(U256::from_be_bytes(<[u8; 32]>::deserialize_reader(reader)?)))
    }
}

/// What ASERT starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsertParameters {
    /// The anchor block's target.
    pub anchor_target: Target,
    /// The easiest target allowed.
    pub limit: Target,
    /// The interval aimed at, in the unit of time that is used throughout.
    pub interval: u64,
    /// By how much the chain must be behind for the target to double, in the same unit.
    pub half_life: u64,
}

/// The next block's target.
///
/// `time_delta`: the parent's time less that of the anchor's parent. `height_delta`: the parent's height less the anchor's.
#[must_use]
pub fn asert(parameters: &AsertParameters, time_delta: i64, height_delta: u64) -> Target {
    type Wide = Uint<512, 8>;
    const RADIX: i128 = 65_536;
    let scheduled =
        i128::from(parameters.interval).saturating_mul(i128::from(height_delta).saturating_add(1));
    let behind = i128::from(time_delta)
        .saturating_sub(scheduled)
        .saturating_mul(RADIX);
    // Rust's division truncates towards zero, as the reference implementation's does.
    let exponent = behind
        .checked_div(i128::from(parameters.half_life.max(1)))
        .unwrap_or(0);
    let shifts = exponent >> 16;
    let fraction = u128::try_from(exponent & 0xffff).unwrap_or(0);
    if shifts >= 256 {
        return parameters.limit;
    }
    if shifts < -288 {
        return Target(U256::ONE);
    }
    let cubic = 195_766_423_245_049_u128
        .saturating_mul(fraction)
        .saturating_add(971_821_376_u128.saturating_mul(fraction).saturating_mul(fraction))
        .saturating_add(
            5_127_u128
                .saturating_mul(fraction)
                .saturating_mul(fraction)
                .saturating_mul(fraction),
        )
        .saturating_add(1 << 47);
    let factor = 65_536_u128.saturating_add(cubic >> 48);
    let product = Wide::from(parameters.anchor_target.0).saturating_mul(Wide::from(factor));
    let distance = usize::try_from(shifts.unsigned_abs()).unwrap_or(0);
    let shifted = if shifts < 0 {
        product.wrapping_shr(distance)
    } else {
        product.saturating_shl(distance)
    };
    let next = U256::saturating_from(shifted.wrapping_shr(16));
    let next = Target(next.clamp(U256::ONE, parameters.limit.0));
    // As miners and verifiers see it: through the compact form.
    Target::from_bits(next.to_bits()).unwrap_or(next)
}
