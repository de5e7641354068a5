//! Answers that need only the store: the driver gives them without the machine.

use super::{ChainRead, Message};
use crate::storage::StorageError;
use block_chain_common::block::Block;
use block_chain_common::codec::BoundedVec;
use block_chain_common::limits::MAX_HEADERS_PER_MESSAGE;
use block_chain_common::quantity::Height;

/// Answers a request from the store, one message at a time to `send`, which says whether there is room for more.
///
/// # Errors
/// Where the store cannot be read.
pub fn serve<R: ChainRead>(
    read: &R,
    request: &Message,
    mut send: impl FnMut(Message) -> bool,
) -> Result<(), StorageError> {
    match request {
        Message::GetHeaders(locator) => {
            let mut from = Height::ZERO;
            for hash in locator.as_slice() {
                let Some(stored) = read.header(hash)? else {
                    continue;
                };
                if read.hash_at(stored.header.height)? == Some(*hash) {
                    from = stored.header.height;
                    break;
                }
            }
            send(Message::Headers(
                BoundedVec::new(headers_after(read, from)?).unwrap_or_default(),
            ));
        }
        Message::GetBlocks(hashes) => {
            let mut missing = Vec::new();
            for hash in hashes.as_slice() {
                let (Some(stored), Some(transactions)) = (read.header(hash)?, read.transactions(hash)?)
                else {
                    missing.push(*hash);
                    continue;
                };
                let transactions = BoundedVec::new(transactions).unwrap_or_default();
                if !send(Message::Block(Box::new(Block {
                    header: stored.header,
                    transactions,
                }))) {
                    return Ok(());
                }
            }
            if !missing.is_empty() {
                send(Message::NotFound(BoundedVec::new(missing).unwrap_or_default()));
            }
        }
        Message::GetHashes(heights) => {
            let mut hashes = Vec::with_capacity(heights.as_slice().len());
            for height in heights.as_slice() {
                hashes.push((*height, read.hash_at(*height)?));
            }
            send(Message::Hashes(BoundedVec::new(hashes).unwrap_or_default()));
        }
        _ => {}
    }
    Ok(())
}

fn headers_after<R: ChainRead>(
    read: &R,
    from: Height,
) -> Result<Vec<block_chain_common::header::Header>, StorageError> {
    let mut headers = Vec::new();
    let mut height = from.next();
    while headers.len() < MAX_HEADERS_PER_MESSAGE {
        let Some(hash) = read.hash_at(height)? else { break };
        let Some(stored) = read.header(&hash)? else { break };
        headers.push(stored.header);
        height = height.next();
    }
    Ok(headers)
}
