//! The wallets of a data directory: keys that are not the worker's own, each in a private file.
//!
//! The worker's own key is a wallet too, named `worker`: its blocks pay it. Labels and telephone numbers stay here; nothing
//! of them goes on a chain. A key rests encrypted where a passphrase was given, and never leaves over HTTP: who signs reads it.
//!
//! | file | |
//! | --- | --- |
//! | `wallets/<address>.json` | one wallet |
//! | `wallets/default` | the address of the wallet that commands take where none is named; without it, the worker's |

mod sealed;
#[cfg(test)]
mod tests;

use crate::identity::{IdentityError, load_key, make_private_dir, write_private};
use block_chain_common::keys::{Address, PublicKey, SecretKey};
use sealed::Sealed;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The name of the worker's own wallet.
pub const WORKER: &str = "worker";
/// The format of a wallet's file.
const FORMAT: u32 = 1;
/// A wallet's file is far smaller; larger ones are not read.
const MAX_FILE_BYTES: u64 = 16_384;
/// Wallets of one data directory: a list of them is one table.
const MAX_WALLETS: usize = 100_000;
/// The length of a label.
const MAX_LABEL_CHARS: usize = 64;
/// Digits of a telephone number: ITU E.164 has 15 at most; short ones are internal.
const NUMBER_DIGITS: std::ops::RangeInclusive<usize> = 3..=15;

/// Why a wallet is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// The data directory.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The system refuses.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that is no wallet.
    #[error("{} is no wallet: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Written by a later version.
    #[error("{} has format {found}, this program reads {FORMAT}: it was written by a later version", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// There is none of that name.
    #[error("there is no wallet {0:?}")]
    Unknown(String),
    /// Several have it.
    #[error("{name:?} names {count} wallets")]
    Ambiguous {
        /// The name.
        name: String,
        /// How many wallets.
        count: usize,
    },
    /// Nobody has registered here, and no wallet was made.
    #[error("there is no wallet yet")]
    None,
    /// The label or number is another wallet's.
    #[error("a wallet {0:?} is here already")]
    Taken(String),
    /// A label that is none.
    #[error(
        "the label {found:?} is not 1 to {MAX_LABEL_CHARS} characters without control characters, or looks like an address"
    )]
    Label {
        /// What was given.
        found: String,
    },
    /// A telephone number that is none.
    #[error("the number {found:?} is not 3 to 15 digits, with + and spaces at will")]
    Number {
        /// What was given.
        found: String,
    },
    /// A secret key that is none.
    #[error("the secret key is not 64 hex digits")]
    Secret,
    /// The key is encrypted, and no passphrase was given.
    #[error("the key of {0} is encrypted")]
    Locked(Address),
    /// The passphrase does not open it.
    #[error("the passphrase does not open the key of {0}")]
    Passphrase(Address),
    /// An empty passphrase protects nothing.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// Too many wallets.
    #[error("{MAX_WALLETS} wallets are here already, no more are allowed")]
    Full,
    /// Encrypting fails.
    #[error("the key cannot be encrypted: {0}")]
    Sealing(String),
}

impl WalletError {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unknown(_) | Self::Ambiguous { .. } => {
                Some("wallet list shows them; addresses begin with bcw1")
            }
            Self::None => Some("block-chain-worker wallet create --label NAME, or register"),
            Self::Locked(_) => Some("--passphrase-file FILE, or run it in a terminal"),
            Self::Taken(_) => Some("choose another label or number"),
            _ => None,
        }
    }
}

/// A secret key's seed in hex: wiped from memory, and never shown.
#[derive(Clone)]
struct Seed(Zeroizing<String>);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a secret")
    }
}

impl Serialize for Seed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

/// How a key rests.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum StoredKey {
    /// As it is: 64 hex digits.
    Plain { seed: Seed },
    /// Encrypted under a passphrase.
    Sealed(Sealed),
}

/// A wallet: its address, names for people, and its key as it rests.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wallet {
    format: u32,
    /// Its address.
    pub address: Address,
    /// Its public key.
    pub public_key: PublicKey,
    /// Its name, which stays here.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub label: Option<String>,
    /// The telephone number that it is for, which stays here: digits, with a plus in front where it had one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub number: Option<String>,
    key: StoredKey,
}

impl Wallet {
    fn new(
        key: &SecretKey,
        (label, number): (Option<String>, Option<String>),
        passphrase: Option<&str>,
    ) -> Result<Self, WalletError> {
        let public_key = key.public_key();
        let address = public_key.address();
        let stored = match passphrase {
            Some("") => return Err(WalletError::EmptyPassphrase),
            Some(passphrase) => StoredKey::Sealed(Sealed::seal(key, &address, passphrase)?),
            None => StoredKey::Plain {
                seed: Seed(Zeroizing::new(hex::encode(key.seed()))),
            },
        };
        Ok(Self {
            format: FORMAT,
            address,
            public_key,
            label,
            number,
            key: stored,
        })
    }

    /// Whether its key rests encrypted.
    #[must_use]
    pub const fn is_locked(&self) -> bool {
        matches!(self.key, StoredKey::Sealed(_))
    }

    /// Its secret key. `passphrase` is asked for where the key rests encrypted.
    ///
    /// # Errors
    /// Where the passphrase is missing or wrong, or the file was changed.
    pub fn open(
        &self,
        passphrase: impl FnOnce() -> anyhow::Result<Option<Zeroizing<String>>>,
    ) -> anyhow::Result<SecretKey> {
        let key = match &self.key {
            StoredKey::Plain { seed } => secret_from_hex(&seed.0)?,
            StoredKey::Sealed(sealed) => {
                let given = passphrase()?.ok_or(WalletError::Locked(self.address))?;
                sealed.open(&self.address, &given)?
            }
        };
        if key.public_key() != self.public_key {
            let reason = "its key is not that of its address".to_owned();
            let path = PathBuf::from(format!("{}.json", self.address));
            return Err(WalletError::Damaged { path, reason }.into());
        }
        Ok(key)
    }

    /// The same wallet under another passphrase, or none.
    ///
    /// # Errors
    /// Where the passphrase is empty, or the system gives no randomness.
    pub fn under(&self, key: &SecretKey, passphrase: Option<&str>) -> Result<Self, WalletError> {
        Self::new(key, (self.label.clone(), self.number.clone()), passphrase)
    }

    /// The file's text.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(serde_json::to_string_pretty(self).unwrap_or_default());
        text.push('\n');
        text
    }

    fn parse(text: &str, path: &Path) -> Result<Self, WalletError> {
        let damaged = |reason: String| WalletError::Damaged {
            path: path.to_owned(),
            reason,
        };
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
        if format > FORMAT {
            let path = path.to_owned();
            return Err(WalletError::NewerFormat { path, found: format });
        }
        let wallet: Self = serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
        if wallet.public_key.address() != wallet.address {
            return Err(damaged("its address is not that of its public key".to_owned()));
        }
        Ok(wallet)
    }

    /// Whether a text is a wallet whose key is encrypted.
    #[must_use]
    pub fn is_locked_text(text: &str) -> bool {
        Self::parse(text, Path::new("")).is_ok_and(|wallet| wallet.is_locked())
    }

    fn is_named(&self, name: &str) -> bool {
        let number = normal_number(name).ok();
        self.label.as_deref() == Some(name) || (number.is_some() && self.number == number)
    }
}

/// A secret key as 64 hex digits.
///
/// # Errors
/// Where it is not.
pub fn secret_from_hex(text: &str) -> Result<SecretKey, WalletError> {
    let mut seed = Zeroizing::new([0_u8; 32]);
    match hex::decode_to_slice(text.trim(), seed.as_mut()) {
        Ok(()) => Ok(SecretKey::from_seed(&seed)),
        Err(_) => Err(WalletError::Secret),
    }
}

/// The wallets of a data directory.
#[derive(Debug, Clone)]
pub struct Wallets {
    data_dir: PathBuf,
    dir: PathBuf,
}

impl Wallets {
    /// Of a data directory, which need not be there yet.
    #[must_use]
    pub fn of(data_dir: &Path) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            dir: data_dir.join("wallets"),
        }
    }

    /// All of them: the worker's first, then by label, number and address.
    ///
    /// # Errors
    /// Where the folder or a file in it cannot be read.
    pub fn list(&self) -> Result<Vec<Wallet>, WalletError> {
        let mut found: Vec<Wallet> = Vec::new();
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries.collect::<io::Result<Vec<_>>>(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        for entry in entries.map_err(|source| self.io("read", &self.dir, source))? {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                found.push(self.read(&path)?);
            }
        }
        found.sort_by(|a, b| (&a.label, &a.number, a.address).cmp(&(&b.label, &b.number, b.address)));
        found.splice(0..0, self.worker()?);
        Ok(found)
    }

    /// The worker's own, where somebody has registered here.
    fn worker(&self) -> Result<Option<Wallet>, WalletError> {
        let key = load_key(&self.data_dir)?;
        key.map(|key| Wallet::new(&key, (Some(WORKER.to_owned()), None), None))
            .transpose()
    }

    /// The wallet of an address, label or number.
    ///
    /// # Errors
    /// Where there is none, or several have the name.
    pub fn find(&self, name: &str) -> Result<Wallet, WalletError> {
        if let Ok(address) = name.parse::<Address>() {
            let path = self.path(&address);
            if path.exists() {
                return self.read(&path);
            }
            let worker = self.worker()?.filter(|wallet| wallet.address == address);
            return worker.ok_or_else(|| WalletError::Unknown(name.to_owned()));
        }
        let mut named: Vec<Wallet> = self.list()?;
        named.retain(|wallet| wallet.is_named(name));
        match (named.len(), named.pop()) {
            (1, Some(wallet)) => Ok(wallet),
            (0, _) | (_, None) => Err(WalletError::Unknown(name.to_owned())),
            (count, _) => Err(WalletError::Ambiguous {
                name: name.to_owned(),
                count,
            }),
        }
    }

    /// The wallet that is named, or the default one.
    ///
    /// # Errors
    /// Where there is none.
    pub fn find_or_default(&self, name: Option<&str>) -> Result<Wallet, WalletError> {
        if let Some(name) = name {
            return self.find(name);
        }
        match self.default_address()? {
            Some(address) => self.find(&address.to_string()),
            None => self.worker()?.map_or_else(|| self.only(), Ok),
        }
    }

    /// Where nobody has registered: the wallet, where there is one alone.
    fn only(&self) -> Result<Wallet, WalletError> {
        let mut all = self.list()?;
        match (all.len(), all.pop()) {
            (1, Some(wallet)) => Ok(wallet),
            _ => Err(WalletError::None),
        }
    }

    /// The address that was made the default.
    ///
    /// # Errors
    /// Where the file cannot be read, or holds no address.
    pub fn default_address(&self) -> Result<Option<Address>, WalletError> {
        let path = self.dir.join("default");
        match fs::read_to_string(&path) {
            Ok(text) => match text.trim().parse() {
                Ok(address) => Ok(Some(address)),
                Err(error) => Err(WalletError::Damaged {
                    path,
                    reason: format!("{error}"),
                }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.io("read", &path, source)),
        }
    }

    /// Makes a wallet the default.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn set_default(&self, address: &Address) -> Result<(), WalletError> {
        make_private_dir(&self.dir)?;
        write_private(&self.dir.join("default"), address.to_string().as_bytes())?;
        Ok(())
    }

    /// Makes a new wallet, or takes a key that was made elsewhere.
    ///
    /// # Errors
    /// Where a name is bad or taken, or the system refuses; nothing is changed then.
    pub fn add(
        &self,
        key: Option<&SecretKey>,
        label: Option<&str>,
        number: Option<&str>,
        passphrase: Option<&str>,
    ) -> Result<Wallet, WalletError> {
        let label = label.map(checked_label).transpose()?;
        let number = number.map(normal_number).transpose()?;
        let wallet = match key {
            Some(key) => Wallet::new(key, (label, number), passphrase)?,
            None => {
                let mut seed = Zeroizing::new([0_u8; 32]);
                getrandom::fill(seed.as_mut()).map_err(|error| IdentityError::Random(error.to_string()))?;
                Wallet::new(&SecretKey::from_seed(&seed), (label, number), passphrase)?
            }
        };
        self.keep(wallet)
    }

    /// Takes a wallet from a file that `wallet export` wrote, under its own names.
    ///
    /// # Errors
    /// Where it is no wallet, or a name or its address is here already.
    pub fn import(&self, text: &str, path: &Path) -> Result<Wallet, WalletError> {
        let mut wallet = Wallet::parse(text, path)?;
        // The worker's own wallet of another data directory is a wallet like any other here.
        if wallet.label.as_deref() == Some(WORKER) {
            wallet.label = None;
        }
        wallet.label = wallet.label.as_deref().map(checked_label).transpose()?;
        wallet.number = wallet.number.as_deref().map(normal_number).transpose()?;
        self.keep(wallet)
    }

    fn keep(&self, wallet: Wallet) -> Result<Wallet, WalletError> {
        make_private_dir(&self.dir)?;
        // Two commands at the same time may ask for one label.
        let path = self.dir.join("lock");
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .and_then(|file| file.lock().map(|()| file));
        let _lock = lock.map_err(|source| self.io("lock", &path, source))?;
        let all = self.list()?;
        if all.len() >= MAX_WALLETS {
            return Err(WalletError::Full);
        }
        for other in &all {
            if other.address == wallet.address {
                return Err(WalletError::Taken(wallet.address.to_string()));
            }
            let names = [&wallet.label, &wallet.number].into_iter().flatten();
            if let Some(name) = names.into_iter().find(|name| other.is_named(name)) {
                return Err(WalletError::Taken(name.clone()));
            }
        }
        write_private(&self.path(&wallet.address), wallet.to_text().as_bytes())?;
        Ok(wallet)
    }

    fn path(&self, address: &Address) -> PathBuf {
        self.dir.join(format!("{address}.json"))
    }

    fn read(&self, path: &Path) -> Result<Wallet, WalletError> {
        let io = |source| self.io("read", path, source);
        if fs::metadata(path).map_err(io)?.len() > MAX_FILE_BYTES {
            return Err(WalletError::Damaged {
                path: path.to_owned(),
                reason: format!("it has more than {MAX_FILE_BYTES} bytes"),
            });
        }
        let text = Zeroizing::new(fs::read_to_string(path).map_err(io)?);
        Wallet::parse(&text, path)
    }

    #[expect(clippy::unused_self, reason = "reads as what it does")]
    fn io(&self, doing: &'static str, path: &Path, source: io::Error) -> WalletError {
        WalletError::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}

fn checked_label(label: &str) -> Result<String, WalletError> {
    let label = label.trim();
    let good = !label.is_empty()
        && label.chars().count() <= MAX_LABEL_CHARS
        && !label.chars().any(char::is_control)
        && !label.to_ascii_lowercase().starts_with("bcw1")
        && normal_number(label).is_err();
    match good {
        true if label == WORKER => Err(WalletError::Taken(label.to_owned())),
        true => Ok(label.to_owned()),
        false => Err(WalletError::Label {
            found: label.chars().take(100).collect(),
        }),
    }
}

/// A telephone number without what people put between its digits.
fn normal_number(number: &str) -> Result<String, WalletError> {
    let refused = || WalletError::Number {
        found: number.chars().take(100).collect(),
    };
    let trimmed = number.trim();
    let (plus, rest) = match trimmed.strip_prefix('+') {
        Some(rest) => ("+", rest),
        None => ("", trimmed),
    };
    let between = |c: char| matches!(c, ' ' | '-' | '/' | '.' | '(' | ')');
    let digits: String = rest.chars().filter(|c| !between(*c)).collect();
    if NUMBER_DIGITS.contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(format!("{plus}{digits}"))
    } else {
        Err(refused())
    }
}
