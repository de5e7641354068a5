//! The queries, once for both backends.

use super::archive::{Dialect, Table};
use super::rows::{
    ChainRow, CheckpointRow, ClaimRow, CosignatureRow, FigureRow, ForkWishRow, JoinTokenRow, MemberRow,
    NewChainRow, OrderRow, RecoveryRow, TermRow, WorkerRow,
};
use super::schema::{
    chains, challenges, checkpoints, claims, cosignatures, figures, fork_wishes, join_tokens, members,
    orders, recoveries, settings, terms, workers,
};
use super::{PgConnection, StoreError, Tx};
use diesel::prelude::*;

/// A row as JSON.
#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = diesel::sql_types::Text)]
    line: String,
}

/// A size.
#[derive(QueryableByName)]
struct Bytes {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    bytes: i64,
}

macro_rules! queries {
    ($connection:ty, $dialect:expr) => {
        impl Tx for $connection {
            fn setting(&mut self, name: &str) -> Result<Option<String>, StoreError> {
                Ok(settings::table
                    .find(name)
                    .select(settings::value)
                    .first(self)
                    .optional()?)
            }

            fn add_setting(&mut self, name: &str, value: &str) -> Result<(), StoreError> {
                let row = (settings::name.eq(name), settings::value.eq(value));
                diesel::insert_into(settings::table)
                    .values(row)
                    .execute(self)?;
                Ok(())
            }

            fn set_setting(&mut self, name: &str, value: &str) -> Result<(), StoreError> {
                diesel::insert_into(settings::table)
                    .values((settings::name.eq(name), settings::value.eq(value)))
                    .on_conflict(settings::name)
                    .do_update()
                    .set(settings::value.eq(value))
                    .execute(self)?;
                Ok(())
            }

            fn use_challenge(
                &mut self,
                challenge: &str,
                expires_ms: i64,
                now_ms: i64,
            ) -> Result<bool, StoreError> {
                diesel::delete(challenges::table.filter(challenges::expires_ms.le(now_ms))).execute(self)?;
                let row = (
                    challenges::challenge.eq(challenge),
                    challenges::expires_ms.eq(expires_ms),
                );
                let added = diesel::insert_into(challenges::table)
                    .values(row)
                    .on_conflict(challenges::challenge)
                    .do_nothing()
                    .execute(self)?;
                Ok(added == 1)
            }

            fn chains(&mut self) -> Result<Vec<ChainRow>, StoreError> {
                Ok(chains::table
                    .order(chains::name)
                    .select(ChainRow::as_select())
                    .load(self)?)
            }

            fn chain(&mut self, name: &str) -> Result<Option<ChainRow>, StoreError> {
                Ok(chains::table
                    .find(name)
                    .select(ChainRow::as_select())
                    .first(self)
                    .optional()?)
            }

            fn spec(&mut self, chain: &str) -> Result<Option<String>, StoreError> {
                let one = chains::table.find(chain).select(chains::spec);
                Ok(one.first(self).optional()?)
            }

            fn count_made_by(&mut self, worker: &str) -> Result<i64, StoreError> {
                let all = chains::table.filter(chains::made_by.eq(worker));
                Ok(all.count().get_result(self)?)
            }

            fn add_chain(&mut self, chain: &NewChainRow) -> Result<(), StoreError> {
                diesel::insert_into(chains::table)
                    .values(chain)
                    .execute(self)?;
                Ok(())
            }

            fn set_leader(
                &mut self,
                chain: &str,
                term: i64,
                leader: Option<&str>,
                since_ms: i64,
            ) -> Result<(), StoreError> {
                let to = (
                    chains::term.eq(term),
                    chains::leader.eq(leader),
                    chains::leader_since_ms.eq(since_ms),
                );
                diesel::update(chains::table.find(chain))
                    .set(to)
                    .execute(self)?;
                Ok(())
            }

            fn set_final(&mut self, chain: &str, size: i64) -> Result<(), StoreError> {
                diesel::update(chains::table.find(chain))
                    .set(chains::final_size.eq(size))
                    .execute(self)?;
                Ok(())
            }

            fn worker(&mut self, id: &str) -> Result<Option<WorkerRow>, StoreError> {
                Ok(workers::table
                    .find(id)
                    .select(WorkerRow::as_select())
                    .first(self)
                    .optional()?)
            }

            fn worker_of_key(&mut self, key: &str) -> Result<Option<WorkerRow>, StoreError> {
                let one = workers::table.filter(workers::public_key.eq(key));
                Ok(one.select(WorkerRow::as_select()).first(self).optional()?)
            }

            fn count_workers(&mut self) -> Result<i64, StoreError> {
                Ok(workers::table.count().get_result(self)?)
            }

            fn add_worker(&mut self, worker: &WorkerRow) -> Result<(), StoreError> {
                diesel::insert_into(workers::table)
                    .values(worker)
                    .execute(self)?;
                Ok(())
            }

            fn set_worker(
                &mut self,
                id: &str,
                name: Option<&str>,
                token_hash: &str,
            ) -> Result<(), StoreError> {
                let one = workers::table.find(id);
                diesel::update(one)
                    .set((workers::name.eq(name), workers::token_hash.eq(token_hash)))
                    .execute(self)?;
                Ok(())
            }

            fn set_banned(&mut self, id: &str, since_ms: Option<i64>) -> Result<(), StoreError> {
                let to = (
                    workers::banned_ms.eq(since_ms),
                    workers::token_hash.eq(None::<String>),
                );
                diesel::update(workers::table.find(id))
                    .set(to)
                    .execute(self)?;
                Ok(())
            }

            fn banned(&mut self) -> Result<Vec<WorkerRow>, StoreError> {
                let all = workers::table.filter(workers::banned_ms.is_not_null());
                Ok(all
                    .order((workers::banned_ms.desc(), workers::id))
                    .select(WorkerRow::as_select())
                    .load(self)?)
            }

            fn members(&mut self, chain: &str) -> Result<Vec<(MemberRow, WorkerRow)>, StoreError> {
                let rows = members::table
                    .inner_join(workers::table.on(workers::id.eq(members::worker)))
                    .filter(members::chain.eq(chain))
                    .order((members::joined, members::worker))
                    .select((MemberRow::as_select(), WorkerRow::as_select()));
                Ok(rows.load(self)?)
            }

            fn put_member(&mut self, member: &MemberRow) -> Result<(), StoreError> {
                diesel::insert_into(members::table)
                    .values(member)
                    .on_conflict((members::chain, members::worker))
                    .do_update()
                    .set(member)
                    .execute(self)?;
                Ok(())
            }

            fn remove_member(&mut self, chain: &str, worker: &str) -> Result<bool, StoreError> {
                Ok(diesel::delete(members::table.find((chain, worker))).execute(self)? == 1)
            }

            fn checkpoint(&mut self, chain: &str, size: i64) -> Result<Option<CheckpointRow>, StoreError> {
                let one = checkpoints::table.find((chain, size));
                Ok(one
                    .select(CheckpointRow::as_select())
                    .first(self)
                    .optional()?)
            }

            fn last_checkpoint(&mut self, chain: &str) -> Result<Option<CheckpointRow>, StoreError> {
                let last = checkpoints::table
                    .filter(checkpoints::chain.eq(chain))
                    .order(checkpoints::size.desc());
                Ok(last
                    .select(CheckpointRow::as_select())
                    .first(self)
                    .optional()?)
            }

            fn checkpoints(
                &mut self,
                chain: &str,
                from: i64,
                limit: i64,
            ) -> Result<Vec<CheckpointRow>, StoreError> {
                let page = checkpoints::table
                    .filter(checkpoints::chain.eq(chain).and(checkpoints::size.ge(from)))
                    .order(checkpoints::size)
                    .limit(limit);
                Ok(page.select(CheckpointRow::as_select()).load(self)?)
            }

            fn add_checkpoint(&mut self, checkpoint: &CheckpointRow) -> Result<(), StoreError> {
                diesel::insert_into(checkpoints::table)
                    .values(checkpoint)
                    .execute(self)?;
                Ok(())
            }

            fn cosignatures(&mut self, chain: &str, size: i64) -> Result<Vec<CosignatureRow>, StoreError> {
                let all = cosignatures::table
                    .filter(
                        cosignatures::chain
                            .eq(chain)
                            .and(cosignatures::size.eq(size)),
                    )
                    .order(cosignatures::public_key);
                Ok(all.select(CosignatureRow::as_select()).load(self)?)
            }

            fn add_cosignature(&mut self, cosignature: &CosignatureRow) -> Result<(), StoreError> {
                diesel::insert_into(cosignatures::table)
                    .values(cosignature)
                    .on_conflict((
                        cosignatures::chain,
                        cosignatures::size,
                        cosignatures::public_key,
                    ))
                    .do_nothing()
                    .execute(self)?;
                Ok(())
            }

            fn claims(&mut self, chain: &str) -> Result<Vec<ClaimRow>, StoreError> {
                let all = claims::table.filter(claims::chain.eq(chain));
                Ok(all
                    .order(claims::worker)
                    .select(ClaimRow::as_select())
                    .load(self)?)
            }

            fn put_claim(&mut self, claim: &ClaimRow) -> Result<(), StoreError> {
                diesel::insert_into(claims::table)
                    .values(claim)
                    .on_conflict((claims::chain, claims::worker))
                    .do_update()
                    .set(claim)
                    .execute(self)?;
                Ok(())
            }

            fn remove_claims(&mut self, chain: &str) -> Result<(), StoreError> {
                diesel::delete(claims::table.filter(claims::chain.eq(chain))).execute(self)?;
                Ok(())
            }

            fn recoveries(&mut self, chain: &str) -> Result<Vec<RecoveryRow>, StoreError> {
                let all = recoveries::table.filter(recoveries::chain.eq(chain));
                Ok(all
                    .order(recoveries::at_ms)
                    .select(RecoveryRow::as_select())
                    .load(self)?)
            }

            fn add_recovery(&mut self, recovery: &RecoveryRow) -> Result<(), StoreError> {
                diesel::insert_into(recoveries::table)
                    .values(recovery)
                    .execute(self)?;
                Ok(())
            }

            fn orders(&mut self, chain: &str, from: i64, limit: i64) -> Result<Vec<OrderRow>, StoreError> {
                let all = orders::table.filter(orders::chain.eq(chain).and(orders::nonce.ge(from)));
                Ok(all
                    .order(orders::nonce)
                    .limit(limit)
                    .select(OrderRow::as_select())
                    .load(self)?)
            }

            fn next_order(&mut self, chain: &str) -> Result<i64, StoreError> {
                let all = orders::table.filter(orders::chain.eq(chain));
                let last: Option<i64> = all.select(diesel::dsl::max(orders::nonce)).first(self)?;
                Ok(last.map_or(0, |last| last.saturating_add(1)))
            }

            fn add_order(&mut self, order: &OrderRow) -> Result<(), StoreError> {
                diesel::insert_into(orders::table)
                    .values(order)
                    .execute(self)?;
                Ok(())
            }

            fn join_tokens(&mut self) -> Result<Vec<JoinTokenRow>, StoreError> {
                let all = join_tokens::table.order((join_tokens::created_ms.desc(), join_tokens::id));
                Ok(all.select(JoinTokenRow::as_select()).load(self)?)
            }

            fn join_token(&mut self, hash: &str) -> Result<Option<JoinTokenRow>, StoreError> {
                let one = join_tokens::table.filter(join_tokens::hash.eq(hash));
                Ok(one
                    .select(JoinTokenRow::as_select())
                    .first(self)
                    .optional()?)
            }

            fn put_join_token(&mut self, token: &JoinTokenRow) -> Result<(), StoreError> {
                diesel::insert_into(join_tokens::table)
                    .values(token)
                    .on_conflict(join_tokens::id)
                    .do_update()
                    .set(token)
                    .execute(self)?;
                Ok(())
            }

            fn forget_join_tokens(&mut self, before_ms: i64) -> Result<(), StoreError> {
                let over = join_tokens::expires_ms
                    .lt(before_ms)
                    .or(join_tokens::revoked_ms.lt(before_ms));
                diesel::delete(join_tokens::table.filter(over)).execute(self)?;
                Ok(())
            }

            fn terms(&mut self, chain: &str, limit: i64) -> Result<Vec<TermRow>, StoreError> {
                let all = terms::table.filter(terms::chain.eq(chain));
                Ok(all
                    .order(terms::term.desc())
                    .limit(limit)
                    .select(TermRow::as_select())
                    .load(self)?)
            }

            fn add_term(&mut self, term: &TermRow) -> Result<(), StoreError> {
                diesel::insert_into(terms::table)
                    .values(term)
                    .on_conflict((terms::chain, terms::term))
                    .do_nothing()
                    .execute(self)?;
                Ok(())
            }

            fn figures(&mut self, chain: &str, from: i64) -> Result<Vec<FigureRow>, StoreError> {
                let all = figures::table.filter(figures::chain.eq(chain).and(figures::minute.ge(from)));
                Ok(all
                    .order(figures::minute)
                    .select(FigureRow::as_select())
                    .load(self)?)
            }

            fn figure(&mut self, chain: &str, minute: i64) -> Result<Option<FigureRow>, StoreError> {
                let one = figures::table.find((chain, minute));
                Ok(one.select(FigureRow::as_select()).first(self).optional()?)
            }

            fn put_figure(&mut self, figure: &FigureRow) -> Result<(), StoreError> {
                diesel::insert_into(figures::table)
                    .values(figure)
                    .on_conflict((figures::chain, figures::minute))
                    .do_update()
                    .set(figure)
                    .execute(self)?;
                Ok(())
            }

            fn forget_figures(&mut self, before: i64) -> Result<(), StoreError> {
                diesel::delete(figures::table.filter(figures::minute.lt(before))).execute(self)?;
                Ok(())
            }

            fn fork_wishes(&mut self) -> Result<Vec<ForkWishRow>, StoreError> {
                let all = fork_wishes::table.order(fork_wishes::name);
                Ok(all.select(ForkWishRow::as_select()).load(self)?)
            }

            fn add_fork_wish(&mut self, wish: &ForkWishRow) -> Result<(), StoreError> {
                diesel::insert_into(fork_wishes::table)
                    .values(wish)
                    .execute(self)?;
                Ok(())
            }

            fn remove_fork_wish(&mut self, name: &str) -> Result<(), StoreError> {
                diesel::delete(fork_wishes::table.find(name)).execute(self)?;
                Ok(())
            }

            fn page(&mut self, table: &Table, after: Option<&str>) -> Result<Vec<String>, StoreError> {
                let query = diesel::sql_query(table.page_sql($dialect, after.is_some()));
                let lines: Vec<Line> = match after {
                    Some(after) => query.bind::<diesel::sql_types::Text, _>(after).load(self)?,
                    None => query.load(self)?,
                };
                Ok(lines.into_iter().map(|line| line.line).collect())
            }

            fn load_rows(
                &mut self,
                table: &Table,
                columns: &[&str],
                rows: &str,
            ) -> Result<usize, StoreError> {
                let query = diesel::sql_query(table.load_sql($dialect, columns));
                Ok(query
                    .bind::<diesel::sql_types::Text, _>(rows)
                    .execute(self)?)
            }

            fn disk_bytes(&mut self) -> Result<i64, StoreError> {
                let found: Bytes = diesel::sql_query($dialect.disk_bytes_sql()).get_result(self)?;
                Ok(found.bytes)
            }

            fn clear(&mut self, table: &Table) -> Result<(), StoreError> {
                diesel::sql_query(format!("DELETE FROM {}", table.name)).execute(self)?;
                Ok(())
            }
        }
    };
}

queries!(diesel::sqlite::SqliteConnection, Dialect::Sqlite);
queries!(PgConnection, Dialect::Postgres);
