//! Blocks as a stream: NDJSON, a block a line, in pieces: neither the chain nor a block is ever in memory whole.

use super::ApiState;
use super::error::ApiError;
use super::json::{block_header_view, reward_of, to_json};
use super::pieces::{Ended, Pieced, streaming};
use super::types::BlockView;
use crate::machine::ChainRead as _;
use crate::node::{NodeHandle, RequestError};
use crate::storage::{StorageError, Store};
use actix_web::web::Query;
use actix_web::{HttpResponse, get};
use block_chain_common::quantity::Height;
use serde::Deserialize;
use utoipa::IntoParams;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct Range {
    /// The first height wanted.
    #[serde(default)]
    #[param(default = 0)]
    from: u64,
    /// How many at most, all where it is not said.
    limit: Option<u64>,
}

impl Range {
    /// Its heights, of those that a chain has.
    pub(in crate::api) fn heights(&self, head: Height) -> impl Iterator<Item = Height> + use<> {
        let limit = self.limit.unwrap_or(u64::MAX);
        let end = self.from.saturating_add(limit).min(head.get().saturating_add(1));
        (self.from..end).map(Height::new)
    }
}

/// Blocks as NDJSON, a block a line, oldest first
#[utoipa::path(
    tag = "blocks",
    params(Range),
    responses((status = 200, description = "the blocks; a stream that breaks off is not whole", body = BlockView, content_type = "application/x-ndjson"), ApiError)
)]
#[get("/v1/blocks")]
pub(super) async fn get_blocks(
    state: ApiState,
    Query(range): Query<Range>,
) -> Result<HttpResponse, ApiError> {
    let node = state.node.clone();
    streaming(&state, "application/x-ndjson", move |sender| {
        let mut pieces = Pieces::new(&node, sender);
        for height in range.heights(pieces.store.head().0) {
            pieces.block(height)?;
            pieces.out.piece.push(b'\n');
        }
        Ok(())
    })
}

/// The whole chain as one JSON list, between what stands before and after it; `after` is given how many blocks there are.
pub(super) fn as_list(
    node: &NodeHandle,
    out: &mut Pieced,
    before: &str,
    after: impl FnOnce(u64) -> String,
) -> Result<(), Ended> {
    let mut pieces = Pieces::new(node, out);
    pieces.out.piece.extend_from_slice(before.as_bytes());
    let head = pieces.store.head().0;
    for height in (0..=head.get()).map(Height::new) {
        if height > Height::ZERO {
            pieces.out.piece.push(b',');
        }
        pieces.block(height)?;
    }
    let length = head.get().saturating_add(1);
    pieces.out.piece.extend_from_slice(after(length).as_bytes());
    Ok(())
}

struct Pieces<'a> {
    node: &'a NodeHandle,
    store: Store,
    out: &'a mut Pieced,
}

impl<'a> Pieces<'a> {
    fn new(node: &'a NodeHandle, out: &'a mut Pieced) -> Self {
        Self {
            node,
            // Of one moment, so that every block follows the one before it whatever happens meanwhile.
            store: node.store().snapshot(),
            out,
        }
    }

    /// One block, without what stands between blocks.
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
        serde_json::to_writer(&mut self.out.piece, &view)?;
        debug_assert!(
            self.out.piece.ends_with(b"[]}"),
            "the transactions are a block's last field"
        );
        self.out.piece.truncate(self.out.piece.len().saturating_sub(2));
        let mut found = 0_u32;
        for transaction in self.store.stream_transactions(height, &hash) {
            let transaction = transaction?;
            if found > 0 {
                self.out.piece.push(b',');
            }
            serde_json::to_writer(&mut self.out.piece, &to_json(&transaction, transaction.id()))?;
            found = found.saturating_add(1);
            self.out.flush_where_full()?;
        }
        if found != count {
            let error = lost(&format!("{found} transactions are stored, not {count}"));
            return Err(Ended::Failed(RequestError::Storage(error).into()));
        }
        self.out.piece.extend_from_slice(b"]}");
        self.out.flush_where_full()
    }
}
