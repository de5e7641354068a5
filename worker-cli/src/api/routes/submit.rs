//! What changes the chain: records, signed transactions, blocks.

use super::Answer;
use crate::api::ApiState;
use crate::api::body::Body;
use crate::api::error::ApiError;
use crate::api::types::{Accepted, MineRequest, Mined, RecordsRequest, TransactionsRequest};
use actix_web::web::Json;
use actix_web::{HttpRequest, post};
use block_chain_common::codec::decode;
use block_chain_common::limits::MAX_BLOCK_TRANSACTIONS;
use block_chain_common::transaction::{RecordKey, RecordValue, Transaction};
use block_chain_web::strict::{JsonObject, Strict};
use std::time::Duration;
use utoipa_actix_web::service_config::ServiceConfig;

/// How long a block is waited for where the request does not say.
const MINE_WAIT_MS: u64 = 60_000;

pub(super) fn configure(config: &mut ServiceConfig<'_>) {
    config
        .service(put_records)
        .service(submit_transactions)
        .service(mine_block);
}

/// Put records, all or none, signed with the worker's key
#[utoipa::path(
    request_body = RecordsRequest,
    tag = "transactions",
    security(("cookie" = [])),
    responses((status = 200, description = "they wait for a block, and are on disk", body = Accepted), ApiError)
)]
#[post("/v1/records")]
async fn put_records(state: ApiState, Json(Strict(body)): JsonObject<RecordsRequest>) -> Answer<Accepted> {
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
    Ok(Json(state.node.submit_records(records).await?))
}

/// Take signed transactions, all or none
///
/// As JSON, or as bytes: their count (u32, little-endian), then of each its length (u32, little-endian) and its encoding.
#[utoipa::path(
    tag = "transactions",
    security(("cookie" = [])),
    request_body(content((TransactionsRequest = "application/json"), (Vec<u8> = "application/octet-stream"))),
    responses((status = 200, description = "they wait for a block, and are on disk", body = Accepted), ApiError)
)]
#[post("/v1/transactions")]
async fn submit_transactions(state: ApiState, request: HttpRequest, body: Body) -> Answer<Accepted> {
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
    Ok(Json(state.node.submit(decoded).await?))
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

/// Make a block now
#[utoipa::path(
    tag = "blocks",
    security(("cookie" = [])),
    request_body = Option<MineRequest>,
    responses((status = 200, description = "the block", body = Mined), ApiError)
)]
#[post("/v1/mine")]
async fn mine_block(state: ApiState, body: Body) -> Answer<Mined> {
    let request: MineRequest = body.json_or_default()?;
    let wait = Duration::from_millis(request.wait_ms.unwrap_or(MINE_WAIT_MS));
    Ok(Json(state.node.mine(wait).await?))
}
