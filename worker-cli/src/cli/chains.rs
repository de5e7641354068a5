//! The commands of chains.

use crate::spec_file::{ProofName, SpecFile};
use block_chain_common::quantity::Amount;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What is done with chains.
#[derive(Debug, Clone, Subcommand)]
pub enum ChainCommand {
    /// Make a chain, and join it
    Create {
        /// Its name, of a-z, 0-9 and -
        #[arg(long)]
        name: String,
        /// The address, or the label or number of a wallet here, that administers it and issues [default: the default
        /// wallet]
        #[arg(long, value_name = "A")]
        creator: Option<String>,
        /// What it is to be like.
        #[command(flatten)]
        spec: SpecFlags,
    },
    /// Make a chain that begins with another's state at a final block, and join it
    Fork {
        /// The chain to fork from, which this worker has joined
        #[arg(long, value_name = "CHAIN", default_value = "main")]
        from: String,
        /// The height of the block whose state the fork begins with
        #[arg(long, value_name = "HEIGHT")]
        at: u64,
        /// The fork's name, of a-z, 0-9 and -
        #[arg(long)]
        name: String,
        /// What is to be other than in the chain that is forked.
        #[command(flatten)]
        spec: SpecFlags,
    },
    /// All chains of the coordinator
    List,
    /// A chain's spec; with --json it can be given to `create --spec`
    Show {
        /// Its name [default: --chain, or that of the registration]
        name: Option<String>,
    },
    /// Join a chain: this worker holds a replica of it from now on
    Join {
        /// Its name
        name: String,
    },
    /// Leave a chain; the replica's data stays
    Leave {
        /// Its name
        name: String,
    },
}

/// A chain's spec, in flags.
#[derive(Debug, Clone, Default, Args)]
pub struct SpecFlags {
    /// The whole spec as JSON, as `chain show --json` prints it under "spec"; - is standard input. Flags stand over it
    #[arg(long = "spec", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How blocks are proven [default: work]
    #[arg(long)]
    pub proof: Option<ProofName>,
    /// Seconds between blocks that are aimed at, a slot's length for stake; 0: on demand only [default: 15, authority: 1]
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub interval: Option<u64>,
    /// Proof of work: leading zero bits of the easiest hash, at most 64 [default: 20]
    #[arg(long, value_name = "D")]
    pub difficulty: Option<u8>,
    /// What a block pays its producer, in base units [default: 1]
    #[arg(long, value_name = "R")]
    pub reward: Option<u64>,
    /// Halve the reward every so many blocks; 0: never [default: 0]
    #[arg(long, value_name = "BLOCKS")]
    pub halving: Option<u64>,
    /// Digits after the point when amounts are shown, at most 18 [default: 0]
    #[arg(long, value_name = "N")]
    pub decimals: Option<u8>,
    /// After how many blocks unstaked units are free [default: 100]
    #[arg(long, value_name = "BLOCKS")]
    pub unstake_blocks: Option<u64>,
}

impl SpecFlags {
    /// What the flags say.
    #[must_use]
    pub fn spec(&self) -> SpecFile {
        SpecFile {
            proof: self.proof,
            difficulty: self.difficulty,
            block_interval_ms: self.interval,
            reward: self.reward.map(Amount::new),
            reward_halving_blocks: self.halving,
            decimals: self.decimals,
            unstake_blocks: self.unstake_blocks,
            ..SpecFile::default()
        }
    }
}

/// Seconds, with at most three digits after the point; in milliseconds.
fn seconds(text: &str) -> Result<u64, String> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = !whole.is_empty() && digits(whole) && digits(part) && part.len() <= 3;
    let ms = plain
        .then(|| format!("{whole}{part:0<3}").parse::<u64>().ok())
        .flatten();
    ms.ok_or_else(|| "seconds, with at most three digits after the point".to_owned())
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn seconds_are_read_to_the_millisecond() {
        for (text, ms) in [
            ("15", 15_000),
            ("0", 0),
            ("0.1", 100),
            ("1.005", 1_005),
            ("2.", 2_000),
        ] {
            assert_eq!(seconds(text), Ok(ms), "{text}");
        }
        for text in [
            "",
            "-1",
            ".5",
            "1.0005",
            "1s",
            "1e3",
            "99999999999999999999",
            "0x1",
        ] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
