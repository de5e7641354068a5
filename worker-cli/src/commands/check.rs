//! `check_consistency`.

use crate::api::types::{CheckProgress, CheckReport, CheckRequest, LocalCheck, Verdict};
use crate::client::{ClientError, NodeClient};
use crate::output::{self, Format, list};
use std::process::ExitCode;
use std::time::Duration;

pub(super) async fn run(node: &NodeClient, repair: bool, format: Format) -> anyhow::Result<ExitCode> {
    let watched = tokio::spawn(watch(node.clone()));
    let report: Result<CheckReport, ClientError> = node.post("/v1/check", &CheckRequest { repair }).await;
    watched.abort();
    let report = report?;
    let code = if report.consistent {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    };
    if format == Format::Json {
        output::json(&report)?;
        return Ok(code);
    }
    show_local(&report.local)?;
    show_others(&report)?;
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
