//! The routes. Each handler says what it takes and answers; the interface's description is made of that.

mod accounts;
mod bulk;
mod chains;
mod network;
mod submit;
mod wallets;

pub(super) use accounts::{account_view, history_view};
pub(super) use network::{full_status, peers_view};
pub(super) use wallets::wallet_refusal;

use super::error::ApiError;
use super::json::{block_view, to_json, transaction_json};
use super::types::{
    BlockView, MAX_PAGE_BYTES, MempoolView, Origin, RecordVersion, RecordView, Status, TransactionView,
    Verification,
};
use super::{ApiState, Interface, blocks, guard, legacy, metrics, openapi, pages, service};
use crate::machine::{ChainRead as _, Place};
use crate::node::RequestError;
use crate::storage::StoredCheckpoint;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::error::JsonPayloadError;
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, Json, Path, Query};
use actix_web::{App, HttpResponse, get};
use block_chain_common::chain_keys::ChainKeys;
use block_chain_common::checkpoint::is_final;
use block_chain_common::coordinator_api::ChainView;
use block_chain_common::hash::{BlockHash, TxId};
use block_chain_common::history::prove_inclusion;
use block_chain_common::keys::PublicKey;
use block_chain_common::limits::MAX_REQUEST_BYTES;
use block_chain_common::merkle::prove_transaction;
use block_chain_common::note::SignedNote;
use block_chain_common::quantity::Height;
use block_chain_common::receipt::{Receipt, ReceiptError, Standing};
use block_chain_common::transaction::{Payload, RecordKey, Transaction};
use serde::Deserialize;
use std::time::{Duration, Instant};
use utoipa::IntoParams;
use utoipa_actix_web::AppExt as _;
use utoipa_actix_web::service_config::ServiceConfig;

/// How long a receipt waits for the cosignatures of members that have come since its block became final.
const PROVABLE: Duration = Duration::from_secs(10);
/// Between two looks for them.
const PROVABLE_STEP: Duration = Duration::from_millis(200);

type Answer<T> = Result<Json<T>, ApiError>;

/// Items of one page.
const MAX_PAGE: usize = 100_000;

/// All routes, with their description, what every request passes, and what answers besides them.
pub(super) fn app(
    interface: Data<Interface>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    let has_legacy = interface.has_legacy;
    let app = App::new().app_data(interface).wrap(from_fn(guard::guard));
    let app = app.into_utoipa_app().openapi(openapi::base());
    let app = app.configure(configure);
    let app = if has_legacy {
        app.configure(legacy::configure)
    } else {
        app
    };
    let (app, document) = app.split_for_parts();
    app.app_data(Data::new(openapi::Interface::new(&document)))
        .default_service(web::to(openapi::unrouted))
}

fn configure(config: &mut ServiceConfig<'_>) {
    let json = web::JsonConfig::default()
        .limit(MAX_REQUEST_BYTES)
        .content_type_required(false);
    let json = json.error_handler(|error, _| unreadable(error).into());
    let query = web::QueryConfig::default()
        .error_handler(|error, _| ApiError::Malformed(format!("the query cannot be read: {error}")).into());
    let path = web::PathConfig::default()
        .error_handler(|error, _| ApiError::Malformed(format!("the path cannot be read: {error}")).into());
    config.app_data(json).app_data(query).app_data(path);
    accounts::configure(config);
    bulk::configure(config);
    chains::configure(config);
    network::configure(config);
    submit::configure(config);
    wallets::configure(config);
    pages::configure(config);
    config.map(|config| config.configure(block_chain_web::assets::configure));
    openapi::configure(config);
    config
        .service(get_transaction)
        .service(get_mempool)
        .service(blocks::get_blocks)
        .service(get_block)
        .service(get_record)
        .service(get_receipt)
        .service(verify_receipt)
        .service(service::listen)
        .service(service::healthz)
        .service(service::readyz)
        .service(metrics::figures);
}

fn unreadable(error: JsonPayloadError) -> ApiError {
    match error {
        JsonPayloadError::OverflowKnownLength { .. } | JsonPayloadError::Overflow { .. } => {
            ApiError::TooLarge
        }
        JsonPayloadError::Deserialize(error) => {
            ApiError::Malformed(format!("the body cannot be read: {error}"))
        }
        other => ApiError::Malformed(format!("the body cannot be read: {other}")),
    }
}

/// One transaction, and how far it is agreed to
#[utoipa::path(
    tag = "transactions",
    params(("id" = TxId, Path, description = "the transaction's id")),
    responses((status = 200, description = "the transaction", body = TransactionView), ApiError)
)]
#[get("/v1/transactions/{id}")]
async fn get_transaction(state: ApiState, id: Path<String>) -> Answer<TransactionView> {
    Ok(Json(transaction_view(&state, parse(&id)?)?))
}

pub(super) fn transaction_view(state: &ApiState, id: TxId) -> Result<TransactionView, ApiError> {
    if let Some(checked) = state.node.pending(&id) {
        return Ok(TransactionView {
            transaction: transaction_json(&checked),
            status: Status::Pending,
            block: None,
            block_hash: None,
            index: None,
        });
    }
    let (place, found) = on_chain(state, &id)?;
    Ok(TransactionView {
        transaction: to_json(&found, id),
        status: state.node.block_status(place.height),
        block: Some(place.height),
        block_hash: state.node.store().hash_at(place.height)?,
        index: Some(place.index),
    })
}

fn on_chain(state: &ApiState, id: &TxId) -> Result<(Place, Transaction), ApiError> {
    let unknown = || ApiError::NotFound(format!("there is no transaction {id}"));
    let place = state.node.store().place(id)?.ok_or_else(unknown)?;
    let found = state.node.store().transaction(place)?.ok_or_else(unknown)?;
    Ok((place, found))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct MempoolQuery {
    /// Where it begins: the `next` of another answer.
    #[serde(default)]
    from: u64,
    /// How many at most, 1,000 where it is not said.
    limit: Option<usize>,
}

/// What waits for a block
#[utoipa::path(
    tag = "transactions",
    params(MempoolQuery),
    responses((status = 200, description = "the transactions, in order of arrival", body = MempoolView), ApiError)
)]
#[get("/v1/mempool")]
async fn get_mempool(state: ApiState, Query(page): Query<MempoolQuery>) -> Answer<MempoolView> {
    let limit = page.limit.unwrap_or(1_000).min(MAX_PAGE);
    let read = move || Ok(state.node.mempool_from(page.from, limit));
    Ok(Json(blocking(read).await?))
}

/// A block, by its height or hash
#[utoipa::path(
    tag = "blocks",
    params(("which" = String, Path, description = "a height, or a hash of 64 hex digits", example = "0")),
    responses((status = 200, description = "the block", body = BlockView), ApiError)
)]
#[get("/v1/blocks/{which}")]
async fn get_block(state: ApiState, which: Path<String>) -> Answer<BlockView> {
    let hash = match which.parse::<u64>() {
        Ok(height) => {
            let found = state.node.store().hash_at(Height::new(height))?;
            found.ok_or_else(|| ApiError::NotFound(format!("there is no block {height} yet")))?
        }
        Err(_) => parse::<BlockHash>(&which)?,
    };
    if state.node.store().header(&hash)?.is_none() {
        return Err(ApiError::NotFound(format!("there is no block {hash}")));
    }
    let view = blocking(move || Ok(block_view(&state.node, &hash)?));
    Ok(Json(view.await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RecordQuery {
    /// The key.
    #[param(min_length = 1, max_length = 1_024, example = "invoice/2026/17")]
    key: String,
    /// Whether all its values are wanted, newest first.
    #[serde(default)]
    #[param(default = false)]
    history: bool,
    /// Of the history what was before this: the `next` of another answer.
    #[param(example = "17-3")]
    before: Option<String>,
    /// How many values at most, 1,000 where it is not said.
    limit: Option<usize>,
}

/// A key's value, and those before it
#[utoipa::path(
    tag = "records and accounts",
    params(RecordQuery),
    responses((status = 200, description = "the value now", body = RecordView), ApiError)
)]
#[get("/v1/record")]
async fn get_record(state: ApiState, Query(query): Query<RecordQuery>) -> Answer<RecordView> {
    let key = RecordKey::new(query.key.clone().into_bytes())
        .map_err(|error| ApiError::Malformed(format!("the key has {error}")))?;
    // A key may have a megabyte of history a value: not on the thread that answers others.
    Ok(Json(blocking(move || record_view(&state, &key, query)).await?))
}

fn record_view(state: &ApiState, key: &RecordKey, query: RecordQuery) -> Result<RecordView, ApiError> {
    let unknown = || ApiError::NotFound(format!("there is no record {:?} on the chain", query.key));
    let place = state.node.store().record(key)?.ok_or_else(unknown)?;
    let current = version(state, place)?;
    let (history, next) = if query.history {
        let limit = query.limit.unwrap_or(1_000).min(MAX_PAGE);
        let (found, next) = versions(state, key, query.before.as_deref(), limit)?;
        (Some(found), next)
    } else {
        (None, None)
    };
    Ok(RecordView {
        key: query.key,
        current,
        history,
        next,
    })
}

/// The values that a key had, newest first: at most so many, and of at most [`MAX_PAGE_BYTES`] unless the first has more;
/// and what asks for those before. `before` is that of another answer.
pub(super) fn versions(
    state: &ApiState,
    key: &RecordKey,
    before: Option<&str>,
    limit: usize,
) -> Result<(Vec<RecordVersion>, Option<String>), ApiError> {
    let before = before.map(accounts::parse_place).transpose()?;
    let store = state.node.store();
    let (mut found, mut bytes, mut last) = (Vec::new(), 0_usize, None);
    for place in store.record_history(key, before, limit.saturating_add(1))? {
        let version = version(state, place)?;
        let value = version.value.as_ref().or(version.value_hex.as_ref());
        bytes = bytes.saturating_add(value.map_or(0, String::len));
        if found.len() >= limit || (bytes > MAX_PAGE_BYTES && !found.is_empty()) {
            return Ok((found, last));
        }
        last = Some(format!("{}-{}", place.height, place.index));
        found.push(version);
    }
    Ok((found, None))
}

fn version(state: &ApiState, place: Place) -> Result<RecordVersion, ApiError> {
    let lost = || {
        ApiError::NotFound(format!(
            "transaction {} of block {} is missing",
            place.index, place.height
        ))
    };
    let store = state.node.store();
    let inherited = match place.height {
        Height::ZERO => store.inherited(place.index)?,
        _ => None,
    };
    let (found, timestamp, inherited) = match inherited {
        Some(inherited) => {
            let origin = Origin {
                chain: inherited.chain,
                block: inherited.height,
            };
            (inherited.transaction, inherited.timestamp, Some(origin))
        }
        None => {
            let found = store.transaction(place)?.ok_or_else(lost)?;
            let (_, header) = store.header_at(place.height)?.ok_or_else(lost)?;
            (found, header.timestamp, None)
        }
    };
    let (transaction_id, sender) = (found.id(), found.sender.address());
    let Payload::Put { value, .. } = found.payload else {
        return Err(lost());
    };
    let (value, value_hex) = match String::from_utf8(value.into_vec()) {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(hex::encode(error.as_bytes()))),
    };
    Ok(RecordVersion {
        value,
        value_hex,
        transaction_id,
        sender,
        block: place.height,
        timestamp,
        inherited,
        status: state.node.block_status(place.height),
    })
}

/// The proof of a transaction, as text that anyone can check offline
#[utoipa::path(
    tag = "transactions",
    params(("id" = TxId, Path, description = "the transaction's id")),
    responses((status = 200, description = "the receipt", body = String, content_type = "text/plain"), ApiError)
)]
#[get("/v1/receipts/{id}")]
async fn get_receipt(state: ApiState, id: Path<String>) -> Result<HttpResponse, ApiError> {
    let made = receipt_of(&state, parse(&id)?).await?;
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body(made.to_text()))
}

/// The receipt of a transaction, verified by this node with the keys that it knows
#[utoipa::path(
    tag = "transactions",
    params(("id" = TxId, Path, description = "the transaction's id")),
    responses((status = 200, description = "what it proves", body = Verification), ApiError)
)]
#[get("/v1/receipts/{id}/verification")]
async fn verify_receipt(state: ApiState, id: Path<String>) -> Answer<Verification> {
    let text = receipt_of(&state, parse(&id)?).await?.to_text();
    let keys = state.node.chain_keys();
    let verified = blocking(move || {
        let started = Instant::now();
        let not_proven = |error: ReceiptError| ApiError::Conflict(error.to_string());
        let receipt = Receipt::parse(&text).map_err(not_proven)?;
        let trusted = keys.as_ref().map(ChainKeys::trusted);
        let verified = receipt.verify(trusted.as_ref()).map_err(not_proven)?;
        Ok(Verification {
            standing: verified.standing.name().to_owned(),
            meaning: match verified.standing {
                Standing::Final => "Final: a majority of the chain's members has cosigned it",
                Standing::Committed => "Committed by the coordinator",
                Standing::Claimed => "Claimed: this node knows no keys to hold it against",
            }
            .to_owned(),
            block: verified.height.get(),
            checkpoint_size: verified.checkpoint_size,
            cosignatures: verified.cosignatures,
            members: verified.members,
            needed: verified.needed,
            microseconds: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
        })
    });
    Ok(Json(verified.await?))
}

async fn receipt_of(state: &ApiState, id: TxId) -> Result<Receipt, ApiError> {
    if state.node.pending(&id).is_some() {
        return Err(ApiError::NotCommitted {
            what: format!("transaction {id}"),
            status: Status::Pending,
        });
    }
    let (place, transaction) = on_chain(state, &id)?;
    let deadline = Instant::now() + PROVABLE;
    loop {
        let mut news = state.node.subscribe();
        let (of, transaction) = (state.clone(), transaction.clone());
        match blocking(move || make_receipt(&of, place, transaction)).await {
            // It became final to fewer members than there are now; the others cosign within a heartbeat.
            Err(ApiError::NotCommitted {
                status: Status::Final,
                ..
            }) if Instant::now() < deadline => {
                // A cosignature that changes no size is no event: it is looked for after each step.
                let waited = tokio::time::timeout(PROVABLE_STEP, news.recv()).await;
                tracing::trace!(?waited, "a receipt waits for cosignatures");
            }
            made => return made,
        }
    }
}

fn make_receipt(state: &ApiState, place: Place, transaction: Transaction) -> Result<Receipt, ApiError> {
    let store = state.node.store().snapshot();
    let not_yet = || ApiError::NotCommitted {
        what: format!("block {}", place.height),
        status: state.node.block_status(place.height),
    };
    let view = state.node.chain_view();
    let members: Vec<PublicKey> = view
        .iter()
        .flat_map(ChainView::counting)
        .map(|member| member.public_key)
        .collect();
    let first = store
        .checkpoint_covering(place.height.get().saturating_add(1))?
        .ok_or_else(not_yet)?;
    // The first has the shortest proof. Where workers have come since, it may be final to fewer than there are now.
    let proves =
        |found: &StoredCheckpoint| SignedNote::parse(&found.note).is_ok_and(|note| is_final(&note, &members));
    let covering = match store.final_checkpoint() {
        _ if proves(&first) => first,
        Some(last) if proves(&last) => last,
        // Final to the members of then; soon to those of now too.
        Some(last) if place.height.get() < last.size => return Err(not_yet()),
        _ => first,
    };
    let lost = || {
        ApiError::Conflict(format!(
            "block {} cannot be proven: its store is damaged",
            place.height
        ))
    };
    let (hash, header) = store.header_at(place.height)?.ok_or_else(lost)?;
    let ids = store.transaction_ids(place.height, &hash)?;
    Ok(Receipt {
        chain: state.node.chain_id(),
        chain_name: state.node.spec().spec().name.clone(),
        coordinator: state.node.coordinator_key(),
        members,
        transaction,
        header,
        proof: prove_transaction(&ids, place.index).ok_or_else(lost)?,
        history: prove_inclusion(place.height.get(), covering.size, &store)
            .ok()
            .ok_or_else(lost)?,
        checkpoint: covering.note,
    })
}

/// Runs what reads much from the disk where it holds up no other request.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = web::block(work).await;
    done.or(Err(ApiError::Request(RequestError::Stopping)))?
}

pub(super) fn parse<T: std::str::FromStr>(text: &str) -> Result<T, ApiError>
where
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error: T::Err| ApiError::Malformed(error.to_string()))
}
