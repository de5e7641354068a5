//! As the chain's thread drives a machine: steps, syncs, and then does what the steps asked for.

use super::{BEGINNING, ToCoordinator, What, Without, World, start_service};
use block_chain_common::header::{Proof, proof_hash};
use block_chain_common::quantity::Timestamp;
use block_chain_common::work::Target;
use block_chain_worker::machine::{ChainRead as _, Effect, Event, FoundNonce, Machine, Start, tip_at};
use rand::Rng as _;
use std::sync::Arc;

impl World {
    /// A process of the coordinator's that is down starts on what the disk has.
    pub(super) fn start_coordinator(&mut self, number: usize) -> Result<(), String> {
        let (database, options) = (self.folder.path().join("db"), self.options);
        let Some(place) = self.coordinators.get_mut(number).filter(|place| place.is_none()) else {
            return Ok(());
        };
        let service = start_service(database, &options)?;
        let now = Timestamp::new(BEGINNING.saturating_add(self.now));
        service.begin(now).map_err(|error| error.to_string())?;
        *place = Some(service);
        self.tell(|| format!("coordinator {number} is up"));
        Ok(())
    }

    pub(super) fn start_coordinators(&mut self) -> Result<(), String> {
        (0..self.coordinators.len()).try_for_each(|number| self.start_coordinator(number))
    }

    /// All processes of the coordinator's end; whether any was up.
    pub(super) fn stop_coordinators(&mut self) -> bool {
        let mut stopped = false;
        for place in &mut self.coordinators {
            stopped |= place.take().is_some();
        }
        stopped
    }

    pub(super) fn start(&mut self, number: usize) -> Result<(), String> {
        let coordinator = self.coordinator;
        let Some(node) = self.nodes.get_mut(number).filter(|node| node.machine.is_none()) else {
            return Ok(());
        };
        self.promises.restarted(number, node.disk.durable())?;
        let tables = node.disk.visible();
        let tip = tip_at(&node.disk, &tables.head().1).map_err(|error| error.to_string())?;
        node.machine = Some(Machine::new(Start {
            spec: Arc::clone(&self.spec),
            coordinator,
            key: node.key.clone(),
            tip: tip.ok_or("the head is not on the chain")?,
            state_hash: node.disk.state_hash().map_err(|error| error.to_string())?,
            committed: tables.committed_note(),
            final_size: tables.final_size(),
            term: tables.term(),
            mempool: tables.mempool(),
            evidence: None,
        }));
        if let Some(rule) = self.options.left_out()
            && let Some(machine) = node.machine.as_mut()
        {
            machine.leave_out(rule);
        }
        node.life = node.life.saturating_add(1);
        let life = node.life;
        self.tell(|| format!("node {number} starts"));
        self.later(0, What::Tick(number, life));
        self.later(50, What::Heartbeat(number, life));
        self.later(20, What::Peer(number, number, true));
        Ok(())
    }

    /// As the chain's thread: steps until there is no more to do at once; the writes are synced a moment later, and what
    /// they allow is done then.
    pub(super) fn step(&mut self, number: usize, event: Event) -> Result<(), String> {
        let now = self.clock(number);
        let without_sync = self.options.without == Some(Without::SyncBeforeAnswer);
        let mut next = Some(event);
        let mut at_once = Vec::new();
        while let Some(event) = next.take() {
            let Some(node) = self.nodes.get_mut(number) else {
                return Ok(());
            };
            let Some(machine) = node.machine.as_mut() else {
                return Ok(());
            };
            let output = machine.step(&node.disk, now, event);
            let output = output.map_err(|error| format!("node {number} cannot read: {error}"))?;
            self.steps = self.steps.saturating_add(1);
            let wrote = !output.writes.is_empty();
            if wrote {
                let applied = node.disk.apply(output.writes);
                applied.map_err(|broken| format!("node {number}: {broken}"))?;
            }
            // Behind what waits for a sync everything else waits too: effects are in order.
            if (node.disk.unsynced() > 0 || !node.held.is_empty()) && !without_sync {
                node.held.extend(output.effects);
            } else {
                at_once.extend(output.effects);
            }
            if node.disk.unsynced() > 0 && !node.sync_due {
                node.sync_due = true;
                let life = node.life;
                let after = self.rng.random_range(0..30);
                self.later(after, What::Sync(number, life));
            }
            if output.again {
                next = Some(Event::Continue);
            }
            if wrote && let Some(node) = self.nodes.get(number) {
                let tables = node.disk.visible();
                self.promises.node(number, tables)?;
                tables
                    .check_value(&self.spec)
                    .map_err(|broken| format!("node {number}: {broken}"))?;
            }
        }
        self.perform(number, at_once)
    }

    pub(super) fn sync(&mut self, number: usize) -> Result<(), String> {
        let Some(node) = self.nodes.get_mut(number) else {
            return Ok(());
        };
        node.sync_due = false;
        node.disk.sync()?;
        self.promises.synced(number, node.disk.durable());
        let effects = std::mem::take(&mut node.held);
        let head = node.disk.durable().head().0;
        self.note(head.get());
        self.perform(number, effects)
    }

    fn perform(&mut self, number: usize, effects: Vec<Effect>) -> Result<(), String> {
        for effect in effects {
            match effect {
                Effect::Send(peer, message) => {
                    let to = self.nodes.iter().position(|node| node.key.public_key() == peer);
                    if let Some(to) = to {
                        self.send(number, to, message);
                    }
                }
                Effect::Broadcast(message) => {
                    if self.options.without == Some(Without::HoldingBeforeAcknowledging) {
                        self.acknowledge_blindly(number, &message)?;
                    }
                    for to in (0..self.nodes.len()).filter(|to| *to != number) {
                        self.send(number, to, message.clone());
                    }
                }
                Effect::Drop(_, reason) => {
                    return Err(format!("node {number} drops an honest peer: {reason}"));
                }
                Effect::Submitted(token, answer) => self.submitted(token, answer.is_ok()),
                Effect::Search(template) => {
                    let digest = template.header.digest_without_proof();
                    let Proof::Work { bits, .. } = template.header.proof else {
                        continue;
                    };
                    let target = Target::from_bits(bits).map_err(|error| error.to_string())?;
                    let met = |nonce: &u64| {
                        target.is_met_by(&proof_hash(&digest, &Proof::Work { bits, nonce: *nonce }))
                    };
                    let nonce = (0..1_000_000).find(met).ok_or("the work has become too hard")?;
                    let found = FoundNonce {
                        digest,
                        nonce,
                        attempts: 1,
                        elapsed_ms: 0,
                    };
                    let life = self.nodes.get(number).map_or(0, |node| node.life);
                    let after = self.rng.random_range(50..1_500);
                    self.later(after, What::Answer(number, life, Box::new(Event::Found(found))));
                }
                Effect::Commit(request) => self.ask(number, ToCoordinator::Commit(request)),
                Effect::Cosign(size, note) => self.ask(number, ToCoordinator::Cosign(size, note)),
                Effect::Evidence(evidence) => {
                    return Err(format!(
                        "node {number} meets a contradiction: {}",
                        evidence.reason
                    ));
                }
                Effect::DoubleBlock(double) => {
                    return Err(format!(
                        "node {number} meets two blocks of {} for slot {}",
                        double.producer(),
                        double.slot()
                    ));
                }
                Effect::Head(height, hash) => self.tell(|| format!("node {number} is at {height} {hash}")),
                Effect::CommittedTo(size) => {
                    self.tell(|| format!("node {number} knows {size} committed"));
                }
                Effect::FinalTo(size) => {
                    self.tell(|| format!("node {number} knows {size} final"));
                    self.give_receipt(number, size)?;
                }
                Effect::Mined(..) | Effect::StopSearch => {}
            }
        }
        Ok(())
    }
}
