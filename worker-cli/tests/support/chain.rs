//! A real store with real blocks, and no node: for what only reads a chain. The including module names this crate `worker`.

use super::worker::machine::Write;
use super::worker::node::NodeHandle;
use super::worker::storage::Store;
use block_chain_common::block::{Block, CheckedBlock, build_block, connect_block};
use block_chain_common::chain_spec::{Allocation, ChainSpec, CheckedSpec, ProofSpec};
use block_chain_common::checkpoint::Checkpoint;
use block_chain_common::codec::BoundedVec;
use block_chain_common::hash::TxId;
use block_chain_common::header::Proof;
use block_chain_common::keys::SecretKey;
use block_chain_common::quantity::{Amount, Nonce, Term, Timestamp};
use block_chain_common::transaction::{CheckedTransaction, Payload, RecordKey, RecordValue, Transaction};
use std::collections::HashMap;
use tempfile::TempDir;

/// A chain of proof of authority whose only producer and sender is one key.
pub(crate) struct Chain {
    dir: TempDir,
    /// Where its blocks are.
    pub(crate) store: Store,
    /// What it is.
    pub(crate) spec: CheckedSpec,
    /// Who signs everything, as the coordinator too.
    pub(crate) key: SecretKey,
    nonce: u64,
    time_ms: u64,
}

impl Chain {
    /// A chain of this name with its genesis block, committed.
    pub(crate) fn new(name: &str) -> Self {
        let key = SecretKey::from_seed(&[7; 32]);
        let address = key.public_key().address();
        let mut spec = ChainSpec::default_for(name, address);
        spec.proof = ProofSpec::Authority;
        spec.unstake_blocks = 2;
        spec.reward = Amount::new(5);
        spec.balances = BoundedVec::new(vec![Allocation {
            address,
            amount: Amount::new(1_000),
        }])
        .expect("one");
        let spec = spec.check().expect("a spec that holds");
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path(), &spec).expect("a store");
        let mut chain = Self {
            dir,
            store,
            spec,
            key,
            nonce: 0,
            time_ms: 1_000,
        };
        chain.commit();
        chain
    }

    /// Of a store that is there, whose next block follows with the key's next nonce.
    #[allow(dead_code, reason = "for the tests of forks")]
    pub(crate) fn of(dir: TempDir, store: Store, spec: CheckedSpec, nonce: u64) -> Self {
        let key = SecretKey::from_seed(&[7; 32]);
        Self {
            dir,
            store,
            spec,
            key,
            nonce,
            time_ms: 1_000_000,
        }
    }

    /// Its files, with nobody who has them open.
    #[allow(dead_code, reason = "for the tests of forks")]
    pub(crate) fn closed(self) -> (TempDir, CheckedSpec) {
        (self.dir, self.spec)
    }

    /// A handle on it.
    pub(crate) fn node(&self) -> NodeHandle {
        let (store, spec) = (self.store.clone(), self.spec.clone());
        NodeHandle::detached(self.dir.path().to_owned(), store, spec, self.key.clone())
    }

    /// A signed transaction, the next of the key.
    pub(crate) fn sign(&mut self, payload: Payload) -> CheckedTransaction {
        let transaction = Transaction::sign(self.spec.id(), Nonce::new(self.nonce), payload, &self.key);
        self.nonce += 1;
        // It was signed in this very line.
        CheckedTransaction::assume_signature_valid(transaction, self.spec.id())
            .expect("a transaction that holds")
    }

    /// Puts a record into a transaction.
    pub(crate) fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> CheckedTransaction {
        let (key, value) = (
            RecordKey::new(key.into()).expect("a key"),
            RecordValue::new(value.into()).expect("a value"),
        );
        self.sign(Payload::Put { key, value })
    }

    /// Appends a block; not committed yet.
    pub(crate) fn append(&mut self, transactions: Vec<CheckedTransaction>) {
        self.time_ms += 1_000;
        let (tip, now) = (self.store.tip().expect("a tip"), Timestamp::new(self.time_ms));
        let hash = super::worker::machine::ChainRead::state_hash(&self.store).expect("a state");
        let count = transactions.len();
        let key = self.key.public_key();
        let unsigned = Proof::Authority {
            key,
            term: Term::new(1),
            signature: self.key.sign(b""),
        };
        let proven = (key.address(), unsigned, now);
        let template =
            build_block(transactions, &tip, &self.spec, (&self.store, &hash), proven).expect("a block");
        assert_eq!(template.transactions.len(), count, "every transaction fits");
        let mut header = template.header;
        let signature = self.key.sign(&header.signing_bytes());
        header.proof = Proof::Authority {
            key,
            term: Term::new(1),
            signature,
        };
        let bodies = template
            .transactions
            .iter()
            .map(|checked| checked.transaction().clone())
            .collect();
        let block = Block {
            header,
            transactions: BoundedVec::new(bodies).expect("few enough"),
        };
        let known: HashMap<TxId, _> = template
            .transactions
            .into_iter()
            .map(|checked| (checked.id(), checked))
            .collect();
        let find = |id: &TxId| known.get(id).cloned();
        let block = CheckedBlock::check_with_known(block, self.spec.id(), find).expect("a block that holds");
        let block =
            connect_block(block, &tip, &self.spec, (&self.store, &hash), now).expect("a block that connects");
        self.store
            .apply(&[Write::Connect(Box::new(block))])
            .expect("it is written");
    }

    /// Commits everything, as the coordinator; how many blocks there are.
    pub(crate) fn commit(&mut self) -> u64 {
        let tip = self.store.tip().expect("a tip");
        let size = tip.height.get() + 1;
        let checkpoint = Checkpoint {
            chain: self.spec.id(),
            size,
            root: tip.frontier.root(),
            term: Term::new(1),
            block: tip.hash,
        };
        let note = checkpoint.sign(&self.key).expect("a note").to_string();
        self.store
            .apply(&[Write::Committed { size, note }])
            .expect("it is written");
        size
    }

    /// Appends and commits.
    pub(crate) fn mine(&mut self, transactions: Vec<CheckedTransaction>) -> u64 {
        self.append(transactions);
        self.commit()
    }
}
