//! Proof of work: the search for a nonce on all cores, started and stopped cleanly.
//!
//! Threads take batches of about a millisecond from one counter and look at a flag between them, so a search stops within
//! milliseconds. Invariants: `on_end` is called exactly once; when [`Search::stop`] returns no thread is left, except the
//! one that it was called from. Absent: blocks and headers (see `machine`), progress display (see `commands`).

#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod kernel;
#[cfg(target_arch = "x86_64")]
mod midstate;
#[cfg(target_arch = "x86_64")]
mod sha_ni;

pub use kernel::{Kernel, Puzzle};

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a search found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The nonce.
    pub nonce: u64,
    /// Nonces tried, by all threads.
    pub attempts: u64,
    /// How long it took.
    pub elapsed: Duration,
}

type OnEnd = Box<dyn FnOnce(Option<Found>) + Send>;

struct Shared {
    puzzle: Puzzle,
    kernel: Kernel,
    /// Batches handed out so far.
    batches: AtomicU64,
    attempts: AtomicU64,
    stopped: AtomicBool,
    running: AtomicUsize,
    started: Instant,
    found: Mutex<Option<u64>>,
    on_end: Mutex<Option<OnEnd>>,
}

/// A search under way. Dropping it stops it.
pub struct Search {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Search {
    /// Starts the threads. The last of them to end calls `on_end`, with `None` where nothing was found.
    ///
    /// # Errors
    /// Where the system gives no thread; none is left running then, and `on_end` is not called.
    pub fn start(
        puzzle: Puzzle,
        threads: NonZeroUsize,
        on_end: impl FnOnce(Option<Found>) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            puzzle,
            kernel: Kernel::detect(),
            batches: AtomicU64::new(0),
            attempts: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            running: AtomicUsize::new(threads.get()),
            started: Instant::now(),
            found: Mutex::new(None),
            on_end: Mutex::new(Some(Box::new(on_end))),
        });
        let mut search = Self {
            shared: Arc::clone(&shared),
            threads: Vec::with_capacity(threads.get()),
        };
        for number in 0..threads.get() {
            let shared = Arc::clone(&shared);
            let spawned = std::thread::Builder::new()
                .name(format!("miner-{number}"))
                .spawn(move || shared.run());
            match spawned {
                Ok(thread) => search.threads.push(thread),
                Err(error) => {
                    drop(
                        search
                            .shared
                            .on_end
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .take(),
                    );
                    return Err(error);
                }
            }
        }
        Ok(search)
    }

    /// Nonces tried so far.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.shared.attempts.load(Ordering::Relaxed)
    }

    /// For how long it has run.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// Stops the search, and waits until its threads have ended.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        let me = std::thread::current().id();
        for thread in self.threads.drain(..) {
            // `on_end` runs on one of the threads and may hold the last handle: a thread cannot wait for itself.
            if thread.thread().id() != me && thread.join().is_err() {
                tracing::error!("a mining thread has panicked");
            }
        }
    }
}

impl Shared {
    fn run(&self) {
        let size = self.kernel.batch_size();
        while !self.stopped.load(Ordering::Acquire) {
            let batch = self.batches.fetch_add(1, Ordering::Relaxed);
            let Some(first) = batch.checked_mul(size) else {
                break;
            };
            let found = self.kernel.search(&self.puzzle, first, size);
            let tried = found.map_or(size, |nonce| nonce.wrapping_sub(first).saturating_add(1));
            self.attempts.fetch_add(tried, Ordering::Relaxed);
            if let Some(nonce) = found {
                let mut best = self.found.lock().unwrap_or_else(PoisonError::into_inner);
                *best = Some(best.map_or(nonce, |other| other.min(nonce)));
                self.stopped.store(true, Ordering::Release);
            }
        }
        if self.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.end();
        }
    }

    fn end(&self) {
        let nonce = *self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let on_end = self.on_end.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (attempts, elapsed) = (self.attempts.load(Ordering::Relaxed), self.started.elapsed());
        if let Some(on_end) = on_end {
            on_end(nonce.map(|nonce| Found {
                nonce,
                attempts,
                elapsed,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::kernel::Instructions;
    use super::*;
    use block_chain_common::header::{Proof, proof_hash};
    use block_chain_common::work::Target;
    use proptest::prelude::*;
    use std::sync::mpsc;

    fn puzzle(zero_bits: u8) -> Puzzle {
        let target = Target::from_leading_zero_bits(zero_bits);
        Puzzle {
            digest: [7; 32],
            bits: target.to_bits(),
            target: target.to_be_bytes(),
        }
    }

    fn two() -> NonZeroUsize {
        NonZeroUsize::new(2).expect("two is not nought")
    }

    proptest! {
        #[test]
        fn every_kernel_finds_what_sha2_finds(digest: [u8; 32], bits: u32, first: u64, zero_bits in 4_u8..14, count in 1_u64..5_000) {
            let target = Target::from_leading_zero_bits(zero_bits).to_be_bytes();
            let puzzle = Puzzle { digest, bits, target };
            let last = first.saturating_add(count - 1);
            let expected = (first..=last).find(|nonce| {
                let hash = proof_hash(&digest, &Proof::Work { bits, nonce: *nonce });
                *hash.as_bytes() <= target
            });
            for kernel in Instructions::ALL.into_iter().filter_map(Kernel::with) {
                prop_assert_eq!(kernel.search(&puzzle, first, count), expected, "{:?}", kernel.instructions());
            }
        }
    }

    #[test]
    fn a_hash_equal_to_the_target_is_met_and_one_above_is_not() {
        let hash = *proof_hash(&[7; 32], &Proof::Work { bits: 5, nonce: 99 }).as_bytes();
        let exact = Puzzle {
            digest: [7; 32],
            bits: 5,
            target: hash,
        };
        let mut lower = hash;
        lower[31] = lower[31].wrapping_sub(1);
        for kernel in Instructions::ALL.into_iter().filter_map(Kernel::with) {
            assert_eq!(
                kernel.search(&exact, 99, 1),
                Some(99),
                "{:?}",
                kernel.instructions()
            );
            assert_eq!(
                kernel.search(
                    &Puzzle {
                        target: lower,
                        ..exact
                    },
                    99,
                    1
                ),
                None
            );
        }
    }

    #[test]
    fn every_lane_and_both_sides_of_a_run_s_end_hash_as_sha2_does() {
        // The kernels prepare a run of 2^24 nonces at a time, and step over up to 64 at once.
        let run_end = (5_u64 << 24) - 70;
        for nonce in run_end..run_end + 140 {
            let work = Proof::Work {
                bits: 0x1d00_ffff,
                nonce,
            };
            let target = *proof_hash(&[9; 32], &work).as_bytes();
            let exact = Puzzle {
                digest: [9; 32],
                bits: 0x1d00_ffff,
                target,
            };
            let expected = (run_end..=nonce).find(|nonce| exact.is_met_by(*nonce));
            for kernel in Instructions::ALL.into_iter().filter_map(Kernel::with) {
                let instructions = kernel.instructions();
                assert_eq!(kernel.search(&exact, nonce, 1), Some(nonce), "{instructions:?}");
                assert_eq!(kernel.search(&exact, run_end, 140), expected, "{instructions:?}");
            }
        }
    }

    #[test]
    fn the_nonces_end_with_the_largest_and_do_not_begin_again() {
        let everything = Puzzle {
            digest: [7; 32],
            bits: 5,
            target: [255; 32],
        };
        let nothing = Puzzle {
            target: [0; 32],
            ..everything
        };
        for kernel in Instructions::ALL.into_iter().filter_map(Kernel::with) {
            assert_eq!(kernel.search(&everything, u64::MAX, 10), Some(u64::MAX));
            assert_eq!(kernel.search(&nothing, u64::MAX - 40, 1_000), None);
            assert_eq!(kernel.search(&everything, 5, 0), None);
        }
    }

    #[test]
    fn a_search_finds_a_nonce_that_meets_the_target() {
        let (sender, ended) = mpsc::channel();
        let puzzle = puzzle(18);
        let search = Search::start(puzzle, two(), move |found| {
            sender.send(found).expect("the test listens")
        })
        .expect("threads");
        let found = ended.recv().expect("on_end is called").expect("found");
        let hash = proof_hash(
            &puzzle.digest,
            &Proof::Work {
                bits: puzzle.bits,
                nonce: found.nonce,
            },
        );
        assert!(Target::from_be_bytes(puzzle.target).is_met_by(&hash));
        assert!(found.attempts > 0);
        search.stop();
        assert!(
            ended.recv().is_err(),
            "on_end was called once, and its closure is gone"
        );
    }

    #[test]
    fn a_stopped_search_leaves_no_thread_and_ends_once() {
        let (sender, ended) = mpsc::channel();
        let search = Search::start(
            Puzzle {
                target: [0; 32],
                ..puzzle(1)
            },
            two(),
            move |found| {
                sender.send(found).expect("the test listens");
            },
        )
        .expect("threads");
        search.stop();
        // Joined: the closure has run and is dropped already.
        assert_eq!(ended.try_recv(), Ok(None));
        assert_eq!(ended.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    }

    #[test]
    fn a_search_may_be_dropped_from_its_own_end() {
        let (handle, holder) = mpsc::channel::<Search>();
        let (sender, ended) = mpsc::channel();
        let search = Search::start(puzzle(8), two(), move |found| {
            drop(holder.recv().expect("the search is sent"));
            sender.send(found.is_some()).expect("the test listens");
        })
        .expect("threads");
        handle.send(search).expect("the search listens");
        assert_eq!(ended.recv(), Ok(true));
    }
}
