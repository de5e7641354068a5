//! What every nonce of one run of 2^24 shares, computed once: SHA-256 as far as it goes without the low three bytes.
//!
//! The hashed block is `digest ‖ 0x01 ‖ bits ‖ nonce` and padding. In big-endian words the nonce's low three bytes lie in
//! word 9 alone, so rounds 0 to 8 and much of the first schedule pass are the same for the whole run.
//!
//! Invariant: only word 9 varies. Absent: any instruction set; this file is plain arithmetic.

use super::kernel::Puzzle;

/// The nonces of a run differ in this many low bits: the three bytes that lie in word 9.
pub(super) const RUN_BITS: u32 = 24;

/// SHA-256's initial hash value (FIPS 180-4, 5.3.3).
pub(super) const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// SHA-256's round constants (FIPS 180-4, 4.2.2).
#[rustfmt::skip]
pub(super) const ROUND: [u32; 64] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
    0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
    0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
];

/// What the nonces of one run share.
pub(super) struct Midstate {
    /// `a` to `h` after rounds 0 to 9 with word 9 counted as zero; the true ones have word 9 added to `a` and `e`.
    pub(super) state: [u32; 8],
    /// Words 0 to 15 with word 9 as zero.
    pub(super) words: [u32; 16],
    /// Words 16 to 31 without the terms that depend on word 9; words 17, 19 and 21 have none, so they are whole.
    pub(super) parts: [u32; 16],
    /// The byte of `bits` that shares word 9 with the nonce.
    word_9: u32,
}

impl Midstate {
    /// Prepares the run that `nonce` belongs to.
    pub(super) fn new(puzzle: &Puzzle, nonce: u64) -> Self {
        let block = puzzle.block(nonce);
        let (chunks, _) = block.as_chunks::<4>();
        let mut words = [0; 16];
        for (word, chunk) in words.iter_mut().zip(chunks) {
            *word = u32::from_be_bytes(*chunk);
        }
        let word_9 = words[9] & 0xff00_0000;
        words[9] = 0;
        Self {
            state: rounds_0_to_9(&words),
            parts: parts(&words),
            words,
            word_9,
        }
    }

    /// Word 9 for the nonce whose low three bytes are `low`.
    pub(super) fn word_9(&self, low: u32) -> u32 {
        self.word_9 | (low.swap_bytes() >> 8)
    }
}

fn rounds_0_to_9(words: &[u32; 16]) -> [u32; 8] {
    let mut state = INITIAL;
    for (word, constant) in words.iter().zip(ROUND).take(10) {
        let [a, b, c, d, e, f, g, h] = state;
        let sum_1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let choice = (e & f) ^ (!e & g);
        let first = h
            .wrapping_add(sum_1)
            .wrapping_add(choice)
            .wrapping_add(constant)
            .wrapping_add(*word);
        let sum_0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let majority = (a & b) ^ (a & c) ^ (b & c);
        state = [
            first.wrapping_add(sum_0).wrapping_add(majority),
            a,
            b,
            c,
            d.wrapping_add(first),
            e,
            f,
            g,
        ];
    }
    state
}

/// Words that vary are kept at zero, and both small sigmas of zero are zero, so the sums hold the constant terms alone.
fn parts(words: &[u32; 16]) -> [u32; 16] {
    let mut known = [0_u32; 32];
    known[..16].copy_from_slice(words);
    let mut parts = [0; 16];
    for t in 16..32 {
        let [x, y] = [known[t - 2], known[t - 15]];
        let sigma_1 = x.rotate_right(17) ^ x.rotate_right(19) ^ (x >> 10);
        let sigma_0 = y.rotate_right(7) ^ y.rotate_right(18) ^ (y >> 3);
        let part = sigma_1
            .wrapping_add(known[t - 7])
            .wrapping_add(sigma_0)
            .wrapping_add(known[t - 16]);
        parts[t - 16] = part;
        if matches!(t, 17 | 19 | 21) {
            known[t] = part;
        }
    }
    parts
}
