//! What machines ask of every service: health, and events as they come.

use super::error::ApiError;
use super::types::{Health, Readiness};
use super::{ApiState, MAX_LISTENERS};
use crate::node::NodeEvent;
use actix_web::web::{Bytes, Json};
use actix_web::{HttpResponse, get};
use block_chain_common::coordinator_api::EVENTS_KEEP_ALIVE_MS;
use futures_util::{Stream, stream};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, watch};

/// The process is up
#[utoipa::path(tag = "service", responses((status = 200, description = "it is", body = Health)))]
#[get("/healthz")]
pub(super) async fn healthz() -> Json<Health> {
    Json(Health {
        status: "ok",
        service: "block-chain-worker",
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// Whether the node is of use to others: it has what its peers have
#[utoipa::path(
    tag = "service",
    responses(
        (status = 200, description = "it is", body = Readiness),
        (status = 503, description = "it catches up", body = Readiness)
    )
)]
#[get("/readyz")]
pub(super) async fn readyz(state: ApiState) -> HttpResponse {
    let status = state.node.status();
    let (height, syncing_to) = (status.height, status.syncing_to);
    let (mut answer, status) = match syncing_to {
        None => (HttpResponse::Ok(), "ready"),
        Some(_) => (HttpResponse::ServiceUnavailable(), "syncing"),
    };
    // Whoever may not read is told that alone.
    answer.json(Readiness {
        status,
        height: state.may_read.then_some(height),
        syncing_to: syncing_to.filter(|_| state.may_read),
    })
}

/// Server-sent events: something happened, ask again for what is shown
///
/// A listener that fell behind gets an event named `lagged`, with how many it missed; a silent stream has a comment every
/// five seconds.
#[utoipa::path(
    tag = "service",
    responses((status = 200, description = "events without end", body = String, content_type = "text/event-stream"), ApiError)
)]
#[get("/v1/events")]
pub(super) async fn listen(state: ApiState) -> Result<HttpResponse, ApiError> {
    let permit = Arc::clone(&state.interface.listeners).try_acquire_owned();
    let permit = permit.or(Err(ApiError::Busy(format!(
        "{MAX_LISTENERS} listen to events already"
    ))))?;
    let events = stream(state.node.subscribe(), state.interface.stopping.clone(), permit);
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-cache"))
        .streaming(events))
}

fn stream(
    receiver: Receiver<NodeEvent>,
    stopping: watch::Receiver<bool>,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let start = (receiver, stopping, permit, true);
    stream::unfold(start, |(mut receiver, mut stopping, permit, first)| async move {
        let text = if first {
            // A browser counts as connected from the first byte on.
            ": listening\n\n".to_owned()
        } else {
            tokio::select! {
                received = receiver.recv() => match received {
                    Ok(event) => format!("data: {}\n\n", serde_json::to_string(&event).unwrap_or_default()),
                    Err(RecvError::Lagged(missed)) => format!("event: lagged\ndata: {{\"missed\":{missed}}}\n\n"),
                    Err(RecvError::Closed) => return None,
                },
                () = tokio::time::sleep(Duration::from_millis(EVENTS_KEEP_ALIVE_MS)) => ": alive\n\n".to_owned(),
                _ = stopping.changed() => return None,
            }
        };
        Some((Ok(Bytes::from(text)), (receiver, stopping, permit, false)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt as _;
    use std::pin::pin;
    use tokio::sync::{Semaphore, broadcast};

    #[tokio::test(start_paused = true)]
    async fn a_listener_that_fell_behind_is_told_and_a_silent_stream_lives() {
        let (sender, receiver) = broadcast::channel(2);
        let (stop, stopping) = watch::channel(false);
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let mut listened = pin!(stream(receiver, stopping, permit));
        for size in 1..=5 {
            sender.send(NodeEvent::Committed { size }).unwrap();
        }
        let mut next = async || listened.next().await.map(|text| text.unwrap());
        assert_eq!(next().await.unwrap(), ": listening\n\n");
        assert_eq!(next().await.unwrap(), "event: lagged\ndata: {\"missed\":3}\n\n");
        for size in 4..=5 {
            let expected = format!("data: {{\"event\":\"committed\",\"size\":{size}}}\n\n");
            assert_eq!(next().await.unwrap(), expected);
        }
        assert_eq!(next().await.unwrap(), ": alive\n\n");
        stop.send_replace(true);
        assert_eq!(next().await, None);
    }
}
