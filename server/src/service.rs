//! The coordinator's rules: who is a member, who leads, what is committed and final.
//!
//! Every function is one transaction of the store, with the time as an argument. Invariants: a term only grows; there is
//! one checkpoint a size, and each is consistent with the one before; ids are never reused. Safety rests on terms and on
//! compare-and-set; the clock decides only who counts as alive.

mod agreement;
mod election;
mod membership;
mod view;

pub use membership::{Capability, Settings};

use crate::error::ServiceError;
use crate::store::{ChainRow, Store, StoreError, Tx};
use block_chain_common::chain_spec::ChainSpec;
use block_chain_common::codec::{decode, encode};
use block_chain_common::coordinator_api::{ChainInfo, Event};
use block_chain_common::hash::{ChainId, sha256};
use block_chain_common::keys::{PublicKey, SecretKey};
use tokio::sync::broadcast;
use zeroize::Zeroizing;

/// Events that a slow listener may fall behind by before it misses some.
const EVENTS_KEPT: usize = 256;

/// The coordinator.
pub struct Service {
    store: Store,
    settings: Settings,
    key: SecretKey,
    /// SHA-256 of the join token, where one is asked for.
    join_token: Option<[u8; 32]>,
    events: broadcast::Sender<Event>,
}

/// Why the coordinator cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system gives no randomness.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
    /// What the flags say of chain `main` is not what it was created with.
    #[error("chain main exists with other settings than the flags say; they count at the first start only")]
    OtherSpec,
    /// The spec breaks a rule.
    #[error("{0}")]
    Spec(String),
}

impl Service {
    /// Starts on a store; on an empty one makes the coordinator's key and creates chain `main`. `spec` changes the
    /// default spec of `main` by what the flags say.
    ///
    /// # Errors
    /// Where the database fails, or `main` exists with another spec than the flags ask for.
    pub fn start(
        store: Store,
        settings: Settings,
        join_token: Option<&str>,
        spec: impl Fn(&mut ChainSpec),
    ) -> Result<Self, StartError> {
        let fresh = random_hex::<32>()?;
        let seed = store.transaction::<_, StoreError>(|tx| match tx.setting("coordinator_key")? {
            Some(seed) => Ok(Zeroizing::new(seed)),
            None => tx
                .add_setting("coordinator_key", &fresh)
                .map(|()| Zeroizing::new(fresh.to_string())),
        })?;
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(seed.as_str(), bytes.as_mut())
            .map_err(|error| StoreError::Damaged(format!("the coordinator's key: {error}")))?;
        let key = SecretKey::from_seed(&bytes);
        let mut wanted = ChainSpec::default_for("main", key.public_key().address());
        spec(&mut wanted);
        let asked = wanted != ChainSpec::default_for("main", key.public_key().address());
        let checked = wanted
            .clone()
            .check()
            .map_err(|error| StartError::Spec(error.to_string()))?;
        let row = ChainRow {
            name: "main".to_owned(),
            id: checked.id().to_string(),
            spec: hex::encode(encode(&wanted)),
            term: 0,
            leader: None,
            leader_since_ms: 0,
            final_size: 0,
        };
        let found = store.transaction::<_, StoreError>(|tx| {
            let found = tx.chain("main")?;
            if found.is_none() {
                tx.add_chain(&row)?;
            }
            Ok(found)
        })?;
        if asked && found.is_some_and(|found| found.spec != row.spec) {
            return Err(StartError::OtherSpec);
        }
        let join_token = join_token.map(|token| sha256(&[token.as_bytes()]));
        Ok(Self {
            store,
            settings,
            key,
            join_token,
            events: broadcast::channel(EVENTS_KEPT).0,
        })
    }

    /// The key that signs checkpoints.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.key.public_key()
    }

    /// What happens from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// Where it does not.
    pub fn ready(&self) -> Result<(), ServiceError> {
        self.store.transaction(|tx| Ok(tx.chains()?.len())).map(|_| ())
    }

    /// All chains.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn chains(&self) -> Result<Vec<ChainInfo>, ServiceError> {
        let rows = self.store.transaction(|tx| Ok::<_, ServiceError>(tx.chains()?))?;
        rows.iter().map(|row| self.chain_info(row)).collect()
    }

    /// A chain.
    ///
    /// # Errors
    /// Where there is none of this name.
    pub fn chain(&self, name: &str) -> Result<ChainInfo, ServiceError> {
        let row = self.store.transaction(|tx| chain_row(tx, name))?;
        self.chain_info(&row)
    }

    fn chain_info(&self, row: &ChainRow) -> Result<ChainInfo, ServiceError> {
        Ok(ChainInfo {
            name: row.name.clone(),
            id: chain_id(row)?,
            spec: row.spec.clone(),
            coordinator_key: self.key.public_key(),
        })
    }

    /// Tells listeners; nobody listening is fine.
    fn tell(&self, events: Vec<Event>) {
        for event in events {
            if self.events.send(event).is_err() {
                tracing::trace!("nobody listens to events");
            }
        }
    }
}

fn chain_row(tx: &mut dyn Tx, name: &str) -> Result<ChainRow, ServiceError> {
    let row = tx.chain(name)?;
    row.ok_or_else(|| ServiceError::UnknownChain {
        name: name.chars().take(80).collect(),
    })
}

fn chain_id(row: &ChainRow) -> Result<ChainId, ServiceError> {
    let damaged = || StoreError::Damaged(format!("the id of chain {}", row.name));
    Ok(row.id.parse().ok().ok_or_else(damaged)?)
}

/// The decoded spec of a stored chain.
///
/// # Errors
/// Where the database holds something else.
pub fn stored_spec(info: &ChainInfo) -> Result<ChainSpec, ServiceError> {
    let damaged = || StoreError::Damaged(format!("the spec of chain {}", info.name));
    let bytes = hex::decode(&info.spec).or(Err(damaged()))?;
    Ok(decode(&bytes).or(Err(damaged()))?)
}

/// `N` random bytes in hex.
pub(crate) fn random_hex<const N: usize>() -> Result<Zeroizing<String>, StartError> {
    let mut bytes = Zeroizing::new([0_u8; N]);
    getrandom::fill(bytes.as_mut()).map_err(|error| StartError::Random(error.to_string()))?;
    Ok(Zeroizing::new(hex::encode(bytes.as_ref())))
}

/// A number as SQL has it; ours never come near its limit.
fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number from SQL; a negative one is nought.
fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
