//! Users' commands: what needs the machine goes to the chain's thread, questions to peers and the coordinator go out here.

use super::chain_thread::Input;
use super::handle::{Command, RequestError};
use super::inbound::Asked;
use super::link::ToCoordinator;
use crate::machine::Message;
use crate::net::Network;
use block_chain_common::codec::BoundedVec;
use block_chain_common::keys::PublicKey;
use block_chain_common::limits::MAX_PEERS_ASKED;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Where commands go.
pub(super) struct Router {
    pub(super) chain: mpsc::UnboundedSender<Input>,
    pub(super) coordinator: mpsc::UnboundedSender<ToCoordinator>,
    pub(super) network: Network,
    pub(super) asked: Arc<Mutex<Asked>>,
    /// Told when the node is to stop.
    pub(super) stop: tokio::sync::watch::Sender<bool>,
}

impl Router {
    /// Until nobody can ask any more.
    pub(super) async fn run(self, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.recv().await {
            self.route(command);
        }
    }

    fn route(&self, command: Command) {
        match command {
            Command::Hashes { peer, heights, reply } => {
                self.asked().hashes.insert(peer, reply);
                let heights = BoundedVec::new(heights).unwrap_or_default();
                if !self.network.send(&peer, &Message::GetHashes(heights)) {
                    // Dropping the reply says that it will not come.
                    self.asked().hashes.remove(&peer);
                }
            }
            Command::Fetch { hash, reply } => {
                self.asked().blocks.insert(hash, reply);
                let hashes = BoundedVec::new(vec![hash]).unwrap_or_default();
                let peers: Vec<PublicKey> = self
                    .network
                    .connected()
                    .into_iter()
                    .take(MAX_PEERS_ASKED)
                    .collect();
                let sent = peers
                    .iter()
                    .filter(|peer| self.network.send(peer, &Message::GetBlocks(hashes.clone())))
                    .count();
                if sent == 0 {
                    self.asked().blocks.remove(&hash);
                }
            }
            Command::Leave { reply } => {
                if let Err(error) = self.coordinator.send(ToCoordinator::Leave(reply))
                    && let ToCoordinator::Leave(reply) = error.0
                    && reply.send(Err(RequestError::Stopping)).is_err()
                {
                    tracing::debug!("nobody waits for the answer");
                }
            }
            Command::Stop => {
                self.stop.send_replace(true);
            }
            other => {
                if self.chain.send(Input::Command(other)).is_err() {
                    tracing::debug!("the chain's thread has ended");
                }
            }
        }
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
