//! What is read in bulk: all records, all headers, and the checkpoint that covers them.

use crate::api::ApiState;
use crate::api::blocks::Range;
use crate::api::error::ApiError;
use crate::api::pieces::streaming;
use crate::machine::Place;
use crate::storage::StorageError;
use actix_web::web::Query;
use actix_web::{HttpResponse, get};
use block_chain_common::state::{StateKey, StateValue};
use block_chain_common::transaction::Payload;
use serde_json::json;
use utoipa_actix_web::service_config::ServiceConfig;

pub(super) fn configure(config: &mut ServiceConfig<'_>) {
    config
        .service(get_records)
        .service(get_headers)
        .service(get_checkpoint);
}

/// All records with their values now, as NDJSON, in the order of the lengths and bytes of their keys
///
/// Keys and values that are not UTF-8 stand in hex, as `key_hex` and `value_hex`.
#[utoipa::path(
    tag = "records and accounts",
    responses((status = 200, description = "the records; a stream that breaks off is not whole", body = String, content_type = "application/x-ndjson"), ApiError)
)]
#[get("/v1/records")]
async fn get_records(state: ApiState) -> Result<HttpResponse, ApiError> {
    let node = state.node.clone();
    streaming(&state, "application/x-ndjson", move |out| {
        let store = node.store().snapshot();
        for entry in store.state_entries() {
            let (StateKey::Record(key), StateValue::Record(record)) = entry? else {
                continue;
            };
            let place = Place {
                height: record.height,
                index: record.index,
            };
            let found = store.transaction(place)?;
            let Some(Payload::Put { value, .. }) = found.map(|found| found.payload) else {
                let (index, height) = (place.index, place.height);
                return Err(StorageError::damaged(format!("transaction {index} of block {height}")).into());
            };
            let mut line = serde_json::Map::new();
            for (name, bytes) in [("key", key.as_slice()), ("value", value.as_slice())] {
                match std::str::from_utf8(bytes) {
                    Ok(text) => line.insert(name.to_owned(), json!(text)),
                    Err(_) => line.insert(format!("{name}_hex"), json!(hex::encode(bytes))),
                };
            }
            serde_json::to_writer(&mut out.piece, &line)?;
            out.piece.push(b'\n');
            out.flush_where_full()?;
        }
        Ok(())
    })
}

/// Headers as the leaves of the chain's tree
///
/// Of each its length (16 bits, big-endian) and its encoding: an entry bundle of C2SP tlog-tiles, of any length.
#[utoipa::path(
    tag = "blocks",
    params(Range),
    responses((status = 200, description = "the headers; a stream that breaks off is not whole", body = Vec<u8>, content_type = "application/octet-stream"), ApiError)
)]
#[get("/v1/headers")]
async fn get_headers(state: ApiState, Query(range): Query<Range>) -> Result<HttpResponse, ApiError> {
    let node = state.node.clone();
    streaming(&state, "application/octet-stream", move |out| {
        let store = node.store().snapshot();
        for height in range.heights(store.head().0) {
            let damaged = || StorageError::damaged(format!("block {height}: its header"));
            let (_, header) = store.header_at(height)?.ok_or_else(damaged)?;
            let leaf = header.leaf_bytes();
            let length = u16::try_from(leaf.len()).or(Err(damaged()))?;
            out.piece.extend_from_slice(&length.to_be_bytes());
            out.piece.extend_from_slice(&leaf);
            out.flush_where_full()?;
        }
        Ok(())
    })
}

/// The newest checkpoint that is final: a C2SP signed note, with cosignatures
#[utoipa::path(
    tag = "node",
    responses((status = 200, description = "the note", body = String, content_type = "text/plain"), ApiError)
)]
#[get("/v1/checkpoint")]
async fn get_checkpoint(state: ApiState) -> Result<HttpResponse, ApiError> {
    let none = || ApiError::Conflict("no block is final yet".to_owned());
    let found = state.node.store().final_checkpoint().ok_or_else(none)?;
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body(found.note))
}
