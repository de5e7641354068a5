//! `demo`: a coordinator and three workers as real processes on this machine, with real records.

mod network;
mod records;
mod stopping;

use crate::commands::Refusal;
use crate::output;
use network::{Database, Network};
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// How long a step that needs agreement may take.
const AGREE: Duration = Duration::from_secs(20);

pub(super) async fn run(folder: Option<PathBuf>, keep: bool, count: usize) -> anyhow::Result<ExitCode> {
    // Everything is driven from a thread of its own: the steps are commands that block.
    let mut shown = tokio::task::spawn_blocking(move || {
        let mut network = Network::new(keep)?;
        story(&mut network, folder.as_deref(), count)
    });
    tokio::select! {
        shown = &mut shown => shown??,
        signal = interruption() => {
            signal?;
            tokio::task::spawn_blocking(stopping::stop_all).await?;
            // The story fails at its next step, and removes its folder.
            if let Ok(Ok(Ok(()))) = tokio::time::timeout(AGREE, shown).await {
                return Ok(ExitCode::SUCCESS);
            }
            return Err(Refusal::failed("interrupted; everything was stopped", None).into());
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn interruption() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
    }
}

fn step(title: &str, why: &str) -> anyhow::Result<()> {
    Ok(output::line(&format!("\n== {title}\n   {why}"))?)
}

fn story(network: &mut Network, folder: Option<&std::path::Path>, count: usize) -> anyhow::Result<()> {
    let started = Instant::now();
    step(
        "A coordinator and three workers",
        "Each worker gets an id, makes a key, and starts a node with a full replica.",
    )?;
    network.start_server()?;
    for name in ["ana", "ben", "cyd"] {
        let registered = network.register(name)?;
        output::line(&format!(
            "   {name}: worker {}, page {}",
            text(&registered["worker_id"]),
            text(&registered["api"])
        ))?;
    }
    network.until("a leader", AGREE, |network| {
        Ok(!network.json("ana", &["get_leader"])?["leader_id"].is_null())
    })?;
    output::line(&format!(
        "   leader: {}",
        text(&network.json("ana", &["get_leader"])?["leader_id"])
    ))?;

    step(
        "Real records",
        "Checksums of this machine's files, each a transaction signed by ben's key.",
    )?;
    let (records, first_key) = records::collect(folder, count)?;
    let added = network.json_with_input("ben", &["add_transaction", "--file", "-"], &records)?;
    output::line(&format!("   {} records are pending", added["count"]))?;

    step(
        "A block",
        "ana mines: all her cores look for a hash below the target.",
    )?;
    network.until("the records at ana", AGREE, |network| {
        Ok(network.json("ana", &["mempool", "--limit", "1"])?["count"] == added["count"])
    })?;
    network.show("ana", &["mine_block"])?;
    // A block holds so many; more records take more blocks.
    while network.json("ana", &["mempool", "--limit", "1"])?["count"].as_u64() > Some(0) {
        network.show("ana", &["mine_block"])?;
    }
    network.until("the block to be final", AGREE, |network| {
        let status = network.json("ana", &["status"])?;
        Ok(status["final_size"].as_u64() > status["height"].as_u64())
    })?;

    step(
        "The chain and the replicas",
        "A majority holds the block and has cosigned the checkpoint: it is final.",
    )?;
    network.show("cyd", &["get_chain"])?;
    network.show("cyd", &["check_consistency"])?;

    let ids = added["transaction_ids"].as_array().cloned().unwrap_or_default();
    prove(network, &first_key, &ids.first().map(text).unwrap_or_default())?;
    copy(network, &ids.len().to_string())?;
    output::line(&format!("\nDone in {:.1} s.", started.elapsed().as_secs_f64()))?;
    network.tell_where()
}

fn prove(network: &Network, first_key: &str, id: &str) -> anyhow::Result<()> {
    step(
        "A record, and its proof",
        "The receipt is checked with nothing but the file: no node, no network.",
    )?;
    network.show("cyd", &["get", "--key", first_key, "--history"])?;
    let receipt = network.root().join("first.receipt").display().to_string();
    network.show("cyd", &["receipt", id, "--out", &receipt])?;
    network.show("cyd", &["verify", &receipt])
}

fn copy(network: &mut Network, want: &str) -> anyhow::Result<()> {
    step(
        "A copy in PostgreSQL",
        "Everything so far, and every later block as it comes.",
    )?;
    match Database::start(network.root())? {
        Some(database) => {
            network.show("ana", &["dump_data", "--db-url", &database.url])?;
            network.until("the copy", AGREE, |_| {
                Ok(database.query("SELECT count(*) FROM transactions")? == want)
            })?;
            let sql = "SELECT height, transactions, hash FROM blocks ORDER BY height";
            output::line(&format!("   {sql}"))?;
            for line in database.query(sql)?.lines() {
                output::line(&format!("   {line}"))?;
            }
            network.keep_database(database);
        }
        None => output::line("   no PostgreSQL is installed here: left out (apt-get install postgresql)")?,
    }
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
