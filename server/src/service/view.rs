//! What workers and people are told of a chain's network.

use super::membership::parse_id;
use super::{Service, chain_row, from_sql, to_sql};
use crate::error::ServiceError;
use crate::store::{ChainRow, CheckpointRow, CosignatureRow, MemberRow, StoreError, Tx, WorkerRow};
use block_chain_common::agreement::majority;
use block_chain_common::checkpoint::witness_name;
use block_chain_common::coordinator_api::{
    ChainView, CheckpointPage, CheckpointView, ForkWish, Leader, Member,
};
use block_chain_common::keys::PublicKey;
use block_chain_common::note::{NoteSignature, SignedNote};
use block_chain_common::quantity::{Height, Term, Timestamp};

/// Checkpoints on one page.
const MAX_PAGE: u64 = 1_000;

impl Service {
    /// A chain's network now.
    ///
    /// # Errors
    /// Where there is no such chain.
    pub fn view(&self, chain: &str, now: Timestamp) -> Result<ChainView, ServiceError> {
        self.store.read(|tx| {
            let chain = chain_row(tx, chain)?;
            self.view_in(tx, &chain, now)
        })
    }

    pub(super) fn view_in(
        &self,
        tx: &mut dyn Tx,
        chain: &ChainRow,
        now: Timestamp,
    ) -> Result<ChainView, ServiceError> {
        let rows = tx.members(&chain.name)?;
        let members = rows
            .iter()
            .map(|row| self.member(row, now))
            .collect::<Result<Vec<_>, _>>()?;
        let leader = rows
            .iter()
            .zip(&members)
            .find(|((row, _), _)| chain.leader.as_ref() == Some(&row.worker));
        let term = Term::new(from_sql(chain.term));
        let leader = leader.map(|(_, member)| Leader {
            worker_id: member.worker_id,
            public_key: member.public_key,
            term,
            since: Timestamp::new(from_sql(chain.leader_since_ms)),
        });
        let counting = members.iter().filter(|member| member.counts);
        let keys: Vec<PublicKey> = counting.map(|member| member.public_key).collect();
        let checkpoint = match tx.last_checkpoint(&chain.name)? {
            Some(row) => Some(checkpoint_view(tx, &row, &keys, chain.final_size)?),
            None => None,
        };
        let wished = tx
            .fork_wishes()?
            .into_iter()
            .filter(|wish| wish.chain == chain.name);
        Ok(ChainView {
            time: now,
            chain: chain.name.clone(),
            term,
            leader,
            quorum: majority(keys.len()),
            members,
            checkpoint,
            final_size: from_sql(chain.final_size),
            lease_ms: self.settings.lease_ms,
            heartbeat_ms: self.settings.heartbeat_ms,
            relay: self.relay.get().cloned(),
            orders: from_sql(tx.next_order(&chain.name)?),
            forks: wished
                .map(|wish| ForkWish {
                    name: wish.name,
                    at: Height::new(from_sql(wish.height)),
                })
                .collect(),
        })
    }

    /// Checkpoints of at least `from` blocks, in order.
    ///
    /// # Errors
    /// Where there is no such chain.
    pub fn checkpoints(&self, chain: &str, from: u64, limit: u64) -> Result<CheckpointPage, ServiceError> {
        let limit = limit.clamp(1, MAX_PAGE);
        self.store.read(|tx| {
            let chain = chain_row(tx, chain)?;
            let keys = member_keys(tx, &chain.name)?;
            let mut rows = tx.checkpoints(&chain.name, to_sql(from), to_sql(limit.saturating_add(1)))?;
            let more = rows.len() > usize::try_from(limit).unwrap_or(usize::MAX);
            let next = if more {
                rows.pop().map(|row| from_sql(row.size))
            } else {
                None
            };
            let views = rows
                .iter()
                .map(|row| checkpoint_view(tx, row, &keys, chain.final_size));
            Ok(CheckpointPage {
                checkpoints: views.collect::<Result<_, ServiceError>>()?,
                next,
            })
        })
    }

    fn member(
        &self,
        (member, worker): &(MemberRow, WorkerRow),
        now: Timestamp,
    ) -> Result<Member, ServiceError> {
        let damaged = |what: &str| StoreError::Damaged(format!("{what} of worker {}", member.worker));
        let key = worker.public_key.as_deref().and_then(|key| key.parse().ok());
        Ok(Member {
            worker_id: parse_id(&member.worker)?,
            public_key: key.ok_or_else(|| damaged("the key"))?,
            name: worker.name.clone(),
            addresses: serde_json::from_str(&member.addresses).or(Err(damaged("the addresses")))?,
            api: member.api.clone(),
            alive: self.is_alive(member, now),
            silent_ms: now.get().saturating_sub(from_sql(member.last_seen_ms)),
            height: Height::new(from_sql(member.height)),
            head: member.head.parse().or(Err(damaged("the head")))?,
            committed: Height::new(from_sql(member.committed)),
            counts: member.does_count(),
            version: member.version.clone(),
        })
    }
}

/// The keys of the members that count.
pub(super) fn member_keys(tx: &mut dyn Tx, chain: &str) -> Result<Vec<PublicKey>, ServiceError> {
    let members = tx.members(chain)?;
    Ok(members
        .iter()
        .filter(|(member, _)| member.does_count())
        .filter_map(|(_, worker)| worker.public_key.as_deref()?.parse().ok())
        .collect())
}

/// A checkpoint with the cosignatures so far.
pub(super) fn checkpoint_view(
    tx: &mut dyn Tx,
    row: &CheckpointRow,
    members: &[PublicKey],
    final_size: i64,
) -> Result<CheckpointView, ServiceError> {
    let damaged = || StoreError::Damaged(format!("checkpoint {}", row.size));
    let mut note = SignedNote::parse(&row.note).or(Err(damaged()))?;
    let mut cosignatures = 0;
    for CosignatureRow { public_key, line, .. } in tx.cosignatures(&row.chain, row.size)? {
        let key: PublicKey = public_key.parse().or(Err(damaged()))?;
        let bytes = hex::decode(line).or(Err(damaged()))?;
        note.add(NoteSignature {
            name: witness_name(&key),
            bytes,
        });
        cosignatures += usize::from(members.contains(&key));
    }
    Ok(CheckpointView {
        size: from_sql(row.size),
        note: note.to_string(),
        cosignatures,
        needed: majority(members.len()),
        is_final: row.size <= final_size,
    })
}
