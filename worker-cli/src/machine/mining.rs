//! Making blocks: on demand, and by the leader on chains with an interval when something waits.

use super::chain::{Body, Node};
use super::slots::Turn;
use super::{ChainRead, Effect, Machine, Mined, Output, Token};
use crate::storage::StorageError;
use block_chain_common::block::{BlockTemplate, CheckedBlock, build_block};
use block_chain_common::chain_spec::ProofSpec;
use block_chain_common::double_block::DoubleBlock;
use block_chain_common::hash::BlockHash;
use block_chain_common::header::{Header, Proof};
use block_chain_common::keys::{PublicKey, Signature};
use block_chain_common::quantity::Timestamp;
use block_chain_common::stake::Draw;
use block_chain_common::state::ApplyError;
use block_chain_common::transaction::CheckedTransaction;
use std::collections::BTreeMap;

/// Users who may wait for a block at a time.
const MAX_WAITERS: usize = 1_024;

/// What the search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundNonce {
    /// The template's digest without proof: which search this was.
    pub digest: [u8; 32],
    /// The nonce.
    pub nonce: u64,
    /// Nonces tried.
    pub attempts: u64,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

/// A block of this node's own that is to be announced.
pub(super) struct AnnouncedBlock {
    pub(super) waiters: Vec<Token>,
    pub(super) mined: Mined,
}

#[derive(Debug, Default)]
pub(super) struct Mining {
    pub(super) waiters: Vec<Token>,
    search: Option<BlockTemplate>,
    /// On a chain of stake, the last slot in which this worker may have made a block: it makes none in it again.
    pub(super) last_slot: Option<u64>,
    /// Blocks of stake that came lately.
    pub(super) seen: BTreeMap<(u64, PublicKey), Header>,
    /// Two blocks of a producer for one slot, not told yet.
    pub(super) doubles: Vec<DoubleBlock>,
    /// The draw that the next block's producer comes from, as of this head.
    pub(super) draw: Option<(BlockHash, Draw)>,
    /// A block of its own that is not the head yet, and the block before it.
    found: Option<(BlockHash, Mined)>,
}

impl Mining {
    /// If this is the block that was found here: who waits for it, and what it took.
    pub(super) fn announce(&mut self, hash: &BlockHash) -> Option<AnnouncedBlock> {
        let (_, mined) = self.found.take_if(|(_, found)| found.hash == *hash)?;
        Some(AnnouncedBlock {
            waiters: std::mem::take(&mut self.waiters),
            mined,
        })
    }
}

impl Machine {
    pub(super) fn on_mine(&mut self, token: Token, out: &mut Output) {
        if self.mining.waiters.len() >= MAX_WAITERS {
            let full = format!("{MAX_WAITERS} requests for a block wait already, no more are allowed");
            out.effects.push(Effect::Mined(vec![token], Err(full)));
            return;
        }
        self.mining.waiters.push(token);
    }

    pub(super) fn on_stop_mining(&mut self, tokens: &[Token]) {
        self.mining.waiters.retain(|waiting| !tokens.contains(waiting));
    }

    pub(super) fn on_found(&mut self, found: FoundNonce, out: &mut Output) {
        let is_this = |template: &mut BlockTemplate| template.header.digest_without_proof() == found.digest;
        let Some(template) = self.mining.search.take_if(is_this) else {
            return;
        };
        let mut header = template.header;
        if let Proof::Work { nonce, .. } = &mut header.proof {
            *nonce = found.nonce;
        }
        self.add_own_block(
            header,
            template.transactions,
            (found.elapsed_ms, found.attempts),
            out,
        );
    }

    fn add_own_block(
        &mut self,
        header: Header,
        transactions: Vec<CheckedTransaction>,
        (elapsed_ms, attempts): (u64, u64),
        out: &mut Output,
    ) {
        let checked = CheckedBlock::assemble(header, transactions, self.spec.id());
        let extended = checked.map_err(|error| error.to_string()).and_then(|block| {
            match self.tip.extend(block.checked_header(), &self.spec) {
                Ok((tip, _)) => Ok((block, tip)),
                Err(error) => Err(error.to_string()),
            }
        });
        match extended {
            Ok((block, tip)) => {
                let mined = Mined {
                    hash: block.hash(),
                    elapsed_ms,
                    attempts,
                };
                self.mining.found = Some((block.header().previous, mined));
                self.is_one_too_many(block.header());
                let header = block.checked_header().clone();
                self.tree.insert(Node {
                    header,
                    tip,
                    body: Body::Ready(Box::new(block)),
                    source: None,
                });
                out.again = true;
            }
            Err(error) => {
                out.effects.push(Effect::Mined(
                    std::mem::take(&mut self.mining.waiters),
                    Err(error),
                ));
            }
        }
    }

    /// Answers everybody who waits for a block that there will be none.
    pub(super) fn give_up_mining(&mut self, reason: &str, out: &mut Output) {
        let waiters = std::mem::take(&mut self.mining.waiters);
        if !waiters.is_empty() {
            out.effects.push(Effect::Mined(waiters, Err(reason.to_owned())));
        }
        if self.mining.search.take().is_some() {
            out.effects.push(Effect::StopSearch);
        }
    }

    pub(super) fn mining_failed(&mut self, hash: BlockHash, error: &str, out: &mut Output) {
        if self
            .mining
            .found
            .take_if(|(_, found)| found.hash == hash)
            .is_some()
        {
            out.effects.push(Effect::Mined(
                std::mem::take(&mut self.mining.waiters),
                Err(error.to_owned()),
            ));
        }
    }

    /// Starts, restarts or stops the search, as the head and those who wait ask for.
    pub(super) fn drive_mining<R: ChainRead>(
        &mut self,
        read: &R,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), StorageError> {
        // The chain goes on from another block than this worker's own does: whoever waits for one gets the next.
        self.mining
            .found
            .take_if(|(previous, _)| *previous != self.tip.hash);
        if self.mining.found.is_some() {
            return Ok(());
        }
        // A block on a branch that lacks what is committed would never count.
        let counts = self.agreement.required_block().is_none();
        let wanted = counts && (!self.mining.waiters.is_empty() || self.is_due(now));
        let stale = self
            .mining
            .search
            .take_if(|template| !wanted || template.header.previous != self.tip.hash);
        if stale.is_some() {
            out.effects.push(Effect::StopSearch);
        }
        if !wanted || self.mining.search.is_some() {
            return Ok(());
        }
        let proof = match self.empty_proof(read, now)? {
            Turn::Now(proof) => *proof,
            Turn::Wait => return Ok(()),
            Turn::Never(reason) => {
                self.give_up_mining(&reason, out);
                return Ok(());
            }
        };
        let producer = self.me.address();
        let candidates = self.mempool.candidates();
        let built = build_block(
            candidates,
            &self.tip,
            &self.spec,
            (read, &self.state_hash),
            (producer, proof, now),
        );
        match built {
            Ok(template) => self.begin(template, out),
            Err(ApplyError::Read(error)) => return Err(error),
            Err(error) => {
                out.effects.push(Effect::Mined(
                    std::mem::take(&mut self.mining.waiters),
                    Err(error.to_string()),
                ));
            }
        }
        Ok(())
    }

    fn begin(&mut self, mut template: BlockTemplate, out: &mut Output) {
        self.mempool
            .drop_refused(&std::mem::take(&mut template.refused), &mut out.writes);
        let signing = template.header.signing_bytes();
        if let Proof::Authority { signature, .. } | Proof::Stake { signature, .. } =
            &mut template.header.proof
        {
            *signature = self.key.sign(&signing);
            if let Proof::Stake { slot, .. } = &template.header.proof {
                self.mining.last_slot = Some(*slot);
            }
            self.add_own_block(template.header, template.transactions, (0, 0), out);
            return;
        }
        out.effects.push(Effect::Search(Box::new(template.clone())));
        self.mining.search = Some(template);
    }

    /// The proof that a search or a signature completes, where this worker may make a block now.
    fn empty_proof<R: ChainRead>(&mut self, read: &R, now: Timestamp) -> Result<Turn, StorageError> {
        let proof = match self.spec.spec().proof {
            ProofSpec::Work { .. } => {
                let target = self.tip.next_target(&self.spec);
                target.map(|target| Proof::Work {
                    bits: target.to_bits(),
                    nonce: 0,
                })
            }
            ProofSpec::Authority => {
                let term = self.agreement.leading(&self.me);
                term.map(|term| Proof::Authority {
                    key: self.me,
                    term,
                    signature: Signature::from_bytes([0; 64]),
                })
            }
            ProofSpec::Stake => return self.turn(read, now),
        };
        let refusal = || Turn::Never("only the leader makes blocks on a chain of authority".to_owned());
        Ok(proof.map_or_else(refusal, |proof| Turn::Now(Box::new(proof))))
    }

    /// Whether a block is to be made without anybody asking: something waits, and the interval has passed. The leader makes
    /// it; on a chain of stake, whoever is drawn.
    fn is_due(&self, now: Timestamp) -> bool {
        let interval = self.spec.spec().block_interval_ms;
        let last = self.tip.times.last().copied().unwrap_or_default();
        let by_draw = self.spec.spec().proof == ProofSpec::Stake;
        let is_time = || now.get() >= last.get().saturating_add(interval);
        interval > 0
            && self.mempool.count() > 0
            && (by_draw || (self.agreement.leading(&self.me).is_some() && is_time()))
    }
}
