//! What every request passes: who asks, and from where; and is counted.
//!
//! The operator's word is in `api.cookie` in the data directory; a browser signs in with it once. Where workers must show a
//! join token, strangers read nothing either: only this machine, workers and the operator do. Signing in, registering and
//! what says that the server lives are for everybody.

use super::{State, pages};
use crate::error::{Refused, ServiceError};
use actix_web::HttpMessage as _;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use actix_web::middleware::Next;
use actix_web::web::{self, Data};
use block_chain_web::assets;
use block_chain_web::limit::stranger;
use block_chain_web::page::for_people;
use block_chain_web::session::{bearer, is_same_origin, reads};
use block_chain_web::slow;
use std::sync::Arc;
use std::time::Instant;
use tracing::Instrument as _;

/// What everybody may ask for: each shows nothing of the network, or asks for a token of its own.
const OPEN: [&str; 8] = [
    "/healthz",
    "/readyz",
    "/login",
    "/openapi.json",
    "/docs",
    "/v1/session",
    "/v1/challenges",
    "/v1/workers",
];

/// On a request of the operator.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operator;

/// Who asks, whether they may, and how it was answered.
pub(super) async fn guard(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let Some(state) = request.app_data::<Data<State>>().cloned() else {
        return Ok(next.call(request).await?.map_into_boxed_body());
    };
    let sessions = &state.access.sessions;
    if sessions.allows(request.method(), request.headers(), Instant::now()) {
        request.extensions_mut().insert(Operator);
    }
    slow::bounded(&mut request, slow::BODY);
    let stranger = stranger(request.peer_addr());
    let limited = stranger.and_then(|address| state.limiter.ask(address, Instant::now()).err());
    let refused = match limited {
        Some(seconds) => Some(ServiceError::TooFast { seconds }),
        None => refusal(&request, &state, stranger.is_some()).await,
    };
    let answer = match refused {
        Some(error) => request.error_response(error).map_into_boxed_body(),
        None => {
            let span = tracing::info_span!("request", method = %request.method(), path = request.path());
            next.call(request).instrument(span).await?.map_into_boxed_body()
        }
    };
    let refused = answer.response().extensions().get::<Refused>().copied();
    let mut answer = for_people(answer, |error: &ServiceError, _| pages::refusal(error));
    if let Some(address) = stranger
        .filter(|_| answer.status() == StatusCode::UNAUTHORIZED || answer.status() == StatusCode::FORBIDDEN)
    {
        state.limiter.refused(address, Instant::now());
    }
    let nosniff = HeaderValue::from_static("nosniff");
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, nosniff);
    let route = answer.request().match_pattern();
    state
        .metrics
        .answered(route.as_deref(), answer.status().as_u16(), refused);
    Ok(answer)
}

async fn refusal(request: &ServiceRequest, state: &Data<State>, is_stranger: bool) -> Option<ServiceError> {
    if !reads(request.method())
        && request.headers().contains_key(ORIGIN)
        && !is_same_origin(request.headers())
    {
        return Some(ServiceError::WrongOrigin);
    }
    let path = request.path();
    let is_open = OPEN.contains(&path) || path.starts_with(assets::PREFIX) || path.starts_with("/docs/");
    let is_operator = request.extensions().get::<Operator>().is_some();
    if !state.service.asks_for_token() || !is_stranger || is_open || is_operator {
        return None;
    }
    let Some(token) = bearer(request.headers()).map(str::to_owned) else {
        return Some(ServiceError::Stranger);
    };
    let service = Arc::clone(&state.service);
    let known = web::block(move || service.authenticate(None, Some(&token))).await;
    match known {
        Ok(Ok(_)) => None,
        Ok(Err(error @ ServiceError::Store(_))) => Some(error),
        _ => Some(ServiceError::Stranger),
    }
}
