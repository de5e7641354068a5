//! Who an address or id is, in words: the workers of the chain by their names, this one as such.

use crate::api::ApiState;
use block_chain_common::keys::Address;
use std::collections::HashMap;
use uuid::Uuid;

/// How many characters of an address are enough to tell it by, where it has no name.
const SHORT: usize = 16;

/// The names that this node knows.
pub(super) struct Names {
    of_address: HashMap<Address, String>,
    of_worker: HashMap<Uuid, String>,
}

impl Names {
    /// Those of the chain's workers, as the coordinator named them last.
    pub(super) fn of(state: &ApiState) -> Self {
        let mut names = Self {
            of_address: HashMap::new(),
            of_worker: HashMap::new(),
        };
        let status = state.node.status();
        let members = state
            .node
            .chain_view()
            .map(|view| view.members)
            .unwrap_or_default();
        for member in members {
            if let Some(name) = member.name {
                names.of_address.insert(member.public_key.address(), name.clone());
                names.of_worker.insert(member.worker_id, name);
            }
        }
        let own = status.name.as_ref().map_or_else(
            || "this worker".to_owned(),
            |name| format!("{name} (this worker)"),
        );
        names.of_address.insert(status.address, own.clone());
        names.of_worker.insert(status.worker_id, own);
        names
    }

    /// The worker's name; what is left of an address without one.
    pub(super) fn address(&self, address: &Address) -> String {
        let named = self.of_address.get(address).cloned();
        named.unwrap_or_else(|| {
            let short: String = address.to_string().chars().take(SHORT).collect();
            format!("{short}…")
        })
    }

    /// The worker that an address is the own wallet of.
    pub(super) fn worker_at(&self, address: &Address) -> Option<&str> {
        self.of_address.get(address).map(String::as_str)
    }

    /// The worker's name; its id where it has none.
    pub(super) fn worker(&self, id: &Uuid) -> String {
        self.of_worker.get(id).cloned().unwrap_or_else(|| id.to_string())
    }
}
