//! Registration, heartbeats, leaving: who is a member of a chain.

use super::agreement::finalise_last;
use super::{Service, chain_row, from_sql, random_hex, to_sql};
use crate::error::ServiceError;
use crate::store::{ChainRow, CheckpointRow, MemberRow, Refusal as _, Tx, WorkerRow};
use block_chain_common::agreement::SafetyRule;
use block_chain_common::coordinator_api::{
    API_VERSION, ChainHeard, ChainView, Challenge, Event, Heard, Heartbeat, Left, RegisterRequest,
    Registration, registration_bytes,
};
use block_chain_common::hash::{BlockHash, sha256};
use block_chain_common::keys::PublicKey;
use block_chain_common::limits::{MAX_CHAIN_WORKERS, MAX_HEARTBEATS, check_name};
use block_chain_common::quantity::Timestamp;
use std::net::SocketAddr;
use std::sync::PoisonError;
use uuid::Uuid;

const MINUTE_MS: u64 = 60_000;
const WORKER_ID_DOMAIN: &[u8] = b"block-chain/worker-id/v1\0";
/// Ids given without a key in a minute.
const MAX_KEYLESS_PER_MINUTE: u32 = 600;
/// Workers that may ever be registered with one coordinator.
const MAX_WORKERS: i64 = 1_000_000;
/// Addresses that a worker may give.
const MAX_ADDRESSES: usize = 16;
/// The length of the URL of a worker's page.
const MAX_API_BYTES: usize = 256;

/// The length of a program's version.
const MAX_VERSION_BYTES: usize = 64;

/// Times of the coordinator, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How often workers are to be heard.
    pub heartbeat_ms: u64,
    /// How long a worker counts as alive after it was heard.
    pub lease_ms: u64,
    /// After how long a silent worker is taken out of the quorum.
    pub evict_after_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heartbeat_ms: 2_000,
            lease_ms: 6_000,
            evict_after_ms: 60_000,
        }
    }
}

/// A worker that has shown its token.
#[derive(Debug, Clone)]
pub struct Capability {
    /// The worker.
    pub worker: Uuid,
    /// Its key, in hex.
    pub public_key: String,
}

impl Service {
    /// A nonce to sign.
    ///
    /// # Errors
    /// Where the system gives no randomness.
    pub fn challenge(&self, now: Timestamp) -> Result<Challenge, ServiceError> {
        Ok(Challenge {
            challenge: self.challenges.make(now)?,
        })
    }

    fn use_challenge(&self, tx: &mut dyn Tx, given: &str, now: Timestamp) -> Result<(), ServiceError> {
        let good = self.challenges.check(given, now);
        let is_first = match good {
            Some(good) => tx.use_challenge(&good.text, to_sql(good.ends_ms), to_sql(now.get()))?,
            None => false,
        };
        is_first.then_some(()).ok_or(ServiceError::Challenge(
            "the challenge is unknown, used, or older than a minute",
        ))
    }

    /// Makes a worker a member of a chain: the same key gets the same id, and a new token.
    ///
    /// # Errors
    /// Where the challenge, signature, token, name or an address is not good.
    pub fn register(&self, request: &RegisterRequest, now: Timestamp) -> Result<Registration, ServiceError> {
        if request.api_version != API_VERSION {
            return Err(ServiceError::Version {
                found: request.api_version,
            });
        }
        if let Some(name) = &request.name {
            check_name(name).map_err(|error| ServiceError::Malformed(error.to_string()))?;
        }
        check_addresses(&request.addresses, request.api.as_deref())?;
        let signed = registration_bytes(&request.challenge, &request.chain, &request.public_key);
        if request.public_key.verify(&signed, &request.signature).is_err() {
            return Err(ServiceError::Challenge(
                "the registration is not signed by its key",
            ));
        }
        let token = random_hex::<32>().map_err(|error| ServiceError::Busy(error.to_string()))?;
        let token_hash = hex::encode(sha256(&[token.as_bytes()]));
        let new_id = worker_id(&self.public_key(), &request.public_key);
        let key = request.public_key.to_string();
        let (id, info, view, events) = self.store.transaction(|tx| {
            self.use_challenge(tx, &request.challenge, now)?;
            let chain = chain_row(tx, &request.chain)?;
            let known = tx.worker_of_key(&key)?;
            known.as_ref().map_or(Ok(()), not_banned)?;
            if known.is_none() {
                // A key that was let in once has signed the challenge: a worker whose own token is lost is no stranger.
                self.use_join_token(tx, request.token.as_deref(), now)?;
            }
            let id = match known {
                Some(worker) => {
                    let name = request.name.clone().or(worker.name);
                    tx.set_worker(&worker.id, name.as_deref(), &token_hash)?;
                    worker.id
                }
                None => {
                    let id = new_id.to_string();
                    self.add_worker(
                        tx,
                        &id,
                        Some(key.clone()),
                        request.name.clone(),
                        Some(token_hash.clone()),
                        now,
                    )?;
                    id
                }
            };
            self.join(tx, &chain, &id, request, now)?;
            let mut events = vec![Event::Members {
                chain: chain.name.clone(),
            }];
            self.elect_if_needed(tx, &chain.name, now, &mut events)?;
            let chain = chain_row(tx, &chain.name)?;
            let view = self.view_in(tx, &chain, now)?;
            let info = self.chain_info(tx, &chain)?;
            Ok::<_, ServiceError>((id, info, view, events))
        })?;
        self.tell(events);
        let worker_id = parse_id(&id)?;
        // The id in front says whose it is, so that one look-up finds it.
        let worker_token = format!("{worker_id}.{}", token.as_str());
        Ok(Registration {
            worker_id,
            worker_token,
            chain: info,
            view,
        })
    }

    /// An id without a key, as system 1 gave them: recorded, and never a member of a quorum.
    ///
    /// # Errors
    /// Where there are too many, or the database fails.
    pub fn register_without_key(&self, now: Timestamp) -> Result<Uuid, ServiceError> {
        self.count_keyless(now)?;
        let id = Uuid::new_v4();
        self.store
            .transaction(|tx| self.add_worker(tx, &id.to_string(), None, None, None, now))?;
        Ok(id)
    }

    fn count_keyless(&self, now: Timestamp) -> Result<(), ServiceError> {
        let minute = now.get() / MINUTE_MS;
        let mut counted = self.keyless.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.0 != minute {
            *counted = (minute, 0);
        }
        if counted.1 >= MAX_KEYLESS_PER_MINUTE {
            return Err(ServiceError::Busy(format!(
                "{MAX_KEYLESS_PER_MINUTE} ids were given without a key this minute, no more are"
            )));
        }
        counted.1 = counted.1.saturating_add(1);
        Ok(())
    }

    fn add_worker(
        &self,
        tx: &mut dyn Tx,
        id: &str,
        public_key: Option<String>,
        name: Option<String>,
        token_hash: Option<String>,
        now: Timestamp,
    ) -> Result<(), ServiceError> {
        // Ids without a key can be had for the asking: they must not use up the place of workers.
        let allowed = match public_key {
            Some(_) => MAX_WORKERS,
            None => MAX_WORKERS / 2,
        };
        if tx.count_workers()? >= allowed {
            return Err(ServiceError::Busy(format!(
                "{allowed} workers are registered, no more are allowed"
            )));
        }
        let id = id.to_owned();
        Ok(tx.add_worker(&WorkerRow {
            id,
            public_key,
            name,
            token_hash,
            registered_ms: to_sql(now.get()),
            banned_ms: None,
        })?)
    }

    fn join(
        &self,
        tx: &mut dyn Tx,
        chain: &ChainRow,
        id: &str,
        request: &RegisterRequest,
        now: Timestamp,
    ) -> Result<(), ServiceError> {
        let members = tx.members(&chain.name)?;
        let mut member = match members.iter().find(|(member, _)| member.worker == id) {
            Some((member, _)) => member.clone(),
            None if members.len() >= MAX_CHAIN_WORKERS => {
                return Err(ServiceError::Full {
                    chain: chain.name.clone(),
                });
            }
            None => MemberRow {
                chain: chain.name.clone(),
                worker: id.to_owned(),
                joined: to_sql(now.get()),
                addresses: "[]".to_owned(),
                api: None,
                last_seen_ms: 0,
                height: 0,
                head: BlockHash::ZERO.to_string(),
                committed: 0,
                counts: counts_at_once(tx, &chain.name)?,
                orders: 0,
                version: None,
            },
        };
        member.last_seen_ms = to_sql(now.get());
        if !request.addresses.is_empty() {
            member.addresses = addresses_json(&request.addresses);
        }
        if request.api.is_some() {
            member.api.clone_from(&request.api);
        }
        Ok(tx.put_member(&member)?)
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// Where it is the token of no worker, or not of this one, or the worker is banned.
    pub fn authenticate(
        &self,
        worker: Option<Uuid>,
        token: Option<&str>,
    ) -> Result<Capability, ServiceError> {
        let token = token.ok_or(ServiceError::WorkerToken("missing"))?;
        let (id, secret) = token
            .split_once('.')
            .ok_or(ServiceError::WorkerToken("malformed"))?;
        let id = Uuid::parse_str(id).or(Err(ServiceError::WorkerToken("malformed")))?;
        let found = self
            .store
            .read(|tx| Ok::<_, ServiceError>(tx.worker(&id.to_string())?))?;
        // Its token is gone, so this is all that it is told.
        found.as_ref().map_or(Ok(()), not_banned)?;
        let given = hex::encode(sha256(&[secret.as_bytes()]));
        // Hashes are compared, so a difference in time says nothing of the token.
        let fits = |row: &WorkerRow| row.token_hash.as_deref() == Some(given.as_str());
        match found.filter(fits) {
            Some(WorkerRow {
                public_key: Some(public_key),
                ..
            }) if worker.is_none_or(|worker| worker == id) => Ok(Capability {
                worker: id,
                public_key,
            }),
            _ => Err(ServiceError::WorkerToken("wrong")),
        }
    }

    /// A worker lives. One that was evicted is a member again, and one that is none becomes one.
    ///
    /// # Errors
    /// Where the worker knows more than this coordinator, or there is no such chain.
    pub fn heartbeat(
        &self,
        who: &Capability,
        beat: &Heartbeat,
        now: Timestamp,
    ) -> Result<ChainView, ServiceError> {
        check_beat(beat)?;
        let (view, events) = self.store.transaction(|tx| {
            still_allowed(tx, who)?;
            let mut events = Vec::new();
            Ok::<_, ServiceError>((self.hear(tx, who, beat, now, &mut events)?, events))
        })?;
        self.tell(events);
        Ok(view)
    }

    /// A worker lives on several chains: one transaction. What is refused of one chain is told with the others' views.
    ///
    /// # Errors
    /// Where a beat cannot be read, there are too many, or the database fails.
    pub fn heartbeats(
        &self,
        who: &Capability,
        beats: &[Heartbeat],
        now: Timestamp,
    ) -> Result<Heard, ServiceError> {
        if beats.len() > MAX_HEARTBEATS {
            let found = beats.len();
            return Err(ServiceError::Malformed(format!(
                "{found} heartbeats, at most {MAX_HEARTBEATS} are allowed at a time"
            )));
        }
        for beat in beats {
            check_beat(beat)?;
        }
        let (chains, events) = self.store.transaction(|tx| {
            still_allowed(tx, who)?;
            let (mut chains, mut events) = (Vec::with_capacity(beats.len()), Vec::new());
            for beat in beats {
                // A refusal comes before anything is written.
                chains.push(match self.hear(tx, who, beat, now, &mut events) {
                    Ok(view) => ChainHeard::View(Box::new(view)),
                    Err(error) if error.store_error().is_some() => return Err(error),
                    Err(error) => ChainHeard::Refused(error.body()),
                });
            }
            Ok((chains, events))
        })?;
        self.tell(events);
        Ok(Heard { chains })
    }

    fn hear(
        &self,
        tx: &mut dyn Tx,
        who: &Capability,
        beat: &Heartbeat,
        now: Timestamp,
        events: &mut Vec<Event>,
    ) -> Result<ChainView, ServiceError> {
        let chain = chain_row(tx, &beat.chain)?;
        let size = tx
            .last_checkpoint(&chain.name)?
            .map_or(0, |last| from_sql(last.size));
        let term = from_sql(chain.term);
        let ahead = beat.checkpoint_size > size || beat.term.get() > term;
        if ahead && self.keeps(SafetyRule::Backwards) {
            let (worker_term, worker_size) = (beat.term.get(), beat.checkpoint_size);
            return Err(ServiceError::Behind {
                worker_term,
                worker_size,
                term,
                size,
            });
        }
        let members = tx.members(&chain.name)?;
        let id = who.worker.to_string();
        let known = members
            .iter()
            .find(|(member, _)| member.worker == id)
            .map(|(member, _)| member.clone());
        if known.is_none() && members.len() >= MAX_CHAIN_WORKERS {
            return Err(ServiceError::Full { chain: chain.name });
        }
        let addresses = addresses_json(&beat.addresses);
        if known
            .as_ref()
            .is_none_or(|known| known.addresses != addresses || known.api != beat.api)
        {
            events.push(Event::Members {
                chain: chain.name.clone(),
            });
        }
        let counts = match &known {
            Some(known) => known.counts,
            None => counts_at_once(tx, &chain.name)?,
        };
        tx.put_member(&MemberRow {
            chain: chain.name.clone(),
            worker: id,
            counts,
            // Its lease is over, and its time in the quorum is not.
            last_seen_ms: to_sql(if beat.stepping_down {
                now.get().saturating_sub(self.settings.lease_ms.saturating_add(1))
            } else {
                now.get()
            }),
            joined: known.map_or(to_sql(now.get()), |known| known.joined),
            addresses,
            api: beat.api.clone(),
            height: to_sql(beat.height.get()),
            head: beat.head.to_string(),
            committed: to_sql(beat.committed.get()),
            orders: to_sql(beat.orders),
            version: beat.version.clone(),
        })?;
        count_where_nobody_does(tx, &chain.name, &members)?;
        self.elect_if_needed(tx, &chain.name, now, events)?;
        let chain = chain_row(tx, &chain.name)?;
        self.view_in(tx, &chain, now)
    }

    /// A worker leaves; if it led, another is elected at once.
    ///
    /// # Errors
    /// Where there is no such chain.
    pub fn leave(&self, who: &Capability, chain: &str, now: Timestamp) -> Result<Left, ServiceError> {
        let (left, events) = self.store.transaction(|tx| {
            let chain = chain_row(tx, chain)?;
            self.remove(tx, &chain, who.worker, now)
        })?;
        self.tell(events);
        Ok(Left { left })
    }

    /// Takes a member out; whoever is left may make a majority now, or have to elect. Gives whether it was one.
    pub(super) fn remove(
        &self,
        tx: &mut dyn Tx,
        chain: &ChainRow,
        worker: Uuid,
        now: Timestamp,
    ) -> Result<(bool, Vec<Event>), ServiceError> {
        let left = tx.remove_member(&chain.name, &worker.to_string())?;
        let members = tx.members(&chain.name)?;
        count_where_nobody_does(tx, &chain.name, &members)?;
        let mut events = vec![Event::Members {
            chain: chain.name.clone(),
        }];
        finalise_last(tx, chain, &mut events)?;
        self.elect_if_needed(tx, &chain.name, now, &mut events)?;
        Ok((left, events))
    }
}

/// Refuses a worker that is banned.
pub(super) fn not_banned(worker: &WorkerRow) -> Result<(), ServiceError> {
    match worker.banned_ms {
        Some(_) => Err(ServiceError::Banned {
            id: parse_id(&worker.id)?,
        }),
        None => Ok(()),
    }
}

/// That a worker was not banned since its token was judged.
pub(super) fn still_allowed(tx: &mut dyn Tx, who: &Capability) -> Result<(), ServiceError> {
    match tx.worker(&who.worker.to_string())? {
        Some(worker) => not_banned(&worker),
        None => Ok(()),
    }
}

/// Members that count in the quorum.
pub(super) fn counting(members: &[(MemberRow, WorkerRow)]) -> usize {
    members.iter().filter(|(member, _)| member.does_count()).count()
}

/// Whether a member that joins now counts at once: nothing is committed that it could lack.
fn counts_at_once(tx: &mut dyn Tx, chain: &str) -> Result<i64, ServiceError> {
    Ok(i64::from(tx.last_checkpoint(chain)?.is_none()))
}

/// The longest waiting member that does not count yet and holds a checkpoint.
pub(super) fn next_to_count<'a>(
    members: &'a [(MemberRow, WorkerRow)],
    held: Option<&CheckpointRow>,
) -> Option<&'a MemberRow> {
    let height = held.map_or(0, |checkpoint| checkpoint.size.saturating_sub(1));
    let waiting = |member: &&MemberRow| !member.does_count() && member.committed >= height;
    members.iter().map(|(member, _)| member).find(waiting)
}

/// Lets one more member count, so that majorities before and after share a member. Gives whether there was one.
pub(super) fn let_count(
    tx: &mut dyn Tx,
    chain: &str,
    held: Option<&CheckpointRow>,
) -> Result<bool, ServiceError> {
    let members = tx.members(chain)?;
    let Some(member) = next_to_count(&members, held) else {
        return Ok(false);
    };
    tracing::info!(
        worker = member.worker,
        chain,
        "a worker counts in the quorum from now on"
    );
    tx.put_member(&MemberRow {
        counts: 1,
        ..member.clone()
    })?;
    Ok(true)
}

/// Where the only member that counted is gone, whoever holds all that is committed takes its place.
fn count_where_nobody_does(
    tx: &mut dyn Tx,
    chain: &str,
    members: &[(MemberRow, WorkerRow)],
) -> Result<(), ServiceError> {
    if counting(members) == 0 {
        let last = tx.last_checkpoint(chain)?;
        let_count(tx, chain, last.as_ref())?;
    }
    Ok(())
}

/// A worker's id: a UUID of version 8 (RFC 9562) made from both keys, so that a coordinator that was restored from a copy
/// which lacks the worker gives it the same id again, and no other.
fn worker_id(coordinator: &PublicKey, worker: &PublicKey) -> Uuid {
    let digest = sha256(&[WORKER_ID_DOMAIN, coordinator.as_bytes(), worker.as_bytes()]);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

pub(super) fn parse_id(id: &str) -> Result<Uuid, ServiceError> {
    let damaged = |_| crate::store::StoreError::Damaged(format!("worker id {id:?}"));
    Ok(Uuid::parse_str(id).map_err(damaged)?)
}

fn addresses_json(addresses: &[String]) -> String {
    serde_json::Value::from(addresses).to_string()
}

fn check_beat(beat: &Heartbeat) -> Result<(), ServiceError> {
    let is_version =
        |text: &str| text.len() <= MAX_VERSION_BYTES && text.chars().all(|c| c.is_ascii_graphic());
    if !beat.version.as_deref().is_none_or(is_version) {
        return Err(ServiceError::Malformed(format!(
            "the worker's version is not 1 to {MAX_VERSION_BYTES} characters of ASCII"
        )));
    }
    check_addresses(&beat.addresses, beat.api.as_deref())
}

fn check_addresses(addresses: &[String], api: Option<&str>) -> Result<(), ServiceError> {
    if addresses.len() > MAX_ADDRESSES {
        let found = addresses.len();
        return Err(ServiceError::Malformed(format!(
            "{found} addresses, at most {MAX_ADDRESSES} are allowed"
        )));
    }
    if let Some(bad) = addresses
        .iter()
        .find(|address| address.parse::<SocketAddr>().is_err())
    {
        let shown: String = bad.chars().take(80).collect();
        return Err(ServiceError::Malformed(format!(
            "address {shown:?} is not IP:PORT"
        )));
    }
    let is_url = |url: &str| {
        // What a parser takes with a mend is not a URL yet, and not every database takes every character.
        url.len() <= MAX_API_BYTES
            && url.chars().all(|c| !c.is_control() && !c.is_whitespace())
            && url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
    };
    match api.filter(|url| !is_url(url)) {
        Some(_) => Err(ServiceError::Malformed(format!(
            "the worker's page is no http URL of at most {MAX_API_BYTES} bytes"
        ))),
        None => Ok(()),
    }
}
