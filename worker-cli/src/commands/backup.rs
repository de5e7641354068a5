//! `backup`, `backups` and `restore`.

use super::Refusal;
use crate::api::types::{
    BackupChain, BackupFile, BackupList, BackupMade, NewBackup, NewSnapshot, SnapshotMade,
};
use crate::backup::{self, Restored, WHAT};
use crate::cli::Global;
use crate::client::{NodeClient, has_ended, launch, running_api};
use crate::identity::WorkerFile;
use crate::node::now;
use crate::output::{self, Format, facts};
use anyhow::Context as _;
use block_chain_backup::{FOLDER, Kept, open_checked};
use block_chain_common::quantity::Timestamp;
use serde_json::json;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a node may take to stop.
const STOP: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(25);

type Done = anyhow::Result<ExitCode>;

pub(super) async fn make(node: &NodeClient, to: Option<PathBuf>, keep: Option<u32>, format: Format) -> Done {
    // The node runs in another folder.
    let to = to.map(std::path::absolute).transpose().context("the folder")?;
    let keep = keep
        .and_then(|keep| usize::try_from(keep).ok())
        .and_then(NonZeroUsize::new);
    let bar = output::bar(0, "{spinner} {elapsed} copying");
    let body = NewBackup { to, keep };
    let made: BackupMade = node.for_all_chains().post("/v1/backups", &body).await?;
    bar.finish_and_clear();
    if format == Format::Json {
        output::json(&made)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut shown = vec![
        ("backup", made.file.display().to_string()),
        ("size", size(made.bytes)),
        ("SHA-256", made.sha256),
        ("chains", chains(&made.chains)),
    ];
    if !made.missing.is_empty() {
        shown.push(("missing", without(&made.missing)));
        if keep.is_some() {
            shown.push(("removed", "nothing, since chains are missing".to_owned()));
        }
    }
    if made.removed > 0 {
        shown.push(("removed", format!("{} older ones", made.removed)));
    }
    output::line(&facts(&shown))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn snapshot(node: &NodeClient, to: Option<PathBuf>, format: Format) -> Done {
    let to = to.map(std::path::absolute).transpose().context("the folder")?;
    let bar = output::bar(0, "{spinner} {elapsed} copying");
    let made: SnapshotMade = node.post("/v1/snapshots", &NewSnapshot { to }).await?;
    bar.finish_and_clear();
    if format == Format::Json {
        output::json(&made)?;
        return Ok(ExitCode::SUCCESS);
    }
    output::line(&facts(&[
        ("snapshot", made.file.display().to_string()),
        ("size", size(made.bytes)),
        ("SHA-256", made.sha256),
        ("blocks", output::grouped(made.size)),
    ]))?;
    output::line("a new worker begins with it: block-chain-worker register --snapshot FILE")?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn list(global: &Global, folder: Option<PathBuf>, format: Format) -> Done {
    let folder = folder.unwrap_or_else(|| global.data_dir().join(FOLDER));
    let found = block_chain_backup::list(&folder, WHAT).map_err(backup::WorkerBackupError::from)?;
    let all: u64 = found.iter().map(|kept| kept.bytes).sum();
    let bar = output::bar(all, "{bar:40} {bytes} of {total_bytes} checked");
    let backups: Vec<BackupFile> = found
        .into_iter()
        .map(|kept| {
            let before = bar.position();
            looked_at(kept, |done| bar.set_position(before.saturating_add(done)))
        })
        .collect();
    bar.finish_and_clear();
    let is_sound = backups.iter().all(|backup| backup.error.is_none());
    if format == Format::Json {
        output::json(&BackupList { folder, backups })?;
    } else if backups.is_empty() {
        output::line(&format!("no backups in {}", folder.display()))?;
    } else {
        let rows = backups.iter().map(|backup| {
            let name = backup.file.file_name().unwrap_or_default().to_string_lossy();
            let state = match &backup.error {
                Some(error) => error.clone(),
                None if backup.missing.is_empty() => "whole".to_owned(),
                None => format!("whole, without {}", backup.missing.join(", ")),
            };
            vec![
                name.into_owned(),
                backup.made.clone(),
                size(backup.bytes),
                chains(&backup.chains),
                state,
            ]
        });
        let table = output::list(&["Backup", "Made", "Size", "Chains", "State"], rows.collect());
        output::line(&table)?;
    }
    Ok(if is_sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn looked_at(kept: Kept, mut progress: impl FnMut(u64)) -> BackupFile {
    let manifest = backup::manifest(&kept.path);
    let checked = open_checked(&kept.path, |done, _| progress(done));
    let (sha256, error) = match (checked, &manifest) {
        (Ok(_), Err(error)) => (None, Some(error.to_string())),
        (Ok(reader), Ok(_)) => (Some(reader.sha256().to_owned()), None),
        (Err(error), _) => (None, Some(error.to_string())),
    };
    let manifest = manifest.ok();
    BackupFile {
        made: manifest.as_ref().map_or(kept.made, |manifest| {
            output::utc(Timestamp::new(manifest.made_ms))
        }),
        file: kept.path,
        bytes: kept.bytes,
        sha256,
        error,
        worker: manifest.as_ref().map(|manifest| manifest.worker.clone()),
        missing: manifest
            .as_ref()
            .map(|manifest| manifest.missing.clone())
            .unwrap_or_default(),
        chains: manifest
            .map(|manifest| manifest.chains.into_iter().map(BackupChain::from).collect())
            .unwrap_or_default(),
    }
}

pub(super) async fn restore(global: &Global, from: &Path, replace: bool, format: Format) -> Done {
    let dir = global.data_dir();
    let bar = output::bar(0, "{bar:40} {percent} % {msg}");
    bar.set_message("checking");
    let (source, target, shown) = (from.to_owned(), dir.clone(), bar.clone());
    let preparing = tokio::task::spawn_blocking(move || {
        backup::prepare(&source, &target, replace, |done, of| {
            shown.set_length(of);
            shown.set_position(done);
        })
    });
    let prepared = preparing.await.context("the restore ended early")??;
    // The node has worked until here: nothing of the backup can fail any more but the moves.
    let put = async {
        let putting = tokio::task::spawn_blocking(move || prepared.put(now().get()));
        Ok(putting.await.context("the restore ended early")??)
    };
    let restored = match replace && running_api(&dir).await.is_some() {
        true => instead_of_the_node(stop(&dir), put, start_again(global, &dir)).await?,
        false => put.await?,
    };
    bar.finish_and_clear();
    tell_restored((from, &dir), restored, format)
}

/// Does what needs the node stopped; where that fails the node runs again, as it did.
async fn instead_of_the_node<T>(
    stop: impl Future<Output = anyhow::Result<()>>,
    put: impl Future<Output = anyhow::Result<T>>,
    start_again: impl Future<Output = ()>,
) -> anyhow::Result<T> {
    let done = match stop.await {
        Ok(()) => put.await,
        Err(error) => Err(error),
    };
    if done.is_err() {
        start_again.await;
    }
    done
}

async fn start_again(global: &Global, dir: &Path) {
    let listen = match WorkerFile::load(dir) {
        Ok(Some(worker)) => worker.listen,
        _ => {
            return output::note(
                "the node is stopped, and cannot be started again: its worker.json is not there",
            );
        }
    };
    match launch(dir, &global.server, &listen).await {
        Ok(()) => output::note("the restore failed, and the node runs again"),
        Err(error) => output::note(&format!(
            "the node is stopped, and cannot be started again: {error}"
        )),
    }
}

fn tell_restored((from, dir): (&Path, &Path), restored: Restored, format: Format) -> Done {
    let Restored {
        manifest,
        sha256,
        aside,
    } = restored;
    let held: Vec<BackupChain> = manifest.chains.into_iter().map(BackupChain::from).collect();
    if format == Format::Json {
        output::json(&json!({
            "worker_id": manifest.worker,
            "from": from,
            "sha256": sha256,
            "made": output::utc(Timestamp::new(manifest.made_ms)),
            "chains": held,
            "missing": manifest.missing,
            "data_dir": dir,
            "aside": aside,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut told = vec![
        ("restored", from.display().to_string()),
        ("made", output::utc(Timestamp::new(manifest.made_ms))),
        ("worker", manifest.worker),
        ("chains", chains(&held)),
        ("data", dir.display().to_string()),
    ];
    if !manifest.missing.is_empty() {
        told.push(("missing", without(&manifest.missing)));
    }
    if let Some(aside) = aside {
        told.push(("put aside", aside.display().to_string()));
    }
    output::line(&facts(&told))?;
    output::line(
        "the next command starts the node, which fetches what came after; this worker must run in one place alone",
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Stops the node; it stays a member.
async fn stop(dir: &Path) -> anyhow::Result<()> {
    let node = NodeClient::of(dir).await?;
    let _: serde_json::Value = node.post("/v1/stop", &json!({})).await?;
    let deadline = Instant::now() + STOP;
    while !has_ended(dir) {
        if Instant::now() > deadline {
            return Err(Refusal::failed("the node was told to stop, and does not end", None).into());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

fn chains(chains: &[BackupChain]) -> String {
    let shown: Vec<String> = chains
        .iter()
        .map(|chain| {
            format!(
                "{} to block {}, {} final",
                chain.name, chain.height, chain.finalised
            )
        })
        .collect();
    shown.join("\n")
}

fn without(missing: &[String]) -> String {
    format!(
        "{}: not in it, since the node could not open it",
        missing.join(", ")
    )
}

fn size(bytes: u64) -> String {
    output::bytes(usize::try_from(bytes).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;
    use std::cell::RefCell;

    #[tokio::test]
    async fn the_node_runs_again_where_the_restore_fails_after_its_stop_and_only_there() {
        for (stops, puts, expected) in [
            (true, true, ["stop", "put"].as_slice()),
            (true, false, &["stop", "put", "start"]),
            (false, true, &["stop", "start"]),
        ] {
            let done = RefCell::new(Vec::new());
            let step = |name, is_good: bool| {
                let done = &done;
                async move {
                    done.borrow_mut().push(name);
                    is_good.then_some(()).ok_or_else(|| anyhow!("{name}"))
                }
            };
            let start = async {
                done.borrow_mut().push("start");
            };
            let result = instead_of_the_node(step("stop", stops), step("put", puts), start).await;
            assert_eq!(result.is_ok(), stops && puts);
            assert_eq!(*done.borrow(), expected);
        }
    }
}
