//! Putting right what a check found: blocks from this store or from peers, indexes from the blocks, the state from both.
//!
//! What is put back was judged by the same rules as a new block. Not put right: the first block (the node does not start
//! without it), checkpoints, and what waits; where the database itself cannot read its files the store is made anew.

use super::local::{Check, Judged};
use crate::machine::ChainRead as _;
use block_chain_common::block::ChainTip;
use block_chain_common::hash::BlockHash;
use block_chain_common::quantity::Height;
use tokio::runtime::Handle;

/// Entries of the state that are put right in one batch.
const ENTRIES_TOGETHER: usize = 100_000;
/// How often the state is compared again where blocks come meanwhile.
const STATE_ROUNDS: usize = 100;

/// Repairs, from a thread that may block.
#[derive(Clone)]
pub(super) struct Restore {
    runtime: Handle,
}

impl Restore {
    pub(super) const fn new(runtime: Handle) -> Self {
        Self { runtime }
    }

    /// The sound block at a height, and whether it was put back. `sound` is it where only what leads to it is damaged.
    pub(super) fn block(
        &self,
        check: &Check<'_>,
        height: Height,
        tip: &ChainTip,
        sound: Option<Judged>,
    ) -> (Option<Judged>, Result<(), String>) {
        let seen = check.store.hash_at(height).ok().flatten();
        let Some(judged) = sound.or_else(|| self.find(check, height, tip, seen)) else {
            return (None, Err("neither this store nor a peer has it".to_owned()));
        };
        let leads = (&judged.tip, &judged.nodes);
        let done = check.node.store().restore_block(&judged.block, leads, seen);
        (Some(judged), done.map_err(|error| error.to_string()))
    }

    /// The block by each hash that may be its: the chain's at its height, the next one's parent, the head, the peers'.
    fn find(
        &self,
        check: &Check<'_>,
        height: Height,
        tip: &ChainTip,
        seen: Option<BlockHash>,
    ) -> Option<Judged> {
        let next = check.store.header_at(height.next()).ok().flatten();
        let (head, head_hash) = check.store.head();
        let named = [
            next.map(|(_, header)| header.previous),
            (head == height).then_some(head_hash),
            seen,
        ];
        let mut hashes: Vec<BlockHash> = named.into_iter().flatten().collect();
        hashes.dedup();
        hashes
            .iter()
            .find_map(|hash| self.by_hash(check, *hash, tip))
            .or_else(|| {
                let others = self.peers_hashes(check, height);
                let new = others.into_iter().filter(|hash| !hashes.contains(hash));
                new.into_iter().find_map(|hash| self.by_hash(check, hash, tip))
            })
    }

    fn by_hash(&self, check: &Check<'_>, hash: BlockHash, tip: &ChainTip) -> Option<Judged> {
        if let Ok(judged) = check.judge_stored(hash, tip) {
            return Some(judged);
        }
        let block = self.runtime.block_on(check.node.fetch_block(hash));
        let block = block
            .map_err(|error| tracing::warn!(%error, "a damaged block is not to be had"))
            .ok()?;
        // The hash binds the header, and the header's root the body: a wrong answer does not pass.
        if block.header.hash() != hash {
            return None;
        }
        check.judge_block(block, tip).ok()
    }

    fn peers_hashes(&self, check: &Check<'_>, height: Height) -> Vec<BlockHash> {
        let mut hashes = Vec::new();
        for peer in check.node.connected() {
            let answered = self
                .runtime
                .block_on(check.node.peer_hashes(peer, vec![height]))
                .unwrap_or_default();
            let found = answered
                .into_iter()
                .filter(|(at, _)| *at == height)
                .filter_map(|(_, hash)| hash);
            for hash in found {
                if !hashes.contains(&hash) {
                    hashes.push(hash);
                }
            }
        }
        hashes
    }

    /// Makes the stored state the one that the blocks give, whatever blocks come meanwhile.
    pub(super) fn state(&self, check: &mut Check<'_>, mut tip: ChainTip) -> Result<(), String> {
        for _ in 0..STATE_ROUNDS {
            check.store = check.node.store().snapshot();
            let (head, head_hash) = check.store.head();
            for height in (tip.height.get().saturating_add(1)..=head.get()).map(Height::new) {
                let judged = check.judge(height, &tip)?;
                check.execute(&judged.block, &tip)?;
                tip = judged.tip;
            }
            if tip.hash != head_hash {
                return Err("the chain has changed during the repair; run it again".to_owned());
            }
            let Some(replay) = &check.replay else {
                return Err("the state could not be computed again".to_owned());
            };
            let text = |error: crate::storage::StorageError| error.to_string();
            let differences = check
                .store
                .state_differences(&replay.state, ENTRIES_TOGETHER)
                .map_err(text)?;
            let hash_is_right = check.store.state_hash().as_ref() == Ok(&replay.hash);
            if differences.is_empty() && hash_is_right {
                return Ok(());
            }
            let written = check
                .node
                .store()
                .repair_state(head_hash, &differences, &replay.hash);
            if let Err(error) = written {
                tracing::info!(%error, "the state is compared again");
            }
        }
        Err("blocks came too fast to put the state right; run it again".to_owned())
    }
}
