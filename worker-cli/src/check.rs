//! `check_consistency`: every byte of this replica is hashed again, then it is compared with every other and the coordinator.
//!
//! The check reads one snapshot from genesis up and keeps one block in memory. The state is computed again from the blocks,
//! on disk beside the store, so every block's state digest and every entry of the state is checked. There is one check at a
//! time; it goes on to its end whether or not its caller waits, and ends when the node stops.

mod compare;
mod local;
mod restore;
#[cfg(test)]
mod tests;

use crate::api::types::{CheckProgress, CheckReport, LocalCheck, ReplicaCheck, Verdict};
use crate::node::NodeHandle;
use crate::storage::{Missing, want_rebuild};
use block_chain_common::coordinator_api::ChainView;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// By when a node that has started is connected to the others, in milliseconds.
const JOIN_MS: u64 = 5_000;
const LOOK: Duration = Duration::from_millis(20);

/// How far a check is; there is one at a time.
#[derive(Debug, Default)]
pub struct CheckState {
    running: AtomicBool,
    cancelled: AtomicBool,
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

    /// Ends the check that is under way, and every later one, because the node stops.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    fn at(&self, checked: u64, blocks: u64) {
        self.checked.store(checked, Ordering::Relaxed);
        self.blocks.store(blocks, Ordering::Relaxed);
    }
}

struct Running(Arc<CheckState>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Release);
    }
}

/// Checks this replica, with `repair` puts right what is damaged and checks once more; then compares.
///
/// # Errors
/// Where a check is under way already, or the node stops.
pub async fn run(node: &NodeHandle, repair: bool, state: &Arc<CheckState>) -> Result<CheckReport, String> {
    if state.running.swap(true, Ordering::AcqRel) {
        return Err("a check is under way already".to_owned());
    }
    let running = Running(Arc::clone(state));
    let node = node.clone();
    // On its own: a caller that goes away must not leave half a check behind another.
    let checking = tokio::spawn(async move { check(&node, repair, &running).await });
    checking
        .await
        .map_err(|error| format!("the check failed: {error}"))?
}

/// Waits, at a node that has just started, until it is connected to everybody who is there: without them nothing can be
/// fetched, and all would be called unreachable.
async fn join(node: &NodeHandle) {
    let joined = |view: ChainView| {
        let connected = node.connected();
        let me = node.status().public_key;
        let others = view
            .members
            .iter()
            .filter(|member| member.alive && member.public_key != me);
        others
            .into_iter()
            .all(|member| connected.contains(&member.public_key))
    };
    while node.status().uptime_ms < JOIN_MS && !node.chain_view().is_some_and(joined) {
        tokio::time::sleep(LOOK).await;
    }
}

async fn check(node: &NodeHandle, repair: bool, running: &Running) -> Result<CheckReport, String> {
    join(node).await;
    let mut local = check_local(node, false, &running.0).await?;
    if repair && !local.errors.is_empty() {
        let repaired = check_local(node, true, &running.0).await?.repaired;
        local = check_local(node, false, &running.0).await?;
        local.repaired = repaired;
    }
    let (replicas, coordinator) = compare::run(node).await;
    let differs = replicas.iter().any(|replica| replica.verdict == Verdict::Differs);
    let contradicted = coordinator
        .as_ref()
        .is_some_and(|coordinator| coordinator.same == Some(false));
    let consistent = local.errors.is_empty() && !differs && !contradicted;
    let rebuild = repair && !local.errors.is_empty() && ask_for_rebuild(node, &replicas)?;
    Ok(CheckReport {
        consistent,
        rebuild,
        local,
        replicas,
        coordinator,
    })
}

/// What could not be put right in place is in files that the database cannot read.
fn ask_for_rebuild(node: &NodeHandle, replicas: &[ReplicaCheck]) -> Result<bool, String> {
    let (me, height) = (node.status().worker_id, node.store().head().0);
    let has_all = |replica: &ReplicaCheck| {
        let same = matches!(replica.verdict, Verdict::Same | Verdict::Ahead);
        replica.worker_id != me && same && replica.height >= height
    };
    let missing = if replicas.iter().any(has_all) {
        Missing::FromPeers
    } else {
        Missing::None
    };
    want_rebuild(&node.0.data_dir, missing).map_err(|error| error.to_string())?;
    Ok(true)
}

async fn check_local(node: &NodeHandle, repair: bool, state: &Arc<CheckState>) -> Result<LocalCheck, String> {
    let (node, state) = (node.clone(), Arc::clone(state));
    let runtime = repair.then(tokio::runtime::Handle::current);
    let checking = tokio::task::spawn_blocking(move || local::check(&node, &state, runtime));
    checking
        .await
        .map_err(|error| format!("the check failed: {error}"))?
}
