//! The pages for people, and what machines ask of every service: health, figures, events, the interface's description.

use super::ApiState;
use super::error::ApiError;
use super::json::block_view;
use super::routes::full_status;
use super::types::{BlockView, NodeStatus, Status};
use crate::machine::ChainRead as _;
use actix_web::HttpResponse;
use actix_web::web::{self, Bytes, Data, Path};
use block_chain_common::quantity::Height;
use futures_util::stream;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use utoipa_swagger_ui::{Config, SwaggerUi};

const KEEP_ALIVE: Duration = Duration::from_secs(15);
const BLOCKS_SHOWN: u64 = 20;
const TRANSACTIONS_SHOWN: usize = 500;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}\
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #8884;vertical-align:top;overflow-wrap:anywhere}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}\
code{font-size:.92em}dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1.2rem}\
dt{opacity:.7}dd{margin:0}.final{color:#2a8f4a}.waits{color:#b7791f}";

const SCRIPT: &str = "let t;new EventSource('/v1/events').onmessage=()=>{clearTimeout(t);t=setTimeout(()=>location.reload(),1000)}";

const ROUTES: [(&str, &str, &str); 25] = [
    (
        "get",
        "/v1/status",
        "the node now: head, committed, final, leader, what waits and why",
    ),
    ("get", "/v1/leader", "who leads, in which term, since when"),
    (
        "post",
        "/v1/records",
        "put records, signed with the worker's key (cookie)",
    ),
    (
        "post",
        "/v1/transactions",
        "take signed transactions, JSON or binary (cookie)",
    ),
    (
        "get",
        "/v1/transactions/{id}",
        "one transaction, and how far it is agreed to",
    ),
    ("get", "/v1/mempool", "what waits (?limit=)"),
    ("post", "/v1/mine", "make a block now (cookie)"),
    (
        "get",
        "/v1/blocks",
        "blocks as NDJSON, oldest first (?from=&limit=)",
    ),
    ("get", "/v1/blocks/{which}", "a block by height or hash"),
    ("get", "/v1/record", "a key's value (?key=&history=&limit=)"),
    ("get", "/v1/accounts/{address}", "what an address has"),
    ("get", "/v1/receipts/{id}", "the proof of a transaction, as text"),
    ("get", "/v1/peers", "the other workers"),
    ("post", "/v1/check", "check everything (cookie)"),
    ("get", "/v1/check", "how far a check is"),
    ("post", "/v1/dump", "copy to PostgreSQL and follow (cookie)"),
    ("get", "/v1/dump", "the copy now"),
    ("post", "/v1/dump/stop", "stop the copy (cookie)"),
    ("post", "/v1/disconnect", "leave the network and stop (cookie)"),
    ("post", "/v1/stop", "stop, and stay a member (cookie)"),
    ("get", "/v1/events", "server-sent events"),
    ("get", "/healthz", "the process is up"),
    ("get", "/readyz", "the node answers"),
    ("get", "/metrics", "figures for Prometheus"),
    ("get", "/", "the page for people"),
];

pub(super) fn configure_docs(config: &mut web::ServiceConfig) {
    config
        .route("/openapi.json", web::get().to(document))
        .route("/docs", web::get().to(to_docs))
        .service(SwaggerUi::new("/docs/{_:.*}").config(Config::from("/openapi.json")));
}

async fn to_docs() -> HttpResponse {
    HttpResponse::TemporaryRedirect()
        .insert_header(("location", "/docs/"))
        .finish()
}

async fn document() -> HttpResponse {
    let mut paths = serde_json::Map::new();
    for (method, path, summary) in ROUTES {
        let parameters: Vec<Value> = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
            .collect();
        paths.entry(path).or_insert_with(|| json!({}))[method] = json!({
            "summary": summary,
            "parameters": parameters,
            "responses": {
                "200": { "description": "done" },
                "default": { "description": "refused: {code, message, hint}" }
            }
        });
    }
    HttpResponse::Ok().json(json!({
        "openapi": "3.1.0",
        "info": { "title": "block-chain-worker: a node", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
    }))
}

pub(super) async fn healthz() -> HttpResponse {
    let version = env!("CARGO_PKG_VERSION");
    HttpResponse::Ok().json(json!({ "status": "ok", "service": "block-chain-worker", "version": version }))
}

pub(super) async fn metrics(state: Data<ApiState>) -> HttpResponse {
    let status = state.node.status();
    let mining = status.mining.as_ref();
    let figures = [
        ("height", status.height.get()),
        ("committed_blocks", status.committed_size),
        ("final_blocks", status.final_size),
        ("term", status.term.get()),
        ("leads", u64::from(status.is_leader)),
        ("server_reachable", u64::from(status.server_reachable)),
        ("peers", u64::try_from(status.peers).unwrap_or(u64::MAX)),
        ("members", u64::try_from(status.members).unwrap_or(u64::MAX)),
        (
            "mempool_transactions",
            u64::try_from(status.mempool_count).unwrap_or(u64::MAX),
        ),
        (
            "mempool_bytes",
            u64::try_from(status.mempool_bytes).unwrap_or(u64::MAX),
        ),
        ("mining_attempts", mining.map_or(0, |mining| mining.attempts)),
    ];
    let mut text = String::new();
    for (name, figure) in figures {
        push(
            &mut text,
            format_args!("# TYPE block_chain_node_{name} gauge\nblock_chain_node_{name} {figure}\n"),
        );
    }
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4")
        .body(text)
}

pub(super) async fn events(state: Data<ApiState>) -> HttpResponse {
    let start = (state.node.subscribe(), state.stopping.clone());
    let events = stream::unfold(start, |(mut receiver, mut stopping)| async move {
        let text = tokio::select! {
            received = receiver.recv() => match received {
                Ok(event) => format!("data: {}\n\n", serde_json::to_string(&event).unwrap_or_default()),
                Err(RecvError::Lagged(missed)) => format!("event: lagged\ndata: {{\"missed\":{missed}}}\n\n"),
                Err(RecvError::Closed) => return None,
            },
            () = tokio::time::sleep(KEEP_ALIVE) => ": alive\n\n".to_owned(),
            _ = stopping.changed() => return None,
        };
        Some((Ok::<_, Infallible>(Bytes::from(text)), (receiver, stopping)))
    });
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-cache"))
        .streaming(events)
}

pub(super) async fn home(state: Data<ApiState>) -> Result<HttpResponse, ApiError> {
    let status = full_status(&state);
    let mut html = start(&format!(
        "worker {}",
        status.name.as_deref().unwrap_or(&status.worker_id.to_string())
    ));
    overview(&mut html, &status);
    html.push_str("<form action=/v1/record><label>Value of a key: <input name=key required></label> <button>show</button></form>");
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
    }
    html.push_str("</dl>");
}

pub(super) async fn block(state: Data<ApiState>, height: Path<u64>) -> Result<HttpResponse, ApiError> {
    let height = Height::new(*height);
    let found = state.node.store().hash_at(height)?;
    let hash = found.ok_or_else(|| ApiError::NotFound(format!("there is no block {height} yet")))?;
    let view = block_view(&state.node, &hash)?;
    let mut html = start(&format!("block {height}"));
    block_facts(&mut html, &view);
    html.push_str("<table><tr><th>Transaction<th>Type<th>Sender<th class=n>Nonce<th>What</tr>");
    for transaction in view.transactions.iter().take(TRANSACTIONS_SHOWN) {
        let fields = Value::Object(transaction.fields.clone()).to_string();
        let shown: String = fields.chars().take(300).collect();
        push(
            &mut html,
            format_args!(
                "<tr><td><a href=/v1/transactions/{0}><code>{0}</code></a><td>{1}<td><code>{2}</code><td class=n>{3}<td><code>{4}</code></tr>",
                transaction.id,
                escape(&transaction.kind),
                transaction.sender,
                transaction.nonce,
                escape(&shown)
            ),
        );
    }
    html.push_str("</table>");
    if view.transactions.len() > TRANSACTIONS_SHOWN {
        push(
            &mut html,
            format_args!(
                "<p>The first {TRANSACTIONS_SHOWN} of {}; <a href=/v1/blocks/{height}>all as JSON</a>.</p>",
                view.transactions.len()
            ),
        );
    }
    html.push_str("<p><a href=/>back</a></p>");
    Ok(page(html))
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

fn state_span(status: Status) -> &'static str {
    match status {
        Status::Pending => "<span class=waits>pending</span>",
        Status::Included => "<span class=waits>included</span>",
        Status::Committed => "<span class=waits>committed</span>",
        Status::Final => "<span class=final>final</span>",
    }
}

fn start(title: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
         <title>{title}</title><style>{STYLE}</style><h1>{title}</h1>"
    )
}

fn page(html: String) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header(("content-security-policy", "default-src 'self' 'unsafe-inline'"))
        .body(html)
}

fn push(html: &mut String, text: std::fmt::Arguments<'_>) {
    let written = html.write_fmt(text);
    debug_assert!(written.is_ok(), "writing into a string cannot fail");
}

fn escape(text: &str) -> String {
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
