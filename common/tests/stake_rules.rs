//! The rules of chains of stake: SPEC-6, BLK-5, BLK-15, BLK-18 to BLK-20, STA-10, each on both sides.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that meets what it does not expect has failed"
)]

mod support;

use block_chain_common::block::{
    BlockError, BlockTemplate, ChainTip, CheckedBlock, ConnectError, ConnectedBlock, HeaderError,
    build_block, connect_block, current_draw,
};
use block_chain_common::chain_spec::{Allocation, ChainSpec, CheckedSpec, ProofSpec, SpecError};
use block_chain_common::codec::BoundedVec;
use block_chain_common::header::Proof;
use block_chain_common::keys::{Address, SecretKey, Signature};
use block_chain_common::quantity::{Amount, Nonce, Timestamp};
use block_chain_common::stake::{EPOCH_BLOCKS, MAX_STAKERS, slot_start};
use block_chain_common::state::{ApplyError, LatticeHash};
use block_chain_common::transaction::{CheckedTransaction, Payload, Transaction};
use block_chain_common::vrf::{self, VrfError};
use support::{State, key};

const SLOT: u64 = 1_000;

fn address(seed: u8) -> Address {
    key(seed).public_key().address()
}

fn spec(stakers: &[u8]) -> ChainSpec {
    let mut spec = ChainSpec::default_for("main", address(1));
    spec.proof = ProofSpec::Stake;
    spec.block_interval_ms = SLOT;
    let mut stakes: Vec<_> = stakers
        .iter()
        .map(|seed| Allocation {
            address: address(*seed),
            amount: Amount::new(10),
        })
        .collect();
    stakes.sort_by_key(|stake| stake.address);
    spec.stakes = BoundedVec::new(stakes).unwrap();
    spec.balances = BoundedVec::new(vec![Allocation {
        address: address(3),
        amount: Amount::new(1_000),
    }])
    .unwrap();
    spec
}

/// A chain in memory.
struct Chain {
    spec: CheckedSpec,
    tip: ChainTip,
    state: State,
    hash: LatticeHash,
    slot: u64,
}

impl Chain {
    fn new(spec: ChainSpec) -> Self {
        let spec = spec.check().unwrap();
        let (state, hash) = State::genesis(&spec);
        let tip = ChainTip::genesis(&spec);
        Self {
            spec,
            tip,
            state,
            hash,
            slot: 1_700_000_000,
        }
    }

    fn producer(&self, slot: u64) -> Option<Address> {
        current_draw(&self.state).unwrap().unwrap().producer(slot)
    }

    /// The next slot of a key, from the one after the last on.
    fn slot_of(&self, producer: &SecretKey) -> u64 {
        let me = producer.public_key().address();
        let mine = |slot: &u64| self.producer(*slot).is_none_or(|drawn| drawn == me);
        (self.slot + 1..).find(mine).unwrap()
    }

    fn template(
        &self,
        producer: &SecretKey,
        slot: u64,
        transactions: Vec<CheckedTransaction>,
    ) -> BlockTemplate {
        let draw = current_draw(&self.state).unwrap().unwrap();
        let (vrf_proof, _) = vrf::prove(producer, &draw.input(&self.spec.id(), slot));
        let proof = Proof::Stake {
            key: producer.public_key(),
            slot,
            vrf_proof,
            signature: Signature::from_bytes([0; 64]),
        };
        let made = (producer.public_key().address(), proof, slot_start(slot, SLOT));
        build_block(
            transactions,
            &self.tip,
            &self.spec,
            (&self.state, &self.hash),
            made,
        )
        .unwrap()
    }

    fn signed(&self, mut template: BlockTemplate, producer: &SecretKey) -> Result<CheckedBlock, BlockError> {
        let signing = template.header.signing_bytes();
        if let Proof::Stake { signature, .. } = &mut template.header.proof {
            *signature = producer.sign(&signing);
        }
        CheckedBlock::assemble(template.header, template.transactions, self.spec.id())
    }

    fn connect(
        &self,
        block: CheckedBlock,
        now: Timestamp,
    ) -> Result<ConnectedBlock, ConnectError<std::convert::Infallible>> {
        connect_block(block, &self.tip, &self.spec, (&self.state, &self.hash), now)
    }

    fn made(
        &self,
        producer: &SecretKey,
        slot: u64,
    ) -> Result<ConnectedBlock, ConnectError<std::convert::Infallible>> {
        let block = self
            .signed(self.template(producer, slot, Vec::new()), producer)
            .unwrap();
        self.connect(block, slot_start(slot, SLOT))
    }

    fn grow(&mut self, producer: &SecretKey, transactions: Vec<CheckedTransaction>) {
        let slot = self.slot_of(producer);
        let block = self
            .signed(self.template(producer, slot, transactions), producer)
            .unwrap();
        let connected = self.connect(block, slot_start(slot, SLOT)).unwrap();
        self.state.redo(connected.delta());
        self.hash = connected.delta().hash_after().clone();
        self.tip = connected.tip().clone();
        self.slot = slot;
    }

    fn sign(&self, seed: u8, nonce: u64, payload: Payload) -> CheckedTransaction {
        let signed = Transaction::sign(self.spec.id(), Nonce::new(nonce), payload, &key(seed));
        CheckedTransaction::check(signed, self.spec.id()).unwrap()
    }
}

#[test]
fn spec_6_asks_for_slots_and_bounds_first_stakes() {
    let with = |interval: u64| ChainSpec {
        block_interval_ms: interval,
        ..spec(&[1])
    };
    assert!(with(100).check().is_ok());
    for interval in [0, 99] {
        assert!(matches!(with(interval).check(), Err(SpecError::Stake { .. })));
    }
    let stakes = |count: u16| {
        let entries = (0..count).map(|number| {
            let mut bytes = [0; 32];
            bytes[..2].copy_from_slice(&number.to_be_bytes());
            Allocation {
                address: Address::from_bytes(bytes),
                amount: Amount::new(1),
            }
        });
        ChainSpec {
            stakes: BoundedVec::new(entries.collect()).unwrap(),
            ..spec(&[])
        }
    };
    let most = u16::try_from(MAX_STAKERS).unwrap();
    assert!(stakes(most).check().is_ok());
    assert!(matches!(
        stakes(most + 1).check(),
        Err(SpecError::Stake { stakes: 257, .. })
    ));
}

#[test]
fn blk_5_refuses_a_block_that_its_producer_has_not_signed() {
    let chain = Chain::new(spec(&[1, 2]));
    let slot = chain.slot_of(&key(1));
    let template = || chain.template(&key(1), slot, Vec::new());
    assert!(chain.signed(template(), &key(1)).is_ok());
    assert!(matches!(
        chain.signed(template(), &key(2)),
        Err(BlockError::Proof(_))
    ));
    let mut anothers = template();
    anothers.header.producer = address(2);
    assert!(matches!(
        chain.signed(anothers, &key(1)),
        Err(BlockError::Proof(_))
    ));
}

#[test]
fn blk_15_refuses_a_slot_that_has_not_come() {
    let chain = Chain::new(spec(&[1]));
    let slot = chain.slot_of(&key(1));
    let block = || {
        chain
            .signed(chain.template(&key(1), slot, Vec::new()), &key(1))
            .unwrap()
    };
    let start = slot_start(slot, SLOT);
    let ahead = |ms: u64| chain.connect(block(), Timestamp::new(start.get() - ms));
    assert!(ahead(SLOT).is_ok());
    assert!(matches!(
        ahead(SLOT + 1),
        Err(ConnectError::NotYet { allowed_ms: SLOT, .. })
    ));
}

#[test]
fn blk_18_refuses_another_slot_than_that_of_the_time_and_one_that_is_over() {
    let mut chain = Chain::new(spec(&[1]));
    chain.grow(&key(1), Vec::new());
    let next = chain.slot + 1;
    assert!(chain.made(&key(1), next).is_ok());
    let twice = chain.made(&key(1), chain.slot).unwrap_err();
    assert!(
        matches!(twice, ConnectError::Header(HeaderError::Slot { .. })),
        "{twice}"
    );
    let mut wrong = chain.template(&key(1), next, Vec::new());
    wrong.header.timestamp = slot_start(next + 1, SLOT);
    let block = chain.signed(wrong, &key(1)).unwrap();
    let error = chain.connect(block, slot_start(next + 1, SLOT)).unwrap_err();
    assert!(
        matches!(error, ConnectError::Header(HeaderError::Slot { .. })),
        "{error}"
    );
}

#[test]
fn blk_19_refuses_a_producer_that_is_not_drawn() {
    let chain = Chain::new(spec(&[1, 2]));
    let slot = chain.slot_of(&key(1));
    assert!(chain.made(&key(1), slot).is_ok());
    for other in [2, 9] {
        let error = chain.made(&key(other), slot).unwrap_err();
        assert!(
            matches!(error, ConnectError::NotDrawn { expected, .. } if expected == address(1)),
            "{error}"
        );
    }
}

#[test]
fn blk_20_refuses_a_vrf_proof_of_another_slot_or_key() {
    let chain = Chain::new(spec(&[1, 2]));
    let slot = chain.slot_of(&key(1));
    let draw = current_draw(&chain.state).unwrap().unwrap();
    for (prover, of) in [(1, slot + 1), (2, slot)] {
        let mut template = chain.template(&key(1), slot, Vec::new());
        let (other, _) = vrf::prove(&key(prover), &draw.input(&chain.spec.id(), of));
        if let Proof::Stake { vrf_proof, .. } = &mut template.header.proof {
            *vrf_proof = other;
        }
        let block = chain.signed(template, &key(1)).unwrap();
        let error = chain.connect(block, slot_start(slot, SLOT)).unwrap_err();
        assert!(matches!(error, ConnectError::Vrf(VrfError::Wrong)), "{error}");
    }
}

#[test]
fn while_nobody_has_stake_everybody_may_make_blocks() {
    let mut chain = Chain::new(spec(&[]));
    chain.grow(&key(1), Vec::new());
    chain.grow(&key(9), Vec::new());
    assert_eq!(chain.tip.height.get(), 2);
}

#[test]
fn stake_counts_from_the_epoch_after_the_next_on_and_ends_as_late() {
    let mut chain = Chain::new(spec(&[1]));
    let stake = chain.sign(
        3,
        0,
        Payload::Stake {
            amount: Amount::new(990),
        },
    );
    chain.grow(&key(1), vec![stake]);
    let of_three = |chain: &Chain| {
        (0..200)
            .filter(|slot| chain.producer(*slot) == Some(address(3)))
            .count()
    };
    while chain.tip.height.get() < 2 * EPOCH_BLOCKS {
        assert_eq!(of_three(&chain), 0, "at {}", chain.tip.height);
        chain.grow(&key(1), Vec::new());
    }
    let share = of_three(&chain);
    assert!((185..=200).contains(&share), "990 of 1,000: {share}");
    let unstake = chain.sign(
        3,
        1,
        Payload::Unstake {
            amount: Amount::new(990),
        },
    );
    chain.grow(&key(3), vec![unstake]);
    while chain.tip.height.get() < 4 * EPOCH_BLOCKS {
        assert!(of_three(&chain) > 0, "at {}", chain.tip.height);
        let next = chain.producer(chain.slot + 1).unwrap();
        let seed = if next == address(3) { 3 } else { 1 };
        chain.grow(&key(seed), Vec::new());
    }
    assert_eq!(of_three(&chain), 0);
}

#[test]
fn sta_10_bounds_those_that_have_stake() {
    let mut most = spec(&[]);
    let entries = (0..MAX_STAKERS).map(|number| {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&u16::try_from(number).unwrap().to_be_bytes());
        Allocation {
            address: Address::from_bytes(bytes),
            amount: Amount::new(1),
        }
    });
    most.stakes = BoundedVec::new(entries.collect()).unwrap();
    let chain = Chain::new(most);
    let stake = chain.sign(
        3,
        0,
        Payload::Stake {
            amount: Amount::new(1),
        },
    );
    let mut executor = block_chain_common::state::Executor::new(
        &chain.state,
        chain.spec.spec(),
        chain.tip.height.next(),
        &chain.hash,
    );
    assert_eq!(executor.apply(&stake, 0), Err(ApplyError::Stakers));
    let few = Chain::new(spec(&[1]));
    let stake = few.sign(
        3,
        0,
        Payload::Stake {
            amount: Amount::new(1),
        },
    );
    let height = few.tip.height.next();
    let mut executor =
        block_chain_common::state::Executor::new(&few.state, few.spec.spec(), height, &few.hash);
    assert_eq!(executor.apply(&stake, 0), Ok(()));
}
