//! `import`: the records of a file, put on a chain exactly once.
//!
//! The file is read and checked whole before anything is sent, and a copy of it is kept with a journal, named by what is
//! in it: which records were taken, and the nonces that the next ones were signed for. A batch is in the journal before it is
//! sent, and its transactions follow from the journal alone, so a batch whose answer was lost is sent again as it was, and
//! the node knows it. What was interrupted, by whatever, goes on with the same command.

mod journal;
mod source;

use super::Refusal;
use super::add::when_there_is_room;
use super::passphrase;
use super::wallet;
use crate::api::types::{Accepted, AccountView, NodeStatus, TransactionView};
use crate::cli::{Command, Global, ImportFormat};
use crate::client::{ClientError, NodeClient};
use crate::output::{self, Format};
use crate::wallet::Wallets;
use block_chain_common::codec::encode;
use block_chain_common::hash::ChainId;
use block_chain_common::keys::SecretKey;
use block_chain_common::quantity::Nonce;
use block_chain_common::transaction::{Payload, RecordKey, RecordValue, Transaction};
use journal::{Batch, Journal};
use rayon::prelude::*;
use serde::Serialize;
use source::{Columns, Spool};
use std::path::Path;
use std::process::ExitCode;

/// Records of one request.
const BATCH: usize = 5_000;
/// Bytes of keys and values of one request, which may be 16 MiB.
const BATCH_BYTES: usize = 8 * 1_048_576;

/// A record: key and value.
type Record = (RecordKey, RecordValue);

#[derive(Debug, Serialize)]
struct Imported {
    /// Records of the file.
    records: u64,
    /// Those that this command has put on the chain.
    imported: u64,
    /// Those that were there before, by an earlier command.
    before: u64,
    /// The wallet that signed.
    from: block_chain_common::keys::Address,
}

/// Puts the records of a file on the chain.
pub(super) async fn run(global: &Global, command: Command, format: Format) -> anyhow::Result<ExitCode> {
    let Command::Import {
        file,
        format: kind,
        key_column,
        value_column,
        again,
        signer,
    } = command
    else {
        return Ok(ExitCode::SUCCESS);
    };
    let is_csv = file
        .extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("csv"));
    let kind = kind.unwrap_or(if is_csv {
        ImportFormat::Csv
    } else {
        ImportFormat::Ndjson
    });
    let columns = Columns {
        key: key_column,
        value: value_column,
    };
    let dir = global.data_dir();
    let spool = source::read(&file, kind, &columns)?;
    let wallets = Wallets::of(&dir);
    let found = wallets.find_or_default(signer.from.as_deref())?;
    let key = found.open(|| passphrase::of(&wallet::name(&found), signer.passphrase_file.as_deref()))?;
    let node = NodeClient::connect(global).await?;
    let now: NodeStatus = node.get("/v1/status", &[]).await?;
    let mut journal = Journal::open(&dir, now.chain_id, &spool.digest, spool.count, found.address)?;
    if journal.is_done() && again {
        journal.begin_again()?;
    }
    let before = journal.done();
    tell_before(&journal, (&file, spool.count), &now.chain);
    let import = Import {
        node: &node,
        chain: now.chain_id,
        key: &key,
        account: format!("/v1/accounts/{}", found.address),
    };
    import.all(&file, spool.clone_from(before)?, &mut journal).await?;
    let imported = Imported {
        records: spool.count,
        imported: journal.done() - before,
        before,
        from: found.address,
    };
    if format == Format::Json {
        output::json(&imported)?;
    } else {
        output::line(&format!(
            "{} records imported, {} before; they wait for a block or are in one",
            output::grouped(imported.imported),
            output::grouped(imported.before)
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What of a file is on the chain already.
fn tell_before(journal: &Journal, (file, records): (&Path, u64), chain: &str) {
    if journal.is_done() {
        let message = format!(
            "the {records} records of {} are on chain {chain} already",
            file.display()
        );
        output::note(&format!("{message}; --again puts them there once more"));
    } else if journal.done() > 0 {
        let before = journal.done();
        output::note(&format!("{before} records were imported before: going on"));
    }
}

struct Import<'a> {
    node: &'a NodeClient,
    chain: ChainId,
    key: &'a SecretKey,
    account: String,
}

impl Import<'_> {
    async fn all(&self, file: &Path, mut records: Spool, journal: &mut Journal) -> anyhow::Result<()> {
        let bar = output::bar(
            records.count,
            "{wide_bar} {pos}/{len} records, {per_sec}, {eta} left",
        );
        bar.set_position(journal.done());
        while !journal.is_done() {
            let wanted = journal.batch().map_or(BATCH, |batch| batch.count);
            let batch = records.take(wanted, BATCH_BYTES)?;
            if batch.is_empty() {
                let message = format!("{} ends before its last record", file.display());
                return Err(Refusal::failed(message, None).into());
            }
            self.one(&batch, journal).await?;
            bar.set_position(journal.done());
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Has the node take a batch: all of it, once.
    async fn one(&self, records: &[Record], journal: &mut Journal) -> anyhow::Result<()> {
        loop {
            let batch = match journal.batch() {
                Some(batch) => batch,
                None => {
                    let account: AccountView = self.node.get(&self.account, &[]).await?;
                    let batch = Batch {
                        count: records.len(),
                        nonce: account.next_nonce,
                    };
                    journal.begin(batch)?;
                    batch
                }
            };
            let signed = sign(records, batch.nonce, self.chain, self.key);
            match self.post(&signed).await {
                Ok(_) => return journal.end(),
                // Nonces that are used: by this batch, taken before its answer was lost and in a block since; or by
                // another command, so that it was not taken.
                Err(error) if is_used(&error) => match self.was_taken(&signed).await? {
                    true => return journal.end(),
                    false => journal.forget()?,
                },
                Err(error) => {
                    let done = journal.done();
                    let error = anyhow::Error::new(error);
                    return Err(error.context(format!(
                        "after {done} records were imported; the same command goes on from there"
                    )));
                }
            }
        }
    }

    async fn post(&self, signed: &[Transaction]) -> Result<Accepted, ClientError> {
        let body = body(signed);
        when_there_is_room(|| self.node.post_bytes("/v1/transactions", body.clone())).await
    }

    /// Whether the batch was taken before: all of it was, where its first transaction was.
    async fn was_taken(&self, signed: &[Transaction]) -> Result<bool, ClientError> {
        let Some(first) = signed.first() else {
            return Ok(true);
        };
        let path = format!("/v1/transactions/{}", first.id());
        match self.node.get::<TransactionView>(&path, &[]).await {
            Ok(_) => Ok(true),
            Err(ClientError::Refused(error)) if error.code == "not_found" => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// MEM-1: the nonce is used already.
fn is_used(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused(error) if error.message.contains("MEM-1:"))
}

fn sign(records: &[Record], first: Nonce, chain: ChainId, key: &SecretKey) -> Vec<Transaction> {
    let numbered: Vec<_> = records.iter().zip(first.get()..).collect();
    let signed = numbered.into_par_iter().map(|((record, value), nonce)| {
        let payload = Payload::Put {
            key: record.clone(),
            value: value.clone(),
        };
        Transaction::sign(chain, Nonce::new(nonce), payload, key)
    });
    signed.collect()
}

/// `count (u32, little-endian)`, then for each `length (u32, little-endian)` and the encoded transaction.
fn body(signed: &[Transaction]) -> Vec<u8> {
    let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    let mut body = length(signed.len()).to_vec();
    for transaction in signed {
        let bytes = encode(transaction);
        body.extend_from_slice(&length(bytes.len()));
        body.extend_from_slice(&bytes);
    }
    body
}
