//! The commands of wallets, value and roles.

use block_chain_common::transaction::Role;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// What is done with wallets.
#[derive(Debug, Clone, Subcommand)]
pub enum WalletCommand {
    /// Make a wallet
    Create {
        /// Its name, which stays on this machine
        #[arg(long, value_name = "L")]
        label: Option<String>,
        /// The telephone number that it is for, which stays on this machine
        #[arg(long, value_name = "N")]
        number: Option<String>,
        /// Make it the one that commands take where none is named
        #[arg(long)]
        default: bool,
        /// Under what its key rests.
        #[command(flatten)]
        passphrase: NewPassphrase,
    },
    /// All wallets of this data directory
    List,
    /// Take a wallet that `wallet export` wrote, or a secret key of 64 hex digits
    Import {
        /// The file; - is standard input
        file: PathBuf,
        /// A secret key's name, which stays on this machine
        #[arg(long, value_name = "L")]
        label: Option<String>,
        /// The telephone number that a secret key is for, which stays on this machine
        #[arg(long, value_name = "N")]
        number: Option<String>,
        /// Under what a secret key rests.
        #[command(flatten)]
        passphrase: NewPassphrase,
    },
    /// Write a wallet to a file, as it rests here, or encrypted
    Export {
        /// Its label, number or address [default: the default wallet]
        wallet: Option<String>,
        /// The file; - is standard output
        #[arg(long, value_name = "FILE", default_value = "-")]
        out: PathBuf,
        /// Under what its key rests in the file.
        #[command(flatten)]
        passphrase: NewPassphrase,
        /// The passphrase under which it rests here, from the first line of this file
        #[arg(long, value_name = "FILE")]
        old_passphrase_file: Option<PathBuf>,
    },
    /// Make a wallet the one that commands take where none is named
    Default {
        /// Its label, number or address
        wallet: String,
    },
}

/// A passphrase for a key that is put away.
#[derive(Debug, Clone, Args)]
pub struct NewPassphrase {
    /// Encrypt the key under a passphrase, which is asked for
    #[arg(long, conflicts_with = "passphrase_file")]
    pub passphrase: bool,
    /// Encrypt the key under the first line of this file
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// Whose key signs.
#[derive(Debug, Clone, Args)]
pub struct Signer {
    /// The wallet that signs: its label, number or address [default: the default wallet]
    #[arg(long, value_name = "W")]
    pub from: Option<String>,
    /// The passphrase of its key, from the first line of this file
    #[arg(long, value_name = "FILE", env = "BLOCK_CHAIN_PASSPHRASE_FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// A role, as people type it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleName {
    /// Gives and takes roles
    Admin,
    /// Makes new units with deposit
    Issue,
    /// Sends transactions
    Write,
    /// Makes blocks
    Mine,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Admin => Self::Admin,
            RoleName::Issue => Self::Issue,
            RoleName::Write => Self::Write,
            RoleName::Mine => Self::Mine,
        }
    }
}

/// An amount: whole base units, at least one.
///
/// # Errors
/// Where it is not.
pub fn amount(text: &str) -> Result<u64, String> {
    if text.starts_with('-') {
        return Err("amounts are positive".to_owned());
    }
    if text.contains(['.', ',']) {
        return Err("amounts are whole base units, without a point".to_owned());
    }
    match text.parse::<u64>() {
        Ok(0) => Err("at least 1 is needed".to_owned()),
        Ok(amount) => Ok(amount),
        Err(_) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(format!("at most {} is allowed", u64::MAX))
        }
        Err(_) => Err("it is no number".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_whole_and_positive() {
        for (text, expected) in [
            ("1", Ok(1)),
            ("18446744073709551615", Ok(u64::MAX)),
            ("0", Err("at least 1")),
            ("-5", Err("positive")),
            ("1.5", Err("whole base units")),
            ("1,5", Err("whole base units")),
            ("18446744073709551616", Err("at most")),
            ("1e3", Err("no number")),
            ("", Err("no number")),
            ("+1 ", Err("no number")),
        ] {
            match (amount(text), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(part)) => assert!(found.contains(part), "{text}: {found}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }
}
