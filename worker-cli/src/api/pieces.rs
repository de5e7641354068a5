//! Answers that may be long, in pieces as they are read: nothing of them is in memory whole.

use super::error::ApiError;
use crate::node::RequestError;
use crate::storage::StorageError;
use actix_web::HttpResponse;
use actix_web::web::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;

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

/// What is written to a client, piece by piece.
pub(super) struct Pieced {
    sender: mpsc::Sender<Result<Bytes, ApiError>>,
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
        self.sender
            .blocking_send(Ok(Bytes::from(piece)))
            .or(Err(Ended::Gone))
    }
}

/// An answer that is written on a thread of its own.
pub(super) fn streaming(
    kind: &'static str,
    write: impl FnOnce(&mut Pieced) -> Result<(), Ended> + Send + 'static,
) -> HttpResponse {
    let (sender, receiver) = mpsc::channel::<Result<Bytes, ApiError>>(AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut out = Pieced {
            sender,
            piece: Vec::with_capacity(PIECE_BYTES),
        };
        match write(&mut out).and_then(|()| out.flush()) {
            Ok(()) | Err(Ended::Gone) => {}
            // The broken stream tells the client that this is not the end.
            Err(Ended::Failed(error)) => {
                tracing::error!(%error, "a stream ends early");
                if out.sender.blocking_send(Err(error)).is_err() {
                    tracing::debug!("nobody reads the stream any more");
                }
            }
        }
    });
    let pieces = stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    });
    HttpResponse::Ok().content_type(kind).streaming(pieces)
}

/// A failure of what is asked for before anything is written.
impl From<RequestError> for Ended {
    fn from(error: RequestError) -> Self {
        Self::Failed(error.into())
    }
}
