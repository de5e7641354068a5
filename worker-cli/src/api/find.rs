//! The page that finds what a person has in hand: a record by its key, a transaction or a block by its id.

use super::ApiState;
use super::error::ApiError;
use super::page::{escape, page, push, start, state_span, transactions_table};
use super::routes::{blocking, transaction_view, version};
use super::types::{RecordVersion, TransactionView};
use crate::machine::ChainRead as _;
use actix_web::web::{Data, Query};
use actix_web::{HttpResponse, get};
use block_chain_common::hash::{BlockHash, TxId};
use block_chain_common::transaction::RecordKey;
use serde::Deserialize;
use utoipa::IntoParams;

/// Values of a key that are shown, the newest.
const VALUES_SHOWN: usize = 100;
/// Characters of a value that are shown.
const VALUE_SHOWN: usize = 10_000;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// A key, or the id of a transaction or block.
    #[param(example = "invoice/2026/17")]
    q: String,
}

/// A page for a key, or the id of a transaction or block
#[utoipa::path(
    tag = "pages",
    params(Wanted),
    responses((status = 200, description = "the page", body = String, content_type = "text/html"), ApiError)
)]
#[get("/find")]
pub(super) async fn find_anything(
    state: Data<ApiState>,
    Query(wanted): Query<Wanted>,
) -> Result<HttpResponse, ApiError> {
    let html = blocking(move || find_page(&state, wanted.q.trim())).await?;
    Ok(page(html))
}

fn find_page(state: &ApiState, wanted: &str) -> Result<String, ApiError> {
    let mut html = start("found");
    let mut found = false;
    if let Ok(id) = wanted.parse::<TxId>() {
        match transaction_view(state, id) {
            Ok(view) => {
                transaction(&mut html, &view);
                found = true;
            }
            Err(ApiError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    if let Ok(hash) = wanted.parse::<BlockHash>()
        && let Some(stored) = state.node.store().header(&hash)?
    {
        let height = stored.header.height;
        push(
            &mut html,
            format_args!("<p>A block: <a href=/blocks/{height}>block {height}</a></p>"),
        );
        found = true;
    }
    if let Ok(key) = RecordKey::new(wanted.as_bytes().to_vec()) {
        let places = state.node.store().record_history(&key, VALUES_SHOWN)?;
        let versions: Result<Vec<_>, _> = places.into_iter().map(|place| version(state, place)).collect();
        let versions = versions?;
        if !versions.is_empty() {
            record(&mut html, wanted, &versions);
            found = true;
        }
    }
    if !found {
        let shown: String = wanted.chars().take(200).collect();
        return Err(ApiError::NotFound(format!(
            "there is no record, transaction or block {shown:?} on this chain"
        )));
    }
    html.push_str("<p><a href=/>back</a></p>");
    Ok(html)
}

fn transaction(html: &mut String, view: &TransactionView) {
    push(
        html,
        format_args!("<h2>A transaction, {}</h2>", state_span(view.status)),
    );
    transactions_table(html, std::slice::from_ref(&view.transaction));
    if let Some(height) = view.block {
        push(
            html,
            format_args!("<p>In <a href=/blocks/{height}>block {height}</a>; "),
        );
    } else {
        html.push_str("<p>");
    }
    let id = view.transaction.id;
    push(
        html,
        format_args!(
            "<a href=/v1/transactions/{id}>as JSON</a>, <a href=/v1/receipts/{id}>its receipt</a></p>"
        ),
    );
}

fn record(html: &mut String, key: &str, versions: &[RecordVersion]) {
    push(
        html,
        format_args!(
            "<h2>The record <code>{}</code></h2><table><tr><th class=n>Block<th>Time<th>State<th>Transaction<th>Value</tr>",
            escape(key)
        ),
    );
    for version in versions {
        let value = version.value.as_deref().or(version.value_hex.as_deref());
        let shown: String = value.unwrap_or_default().chars().take(VALUE_SHOWN).collect();
        push(
            html,
            format_args!(
                "<tr><td class=n><a href=/blocks/{0}>{0}</a><td>{1}<td>{2}<td><a href=/find?q={3}><code>{3}</code></a><td><code>{4}</code></tr>",
                version.block,
                crate::output::utc(version.timestamp),
                state_span(version.status),
                version.transaction_id,
                escape(&shown)
            ),
        );
    }
    html.push_str("</table>");
}
