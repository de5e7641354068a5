//! `check_consistency`: every byte of this replica is hashed again, then it is compared with every other and the coordinator.
//!
//! The check reads one snapshot from genesis up and keeps one block in memory. The state is checked whole: the digest over
//! all its entries must be the one in the head's header, which the headers' links bind to every block before.

mod compare;
mod local;

use crate::api::types::{CheckProgress, CheckReport, LocalCheck, Verdict};
use crate::node::NodeHandle;
use block_chain_common::block::CheckedBlock;
use block_chain_common::quantity::Height;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How far a check is; there is one at a time.
#[derive(Debug, Default)]
pub struct CheckState {
    running: AtomicBool,
    checked: AtomicU64,
    blocks: AtomicU64,
}

impl CheckState {
    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> CheckProgress {
        CheckProgress {
            running: self.running.load(Ordering::Acquire),
            blocks_checked: self.checked.load(Ordering::Relaxed),
            blocks: self.blocks.load(Ordering::Relaxed),
        }
    }
}

struct Running<'a>(&'a CheckState);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Release);
    }
}

/// Checks this replica, with `repair` fetches its damaged blocks again and checks once more; then compares.
///
/// # Errors
/// Where a check is under way already, or the node stops.
pub async fn run(
    node: &NodeHandle,
    repair: bool,
    state: &std::sync::Arc<CheckState>,
) -> Result<CheckReport, String> {
    if state.running.swap(true, Ordering::AcqRel) {
        return Err("a check is under way already".to_owned());
    }
    let running = Running(state);
    let mut local = check_local(node, state).await?;
    if repair && !local.errors.is_empty() {
        let repaired = repair_blocks(node, &local).await;
        local = check_local(node, state).await?;
        local.repaired = repaired;
    }
    let (replicas, coordinator) = compare::run(node).await;
    drop(running);
    let differs = replicas.iter().any(|replica| replica.verdict == Verdict::Differs);
    let contradicted = coordinator
        .as_ref()
        .is_some_and(|coordinator| coordinator.same == Some(false));
    let consistent = local.errors.is_empty() && !differs && !contradicted;
    Ok(CheckReport {
        consistent,
        local,
        replicas,
        coordinator,
    })
}

async fn check_local(node: &NodeHandle, state: &std::sync::Arc<CheckState>) -> Result<LocalCheck, String> {
    let (node, state) = (node.clone(), std::sync::Arc::clone(state));
    let checking = tokio::task::spawn_blocking(move || {
        local::check(&node, |checked, blocks| {
            state.checked.store(checked, Ordering::Relaxed);
            state.blocks.store(blocks, Ordering::Relaxed);
        })
    });
    checking
        .await
        .map_err(|error| format!("the check failed: {error}"))
}

/// Fetches each damaged block by the hash that the chain has at its height; gives those put right.
async fn repair_blocks(node: &NodeHandle, local: &LocalCheck) -> Vec<Height> {
    use crate::machine::ChainRead as _;
    let mut heights: Vec<Height> = local.errors.iter().filter_map(|fault| fault.height).collect();
    heights.dedup();
    let mut repaired = Vec::new();
    for height in heights {
        let Ok(Some(hash)) = node.store().hash_at(height) else {
            continue;
        };
        let Ok(block) = node.fetch_block(hash).await else {
            continue;
        };
        // The hash binds the header, and the header's root the body: a wrong answer does not pass.
        let fits = block.header.hash() == hash;
        let Some(checked) = CheckedBlock::check(block, node.chain_id()).ok().filter(|_| fits) else {
            continue;
        };
        match node.store().replace_body(&checked) {
            Ok(()) => repaired.push(height),
            Err(error) => tracing::error!(%height, %error, "a block cannot be put right"),
        }
    }
    repaired
}
