//! How many nonces a second the miner tries: each kernel on one core against a loop over `sha2`'s compression, and the
//! whole search on one thread and on all cores.
//!
//! The contenders take turns, round after round, and the median of each counts, so that whatever else the machine does
//! falls on all of them alike. Without `--bench` it makes one short round, to show that it works.

#![expect(clippy::print_stdout, reason = "its output is the figures")]

use block_chain_worker::miner::kernel::Instructions;
use block_chain_worker::miner::{Kernel, Puzzle, Search};
use sha2::block_api::compress256;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

/// No hash meets a target of zero, so every contender does all its work.
const PUZZLE: Puzzle = Puzzle {
    digest: [7; 32],
    bits: 0x1d00_ffff,
    target: [0; 32],
};

/// Nonces a second.
type Rate = u128;

/// What is measured, and how.
struct Contender {
    name: String,
    measure: Box<dyn Fn(Duration) -> Rate>,
    rates: Vec<Rate>,
}

impl Contender {
    fn new(name: impl Into<String>, measure: impl Fn(Duration) -> Rate + 'static) -> Self {
        Self {
            name: name.into(),
            measure: Box::new(measure),
            rates: Vec::new(),
        }
    }

    fn median(&self) -> Rate {
        let mut rates = self.rates.clone();
        rates.sort_unstable();
        rates[rates.len() / 2]
    }
}

fn main() {
    let in_earnest = std::env::args().any(|argument| argument == "--bench");
    let (rounds, time) = if in_earnest {
        (21, Duration::from_millis(100))
    } else {
        (1, Duration::from_millis(5))
    };
    let mut contenders = contenders();
    for _ in 0..rounds {
        for contender in &mut contenders {
            let rate = (contender.measure)(time);
            contender.rates.push(rate);
        }
    }
    println!(
        "{:<34}{:>12}{:>14}{:>18}",
        "", "million/s", "against sha2", "against 1 thread"
    );
    let sha2 = contenders[0].median();
    let one_thread = contenders[contenders.len() - 2].median();
    for contender in &contenders {
        let rate = contender.median();
        println!(
            "{:<34}{:>12}{:>14}{:>18}",
            contender.name,
            hundredths(rate, 1_000_000),
            hundredths(rate, sha2),
            hundredths(rate, one_thread)
        );
    }
}

/// The loop over `sha2` first, the whole search on one thread and on all cores last.
fn contenders() -> Vec<Contender> {
    const SHA2_BATCH: u64 = 1 << 14;
    let mut contenders = vec![Contender::new("sha2 compress256, 1 thread", |time| {
        rate_of(time, SHA2_BATCH, sha2_loop)
    })];
    for kernel in Instructions::ALL.into_iter().filter_map(Kernel::with) {
        let name = format!("kernel {:?}, 1 thread", kernel.instructions());
        contenders.push(Contender::new(name, move |time| {
            rate_of(time, kernel.batch_size(), |first, count| {
                kernel.search(black_box(&PUZZLE), first, count)
            })
        }));
    }
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    for threads in [NonZeroUsize::MIN, cores] {
        contenders.push(Contender::new(
            format!("search, {threads} thread(s)"),
            move |time| search_rate(time, threads),
        ));
    }
    contenders
}

/// Batch after batch until the time is up.
fn rate_of(time: Duration, batch_size: u64, attempt: impl Fn(u64, u64) -> Option<u64>) -> Rate {
    let started = Instant::now();
    let mut first = 0;
    while started.elapsed() < time {
        let found = black_box(attempt(black_box(first), batch_size));
        assert_eq!(found, None, "no hash is zero");
        first += batch_size;
    }
    per_second(first, started.elapsed())
}

fn search_rate(time: Duration, threads: NonZeroUsize) -> Rate {
    let search = Search::start(PUZZLE, threads, |_| {}).expect("the system gives threads");
    std::thread::sleep(time);
    let rate = per_second(search.attempts(), search.elapsed());
    search.stop();
    rate
}

/// The straightforward miner: the block is prepared, only the nonce changes, the first word is compared.
fn sha2_loop(first: u64, count: u64) -> Option<u64> {
    const INITIAL: [u32; 8] = [
        0x6a09_e667,
        0xbb67_ae85,
        0x3c6e_f372,
        0xa54f_f53a,
        0x510e_527f,
        0x9b05_688c,
        0x1f83_d9ab,
        0x5be0_cd19,
    ];
    let mut block = [0; 64];
    block[..32].copy_from_slice(&PUZZLE.digest);
    block[32] = 1;
    block[33..37].copy_from_slice(&PUZZLE.bits.to_le_bytes());
    block[45] = 0x80;
    block[56..].copy_from_slice(&360_u64.to_be_bytes());
    (first..first + count).find(|nonce| {
        block[37..45].copy_from_slice(&nonce.to_le_bytes());
        let mut hash = INITIAL;
        compress256(&mut hash, core::slice::from_ref(&block));
        hash[0] == 0 && hash[1] == 0
    })
}

fn per_second(count: u64, elapsed: Duration) -> Rate {
    u128::from(count) * 1_000_000_000 / elapsed.as_nanos().max(1)
}

fn hundredths(value: u128, unit: u128) -> String {
    let hundredths = value * 100 / unit.max(1);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}
