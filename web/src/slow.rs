//! Clients that send slowly: a body that does not come in its time ends the request.

use actix_web::HttpMessage as _;
use actix_web::dev::{Payload, ServiceRequest};
use actix_web::error::PayloadError;
use futures_util::{StreamExt as _, stream};
use std::io;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long a body of 16 MiB may take: a line of 5 Mbit/s is fast enough.
pub const BODY: Duration = Duration::from_secs(30);
/// How long the head of a request may take.
pub const HEAD: Duration = Duration::from_secs(5);
/// Connections of each of a program's threads that serve.
pub const CONNECTIONS: usize = 2_048;

/// Gives the body of a request until then.
pub fn bounded(request: &mut ServiceRequest, within: Duration) {
    let length = request.headers().get("content-length");
    let has_body = length.is_some_and(|length| length.as_bytes() != b"0")
        || request.headers().contains_key("transfer-encoding");
    if !has_body {
        return;
    }
    let deadline = Instant::now() + within;
    let body = stream::unfold(request.take_payload(), move |mut body| async move {
        match timeout_at(deadline, body.next()).await {
            Ok(part) => part.map(|part| (part, body)),
            Err(_) => {
                let late = format!("the body did not come within {} s", within.as_secs());
                let error = io::Error::new(io::ErrorKind::TimedOut, late);
                Some((Err(PayloadError::Io(error)), Payload::None))
            }
        }
    });
    let body: Payload = Payload::Stream {
        payload: body.boxed_local(),
    };
    request.set_payload(body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;
    use actix_web::web::Bytes;

    #[actix_web::test]
    async fn half_a_body_is_not_waited_for() {
        let within = Duration::from_millis(50);
        let mut request = TestRequest::post()
            .insert_header(("content-length", "10"))
            .to_srv_request();
        let half = stream::once(async { Ok(Bytes::from_static(b"half")) });
        let never = half.chain(stream::pending());
        request.set_payload(Payload::Stream {
            payload: never.boxed_local(),
        });
        bounded(&mut request, within);
        let (mut body, began) = (request.take_payload(), Instant::now());
        assert_eq!(body.next().await.unwrap().unwrap(), "half");
        let error = body.next().await.unwrap().unwrap_err().to_string();
        assert!(error.contains("the body did not come within"), "{error}");
        assert!(began.elapsed() >= within);
        assert!(body.next().await.is_none(), "that is its end");
    }

    #[actix_web::test]
    async fn a_body_that_comes_in_time_is_whole() {
        let mut request = TestRequest::post().set_payload("a body").to_srv_request();
        bounded(&mut request, BODY);
        let parts: Vec<_> = request.take_payload().collect().await;
        let bytes: Vec<u8> = parts
            .into_iter()
            .flat_map(|part| part.unwrap().to_vec())
            .collect();
        assert_eq!(bytes, b"a body");
    }
}
