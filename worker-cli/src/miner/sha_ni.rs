//! The search with the SHA extensions of x86: `N` nonces side by side, because a round instruction waits for the one
//! before it and the processor can run another nonce's meanwhile.
//!
//! Only the hash's first word is compared; a nonce whose first word passes is a candidate, and the caller judges it whole.
//!
//! The functions are safe to read and to call from one another; the one unsafe step is entering [`search`] on a processor
//! that was not asked, and `kernel.rs` asks it.

use super::midstate::{INITIAL, Midstate, ROUND};
use core::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_set_epi32, _mm_setzero_si128,
    _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi32,
};

/// One vector for each of `N` nonces.
type Lanes<const N: usize> = [__m128i; N];

/// The lowest nonce of `first..=last` (the low three bytes of the midstate's run) that `accept` takes, out of those whose
/// hash begins with a word of at most `limit`.
#[target_feature(enable = "sha,sse4.1,ssse3")]
pub(super) fn search<const N: usize>(
    midstate: &Midstate,
    limit: u32,
    first: u32,
    last: u32,
    accept: impl Fn(u32) -> bool,
) -> Option<u32> {
    let mut base = first;
    loop {
        let mut lows = [base; N];
        for n in 1..N {
            // Past the end the last nonce is tried again, which changes nothing.
            lows[n] = (lows[n - 1] + 1).min(last);
        }
        let words = first_hash_words(midstate, &lows);
        for n in 0..N {
            if words[n] <= limit && accept(lows[n]) {
                return Some(lows[n]);
            }
        }
        if lows[N - 1] == last {
            return None;
        }
        base = lows[N - 1] + 1;
    }
}

/// The first word of each nonce's hash.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn first_hash_words<const N: usize>(midstate: &Midstate, lows: &[u32; N]) -> [u32; N] {
    let [a, b, c, d, e, f, g, h] = midstate.state;
    let mut abef = [lanes([f, e, b, a]); N];
    let mut cdgh = [lanes([h, g, d, c]); N];
    let mut words = [[_mm_setzero_si128(); N]; 4];
    for n in 0..N {
        let word_9 = midstate.word_9(lows[n]);
        abef[n] = _mm_add_epi32(abef[n], lanes([0, word_9, 0, word_9]));
        [words[0][n], words[1][n], words[2][n], words[3][n]] = words_16_to_31(midstate, word_9);
    }
    let [w10, w11] = [midstate.words[10], midstate.words[11]];
    let (w12, k8) = (lanes(four(&midstate.words, 12)), [ROUND[10], ROUND[11], 0, 0]);
    two_rounds(
        &mut abef,
        &mut cdgh,
        &[_mm_add_epi32(lanes([w10, w11, 0, 0]), lanes(k8)); N],
    );
    four_rounds(&mut abef, &mut cdgh, &[w12; N], 12);
    for (i, four) in words.iter().enumerate() {
        four_rounds(&mut abef, &mut cdgh, four, 16 + 4 * i);
    }
    for pass in 2..4 {
        for i in 0..4 {
            schedule(&mut words, i);
            four_rounds(&mut abef, &mut cdgh, &words[i], 16 * pass + 4 * i);
        }
    }
    let mut first_words = [0; N];
    for n in 0..N {
        first_words[n] = _mm_extract_epi32::<3>(abef[n])
            .cast_unsigned()
            .wrapping_add(INITIAL[0]);
    }
    first_words
}

/// The first pass of the schedule, where what does not depend on word 9 is the same for every nonce of the run.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn words_16_to_31(midstate: &Midstate, word_9: u32) -> [__m128i; 4] {
    let [w0, w4, w8, w12] = [0, 4, 8, 12].map(|at| four(&midstate.words, at));
    let (w0, w4, w8, w12) = (lanes(w0), lanes(w4), lanes(w8), lanes(w12));
    let from_9 = _mm_add_epi32(_mm_alignr_epi8::<4>(w12, w8), lanes([word_9, 0, 0, 0]));
    let w16 = _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(w0, w4), from_9), w12);
    // Of its second operand this instruction takes the first word alone, and that is word 8.
    let w20 = next_words(w4, w8, w12, w16);
    let w24 = next_words(_mm_add_epi32(w8, lanes([0, word_9, 0, 0])), w12, w16, w20);
    let w28 = next_words(w12, w16, w20, w24);
    [w16, w20, w24, w28]
}

/// The four words of the schedule that follow these sixteen.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn next_words(w0: __m128i, w4: __m128i, w8: __m128i, w12: __m128i) -> __m128i {
    let terms = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w4), _mm_alignr_epi8::<4>(w12, w8));
    _mm_sha256msg2_epu32(terms, w12)
}

/// Replaces the oldest four of the last sixteen words, `words[i]`, by the next four.
#[expect(
    clippy::needless_range_loop,
    reason = "four vectors of four lists are read and one is written, all at n"
)]
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn schedule<const N: usize>(words: &mut [Lanes<N>; 4], i: usize) {
    for n in 0..N {
        let [w4, w8, w12] = [
            words[(i + 1) % 4][n],
            words[(i + 2) % 4][n],
            words[(i + 3) % 4][n],
        ];
        words[i][n] = next_words(words[i][n], w4, w8, w12);
    }
}

/// The rounds of four words, the first of which is word `at`.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn four_rounds<const N: usize>(abef: &mut Lanes<N>, cdgh: &mut Lanes<N>, words: &Lanes<N>, at: usize) {
    let mut sums = *words;
    for sum in &mut sums {
        *sum = _mm_add_epi32(*sum, lanes(four(&ROUND, at)));
    }
    two_rounds(abef, cdgh, &sums);
    for sum in &mut sums {
        *sum = _mm_shuffle_epi32::<0x0e>(*sum);
    }
    two_rounds(abef, cdgh, &sums);
}

/// Two rounds, with the sums of word and constant in the two low lanes.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn two_rounds<const N: usize>(abef: &mut Lanes<N>, cdgh: &mut Lanes<N>, sums: &Lanes<N>) {
    for n in 0..N {
        let next = _mm_sha256rnds2_epu32(cdgh[n], abef[n], sums[n]);
        cdgh[n] = abef[n];
        abef[n] = next;
    }
}

/// A vector of these lanes, the lowest first.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn lanes(values: [u32; 4]) -> __m128i {
    let [lane_0, lane_1, lane_2, lane_3] = values.map(u32::cast_signed);
    _mm_set_epi32(lane_3, lane_2, lane_1, lane_0)
}

#[inline]
fn four(values: &[u32], at: usize) -> [u32; 4] {
    [values[at], values[at + 1], values[at + 2], values[at + 3]]
}
