//! What committed blocks hold, for the coordinator's page of figures.

use crate::storage::{StorageError, Store};
use block_chain_common::block::current_draw;
use block_chain_common::coordinator_api::{CommitFigures, MAX_SHARES, StakeShare};
use block_chain_common::header::Proof;
use block_chain_common::quantity::Height;
use block_chain_common::work::Target;
use std::cmp::Reverse;

/// Blocks that are looked at for one commit: more come only after a long time without a coordinator.
const MAX_BLOCKS: u64 = 10_000;

/// Of the blocks from `old_size` up to, and without, `size`.
pub(super) fn of(
    store: &Store,
    chain: String,
    (old_size, size): (u64, u64),
) -> Result<CommitFigures, StorageError> {
    let store = store.snapshot();
    let first = old_size.max(size.saturating_sub(MAX_BLOCKS));
    let (mut transactions, mut bytes, mut work) = (0_u64, 0_u64, 0.0);
    for height in (first..size).map(Height::new) {
        let Some((hash, header)) = store.header_at(height)? else {
            continue;
        };
        transactions = transactions.saturating_add(u64::from(header.transaction_count));
        bytes = bytes.saturating_add(store.body_bytes(height, &hash)?);
        if let Proof::Work { bits, .. } = header.proof {
            let expected = Target::from_bits(bits).map_or(0, |target| target.work().to_u128());
            work += float(expected);
        }
    }
    Ok(CommitFigures {
        chain,
        old_size,
        size,
        transactions,
        bytes,
        work,
        shares: shares(&store)?,
    })
}

#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
const fn float(count: u128) -> f64 {
    count as f64
}

/// Who may be drawn on a chain of stake, the largest shares first.
fn shares(store: &Store) -> Result<Vec<StakeShare>, StorageError> {
    let Some(draw) = current_draw(store)? else {
        return Ok(Vec::new());
    };
    let stakes = draw.stakes.as_slice();
    let all: u128 = stakes.iter().map(|stake| u128::from(stake.amount.get())).sum();
    let mut shares: Vec<StakeShare> = stakes
        .iter()
        .filter_map(|stake| {
            let ppm = u128::from(stake.amount.get())
                .saturating_mul(1_000_000)
                .checked_div(all)?;
            Some(StakeShare {
                address: stake.address,
                ppm: u64::try_from(ppm).ok()?,
            })
        })
        .collect();
    shares.sort_by_key(|share| (Reverse(share.ppm), share.address));
    shares.truncate(MAX_SHARES);
    Ok(shares)
}
