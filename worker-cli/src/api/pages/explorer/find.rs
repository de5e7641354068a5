//! The search: the page of whatever a person has in hand.

use super::known_header;
use crate::api::ApiState;
use crate::api::error::ApiError;
use crate::api::pages::show::{cut, record_link};
use crate::api::pages::{frame, html};
use crate::api::routes::blocking;
use crate::machine::ChainRead as _;
use actix_web::http::header::LOCATION;
use actix_web::web::Query;
use actix_web::{HttpResponse, get};
use askama::Template;
use block_chain_common::hash::{BlockHash, TxId};
use block_chain_common::header::Header;
use block_chain_common::keys::{Address, PublicKey};
use block_chain_common::state::Account;
use block_chain_common::transaction::RecordKey;
use block_chain_web::page::{Frame, answer};
use serde::Deserialize;
use utoipa::IntoParams;

#[derive(Template)]
#[template(path = "choice.html")]
struct Choice {
    frame: Frame,
    choices: Vec<(String, String)>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// A key, an address, a height, or the hash of a block or transaction.
    #[param(example = "invoice/2026/17")]
    q: String,
}

/// The page of a key, an address, a height, or the hash of a block or transaction
#[utoipa::path(
    tag = "pages",
    params(Wanted),
    responses(
        (status = 303, description = "it is there"),
        (status = 200, description = "it is several things", body = String, content_type = "text/html"),
        ApiError
    )
)]
#[get("/find")]
pub(super) async fn find(state: ApiState, Query(wanted): Query<Wanted>) -> Result<HttpResponse, ApiError> {
    enum Found {
        Page(String),
        Choice(String),
    }
    let found = blocking(move || {
        let wanted = wanted.q.trim();
        let mut choices = found(&state, wanted)?;
        match choices.len() {
            0 => Err(ApiError::NotFound(format!(
                "there is no record, address, transaction or block {:?} on this chain",
                cut(wanted, 200)
            ))),
            1 => Ok(Found::Page(format!("{}{}", state.base, choices.remove(0).0))),
            _ => Ok(Found::Choice(html(&Choice {
                frame: frame(&state, cut(wanted, 120), "./"),
                choices,
            })?)),
        }
    });
    Ok(match found.await? {
        Found::Page(location) => HttpResponse::SeeOther()
            .insert_header((LOCATION, location))
            .finish(),
        Found::Choice(html) => answer(html),
    })
}

/// What a text names on the chain: the page of each, and what it is.
fn found(state: &ApiState, wanted: &str) -> Result<Vec<(String, String)>, ApiError> {
    let store = state.node.store();
    let mut found = Vec::new();
    if let Ok(id) = wanted.parse::<TxId>()
        && (state.node.pending(&id).is_some() || store.place(&id)?.is_some())
    {
        found.push((format!("transactions/{id}"), "a transaction".to_owned()));
    }
    if let Ok(hash) = wanted.parse::<BlockHash>()
        && let Some(Header { height, .. }) = known_header(state, &hash)?
    {
        found.push(match store.hash_at(height)? == Some(hash) {
            true => (format!("blocks/{height}"), format!("block {height}")),
            false => (
                format!("blocks/{hash}"),
                format!("a block that competed for height {height}"),
            ),
        });
    }
    if let Ok(height) = wanted.parse::<u64>()
        && height <= store.head().0.get()
    {
        found.push((format!("blocks/{height}"), format!("block {height}")));
    }
    if wanted.parse::<Address>().is_ok() {
        found.push((format!("accounts/{wanted}"), "an address".to_owned()));
    }
    // Any 32 bytes may be a key: it is one here if its address ever had anything.
    if let Ok(key) = wanted.parse::<PublicKey>() {
        let address = key.address();
        if store.account(&address)? != Account::default()
            || !store.account_history(&address, None, 1)?.is_empty()
        {
            found.push((format!("accounts/{address}"), format!("the key of {address}")));
        }
    }
    if let Ok(key) = RecordKey::new(wanted.as_bytes().to_vec())
        && store.record(&key)?.is_some()
    {
        found.push((record_link(wanted), "a record".to_owned()));
    }
    Ok(found)
}
