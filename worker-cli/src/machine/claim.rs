//! What a worker shows a coordinator that went back: rule AGR-9.

use crate::storage::StoredCheckpoint;
use block_chain_common::coordinator_api::{Claim, ClaimedCheckpoint};
use block_chain_common::hash::Root;
use block_chain_common::history::{HistoryError, HistoryNodes, prove_consistency};
use block_chain_common::quantity::Term;

/// The claim of a worker, for a coordinator whose last checkpoint covers `old_size` blocks.
///
/// # Errors
/// Where the history that proves it cannot be read.
pub fn claim<N: HistoryNodes>(
    chain: &str,
    term: Term,
    committed: Option<StoredCheckpoint>,
    (old_size, nodes): (u64, &N),
) -> Result<Claim, HistoryError<N::Error>> {
    let checkpoint = match committed {
        Some(committed) if committed.size > old_size => {
            let proof = prove_consistency(old_size, committed.size, nodes)?;
            Some(ClaimedCheckpoint {
                note: committed.note,
                old_size,
                consistency: proof.into_iter().map(Root::from_bytes).collect(),
            })
        }
        _ => None,
    };
    Ok(Claim {
        chain: chain.to_owned(),
        term,
        checkpoint,
    })
}
