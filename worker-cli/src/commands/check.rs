//! `check_consistency`.

use super::Refusal;
use crate::api::types::{
    CheckProgress, CheckReport, CheckRequest, LocalCheck, NodeStatus, Stopping, Verdict,
};
use crate::cli::Global;
use crate::client::{ClientError, NodeClient, has_ended};
use crate::identity::{WorkerFile, chain_dir};
use crate::output::{self, Format, list};
use crate::storage::{Missing, want_rebuild};
use block_chain_common::quantity::Height;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a replica may be without a new block while it fetches what its new store lacks.
const STALLED: Duration = Duration::from_secs(30);

pub(super) async fn run(
    global: &Global,
    node: NodeClient,
    repair: bool,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let (node, mut report) = match check(&node, repair).await {
        Err(error) if repair && is_damaged(&error) => {
            // Another chain than the home chain, without which the node runs.
            let dir = global.data_dir();
            let worker = WorkerFile::load(&dir)?.ok_or(ClientError::NotRegistered(dir.clone()))?;
            output::note(&format!("{error}; its store is made anew"));
            want_rebuild(&chain_dir(&dir, &worker.chain, node.chain()), Missing::None)?;
            let node = restart(global, &node).await?;
            let report = check(&node, repair).await?;
            (node, report)
        }
        report => (node, report?),
    };
    if report.rebuild {
        let before: NodeStatus = node.get("/v1/status", &[]).await?;
        output::note(
            "the store's files are damaged: it is made anew from what is sound, the rest comes from the other workers",
        );
        let node = restart(global, &node).await?;
        catch_up(&node, before.height).await?;
        report = check(&node, false).await?;
    }
    show(&report, repair, format)
}

fn is_damaged(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused(refused) if refused.message.contains("the store is damaged"))
}

async fn check(node: &NodeClient, repair: bool) -> Result<CheckReport, ClientError> {
    let watched = tokio::spawn(watch(node.clone()));
    let report = node.post("/v1/check", &CheckRequest { repair }).await;
    watched.abort();
    report
}

/// A node that does not start because its store is damaged gets a new one, where that needs nothing from others.
pub(super) async fn revive(global: &Global, error: ClientError) -> Result<NodeClient, ClientError> {
    let dir = global.data_dir();
    match &error {
        ClientError::Launch { reason, .. } if reason.contains("the store is damaged") => {
            output::note(&format!("{error}; its store is made anew"));
            if want_rebuild(&dir, Missing::None).is_err() {
                return Err(error);
            }
            NodeClient::connect(global).await
        }
        _ => Err(error),
    }
}

/// Ends the node and starts it again: it makes its store anew in between.
async fn restart(global: &Global, node: &NodeClient) -> Result<NodeClient, ClientError> {
    let dir = global.data_dir();
    let stopped: Result<Stopping, ClientError> = node
        .for_all_chains()
        .post("/v1/stop", &serde_json::json!({}))
        .await;
    stopped?;
    while !has_ended(&dir) {
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    NodeClient::connect(global).await
}

/// Waits until the replica is as long as it was.
async fn catch_up(node: &NodeClient, height: Height) -> anyhow::Result<()> {
    let bar = output::bar(height.get(), "{wide_bar} {pos}/{len} blocks");
    let (mut best, mut since) = (None, Instant::now());
    loop {
        let now: NodeStatus = node.get("/v1/status", &[]).await?;
        bar.set_position(now.height.get());
        if now.height >= height {
            return Ok(());
        }
        if best != Some(now.height) {
            (best, since) = (Some(now.height), Instant::now());
        }
        if since.elapsed() > STALLED {
            let message = format!(
                "the new store has {} of {height} blocks, and no more come",
                now.height
            );
            let hint = "it goes on by itself when a worker that has them is there: block-chain-worker status";
            return Err(Refusal::failed(message, Some(hint)).into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn show(report: &CheckReport, repair: bool, format: Format) -> anyhow::Result<ExitCode> {
    let code = if report.consistent {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    };
    if format == Format::Json {
        output::json(report)?;
        return Ok(code);
    }
    show_local(&report.local)?;
    show_others(report)?;
    output::line(if report.consistent {
        "consistent"
    } else {
        "NOT CONSISTENT"
    })?;
    if !report.consistent && !repair && !report.local.errors.is_empty() {
        output::note("hint: block-chain-worker check_consistency --repair fetches damaged blocks again");
    }
    Ok(code)
}

fn show_local(local: &LocalCheck) -> anyhow::Result<()> {
    output::line(&format!(
        "this replica: {} blocks and {} transactions checked, {}",
        local.blocks_checked,
        local.transactions_checked,
        if local.errors.is_empty() {
            "all sound".to_owned()
        } else {
            format!("{} faults", local.errors.len())
        }
    ))?;
    for fault in &local.errors {
        let place = fault
            .height
            .map_or_else(|| "store".to_owned(), |height| format!("block {height}"));
        output::line(&format!("  {place}: {}", fault.message))?;
    }
    for height in &local.repaired {
        output::line(&format!("  block {height} was fetched again and put right"))?;
    }
    Ok(())
}

fn show_others(report: &CheckReport) -> anyhow::Result<()> {
    let rows = report.replicas.iter().map(|replica| {
        vec![
            replica
                .name
                .clone()
                .unwrap_or_else(|| replica.worker_id.to_string()),
            replica.height.to_string(),
            replica.hash.to_string().chars().take(16).collect(),
            replica.committed.to_string(),
            verdict(replica.verdict).to_owned(),
            replica
                .first_difference
                .map_or_else(String::new, |height| height.to_string()),
        ]
    });
    let header = [
        "Replica",
        "#Height",
        "Head",
        "#Committed",
        "Verdict",
        "#Differs from",
    ];
    output::line(&list(&header, rows.collect()))?;
    match &report.coordinator {
        Some(coordinator) => output::line(&format!(
            "coordinator: its checkpoint of {} blocks {}",
            coordinator.size,
            match coordinator.same {
                Some(true) => "is that of this chain",
                Some(false) => "IS NOT THAT OF THIS CHAIN",
                None => "is ahead of this replica",
            }
        ))?,
        None => output::line("coordinator: no checkpoint yet, or it does not answer")?,
    }
    Ok(())
}

const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Same => "same",
        Verdict::Behind => "same, behind",
        Verdict::Ahead => "same, ahead",
        Verdict::Forked => "forked, not committed",
        Verdict::Differs => "DIFFERS",
        Verdict::Unreachable => "unreachable",
    }
}

async fn watch(node: NodeClient) {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let bar = output::bar(0, "{wide_bar} {pos}/{len} blocks");
    loop {
        if let Ok(progress) = node.get::<CheckProgress>("/v1/check", &[]).await {
            bar.set_length(progress.blocks);
            bar.set_position(progress.blocks_checked);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}
