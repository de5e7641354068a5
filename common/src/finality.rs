//! Why a block is not final: who is missing, since when, how many are needed, how far behind each is, and what helps.

use crate::checkpoint::witness_name;
use crate::coordinator_api::{ChainView, Member};
use crate::note::SignedNote;
use crate::quantity::{Height, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Why the newest block is not final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Waiting {
    /// A sentence for people.
    pub reason: String,
    /// Workers that are waited for.
    pub missing: Vec<MissingWorker>,
    /// How many are needed.
    pub needed: usize,
    /// What to do.
    pub hint: Option<String>,
}

/// A worker that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MissingWorker {
    /// Its id.
    pub worker_id: Uuid,
    /// Its name for people.
    pub name: Option<String>,
    /// When it was last heard, by the coordinator's clock.
    pub heard: Timestamp,
    /// For how long it has been silent, in milliseconds; nothing where it is alive.
    pub silent_ms: Option<u64>,
    /// Blocks that it lacks of those that wait.
    pub behind: u64,
}

impl MissingWorker {
    /// In a few words: who, since when, how far behind.
    #[must_use]
    pub fn describe(&self) -> String {
        let who = self.name.clone().unwrap_or_else(|| self.worker_id.to_string());
        let mut parts = Vec::new();
        if let Some(silent) = self.silent_ms {
            parts.push(format!("silent for {} s", silent / 1_000));
        }
        if self.behind > 0 {
            let blocks = if self.behind == 1 { "block" } else { "blocks" };
            parts.push(format!("{} {blocks} behind", self.behind));
        }
        if parts.is_empty() {
            who
        } else {
            format!("{who} ({})", parts.join(", "))
        }
    }
}

/// Why the block at `head` is not final, by what the coordinator knows; nothing where it is.
#[must_use]
pub fn waiting(view: &ChainView, head: Height) -> Option<Waiting> {
    if view.final_size > head.get() {
        return None;
    }
    let counting: Vec<&Member> = view.counting().collect();
    let alive = counting.iter().filter(|member| member.alive).count();
    let is_committed = view
        .checkpoint
        .as_ref()
        .is_some_and(|last| last.size > head.get());
    let (reason, missing, hint) = if counting.is_empty() {
        (
            "no worker takes part yet".to_owned(),
            Vec::new(),
            "start one: block-chain-worker register",
        )
    } else if alive < view.quorum {
        (
            format!(
                "{alive} of {} workers are alive, {} are needed",
                counting.len(),
                view.quorum
            ),
            missing(view, head, |member| !member.alive),
            "on their machines: block-chain-worker run; after a while the coordinator goes on without them",
        )
    } else if view.leader.is_none() {
        (
            "there is no leader: no live worker holds all that is committed".to_owned(),
            missing(view, head, |member| !member.alive || behind(member, head) > 0),
            "on their machines: block-chain-worker run",
        )
    } else if is_committed {
        let given = view.checkpoint.as_ref().map_or(0, |last| last.cosignatures);
        let note = view
            .checkpoint
            .as_ref()
            .and_then(|last| SignedNote::parse(&last.note).ok());
        (
            format!(
                "block {head} is committed; {given} of {} cosignatures are there",
                view.quorum
            ),
            missing(view, head, |member| !has_signed(note.as_ref(), member)),
            "on the machines of those that are missing: block-chain-worker status",
        )
    } else {
        let holding = counting.iter().filter(|member| behind(member, head) == 0).count();
        (
            format!(
                "the leader has not had block {head} committed yet; {holding} of {} workers hold it, {} are needed",
                counting.len(),
                view.quorum
            ),
            missing(view, head, |member| !member.alive || behind(member, head) > 0),
            "on the machines of those that are missing: block-chain-worker status",
        )
    };
    Some(Waiting {
        reason,
        missing,
        needed: view.quorum,
        hint: Some(hint.to_owned()),
    })
}

const fn behind(member: &Member, head: Height) -> u64 {
    head.get().saturating_sub(member.height.get())
}

fn has_signed(note: Option<&SignedNote>, member: &Member) -> bool {
    let name = witness_name(&member.public_key);
    let mut lines = note.into_iter().flat_map(SignedNote::signatures);
    lines.any(|line| line.name == name)
}

/// Those of the members that count who are waited for.
fn missing(view: &ChainView, head: Height, which: impl Fn(&Member) -> bool) -> Vec<MissingWorker> {
    let found = view.counting().filter(|member| which(member));
    found
        .map(|member| MissingWorker {
            worker_id: member.worker_id,
            name: member.name.clone(),
            heard: Timestamp::new(view.time.get().saturating_sub(member.silent_ms)),
            silent_ms: (!member.alive).then_some(member.silent_ms),
            behind: behind(member, head),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::panic,
        reason = "a test that meets what it does not expect has failed"
    )]

    use super::*;
    use crate::coordinator_api::{CheckpointView, Leader};
    use crate::hash::BlockHash;
    use crate::keys::SecretKey;
    use crate::quantity::Term;

    fn member(number: u8, alive: bool, height: u64) -> Member {
        Member {
            worker_id: Uuid::from_u128(u128::from(number)),
            public_key: SecretKey::from_seed(&[number; 32]).public_key(),
            name: Some(format!("w{number}")),
            addresses: Vec::new(),
            api: None,
            alive,
            silent_ms: if alive { 500 } else { 42_000 },
            height: Height::new(height),
            head: BlockHash::ZERO,
            committed: Height::ZERO,
            counts: true,
            version: None,
        }
    }

    fn view(members: Vec<Member>, has_leader: bool, committed: u64, last: u64) -> ChainView {
        let leader = members.first().filter(|_| has_leader).map(|member| Leader {
            worker_id: member.worker_id,
            public_key: member.public_key,
            term: Term::new(1),
            since: Timestamp::ZERO,
        });
        ChainView {
            time: Timestamp::new(100_000),
            chain: "main".to_owned(),
            term: Term::new(1),
            leader,
            quorum: crate::agreement::majority(members.len()),
            members,
            checkpoint: Some(CheckpointView {
                size: committed,
                note: String::new(),
                cosignatures: 1,
                needed: 2,
                is_final: false,
            }),
            final_size: last,
            lease_ms: 6_000,
            heartbeat_ms: 2_000,
            orders: 0,
            relay: None,
            forks: Vec::new(),
        }
    }

    #[test]
    fn a_final_head_waits_for_nothing() {
        let members = vec![member(1, true, 4), member(2, true, 4)];
        assert_eq!(waiting(&view(members, true, 5, 5), Height::new(4)), None);
    }

    #[test]
    fn the_silent_are_named_with_their_time_and_distance() {
        let members = vec![member(1, true, 4), member(2, false, 1), member(3, false, 4)];
        let found = waiting(&view(members, true, 3, 3), Height::new(4));
        let Some(found) = found else {
            panic!("block 4 is not final")
        };
        assert_eq!(found.reason, "1 of 3 workers are alive, 2 are needed");
        let told: Vec<String> = found.missing.iter().map(MissingWorker::describe).collect();
        assert_eq!(
            told,
            ["w2 (silent for 42 s, 3 blocks behind)", "w3 (silent for 42 s)"]
        );
        assert_eq!(
            found.missing.first().map(|worker| worker.heard),
            Some(Timestamp::new(58_000))
        );
    }

    #[test]
    fn each_stage_says_what_it_waits_for() {
        let members = || vec![member(1, true, 4), member(2, true, 3), member(3, true, 4)];
        let reason = |view: &ChainView| waiting(view, Height::new(4)).map(|found| found.reason);
        let no_leader = reason(&view(members(), false, 3, 3));
        assert!(no_leader.is_some_and(|reason| reason.starts_with("there is no leader")));
        let not_committed = waiting(&view(members(), true, 3, 3), Height::new(4));
        let behind = not_committed.map(|found| (found.reason, found.missing.len()));
        assert_eq!(
            behind,
            Some((
                "the leader has not had block 4 committed yet; 2 of 3 workers hold it, 2 are needed"
                    .to_owned(),
                1
            ))
        );
        let cosignatures = reason(&view(members(), true, 5, 3));
        assert_eq!(
            cosignatures.as_deref(),
            Some("block 4 is committed; 1 of 2 cosignatures are there")
        );
        let nobody = reason(&view(Vec::new(), false, 3, 3));
        assert_eq!(nobody.as_deref(), Some("no worker takes part yet"));
    }
}
