//! The routes; the table of them stands in `types`.

use super::body::Body;
use super::error::ApiError;
use super::json::{block_view, to_json, transaction_json};
use super::types::{
    AccountView, CheckProgress, CheckRequest, Disconnected, DumpRequest, LeaderView, MineRequest, PeerView,
    PeersView, RecordVersion, RecordView, RecordsRequest, Status, TransactionView, TransactionsRequest,
};
use super::{ApiState, blocks, find, metrics, openapi, page};
use crate::machine::{ChainRead as _, Place};
use crate::node::RequestError;
use actix_web::web::{self, Data, Json, Path, Query};
use actix_web::{HttpRequest, HttpResponse, ResponseError as _};
use block_chain_common::codec::decode;
use block_chain_common::hash::{BlockHash, TxId};
use block_chain_common::history::prove_inclusion;
use block_chain_common::keys::Address;
use block_chain_common::limits::{MAX_BLOCK_TRANSACTIONS, MAX_REQUEST_BYTES};
use block_chain_common::merkle::prove_transaction;
use block_chain_common::quantity::Height;
use block_chain_common::receipt::Receipt;
use block_chain_common::transaction::{Payload, RecordKey, RecordValue, Transaction};
use serde::Deserialize;
use std::time::Duration;

type Answer = Result<HttpResponse, ApiError>;

/// How long a block is waited for where the request does not say.
const MINE_WAIT_MS: u64 = 60_000;
/// Items of one page.
const MAX_PAGE: usize = 100_000;

pub(super) fn configure(config: &mut web::ServiceConfig) {
    let json = web::JsonConfig::default()
        .limit(MAX_REQUEST_BYTES)
        .content_type_required(false);
    let json = json.error_handler(|error, _| match error {
        actix_web::error::JsonPayloadError::OverflowKnownLength { .. }
        | actix_web::error::JsonPayloadError::Overflow { .. } => ApiError::TooLarge.into(),
        other => ApiError::Malformed(format!("the body cannot be read: {other}")).into(),
    });
    let query = web::QueryConfig::default()
        .error_handler(|error, _| ApiError::Malformed(format!("the query cannot be read: {error}")).into());
    let path = web::PathConfig::default()
        .error_handler(|error, _| ApiError::Malformed(format!("the path cannot be read: {error}")).into());
    config.app_data(json).app_data(query).app_data(path);
    config
        .route("/v1/status", web::get().to(status))
        .route("/v1/leader", web::get().to(leader))
        .route("/v1/records", web::post().to(records))
        .route("/v1/transactions", web::post().to(transactions))
        .route("/v1/transactions/{id}", web::get().to(transaction))
        .route("/v1/mempool", web::get().to(mempool))
        .route("/v1/mine", web::post().to(mine))
        .route("/v1/blocks", web::get().to(blocks::stream_blocks))
        .route("/v1/blocks/{which}", web::get().to(block))
        .route("/v1/record", web::get().to(record))
        .route("/v1/accounts/{address}", web::get().to(account))
        .route("/v1/receipts/{id}", web::get().to(receipt))
        .route("/v1/peers", web::get().to(peers))
        .route("/v1/check", web::post().to(check))
        .route("/v1/check", web::get().to(check_progress))
        .route("/v1/dump", web::post().to(dump))
        .route("/v1/dump", web::get().to(dump_status))
        .route("/v1/dump/stop", web::post().to(dump_stop))
        .route("/v1/disconnect", web::post().to(disconnect))
        .route("/v1/stop", web::post().to(stop))
        .route("/v1/events", web::get().to(page::events))
        .route("/metrics", web::get().to(metrics::metrics))
        .route("/healthz", web::get().to(page::healthz))
        .route("/readyz", web::get().to(page::readyz))
        .route("/find", web::get().to(find::find))
        .route("/blocks/{height}", web::get().to(page::block))
        .route("/", web::get().to(page::home));
    openapi::configure(config);
    config.default_service(web::to(not_found));
}

async fn status(state: Data<ApiState>) -> HttpResponse {
    HttpResponse::Ok().json(full_status(&state))
}

pub(super) fn full_status(state: &ApiState) -> super::types::NodeStatus {
    let mut status = state.node.status();
    if let Ok(Some(stored)) = state.node.store().header(&status.head) {
        status.head_time = stored.header.timestamp;
    }
    status
}

async fn leader(state: Data<ApiState>) -> HttpResponse {
    let me = state.node.status().worker_id;
    let view = state.node.chain_view();
    let leader = view.as_ref().and_then(|view| view.leader.as_ref());
    HttpResponse::Ok().json(LeaderView {
        leader_id: leader.map(|leader| leader.worker_id),
        term: view.as_ref().map(|view| view.term).unwrap_or_default(),
        since: leader.map(|leader| leader.since),
        is_me: leader.is_some_and(|leader| leader.worker_id == me),
    })
}

async fn records(state: Data<ApiState>, Json(body): Json<RecordsRequest>) -> Answer {
    if body.records.is_empty() || body.records.len() > MAX_BLOCK_TRANSACTIONS {
        let found = body.records.len();
        return Err(ApiError::Malformed(format!(
            "{found} records, 1 to {MAX_BLOCK_TRANSACTIONS} are allowed at a time"
        )));
    }
    let mut records = Vec::with_capacity(body.records.len());
    for (index, (key, value)) in body.records.into_iter().enumerate() {
        let malformed = |what: &str, error: String| {
            ApiError::Malformed(format!("record {index}: the {what} has {error}"))
        };
        let key = RecordKey::new(key.into_bytes()).map_err(|error| malformed("key", error.to_string()))?;
        let value =
            RecordValue::new(value.into_bytes()).map_err(|error| malformed("value", error.to_string()))?;
        records.push((key, value));
    }
    Ok(HttpResponse::Ok().json(state.node.submit_records(records).await?))
}

async fn transactions(state: Data<ApiState>, request: HttpRequest, body: Body) -> Answer {
    let kind = request
        .headers()
        .get("content-type")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let decoded = if kind.starts_with("application/octet-stream") {
        decode_batch(&body.0)?
    } else {
        let request: TransactionsRequest = body.json()?;
        let decoded = request.transactions.iter().enumerate().map(|(index, text)| {
            let bytes =
                hex::decode(text).map_err(|error| malformed_transaction(index, &error.to_string()))?;
            decode::<Transaction>(&bytes).map_err(|error| malformed_transaction(index, &error.to_string()))
        });
        decoded.collect::<Result<Vec<_>, _>>()?
    };
    if decoded.is_empty() || decoded.len() > MAX_BLOCK_TRANSACTIONS {
        let found = decoded.len();
        return Err(ApiError::Malformed(format!(
            "{found} transactions, 1 to {MAX_BLOCK_TRANSACTIONS} are allowed at a time"
        )));
    }
    Ok(HttpResponse::Ok().json(state.node.submit(decoded).await?))
}

/// `count (u32, little-endian)`, then for each `length (u32, little-endian)` and the encoded transaction.
fn decode_batch(body: &[u8]) -> Result<Vec<Transaction>, ApiError> {
    let cut = || ApiError::Malformed("the body ends within a transaction".to_owned());
    let number = |bytes: &[u8]| -> Result<(usize, usize), ApiError> {
        let chunk = bytes.first_chunk::<4>().ok_or_else(cut)?;
        Ok((
            usize::try_from(u32::from_le_bytes(*chunk)).unwrap_or(usize::MAX),
            4,
        ))
    };
    let (count, mut at) = number(body)?;
    let mut decoded = Vec::with_capacity(count.min(MAX_BLOCK_TRANSACTIONS));
    for index in 0..count {
        let (length, header) = number(body.get(at..).ok_or_else(cut)?)?;
        let from = at.saturating_add(header);
        let bytes = body.get(from..from.saturating_add(length)).ok_or_else(cut)?;
        decoded.push(decode(bytes).map_err(|error| malformed_transaction(index, &error.to_string()))?);
        at = from.saturating_add(length);
    }
    if at != body.len() {
        return Err(ApiError::Malformed(format!(
            "{} bytes are left over",
            body.len().saturating_sub(at)
        )));
    }
    Ok(decoded)
}

fn malformed_transaction(index: usize, reason: &str) -> ApiError {
    ApiError::Malformed(format!("transaction {index}: {reason}"))
}

async fn transaction(state: Data<ApiState>, id: Path<String>) -> Answer {
    let view = transaction_view(&state, parse(&id)?)?;
    Ok(HttpResponse::Ok().json(view))
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    limit: Option<usize>,
}

async fn mempool(state: Data<ApiState>, Query(page): Query<Limit>) -> Answer {
    let limit = page.limit.unwrap_or(1_000).min(MAX_PAGE);
    let view = blocking(move || Ok(state.node.mempool(limit))).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn mine(state: Data<ApiState>, body: Body) -> Answer {
    let request: MineRequest = body.json_or_default()?;
    let wait = Duration::from_millis(request.wait_ms.unwrap_or(MINE_WAIT_MS));
    Ok(HttpResponse::Ok().json(state.node.mine(wait).await?))
}

async fn block(state: Data<ApiState>, which: Path<String>) -> Answer {
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
    let view = blocking(move || Ok(block_view(&state.node, &hash)?)).await?;
    Ok(HttpResponse::Ok().json(view))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordQuery {
    key: String,
    #[serde(default)]
    history: bool,
    limit: Option<usize>,
}

async fn record(state: Data<ApiState>, Query(query): Query<RecordQuery>) -> Answer {
    let key = RecordKey::new(query.key.clone().into_bytes())
        .map_err(|error| ApiError::Malformed(format!("the key has {error}")))?;
    // A key may have a megabyte of history a value: not on the thread that answers others.
    let view = blocking(move || record_view(&state, &key, query)).await?;
    Ok(HttpResponse::Ok().json(view))
}

fn record_view(state: &ApiState, key: &RecordKey, query: RecordQuery) -> Result<RecordView, ApiError> {
    let unknown = || ApiError::NotFound(format!("there is no record {:?} on the chain", query.key));
    let place = state.node.store().record(key)?.ok_or_else(unknown)?;
    let current = version(state, place)?;
    let history = if query.history {
        let places = state
            .node
            .store()
            .record_history(key, query.limit.unwrap_or(1_000).min(MAX_PAGE))?;
        Some(
            places
                .into_iter()
                .map(|place| version(state, place))
                .collect::<Result<Vec<_>, _>>()?,
        )
    } else {
        None
    };
    Ok(RecordView {
        key: query.key,
        current,
        history,
    })
}

pub(super) fn version(state: &ApiState, place: Place) -> Result<RecordVersion, ApiError> {
    let lost = || {
        ApiError::NotFound(format!(
            "transaction {} of block {} is missing",
            place.index, place.height
        ))
    };
    let found = state.node.store().transaction(place)?.ok_or_else(lost)?;
    let (_, header) = state.node.store().header_at(place.height)?.ok_or_else(lost)?;
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
        timestamp: header.timestamp,
        status: state.node.block_status(place.height),
    })
}

async fn account(state: Data<ApiState>, address: Path<String>) -> Answer {
    let address: Address = parse(&address)?;
    let account = state.node.store().account(&address)?;
    let next_nonce = state.node.next_nonce(address).await?;
    let (confirmed, stake, nonce) = (account.balance, account.stake, account.nonce);
    Ok(HttpResponse::Ok().json(AccountView {
        address,
        confirmed,
        stake,
        nonce,
        next_nonce,
    }))
}

async fn receipt(state: Data<ApiState>, id: Path<String>) -> Answer {
    let id: TxId = parse(&id)?;
    if state.node.pending(&id).is_some() {
        return Err(ApiError::NotCommitted {
            what: format!("transaction {id}"),
            status: Status::Pending,
        });
    }
    let (place, transaction) = on_chain(&state, &id)?;
    let made = blocking(move || make_receipt(&state, place, transaction)).await?;
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body(made.to_text()))
}

fn make_receipt(state: &ApiState, place: Place, transaction: Transaction) -> Result<Receipt, ApiError> {
    let store = state.node.store().snapshot();
    let not_yet = || ApiError::NotCommitted {
        what: format!("block {}", place.height),
        status: state.node.block_status(place.height),
    };
    let covering = store
        .checkpoint_covering(place.height.get().saturating_add(1))?
        .ok_or_else(not_yet)?;
    let lost = || {
        ApiError::Conflict(format!(
            "block {} cannot be proven: its store is damaged",
            place.height
        ))
    };
    let (hash, header) = store.header_at(place.height)?.ok_or_else(lost)?;
    let ids = store.transaction_ids(place.height, &hash)?;
    let view = state.node.chain_view();
    let members = view
        .iter()
        .flat_map(|view| &view.members)
        .map(|member| member.public_key)
        .collect();
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

async fn peers(state: Data<ApiState>) -> HttpResponse {
    HttpResponse::Ok().json(peers_view(&state))
}

pub(super) fn peers_view(state: &ApiState) -> PeersView {
    let me = state.node.status().public_key;
    let connected = state.node.connected();
    let members = state
        .node
        .chain_view()
        .map(|view| view.members)
        .unwrap_or_default();
    let others = members.into_iter().filter(|member| member.public_key != me);
    let peers: Vec<PeerView> = others
        .map(|member| PeerView {
            connected: connected.contains(&member.public_key),
            worker_id: member.worker_id,
            public_key: member.public_key,
            name: member.name,
            addresses: member.addresses,
            alive: member.alive,
            height: member.height,
            committed: member.committed,
        })
        .collect();
    PeersView {
        count: peers.len(),
        peers,
    }
}

async fn check(state: Data<ApiState>, body: Body) -> Answer {
    let request: CheckRequest = body.json_or_default()?;
    let report = crate::check::run(&state.node, request.repair, &state.check).await;
    Ok(HttpResponse::Ok().json(report.map_err(ApiError::Conflict)?))
}

async fn check_progress(state: Data<ApiState>) -> HttpResponse {
    let progress: CheckProgress = state.check.progress();
    HttpResponse::Ok().json(progress)
}

async fn dump(state: Data<ApiState>, Json(body): Json<DumpRequest>) -> Answer {
    Ok(HttpResponse::Ok().json(state.dump.start(body).await?))
}

async fn dump_status(state: Data<ApiState>) -> HttpResponse {
    HttpResponse::Ok().json(state.dump.status())
}

async fn dump_stop(state: Data<ApiState>) -> Answer {
    Ok(HttpResponse::Ok().json(state.dump.stop().await?))
}

async fn disconnect(state: Data<ApiState>) -> Answer {
    let left = state.node.leave().await?;
    state.node.stop().await;
    Ok(HttpResponse::Ok().json(Disconnected { disconnected: left }))
}

async fn stop(state: Data<ApiState>) -> HttpResponse {
    state.node.stop().await;
    HttpResponse::Ok().json(serde_json::json!({}))
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

async fn not_found(request: HttpRequest) -> HttpResponse {
    let path: String = request.path().chars().take(120).collect();
    ApiError::NotFound(format!(
        "there is no {} {path}; the routes are listed at /docs",
        request.method()
    ))
    .error_response()
}
