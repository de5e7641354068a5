//! The worker's identity in its data directory: the key, what the coordinator gave it, and small private files.
//!
//! Every file is written whole to a temporary name with mode 0600, synced, and renamed, so that it is the old one or the
//! new one after a crash, and never readable by others even for a moment.

use crate::flags::NodeFlags;
use crate::tls::Trust;
use block_chain_common::chain_spec::{ChainSpec, CheckedSpec};
use block_chain_common::codec::{decode, encode};
use block_chain_common::coordinator_api::Registration;
use block_chain_common::keys::{PublicKey, SecretKey};
use block_chain_common::limits::check_name;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use uuid::Uuid;
use zeroize::Zeroizing;

/// The file of the chain's public keys, as the coordinator named them last.
pub const CHAIN_KEYS: &str = "chain.keys";
/// The file with two statements of the coordinator that contradict each other, where it has.
pub const EVIDENCE: &str = "evidence.txt";
/// The folder of the chains besides the home chain.
const CHAINS: &str = "chains";
/// What a chain is, in its folder.
const CHAIN_FILE: &str = "chain.json";
/// The format of `worker.json` and `chain.json`.
const FORMAT: u32 = 1;
/// The longest of these files: a spec of a megabyte in hex, and the rest.
const MAX_FILE_BYTES: u64 = 4 * 1_048_576;

/// Why the identity cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
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
    /// A file is not what was written.
    #[error("{} is damaged: {reason}", path.display())]
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
    /// The system gives no randomness.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

/// What the coordinator gave this worker, kept in `worker.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerFile {
    /// The file's format.
    pub format: u32,
    /// The worker's id.
    pub worker_id: Uuid,
    /// The worker's name for people.
    pub name: Option<String>,
    /// The chain's name.
    pub chain: String,
    /// The chain's encoded spec, in hex.
    pub spec: String,
    /// The key that signs the chain's checkpoints.
    pub coordinator_key: PublicKey,
    /// The coordinators.
    pub servers: Vec<String>,
    /// Whose certificate the coordinators are believed to be who they are by.
    #[serde(flatten)]
    pub trust: Trust,
    /// Where the node was told to listen: a later start listens there again.
    #[serde(default)]
    pub listen: NodeFlags,
}

impl WorkerFile {
    /// From a registration.
    #[must_use]
    pub fn new(
        registration: &Registration,
        servers: Vec<String>,
        name: Option<String>,
        trust: Trust,
    ) -> Self {
        Self {
            format: FORMAT,
            worker_id: registration.worker_id,
            name,
            chain: registration.chain.name.clone(),
            spec: registration.chain.spec.clone(),
            coordinator_key: registration.chain.coordinator_key,
            servers,
            trust,
            listen: NodeFlags::default(),
        }
    }

    /// What is kept in a data directory; `None` where no worker was registered there.
    ///
    /// # Errors
    /// Where the file cannot be read, is damaged, or of a later format.
    pub fn load(dir: &Path) -> Result<Option<Self>, IdentityError> {
        load_json(&dir.join("worker.json"))
    }

    /// Keeps it.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        save_json(&dir.join("worker.json"), self)
    }

    /// The chain.
    ///
    /// # Errors
    /// Where the spec is not one.
    pub fn checked_spec(&self, dir: &Path) -> Result<CheckedSpec, IdentityError> {
        checked_spec(&self.spec, &dir.join("worker.json"))
    }
}

/// A chain that the worker has joined besides that of its registration, kept in `chains/NAME/chain.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainFile {
    /// The file's format.
    pub format: u32,
    /// The chain's encoded spec, in hex.
    pub spec: String,
    /// Whether it was left: the replica stays, and is taken up again when the chain is joined again.
    #[serde(default)]
    pub left: bool,
}

impl ChainFile {
    /// Of a chain that is joined.
    #[must_use]
    pub fn new(spec: &ChainSpec) -> Self {
        Self {
            format: FORMAT,
            spec: hex::encode(encode(spec)),
            left: false,
        }
    }

    /// What is kept in a chain's directory; `None` where there is none.
    ///
    /// # Errors
    /// Where the file cannot be read, is damaged, or of a later format.
    pub fn load(dir: &Path) -> Result<Option<Self>, IdentityError> {
        load_json(&dir.join(CHAIN_FILE))
    }

    /// Keeps it.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        save_json(&dir.join(CHAIN_FILE), self)
    }

    /// The chain.
    ///
    /// # Errors
    /// Where the spec is not one.
    pub fn checked_spec(&self, dir: &Path) -> Result<CheckedSpec, IdentityError> {
        checked_spec(&self.spec, &dir.join(CHAIN_FILE))
    }
}

/// Where a chain's replica and its files are: the home chain's in the data directory itself.
#[must_use]
pub fn chain_dir(dir: &Path, home: &str, chain: &str) -> PathBuf {
    match chain == home {
        true => dir.to_owned(),
        false => dir.join(CHAINS).join(chain),
    }
}

/// The chains that the worker has joined besides its home chain, by name.
///
/// # Errors
/// Where the folder cannot be read.
pub fn joined_chains(dir: &Path) -> Result<Vec<String>, IdentityError> {
    let path = dir.join(CHAINS);
    let io = |source| IdentityError::Io {
        doing: "read",
        path: path.clone(),
        source,
    };
    let entries = match fs::read_dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(io)?.file_name();
        // What is no chain's name is none of ours.
        names.extend(
            name.to_str()
                .filter(|name| check_name(name).is_ok())
                .map(str::to_owned),
        );
    }
    names.sort_unstable();
    Ok(names)
}

fn checked_spec(hex: &str, path: &Path) -> Result<CheckedSpec, IdentityError> {
    let damaged = |reason: String| IdentityError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let bytes = hex::decode(hex).map_err(|error| damaged(error.to_string()))?;
    let spec: ChainSpec = decode(&bytes).map_err(|error| damaged(error.to_string()))?;
    spec.check().map_err(|error| damaged(error.to_string()))
}

/// A file of JSON with a `format`; `None` where there is none.
///
/// # Errors
/// Where it cannot be read, is damaged, or of a later format.
pub(crate) fn load_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, IdentityError> {
    let Some(text) = read_if_there(path)? else {
        return Ok(None);
    };
    let damaged = |error: serde_json::Error| IdentityError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = serde_json::from_str(&text).map_err(damaged)?;
    if format > FORMAT {
        return Err(IdentityError::NewerFormat {
            path: path.to_owned(),
            found: format,
        });
    }
    serde_json::from_str(&text).map(Some).map_err(damaged)
}

/// Keeps a value as JSON, wholly or not at all.
///
/// # Errors
/// Where the system refuses.
pub(crate) fn save_json(path: &Path, value: &impl Serialize) -> Result<(), IdentityError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| IdentityError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    write_private(path, text.as_bytes())
}

/// The worker's key of a data directory, made where there is none.
///
/// # Errors
/// Where the directory or file cannot be read or written, or the file is damaged.
pub fn load_or_create_key(dir: &Path) -> Result<SecretKey, IdentityError> {
    make_private_dir(dir)?;
    if let Some(key) = load_key(dir)? {
        return Ok(key);
    }
    let mut seed = Zeroizing::new([0_u8; 32]);
    getrandom::fill(seed.as_mut()).map_err(|error| IdentityError::Random(error.to_string()))?;
    let text = Zeroizing::new(hex::encode(*seed));
    if create_private(&dir.join("identity.key"), text.as_bytes())? {
        return Ok(SecretKey::from_seed(&seed));
    }
    // Another command made one in the meantime: that one counts.
    load_key(dir)?.ok_or_else(|| IdentityError::Damaged {
        path: dir.join("identity.key"),
        reason: "it was made and is gone again".to_owned(),
    })
}

/// The worker's key of a data directory; `None` where there is none.
///
/// # Errors
/// Where the file cannot be read or is damaged.
pub fn load_key(dir: &Path) -> Result<Option<SecretKey>, IdentityError> {
    let path = dir.join("identity.key");
    let Some(text) = read_if_there(&path)?.map(Zeroizing::new) else {
        return Ok(None);
    };
    let mut seed = Zeroizing::new([0_u8; 32]);
    match hex::decode_to_slice(text.trim(), seed.as_mut()) {
        Ok(()) => Ok(Some(SecretKey::from_seed(&seed))),
        Err(_) => Err(IdentityError::Damaged {
            path,
            reason: "it is not 64 hex digits".to_owned(),
        }),
    }
}

/// A small private file of the data directory, such as the worker's token.
///
/// # Errors
/// Where the file cannot be read.
pub fn read_private(dir: &Path, name: &str) -> Result<Option<String>, IdentityError> {
    Ok(read_if_there(&dir.join(name))?.map(|text| text.trim().to_owned()))
}

/// Makes a directory that only this user can read, with its parents.
///
/// # Errors
/// Where the system refuses.
pub fn make_private_dir(dir: &Path) -> Result<(), IdentityError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|source| IdentityError::Io {
        doing: "create",
        path: dir.to_owned(),
        source,
    })
}

/// Writes a file with mode 0600, wholly or not at all.
///
/// # Errors
/// Where the system refuses.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    put_private(path, bytes, |temporary| {
        fs::rename(temporary, path).map(|()| true)
    })
    .map(drop)
}

/// Writes a file with mode 0600 where there is none, wholly or not at all; `false` where there is one already.
fn create_private(path: &Path, bytes: &[u8]) -> Result<bool, IdentityError> {
    // A link, other than a rename, fails where the name is taken.
    put_private(path, bytes, |temporary| {
        let linked = fs::hard_link(temporary, path);
        fs::remove_file(temporary)?;
        match linked {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    })
}

/// Writes and syncs a temporary file of a name that nobody else uses, then lets `place` give it its own.
fn put_private(
    path: &Path,
    bytes: &[u8],
    place: impl FnOnce(&Path) -> io::Result<bool>,
) -> Result<bool, IdentityError> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("{}-{number}.tmp", std::process::id()));
    let write = || {
        // What a process of the same number left behind when it was killed.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        let written = file
            .write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| place(&temporary));
        if written.is_err() && temporary.exists() {
            fs::remove_file(&temporary)?;
        }
        if let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
        written
    };
    write().map_err(|source| IdentityError::Io {
        doing: "write",
        path: path.to_owned(),
        source,
    })
}

fn read_if_there(path: &Path) -> Result<Option<String>, IdentityError> {
    let io = |source| IdentityError::Io {
        doing: "read",
        path: path.to_owned(),
        source,
    };
    let damaged = |reason: String| IdentityError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        return Err(damaged(format!("it has more than {MAX_FILE_BYTES} bytes")));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(damaged("it is not text".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_is_made_once_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("worker");
        let first = load_or_create_key(&dir).unwrap().public_key();
        assert_eq!(load_or_create_key(&dir).unwrap().public_key(), first);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&dir.join("identity.key"))), (0o700, 0o600));
    }

    #[test]
    fn commands_that_race_make_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let made: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| load_or_create_key(dir.path()).unwrap().public_key()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let kept = load_key(dir.path()).unwrap().unwrap().public_key();
        assert!(made.iter().all(|key| *key == kept));
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing temporary stays: {names:?}");
    }

    #[test]
    fn a_file_is_replaced_whole_and_stays_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("worker.token");
        fs::write(&path, "readable by all").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        write_private(&path, b"secret").unwrap();
        assert_eq!(
            read_private(dir.path(), "worker.token").unwrap().as_deref(),
            Some("secret")
        );
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = write_private(&dir.path().join("none/worker.token"), b"x").unwrap_err();
        assert!(error.to_string().starts_with("cannot write"), "{error}");
    }

    #[test]
    fn files_that_cannot_be_ours_are_refused_without_being_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let long = " ".repeat(usize::try_from(MAX_FILE_BYTES).unwrap() + 1);
        let table: [(&[u8], &str); 4] = [
            (long.as_bytes(), "more than"),
            (b"\xff\xfe", "is not text"),
            (b"{\"format\":1}", "missing field"),
            (b"[1]", "is damaged"),
        ];
        for (bytes, part) in table {
            fs::write(dir.path().join("worker.json"), bytes).unwrap();
            let error = WorkerFile::load(dir.path()).unwrap_err().to_string();
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn a_damaged_key_is_an_error_and_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("identity.key"), "nonsense").unwrap();
        let error = load_or_create_key(dir.path()).unwrap_err().to_string();
        assert!(error.contains("identity.key is damaged"), "{error}");
        assert_eq!(
            fs::read_to_string(dir.path().join("identity.key")).unwrap(),
            "nonsense"
        );
    }

    #[test]
    fn a_later_format_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("worker.json"), r#"{"format":9,"other":1}"#).unwrap();
        let error = WorkerFile::load(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("format 9") && error.contains("later version"),
            "{error}"
        );
    }
}
