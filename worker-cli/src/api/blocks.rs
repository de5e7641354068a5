//! Blocks as a stream: NDJSON, a block a line, never more than a few in memory.

use super::ApiState;
use super::error::ApiError;
use super::json::block_view;
use crate::machine::ChainRead as _;
use actix_web::HttpResponse;
use actix_web::web::{Bytes, Data, Query};
use block_chain_common::quantity::Height;
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::mpsc;

/// Blocks that are ready before the client takes them.
const AHEAD: usize = 2;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Range {
    #[serde(default)]
    from: u64,
    limit: Option<u64>,
}

pub(super) async fn stream_blocks(state: Data<ApiState>, Query(range): Query<Range>) -> HttpResponse {
    let (sender, receiver) = mpsc::channel::<Result<Bytes, ApiError>>(AHEAD);
    tokio::task::spawn_blocking(move || {
        let (head, _) = state.node.store().head();
        let last = range
            .from
            .saturating_add(range.limit.unwrap_or(u64::MAX).saturating_sub(1))
            .min(head.get());
        if range.limit == Some(0) {
            return;
        }
        for height in range.from..=last {
            let line = line(&state, Height::new(height)).transpose();
            let Some(line) = line else { return };
            let failed = line.is_err();
            // The client is gone, or knows by the broken stream that this is not the end.
            if sender.blocking_send(line).is_err() || failed {
                return;
            }
        }
    });
    let lines = stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    });
    HttpResponse::Ok()
        .content_type("application/x-ndjson")
        .streaming(lines)
}

fn line(state: &ApiState, height: Height) -> Result<Option<Bytes>, ApiError> {
    let Some(hash) = state.node.store().hash_at(height)? else {
        return Ok(None);
    };
    let view = block_view(&state.node, &hash)?;
    let mut line = serde_json::to_vec(&view).map_err(|error| ApiError::Conflict(error.to_string()))?;
    line.push(b'\n');
    Ok(Some(Bytes::from(line)))
}
