//! The chains of a node, by name. The first is the home chain: that of the registration, which is there as long as the node.

use super::chain::Running;
use super::handle::NodeHandle;
use super::link::Link;
use crate::check::CheckState;
use crate::dump::DumpControl;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// A chain that this node has a replica of, and all that is done with it.
pub struct OpenChain {
    /// The replica.
    pub node: NodeHandle,
    /// Its copy to SQL.
    pub dump: DumpControl,
    /// The check of it.
    pub check: Arc<CheckState>,
    /// What drives it; a test may drive it otherwise.
    pub(super) running: Option<Running>,
}

impl OpenChain {
    /// Of a replica that something else drives.
    #[cfg(test)]
    pub(crate) fn driven_elsewhere(node: NodeHandle) -> Self {
        Self {
            dump: DumpControl::new(node.clone()),
            node,
            check: Arc::default(),
            running: None,
        }
    }
}

/// The chains that are open, and those that could not be opened.
pub struct Chains {
    home: String,
    all: RwLock<BTreeMap<String, Chain>>,
}

#[derive(Clone)]
enum Chain {
    Open(Arc<OpenChain>),
    /// Why it could not be opened.
    Failed(String),
}

impl Chains {
    /// With the home chain.
    #[must_use]
    pub fn new(home: &str, chain: Arc<OpenChain>) -> Self {
        Self {
            home: home.to_owned(),
            all: RwLock::new(BTreeMap::from([(home.to_owned(), Chain::Open(chain))])),
        }
    }

    /// The home chain's name.
    #[must_use]
    pub fn home_name(&self) -> &str {
        &self.home
    }

    /// A chain that is open, the home chain where none is named.
    #[must_use]
    pub fn get(&self, name: Option<&str>) -> Option<Arc<OpenChain>> {
        match self.read().get(name.unwrap_or(&self.home)) {
            Some(Chain::Open(chain)) => Some(Arc::clone(chain)),
            _ => None,
        }
    }

    /// Why a chain is not open although this node has joined it.
    #[must_use]
    pub fn failure(&self, name: &str) -> Option<String> {
        match self.read().get(name) {
            Some(Chain::Failed(reason)) => Some(reason.clone()),
            _ => None,
        }
    }

    /// All that are open, by name.
    #[must_use]
    pub fn open(&self) -> Vec<(String, Arc<OpenChain>)> {
        let all = self.read();
        let open = all.iter().filter_map(|(name, chain)| match chain {
            Chain::Open(chain) => Some((name.clone(), Arc::clone(chain))),
            Chain::Failed(_) => None,
        });
        open.collect()
    }

    /// The names of those that could not be opened, with the reasons.
    pub(super) fn failed(&self) -> Vec<(String, String)> {
        let all = self.read();
        let failed = all.iter().filter_map(|(name, chain)| match chain {
            Chain::Open(_) => None,
            Chain::Failed(reason) => Some((name.clone(), reason.clone())),
        });
        failed.collect()
    }

    /// How many this node has joined.
    pub(super) fn count(&self) -> usize {
        self.read().len()
    }

    /// Has a chain that something else drives.
    #[cfg(test)]
    pub(crate) fn open_here(&self, name: &str, chain: Arc<OpenChain>) {
        self.add(name, chain);
    }

    pub(super) fn add(&self, name: &str, chain: Arc<OpenChain>) {
        self.write().insert(name.to_owned(), Chain::Open(chain));
    }

    pub(super) fn add_failed(&self, name: &str, reason: String) {
        self.write().insert(name.to_owned(), Chain::Failed(reason));
    }

    pub(super) fn remove(&self, name: &str) {
        self.write().remove(name);
    }

    /// The links to the coordinator, by the chains' names.
    pub(super) fn links(&self) -> Vec<Link> {
        let open = self.open().into_iter();
        open.filter_map(|(_, chain)| Some(chain.running.as_ref()?.link.clone()))
            .collect()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Chain>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Chain>> {
        self.all.write().unwrap_or_else(PoisonError::into_inner)
    }
}
