//! The command line: the names of the commands are the product's contract.

pub mod chains;
pub mod settings;
pub mod value;

use crate::flags::{JoinFlags, NodeFlags};
use chains::ChainCommand;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use value::{RoleName, Signer, WalletCommand};

/// The coordinator's address where none is told.
pub const DEFAULT_SERVER: &str = "http://localhost:18000";

/// The demo's records at most: as many as one sender may have waiting.
const MAX_DEMO_RECORDS: usize = 100_000;

/// A worker of a private blockchain: it holds a full replica, and this is how to use it.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "block-chain-worker",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Accepted before and after the command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The coordinators, with commas between [default: http://localhost:18000, or those of the registration]
    #[arg(
        long,
        global = true,
        value_name = "URL[,URL…]",
        value_delimiter = ',',
        env = "BLOCK_CHAIN_SERVER"
    )]
    pub server: Vec<String>,
    /// Where this worker's identity and chain are [default: block-chain-worker in the user's data folder]
    #[arg(long, global = true, value_name = "DIR", env = "BLOCK_CHAIN_WORKER_DIR")]
    pub data_dir: Option<PathBuf>,
    /// The chain, one that this worker has joined [default: that of the registration, main for a new one]
    #[arg(long, global = true, value_name = "NAME", env = "BLOCK_CHAIN_CHAIN")]
    pub chain: Option<String>,
    /// Print exactly one JSON document
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

/// The commands.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Make this machine a worker: an id, a replica, and a node that keeps it current
    Register {
        /// How it is let in.
        #[command(flatten)]
        join: JoinFlags,
        /// Begin with this snapshot, which backup --snapshot of another worker has made, in place of fetching every block
        #[arg(long, value_name = "FILE")]
        snapshot: Option<PathBuf>,
        /// Where the node listens.
        #[command(flatten)]
        listen: NodeFlags,
    },
    /// Run the node in the foreground (containers, systemd); its first start registers
    Run {
        /// How it is let in at its first start.
        #[command(flatten)]
        join: JoinFlags,
        /// Where the node listens.
        #[command(flatten)]
        listen: NodeFlags,
        /// Copy committed blocks to this PostgreSQL from the start, as dump_data does
        #[arg(long, value_name = "URL", env = "BLOCK_CHAIN_DB_URL", hide_env_values = true)]
        db_url: Option<String>,
    },
    /// Put a record, or a file of them, on the chain
    #[command(name = "add_transaction", alias = "add-transaction")]
    AddTransaction {
        /// The record's key
        #[arg(
            long,
            required_unless_present = "file",
            requires = "value",
            conflicts_with = "file"
        )]
        key: Option<String>,
        /// The record's value
        #[arg(long, requires = "key", conflicts_with = "file")]
        value: Option<String>,
        /// NDJSON of {"key":…,"value":…}; - is standard input
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// This worker's id
    #[command(name = "get_id", alias = "get-id")]
    GetId,
    /// The leader's id and term
    #[command(name = "get_leader", alias = "get-leader")]
    GetLeader,
    /// Are all replicas the same, and is this one sound?
    #[command(name = "check_consistency", alias = "check-consistency")]
    CheckConsistency {
        /// Fetch damaged blocks again, and check once more
        #[arg(long)]
        repair: bool,
    },
    /// Make a block of what waits
    #[command(name = "mine_block", alias = "mine-block")]
    MineBlock {
        /// How long to wait for it
        #[arg(long, value_name = "N", default_value_t = 60_000)]
        wait_ms: u64,
    },
    /// The chain, to read
    #[command(name = "get_chain", alias = "get-chain")]
    GetChain {
        /// The first block [default: 0 with --json, else such that the last ones are shown]
        #[arg(long, value_name = "HEIGHT")]
        from: Option<u64>,
        /// How many blocks [default: all with --json, else 20]
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
    },
    /// Copy everything to PostgreSQL, and every later block as it comes
    #[command(name = "dump_data", alias = "dump-data")]
    DumpData {
        /// postgresql://USER:PASSWORD@HOST:PORT/DATABASE; - reads it from standard input
        #[arg(long, value_name = "URL", env = "BLOCK_CHAIN_DB_URL", hide_env_values = true)]
        db_url: String,
        /// Copy what is there, and stop
        #[arg(long)]
        once: bool,
    },
    /// Stop copying to PostgreSQL
    #[command(name = "stop_dump_data", alias = "stop-dump-data")]
    StopDumpData,
    /// Leave the network and stop the node; the data stays
    Disconnect,
    /// The node now: what is final, and why what is not is not
    Status,
    /// A key's value
    Get {
        /// The key
        #[arg(long)]
        key: String,
        /// All its values, newest first
        #[arg(long)]
        history: bool,
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// One transaction, and how far it is agreed to
    Transaction {
        /// Its id
        id: String,
    },
    /// What waits for a block
    Mempool {
        /// At most so many
        #[arg(long, default_value_t = 1_000)]
        limit: usize,
    },
    /// The other workers
    Peers,
    /// Look for what is wrong with this worker, its node, its disk, clock and network: each finding with what mends it
    Doctor,
    /// Write manual pages (man) of this program and its commands into a folder
    Man {
        /// The folder
        folder: PathBuf,
    },
    /// What the node logs; with a filter, from now on and until it ends
    Log {
        /// A level, or levels by target, as info,iroh=debug
        filter: Option<String>,
    },
    /// Chains: make, fork, list, join and leave them
    Chain {
        /// What to do.
        #[command(subcommand)]
        command: ChainCommand,
    },
    /// Keys that hold value: make, list, import and export them
    Wallet {
        /// What to do.
        #[command(subcommand)]
        command: WalletCommand,
    },
    /// What an address has: confirmed, pending, stake
    Balance {
        /// An address, or a wallet's label or number [default: the default wallet]
        #[arg(value_name = "ADDRESS")]
        whose: Option<String>,
    },
    /// What an address was sent, sent, and earned, newest first
    History {
        /// An address, or a wallet's label or number [default: the default wallet]
        #[arg(value_name = "ADDRESS")]
        whose: Option<String>,
        /// What was before this place, as an earlier answer names it
        #[arg(long, value_name = "HEIGHT-INDEX")]
        before: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Send units to an address
    Transfer {
        /// An address, or a label or number of a wallet here
        #[arg(long, value_name = "A")]
        to: String,
        /// How many base units
        #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = value::amount)]
        amount: u64,
        /// A note of at most 256 bytes, which everybody can read
        #[arg(long, value_name = "M")]
        memo: Option<String>,
        /// Who sends.
        #[command(flatten)]
        signer: Signer,
    },
    /// Make new units for an address (role issue)
    Deposit {
        /// An address, or a label or number of a wallet here
        #[arg(long, value_name = "A")]
        to: String,
        /// How many base units
        #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = value::amount)]
        amount: u64,
        /// Who issues.
        #[command(flatten)]
        signer: Signer,
    },
    /// Lock units as stake
    Stake {
        /// How many base units
        #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = value::amount)]
        amount: u64,
        /// Who stakes.
        #[command(flatten)]
        signer: Signer,
    },
    /// Release units of a stake, after the blocks that the chain's spec says
    Unstake {
        /// How many base units
        #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = value::amount)]
        amount: u64,
        /// Whose stake.
        #[command(flatten)]
        signer: Signer,
    },
    /// Give a role to an address (role admin)
    Grant {
        /// An address, or a label or number of a wallet here
        #[arg(long, value_name = "A")]
        to: String,
        /// The role
        #[arg(long)]
        role: RoleName,
        /// Who grants.
        #[command(flatten)]
        signer: Signer,
    },
    /// Take a role from an address (role admin)
    Revoke {
        /// An address, or a label or number of a wallet here
        #[arg(long, value_name = "A")]
        to: String,
        /// The role
        #[arg(long)]
        role: RoleName,
        /// Who revokes.
        #[command(flatten)]
        signer: Signer,
    },
    /// Who may do what
    Roles {
        /// An address, or a wallet's label or number [default: all that hold roles]
        #[arg(value_name = "ADDRESS")]
        whose: Option<String>,
    },
    /// Write the proof of one transaction to a file
    Receipt {
        /// The transaction's id
        id: String,
        /// The file [default: the id's first 16 digits, and .receipt]; - is standard output
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// The chain's public keys, for those who check receipts
    Keys {
        /// The file; - is standard output
        #[arg(long, value_name = "FILE", default_value = "-")]
        out: PathBuf,
    },
    /// Check a receipt, offline
    Verify {
        /// The receipt; - is standard input
        file: PathBuf,
        /// The chain's keys (a file that `keys` wrote), from a source that you trust
        #[arg(long, value_name = "FILE", conflicts_with_all = ["coordinator_key", "chain_id"])]
        keys: Option<PathBuf>,
        /// The coordinator's key, from a source that you trust
        #[arg(long, value_name = "HEX", requires = "chain_id")]
        coordinator_key: Option<String>,
        /// The chain's id, from a source that you trust
        #[arg(long, value_name = "HEX", requires = "coordinator_key")]
        chain_id: Option<String>,
    },
    /// Write the chain to a file, or its tree to a folder that proves it
    Export {
        /// The file of the committed blocks, one a line as JSON; - is standard output
        #[arg(long, value_name = "FILE", default_value = "-", conflicts_with = "tiles")]
        out: PathBuf,
        /// Every record with its value now, one a line as JSON, as `import` takes them
        #[arg(long, conflicts_with_all = ["tiles", "from", "limit"])]
        records: bool,
        /// The first block
        #[arg(long, value_name = "HEIGHT", conflicts_with = "tiles")]
        from: Option<u64>,
        /// How many blocks
        #[arg(long, value_name = "N", conflicts_with = "tiles")]
        limit: Option<u64>,
        /// A folder for the tree of all final blocks' headers (C2SP tlog-tiles), and the blocks beside it
        #[arg(long, value_name = "FOLDER")]
        tiles: Option<PathBuf>,
    },
    /// Write everything of this worker to a file: who it is, its wallets, its chains; its node goes on meanwhile
    Backup {
        /// The folder [default: backups in the data directory]
        #[arg(value_name = "TO")]
        to: Option<PathBuf>,
        /// Remove the oldest in that folder that this worker was asked for, so that so many are left
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
        keep: Option<u32>,
        /// The chain alone, with its state at the last final block: for register --snapshot of a new worker; no secrets
        #[arg(long, conflicts_with = "keep")]
        snapshot: bool,
    },
    /// The backups of a folder, and whether they are whole
    Backups {
        /// The folder [default: backups in the data directory]
        folder: Option<PathBuf>,
    },
    /// Put a backup into the data directory, after all of it was checked
    Restore {
        /// The backup
        #[arg(value_name = "FROM")]
        from: PathBuf,
        /// Where a worker is there already: put it aside
        #[arg(long)]
        replace: bool,
    },
    /// Put the records of a file on the chain, exactly once: what was interrupted goes on where it was
    Import {
        /// NDJSON of {"key","value"}, blocks that `export` wrote, or CSV with a header; - is standard input
        file: PathBuf,
        /// How to read it [default: csv where the name ends so, else ndjson]
        #[arg(long)]
        format: Option<ImportFormat>,
        /// CSV: the column of the key
        #[arg(long, value_name = "COLUMN", default_value = "key")]
        key_column: String,
        /// CSV: the column of the value [default: "value" where there is one, else all but the key, as a JSON object]
        #[arg(long, value_name = "COLUMN")]
        value_column: Option<String>,
        /// Put them on the chain once more, although they were
        #[arg(long)]
        again: bool,
        /// Who signs.
        #[command(flatten)]
        signer: Signer,
    },
    /// Show it all on this machine: a coordinator, three workers, real records
    Demo {
        /// Take the files of this folder in place of installed packages'
        #[arg(long, value_name = "DIR")]
        folder: Option<PathBuf>,
        /// Leave everything running
        #[arg(long)]
        keep: bool,
        /// How many records
        #[arg(long, default_value_t = 2_000, value_parser = records)]
        records: usize,
    },
    /// A completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// How a file of records is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ImportFormat {
    /// A record a line, as JSON
    Ndjson,
    /// A record a line, with commas between, and a header
    Csv,
}

/// As many as one sender may have waiting.
fn records(text: &str) -> Result<usize, String> {
    let count = text
        .parse()
        .ok()
        .filter(|count| (1..=MAX_DEMO_RECORDS).contains(count));
    count.ok_or_else(|| format!("1 to {MAX_DEMO_RECORDS} are allowed"))
}

impl Global {
    /// Where this worker's identity and chain are.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        let variable = |name| {
            let value = std::env::var_os(name).filter(|value| !value.is_empty());
            value.map(PathBuf::from)
        };
        let user_data = || variable("XDG_DATA_HOME").or_else(|| Some(variable("HOME")?.join(".local/share")));
        let default = || {
            user_data()
                .unwrap_or_else(|| PathBuf::from("."))
                .join("block-chain-worker")
        };
        let told = self.data_dir.clone().filter(|dir| !dir.as_os_str().is_empty());
        told.unwrap_or_else(default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_its_exact_name_a_dashed_alias_and_the_flags_on_both_sides() {
        let commands = [
            "register --name a --token t --fingerprint f --api 127.0.0.1:1 --p2p-port 0 --p2p-bind ::1",
            "run --api 127.0.0.1:0 --name a --token t --server-ca f",
            "add_transaction --key k --value v",
            "add_transaction --file -",
            "get_id",
            "get_leader",
            "check_consistency --repair",
            "mine_block --wait-ms 5",
            "get_chain --from 1 --limit 2",
            "dump_data --db-url u --once",
            "stop_dump_data",
            "disconnect",
            "status",
            "get --key k --history --limit 5",
            "transaction id",
            "mempool --limit 1",
            "peers",
            "wallet create --label l --number 1234 --default --passphrase-file f",
            "wallet list",
            "wallet import f --label l",
            "wallet export w --out f --passphrase",
            "wallet default w",
            "balance a",
            "history a --before 1-2 --limit 3",
            "transfer --to a --amount 1 --memo m --from w --passphrase-file f",
            "deposit --to a --amount 1",
            "stake --amount 1",
            "unstake --amount 1 --from w",
            "grant --to a --role issue",
            "revoke --to a --role admin",
            "roles a",
            "receipt id --out -",
            "keys --out f",
            "verify file --coordinator-key k --chain-id c",
            "verify file --keys f",
            "demo --keep --folder f --records 5",
            "completions bash",
            "backup",
            "log",
            "doctor",
            "man folder",
            "log debug",
            "backup folder --keep 3",
            "backup --snapshot folder",
            "backups",
            "backups folder",
            "restore file --replace",
            "register --snapshot file --backup-every 1h --backup-to folder --backup-keep 2",
        ];
        let flags = "--server http://a:1,http://b:2 --data-dir d --chain other --json -v";
        for line in commands {
            for line in [line.to_owned(), line.replace('_', "-")] {
                for whole in [format!("{flags} {line}"), format!("{line} {flags}")] {
                    let words = std::iter::once("block-chain-worker").chain(whole.split(' '));
                    let global = Cli::try_parse_from(words)
                        .unwrap_or_else(|error| panic!("{whole}: {error}"))
                        .global;
                    assert_eq!(global.server, ["http://a:1", "http://b:2"], "{whole}");
                    assert_eq!(global.data_dir(), PathBuf::from("d"), "{whole}");
                    assert_eq!(global.chain.as_deref(), Some("other"), "{whole}");
                    assert!(global.json && global.verbose, "{whole}");
                }
            }
        }
    }

    #[test]
    fn half_a_record_is_a_usage_error() {
        for words in [
            ["add_transaction", "--key", "k"],
            ["add_transaction", "--value", "v"],
        ] {
            let parsed = Cli::try_parse_from(std::iter::once("block-chain-worker").chain(words));
            assert_eq!(parsed.expect_err("a usage error").exit_code(), 2);
        }
    }
}
