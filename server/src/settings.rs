//! What the server is told: flags, over `BLOCK_CHAIN_*` variables, over a TOML file.

mod resolve;

pub use resolve::SettingsError;

use block_chain_backup::checked_interval;
use block_chain_common::chain_spec::{ChainSpec, ProofSpec};
use block_chain_common::keys::Address;
use block_chain_common::quantity::Amount;
use block_chain_common::transaction::Role;
use block_chain_common::work::{MAX_DIFFICULTY, Target};
use block_chain_telemetry::LogFormat;
use clap::{Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The relay's port where none is told: so many after the coordinator's, beyond those that workers' pages commonly have.
const RELAY_PORT_AFTER: u16 = 10;
/// The default chain's difficulty.
const DEFAULT_DIFFICULTY: u8 = 20;

/// The coordinator of a private blockchain: ids, leaders, checkpoints. It holds no blocks.
#[derive(Debug, Clone, Default, Parser, Serialize, Deserialize)]
#[command(name = "block-chain-server", version)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where to listen [default: 127.0.0.1:18000]; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind: Option<SocketAddr>,
    /// Where the database and keys are [default: block-chain-server in the user's data folder]
    #[arg(long, value_name = "DIR", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// PostgreSQL in place of the SQLite file; several servers may share it
    #[arg(long, value_name = "URL", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_url: Option<String>,
    /// What a worker must show to register; made and printed once when listening beyond loopback
    #[arg(long, value_name = "TOKEN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join_token: Option<String>,
    /// Ask for no join token, even beyond loopback
    #[arg(long, conflicts_with = "join_token")]
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub open: bool,
    /// TLS: the certificate chain, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    /// TLS: the private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// TLS with a certificate made here, whose fingerprint is printed
    #[arg(long, conflicts_with = "tls_cert")]
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub tls_self_signed: bool,
    /// Nobody reads what crosses the way here, as from a container's host or through a proxy that ends TLS: the operator may
    /// sign in without TLS here
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub private_way: bool,
    /// Chain main, at the first start: how blocks are proven [default: work]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<ProofFlag>,
    /// Chain main, at the first start: leading zero bits of the easiest hash [default: 20]
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(0..=i64::from(MAX_DIFFICULTY)))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difficulty: Option<u8>,
    /// Chain main, at the first start: the interval between blocks; 0: on demand only, fixed difficulty [default: 15000]
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_interval_ms: Option<u64>,
    /// Chain main, at the first start: what a block pays its producer [default: 1]
    #[arg(long, value_name = "AMOUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward: Option<u64>,
    /// How often workers are to be heard [default: 2000]
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat_ms: Option<u64>,
    /// How long a worker counts as alive after it was heard [default: 6000]
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// After how long a silent worker is taken out of the quorum [default: 60000]
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evict_after_ms: Option<u64>,
    /// Serve a relay for workers that do not reach each other, on this address [default: --bind's, ten ports up]
    #[arg(long, value_name = "IP:PORT", num_args = 0..=1, default_missing_value = "")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
    /// Where workers reach the relay, where that is not the coordinator's name and --relay's port
    #[arg(long, value_name = "URL", requires = "relay", value_parser = relay_url)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay_url: Option<String>,
    /// Make a backup so often, where something has changed: 30s at the least, as 15m, 12h or 1d
    #[arg(long, value_name = "TIME", value_parser = checked_interval)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_every: Option<String>,
    /// The folder of these backups [default: backups in the data directory; better on another disk]
    #[arg(long, value_name = "FOLDER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_to: Option<PathBuf>,
    /// How many of these backups are kept [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_keep: Option<u32>,
    /// How the log looks [default: human]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
    /// What is logged: a level, or levels by target, as info,actix_web=debug [default: info]
    #[arg(long, value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// Send spans to this OpenTelemetry collector (OTLP over HTTP), as http://localhost:4318
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp: Option<String>,
    /// A TOML file with the same names as these flags
    #[arg(long, value_name = "FILE", global = true)]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Say more in the log
    #[arg(short, long, global = true)]
    #[serde(skip)]
    pub verbose: bool,
    /// What to do in place of serving.
    #[command(subcommand)]
    #[serde(skip)]
    pub command: Option<Command>,
}

/// What the program does besides serving.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Go on from what the workers have, after the database was restored from an old copy. Let the server and the workers
    /// run for a minute before, so that they can show it what they have
    Recover(Recover),
    /// Give a role on a chain that this coordinator made, whose first admin is its key. The workers put it on the chain
    Grant(Grant),
    /// Write everything of the coordinator's database to a file; its servers go on meanwhile
    Backup {
        /// The folder [default: backups in the data directory]
        #[arg(value_name = "TO")]
        to: Option<PathBuf>,
        /// Remove the oldest in that folder that this coordinator was asked for, so that so many are left
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
        keep: Option<u32>,
    },
    /// The backups of a folder, and whether they are whole
    Backups {
        /// The folder [default: backups in the data directory]
        folder: Option<PathBuf>,
    },
    /// Write manual pages (man) of this program and its commands into a folder
    Man {
        /// The folder
        folder: PathBuf,
    },
    /// Write what a shell completes by to standard output
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Put a backup into the database, after all of it was checked
    Restore {
        /// The backup
        #[arg(value_name = "FROM")]
        from: PathBuf,
        /// Where a coordinator is there already: keep a backup of it, and take its place
        #[arg(long)]
        replace: bool,
    },
}

/// A URL without secrets.
fn relay_url(text: &str) -> Result<String, String> {
    let url = url::Url::parse(text).map_err(|error| error.to_string())?;
    let is_plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    match matches!(url.scheme(), "http" | "https") && url.has_host() && is_plain {
        true => Ok(text.to_owned()),
        false => Err("it is no http(s)://HOST:PORT".to_owned()),
    }
}

/// What to give to whom.
#[derive(Debug, Clone, clap::Args)]
pub struct Grant {
    /// The chain
    #[arg(long, default_value = "main", value_name = "NAME")]
    pub chain: String,
    /// The address, as `block-chain-worker wallet list` shows it
    #[arg(long, value_name = "ADDRESS")]
    pub to: Address,
    /// The role
    #[arg(long)]
    pub role: RoleFlag,
}

/// A role, as people type it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleFlag {
    /// Gives and takes roles
    Admin,
    /// Makes new units
    Issue,
    /// Sends transactions
    Write,
    /// Makes blocks
    Mine,
}

impl From<RoleFlag> for Role {
    fn from(flag: RoleFlag) -> Self {
        match flag {
            RoleFlag::Admin => Self::Admin,
            RoleFlag::Issue => Self::Issue,
            RoleFlag::Write => Self::Write,
            RoleFlag::Mine => Self::Mine,
        }
    }
}

/// How to recover.
#[derive(Debug, Clone, clap::Args)]
pub struct Recover {
    /// The chain
    #[arg(long, default_value = "main", value_name = "NAME")]
    pub chain: String,
    /// Give up for lost what only members may know that were not heard within a minute
    #[arg(long)]
    pub without_missing: bool,
    /// Do it; without this it only says what would be done
    #[arg(long)]
    pub yes: bool,
}

/// How chain main is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProofFlag {
    /// Proof of work.
    Work,
    /// Proof of stake: who is drawn by stake signs. While nobody has stake, whoever may mine does.
    Stake,
    /// Proof of authority: the leader signs.
    Authority,
}

impl Settings {
    /// Where to listen.
    #[must_use]
    pub fn bind(&self) -> SocketAddr {
        self.bind
            .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 18_000)))
    }

    /// Where to serve the relay, where one is to be served.
    ///
    /// # Errors
    /// Where it is no address.
    pub fn relay_bind(&self) -> Result<Option<SocketAddr>, String> {
        let bind = self.bind();
        match self.relay.as_deref() {
            None => Ok(None),
            Some("") => {
                let port = if bind.port() == 0 {
                    0
                } else {
                    bind.port().wrapping_add(RELAY_PORT_AFTER)
                };
                Ok(Some(SocketAddr::new(bind.ip(), port)))
            }
            Some(text) => {
                let parsed = text.parse().map_err(|error| format!("relay {text:?}: {error}"));
                parsed.map(Some)
            }
        }
    }

    /// Where the database and keys are.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        let variable = |name| std::env::var_os(name).map(PathBuf::from);
        let user_data = || variable("XDG_DATA_HOME").or_else(|| Some(variable("HOME")?.join(".local/share")));
        let default = || {
            user_data()
                .unwrap_or_else(|| PathBuf::from("."))
                .join("block-chain-server")
        };
        self.data_dir.clone().unwrap_or_else(default)
    }

    /// The times of the service.
    #[must_use]
    pub fn service(&self) -> crate::service::Settings {
        let default = crate::service::Settings::default();
        crate::service::Settings {
            heartbeat_ms: self.heartbeat_ms.unwrap_or(default.heartbeat_ms).max(100),
            lease_ms: self.lease_ms.unwrap_or(default.lease_ms).max(300),
            evict_after_ms: self.evict_after_ms.unwrap_or(default.evict_after_ms).max(1_000),
        }
    }

    /// Changes chain main's spec by what the flags say.
    pub fn apply_to(&self, spec: &mut ChainSpec) {
        if let Some(interval) = self.block_interval_ms {
            spec.block_interval_ms = interval;
        }
        if let Some(reward) = self.reward {
            spec.reward = Amount::new(reward);
        }
        if let Some(bits) = self.difficulty {
            spec.proof = ProofSpec::Work {
                initial_bits: Target::from_leading_zero_bits(bits).to_bits(),
            };
        }
        match (self.proof, &spec.proof) {
            (Some(ProofFlag::Authority), _) => spec.proof = ProofSpec::Authority,
            (Some(ProofFlag::Stake), _) => spec.proof = ProofSpec::Stake,
            (Some(ProofFlag::Work), ProofSpec::Work { .. }) | (None, _) => {}
            (Some(ProofFlag::Work), _) => {
                spec.proof = ProofSpec::Work {
                    initial_bits: Target::from_leading_zero_bits(DEFAULT_DIFFICULTY).to_bits(),
                };
            }
        }
    }
}
