//! Runs seeds, for a time or a number of them; a broken promise is told with the command that shows it again.

use block_chain_common::agreement::SafetyRule;
use block_chain_sim::{Options, Without, run};
use clap::{Parser, ValueEnum};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Simulates the network under faults, one seed after the other.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many seeds; without it and without --seconds, one.
    #[arg(long)]
    count: Option<u64>,
    /// Goes on for so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// How long faults go on in each, in simulated seconds.
    #[arg(long, default_value_t = 60)]
    faults: u64,
    /// Leaves out a rule of safety, to see that seeds find it missing.
    #[arg(long, value_enum)]
    without: Option<Left>,
    /// Tells everything that happens.
    #[arg(long)]
    trace: bool,
}

/// The rules that can be left out.
#[derive(Clone, Copy, ValueEnum)]
enum Left {
    SyncBeforeAnswer,
    HoldingBeforeAcknowledging,
    Term,
    Follows,
    Majority,
    Cosign,
    Backwards,
    Lock,
}

impl From<Left> for Without {
    fn from(left: Left) -> Self {
        match left {
            Left::SyncBeforeAnswer => Self::SyncBeforeAnswer,
            Left::HoldingBeforeAcknowledging => Self::HoldingBeforeAcknowledging,
            Left::Term => Self::Rule(SafetyRule::Term),
            Left::Follows => Self::Rule(SafetyRule::Follows),
            Left::Majority => Self::Rule(SafetyRule::Majority),
            Left::Cosign => Self::Rule(SafetyRule::Cosign),
            Left::Backwards => Self::Rule(SafetyRule::Backwards),
            Left::Lock => Self::Rule(SafetyRule::Lock),
        }
    }
}

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what the program is for"
)]
fn main() -> ExitCode {
    let cli = Cli::parse();
    let started = Instant::now();
    let (mut done, mut steps, mut blocks) = (0_u64, 0_u64, 0_u64);
    loop {
        let more = match (cli.count, cli.seconds) {
            (Some(count), _) => done < count,
            (None, Some(seconds)) => started.elapsed() < Duration::from_secs(seconds),
            (None, None) => done < 1,
        };
        if !more {
            break;
        }
        let seed = cli.seed.wrapping_add(done);
        let options = Options {
            seed,
            faults_ms: cli.faults.saturating_mul(1_000),
            without: cli.without.map(Without::from),
            trace: cli.trace,
        };
        match run(options) {
            Ok(summary) => {
                if cli.count.is_none() && cli.seconds.is_none() {
                    println!("{summary:?}");
                }
                steps = steps.saturating_add(summary.steps);
                blocks = blocks.saturating_add(summary.height);
            }
            Err(broken) => {
                eprintln!(
                    "seed {seed} breaks a promise at {} ms: {}",
                    broken.at_ms, broken.what
                );
                eprintln!(
                    "again: block-chain-sim --seed {seed} --faults {} --trace",
                    cli.faults
                );
                return ExitCode::FAILURE;
            }
        }
        done = done.saturating_add(1);
    }
    println!(
        "{done} seeds, {steps} steps, {blocks} blocks in {:.1?}: every promise kept",
        started.elapsed()
    );
    ExitCode::SUCCESS
}
