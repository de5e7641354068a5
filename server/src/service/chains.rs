//! The chains: which there are, and making new ones.

use super::membership::not_banned;
use super::{Capability, Service, StartError, from_sql, to_sql};
use crate::error::ServiceError;
use crate::store::{ChainRow, NewChainRow, Store, StoreError, Tx};
use block_chain_common::chain_spec::{ChainSpec, CheckedSpec, Parent};
use block_chain_common::codec::{decode, encode};
use block_chain_common::coordinator_api::{ChainInfo, ChainSummary, Event};
use block_chain_common::hash::ChainId;
use block_chain_common::keys::SecretKey;
use block_chain_common::limits::{MAX_CHAINS, MAX_NODE_CHAINS, check_name};
use block_chain_common::quantity::{Term, Timestamp};

/// Chains that one worker may make: as many as its node may have, and a quarter of what a coordinator takes. Each may bring a
/// spec of a megabyte, and none goes away.
const MAX_MADE: u64 = MAX_NODE_CHAINS as u64;

impl Service {
    /// The names of all chains.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn chain_names(&self) -> Result<Vec<String>, ServiceError> {
        let rows = self.store.read(|tx| Ok::<_, ServiceError>(tx.chains()?))?;
        Ok(rows.into_iter().map(|row| row.name).collect())
    }

    /// All chains, as a list shows them.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn chain_list(&self, now: Timestamp) -> Result<Vec<ChainSummary>, ServiceError> {
        self.store.read(|tx| {
            let rows = tx.chains()?;
            let mut all = Vec::with_capacity(rows.len());
            for row in rows {
                let spec = spec_of(tx, &row.name)?;
                let members = tx.members(&row.name)?;
                let alive = members.iter().filter(|(member, _)| self.is_alive(member, now));
                let last = tx.last_checkpoint(&row.name)?;
                all.push(ChainSummary {
                    id: chain_id(&row)?,
                    proof: spec.proof.name().to_owned(),
                    block_interval_ms: spec.block_interval_ms,
                    parent: spec.parent.map(|parent| parent.chain),
                    alive: alive.count(),
                    members: members.len(),
                    term: Term::new(from_sql(row.term)),
                    committed_size: last.map_or(0, |last| from_sql(last.size)),
                    final_size: from_sql(row.final_size),
                    name: row.name,
                });
            }
            Ok(all)
        })
    }

    /// A chain.
    ///
    /// # Errors
    /// Where there is none of this name.
    pub fn chain(&self, name: &str) -> Result<ChainInfo, ServiceError> {
        self.store.read(|tx| {
            let row = chain_row(tx, name)?;
            self.chain_info(tx, &row)
        })
    }

    pub(super) fn chain_info(&self, tx: &mut dyn Tx, row: &ChainRow) -> Result<ChainInfo, ServiceError> {
        Ok(ChainInfo {
            name: row.name.clone(),
            id: chain_id(row)?,
            spec: stored(tx, &row.name)?,
            coordinator_key: self.key.public_key(),
        })
    }

    /// Makes a chain of a spec. Where it is there already, of the same spec, nothing is done, so that a request whose answer
    /// was lost can be sent again.
    ///
    /// # Errors
    /// Where the spec breaks a rule, the name is taken, the parent of a fork is not here, there are too many chains, or the worker
    /// has made as many as it may.
    pub fn create_chain(&self, who: &Capability, spec: &str) -> Result<ChainInfo, ServiceError> {
        self.add_chain(spec, Some(who.worker.to_string()))
    }

    /// `by` is the worker that makes it; the operator may make as many as there may be.
    pub(super) fn add_chain(&self, spec: &str, by: Option<String>) -> Result<ChainInfo, ServiceError> {
        let malformed =
            |error: String| ServiceError::Spec(format!("the chain's spec cannot be read: {error}"));
        let bytes = hex::decode(spec).map_err(|error| malformed(error.to_string()))?;
        let spec: ChainSpec = decode(&bytes).map_err(|error| malformed(error.to_string()))?;
        let checked = spec
            .check()
            .map_err(|error| ServiceError::Spec(error.to_string()))?;
        let new = NewChainRow {
            made_by: by,
            ..first_row(&checked)
        };
        let row = &new.row;
        let (is_new, info) = self.store.transaction(|tx| {
            if let Some(maker) = new
                .made_by
                .as_ref()
                .map(|id| tx.worker(id))
                .transpose()?
                .flatten()
            {
                not_banned(&maker)?;
            }
            if let Some(found) = tx.chain(&row.name)? {
                return match found.id == row.id {
                    true => Ok((false, self.chain_info(tx, row)?)),
                    false => Err(ServiceError::ChainExists {
                        name: row.name.clone(),
                    }),
                };
            }
            let all = tx.chains()?;
            if all.len() >= MAX_CHAINS {
                return Err(ServiceError::Busy(format!(
                    "{MAX_CHAINS} chains are there, no more are allowed"
                )));
            }
            let made = match &new.made_by {
                Some(worker) => from_sql(tx.count_made_by(worker)?),
                None => 0,
            };
            if made >= MAX_MADE {
                return Err(ServiceError::MadeTooMany {
                    made,
                    allowed: MAX_MADE,
                });
            }
            if let Some(parent) = &checked.spec().parent {
                check_parent(tx, &all, parent)?;
            }
            tx.add_chain(&new)?;
            Ok((true, self.chain_info(tx, row)?))
        })?;
        if is_new {
            let by = new.made_by.as_deref().unwrap_or("the operator");
            tracing::info!(chain = row.name, by, "a chain was made");
            self.tell(vec![Event::Chain {
                chain: row.name.clone(),
            }]);
        }
        Ok(info)
    }
}

/// A fork begins at a final block of a chain of this coordinator.
fn check_parent(tx: &mut dyn Tx, all: &[ChainRow], parent: &Parent) -> Result<(), ServiceError> {
    let id = parent.chain.to_string();
    let height = parent.height;
    let row = all.iter().find(|row| row.id == id).ok_or_else(|| {
        ServiceError::Spec(format!(
            "the chain forked from, {id}, is no chain of this coordinator"
        ))
    })?;
    let name = &row.name;
    if to_sql(height.get()) >= row.final_size {
        let size = row.final_size;
        return Err(ServiceError::Spec(format!(
            "block {height} of chain {name:?} is not final: {size} blocks are"
        )));
    }
    // Where a checkpoint ends with that very block, it names it.
    let size = to_sql(height.get().saturating_add(1));
    let Some(checkpoint) = tx.checkpoint(name, size)? else {
        return Ok(());
    };
    match checkpoint.block == parent.block.to_string() {
        true => Ok(()),
        false => Err(ServiceError::Spec(format!(
            "block {height} of chain {name:?} is {}, not {}",
            checkpoint.block, parent.block
        ))),
    }
}

/// A chain on which nothing has happened yet.
fn first_row(checked: &CheckedSpec) -> NewChainRow {
    NewChainRow {
        row: ChainRow {
            name: checked.spec().name.clone(),
            id: checked.id().to_string(),
            term: 0,
            leader: None,
            leader_since_ms: 0,
            final_size: 0,
        },
        spec: hex::encode(encode(checked.spec())),
        made_by: None,
    }
}

/// Creates chain `main` where there is none; else the flags must not ask for another.
pub(super) fn create_main(
    store: &Store,
    key: &SecretKey,
    spec: impl Fn(&mut ChainSpec),
) -> Result<(), StartError> {
    let mut wanted = ChainSpec::default_for("main", key.public_key().address());
    spec(&mut wanted);
    let checked = wanted
        .check()
        .map_err(|error| StartError::Spec(error.to_string()))?;
    let row = first_row(&checked);
    let found = store.transaction::<_, StoreError>(|tx| {
        let found = tx.spec("main")?;
        if found.is_none() {
            tx.add_chain(&row)?;
        }
        Ok(found)
    })?;
    let Some(found) = found else { return Ok(()) };
    let found = decode_spec("main", &found)?;
    let mut asked = found.clone();
    spec(&mut asked);
    if asked == found {
        return Ok(());
    }
    Err(StartError::OtherSpec {
        found: describe(&found),
        asked: describe(&asked),
    })
}

/// The parts of a spec that flags change.
fn describe(spec: &ChainSpec) -> String {
    format!(
        "interval {} ms, reward {}, proof {:?}",
        spec.block_interval_ms, spec.reward, spec.proof
    )
}

pub(super) fn chain_row(tx: &mut dyn Tx, name: &str) -> Result<ChainRow, ServiceError> {
    // A text that is no name is not asked for: not every database takes every text.
    let row = match check_name(name) {
        Ok(()) => tx.chain(name)?,
        Err(_) => None,
    };
    row.ok_or_else(|| ServiceError::UnknownChain {
        name: name.chars().take(80).collect(),
    })
}

pub(super) fn chain_id(row: &ChainRow) -> Result<ChainId, ServiceError> {
    let damaged = || StoreError::Damaged(format!("the id of chain {}", row.name));
    Ok(row.id.parse().ok().ok_or_else(damaged)?)
}

/// The encoded spec of a chain that is there.
fn stored(tx: &mut dyn Tx, chain: &str) -> Result<String, StoreError> {
    let damaged = || StoreError::Damaged(format!("chain {chain} has no spec"));
    tx.spec(chain)?.ok_or_else(damaged)
}

/// The spec of a chain that is there.
pub(super) fn spec_of(tx: &mut dyn Tx, chain: &str) -> Result<ChainSpec, StoreError> {
    decode_spec(chain, &stored(tx, chain)?)
}

/// The decoded spec of a stored chain.
///
/// # Errors
/// Where the database holds something else.
pub fn stored_spec(info: &ChainInfo) -> Result<ChainSpec, ServiceError> {
    Ok(decode_spec(&info.name, &info.spec)?)
}

pub(crate) fn decode_spec(chain: &str, spec: &str) -> Result<ChainSpec, StoreError> {
    let damaged = || StoreError::Damaged(format!("the spec of chain {chain}"));
    let bytes = hex::decode(spec).or(Err(damaged()))?;
    decode(&bytes).or(Err(damaged()))
}
