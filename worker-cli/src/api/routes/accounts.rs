//! What addresses have, did, and may do.

use super::{Answer, blocking, parse};
use crate::api::ApiState;
use crate::api::error::ApiError;
use crate::api::json::reward_of;
use crate::api::types::{AccountView, HistoryView, HolderView, Movement, ReleaseView, RolesView, Status};
use crate::machine::Place;
use crate::storage::{REWARD, StorageError};
use actix_web::get;
use actix_web::web::{Json, Path, Query};
use block_chain_common::keys::Address;
use block_chain_common::quantity::Height;
use block_chain_common::state::{StateKey, StateView as _};
use block_chain_common::transaction::{Payload, Role, Transaction};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_actix_web::service_config::ServiceConfig;

/// Entries of one page.
const MAX_PAGE: usize = 1_000;
/// Entries of one page where it is not said.
const USUAL_PAGE: usize = 100;

pub(super) fn configure(config: &mut ServiceConfig<'_>) {
    config
        .service(get_account)
        .service(get_account_history)
        .service(get_roles);
}

/// What an address has
#[utoipa::path(
    tag = "records and accounts",
    params(("address" = Address, Path, description = "the address")),
    responses((status = 200, description = "its account; one that never had anything has nothing", body = AccountView), ApiError)
)]
#[get("/v1/accounts/{address}")]
async fn get_account(state: ApiState, address: Path<String>) -> Answer<AccountView> {
    Ok(Json(account_view(&state, parse(&address)?).await?))
}

pub(in crate::api) async fn account_view(
    state: &ApiState,
    address: Address,
) -> Result<AccountView, ApiError> {
    let next_nonce = state.node.next_nonce(address).await?;
    let store = state.node.store().snapshot();
    let (height, _) = store.head();
    let account = store.account(&address)?.at(height.next());
    let account = account.map_err(|amount| {
        StorageError::damaged(format!("{amount} more than fit are released to {address}"))
    })?;
    let waiting = state.node.waiting_value(&address);
    let mut roles = Vec::new();
    for role in [Role::Admin, Role::Issue, Role::Write, Role::Mine] {
        if store.get(&StateKey::Grant(address, role))?.is_some() {
            roles.push(role);
        }
    }
    let releases = account.releases.as_slice().iter();
    Ok(AccountView {
        address,
        confirmed: account.balance,
        pending: waiting.change(),
        available: waiting.left_of(account.balance),
        stake: account.stake,
        releasing: releases
            .map(|release| ReleaseView {
                amount: release.amount,
                from: release.from,
            })
            .collect(),
        roles,
        decimals: state.node.spec().spec().decimals,
        nonce: account.nonce,
        next_nonce,
    })
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct HistoryQuery {
    /// What was before this: the `next` of another answer.
    before: Option<String>,
    /// How many at most, 100 where it is not said, 1,000 at most.
    limit: Option<usize>,
}

/// What concerned an address: value that moved, roles, blocks that it made; newest first
#[utoipa::path(
    tag = "records and accounts",
    params(("address" = Address, Path, description = "the address"), HistoryQuery),
    responses((status = 200, description = "its history", body = HistoryView), ApiError)
)]
#[get("/v1/accounts/{address}/history")]
async fn get_account_history(
    state: ApiState,
    address: Path<String>,
    Query(query): Query<HistoryQuery>,
) -> Answer<HistoryView> {
    let address: Address = parse(&address)?;
    let limit = query.limit.unwrap_or(USUAL_PAGE).clamp(1, MAX_PAGE);
    let found = blocking(move || history_view(&state, address, query.before.as_deref(), limit));
    Ok(Json(found.await?))
}

/// `HEIGHT-INDEX`.
pub(super) fn parse_place(text: &str) -> Result<Place, ApiError> {
    let place = text.split_once('-').and_then(|(height, index)| {
        Some(Place {
            height: Height::new(height.parse().ok()?),
            index: index.parse().ok()?,
        })
    });
    place.ok_or_else(|| ApiError::Malformed(format!("{text:?} is no place like 17-3, a height and an index")))
}

/// What concerned an address, newest first; `before` is the `next` of another answer.
pub(in crate::api) fn history_view(
    state: &ApiState,
    address: Address,
    before: Option<&str>,
    limit: usize,
) -> Result<HistoryView, ApiError> {
    let before = before.map(parse_place).transpose()?;
    let mut entries = Vec::new();
    if before.is_none() {
        let waiting = state.node.waiting_of(&address, limit);
        let waiting = waiting.iter().rev();
        entries.extend(waiting.filter_map(|checked| movement(&address, checked.transaction())));
    }
    let store = state.node.store().snapshot();
    let mut places = store.account_history(&address, before, limit.saturating_add(1))?;
    let more = places.len() > limit;
    places.truncate(limit);
    for place in &places {
        let lost = || StorageError::damaged(format!("block {}: {} is missing", place.height, place.index));
        let (_, header) = store.header_at(place.height)?.ok_or_else(lost)?;
        let found = if place.index == REWARD {
            let reward = reward_of(state.node.spec(), place.height);
            Some(Movement {
                amount: Some(reward),
                change: i128::from(reward.get()),
                ..blank("reward")
            })
        } else {
            let transaction = store.transaction(*place)?.ok_or_else(lost)?;
            movement(&address, &transaction)
        };
        entries.extend(found.map(|movement| Movement {
            status: state.node.block_status(place.height),
            block: Some(place.height),
            timestamp: Some(header.timestamp),
            ..movement
        }));
    }
    let next = places.last().filter(|_| more);
    Ok(HistoryView {
        address,
        decimals: state.node.spec().spec().decimals,
        entries,
        next: next.map(|place| format!("{}-{}", place.height, place.index)),
    })
}

fn blank(kind: &str) -> Movement {
    Movement {
        kind: kind.to_owned(),
        amount: None,
        change: 0,
        with: None,
        memo: None,
        role: None,
        transaction_id: None,
        status: Status::Pending,
        block: None,
        timestamp: None,
    }
}

/// What a transaction means to an address; `None` where it moves neither value nor roles.
fn movement(address: &Address, transaction: &Transaction) -> Option<Movement> {
    let sender = transaction.sender.address();
    let is_sender = sender == *address;
    let blank = Movement {
        transaction_id: Some(transaction.id()),
        ..blank(transaction.payload.kind())
    };
    // What is sent to oneself is refused, but for deposits and roles.
    let other = |to: Address| if is_sender { to } else { sender };
    Some(match &transaction.payload {
        Payload::Put { .. } | Payload::Message { .. } => return None,
        Payload::Transfer { to, amount, memo } => {
            let moved = i128::from(amount.get());
            let memo = std::str::from_utf8(memo.as_slice()).ok();
            Movement {
                amount: Some(*amount),
                change: if is_sender { moved.saturating_neg() } else { moved },
                with: Some(other(*to)),
                memo: memo.filter(|memo| !memo.is_empty()).map(str::to_owned),
                ..blank
            }
        }
        Payload::Deposit { to, amount } => Movement {
            amount: Some(*amount),
            change: if to == address {
                i128::from(amount.get())
            } else {
                0
            },
            with: Some(other(*to)),
            ..blank
        },
        Payload::Stake { amount } => Movement {
            amount: Some(*amount),
            change: i128::from(amount.get()).saturating_neg(),
            ..blank
        },
        Payload::Unstake { amount } => Movement {
            amount: Some(*amount),
            ..blank
        },
        Payload::Grant { address: to, role } | Payload::Revoke { address: to, role } => Movement {
            with: Some(other(*to)),
            role: Some(*role),
            ..blank
        },
    })
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RolesQuery {
    /// Those after this address: the `next` of another answer.
    #[param(value_type = Option<String>)]
    after: Option<Address>,
    /// How many addresses at most, 100 where it is not said, 1,000 at most.
    limit: Option<usize>,
}

/// Who may do what
#[utoipa::path(
    tag = "records and accounts",
    params(RolesQuery),
    responses((status = 200, description = "the roles", body = RolesView), ApiError)
)]
#[get("/v1/roles")]
async fn get_roles(state: ApiState, Query(query): Query<RolesQuery>) -> Answer<RolesView> {
    let limit = query.limit.unwrap_or(USUAL_PAGE).clamp(1, MAX_PAGE);
    Ok(Json(blocking(move || roles(&state, query.after, limit)).await?))
}

fn roles(state: &ApiState, after: Option<Address>, limit: usize) -> Result<RolesView, ApiError> {
    // An address has four roles at most.
    let grants = state
        .node
        .store()
        .snapshot()
        .grants(after, limit.saturating_add(1).saturating_mul(4))?;
    let mut holders: Vec<HolderView> = Vec::new();
    for (address, role) in grants {
        match holders.last_mut().filter(|holder| holder.address == address) {
            Some(holder) => holder.roles.push(role),
            None => holders.push(HolderView {
                address,
                roles: vec![role],
            }),
        }
    }
    let more = holders.len() > limit;
    holders.truncate(limit);
    Ok(RolesView {
        open: state.node.spec().spec().open_roles.as_slice().to_vec(),
        next: holders.last().filter(|_| more).map(|holder| holder.address),
        holders,
    })
}
