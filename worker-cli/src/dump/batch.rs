//! Committed blocks as rows: read on a thread of its own, handed over in pieces while the database takes earlier ones.
//!
//! What is in memory at once does not grow with the chain or a block: a few pieces of rows, and of a batch the places
//! and sums that its last statements need.

use super::DumpError;
use super::rows::Rows;
use super::values::{Encoding, as_json, as_text};
use crate::storage::{StorageError, Store};
use block_chain_common::chain_spec::{ChainSpec, CheckedSpec};
use block_chain_common::hash::BlockHash;
use block_chain_common::header::Header;
use block_chain_common::keys::{Address, PublicKey};
use block_chain_common::quantity::Height;
use block_chain_common::state::{Account, StateKey, StateValue};
use block_chain_common::transaction::{Payload, Role, Transaction};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use tokio::sync::mpsc;

/// A batch ends with the block that reaches one of these: large enough that a commit's cost does not count, small enough
/// that little is done twice after a crash.
const BATCH_TRANSACTIONS: u64 = 50_000;
const BATCH_BLOCKS: u64 = 10_000;
const BATCH_BYTES: usize = 32 * 1_048_576;
/// Rows are handed over in pieces of about this size.
const PIECE_BYTES: usize = 262_144;
/// Pieces that may wait.
const PIECES: usize = 4;

/// What the reader hands over.
pub(super) enum Piece {
    /// A part of the stream of the table `transactions`.
    Transactions(Bytes),
    /// The batch's stream has ended.
    End(Box<Tail>),
}

/// What follows a batch's transactions.
#[derive(Debug)]
pub(super) struct Tail {
    /// The stream of the table `blocks`.
    pub(super) blocks: Bytes,
    /// Height of the block after the batch.
    pub(super) next: u64,
    /// Transactions in the batch.
    pub(super) transactions: u64,
    /// Hash of the batch's last block.
    pub(super) last: BlockHash,
    /// Records of the batch whose key the batch itself sets again later.
    pub(super) overwritten: Vec<(i64, i32)>,
    /// What the batch adds to balances, stakes and releases.
    pub(super) wallets: BTreeMap<Address, Moved>,
    /// What becomes free, by height and address.
    pub(super) releases: BTreeMap<(i64, Address), u128>,
    /// Roles that the batch changes: whether they are held after it.
    pub(super) roles: BTreeMap<(Address, Role), bool>,
}

/// What is added to a wallet; below 0 where it is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) balance: i128,
    pub(super) stake: i128,
    pub(super) releasing: i128,
}

/// Reads the blocks of `from..committed` in batches. The reader stops when the receiver is dropped.
pub(super) fn read(
    (store, spec): (Store, CheckedSpec),
    encoding: Encoding,
    from: u64,
    committed: u64,
) -> mpsc::Receiver<Result<Piece, DumpError>> {
    let (sender, receiver) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        let mut reader = Reader {
            store,
            chain: spec.id().to_string(),
            spec,
            sender,
            encoding,
            known: None,
        };
        if let Err(Some(error)) = reader.run(from, committed) {
            // Where nobody listens any more, nobody needs to know.
            drop(reader.sender.blocking_send(Err(error)));
        }
    });
    receiver
}

struct Reader {
    store: Store,
    spec: CheckedSpec,
    chain: String,
    sender: mpsc::Sender<Result<Piece, DumpError>>,
    encoding: Encoding,
    /// The last sender, whose address and its text took a hash to find.
    known: Option<(PublicKey, Address, String)>,
}

/// `None`: nobody listens any more.
type Ended = Option<DumpError>;

impl Reader {
    fn run(&mut self, from: u64, committed: u64) -> Result<(), Ended> {
        let mut next = from;
        while next < committed {
            let tail = self.batch(next, committed)?;
            next = tail.next;
            self.send(Piece::End(Box::new(tail)))?;
        }
        Ok(())
    }

    fn send(&self, piece: Piece) -> Result<(), Ended> {
        self.sender.blocking_send(Ok(piece)).or(Err(None))
    }

    fn batch(&mut self, from: u64, committed: u64) -> Result<Tail, Ended> {
        let (mut rows, mut blocks, mut sums) = (Rows::new(), Rows::new(), Sums::default());
        let (mut next, mut transactions, mut bytes, mut last) = (from, 0, 0_usize, BlockHash::ZERO);
        let failed = |error: StorageError| Some(DumpError::from(error));
        while next < committed {
            let height = Height::new(next);
            let missing = || failed(StorageError::damaged(format!("block {height} is missing")));
            let (hash, header) = self
                .store
                .header_at(height)
                .map_err(failed)?
                .ok_or_else(missing)?;
            block_row(&mut blocks, &self.chain, &hash, &header);
            sums.add_block(self.spec.spec(), &header);
            if header.height == Height::ZERO {
                self.inherited(&mut rows, &header, &mut sums)?;
            }
            for (transaction, index) in self.store.stream_transactions(height, &hash).zip(0_i32..) {
                let transaction = transaction.map_err(failed)?;
                self.transaction_row(&mut rows, &header, index, &transaction);
                let sender = self.address(transaction.sender);
                sums.add_transaction(self.spec.spec(), sender, &header, index, &transaction);
                transactions += 1;
                if rows.len() >= PIECE_BYTES {
                    bytes = bytes.saturating_add(rows.len());
                    self.send(Piece::Transactions(rows.take()))?;
                    rows.reserve(PIECE_BYTES + PIECE_BYTES / 4);
                }
            }
            (next, last) = (next.saturating_add(1), hash);
            // What a fork has inherited is a batch of its own: its keys need not be kept for what the blocks set again.
            if header.height == Height::ZERO && self.spec.genesis_state().is_none() {
                break;
            }
            if transactions >= BATCH_TRANSACTIONS || bytes >= BATCH_BYTES || next - from >= BATCH_BLOCKS {
                break;
            }
        }
        rows.end();
        blocks.end();
        self.send(Piece::Transactions(rows.take()))?;
        let Sums {
            overwritten,
            wallets,
            releases,
            roles,
            ..
        } = sums;
        Ok(Tail {
            blocks: blocks.take(),
            next,
            transactions,
            last,
            overwritten,
            wallets,
            releases,
            roles,
        })
    }

    /// What a fork has inherited, as rows and sums of height 0; they are no transactions of the fork.
    fn inherited(&mut self, rows: &mut Rows, genesis: &Header, sums: &mut Sums) -> Result<(), Ended> {
        let failed = |error: StorageError| Some(DumpError::from(error));
        for entry in self.store.inherited_state() {
            match entry.map_err(failed)? {
                (_, StateValue::Record(record)) => {
                    let index = record.index;
                    let missing = || failed(StorageError::damaged(format!("inherited record {index}")));
                    let found = self.store.inherited(index).map_err(failed)?.ok_or_else(missing)?;
                    let index = i32::try_from(index).or(Err(missing()))?;
                    self.transaction_row(rows, genesis, index, &found.transaction);
                    if rows.len() >= PIECE_BYTES {
                        self.send(Piece::Transactions(rows.take()))?;
                    }
                }
                (StateKey::Account(address), StateValue::Account(account)) => {
                    sums.add_account(address, &account);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn address(&mut self, sender: PublicKey) -> Address {
        match &self.known {
            Some((known, address, _)) if *known == sender => *address,
            _ => {
                let address = sender.address();
                self.known = Some((sender, address, address.to_string()));
                address
            }
        }
    }

    fn transaction_row(&mut self, rows: &mut Rows, header: &Header, index: i32, transaction: &Transaction) {
        self.address(transaction.sender);
        let sender = self.known.as_ref().map_or("", |(_, _, text)| text);
        rows.row(15)
            .bytes(&self.chain)
            .bigint(to_sql(header.height.get()))
            .int(index);
        rows.hex(transaction.id().as_bytes())
            .bytes(transaction.payload.kind())
            .bytes(sender);
        rows.numeric(transaction.nonce.get());
        payload_cells(rows, &transaction.payload, self.encoding);
    }
}

fn block_row(rows: &mut Rows, chain: &str, hash: &BlockHash, header: &Header) {
    // Before the first block is none; its header holds the chain's definition there.
    let previous = if header.height == Height::ZERO {
        BlockHash::ZERO
    } else {
        header.previous
    };
    rows.row(8)
        .bytes(chain)
        .bigint(to_sql(header.height.get()))
        .hex(hash.as_bytes())
        .hex(previous.as_bytes());
    rows.hex(header.transactions_root.as_bytes())
        .time(header.timestamp)
        .bytes(header.producer.to_string());
    rows.int(i32::try_from(header.transaction_count).unwrap_or(i32::MAX));
}

/// key, key_bytes, value, value_bytes, value_json, recipient, amount, role.
fn payload_cells(rows: &mut Rows, payload: &Payload, encoding: Encoding) {
    match payload {
        Payload::Put { key, value } => {
            let text = as_text(value.as_slice());
            rows.optional(as_text(key.as_slice())).bytes(key.as_slice());
            rows.optional(text).bytes(value.as_slice());
            json_cell(rows, text, encoding).nulls(3);
        }
        Payload::Message { bytes } => {
            let text = as_text(bytes.as_slice());
            rows.nulls(2).optional(text).bytes(bytes.as_slice());
            json_cell(rows, text, encoding).nulls(3);
        }
        Payload::Transfer { to, amount, memo } => {
            rows.nulls(2)
                .optional(as_text(memo.as_slice()))
                .bytes(memo.as_slice())
                .null();
            rows.bytes(to.to_string()).numeric(amount.get()).null();
        }
        Payload::Deposit { to, amount } => {
            rows.nulls(5).bytes(to.to_string()).numeric(amount.get()).null();
        }
        Payload::Stake { amount } | Payload::Unstake { amount } => {
            rows.nulls(6).numeric(amount.get()).null();
        }
        Payload::Grant { address, role } | Payload::Revoke { address, role } => {
            rows.nulls(5)
                .bytes(address.to_string())
                .null()
                .bytes(role.to_string());
        }
    }
}

fn json_cell<'a>(rows: &'a mut Rows, text: Option<&str>, encoding: Encoding) -> &'a mut Rows {
    match as_json(text, encoding) {
        Some(json) => rows.jsonb(json),
        None => rows.null(),
    }
}

#[derive(Default)]
struct Sums {
    /// Where a key, by its hash, was set last.
    set: HashMap<blake3::Hash, (i64, i32)>,
    overwritten: Vec<(i64, i32)>,
    wallets: BTreeMap<Address, Moved>,
    releases: BTreeMap<(i64, Address), u128>,
    roles: BTreeMap<(Address, Role), bool>,
}

impl Sums {
    /// What an address has at the beginning of a fork.
    fn add_account(&mut self, address: Address, account: &Account) {
        self.move_value(address, account.balance.get(), |moved, amount| {
            moved.balance += amount
        });
        self.move_value(address, account.stake.get(), |moved, amount| {
            moved.stake += amount
        });
        for release in account.releases.as_slice() {
            self.move_value(address, release.amount.get(), |moved, amount| {
                moved.releasing += amount
            });
            let free_from = to_sql(release.from.get());
            *self.releases.entry((free_from, address)).or_default() += u128::from(release.amount.get());
        }
    }

    fn add_block(&mut self, spec: &ChainSpec, header: &Header) {
        if header.height == Height::ZERO {
            for entry in spec.balances.as_slice() {
                self.move_value(entry.address, entry.amount.get(), |moved, amount| {
                    moved.balance += amount
                });
            }
            for entry in spec.stakes.as_slice() {
                self.move_value(entry.address, entry.amount.get(), |moved, amount| {
                    moved.stake += amount
                });
            }
        } else {
            let reward = spec.reward_at(header.height).get();
            self.move_value(header.producer, reward, |moved, amount| moved.balance += amount);
        }
    }

    fn add_transaction(
        &mut self,
        spec: &ChainSpec,
        sender: Address,
        header: &Header,
        index: i32,
        transaction: &Transaction,
    ) {
        match &transaction.payload {
            Payload::Put { key, .. } => {
                let place = (to_sql(header.height.get()), index);
                self.overwritten
                    .extend(self.set.insert(blake3::hash(key.as_slice()), place));
            }
            Payload::Transfer { to, amount, .. } => {
                self.move_value(sender, amount.get(), |moved, amount| moved.balance -= amount);
                self.move_value(*to, amount.get(), |moved, amount| moved.balance += amount);
            }
            Payload::Deposit { to, amount } => {
                self.move_value(*to, amount.get(), |moved, amount| moved.balance += amount);
            }
            Payload::Stake { amount } => self.move_value(sender, amount.get(), |moved, amount| {
                moved.balance -= amount;
                moved.stake += amount;
            }),
            Payload::Unstake { amount } => {
                self.move_value(sender, amount.get(), |moved, amount| {
                    moved.stake -= amount;
                    moved.releasing += amount;
                });
                let free_from = to_sql(header.height.get().saturating_add(spec.unstake_blocks));
                *self.releases.entry((free_from, sender)).or_default() += u128::from(amount.get());
            }
            Payload::Grant { address, role } => {
                self.roles.insert((*address, *role), true);
            }
            Payload::Revoke { address, role } => {
                self.roles.insert((*address, *role), false);
            }
            Payload::Message { .. } => {}
        }
    }

    fn move_value(&mut self, address: Address, amount: u64, change: impl FnOnce(&mut Moved, i128)) {
        if amount > 0 {
            change(self.wallets.entry(address).or_default(), i128::from(amount));
        }
    }
}

pub(super) fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
