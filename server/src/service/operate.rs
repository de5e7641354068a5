//! What an operator does with the network: looks at its terms, takes workers out, makes chains, asks for forks.

use super::membership::{counting, next_to_count};
use super::{Service, chain_row, from_sql, to_sql};
use crate::error::ServiceError;
use crate::store::{ForkWishRow, TermRow};
use block_chain_common::chain_spec::ChainSpec;
use block_chain_common::codec::encode;
use block_chain_common::coordinator_api::{ChainInfo, Event, Left};
use block_chain_common::limits::check_name;
use block_chain_common::quantity::{Height, Timestamp};
use uuid::Uuid;

/// Terms that are looked back at.
const MAX_TERMS: u64 = 1_000;
/// Forks that are asked for at a time.
const MAX_WISHES: usize = 64;
/// How long a fork is asked for: whoever was to make it has had its time.
const WISH_MS: u64 = 10 * 60_000;

impl Service {
    /// The last terms of a chain, the newest first.
    ///
    /// # Errors
    /// Where there is no such chain.
    pub fn terms(&self, chain: &str, limit: u64) -> Result<Vec<TermRow>, ServiceError> {
        self.store.read(|tx| {
            let chain = chain_row(tx, chain)?;
            Ok(tx.terms(&chain.name, to_sql(limit.min(MAX_TERMS)))?)
        })
    }

    /// Takes a worker out of a chain's network. It joins again with its next heartbeat where it still runs.
    ///
    /// # Errors
    /// Where there is no such chain or member, or it is the last that counts and nobody can take its place.
    pub fn evict(&self, chain: &str, worker: Uuid, now: Timestamp) -> Result<Left, ServiceError> {
        let (left, events) = self.store.transaction(|tx| {
            let chain = chain_row(tx, chain)?;
            let members = tx.members(&chain.name)?;
            let id = worker.to_string();
            let unknown = || ServiceError::UnknownWorker {
                id: worker,
                chain: chain.name.clone(),
            };
            let (member, _) = members
                .iter()
                .find(|(member, _)| member.worker == id)
                .ok_or_else(unknown)?;
            let last = tx.last_checkpoint(&chain.name)?;
            // Another can take its place only where it holds all that is committed.
            let is_last = member.does_count() && counting(&members) == 1;
            if is_last && members.len() > 1 && next_to_count(&members, last.as_ref()).is_none() {
                return Err(ServiceError::LastMember {
                    id: worker,
                    chain: chain.name,
                });
            }
            self.remove(tx, &chain, worker, now)
        })?;
        self.tell(events);
        Ok(Left { left })
    }

    /// Makes a chain whose first admin is an address, or the coordinator's own key.
    ///
    /// # Errors
    /// Where the spec breaks a rule or the name is taken.
    pub fn make_chain(&self, mut spec: ChainSpec) -> Result<ChainInfo, ServiceError> {
        spec.parent = None;
        self.add_chain(&hex::encode(encode(&spec)), "the operator")
    }

    /// Asks the chain's leader for a fork of it.
    ///
    /// # Errors
    /// Where the name is none or taken, or the block is not final.
    pub fn ask_for_fork(
        &self,
        chain: &str,
        name: &str,
        at: Height,
        now: Timestamp,
    ) -> Result<ForkWishRow, ServiceError> {
        check_name(name).map_err(|error| ServiceError::Malformed(error.to_string()))?;
        let (wish, event) = self.store.transaction(|tx| {
            let chain = chain_row(tx, chain)?;
            if tx.chain(name)?.is_some() {
                return Err(ServiceError::ChainExists {
                    name: name.to_owned(),
                });
            }
            if to_sql(at.get()) >= chain.final_size {
                return Err(ServiceError::Spec(format!(
                    "block {at} of chain {:?} is not final: {} blocks are",
                    chain.name, chain.final_size
                )));
            }
            let wishes = tx.fork_wishes()?;
            if wishes.len() >= MAX_WISHES {
                return Err(ServiceError::Busy(format!(
                    "{MAX_WISHES} forks are asked for already, no more are allowed at a time"
                )));
            }
            if wishes.iter().any(|wish| wish.name == name) {
                tx.remove_fork_wish(name)?;
            }
            let wish = ForkWishRow {
                name: name.to_owned(),
                chain: chain.name.clone(),
                height: to_sql(at.get()),
                asked_ms: to_sql(now.get()),
            };
            tx.add_fork_wish(&wish)?;
            Ok((wish, Event::Members { chain: chain.name }))
        })?;
        self.tell(vec![event]);
        Ok(wish)
    }

    /// The forks that are asked for, and not made yet.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn fork_wishes(&self) -> Result<Vec<ForkWishRow>, ServiceError> {
        self.store.read(|tx| Ok(tx.fork_wishes()?))
    }

    /// Forgets forks that were made, or were asked for too long ago.
    pub(super) fn forget_wishes(tx: &mut dyn crate::store::Tx, now: Timestamp) -> Result<(), ServiceError> {
        for wish in tx.fork_wishes()? {
            let is_old = now.get() > from_sql(wish.asked_ms).saturating_add(WISH_MS);
            if is_old || tx.chain(&wish.name)?.is_some() {
                tx.remove_fork_wish(&wish.name)?;
            }
        }
        Ok(())
    }
}
