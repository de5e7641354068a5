//! Rules that need the parent, the state or the time: BLK-10 to BLK-20; and making a block that keeps them.

use super::{CheckedBlock, CheckedHeader};
use crate::chain_spec::{ChainSpec, CheckedSpec, ProofSpec};
use crate::hash::{BlockHash, ChainId, Digest, Root, TxId};
use crate::header::{Header, Proof};
use crate::history::{Frontier, NodePlace};
use crate::keys::Address;
use crate::limits::{MAX_BLOCK_BYTES, MAX_BLOCK_TRANSACTIONS, MAX_FUTURE_MS, MEDIAN_TIME_BLOCKS};
use crate::merkle::transactions_root;
use crate::quantity::{Height, Timestamp};
use crate::stake::{Draw, Turn, allowed_ahead_ms, slot_at};
use crate::state::{ApplyError, Executor, LatticeHash, StateDelta, StateKey, StateValue, StateView};
use crate::transaction::CheckedTransaction;
use crate::vrf::{self, Output, VrfError};
use crate::work::{AsertParameters, Target, Work, asert};

/// By how many intervals a chain must be behind for its target to double: an hour at 15 s.
const HALF_LIFE_INTERVALS: u64 = 240;

/// Nodes of the history tree that a header completes, its own leaf first.
pub type CompletedNodes = Vec<(NodePlace, [u8; 32])>;

/// Room in a block for its header and the count of its transactions.
const BLOCK_FRAME_BYTES: usize = 1_024;

/// A rule that needs the parent's header, broken for ever.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// BLK-10: it names the block before it.
    #[error("BLK-10: the block follows {found}, the one before it is {expected}")]
    Previous {
        /// The hash it names.
        found: BlockHash,
        /// The parent's hash.
        expected: BlockHash,
    },
    /// BLK-11: its height is its parent's plus one.
    #[error("BLK-11: the block has height {found}, {expected} comes next")]
    Height {
        /// The height found.
        found: Height,
        /// The height that comes next.
        expected: Height,
    },
    /// BLK-12: it is later than the median of the eleven before it.
    #[error(
        "BLK-12: the block's time {found} is not after {median}, the median of the blocks before it (ms)"
    )]
    TooOld {
        /// Its time.
        found: Timestamp,
        /// The median time.
        median: Timestamp,
    },
    /// BLK-13: its history root is that of all headers before it.
    #[error("BLK-13: the history root is {found}, the headers before give {expected}")]
    HistoryRoot {
        /// The root found.
        found: Root,
        /// The root over the earlier headers.
        expected: Root,
    },
    /// BLK-18: on a chain of stake, its slot is that of its time, and later than its parent's.
    #[error(
        "BLK-18: the block is for slot {found}, its time is in slot {of_time}; the slot of the block before it is {last}"
    )]
    Slot {
        /// The slot it names.
        found: u64,
        /// The slot of its time.
        of_time: u64,
        /// The slot of its parent's time.
        last: u64,
    },
    /// BLK-14: its proof is of the chain's kind, and its target the one that retargeting gives.
    #[error("BLK-14: the proof is {found}, {expected} is needed")]
    Proof {
        /// What it has.
        found: String,
        /// What it needs.
        expected: String,
    },
}

/// Why a block does not connect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError<E> {
    /// A rule of its header, broken for ever.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// BLK-15: its time is at most two minutes, on a chain of stake a slot, ahead of this machine's clock. May become
    /// valid.
    #[error(
        "BLK-15: the block's time {found} is {ahead_ms} ms ahead of this machine's clock, {allowed_ms} ms are allowed"
    )]
    NotYet {
        /// Its time.
        found: Timestamp,
        /// By how much it is ahead.
        ahead_ms: u64,
        /// By how much it may be.
        allowed_ms: u64,
    },
    /// BLK-16: every transaction applies to the state before it (STA rules).
    #[error("BLK-16: transaction {index}: {error}")]
    Transaction {
        /// Its place in the block.
        index: usize,
        /// The rule it breaks.
        error: ApplyError<E>,
    },
    /// BLK-16, for the producer's reward.
    #[error("BLK-16: the producer: {0}")]
    Producer(ApplyError<E>),
    /// BLK-19: on a chain of stake, its producer is the one that is drawn for its slot.
    #[error("BLK-19: slot {slot} is {expected}'s, the block is {found}'s")]
    NotDrawn {
        /// The slot.
        slot: u64,
        /// Who made it.
        found: Address,
        /// Whose slot it is.
        expected: Address,
    },
    /// BLK-20: on a chain of stake, its VRF proof is its producer's for the slot.
    #[error("BLK-20: {0}")]
    Vrf(VrfError),
    /// On a chain of stake, the state that the draw stands in cannot be read: nothing is known of the block.
    #[error("the state cannot be read")]
    Read(E),
    /// BLK-17: its state digest is that of the state after it.
    #[error("BLK-17: the state digest is {found}, the transactions give {expected}")]
    StateDigest {
        /// The digest found.
        found: Digest,
        /// The digest computed here.
        expected: Digest,
    },
}

/// What the next header is judged by: grows with the logarithm of the chain's length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainTip {
    /// The last block's hash.
    pub hash: BlockHash,
    /// The last block's height.
    pub height: Height,
    /// Times of the last blocks, oldest first, at most eleven.
    pub times: Vec<Timestamp>,
    /// The time of block 1, where there is one: what retargeting starts from.
    pub anchor: Option<Timestamp>,
    /// The history tree over all headers up to and with the last.
    pub frontier: Frontier,
    /// Summed work.
    pub work: Work,
}

impl ChainTip {
    /// The tip of a chain that has its genesis block only.
    #[must_use]
    pub fn genesis(spec: &CheckedSpec) -> Self {
        let header = &spec.genesis().header;
        let mut frontier = Frontier::default();
        frontier.append(&header.leaf_bytes());
        Self {
            hash: header.hash(),
            height: Height::ZERO,
            times: vec![header.timestamp],
            anchor: None,
            frontier,
            work: Work::ZERO,
        }
    }

    /// The median of the last eleven blocks' times: the next block must be later.
    #[must_use]
    pub fn median_time(&self) -> Timestamp {
        let mut sorted = self.times.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() >> 1).copied().unwrap_or_default()
    }

    /// The earliest time a block made at `now` may carry.
    #[must_use]
    pub fn next_time(&self, now: Timestamp) -> Timestamp {
        now.max(self.median_time().next())
    }

    /// The target of the next block, where the chain's proof is work.
    #[must_use]
    pub fn next_target(&self, spec: &CheckedSpec) -> Option<Target> {
        let ProofSpec::Work { initial_bits } = spec.spec().proof else {
            return None;
        };
        let limit = Target::from_bits(initial_bits).ok()?;
        let interval = spec.spec().block_interval_ms;
        let (Some(anchor), Some(last)) = (self.anchor, self.times.last()) else {
            return Some(limit);
        };
        if interval == 0 {
            return Some(limit);
        }
        let half_life = interval.saturating_mul(HALF_LIFE_INTERVALS);
        let parameters = AsertParameters {
            anchor_target: limit,
            limit,
            interval,
            half_life,
        };
        // Block 1 is the anchor; its parent's time is taken to be one interval earlier, since genesis has none.
        let since_anchor =
            i64::try_from(i128::from(last.get()).saturating_sub(i128::from(anchor.get()))).unwrap_or(0);
        let time_delta = since_anchor.saturating_add(i64::try_from(interval).unwrap_or(i64::MAX));
        Some(asert(&parameters, time_delta, self.height.previous().get()))
    }

    /// The slot of the last block, where slots have this length.
    #[must_use]
    pub fn last_slot(&self, interval_ms: u64) -> u64 {
        slot_at(self.times.last().copied().unwrap_or_default(), interval_ms)
    }

    /// Judges the next header (BLK-10 to BLK-14, BLK-18) and gives the tip with it, and the history nodes it completes.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn extend(
        &self,
        checked: &CheckedHeader,
        spec: &CheckedSpec,
    ) -> Result<(Self, CompletedNodes), HeaderError> {
        let header = checked.header();
        if header.previous != self.hash {
            return Err(HeaderError::Previous {
                found: header.previous,
                expected: self.hash,
            });
        }
        let expected = self.height.next();
        if header.height != expected {
            return Err(HeaderError::Height {
                found: header.height,
                expected,
            });
        }
        let median = self.median_time();
        if header.timestamp <= median {
            return Err(HeaderError::TooOld {
                found: header.timestamp,
                median,
            });
        }
        let root = self.frontier.root();
        if header.history_root != root {
            return Err(HeaderError::HistoryRoot {
                found: header.history_root,
                expected: root,
            });
        }
        let work = self.check_proof_kind(header, spec)?;
        let mut next = self.clone();
        let nodes = next.frontier.append(&header.leaf_bytes());
        next.hash = checked.hash();
        next.height = header.height;
        next.times.push(header.timestamp);
        if next.times.len() > MEDIAN_TIME_BLOCKS {
            next.times.remove(0);
        }
        next.anchor = self.anchor.or(Some(header.timestamp));
        next.work = self.work.saturating_add(work);
        Ok((next, nodes))
    }

    fn check_proof_kind(&self, header: &Header, spec: &CheckedSpec) -> Result<Work, HeaderError> {
        match (&spec.spec().proof, &header.proof) {
            (ProofSpec::Work { .. }, Proof::Work { bits, .. }) => {
                let target = self.next_target(spec).unwrap_or(Target::from_be_bytes([0; 32]));
                if target.to_bits() == *bits {
                    return Ok(target.work());
                }
                let show = |bits: u32| format!("work of bits {bits:#010x}");
                Err(HeaderError::Proof {
                    found: show(*bits),
                    expected: show(target.to_bits()),
                })
            }
            (ProofSpec::Authority, Proof::Authority { .. }) => Ok(Work::ONE),
            (ProofSpec::Stake, Proof::Stake { slot, .. }) => {
                let interval = spec.spec().block_interval_ms;
                let (of_time, last) = (slot_at(header.timestamp, interval), self.last_slot(interval));
                if *slot != of_time || *slot <= last {
                    let found = *slot;
                    return Err(HeaderError::Slot { found, of_time, last });
                }
                Ok(Work::ONE)
            }
            (spec_proof, proof) => Err(HeaderError::Proof {
                found: proof_name(proof).to_owned(),
                expected: spec_proof.name().to_owned(),
            }),
        }
    }
}

const fn proof_name(proof: &Proof) -> &'static str {
    match proof {
        Proof::Genesis => "none",
        Proof::Work { .. } => "work",
        Proof::Stake { .. } => "stake",
        Proof::Authority { .. } => "authority",
    }
}

/// A block that keeps every rule on its parent's state, with all that the store needs. Only [`connect_block`] makes one.
#[derive(Debug, Clone)]
pub struct ConnectedBlock {
    block: CheckedBlock,
    delta: StateDelta,
    tip: ChainTip,
    nodes: CompletedNodes,
}

impl ConnectedBlock {
    /// The block.
    #[must_use]
    pub const fn block(&self) -> &CheckedBlock {
        &self.block
    }

    /// What it changes in the state.
    #[must_use]
    pub const fn delta(&self) -> &StateDelta {
        &self.delta
    }

    /// The chain's tip with it.
    #[must_use]
    pub const fn tip(&self) -> &ChainTip {
        &self.tip
    }

    /// The nodes of the history tree that it completes.
    #[must_use]
    pub fn history_nodes(&self) -> &[(NodePlace, [u8; 32])] {
        &self.nodes
    }
}

/// Connects a block to its parent: the rules BLK-10 to BLK-20.
///
/// `view` shows the state after the parent, `state_hash` is its hash, `now` this machine's time.
///
/// # Errors
/// The first rule that is broken, or [`ConnectError::NotYet`] where it cannot be judged now.
pub fn connect_block<V: StateView>(
    block: CheckedBlock,
    tip: &ChainTip,
    spec: &CheckedSpec,
    (view, state_hash): (&V, &LatticeHash),
    now: Timestamp,
) -> Result<ConnectedBlock, ConnectError<V::Error>> {
    let (tip, nodes) = tip.extend(block.checked_header(), spec)?;
    let header = block.header();
    check_not_ahead(header.timestamp, now, spec.spec())?;
    let output = check_draw(header, spec.id(), view)?;
    let mut executor = Executor::new(view, spec.spec(), header.height, state_hash);
    executor
        .read_ahead(block.transactions())
        .map_err(|error| ConnectError::Transaction { index: 0, error })?;
    for (index, transaction) in block.transactions().iter().enumerate() {
        let place = u32::try_from(index).unwrap_or(u32::MAX);
        executor
            .apply(transaction, place)
            .map_err(|error| ConnectError::Transaction { index, error })?;
    }
    let delta = executor
        .finish(header.producer, output.as_ref())
        .map_err(ConnectError::Producer)?;
    let expected = delta.digest();
    if header.state_digest != expected {
        return Err(ConnectError::StateDigest {
            found: header.state_digest,
            expected,
        });
    }
    Ok(ConnectedBlock {
        block,
        delta,
        tip,
        nodes,
    })
}

fn check_not_ahead<E>(found: Timestamp, now: Timestamp, spec: &ChainSpec) -> Result<(), ConnectError<E>> {
    let allowed_ms = match spec.proof {
        ProofSpec::Stake => allowed_ahead_ms(spec.block_interval_ms),
        ProofSpec::Work { .. } | ProofSpec::Authority => MAX_FUTURE_MS,
    };
    match found.get().checked_sub(now.get()) {
        Some(ahead_ms) if ahead_ms > allowed_ms => Err(ConnectError::NotYet {
            found,
            ahead_ms,
            allowed_ms,
        }),
        _ => Ok(()),
    }
}

/// BLK-19 and BLK-20; the VRF output of a block of stake.
fn check_draw<V: StateView>(
    header: &Header,
    chain: ChainId,
    view: &V,
) -> Result<Option<Output>, ConnectError<V::Error>> {
    let Proof::Stake {
        key, slot, vrf_proof, ..
    } = &header.proof
    else {
        return Ok(None);
    };
    let Some(draw) = current_draw(view).map_err(ConnectError::Read)? else {
        return Ok(None);
    };
    if let Some(expected) = draw.producer(*slot).filter(|drawn| *drawn != header.producer) {
        return Err(ConnectError::NotDrawn {
            slot: *slot,
            found: header.producer,
            expected,
        });
    }
    let output = vrf::verify(key, &draw.input(&chain, *slot), vrf_proof).map_err(ConnectError::Vrf)?;
    Ok(Some(output))
}

/// What the producer of the next block is drawn from; `None` on chains of other proofs.
///
/// # Errors
/// Where the state cannot be read.
pub fn current_draw<V: StateView>(view: &V) -> Result<Option<Draw>, V::Error> {
    Ok(match view.get(&StateKey::Draw(Turn::Current))? {
        Some(StateValue::Draw(draw)) => Some(draw),
        _ => None,
    })
}

/// A block that lacks only its proof.
#[derive(Debug, Clone)]
pub struct BlockTemplate {
    /// The header; its proof is still to be found (the nonce) or made (the signature).
    pub header: Header,
    /// The transactions that fit, in order.
    pub transactions: Vec<CheckedTransaction>,
    /// Those that will never fit (a used nonce, say), to be dropped from the mempool.
    pub refused: Vec<TxId>,
}

/// Makes the next block from candidates in their order, leaving out what does not apply or does not fit.
///
/// # Errors
/// Where the state cannot be read, or the producer may not produce.
pub fn build_block<V: StateView>(
    candidates: impl IntoIterator<Item = CheckedTransaction>,
    tip: &ChainTip,
    spec: &CheckedSpec,
    (view, state_hash): (&V, &LatticeHash),
    (producer, proof, now): (Address, Proof, Timestamp),
) -> Result<BlockTemplate, ApplyError<V::Error>> {
    let height = tip.height.next();
    let mut executor = Executor::new(view, spec.spec(), height, state_hash);
    let (mut transactions, mut refused): (Vec<CheckedTransaction>, Vec<TxId>) = (Vec::new(), Vec::new());
    let mut size = BLOCK_FRAME_BYTES;
    for candidate in candidates {
        if transactions.len() >= MAX_BLOCK_TRANSACTIONS {
            break;
        }
        let with = size.saturating_add(candidate.bytes().len());
        if with > MAX_BLOCK_BYTES {
            break;
        }
        match executor.apply(&candidate, u32::try_from(transactions.len()).unwrap_or(u32::MAX)) {
            Ok(()) => {
                size = with;
                transactions.push(candidate);
            }
            Err(ApplyError::Read(error)) => return Err(ApplyError::Read(error)),
            Err(ApplyError::NonceUsed { .. } | ApplyError::OwnAddress) => refused.push(candidate.id()),
            Err(_) => {}
        }
    }
    let output = match &proof {
        Proof::Stake { vrf_proof, .. } => vrf::output_of(vrf_proof),
        Proof::Genesis | Proof::Work { .. } | Proof::Authority { .. } => None,
    };
    let delta = executor.finish(producer, output.as_ref())?;
    let ids: Vec<TxId> = transactions.iter().map(CheckedTransaction::id).collect();
    let header = Header {
        chain: spec.id(),
        height,
        timestamp: tip.next_time(now),
        previous: tip.hash,
        transactions_root: transactions_root(&ids),
        transaction_count: u32::try_from(ids.len()).unwrap_or(u32::MAX),
        state_digest: delta.digest(),
        history_root: tip.frontier.root(),
        producer,
        proof,
    };
    Ok(BlockTemplate {
        header,
        transactions,
        refused,
    })
}
