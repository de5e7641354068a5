//! What peers send: checked as far as it can be without the chain, then given to the machine; or answered from the store.

use super::chain_thread::Input;
use super::handle::{HashesAnswer, Shared};
use crate::machine::{Event, Message, serve};
use crate::net::{NetEvent, Network};
use block_chain_common::block::{Block, CheckedBlock, CheckedHeader};
use block_chain_common::hash::{BlockHash, TxId};
use block_chain_common::header::Header;
use block_chain_common::keys::PublicKey;
use block_chain_common::transaction::{CheckedTransaction, check_transactions};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// KiB of checked messages that may wait for the chain's thread: a hostile member can make a node hold no more.
const MAX_WAITING_KIB: usize = 64 * 1_024;
/// Requests of peers that are answered at a time.
const MAX_SERVING: usize = 4;
const BAN: Duration = Duration::from_secs(60);

/// Questions of this node's own that peers' answers end.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) hashes: HashMap<PublicKey, oneshot::Sender<HashesAnswer>>,
    pub(super) blocks: HashMap<BlockHash, oneshot::Sender<Option<Block>>>,
}

/// Takes what the network brings.
pub(super) struct Inbound {
    pub(super) shared: Arc<Shared>,
    pub(super) network: Network,
    pub(super) chain: mpsc::UnboundedSender<Input>,
    pub(super) asked: Arc<Mutex<Asked>>,
}

impl Inbound {
    /// Until the network ends.
    pub(super) async fn run(self, mut events: mpsc::Receiver<NetEvent>) {
        let inbound = Arc::new(self);
        let waiting = Arc::new(Semaphore::new(MAX_WAITING_KIB));
        let serving = Arc::new(Semaphore::new(MAX_SERVING));
        while let Some(event) = events.recv().await {
            let checked = match event {
                NetEvent::Up(peer) => Some(Event::PeerUp(peer)),
                NetEvent::Down(peer, reason) => {
                    tracing::info!(%peer, reason, "a peer is gone");
                    Some(Event::PeerDown(peer))
                }
                NetEvent::Malformed(peer, reason) => {
                    inbound.network.drop_peer(&peer, &reason, BAN);
                    None
                }
                NetEvent::Message(peer, message) if message.is_request() => {
                    let Ok(permit) = Arc::clone(&serving).acquire_owned().await else {
                        return;
                    };
                    let inbound = Arc::clone(&inbound);
                    tokio::task::spawn_blocking(move || {
                        inbound.serve(peer, &message);
                        drop(permit);
                    });
                    None
                }
                NetEvent::Message(peer, message) => {
                    let inbound = Arc::clone(&inbound);
                    // In order: a sender's transactions must not overtake each other.
                    match tokio::task::spawn_blocking(move || inbound.check(peer, message)).await {
                        Ok(checked) => checked,
                        Err(error) => {
                            tracing::error!(%error, "checking a message failed");
                            None
                        }
                    }
                }
            };
            let Some(event) = checked else { continue };
            let Ok(permit) = Arc::clone(&waiting).acquire_many_owned(kibibytes(&event)).await else {
                return;
            };
            if inbound.chain.send(Input::Event(event, Some(permit))).is_err() {
                return;
            }
        }
    }

    fn serve(&self, peer: PublicKey, request: &Message) {
        let served = serve(&self.shared.store, request, |message| {
            self.network.send(&peer, &message)
        });
        if let Err(error) = served {
            tracing::error!(%error, "a peer's request cannot be answered");
        }
    }

    /// The machine's event, where the message is valid in itself; its sender is dropped where it breaks a rule.
    fn check(&self, peer: PublicKey, message: Message) -> Option<Event> {
        let chain = self.shared.spec.id();
        let checked = match message {
            Message::Headers(headers) => {
                check_headers(headers.into_vec(), chain).map(|h| Event::Headers(peer, h))
            }
            Message::Block(block) => return self.check_block(peer, *block),
            Message::Compact { header, ids } => return self.check_compact(peer, header, &ids.into_vec()),
            Message::Transactions(transactions) => {
                let unknown: Vec<_> = transactions
                    .into_vec()
                    .into_iter()
                    .filter(|tx| self.known(&tx.id()).is_none())
                    .collect();
                let checked: Result<Vec<_>, _> = check_transactions(unknown, chain).into_iter().collect();
                checked
                    .map(|checked| Event::Transactions(peer, checked))
                    .map_err(|error| error.to_string())
            }
            Message::Hashes(hashes) => {
                let asked = self
                    .asked
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .hashes
                    .remove(&peer);
                if let Some(reply) = asked
                    && reply.send(hashes.into_vec()).is_err()
                {
                    tracing::debug!("a comparison is no longer waited for");
                }
                return None;
            }
            other => return Some(Event::Message(peer, other)),
        };
        checked
            .map_err(|reason| self.network.drop_peer(&peer, &reason, BAN))
            .ok()
    }

    fn check_block(&self, peer: PublicKey, block: Block) -> Option<Event> {
        let hash = block.header.hash();
        let asked = self
            .asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .blocks
            .remove(&hash);
        if let Some(reply) = asked {
            if reply.send(Some(block)).is_err() {
                tracing::debug!("a block is no longer waited for");
            }
            return None;
        }
        match CheckedBlock::check_with_known(block, self.shared.spec.id(), |id| self.known(id)) {
            Ok(checked) => Some(Event::Block(peer, Box::new(checked))),
            Err(error) => {
                self.network
                    .drop_peer(&peer, &format!("block {hash}: {error}"), BAN);
                None
            }
        }
    }

    /// Puts the block together from the mempool; where something is missing its header alone, so that the body is fetched.
    fn check_compact(&self, peer: PublicKey, header: Header, ids: &[TxId]) -> Option<Event> {
        let found: Option<Vec<CheckedTransaction>> = ids.iter().map(|id| self.known(id)).collect();
        match found {
            Some(transactions) => {
                let hash = header.hash();
                match CheckedBlock::assemble(header, transactions, self.shared.spec.id()) {
                    Ok(checked) => Some(Event::Block(peer, Box::new(checked))),
                    Err(error) => {
                        self.network
                            .drop_peer(&peer, &format!("block {hash}: {error}"), BAN);
                        None
                    }
                }
            }
            None => match CheckedHeader::check(header, self.shared.spec.id()) {
                Ok(checked) => Some(Event::Headers(peer, vec![checked])),
                Err(error) => {
                    self.network.drop_peer(&peer, &error.to_string(), BAN);
                    None
                }
            },
        }
    }

    fn known(&self, id: &TxId) -> Option<CheckedTransaction> {
        self.shared
            .mempool
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
    }
}

/// What an event's transactions weigh: the rest of every message is small.
fn kibibytes(event: &Event) -> u32 {
    let transactions = match event {
        Event::Block(_, block) => block.transactions(),
        Event::Transactions(_, transactions) => transactions.as_slice(),
        _ => &[],
    };
    let bytes: usize = transactions
        .iter()
        .map(|transaction| transaction.bytes().len())
        .sum();
    u32::try_from(bytes / 1_024)
        .unwrap_or(u32::MAX)
        .saturating_add(1)
        .min(u32::try_from(MAX_WAITING_KIB).unwrap_or(u32::MAX))
}

fn check_headers(
    headers: Vec<Header>,
    chain: block_chain_common::hash::ChainId,
) -> Result<Vec<CheckedHeader>, String> {
    headers
        .into_iter()
        .map(|header| CheckedHeader::check(header, chain).map_err(|error| error.to_string()))
        .collect()
}
