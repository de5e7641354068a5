//! A check finds one bit turned over anywhere in the store, names the block, and repairs what can be.

use super::{CheckState, run};
use crate::api::types::{CheckReport, Verdict};
use crate::machine::ChainRead as _;
use crate::node::fake::FakeNode;
use block_chain_common::block::ChainTip;
use block_chain_common::coordinator_api::{ChainView, Member};
use block_chain_common::hash::BlockHash;
use block_chain_common::keys::SecretKey;
use block_chain_common::quantity::{Height, Term, Timestamp};
use block_chain_common::state::StateKey;
use block_chain_common::transaction::RecordKey;
use std::sync::Arc;
use uuid::Uuid;

const BLOCKS: u64 = 6;
const COMMITTED: u64 = 5;

fn node() -> FakeNode {
    let fake = FakeNode::start();
    fake.grow(BLOCKS - 1, 3);
    // The last block replaces a value of the third, and one of its own.
    let records = [("key-3-1", "new"), ("twice", "once"), ("twice", "again")];
    let records = records.map(|(key, value)| (key.to_owned(), value.to_owned()));
    fake.append(records.into());
    fake.commit(COMMITTED);
    fake
}

async fn check(fake: &FakeNode, repair: bool) -> CheckReport {
    run(&fake.node, repair, &Arc::new(CheckState::default()))
        .await
        .unwrap()
}

/// Which entry of a keyspace is damaged, the block that must be named, and whether it can be put right.
struct Damage {
    keyspace: &'static str,
    key: Vec<u8>,
    height: Option<u64>,
    words: &'static str,
    repairable: bool,
}

fn damages(fake: &FakeNode) -> Vec<Damage> {
    let store = fake.node.store();
    let (hash, _) = store.header_at(Height::new(3)).unwrap().unwrap();
    let (head, head_hash) = store.head();
    let id = store.transaction_ids(Height::new(3), &hash).unwrap()[1];
    let record = RecordKey::new(b"key-3-1".to_vec()).unwrap();
    let three = Height::new(3).to_key().to_vec();
    let history_leaf = [[0].as_slice(), &3_u64.to_be_bytes()].concat();
    let history_node = [[1].as_slice(), &1_u64.to_be_bytes()].concat();
    let key_history = block_chain_common::hash::sha256(&[record.as_slice()]).to_vec();
    let (_, first) = store.header_at(Height::new(1)).unwrap().unwrap();
    let producer = first.producer.as_bytes().to_vec();
    let checkpoint = [[b'c'].as_slice(), &COMMITTED.to_be_bytes()].concat();
    let damage = |keyspace, key: &[u8], height: Option<u64>, words, repairable| Damage {
        keyspace,
        key: key.to_vec(),
        height,
        words,
        repairable,
    };
    vec![
        damage("headers", hash.as_bytes(), Some(3), "", true),
        damage("headers", head_hash.as_bytes(), Some(head.get()), "", true),
        damage("heights", &three, Some(3), "is missing", true),
        damage("heights", &head.to_key(), Some(head.get()), "is missing", true),
        damage("bodies", &three, Some(3), "", true),
        damage("tx_index", &id.as_bytes()[..20], Some(3), "index", true),
        damage("key_history", &key_history, Some(3), "history of its key", true),
        damage("account_history", &producer, Some(1), "history of account", true),
        damage("history", &history_leaf, Some(3), "history tree", true),
        damage("history", &history_node, Some(3), "history tree", true),
        damage(
            "state",
            &borsh::to_vec(&StateKey::Record(record)).unwrap(),
            None,
            "record \"key-3-1\"",
            true,
        ),
        damage(
            "state",
            &borsh::to_vec(&StateKey::Supply).unwrap(),
            None,
            "supply",
            true,
        ),
        damage("meta", b"state_hash", None, "running hash", true),
        damage("undo", head_hash.as_bytes(), Some(head.get()), "undo", false),
        damage(
            "checkpoints",
            &checkpoint,
            Some(COMMITTED - 1),
            "checkpoint",
            false,
        ),
    ]
}

#[tokio::test]
async fn a_sound_replica_is_consistent() {
    let fake = node();
    let report = check(&fake, false).await;
    assert_eq!(report.local.errors, []);
    assert!(report.consistent);
    assert_eq!(report.local.blocks_checked, BLOCKS + 1);
    assert_eq!(report.local.transactions_checked, BLOCKS * 3);
    assert_eq!(report.replicas.len(), 1);
    assert!(
        !fake.dir.path().join("check.tmp").exists(),
        "nothing is left behind"
    );
}

#[tokio::test]
async fn one_bit_anywhere_is_found_and_its_block_named() {
    let count = damages(&node()).len();
    for which in 0..count {
        let fake = node();
        let damage = damages(&fake).swap_remove(which);
        let pristine = node();
        fake.peers.lock().unwrap().replica = Some(pristine.node.store().clone());
        fake.node
            .store()
            .damage(damage.keyspace, |key| key.starts_with(&damage.key));

        let name = format!("{} {}", damage.keyspace, hex::encode(&damage.key));
        let found = check(&fake, false).await;
        assert!(!found.consistent, "{name} was not found");
        let told = |fault: &crate::api::types::LocalFault| {
            fault.height == damage.height.map(Height::new) && fault.message.contains(damage.words)
        };
        assert!(
            found.local.errors.iter().any(told),
            "{name}: {:?}",
            found.local.errors
        );
        let first = found.local.errors.iter().find_map(|fault| fault.height);
        assert_eq!(
            first,
            damage.height.map(Height::new),
            "{name}: the first bad block"
        );

        let repaired = check(&fake, true).await;
        assert_eq!(
            repaired.consistent, damage.repairable,
            "{name}: {:?}",
            repaired.local.errors
        );
        assert_eq!(check(&fake, false).await.consistent, damage.repairable, "{name}");
    }
}

#[tokio::test]
async fn blocks_next_to_each_other_are_repaired_in_one_go() {
    let (fake, pristine) = (node(), node());
    let store = fake.node.store();
    for height in [2, 3, 4] {
        let (hash, _) = store.header_at(Height::new(height)).unwrap().unwrap();
        store.damage("headers", |key| key == hash.as_bytes());
        store.damage("bodies", |key| key.starts_with(&Height::new(height).to_key()));
    }
    assert_eq!(check(&fake, true).await.local.repaired, [], "no peer has them");
    fake.peers.lock().unwrap().replica = Some(pristine.node.store().clone());
    let report = check(&fake, true).await;
    assert_eq!(report.local.errors, []);
    assert_eq!(report.local.repaired, [2, 3, 4].map(Height::new));
}

#[tokio::test]
async fn indexes_are_repaired_without_any_peer() {
    let fake = node();
    let store = fake.node.store();
    for keyspace in ["tx_index", "key_history", "account_history", "state"] {
        store.damage(keyspace, |_| true);
    }
    let report = check(&fake, true).await;
    assert!(report.consistent, "{:?}", report.local.errors);
}

#[tokio::test]
async fn there_is_one_check_at_a_time() {
    let fake = node();
    let state = Arc::new(CheckState::default());
    let (first, second) = tokio::join!(run(&fake.node, false, &state), run(&fake.node, false, &state));
    assert!(first.unwrap().consistent);
    assert!(second.unwrap_err().contains("under way"));
    assert!(!state.progress().running);
    state.cancel();
    assert!(
        run(&fake.node, false, &state)
            .await
            .unwrap_err()
            .contains("stopping")
    );
}

fn member(seed: u8, height: u64) -> Member {
    Member {
        worker_id: Uuid::from_u128(u128::from(seed)),
        public_key: SecretKey::from_seed(&[seed; 32]).public_key(),
        name: None,
        addresses: Vec::new(),
        api: None,
        alive: true,
        silent_ms: 0,
        height: Height::new(height),
        head: BlockHash::ZERO,
        committed: Height::ZERO,
        counts: true,
        version: None,
    }
}

fn set_members(fake: &FakeNode, members: Vec<Member>) {
    *fake.node.0.view.write().unwrap() = Some(ChainView {
        chain: "main".to_owned(),
        term: Term::new(1),
        leader: None,
        members,
        quorum: 1,
        checkpoint: None,
        final_size: 0,
        lease_ms: 6_000,
        heartbeat_ms: 2_000,
        orders: 0,
        relay: None,
        forks: Vec::new(),
        time: Timestamp::default(),
    });
}

/// The verdict on one peer that answers from a replica.
async fn verdict_on(fake: &FakeNode, replica: &FakeNode) -> (Verdict, Option<u64>) {
    fake.peers.lock().unwrap().replica = Some(replica.node.store().clone());
    let height = replica.node.store().head().0.get();
    set_members(fake, vec![member(7, BLOCKS), member(8, height)]);
    let report = check(fake, false).await;
    assert_eq!(report.replicas.len(), 2);
    let peer = &report.replicas[1];
    assert_eq!(report.consistent, peer.verdict != Verdict::Differs);
    (peer.verdict, peer.first_difference.map(Height::get))
}

#[tokio::test]
async fn every_replica_gets_its_verdict() {
    let fake = FakeNode::start();
    fake.grow(200, 0);
    fake.commit(150);
    let replica = |same: u64, other: u64| {
        let replica = FakeNode::start();
        replica.grow(same, 0);
        replica.grow(other, 1);
        replica
    };
    assert_eq!(verdict_on(&fake, &replica(200, 0)).await, (Verdict::Same, None));
    assert_eq!(verdict_on(&fake, &replica(90, 0)).await, (Verdict::Behind, None));
    assert_eq!(verdict_on(&fake, &replica(230, 0)).await, (Verdict::Ahead, None));
    assert_eq!(
        verdict_on(&fake, &replica(170, 20)).await,
        (Verdict::Forked, Some(171))
    );
    assert_eq!(
        verdict_on(&fake, &replica(97, 200)).await,
        (Verdict::Differs, Some(98))
    );
}

#[tokio::test]
async fn a_peer_that_answers_nonsense_or_nothing_is_unreachable_and_harms_nothing() {
    let fake = node();
    let (liar, empty, strange) = (member(20, BLOCKS), member(21, u64::MAX), member(22, 3));
    {
        let mut peers = fake.peers.lock().unwrap();
        peers.claims.insert(empty.public_key, Vec::new());
        let far = vec![(Height::new(u64::MAX), Some(BlockHash::ZERO))];
        peers.claims.insert(strange.public_key, far);
        let all = (0..=BLOCKS + 1).map(|h| (Height::new(h), Some(BlockHash::ZERO)));
        peers.claims.insert(liar.public_key, all.collect());
    }
    set_members(&fake, vec![member(7, BLOCKS), liar, empty, strange]);
    let report = check(&fake, false).await;
    let verdicts: Vec<_> = report.replicas.iter().map(|replica| replica.verdict).collect();
    use Verdict::{Differs, Same, Unreachable};
    assert_eq!(verdicts, [Same, Differs, Unreachable, Unreachable]);
    assert_eq!(report.local.errors, []);
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_unreachable_not_inconsistent() {
    let fake = node();
    let silent = member(23, BLOCKS);
    fake.peers.lock().unwrap().silent.push(silent.public_key);
    set_members(&fake, vec![member(7, BLOCKS), silent]);
    let report = check(&fake, false).await;
    assert_eq!(report.replicas[1].verdict, Verdict::Unreachable);
    assert!(report.consistent);
}

#[tokio::test]
async fn a_block_of_another_branch_is_never_written_over_the_chain() {
    let (fake, other) = (node(), FakeNode::start());
    other.grow(BLOCKS, 1);
    let store = other.node.store();
    let height = Height::new(1);
    let (hash, header) = store.header_at(height).unwrap().unwrap();
    let transactions = store.transactions(&hash).unwrap().unwrap();
    let transactions = block_chain_common::codec::BoundedVec::new(transactions).unwrap();
    let block = block_chain_common::block::Block { header, transactions };
    let checked = block_chain_common::block::CheckedBlock::check(block, fake.node.chain_id()).unwrap();
    let genesis = ChainTip::genesis(fake.node.spec());
    let (tip, nodes) = genesis
        .extend(checked.checked_header(), fake.node.spec())
        .unwrap();
    let refused = fake
        .node
        .store()
        .restore_block(&checked, (&tip, &nodes), Some(hash))
        .unwrap_err();
    assert!(refused.to_string().contains("another block"), "{refused}");
    assert!(check(&fake, false).await.consistent);
}
