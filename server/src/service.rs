//! The coordinator's rules: who is a member, who leads, what is committed and final.
//!
//! Every function is one transaction of the store, with the time as an argument. Invariants: a term only grows; there is
//! one checkpoint a size, and each is consistent with the one before; ids are never reused. Safety rests on terms and on
//! compare-and-set; the clock decides only who counts as alive.

mod agreement;
mod chains;
mod challenge;
mod election;
mod figures;
mod membership;
mod operate;
mod orders;
mod recovery;
mod tokens;
mod view;

pub(crate) use chains::decode_spec;
pub use chains::stored_spec;
pub use membership::{Capability, Settings};
pub use operate::Ban;
pub use recovery::{Plan, Witness};
pub use tokens::NewToken;

use crate::error::ServiceError;
use crate::store::{Store, StoreError};
use block_chain_common::agreement::SafetyRule;
use block_chain_common::chain_spec::ChainSpec;
use block_chain_common::coordinator_api::Event;
use block_chain_common::hash::sha256;
use block_chain_common::keys::{PublicKey, SecretKey};
use chains::{chain_id, chain_row, create_main};
use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use tokio::sync::broadcast;
use zeroize::Zeroizing;

/// Events that a slow listener may fall behind by before it misses some.
const EVENTS_KEPT: usize = 256;

/// The setting that holds the hash of the join token made at the first start.
const JOIN_TOKEN: &str = "join_token_sha256";

/// Term, last checkpoint's size, final size, members.
type Seen = (i64, i64, i64, Vec<String>);

/// What a worker must show to register.
#[derive(Debug, Clone)]
pub enum Join {
    /// Nothing.
    Open,
    /// This token.
    Token(Zeroizing<String>),
    /// The token made at an earlier start, or else one made now.
    Kept,
}

/// The coordinator.
pub struct Service {
    store: Store,
    settings: Settings,
    key: SecretKey,
    /// Makes challenges and knows them again: the same on all servers of a database.
    challenges: challenge::Challenges,
    /// SHA-256 of the join token in hex, where one is asked for.
    join_token: Option<String>,
    /// A join token made at this start, to be shown once.
    new_join_token: Option<Zeroizing<String>>,
    events: broadcast::Sender<Event>,
    /// When the first tick came: who could not be heard before that is not silent.
    awake_since_ms: OnceLock<u64>,
    /// What the last tick saw of each chain, where other servers write to the database too.
    seen: Mutex<BTreeMap<String, Seen>>,
    /// Ids given without a key: the minute they are counted in, and how many.
    keyless: Mutex<(u64, u32)>,
    figures: Mutex<figures::Gathered>,
    /// Where workers that do not reach each other meet.
    relay: OnceLock<String>,
    /// The rule that a simulation leaves out.
    left_out: Option<SafetyRule>,
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
    #[error("chain main exists with {found}, the flags say {asked}; they count at the first start only")]
    OtherSpec {
        /// How it was created.
        found: String,
        /// What the flags make of it.
        asked: String,
    },
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
        join: Join,
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
        create_main(&store, &key, spec)?;
        let (join_token, new_join_token) = keep_join_token(&store, join)?;
        Ok(Self {
            store,
            settings,
            key,
            challenges: challenge::Challenges::of(&bytes),
            join_token,
            new_join_token,
            events: broadcast::channel(EVENTS_KEPT).0,
            awake_since_ms: OnceLock::new(),
            seen: Mutex::new(BTreeMap::new()),
            keyless: Mutex::new((0, 0)),
            figures: Mutex::default(),
            relay: OnceLock::new(),
            left_out: None,
        })
    }

    /// For simulations alone: goes on without this rule.
    #[must_use]
    pub const fn without(mut self, rule: Option<SafetyRule>) -> Self {
        self.left_out = rule;
        self
    }

    fn keeps(&self, rule: SafetyRule) -> bool {
        self.left_out != Some(rule)
    }

    /// Tells workers of a relay from now on: its URL, or `:PORT` where its host is this coordinator's. The first counts.
    pub fn advertise_relay(&self, at: String) {
        self.relay.get_or_init(|| at);
    }

    /// Whether a key is a worker's.
    ///
    /// # Errors
    /// Where the worker is banned, or the database fails.
    pub fn knows(&self, key: &PublicKey) -> Result<bool, ServiceError> {
        let key = key.to_string();
        let found = self
            .store
            .read(|tx| Ok::<_, ServiceError>(tx.worker_of_key(&key)?))?;
        found.as_ref().map_or(Ok(()), membership::not_banned)?;
        Ok(found.is_some())
    }

    /// The key that signs checkpoints.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.key.public_key()
    }

    /// The join token, where this start made one: it is kept only as a hash.
    #[must_use]
    pub fn new_join_token(&self) -> Option<&str> {
        self.new_join_token.as_ref().map(|token| token.as_str())
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
        // A row that is not there: the least that a database can be asked, however much is in it.
        self.store.read(|tx| Ok(tx.setting("ready")?)).map(drop)
    }

    /// What another server did is told here by the next tick, as far as it is seen in the rows.
    fn tell_of_others(&self, seen: BTreeMap<String, Seen>) {
        let mut last = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = seen.iter().filter(|(chain, now)| last.get(*chain) != Some(*now));
        let events = changed.map(|(chain, _)| Event::Members { chain: chain.clone() });
        self.tell(events.collect());
        *last = seen;
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

/// The hash of the join token that counts, and the token itself where it is new.
fn keep_join_token(
    store: &Store,
    join: Join,
) -> Result<(Option<String>, Option<Zeroizing<String>>), StartError> {
    let hash = |token: &str| hex::encode(sha256(&[token.as_bytes()]));
    let fresh = match join {
        Join::Open => return Ok((None, None)),
        Join::Token(token) => return Ok((Some(hash(&token)), None)),
        Join::Kept => random_hex::<16>()?,
    };
    let kept = store.transaction::<_, StoreError>(|tx| {
        let kept = tx.setting(JOIN_TOKEN)?;
        if kept.is_none() {
            tx.add_setting(JOIN_TOKEN, &hash(&fresh))?;
        }
        Ok(kept)
    })?;
    Ok(match kept {
        Some(kept) => (Some(kept), None),
        None => (Some(hash(&fresh)), Some(fresh)),
    })
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
pub(crate) fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
