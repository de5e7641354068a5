//! Server-sent events: something happened, ask for the view again.

use super::State;
use actix_web::HttpResponse;
use actix_web::web::{Bytes, Data};
use futures_util::stream;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// How often a silent stream shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) async fn stream(state: Data<State>) -> HttpResponse {
    let start = (state.service.subscribe(), state.stopping.clone(), true);
    let events = stream::unfold(start, |(mut receiver, mut stopping, first)| async move {
        if first {
            return Some((line(": listening\n\n".to_owned()), (receiver, stopping, false)));
        }
        let text = tokio::select! {
            received = receiver.recv() => match received {
                Ok(event) => format!("data: {}\n\n", serde_json::to_string(&event).unwrap_or_default()),
                // What was missed is made up for by asking for the view.
                Err(RecvError::Lagged(missed)) => format!("event: lagged\ndata: {{\"missed\":{missed}}}\n\n"),
                Err(RecvError::Closed) => return None,
            },
            () = tokio::time::sleep(KEEP_ALIVE) => ": alive\n\n".to_owned(),
            _ = stopping.changed() => return None,
        };
        Some((line(text), (receiver, stopping, false)))
    });
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-cache"))
        .streaming(events)
}

fn line(text: String) -> Result<Bytes, Infallible> {
    Ok(Bytes::from(text))
}
