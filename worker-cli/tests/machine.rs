#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test: its modules are its own"
)]
//! Several machines with real stores and a real coordinator's rules, on a network and a clock that the test holds.
//!
//! No sockets and no threads: messages are delivered in order, links can be cut, and time moves when the test says so.

mod world;

use block_chain_common::block::{Block, CheckedBlock, CheckedHeader};
use block_chain_common::checkpoint::{Checkpoint, is_final};
use block_chain_common::codec::BoundedBytes;
use block_chain_common::double_block::DoubleBlock;
use block_chain_common::evidence::{Evidence, Statement, Verdict};
use block_chain_common::hash::{BlockHash, Digest, Root};
use block_chain_common::header::{Header, Proof};
use block_chain_common::keys::{PublicKey, SecretKey};
use block_chain_common::note::SignedNote;
use block_chain_common::peer_message::Message;
use block_chain_common::quantity::{Height, Term, Timestamp};
use block_chain_common::work::Target;
use block_chain_worker::machine::{ChainRead as _, Effect, Event, MempoolError, load_frontier};
use std::collections::BTreeSet;
use world::World;

#[test]
fn records_reach_every_replica_and_become_final() {
    let mut world = World::new(3);
    world.submit(1, 50, 0..300);
    world.settle();
    assert_eq!(
        world.nodes[0].machine.mempool_size().0,
        300,
        "the records wait everywhere"
    );
    world.mine(2);
    world.settle();
    world.assert_agreed();
    assert_eq!(world.head(0).0, 1);
    for node in 0..3 {
        assert_eq!(world.transactions(node).len(), 300);
        assert_eq!(world.nodes[node].machine.mempool_size(), (0, 0));
    }
}

#[test]
fn one_worker_alone_is_its_own_majority() {
    let mut world = World::new(1);
    world.submit(0, 50, 0..1);
    world.mine(0);
    world.settle();
    world.assert_agreed();
}

#[test]
fn a_minority_with_more_work_gives_way_to_what_is_committed_and_loses_no_transaction() {
    let mut world = World::new(3);
    let leader = world.leader();
    let (miner, cut) = (leader, (leader + 1) % 3);
    world.cut.insert(cut);
    world.submit(cut, 60, 0..5);
    for _ in 0..4 {
        world.mine(cut);
    }
    world.submit(miner, 61, 0..5);
    world.mine(miner);
    world.settle();
    assert_eq!((world.head(cut).0, world.head(miner).0), (4, 1));
    assert_eq!(world.final_size(miner), 2, "two of three are a majority");
    assert_eq!(world.final_size(cut), 1, "one of three is none");
    world.cut.clear();
    world.settle();
    world.assert_agreed();
    assert_eq!(world.head(cut).0, 1);
    assert_eq!(
        world.nodes[cut].machine.mempool_size().0,
        5,
        "the orphaned blocks' transactions wait again"
    );
    // What it had beyond the committed block is dead, more work or not: its word is needed now, and it gives it.
    let third = (leader + 2) % 3;
    world.cut.insert(third);
    world.mine(miner);
    world.settle();
    assert_eq!(world.final_size(miner), 3);
    world.cut.clear();
    world.settle();
    world.assert_agreed();
    let all = world.transactions(cut);
    assert_eq!(all.len(), 10);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 10, "each once");
}

#[test]
fn without_the_coordinator_the_branch_with_more_work_wins() {
    let mut world = World::new(2);
    world.coordinator_up = false;
    world.cut.insert(1);
    world.mine(0);
    world.mine(1);
    world.mine(1);
    world.settle();
    world.cut.clear();
    world.settle();
    assert_eq!(world.head(0), world.head(1));
    assert_eq!(world.head(0).0, 2);
    assert_eq!(world.final_size(0), 1, "finality waits");
    world.coordinator_up = true;
    world.settle();
    world.assert_agreed();
}

#[test]
fn a_newcomer_catches_up_with_a_long_chain() {
    let mut world = World::new(2);
    for round in 0..150 {
        world.submit(0, 70, round * 3..round * 3 + 3);
        world.mine(0);
    }
    world.settle();
    let newcomer = world.join();
    world.settle();
    world.settle();
    world.assert_agreed();
    assert_eq!(world.head(newcomer).0, 150);
    assert_eq!(world.transactions(newcomer), world.transactions(0));
}

/// A receipt is worth nothing to who trusts the members of now, if it is cosigned by the one of then.
#[test]
fn those_who_count_later_cosign_what_was_final_before() {
    let mut world = World::new(1);
    world.join();
    world.settle();
    // Final to the first alone: the second counts from here on.
    world.mine(0);
    world.settle();
    let view = world.view();
    let counting: Vec<PublicKey> = view.counting().map(|member| member.public_key).collect();
    assert_eq!(counting.len(), 2);
    for node in 0..2 {
        let last = world.nodes[node].store.final_checkpoint().unwrap();
        assert_eq!(last.size, 2);
        let note = SignedNote::parse(&last.note).unwrap();
        assert!(is_final(&note, &counting), "node {node}: {note}");
    }
}

#[test]
fn a_restarted_node_has_its_head_and_what_waited() {
    let mut world = World::new(3);
    world.submit(1, 80, 0..4);
    world.mine(1);
    world.submit(1, 80, 4..9);
    world.settle();
    let before = world.head(1);
    world.restart(1);
    assert_eq!(world.head(1), before);
    assert_eq!(world.nodes[1].machine.mempool_size().0, 5);
    world.mine(1);
    world.settle();
    world.assert_agreed();
    assert_eq!(world.transactions(0).len(), 9);
}

#[test]
fn another_leads_when_the_leader_is_silent() {
    let mut world = World::new(3);
    let (first, term) = (world.leader(), world.term());
    world.cut.insert(first);
    world.settle();
    let second = world.leader();
    assert!(second != first && world.term() > term);
    world.mine(second);
    world.settle();
    assert_eq!(world.final_size(second), 2, "two of three go on");
    world.cut.clear();
    world.settle();
    world.assert_agreed();
}

#[test]
fn the_mempool_refuses_a_gap_and_takes_none_of_the_rest() {
    let mut world = World::new(1);
    world.submit(0, 90, 0..3);
    world.submit(0, 90, 0..3);
    world.submit(0, 90, 4..6);
    assert!(matches!(
        world.nodes[0].submitted.as_slice(),
        [Ok(3), Ok(3), Err(MempoolError::NonceGap { .. })]
    ));
    assert_eq!(
        world.nodes[0].machine.mempool_size().0,
        3,
        "the same transactions twice are three"
    );
}

#[test]
fn a_block_that_lies_about_the_state_is_refused_and_its_sender_dropped() {
    let mut world = World::new(2);
    world.cut.insert(1);
    world.mine(1);
    let store = &world.nodes[1].store;
    let (_, hash) = store.head();
    let mut header = store.header(&hash).unwrap().unwrap().header;
    header.state_digest = Digest::ZERO;
    header.proof = Proof::Work {
        bits: Target::from_leading_zero_bits(0).to_bits(),
        nonce: 1,
    };
    let block = Block {
        header,
        transactions: Default::default(),
    };
    let forged = CheckedBlock::check(block, world.spec.id()).unwrap();
    let liar = world.nodes[1].key.public_key();
    world.step(0, Event::Block(liar, Box::new(forged)));
    assert_eq!(world.head(0).0, 0);
    assert!(
        world.nodes[0]
            .dropped
            .iter()
            .any(|reason| reason.contains("BLK-17")),
        "{:?}",
        world.nodes[0].dropped
    );
}

#[test]
fn every_checkpoint_verifies_with_the_coordinators_key_alone() {
    let mut world = World::new(3);
    world.mine(0);
    world.settle();
    let stored = world.nodes[2].store.final_checkpoint().unwrap();
    let (checkpoint, _) =
        Checkpoint::verify(&stored.note, &world.spec.id(), &world.service.public_key()).unwrap();
    assert_eq!(checkpoint.size, 2);
    let other = SecretKey::from_seed(&[99; 32]).public_key();
    assert!(Checkpoint::verify(&stored.note, &world.spec.id(), &other).is_err());
}

/// Whether a node answers a proposal with an acknowledgement; what it answers is not delivered.
fn acknowledges(world: &mut World, node: usize, from: PublicKey, (height, block): (u64, BlockHash)) -> bool {
    let term = world.term();
    let node = &mut world.nodes[node];
    let height = Height::new(height);
    let asked = Event::Message(from, Message::Propose { term, height, block });
    let output = node
        .machine
        .step(&node.store, Timestamp::new(1_000_000), asked)
        .unwrap();
    output
        .effects
        .iter()
        .any(|effect| matches!(effect, Effect::Send(to, Message::Acknowledge(_)) if *to == from))
}

#[test]
fn agr_1_and_2_acknowledge_the_leader_s_block_on_the_own_chain_and_refuse_others() {
    let mut world = World::new(3);
    world.mine(0);
    world.settle();
    let leader = world.leader();
    let (follower, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let keys: Vec<PublicKey> = world.nodes.iter().map(|node| node.key.public_key()).collect();
    // A block that the follower holds, and that nobody has proposed yet.
    world.cut.insert(follower);
    world.mine(follower);
    let (height, head) = world.nodes[follower].store.head();
    let held = (height.get(), head);
    assert!(acknowledges(&mut world, follower, keys[leader], held));
    assert!(!acknowledges(&mut world, follower, keys[other], held), "AGR-1");
    let unknown = (height.get(), BlockHash::from_bytes([7; 32]));
    assert!(
        !acknowledges(&mut world, follower, keys[leader], unknown),
        "AGR-2"
    );
    let beyond = (height.get() + 1, head);
    assert!(!acknowledges(&mut world, follower, keys[leader], beyond), "AGR-2");
}

/// A checkpoint of the coordinator's key that says something else of as many blocks.
fn contradiction(world: &World, note: &str) -> String {
    let key = world.coordinator_key();
    let (checkpoint, _) = Checkpoint::verify(note, &world.spec.id(), &key.public_key()).unwrap();
    let other = Checkpoint {
        block: BlockHash::from_bytes([9; 32]),
        ..checkpoint
    };
    other.sign(&key).unwrap().to_string()
}

#[test]
fn two_checkpoints_that_contradict_each_other_stop_a_worker_for_good() {
    let mut world = World::new(3);
    world.submit(0, 50, 0..1);
    world.mine(0);
    world.settle();
    world.assert_agreed();
    let known = world.nodes[1].store.committed().unwrap().note;
    let second = contradiction(&world, &known);
    let message = Message::Checkpoint(BoundedBytes::new(second.clone().into_bytes()).unwrap());
    let from = world.nodes[0].key.public_key();
    let effects = world.step_alone(1, Event::Message(from, message));
    let evidence = effects.into_iter().find_map(|effect| match effect {
        Effect::Evidence(evidence) => Some(*evidence),
        _ => None,
    });
    let evidence = evidence.unwrap();
    assert_eq!(evidence.second, second);
    assert!(matches!(
        evidence.judge(),
        Ok(Verdict::Contradiction { size: 2, .. })
    ));
    assert_eq!(Evidence::parse(&evidence.to_text()).unwrap(), evidence);

    // It agrees to nothing more, after a restart too; and shows it to the others, who stop as well.
    world.restart_with(1, Some(evidence.clone()));
    world.settle();
    world.submit(0, 50, 1..2);
    world.step(0, Event::Mine(7));
    let reason = world.nodes[0].not_mined.pop().unwrap();
    assert!(reason.contains("two checkpoints of 2 blocks differ"), "{reason}");
    world.settle();
    for node in 0..3 {
        assert_eq!(
            world.nodes[node].evidence.as_ref(),
            Some(&evidence),
            "node {node}"
        );
        assert_eq!(world.nodes[node].store.committed().unwrap().size, 2);
        assert_eq!(world.nodes[node].dropped, Vec::<String>::new());
    }
}

/// A node hears from another that the coordinator's key has committed the whole chain of a third.
fn hears_that_is_committed(world: &mut World, node: usize, whose: usize, from: usize) {
    let store = &world.nodes[whose].store;
    let (height, block) = store.head();
    let size = height.get() + 1;
    let checkpoint = Checkpoint {
        chain: world.spec.id(),
        size,
        root: load_frontier(store, size).unwrap().root(),
        term: Term::new(1),
        block,
    };
    let note = checkpoint.sign(&world.coordinator_key()).unwrap().to_string();
    let message = Message::Checkpoint(BoundedBytes::new(note.into_bytes()).unwrap());
    let from = world.nodes[from].key.public_key();
    world.step(node, Event::Message(from, message));
}

/// Two workers on branches of their own, one and two blocks long, each committed by the coordinator's key.
fn split() -> World {
    let mut world = World::new(2);
    world.coordinator_up = false;
    world.cut.insert(1);
    world.mine(0);
    world.mine(1);
    world.mine(1);
    for node in 0..2 {
        hears_that_is_committed(&mut world, node, node, 1 - node);
        let store = &world.nodes[node].store;
        assert_eq!(store.committed().unwrap().size, store.head().0.get() + 1);
    }
    world
}

#[test]
fn a_later_checkpoint_that_does_not_follow_stops_both_sides() {
    let mut world = split();
    world.settle();
    assert!(
        world.nodes.iter().all(|node| node.evidence.is_none()),
        "nobody sees both"
    );
    world.cut.clear();
    world.settle();
    world.settle();
    let evidence = world.nodes[0].evidence.clone().unwrap();
    assert_eq!(world.nodes[1].evidence.as_ref(), Some(&evidence));
    assert!(matches!(
        evidence.judge(),
        Ok(Verdict::Contradiction { size: 2, .. })
    ));
    assert_eq!(Evidence::parse(&evidence.to_text()).unwrap(), evidence);
    assert_eq!(world.nodes[0].dropped, Vec::<String>::new());
    assert_eq!(
        (world.head(0).0, world.head(1).0),
        (1, 2),
        "each keeps what it has"
    );
}

#[test]
fn a_block_on_a_branch_that_lost_does_not_stop_its_miner() {
    let mut world = World::new(2);
    world.coordinator_up = false;
    world.cut.insert(1);
    world.mine(0);
    world.mine(1);
    // Node 0 hears that the other's block is committed before it has it, and is asked for one more of its own.
    let (height, block) = world.nodes[1].store.head();
    hears_that_is_committed(&mut world, 0, 1, 1);
    world.step(0, Event::Mine(7));
    world.cut.clear();
    world.settle();
    assert_eq!(
        world.nodes[0].store.hash_at(height).unwrap(),
        Some(block),
        "it gives way"
    );
    // Whoever asked has got a block on the right branch, and the next one comes too.
    assert_eq!(world.head(0).0, 2);
    world.mine(0);
    assert_eq!(world.head(0).0, 3);
}

#[test]
fn a_worker_that_is_behind_is_not_taken_for_one_that_was_contradicted() {
    let mut world = World::new(3);
    world.mine(0);
    world.settle();
    let old = world.nodes[2].store.committed().unwrap().note;
    world.cut.insert(2);
    for _ in 0..3 {
        world.mine(0);
        world.settle();
    }
    let message = Message::Checkpoint(BoundedBytes::new(old.into_bytes()).unwrap());
    let from = world.nodes[2].key.public_key();
    world.step(0, Event::Message(from, message));
    world.cut.clear();
    world.settle();
    world.assert_agreed();
}

#[test]
fn evidence_that_proves_nothing_drops_its_sender_and_stops_nobody() {
    let mut world = World::new(2);
    world.mine(0);
    world.settle();
    let known = world.nodes[1].store.committed().unwrap().note;
    let second = contradiction(&world, &known);
    let good = Evidence {
        chain: world.spec.id(),
        coordinator: world.coordinator_key().public_key(),
        reason: "they differ".to_owned(),
        first: Statement::Note(known.clone()),
        second,
        header: None,
    };
    let other = SecretKey::from_seed(&[77; 32]);
    let (checkpoint, _) = Checkpoint::verify(&known, &good.chain, &good.coordinator).unwrap();
    let by_other = |root: u8| {
        let checkpoint = Checkpoint {
            root: Root::from_bytes([root; 32]),
            ..checkpoint
        };
        checkpoint.sign(&other).unwrap().to_string()
    };
    let bad = [
        Evidence {
            second: known,
            ..good.clone()
        },
        Evidence {
            first: Statement::Own(2, Root::from_bytes([1; 32])),
            ..good.clone()
        },
        Evidence {
            coordinator: other.public_key(),
            first: Statement::Note(by_other(1)),
            second: by_other(2),
            ..good.clone()
        },
    ];
    let from = world.nodes[0].key.public_key();
    let texts = bad.map(|evidence| evidence.to_text());
    for (number, text) in texts.into_iter().chain(["evidence".to_owned()]).enumerate() {
        let message = Message::Evidence(BoundedBytes::new(text.into_bytes()).unwrap());
        world.step(1, Event::Message(from, message));
        assert_eq!(world.nodes[1].evidence, None);
        assert_eq!(world.nodes[1].dropped.len(), number + 1);
    }
    let message = Message::Evidence(BoundedBytes::new(good.to_text().into_bytes()).unwrap());
    world.step(1, Event::Message(from, message));
    assert_eq!(world.nodes[1].evidence, Some(good));
}

#[test]
fn a_clock_that_is_set_back_does_not_stop_the_periodic_pull() {
    let mut world = World::new(1);
    let mut pulls = |now: u64| {
        world.now = now;
        let effects = world.step_alone(0, Event::Tick);
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Broadcast(Message::Status(_))))
    };
    assert!(pulls(10_000_000));
    assert!(!pulls(10_001_000));
    // Ten minutes back: the pull comes two seconds after the last one.
    assert!(!pulls(9_400_000));
    assert!(pulls(9_401_000));
    assert!(!pulls(9_402_000) && pulls(9_403_000));
}

/// Another block of the same producer for the same slot.
fn doubled(world: &World, node: usize) -> Header {
    let store = &world.nodes[node].store;
    let (_, hash) = store.head();
    let mut header = store.header(&hash).unwrap().unwrap().header;
    header.timestamp = Timestamp::new(header.timestamp.get() + 1);
    let signing = header.signing_bytes();
    if let Proof::Stake { signature, .. } = &mut header.proof {
        *signature = world.nodes[node].key.sign(&signing);
    }
    header
}

#[test]
fn on_a_chain_of_stake_the_drawn_make_blocks_and_two_for_one_slot_are_kept() {
    // Keys 1 and 2 have stake, node 2 has none.
    let mut world = World::of_stake(3, &[(1, 30), (2, 70)]);
    world.submit(2, 50, 0..5);
    world.settle();
    world.assert_agreed();
    assert!(
        world.head(0).0 >= 1,
        "what waits is in a block that nobody asked for"
    );
    let makers: BTreeSet<usize> = (0..10_u64)
        .map(|nonce| {
            world.submit(2, 51, nonce..nonce + 1);
            world.settle();
            let (_, hash) = world.nodes[0].store.head();
            let producer = world.nodes[0]
                .store
                .header(&hash)
                .unwrap()
                .unwrap()
                .header
                .producer;
            (0..3)
                .find(|node| world.nodes[*node].key.public_key().address() == producer)
                .unwrap()
        })
        .collect();
    assert_eq!(makers, BTreeSet::from([0, 1]));
    world.assert_agreed();
    // Who has no stake is told so, and waits for nothing.
    world.step(2, Event::Mine(7));
    world.settle();
    assert!(
        world.nodes[2].not_mined[0].contains("no stake"),
        "{:?}",
        world.nodes[2].not_mined
    );
    // Two blocks for one slot: the second is not taken, and both are kept as evidence.
    let (_, hash) = world.nodes[0].store.head();
    let producer = world.nodes[0]
        .store
        .header(&hash)
        .unwrap()
        .unwrap()
        .header
        .producer;
    let maker = (0..2)
        .find(|node| world.nodes[*node].key.public_key().address() == producer)
        .unwrap();
    let second = CheckedHeader::check(doubled(&world, maker), world.spec.id()).unwrap();
    let from = world.nodes[maker].key.public_key();
    let effects = world.step_alone(2, Event::Headers(from, vec![second]));
    let double = effects.iter().find_map(|effect| match effect {
        Effect::DoubleBlock(double) => Some(double),
        _ => None,
    });
    assert_eq!(double.unwrap().producer(), from);
    assert_eq!(
        DoubleBlock::parse(&double.unwrap().to_text()).as_ref(),
        Ok(&**double.unwrap())
    );
}
