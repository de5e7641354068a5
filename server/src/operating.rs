//! What an operator does with the coordinator's database: `block-chain-server recover`, `grant`, `backup`, `backups` and
//! `restore`.

use crate::backup::{self, WHAT};
use crate::service::{Join, Plan, Service};
use crate::settings::{Grant, Recover, Settings};
use crate::store::Store;
use crate::{SQLITE_FILE, StartError, lock, make_private_dir, open_store, routes};
use block_chain_backup::{Cause, FOLDER, open_checked};
use block_chain_web::time::utc;
use std::path::{Path, PathBuf};

/// Where a backup is checked before it replaces anything, in the data directory.
const SCRATCH: &str = "restore.sqlite";

/// Gives a role; what the operator is told.
pub(crate) fn grant(settings: &Settings, what: &Grant) -> Result<String, StartError> {
    let id = open(settings)?.grant(&what.chain, what.to, what.role.into())?;
    let (chain, to) = (&what.chain, what.to);
    Ok(format!(
        "signed: {id}\n{to} gets its role on chain {chain} with the next block; block-chain-worker roles {to} shows it\n"
    ))
}

/// The coordinator's database, which must be there: none of this begins a new, empty network.
fn open_there(settings: &Settings) -> Result<Store, StartError> {
    let path = settings.data_dir().join(SQLITE_FILE);
    if settings.database_url.is_none() && !path.is_file() {
        return Err(StartError::File {
            path: path.display().to_string(),
            reason: "there is no coordinator's database".to_owned(),
        });
    }
    Ok(open_store(settings)?)
}

fn folder(settings: &Settings, told: Option<PathBuf>) -> PathBuf {
    told.unwrap_or_else(|| settings.data_dir().join(FOLDER))
}

/// Makes a backup; what the operator is told.
pub(crate) fn back_up(
    settings: &Settings,
    to: Option<PathBuf>,
    keep: Option<u32>,
) -> Result<String, StartError> {
    let store = open_there(settings)?;
    let keep = keep.and_then(|keep| usize::try_from(keep).ok());
    let folder = folder(settings, to);
    let written = backup::make(&store, (&folder, WHAT), (Cause::Asked, keep), routes::now().get())?;
    let manifest = backup::manifest(&written.path)?;
    Ok(format!(
        "{}\nSHA-256 {}\n{} bytes: {}\n",
        written.path.display(),
        written.sha256,
        written.bytes,
        holds(&manifest)
    ))
}

fn holds(manifest: &backup::Manifest) -> String {
    let mut held = vec![format!("{} workers", manifest.workers)];
    for chain in &manifest.chains {
        held.push(format!(
            "chain {}: {} blocks committed, {} final, term {}",
            chain.name, chain.committed, chain.finalised, chain.term
        ));
    }
    held.join("; ")
}

/// The backups of a folder, each checked.
pub(crate) fn backups(settings: &Settings, told: Option<PathBuf>) -> Result<String, StartError> {
    let folder = folder(settings, told);
    let found = block_chain_backup::list(&folder, WHAT).map_err(backup::CoordinatorBackupError::from)?;
    if found.is_empty() {
        return Ok(format!("no backups in {}\n", folder.display()));
    }
    let mut text = String::new();
    for kept in found {
        let state = match (open_checked(&kept.path, |_, _| {}), backup::manifest(&kept.path)) {
            (Err(error), _) => error.to_string(),
            (Ok(_), Err(error)) => error.to_string(),
            (Ok(_), Ok(manifest)) => format!("whole; {}; {}", utc(manifest.made_ms), holds(&manifest)),
        };
        let name = kept.path.file_name().unwrap_or_default().to_string_lossy();
        text.push_str(&format!("{name}  {:>10} bytes  {state}\n", kept.bytes));
    }
    Ok(text)
}

/// Puts a backup in the place of the database; what the operator is told.
pub(crate) fn restore(settings: &Settings, from: &Path, replace: bool) -> Result<String, StartError> {
    backup::manifest(from)?;
    let dir = settings.data_dir();
    make_private_dir(&dir)?;
    // No server may start here meanwhile.
    let _lock = lock(settings)?;
    let path = dir.join(SCRATCH);
    remove(&path)?;
    let scratch = Store::open_sqlite(&path)?;
    let store = open_store(settings)?;
    let aside = replace.then(|| folder(settings, None));
    let restored = backup::restore(from, &scratch, (&store, aside.as_deref()), routes::now().get());
    drop(scratch);
    remove(&path)?;
    let (manifest, kept) = restored?;
    let mut text = format!(
        "restored {}, made {}: {}\n",
        from.display(),
        utc(manifest.made_ms),
        holds(&manifest)
    );
    if let Some(kept) = kept {
        text.push_str(&format!("what was there is kept in {}\n", kept.path.display()));
    }
    text.push_str(
        "start the server; where workers have seen more than this, let all run for a minute, then: block-chain-server recover\n",
    );
    Ok(text)
}

/// A database of SQLite, and the files that it keeps beside it.
fn remove(path: &Path) -> Result<(), StartError> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let path = PathBuf::from(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StartError::File {
                    path: path.display().to_string(),
                    reason: error.to_string(),
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// The coordinator's rules on its database.
fn open(settings: &Settings) -> Result<Service, StartError> {
    let store = open_there(settings)?;
    Ok(Service::start(store, settings.service(), Join::Open, |_| {})?)
}

/// Does what is asked, or says what it would do.
pub(crate) fn recover(settings: &Settings, what: &Recover) -> Result<String, StartError> {
    let service = open(settings)?;
    let now = routes::now();
    if what.yes {
        let plan = service.recover(&what.chain, what.without_missing, now)?;
        return Ok(describe(&plan, &what.chain, true));
    }
    let plan = service.plan_recovery(&what.chain, now)?;
    Ok(describe(&plan, &what.chain, false))
}

fn describe(plan: &Plan, chain: &str, done: bool) -> String {
    let mut lines = Vec::new();
    let recovery = &plan.recovery;
    for member in &plan.members {
        let name = member.name.as_deref().unwrap_or("-");
        let state = match (member.heard, member.shows) {
            (false, _) => "not heard within a minute".to_owned(),
            (true, None) => "has nothing that is not known here".to_owned(),
            (true, Some((0, term))) => format!("has seen term {term}"),
            (true, Some((size, term))) => {
                format!("holds a checkpoint of {size} blocks, has seen term {term}")
            }
        };
        lines.push(format!("{}  {name:<12} {state}", member.worker));
    }
    let tense = if done { "is now" } else { "would be" };
    lines.push(format!(
        "chain {chain}: committed {tense} {} blocks (was {}), the term {} (was {})",
        recovery.size.1, recovery.size.0, recovery.term.1, recovery.term.0
    ));
    let silent = plan.members.iter().filter(|member| !member.heard).count();
    if done {
        lines.push(format!(
            "the statement of it is signed and kept: GET /v1/chains/{chain}/recoveries"
        ));
    } else if silent > 0 {
        lines.push(format!(
            "nothing is done: {silent} members were not heard; let all run for a minute, or add --without-missing --yes"
        ));
    } else {
        lines.push("nothing is done yet: run it again with --yes".to_owned());
    }
    lines.push(String::new());
    lines.join("\n")
}
