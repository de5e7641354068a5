//! `mine_block` and `get_chain`.

use crate::api::types::{BlockView, MineRequest, Mined, NodeStatus, Slots, Status};
use crate::client::{ClientError, NodeClient};
use crate::output::{self, Format, facts, list};
use serde::Serialize as _;
use std::process::ExitCode;
use std::time::Duration;

/// Blocks that people are shown where they do not say how many.
const SHOWN: u64 = 20;
/// Blocks of one table: a long chain is shown in several.
const PAGE: usize = 100;
/// A block in JSON is at most its 8 MiB with every byte escaped.
const MAX_LINE_BYTES: usize = 64 * 1_048_576;

pub(super) async fn mine(node: &NodeClient, wait_ms: u64, format: Format) -> anyhow::Result<ExitCode> {
    tell_slot(node).await?;
    let watched = tokio::spawn(watch(node.clone()));
    let mined: Result<Mined, ClientError> = node
        .post(
            "/v1/mine",
            &MineRequest {
                wait_ms: Some(wait_ms),
            },
        )
        .await;
    watched.abort();
    let mined = mined?;
    if format == Format::Json {
        output::json(&mined)?;
        return Ok(ExitCode::SUCCESS);
    }
    let block = &mined.block;
    let mut rows = vec![
        ("block", block.index.to_string()),
        ("hash", block.hash.to_string()),
        (
            "transactions",
            output::grouped(u64::try_from(block.transactions.len()).unwrap_or(u64::MAX)),
        ),
        ("producer", block.producer.to_string()),
        ("reward", output::grouped(block.reward.get())),
        ("state", status(block.status).to_owned()),
    ];
    if let Some(slot) = block.slot {
        rows.push(("slot", slot.to_string()));
    }
    // Blocks that were signed, not searched for, took no attempts.
    if mined.attempts > 0 {
        let (attempts, rate) = (output::grouped(mined.attempts), output::grouped(mined.hash_rate));
        rows.extend([
            ("nonce", block.nonce.to_string()),
            ("found in", output::duration(mined.elapsed_ms)),
            ("tried", format!("{attempts} nonces, {rate} a second")),
        ]);
    }
    output::line(&facts(&rows))?;
    Ok(ExitCode::SUCCESS)
}

/// On a chain of stake, how long the wait for this worker's slot is.
async fn tell_slot(node: &NodeClient) -> Result<(), ClientError> {
    let now: NodeStatus = node.get("/v1/status", &[]).await?;
    if let Some(slots) = now.slots {
        output::note(&next_slot(&slots));
    }
    Ok(())
}

/// When a worker's next slot comes, in words.
pub(super) fn next_slot(slots: &Slots) -> String {
    match slots.next {
        Some(next) => {
            let wait = next.get().saturating_sub(crate::node::now().get());
            format!("this worker's next slot begins in {}", output::duration(wait))
        }
        None if slots.is_drawn => "this worker has no slot among the next 10,000".to_owned(),
        None => "this worker has no stake in this epoch: stake --amount N gives it some".to_owned(),
    }
}

/// Shows the search's progress until it is told to end.
async fn watch(node: NodeClient) {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let bar = output::bar(100, "searching {spinner} {msg}");
    loop {
        if let Ok(NodeStatus {
            mining: Some(mining), ..
        }) = node.get("/v1/status", &[]).await
        {
            let rate = mining.attempts.saturating_mul(1_000) / mining.elapsed_ms.max(1);
            bar.set_message(format!(
                "block {}: {} of about {} nonces, {} a second",
                mining.height,
                output::grouped(mining.attempts),
                output::grouped(mining.expected),
                output::grouped(rate)
            ));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

pub(super) async fn get(
    node: &NodeClient,
    from: Option<u64>,
    limit: Option<u64>,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let now: NodeStatus = node.get("/v1/status", &[]).await?;
    let length = now.height.get() + 1;
    let (from, limit) = match format {
        // What is added from now on is left out, so that `length` and `blocks` fit together.
        Format::Json => {
            let from = from.unwrap_or(0);
            (from, limit.unwrap_or(u64::MAX).min(length.saturating_sub(from)))
        }
        Format::People => {
            let limit = limit.unwrap_or(SHOWN);
            (from.unwrap_or_else(|| length.saturating_sub(limit)), limit)
        }
    };
    let query = [("from", from.to_string()), ("limit", limit.to_string())];
    let mut blocks = Blocks {
        chunks: node.stream("/v1/blocks", &query).await?,
        rest: Vec::new(),
    };
    match format {
        Format::Json => {
            // One document, written as it comes: a long chain is never held whole.
            output::raw(
                format!(
                    "{{\"chain\":{},\"length\":{length},\"blocks\":[",
                    quoted(&now.chain)
                )
                .as_bytes(),
            )?;
            let mut first = true;
            while let Some(line) = blocks.next().await? {
                output::raw(if first { b"\n" } else { b",\n" })?;
                output::raw(&line)?;
                first = false;
            }
            output::raw(b"]}\n")?;
        }
        Format::People => {
            let mut rows = Vec::new();
            while let Some(line) = blocks.next().await? {
                let block: BlockView = serde_json::from_slice(&line)?;
                rows.push(row(&block));
                if rows.len() == PAGE {
                    show(std::mem::take(&mut rows))?;
                }
            }
            if !rows.is_empty() {
                show(rows)?;
            }
            output::line(&format!("{} blocks on chain {}", length, now.chain))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(rows: Vec<Vec<String>>) -> anyhow::Result<()> {
    let header = [
        "#Index",
        "Hash",
        "Time (UTC)",
        "#Transactions",
        "Producer",
        "State",
    ];
    Ok(output::line(&list(&header, rows))?)
}

fn row(block: &BlockView) -> Vec<String> {
    let producer = block.producer.to_string();
    vec![
        block.index.to_string(),
        block.hash.to_string().chars().take(16).collect(),
        output::utc(block.timestamp),
        block.transactions.len().to_string(),
        producer.chars().take(16).collect(),
        status(block.status).to_owned(),
    ]
}

/// The state's name.
pub(super) const fn status(status: Status) -> &'static str {
    match status {
        Status::Pending => "pending",
        Status::Included => "included",
        Status::Committed => "committed",
        Status::Final => "final",
    }
}

fn quoted(text: &str) -> String {
    let mut bytes = Vec::new();
    let written = text.serialize(&mut serde_json::Serializer::new(&mut bytes));
    debug_assert!(written.is_ok(), "writing into memory cannot fail");
    String::from_utf8(bytes).unwrap_or_default()
}

/// The lines of an NDJSON answer, as they come.
struct Blocks {
    chunks: reqwest::Response,
    rest: Vec<u8>,
}

impl Blocks {
    async fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.rest.iter().skip(searched).position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.rest.drain(..=searched + end).collect();
                line.pop();
                return Ok(Some(line));
            }
            searched = self.rest.len();
            if searched > MAX_LINE_BYTES {
                anyhow::bail!("a block of the answer has more than {MAX_LINE_BYTES} bytes");
            }
            match self.chunks.chunk().await? {
                Some(chunk) => self.rest.extend_from_slice(&chunk),
                None if self.rest.is_empty() => return Ok(None),
                None => anyhow::bail!(
                    "the answer ends within a block: the node has stopped, or its store is damaged"
                ),
            }
        }
    }
}
