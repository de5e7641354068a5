//! Roles that the coordinator gives as the first admin of its chain.

use crate::both::{Open, on_both};
use crate::network::{at, code, start};
use block_chain_common::codec::decode;
use block_chain_common::keys::SecretKey;
use block_chain_common::transaction::{CheckedTransaction, Payload, Role, Transaction};
use block_chain_server::service::stored_spec;

on_both!(grants_are_signed_in_order_and_kept);

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
