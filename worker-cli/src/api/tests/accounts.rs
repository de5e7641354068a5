//! What addresses have, did, and may do.

use super::*;
use crate::api::types::{AccountView, HistoryView, Movement, RolesView};
use block_chain_common::codec::BoundedBytes;
use block_chain_common::keys::{Address, SecretKey};
use block_chain_common::quantity::Amount;
use block_chain_common::transaction::Role;

impl Served {
    async fn sign(&self, seed: u8, nonce: u64, payload: Payload) {
        let (key, chain) = (SecretKey::from_seed(&[seed; 32]), self.fake.node.chain_id());
        let signed = Transaction::sign(chain, Nonce::new(nonce), payload, &key);
        let body = json!({ "transactions": [hex::encode(encode(&signed))] });
        let _: Accepted = self.post("/v1/transactions", &body).await.json();
    }

    async fn account(&self, seed: u8) -> AccountView {
        self.get(&format!("/v1/accounts/{}", address(seed))).await.json()
    }

    async fn history(&self, seed: u8, query: &str) -> HistoryView {
        let path = format!("/v1/accounts/{}/history{query}", address(seed));
        self.get(&path).await.json()
    }

    async fn mined(&self) {
        let _: Mined = self.post("/v1/mine", &json!({})).await.json();
    }
}

fn address(seed: u8) -> Address {
    SecretKey::from_seed(&[seed; 32]).public_key().address()
}

fn transfer(to: u8, amount: u64, memo: &str) -> Payload {
    Payload::Transfer {
        to: address(to),
        amount: Amount::new(amount),
        memo: BoundedBytes::new(memo.as_bytes().to_vec()).unwrap(),
    }
}

/// The fake node's own key has seed 7, and is the chain's admin and issuer.
async fn with_a_deposit() -> Served {
    let served = Served::start().await;
    let deposit = Payload::Deposit {
        to: address(20),
        amount: Amount::new(100),
    };
    served.sign(7, 0, deposit).await;
    served
}

#[actix_web::test]
async fn what_waits_counts_at_once_and_is_confirmed_by_a_block() {
    let served = with_a_deposit().await;
    let before = served.account(20).await;
    assert_eq!(
        (before.confirmed.get(), before.pending, before.available.get()),
        (0, 100, 0)
    );
    served.mined().await;
    let after = served.account(20).await;
    assert_eq!(
        (after.confirmed.get(), after.pending, after.available.get()),
        (100, 0, 100)
    );
    served.sign(20, 0, transfer(21, 60, "rent")).await;
    served
        .sign(
            20,
            1,
            Payload::Stake {
                amount: Amount::new(15),
            },
        )
        .await;
    let waiting = served.account(20).await;
    assert_eq!(
        (waiting.confirmed.get(), waiting.pending, waiting.available.get()),
        (100, -75, 25)
    );
    assert_eq!(served.account(21).await.pending, 60);
    served.mined().await;
    let paid = served.account(20).await;
    assert_eq!(
        (paid.confirmed.get(), paid.stake.get(), paid.pending),
        (25, 15, 0)
    );
    served
        .sign(
            20,
            2,
            Payload::Unstake {
                amount: Amount::new(5),
            },
        )
        .await;
    served.mined().await;
    let released = served.account(20).await;
    assert_eq!((released.confirmed.get(), released.stake.get()), (25, 10));
    assert_eq!(
        (
            released.releasing[0].amount.get(),
            released.releasing[0].from.get()
        ),
        (5, 103)
    );
}

#[actix_web::test]
async fn a_history_has_both_sides_newest_first_in_pages() {
    let served = with_a_deposit().await;
    served.mined().await;
    served.sign(20, 0, transfer(21, 60, "rent")).await;
    served.mined().await;
    served.sign(20, 1, transfer(21, 1, "")).await;
    let told = |entries: &[Movement]| -> Vec<(String, i128, Option<Address>, Option<u64>)> {
        let told = entries.iter().map(|entry| {
            let block = entry.block.map(Height::get);
            (entry.kind.clone(), entry.change, entry.with, block)
        });
        told.collect()
    };
    let sender = served.history(20, "").await;
    let expected = [
        ("transfer".to_owned(), -1, Some(address(21)), None),
        ("transfer".to_owned(), -60, Some(address(21)), Some(2)),
        ("deposit".to_owned(), 100, Some(address(7)), Some(1)),
    ];
    assert_eq!(told(&sender.entries), expected);
    assert_eq!(
        (sender.entries[1].memo.as_deref(), &sender.next),
        (Some("rent"), &None)
    );
    let receiver = served.history(21, "").await;
    assert_eq!(
        told(&receiver.entries)[1],
        ("transfer".to_owned(), 60, Some(address(20)), Some(2))
    );
    // What the issuer did, and what its blocks paid it; a page at a time.
    let first = served.history(7, "?limit=2").await;
    assert_eq!(told(&first.entries)[0], ("reward".to_owned(), 1, None, Some(2)));
    let next = first.next.unwrap();
    let second = served.history(7, &format!("?limit=2&before={next}")).await;
    assert_eq!(
        told(&second.entries),
        [("deposit".to_owned(), 0, Some(address(20)), Some(1))]
    );
    assert_eq!(second.next, None);
}

#[actix_web::test]
async fn roles_are_given_listed_and_taken() {
    let served = Served::start().await;
    let grant = |to: u8, role| Payload::Grant {
        address: address(to),
        role,
    };
    served.sign(7, 0, grant(20, Role::Issue)).await;
    served.sign(7, 1, grant(21, Role::Admin)).await;
    served.mined().await;
    assert_eq!(served.account(20).await.roles, [Role::Issue]);
    let roles: RolesView = served.get("/v1/roles").await.json();
    assert_eq!(roles.open, [Role::Write, Role::Mine]);
    let mut expected = vec![
        (address(7), vec![Role::Admin, Role::Issue]),
        (address(20), vec![Role::Issue]),
        (address(21), vec![Role::Admin]),
    ];
    expected.sort_by_key(|(address, _)| *address);
    let (mut paged, mut after) = (Vec::new(), String::new());
    loop {
        let page: RolesView = served.get(&format!("/v1/roles?limit=1{after}")).await.json();
        paged.extend(
            page.holders
                .into_iter()
                .map(|holder| (holder.address, holder.roles)),
        );
        match page.next {
            Some(last) => after = format!("&after={last}"),
            None => break,
        }
    }
    assert_eq!(paged, expected);
    let revoke = Payload::Revoke {
        address: address(20),
        role: Role::Issue,
    };
    served.sign(21, 0, revoke).await;
    served.mined().await;
    assert!(served.account(20).await.roles.is_empty());
    let history = served.history(20, "").await;
    let told: Vec<_> = history
        .entries
        .iter()
        .map(|entry| (entry.kind.as_str(), entry.role))
        .collect();
    assert_eq!(
        told,
        [("revoke", Some(Role::Issue)), ("grant", Some(Role::Issue))]
    );
}
