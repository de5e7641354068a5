//! What fails, for how long, and how it is mended.

use super::{BEGINNING, Fault, What, World};
use block_chain_common::quantity::{Height, Timestamp};
use block_chain_server::error::ServiceError;
use block_chain_worker::machine::Event;
use rand::Rng as _;
use std::collections::BTreeSet;

/// Between the beginnings of races that go on for a while.
const RACE_MS: usize = 600;

impl World {
    pub(super) fn end_faults(&mut self) -> Result<(), String> {
        self.tell(|| "the faults are over".to_owned());
        self.faults_over = true;
        self.cut.clear();
        self.deaf.clear();
        self.loss_percent = 0;
        self.start_coordinators()?;
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
        match self.rng.random_range(0..15_u32) {
            0 | 1 => self.cut_for(long),
            2 | 3 => self.deafen(node, long),
            4 | 5 => self.crash(node, long)?,
            6 => {
                self.tell(|| format!("node {node} is paused for {long} ms"));
                if let Some(node) = self.nodes.get_mut(node) {
                    node.paused_until = self.now.saturating_add(long);
                }
            }
            7 => {
                // One of its processes, or all.
                let one = self
                    .percent(50)
                    .then(|| self.rng.random_range(0..self.coordinators.len()));
                for (number, place) in (0..).zip(&mut self.coordinators) {
                    if one.is_none_or(|one| one == number) {
                        *place = None;
                    }
                }
                self.tell(|| format!("coordinator {one:?} (or all) is down for {long} ms"));
                for number in 0..self.coordinators.len() {
                    self.later(long, What::CoordinatorUp(number));
                }
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
            10 => self.copy_coordinator()?,
            11 => self.restore_coordinator()?,
            12 => self.race()?,
            13 => {
                // Nobody hears what is committed, while blocks are found on all sides.
                self.tell(|| {
                    format!("miners race for {long} ms, and no answer of the coordinator comes through")
                });
                for node in 0..self.nodes.len() {
                    self.deaf.insert((node, false));
                    self.later(long, What::Heal(Fault::Unreachable(node, false)));
                }
                for after in (0..long).step_by(RACE_MS) {
                    self.later(after, What::Race);
                }
            }
            _ => self.flip(node),
        }
        Ok(())
    }

    /// Some do not reach the others, or neither side the other.
    fn cut_for(&mut self, long: u64) {
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

    /// Requests to the coordinator, or its answers, are lost for a node or for all.
    fn deafen(&mut self, node: usize, long: u64) {
        let requests = self.percent(50);
        let all = self.percent(25);
        self.tell(|| {
            let who = if all {
                "all nodes".to_owned()
            } else {
                format!("node {node}")
            };
            let what = if requests { "requests to" } else { "answers of" };
            format!("{what} the coordinator are lost for {who}, {long} ms")
        });
        let from = if all {
            0..self.nodes.len()
        } else {
            node..node.saturating_add(1)
        };
        for node in from {
            self.deaf.insert((node, requests));
            self.later(long, What::Heal(Fault::Unreachable(node, requests)));
        }
    }

    /// Nodes look for a block at the same time.
    pub(super) fn race(&mut self) -> Result<(), String> {
        for number in 0..self.nodes.len() {
            let token = self.next;
            if self.percent(60) && self.woken_at(number).is_none() {
                self.step(number, Event::Mine(token))?;
            }
        }
        Ok(())
    }

    /// Somebody takes a backup of the coordinator's database.
    fn copy_coordinator(&mut self) -> Result<(), String> {
        if !self.stop_coordinators() {
            return Ok(());
        }
        let (database, copy) = self.databases();
        std::fs::copy(database, copy).map_err(|error| error.to_string())?;
        self.copied = true;
        self.tell(|| "the coordinator's database is copied".to_owned());
        self.start_coordinators()
    }

    /// Somebody puts the backup in place of the database. What the lost one alone knew to be committed nobody was told; so it
    /// is not done while less than all know what is committed: only finality outlives the loss of the coordinator.
    fn restore_coordinator(&mut self) -> Result<(), String> {
        let all_know = {
            let mut sizes = self.nodes.iter().map(|node| node.disk.durable().committed_size());
            let last = self.promises.height().saturating_add(1);
            sizes.all(|size| size >= last)
        };
        if !self.copied || !all_know || !self.stop_coordinators() {
            return Ok(());
        }
        let (database, copy) = self.databases();
        for side in ["-wal", "-shm"] {
            let mut path = database.clone().into_os_string();
            path.push(side);
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.to_string()),
                _ => {}
            }
        }
        std::fs::copy(copy, database).map_err(|error| error.to_string())?;
        self.tell(|| "the coordinator is restored from an old copy".to_owned());
        let after = self.rng.random_range(1_000..15_000);
        self.later(after, What::Recover);
        self.start_coordinators()
    }

    fn databases(&self) -> (std::path::PathBuf, std::path::PathBuf) {
        let folder = self.folder.path();
        (folder.join("db"), folder.join("copy"))
    }

    /// Once everybody was heard, and where somebody shows something; else again a little later.
    pub(super) fn recover(&mut self) -> Result<(), String> {
        let now = Timestamp::new(BEGINNING.saturating_add(self.now));
        let outcome = match self.any_coordinator() {
            Some(service) => service.recover("main", false, now),
            None => Err(ServiceError::Busy("it is down".to_owned())),
        };
        match outcome {
            Ok(plan) => {
                self.tell(|| format!("the coordinator is recovered: {:?}", plan.recovery));
                Ok(())
            }
            Err(ServiceError::Contradiction { size }) => {
                Err(format!("two checkpoints of {size} blocks are shown"))
            }
            Err(error) => {
                self.tell(|| format!("no recovery: {error}"));
                self.later(3_000, What::Recover);
                Ok(())
            }
        }
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
