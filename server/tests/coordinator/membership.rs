//! Who counts in the quorum: workers that join count once they hold what is committed, one more with each checkpoint.

use crate::both::{Open, on_both};
use crate::network::{Tree, at, beat, code, cosigned, heartbeat, join, network};
use block_chain_common::quantity::Height;
use block_chain_server::service::Service;

on_both!(
    agr_10_before_the_first_checkpoint_all_count,
    agr_10_who_joins_later_counts_with_the_next_checkpoint_it_is_ready_for,
    agr_10_who_joins_later_does_not_lead_before_it_counts,
    agr_10_the_last_that_counts_stays_until_another_can_take_its_place,
    a_cosignature_of_one_that_does_not_count_yet_is_kept,
    a_leader_that_steps_down_is_followed_at_once_and_stays_a_member,
);

fn counting(service: &Service, ms: u64) -> Vec<bool> {
    let view = service.view("main", at(ms)).unwrap();
    view.members.iter().map(|member| member.counts).collect()
}

fn agr_10_before_the_first_checkpoint_all_count(open: Open<'_>) {
    let (service, _) = network(open(), 3);
    assert_eq!(counting(&service, 5), [true; 3]);
    assert_eq!(service.view("main", at(5)).unwrap().quorum, 2);
}

fn agr_10_who_joins_later_counts_with_the_next_checkpoint_it_is_ready_for(open: Open<'_>) {
    let (service, workers) = network(open(), 1);
    let tree = Tree::new(8, 0);
    let first = &workers[0];
    tree.commit(&service, (0, 2), first, &[first]).unwrap();
    let (second, third) = (join(&service, 2, at(10)), join(&service, 3, at(11)));
    assert_eq!(counting(&service, 12), [true, false, false]);
    assert_eq!(service.view("main", at(12)).unwrap().quorum, 1);

    // They have nothing yet: the chain goes on without them, and they still do not count.
    let mut empty = heartbeat(&service, 0);
    empty.committed = Height::ZERO;
    for worker in [&second, &third] {
        service.heartbeat(&worker.who, &empty, at(20)).unwrap();
    }
    tree.commit(&service, (2, 3), first, &[first]).unwrap();
    assert_eq!(counting(&service, 21), [true, false, false]);

    // Both hold what is committed: one more counts with each checkpoint.
    for worker in [&second, &third] {
        beat(&service, worker, 2, at(30));
    }
    tree.commit(&service, (3, 4), first, &[first]).unwrap();
    assert_eq!(counting(&service, 31), [true, true, false]);
    assert_eq!(code(tree.commit(&service, (4, 5), first, &[first])), "no_quorum");
    tree.commit(&service, (4, 5), first, &[first, &second]).unwrap();
    // The third holds the checkpoint before last only.
    assert_eq!(counting(&service, 32), [true, true, false]);
    beat(&service, &third, 4, at(33));
    tree.commit(&service, (5, 6), first, &[first, &second]).unwrap();
    assert_eq!(counting(&service, 34), [true; 3]);
}

fn agr_10_who_joins_later_does_not_lead_before_it_counts(open: Open<'_>) {
    let (service, workers) = network(open(), 1);
    let tree = Tree::new(4, 0);
    tree.commit(&service, (0, 2), &workers[0], &[&workers[0]])
        .unwrap();
    let second = join(&service, 2, at(10));
    // It has the better head, and the leader is silent past its lease.
    beat(&service, &second, 9, at(20_000));
    let view = service.view("main", at(20_001)).unwrap();
    assert!(
        view.leader
            .is_none_or(|leader| leader.worker_id == workers[0].who.worker)
    );
}

fn agr_10_the_last_that_counts_stays_until_another_can_take_its_place(open: Open<'_>) {
    let (service, workers) = network(open(), 1);
    let tree = Tree::new(4, 0);
    tree.commit(&service, (0, 3), &workers[0], &[&workers[0]])
        .unwrap();
    let second = join(&service, 2, at(10));
    service.tick(at(10)).unwrap();
    let mut empty = heartbeat(&service, 0);
    empty.committed = Height::ZERO;
    service.heartbeat(&second.who, &empty, at(61_000)).unwrap();
    // The first has been silent for over a minute, and alone has what is committed.
    service.tick(at(61_000)).unwrap();
    assert_eq!(counting(&service, 61_001), [true, false]);
    beat(&service, &second, 2, at(61_500));
    service.tick(at(61_600)).unwrap();
    let view = service.view("main", at(61_601)).unwrap();
    let left: Vec<_> = view
        .members
        .iter()
        .map(|member| (member.worker_id, member.counts))
        .collect();
    assert_eq!(left, [(second.who.worker, true)]);
    assert_eq!(view.leader.unwrap().worker_id, second.who.worker);
}

fn a_cosignature_of_one_that_does_not_count_yet_is_kept(open: Open<'_>) {
    let (service, workers) = network(open(), 1);
    let tree = Tree::new(4, 0);
    tree.commit(&service, (0, 2), &workers[0], &[&workers[0]])
        .unwrap();
    let second = join(&service, 2, at(10));
    let early = cosigned(&service, 2, &second.key);
    let view = service.cosign(&second.who, "main", &early).unwrap();
    assert_eq!((view.cosignatures, view.is_final), (0, false));
    let own = cosigned(&service, 2, &workers[0].key);
    assert!(service.cosign(&workers[0].who, "main", &own).unwrap().is_final);
}

fn a_leader_that_steps_down_is_followed_at_once_and_stays_a_member(open: Open<'_>) {
    let (service, workers) = network(open(), 2);
    for worker in &workers {
        beat(&service, worker, 1, at(10));
    }
    let mut last = heartbeat(&service, 1);
    last.stepping_down = true;
    // A follower that stops changes nothing.
    let view = service.heartbeat(&workers[1].who, &last, at(20)).unwrap();
    let leader = view.leader.unwrap();
    assert_eq!((leader.worker_id, leader.term.get()), (workers[0].who.worker, 1));
    beat(&service, &workers[1], 1, at(30));
    let view = service.heartbeat(&workers[0].who, &last, at(40)).unwrap();
    let leader = view.leader.unwrap();
    assert_eq!((leader.worker_id, leader.term.get()), (workers[1].who.worker, 2));
    assert_eq!((view.members.len(), view.quorum), (2, 2));
    // It is not counted as silent since long before.
    service.tick(at(50)).unwrap();
    assert_eq!(service.view("main", at(51)).unwrap().members.len(), 2);
    // Nobody else is there: it is as if it had just become silent.
    let view = service.heartbeat(&workers[1].who, &last, at(60)).unwrap();
    assert_eq!(view.leader.unwrap().worker_id, workers[1].who.worker);
}
