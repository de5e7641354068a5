//! Who leads: elected in the transaction that increments the term.

use super::agreement::finalise_last;
use super::membership::{counting, next_to_count};
use super::{Service, chain_row, from_sql, to_sql};
use crate::error::ServiceError;
use crate::store::{MemberRow, TermRow, Tx};
use block_chain_common::coordinator_api::Event;
use block_chain_common::quantity::{Term, Timestamp};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Servers that share a database may have clocks this far apart.
const CLOCK_SLACK_MS: u64 = 2_000;

/// Where this machine's clock was set back, a member heard "later" than now would count as alive until then.
fn forget_future(tx: &mut dyn Tx, chain: &str, now: Timestamp) -> Result<(), ServiceError> {
    for (mut member, _) in tx.members(chain)? {
        if from_sql(member.last_seen_ms) > now.get().saturating_add(CLOCK_SLACK_MS) {
            member.last_seen_ms = to_sql(now.get());
            tx.put_member(&member)?;
        }
    }
    Ok(())
}

impl Service {
    /// Elects where there is no leader, or it is silent past its lease; evicts members that are silent for long.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn tick(&self, now: Timestamp) -> Result<(), ServiceError> {
        let (events, seen) = self.store.transaction(|tx| {
            let (mut events, mut seen) = (Vec::new(), BTreeMap::new());
            Self::forget_wishes(tx, now)?;
            for chain in tx.chains()? {
                forget_future(tx, &chain.name, now)?;
                self.evict_one(tx, &chain.name, now, &mut events)?;
                self.elect_if_needed(tx, &chain.name, now, &mut events)?;
                let row = chain_row(tx, &chain.name)?;
                let size = tx.last_checkpoint(&row.name)?.map_or(0, |last| last.size);
                let members = tx.members(&row.name)?.into_iter();
                let members = members.map(|(member, _)| member.worker).collect();
                seen.insert(row.name, (row.term, size, row.final_size, members));
            }
            Ok::<_, ServiceError>((events, seen))
        })?;
        self.tell(events);
        self.write_figures(now, false)?;
        if self.store.is_shared() {
            self.tell_of_others(seen);
        }
        Ok(())
    }

    /// One at a time, so that a majority before and one after always share a member.
    fn evict_one(
        &self,
        tx: &mut dyn Tx,
        chain: &str,
        now: Timestamp,
        events: &mut Vec<Event>,
    ) -> Result<(), ServiceError> {
        let members = tx.members(chain)?;
        let awake_since = *self.awake_since_ms.get_or_init(|| now.get());
        let silent_ms = |member: &MemberRow| {
            // After a restart every member has its time to be heard before it counts as gone.
            let heard = from_sql(member.last_seen_ms).max(awake_since);
            now.get().saturating_sub(heard)
        };
        // The last one that counts goes only where another takes its place, which holds all that is committed.
        let is_last = |member: &MemberRow| member.does_count() && counting(&members) == 1;
        let last = tx.last_checkpoint(chain)?;
        let successor = next_to_count(&members, last.as_ref());
        let silent = members.iter().map(|(member, _)| member).filter(|member| {
            silent_ms(member) > self.settings.evict_after_ms && (!is_last(member) || successor.is_some())
        });
        let longest = silent.max_by_key(|member| silent_ms(member));
        if let Some(member) = longest.filter(|_| members.len() > 1) {
            if is_last(member)
                && let Some(successor) = successor
            {
                tx.put_member(&MemberRow {
                    counts: 1,
                    ..successor.clone()
                })?;
            }
            tracing::warn!(
                worker = member.worker,
                chain,
                "a silent worker is taken out of the quorum"
            );
            tx.remove_member(chain, &member.worker)?;
            let row = chain_row(tx, chain)?;
            finalise_last(tx, &row, events)?;
            events.push(Event::Members {
                chain: chain.to_owned(),
            });
        }
        Ok(())
    }

    pub(super) fn is_alive(&self, member: &MemberRow, now: Timestamp) -> bool {
        now.get().saturating_sub(from_sql(member.last_seen_ms)) <= self.settings.lease_ms
    }

    /// Among live members that hold the last committed block: the best head, then the longest registered.
    pub(super) fn elect_if_needed(
        &self,
        tx: &mut dyn Tx,
        chain: &str,
        now: Timestamp,
        events: &mut Vec<Event>,
    ) -> Result<(), ServiceError> {
        let chain = chain_row(tx, chain)?;
        let members: Vec<MemberRow> = tx
            .members(&chain.name)?
            .into_iter()
            .map(|(member, _)| member)
            .collect();
        let leads =
            |member: &&MemberRow| chain.leader.as_ref() == Some(&member.worker) && self.is_alive(member, now);
        if members.iter().any(|member| leads(&member)) {
            return Ok(());
        }
        let last = tx
            .last_checkpoint(&chain.name)?
            .map_or(0, |checkpoint| checkpoint.size.saturating_sub(1));
        let able = members
            .iter()
            .filter(|member| member.does_count() && self.is_alive(member, now) && member.committed >= last);
        let best = able.max_by_key(|member| (member.height, Reverse((member.joined, member.worker.clone()))));
        match best {
            Some(member) => {
                let term = Term::new(from_sql(chain.term)).next();
                tx.set_leader(
                    &chain.name,
                    to_sql(term.get()),
                    Some(&member.worker),
                    to_sql(now.get()),
                )?;
                tx.add_term(&TermRow {
                    chain: chain.name.clone(),
                    term: to_sql(term.get()),
                    worker: member.worker.clone(),
                    since_ms: to_sql(now.get()),
                })?;
                tracing::info!(chain = chain.name, %term, leader = member.worker, "a leader is elected");
                events.push(Event::Leader {
                    chain: chain.name,
                    term,
                });
            }
            None if chain.leader.is_some()
                && !members.iter().any(|m| chain.leader.as_ref() == Some(&m.worker)) =>
            {
                // It left and nobody can follow yet: the term stays, so its old proposals still cannot be another's.
                tx.set_leader(&chain.name, chain.term, None, to_sql(now.get()))?;
                events.push(Event::Members { chain: chain.name });
            }
            None => {}
        }
        Ok(())
    }
}
