//! AGR-8 and AGR-9: a coordinator that was restored from an old copy, and the way on.

use crate::both::{Open, on_both};
use crate::network::{Tree, Worker, at, beat, code, cosigned, join, network, start};
use block_chain_common::coordinator_api::{Claim, ClaimedCheckpoint};
use block_chain_common::hash::Root;
use block_chain_common::history::prove_consistency;
use block_chain_common::keys::SecretKey;
use block_chain_common::quantity::Term;
use block_chain_common::recovery::Recovery;
use block_chain_server::error::ServiceError;
use block_chain_server::service::Service;
use block_chain_server::store::{Store, StoreError};

on_both!(
    a_recovery_goes_on_from_what_is_shown,
    a_claim_of_nothing_new_is_refused,
    agr_9_believes_what_this_coordinator_has_signed,
    agr_9_needs_every_member_or_the_operators_word,
    agr_9_counts_who_was_heard_by_this_copy,
    agr_9_refuses_two_histories,
    a_term_alone_is_passed,
);

/// A coordinator with the key of another, with three workers, and two blocks committed in its first term.
fn with_key_of(store: Store, key: &str, tree: &Tree) -> (Service, Vec<Worker>) {
    let kept = store.transaction::<_, StoreError>(|tx| tx.add_setting("coordinator_key", key));
    kept.unwrap();
    let (service, workers) = network(store, 3);
    let all: Vec<_> = workers.iter().collect();
    tree.commit(&service, (0, 2), &workers[0], &all).unwrap();
    (service, workers)
}

const KEY: &str = "0707070707070707070707070707070707070707070707070707070707070707";

/// The note of five blocks that was signed before the loss, with one cosignature.
fn lost_note(tree: &Tree) -> String {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_sqlite(&folder.path().join("lost")).unwrap();
    let (lost, workers) = with_key_of(store, KEY, tree);
    let all: Vec<_> = workers.iter().collect();
    tree.commit(&lost, (2, 5), &workers[0], &all).unwrap();
    let cosigned = cosigned(&lost, 5, &workers[1].key);
    lost.cosign(&workers[1].who, "main", &cosigned).unwrap();
    lost.checkpoints("main", 5, 1).unwrap().checkpoints[0]
        .note
        .clone()
}

fn claim(tree: &Tree, note: &str, term: u64) -> Claim {
    let proof = prove_consistency(2, 5, tree).unwrap();
    Claim {
        chain: "main".to_owned(),
        term: Term::new(term),
        checkpoint: Some(ClaimedCheckpoint {
            note: note.to_owned(),
            old_size: 2,
            consistency: proof.into_iter().map(Root::from_bytes).collect(),
        }),
    }
}

fn a_recovery_goes_on_from_what_is_shown(open: Open<'_>) {
    let tree = Tree::new(8, 0);
    let (service, workers) = with_key_of(open(), KEY, &tree);
    let all: Vec<_> = workers.iter().collect();
    service.begin(at(10)).unwrap();
    let shown = claim(&tree, &lost_note(&tree), 4);
    let taken = service.claim(&workers[1].who, &shown, at(20)).unwrap();
    assert_eq!(taken.behind_by, (3, 3));

    // Nothing is committed meanwhile, whoever asks.
    let refused = tree.commit(&service, (2, 3), &workers[0], &all);
    assert_eq!(code(refused), "recovery_needed");
    assert_eq!(service.view("main", at(21)).unwrap().checkpoint.unwrap().size, 2);

    for worker in [&workers[0], &workers[2]] {
        beat(&service, worker, 1, at(30));
    }
    let planned = service.plan_recovery("main", at(40)).unwrap();
    assert_eq!(service.view("main", at(41)).unwrap().checkpoint.unwrap().size, 2);
    let done = service.recover("main", false, at(40)).unwrap();
    assert_eq!(planned, done);
    assert_eq!(done.recovery.size, (2, 5));
    assert_eq!(done.recovery.term, (Term::new(1), Term::new(5)));
    assert_eq!(done.shown_by, [workers[1].who.worker.to_string()]);

    let statements = service.recoveries("main").unwrap();
    let chain = service.chain("main").unwrap();
    assert_eq!(
        Recovery::verify(&statements[0], &chain.id, &chain.coordinator_key),
        Ok(done.recovery)
    );
    let again = service.recover("main", false, at(50));
    assert_eq!(code(again), "nothing_to_recover");

    // Its cosignature came with the note; who holds the block leads in a later term, and the chain goes on.
    let view = service.view("main", at(51)).unwrap();
    assert_eq!(view.checkpoint.unwrap().cosignatures, 1);
    assert_eq!(view.leader, None);
    beat(&service, &workers[1], 4, at(60));
    let view = service.view("main", at(61)).unwrap();
    let leader = view.leader.unwrap();
    assert_eq!(
        (leader.worker_id, leader.term),
        (workers[1].who.worker, Term::new(6))
    );
    tree.commit(&service, (5, 6), &workers[1], &all).unwrap();
}

fn a_claim_of_nothing_new_is_refused(open: Open<'_>) {
    let tree = Tree::new(8, 0);
    let (service, workers) = with_key_of(open(), KEY, &tree);
    let own = service.checkpoints("main", 2, 1).unwrap().checkpoints[0]
        .note
        .clone();
    let mut nothing = claim(&tree, &own, 1);
    assert_eq!(code(service.claim(&workers[0].who, &nothing, at(5))), "malformed");
    nothing.checkpoint = None;
    assert_eq!(code(service.claim(&workers[0].who, &nothing, at(5))), "malformed");
    assert_eq!(code(service.plan_recovery("main", at(6))), "nothing_to_recover");
}

fn agr_9_believes_what_this_coordinator_has_signed(open: Open<'_>) {
    let (tree, other) = (Tree::new(8, 0), Tree::new(8, 1));
    let (service, workers) = with_key_of(open(), KEY, &tree);
    let note = lost_note(&tree);
    let send = |claim: &Claim| code(service.claim(&workers[0].who, claim, at(5)));
    // Another's signature; another history; a proof from another size; a term out of reach.
    let signed = note.rsplit_once("\n\n").unwrap().0.to_owned() + "\n";
    let mut stranger = block_chain_common::note::SignedNote::new(signed).unwrap();
    let origin = note.lines().next().unwrap();
    stranger.sign(origin, &SecretKey::from_seed(&[99; 32]));
    assert_eq!(send(&claim(&tree, &stranger.to_string(), 1)), "malformed");
    assert_eq!(send(&claim(&other, &note, 1)), "inconsistent");
    let mut stale = claim(&tree, &note, 1);
    stale.checkpoint.as_mut().unwrap().old_size = 1;
    assert_eq!(send(&stale), "stale_checkpoint");
    assert_eq!(send(&claim(&tree, &note, 1_000_002)), "malformed");
    assert_eq!(send(&claim(&tree, &note, u64::MAX)), "malformed");
    let mut long = claim(&tree, &note, 1);
    long.checkpoint.as_mut().unwrap().consistency = vec![Root::from_bytes([1; 32]); 129];
    assert_eq!(send(&long), "malformed");
    assert_eq!(code(service.plan_recovery("main", at(6))), "nothing_to_recover");
    assert_eq!(send(&claim(&tree, &note, 1_000_001)), "accepted");
}

fn agr_9_needs_every_member_or_the_operators_word(open: Open<'_>) {
    let tree = Tree::new(8, 0);
    let (service, workers) = with_key_of(open(), KEY, &tree);
    service.begin(at(10)).unwrap();
    let shown = claim(&tree, &lost_note(&tree), 1);
    service.claim(&workers[1].who, &shown, at(20)).unwrap();
    beat(&service, &workers[0], 1, at(20));
    match service.recover("main", false, at(30)) {
        Err(ServiceError::MembersMissing {
            silent: 1,
            members: 3,
        }) => {}
        other => panic!("{other:?}"),
    }
    // Longer than a minute ago is not lately.
    match service.recover("main", false, at(60_021)) {
        Err(ServiceError::MembersMissing { silent: 3, .. }) => {}
        other => panic!("{other:?}"),
    }
    service.recover("main", true, at(30)).unwrap();
}

fn agr_9_counts_who_was_heard_by_this_copy(open: Open<'_>) {
    let tree = Tree::new(8, 0);
    let (service, workers) = with_key_of(open(), KEY, &tree);
    for worker in &workers {
        beat(&service, worker, 1, at(10));
    }
    // The copy remembers them; the server that runs on it has heard nobody.
    service.begin(at(20)).unwrap();
    let shown = claim(&tree, &lost_note(&tree), 1);
    service.claim(&workers[1].who, &shown, at(30)).unwrap();
    let plan = service.plan_recovery("main", at(31)).unwrap();
    let heard: Vec<bool> = plan.members.iter().map(|member| member.heard).collect();
    assert_eq!(heard, [false, true, false]);
}

fn agr_9_refuses_two_histories(open: Open<'_>) {
    let tree = Tree::new(8, 0);
    let (service, workers) = with_key_of(open(), KEY, &tree);
    service.begin(at(1)).unwrap();
    let mut forked = Tree::new(2, 0);
    forked.extend(8, 1);
    for (worker, tree) in [(&workers[0], &tree), (&workers[1], &forked)] {
        let shown = claim(tree, &lost_note(tree), 1);
        service.claim(&worker.who, &shown, at(20)).unwrap();
    }
    assert_eq!(code(service.recover("main", true, at(30))), "contradiction");
    assert_eq!(service.view("main", at(31)).unwrap().checkpoint.unwrap().size, 2);
}

fn a_term_alone_is_passed(open: Open<'_>) {
    let (service, workers) = network(open(), 2);
    let term_only = Claim {
        chain: "main".to_owned(),
        term: Term::new(9),
        checkpoint: None,
    };
    service.claim(&workers[0].who, &term_only, at(20)).unwrap();
    // It says nothing of what was committed, so the others may go on.
    let tree = Tree::new(3, 0);
    let all: Vec<_> = workers.iter().collect();
    tree.commit(&service, (0, 2), &workers[0], &all).unwrap();
    let done = service.recover("main", true, at(30)).unwrap();
    assert_eq!(done.recovery.term.1, Term::new(10));
    assert_eq!(done.recovery.size, (2, 2));
}

/// A worker whose own token was lost with the database proves its key, and needs no join token for it.
#[test]
fn a_key_that_was_let_in_needs_no_join_token_again() {
    use crate::network::registration;
    use block_chain_server::service::{Join, Settings};
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_sqlite(&folder.path().join("db")).unwrap();
    let token = Join::Token("secret".to_owned().into());
    let service = Service::start(store, Settings::default(), token, |_| ()).unwrap();
    let mut first = registration(&service, 1, at(1));
    assert_eq!(code(service.register(&first, at(1))), "join_token");
    first = registration(&service, 1, at(2));
    first.token = Some("secret".to_owned());
    let known = service.register(&first, at(2)).unwrap();
    let again = service
        .register(&registration(&service, 1, at(3)), at(3))
        .unwrap();
    assert_eq!(again.worker_id, known.worker_id);
    let stranger = registration(&service, 2, at(4));
    assert_eq!(code(service.register(&stranger, at(4))), "join_token");
}

/// A copy that was made before a worker registered gives it the id that it had.
#[test]
fn a_worker_that_a_restored_copy_lacks_gets_its_id_again() {
    let folder = tempfile::tempdir().unwrap();
    let coordinator = |name: &str, key: &str| {
        let store = Store::open_sqlite(&folder.path().join(name)).unwrap();
        let kept = store.transaction::<_, StoreError>(|tx| tx.add_setting("coordinator_key", key));
        kept.unwrap();
        start(store)
    };
    let (lost, restored) = (coordinator("lost", KEY), coordinator("restored", KEY));
    join(&restored, 2, at(1));
    let ids = [&lost, &restored].map(|service| [1, 2].map(|seed| join(service, seed, at(2)).who.worker));
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0][0], ids[0][1]);
    let other = coordinator("other", &KEY.replace('7', "8"));
    assert_ne!(
        join(&other, 1, at(2)).who.worker,
        ids[0][0],
        "of another coordinator"
    );
}

#[test]
fn a_fresh_network_has_nothing_to_recover() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(Store::open_sqlite(&folder.path().join("db")).unwrap());
    join(&service, 1, at(1));
    assert_eq!(code(service.recover("main", true, at(2))), "nothing_to_recover");
    assert!(service.recoveries("main").unwrap().is_empty());
    assert_eq!(code(service.recover("other", true, at(2))), "unknown_chain");
}
