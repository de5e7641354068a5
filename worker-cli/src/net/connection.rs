//! One connection: two streams each way, of framed messages, with queues bounded by bytes.

use super::NetEvent;
use super::frame::{FrameError, hello, read_hello, read_kind, read_message, write_frame};
use block_chain_common::hash::ChainId;
use block_chain_common::keys::PublicKey;
use bytes::Bytes;
use iroh::endpoint::{Connection, RecvStream, SendStream, VarInt};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::mpsc;

/// Bytes that wait to be sent to a peer: small messages, and bulk (eight of the largest blocks).
const QUEUED_BYTES: [usize; 2] = [1_048_576, 64 * 1_048_576];
/// The first byte of a stream says what it carries: small messages, or bulk. The first one opens first.
const KINDS: [u8; 2] = [0, 1];
/// What a connection is closed with.
const CLOSED: VarInt = VarInt::from_u32(1);
/// A reason longer than this is cut: it has to fit into one packet.
const MAX_REASON_BYTES: usize = 200;

#[derive(Clone)]
struct Queue {
    sender: mpsc::UnboundedSender<Bytes>,
    waiting: Arc<AtomicUsize>,
    limit: usize,
}

struct Outgoing {
    receiver: mpsc::UnboundedReceiver<Bytes>,
    waiting: Arc<AtomicUsize>,
}

/// The sending side of a connection.
pub(super) struct Link {
    connection: Connection,
    queues: [Queue; 2],
    closed_for: Arc<OnceLock<String>>,
    /// Whether the side with the smaller key dialled it.
    is_preferred: bool,
}

impl Link {
    /// Whether what is sent goes through a relay.
    pub(super) fn is_relayed(&self) -> bool {
        self.connection
            .paths()
            .iter()
            .any(|path| path.is_selected() && path.is_relay())
    }
}

/// What runs a connection.
pub(super) struct Streams {
    connection: Connection,
    closed_for: Arc<OnceLock<String>>,
    outgoing: [Outgoing; 2],
    control: (SendStream, RecvStream),
}

/// Closes a connection, and tells the other side why.
pub(super) fn close(connection: &Connection, reason: &str) {
    let reason = reason.as_bytes();
    connection.close(CLOSED, reason.get(..MAX_REASON_BYTES).unwrap_or(reason));
}

/// Opens the control stream, and exchanges hellos.
pub(super) async fn greet(
    connection: Connection,
    chain: ChainId,
    is_preferred: bool,
) -> Result<(Link, Streams), FrameError> {
    let say = async {
        let mut stream = connection.open_uni().await.map_err(std::io::Error::from)?;
        write_all(&mut stream, &KINDS[..1]).await?;
        write_frame(&mut stream, hello(&chain)).await?;
        Ok(stream)
    };
    let hear = async {
        let mut stream = connection.accept_uni().await.map_err(std::io::Error::from)?;
        read_kind(&mut stream, KINDS[0]).await?;
        read_hello(&mut stream, chain).await?;
        Ok::<_, FrameError>(stream)
    };
    let control = tokio::try_join!(say, hear)?;
    let [(first, first_out), (second, second_out)] = QUEUED_BYTES.map(queue);
    let closed_for = Arc::new(OnceLock::new());
    let link = Link {
        connection: connection.clone(),
        queues: [first, second],
        closed_for: Arc::clone(&closed_for),
        is_preferred,
    };
    let streams = Streams {
        connection,
        closed_for,
        outgoing: [first_out, second_out],
        control,
    };
    Ok((link, streams))
}

fn queue(limit: usize) -> (Queue, Outgoing) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let queue = Queue {
        sender,
        waiting: Arc::clone(&waiting),
        limit,
    };
    (queue, Outgoing { receiver, waiting })
}

async fn write_all(stream: &mut SendStream, bytes: &[u8]) -> std::io::Result<()> {
    Ok(stream.write_all(bytes).await?)
}

impl Queue {
    fn push(&self, bytes: &Bytes) -> bool {
        let before = self.waiting.fetch_add(bytes.len(), Ordering::AcqRel);
        let fits = before.saturating_add(bytes.len()) <= self.limit;
        // An empty queue takes any message, since none is longer than the limit of a message.
        if (before == 0 || fits) && self.sender.send(bytes.clone()).is_ok() {
            return true;
        }
        self.waiting.fetch_sub(bytes.len(), Ordering::AcqRel);
        false
    }
}

impl Link {
    pub(super) fn id(&self) -> usize {
        self.connection.stable_id()
    }

    /// Whether a newer connection to the same peer takes this one's place. Both sides judge alike, so one stays.
    pub(super) const fn yields_to(&self, newer: &Self) -> bool {
        newer.is_preferred || !self.is_preferred
    }

    /// Whether the side with the smaller key dialled it.
    #[cfg(test)]
    pub(super) const fn is_preferred(&self) -> bool {
        self.is_preferred
    }

    pub(super) fn close(&self, reason: &str) {
        self.closed_for.get_or_init(|| reason.to_owned());
        close(&self.connection, reason);
    }

    /// Whether there was room.
    pub(super) fn queue(&self, is_bulk: bool, bytes: &Bytes) -> bool {
        let [control, bulk] = &self.queues;
        if is_bulk {
            bulk.push(bytes)
        } else {
            control.push(bytes)
        }
    }
}

impl Streams {
    /// Until either side ends it; says why.
    pub(super) async fn run(self, peer: PublicKey, events: &mpsc::Sender<NetEvent>) -> String {
        let connection = self.connection;
        let [control, bulk] = self.outgoing;
        let (say, hear) = self.control;
        let ended = tokio::select! {
            ended = control.send(say) => ended,
            ended = send_bulk(&connection, bulk) => ended,
            ended = receive(peer, hear, events) => ended,
            ended = receive_bulk(peer, &connection, events) => ended,
            ended = connection.closed() => FrameError::Ended(ended.into()),
        };
        if ended.is_malformed() {
            let reason = ended.to_string();
            close(&connection, &reason);
            if events.send(NetEvent::Malformed(peer, reason)).await.is_err() {
                tracing::debug!("the node stops");
            }
        }
        // Who closed it knows best why; else the connection's own word is better than the stream's.
        match (self.closed_for.get(), connection.close_reason()) {
            (Some(reason), _) => reason.clone(),
            (None, Some(reason)) if !ended.is_malformed() => reason.to_string(),
            _ => {
                close(&connection, "a stream ended");
                ended.to_string()
            }
        }
    }
}

impl Outgoing {
    async fn send(mut self, mut stream: SendStream) -> FrameError {
        while let Some(bytes) = self.receiver.recv().await {
            self.waiting.fetch_sub(bytes.len(), Ordering::AcqRel);
            if let Err(error) = write_frame(&mut stream, bytes).await {
                return error.into();
            }
        }
        // The link was dropped: the connection ends for another reason, which is told there.
        std::future::pending().await
    }
}

async fn send_bulk(connection: &Connection, outgoing: Outgoing) -> FrameError {
    let mut stream = match connection.open_uni().await {
        Ok(stream) => stream,
        Err(error) => return FrameError::Ended(error.into()),
    };
    match write_all(&mut stream, &KINDS[1..]).await {
        Ok(()) => outgoing.send(stream).await,
        Err(error) => error.into(),
    }
}

async fn receive_bulk(
    peer: PublicKey,
    connection: &Connection,
    events: &mpsc::Sender<NetEvent>,
) -> FrameError {
    let mut stream = match connection.accept_uni().await {
        Ok(stream) => stream,
        Err(error) => return FrameError::Ended(error.into()),
    };
    match read_kind(&mut stream, KINDS[1]).await {
        Ok(()) => receive(peer, stream, events).await,
        Err(error) => error,
    }
}

async fn receive(peer: PublicKey, mut stream: RecvStream, events: &mpsc::Sender<NetEvent>) -> FrameError {
    loop {
        match read_message(&mut stream).await {
            // A full channel holds up this peer alone.
            Ok(message) => {
                if events.send(NetEvent::Message(peer, message)).await.is_err() {
                    return FrameError::Ended(std::io::Error::other("the node stops"));
                }
            }
            Err(error) => return error,
        }
    }
}
