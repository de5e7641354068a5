//! Making chains, and being heard on several.

use crate::both::{Open, on_both};
use crate::network::{at, beat, heartbeat, join, network, start};
use block_chain_common::chain_spec::{ChainSpec, Parent};
use block_chain_common::codec::{BoundedVec, encode};
use block_chain_common::coordinator_api::{ChainHeard, Event};
use block_chain_common::hash::{BlockHash, ChainId, Digest};
use block_chain_common::keys::SecretKey;
use block_chain_common::limits::{MAX_CHAIN_WORKERS, MAX_HEARTBEATS};
use block_chain_common::quantity::{Amount, Height};
use block_chain_common::transaction::Role;

on_both!(
    a_chain_is_made_once_and_the_same_again_is_no_other,
    a_worker_makes_so_many_chains_and_the_operator_more,
    a_fork_begins_at_a_final_block_of_a_chain_that_is_here,
    a_worker_is_heard_on_several_chains_at_once_and_joins_those_it_was_not_in,
    a_chain_has_as_many_workers_as_it_may_however_they_come,
    the_coordinator_grants_nothing_on_a_chain_that_a_worker_made,
);

fn spec(name: &str) -> ChainSpec {
    ChainSpec::default_for(name, SecretKey::from_seed(&[1; 32]).public_key().address())
}

fn hex(spec: &ChainSpec) -> String {
    hex::encode(encode(spec))
}

fn a_chain_is_made_once_and_the_same_again_is_no_other(open: Open<'_>) {
    let (service, workers) = network(open(), 1);
    let mut events = service.subscribe();
    let who = &workers[0].who;
    let made = service.create_chain(who, &hex(&spec("audit"))).unwrap();
    assert_eq!(made.id, spec("audit").check().unwrap().id());
    assert_eq!(service.create_chain(who, &hex(&spec("audit"))).unwrap(), made);
    let told = events.try_recv().unwrap();
    assert_eq!(
        (told.chain(), matches!(told, Event::Chain { .. })),
        ("audit", true)
    );
    assert!(events.try_recv().is_err(), "it is told once");
    let names: Vec<_> = service
        .chain_list(at(0))
        .unwrap()
        .into_iter()
        .map(|chain| chain.name)
        .collect();
    assert_eq!(names, ["audit", "main"]);

    let mut other = spec("audit");
    other.reward = Amount::new(7);
    let refused = |spec: &str| service.create_chain(who, spec).unwrap_err();
    assert_eq!(refused(&hex(&other)).code(), "chain_exists");
    let mut broken = spec("bad");
    broken.decimals = 19;
    assert!(refused(&hex(&broken)).to_string().starts_with("SPEC-3"));
    for unreadable in ["", "zz", "00", &hex(&spec("more"))[2..]] {
        assert_eq!(refused(unreadable).code(), "spec", "{unreadable}");
    }
    assert_eq!(service.chain_list(at(0)).unwrap().len(), 2, "nothing changed");
}

fn a_worker_makes_so_many_chains_and_the_operator_more(open: Open<'_>) {
    let (service, workers) = network(open(), 2);
    let make = |worker: usize, n: usize| {
        service.create_chain(&workers[worker].who, &hex(&spec(&format!("chain-{n}"))))
    };
    for n in 0..256 {
        make(0, n).unwrap();
    }
    let refused = make(0, 256).unwrap_err();
    assert_eq!(refused.code(), "too_many_chains");
    let said = refused.to_string();
    assert!(
        said.contains("made 256 chains") && said.contains("at most 256"),
        "{said}"
    );
    // One that is there is no other, whoever asks again.
    assert_eq!(make(0, 3).unwrap().name, "chain-3");
    assert_eq!(make(1, 256).unwrap().name, "chain-256");
    assert_eq!(service.make_chain(spec("chain-300")).unwrap().name, "chain-300");
    service.ready().unwrap();
    service.tick(at(0)).unwrap();
}

fn a_fork_begins_at_a_final_block_of_a_chain_that_is_here(open: Open<'_>) {
    let (service, workers) = network(open(), 1);
    let fork = |chain: ChainId, height: u64| ChainSpec {
        grants: BoundedVec::default(),
        parent: Some(Parent {
            chain,
            height: Height::new(height),
            block: BlockHash::from_bytes([1; 32]),
            state_digest: Digest::ZERO,
        }),
        ..spec("fork")
    };
    let refused = |spec: ChainSpec| {
        service
            .create_chain(&workers[0].who, &hex(&spec))
            .unwrap_err()
            .to_string()
    };
    let nowhere = refused(fork(ChainId::from_bytes([9; 32]), 0));
    assert!(nowhere.contains("is no chain of this coordinator"), "{nowhere}");
    let main = service.chain("main").unwrap().id;
    let early = refused(fork(main, 0));
    assert!(early.contains("is not final"), "{early}");
}

fn a_worker_is_heard_on_several_chains_at_once_and_joins_those_it_was_not_in(open: Open<'_>) {
    let (service, workers) = network(open(), 2);
    let who = &workers[1].who;
    service.create_chain(who, &hex(&spec("audit"))).unwrap();
    let on = |chain: &str| {
        let mut beat = heartbeat(&service, 0);
        (beat.term, beat.checkpoint_size) = Default::default();
        chain.clone_into(&mut beat.chain);
        beat
    };
    let mut ahead = on("main");
    ahead.checkpoint_size = 5;
    let beats = [on("audit"), on("none"), ahead, on("main")];
    let heard = service.heartbeats(who, &beats, at(10)).unwrap().chains;
    let told: Vec<String> = heard
        .iter()
        .map(|heard| match heard {
            ChainHeard::View(view) => format!("{} {}", view.chain, view.members.len()),
            ChainHeard::Refused(error) => error.code.clone(),
        })
        .collect();
    assert_eq!(told, ["audit 1", "unknown_chain", "coordinator_behind", "main 2"]);
    let audit = service.view("audit", at(10)).unwrap();
    assert_eq!(
        audit.leader.unwrap().worker_id,
        who.worker,
        "it is alone there, and leads"
    );
    assert!(service.leave(who, "audit", at(20)).unwrap().left);
    assert_eq!(
        service.view("main", at(20)).unwrap().members.len(),
        2,
        "of one chain alone"
    );

    let many = vec![on("main"); MAX_HEARTBEATS + 1];
    let refused = service.heartbeats(who, &many, at(30)).unwrap_err().to_string();
    assert!(refused.contains("at most 64"), "{refused}");
    let mut bad = on("main");
    bad.addresses = vec!["nowhere".to_owned()];
    assert_eq!(
        service
            .heartbeats(who, &[on("main"), bad], at(30))
            .unwrap_err()
            .code(),
        "malformed"
    );
}

fn a_chain_has_as_many_workers_as_it_may_however_they_come(open: Open<'_>) {
    let service = start(open());
    for seed in 0..u8::MAX {
        join(&service, seed, at(0));
    }
    join(&service, u8::MAX, at(0));
    assert_eq!(
        service.view("main", at(0)).unwrap().members.len(),
        MAX_CHAIN_WORKERS
    );
    service
        .create_chain(&join(&service, 1, at(0)).who, &hex(&spec("audit")))
        .unwrap();
    let mut one_more = sign_for_audit(&service);
    one_more.name = None;
    let registered = service.register(&one_more, at(0)).unwrap();
    let who = service
        .authenticate(Some(registered.worker_id), Some(&registered.worker_token))
        .unwrap();
    let refused = service
        .heartbeat(&who, &heartbeat(&service, 0), at(0))
        .unwrap_err();
    assert_eq!(refused.code(), "full");
}

/// A registration for chain `audit` with a key that no other test worker has.
fn sign_for_audit(
    service: &block_chain_server::service::Service,
) -> block_chain_common::coordinator_api::RegisterRequest {
    use block_chain_common::coordinator_api::registration_bytes;
    let challenge = service.challenge(at(0)).unwrap().challenge;
    let key = SecretKey::from_seed(&[1, 2].repeat(16).try_into().unwrap());
    let mut request = crate::network::sign(1, &challenge);
    request.chain = "audit".to_owned();
    request.public_key = key.public_key();
    request.signature = key.sign(&registration_bytes(&challenge, "audit", &request.public_key));
    request
}

fn the_coordinator_grants_nothing_on_a_chain_that_a_worker_made(open: Open<'_>) {
    let (service, workers) = network(open(), 1);
    service
        .create_chain(&workers[0].who, &hex(&spec("audit")))
        .unwrap();
    let address = workers[0].key.public_key().address();
    assert_eq!(
        service.grant("audit", address, Role::Issue).unwrap_err().code(),
        "not_admin"
    );
    assert!(service.grant("main", address, Role::Issue).is_ok());
    beat(&service, &workers[0], 0, at(10));
    assert_eq!(service.view("audit", at(10)).unwrap().orders, 0);
    assert_eq!(service.view("main", at(10)).unwrap().orders, 1);
}
