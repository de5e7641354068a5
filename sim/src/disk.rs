//! A node's disk in memory: what is written is visible at once and durable with the next sync, as in the real store.
//!
//! A crash keeps any number of the unsynced batches, oldest first; the one that was being written is torn, and an atomic
//! batch that is torn is not there.

use block_chain_common::chain_spec::CheckedSpec;
use block_chain_common::hash::{BlockHash, TxId};
use block_chain_common::history::{Frontier, HistoryNodes, NodePlace};
use block_chain_common::keys::Address;
use block_chain_common::quantity::{Height, Term};
use block_chain_common::state::{Account, LatticeHash, StateKey, StateValue, StateView, Undo};
use block_chain_common::transaction::{CheckedTransaction, Transaction};
use block_chain_worker::machine::{ChainRead, Place, StoredHeader, Write};
use block_chain_worker::storage::{StorageError, StoredCheckpoint};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// All that a node stores. Cheap enough to copy: a simulated chain has some dozen blocks.
#[derive(Clone)]
pub struct Tables {
    headers: BTreeMap<BlockHash, StoredHeader>,
    heights: BTreeMap<Height, BlockHash>,
    bodies: BTreeMap<BlockHash, Arc<Vec<Transaction>>>,
    places: BTreeMap<TxId, Place>,
    state: BTreeMap<StateKey, StateValue>,
    state_hash: LatticeHash,
    undo: BTreeMap<BlockHash, Undo>,
    nodes: BTreeMap<NodePlace, [u8; 32]>,
    mempool: BTreeMap<u64, CheckedTransaction>,
    candidates: BTreeSet<(Height, BlockHash)>,
    /// Bodies with a turned bit: reading one fails, as a checksum does.
    flipped: BTreeSet<BlockHash>,
    head: (Height, BlockHash),
    committed: Option<StoredCheckpoint>,
    finalised: Option<StoredCheckpoint>,
    term: Term,
}

impl Tables {
    fn new(spec: &CheckedSpec) -> Self {
        let header = spec.genesis().header.clone();
        let hash = header.hash();
        let mut tables = Self {
            headers: BTreeMap::new(),
            heights: BTreeMap::from([(Height::ZERO, hash)]),
            bodies: BTreeMap::from([(hash, Arc::default())]),
            places: BTreeMap::new(),
            state: BTreeMap::new(),
            // A fork is not simulated: it differs in its state alone.
            state_hash: spec
                .genesis_state()
                .map(|state| state.hash_after().clone())
                .unwrap_or_default(),
            undo: BTreeMap::new(),
            nodes: Frontier::default()
                .append(&header.leaf_bytes())
                .into_iter()
                .collect(),
            mempool: BTreeMap::new(),
            candidates: BTreeSet::new(),
            flipped: BTreeSet::new(),
            head: (Height::ZERO, hash),
            committed: None,
            finalised: None,
            term: Term::default(),
        };
        let work = block_chain_common::work::Work::ZERO;
        tables.headers.insert(hash, StoredHeader { header, work });
        if let Some(state) = spec.genesis_state() {
            tables.set_state(state.afters());
        }
        tables
    }

    fn set_state<'a>(&mut self, entries: impl Iterator<Item = (&'a StateKey, Option<&'a StateValue>)>) {
        for (key, value) in entries {
            match value {
                Some(value) => self.state.insert(key.clone(), value.clone()),
                None => self.state.remove(key),
            };
        }
    }

    /// No unit is lost or made but by rewards: all accounts together have what the state says there is, which is what the
    /// chain began with and a reward for every block.
    ///
    /// # Errors
    /// What does not add up.
    pub fn check_value(&self, spec: &CheckedSpec) -> Result<(), String> {
        let (mut held, mut supply) = (0_u128, 0_u128);
        for (key, value) in &self.state {
            match (key, value) {
                (_, StateValue::Account(account)) => {
                    let releases = account.releases.as_slice().iter().map(|release| release.amount);
                    for amount in releases.chain([account.balance, account.stake]) {
                        held = held.saturating_add(u128::from(amount.get()));
                    }
                }
                (StateKey::Supply, StateValue::Amount(amount)) => supply = u128::from(amount.get()),
                _ => {}
            }
        }
        let spec = spec.spec();
        let given = spec.balances.as_slice().iter().chain(spec.stakes.as_slice());
        let given = given.map(|entry| entry.amount);
        let rewards = (1..=self.head.0.get()).map(|height| spec.reward_at(Height::new(height)));
        let expected: u128 = given.chain(rewards).map(|amount| u128::from(amount.get())).sum();
        match held == supply && supply == expected {
            true => Ok(()),
            false => Err(format!(
                "the accounts hold {held}, the state says {supply}, and {expected} were given and paid"
            )),
        }
    }

    /// Blocks that it knows to be committed.
    #[must_use]
    pub fn committed_size(&self) -> u64 {
        self.committed.as_ref().map_or(0, |checkpoint| checkpoint.size)
    }

    /// Blocks that it knows to be final.
    #[must_use]
    pub fn final_size(&self) -> u64 {
        self.finalised.as_ref().map_or(0, |checkpoint| checkpoint.size)
    }

    /// The newest committed checkpoint's note.
    #[must_use]
    pub fn committed_note(&self) -> Option<String> {
        self.committed.as_ref().map(|checkpoint| checkpoint.note.clone())
    }

    /// The newest committed checkpoint.
    #[must_use]
    pub fn committed(&self) -> Option<StoredCheckpoint> {
        self.committed.clone()
    }

    /// The newest final checkpoint.
    #[must_use]
    pub const fn finalised(&self) -> Option<&StoredCheckpoint> {
        self.finalised.as_ref()
    }

    /// The head.
    #[must_use]
    pub const fn head(&self) -> (Height, BlockHash) {
        self.head
    }

    /// The highest term seen.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.term
    }

    /// What an address has.
    #[must_use]
    pub fn account(&self, address: &Address) -> Account {
        match self.state.get(&StateKey::Account(*address)) {
            Some(StateValue::Account(account)) => account.clone(),
            _ => Account::default(),
        }
    }

    /// What waits, in order of arrival.
    #[must_use]
    pub fn mempool(&self) -> Vec<(u64, CheckedTransaction)> {
        let waiting = self.mempool.iter();
        waiting
            .map(|(sequence, transaction)| (*sequence, transaction.clone()))
            .collect()
    }

    /// Whether the block is here in full, on the chain or beside it.
    #[must_use]
    pub fn holds(&self, hash: &BlockHash) -> bool {
        self.headers.contains_key(hash) && self.bodies.contains_key(hash)
    }

    /// The chain's blocks from a height on, in order.
    pub fn blocks_from(&self, height: Height) -> impl Iterator<Item = (Height, BlockHash)> {
        self.heights
            .range(height..)
            .map(|(height, hash)| (*height, *hash))
    }

    /// The ids of a block's transactions.
    #[must_use]
    pub fn ids(&self, hash: &BlockHash) -> Vec<TxId> {
        let body = self.bodies.get(hash).into_iter().flat_map(|body| body.iter());
        body.map(Transaction::id).collect()
    }

    /// # Errors
    /// Where a write does not follow from what is stored: the machine has broken its own rules.
    fn apply(&mut self, write: &Write) -> Result<(), String> {
        match write {
            Write::Candidate {
                header,
                hash,
                transactions,
            } => {
                self.headers.insert(*hash, header.clone());
                self.candidates.insert((header.header.height, *hash));
                let body = transactions.iter().map(|tx| tx.transaction().clone());
                self.bodies.insert(*hash, Arc::new(body.collect()));
            }
            Write::Connect(connected) => {
                let block = connected.block();
                let (height, hash) = (block.header().height, block.hash());
                if block.header().previous != self.head.1 || height != self.head.0.next() {
                    return Err(format!("block {height} is connected to another than the head"));
                }
                let header = StoredHeader {
                    header: block.header().clone(),
                    work: connected.tip().work,
                };
                self.headers.insert(hash, header);
                self.heights.insert(height, hash);
                let body: Vec<_> = block
                    .transactions()
                    .iter()
                    .map(|tx| tx.transaction().clone())
                    .collect();
                self.bodies.entry(hash).or_insert_with(|| Arc::new(body));
                for (tx, index) in block.transactions().iter().zip(0..) {
                    self.places.insert(tx.id(), Place { height, index });
                }
                self.set_state(connected.delta().afters());
                self.nodes.extend(connected.history_nodes().iter().copied());
                let undo = borsh::from_slice(&connected.delta().undo_bytes());
                self.undo.insert(hash, undo.map_err(|error| error.to_string())?);
                self.state_hash = connected.delta().hash_after().clone();
                self.head = (height, hash);
            }
            Write::Disconnect { hash, undo } => self.disconnect(hash, undo)?,
            Write::MempoolAdd {
                sequence,
                transaction,
            } => {
                self.mempool.insert(*sequence, transaction.clone());
            }
            Write::MempoolRemove { sequence } => {
                self.mempool.remove(sequence);
            }
            Write::Committed { size, note } => self.commit(*size, note)?,
            Write::Final { size, note } => {
                self.finalised = Some(StoredCheckpoint {
                    size: *size,
                    note: note.clone(),
                });
            }
            Write::Term(term) => self.term = *term,
        }
        Ok(())
    }

    fn disconnect(&mut self, hash: &BlockHash, undo: &Undo) -> Result<(), String> {
        let (height, head) = self.head;
        if head != *hash || height.get() < self.committed_size() {
            return Err(format!(
                "block {height} is undone, {} are committed",
                self.committed_size()
            ));
        }
        for id in self.ids(hash) {
            self.places.remove(&id);
        }
        self.set_state(undo.entries());
        self.state_hash = undo.hash_before().clone();
        self.undo.remove(hash);
        self.heights.remove(&height);
        self.candidates.insert((height, *hash));
        let header = self.headers.get(hash).ok_or("the head has no header")?;
        self.head = (height.previous(), header.header.previous);
        Ok(())
    }

    fn commit(&mut self, size: u64, note: &str) -> Result<(), String> {
        if size <= self.committed_size() || size > self.head.0.get().saturating_add(1) {
            return Err(format!(
                "{size} blocks are committed after {}",
                self.committed_size()
            ));
        }
        let covered = self.heights.range(..Height::new(size)).map(|(_, hash)| *hash);
        for hash in covered.collect::<Vec<_>>() {
            self.undo.remove(&hash);
        }
        for (height, hash) in self.candidates.clone() {
            if height.get() < size {
                self.candidates.remove(&(height, hash));
                if self.heights.get(&height) != Some(&hash) {
                    self.headers.remove(&hash);
                    self.bodies.remove(&hash);
                }
            }
        }
        self.committed = Some(StoredCheckpoint {
            size,
            note: note.to_owned(),
        });
        Ok(())
    }
}

/// Where a machine reads and writes.
pub struct Disk {
    visible: Tables,
    durable: Tables,
    unsynced: Vec<Vec<Write>>,
}

impl Disk {
    /// With the chain's genesis.
    #[must_use]
    pub fn new(spec: &CheckedSpec) -> Self {
        let tables = Tables::new(spec);
        Self {
            visible: tables.clone(),
            durable: tables,
            unsynced: Vec::new(),
        }
    }

    /// As a reader sees it now.
    #[must_use]
    pub const fn visible(&self) -> &Tables {
        &self.visible
    }

    /// What a crash would leave at the least.
    #[must_use]
    pub const fn durable(&self) -> &Tables {
        &self.durable
    }

    /// One atomic batch.
    ///
    /// # Errors
    /// Where a write does not follow from what is stored.
    pub fn apply(&mut self, writes: Vec<Write>) -> Result<(), String> {
        for write in &writes {
            self.visible.apply(write)?;
        }
        self.unsynced.push(writes);
        Ok(())
    }

    /// Everything so far is durable.
    ///
    /// # Errors
    /// As [`Self::apply`], which has judged the same before.
    pub fn sync(&mut self) -> Result<(), String> {
        let all = self.unsynced.len();
        self.keep(all)
    }

    /// Of the unsynced batches `kept` outlive the crash at the most; all that was seen of the others is gone.
    ///
    /// # Errors
    /// As [`Self::sync`].
    pub fn crash(&mut self, kept: usize) -> Result<(), String> {
        self.keep(kept)?;
        self.visible = self.durable.clone();
        Ok(())
    }

    /// Batches that are not durable.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    fn keep(&mut self, kept: usize) -> Result<(), String> {
        for (number, writes) in std::mem::take(&mut self.unsynced).into_iter().enumerate() {
            if number >= kept {
                break;
            }
            for write in &writes {
                self.durable.apply(write)?;
            }
        }
        Ok(())
    }

    /// Turns a bit in a block's body, for good.
    pub fn flip(&mut self, hash: BlockHash) {
        self.visible.flipped.insert(hash);
        self.durable.flipped.insert(hash);
    }

    /// The damaged bodies are fetched again, as `check_consistency --repair` does.
    pub fn repair(&mut self) {
        self.visible.flipped.clear();
        self.durable.flipped.clear();
    }
}

impl StateView for Disk {
    type Error = StorageError;

    fn get(&self, key: &StateKey) -> Result<Option<StateValue>, StorageError> {
        Ok(self.visible.state.get(key).cloned())
    }
}

impl HistoryNodes for Disk {
    type Error = StorageError;

    fn node(&self, place: NodePlace) -> Result<Option<[u8; 32]>, StorageError> {
        Ok(self.visible.nodes.get(&place).copied())
    }
}

impl ChainRead for Disk {
    fn header(&self, hash: &BlockHash) -> Result<Option<StoredHeader>, StorageError> {
        Ok(self.visible.headers.get(hash).cloned())
    }

    fn hash_at(&self, height: Height) -> Result<Option<BlockHash>, StorageError> {
        Ok(self.visible.heights.get(&height).copied())
    }

    fn transactions(&self, hash: &BlockHash) -> Result<Option<Vec<Transaction>>, StorageError> {
        if self.visible.flipped.contains(hash) {
            return Err(StorageError::Damaged(format!("block {hash}")));
        }
        Ok(self.visible.bodies.get(hash).map(|body| body.to_vec()))
    }

    fn undo(&self, hash: &BlockHash) -> Result<Option<Undo>, StorageError> {
        Ok(self.visible.undo.get(hash).cloned())
    }

    fn place(&self, id: &TxId) -> Result<Option<Place>, StorageError> {
        Ok(self.visible.places.get(id).copied())
    }

    fn state_hash(&self) -> Result<LatticeHash, StorageError> {
        Ok(self.visible.state_hash.clone())
    }
}
