//! What fails, for how long, and how it is mended.

use super::{Fault, What, World, start_service};
use block_chain_common::quantity::Height;
use block_chain_worker::machine::Event;
use rand::Rng as _;
use std::collections::BTreeSet;

impl World {
    pub(super) fn end_faults(&mut self) -> Result<(), String> {
        self.tell(|| "the faults are over".to_owned());
        self.faults_over = true;
        self.cut.clear();
        self.deaf.clear();
        self.loss_percent = 0;
        if self.service.is_none() {
            self.service = Some(start_service(self.folder.path().join("db"))?);
        }
        for number in 0..self.nodes.len() {
            if let Some(node) = self.nodes.get_mut(number) {
                node.paused_until = 0;
                node.clock = (0, 0);
                node.disk.repair();
                if node.machine.is_none() {
                    self.later(0, What::Start(number));
                } else {
                    self.later(0, What::Peer(number, number, true));
                }
            }
        }
        Ok(())
    }

    pub(super) fn fault(&mut self) -> Result<(), String> {
        self.faults = self.faults.saturating_add(1);
        let node = self.rng.random_range(0..self.nodes.len());
        let long = self.rng.random_range(100..15_000);
        match self.rng.random_range(0..12_u32) {
            0 | 1 => {
                let one_way = self.percent(30);
                let side: Vec<bool> = (0..self.nodes.len()).map(|_| self.rng.random()).collect();
                let mut pairs = BTreeSet::new();
                for (from, to) in (0..side.len()).flat_map(|from| (0..side.len()).map(move |to| (from, to))) {
                    if side.get(from) != side.get(to) && (!one_way || side.get(from) == Some(&true)) {
                        pairs.insert((from, to));
                    }
                }
                self.tell(|| format!("cut for {long} ms: {pairs:?}"));
                self.cut.extend(&pairs);
                self.later(long, What::Heal(Fault::Cut(pairs)));
            }
            2 | 3 => {
                let requests = self.percent(50);
                self.tell(|| format!("node {node} and the coordinator do not hear each other for {long} ms"));
                self.deaf.insert((node, requests));
                self.later(long, What::Heal(Fault::Unreachable(node, requests)));
            }
            4 | 5 => self.crash(node, long)?,
            6 => {
                self.tell(|| format!("node {node} is paused for {long} ms"));
                if let Some(node) = self.nodes.get_mut(node) {
                    node.paused_until = self.now.saturating_add(long);
                }
            }
            7 => {
                self.tell(|| format!("the coordinator is down for {long} ms"));
                self.service = None;
                self.later(long, What::CoordinatorUp);
            }
            8 => {
                let clock = (
                    self.rng.random_range(-300..300),
                    self.rng.random_range(-60_000..60_000),
                );
                self.tell(|| format!("node {node}'s clock: {clock:?}"));
                if let Some(node) = self.nodes.get_mut(node) {
                    node.clock = clock;
                }
            }
            9 => {
                let lost = self.rng.random_range(1..40);
                self.loss_percent = self.loss_percent.saturating_add(lost);
                self.later(long, What::Heal(Fault::Loss(lost)));
            }
            10 => {
                let token = self.next;
                if self.woken_at(node).is_none() {
                    self.step(node, Event::Mine(token))?;
                }
            }
            _ => self.flip(node),
        }
        Ok(())
    }

    pub(super) fn crash(&mut self, number: usize, long: u64) -> Result<(), String> {
        let Some(node) = self.nodes.get_mut(number).filter(|node| node.machine.is_some()) else {
            return Ok(());
        };
        node.machine = None;
        node.held.clear();
        node.sync_due = false;
        let unsynced = node.disk.unsynced();
        let kept = self.rng.random_range(0..=unsynced);
        node.disk.crash(kept)?;
        self.tell(|| format!("node {number} crashes for {long} ms, {kept} of {unsynced} batches are kept"));
        self.later(long, What::Start(number));
        Ok(())
    }

    /// A bit turns in a committed block of one node, one node at a time.
    pub(super) fn flip(&mut self, number: usize) {
        let Some(node) = self.nodes.get_mut(number) else {
            return;
        };
        let size = node.disk.durable().committed_size();
        let blocks: Vec<_> = node.disk.durable().blocks_from(Height::ZERO).collect();
        let place = self.rng.random_range(0..blocks.len().max(1));
        if let Some((height, hash)) = blocks.get(place).filter(|(height, _)| height.get() < size) {
            node.disk.flip(*hash);
            let height = *height;
            self.tell(|| format!("a bit turns in block {height} of node {number}"));
        }
    }

    pub(super) fn heal(&mut self, fault: Fault) -> Result<(), String> {
        match fault {
            Fault::Cut(pairs) => {
                for (from, to) in pairs {
                    self.cut.remove(&(from, to));
                    if self.percent(50) {
                        self.later(10, What::Peer(to, from, true));
                    }
                }
            }
            Fault::Unreachable(node, requests) => {
                self.deaf.remove(&(node, requests));
            }
            Fault::Loss(lost) => self.loss_percent = self.loss_percent.saturating_sub(lost),
        }
        Ok(())
    }
}
