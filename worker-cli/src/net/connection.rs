//! One connection: two streams each way, of framed messages, with queues bounded by bytes.

use super::NetEvent;
use crate::machine::Message;
use block_chain_common::codec::decode;
use block_chain_common::keys::PublicKey;
use block_chain_common::limits::MAX_PEER_MESSAGE_BYTES;
use iroh::endpoint::{Connection, RecvStream, VarInt};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;

/// Bytes that wait to be sent to a peer: small messages, and bulk (eight of the largest blocks).
const QUEUED_BYTES: [usize; 2] = [1_048_576, 64 * 1_048_576];
/// The first byte of a stream says what it carries.
const KINDS: [u8; 2] = [0, 1];

#[derive(Clone)]
struct Queue {
    sender: mpsc::UnboundedSender<Arc<[u8]>>,
    waiting: Arc<AtomicUsize>,
    limit: usize,
}

/// The sending side of a connection.
pub(super) struct Link {
    connection: Connection,
    queues: [Queue; 2],
}

struct Outgoing {
    kind: u8,
    receiver: mpsc::UnboundedReceiver<Arc<[u8]>>,
    waiting: Arc<AtomicUsize>,
}

/// What runs a connection.
pub(super) struct Streams([Outgoing; 2]);

impl Link {
    pub(super) fn new(connection: Connection) -> (Self, Streams) {
        let pairs = [0, 1].map(|place: usize| {
            let (sender, receiver) = mpsc::unbounded_channel();
            let waiting = Arc::new(AtomicUsize::new(0));
            let queue = Queue {
                sender,
                waiting: Arc::clone(&waiting),
                limit: QUEUED_BYTES[place],
            };
            (
                queue,
                Outgoing {
                    kind: KINDS[place],
                    receiver,
                    waiting,
                },
            )
        });
        let [(control, control_out), (bulk, bulk_out)] = pairs;
        (
            Self {
                connection,
                queues: [control, bulk],
            },
            Streams([control_out, bulk_out]),
        )
    }

    pub(super) fn id(&self) -> usize {
        self.connection.stable_id()
    }

    pub(super) fn close(&self, reason: &str) {
        self.connection.close(
            VarInt::from_u32(1),
            reason.as_bytes().get(..reason.len().min(200)).unwrap_or_default(),
        );
    }

    /// Whether there was room.
    pub(super) fn queue(&self, is_bulk: bool, bytes: &Arc<[u8]>) -> bool {
        let queue = &self.queues[usize::from(is_bulk)];
        let before = queue.waiting.fetch_add(bytes.len(), Ordering::AcqRel);
        // An empty queue takes any message, since none is longer than the limit of a message.
        if (before > 0 && before.saturating_add(bytes.len()) > queue.limit)
            || queue.sender.send(Arc::clone(bytes)).is_err()
        {
            queue.waiting.fetch_sub(bytes.len(), Ordering::AcqRel);
            return false;
        }
        true
    }
}

impl Streams {
    /// Until either side ends it; says why.
    pub(super) async fn run(
        self,
        peer: PublicKey,
        connection: &Connection,
        events: &mpsc::Sender<NetEvent>,
    ) -> String {
        let [control, bulk] = self.0;
        tokio::select! {
            reason = control.send(connection) => reason,
            reason = bulk.send(connection) => reason,
            reason = receive(peer, connection, events) => reason,
        }
    }
}

impl Outgoing {
    async fn send(mut self, connection: &Connection) -> String {
        let mut stream = match connection.open_uni().await {
            Ok(stream) => stream,
            Err(error) => return error.to_string(),
        };
        if let Err(error) = stream.write_all(&[self.kind]).await {
            return error.to_string();
        }
        while let Some(bytes) = self.receiver.recv().await {
            self.waiting.fetch_sub(bytes.len(), Ordering::AcqRel);
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
            let written = async {
                stream.write_all(&length).await?;
                stream.write_all(&bytes).await
            };
            if let Err(error) = written.await {
                return error.to_string();
            }
        }
        // The link was dropped: the connection ends for another reason, which is told there.
        connection.closed().await.to_string()
    }
}

async fn receive(peer: PublicKey, connection: &Connection, events: &mpsc::Sender<NetEvent>) -> String {
    let read = async || match connection.accept_uni().await {
        Ok(stream) => receive_stream(peer, stream, events).await,
        Err(error) => Err(error.to_string()),
    };
    let (first, second) = (read(), read());
    let reason = tokio::select! {
        ended = first => ended,
        ended = second => ended,
    };
    match reason {
        Ok(malformed) => {
            if events
                .send(NetEvent::Malformed(peer, malformed.clone()))
                .await
                .is_err()
            {
                tracing::debug!("the node stops");
            }
            malformed
        }
        // The connection's own word is the better one, where it is closed.
        Err(reason) => connection
            .close_reason()
            .map_or(reason, |closed| closed.to_string()),
    }
}

/// Reads messages until the stream ends (`Err`) or breaks the protocol (`Ok`, with how).
async fn receive_stream(
    peer: PublicKey,
    mut stream: RecvStream,
    events: &mpsc::Sender<NetEvent>,
) -> Result<String, String> {
    let mut kind = [0; 1];
    stream
        .read_exact(&mut kind)
        .await
        .map_err(|error| error.to_string())?;
    if !KINDS.contains(&kind[0]) {
        return Ok(format!("a stream of kind {}, which is none", kind[0]));
    }
    loop {
        let mut length = [0; 4];
        stream
            .read_exact(&mut length)
            .await
            .map_err(|error| error.to_string())?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_PEER_MESSAGE_BYTES {
            return Ok(format!(
                "a message of {length} bytes, at most {MAX_PEER_MESSAGE_BYTES} are allowed"
            ));
        }
        let bytes = match read_frame(&mut stream, length).await {
            Ok(bytes) => bytes,
            Err(error) => return Err(error),
        };
        match decode::<Message>(&bytes) {
            Ok(message) => {
                // A full channel holds up this peer alone.
                let delivered = events.send(NetEvent::Message(peer, message)).await;
                delivered.or(Err("the node stops".to_owned()))?;
            }
            Err(error) => return Ok(error.to_string()),
        }
    }
}

/// Memory is taken as bytes arrive, not as a length promises them.
async fn read_frame(stream: &mut RecvStream, length: usize) -> Result<Vec<u8>, String> {
    const STEP: usize = 65_536;
    let mut bytes = Vec::with_capacity(length.min(STEP));
    while bytes.len() < length {
        let from = bytes.len();
        bytes.resize(length.min(from.saturating_add(STEP)), 0);
        let rest = bytes.get_mut(from..).unwrap_or_default();
        stream.read_exact(rest).await.map_err(|error| error.to_string())?;
    }
    Ok(bytes)
}
