//! The innermost part of the search: trying a range of nonces, with the widest instructions that the processor has.
//!
//! A work block's hash is SHA-256 over 45 bytes, `digest ‖ 0x01 ‖ bits ‖ nonce`, which with the padding is one 64-byte
//! block: one compression. The vector kernels compare the hash's first word alone; what passes is computed again by
//! `sha2` and compared whole, so a kernel may overlook a nonce but never make one up, and tests prove that it overlooks none.
//!
//! Invariants: a [`Kernel`] exists only for instructions that this processor has; every kernel gives the same answer.
//! Absent: threads, stopping, time (see the module above).

#[cfg(target_arch = "x86_64")]
use super::avx512;
use super::midstate::{INITIAL, Midstate, RUN_BITS};
#[cfg(target_arch = "x86_64")]
use super::sha_ni;
use sha2::block_api::compress256;

/// What is searched: the block without its nonce, and how small its hash must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Puzzle {
    /// SHA-256 of the header without its proof.
    pub digest: [u8; 32],
    /// The target in compact form, which the hash covers.
    pub bits: u32,
    /// The largest hash that will do, as a big-endian number.
    pub target: [u8; 32],
}

impl Puzzle {
    /// The block that SHA-256 compresses for this nonce, padding included.
    pub(super) fn block(&self, nonce: u64) -> [u8; 64] {
        const WORK_TAG: u8 = 1;
        const HASHED_BITS: u64 = 45 * 8;
        let mut block = [0; 64];
        block[..32].copy_from_slice(&self.digest);
        block[32] = WORK_TAG;
        block[33..37].copy_from_slice(&self.bits.to_le_bytes());
        block[NONCE_AT..45].copy_from_slice(&nonce.to_le_bytes());
        block[45] = 0x80;
        block[56..].copy_from_slice(&HASHED_BITS.to_be_bytes());
        block
    }

    /// Whether the hash with this nonce is at most the target.
    #[must_use]
    pub fn is_met_by(&self, nonce: u64) -> bool {
        meets(&self.block(nonce), &self.target_words())
    }

    /// The target's words, the highest first: in this order arrays compare as the numbers do.
    fn target_words(&self) -> [u32; 8] {
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(self.target.as_chunks::<4>().0) {
            *word = u32::from_be_bytes(*bytes);
        }
        words
    }
}

/// Where in the hashed block the nonce's eight bytes begin.
const NONCE_AT: usize = 37;

fn meets(block: &[u8; 64], target_words: &[u32; 8]) -> bool {
    let mut hash = INITIAL;
    compress256(&mut hash, core::slice::from_ref(block));
    hash <= *target_words
}

/// The instructions that a kernel is made of, the fastest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instructions {
    /// AVX-512F: sixteen nonces to a vector.
    Avx512,
    /// The SHA extensions of x86, several nonces interleaved.
    ShaNi,
    /// `sha2`, which picks its own instructions, one nonce after the other.
    Portable,
}

impl Instructions {
    /// All there are, the fastest first.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::ShaNi, Self::Portable];

    fn are_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => is_x86_feature_detected!("avx512f"),
            #[cfg(target_arch = "x86_64")]
            Self::ShaNi => {
                is_x86_feature_detected!("sha")
                    && is_x86_feature_detected!("sse4.1")
                    && is_x86_feature_detected!("ssse3")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512 | Self::ShaNi => false,
            Self::Portable => true,
        }
    }
}

/// A way to try nonces that works on this processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel(Instructions);

impl Kernel {
    /// The fastest.
    #[must_use]
    pub fn detect() -> Self {
        Instructions::ALL
            .into_iter()
            .find_map(Self::with)
            .unwrap_or(Self(Instructions::Portable))
    }

    /// The kernel of these instructions, if the processor has them.
    #[must_use]
    pub fn with(instructions: Instructions) -> Option<Self> {
        instructions.are_available().then_some(Self(instructions))
    }

    /// What it is made of.
    #[must_use]
    pub fn instructions(self) -> Instructions {
        self.0
    }

    /// About a millisecond of work on one core, in nonces; a whole number of steps of every kernel.
    #[must_use]
    pub fn batch_size(self) -> u64 {
        match self.0 {
            Instructions::Avx512 => 1 << 17,
            Instructions::ShaNi => 1 << 16,
            Instructions::Portable => 1 << 14,
        }
    }

    /// The lowest of the `count` nonces from `first_nonce` on that meets the target. The range ends with `u64::MAX`: it does
    /// not begin again at zero.
    #[must_use]
    pub fn search(self, puzzle: &Puzzle, first_nonce: u64, count: u64) -> Option<u64> {
        let last_nonce = first_nonce.saturating_add(count.checked_sub(1)?);
        let mut first = first_nonce;
        loop {
            let last_of_run = first | ((1 << RUN_BITS) - 1);
            let last = last_of_run.min(last_nonce);
            let found = self.search_run(puzzle, first, last);
            if found.is_some() || last == last_nonce {
                return found;
            }
            first = last + 1;
        }
    }

    /// Searches nonces that differ in their low [`RUN_BITS`] alone.
    fn search_run(self, puzzle: &Puzzle, first: u64, last: u64) -> Option<u64> {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 | Instructions::ShaNi => self.search_run_with_vectors(puzzle, first, last),
            _ => search_portably(puzzle, first, last),
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn search_run_with_vectors(self, puzzle: &Puzzle, first: u64, last: u64) -> Option<u64> {
        let run = first >> RUN_BITS << RUN_BITS;
        let midstate = Midstate::new(puzzle, run);
        let target_words = puzzle.target_words();
        let accept = |low: u32| meets(&puzzle.block(run | u64::from(low)), &target_words);
        let low =
            |nonce: u64| u32::try_from(nonce - run).expect("the nonces of a run differ by less than 2^24");
        let (limit, first, last) = (target_words[0], low(first), low(last));
        let found = if self.0 == Instructions::Avx512 {
            #[expect(
                unsafe_code,
                reason = "a kernel of AVX-512 exists only where the processor has it"
            )]
            // SAFETY: `with` made this kernel, after it had asked the processor for AVX-512F.
            unsafe {
                avx512::search::<AVX512_VECTORS>(&midstate, limit, first, last, accept)
            }
        } else {
            #[expect(
                unsafe_code,
                reason = "a kernel of SHA instructions exists only where the processor has them"
            )]
            // SAFETY: `with` made this kernel, after it had asked the processor for SHA, SSE4.1 and SSSE3.
            unsafe {
                sha_ni::search::<SHA_NI_NONCES>(&midstate, limit, first, last, accept)
            }
        };
        found.map(|low| run | u64::from(low))
    }
}

/// How many vectors the AVX-512 kernel computes side by side: the fastest of 1, 2 and 4, as measured on Zen 5. Four no longer
/// fit the registers and take three times as long.
#[cfg(target_arch = "x86_64")]
const AVX512_VECTORS: usize = 2;

/// How many nonces the SHA kernel computes side by side: the fastest of 1, 2, 3, 4 and 6, as measured on Zen 5.
#[cfg(target_arch = "x86_64")]
const SHA_NI_NONCES: usize = 4;

fn search_portably(puzzle: &Puzzle, first: u64, last: u64) -> Option<u64> {
    let target_words = puzzle.target_words();
    let mut block = puzzle.block(first);
    (first..=last).find(|nonce| {
        block[NONCE_AT..45].copy_from_slice(&nonce.to_le_bytes());
        meets(&block, &target_words)
    })
}
