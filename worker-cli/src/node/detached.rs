//! A handle on a store that no machine runs on: for tests and benchmarks of what only reads a node.

use super::handle::{NodeEvent, NodeHandle, Shared};
use crate::storage::Store;
use block_chain_common::chain_spec::CheckedSpec;
use block_chain_common::keys::SecretKey;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;

impl NodeHandle {
    /// Reads work; whatever would change the chain answers that the node is stopping.
    #[must_use]
    pub fn detached(data_dir: PathBuf, store: Store, spec: CheckedSpec, key: SecretKey) -> Self {
        let keys = (key.public_key(), key);
        let commands = mpsc::channel(1).0;
        Self(Arc::new(Shared::new(
            data_dir,
            (store, Arc::new(spec)),
            keys,
            commands,
        )))
    }

    /// Tells listeners that something happened. A node that runs does so itself.
    pub fn announce(&self, event: NodeEvent) {
        if self.0.events.send(event).is_err() {
            tracing::trace!("nobody listens");
        }
    }
}
