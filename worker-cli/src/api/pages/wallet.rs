//! The wallets: balance, sending, records and messages, what waits, mining.

use super::explorer::account_facts;
use super::show::{Row, rows};
use super::{frame, html};
use crate::api::ApiState;
use crate::api::error::ApiError;
use crate::api::routes::{blocking, wallet_refusal};
use crate::wallet::Wallet;
use actix_web::web::Query;
use actix_web::{HttpResponse, get};
use askama::Template;
use block_chain_common::keys::Address;
use block_chain_web::page::{Frame, answer};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_actix_web::service_config::ServiceConfig;

const WAITING_SHOWN: usize = 50;

pub(super) fn configure(config: &mut ServiceConfig<'_>) {
    config.service(show_wallet);
}

struct Entry {
    address: String,
    name: String,
    current: bool,
}

struct Chosen {
    address: String,
    public_key: String,
    locked: bool,
    facts: Vec<(&'static str, String)>,
}

#[derive(Template)]
#[template(path = "wallet.html")]
struct WalletPage {
    frame: Frame,
    wallets: Vec<Entry>,
    chosen: Option<Chosen>,
    waiting_count: usize,
    waiting: Vec<Row>,
    /// Digits after the point of the chain's amounts.
    decimals: u8,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// The wallet's address; the default one where it is not said.
    #[param(value_type = Option<String>)]
    address: Option<Address>,
}

/// The wallets of this node, for who is signed in
#[utoipa::path(
    tag = "pages",
    params(Which),
    responses((status = 200, description = "the page", body = String, content_type = "text/html"), ApiError)
)]
#[get("/wallet")]
async fn show_wallet(state: ApiState, Query(asked): Query<Which>) -> Result<HttpResponse, ApiError> {
    let mut page = WalletPage {
        frame: frame(&state, "Wallets", "wallet"),
        wallets: Vec::new(),
        chosen: None,
        waiting_count: 0,
        waiting: Vec::new(),
        decimals: state.node.spec().spec().decimals,
    };
    if !state.is_trusted {
        return Ok(answer(html(&page)?));
    }
    let wallets = state.interface.wallets.clone();
    let (all, default) = blocking(move || {
        let default = wallets.default_address().map_err(wallet_refusal)?;
        Ok((wallets.list().map_err(wallet_refusal)?, default))
    })
    .await?;
    let wanted = asked.address.or(default);
    let chosen = match wanted {
        Some(address) => {
            let found = all.iter().find(|wallet| wallet.address == address);
            Some(found.ok_or_else(|| ApiError::NotFound(format!("there is no wallet {address} here")))?)
        }
        None => all.first(),
    };
    if let Some(wallet) = chosen {
        let mempool = state.node.mempool(WAITING_SHOWN);
        page.waiting_count = mempool.count;
        page.waiting = rows(&state, &mempool.transactions);
        page.frame.title = format!("Wallet {}", name(wallet));
        page.chosen = Some(Chosen {
            address: wallet.address.to_string(),
            public_key: wallet.public_key.to_string(),
            locked: wallet.is_locked(),
            facts: account_facts(&state, wallet.address).await?,
        });
    }
    let current = chosen.map(|wallet| wallet.address);
    page.wallets = all
        .iter()
        .map(|wallet| Entry {
            address: wallet.address.to_string(),
            name: name(wallet),
            current: Some(wallet.address) == current,
        })
        .collect();
    Ok(answer(html(&page)?))
}

fn name(wallet: &Wallet) -> String {
    let named = wallet.label.clone().or_else(|| wallet.number.clone());
    named.unwrap_or_else(|| format!("{}…", super::short(&wallet.address)))
}
