//! Answers that may be long, in pieces as they are read: nothing of them is in memory whole.
//!
//! Each is written on a thread of its own, which waits for a client that reads slowly. So that such clients do not take all
//! threads there are, so many are written at a time, and one whose client takes nothing for a while ends.

use super::ApiState;
use super::error::ApiError;
use crate::node::RequestError;
use crate::storage::StorageError;
use actix_web::HttpResponse;
use actix_web::web::Bytes;
use futures_util::{Stream, stream};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Long answers that are written at a time: each has a thread, and half a megabyte that waits for its client.
pub(super) const MAX_STREAMS: usize = 64;
/// How long a client may take nothing: with 64 KiB in it, a line of 20 kbit/s is fast enough.
const STALLED: Duration = Duration::from_secs(30);
/// Pieces that are ready before the client takes them.
const AHEAD: usize = 4;
/// A piece is sent when it has this many bytes; what is written at a time may make it longer.
const PIECE_BYTES: usize = 64 * 1_024;

/// Why a stream ends before its end.
pub(super) enum Ended {
    /// The client does not read on.
    Gone,
    Failed(ApiError),
}

impl From<StorageError> for Ended {
    fn from(error: StorageError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<serde_json::Error> for Ended {
    fn from(error: serde_json::Error) -> Self {
        Self::Failed(ApiError::Conflict(error.to_string()))
    }
}

/// A piece, or `None` after the last: a stream without that is not whole.
type Piece = Result<Option<Bytes>, ApiError>;

/// What is written to a client, piece by piece.
pub(super) struct Pieced {
    sender: mpsc::Sender<Piece>,
    /// What is written next.
    pub(super) piece: Vec<u8>,
}

impl Pieced {
    /// Sends the piece where it is long enough; waits where the client is slow.
    pub(super) fn flush_where_full(&mut self) -> Result<(), Ended> {
        if self.piece.len() < PIECE_BYTES {
            return Ok(());
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Ended> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        self.send(Ok(Some(Bytes::from(piece))))
    }

    fn send(&self, piece: Piece) -> Result<(), Ended> {
        // On a thread that may block; its runtime keeps the time meanwhile.
        let sent = Handle::current().block_on(self.sender.send_timeout(piece, STALLED));
        sent.or(Err(Ended::Gone))
    }
}

/// An answer that is written on a thread of its own.
///
/// # Errors
/// Where as many are written already as may be at a time.
pub(super) fn streaming(
    state: &ApiState,
    kind: &'static str,
    write: impl FnOnce(&mut Pieced) -> Result<(), Ended> + Send + 'static,
) -> Result<HttpResponse, ApiError> {
    let permit = Arc::clone(&state.interface.streams).try_acquire_owned();
    let permit = permit.or(Err(ApiError::Busy(format!(
        "{MAX_STREAMS} long answers are read already"
    ))))?;
    let (sender, receiver) = mpsc::channel::<Piece>(AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut out = Pieced {
            sender,
            piece: Vec::with_capacity(PIECE_BYTES),
        };
        let written = write(&mut out).and_then(|()| out.flush());
        let last = match written {
            Ok(()) => Ok(None),
            Err(Ended::Failed(error)) => {
                tracing::error!(%error, "a stream ends early");
                Err(error)
            }
            Err(Ended::Gone) => return,
        };
        if out.send(last).is_err() {
            tracing::debug!("nobody reads the stream any more");
        }
        drop(permit);
    });
    Ok(HttpResponse::Ok().content_type(kind).streaming(pieces(receiver)))
}

/// The pieces up to the last. Where the writer is gone before that, the connection breaks: that tells the client that this is
/// not the end.
fn pieces(receiver: mpsc::Receiver<Piece>) -> impl Stream<Item = Result<Bytes, ApiError>> {
    stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await.unwrap_or_else(|| {
            let seconds = STALLED.as_secs();
            Err(ApiError::Busy(format!(
                "the answer breaks off: nothing of it was read for {seconds} s"
            )))
        });
        Some((piece.transpose()?, receiver))
    })
}

/// A failure of what is asked for before anything is written.
impl From<RequestError> for Ended {
    fn from(error: RequestError) -> Self {
        Self::Failed(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt as _;

    #[tokio::test]
    async fn only_a_stream_with_an_end_is_whole() {
        for (is_whole, expected) in [(true, 1), (false, 2)] {
            let (sender, receiver) = mpsc::channel::<Piece>(AHEAD);
            sender.send(Ok(Some(Bytes::from_static(b"a")))).await.unwrap();
            if is_whole {
                sender.send(Ok(None)).await.unwrap();
            }
            drop(sender);
            let read: Vec<_> = pieces(receiver).take(2).collect().await;
            assert_eq!(read.len(), expected);
            assert_eq!(read.iter().all(Result::is_ok), is_whole);
        }
    }
}
