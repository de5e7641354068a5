//! A handle on a store that no machine runs on: for tests and benchmarks of what only reads a node.

use super::handle::{MempoolMirror, NodeEvent, NodeHandle, Shared};
use crate::api::types::NodeStatus;
use crate::storage::Store;
use block_chain_common::chain_spec::CheckedSpec;
use block_chain_common::keys::SecretKey;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Instant;
use tokio::sync::{broadcast, mpsc};

impl NodeHandle {
    /// Reads work; whatever would change the chain answers that the node is stopping.
    #[must_use]
    pub fn detached(data_dir: PathBuf, store: Store, spec: CheckedSpec, key: SecretKey) -> Self {
        let (height, head) = store.head();
        let status = NodeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            worker_id: uuid::Uuid::nil(),
            name: None,
            public_key: key.public_key(),
            address: key.public_key().address(),
            servers: Vec::new(),
            server_reachable: false,
            chain: spec.spec().name.clone(),
            chain_id: spec.id(),
            api: String::new(),
            pid: std::process::id(),
            uptime_ms: 0,
            height,
            head,
            head_time: Default::default(),
            committed_size: store.committed().map_or(0, |checkpoint| checkpoint.size),
            final_size: store.final_checkpoint().map_or(0, |checkpoint| checkpoint.size),
            leader_id: None,
            term: store.term(),
            is_leader: false,
            mempool_count: 0,
            mempool_bytes: 0,
            peers: 0,
            members: 0,
            syncing_to: None,
            mining: None,
            waiting: None,
        };
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
        }))
    }

    /// Tells listeners that something happened. A node that runs does so itself.
    pub fn announce(&self, event: NodeEvent) {
        if self.0.events.send(event).is_err() {
            tracing::trace!("nobody listens");
        }
    }
}
