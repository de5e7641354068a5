//! Catching up: headers first, from one peer at a time; bodies from several at once; and the periodic pull that makes up
//! for every announcement that was lost.

use super::chain::Body;
use super::{ChainRead, Effect, Machine, Message, Output};
use crate::storage::StorageError;
use block_chain_common::block::{CheckedBlock, CheckedHeader};
use block_chain_common::codec::BoundedVec;
use block_chain_common::hash::BlockHash;
use block_chain_common::keys::PublicKey;
use block_chain_common::limits::{MAX_BLOCK_BYTES, MAX_PEERS_ASKED};
use block_chain_common::peer_message::{MAX_BLOCKS_ASKED, MAX_LOCATOR, Status};
use block_chain_common::quantity::{Height, Timestamp};
use std::collections::BTreeMap;

/// How long a peer has to answer before another is asked.
const ANSWER_MS: u64 = 5_000;
/// How often a peer is told what this node has.
const PULL_MS: u64 = 2_000;
/// How long to leave a peer alone whose headers led to nothing new.
const USELESS_MS: u64 = 2_000;
/// Headers ahead of the chain that are asked for; more when these are connected.
const HEADERS_AHEAD: usize = 2_000;
/// Bytes of bodies that may be on their way or wait to be connected.
const BODY_BYTES: usize = 12 * 1_048_576;
/// Blocks asked of one peer at a time.
const BLOCKS_PER_PEER: usize = 16;
/// Bodies on their way or waiting, however small.
const MAX_WINDOW: usize = 128;

#[derive(Debug, Default)]
struct Peer {
    status: Option<Status>,
    headers_asked: Option<Timestamp>,
    useless_until: Timestamp,
    blocks: BTreeMap<BlockHash, Timestamp>,
    mempool_asked: Timestamp,
}

/// What peers have, and what they were asked.
#[derive(Debug, Default)]
pub(super) struct Sync {
    peers: BTreeMap<PublicKey, Peer>,
    last_pull: Timestamp,
    /// A running mean of the encoded sizes of blocks.
    mean_block_bytes: usize,
    turn: usize,
}

impl Sync {
    pub(super) fn on_peer_down(&mut self, peer: &PublicKey) {
        self.peers.remove(peer);
    }

    pub(super) fn on_not_found(&mut self, peer: &PublicKey, hashes: &[BlockHash]) {
        if let Some(peer) = self.peers.get_mut(peer) {
            for hash in hashes {
                peer.blocks.remove(hash);
            }
        }
    }

    /// The height that peers have, where it is above ours.
    pub(super) fn target(&self, height: Height) -> Option<Height> {
        let best = self
            .peers
            .values()
            .filter_map(|peer| peer.status)
            .map(|status| status.height)
            .max()?;
        (best > height.next()).then_some(best)
    }

    fn is_asked(&self, hash: &BlockHash) -> bool {
        self.peers.values().any(|peer| peer.blocks.contains_key(hash))
    }

    fn window(&self) -> usize {
        let mean = self.mean_block_bytes.clamp(4_096, MAX_BLOCK_BYTES);
        BODY_BYTES.checked_div(mean).unwrap_or(2).clamp(2, MAX_WINDOW)
    }

    fn expire(&mut self, now: Timestamp) {
        for peer in self.peers.values_mut() {
            peer.blocks.retain(|_, deadline| *deadline > now);
            if peer.headers_asked.is_some_and(|deadline| deadline <= now) {
                peer.headers_asked = None;
                peer.useless_until = later(now, USELESS_MS);
            }
        }
    }
}

impl Machine {
    fn status(&self) -> Status {
        Status {
            height: self.tip.height,
            head: self.tip.hash,
            committed_size: self.agreement.committed_size(),
            final_size: self.agreement.final_size(),
            mempool_mark: self.mempool.mark(),
        }
    }

    pub(super) fn on_peer_up(&mut self, peer: PublicKey, out: &mut Output) {
        self.sync.peers.insert(peer, Peer::default());
        out.effects
            .push(Effect::Send(peer, Message::Status(self.status())));
        out.effects.push(Effect::Send(peer, Message::GetMempool));
        self.send_checkpoint(peer, out);
        self.send_evidence(peer, out);
    }

    pub(super) fn on_status(&mut self, now: Timestamp, from: PublicKey, status: Status, out: &mut Output) {
        let ours = self.mempool.mark();
        let Some(peer) = self.sync.peers.get_mut(&from) else {
            return;
        };
        peer.status = Some(status);
        // Zero stands for an empty mempool: there is nothing to fetch.
        if status.mempool_mark != ours && status.mempool_mark != 0 && peer.mempool_asked <= now {
            peer.mempool_asked = later(now, PULL_MS);
            out.effects.push(Effect::Send(from, Message::GetMempool));
        }
        if status.committed_size < self.agreement.committed_size()
            || status.final_size < self.agreement.final_size()
        {
            self.send_checkpoint(from, out);
        }
    }

    pub(super) fn on_headers<R: ChainRead>(
        &mut self,
        read: &R,
        now: Timestamp,
        from: PublicKey,
        headers: &[CheckedHeader],
        out: &mut Output,
    ) -> Result<(), StorageError> {
        let before = self.tree.nodes.len();
        for header in headers {
            match self.add_header(read, self.wall(now), header, Some(from))? {
                Ok(true) => {}
                Ok(false) => break,
                Err(reason) => {
                    out.effects
                        .push(Effect::Drop(from, format!("header {}: {reason}", header.hash())));
                    break;
                }
            }
        }
        let useful = self.tree.nodes.len() > before;
        if let Some(peer) = self.sync.peers.get_mut(&from) {
            let asked = peer.headers_asked.take().is_some();
            if asked && !useful {
                peer.useless_until = later(now, USELESS_MS);
            }
            if let Some(last) = headers.last()
                && peer
                    .status
                    .is_none_or(|status| status.height < last.header().height)
            {
                let mut status = peer.status.unwrap_or_else(|| unknown_status(last));
                status.height = last.header().height;
                status.head = last.hash();
                peer.status = Some(status);
            }
        }
        Ok(())
    }

    pub(super) fn on_block<R: ChainRead>(
        &mut self,
        read: &R,
        from: PublicKey,
        block: CheckedBlock,
        out: &mut Output,
    ) -> Result<(), StorageError> {
        if let Some(peer) = self.sync.peers.get_mut(&from) {
            peer.blocks.remove(&block.hash());
        }
        if !self.tree.nodes.contains_key(&block.hash()) {
            // A compact announcement, put together from the mempool: its header was not asked for first.
            let far = Timestamp::new(u64::MAX);
            if let Err(reason) = self.add_header(read, far, block.checked_header(), Some(from))? {
                out.effects
                    .push(Effect::Drop(from, format!("block {}: {reason}", block.hash())));
                return Ok(());
            }
        }
        let bytes: usize = block.transactions().iter().map(|tx| tx.bytes().len()).sum();
        self.sync.mean_block_bytes = self.sync.mean_block_bytes.saturating_mul(7).saturating_add(bytes) >> 3;
        self.add_body(block, Some(from), out);
        Ok(())
    }

    pub(super) fn on_tick(&mut self, now: Timestamp, out: &mut Output) {
        self.sync.expire(now);
        if now >= later(self.sync.last_pull, PULL_MS) {
            self.sync.last_pull = now;
            // Bodies are told to all, so that each can ask for what it lacks: a small message.
            out.effects
                .push(Effect::Broadcast(Message::Status(self.status())));
        }
        self.agreement_tick(now, out);
    }

    /// Asks for headers and bodies that are missing.
    pub(super) fn fetch<R: ChainRead>(
        &mut self,
        read: &R,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), StorageError> {
        if self.tree.nodes.len() < HEADERS_AHEAD {
            self.ask_for_headers(read, now, out)?;
        }
        let (mut waiting, mut wanted) = (0, Vec::new());
        let window = self.sync.window();
        for hash in &self.tree.plan.blocks {
            let Some(node) = self.tree.nodes.get(hash) else {
                break;
            };
            match node.body {
                // Stored ones take no memory.
                Body::Stored => continue,
                Body::Missing if !self.sync.is_asked(hash) => wanted.push((*hash, node.tip.height)),
                Body::Missing | Body::Ready(_) => {}
            }
            waiting += 1;
            if waiting >= window {
                break;
            }
        }
        self.ask_for_blocks(now, &wanted, out);
        Ok(())
    }

    fn ask_for_headers<R: ChainRead>(
        &mut self,
        read: &R,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), StorageError> {
        if self.sync.peers.values().any(|peer| peer.headers_asked.is_some()) {
            return Ok(());
        }
        let mut candidates = Vec::new();
        for (key, peer) in &self.sync.peers {
            let Some(status) = peer.status else { continue };
            // A branch that leaves the chain below the committed block is of no use.
            let useful = status.height.get() >= self.agreement.committed_size();
            if useful
                && peer.useless_until <= now
                && !self.tree.is_invalid(&status.head)
                && !self.knows(read, &status.head)?
            {
                candidates.push((status.height, *key));
            }
        }
        let Some((_, key)) = candidates.into_iter().max() else {
            return Ok(());
        };
        let locator = self.locator(read)?;
        if let Some(peer) = self.sync.peers.get_mut(&key) {
            peer.headers_asked = Some(later(now, ANSWER_MS));
        }
        out.effects.push(Effect::Send(
            key,
            Message::GetHeaders(BoundedVec::new(locator).unwrap_or_default()),
        ));
        Ok(())
    }

    /// The end of the planned branch, then the chain's hashes ever further apart, down to genesis.
    fn locator<R: ChainRead>(&self, read: &R) -> Result<Vec<BlockHash>, StorageError> {
        let mut locator: Vec<BlockHash> = self.tree.plan.blocks.back().copied().into_iter().collect();
        let mut height = self.tip.height;
        let mut step = 1_u64;
        while locator.len() < MAX_LOCATOR - 1 {
            locator.extend(read.hash_at(height)?);
            if height == Height::ZERO {
                break;
            }
            if locator.len() > 8 {
                step = step.saturating_mul(2);
            }
            height = Height::new(height.get().saturating_sub(step));
        }
        Ok(locator)
    }

    fn ask_for_blocks(&mut self, now: Timestamp, wanted: &[(BlockHash, Height)], out: &mut Output) {
        let mut asked: BTreeMap<PublicKey, Vec<BlockHash>> = BTreeMap::new();
        for (hash, height) in wanted {
            self.sync.turn = self.sync.turn.wrapping_add(1);
            let able: Vec<PublicKey> = self
                .sync
                .peers
                .iter()
                .filter(|(_, peer)| peer.status.is_some_and(|status| status.height >= *height))
                .filter(|(_, peer)| peer.blocks.len() < BLOCKS_PER_PEER)
                .map(|(key, _)| *key)
                .take(MAX_PEERS_ASKED)
                .collect();
            let Some(place) = self.sync.turn.checked_rem(able.len()) else {
                break;
            };
            let Some(key) = able.get(place) else { break };
            if let Some(peer) = self.sync.peers.get_mut(key) {
                peer.blocks.insert(*hash, later(now, ANSWER_MS * 2));
            }
            asked.entry(*key).or_default().push(*hash);
        }
        for (key, hashes) in asked {
            for part in hashes.chunks(MAX_BLOCKS_ASKED) {
                let hashes = BoundedVec::new(part.to_vec()).unwrap_or_default();
                out.effects.push(Effect::Send(key, Message::GetBlocks(hashes)));
            }
        }
    }
}

fn unknown_status(last: &CheckedHeader) -> Status {
    Status {
        height: last.header().height,
        head: last.hash(),
        committed_size: 0,
        final_size: 0,
        mempool_mark: 0,
    }
}

/// A time `ms` later.
pub(super) const fn later(time: Timestamp, ms: u64) -> Timestamp {
    Timestamp::new(time.get().saturating_add(ms))
}
