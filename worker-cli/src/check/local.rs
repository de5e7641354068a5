//! This replica alone: headers, links, proofs, Merkle and history roots, signatures, indexes, state, checkpoint.

use crate::api::types::{LocalCheck, LocalFault};
use crate::machine::{ChainRead as _, Place};
use crate::node::NodeHandle;
use crate::storage::{StorageError, Store};
use block_chain_common::block::{Block, ChainTip, CheckedBlock, CheckedHeader};
use block_chain_common::checkpoint::Checkpoint;
use block_chain_common::codec::BoundedVec;
use block_chain_common::hash::{BlockHash, Digest};
use block_chain_common::history::HistoryNodes as _;
use block_chain_common::quantity::Height;
use block_chain_common::state::LatticeHash;
use block_chain_common::transaction::Transaction;

/// Faults that are told; where there are more the store is lost anyway.
const MAX_FAULTS: usize = 100;

struct Check<'a> {
    node: &'a NodeHandle,
    store: Store,
    report: LocalCheck,
    checkpoint: Option<Checkpoint>,
}

pub(super) fn check(node: &NodeHandle, progress: impl Fn(u64, u64)) -> LocalCheck {
    let store = node.store().snapshot();
    let report = LocalCheck {
        blocks_checked: 0,
        transactions_checked: 0,
        errors: Vec::new(),
        repaired: Vec::new(),
    };
    let mut check = Check {
        node,
        store,
        report,
        checkpoint: None,
    };
    check.read_checkpoint();
    check.blocks(progress);
    check.report
}

impl Check<'_> {
    fn fault(&mut self, height: Option<Height>, message: impl Into<String>) {
        if self.report.errors.len() < MAX_FAULTS {
            self.report.errors.push(LocalFault {
                height,
                message: message.into(),
            });
        }
    }

    fn read_checkpoint(&mut self) {
        let Some(stored) = self.store.committed() else {
            return;
        };
        match Checkpoint::verify(&stored.note, &self.node.chain_id(), &self.node.coordinator_key()) {
            Ok((checkpoint, _)) => self.checkpoint = Some(checkpoint),
            Err(error) => self.fault(None, format!("the stored checkpoint: {error}")),
        }
    }

    /// From genesis up; the tip is computed here, not read, so every link, target and history root is.
    fn blocks(&mut self, progress: impl Fn(u64, u64)) {
        let (head, _) = self.store.head();
        let total = head.get().saturating_add(1);
        let genesis = self.node.spec().genesis().header.hash();
        if self.store.hash_at(Height::ZERO).ok().flatten() != Some(genesis) {
            self.fault(Some(Height::ZERO), "the first block is not this chain's");
        }
        let mut tip = ChainTip::genesis(self.node.spec());
        self.report.blocks_checked = 1;
        let mut digest = self.node.spec().genesis().header.state_digest;
        self.check_root(&tip);
        for height in (1..total).map(Height::new) {
            match self.block(height, &tip) {
                Ok((next, state_digest)) => {
                    tip = next;
                    digest = state_digest;
                    self.check_root(&tip);
                }
                Err(message) => {
                    self.fault(Some(height), message);
                    // What follows cannot be judged without this header, unless the stored one still fits.
                    match self.tip_after_fault(height, &tip) {
                        Some((next, state_digest)) => (tip, digest) = (next, state_digest),
                        None => return,
                    }
                }
            }
            self.report.blocks_checked = self.report.blocks_checked.saturating_add(1);
            progress(height.get(), total);
        }
        self.check_state(digest);
    }

    fn header(&self, height: Height) -> Result<CheckedHeader, String> {
        let hash = self
            .store
            .hash_at(height)
            .map_err(|error| error.to_string())?
            .ok_or("its hash is missing")?;
        let stored = self
            .store
            .header(&hash)
            .map_err(|error| error.to_string())?
            .ok_or("its header is missing")?;
        let header =
            CheckedHeader::check(stored.header, self.node.chain_id()).map_err(|error| error.to_string())?;
        same_hash(header.hash(), hash)?;
        Ok(header)
    }

    fn tip_after_fault(&self, height: Height, tip: &ChainTip) -> Option<(ChainTip, Digest)> {
        let header = self.header(height).ok()?;
        let (next, _) = tip.extend(&header, self.node.spec()).ok()?;
        Some((next, header.header().state_digest))
    }

    fn block(&mut self, height: Height, tip: &ChainTip) -> Result<(ChainTip, Digest), String> {
        let header = self.header(height)?;
        let (next, nodes) = tip
            .extend(&header, self.node.spec())
            .map_err(|error| error.to_string())?;
        let hash = header.hash();
        let transactions: Result<Vec<Transaction>, StorageError> =
            self.store.stream_transactions(height, &hash).collect();
        let transactions = transactions.map_err(|error| error.to_string())?;
        let digest = header.header().state_digest;
        let count = transactions.len();
        let block = Block {
            header: header.header().clone(),
            transactions: BoundedVec::new(transactions).map_err(|error| format!("its body has {error}"))?,
        };
        let checked = CheckedBlock::check(block, self.node.chain_id()).map_err(|error| error.to_string())?;
        for (transaction, index) in checked.transactions().iter().zip(0_u32..) {
            let place = self
                .store
                .place(&transaction.id())
                .map_err(|error| error.to_string())?;
            if place != Some(Place { height, index }) {
                return Err(format!("the index does not lead to transaction {index}"));
            }
        }
        for (place, node) in nodes {
            if self.store.node(place).map_err(|error| error.to_string())? != Some(node) {
                return Err(format!(
                    "node {} at level {} of the history tree is not that of the headers",
                    place.index, place.level
                ));
            }
        }
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.report.transactions_checked = self.report.transactions_checked.saturating_add(count);
        Ok((next, digest))
    }

    fn check_root(&mut self, tip: &ChainTip) {
        let Some(checkpoint) = self
            .checkpoint
            .filter(|checkpoint| checkpoint.size == tip.frontier.size())
        else {
            return;
        };
        if checkpoint.root != tip.frontier.root() || checkpoint.block != tip.hash {
            self.fault(
                Some(tip.height),
                "the committed checkpoint is not that of this chain",
            );
        }
    }

    fn check_state(&mut self, expected: Digest) {
        let mut hash = LatticeHash::default();
        for entry in self.store.state_entries() {
            match entry {
                Ok((key, value)) => hash.add_entry(&key, &value),
                Err(error) => return self.fault(None, error.to_string()),
            }
        }
        if hash.digest() != expected {
            self.fault(
                None,
                format!(
                    "the state's digest is {}, the head says {expected}",
                    hash.digest()
                ),
            );
        }
        if self.store.state_hash().map(|stored| stored.digest()) != Ok(expected) {
            self.fault(None, "the running hash of the state is damaged");
        }
    }
}

fn same_hash(found: BlockHash, expected: BlockHash) -> Result<(), String> {
    if found == expected {
        Ok(())
    } else {
        Err(format!(
            "its header hashes to {found}, it is stored as {expected}"
        ))
    }
}
