//! Copying: batches of committed blocks by `COPY`, with the watermark in the same transaction.

use super::rows::{Rows, SCHEMA, SCHEMA_VERSION, as_json, as_text, record_cells, value_cells};
use super::{DatabaseUrl, DumpError};
use crate::api::types::DumpStatus;
use crate::machine::ChainRead as _;
use crate::node::NodeHandle;
use block_chain_common::hash::BlockHash;
use block_chain_common::header::Header;
use block_chain_common::keys::Address;
use block_chain_common::quantity::Height;
use block_chain_common::transaction::{Payload, Transaction};
use bytes::Bytes;
use futures_util::SinkExt as _;
use std::collections::BTreeMap;
use std::pin::pin;
use tokio_postgres::{Client, Transaction as SqlTransaction};

/// A batch ends with the block that reaches either of these.
const BATCH_TRANSACTIONS: usize = 20_000;
const BATCH_BYTES: usize = 8 * 1_048_576;
/// What one message to the server carries.
const CHUNK_BYTES: usize = 262_144;
/// Serialises the set-up of the tables among workers; an arbitrary number of this program's own.
const SETUP_LOCK: i64 = 0x626c_6f63_6b63_6861;

/// A connection that copies one chain.
pub(super) struct Session {
    client: Client,
    node: NodeHandle,
    shown: String,
    chain: String,
    blocks: u64,
    transactions: u64,
}

#[derive(Default)]
struct Batch {
    blocks: Rows,
    transactions: Rows,
    records: BTreeMap<Vec<u8>, (Vec<u8>, Height, u32)>,
    wallets: BTreeMap<Address, [i128; 3]>,
    block_count: u64,
    transaction_count: u64,
    last: BlockHash,
}

impl Session {
    /// Connects, sets the tables up, and reads the watermark.
    pub(super) async fn open(url: &DatabaseUrl, node: &NodeHandle) -> Result<Self, DumpError> {
        let client = url.connect().await?;
        let chain = node.chain_id().to_string();
        let mut session = Self {
            client,
            node: node.clone(),
            shown: url.shown(),
            chain,
            blocks: 0,
            transactions: 0,
        };
        session.set_up().await?;
        Ok(session)
    }

    fn failed(&self, error: &tokio_postgres::Error) -> DumpError {
        failed(&self.shown, error)
    }

    async fn set_up(&mut self) -> Result<(), DumpError> {
        let shown = self.shown.clone();
        let error = |e: tokio_postgres::Error| failed(&shown, &e);
        let transaction = self.client.transaction().await.map_err(error)?;
        transaction
            .execute("SELECT pg_advisory_xact_lock($1)", &[&SETUP_LOCK])
            .await
            .map_err(error)?;
        // "IF NOT EXISTS" says so in a notice, which is of no interest.
        transaction
            .batch_execute("SET LOCAL client_min_messages = warning")
            .await
            .map_err(error)?;
        transaction.batch_execute(SCHEMA).await.map_err(error)?;
        let version = transaction
            .query_opt("SELECT max(version) FROM block_chain_schema", &[])
            .await
            .map_err(error)?;
        match version.and_then(|row| row.get::<_, Option<i32>>(0)) {
            Some(found) if found > SCHEMA_VERSION => {
                return Err(DumpError::NewerSchema {
                    found,
                    known: SCHEMA_VERSION,
                });
            }
            Some(_) => {}
            None => {
                let insert = "INSERT INTO block_chain_schema VALUES ($1)";
                transaction
                    .execute(insert, &[&SCHEMA_VERSION])
                    .await
                    .map_err(error)?;
            }
        }
        let name = &self.node.spec().spec().name;
        let insert = "INSERT INTO chains VALUES ($1, $2) ON CONFLICT DO NOTHING";
        transaction
            .execute(insert, &[&self.chain, name])
            .await
            .map_err(error)?;
        let insert = "INSERT INTO dump_watermarks VALUES ($1, 0, 0, '') ON CONFLICT DO NOTHING";
        transaction.execute(insert, &[&self.chain]).await.map_err(error)?;
        let mark = lock_watermark(&transaction, &self.chain, &shown).await?;
        transaction.commit().await.map_err(error)?;
        self.check_watermark(&mark)?;
        (self.blocks, self.transactions) = (mark.blocks, mark.transactions);
        Ok(())
    }

    fn check_watermark(&self, mark: &Watermark) -> Result<(), DumpError> {
        let Some(last) = mark.blocks.checked_sub(1) else {
            return Ok(());
        };
        match self.node.store().hash_at(Height::new(last))? {
            Some(hash) if hash.to_string() != mark.hash => Err(DumpError::OtherBlocks {
                height: last,
                found: mark.hash.clone(),
            }),
            // A replica that is behind the copy waits until it has caught up.
            _ => Ok(()),
        }
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

    /// Copies the next blocks in one transaction; how many.
    pub(super) async fn copy_batch(&mut self) -> Result<u64, DumpError> {
        let committed = self
            .node
            .store()
            .committed()
            .map_or(0, |checkpoint| checkpoint.size);
        if self.blocks >= committed {
            return Ok(0);
        }
        let shown = self.shown.clone();
        let error = |e: tokio_postgres::Error| failed(&shown, &e);
        // Built on a thread that may block, before the transaction begins.
        let (node, chain, from) = (self.node.clone(), self.chain.clone(), self.blocks);
        let built = tokio::task::spawn_blocking(move || build(&node, &chain, from, committed)).await;
        let stopped = |e: tokio::task::JoinError| DumpError::Secret(e.to_string());
        let mut batch = built.map_err(stopped)??;
        let transaction = self.client.transaction().await.map_err(error)?;
        let mark = lock_watermark(&transaction, &self.chain, &shown).await?;
        if mark.blocks != self.blocks {
            // Another worker copies the same chain into this database: go on from where it is.
            drop(transaction);
            self.check_watermark(&mark)?;
            (self.blocks, self.transactions) = (mark.blocks, mark.transactions);
            return Ok(1);
        }
        let rows = batch.blocks.take();
        copy_in(
            &transaction,
            "blocks (chain, height, hash, previous_hash, merkle_root, time, producer, transactions)",
            rows,
        )
        .await
        .map_err(error)?;
        let columns = "transactions (chain, height, index, id, type, sender, nonce, key, key_bytes, value, value_bytes, value_json, recipient, amount, role)";
        copy_in(&transaction, columns, batch.transactions.take())
            .await
            .map_err(error)?;
        upsert_records(&transaction, &self.chain, &batch.records)
            .await
            .map_err(error)?;
        upsert_wallets(&transaction, &self.chain, &batch.wallets)
            .await
            .map_err(error)?;
        let (blocks, transactions) = (
            self.blocks + batch.block_count,
            self.transactions + batch.transaction_count,
        );
        let update = "UPDATE dump_watermarks SET blocks = $2, transactions = $3, hash = $4 WHERE chain = $1";
        let values = (to_sql(blocks), to_sql(transactions), batch.last.to_string());
        transaction
            .execute(update, &[&self.chain, &values.0, &values.1, &values.2])
            .await
            .map_err(error)?;
        transaction.commit().await.map_err(error)?;
        (self.blocks, self.transactions) = (blocks, transactions);
        Ok(batch.block_count)
    }
}

struct Watermark {
    blocks: u64,
    transactions: u64,
    hash: String,
}

async fn lock_watermark(
    client: &SqlTransaction<'_>,
    chain: &String,
    shown: &str,
) -> Result<Watermark, DumpError> {
    let select = "SELECT blocks, transactions, hash FROM dump_watermarks WHERE chain = $1 FOR UPDATE";
    let row = client
        .query_one(select, &[chain])
        .await
        .map_err(|error| failed(shown, &error))?;
    let number = |column| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
    Ok(Watermark {
        blocks: number(0),
        transactions: number(1),
        hash: row.get(2),
    })
}

fn build(node: &NodeHandle, chain: &str, from: u64, committed: u64) -> Result<Batch, DumpError> {
    let store = node.store();
    let mut batch = Batch::default();
    let mut bytes = 0;
    for height in (from..committed).map(Height::new) {
        let missing = || crate::storage::StorageError::damaged(format!("block {height} is missing"));
        let (hash, header) = store.header_at(height)?.ok_or_else(missing)?;
        batch.add_block(node, chain, &hash, &header);
        for (transaction, index) in store.stream_transactions(height, &hash).zip(0_u32..) {
            batch.add_transaction(chain, height, index, transaction?);
        }
        bytes += batch.transactions.len();
        if batch.transactions.len() > BATCH_BYTES
            || batch.transaction_count >= to_u64(BATCH_TRANSACTIONS)
            || bytes == 0 && batch.block_count >= 10_000
        {
            break;
        }
    }
    Ok(batch)
}

impl Batch {
    fn add_block(&mut self, node: &NodeHandle, chain: &str, hash: &BlockHash, header: &Header) {
        let previous = if header.height == Height::ZERO {
            BlockHash::ZERO
        } else {
            header.previous
        };
        self.blocks
            .plain(chain)
            .plain(header.height)
            .plain(hash)
            .plain(previous)
            .plain(header.transactions_root);
        self.blocks
            .plain(crate::output::utc(header.timestamp))
            .plain(header.producer)
            .plain(header.transaction_count);
        self.blocks.end();
        self.block_count += 1;
        self.last = *hash;
        let spec = node.spec().spec();
        if header.height == Height::ZERO {
            for entry in spec.balances.as_slice() {
                self.move_value(entry.address, [i128::from(entry.amount.get()), 0, 0]);
            }
            for entry in spec.stakes.as_slice() {
                self.move_value(entry.address, [0, i128::from(entry.amount.get()), 0]);
            }
        } else {
            self.move_value(
                header.producer,
                [i128::from(spec.reward_at(header.height).get()), 0, 0],
            );
        }
    }

    fn add_transaction(&mut self, chain: &str, height: Height, index: u32, transaction: Transaction) {
        let sender = transaction.sender.address();
        let rows = &mut self.transactions;
        rows.plain(chain)
            .plain(height)
            .plain(index)
            .plain(transaction.id())
            .plain(transaction.payload.kind());
        rows.plain(sender).plain(transaction.nonce);
        record_cells(rows, &transaction.payload);
        value_cells(rows, &transaction.payload);
        rows.end();
        self.transaction_count += 1;
        match transaction.payload {
            Payload::Put { key, value } => {
                self.records
                    .insert(key.into_vec(), (value.into_vec(), height, index));
            }
            Payload::Transfer { to, amount, .. } => {
                self.move_value(sender, [-i128::from(amount.get()), 0, 0]);
                self.move_value(to, [i128::from(amount.get()), 0, 0]);
            }
            Payload::Deposit { to, amount } => self.move_value(to, [i128::from(amount.get()), 0, 0]),
            Payload::Stake { amount } => {
                let amount = i128::from(amount.get());
                self.move_value(sender, [-amount, amount, 0]);
            }
            Payload::Unstake { amount } => {
                let amount = i128::from(amount.get());
                self.move_value(sender, [0, -amount, amount]);
            }
            Payload::Message { .. } | Payload::Grant { .. } | Payload::Revoke { .. } => {}
        }
    }

    fn move_value(&mut self, address: Address, by: [i128; 3]) {
        let sums = self.wallets.entry(address).or_default();
        for (sum, part) in sums.iter_mut().zip(by) {
            *sum += part;
        }
    }
}

async fn copy_in(client: &SqlTransaction<'_>, table: &str, rows: Bytes) -> Result<(), tokio_postgres::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let sink = client
        .copy_in::<_, Bytes>(&format!("COPY {table} FROM STDIN"))
        .await?;
    let mut sink = pin!(sink);
    let mut rest = rows;
    while !rest.is_empty() {
        let chunk = rest.split_to(rest.len().min(CHUNK_BYTES));
        sink.feed(chunk).await?;
    }
    sink.finish().await.map(|_| ())
}

async fn upsert_records(
    client: &SqlTransaction<'_>,
    chain: &str,
    records: &BTreeMap<Vec<u8>, (Vec<u8>, Height, u32)>,
) -> Result<(), tokio_postgres::Error> {
    if records.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::default();
    for (key, (value, height, index)) in records {
        let text = as_text(value);
        rows.plain(chain)
            .bytes(key)
            .optional(as_text(key))
            .optional(text)
            .bytes(value)
            .optional(as_json(text));
        rows.plain(height).plain(index);
        rows.end();
    }
    client
        .batch_execute("CREATE TEMP TABLE staged_records (LIKE key_values) ON COMMIT DROP")
        .await?;
    copy_in(client, "staged_records", rows.take()).await?;
    let upsert = "INSERT INTO key_values SELECT * FROM staged_records ON CONFLICT (chain, key_bytes) DO UPDATE SET \
                  key = EXCLUDED.key, value = EXCLUDED.value, value_bytes = EXCLUDED.value_bytes, \
                  value_json = EXCLUDED.value_json, height = EXCLUDED.height, index = EXCLUDED.index";
    client.execute(upsert, &[]).await.map(|_| ())
}

async fn upsert_wallets(
    client: &SqlTransaction<'_>,
    chain: &str,
    wallets: &BTreeMap<Address, [i128; 3]>,
) -> Result<(), tokio_postgres::Error> {
    if wallets.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::default();
    for (address, [balance, stake, releasing]) in wallets {
        rows.plain(chain)
            .plain(address)
            .plain(balance)
            .plain(stake)
            .plain(releasing);
        rows.end();
    }
    client
        .batch_execute("CREATE TEMP TABLE staged_wallets (LIKE wallets) ON COMMIT DROP")
        .await?;
    copy_in(client, "staged_wallets", rows.take()).await?;
    let upsert = "INSERT INTO wallets SELECT * FROM staged_wallets ON CONFLICT (chain, address) DO UPDATE SET \
                  balance = wallets.balance + EXCLUDED.balance, stake = wallets.stake + EXCLUDED.stake, \
                  releasing = wallets.releasing + EXCLUDED.releasing";
    client.execute(upsert, &[]).await.map(|_| ())
}

fn failed(shown: &str, error: &tokio_postgres::Error) -> DumpError {
    DumpError::Database {
        database: shown.to_owned(),
        reason: crate::coordinator::root_cause(error),
    }
}

fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn to_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
