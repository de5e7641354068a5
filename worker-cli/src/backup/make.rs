//! Making one.

use super::{FORMAT, Manifest, ManifestChain, Part, WHAT, WorkerBackupError};
use crate::identity::{chain_dir, joined_chains};
use crate::storage::{Store, StoredCheckpoint};
use block_chain_backup::{BackupWriter, Cause, Series, Written};
use block_chain_common::hash::{BlockHash, sha256};
use block_chain_common::limits::check_name;
use borsh::to_vec;
use std::fs;
use std::path::Path;

/// The worker's own files, in the data directory.
pub(super) const FILES: [&str; 8] = [
    "worker.json",
    "worker.toml",
    "worker.token",
    "identity.key",
    "chain.keys",
    "evidence.txt",
    "tls.crt",
    "tls.key",
];
/// The files of a chain besides the home chain, in its folder.
const CHAIN_FILES: [&str; 3] = ["chain.json", "chain.keys", "evidence.txt"];
/// Folders of small files: the wallets, and how far imports are.
pub(super) const FOLDERS: [&str; 2] = ["wallets", "imports"];

/// What a backup would hold: another one is made only where this has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    chains: Vec<ChainMark>,
    files: [u8; 32],
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ChainMark {
    name: String,
    head: BlockHash,
    committed: u64,
    finalised: u64,
    /// The first and the last that wait.
    waiting: Option<(u64, u64)>,
}

impl Mark {
    /// Of what there is now.
    ///
    /// # Errors
    /// Where something cannot be read.
    pub fn of(data_dir: &Path, home: &str, chains: &[(String, Store)]) -> Result<Self, WorkerBackupError> {
        let mut marks = Vec::new();
        for (name, store) in chains {
            let store = store.snapshot();
            let size = |checkpoint: Option<StoredCheckpoint>| checkpoint.map_or(0, |c| c.size);
            marks.push(ChainMark {
                name: name.clone(),
                head: store.head().1,
                committed: size(store.committed()),
                finalised: size(store.final_checkpoint()),
                waiting: store.waiting_ends()?,
            });
        }
        let files = to_vec(&files(data_dir, home)?).unwrap_or_default();
        Ok(Self {
            chains: marks,
            files: sha256(&[&files]),
        })
    }
}

/// What a backup is made of.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The data directory.
    pub data_dir: &'a Path,
    /// The worker's id.
    pub worker: &'a str,
    /// The name of its home chain.
    pub home: &'a str,
    /// The chains that are open, by name.
    pub chains: &'a [(String, Store)],
    /// The names of those that should be.
    pub missing: &'a [String],
}

impl Source<'_> {
    /// Whose backups these are.
    #[must_use]
    pub fn series(&self, cause: Cause) -> Series {
        Series::new(WHAT, self.worker, cause)
    }
}

/// Makes a backup in a folder; the node may run. `made_ms`: now, in milliseconds since 1970.
///
/// # Errors
/// Where the disk has no room, or something cannot be read or written; nothing stays then.
pub fn make(
    source: &Source<'_>,
    cause: Cause,
    (folder, made_ms): (&Path, u64),
) -> Result<Written, WorkerBackupError> {
    // Before the chains: an import may know of less than is on its chain, never of more.
    let files = files(source.data_dir, source.home)?;
    let (mut chains, mut bytes) = (Vec::new(), 0_u64);
    for (name, store) in source.chains {
        bytes = bytes.saturating_add(store.disk_bytes()?);
        chains.push((name, store.snapshot()));
    }
    let mut writer = BackupWriter::create(folder, &source.series(cause), made_ms, bytes)?;
    let mut put = |part: &Part| -> Result<(), WorkerBackupError> {
        // Into memory: it cannot fail.
        Ok(writer.part(&to_vec(part).unwrap_or_default())?)
    };
    let mut listed = Vec::new();
    for (name, store) in &chains {
        listed.push(ManifestChain {
            name: (*name).clone(),
            id: store.chain()?.to_string(),
            height: store.head().0.get(),
            committed: store.committed().map_or(0, |checkpoint| checkpoint.size),
            finalised: store.final_checkpoint().map_or(0, |checkpoint| checkpoint.size),
        });
    }
    let manifest = Manifest {
        format: FORMAT,
        made_ms,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        worker: source.worker.to_owned(),
        home: source.home.to_owned(),
        chains: listed,
        missing: Vec::new(),
    };
    put(&match source.missing {
        [] => Part::Manifest(manifest),
        missing => Part::Incomplete(manifest, missing.to_vec()),
    })?;
    for (name, bytes) in files {
        put(&Part::File(name, bytes))?;
    }
    for (name, store) in &chains {
        put(&Part::Chain((*name).clone()))?;
        store.archive(|part| put(&Part::OfChain(part)))?;
    }
    Ok(writer.finish()?)
}

/// The small files, by their paths in the data directory.
fn files(data_dir: &Path, home: &str) -> Result<Vec<(String, Vec<u8>)>, WorkerBackupError> {
    let mut names: Vec<String> = FILES.map(str::to_owned).to_vec();
    for chain in joined_chains(data_dir)? {
        let folder = chain_dir(data_dir, home, &chain);
        let folder = folder.strip_prefix(data_dir).unwrap_or(&folder).to_owned();
        names.extend(CHAIN_FILES.map(|name| folder.join(name).display().to_string()));
    }
    for folder in FOLDERS {
        names.extend(within(data_dir, folder)?);
    }
    let mut found = Vec::new();
    for name in names {
        let path = data_dir.join(&name);
        match fs::read(&path) {
            Ok(bytes) => found.push((name, bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(WorkerBackupError::io("read", &path)(error)),
        }
    }
    Ok(found)
}

fn within(data_dir: &Path, of: &str) -> Result<Vec<String>, WorkerBackupError> {
    let folder = data_dir.join(of);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(WorkerBackupError::io("read", &folder))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(WorkerBackupError::io("read", &folder))?.file_name();
        let name = name.to_str().unwrap_or_default();
        if name == "default" || name.ends_with(".json") {
            names.push(format!("{of}/{name}"));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether a backup's file may have this path: one that [`make`] writes, and nothing outside the data directory.
pub(super) fn is_file_name(name: &str) -> bool {
    if FILES.contains(&name) {
        return true;
    }
    let parts: Vec<&str> = name.split('/').collect();
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    };
    match *parts.as_slice() {
        [folder, file] if FOLDERS.contains(&folder) => {
            plain(file) && (file == "default" || file.ends_with(".json"))
        }
        ["chains", chain, file] => check_name(chain).is_ok() && CHAIN_FILES.contains(&file),
        _ => false,
    }
}
