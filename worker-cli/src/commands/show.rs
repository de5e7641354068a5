//! The commands that only show.

use super::chain::{next_slot, status as state};
use crate::api::types::{
    LeaderView, LogFilter, MempoolView, NodeStatus, PeersView, RecordView, TransactionJson, TransactionView,
};
use crate::cli::Global;
use crate::client::{ClientError, NodeClient};
use crate::identity::WorkerFile;
use crate::node::clock;
use crate::output::{self, Format, facts, list};
use block_chain_common::finality::MissingWorker;
use serde_json::{Value, json};
use std::io::IsTerminal as _;
use std::process::ExitCode;

type Done = anyhow::Result<ExitCode>;

pub(super) fn id(global: &Global, format: Format) -> Done {
    let dir = global.data_dir();
    let worker = WorkerFile::load(&dir)?.ok_or(ClientError::NotRegistered(dir))?;
    if format == Format::Json {
        output::json(&json!({ "worker_id": worker.worker_id }))?;
    } else {
        output::line(&worker.worker_id.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn leader(node: &NodeClient, format: Format) -> Done {
    let mut leader: LeaderView = node.get("/v1/leader", &[]).await?;
    // A node that has just started hears from the coordinator within a second or two.
    for _ in 0..40 {
        if leader.leader_id.is_some() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        leader = node.get("/v1/leader", &[]).await?;
    }
    if format == Format::Json {
        output::json(&leader)?;
    } else {
        match leader.leader_id {
            Some(id) => output::line(&format!(
                "{id}{}, term {}{}",
                if leader.is_me { " (this worker)" } else { "" },
                leader.term,
                leader
                    .since
                    .map(|since| format!(", since {}", output::utc(since)))
                    .unwrap_or_default()
            ))?,
            None => output::line("there is no leader, or no coordinator answers")?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn status(node: &NodeClient, format: Format) -> Done {
    let now: NodeStatus = node.get("/v1/status", &[]).await?;
    if format == Format::Json {
        output::json(&now)?;
        return Ok(ExitCode::SUCCESS);
    }
    let leader = match now.leader_id {
        Some(_) if now.is_leader => format!("this worker, term {}", now.term),
        Some(leader) => format!("{leader}, term {}", now.term),
        None => "none".to_owned(),
    };
    let mut rows = vec![
        ("worker", now.worker_id.to_string()),
        ("address", now.address.to_string()),
        ("chain", format!("{} ({})", now.chain, now.chain_id)),
        ("page", now.api.clone()),
        (
            "coordinator",
            format!(
                "{} {}",
                now.servers.join(", "),
                if now.server_reachable {
                    "answers"
                } else {
                    "does not answer"
                }
            ),
        ),
        ("leader", leader),
        (
            "head",
            format!("block {} of {}", now.height, output::utc(now.head_time)),
        ),
        ("committed", format!("{} blocks", now.committed_size)),
        ("final", format!("{} blocks", now.final_size)),
        (
            "waiting",
            format!(
                "{} transactions, {}",
                now.mempool_count,
                output::bytes(now.mempool_bytes)
            ),
        ),
        (
            "peers",
            format!("{} connected, {} workers in all", now.peers, now.members),
        ),
    ];
    if let Some(syncing) = &now.syncing {
        rows.push(("catching up", output::progress(now.height, syncing)));
    }
    if let Some(complaint) = now.clock_offset_ms.and_then(clock::complaint) {
        rows.push(("clock", complaint));
    }
    if let Some(slots) = &now.slots {
        let share = slots.share_ppm;
        let drawn = format!(
            "drawn for {}.{:02} % of slots; ",
            share / 10_000,
            share % 10_000 / 100
        );
        let drawn = if slots.is_drawn { drawn } else { String::new() };
        rows.push(("stake", format!("{drawn}{}", next_slot(slots))));
    }
    rows.extend(not_agreed(&now));
    output::line(&facts(&rows))?;
    Ok(ExitCode::SUCCESS)
}

/// Why the head is not final, and who is waited for; why this worker has stopped, where it has.
fn not_agreed(now: &NodeStatus) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    if let Some(waiting) = &now.waiting {
        let hint = waiting
            .hint
            .as_deref()
            .map(|hint| format!("; {hint}"))
            .unwrap_or_default();
        rows.push(("not final", format!("{}{hint}", waiting.reason)));
        let missing = waiting.missing.iter().map(MissingWorker::describe);
        rows.extend(missing.map(|missing| ("missing", missing)));
    }
    if let Some(stopped) = &now.stopped {
        let told = format!(
            "the coordinator contradicts itself: {}; this worker agrees to nothing more. Judge it: block-chain-worker verify {}",
            stopped.reason, stopped.evidence
        );
        rows.push(("stopped", told));
    }
    rows
}

async fn record_page(
    node: &NodeClient,
    (key, history): (&str, bool),
    before: Option<String>,
    limit: usize,
) -> Result<RecordView, ClientError> {
    let mut query = vec![
        ("key", key.to_owned()),
        ("history", history.to_string()),
        ("limit", limit.to_string()),
    ];
    query.extend(before.map(|before| ("before", before)));
    node.get("/v1/record", &query).await
}

pub(super) async fn record(
    node: &NodeClient,
    key: &str,
    history: bool,
    limit: usize,
    format: Format,
) -> Done {
    let mut record = record_page(node, (key, history), None, limit).await?;
    // Long values come in several pages.
    loop {
        let left = limit.saturating_sub(record.history.as_ref().map_or(limit, Vec::len));
        let Some(next) = record.next.take_if(|_| left > 0) else {
            break;
        };
        let page = record_page(node, (key, true), Some(next), left).await?;
        let found = record.history.get_or_insert_default();
        found.extend(page.history.unwrap_or_default());
        record.next = page.next;
    }
    if format == Format::Json {
        output::json(&record)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(versions) = record.history else {
        let value = record
            .current
            .value
            .or(record.current.value_hex)
            .unwrap_or_default();
        // Programs get the value as it is; a terminal is not to be steered by it.
        if std::io::stdout().is_terminal() {
            output::line(&output::printable_lines(&value))?;
        } else {
            output::line(&value)?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let rows = versions.into_iter().map(|version| {
        vec![
            version.block_in_words(),
            output::utc(version.timestamp),
            version.value.or(version.value_hex).unwrap_or_default(),
            version.transaction_id.to_string().chars().take(16).collect(),
            state(version.status).to_owned(),
        ]
    });
    output::line(&list(
        &["#Block", "Time (UTC)", "Value", "Transaction", "State"],
        rows.collect(),
    ))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn transaction(node: &NodeClient, id: &str, format: Format) -> Done {
    let view: TransactionView = node
        .get(&format!("/v1/transactions/{}", path_part(id)), &[])
        .await?;
    if format == Format::Json {
        output::json(&view)?;
        return Ok(ExitCode::SUCCESS);
    }
    let transaction = &view.transaction;
    let mut rows = vec![
        ("id", transaction.id.to_string()),
        ("type", transaction.kind.clone()),
        ("sender", transaction.sender.to_string()),
        ("nonce", transaction.nonce.to_string()),
    ];
    let fields: Vec<(&str, String)> = transaction
        .fields
        .iter()
        .map(|(name, value)| (name.as_str(), shown(value)))
        .collect();
    rows.extend(fields);
    rows.push(("state", state(view.status).to_owned()));
    if let (Some(block), Some(index)) = (view.block, view.index) {
        rows.push(("block", format!("{block}, transaction {index}")));
    }
    output::line(&facts(&rows))?;
    Ok(ExitCode::SUCCESS)
}

async fn mempool_page(node: &NodeClient, from: u64, limit: usize) -> Result<MempoolView, ClientError> {
    let query = [("from", from.to_string()), ("limit", limit.to_string())];
    node.get("/v1/mempool", &query).await
}

pub(super) async fn mempool(node: &NodeClient, limit: usize, format: Format) -> Done {
    let mut mempool = mempool_page(node, 0, limit).await?;
    loop {
        let left = limit.saturating_sub(mempool.transactions.len());
        let Some(next) = mempool.next.take_if(|_| left > 0) else {
            break;
        };
        let page = mempool_page(node, next, left).await?;
        mempool.transactions.extend(page.transactions);
        mempool.next = page.next;
    }
    if format == Format::Json {
        output::json(&mempool)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !mempool.transactions.is_empty() {
        let rows = mempool.transactions.iter().map(transaction_row).collect();
        output::line(&list(&["Transaction", "Type", "Sender", "#Nonce", "What"], rows))?;
    }
    output::line(&format!(
        "{} transactions wait, {}",
        mempool.count,
        output::bytes(mempool.bytes)
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn transaction_row(transaction: &TransactionJson) -> Vec<String> {
    let fields: Vec<String> = transaction
        .fields
        .iter()
        .map(|(name, value)| format!("{name} {}", shown(value)))
        .collect();
    let what: String = fields.join(", ").chars().take(120).collect();
    vec![
        transaction.id.to_string().chars().take(16).collect(),
        transaction.kind.clone(),
        transaction.sender.to_string().chars().take(16).collect(),
        transaction.nonce.to_string(),
        what,
    ]
}

pub(super) async fn peers(node: &NodeClient, format: Format) -> Done {
    let peers: PeersView = node.get("/v1/peers", &[]).await?;
    if format == Format::Json {
        output::json(&peers)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = peers.peers.iter().map(|peer| {
        vec![
            peer.name.clone().unwrap_or_else(|| peer.worker_id.to_string()),
            peer.addresses.join(" "),
            match (peer.connected, peer.relayed) {
                (true, false) => "direct",
                (true, true) => "relayed",
                (false, _) => "not connected",
            }
            .to_owned(),
            if peer.alive { "alive" } else { "silent" }.to_owned(),
            peer.height.to_string(),
            peer.committed.to_string(),
        ]
    });
    output::line(&list(
        &[
            "Worker",
            "Addresses",
            "Here",
            "Coordinator",
            "#Head",
            "#Committed",
        ],
        rows.collect(),
    ))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What a user typed, as one part of a path: nothing in it can lead elsewhere.
pub(super) fn path_part(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

pub(super) async fn log(
    node: &NodeClient,
    filter: Option<String>,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let node = node.for_all_chains();
    let answer: LogFilter = match filter {
        Some(filter) => node.post("/v1/log", &LogFilter { filter }).await?,
        None => node.get("/v1/log", &[]).await?,
    };
    match format {
        Format::Json => output::json(&answer)?,
        Format::People => output::line(&answer.filter)?,
    }
    Ok(ExitCode::SUCCESS)
}
