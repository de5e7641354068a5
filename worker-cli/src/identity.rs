//! The worker's identity in its data directory: the key, what the coordinator gave it, and small private files.
//!
//! Every file is written whole to a temporary name with mode 0600, synced, and renamed, so that it is the old one or the
//! new one after a crash, and never readable by others even for a moment.

use block_chain_common::chain_spec::{ChainSpec, CheckedSpec};
use block_chain_common::codec::decode;
use block_chain_common::coordinator_api::Registration;
use block_chain_common::keys::{PublicKey, SecretKey};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use uuid::Uuid;
use zeroize::Zeroizing;

/// The format of `worker.json`.
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
    /// The fingerprint of the coordinator's certificate, where it is pinned.
    pub fingerprint: Option<String>,
}

impl WorkerFile {
    /// From a registration.
    #[must_use]
    pub fn new(
        registration: &Registration,
        servers: Vec<String>,
        name: Option<String>,
        fingerprint: Option<String>,
    ) -> Self {
        Self {
            format: FORMAT,
            worker_id: registration.worker_id,
            name,
            chain: registration.chain.name.clone(),
            spec: registration.chain.spec.clone(),
            coordinator_key: registration.chain.coordinator_key,
            servers,
            fingerprint,
        }
    }

    /// What is kept in a data directory; `None` where no worker was registered there.
    ///
    /// # Errors
    /// Where the file cannot be read, is damaged, or of a later format.
    pub fn load(dir: &Path) -> Result<Option<Self>, IdentityError> {
        let path = dir.join("worker.json");
        let Some(text) = read_if_there(&path)? else {
            return Ok(None);
        };
        let damaged = |error: serde_json::Error| IdentityError::Damaged {
            path: path.clone(),
            reason: error.to_string(),
        };
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = serde_json::from_str(&text).map_err(damaged)?;
        if format > FORMAT {
            return Err(IdentityError::NewerFormat { path, found: format });
        }
        serde_json::from_str(&text).map(Some).map_err(damaged)
    }

    /// Keeps it.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        let path = dir.join("worker.json");
        let text = serde_json::to_string_pretty(self).map_err(|error| IdentityError::Damaged {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        write_private(&path, text.as_bytes())
    }

    /// The chain.
    ///
    /// # Errors
    /// Where the spec is not one.
    pub fn checked_spec(&self, dir: &Path) -> Result<CheckedSpec, IdentityError> {
        let damaged = |reason: String| IdentityError::Damaged {
            path: dir.join("worker.json"),
            reason,
        };
        let bytes = hex::decode(&self.spec).map_err(|error| damaged(error.to_string()))?;
        let spec: ChainSpec = decode(&bytes).map_err(|error| damaged(error.to_string()))?;
        spec.check().map_err(|error| damaged(error.to_string()))
    }
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
    write_private(
        &dir.join("identity.key"),
        Zeroizing::new(hex::encode(*seed)).as_bytes(),
    )?;
    Ok(SecretKey::from_seed(&seed))
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
    let io = |source| IdentityError::Io {
        doing: "write",
        path: path.to_owned(),
        source,
    };
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(io)
}

fn read_if_there(path: &Path) -> Result<Option<String>, IdentityError> {
    let io = |source| IdentityError::Io {
        doing: "read",
        path: path.to_owned(),
        source,
    };
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > MAX_FILE_BYTES => {
            let reason = format!(
                "it has {} bytes, at most {MAX_FILE_BYTES} are read",
                metadata.len()
            );
            Err(IdentityError::Damaged {
                path: path.to_owned(),
                reason,
            })
        }
        Ok(_) => match fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(IdentityError::Damaged {
                path: path.to_owned(),
                reason: "it is not text".to_owned(),
            }),
            Err(error) => Err(io(error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io(error)),
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
