//! This replica alone: headers, links, proofs, Merkle and history roots, signatures, indexes, state, checkpoints, mempool.
//!
//! A block whose header and body are sound is executed again; where one is not, and is not put right, the blocks after it
//! are still checked as far as their headers lead, and the state by its digest alone.

use super::CheckState;
use super::restore::Restore;
use crate::api::types::{LocalCheck, LocalFault};
use crate::machine::{ChainRead as _, Place};
use crate::node::NodeHandle;
use crate::storage::{ScratchState, StorageError, Store, concerned, is_value_of, superseded};
use block_chain_common::block::{
    Block, ChainTip, CheckedBlock, CheckedHeader, CompletedNodes, connect_block,
};
use block_chain_common::checkpoint::Checkpoint;
use block_chain_common::codec::BoundedVec;
use block_chain_common::hash::{BlockHash, Digest};
use block_chain_common::history::HistoryNodes as _;
use block_chain_common::quantity::{Height, Timestamp};
use block_chain_common::state::{LatticeHash, StateValue};
use block_chain_common::transaction::{CheckedTransaction, RecordKey, Transaction, check_transactions};
use std::borrow::Cow;

/// Faults that are told; where there are more the store is lost anyway.
pub(super) const MAX_FAULTS: usize = 100;
/// Signatures of transactions that wait, verified at a time.
const BATCH: usize = 1_000;

/// The state as the blocks so far give it.
pub(super) struct Replay {
    pub(super) state: ScratchState,
    pub(super) hash: LatticeHash,
}

pub(super) struct Check<'a> {
    pub(super) node: &'a NodeHandle,
    pub(super) store: Store,
    pub(super) report: LocalCheck,
    pub(super) replay: Option<Replay>,
    progress: &'a CheckState,
    restore: Option<Restore>,
}

/// A block that is sound in itself and follows the one before it.
pub(super) struct Judged {
    pub(super) block: CheckedBlock,
    pub(super) tip: ChainTip,
    pub(super) nodes: CompletedNodes,
}

pub(super) fn check(
    node: &NodeHandle,
    progress: &CheckState,
    repair: Option<tokio::runtime::Handle>,
) -> Result<LocalCheck, String> {
    let mut check = Check {
        node,
        store: node.store().snapshot(),
        report: LocalCheck {
            blocks_checked: 0,
            transactions_checked: 0,
            errors: Vec::new(),
            repaired: Vec::new(),
        },
        replay: None,
        progress,
        restore: repair.map(Restore::new),
    };
    check.begin_replay();
    check.committed();
    check.blocks()?;
    check.mempool();
    Ok(check.report)
}

impl Check<'_> {
    pub(super) fn fault(&mut self, height: Option<Height>, message: impl Into<String>) {
        if self.report.errors.len() < MAX_FAULTS {
            self.report.errors.push(LocalFault {
                height,
                message: message.into(),
            });
        }
    }

    fn begin_replay(&mut self) {
        let spec = self.node.spec();
        let begun = ScratchState::create(&self.node.0.data_dir).and_then(|state| {
            let hash = state.begin(&self.store, spec)?;
            Ok(Replay { state, hash })
        });
        match begun {
            Ok(replay) if replay.hash.digest() == spec.genesis().header.state_digest => {
                self.replay = Some(replay);
            }
            Ok(_) => self.fault(
                Some(Height::ZERO),
                "what the chain has inherited is not what its spec says",
            ),
            Err(error) => self.fault(None, format!("the state cannot be computed again: {error}")),
        }
        self.inherited();
    }

    /// The values that a fork has inherited are those that its state names.
    fn inherited(&mut self) {
        for entry in self.store.inherited_state() {
            let (key, value) = match entry {
                Ok(entry) => entry,
                Err(error) => return self.fault(Some(Height::ZERO), error.to_string()),
            };
            let StateValue::Record(record) = value else {
                continue;
            };
            let found = self.store.inherited(record.index);
            if !matches!(&found, Ok(Some(found)) if is_value_of(found, &key, &record.value_digest)) {
                let why = found.err().map(|error| format!(": {error}")).unwrap_or_default();
                let message = format!("the value of inherited record {} is damaged{why}", record.index);
                self.fault(Some(Height::ZERO), message);
            }
        }
    }

    /// From genesis up; the tip is computed here, not read, so every link, target and history root is.
    fn blocks(&mut self) -> Result<(), String> {
        let total = self.store.head().0.get().saturating_add(1);
        self.genesis();
        let mut tip = ChainTip::genesis(self.node.spec());
        let mut digest = self.node.spec().genesis().header.state_digest;
        self.report.blocks_checked = 1;
        self.checkpoints(&tip);
        for height in (1..total).map(Height::new) {
            if self.progress.is_cancelled() {
                return Err("the node is stopping".to_owned());
            }
            let Some((next, state_digest)) = self.block(height, &tip) else {
                self.fault(
                    Some(height),
                    "the blocks after it cannot be judged until it is put right",
                );
                return Ok(());
            };
            (tip, digest) = (next, state_digest);
            self.checkpoints(&tip);
            self.report.blocks_checked = self.report.blocks_checked.saturating_add(1);
            self.progress.at(height.get().saturating_add(1), total);
        }
        self.state(tip, digest);
        Ok(())
    }

    fn genesis(&mut self) {
        let genesis = &self.node.spec().genesis().header;
        let (zero, hash) = (Height::ZERO, genesis.hash());
        if self.store.hash_at(zero).ok().flatten() != Some(hash) {
            self.fault(Some(zero), "the first block is not this chain's");
        }
        match self.store.header(&hash) {
            Ok(Some(stored)) if stored.header == *genesis => {}
            Ok(Some(_)) => self.fault(Some(zero), "its header is not this chain's first"),
            Ok(None) => self.fault(Some(zero), "its header is missing"),
            Err(error) => self.fault(Some(zero), error.to_string()),
        }
    }

    /// The tip with the block and its state digest; `None` where nothing after it can be judged.
    fn block(&mut self, height: Height, tip: &ChainTip) -> Option<(ChainTip, Digest)> {
        let judged = self.judge(height, tip);
        let (judged, damaged) = match judged {
            Ok(judged) => {
                let leads = self.leads_to(&judged);
                (Some(judged), leads.err())
            }
            Err(message) => (None, Some(message)),
        };
        let judged = match damaged {
            None => judged,
            Some(message) => {
                self.fault(Some(height), message);
                self.put_right(height, tip, judged)
            }
        };
        let Some(judged) = judged else {
            // Without the block's transactions the state after it is not known.
            self.replay = None;
            let header = self.header(height).ok()?;
            let (next, _) = tip.extend(&header, self.node.spec()).ok()?;
            return Some((next, header.header().state_digest));
        };
        let count = u64::from(judged.block.header().transaction_count);
        self.report.transactions_checked = self.report.transactions_checked.saturating_add(count);
        let digest = judged.block.header().state_digest;
        if let Err(message) = self.execute(&judged.block, tip) {
            self.fault(Some(height), message);
            self.replay = None;
        }
        Some((judged.tip, digest))
    }

    fn put_right(&mut self, height: Height, tip: &ChainTip, sound: Option<Judged>) -> Option<Judged> {
        let Some(restore) = self.restore.clone() else {
            return sound;
        };
        let (restored, done) = restore.block(self, height, tip, sound);
        match done {
            Ok(()) => self.report.repaired.push(height),
            Err(message) => tracing::error!(%height, message, "a block cannot be put right"),
        }
        restored
    }

    fn header(&self, height: Height) -> Result<CheckedHeader, String> {
        let hash = self
            .store
            .hash_at(height)
            .map_err(|error| error.to_string())?
            .ok_or("its hash is missing")?;
        self.header_of(hash)
    }

    fn header_of(&self, hash: BlockHash) -> Result<CheckedHeader, String> {
        let stored = self
            .store
            .header(&hash)
            .map_err(|error| error.to_string())?
            .ok_or_else(|| format!("its header, {hash}, is missing"))?;
        let header =
            CheckedHeader::check(stored.header, self.node.chain_id()).map_err(|error| error.to_string())?;
        if header.hash() == hash {
            Ok(header)
        } else {
            let found = header.hash();
            Err(format!("its header hashes to {found}, it is stored as {hash}"))
        }
    }

    /// The block as it is stored at a height, where it keeps every rule but those of the state.
    pub(super) fn judge(&self, height: Height, tip: &ChainTip) -> Result<Judged, String> {
        let hash = self
            .store
            .hash_at(height)
            .map_err(|error| error.to_string())?
            .ok_or("its hash is missing")?;
        self.judge_stored(hash, tip)
    }

    /// The block as it is stored under a hash.
    pub(super) fn judge_stored(&self, hash: BlockHash, tip: &ChainTip) -> Result<Judged, String> {
        let header = self.header_of(hash)?.header().clone();
        let stored = self.store.stream_transactions(header.height, &hash);
        // One more than is right is enough to say so.
        let most = usize::try_from(header.transaction_count)
            .unwrap_or(usize::MAX)
            .saturating_add(1);
        let transactions: Result<Vec<Transaction>, StorageError> = stored.take(most).collect();
        let transactions = transactions.map_err(|error| error.to_string())?;
        let transactions = BoundedVec::new(transactions).map_err(|error| format!("its body has {error}"))?;
        self.judge_block(Block { header, transactions }, tip)
    }

    pub(super) fn judge_block(&self, block: Block, tip: &ChainTip) -> Result<Judged, String> {
        let block = CheckedBlock::check(block, self.node.chain_id()).map_err(|error| error.to_string())?;
        let (tip, nodes) = tip
            .extend(block.checked_header(), self.node.spec())
            .map_err(|error| error.to_string())?;
        Ok(Judged { block, tip, nodes })
    }

    /// Whether everything that leads to a sound block does: summed work, indexes, history nodes.
    fn leads_to(&self, judged: &Judged) -> Result<(), String> {
        let text = |error: StorageError| error.to_string();
        let Judged { block, tip, nodes } = judged;
        let height = block.header().height;
        let stored = self.store.header(&block.hash()).map_err(text)?;
        if stored.is_none_or(|stored| stored.work != tip.work) {
            return Err("the work summed up to it is damaged".to_owned());
        }
        for (transaction, index) in block.transactions().iter().zip(0_u32..) {
            let place = Place { height, index };
            if self.store.place(&transaction.id()).map_err(text)? != Some(place) {
                return Err(format!("the index does not lead to transaction {index}"));
            }
        }
        for (place, node) in nodes {
            if self.store.node(*place).map_err(text)? != Some(*node) {
                return Err(format!(
                    "node {} at level {} of the history tree is not that of the headers",
                    place.index, place.level
                ));
            }
        }
        Ok(())
    }

    /// Executes a block again; its state digest must be that of the state after it.
    pub(super) fn execute(&mut self, block: &CheckedBlock, tip: &ChainTip) -> Result<(), String> {
        let Some(replay) = &mut self.replay else {
            return Ok(());
        };
        let view = (&replay.state, &replay.hash);
        // It was on time when it came.
        let now = Timestamp::new(u64::MAX);
        let connected = connect_block(block.clone(), tip, self.node.spec(), view, now);
        let connected = connected.map_err(|error| error.to_string())?;
        let delta = connected.delta();
        replay.state.apply(delta).map_err(|error| error.to_string())?;
        replay.hash = delta.hash_after().clone();
        let height = block.header().height;
        let payloads = block.transactions().iter().map(|tx| &tx.transaction().payload);
        let replaced = superseded(height, payloads, delta.befores());
        self.key_history(&replaced);
        self.account_history(block);
        let committed = self.store.committed().map_or(0, |checkpoint| checkpoint.size);
        let kept = || self.store.undo(&block.hash()).ok().flatten();
        if height.get() >= committed
            && kept().and_then(|undo| borsh::to_vec(&undo).ok()) != Some(delta.undo_bytes())
        {
            self.fault(Some(height), "what is kept to undo it is damaged");
        }
        Ok(())
    }

    /// Values that a block replaced stay in their keys' history.
    fn key_history(&mut self, replaced: &[(&RecordKey, Place)]) {
        for (key, place) in replaced {
            let message = match self.store.has_key_history(key, *place) {
                Ok(true) => continue,
                Ok(false) => format!(
                    "the history of its key does not lead to transaction {}",
                    place.index
                ),
                Err(error) => error.to_string(),
            };
            self.fault(Some(place.height), message);
            if self.restore.is_none() {
                continue;
            }
            match self.node.store().restore_key_history(key, *place) {
                Ok(()) => self.report.repaired.push(place.height),
                Err(error) => {
                    tracing::error!(height = %place.height, %error, "a key's history cannot be put right");
                }
            }
        }
    }

    /// What concerns an address stays in its history.
    fn account_history(&mut self, block: &CheckedBlock) {
        let transactions = block.transactions().iter().map(CheckedTransaction::transaction);
        for (address, place) in concerned(block.header(), transactions) {
            let message = match self.store.has_account_history(&address, place) {
                Ok(true) => continue,
                Ok(false) => format!("the history of account {address} does not lead to it"),
                Err(error) => error.to_string(),
            };
            self.fault(Some(place.height), message);
            if self.restore.is_none() {
                continue;
            }
            match self.node.store().restore_account_history(&address, place) {
                Ok(()) => self.report.repaired.push(place.height),
                Err(error) => {
                    tracing::error!(height = %place.height, %error, "an account's history cannot be put right");
                }
            }
        }
    }

    fn committed(&mut self) {
        let kept = [self.store.committed(), self.store.final_checkpoint()];
        for stored in kept.into_iter().flatten() {
            match self.store.checkpoints_at(stored.size) {
                Ok(all) if all.contains(&stored) => {}
                Ok(_) => self.fault(
                    None,
                    format!("the checkpoint of {} blocks is not stored as such", stored.size),
                ),
                Err(error) => self.fault(None, error.to_string()),
            }
        }
    }

    /// Every checkpoint stored for the blocks so far is signed by the coordinator and is theirs.
    fn checkpoints(&mut self, tip: &ChainTip) {
        let size = tip.frontier.size();
        let stored = match self.store.checkpoints_at(size) {
            Ok(stored) => stored,
            Err(error) => return self.fault(Some(tip.height), error.to_string()),
        };
        for checkpoint in stored {
            let (chain, key) = (self.node.chain_id(), self.node.coordinator_key());
            let message = match Checkpoint::verify(&checkpoint.note, &chain, &key) {
                Err(error) => Cow::from(format!("the checkpoint stored with it: {error}")),
                Ok((found, _)) if found.size != size || checkpoint.size != size => {
                    Cow::from("the checkpoint stored with it is for another size")
                }
                Ok((found, _)) if found.root != tip.frontier.root() || found.block != tip.hash => {
                    Cow::from("the checkpoint stored with it is not that of this chain")
                }
                Ok(_) => continue,
            };
            self.fault(Some(tip.height), message);
        }
    }

    /// The state as it is stored, against the blocks.
    fn state(&mut self, tip: ChainTip, expected: Digest) {
        if self.store.state_hash().map(|stored| stored.digest()) != Ok(expected) {
            self.fault(None, "the running hash of the state is damaged");
        }
        let Some(replay) = &self.replay else {
            return self.state_by_digest(expected);
        };
        match self.store.state_differences(&replay.state, MAX_FAULTS) {
            Ok(differences) => {
                for difference in differences {
                    self.fault(None, difference.describe());
                }
            }
            Err(error) => self.fault(None, error.to_string()),
        }
        if let Some(restore) = self.restore.clone().filter(|_| !self.report.errors.is_empty())
            && let Err(message) = restore.state(self, tip)
        {
            tracing::error!(message, "the state cannot be put right");
        }
    }

    /// The state could not be computed again, so its entries are only hashed.
    fn state_by_digest(&mut self, expected: Digest) {
        let mut hash = LatticeHash::default();
        for entry in self.store.state_entries() {
            match entry {
                Ok((key, value)) => hash.add_entry(&key, &value),
                Err(error) => return self.fault(None, error.to_string()),
            }
        }
        let found = hash.digest();
        if found != expected {
            self.fault(
                None,
                format!("the state's digest is {found}, the head says {expected}"),
            );
        }
    }

    fn mempool(&mut self) {
        let waiting = match self.store.mempool() {
            Ok(waiting) => waiting,
            Err(error) => return self.fault(None, error.to_string()),
        };
        for batch in waiting.chunks(BATCH) {
            let transactions = batch.iter().map(|(_, tx)| tx.transaction().clone()).collect();
            let checked = check_transactions(transactions, self.node.chain_id());
            for ((sequence, _), error) in batch
                .iter()
                .zip(checked)
                .filter_map(|(tx, c)| Some((tx, c.err()?)))
            {
                self.fault(None, format!("transaction {sequence} that waits: {error}"));
            }
        }
    }
}
