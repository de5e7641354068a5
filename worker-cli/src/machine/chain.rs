//! The block tree above the last committed block, fork choice, and reorganisation.
//!
//! The branch with the most proof wins among those that extend the last committed block; ties go to the lower hash. A
//! branch is switched to only after every block of it was judged on an overlay of the state, and in one atomic batch.

use super::mining::AnnouncedBlock;
use super::overlay::Overlay;
use super::{ChainRead, Effect, Machine, Message, Output, StoredHeader, Write};
use crate::storage::StorageError;
use block_chain_common::agreement::SafetyRule;
use block_chain_common::block::{
    Block, ChainTip, CheckedBlock, CheckedHeader, ConnectError, ConnectedBlock, connect_block,
};
use block_chain_common::chain_spec::ProofSpec;
use block_chain_common::codec::BoundedVec;
use block_chain_common::hash::BlockHash;
use block_chain_common::header::Header;
use block_chain_common::history::Frontier;
use block_chain_common::keys::PublicKey;
use block_chain_common::limits::{MAX_FUTURE_MS, MEDIAN_TIME_BLOCKS};
use block_chain_common::quantity::{Height, Timestamp};
use block_chain_common::stake::allowed_ahead_ms;
use block_chain_common::state::ApplyError;
use block_chain_common::transaction::CheckedTransaction;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Headers beside and ahead of the chain that are kept in memory, at about a kilobyte each.
pub(super) const MAX_TREE: usize = 6_000;
/// Blocks known to be invalid that are remembered, so that they are not fetched again.
const MAX_INVALID: usize = 10_000;

#[derive(Debug)]
pub(super) enum Body {
    Missing,
    Ready(Box<CheckedBlock>),
    Stored,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) header: CheckedHeader,
    pub(super) tip: ChainTip,
    pub(super) body: Body,
    /// Who gave it; held responsible if it proves invalid.
    pub(super) source: Option<PublicKey>,
}

/// The branch to follow next: where it leaves the chain, and its blocks in order.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) fork: BlockHash,
    pub(super) blocks: VecDeque<BlockHash>,
}

/// Blocks that are not on the chain.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) nodes: BTreeMap<BlockHash, Node>,
    invalid: BTreeSet<BlockHash>,
    pub(super) plan: Plan,
    stale_plan: bool,
}

impl Tree {
    pub(super) fn is_full(&self) -> bool {
        self.nodes.len() >= MAX_TREE
    }

    pub(super) fn is_invalid(&self, hash: &BlockHash) -> bool {
        self.invalid.contains(hash)
    }

    pub(super) const fn replan(&mut self) {
        self.stale_plan = true;
    }

    pub(super) fn insert(&mut self, node: Node) {
        self.nodes.insert(node.header.hash(), node);
        self.replan();
    }

    /// Marks a block and all that follow it as invalid.
    fn reject(&mut self, hash: BlockHash) {
        let mut rejected = BTreeSet::from([hash]);
        loop {
            let follows = |node: &Node| rejected.contains(&node.header.header().previous);
            let more: Vec<BlockHash> = self
                .nodes
                .iter()
                .filter(|(_, n)| follows(n))
                .map(|(h, _)| *h)
                .collect();
            let before = rejected.len();
            rejected.extend(more);
            if rejected.len() == before {
                break;
            }
        }
        for hash in rejected {
            self.nodes.remove(&hash);
            if self.invalid.len() < MAX_INVALID {
                self.invalid.insert(hash);
            }
        }
        self.replan();
    }

    /// Forgets what lies at or below a committed height, and what does not lead to a block of the chain above it: a branch
    /// that left the chain earlier can never be followed again, however much work it has.
    pub(super) fn prune<R: ChainRead>(&mut self, read: &R, committed: Height) -> Result<(), StorageError> {
        let mut by_height: Vec<(Height, BlockHash, BlockHash)> = self
            .nodes
            .iter()
            .map(|(hash, node)| (node.tip.height, *hash, node.header.header().previous))
            .collect();
        by_height.sort_unstable();
        for (height, hash, previous) in by_height {
            let leads = height > committed
                && (self.nodes.contains_key(&previous) || read.hash_at(height.previous())? == Some(previous));
            if !leads {
                self.nodes.remove(&hash);
            }
        }
        self.replan();
        Ok(())
    }

    /// The branch from the chain to `leaf`.
    fn branch(&self, leaf: BlockHash) -> Plan {
        let mut blocks = VecDeque::new();
        let mut hash = leaf;
        while let Some(node) = self.nodes.get(&hash) {
            blocks.push_front(hash);
            hash = node.header.header().previous;
        }
        Plan { fork: hash, blocks }
    }
}

/// The chain's tip as of one of its blocks; `None` where the chain has no such block.
///
/// # Errors
/// Where the store cannot be read.
pub fn tip_at<R: ChainRead>(read: &R, hash: &BlockHash) -> Result<Option<ChainTip>, StorageError> {
    let Some(stored) = read.header(hash)? else {
        return Ok(None);
    };
    let height = stored.header.height;
    if read.hash_at(height)? != Some(*hash) {
        return Ok(None);
    }
    let first = height
        .get()
        .saturating_sub(u64::try_from(MEDIAN_TIME_BLOCKS).unwrap_or(0).saturating_sub(1));
    let mut times = Vec::with_capacity(MEDIAN_TIME_BLOCKS);
    for earlier in first..=height.get() {
        times.push(header_at(read, Height::new(earlier))?.timestamp);
    }
    let anchor = if height == Height::ZERO {
        None
    } else {
        Some(header_at(read, Height::new(1))?.timestamp)
    };
    let frontier = load_frontier(read, height.get().saturating_add(1))?;
    Ok(Some(ChainTip {
        hash: *hash,
        height,
        times,
        anchor,
        frontier,
        work: stored.work,
    }))
}

/// The history tree's frontier over the first `size` headers of the chain.
///
/// # Errors
/// Where a node is missing or cannot be read.
pub fn load_frontier<R: ChainRead>(read: &R, size: u64) -> Result<Frontier, StorageError> {
    Ok(Frontier::load(size, read)?)
}

fn header_at<R: ChainRead>(read: &R, height: Height) -> Result<Header, StorageError> {
    let missing = || StorageError::damaged(format!("block {height} of the chain is missing"));
    let hash = read.hash_at(height)?.ok_or_else(missing)?;
    Ok(read.header(&hash)?.ok_or_else(missing)?.header)
}

impl Machine {
    /// Whether a block is on the chain or beside it.
    pub(super) fn knows<R: ChainRead>(&self, read: &R, hash: &BlockHash) -> Result<bool, StorageError> {
        if *hash == self.tip.hash || self.tree.nodes.contains_key(hash) {
            return Ok(true);
        }
        match read.header(hash)? {
            Some(stored) => Ok(read.hash_at(stored.header.height)? == Some(*hash)),
            None => Ok(false),
        }
    }

    fn tip_of<R: ChainRead>(&self, read: &R, hash: &BlockHash) -> Result<Option<ChainTip>, StorageError> {
        if *hash == self.tip.hash {
            return Ok(Some(self.tip.clone()));
        }
        match self.tree.nodes.get(hash) {
            Some(node) => Ok(Some(node.tip.clone())),
            None => tip_at(read, hash),
        }
    }

    /// Takes a header into the tree. `Ok(false)`: its parent is not known, or it cannot be judged now.
    pub(super) fn add_header<R: ChainRead>(
        &mut self,
        read: &R,
        now: Timestamp,
        header: &CheckedHeader,
        source: Option<PublicKey>,
    ) -> Result<Result<bool, String>, StorageError> {
        if self.tree.is_invalid(&header.hash()) {
            return Ok(Err(format!("block {} is known to be invalid", header.hash())));
        }
        if self.knows(read, &header.hash())? {
            return Ok(Ok(true));
        }
        let ahead = header.header().timestamp.get().saturating_sub(now.get());
        let is_below = header.header().height.get() < self.agreement.committed_size();
        if self.is_one_too_many(header.header())
            || (is_below && self.agreement.keeps(SafetyRule::Lock))
            || ahead > self.allowed_ahead_ms()
            || self.tree.is_full()
        {
            return Ok(Ok(false));
        }
        let Some(parent) = self.tip_of(read, &header.header().previous)? else {
            return Ok(Ok(false));
        };
        match parent.extend(header, &self.spec) {
            Ok((tip, _)) => {
                self.tree.insert(Node {
                    header: header.clone(),
                    tip,
                    body: Body::Missing,
                    source,
                });
                Ok(Ok(true))
            }
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    /// How far ahead of this machine's clock a block's time may be (BLK-15).
    fn allowed_ahead_ms(&self) -> u64 {
        let spec = self.spec.spec();
        match spec.proof {
            ProofSpec::Stake => allowed_ahead_ms(spec.block_interval_ms),
            ProofSpec::Work { .. } | ProofSpec::Authority => MAX_FUTURE_MS,
        }
    }

    /// Puts a block's transactions to its header.
    pub(super) fn add_body(&mut self, block: CheckedBlock, source: Option<PublicKey>, out: &mut Output) {
        let extends_head = self.tree.plan.fork == self.tip.hash || block.header().previous == self.tip.hash;
        let Some(node) = self.tree.nodes.get_mut(&block.hash()) else {
            return;
        };
        if !matches!(node.body, Body::Missing) {
            return;
        }
        node.source = source.or(node.source);
        if extends_head {
            node.body = Body::Ready(Box::new(block));
        } else {
            // A branch may be longer than memory should hold: its bodies wait on disk.
            let header = StoredHeader {
                header: block.header().clone(),
                work: node.tip.work,
            };
            let transactions = block.transactions().to_vec();
            out.writes.push(Write::Candidate {
                header,
                hash: block.hash(),
                transactions,
            });
            node.body = Body::Stored;
        }
    }

    /// Connects the next block of the best branch, or switches to it; whether anything changed.
    pub(super) fn advance_chain<R: ChainRead>(
        &mut self,
        read: &R,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<bool, StorageError> {
        // Candidates written in this step are not visible yet.
        if !out.writes.is_empty() && out.writes.iter().any(|w| matches!(w, Write::Candidate { .. })) {
            return Ok(true);
        }
        self.choose_branch();
        let Some(first) = self.tree.plan.blocks.front().copied() else {
            return Ok(false);
        };
        if self.tree.plan.fork == self.tip.hash {
            self.connect_next(read, now, first, out)
        } else {
            self.switch(read, now, out)
        }
    }

    /// The best branch among those that extend the last committed block, and the block that is being committed.
    fn choose_branch(&mut self) {
        if !self.tree.stale_plan {
            return;
        }
        self.tree.stale_plan = false;
        let required = self
            .agreement
            .required_block()
            .filter(|hash| self.tree.nodes.contains_key(hash));
        let better = |node: &Node| {
            required.is_some()
                || node.tip.work > self.tip.work
                || (node.tip.work == self.tip.work && node.tip.hash < self.tip.hash)
        };
        let mut leaves: Vec<&Node> = self.tree.nodes.values().filter(|node| better(node)).collect();
        leaves.sort_unstable_by(|a, b| b.tip.work.cmp(&a.tip.work).then(a.tip.hash.cmp(&b.tip.hash)));
        let fits = |plan: &Plan| required.is_none_or(|hash| plan.blocks.contains(&hash));
        let chosen = match required {
            None => leaves.first().map(|node| self.tree.branch(node.tip.hash)),
            Some(_) => leaves
                .iter()
                .map(|node| self.tree.branch(node.tip.hash))
                .find(fits),
        };
        self.tree.plan = chosen.unwrap_or_default();
    }

    fn connect_next<R: ChainRead>(
        &mut self,
        read: &R,
        now: Timestamp,
        hash: BlockHash,
        out: &mut Output,
    ) -> Result<bool, StorageError> {
        let Some(block) = self.take_body(read, &hash)? else {
            return Ok(false);
        };
        // Cheap: its transactions are shared.
        let kept = block.clone();
        match connect_block(block, &self.tip, &self.spec, (read, &self.state_hash), now) {
            Ok(connected) => {
                self.tree.nodes.remove(&hash);
                self.tree.plan.blocks.pop_front();
                self.tree.plan.fork = hash;
                self.mempool
                    .on_included(connected.block().transactions(), &mut out.writes);
                self.follow(&connected, out);
                out.writes.push(Write::Connect(Box::new(connected)));
                Ok(true)
            }
            Err(error) => {
                if let Some(node) = self.tree.nodes.get_mut(&hash) {
                    node.body = Body::Ready(Box::new(kept));
                }
                self.refuse(hash, error, out)
            }
        }
    }

    /// The block's body, checked; `None` where it is not here.
    fn take_body<R: ChainRead>(
        &mut self,
        read: &R,
        hash: &BlockHash,
    ) -> Result<Option<CheckedBlock>, StorageError> {
        let Some(node) = self.tree.nodes.get_mut(hash) else {
            return Ok(None);
        };
        match std::mem::replace(&mut node.body, Body::Missing) {
            Body::Ready(block) => Ok(Some(*block)),
            Body::Missing => Ok(None),
            Body::Stored => {
                node.body = Body::Stored;
                let header = node.header.header().clone();
                let Some(transactions) = read.transactions(hash)? else {
                    node.body = Body::Missing;
                    return Ok(None);
                };
                let transactions = BoundedVec::new(transactions).unwrap_or_default();
                let checked = CheckedBlock::check(Block { header, transactions }, self.spec.id());
                checked
                    .map(Some)
                    .map_err(|error| StorageError::damaged(format!("candidate {hash}: {error}")))
            }
        }
    }

    /// What a failed connection means: wait, stop, or reject the block and whoever gave it.
    fn refuse(
        &mut self,
        hash: BlockHash,
        error: ConnectError<StorageError>,
        out: &mut Output,
    ) -> Result<bool, StorageError> {
        match error {
            ConnectError::NotYet { .. } => Ok(false),
            ConnectError::Transaction {
                error: ApplyError::Read(error),
                ..
            }
            | ConnectError::Producer(ApplyError::Read(error))
            | ConnectError::Read(error) => Err(error),
            broken => {
                let source = self.tree.nodes.get(&hash).and_then(|node| node.source);
                if let Some(peer) = source {
                    out.effects
                        .push(Effect::Drop(peer, format!("block {hash}: {broken}")));
                }
                self.mining_failed(hash, &broken.to_string(), out);
                self.tree.reject(hash);
                Ok(true)
            }
        }
    }

    /// Switches to the planned branch once all its bodies are here and valid.
    fn switch<R: ChainRead>(
        &mut self,
        read: &R,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<bool, StorageError> {
        let missing = |hash: &BlockHash| {
            self.tree
                .nodes
                .get(hash)
                .is_none_or(|n| matches!(n.body, Body::Missing))
        };
        if self.tree.plan.blocks.iter().any(missing) {
            return Ok(false);
        }
        let Some(mut tip) = tip_at(read, &self.tree.plan.fork)? else {
            self.tree.replan();
            return Ok(false);
        };
        let mut overlay = Overlay::new(read);
        let (undone, mut state_hash) = self.undo_to(read, tip.height, &mut overlay)?;
        let mut connected = Vec::new();
        for hash in self.tree.plan.blocks.clone() {
            let Some(block) = self.take_body(read, &hash)? else {
                return Ok(false);
            };
            if let Some(node) = self.tree.nodes.get_mut(&hash) {
                node.body = Body::Ready(Box::new(block.clone()));
            }
            match connect_block(block, &tip, &self.spec, (&overlay, &state_hash), now) {
                Ok(next) => {
                    overlay.redo(next.delta());
                    state_hash = next.delta().hash_after().clone();
                    tip = next.tip().clone();
                    connected.push(next);
                }
                Err(error) => return self.refuse(hash, error, out),
            }
        }
        self.replace_branch(undone, connected, out);
        Ok(true)
    }

    /// The blocks above a height, newest first, undone on the overlay; and the state's hash then.
    fn undo_to<R: ChainRead>(
        &self,
        read: &R,
        fork: Height,
        overlay: &mut Overlay<'_, R>,
    ) -> Result<(Vec<Undone>, block_chain_common::state::LatticeHash), StorageError> {
        let mut state_hash = self.state_hash.clone();
        let mut undone = Vec::new();
        let mut hash = self.tip.hash;
        let mut height = self.tip.height;
        while height > fork {
            let lost = |what: &str| StorageError::damaged(format!("{what} of block {height} is missing"));
            let undo = read.undo(&hash)?.ok_or_else(|| lost("undo data"))?;
            let header = read.header(&hash)?.ok_or_else(|| lost("header"))?;
            let transactions = read.transactions(&hash)?.ok_or_else(|| lost("body"))?;
            let tip = tip_at(read, &hash)?.ok_or_else(|| lost("place"))?;
            state_hash = undo.hash_before().clone();
            overlay.undo(&undo);
            let previous = header.header.previous;
            let write = Write::Disconnect { hash, undo };
            undone.push(Undone {
                header: header.header,
                tip,
                transactions,
                write,
            });
            hash = previous;
            height = height.previous();
        }
        Ok((undone, state_hash))
    }

    fn replace_branch(&mut self, undone: Vec<Undone>, connected: Vec<ConnectedBlock>, out: &mut Output) {
        let chain = self.spec.id();
        let mut orphaned = Vec::new();
        for block in undone {
            out.writes.push(block.write);
            orphaned.splice(0..0, block.transactions);
            if let Ok(header) = CheckedHeader::check(block.header, chain) {
                self.tree.insert(Node {
                    header,
                    tip: block.tip,
                    body: Body::Stored,
                    source: None,
                });
            }
        }
        let included: BTreeSet<_> = connected
            .iter()
            .flat_map(|c| c.block().transactions())
            .map(|tx| tx.id())
            .collect();
        for transaction in orphaned {
            // It was verified before it came into the block that is undone.
            if let Ok(checked) = CheckedTransaction::assume_signature_valid(transaction, chain)
                && !included.contains(&checked.id())
            {
                self.mempool.on_orphaned(checked, &mut out.writes);
            }
        }
        for block in connected {
            self.tree.nodes.remove(&block.block().hash());
            self.mempool
                .on_included(block.block().transactions(), &mut out.writes);
            self.follow(&block, out);
            out.writes.push(Write::Connect(Box::new(block)));
        }
        self.tree.plan = Plan::default();
        self.tree.replan();
    }

    /// The head is now this block.
    fn follow(&mut self, connected: &ConnectedBlock, out: &mut Output) {
        self.tip = connected.tip().clone();
        self.state_hash = connected.delta().hash_after().clone();
        out.effects.push(Effect::Head(self.tip.height, self.tip.hash));
        if let Some(AnnouncedBlock { waiters, mined }) = self.mining.announce(&self.tip.hash) {
            let ids = connected
                .block()
                .transactions()
                .iter()
                .map(CheckedTransaction::id)
                .collect();
            let ids = BoundedVec::new(ids).unwrap_or_default();
            out.effects.push(Effect::Broadcast(Message::Compact {
                header: connected.block().header().clone(),
                ids,
            }));
            out.effects.push(Effect::Mined(waiters, Ok(mined)));
        }
    }
}

struct Undone {
    header: Header,
    tip: ChainTip,
    transactions: Vec<block_chain_common::transaction::Transaction>,
    write: Write,
}
