//! `dump_data` and `stop_dump_data`.

use super::Refusal;
use crate::api::types::{DumpRequest, DumpStatus, DumpStopped};
use crate::client::{ClientError, NodeClient};
use crate::dump::DatabaseUrl;
use crate::output::{self, Format};
use std::io::{BufRead as _, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;
use zeroize::Zeroizing;

/// Refuses what is no database URL, before a node is asked.
pub(super) fn check_url(text: &str) -> anyhow::Result<()> {
    if text == "-" {
        return Ok(());
    }
    parse_url(text).map(|_| ())
}

pub(super) fn parse_url(text: &str) -> anyhow::Result<DatabaseUrl> {
    DatabaseUrl::parse(text).map_err(|error| {
        let hint = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE[?sslmode=…]".to_owned();
        Refusal {
            message: error.to_string(),
            hint: Some(hint),
            code: 2,
        }
        .into()
    })
}

pub(super) async fn run(
    node: &NodeClient,
    db_url: &str,
    once: bool,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let url = if db_url == "-" {
        let mut line = Zeroizing::new(String::new());
        std::io::stdin().lock().read_line(&mut line)?;
        let url = Zeroizing::new(line.trim().to_owned());
        check_url(&url)?;
        url
    } else {
        Zeroizing::new(db_url.to_owned())
    };
    let request = DumpRequest {
        db_url: url.to_string(),
        once,
    };
    let watched = tokio::spawn(watch(node.clone()));
    let started: Result<DumpStatus, ClientError> = node.post("/v1/dump", &request).await;
    watched.abort();
    let mut status = started?;
    // People see it catch up; programs ask again, or look into the database.
    if format == Format::People && !once && std::io::stderr().is_terminal() {
        status = follow(node, status).await?;
    }
    if format == Format::Json {
        output::json(&status)?;
        return Ok(ExitCode::SUCCESS);
    }
    let database = status.database.as_deref().unwrap_or("the database");
    output::line(&format!(
        "{} of {} committed blocks and {} transactions are in {database}",
        status.dumped_blocks, status.blocks, status.dumped_transactions
    ))?;
    if status.following {
        output::line("every later block follows, until stop_dump_data")?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn follow(node: &NodeClient, mut status: DumpStatus) -> anyhow::Result<DumpStatus> {
    let bar = output::bar(status.blocks, "{wide_bar} {pos}/{len} blocks, {per_sec}");
    while status.following && status.error.is_none() && status.dumped_blocks < status.blocks {
        bar.set_length(status.blocks);
        bar.set_position(status.dumped_blocks);
        tokio::time::sleep(Duration::from_millis(200)).await;
        status = node.get("/v1/dump", &[]).await?;
    }
    bar.finish_and_clear();
    Ok(status)
}

async fn watch(node: NodeClient) {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let bar = output::bar(0, "{wide_bar} {pos}/{len} blocks, {per_sec}");
    loop {
        if let Ok(status) = node.get::<DumpStatus>("/v1/dump", &[]).await {
            bar.set_length(status.blocks);
            bar.set_position(status.dumped_blocks);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

pub(super) async fn stop(node: &NodeClient, format: Format) -> anyhow::Result<ExitCode> {
    let stopped: DumpStopped = node.post("/v1/dump/stop", &serde_json::json!({})).await?;
    if format == Format::Json {
        output::json(&stopped)?;
    } else {
        output::line(if stopped.stopped {
            "the copy has stopped"
        } else {
            "no copy was following"
        })?;
    }
    Ok(ExitCode::SUCCESS)
}
