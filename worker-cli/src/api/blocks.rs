//! Blocks as a stream: NDJSON, a block a line, in pieces: neither the chain nor a block is ever in memory whole.

use super::ApiState;
use super::error::ApiError;
use super::json::{block_header_view, reward_of, to_json};
use super::types::BlockView;
use crate::machine::ChainRead as _;
use crate::node::{NodeHandle, RequestError};
use crate::storage::{StorageError, Store};
use actix_web::web::{Bytes, Data, Query};
use actix_web::{HttpResponse, get};
use block_chain_common::quantity::Height;
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::mpsc;
use utoipa::IntoParams;

/// Pieces that are ready before the client takes them.
const AHEAD: usize = 4;
/// A piece is sent when it has this many bytes; one transaction may make it longer.
const PIECE_BYTES: usize = 64 * 1_024;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Range {
    /// The first height wanted.
    #[serde(default)]
    #[param(default = 0)]
    from: u64,
    /// How many at most, all where it is not said.
    limit: Option<u64>,
}

/// Blocks as NDJSON, a block a line, oldest first
#[utoipa::path(
    tag = "blocks",
    params(Range),
    responses((status = 200, description = "the blocks; a stream that breaks off is not whole", body = BlockView, content_type = "application/x-ndjson"), ApiError)
)]
#[get("/v1/blocks")]
pub(super) async fn get_blocks(state: Data<ApiState>, Query(range): Query<Range>) -> HttpResponse {
    let (sender, receiver) = mpsc::channel::<Result<Bytes, ApiError>>(AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut pieces = Pieces {
            node: &state.node,
            // Of one moment, so that every block follows the one before it whatever happens meanwhile.
            store: state.node.store().snapshot(),
            sender: &sender,
            piece: Vec::with_capacity(PIECE_BYTES),
        };
        match pieces.send(&range) {
            Ok(()) | Err(Ended::Gone) => {}
            // The broken stream tells the client that this is not the end.
            Err(Ended::Failed(error)) => {
                tracing::error!(%error, "the stream of blocks ends early");
                if sender.blocking_send(Err(error)).is_err() {
                    tracing::debug!("nobody reads the stream any more");
                }
            }
        }
    });
    let pieces = stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    });
    HttpResponse::Ok()
        .content_type("application/x-ndjson")
        .streaming(pieces)
}

/// Why a stream ends before its last block.
enum Ended {
    /// The client does not read on.
    Gone,
    Failed(ApiError),
}

impl From<StorageError> for Ended {
    fn from(error: StorageError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<serde_json::Error> for Ended {
    fn from(error: serde_json::Error) -> Self {
        Self::Failed(ApiError::Conflict(error.to_string()))
    }
}

struct Pieces<'a> {
    node: &'a NodeHandle,
    store: Store,
    sender: &'a mpsc::Sender<Result<Bytes, ApiError>>,
    piece: Vec<u8>,
}

impl Pieces<'_> {
    fn send(&mut self, range: &Range) -> Result<(), Ended> {
        let (head, _) = self.store.head();
        let limit = range.limit.unwrap_or(u64::MAX);
        let end = range.from.saturating_add(limit).min(head.get().saturating_add(1));
        for height in (range.from..end).map(Height::new) {
            self.block(height)?;
        }
        self.flush()
    }

    fn block(&mut self, height: Height) -> Result<(), Ended> {
        let lost = |what: &str| StorageError::damaged(format!("block {height}: {what}"));
        let hash = self
            .store
            .hash_at(height)?
            .ok_or_else(|| lost("its hash is missing"))?;
        let stored = self
            .store
            .header(&hash)?
            .ok_or_else(|| lost("its header is missing"))?;
        let count = stored.header.transaction_count;
        let agreed = (
            self.node.block_status(height),
            reward_of(self.node.spec(), height),
        );
        let view = block_header_view(stored.header, hash, agreed);
        // The transactions come last, an empty list so far: its end, and the block's, are written after them.
        serde_json::to_writer(&mut self.piece, &view)?;
        debug_assert!(
            self.piece.ends_with(b"[]}"),
            "the transactions are a block's last field"
        );
        self.piece.truncate(self.piece.len().saturating_sub(2));
        let mut found = 0_u32;
        for transaction in self.store.stream_transactions(height, &hash) {
            let transaction = transaction?;
            if found > 0 {
                self.piece.push(b',');
            }
            serde_json::to_writer(&mut self.piece, &to_json(&transaction, transaction.id()))?;
            found = found.saturating_add(1);
            if self.piece.len() >= PIECE_BYTES {
                self.flush()?;
            }
        }
        if found != count {
            let error = lost(&format!("{found} transactions are stored, not {count}"));
            return Err(Ended::Failed(RequestError::Storage(error).into()));
        }
        self.piece.extend_from_slice(b"]}\n");
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Ended> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        self.sender
            .blocking_send(Ok(Bytes::from(piece)))
            .or(Err(Ended::Gone))
    }
}
