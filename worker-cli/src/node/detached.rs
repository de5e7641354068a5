//! A handle on a store that no machine runs on: for tests and benchmarks of what only reads a node.

use super::handle::{NodeEvent, NodeHandle, Shared, first_status};
use super::mirror::MempoolMirror;
use crate::storage::Store;
use block_chain_common::chain_spec::CheckedSpec;
use block_chain_common::keys::SecretKey;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Instant;
use tokio::sync::{broadcast, mpsc};

impl NodeHandle {
    /// Reads work; whatever would change the chain answers that the node is stopping.
    #[must_use]
    pub fn detached(data_dir: PathBuf, store: Store, spec: CheckedSpec, key: SecretKey) -> Self {
        let status = first_status(&store, &spec, &key);
        Self(Arc::new(Shared {
            data_dir,
            coordinator_key: key.public_key(),
            store,
            spec: Arc::new(spec),
            key,
            commands: mpsc::channel(1).0,
            status: RwLock::new(status),
            view: RwLock::new(None),
            mempool: RwLock::new(MempoolMirror::default()),
            connected: RwLock::new(Vec::new()),
            events: broadcast::channel(256).0,
            signing: tokio::sync::Mutex::new(()),
            started: Mutex::new(Instant::now()),
            steps: AtomicU64::new(0),
            failure: OnceLock::new(),
        }))
    }

    /// Tells listeners that something happened. A node that runs does so itself.
    pub fn announce(&self, event: NodeEvent) {
        if self.0.events.send(event).is_err() {
            tracing::trace!("nobody listens");
        }
    }
}
