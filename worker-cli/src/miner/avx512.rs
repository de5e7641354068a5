//! The search with AVX-512: sixteen nonces to a vector, one 32-bit lane each, and two vectors side by side so that one
//! computes while the other waits for its last result.
//!
//! Only the hash's first word is computed; a nonce whose first word passes is a candidate, and the caller judges it whole.
//!
//! The functions are safe to read and to call from one another; the one unsafe step is entering [`search`] on a processor
//! that was not asked, and `kernel.rs` asks it.

use super::midstate::{INITIAL, Midstate, ROUND};
use core::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_cmple_epu32_mask, _mm512_ror_epi32, _mm512_set1_epi32,
    _mm512_setr_epi32, _mm512_setzero_si512, _mm512_srli_epi32, _mm512_ternarylogic_epi32,
};

/// Nonces to a vector.
const LANES: u32 = 16;

/// One value for each nonce of `N` vectors.
type Lanes<const N: usize> = [__m512i; N];

/// Repeats a block with `$i` as the constants 0 to 15, or as those listed, so that every index is known when it is compiled.
macro_rules! unrolled {
    ($i:ident => $body:block) => {
        unrolled!($i in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 => $body);
    };
    ($i:ident in $($value:literal)* => $body:block) => {
        unrolled!(@ $i $body $($value)*);
    };
    (@ $i:ident $body:block $($value:literal)*) => {
        $({
            const $i: usize = $value;
            $body
        })*
    };
}

/// The lowest nonce of `first..=last` (the low three bytes of the midstate's run) that `accept` takes, out of those whose
/// hash begins with a word of at most `limit`.
#[target_feature(enable = "avx512f")]
pub(super) fn search<const N: usize>(
    midstate: &Midstate,
    limit: u32,
    first: u32,
    last: u32,
    accept: impl Fn(u32) -> bool,
) -> Option<u32> {
    const {
        assert!(
            N == 1 || N == 2 || N == 4,
            "a step stays within the byte that the lanes vary"
        )
    };
    let mut offsets = zero::<N>();
    let mut step = 0;
    for offset in &mut offsets {
        let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        *offset = _mm512_add_epi32(lanes, splat(step));
        // The nonce's lowest byte is the third of word 9.
        *offset = core::arch::x86_64::_mm512_slli_epi32::<16>(*offset);
        step += LANES;
    }
    let mut base = first - first % step;
    while base <= last {
        let word_9 = add(offsets, all(midstate.word_9(base)));
        let words = first_hash_words(midstate, word_9);
        let mut candidates = 0_u64;
        for n in (0..N).rev() {
            candidates = candidates << LANES | u64::from(_mm512_cmple_epu32_mask(words[n], splat(limit)));
        }
        while candidates != 0 {
            let low = base + candidates.trailing_zeros();
            if (first..=last).contains(&low) && accept(low) {
                return Some(low);
            }
            candidates &= candidates - 1;
        }
        base += step;
    }
    None
}

/// The first word of each nonce's hash.
#[inline]
#[target_feature(enable = "avx512f")]
fn first_hash_words<const N: usize>(midstate: &Midstate, word_9: Lanes<N>) -> Lanes<N> {
    let mut state = [zero::<N>(); 8];
    for (lanes, value) in state.iter_mut().zip(midstate.state) {
        *lanes = all(value);
    }
    state[0] = add(state[0], word_9);
    state[4] = add(state[4], word_9);
    // Rounds 0 to 9 are in the midstate. A loop over the other six is not unrolled, and costs a sixth of the speed.
    unrolled!(I in 10 11 12 13 14 15 => {
        round(&mut state, all(midstate.words[I].wrapping_add(ROUND[I])));
    });
    let mut words = words_16_to_31(midstate, word_9);
    unrolled!(I => {
        round(&mut state, add(words[I], all(ROUND[16 + I])));
    });
    for constants in &ROUND.as_chunks::<16>().0[2..] {
        unrolled!(I => {
            let terms = add(words[I], words[(I + 9) % 16]);
            words[I] = add(add(terms, sigma_0(words[(I + 1) % 16])), sigma_1(words[(I + 14) % 16]));
            round(&mut state, add(words[I], all(constants[I])));
        });
    }
    add(state[0], all(INITIAL[0]))
}

/// The first pass of the schedule, where few words depend on word 9 in full.
#[inline]
#[target_feature(enable = "avx512f")]
fn words_16_to_31<const N: usize>(midstate: &Midstate, word_9: Lanes<N>) -> Lanes16<N> {
    let mut w = [zero::<N>(); 16];
    for (lanes, part) in w.iter_mut().zip(midstate.parts) {
        *lanes = all(part);
    }
    w[0] = add(w[0], word_9);
    w[2] = add(w[2], sigma_1(w[0]));
    w[4] = add(w[4], sigma_1(w[2]));
    w[6] = add(w[6], sigma_1(w[4]));
    w[7] = add(w[7], w[0]);
    w[8] = add(add(w[8], sigma_0(word_9)), sigma_1(w[6]));
    w[9] = add(add(w[9], add(w[2], word_9)), sigma_1(w[7]));
    w[10] = add(w[10], sigma_1(w[8]));
    w[11] = add(add(w[11], w[4]), sigma_1(w[9]));
    w[12] = add(w[12], sigma_1(w[10]));
    w[13] = add(add(w[13], w[6]), sigma_1(w[11]));
    w[14] = add(add(w[14], w[7]), sigma_1(w[12]));
    w[15] = add(add(w[15], add(w[8], sigma_0(w[0]))), sigma_1(w[13]));
    w
}

/// Sixteen words of the schedule for each nonce.
type Lanes16<const N: usize> = [Lanes<N>; 16];

#[inline]
#[target_feature(enable = "avx512f")]
fn round<const N: usize>(state: &mut [Lanes<N>; 8], word_and_constant: Lanes<N>) {
    const CHOICE: i32 = 0xca;
    const MAJORITY: i32 = 0xe8;
    let [a, b, c, d, e, f, g, h] = *state;
    let (mut new_a, mut new_e) = (a, e);
    for n in 0..N {
        let sum_1 = xor(
            _mm512_ror_epi32::<6>(e[n]),
            _mm512_ror_epi32::<11>(e[n]),
            _mm512_ror_epi32::<25>(e[n]),
        );
        let choice = _mm512_ternarylogic_epi32::<CHOICE>(e[n], f[n], g[n]);
        let early = _mm512_add_epi32(_mm512_add_epi32(h[n], word_and_constant[n]), choice);
        let first = _mm512_add_epi32(early, sum_1);
        let sum_0 = xor(
            _mm512_ror_epi32::<2>(a[n]),
            _mm512_ror_epi32::<13>(a[n]),
            _mm512_ror_epi32::<22>(a[n]),
        );
        let majority = _mm512_ternarylogic_epi32::<MAJORITY>(a[n], b[n], c[n]);
        new_e[n] = _mm512_add_epi32(d[n], first);
        new_a[n] = _mm512_add_epi32(first, _mm512_add_epi32(sum_0, majority));
    }
    *state = [new_a, a, b, c, new_e, e, f, g];
}

#[inline]
#[target_feature(enable = "avx512f")]
fn sigma_0<const N: usize>(mut x: Lanes<N>) -> Lanes<N> {
    for x in &mut x {
        *x = xor(
            _mm512_ror_epi32::<7>(*x),
            _mm512_ror_epi32::<18>(*x),
            _mm512_srli_epi32::<3>(*x),
        );
    }
    x
}

#[inline]
#[target_feature(enable = "avx512f")]
fn sigma_1<const N: usize>(mut x: Lanes<N>) -> Lanes<N> {
    for x in &mut x {
        *x = xor(
            _mm512_ror_epi32::<17>(*x),
            _mm512_ror_epi32::<19>(*x),
            _mm512_srli_epi32::<10>(*x),
        );
    }
    x
}

#[inline]
#[target_feature(enable = "avx512f")]
fn xor(x: __m512i, y: __m512i, z: __m512i) -> __m512i {
    const XOR: i32 = 0x96;
    _mm512_ternarylogic_epi32::<XOR>(x, y, z)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add<const N: usize>(mut x: Lanes<N>, y: Lanes<N>) -> Lanes<N> {
    for n in 0..N {
        x[n] = _mm512_add_epi32(x[n], y[n]);
    }
    x
}

#[inline]
#[target_feature(enable = "avx512f")]
fn all<const N: usize>(value: u32) -> Lanes<N> {
    [splat(value); N]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn splat(value: u32) -> __m512i {
    _mm512_set1_epi32(value.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f")]
fn zero<const N: usize>() -> Lanes<N> {
    [_mm512_setzero_si512(); N]
}
