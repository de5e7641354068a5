//! Commitment by compare-and-set, and finality by cosignatures: rules AGR-3 to AGR-7.

use super::membership::{Capability, let_count};
use super::recovery::check_not_behind;
use super::view::{checkpoint_view, member_keys};
use super::{Service, chain_id, chain_row, from_sql, to_sql};
use crate::error::ServiceError;
use crate::store::{ChainRow, CheckpointRow, CosignatureRow, StoreError, Tx};
use block_chain_common::agreement::{Acknowledgement, SafetyRule, majority};
use block_chain_common::checkpoint::{Checkpoint, witness_name};
use block_chain_common::codec::decode;
use block_chain_common::coordinator_api::{
    CheckpointView, CommitAnswer, CommitRequest, CosignRequest, Event,
};
use block_chain_common::hash::{ChainId, Root};
use block_chain_common::history::verify_consistency;
use block_chain_common::keys::PublicKey;
use block_chain_common::limits::MAX_CHAIN_WORKERS;
use block_chain_common::note::{NoteSignature, SignedNote};
use block_chain_common::quantity::{Height, Term};
use std::collections::BTreeSet;

/// Signatures under the worker's own name that are looked at in a note.
const MAX_OWN_LINES: usize = 4;
/// The largest size there can be: SQL's numbers are signed.
const MAX_SIZE: u64 = i64::MAX.unsigned_abs();
/// Hashes of a consistency proof: two for each level of the largest tree.
pub(super) const MAX_PROOF: usize = 128;

impl Service {
    /// Commits a block: one row a size, insert only, in one serialisable transaction.
    ///
    /// # Errors
    /// The first of AGR-3 to AGR-6 that does not hold.
    pub fn commit(
        &self,
        who: &Capability,
        chain: &str,
        request: &CommitRequest,
    ) -> Result<CommitAnswer, ServiceError> {
        if request.acknowledgements.len() > MAX_CHAIN_WORKERS || request.consistency.len() > MAX_PROOF {
            return Err(ServiceError::Malformed(format!(
                "{} acknowledgements and {} proof hashes, at most {MAX_CHAIN_WORKERS} and {MAX_PROOF} are allowed",
                request.acknowledgements.len(),
                request.consistency.len()
            )));
        }
        if request.size > MAX_SIZE || request.old_size > MAX_SIZE {
            return Err(ServiceError::Malformed(format!(
                "a checkpoint of {} blocks after one of {}, at most {MAX_SIZE} are allowed",
                request.size, request.old_size
            )));
        }
        // Signatures are checked before the transaction, which so stays short.
        let acknowledged = verified_acknowledgements(&request.acknowledgements)?;
        let (view, events) = self.store.transaction(|tx| {
            let chain = chain_row(tx, chain)?;
            let keys = member_keys(tx, &chain.name)?;
            let current = Term::new(from_sql(chain.term));
            let leads = chain.leader == Some(who.worker.to_string()) && request.term == current;
            if !leads && self.keeps(SafetyRule::Term) {
                return Err(ServiceError::StaleTerm {
                    found: request.term,
                    current,
                });
            }
            let id = chain_id(&chain)?;
            let last = tx.last_checkpoint(&chain.name)?;
            if let Some(same) = last.as_ref().filter(|last| is_same(last, request)) {
                // The answer to an earlier, equal request was lost.
                return Ok((checkpoint_view(tx, same, &keys, chain.final_size)?, Vec::new()));
            }
            check_not_behind(
                tx,
                &chain.name,
                last.as_ref().map_or(0, |last| from_sql(last.size)),
            )?;
            if self.keeps(SafetyRule::Follows) {
                check_follows(last.as_ref(), request)?;
            }
            if self.keeps(SafetyRule::Majority) {
                check_quorum(&acknowledged, &keys, id, request)?;
            }
            let row = self.sign_checkpoint(&chain.name, id, request)?;
            tx.add_checkpoint(&row)?;
            let mut events = vec![Event::Committed {
                chain: chain.name.clone(),
                size: request.size,
            }];
            // Counts from the next checkpoint on.
            if let_count(tx, &chain.name, last.as_ref())? {
                events.push(Event::Members {
                    chain: chain.name.clone(),
                });
            }
            Ok((checkpoint_view(tx, &row, &keys, chain.final_size)?, events))
        })?;
        self.tell(events);
        Ok(CommitAnswer { checkpoint: view })
    }

    fn sign_checkpoint(
        &self,
        chain: &str,
        id: ChainId,
        request: &CommitRequest,
    ) -> Result<CheckpointRow, ServiceError> {
        let CommitRequest {
            size,
            root,
            term,
            block,
            ..
        } = *request;
        let checkpoint = Checkpoint {
            chain: id,
            size,
            root,
            term,
            block,
        };
        let note = checkpoint
            .sign(&self.key)
            .map_err(|error| ServiceError::Malformed(error.to_string()))?;
        Ok(CheckpointRow {
            chain: chain.to_owned(),
            size: to_sql(size),
            root: root.to_string(),
            block: block.to_string(),
            note: note.to_string(),
        })
    }

    /// Takes a member's cosignature; with a majority the checkpoint, and all before it, is final.
    ///
    /// # Errors
    /// AGR-7, or where the worker is no member.
    pub fn cosign(
        &self,
        who: &Capability,
        chain: &str,
        request: &CosignRequest,
    ) -> Result<CheckpointView, ServiceError> {
        let refuse = |reason: &str| ServiceError::Cosignature(reason.to_owned());
        let note = SignedNote::parse(&request.note).map_err(|error| refuse(&error.to_string()))?;
        let key: PublicKey = who
            .public_key
            .parse()
            .or(Err(refuse("the worker's key cannot be read")))?;
        let line = own_line(&note, &key)
            .ok_or_else(|| refuse("the note is not cosigned by the worker that sends it"))?;
        let (view, events) = self.store.transaction(|tx| {
            let chain = chain_row(tx, chain)?;
            let keys = member_keys(tx, &chain.name)?;
            let members = tx.members(&chain.name)?;
            if !members
                .iter()
                .any(|(member, _)| member.worker == who.worker.to_string())
            {
                return Err(ServiceError::UnknownWorker {
                    id: who.worker,
                    chain: chain.name,
                });
            }
            let row = tx.checkpoint(&chain.name, to_sql(request.size))?;
            let row =
                row.ok_or_else(|| refuse(&format!("there is no checkpoint of {} blocks", request.size)))?;
            let stored =
                SignedNote::parse(&row.note).or(Err(StoreError::Damaged("a checkpoint".to_owned())))?;
            if stored.text() != note.text() {
                return Err(refuse(&format!(
                    "the text is not that of the checkpoint of {} blocks",
                    request.size
                )));
            }
            let (size, public_key) = (row.size, who.public_key.clone());
            let (name, line) = (chain.name.clone(), line.clone());
            tx.add_cosignature(&CosignatureRow {
                chain: name,
                size,
                public_key,
                line,
            })?;
            let final_size = finalise(tx, &chain.name, &row, &keys, chain.final_size)?;
            let became = (final_size > chain.final_size).then(|| Event::Final {
                chain: chain.name.clone(),
                size: from_sql(final_size),
            });
            Ok((
                checkpoint_view(tx, &row, &keys, final_size)?,
                became.into_iter().collect(),
            ))
        })?;
        self.tell(events);
        Ok(view)
    }
}

/// The worker's signature that is good, in hex. A note may hold others under its name, which say nothing.
pub(super) fn own_line(note: &SignedNote, key: &PublicKey) -> Option<String> {
    let name = witness_name(key);
    let is_good = |signature: &&NoteSignature| {
        let Ok(mut alone) = SignedNote::new(note.text().to_owned()) else {
            return false;
        };
        alone.add(NoteSignature::clone(signature));
        alone.cosigned_by(&name, key).is_some()
    };
    let mine = note
        .signatures()
        .iter()
        .filter(|signature| signature.name == name);
    let good = mine.take(MAX_OWN_LINES).find(is_good)?;
    Some(hex::encode(&good.bytes))
}

/// Members went: what the others had cosigned may be a majority now.
pub(super) fn finalise_last(
    tx: &mut dyn Tx,
    chain: &ChainRow,
    events: &mut Vec<Event>,
) -> Result<(), ServiceError> {
    let keys = member_keys(tx, &chain.name)?;
    let Some(last) = tx.last_checkpoint(&chain.name)?.filter(|_| !keys.is_empty()) else {
        return Ok(());
    };
    let final_size = finalise(tx, &chain.name, &last, &keys, chain.final_size)?;
    if final_size > chain.final_size {
        events.push(Event::Final {
            chain: chain.name.clone(),
            size: from_sql(final_size),
        });
    }
    Ok(())
}

fn finalise(
    tx: &mut dyn Tx,
    chain: &str,
    row: &CheckpointRow,
    members: &[PublicKey],
    final_size: i64,
) -> Result<i64, ServiceError> {
    let cosigned = tx.cosignatures(chain, row.size)?;
    let counted = cosigned
        .iter()
        .filter(|c| c.public_key.parse().is_ok_and(|key| members.contains(&key)))
        .count();
    if counted < majority(members.len()) || row.size <= final_size {
        return Ok(final_size);
    }
    tx.set_final(chain, row.size)?;
    Ok(row.size)
}

fn is_same(last: &CheckpointRow, request: &CommitRequest) -> bool {
    from_sql(last.size) == request.size
        && last.root == request.root.to_string()
        && last.block == request.block.to_string()
}

/// AGR-4 and AGR-6.
fn check_follows(last: Option<&CheckpointRow>, request: &CommitRequest) -> Result<(), ServiceError> {
    let current = last.map_or(0, |last| from_sql(last.size));
    if request.old_size != current || request.size <= current {
        return Err(ServiceError::StaleCheckpoint {
            found: request.old_size,
            current,
        });
    }
    check_consistent(last, (request.size, &request.root), &request.consistency)
}

/// AGR-6: the last checkpoint's tree is the beginning of this one.
pub(super) fn check_consistent(
    last: Option<&CheckpointRow>,
    (size, root): (u64, &Root),
    proof: &[Root],
) -> Result<(), ServiceError> {
    let Some(last) = last else { return Ok(()) };
    let old = from_sql(last.size);
    let old_root: Root = last
        .root
        .parse()
        .or(Err(StoreError::Damaged("a checkpoint's root".to_owned())))?;
    let proof: Vec<[u8; 32]> = proof.iter().map(|hash| *hash.as_bytes()).collect();
    if !verify_consistency(old, &old_root, size, root, &proof) {
        return Err(ServiceError::Inconsistent { old, new: size });
    }
    Ok(())
}

fn verified_acknowledgements(encoded: &[String]) -> Result<Vec<Acknowledgement>, ServiceError> {
    let mut verified = Vec::with_capacity(encoded.len());
    for (index, text) in encoded.iter().enumerate() {
        let malformed =
            |reason: String| ServiceError::Malformed(format!("acknowledgement {index}: {reason}"));
        let bytes = hex::decode(text).map_err(|error| malformed(error.to_string()))?;
        let acknowledgement: Acknowledgement =
            decode(&bytes).map_err(|error| malformed(error.to_string()))?;
        acknowledgement
            .verify()
            .map_err(|error| malformed(error.to_string()))?;
        verified.push(acknowledgement);
    }
    Ok(verified)
}

/// AGR-5: distinct members, for this very block, term and tree.
fn check_quorum(
    acknowledged: &[Acknowledgement],
    members: &[PublicKey],
    chain: ChainId,
    request: &CommitRequest,
) -> Result<(), ServiceError> {
    let height = Height::new(request.size.saturating_sub(1));
    let fits = |ack: &&Acknowledgement| {
        ack.chain == chain
            && ack.term == request.term
            && ack.height == height
            && ack.block == request.block
            && ack.tree_root == request.root
            && members.contains(&ack.worker)
    };
    let found = acknowledged
        .iter()
        .filter(fits)
        .map(|ack| ack.worker)
        .collect::<BTreeSet<_>>()
        .len();
    let needed = majority(members.len());
    if found < needed || members.is_empty() {
        Err(ServiceError::NoQuorum { found, needed })
    } else {
        Ok(())
    }
}
