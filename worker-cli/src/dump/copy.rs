//! A connection that copies one chain: a batch is one transaction, which sets the watermark too.
//!
//! The watermark's row is locked first, so of several workers that copy a chain into one database one copies a batch and
//! the others go on from where it stands then. Whatever ends the connection, the batch is there wholly or not at all.

use super::batch::{self, Moved, Piece, Tail, to_sql};
use super::connect::{Connections, DatabaseUrl};
use super::values::Encoding;
use super::{DumpError, schema};
use crate::api::types::DumpStatus;
use crate::machine::ChainRead as _;
use crate::node::NodeHandle;
use block_chain_common::keys::Address;
use block_chain_common::quantity::Height;
use block_chain_common::transaction::Role;
use bytes::Bytes;
use futures_util::SinkExt as _;
use std::collections::BTreeMap;
use std::pin::pin;
use tokio::sync::mpsc::Receiver;
use tokio_postgres::{Client, Transaction};

const COPY_TRANSACTIONS: &str = "COPY transactions (chain, height, index, id, type, sender, nonce, key, key_bytes, value, \
                                 value_bytes, value_json, recipient, amount, role) FROM STDIN (FORMAT binary)";
const COPY_BLOCKS: &str = "COPY blocks (chain, height, hash, previous_hash, merkle_root, time, producer, transactions) \
                           FROM STDIN (FORMAT binary)";
/// Of the batch's records those that it does not set again itself: no value is sent or parsed twice.
const UPSERT_RECORDS: &str = "INSERT INTO key_values \
     SELECT chain, key_bytes, key, value, value_bytes, value_json, height, index FROM transactions t \
     WHERE chain = $1 AND height >= $2 AND height < $3 AND type = 'put'";
const NOT_OVERWRITTEN: &str = " AND NOT EXISTS \
     (SELECT FROM unnest($4::bigint[], $5::int[]) AS o (height, index) WHERE o.height = t.height AND o.index = t.index)";
const ON_CONFLICT: &str = " ON CONFLICT (chain, key_bytes) DO UPDATE SET key = EXCLUDED.key, value = EXCLUDED.value, \
     value_bytes = EXCLUDED.value_bytes, value_json = EXCLUDED.value_json, height = EXCLUDED.height, \
     index = EXCLUDED.index";
const UPSERT_WALLETS: &str = "INSERT INTO wallets SELECT $1, address, balance::numeric, stake::numeric, releasing::numeric \
     FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS moved (address, balance, stake, releasing) \
     ON CONFLICT (chain, address) DO UPDATE SET balance = wallets.balance + EXCLUDED.balance, \
     stake = wallets.stake + EXCLUDED.stake, releasing = wallets.releasing + EXCLUDED.releasing";
const UPSERT_RELEASES: &str = "INSERT INTO wallet_releases SELECT $1, free_from, address, amount::numeric \
     FROM unnest($2::bigint[], $3::text[], $4::text[]) AS added (free_from, address, amount) \
     ON CONFLICT (chain, free_from, address) DO UPDATE SET amount = wallet_releases.amount + EXCLUDED.amount";
const RELEASE: &str = "WITH due AS (DELETE FROM wallet_releases WHERE chain = $1 AND free_from <= $2 \
     RETURNING address, amount), sums AS (SELECT address, sum(amount) AS amount FROM due GROUP BY address) \
     UPDATE wallets SET balance = balance + sums.amount, releasing = releasing - sums.amount FROM sums \
     WHERE wallets.chain = $1 AND wallets.address = sums.address";

const GRANT: &str = "INSERT INTO roles SELECT $1, address, role FROM unnest($2::text[], $3::text[]) AS g (address, role) \
     ON CONFLICT DO NOTHING";
const REVOKE: &str = "DELETE FROM roles USING unnest($2::text[], $3::text[]) AS g (address, role) \
     WHERE roles.chain = $1 AND roles.address = g.address AND roles.role = g.role";

/// A connection that copies one chain.
pub(super) struct Session {
    client: Client,
    node: NodeHandle,
    shown: String,
    chain: String,
    encoding: Encoding,
    blocks: u64,
    transactions: u64,
    /// What is read ahead: from the block at `blocks` on, up to a size.
    ahead: Option<(Receiver<Result<Piece, DumpError>>, u64)>,
}

struct Watermark {
    blocks: u64,
    transactions: u64,
    hash: String,
}

impl Session {
    /// Connects, sets the tables up, and reads the watermark.
    pub(super) async fn open(
        url: &DatabaseUrl,
        node: &NodeHandle,
        connections: &mut Connections,
    ) -> Result<Self, DumpError> {
        let chain = node.chain_id().to_string();
        let encoding = schema::prepare(connections.open(url).await?, url, node).await?;
        let client = connections.open(url).await?;
        let (shown, node) = (url.shown(), node.clone());
        let mut session = Self {
            client,
            node,
            shown,
            chain,
            encoding,
            blocks: 0,
            transactions: 0,
            ahead: None,
        };
        let select = "SELECT blocks, transactions, hash FROM dump_watermarks WHERE chain = $1";
        let row = session.client.query_one(select, &[&session.chain]).await;
        let mark = Watermark::from_row(&row.map_err(|error| session.failed(&error))?);
        session.go_on_from(&mark)?;
        Ok(session)
    }

    fn failed(&self, error: &tokio_postgres::Error) -> DumpError {
        failed(&self.shown, error)
    }

    fn go_on_from(&mut self, mark: &Watermark) -> Result<(), DumpError> {
        check(&self.node, mark)?;
        (self.blocks, self.transactions, self.ahead) = (mark.blocks, mark.transactions, None);
        Ok(())
    }

    pub(super) fn describe(&self, status: &mut DumpStatus) {
        status.dumped_blocks = self.blocks;
        status.dumped_transactions = self.transactions;
        status.database = Some(self.shown.clone());
    }

    /// Whether the connection still lives.
    pub(super) async fn ping(&self) -> Result<(), DumpError> {
        self.client
            .batch_execute("SELECT 1")
            .await
            .map_err(|error| self.failed(&error))
    }

    /// Whether there is nothing left to copy below a size.
    pub(super) const fn has_reached(&self, size: u64) -> bool {
        self.blocks >= size
    }

    /// Copies the next blocks in one transaction, or finds that another worker did.
    pub(super) async fn copy_batch(&mut self, committed: u64) -> Result<(), DumpError> {
        let shown = self.shown.clone();
        let error = |e: tokio_postgres::Error| failed(&shown, &e);
        let (mut pieces, end) = self.ahead.take().unwrap_or_else(|| {
            let (store, spec) = (self.node.store().clone(), self.node.spec().clone());
            (
                batch::read((store, spec), self.encoding, self.blocks, committed),
                committed,
            )
        });
        let transaction = self.client.transaction().await.map_err(error)?;
        let select = "SELECT blocks, transactions, hash FROM dump_watermarks WHERE chain = $1 FOR UPDATE";
        let row = transaction
            .query_one(select, &[&self.chain])
            .await
            .map_err(error)?;
        let mark = Watermark::from_row(&row);
        if mark.blocks != self.blocks {
            transaction.rollback().await.map_err(error)?;
            return self.go_on_from(&mark);
        }
        check(&self.node, &mark)?;
        let tail = copy_transactions(&transaction, &mut pieces, &shown).await?;
        finish(&transaction, &self.chain, &tail, &mark)
            .await
            .map_err(error)?;
        transaction.commit().await.map_err(error)?;
        self.blocks = tail.next;
        self.transactions = self.transactions.saturating_add(tail.transactions);
        self.ahead = (tail.next < end).then_some((pieces, end));
        Ok(())
    }
}

/// Whether what is in the database is this chain's past. A replica that is behind the copy cannot know yet, and waits.
fn check(node: &NodeHandle, mark: &Watermark) -> Result<(), DumpError> {
    let Some(last) = mark.blocks.checked_sub(1) else {
        return Ok(());
    };
    match node.store().hash_at(Height::new(last))? {
        Some(hash) if hash.to_string() != mark.hash => Err(DumpError::OtherBlocks {
            height: last,
            found: mark.hash.clone(),
        }),
        _ => Ok(()),
    }
}

impl Watermark {
    fn from_row(row: &tokio_postgres::Row) -> Self {
        let number = |column| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
        Self {
            blocks: number(0),
            transactions: number(1),
            hash: row.get(2),
        }
    }
}

async fn copy_transactions(
    transaction: &Transaction<'_>,
    pieces: &mut Receiver<Result<Piece, DumpError>>,
    shown: &str,
) -> Result<Tail, DumpError> {
    let error = |e: tokio_postgres::Error| failed(shown, &e);
    let mut sink = pin!(
        transaction
            .copy_in::<_, Bytes>(COPY_TRANSACTIONS)
            .await
            .map_err(error)?
    );
    loop {
        match pieces.recv().await {
            Some(Ok(Piece::Transactions(rows))) => sink.feed(rows).await.map_err(error)?,
            Some(Ok(Piece::End(tail))) => {
                sink.finish().await.map_err(error)?;
                return Ok(*tail);
            }
            Some(Err(error)) => return Err(error),
            None => return Err(DumpError::Reader),
        }
    }
}

/// Everything of a batch that follows from its transactions.
async fn finish(
    transaction: &Transaction<'_>,
    chain: &String,
    tail: &Tail,
    mark: &Watermark,
) -> Result<(), tokio_postgres::Error> {
    let mut sink = pin!(transaction.copy_in::<_, Bytes>(COPY_BLOCKS).await?);
    sink.feed(tail.blocks.clone()).await?;
    sink.finish().await?;
    let (from, next) = (to_sql(mark.blocks), to_sql(tail.next));
    if tail.transactions > 0 || mark.blocks == 0 {
        upsert_records(transaction, chain, (from, next), &tail.overwritten).await?;
    }
    upsert_wallets(transaction, chain, &tail.wallets).await?;
    upsert_releases(transaction, chain, &tail.releases).await?;
    change_roles(transaction, chain, &tail.roles).await?;
    transaction.execute(RELEASE, &[chain, &next]).await?;
    let update = "UPDATE dump_watermarks SET blocks = $2, transactions = $3, hash = $4 WHERE chain = $1";
    let transactions = to_sql(mark.transactions.saturating_add(tail.transactions));
    transaction
        .execute(update, &[chain, &next, &transactions, &tail.last.to_string()])
        .await?;
    Ok(())
}

async fn upsert_records(
    transaction: &Transaction<'_>,
    chain: &String,
    (from, next): (i64, i64),
    overwritten: &[(i64, i32)],
) -> Result<(), tokio_postgres::Error> {
    if overwritten.is_empty() {
        let statement = format!("{UPSERT_RECORDS}{ON_CONFLICT}");
        transaction.execute(&statement, &[chain, &from, &next]).await?;
    } else {
        let statement = format!("{UPSERT_RECORDS}{NOT_OVERWRITTEN}{ON_CONFLICT}");
        let (heights, indexes): (Vec<i64>, Vec<i32>) = overwritten.iter().copied().unzip();
        transaction
            .execute(&statement, &[chain, &from, &next, &heights, &indexes])
            .await?;
    }
    Ok(())
}

async fn upsert_wallets(
    transaction: &Transaction<'_>,
    chain: &String,
    wallets: &BTreeMap<Address, Moved>,
) -> Result<(), tokio_postgres::Error> {
    if wallets.is_empty() {
        return Ok(());
    }
    let addresses: Vec<String> = wallets.keys().map(ToString::to_string).collect();
    let sums = |part: fn(&Moved) -> i128| {
        wallets
            .values()
            .map(|moved| part(moved).to_string())
            .collect::<Vec<_>>()
    };
    let (balances, stakes) = (sums(|moved| moved.balance), sums(|moved| moved.stake));
    let releasing = sums(|moved| moved.releasing);
    transaction
        .execute(
            UPSERT_WALLETS,
            &[chain, &addresses, &balances, &stakes, &releasing],
        )
        .await?;
    Ok(())
}

async fn upsert_releases(
    transaction: &Transaction<'_>,
    chain: &String,
    releases: &BTreeMap<(i64, Address), u128>,
) -> Result<(), tokio_postgres::Error> {
    if releases.is_empty() {
        return Ok(());
    }
    let heights: Vec<i64> = releases.keys().map(|(height, _)| *height).collect();
    let addresses: Vec<String> = releases.keys().map(|(_, address)| address.to_string()).collect();
    let amounts: Vec<String> = releases.values().map(ToString::to_string).collect();
    transaction
        .execute(UPSERT_RELEASES, &[chain, &heights, &addresses, &amounts])
        .await?;
    Ok(())
}

async fn change_roles(
    transaction: &Transaction<'_>,
    chain: &String,
    roles: &BTreeMap<(Address, Role), bool>,
) -> Result<(), tokio_postgres::Error> {
    for (statement, held) in [(GRANT, true), (REVOKE, false)] {
        let changed = roles.iter().filter(|(_, is_held)| **is_held == held);
        let (addresses, names): (Vec<String>, Vec<String>) = changed
            .map(|((address, role), _)| (address.to_string(), role.to_string()))
            .unzip();
        if !addresses.is_empty() {
            transaction
                .execute(statement, &[chain, &addresses, &names])
                .await?;
        }
    }
    Ok(())
}

fn failed(shown: &str, error: &tokio_postgres::Error) -> DumpError {
    DumpError::Database {
        database: shown.to_owned(),
        reason: crate::coordinator::root_cause(error),
    }
}
