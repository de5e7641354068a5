//! What the network promises, whatever fails.

use crate::disk::Tables;
use block_chain_common::hash::{BlockHash, TxId};
use block_chain_common::quantity::Height;
use std::collections::BTreeMap;

/// What was seen of the promises so far.
#[derive(Default)]
pub struct Promises {
    /// The committed blocks, by height: whoever says so, for ever.
    committed: BTreeMap<Height, BlockHash>,
    /// What each node has said, durably, to be committed and final.
    said: BTreeMap<usize, (u64, u64)>,
    /// Up to where each node's committed blocks were compared.
    compared: BTreeMap<usize, u64>,
}

impl Promises {
    /// The coordinator has committed a block.
    ///
    /// # Errors
    /// Where it has committed another at that height, or less than a majority holds it durably.
    pub fn committed(
        &mut self,
        (size, block): (u64, BlockHash),
        (holders, members): (usize, usize),
    ) -> Result<(), String> {
        if holders < block_chain_common::agreement::majority(members) {
            return Err(format!(
                "block {} is committed, and of {members} members {holders} hold it on disk",
                size.saturating_sub(1)
            ));
        }
        self.same(Height::new(size.saturating_sub(1)), block)
    }

    fn same(&mut self, height: Height, block: BlockHash) -> Result<(), String> {
        match *self.committed.entry(height).or_insert(block) {
            known if known == block => Ok(()),
            known => Err(format!(
                "two blocks are committed at height {height}: {known} and {block}"
            )),
        }
    }

    /// A node's tables after a step.
    ///
    /// # Errors
    /// Where its committed blocks are not those of everybody else.
    pub fn node(&mut self, number: usize, tables: &Tables) -> Result<(), String> {
        let size = tables.committed_size();
        let from = self.compared.entry(number).or_default();
        if *from >= size {
            return Ok(());
        }
        let from = Height::new(std::mem::replace(from, size));
        for (height, block) in tables
            .blocks_from(from)
            .take_while(|(height, _)| height.get() < size)
        {
            self.same(height, block)
                .map_err(|broken| format!("node {number}: {broken}"))?;
        }
        Ok(())
    }

    /// A node's disk is synced: what it says from now on outlives a crash.
    pub fn synced(&mut self, number: usize, tables: &Tables) {
        self.said
            .insert(number, (tables.committed_size(), tables.final_size()));
    }

    /// A node starts again with what its disk has.
    ///
    /// # Errors
    /// Where less is committed or final than it has said.
    pub fn restarted(&mut self, number: usize, tables: &Tables) -> Result<(), String> {
        let (committed, last) = self.said.get(&number).copied().unwrap_or_default();
        if tables.committed_size() < committed || tables.final_size() < last {
            return Err(format!(
                "node {number} has {} committed and {} final blocks after a crash, it had said {committed} and {last}",
                tables.committed_size(),
                tables.final_size()
            ));
        }
        self.compared.insert(number, 0);
        self.node(number, tables)
    }

    /// Blocks that somebody has called committed.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.committed
            .last_key_value()
            .map_or(0, |(height, _)| height.get())
    }

    /// How things stand when the faults have been over for long enough.
    ///
    /// # Errors
    /// Where the nodes differ, something is not final, or an accepted transaction is not on the chain exactly once.
    pub fn at_the_end<'a>(
        &self,
        nodes: impl Iterator<Item = &'a Tables>,
        accepted: &BTreeMap<TxId, u64>,
    ) -> Result<(), String> {
        let nodes: Vec<&Tables> = nodes.collect();
        let Some(first) = nodes.first() else { return Ok(()) };
        for (number, tables) in nodes.iter().enumerate() {
            let (height, head) = tables.head();
            if (height, head) != first.head() {
                return Err(format!(
                    "node {number} is at {height} {head}, node 0 at {:?}",
                    first.head()
                ));
            }
            let size = height.get().saturating_add(1);
            if (tables.committed_size(), tables.final_size()) != (size, size) {
                return Err(format!(
                    "node {number} has {size} blocks, {} are committed and {} final",
                    tables.committed_size(),
                    tables.final_size()
                ));
            }
            for (height, block) in &self.committed {
                if tables.blocks_from(*height).next() != Some((*height, *block)) {
                    return Err(format!("node {number} lacks block {height}, which was committed"));
                }
            }
            let mut found: BTreeMap<TxId, u32> = BTreeMap::new();
            for (_, block) in tables.blocks_from(Height::ZERO) {
                for id in tables.ids(&block) {
                    let times = found.entry(id).or_default();
                    *times = times.saturating_add(1);
                }
            }
            for id in accepted.keys() {
                let times = found.get(id).copied().unwrap_or_default();
                if times != 1 {
                    return Err(format!(
                        "accepted transaction {id} is {times} times on node {number}'s chain"
                    ));
                }
            }
        }
        Ok(())
    }
}
