//! The way on for a coordinator that was restored from an old copy: what workers show that it does not know any more is
//! kept, and while it is, nothing is committed; an operator has it go on from there. Rules AGR-8 and AGR-9.

use super::agreement::{MAX_PROOF, check_consistent, finalise_last, own_line};
use super::membership::Capability;
use super::{Service, chain_id, chain_row, from_sql, to_sql};
use crate::error::ServiceError;
use crate::store::{
    ChainRow, CheckpointRow, ClaimRow, CosignatureRow, MemberRow, RecoveryRow, StoreError, Tx, WorkerRow,
};
use block_chain_common::checkpoint::Checkpoint;
use block_chain_common::coordinator_api::{Claim, ClaimTaken, ClaimedCheckpoint, Event};
use block_chain_common::keys::PublicKey;
use block_chain_common::quantity::{Term, Timestamp};
use block_chain_common::recovery::Recovery;

/// How much later than the coordinator's a term may be that a worker says it has seen: terms come with elections.
const MAX_TERMS_AHEAD: u64 = 1_000_000;
/// How long ago a member may have been heard to count as heard in a recovery.
const HEARD_MS: u64 = 60_000;
/// The setting that says when a server began to serve: who was heard before has not been heard by this copy.
const SERVING_SINCE: &str = "serving_since_ms";

/// What a member shows, for the operator who decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// The worker.
    pub worker: String,
    /// Its name for people.
    pub name: Option<String>,
    /// Whether it was heard lately.
    pub heard: bool,
    /// Blocks committed and the term, as far as it shows more than the coordinator has.
    pub shows: Option<(u64, u64)>,
}

/// What a recovery would do, or has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The members.
    pub members: Vec<Witness>,
    /// What changes.
    pub recovery: Recovery,
    /// Workers that have shown the checkpoint that is taken.
    pub shown_by: Vec<String>,
}

impl Service {
    /// A server begins to serve.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn begin(&self, now: Timestamp) -> Result<(), ServiceError> {
        self.store
            .transaction(|tx| Ok(tx.set_setting(SERVING_SINCE, &now.to_string())?))
    }

    /// Keeps what a worker shows that this coordinator does not know.
    ///
    /// # Errors
    /// Where it shows nothing new, or nothing that this coordinator has signed and that follows its last checkpoint.
    pub fn claim(&self, who: &Capability, claim: &Claim, now: Timestamp) -> Result<ClaimTaken, ServiceError> {
        self.store.transaction(|tx| {
            let chain = chain_row(tx, &claim.chain)?;
            let (term, size) = (from_sql(chain.term), last_size(tx, &chain.name)?);
            let claimed = match &claim.checkpoint {
                Some(checkpoint) => self.check_claimed(tx, &chain, checkpoint)?,
                None => None,
            };
            let claimed_size = claimed.as_ref().map_or(0, |(checkpoint, _)| checkpoint.size);
            let behind_by = (
                claim.term.get().saturating_sub(term),
                claimed_size.saturating_sub(size),
            );
            if behind_by.0 > MAX_TERMS_AHEAD {
                return Err(ServiceError::Malformed(format!(
                    "AGR-9: term {} is {} terms ahead, at most {MAX_TERMS_AHEAD} are believed",
                    claim.term, behind_by.0
                )));
            }
            if behind_by == (0, 0) {
                return Err(ServiceError::Malformed(format!(
                    "AGR-9: the worker shows nothing that this coordinator lacks: it knows term {term} and {size} blocks"
                )));
            }
            tx.put_claim(&ClaimRow {
                chain: chain.name,
                worker: who.worker.to_string(),
                term: to_sql(claim.term.get()),
                size: to_sql(claimed_size),
                note: claimed.map(|(_, note)| note).unwrap_or_default(),
                claimed_ms: to_sql(now.get()),
            })?;
            tracing::error!(worker = %who.worker, terms = behind_by.0, blocks = behind_by.1, "a worker knows more than this coordinator: it was restored from an old copy");
            Ok(ClaimTaken { behind_by })
        })
    }

    /// The checkpoint, where it covers more than the last one: signed by this coordinator and consistent with what it has.
    fn check_claimed(
        &self,
        tx: &mut dyn Tx,
        chain: &ChainRow,
        claimed: &ClaimedCheckpoint,
    ) -> Result<Option<(Checkpoint, String)>, ServiceError> {
        if claimed.consistency.len() > MAX_PROOF {
            let found = claimed.consistency.len();
            return Err(ServiceError::Malformed(format!(
                "{found} proof hashes, at most {MAX_PROOF} are allowed"
            )));
        }
        let (checkpoint, note) = Checkpoint::verify(&claimed.note, &chain_id(chain)?, &self.key.public_key())
            .map_err(|error| ServiceError::Malformed(error.to_string()))?;
        let last = tx.last_checkpoint(&chain.name)?;
        let current = last.as_ref().map_or(0, |last| from_sql(last.size));
        if checkpoint.size <= current {
            return Ok(None);
        }
        if claimed.old_size != current {
            return Err(ServiceError::StaleCheckpoint {
                found: claimed.old_size,
                current,
            });
        }
        let claimed_root = (checkpoint.size, &checkpoint.root);
        check_consistent(last.as_ref(), claimed_root, &claimed.consistency)?;
        Ok(Some((checkpoint, note.to_string())))
    }

    /// What a recovery would do now.
    ///
    /// # Errors
    /// Where nobody shows anything that this coordinator lacks.
    pub fn plan_recovery(&self, chain: &str, now: Timestamp) -> Result<Plan, ServiceError> {
        self.store.read(|tx| {
            let chain = chain_row(tx, chain)?;
            Ok(plan(tx, &chain, now)?.0)
        })
    }

    /// Goes on from what the workers show: AGR-9. `without_missing` gives up for lost what only a silent member might have.
    ///
    /// # Errors
    /// Where nothing is shown, or a member is silent.
    pub fn recover(&self, chain: &str, without_missing: bool, now: Timestamp) -> Result<Plan, ServiceError> {
        let (plan, events) = self.store.transaction(|tx| {
            let chain = chain_row(tx, chain)?;
            let (plan, best) = plan(tx, &chain, now)?;
            let silent = plan.members.iter().filter(|member| !member.heard).count();
            if silent > 0 && !without_missing {
                return Err(ServiceError::MembersMissing {
                    silent,
                    members: plan.members.len(),
                });
            }
            if let Some(best) = best {
                self.take_checkpoint(tx, &chain, &best)?;
            }
            let term = to_sql(plan.recovery.term.1.get());
            // No leader: whoever led before the loss must not commit in the new term.
            tx.set_leader(&chain.name, term, None, to_sql(now.get()))?;
            let note = plan.recovery.sign(&self.key);
            let note = note.map_err(|error| ServiceError::Malformed(error.to_string()))?;
            tx.add_recovery(&RecoveryRow {
                chain: chain.name.clone(),
                at_ms: to_sql(now.get()),
                note: note.to_string(),
            })?;
            tx.remove_claims(&chain.name)?;
            let mut events = vec![Event::Members {
                chain: chain.name.clone(),
            }];
            let chain = chain_row(tx, &chain.name)?;
            finalise_last(tx, &chain, &mut events)?;
            Ok((plan, events))
        })?;
        tracing::warn!(chain, statement = plan.recovery.text(), "recovered");
        self.tell(events);
        Ok(plan)
    }

    fn take_checkpoint(
        &self,
        tx: &mut dyn Tx,
        chain: &ChainRow,
        claim: &ClaimRow,
    ) -> Result<(), ServiceError> {
        let (checkpoint, note) = Checkpoint::verify(&claim.note, &chain_id(chain)?, &self.key.public_key())
            .map_err(|error| StoreError::Damaged(format!("a claim: {error}")))?;
        let alone = checkpoint.sign(&self.key);
        let alone = alone.map_err(|error| ServiceError::Malformed(error.to_string()))?;
        tx.add_checkpoint(&CheckpointRow {
            chain: chain.name.clone(),
            size: claim.size,
            root: checkpoint.root.to_string(),
            block: checkpoint.block.to_string(),
            note: alone.to_string(),
        })?;
        for (_, worker) in tx.members(&chain.name)? {
            let Some(key) = worker
                .public_key
                .as_deref()
                .and_then(|key| key.parse::<PublicKey>().ok())
            else {
                continue;
            };
            if let Some(line) = own_line(&note, &key) {
                tx.add_cosignature(&CosignatureRow {
                    chain: chain.name.clone(),
                    size: claim.size,
                    public_key: key.to_string(),
                    line,
                })?;
            }
        }
        Ok(())
    }

    /// The statements of a chain's recoveries, oldest first.
    ///
    /// # Errors
    /// Where there is no such chain.
    pub fn recoveries(&self, chain: &str) -> Result<Vec<String>, ServiceError> {
        self.store.read(|tx| {
            let chain = chain_row(tx, chain)?;
            let rows = tx.recoveries(&chain.name)?;
            Ok(rows.into_iter().map(|row| row.note).collect())
        })
    }
}

/// Somebody has shown a checkpoint that this coordinator has signed and does not know: nothing may be committed before it
/// is taken.
pub(super) fn check_not_behind(tx: &mut dyn Tx, chain: &str, size: u64) -> Result<(), ServiceError> {
    let claims = tx.claims(chain)?;
    match claims.iter().map(|claim| from_sql(claim.size)).max() {
        Some(shown) if shown > size => Err(ServiceError::RecoveryNeeded { shown, size }),
        _ => Ok(()),
    }
}

fn last_size(tx: &mut dyn Tx, chain: &str) -> Result<u64, ServiceError> {
    Ok(tx.last_checkpoint(chain)?.map_or(0, |last| from_sql(last.size)))
}

/// What a recovery does, and the claim whose checkpoint it takes.
fn plan(tx: &mut dyn Tx, chain: &ChainRow, now: Timestamp) -> Result<(Plan, Option<ClaimRow>), ServiceError> {
    let (term, size) = (from_sql(chain.term), last_size(tx, &chain.name)?);
    let claims = tx.claims(&chain.name)?;
    let ahead = |claim: &&ClaimRow| from_sql(claim.size) > size || from_sql(claim.term) > term;
    let claims: Vec<ClaimRow> = claims.iter().filter(ahead).cloned().collect();
    let Some(highest_term) = claims.iter().map(|claim| from_sql(claim.term).max(term)).max() else {
        return Err(ServiceError::NothingToRecover {
            chain: chain.name.clone(),
        });
    };
    let began = tx.setting(SERVING_SINCE)?.and_then(|ms| ms.parse::<u64>().ok());
    let lately = |ms: i64| {
        let heard = from_sql(ms);
        now.get().saturating_sub(heard) <= HEARD_MS && began.is_none_or(|began| heard >= began)
    };
    let members = tx.members(&chain.name)?;
    let witness = |(member, worker): &(MemberRow, WorkerRow)| {
        let claim = claims.iter().find(|claim| claim.worker == member.worker);
        Witness {
            worker: member.worker.clone(),
            name: worker.name.clone(),
            heard: lately(member.last_seen_ms) || claim.is_some_and(|claim| lately(claim.claimed_ms)),
            shows: claim.map(|claim| (from_sql(claim.size), from_sql(claim.term))),
        }
    };
    let members = members.iter().map(witness).collect();
    let best = claims.iter().filter(|claim| from_sql(claim.size) > size);
    let best = best.max_by_key(|claim| claim.size).cloned();
    let contradicts = |claim: &&ClaimRow| {
        best.as_ref()
            .is_some_and(|best| claim.size == best.size && text(claim) != text(best))
    };
    if let Some(claim) = claims.iter().find(contradicts) {
        let size = from_sql(claim.size);
        return Err(ServiceError::Contradiction { size });
    }
    let shown_by = match &best {
        Some(best) => claims
            .iter()
            .filter(|claim| claim.size == best.size)
            .map(|claim| claim.worker.clone())
            .collect(),
        None => Vec::new(),
    };
    let recovery = Recovery {
        chain: chain_id(chain)?,
        at: now,
        term: (Term::new(term), Term::new(highest_term).next()),
        size: (size, best.as_ref().map_or(size, |best| from_sql(best.size))),
    };
    let plan = Plan {
        members,
        recovery,
        shown_by,
    };
    Ok((plan, best))
}

/// A claimed checkpoint without its signatures, which differ from worker to worker.
fn text(claim: &ClaimRow) -> &str {
    claim.note.split_once("\n\n").map_or("", |(text, _)| text)
}
