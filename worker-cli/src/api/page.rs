//! The pages for people.

use super::ApiState;
use super::error::ApiError;
use super::json::{block_header_view, reward_of, to_json};
use super::routes::{full_status, peers_view};
use super::types::{BlockView, NodeStatus, Status, TransactionJson};
use crate::machine::Place;
use crate::node::clock;
use actix_web::web::{Data, Path, Query};
use actix_web::{HttpResponse, get};
use block_chain_common::quantity::Height;
use serde::Deserialize;
use serde_json::Value;
use std::fmt::Write as _;
use utoipa::IntoParams;

const BLOCKS_SHOWN: u64 = 20;
const TRANSACTIONS_SHOWN: u32 = 500;
const WAITING_SHOWN: usize = 10;
/// Characters of a transaction's fields: a value may have a megabyte.
const FIELDS_SHOWN: usize = 300;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}\
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #8884;vertical-align:top;overflow-wrap:anywhere}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}\
code{font-size:.92em}dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1.2rem}\
dt{opacity:.7}dd{margin:0}.final{color:#2a8f4a}.waits{color:#b7791f}";

/// Reloads when something happens, or may have: the listener fell behind, or was not connected for a while. Without scripts
/// the page is as it was when it was asked for.
const SCRIPT: &str = "\
let t,opened,e=new EventSource('/v1/events'),\
again=()=>{clearTimeout(t);t=setTimeout(()=>location.reload(),1000)};\
e.onmessage=again;e.addEventListener('lagged',again);e.onopen=()=>{if(opened)again();opened=true}";

/// The page for people: the node, its peers, the newest blocks
#[utoipa::path(
    tag = "pages",
    responses((status = 200, description = "the page", body = String, content_type = "text/html"), ApiError)
)]
#[get("/")]
pub(super) async fn home(state: Data<ApiState>) -> Result<HttpResponse, ApiError> {
    let status = full_status(&state);
    let mut html = start(&format!(
        "worker {}",
        status.name.as_deref().unwrap_or(&status.worker_id.to_string())
    ));
    overview(&mut html, &status);
    html.push_str("<form action=/find><label>A key, or the id of a transaction or block: <input name=q required size=48></label> <button>find</button></form>");
    waiting_transactions(&mut html, &state);
    peers(&mut html, &state);
    html.push_str(
        "<h2>Blocks</h2><table><tr><th class=n>Index<th>Hash<th>Time<th class=n>Transactions<th>State</tr>",
    );
    let first = status.height.get().saturating_sub(BLOCKS_SHOWN - 1);
    for height in (first..=status.height.get()).rev().map(Height::new) {
        let Some((hash, header)) = state.node.store().header_at(height)? else {
            continue;
        };
        let agreed = state_span(state.node.block_status(height));
        push(
            &mut html,
            format_args!(
                "<tr><td class=n><a href=/blocks/{height}>{height}</a><td><code>{hash}</code><td>{}<td class=n>{}<td>{agreed}</tr>",
                crate::output::utc(header.timestamp),
                header.transaction_count
            ),
        );
    }
    html.push_str("</table><p>Read on: <a href=/docs/>the interface</a>, <a href=/metrics>metrics</a>.</p>");
    push(&mut html, format_args!("<script>{SCRIPT}</script>"));
    Ok(page(html))
}

fn waiting_transactions(html: &mut String, state: &ApiState) {
    let mempool = state.node.mempool(WAITING_SHOWN);
    if mempool.count == 0 {
        return;
    }
    push(
        html,
        format_args!(
            "<h2>Waiting</h2><p>{} transactions, {} bytes; the oldest:</p>",
            mempool.count, mempool.bytes
        ),
    );
    transactions_table(html, &mempool.transactions);
}

fn peers(html: &mut String, state: &ApiState) {
    let view = peers_view(state);
    if view.peers.is_empty() {
        return;
    }
    html.push_str(
        "<h2>Other workers</h2><table><tr><th>Worker<th>Name<th>Heard<th>Connected<th class=n>Height<th class=n>Committed</tr>",
    );
    let yes = |is: bool| if is { "yes" } else { "<span class=waits>no</span>" };
    for peer in view.peers {
        push(
            html,
            format_args!(
                "<tr><td><code>{}</code><td>{}<td>{}<td>{}<td class=n>{}<td class=n>{}</tr>",
                peer.worker_id,
                escape(peer.name.as_deref().unwrap_or_default()),
                yes(peer.alive),
                yes(peer.connected),
                peer.height,
                peer.committed
            ),
        );
    }
    html.push_str("</table>");
}

pub(super) fn transactions_table(html: &mut String, transactions: &[TransactionJson]) {
    html.push_str("<table><tr><th>Transaction<th>Type<th>Sender<th class=n>Nonce<th>What</tr>");
    for transaction in transactions {
        let fields = Value::Object(transaction.fields.clone()).to_string();
        let shown: String = fields.chars().take(FIELDS_SHOWN).collect();
        push(
            html,
            format_args!(
                "<tr><td><a href=/find?q={0}><code>{0}</code></a><td>{1}<td><code>{2}</code><td class=n>{3}<td><code>{4}</code></tr>",
                transaction.id,
                escape(&transaction.kind),
                transaction.sender,
                transaction.nonce,
                escape(&shown)
            ),
        );
    }
    html.push_str("</table>");
}

fn overview(html: &mut String, status: &NodeStatus) {
    let leader = match status.leader_id {
        Some(_) if status.is_leader => format!("this worker, term {}", status.term),
        Some(leader) => format!("{leader}, term {}", status.term),
        None => "none".to_owned(),
    };
    let server = if status.server_reachable {
        "answers"
    } else {
        "does not answer"
    };
    push(
        html,
        format_args!(
            "<dl><dt>Chain<dd>{} <code>{}</code><dt>Worker<dd><code>{}</code><dt>Address<dd><code>{}</code>\
             <dt>Leader<dd>{leader}<dt>Coordinator<dd>{} {server}<dt>Head<dd>block {}\
             <dt>Committed<dd>{} blocks<dt>Final<dd>{} blocks<dt>Waiting<dd>{} transactions, {} bytes\
             <dt>Peers<dd>{} connected, {} members",
            escape(&status.chain),
            status.chain_id,
            status.worker_id,
            status.address,
            escape(&status.servers.join(", ")),
            status.height,
            status.committed_size,
            status.final_size,
            status.mempool_count,
            status.mempool_bytes,
            status.peers,
            status.members
        ),
    );
    if let Some(syncing) = &status.syncing {
        let progress = crate::output::progress(status.height, syncing);
        push(html, format_args!("<dt>Catching up<dd class=waits>{progress}"));
    }
    if let Some(complaint) = status.clock_offset_ms.and_then(clock::complaint) {
        push(html, format_args!("<dt>Clock<dd class=waits>{complaint}"));
    }
    if let Some(waiting) = &status.waiting {
        let hint = waiting.hint.as_deref().unwrap_or_default();
        push(
            html,
            format_args!(
                "<dt>Not final<dd class=waits>{}. {}",
                escape(&waiting.reason),
                escape(hint)
            ),
        );
        for missing in &waiting.missing {
            let told = escape(&missing.describe());
            push(html, format_args!("<dd class=waits>{told}"));
        }
    }
    if let Some(stopped) = &status.stopped {
        push(
            html,
            format_args!(
                "<dt>Stopped<dd class=bad>the coordinator contradicts itself: {}. This worker agrees to nothing more; both statements are in <code>{}</code>",
                escape(&stopped.reason),
                escape(&stopped.evidence)
            ),
        );
    }
    html.push_str("</dl>");
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// The index of the first transaction that is shown.
    #[serde(default)]
    from: u32,
}

/// The page of a block
#[utoipa::path(
    tag = "pages",
    params(("height" = u64, Path, description = "the block's height"), Page),
    responses((status = 200, description = "the page", body = String, content_type = "text/html"), ApiError)
)]
#[get("/blocks/{height}")]
pub(super) async fn show_block(
    state: Data<ApiState>,
    height: Path<u64>,
    Query(asked): Query<Page>,
) -> Result<HttpResponse, ApiError> {
    let height = Height::new(*height);
    let from = asked.from;
    let html = super::routes::blocking(move || block_page(&state, height, from)).await?;
    Ok(page(html))
}

/// A block, with one page of its transactions: only these are read.
fn block_page(state: &ApiState, height: Height, from: u32) -> Result<String, ApiError> {
    let store = state.node.store().snapshot();
    let unknown = || ApiError::NotFound(format!("there is no block {height} yet"));
    let (hash, header) = store.header_at(height)?.ok_or_else(unknown)?;
    let count = header.transaction_count;
    let end = from.saturating_add(TRANSACTIONS_SHOWN).min(count);
    let mut shown = Vec::new();
    for index in from..end {
        if let Some(transaction) = store.transaction(Place { height, index })? {
            shown.push(to_json(&transaction, transaction.id()));
        }
    }
    let mut html = start(&format!("block {height}"));
    let agreed = (
        state.node.block_status(height),
        reward_of(state.node.spec(), height),
    );
    let view = block_header_view(header, hash, agreed);
    block_facts(&mut html, &view);
    push(&mut html, format_args!("<h2>{count} transactions</h2>"));
    transactions_table(&mut html, &shown);
    if from > 0 {
        let before = from.saturating_sub(TRANSACTIONS_SHOWN);
        push(
            &mut html,
            format_args!("<p><a href=/blocks/{height}?from={before}>earlier ones</a></p>"),
        );
    }
    if end < count {
        push(
            &mut html,
            format_args!("<p><a href=/blocks/{height}?from={end}>from {end} on</a></p>"),
        );
    }
    push(
        &mut html,
        format_args!("<p><a href=/>back</a> · <a href=/v1/blocks/{height}>as JSON</a></p>"),
    );
    Ok(html)
}

fn block_facts(html: &mut String, view: &BlockView) {
    push(
        html,
        format_args!(
            "<dl><dt>Hash<dd><code>{}</code><dt>Previous<dd><code>{}</code><dt>Merkle root<dd><code>{}</code>\
             <dt>State digest<dd><code>{}</code><dt>History root<dd><code>{}</code><dt>Time<dd>{}\
             <dt>Producer<dd><code>{}</code><dt>Nonce<dd>{}<dt>State<dd>{}</dl>",
            view.hash,
            view.previous_hash,
            view.merkle_root,
            view.state_digest,
            view.history_root,
            crate::output::utc(view.timestamp),
            view.producer,
            view.nonce,
            state_span(view.status)
        ),
    );
}

pub(super) fn state_span(status: Status) -> &'static str {
    match status {
        Status::Pending => "<span class=waits>pending</span>",
        Status::Included => "<span class=waits>included</span>",
        Status::Committed => "<span class=waits>committed</span>",
        Status::Final => "<span class=final>final</span>",
    }
}

pub(super) fn start(title: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
         <title>{title}</title><style>{STYLE}</style><h1>{title}</h1>"
    )
}

pub(super) fn page(html: String) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header(("content-security-policy", "default-src 'self' 'unsafe-inline'"))
        .body(html)
}

pub(super) fn push(html: &mut String, text: std::fmt::Arguments<'_>) {
    let written = html.write_fmt(text);
    debug_assert!(written.is_ok(), "writing into a string cannot fail");
}

pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}
