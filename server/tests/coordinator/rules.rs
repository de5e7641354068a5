//! Each refusal beside an accepted neighbour, on SQLite and on PostgreSQL.

use crate::both::{Open, on_both};
use crate::network::{Tree, at, beat, code, cosigned, heartbeat, join, network, registration, sign, start};
use block_chain_common::keys::{SecretKey, Signature};
use block_chain_common::quantity::{Height, Term, Timestamp};
use block_chain_server::service::{Join, Service, Settings, stored_spec};

on_both!(
    a_key_keeps_its_id_and_its_last_token,
    a_challenge_is_good_once_and_for_a_minute,
    challenges_that_are_not_used_take_no_place,
    a_registration_that_breaks_a_rule_is_refused,
    a_join_token_made_here_is_kept_as_a_hash,
    a_silent_leader_is_followed_under_a_new_term,
    only_who_holds_the_last_committed_block_leads,
    agr_3_refuses_another_term_and_another_worker,
    agr_4_refuses_a_checkpoint_that_does_not_follow,
    agr_5_refuses_less_than_a_majority,
    agr_6_refuses_another_history,
    agr_7_refuses_what_is_no_cosignature_of_the_sender,
    agr_8_refuses_to_be_behind_a_worker,
    a_majority_of_cosignatures_is_final,
    a_doubtful_size_changes_nothing,
    the_silent_are_evicted_one_at_a_time_and_not_after_a_restart,
    what_the_rest_has_cosigned_is_final_when_one_leaves,
    a_leader_that_leaves_is_followed_at_once,
    a_clock_set_back_keeps_nobody_alive,
    a_restart_loses_nothing,
    of_two_servers_one_commits,
    texts_that_no_database_takes_are_refused,
);

fn a_key_keeps_its_id_and_its_last_token(open: Open<'_>) {
    let service = start(open());
    let (first, other) = (join(&service, 1, at(0)), join(&service, 2, at(0)));
    assert_ne!(first.who.worker, other.who.worker);
    service.leave(&first.who, "main", at(1)).unwrap();
    let again = join(&service, 1, at(2));
    assert_eq!(first.who.worker, again.who.worker);
    let id = Some(first.who.worker);
    assert_eq!(code(service.authenticate(id, Some(&first.token))), "worker_token");
    assert_eq!(code(service.authenticate(id, Some(&again.token))), "accepted");
    assert_eq!(code(service.authenticate(id, Some(&other.token))), "worker_token");
    for bad in [None, Some(""), Some("."), Some("x.y")] {
        assert_eq!(code(service.authenticate(id, bad)), "worker_token");
    }
    assert_ne!(
        service.register_without_key(at(3)).unwrap(),
        service.register_without_key(at(3)).unwrap()
    );
    assert_eq!(service.view("main", at(3)).unwrap().members.len(), 2);
}

fn a_challenge_is_good_once_and_for_a_minute(open: Open<'_>) {
    let service = start(open());
    let (late, old) = (registration(&service, 1, at(0)), registration(&service, 1, at(0)));
    assert_eq!(code(service.register(&late, at(59_999))), "accepted");
    assert_eq!(code(service.register(&late, at(59_999))), "challenge");
    assert_eq!(code(service.register(&old, at(60_000))), "challenge");
    for unknown in ["", "zz", "0", &"0".repeat(64), &"\0".repeat(64)] {
        assert_eq!(code(service.register(&sign(1, unknown), at(0))), "challenge");
    }
}

fn challenges_that_are_not_used_take_no_place(open: Open<'_>) {
    let (service, other) = (start(open()), start(open()));
    for _ in 0..10_001 {
        service.challenge(at(0)).unwrap();
    }
    // Whoever registers still does, at any server of the database, and once.
    let request = registration(&service, 1, at(1));
    assert_eq!(code(other.register(&request, at(2))), "accepted");
    assert_eq!(code(service.register(&request, at(3))), "challenge");
    assert_eq!(code(other.register(&request, at(3))), "challenge");
}

fn a_registration_that_breaks_a_rule_is_refused(open: Open<'_>) {
    let service = start(open());
    let good = || registration(&service, 1, at(0));
    let mut cases = vec![("accepted", good())];
    let mut bad = |expected, change: &dyn Fn(&mut _)| {
        let mut request = good();
        change(&mut request);
        cases.push((expected, request));
    };
    bad("version", &|r| r.api_version += 1);
    bad("challenge", &|r| r.signature = Signature::from_bytes([7; 64]));
    bad("challenge", &|r| {
        r.public_key = SecretKey::from_seed(&[9; 32]).public_key()
    });
    bad("challenge", &|r| r.chain = "other".to_owned());
    bad("malformed", &|r| r.name = Some("Upper".to_owned()));
    bad("malformed", &|r| r.addresses = vec!["nowhere".to_owned()]);
    bad("malformed", &|r| r.addresses = vec!["127.0.0.1:1".to_owned(); 17]);
    for api in [
        "javascript:alert(1)",
        "http://",
        "http://host/\0",
        "http://ho\nst",
        " http://host",
    ] {
        bad("malformed", &|r| r.api = Some(api.to_owned()));
    }
    bad("malformed", &|r| {
        r.api = Some(format!("http://{}", "a".repeat(300)))
    });
    bad("accepted", &|r| r.api = Some("http://127.0.0.1:8080".to_owned()));
    for (expected, request) in cases {
        assert_eq!(code(service.register(&request, at(1))), expected, "{request:?}");
    }
    assert_eq!(service.view("main", at(1)).unwrap().members.len(), 1);
}

fn a_join_token_made_here_is_kept_as_a_hash(open: Open<'_>) {
    let begin = || Service::start(open(), Settings::default(), Join::Kept, |_| ()).unwrap();
    let first = begin();
    let token = first.new_join_token().unwrap().to_owned();
    let again = begin();
    assert_eq!(again.new_join_token(), None, "it is shown once");
    let mut request = registration(&again, 1, at(0));
    assert_eq!(code(again.register(&request, at(0))), "join_token");
    request.token = Some(format!("{token}0"));
    assert_eq!(code(again.register(&request, at(0))), "join_token");
    request.token = Some(token);
    assert_eq!(code(again.register(&request, at(0))), "accepted");
}

fn a_silent_leader_is_followed_under_a_new_term(open: Open<'_>) {
    let (service, workers) = network(open(), 3);
    let leader = |now| {
        let view = service.view("main", now).unwrap();
        (
            view.term.get(),
            view.leader.map(|leader| leader.worker_id).unwrap(),
        )
    };
    assert_eq!(leader(at(5)), (1, workers[0].who.worker));
    // The lease is not over yet: the leader stays, however good another's head is.
    beat(&service, &workers[1], 5, at(6_001));
    beat(&service, &workers[2], 7, at(6_001));
    assert_eq!(leader(at(6_001)), (1, workers[0].who.worker));
    service.tick(at(6_002)).unwrap();
    assert_eq!(leader(at(6_002)), (2, workers[2].who.worker), "the best head");
    // Nobody is alive: the term stays, and the next to be heard leads.
    service.tick(at(30_000)).unwrap();
    assert_eq!(leader(at(30_000)).0, 2);
    beat(&service, &workers[0], 0, at(30_001));
    assert_eq!(leader(at(30_001)), (3, workers[0].who.worker));
}

fn only_who_holds_the_last_committed_block_leads(open: Open<'_>) {
    let (service, workers) = network(open(), 3);
    let tree = Tree::new(4, 0);
    let all: Vec<_> = workers.iter().collect();
    tree.commit(&service, (0, 4), &workers[0], &all).unwrap();
    let mut lacks = heartbeat(&service, 9);
    lacks.committed = Height::new(2);
    service.heartbeat(&workers[1].who, &lacks, at(10_000)).unwrap();
    assert_eq!(service.view("main", at(10_000)).unwrap().term, Term::new(1));
    let view = beat(&service, &workers[2], 3, at(10_001));
    assert_eq!(view.leader.unwrap().worker_id, workers[2].who.worker);
    assert_eq!(view.term, Term::new(2));
}

fn agr_3_refuses_another_term_and_another_worker(open: Open<'_>) {
    let (service, workers) = network(open(), 1);
    let stranger = join(&service, 9, at(5));
    let tree = Tree::new(3, 0);
    let all = [&workers[0], &stranger];
    assert_eq!(code(tree.commit(&service, (0, 2), &stranger, &all)), "stale_term");
    for term in [0, 2, u64::MAX] {
        let mut request = tree.request(&service, (0, 2), &all);
        request.term = Term::new(term);
        let refused = service.commit(&workers[0].who, "main", &request).unwrap_err();
        assert_eq!(refused.code(), "stale_term");
        assert!(refused.to_string().contains("term 1 "), "{refused}");
    }
    assert_eq!(code(tree.commit(&service, (0, 2), &workers[0], &all)), "accepted");
}

fn agr_4_refuses_a_checkpoint_that_does_not_follow(open: Open<'_>) {
    let (service, workers) = network(open(), 1);
    let (tree, all) = (Tree::new(9, 0), [&workers[0]]);
    let commit = |old, new| code(tree.commit(&service, (old, new), &workers[0], &all));
    assert_eq!(commit(1, 2), "stale_checkpoint");
    assert_eq!(commit(0, 3), "accepted");
    assert_eq!(
        commit(0, 3),
        "accepted",
        "the answer was lost and is asked for again"
    );
    assert_eq!(commit(3, 3), "accepted");
    for (old, new) in [(0, 4), (2, 4), (4, 5), (3, 2)] {
        assert_eq!(commit(old, new), "stale_checkpoint", "{old} {new}");
    }
    assert_eq!(commit(3, 9), "accepted", "several blocks at once");
    let sizes = service.checkpoints("main", 0, 10).unwrap().checkpoints;
    assert_eq!(sizes.iter().map(|c| c.size).collect::<Vec<_>>(), [3, 9]);
    let page = service.checkpoints("main", 0, 1).unwrap();
    assert_eq!((page.checkpoints.len(), page.next), (1, Some(9)));
}

fn agr_5_refuses_less_than_a_majority(open: Open<'_>) {
    let (service, workers) = network(open(), 3);
    let stranger = join(&service, 9, at(9));
    service.leave(&stranger.who, "main", at(9)).unwrap();
    let tree = Tree::new(3, 0);
    let [one, two, _] = &workers[..] else { panic!() };
    for (expected, acknowledge) in [
        ("no_quorum", vec![]),
        ("no_quorum", vec![one]),
        ("no_quorum", vec![one, one, one]),
        ("no_quorum", vec![one, &stranger]),
        ("accepted", vec![one, two]),
    ] {
        assert_eq!(code(tree.commit(&service, (0, 2), one, &acknowledge)), expected);
    }
    // Acknowledgements of another term, block or place are none of this block's.
    let good = tree.request(&service, (2, 3), &[one, two]);
    for (size, term) in [(2, 1), (3, 2)] {
        let mut request = good.clone();
        let chain = service.chain("main").unwrap().id;
        let what = (size, request.block, request.root);
        request.acknowledgements = crate::network::acknowledge(chain, Term::new(term), what, &[one, two]);
        assert_eq!(code(service.commit(&one.who, "main", &request)), "no_quorum");
    }
    for broken in ["", "zz", "00", &good.acknowledgements[0][2..]] {
        let mut request = good.clone();
        request.acknowledgements.push(broken.to_owned());
        assert_eq!(code(service.commit(&one.who, "main", &request)), "malformed");
    }
    let mut many = good.clone();
    many.acknowledgements = vec![good.acknowledgements[0].clone(); 257];
    assert_eq!(code(service.commit(&one.who, "main", &many)), "malformed");
    assert_eq!(code(service.commit(&one.who, "main", &good)), "accepted");
}

fn agr_6_refuses_another_history(open: Open<'_>) {
    let (service, workers) = network(open(), 1);
    let (tree, other, all) = (Tree::new(7, 0), Tree::new(7, 1), [&workers[0]]);
    tree.commit(&service, (0, 3), &workers[0], &all).unwrap();
    assert_eq!(
        code(other.commit(&service, (3, 7), &workers[0], &all)),
        "inconsistent"
    );
    let mut request = tree.request(&service, (3, 7), &all);
    request.consistency.pop();
    assert_eq!(
        code(service.commit(&workers[0].who, "main", &request)),
        "inconsistent"
    );
    assert_eq!(code(tree.commit(&service, (3, 7), &workers[0], &all)), "accepted");
}

fn agr_7_refuses_what_is_no_cosignature_of_the_sender(open: Open<'_>) {
    let (service, workers) = network(open(), 2);
    let tree = Tree::new(3, 0);
    let all: Vec<_> = workers.iter().collect();
    tree.commit(&service, (0, 2), &workers[0], &all).unwrap();
    let [one, two] = &workers[..] else { panic!() };
    let good = cosigned(&service, 2, &one.key);
    let send = |worker: &crate::network::Worker, size, note: &str| {
        let note = note.to_owned();
        let request = block_chain_common::coordinator_api::CosignRequest { size, note };
        code(service.cosign(&worker.who, "main", &request))
    };
    assert_eq!(send(two, 2, &good.note), "cosignature", "another's");
    assert_eq!(send(one, 3, &good.note), "cosignature", "no such size");
    assert_eq!(
        send(one, 2, &good.note.replace("\nterm 1", "\nterm 2")),
        "cosignature"
    );
    for text in ["", "\n", "nonsense", &"x".repeat(100_000)] {
        assert_eq!(send(one, 2, text), "cosignature");
    }
    // A bad line under the same name before the good one must not be taken for it.
    let (text, line) = good.note.split_once("— ").unwrap();
    let (name, bytes) = line.trim_end().split_once(' ').unwrap();
    let mut bad = bytes.to_owned();
    bad.replace_range(20..24, "AAAA");
    let doubled = format!("{text}— {name} {bad}\n— {line}");
    assert_eq!(send(one, 2, &doubled), "accepted");
    let kept = service.checkpoints("main", 2, 1).unwrap();
    assert!(kept.checkpoints[0].note.contains(bytes));
    assert!(!kept.checkpoints[0].note.contains(&bad));
    service.leave(&two.who, "main", at(9)).unwrap();
    let late = cosigned(&service, 2, &two.key);
    assert_eq!(code(service.cosign(&two.who, "main", &late)), "unknown_worker");
}

fn agr_8_refuses_to_be_behind_a_worker(open: Open<'_>) {
    let (service, workers) = network(open(), 1);
    let tree = Tree::new(3, 0);
    tree.commit(&service, (0, 2), &workers[0], &[&workers[0]])
        .unwrap();
    let send = |term, size| {
        let mut beat = heartbeat(&service, 5);
        (beat.term, beat.checkpoint_size) = (Term::new(term), size);
        code(service.heartbeat(&workers[0].who, &beat, at(10)))
    };
    assert_eq!(send(1, 2), "accepted");
    assert_eq!(send(0, 0), "accepted", "a worker may know less");
    assert_eq!(send(2, 2), "coordinator_behind");
    assert_eq!(send(1, 3), "coordinator_behind");
    assert_eq!(send(u64::MAX, u64::MAX), "coordinator_behind");
}

fn a_majority_of_cosignatures_is_final(open: Open<'_>) {
    let (service, workers) = network(open(), 3);
    let tree = Tree::new(5, 0);
    let all: Vec<_> = workers.iter().collect();
    tree.commit(&service, (0, 2), &workers[0], &all).unwrap();
    tree.commit(&service, (2, 5), &workers[0], &all).unwrap();
    let send = |worker: &crate::network::Worker| {
        let note = cosigned(&service, 5, &worker.key);
        let view = service.cosign(&worker.who, "main", &note).unwrap();
        (view.cosignatures, view.is_final)
    };
    assert_eq!(send(&workers[1]), (1, false));
    assert_eq!(send(&workers[1]), (1, false), "twice is once");
    assert_eq!(service.view("main", at(9)).unwrap().final_size, 0);
    assert_eq!(send(&workers[0]), (2, true));
    assert_eq!(service.view("main", at(9)).unwrap().final_size, 5);
    let page = service.checkpoints("main", 0, 9).unwrap();
    assert!(page.checkpoints.iter().all(|checkpoint| checkpoint.is_final));
    // A late cosignature of an earlier one takes nothing back.
    let late = cosigned(&service, 2, &workers[2].key);
    service.cosign(&workers[2].who, "main", &late).unwrap();
    assert_eq!(service.view("main", at(9)).unwrap().final_size, 5);
}

fn a_doubtful_size_changes_nothing(open: Open<'_>) {
    let (service, workers) = network(open(), 1);
    let tree = Tree::new(2, 0);
    for size in [0, u64::MAX, 1 << 63] {
        let mut request = tree.request(&service, (0, 2), &[&workers[0]]);
        request.size = size;
        assert_ne!(
            code(service.commit(&workers[0].who, "main", &request)),
            "accepted"
        );
    }
    assert!(service.view("main", at(9)).unwrap().checkpoint.is_none());
    assert!(
        service
            .checkpoints("main", u64::MAX, u64::MAX)
            .unwrap()
            .checkpoints
            .is_empty()
    );
}

fn the_silent_are_evicted_one_at_a_time_and_not_after_a_restart(open: Open<'_>) {
    let (service, workers) = network(open(), 4);
    let members = |service: &Service, now| service.view("main", now).unwrap().members.len();
    service.tick(at(0)).unwrap();
    beat(&service, &workers[3], 0, at(60_000));
    for (now, left) in [
        (60_001, 4),
        (60_002, 3),
        (60_002, 3),
        (60_010, 2),
        (60_010, 1),
        (60_010, 1),
    ] {
        service.tick(at(now)).unwrap();
        assert_eq!(members(&service, at(now)), left, "at {now}");
    }
    let view = beat(&service, &workers[0], 0, at(60_011));
    assert_eq!(view.members.len(), 2, "one that is heard again is a member again");
    // The coordinator was away for a day: everybody has the whole time to be heard.
    drop(service);
    let service = start(open());
    let day = 86_400_000;
    for now in [day, day + 60_000] {
        service.tick(at(now)).unwrap();
        assert_eq!(members(&service, at(now)), 2);
    }
    service.tick(at(day + 60_001)).unwrap();
    assert_eq!(members(&service, at(day + 60_001)), 1);
}

fn what_the_rest_has_cosigned_is_final_when_one_leaves(open: Open<'_>) {
    let (service, workers) = network(open(), 3);
    let all: Vec<_> = workers.iter().collect();
    Tree::new(2, 0)
        .commit(&service, (0, 2), &workers[0], &all)
        .unwrap();
    let note = cosigned(&service, 2, &workers[0].key);
    service.cosign(&workers[0].who, "main", &note).unwrap();
    service.leave(&workers[1].who, "main", at(9)).unwrap();
    assert_eq!(service.view("main", at(9)).unwrap().final_size, 0, "one of two");
    service.leave(&workers[2].who, "main", at(9)).unwrap();
    assert_eq!(service.view("main", at(9)).unwrap().final_size, 2, "one of one");
}

fn a_leader_that_leaves_is_followed_at_once(open: Open<'_>) {
    let (service, workers) = network(open(), 2);
    assert!(service.leave(&workers[0].who, "main", at(9)).unwrap().left);
    assert!(!service.leave(&workers[0].who, "main", at(9)).unwrap().left);
    let view = service.view("main", at(9)).unwrap();
    assert_eq!(view.leader.unwrap().worker_id, workers[1].who.worker);
    assert_eq!((view.term, view.quorum), (Term::new(2), 1));
    service.leave(&workers[1].who, "main", at(9)).unwrap();
    let view = service.view("main", at(9)).unwrap();
    assert_eq!((view.leader, view.term), (None, Term::new(2)));
    // Back again: under a new term, so that what it proposed before is over.
    let back = join(&service, 2, at(10));
    assert_eq!(back.who.worker, workers[1].who.worker);
    assert_eq!(service.view("main", at(10)).unwrap().term, Term::new(3));
}

fn a_clock_set_back_keeps_nobody_alive(open: Open<'_>) {
    let service = start(open());
    join(&service, 1, at(3_600_000));
    service.tick(at(0)).unwrap();
    let alive = |now| service.view("main", now).unwrap().members[0].alive;
    assert!(alive(at(6_000)) && !alive(at(6_001)));
}

fn a_restart_loses_nothing(open: Open<'_>) {
    let (service, workers) = network(open(), 1);
    let tree = Tree::new(4, 0);
    tree.commit(&service, (0, 2), &workers[0], &[&workers[0]])
        .unwrap();
    let note = cosigned(&service, 2, &workers[0].key);
    service.cosign(&workers[0].who, "main", &note).unwrap();
    let (view, chain) = (
        service.view("main", at(9)).unwrap(),
        service.chain("main").unwrap(),
    );
    drop(service);
    let service = start(open());
    assert_eq!(service.view("main", at(9)).unwrap(), view);
    assert_eq!(
        service.chain("main").unwrap(),
        chain,
        "key and genesis are the same"
    );
    assert_eq!(
        code(service.authenticate(None, Some(&workers[0].token))),
        "accepted"
    );
    assert_eq!(
        code(tree.commit(&service, (2, 4), &workers[0], &[&workers[0]])),
        "accepted"
    );
    // Flags that would make another chain are refused, the same ones are not.
    let interval = stored_spec(&chain).unwrap().block_interval_ms;
    let begin = |interval| {
        Service::start(open(), Settings::default(), Join::Open, move |spec| {
            spec.block_interval_ms = interval;
        })
        .is_ok()
    };
    assert!(begin(interval) && !begin(interval + 1));
}

fn of_two_servers_one_commits(open: Open<'_>) {
    let (service, workers) = network(open(), 1);
    let other = start(open());
    assert_eq!(service.chain("main").unwrap(), other.chain("main").unwrap());
    let trees = [Tree::new(20, 0), Tree::new(20, 1)];
    for size in 1..20 {
        // Both follow whatever is there; the loser's history cannot go on after that.
        let results = std::thread::scope(|scope| {
            let commits = [(&service, &trees[0]), (&other, &trees[1])].map(|(server, tree)| {
                let workers = &workers;
                scope.spawn(move || code(tree.commit(server, (size - 1, size), &workers[0], &[&workers[0]])))
            });
            commits.map(|commit| commit.join().unwrap())
        });
        let accepted = results.iter().filter(|code| *code == "accepted").count();
        assert_eq!(accepted, 1, "{results:?}");
        assert!(!results.contains(&"database".to_owned()), "{results:?}");
    }
    assert_eq!(service.view("main", at(9)).unwrap().checkpoint.unwrap().size, 19);
}

fn texts_that_no_database_takes_are_refused(open: Open<'_>) {
    let (service, workers) = network(open(), 1);
    for name in ["", "\0", "a\0b", "MAIN", "main ", &"x".repeat(10_000)] {
        assert_eq!(code(service.view(name, at(0))), "unknown_chain");
        assert_eq!(code(service.leave(&workers[0].who, name, at(0))), "unknown_chain");
    }
    assert_eq!(code(service.view("main", Timestamp::new(u64::MAX))), "accepted");
    assert_eq!(code(service.view("main", Timestamp::new(0))), "accepted");
}
