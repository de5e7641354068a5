//! What an operator does with the network: looks at its terms, takes workers out, makes chains, asks for forks.

use super::membership::{counting, next_to_count};
use super::{Service, chain_row, from_sql, to_sql};
use crate::error::ServiceError;
use crate::store::{ForkWishRow, TermRow, Tx, WorkerRow};
use block_chain_common::chain_spec::ChainSpec;
use block_chain_common::codec::encode;
use block_chain_common::coordinator_api::{ChainInfo, Event, Left};
use block_chain_common::limits::check_name;
use block_chain_common::quantity::{Height, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Terms that are looked back at.
const MAX_TERMS: u64 = 1_000;
/// Forks that are asked for at a time.
const MAX_WISHES: usize = 64;
/// How long a fork is asked for: whoever was to make it has had its time.
const WISH_MS: u64 = 10 * 60_000;

/// What a ban has done to a worker's memberships.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ban {
    /// The chains that it was taken out of.
    pub left: Vec<String>,
    /// Those where it is the last that counts, and stays until another holds all that is committed.
    pub stays: Vec<String>,
}

/// Whether a worker may be taken out of a chain.
enum Membership {
    /// It is no member.
    None,
    May,
    /// It is the last that counts, and nobody can take its place.
    Last,
}

fn membership_of(tx: &mut dyn Tx, chain: &str, worker: Uuid) -> Result<Membership, ServiceError> {
    let (members, id) = (tx.members(chain)?, worker.to_string());
    let Some((member, _)) = members.iter().find(|(member, _)| member.worker == id) else {
        return Ok(Membership::None);
    };
    let last = tx.last_checkpoint(chain)?;
    // Another can take its place only where it holds all that is committed.
    let is_last = member.does_count() && counting(&members) == 1;
    let stays = is_last && members.len() > 1 && next_to_count(&members, last.as_ref()).is_none();
    Ok(if stays { Membership::Last } else { Membership::May })
}

fn known_worker(tx: &mut dyn Tx, id: Uuid) -> Result<WorkerRow, ServiceError> {
    tx.worker(&id.to_string())?.ok_or(ServiceError::NoWorker { id })
}

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
            match membership_of(tx, &chain.name, worker)? {
                Membership::May => self.remove(tx, &chain, worker, now),
                Membership::Last => Err(ServiceError::LastMember {
                    id: worker,
                    chain: chain.name,
                }),
                Membership::None => Err(ServiceError::UnknownWorker {
                    id: worker,
                    chain: chain.name,
                }),
            }
        })?;
        self.tell(events);
        Ok(Left { left })
    }

    /// Shuts a worker out until it is let back in: its token is gone, it registers no more, and it is no member any more
    /// but where it is the last that counts. There it is silent from now on, and goes when another can take its place.
    ///
    /// # Errors
    /// Where there is no such worker, or the database fails.
    pub fn ban(&self, worker: Uuid, now: Timestamp) -> Result<Ban, ServiceError> {
        let (ban, events) = self.store.transaction(|tx| {
            let known = known_worker(tx, worker)?;
            let since = known.banned_ms.unwrap_or_else(|| to_sql(now.get()));
            tx.set_banned(&known.id, Some(since))?;
            let (mut ban, mut events) = (Ban::default(), Vec::new());
            for chain in tx.chains()? {
                match membership_of(tx, &chain.name, worker)? {
                    Membership::May => {
                        events.extend(self.remove(tx, &chain, worker, now)?.1);
                        ban.left.push(chain.name);
                    }
                    Membership::Last => ban.stays.push(chain.name),
                    Membership::None => {}
                }
            }
            Ok::<_, ServiceError>((ban, events))
        })?;
        tracing::warn!(%worker, "the operator has banned a worker");
        self.tell(events);
        Ok(ban)
    }

    /// Lets a banned worker back in: it registers again by itself, with its key and without a join token.
    ///
    /// # Errors
    /// Where there is no such worker, or the database fails.
    pub fn unban(&self, worker: Uuid) -> Result<(), ServiceError> {
        self.store.transaction(|tx| {
            let known = known_worker(tx, worker)?;
            match known.banned_ms {
                Some(_) => Ok::<_, ServiceError>(tx.set_banned(&known.id, None)?),
                // Its token is good, and stays so.
                None => Ok(()),
            }
        })?;
        tracing::info!(%worker, "the operator has let a worker back in");
        Ok(())
    }

    /// The workers that are banned, the last one first.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn banned(&self) -> Result<Vec<WorkerRow>, ServiceError> {
        self.store.read(|tx| Ok(tx.banned()?))
    }

    /// The names of workers, also of those that are members of nothing any more.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn names_of(&self, ids: &BTreeSet<String>) -> Result<BTreeMap<String, String>, ServiceError> {
        self.store.read(|tx| {
            let mut names = BTreeMap::new();
            for id in ids {
                let name = tx.worker(id)?.and_then(|worker| worker.name);
                names.extend(name.map(|name| (id.clone(), name)));
            }
            Ok(names)
        })
    }

    /// Makes a chain whose first admin is an address, or the coordinator's own key.
    ///
    /// # Errors
    /// Where the spec breaks a rule or the name is taken.
    pub fn make_chain(&self, mut spec: ChainSpec) -> Result<ChainInfo, ServiceError> {
        spec.parent = None;
        self.add_chain(&hex::encode(encode(&spec)), None)
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
    pub(super) fn forget_wishes(tx: &mut dyn Tx, now: Timestamp) -> Result<(), ServiceError> {
        for wish in tx.fork_wishes()? {
            let is_old = now.get() > from_sql(wish.asked_ms).saturating_add(WISH_MS);
            if is_old || tx.chain(&wish.name)?.is_some() {
                tx.remove_fork_wish(&wish.name)?;
            }
        }
        Ok(())
    }
}
