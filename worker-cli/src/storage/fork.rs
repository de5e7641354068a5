//! Making the store of a fork: the parent's blocks are executed again up to the block forked from, on disk beside the new
//! store, and the state that they give is taken over entry by entry. Memory does not grow with the state.
//!
//! The store grows under a name of its own and gets its place when it is whole, so a kill leaves none or all of it.

use super::archive::{ArchiveError, unsound};
use super::ascending::Ascending;
use super::read::{inherited_state, inherited_transaction};
use super::rebuild::{remove, rename};
use super::replay::execute;
use super::write::{bytes, create};
use super::{
    Database, Head, Keyspaces, ScratchState, StorageError, Store, db_error, decode, io_error, open_database,
    open_keyspaces,
};
use crate::machine::Place;
use block_chain_common::block::ChainTip;
use block_chain_common::chain_spec::{ChainSpec, CheckedSpec};
use block_chain_common::fork::{ForkError, Inheritance, check_inherited};
use block_chain_common::hash::{ChainId, Digest, sha256};
use block_chain_common::quantity::{Height, Timestamp};
use block_chain_common::state::{LatticeHash, StateKey, StateValue};
use block_chain_common::transaction::{Payload, Transaction};
use borsh::{BorshDeserialize, BorshSerialize};
use fjall::OwnedWriteBatch;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the new store grows, in the fork's directory.
const GROWING: &str = "fork.tmp";
/// Entries written at a time.
const TOGETHER: usize = 1_000;

/// A transaction of the parent, or of its parents, that set a record which the fork has inherited.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Inherited {
    /// The chain that it is on.
    pub chain: ChainId,
    /// Its block there.
    pub height: Height,
    /// That block's time.
    pub timestamp: Timestamp,
    /// The transaction.
    pub transaction: Transaction,
}

/// Why a fork's store cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ForkFailure {
    /// The parent has no such block.
    #[error("block {0} of the chain to fork from is not here")]
    NoBlock(Height),
    /// The parent's replica is damaged.
    #[error("block {height} of the chain to fork from is not sound: {reason}")]
    Unsound {
        /// The block.
        height: Height,
        /// What is wrong.
        reason: String,
    },
    /// The fork cannot begin with that state.
    #[error(transparent)]
    Fork(#[from] ForkError),
    /// A store fails.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A fork's store that has its state, and no first block yet.
pub struct ForkBuilder {
    dir: PathBuf,
    db: Database,
    keyspaces: Keyspaces,
    hash: LatticeHash,
    /// Of the entries that are taken from another store.
    keys: Ascending,
}

impl ForkBuilder {
    /// Takes over the state that a parent's replica had after the block that the spec names; what the spec says of that
    /// state's digest does not count yet.
    ///
    /// # Errors
    /// Where the parent's replica lacks the block or is damaged, or the system refuses.
    pub fn build(
        dir: &Path,
        (parent, parent_spec): (&Store, &CheckedSpec),
        spec: &ChainSpec,
    ) -> Result<Self, ForkFailure> {
        let named = spec.parent.as_ref().ok_or(ForkError::NoParent)?;
        let parent = parent.snapshot();
        let (hash, _) = parent
            .header_at(named.height)?
            .ok_or(ForkFailure::NoBlock(named.height))?;
        if hash != named.block {
            return Err(ForkFailure::Unsound {
                height: named.height,
                reason: format!("it is {hash}, not {}", named.block),
            });
        }
        let state = state_at((&parent, parent_spec), named.height, dir)?;
        let mut builder = Self::open(dir)?;
        let mut inheritance = Inheritance::begin(spec)?;
        let mut batch = builder.db.batch();
        for guard in state.entries()? {
            let failed = |error| db_error("read", dir, &error);
            let (key, value) = guard.into_inner().map_err(failed)?;
            let (key, value): (StateKey, StateValue) = (decode(&key, "a name")?, decode(&value, "an entry")?);
            let place = match &value {
                StateValue::Record(record) => Some(Place {
                    height: record.height,
                    index: record.index,
                }),
                _ => None,
            };
            let Some((key, value)) = inheritance.take(key, value)? else {
                continue;
            };
            if let (Some(place), StateValue::Record(record)) = (place, &value) {
                let found = origin((&parent, parent_spec.id()), place)?;
                batch.insert(
                    builder.inherited()?,
                    inherited_transaction(record.index),
                    bytes(&found),
                );
            }
            builder.put(&mut batch, &key, &value)?;
            if batch.len() >= TOGETHER {
                builder.write(std::mem::replace(&mut batch, builder.db.batch()))?;
            }
        }
        let (rest, hash) = inheritance.finish()?;
        for (key, value) in &rest {
            builder.put(&mut batch, key, value)?;
        }
        builder.write(batch)?;
        builder.hash = hash;
        Ok(builder)
    }

    /// Takes over what another store of the same fork has inherited.
    ///
    /// # Errors
    /// Where that is damaged, or the system refuses.
    pub(super) fn copy(dir: &Path, old: &Store) -> Result<Self, StorageError> {
        let failed = |error| match error {
            ArchiveError::Unsound(reason) => StorageError::damaged(reason),
            ArchiveError::Storage(error) => error,
        };
        let mut builder = Self::open(dir)?;
        for entry in old.inherited_state() {
            let (key, value) = entry?;
            let origin = match &value {
                StateValue::Record(record) => old.inherited(record.index)?,
                _ => None,
            };
            builder.take(&key, &value, origin.as_ref()).map_err(failed)?;
        }
        Ok(builder)
    }

    /// Takes an entry of another store of the same fork, and, of a record, what has set it. Entries come in ascending order
    /// of their encoded keys.
    ///
    /// # Errors
    /// Where it comes out of order, or what has set it is missing, or the system refuses.
    pub(super) fn take(
        &mut self,
        key: &StateKey,
        value: &StateValue,
        origin: Option<&Inherited>,
    ) -> Result<(), ArchiveError> {
        self.keys.take(key)?;
        let mut batch = self.db.batch();
        self.hash.add_entry(key, value);
        self.put(&mut batch, key, value)?;
        if let StateValue::Record(record) = value {
            let missing = || {
                unsound(format!(
                    "what has set inherited record {} is missing",
                    record.index
                ))
            };
            let found = origin.ok_or_else(missing)?;
            batch.insert(
                self.inherited()?,
                inherited_transaction(record.index),
                bytes(found),
            );
        }
        Ok(self.write(batch)?)
    }

    pub(super) fn open(dir: &Path) -> Result<Self, StorageError> {
        let growing = dir.join(GROWING);
        remove(&growing)?;
        fs::create_dir_all(&growing).map_err(|error| io_error("create", &growing, &error))?;
        let failed = |error| db_error("create", &growing, &error);
        let db = open_database(&growing).map_err(failed)?;
        let keyspaces = open_keyspaces(&db, true).map_err(failed)?;
        Ok(Self {
            dir: dir.to_owned(),
            db,
            keyspaces,
            hash: LatticeHash::default(),
            keys: Ascending::default(),
        })
    }

    fn inherited(&self) -> Result<&fjall::Keyspace, StorageError> {
        let none = || StorageError::Misuse("only a fork inherits".to_owned());
        self.keyspaces.inherited.as_ref().ok_or_else(none)
    }

    fn put(
        &self,
        batch: &mut OwnedWriteBatch,
        key: &StateKey,
        value: &StateValue,
    ) -> Result<(), StorageError> {
        batch.insert(self.inherited()?, inherited_state(key), bytes(value));
        batch.insert(&self.keyspaces.state, bytes(key), bytes(value));
        Ok(())
    }

    fn write(&self, batch: OwnedWriteBatch) -> Result<(), StorageError> {
        let written = batch.commit();
        written.map_err(|error| db_error("write", &self.dir, &error))
    }

    /// The digest of the state that the fork begins with.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.hash.digest()
    }

    /// Writes the fork's first block, and gives the store its place.
    ///
    /// # Errors
    /// SPEC-8, or where the system refuses.
    pub fn finish(self, spec: &CheckedSpec) -> Result<(), ForkFailure> {
        check_inherited(spec.spec(), &self.hash)?;
        let Self {
            dir,
            db,
            keyspaces,
            hash,
            ..
        } = self;
        let _: Head = create(&db, &keyspaces, spec, Some(&hash))?;
        drop((keyspaces, db));
        let growing = dir.join(GROWING);
        rename(&growing.join("blocks"), &dir.join("blocks"))?;
        Ok(remove(&growing)?)
    }
}

impl Store {
    /// Whether a directory has a store.
    #[must_use]
    pub fn is_there(dir: &Path) -> bool {
        dir.join("blocks").exists()
    }

    /// Puts something else in the place of what was inherited.
    #[cfg(test)]
    pub(super) fn damage_inherited(&self, number: u32, found: &Inherited) {
        let keyspace = self.inner.keyspaces.inherited.as_ref().unwrap();
        keyspace
            .insert(inherited_transaction(number), bytes(found))
            .unwrap();
    }
}

/// The state after a block, computed again from the first one.
fn state_at(
    (parent, spec): (&Store, &CheckedSpec),
    height: Height,
    dir: &Path,
) -> Result<ScratchState, ForkFailure> {
    let state = ScratchState::create(dir)?;
    let mut hash = state.begin(parent, spec)?;
    let mut tip = ChainTip::genesis(spec);
    while tip.height < height {
        let next = tip.height.next();
        let unsound = |reason| ForkFailure::Unsound { height: next, reason };
        let block = parent.whole_block(next).map_err(unsound)?;
        let connected = execute(block, (&tip, spec), (&state, &hash)).map_err(unsound)?;
        let applied = state.apply(connected.delta());
        applied.map_err(|error| unsound(error.to_string()))?;
        (tip, hash) = (connected.tip().clone(), connected.delta().hash_after().clone());
    }
    Ok(state)
}

/// The transaction that set a record of the parent.
fn origin((parent, chain): (&Store, ChainId), place: Place) -> Result<Inherited, StorageError> {
    let missing = || {
        StorageError::damaged(format!(
            "transaction {} of block {} is missing",
            place.index, place.height
        ))
    };
    if place.height == Height::ZERO {
        // The parent is a fork itself, and has inherited it.
        return parent.inherited(place.index)?.ok_or_else(missing);
    }
    let transaction = parent.transaction(place)?.ok_or_else(missing)?;
    let (_, header) = parent.header_at(place.height)?.ok_or_else(missing)?;
    Ok(Inherited {
        chain,
        height: place.height,
        timestamp: header.timestamp,
        transaction,
    })
}

/// Whether an inherited transaction is the one whose value a record of the state names.
pub(crate) fn is_value_of(inherited: &Inherited, key: &StateKey, digest: &Digest) -> bool {
    let StateKey::Record(name) = key else {
        return false;
    };
    matches!(&inherited.transaction.payload, Payload::Put { key, value }
        if key == name && sha256(&[value.as_slice()]) == *digest.as_bytes())
}
