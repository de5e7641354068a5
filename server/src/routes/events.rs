//! Server-sent events: something happened, ask for the view again.

use super::State;
use crate::error::ServiceError;
use actix_web::web::{Bytes, Data};
use actix_web::{HttpResponse, get};
use block_chain_common::coordinator_api::{EVENTS_KEEP_ALIVE_MS, Event};
use futures_util::{Stream, stream};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, watch};

/// Streams that are open at a time: each keeps a connection and a place among the listeners.
pub(super) const MAX_LISTENERS: usize = 4_096;

/// Server-sent events: something happened on a chain, ask for its view again
///
/// Each `data:` is an `Event`. A listener that fell behind gets an event named `lagged`, with how many it missed; a silent
/// stream has a comment every five seconds, so that one whose server is gone can be told from one with nothing to say.
#[utoipa::path(
    tag = "chains",
    responses((status = 200, description = "events without end", body = String, content_type = "text/event-stream"), ServiceError)
)]
#[get("/v1/events")]
pub(super) async fn events(state: Data<State>) -> Result<HttpResponse, ServiceError> {
    let permit = Arc::clone(&state.listeners).try_acquire_owned();
    let permit = permit.or(Err(ServiceError::Busy(format!(
        "{MAX_LISTENERS} listen to events already"
    ))))?;
    let events = stream(state.service.subscribe(), state.stopping.clone(), permit);
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-cache"))
        .streaming(events))
}

fn stream(
    receiver: Receiver<Event>,
    stopping: watch::Receiver<bool>,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let start = (receiver, stopping, permit, true);
    stream::unfold(start, |(mut receiver, mut stopping, permit, first)| async move {
        let text = if first {
            ": listening\n\n".to_owned()
        } else {
            tokio::select! {
                received = receiver.recv() => match received {
                    Ok(event) => format!("data: {}\n\n", serde_json::to_string(&event).unwrap_or_default()),
                    // What was missed is made up for by asking for the view.
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

    fn permit() -> OwnedSemaphorePermit {
        let listeners = Arc::new(Semaphore::new(1));
        listeners.try_acquire_owned().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_that_fell_behind_is_told_and_a_silent_stream_lives() {
        let (sender, receiver) = broadcast::channel(2);
        let (stop, stopping) = watch::channel(false);
        let mut listened = pin!(stream(receiver, stopping, permit()));
        for size in 1..=5 {
            let chain = "main".to_owned();
            sender.send(Event::Final { chain, size }).unwrap();
        }
        let mut next = async || listened.next().await.map(|text| text.unwrap());
        assert_eq!(next().await.unwrap(), ": listening\n\n");
        assert_eq!(next().await.unwrap(), "event: lagged\ndata: {\"missed\":3}\n\n");
        for size in 4..=5 {
            let expected = format!("data: {{\"event\":\"final\",\"chain\":\"main\",\"size\":{size}}}\n\n");
            assert_eq!(next().await.unwrap(), expected);
        }
        assert_eq!(next().await.unwrap(), ": alive\n\n");
        stop.send_replace(true);
        assert_eq!(next().await, None);
    }
}
