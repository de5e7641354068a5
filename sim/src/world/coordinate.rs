//! Nodes and the coordinator: what arrives there, what it answers, and what it is like where a rule is left out.

use super::{BEGINNING, ToCoordinator, What, Without, World};
use block_chain_common::agreement::Acknowledgement;
use block_chain_common::codec::{decode, encode};
use block_chain_common::coordinator_api::{ChainView, CommitAnswer, CommitRequest, CosignRequest, Heartbeat};
use block_chain_common::keys::PublicKey;
use block_chain_common::quantity::{Height, Timestamp};
use block_chain_server::error::ServiceError;
use block_chain_server::service::Service;
use block_chain_worker::machine::{CommitOutcome, Event, Message, load_frontier};
use rand::Rng as _;

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

    /// The same request as the coordinator would take it if it asked for no term: by its leader, in its term.
    pub(super) fn as_of_now(
        &self,
        request: &CommitRequest,
        view: &ChainView,
    ) -> (CommitRequest, Option<usize>) {
        let leader = view.leader.as_ref().map(|leader| leader.public_key);
        let number = self
            .nodes
            .iter()
            .position(|node| Some(node.key.public_key()) == leader);
        let height = Height::new(request.size.saturating_sub(1));
        let asked = request
            .acknowledgements
            .iter()
            .filter_map(|text| hex::decode(text).ok());
        let asked = asked.filter_map(|bytes| decode::<Acknowledgement>(&bytes).ok());
        let again = asked.filter_map(|ack| {
            let node = self
                .nodes
                .iter()
                .find(|node| node.key.public_key() == ack.worker)?;
            let held = (height, request.block, request.root);
            Some(hex::encode(encode(&Acknowledgement::sign(
                ack.chain, view.term, held, &node.key,
            ))))
        });
        let acknowledgements = again.collect();
        (
            CommitRequest {
                term: view.term,
                acknowledgements,
                ..request.clone()
            },
            number,
        )
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
        let (Some(service), Some(node)) = (self.service.as_ref().filter(|_| arrives), self.nodes.get(number))
        else {
            return self.unanswered(number, life, &request);
        };
        let event = match &request {
            ToCoordinator::Heartbeat => {
                let tables = node.disk.visible();
                let (height, head) = tables.head();
                let size = tables.committed_size();
                let beat = Heartbeat {
                    chain: "main".to_owned(),
                    height,
                    head,
                    committed: Height::new(size.saturating_sub(1)),
                    term: tables.term(),
                    checkpoint_size: size,
                    addresses: Vec::new(),
                    api: None,
                };
                let view = service.heartbeat(&node.worker, &beat, now);
                Event::View(Box::new(view.map_err(|error| format!("node {number}: {error}"))?))
            }
            ToCoordinator::Commit(commit) => match self.commit(service, number, commit, now)? {
                Ok(answer) => {
                    let view = service.view("main", now).map_err(|error| error.to_string())?;
                    let leader = view.leader.as_ref().map(|leader| leader.public_key);
                    if leader != Some(node.key.public_key()) {
                        return Err(format!(
                            "node {number} commits, and does not lead in term {}",
                            view.term
                        ));
                    }
                    let holds = |key: &PublicKey| {
                        let held = self.nodes.iter().find(|node| node.key.public_key() == *key);
                        held.is_some_and(|node| node.disk.durable().holds(&commit.block))
                    };
                    let holders = view
                        .members
                        .iter()
                        .filter(|member| holds(&member.public_key))
                        .count();
                    let counts = (holders, view.members.len());
                    self.promises.committed((commit.size, commit.block), counts)?;
                    self.tell(|| format!("the coordinator commits {} blocks for node {number}", commit.size));
                    Event::Committed(CommitOutcome::Done(answer.checkpoint))
                }
                Err(error) => {
                    self.tell(|| format!("the coordinator refuses node {number}: {error}"));
                    Event::Committed(CommitOutcome::Refused("refused".to_owned(), error.to_string()))
                }
            },
            ToCoordinator::Cosign(size, note) => {
                let request = CosignRequest {
                    size: *size,
                    note: note.clone(),
                };
                let answer = service.cosign(&node.worker, "main", &request);
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

    pub(super) fn commit(
        &self,
        service: &Service,
        number: usize,
        request: &CommitRequest,
        now: Timestamp,
    ) -> Result<Result<CommitAnswer, ServiceError>, String> {
        let Some(node) = self.nodes.get(number) else {
            return Err("no such node".to_owned());
        };
        let answer = service.commit(&node.worker, "main", request);
        if self.options.without != Some(Without::Term)
            || !matches!(answer, Err(ServiceError::StaleTerm { .. }))
        {
            return Ok(answer);
        }
        let view = service.view("main", now).map_err(|error| error.to_string())?;
        let (request, leader) = self.as_of_now(request, &view);
        Ok(match leader.and_then(|leader| self.nodes.get(leader)) {
            Some(leader) => service.commit(&leader.worker, "main", &request),
            None => answer,
        })
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

    pub(super) fn coordinator_tick(&mut self) -> Result<(), String> {
        self.later(500, What::CoordinatorTick);
        let now = Timestamp::new(BEGINNING.saturating_add(self.now));
        match &self.service {
            Some(service) => service.tick(now).map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }
}
