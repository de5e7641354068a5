//! Joining, leaving, making and listing chains, while the node runs.

mod backups;
mod error;
mod forks;

pub use error::ChainsError;

use super::chain::{Common, Replica};
use super::chains::Chains;
use crate::api::types::{ChainDetail, ChainEntry, ChainList, NewChain};
use crate::identity::{ChainFile, chain_dir, joined_chains, make_private_dir};
use crate::spec_file::SpecFile;
use crate::storage::{StorageError, Store};
use block_chain_common::chain_spec::{ChainSpec, CheckedSpec};
use block_chain_common::codec::decode;
use block_chain_common::coordinator_api::ChainSummary;
use block_chain_common::limits::{MAX_NODE_CHAINS, check_name};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a chain that is joined is waited for: until the coordinator has answered to its first heartbeat.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// How long a chain's files may still be held by what was done with it before it was left.
const HELD: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);

/// What joins, leaves and makes chains.
pub struct Manager {
    common: Arc<Common>,
    chains: Arc<Chains>,
    data_dir: PathBuf,
    one_at_a_time: tokio::sync::Mutex<()>,
    backing_up: tokio::sync::Mutex<()>,
}

impl Manager {
    pub(super) fn new(common: Arc<Common>, chains: Arc<Chains>, data_dir: PathBuf) -> Self {
        Self {
            common,
            chains,
            data_dir,
            one_at_a_time: tokio::sync::Mutex::default(),
            backing_up: tokio::sync::Mutex::default(),
        }
    }

    /// Opens the chains that were joined before, several at a time. One that cannot be opened holds up no other.
    pub(super) async fn open_joined(self: &Arc<Self>) {
        let names = joined_chains(&self.data_dir).unwrap_or_else(|error| {
            tracing::error!(%error, "the chains that were joined are not known");
            Vec::new()
        });
        let mut opening = tokio::task::JoinSet::new();
        for name in names {
            let (manager, file) = (Arc::clone(self), ChainFile::load(&self.dir(&name)));
            let spec = match file {
                Ok(Some(file)) if !file.left => file.checked_spec(&self.dir(&name)),
                Ok(_) => continue,
                Err(error) => Err(error),
            };
            opening.spawn_blocking(move || {
                let replica = spec
                    .map_err(ChainsError::from)
                    .and_then(|spec| Ok(Replica::open(&manager.dir(&name), spec)?));
                (name, replica)
            });
        }
        while let Some(opened) = opening.join_next().await {
            let Ok((name, replica)) = opened else {
                tracing::error!("opening a chain ended early");
                continue;
            };
            let started = replica.and_then(|replica| self.start(&name, replica));
            if let Err(error) = started {
                tracing::error!(chain = name, %error, "a chain cannot be opened");
                self.chains.add_failed(&name, error.to_string());
            }
        }
    }

    fn dir(&self, name: &str) -> PathBuf {
        chain_dir(&self.data_dir, self.chains.home_name(), name)
    }

    fn start(&self, name: &str, replica: Replica) -> Result<(), ChainsError> {
        let started = self.common.start(replica);
        let chain = started.map_err(|error| ChainsError::Driver(format!("{error:#}")))?;
        if let Some(home) = self.chains.get(None) {
            chain.node.set_api(home.node.status().api);
        }
        chain.dump.resume();
        self.chains.add(name, Arc::new(chain));
        Ok(())
    }

    /// All chains of the coordinator, and what this node has of them. Those that this node has alone, where no coordinator
    /// answers.
    pub async fn list(&self) -> ChainList {
        let (known, error) = match self.common.client.chains().await {
            Ok(known) => (known, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let mut chains: Vec<ChainEntry> = known.into_iter().map(|chain| self.entry(&chain)).collect();
        for (name, chain) in self.chains.open() {
            if !chains.iter().any(|entry| entry.name == name) {
                chains.push(ChainEntry::local(&chain.node, name == self.chains.home_name()));
            }
        }
        for (name, reason) in self.chains.failed() {
            if let Some(entry) = chains.iter_mut().find(|entry| entry.name == name) {
                entry.failed = Some(reason);
            }
        }
        chains.sort_by(|a, b| a.name.cmp(&b.name));
        ChainList { chains, error }
    }

    fn entry(&self, known: &ChainSummary) -> ChainEntry {
        let open = self.chains.get(Some(&known.name));
        // Of the same name, and perhaps of another coordinator's past.
        let open = open.filter(|chain| chain.node.chain_id() == known.id);
        let is_home = known.name == self.chains.home_name();
        ChainEntry::new(known, open.map(|chain| chain.node.status()), is_home)
    }

    /// A chain's spec, whether or not this node has joined it.
    ///
    /// # Errors
    /// Where there is no such chain, or no coordinator answers for one that is not joined.
    pub async fn show(&self, name: &str) -> Result<ChainDetail, ChainsError> {
        check_name(name)?;
        let open = self.chains.get(Some(name));
        let (spec, joined) = match &open {
            Some(chain) => (chain.node.spec().clone(), true),
            None => (self.fetch(name).await?, false),
        };
        Ok(ChainDetail {
            name: name.to_owned(),
            id: spec.id(),
            joined,
            parent: spec.spec().parent.clone(),
            spec: SpecFile::of(spec.spec()),
        })
    }

    /// What the coordinator says a chain is, checked.
    async fn fetch(&self, name: &str) -> Result<CheckedSpec, ChainsError> {
        let info = self.common.client.chain(name).await?;
        let contradiction = |what| ChainsError::Contradiction {
            name: name.to_owned(),
            what,
        };
        if info.coordinator_key != self.common.coordinator_key {
            return Err(contradiction("a key"));
        }
        let bytes = hex::decode(&info.spec).or(Err(contradiction("a spec")))?;
        let spec: ChainSpec = decode(&bytes).or(Err(contradiction("a spec")))?;
        let spec = spec.check()?;
        if spec.id() != info.id || spec.spec().name != name {
            return Err(contradiction("an id"));
        }
        Ok(spec)
    }

    /// Takes part in a chain from now on; whether it did not before.
    ///
    /// # Errors
    /// See [`ChainsError`].
    pub async fn join(&self, name: &str) -> Result<bool, ChainsError> {
        check_name(name)?;
        let _one_at_a_time = self.one_at_a_time.lock().await;
        if self.chains.get(Some(name)).is_some() {
            return Ok(false);
        }
        if self.chains.count() >= MAX_NODE_CHAINS {
            return Err(ChainsError::TooMany);
        }
        let spec = self.fetch(name).await?;
        self.take_up(spec).await?;
        Ok(true)
    }

    async fn take_up(&self, spec: CheckedSpec) -> Result<(), ChainsError> {
        let name = spec.spec().name.clone();
        let dir = self.dir(&name);
        let file = ChainFile::new(spec.spec());
        if ChainFile::load(&dir)?.is_some_and(|found| found.spec != file.spec) {
            return Err(ChainsError::OtherChain { name, dir });
        }
        make_private_dir(&dir)?;
        if spec.spec().parent.is_some() && !Store::is_there(&dir) {
            self.inherit(&spec, &dir).await?;
        }
        let (opened_in, deadline) = (dir.clone(), Instant::now() + HELD);
        let replica = tokio::task::spawn_blocking(move || {
            loop {
                match Replica::open(&opened_in, spec.clone()) {
                    // What was done with the chain before it was left may end only now.
                    Err(StorageError::InUse { .. }) if Instant::now() < deadline => std::thread::sleep(LOOK),
                    opened => return opened,
                }
            }
        });
        let replica = replica
            .await
            .map_err(|error| ChainsError::Driver(error.to_string()))??;
        // Only now: a chain that cannot be opened is not joined.
        file.save(&dir)?;
        self.start(&name, replica)?;
        self.common.news.of(Some(&name));
        let deadline = Instant::now() + FIRST_ANSWER;
        let open = self.chains.get(Some(&name));
        while open
            .as_ref()
            .is_some_and(|chain| chain.node.chain_view().is_none())
            && Instant::now() < deadline
        {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Takes part in a chain no more; its replica stays. Whether the coordinator had this worker as a member.
    ///
    /// # Errors
    /// See [`ChainsError`].
    pub async fn leave(&self, name: &str) -> Result<bool, ChainsError> {
        check_name(name)?;
        let _one_at_a_time = self.one_at_a_time.lock().await;
        if name == self.chains.home_name() {
            return Err(ChainsError::Home {
                name: name.to_owned(),
            });
        }
        let dir = self.dir(name);
        let not_joined = || ChainsError::NotJoined {
            name: name.to_owned(),
        };
        let mut file = ChainFile::load(&dir)?
            .filter(|file| !file.left)
            .ok_or_else(not_joined)?;
        let left = match self.chains.get(Some(name)) {
            Some(open) => {
                let left = open.node.leave().await;
                let left = left.map_err(|error| ChainsError::Driver(error.to_string()))?;
                file.left = true;
                file.save(&dir)?;
                self.chains.remove(name);
                open.end()
                    .await
                    .map_err(|error| ChainsError::Driver(format!("{error:#}")))?;
                left
            }
            None => {
                // It could not be opened, and is a member all the same.
                let left = self.common.client.leave(self.common.worker, name).await?;
                file.left = true;
                file.save(&dir)?;
                self.chains.remove(name);
                left.left
            }
        };
        Ok(left)
    }

    /// Leaves every chain, the home chain last; whether the coordinator had this worker as a member there.
    ///
    /// # Errors
    /// Where no coordinator answers.
    pub async fn leave_all(&self) -> Result<bool, ChainsError> {
        let _one_at_a_time = self.one_at_a_time.lock().await;
        let mut left = false;
        let mut open = self.chains.open();
        open.sort_by_key(|(name, _)| name == self.chains.home_name());
        for (_, chain) in open {
            left = chain
                .node
                .leave()
                .await
                .map_err(|error| ChainsError::Driver(error.to_string()))?;
        }
        Ok(left)
    }

    /// Makes a chain, and takes part in it.
    ///
    /// # Errors
    /// See [`ChainsError`].
    pub async fn create(&self, new: NewChain) -> Result<(), ChainsError> {
        check_name(&new.name)?;
        if self.chains.count() >= MAX_NODE_CHAINS {
            return Err(ChainsError::TooMany);
        }
        let dir = self.dir(&new.name);
        let name = new.name.clone();
        let (spec, builder) = match new.fork.clone() {
            Some(point) => {
                let (spec, builder) = self.fork(new, point).await?;
                (spec, Some(builder))
            }
            None => {
                let creator = new.creator;
                let creator = creator.unwrap_or_else(|| self.common.key.public_key().address());
                let base = ChainSpec::default_for(&new.name, creator);
                (new.spec.into_spec(base)?.check()?, None)
            }
        };
        let open = self.chains.get(Some(&name));
        if open.is_some_and(|chain| chain.node.chain_id() != spec.id()) {
            return Err(ChainsError::Exists { name });
        }
        let file = ChainFile::new(spec.spec());
        if ChainFile::load(&dir)?.is_some_and(|found| found.spec != file.spec) {
            return Err(ChainsError::OtherChain { name, dir });
        }
        self.common.client.create_chain(spec.spec()).await?;
        if let Some(builder) = builder.filter(|_| !Store::is_there(&dir)) {
            let finishing = tokio::task::spawn_blocking(move || builder.finish(&spec));
            finishing
                .await
                .map_err(|error| ChainsError::Driver(error.to_string()))??;
        }
        self.join(&name).await.map(drop)
    }
}
