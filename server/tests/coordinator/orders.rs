//! Roles that the coordinator gives as the first admin of its chain.

use crate::both::{Open, on_both};
use crate::network::{at, code, heartbeat, network, start};
use block_chain_common::codec::decode;
use block_chain_common::keys::SecretKey;
use block_chain_common::transaction::{CheckedTransaction, Payload, Role, Transaction};
use block_chain_server::service::stored_spec;

on_both!(
    grants_are_signed_in_order_and_kept,
    grants_after_a_restore_follow_those_that_a_majority_has_seen,
);

fn grants_are_signed_in_order_and_kept(open: Open<'_>) {
    let service = start(open());
    let chain = stored_spec(&service.chain("main").unwrap())
        .unwrap()
        .check()
        .unwrap()
        .id();
    let to = |seed: u8| SecretKey::from_seed(&[seed; 32]).public_key().address();
    assert_eq!(service.view("main", at(1)).unwrap().orders, 0);
    assert!(service.orders("main", 0).unwrap().transactions.is_empty());
    assert_eq!(code(service.grant("other", to(1), Role::Issue)), "unknown_chain");
    let ids: Vec<_> = (1..=120)
        .map(|seed| service.grant("main", to(seed), Role::Issue).unwrap())
        .collect();
    assert_eq!(service.view("main", at(1)).unwrap().orders, 120);
    // As workers ask for them, some at a time.
    let mut seen = Vec::new();
    loop {
        let from = u64::try_from(seen.len()).unwrap();
        let page = service.orders("main", from).unwrap().transactions;
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 100);
        for text in page {
            let transaction: Transaction = decode(&hex::decode(text).unwrap()).unwrap();
            assert_eq!(transaction.nonce.get(), u64::try_from(seen.len()).unwrap());
            let checked = CheckedTransaction::check(transaction, chain).unwrap();
            assert_eq!(checked.transaction().sender, service.public_key());
            let seed = u8::try_from(seen.len() + 1).unwrap();
            let (address, role) = (to(seed), Role::Issue);
            assert_eq!(checked.transaction().payload, Payload::Grant { address, role });
            seen.push(checked.id());
        }
    }
    assert_eq!(seen, ids);
}

fn grants_after_a_restore_follow_those_that_a_majority_has_seen(open: Open<'_>) {
    let (service, workers) = network(open(), 3);
    let to = SecretKey::from_seed(&[9; 32]).public_key().address();
    let nonce = |from: u64| {
        let page = service.orders("main", from).unwrap().transactions;
        let last: Transaction = decode(&hex::decode(page.last().unwrap()).unwrap()).unwrap();
        last.nonce.get()
    };
    let sees = |worker: usize, orders: u64| {
        let mut seen = heartbeat(&service, 0);
        seen.orders = orders;
        service.heartbeat(&workers[worker].who, &seen, at(10)).unwrap();
    };
    service.grant("main", to, Role::Issue).unwrap();
    assert_eq!(nonce(0), 0);
    // One alone says that there are a thousand: nobody else does.
    sees(0, 1_000);
    service.grant("main", to, Role::Mine).unwrap();
    assert_eq!(nonce(0), 1);
    // Two have seen seven at least, of which this database knows two.
    sees(1, 7);
    service.grant("main", to, Role::Write).unwrap();
    assert_eq!((nonce(0), service.view("main", at(10)).unwrap().orders), (7, 8));
    assert_eq!(nonce(7), 7);
}
