//! The node's heartbeats: of all its chains in one request, every so often, and of one at once when there is news of it.
//!
//! A hundred quiet chains cost a small write, two requests and two transactions of the coordinator every two seconds.

use super::chains::Chains;
use super::clock;
use super::link::Link;
use super::liveness::DiskWatch;
use super::now;
use crate::coordinator::{CoordinatorClient, CoordinatorError};
use crate::identity::write_private;
use block_chain_common::coordinator_api::{ChainHeard, Heartbeat};
use block_chain_common::keys::SecretKey;
use block_chain_common::limits::MAX_HEARTBEATS;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::time::Instant;
use uuid::Uuid;

/// Between heartbeats, until the coordinator says how often.
const FIRST_HEARTBEAT: Duration = Duration::from_secs(1);
/// Before listening for events again after the stream ended.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// Chains of which there is news: they are asked for before the next heartbeat is due.
#[derive(Debug, Default)]
pub(super) struct News {
    chains: Mutex<Wanted>,
    there_is: Notify,
}

#[derive(Debug, Default)]
struct Wanted {
    all: bool,
    named: BTreeSet<String>,
}

impl News {
    /// Of one chain, or, where it is not known of which, of all.
    pub(super) fn of(&self, chain: Option<&str>) {
        let mut wanted = self.chains.lock().unwrap_or_else(PoisonError::into_inner);
        match chain {
            Some(chain) => {
                wanted.named.insert(chain.to_owned());
            }
            None => wanted.all = true,
        }
        drop(wanted);
        self.there_is.notify_one();
    }

    fn take(&self) -> Wanted {
        std::mem::take(&mut *self.chains.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What beats.
pub(super) struct Pulse {
    pub(super) chains: Arc<Chains>,
    pub(super) client: CoordinatorClient,
    pub(super) worker: Uuid,
    pub(super) key: SecretKey,
    pub(super) data_dir: PathBuf,
    pub(super) news: Arc<News>,
    pub(super) disk: DiskWatch,
    /// What is wrong with this machine's clock, as it was said last.
    pub(super) clock: Mutex<Option<String>>,
    /// What is wrong with the coordinator, as it was said last.
    pub(super) told: Mutex<String>,
}

/// A link that is heard: nobody leaves its chain meanwhile.
type Held = (Link, OwnedMutexGuard<bool>);

impl Pulse {
    /// Heartbeats, until the node ends.
    pub(super) async fn run(self: Arc<Self>) {
        let (mut pause, mut next) = (FIRST_HEARTBEAT, Instant::now());
        loop {
            let wanted = self.news.take();
            let all = wanted.all || Instant::now() >= next;
            let mut links = self.chains.links();
            if !all {
                links.retain(|link| wanted.named.contains(&link.chain_name));
            }
            if let Some(told) = self.beat(links, false).await {
                pause = told;
            }
            if all {
                next = Instant::now() + pause;
            }
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.news.there_is.notified() => {}
            }
        }
    }

    /// Says that the worker lives on these chains, and takes what the coordinator answers; how often it wants to hear it.
    async fn beat(&self, links: Vec<Link>, stepping_down: bool) -> Option<Duration> {
        let disk = match links.is_empty() {
            true => return None,
            false => self.disk.works().await,
        };
        let mut pause = None;
        let mut links = links.into_iter().peekable();
        while links.peek().is_some() {
            let mut held: Vec<Held> = Vec::with_capacity(MAX_HEARTBEATS);
            for link in links.by_ref().take(MAX_HEARTBEATS) {
                let left = Arc::clone(&link.left).lock_owned().await;
                let works = disk.clone().and_then(|()| link.thread_works());
                match works {
                    _ if *left => {}
                    Err(reason) => link.cannot_work(reason),
                    Ok(()) => held.push((link, left)),
                }
            }
            pause = self.beat_together(held, stepping_down).await.or(pause);
        }
        pause
    }

    async fn beat_together(&self, mut held: Vec<Held>, stepping_down: bool) -> Option<Duration> {
        if held.is_empty() {
            return None;
        }
        let beats: Vec<Heartbeat> = held
            .iter()
            .map(|(link, _)| link.heartbeat(stepping_down))
            .collect();
        let asked = now();
        let answer = self.client.heartbeats(self.worker, beats).await;
        if stepping_down {
            held.iter_mut().for_each(|(_, left)| **left = true);
            return None;
        }
        let links: Vec<Link> = held.into_iter().map(|(link, _)| link).collect();
        let chains = match answer {
            Ok(chains) => chains,
            Err(error) => {
                // Once, however many chains it is of.
                self.complain(&error.to_string());
                links.iter().for_each(|link| link.lost(&error));
                if is_unknown(&error) {
                    self.register_again().await;
                }
                return None;
            }
        };
        self.complain("");
        let time = chains.iter().find_map(|heard| match heard {
            ChainHeard::View(view) => Some(view.time),
            ChainHeard::Refused(_) => None,
        });
        let offset = time.map(|time| clock::offset_ms(asked, time, now()));
        self.compare_clocks(offset);
        let mut pause = None;
        for (link, heard) in links.into_iter().zip(chains) {
            let answer = match heard {
                ChainHeard::View(view) => {
                    pause = Some(Duration::from_millis(view.heartbeat_ms.clamp(100, 60_000)));
                    Ok(*view)
                }
                ChainHeard::Refused(error) => Err(CoordinatorError::Refused(error)),
            };
            link.heard(answer, offset).await;
        }
        pause
    }

    /// Says once that no coordinator hears this worker.
    fn complain(&self, error: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != error && !error.is_empty() {
            tracing::warn!(error, "the coordinator");
        }
        error.clone_into(&mut told);
    }

    /// Says once where this machine's clock and the coordinator's are apart.
    fn compare_clocks(&self, offset_ms: Option<i64>) {
        let complaint = offset_ms.and_then(clock::complaint);
        let mut told = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*told, &complaint) {
            (None, Some(complaint)) => tracing::warn!("{complaint}"),
            (Some(_), None) => tracing::info!("this machine's clock agrees with the coordinator's again"),
            _ => {}
        }
        *told = complaint;
    }

    /// Others are to lead: this node stops. No heartbeat follows.
    pub(super) async fn step_down(&self) {
        self.beat(self.chains.links(), true).await;
    }

    /// The coordinator does not know this worker's token: the same key gets the same id, and a new token.
    async fn register_again(&self) {
        let home = self.chains.home_name();
        match self.client.register(&self.key, home, None, None).await {
            Ok(registration) if registration.worker_id == self.worker => {
                let path = self.data_dir.join("worker.token");
                if let Err(error) = write_private(&path, registration.worker_token.as_bytes()) {
                    tracing::error!(%error, "the worker's new token cannot be kept");
                }
                self.news.of(None);
            }
            Ok(registration) => {
                tracing::error!(given = %registration.worker_id, own = %self.worker, "this coordinator does not know this worker: it gives it another id");
            }
            Err(error) => tracing::warn!(%error, "cannot register again"),
        }
    }

    /// Listens for events, so that news comes before the next heartbeat.
    pub(super) async fn listen(self: Arc<Self>) {
        loop {
            let news = Arc::clone(&self.news);
            if let Err(error) = self.client.listen(move |chain| news.of(chain)).await {
                tracing::debug!(%error, "no events");
            }
            tokio::time::sleep(LISTEN_AGAIN).await;
        }
    }
}

fn is_unknown(error: &CoordinatorError) -> bool {
    matches!(error, CoordinatorError::Refused(error) if error.code == "worker_token" || error.code == "unknown_worker")
}
