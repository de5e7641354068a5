//! The page of an address: what it has, and its history.

use super::units;
use crate::api::ApiState;
use crate::api::error::ApiError;
use crate::api::pages::names::Names;
use crate::api::pages::{frame, html, read};
use crate::api::routes::{account_view, history_view, parse};
use crate::api::types::Movement;
use crate::output;
use actix_web::web::{Path, Query};
use actix_web::{HttpResponse, get};
use askama::Template;
use block_chain_common::keys::Address;
use block_chain_common::quantity::{Amount, Height};
use block_chain_web::page::Frame;
use serde::Deserialize;
use utoipa::IntoParams;

/// Entries of the history on a page.
const ENTRIES_SHOWN: usize = 50;

struct Entry {
    block: Option<u64>,
    time: String,
    kind: String,
    transaction: Option<String>,
    change: String,
    with: Option<String>,
    note: String,
    state: &'static str,
}

impl Entry {
    fn of(movement: &Movement, decimals: u8) -> Self {
        let amount = movement
            .amount
            .map(|amount| output::units(i128::from(amount.get()), decimals));
        let note = match (&movement.memo, movement.role, amount) {
            (Some(memo), ..) => memo.clone(),
            (None, Some(role), _) => role.to_string(),
            // What is unstaked is free later.
            (None, None, Some(amount)) if movement.change == 0 => amount,
            _ => String::new(),
        };
        Self {
            block: movement.block.map(Height::get),
            time: movement.timestamp.map(output::utc).unwrap_or_default(),
            kind: movement.kind.clone(),
            transaction: movement.transaction_id.map(|id| id.to_string()),
            change: output::units(movement.change, decimals),
            with: movement.with.map(|with| with.to_string()),
            note,
            state: movement.status.name(),
        }
    }
}

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage {
    frame: Frame,
    address: String,
    facts: Vec<(&'static str, String)>,
    entries: Vec<Entry>,
    next: Option<String>,
    newer: bool,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Before {
    /// What was before this place.
    #[param(example = "17-3")]
    before: Option<String>,
}

/// An address, with its balance and history
#[utoipa::path(
    tag = "pages",
    params(("address" = Address, Path, description = "the address"), Before),
    responses((status = 200, description = "the page", body = String, content_type = "text/html"), ApiError)
)]
#[get("/accounts/{address}")]
pub(super) async fn show_account(
    state: ApiState,
    address: Path<String>,
    Query(asked): Query<Before>,
) -> Result<HttpResponse, ApiError> {
    let address: Address = parse(&address)?;
    let mut facts = account_facts(&state, address).await?;
    if let Some(worker) = Names::of(&state).worker_at(&address) {
        facts.insert(0, ("Own wallet of", worker.to_owned()));
    }
    read(move || {
        let history = history_view(&state, address, asked.before.as_deref(), ENTRIES_SHOWN)?;
        let entries = history.entries.iter();
        html(&AccountPage {
            frame: frame(&state, address.to_string(), "./"),
            address: address.to_string(),
            facts,
            entries: entries.map(|entry| Entry::of(entry, history.decimals)).collect(),
            next: history.next,
            newer: asked.before.is_some(),
        })
    })
    .await
}

/// What an address has, in words.
pub(in crate::api::pages) async fn account_facts(
    state: &ApiState,
    address: Address,
) -> Result<Vec<(&'static str, String)>, ApiError> {
    let account = account_view(state, address).await?;
    let amount = |amount: Amount| units(state, amount);
    let mut facts = vec![
        ("Balance", amount(account.confirmed)),
        ("Can be spent", amount(account.available)),
    ];
    if account.pending != 0 {
        facts.push(("Pending", output::units(account.pending, account.decimals)));
    }
    if account.stake > Amount::ZERO {
        facts.push(("Stake", amount(account.stake)));
    }
    for release in &account.releasing {
        let until = format!("{}, free from block {} on", amount(release.amount), release.from);
        facts.push(("Unstaked", until));
    }
    if !account.roles.is_empty() {
        let roles: Vec<String> = account.roles.iter().map(ToString::to_string).collect();
        facts.push(("Roles", roles.join(", ")));
    }
    facts.push(("Transactions sent", account.nonce.to_string()));
    Ok(facts)
}
