//! The coordinator's own transactions: roles that it gives as the first admin of a chain that it made.
//!
//! It holds no replica, so workers put them on the chain: a heartbeat's answer says how many there are, and a worker whose
//! chain has seen fewer asks for the rest. Grants alone: they cannot fail while the coordinator is an admin, and one that
//! failed would hold up all after it.

use super::chains::{chain_id, chain_row, spec_of};
use super::{Service, from_sql, to_sql};
use crate::error::ServiceError;
use crate::store::{MemberRow, OrderRow, WorkerRow};
use block_chain_common::agreement::majority;
use block_chain_common::chain_spec::Grant;
use block_chain_common::codec::encode;
use block_chain_common::coordinator_api::Orders;
use block_chain_common::hash::TxId;
use block_chain_common::keys::Address;
use block_chain_common::quantity::Nonce;
use block_chain_common::transaction::{Payload, Role, Transaction};

/// Transactions in one answer.
const MAX_ORDERS: i64 = 100;

impl Service {
    /// Signs a grant; the workers that are heard next put it on the chain.
    ///
    /// # Errors
    /// Where there is no such chain, a worker has made it, or the database fails.
    pub fn grant(&self, chain: &str, address: Address, role: Role) -> Result<TxId, ServiceError> {
        self.store.transaction(|tx| {
            let chain = chain_row(tx, chain)?;
            let (me, spec) = (self.key.public_key().address(), spec_of(tx, &chain.name)?);
            let is_first_admin = |grant: &Grant| grant.address == me && grant.role == Role::Admin;
            if !spec.grants.as_slice().iter().any(is_first_admin) {
                return Err(ServiceError::NotAdmin { chain: chain.name });
            }
            // After a restore from an old copy the chain may have more of them than are known here.
            let seen = seen_by_a_majority(&tx.members(&chain.name)?);
            let nonce = tx.next_order(&chain.name)?.max(seen);
            let payload = Payload::Grant { address, role };
            let transaction =
                Transaction::sign(chain_id(&chain)?, Nonce::new(from_sql(nonce)), payload, &self.key);
            tx.add_order(&OrderRow {
                chain: chain.name,
                nonce,
                body: hex::encode(encode(&transaction)),
            })?;
            Ok(transaction.id())
        })
    }

    /// The coordinator's transactions on a chain from a nonce on.
    ///
    /// # Errors
    /// Where there is no such chain, or the database fails.
    pub fn orders(&self, chain: &str, from: u64) -> Result<Orders, ServiceError> {
        self.store.read(|tx| {
            let chain = chain_row(tx, chain)?;
            let rows = tx.orders(&chain.name, to_sql(from), MAX_ORDERS)?;
            Ok(Orders {
                transactions: rows.into_iter().map(|row| row.body).collect(),
            })
        })
    }
}

/// How many of the coordinator's transactions a majority of the members has seen at least: one member alone may say anything.
fn seen_by_a_majority(members: &[(MemberRow, WorkerRow)]) -> i64 {
    let counting = members.iter().filter(|(member, _)| member.does_count());
    let mut seen: Vec<i64> = counting.map(|(member, _)| member.orders).collect();
    seen.sort_unstable_by(|a, b| b.cmp(a));
    let needed = majority(seen.len());
    seen.get(needed.saturating_sub(1)).copied().unwrap_or_default()
}
