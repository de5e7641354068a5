//! The page for people: workers, leader, chain head, what is final, and why not.

use super::{State, call, now};
use crate::error::ServiceError;
use actix_web::web::Data;
use actix_web::{HttpResponse, get};
use block_chain_common::coordinator_api::{ChainView, Member};
use block_chain_common::finality::{MissingWorker, waiting};
use std::fmt::Write as _;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:15px/1.5 system-ui,sans-serif;max-width:68rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}\
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #8884}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\
code{font-size:.92em}dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1.2rem}\
dt{opacity:.7}dd{margin:0}.ok{color:#2a8f4a}.bad{color:#c0392b}";

/// Reloads when something happens, or may have: the listener fell behind, or was not connected for a while. Without scripts
/// the page is as it was when it was asked for.
const SCRIPT: &str = "\
let t,opened,e=new EventSource('/v1/events'),\
again=()=>{clearTimeout(t);t=setTimeout(()=>location.reload(),500)};\
e.onmessage=again;e.addEventListener('lagged',again);e.onopen=()=>{if(opened)again();opened=true}";

/// The page for people: workers, leader, what is committed and final, and why what is not is not
#[utoipa::path(
    tag = "service",
    responses((status = 200, description = "the page", body = String, content_type = "text/html"), ServiceError)
)]
#[get("/")]
pub(super) async fn home(state: Data<State>) -> Result<HttpResponse, ServiceError> {
    let views = call(&state, |service| {
        service
            .chains()?
            .iter()
            .map(|chain| service.view(&chain.name, now()))
            .collect::<Result<Vec<_>, _>>()
    });
    let mut html = String::from("<!doctype html><html lang=en><meta charset=utf-8>");
    html.push_str("<meta name=viewport content='width=device-width'><title>block-chain-server</title>");
    push(
        &mut html,
        format_args!("<style>{STYLE}</style><h1>block-chain-server</h1>"),
    );
    for view in views.await? {
        chain_section(&mut html, &view);
    }
    html.push_str("<p>Read on: <a href=/docs/>the interface</a>, <a href=/metrics>metrics</a>.</p>");
    push(&mut html, format_args!("<script>{SCRIPT}</script>"));
    let policy = "default-src 'self' 'unsafe-inline'";
    Ok(HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header(("content-security-policy", policy))
        .body(html))
}

fn chain_section(html: &mut String, view: &ChainView) {
    let committed = view.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.size);
    let head = view
        .members
        .iter()
        .map(|member| member.height.get())
        .max()
        .unwrap_or(0);
    push(html, format_args!("<h2>Chain {}</h2><dl>", escape(&view.chain)));
    match &view.leader {
        Some(leader) => push(
            html,
            format_args!(
                "<dt>Leader<dd><code>{}</code>, term {}",
                leader.worker_id, leader.term
            ),
        ),
        None => push(
            html,
            format_args!("<dt>Leader<dd class=bad>none, term {}", view.term),
        ),
    }
    push(html, format_args!("<dt>Head<dd>block {head}"));
    push(
        html,
        format_args!(
            "<dt>Committed<dd>{}<dt>Final<dd>{}",
            blocks(committed),
            blocks(view.final_size)
        ),
    );
    push(
        html,
        format_args!("<dt>Agreement<dd>{}</dl>", escape(&agreement(view))),
    );
    html.push_str("<table><tr><th>Worker<th>Id<th>State<th class=n>Head<th class=n>Committed<th>Page</tr>");
    for member in &view.members {
        member_row(html, member);
    }
    html.push_str("</table>");
    if view.members.is_empty() {
        html.push_str("<p>No worker yet. Start one: <code>block-chain-worker register</code></p>");
    }
}

fn member_row(html: &mut String, member: &Member) {
    let name = member.name.as_deref().unwrap_or("–");
    let state = if member.alive {
        let joining = if member.counts {
            ""
        } else {
            ", joining: it does not count yet"
        };
        format!("<span class=ok>alive</span>{joining}")
    } else {
        format!("<span class=bad>silent for {} s</span>", member.silent_ms / 1_000)
    };
    let page = member.api.as_deref().map_or_else(
        || "–".to_owned(),
        |url| {
            let url = escape(url);
            format!("<a href='{url}'>{url}</a>")
        },
    );
    push(
        html,
        format_args!(
            "<tr><td>{}<td><code>{}</code><td>{state}<td class=n>{}<td class=n>{}<td>{page}</tr>",
            escape(name),
            member.worker_id,
            member.height,
            member.committed
        ),
    );
}

/// Why what is not final is not, and what helps.
fn agreement(view: &ChainView) -> String {
    let head = view.members.iter().map(|member| member.height).max();
    let Some(waits) = waiting(view, head.unwrap_or_default()) else {
        let counting = view.counting().count();
        return format!(
            "{} of {counting} workers make a majority; nothing waits",
            view.quorum
        );
    };
    let missing: Vec<String> = waits.missing.iter().map(MissingWorker::describe).collect();
    let missing = if missing.is_empty() {
        String::new()
    } else {
        format!("; missing: {}", missing.join(", "))
    };
    let hint = waits.hint.map(|hint| format!(". {hint}")).unwrap_or_default();
    format!("{}{missing}{hint}", waits.reason)
}

fn blocks(size: u64) -> String {
    match size {
        0 => "nothing yet".to_owned(),
        1 => "1 block".to_owned(),
        _ => format!("{size} blocks, up to block {}", size.saturating_sub(1)),
    }
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
