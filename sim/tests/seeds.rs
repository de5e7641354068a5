//! A few hundred short seeds keep every promise; the same seed gives the same run; and where a rule is left out, a seed
//! finds it missing.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets what it does not expect has failed"
)]

use block_chain_common::agreement::SafetyRule;
use block_chain_sim::{Options, Without, run};
use std::sync::atomic::{AtomicU64, Ordering};

const SEEDS: u64 = 240;
const SHORT_MS: u64 = 25_000;

fn options(seed: u64, without: Option<Without>) -> Options {
    Options {
        seed,
        faults_ms: SHORT_MS,
        without,
        trace: false,
    }
}

/// Runs seeds on all cores until one gives something.
fn search<T: Send>(seeds: u64, found: impl Fn(u64) -> Option<T> + Sync) -> Option<T> {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().unwrap().get();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds {
                            return None;
                        }
                        if let Some(found) = found(seed) {
                            next.store(seeds, Ordering::Relaxed);
                            return Some(found);
                        }
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .filter_map(|worker| worker.join().unwrap())
            .next()
    })
}

#[test]
fn short_seeds_keep_every_promise() {
    let broken = search(SEEDS, |seed| match run(options(seed, None)) {
        Ok(summary) => {
            assert!(summary.height > 0, "seed {seed} committed nothing");
            assert!(summary.receipts > 0, "seed {seed} gave no receipt");
            None
        }
        Err(broken) => Some((seed, broken)),
    });
    if let Some((seed, broken)) = broken {
        panic!(
            "seed {seed} breaks a promise at {} ms: {}\nagain: cargo run --release -p block_chain_sim -- --seed {seed} --faults {} --trace",
            broken.at_ms,
            broken.what,
            SHORT_MS / 1_000
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 7] {
        let first = run(options(seed, None)).unwrap();
        assert_eq!(run(options(seed, None)).unwrap(), first);
    }
}

/// That some seed breaks a promise where the rule is left out, and which promise.
fn missed(without: Without) -> String {
    search(SEEDS, |seed| run(options(seed, Some(without))).err())
        .unwrap_or_else(|| panic!("no seed finds out that {without:?} is left out"))
        .what
}

#[test]
fn what_is_not_synced_before_it_is_answered_is_missed() {
    missed(Without::SyncBeforeAnswer);
}

#[test]
fn acknowledgements_of_what_nobody_holds_are_missed() {
    let what = missed(Without::HoldingBeforeAcknowledging);
    assert!(what.contains("hold it on disk"), "{what}");
}

#[test]
fn a_leader_of_the_past_that_commits_is_missed() {
    let what = missed(Without::Rule(SafetyRule::Term));
    assert!(what.contains("does not lead"), "{what}");
}

#[test]
fn a_checkpoint_that_does_not_follow_the_last_one_is_missed() {
    missed(Without::Rule(SafetyRule::Follows));
}

#[test]
fn a_block_that_less_than_a_majority_holds_is_missed() {
    let what = missed(Without::Rule(SafetyRule::Majority));
    assert!(what.contains("hold it on disk"), "{what}");
}

#[test]
fn a_cosignature_of_what_is_not_on_disk_is_missed() {
    let what = missed(Without::Rule(SafetyRule::Cosign));
    assert!(what.contains("know on disk"), "{what}");
}

#[test]
fn a_coordinator_that_went_backwards_unnoticed_is_missed() {
    missed(Without::Rule(SafetyRule::Backwards));
}

#[test]
fn a_committed_block_that_is_left_for_more_work_is_missed() {
    missed(Without::Rule(SafetyRule::Lock));
}
