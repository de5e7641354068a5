//! The explorer: blocks, one block with its Merkle tree, a transaction with its receipt, a key, an address, and a search.

mod account;
mod block;
mod find;
mod merkle;

pub(super) use account::account_facts;

use super::names::Names;
use super::show::{Row, cut, field_text, key_link, record_link, rows, text};
use super::{frame, html, read, short};
use crate::api::ApiState;
use crate::api::error::ApiError;
use crate::api::routes::{full_status, parse, transaction_view, versions};
use crate::api::types::{NodeStatus, RecordVersion};
use crate::machine::ChainRead as _;
use crate::node::clock;
use crate::output;
use actix_web::web::{Path, Query};
use actix_web::{HttpResponse, get};
use askama::Template;
use block_chain_common::hash::{BlockHash, TxId};
use block_chain_common::header::{Header, Proof};
use block_chain_common::quantity::{Amount, Height};
use block_chain_common::transaction::RecordKey;
use block_chain_web::page::Frame;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_actix_web::service_config::ServiceConfig;

const BLOCKS_SHOWN: u64 = 25;
const WAITING_SHOWN: usize = 10;
/// Values of a key that are shown, the newest.
const VALUES_SHOWN: usize = 100;
/// Characters of a value that are shown: it may have a megabyte.
const VALUE_SHOWN: usize = 10_000;

pub(super) fn configure(config: &mut ServiceConfig<'_>) {
    config
        .service(home)
        .service(block::show_block)
        .service(show_transaction)
        .service(show_record)
        .service(account::show_account)
        .service(find::find);
}

/// Something that needs attention.
struct Notice {
    class: &'static str,
    title: &'static str,
    text: String,
    lines: Vec<String>,
}

struct BlockRow {
    height: u64,
    state: &'static str,
    count: u32,
    proof: String,
    time: String,
    producer: String,
    producer_name: String,
    hash: String,
}

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    frame: Frame,
    notices: Vec<Notice>,
    facts: Vec<(&'static str, String)>,
    waiting_count: usize,
    waiting: Vec<Row>,
    blocks: Vec<BlockRow>,
    newer: Option<u64>,
    older: Option<u64>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct From {
    /// The height of the newest block that is shown; the head where it is not said.
    from: Option<u64>,
}

/// The chain: how it is, what waits, the newest blocks
#[utoipa::path(
    tag = "pages",
    params(From),
    responses((status = 200, description = "the page", body = String, content_type = "text/html"), ApiError)
)]
#[get("/")]
async fn home(state: ApiState, Query(asked): Query<From>) -> Result<HttpResponse, ApiError> {
    read(move || {
        let status = full_status(&state);
        let mempool = state.node.mempool(WAITING_SHOWN);
        let head = status.height.get();
        let newest = asked.from.unwrap_or(head).min(head);
        let oldest = newest.saturating_sub(BLOCKS_SHOWN - 1);
        let (names, mut blocks) = (Names::of(&state), Vec::new());
        for height in (oldest..=newest).rev().map(Height::new) {
            if let Some((hash, header)) = state.node.store().header_at(height)? {
                blocks.push(block_row((&state, &names), hash, &header));
            }
        }
        html(&Home {
            frame: frame(&state, format!("Chain {}", status.chain), "./"),
            notices: notices(&status),
            facts: facts(&status, &names),
            waiting_count: mempool.count,
            waiting: rows(&state, &mempool.transactions),
            blocks,
            newer: (newest < head).then(|| newest.saturating_add(BLOCKS_SHOWN).min(head)),
            older: oldest.checked_sub(1),
        })
    })
    .await
}

fn block_row((state, names): (&ApiState, &Names), hash: BlockHash, header: &Header) -> BlockRow {
    BlockRow {
        height: header.height.get(),
        state: state.node.block_status(header.height).name(),
        count: header.transaction_count,
        proof: proof(&header.proof),
        time: time(header),
        producer: header.producer.to_string(),
        producer_name: names.address(&header.producer),
        hash: hash.to_string(),
    }
}

/// The header of a block: the store keeps nothing of one that has lost, but what was seen of it is still known for a while.
fn known_header(state: &ApiState, hash: &BlockHash) -> Result<Option<Header>, ApiError> {
    let stored = state.node.store().header(hash)?.map(|stored| stored.header);
    Ok(stored.or_else(|| state.node.seen_block(hash).map(|seen| seen.header)))
}

/// The first block is of no time: it follows from the spec.
pub(super) fn time(header: &Header) -> String {
    match header.height {
        Height::ZERO => "–".to_owned(),
        _ => output::utc(header.timestamp),
    }
}

fn proof(proof: &Proof) -> String {
    match proof {
        Proof::Work { bits, .. } => format!("work, target {bits:08x}"),
        Proof::Stake { slot, .. } => format!("stake, slot {slot}"),
        Proof::Authority { .. } => "authority".to_owned(),
        _ => "the spec".to_owned(),
    }
}

fn notices(status: &NodeStatus) -> Vec<Notice> {
    let mut notices = Vec::new();
    let mut add = |class, title, text, lines| {
        notices.push(Notice {
            class,
            title,
            text,
            lines,
        });
    };
    if let Some(stopped) = &status.stopped {
        add(
            "bad",
            "Stopped:",
            format!("the coordinator contradicts itself: {}.", stopped.reason),
            vec![format!(
                "This worker agrees to nothing more; both statements are in {}",
                stopped.evidence
            )],
        );
    }
    if !status.server_reachable {
        let servers = status.servers.join(", ");
        let text = format!("{servers}. Everything here is readable and writable; finality waits.");
        add("", "The coordinator does not answer:", text, Vec::new());
    }
    if let Some(syncing) = &status.syncing {
        add(
            "",
            "Catching up:",
            output::progress(status.height, syncing),
            Vec::new(),
        );
    }
    if let Some(complaint) = status.clock_offset_ms.and_then(clock::complaint) {
        add("", "Clock:", complaint, Vec::new());
    }
    if let Some(waiting) = &status.waiting {
        let mut lines: Vec<String> = waiting.missing.iter().map(|missing| missing.describe()).collect();
        lines.extend(waiting.hint.clone());
        add("", "Not final yet:", waiting.reason.clone(), lines);
    }
    notices
}

fn facts(status: &NodeStatus, names: &Names) -> Vec<(&'static str, String)> {
    let leader = match status.leader_id {
        Some(_) if status.is_leader => format!("this worker, term {}", status.term),
        Some(leader) => format!("{}, term {}", names.worker(&leader), status.term),
        None => "none".to_owned(),
    };
    let mut facts = vec![
        ("Head", format!("block {}", status.height)),
        (
            "Committed",
            format!("{} blocks", output::grouped(status.committed_size)),
        ),
        ("Final", format!("{} blocks", output::grouped(status.final_size))),
        ("Leader", leader),
        (
            "Workers",
            format!(
                "{}, of which {} are connected to this one",
                status.members, status.peers
            ),
        ),
    ];
    if let Some(mining) = &status.mining {
        let (attempts, expected) = (output::grouped(mining.attempts), output::grouped(mining.expected));
        facts.push((
            "Mining",
            format!(
                "block {}: {attempts} attempts of {expected} on average",
                mining.height
            ),
        ));
    }
    facts
}

fn units(state: &ApiState, amount: Amount) -> String {
    output::units(i128::from(amount.get()), state.node.spec().spec().decimals)
}

struct Field {
    name: String,
    value: String,
    link: Option<String>,
}

#[derive(Template)]
#[template(path = "transaction.html")]
struct TransactionPage {
    frame: Frame,
    id: String,
    short: String,
    state: &'static str,
    kind: String,
    block: Option<u64>,
    fields: Vec<Field>,
    sender: String,
    sender_name: Option<String>,
    nonce: u64,
    public_key: String,
}

/// A transaction, with its receipt
#[utoipa::path(
    tag = "pages",
    params(("id" = TxId, Path, description = "the transaction's id")),
    responses((status = 200, description = "the page", body = String, content_type = "text/html"), ApiError)
)]
#[get("/transactions/{id}")]
async fn show_transaction(state: ApiState, id: Path<String>) -> Result<HttpResponse, ApiError> {
    let id: TxId = parse(&id)?;
    read(move || {
        let view = transaction_view(&state, id)?;
        let (transaction, decimals) = (&view.transaction, state.node.spec().spec().decimals);
        let fields = transaction.fields.iter().map(|(name, value)| Field {
            name: name.clone(),
            value: cut(&field_text(name, value, decimals), VALUE_SHOWN),
            link: match name.as_str() {
                "key" | "key_hex" => key_link(transaction),
                "to" | "address" => Some(format!("accounts/{}", text(value))),
                _ => None,
            },
        });
        html(&TransactionPage {
            frame: frame(&state, format!("Transaction {}", short(&id)), "./"),
            id: id.to_string(),
            short: short(&id),
            state: view.status.name(),
            kind: transaction.kind.clone(),
            block: view.block.map(Height::get),
            fields: fields.collect(),
            sender: transaction.sender.to_string(),
            sender_name: Names::of(&state)
                .worker_at(&transaction.sender)
                .map(str::to_owned),
            nonce: transaction.nonce.get(),
            public_key: transaction.public_key.to_string(),
        })
    })
    .await
}

struct Version {
    block: String,
    here: bool,
    time: String,
    state: &'static str,
    value: String,
    sender: String,
    transaction: String,
}

impl Version {
    fn of(version: &RecordVersion) -> Self {
        let value = version.value.as_deref().or(version.value_hex.as_deref());
        Self {
            block: version.block_in_words(),
            here: version.inherited.is_none(),
            time: output::utc(version.timestamp),
            state: version.status.name(),
            value: cut(value.unwrap_or_default(), VALUE_SHOWN),
            sender: version.sender.to_string(),
            transaction: version.transaction_id.to_string(),
        }
    }
}

#[derive(Template)]
#[template(path = "record.html")]
struct RecordPage {
    frame: Frame,
    versions: Vec<Version>,
    /// This page without its place, to which `&before=` is added.
    link: String,
    /// Whether newer values are on another page.
    newer: bool,
    older: Option<String>,
    as_json: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct WhichRecord {
    /// The key.
    #[param(example = "invoice/2026/17")]
    key: Option<String>,
    /// The key in hex, where it is not text.
    key_hex: Option<String>,
    /// The values before this place.
    #[param(example = "17-3")]
    before: Option<String>,
}

/// A key, with its history
#[utoipa::path(
    tag = "pages",
    params(WhichRecord),
    responses((status = 200, description = "the page", body = String, content_type = "text/html"), ApiError)
)]
#[get("/records")]
async fn show_record(state: ApiState, Query(asked): Query<WhichRecord>) -> Result<HttpResponse, ApiError> {
    let (bytes, shown, link) = match (asked.key, asked.key_hex) {
        (Some(key), None) => (key.clone().into_bytes(), key.clone(), record_link(&key)),
        (None, Some(text)) => {
            let bytes = hex::decode(&text);
            let bytes = bytes.map_err(|error| ApiError::Malformed(format!("key_hex: {error}")))?;
            let link = format!("records?key_hex={text}");
            (bytes, text, link)
        }
        _ => return Err(ApiError::Malformed("one of key and key_hex is needed".to_owned())),
    };
    let key = RecordKey::new(bytes).map_err(|error| ApiError::Malformed(format!("the key has {error}")))?;
    read(move || {
        let (found, older) = versions(&state, &key, asked.before.as_deref(), VALUES_SHOWN)?;
        if found.is_empty() {
            return Err(ApiError::NotFound(format!(
                "there is no record {:?} on this chain",
                cut(&shown, 200)
            )));
        }
        html(&RecordPage {
            frame: frame(&state, format!("Record {}", cut(&shown, 120)), "./"),
            versions: found.iter().map(Version::of).collect(),
            newer: asked.before.is_some(),
            older,
            as_json: link
                .strip_prefix("records?key=")
                .map(|key| format!("v1/record?history=true&key={key}")),
            link,
        })
    })
    .await
}
