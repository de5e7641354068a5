//! What happens on the chains, minute by minute, for the page of figures. Nothing of it counts for agreement: leaders tell what
//! they committed, and this coordinator's clock says when it was committed and became final.
//!
//! Gathered in memory and added to the database every few seconds: what a crash loses is that much of a picture.

use super::Service;
use super::{chain_row, to_sql};
use crate::error::ServiceError;
use crate::store::FigureRow;
use block_chain_common::coordinator_api::{CommitFigures, MAX_SHARES};
use block_chain_common::quantity::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

const MINUTE_MS: u64 = 60_000;
/// How often what was gathered is written.
const WRITE_MS: u64 = 5_000;
/// Minutes that are kept: a month.
const KEPT_MINUTES: u64 = 31 * 24 * 60;
/// Checkpoints of a chain whose end is waited for.
const MAX_UNFINISHED: usize = 1_000;

/// What was gathered since it was written last.
#[derive(Default)]
pub(super) struct Gathered {
    rows: BTreeMap<(String, u64), FigureRow>,
    /// When checkpoints were committed that are not final yet, by size.
    unfinished: HashMap<String, BTreeMap<u64, u64>>,
    /// Of each chain the blocks that were told of.
    told: HashMap<String, u64>,
    written_ms: u64,
}

impl Gathered {
    fn row(&mut self, chain: &str, now: Timestamp) -> &mut FigureRow {
        let minute = now.get() / MINUTE_MS;
        self.rows
            .entry((chain.to_owned(), minute))
            .or_insert_with(|| FigureRow {
                chain: chain.to_owned(),
                minute: to_sql(minute),
                ..FigureRow::default()
            })
    }
}

fn add(sum: &mut i64, more: u64) {
    *sum = sum.saturating_add(to_sql(more));
}

impl Service {
    fn gathered(&self) -> std::sync::MutexGuard<'_, Gathered> {
        let gathered: &Mutex<Gathered> = &self.figures;
        gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A checkpoint of so many blocks was committed now.
    pub fn note_committed(&self, chain: &str, size: u64, now: Timestamp) {
        let mut gathered = self.gathered();
        add(&mut gathered.row(chain, now).checkpoints, 1);
        let unfinished = gathered.unfinished.entry(chain.to_owned()).or_default();
        unfinished.entry(size).or_insert(now.get());
        if unfinished.len() > MAX_UNFINISHED {
            unfinished.pop_first();
        }
    }

    /// So many blocks are final now.
    pub fn note_final(&self, chain: &str, size: u64, now: Timestamp) {
        let mut gathered = self.gathered();
        let Some(unfinished) = gathered.unfinished.get_mut(chain) else {
            return;
        };
        let after = unfinished.split_off(&size.saturating_add(1));
        let finished = std::mem::replace(unfinished, after);
        if finished.is_empty() {
            return;
        }
        let row = gathered.row(chain, now);
        for committed_ms in finished.into_values() {
            add(&mut row.finals, 1);
            add(&mut row.final_ms, now.get().saturating_sub(committed_ms));
        }
    }

    /// What a worker tells of the blocks that it had committed. Blocks are counted once.
    ///
    /// # Errors
    /// Where a figure is none, or there is no such chain or checkpoint.
    pub fn note_figures(&self, told: &CommitFigures, now: Timestamp) -> Result<(), ServiceError> {
        if told.shares.len() > MAX_SHARES
            || !told.work.is_finite()
            || told.work < 0.0
            || told.old_size >= told.size
        {
            return Err(ServiceError::Malformed(format!(
                "figures of blocks {} to {} with {} shares: at most {MAX_SHARES} are allowed, and work is a number",
                told.old_size,
                told.size,
                told.shares.len()
            )));
        }
        self.store.read(|tx| {
            let chain = chain_row(tx, &told.chain)?;
            let found = tx.checkpoint(&chain.name, to_sql(told.size))?;
            found.map(drop).ok_or_else(|| {
                ServiceError::Malformed(format!("there is no checkpoint of {} blocks", told.size))
            })
        })?;
        let mut gathered = self.gathered();
        let last = gathered.told.entry(told.chain.clone()).or_default();
        if told.old_size < *last {
            return Ok(());
        }
        *last = told.size;
        let row = gathered.row(&told.chain, now);
        add(&mut row.blocks, told.size.saturating_sub(told.old_size));
        add(&mut row.transactions, told.transactions);
        add(&mut row.bytes, told.bytes);
        row.work += told.work;
        if !told.shares.is_empty() {
            row.shares = serde_json::to_string(&told.shares).unwrap_or_default();
        }
        Ok(())
    }

    /// The figures of a chain for the last minutes, oldest first; minutes in which nothing happened are not among them.
    ///
    /// # Errors
    /// Where there is no such chain, or the database fails.
    pub fn figures(&self, chain: &str, minutes: u64, now: Timestamp) -> Result<Vec<FigureRow>, ServiceError> {
        self.write_figures(now, true)?;
        let from = (now.get() / MINUTE_MS).saturating_sub(minutes.min(KEPT_MINUTES));
        self.store.read(|tx| {
            let chain = chain_row(tx, chain)?;
            Ok(tx.figures(&chain.name, to_sql(from))?)
        })
    }

    /// Adds what was gathered to the database.
    pub(super) fn write_figures(&self, now: Timestamp, at_once: bool) -> Result<(), ServiceError> {
        let rows = {
            let mut gathered = self.gathered();
            if gathered.rows.is_empty()
                || (!at_once && now.get() < gathered.written_ms.saturating_add(WRITE_MS))
            {
                return Ok(());
            }
            gathered.written_ms = now.get();
            std::mem::take(&mut gathered.rows)
        };
        self.store.transaction(|tx| {
            tx.forget_figures(to_sql((now.get() / MINUTE_MS).saturating_sub(KEPT_MINUTES)))?;
            for row in rows.values() {
                let known = tx.figure(&row.chain, row.minute)?.unwrap_or_else(|| FigureRow {
                    chain: row.chain.clone(),
                    minute: row.minute,
                    ..FigureRow::default()
                });
                let sum = |a: i64, b: i64| a.saturating_add(b);
                tx.put_figure(&FigureRow {
                    blocks: sum(known.blocks, row.blocks),
                    transactions: sum(known.transactions, row.transactions),
                    bytes: sum(known.bytes, row.bytes),
                    work: known.work + row.work,
                    checkpoints: sum(known.checkpoints, row.checkpoints),
                    final_ms: sum(known.final_ms, row.final_ms),
                    finals: sum(known.finals, row.finals),
                    shares: if row.shares.is_empty() {
                        known.shares
                    } else {
                        row.shares.clone()
                    },
                    ..row.clone()
                })?;
            }
            Ok::<_, ServiceError>(())
        })
    }
}
