//! This replica against every other live one, and against the coordinator's last checkpoint.

use crate::api::types::{CoordinatorCheck, ReplicaCheck, Verdict};
use crate::machine::{ChainRead as _, load_frontier};
use crate::node::NodeHandle;
use block_chain_common::checkpoint::Checkpoint;
use block_chain_common::coordinator_api::{ChainView, Member};
use block_chain_common::hash::BlockHash;
use block_chain_common::peer_message::MAX_LOCATOR;
use block_chain_common::quantity::Height;
use futures_util::future::join_all;

pub(super) async fn run(node: &NodeHandle) -> (Vec<ReplicaCheck>, Option<CoordinatorCheck>) {
    let Some(view) = node.chain_view() else {
        // The coordinator was never heard: no other replica is known.
        return (vec![own(node)], None);
    };
    let replicas = join_all(
        view.members
            .iter()
            .filter(|member| member.alive)
            .map(|member| replica(node, member)),
    )
    .await;
    (replicas, coordinator(node, &view))
}

fn coordinator(node: &NodeHandle, view: &ChainView) -> Option<CoordinatorCheck> {
    let checkpoint = view.checkpoint.as_ref()?;
    let size = checkpoint.size;
    let verified = Checkpoint::verify(&checkpoint.note, &node.chain_id(), &node.coordinator_key());
    let (head, _) = node.store().head();
    let same = match verified {
        Ok(_) if head.get() < size.saturating_sub(1) => None,
        Ok((checkpoint, _)) => {
            Some(load_frontier(node.store(), size).is_ok_and(|frontier| frontier.root() == checkpoint.root))
        }
        Err(_) => Some(false),
    };
    Some(CoordinatorCheck { size, same })
}

fn own(node: &NodeHandle) -> ReplicaCheck {
    let status = node.status();
    let (height, hash) = node.store().head();
    ReplicaCheck {
        worker_id: status.worker_id,
        name: status.name,
        height,
        hash,
        committed: Height::new(status.committed_size.saturating_sub(1)),
        verdict: Verdict::Same,
        first_difference: None,
    }
}

async fn replica(node: &NodeHandle, member: &Member) -> ReplicaCheck {
    if member.public_key == node.status().public_key {
        return own(node);
    }
    let mut report = ReplicaCheck {
        worker_id: member.worker_id,
        name: member.name.clone(),
        height: member.height,
        hash: member.head,
        committed: member.committed,
        verdict: Verdict::Same,
        first_difference: None,
    };
    match compare(node, member).await {
        Ok(Compared {
            height,
            hash,
            first_difference,
        }) => {
            let (ours, _) = node.store().head();
            let committed = node.store().committed().map_or(0, |checkpoint| checkpoint.size);
            report.verdict = match first_difference {
                Some(difference) if difference.get() < committed => Verdict::Differs,
                Some(_) => Verdict::Forked,
                None if height < ours => Verdict::Behind,
                None if height > ours => Verdict::Ahead,
                None => Verdict::Same,
            };
            (report.height, report.hash, report.first_difference) = (height, hash, first_difference);
        }
        Err(reason) => {
            tracing::info!(worker = %member.worker_id, reason, "a replica cannot be compared");
            report.verdict = Verdict::Unreachable;
        }
    }
    report
}

struct Compared {
    height: Height,
    hash: BlockHash,
    first_difference: Option<Height>,
}

/// Narrows down where two chains part: 64 heights a question, so a million blocks take four.
async fn compare(node: &NodeHandle, member: &Member) -> Result<Compared, String> {
    let (head, _) = node.store().head();
    // Its head may have moved since the coordinator heard of it.
    let (mut low, mut high) = (0_u64, head.get().max(member.height.get()).saturating_add(1));
    let (mut last_same, mut theirs) = (None, None);
    let mut first_difference = None;
    loop {
        let heights = sample(low, high);
        let answers = node
            .peer_hashes(member.public_key, heights.clone())
            .await
            .map_err(|error| error.to_string())?;
        if !answers.iter().map(|(height, _)| height).eq(&heights) {
            return Err("it answers for other heights than it was asked for".to_owned());
        }
        let mut narrowed = (low, low);
        for (height, hash) in &answers {
            let ours = node.store().hash_at(*height).map_err(|error| error.to_string())?;
            let Some(theirs_here) = *hash else { continue };
            theirs = theirs.max(Some((*height, theirs_here)));
            match ours {
                Some(ours) if ours == theirs_here => last_same = last_same.max(Some(*height)),
                Some(_) => first_difference = first_difference.min(Some(*height)).or(Some(*height)),
                None => {}
            }
        }
        let same = last_same.map_or(0, |height: Height| height.get());
        let end = first_difference.or(answers
            .iter()
            .find(|(h, hash)| hash.is_none() && h.get() > same)
            .map(|(h, _)| *h));
        if let Some(end) = end {
            narrowed = (same, end.get());
        }
        // No progress is an answer that no chain gives; the first difference found stands.
        if narrowed.1.saturating_sub(narrowed.0) <= 1 || narrowed == (low, high) {
            break;
        }
        (low, high) = narrowed;
    }
    let (height, hash) = theirs.ok_or("it gives no blocks")?;
    Ok(Compared {
        height,
        hash,
        first_difference,
    })
}

/// At most 64 heights from `low` to `high`, both with it, evenly spread.
fn sample(low: u64, high: u64) -> Vec<Height> {
    let width = high.saturating_sub(low);
    let parts = u64::try_from(MAX_LOCATOR).unwrap_or(64).saturating_sub(1);
    let step = width.div_ceil(parts).max(1);
    let mut heights: Vec<Height> = (low..=high)
        .step_by(usize::try_from(step).unwrap_or(usize::MAX))
        .map(Height::new)
        .collect();
    if heights.last() != Some(&Height::new(high)) {
        heights.push(Height::new(high));
    }
    heights.truncate(MAX_LOCATOR);
    heights
}
