//! Nodes and the coordinator: what arrives there, what it answers, and what it is like where a rule is left out.

use super::{BEGINNING, ToCoordinator, What, World};
use crate::disk::Tables;
use block_chain_common::agreement::{Acknowledgement, majority};
use block_chain_common::coordinator_api::{ChainView, CosignRequest, Heartbeat};
use block_chain_common::hash::BlockHash;
use block_chain_common::keys::PublicKey;
use block_chain_common::quantity::{Height, Timestamp};
use block_chain_server::error::ServiceError;
use block_chain_server::service::Service;
use block_chain_worker::machine::{CommitOutcome, Event, Message, claim, load_frontier};
use rand::Rng as _;

/// What a worker says of a disk.
fn heartbeat(tables: &Tables) -> Heartbeat {
    let (height, head) = tables.head();
    let size = tables.committed_size();
    Heartbeat {
        chain: "main".to_owned(),
        height,
        head,
        committed: Height::new(size.saturating_sub(1)),
        term: tables.term(),
        checkpoint_size: size,
        addresses: Vec::new(),
        api: None,
        stepping_down: false,
        orders: 0,
        version: None,
    }
}

impl World {
    /// Everybody acknowledges at once what is proposed, whether it is there or not.
    pub(super) fn acknowledge_blindly(&mut self, leader: usize, message: &Message) -> Result<(), String> {
        let Message::Propose { term, height, block } = *message else {
            return Ok(());
        };
        let Some(node) = self.nodes.get(leader) else {
            return Ok(());
        };
        let frontier = load_frontier(&node.disk, height.get().saturating_add(1));
        let held = (height, block, frontier.map_err(|error| error.to_string())?.root());
        let blind: Vec<_> = (0..self.nodes.len()).filter(|number| *number != leader).collect();
        for number in blind {
            let Some(node) = self.nodes.get(number) else {
                continue;
            };
            let signed = Acknowledgement::sign(self.spec.id(), term, held, &node.key);
            self.send(number, leader, Message::Acknowledge(signed));
        }
        Ok(())
    }

    pub(super) fn ask(&mut self, number: usize, request: ToCoordinator) {
        let life = self.nodes.get(number).map_or(0, |node| node.life);
        let after = self.rng.random_range(1..40);
        self.later(after, What::Ask(number, life, request));
    }

    /// What a node asked for arrives at the coordinator, or does not; and so the answer.
    pub(super) fn coordinate(
        &mut self,
        number: usize,
        life: u64,
        request: ToCoordinator,
    ) -> Result<(), String> {
        let arrives = !self.deaf.contains(&(number, true)) && !self.percent(self.loss_percent);
        let answered = !self.deaf.contains(&(number, false)) && !self.percent(self.loss_percent);
        let now = Timestamp::new(BEGINNING.saturating_add(self.now));
        // Whichever of them it asks now; the next time another.
        let asked = self.rng.random_range(0..self.coordinators.len());
        let service = self.coordinators.get(asked).and_then(Option::as_ref);
        let (Some(service), Some(node)) = (service.filter(|_| arrives), self.nodes.get(number)) else {
            return self.unanswered(number, life, &request);
        };
        let event = match &request {
            ToCoordinator::Heartbeat => {
                let beat = heartbeat(node.disk.visible());
                match service.heartbeat(&node.worker, &beat, now) {
                    Ok(view) => Event::View(Box::new(view)),
                    // As the node's link: it shows the coordinator what it lacks.
                    Err(ServiceError::Behind { size, .. }) => {
                        let claimed = self.claim(service, number, size, now)?;
                        self.tell(|| format!("node {number} shows the coordinator more: {claimed}"));
                        return Ok(());
                    }
                    Err(error) => return Err(format!("node {number}: {error}")),
                }
            }
            ToCoordinator::Commit(commit) => {
                let before = service.view("main", now).map_err(|error| error.to_string())?;
                match service.commit(&node.worker, "main", commit) {
                    Ok(answer) => {
                        let (size, key) = (commit.size, node.key.public_key());
                        self.check_committed(&before, &key, (size, commit.block))?;
                        self.tell(|| format!("the coordinator commits {size} blocks for node {number}"));
                        Event::Committed(CommitOutcome::Done(answer.checkpoint))
                    }
                    Err(error) => {
                        self.tell(|| format!("the coordinator refuses node {number}: {error}"));
                        Event::Committed(CommitOutcome::Refused("refused".to_owned(), error.to_string()))
                    }
                }
            }
            ToCoordinator::Cosign(size, note) => {
                let request = CosignRequest {
                    size: *size,
                    note: note.clone(),
                };
                let answer = service.cosign(&node.worker, "main", &request);
                if answer.as_ref().is_ok_and(|view| view.is_final) {
                    let view = service.view("main", now).map_err(|error| error.to_string())?;
                    self.check_final(&view, *size)?;
                }
                Event::Cosigned(answer.ok())
            }
        };
        self.note(self.now);
        if !answered {
            return self.unanswered(number, life, &request);
        }
        let after = self.rng.random_range(1..40);
        self.later(after, What::Answer(number, life, Box::new(event)));
        Ok(())
    }

    /// What the coordinator has committed: by its leader, held on disk by a majority of those that counted then.
    fn check_committed(
        &mut self,
        before: &ChainView,
        by: &PublicKey,
        (size, block): (u64, BlockHash),
    ) -> Result<(), String> {
        let leader = before.leader.as_ref().map(|leader| leader.public_key);
        if leader != Some(*by) {
            return Err(format!("{by} commits, and does not lead in term {}", before.term));
        }
        let counts = self.holders(before, |tables| tables.holds(&block));
        self.promises.committed((size, block), counts)
    }

    /// What is final is known to a majority, on disk.
    fn check_final(&self, view: &ChainView, size: u64) -> Result<(), String> {
        let (holders, members) = self.holders(view, |tables| tables.committed_size() >= size);
        if holders >= majority(members) {
            return Ok(());
        }
        Err(format!(
            "{size} blocks are final, and of {members} members {holders} know on disk that they are committed"
        ))
    }

    /// Of how many members that count this holds on disk, and how many count.
    fn holders(&self, view: &ChainView, holds: impl Fn(&Tables) -> bool) -> (usize, usize) {
        let counting = view.counting();
        let holds = |key: &PublicKey| {
            let node = self.nodes.iter().find(|node| node.key.public_key() == *key);
            node.is_some_and(|node| holds(node.disk.durable()))
        };
        let holders = counting
            .clone()
            .filter(|member| holds(&member.public_key))
            .count();
        (holders, counting.count())
    }

    fn claim(
        &self,
        service: &Service,
        number: usize,
        old_size: u64,
        now: Timestamp,
    ) -> Result<String, String> {
        let node = self.nodes.get(number).ok_or("no such node")?;
        let tables = node.disk.visible();
        let shown = claim("main", tables.term(), tables.committed(), (old_size, &node.disk));
        let shown = shown.map_err(|error| error.to_string())?;
        match service.claim(&node.worker, &shown, now) {
            Ok(taken) => Ok(format!("{:?}", taken.behind_by)),
            Err(error) => Err(format!("node {number}'s claim: {error}")),
        }
    }

    pub(super) fn unanswered(
        &mut self,
        number: usize,
        life: u64,
        request: &ToCoordinator,
    ) -> Result<(), String> {
        let event = match request {
            ToCoordinator::Heartbeat => return Ok(()),
            ToCoordinator::Commit(_) => Event::Committed(CommitOutcome::Unreachable),
            ToCoordinator::Cosign(..) => Event::Cosigned(None),
        };
        self.later(500, What::Answer(number, life, Box::new(event)));
        Ok(())
    }

    pub(super) fn coordinator_tick(&mut self, number: usize) -> Result<(), String> {
        self.later(500, What::CoordinatorTick(number));
        let now = Timestamp::new(BEGINNING.saturating_add(self.now));
        match self.coordinators.get(number) {
            Some(Some(service)) => service.tick(now).map_err(|error| error.to_string()),
            _ => Ok(()),
        }
    }
}
