//! Records of this machine, as NDJSON: what the package manager says of its files, or a folder's own checksums.

use crate::commands::Refusal;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

/// Where Debian keeps the checksums of installed packages' files.
const DPKG: &str = "/var/lib/dpkg/info";

/// At most `count` records, and the first one's key.
pub(super) fn collect(folder: Option<&Path>, count: usize) -> anyhow::Result<(String, String)> {
    let mut records = Vec::new();
    match folder {
        Some(folder) => hash_folder(folder, count, &mut records)?,
        None => read_dpkg(count, &mut records)?,
    }
    let Some((first, _)) = records.first() else {
        let hint = "name a folder with files: --folder DIR";
        return Err(Refusal::failed("there are no records to put on the chain", Some(hint)).into());
    };
    let first = first.clone();
    let lines: Vec<String> = records
        .iter()
        .map(|(key, value)| json!({ "key": key, "value": value }).to_string())
        .collect();
    Ok((lines.join("\n"), first))
}

fn read_dpkg(count: usize, records: &mut Vec<(String, String)>) -> io::Result<()> {
    let Ok(folder) = fs::read_dir(DPKG) else {
        return Ok(());
    };
    let mut files: Vec<_> = folder.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "md5sums"));
    files.sort();
    for file in files {
        for line in BufReader::new(File::open(file)?).lines() {
            let Ok(line) = line else { break };
            if let Some((digest, name)) = line.split_once("  ")
                && !name.is_empty()
                && name.len() <= 1_000
            {
                records.push((name.to_owned(), digest.to_owned()));
            }
            if records.len() >= count {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn hash_folder(folder: &Path, count: usize, records: &mut Vec<(String, String)>) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(folder)?.filter_map(Result::ok).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type()?;
        if records.len() >= count {
            return Ok(());
        }
        if kind.is_dir() {
            hash_folder(&entry.path(), count, records)?;
        } else if kind.is_file()
            && let Some(name) = entry.path().to_str().filter(|name| name.len() <= 1_000)
        {
            records.push((name.to_owned(), checksum(&entry.path())?));
        }
    }
    Ok(())
}

/// SHA-256 of a file's content, read piece by piece.
fn checksum(path: &Path) -> io::Result<String> {
    let (mut file, mut hasher, mut piece) = (File::open(path)?, Sha256::new(), vec![0; 65_536]);
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(piece.get(..count).unwrap_or_default());
    }
}
