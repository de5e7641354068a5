//! What every request passes: for which host it is, who asks, and from where; and is counted.
//!
//! On loopback without a certificate of its own, the server is asked by an address or as `localhost` alone, so that no web
//! page elsewhere reaches it through a browser. Beyond, whoever asks by a name or through a proxy is a stranger like others.
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
use block_chain_web::connections::close_where_too_many;
use block_chain_web::host::{is_for, is_passed_on, stranger};
use block_chain_web::limit::is_guess;
use block_chain_web::page::for_people;
use block_chain_web::session::{bearer, is_same_origin, reads};
use block_chain_web::slow;
use std::net::IpAddr;
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

/// What a worker asks for to register.
const REGISTER: [&str; 2] = ["/v1/challenges", "/v1/workers"];
/// Where a secret is in the body: the operator's word, a join token.
const JUDGE: [&str; 2] = ["/v1/session", "/v1/workers"];

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
    let stranger = stranger(request.peer_addr(), request.headers());
    let admitted = match stranger {
        Some(address) => admit(&request, &state, address).await,
        None => Ok(false),
    };
    let is_judged = matches!(admitted, Ok(true));
    let refused = match admitted {
        Err(error) => Some(error),
        Ok(_) => refusal(&request, &state, stranger.is_some()).await,
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
    let is_wrong = matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    if let Some(address) = stranger.filter(|_| is_judged && !is_wrong) {
        state.limiter.pardon(address, Instant::now());
    }
    close_where_too_many(answer.response_mut());
    let nosniff = HeaderValue::from_static("nosniff");
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, nosniff);
    let route = answer.request().match_pattern();
    state
        .metrics
        .answered(route.as_deref(), answer.status().as_u16(), refused);
    Ok(answer)
}

/// Whether a stranger may ask now; gives whether a guess was paid for.
async fn admit(request: &ServiceRequest, state: &Data<State>, address: IpAddr) -> Result<bool, ServiceError> {
    let now = Instant::now();
    let too_fast = |seconds| ServiceError::TooFast { seconds };
    state.limiter.ask(address, now).map_err(too_fast)?;
    let in_body = JUDGE.contains(&request.path()) && !reads(request.method());
    let is_operator = request.extensions().get::<Operator>().is_some();
    if is_operator || !(in_body || bearer(request.headers()).is_some_and(is_guess)) {
        return Ok(false);
    }
    match state.limiter.judge(address, now) {
        Ok(()) => Ok(true),
        // It is others at its address who have guessed.
        Err(_) if !in_body && is_worker(request, state).await.is_ok() => Ok(false),
        Err(seconds) => Err(too_fast(seconds)),
    }
}

/// Whether a request shows the token of a worker.
async fn is_worker(request: &ServiceRequest, state: &Data<State>) -> Result<(), ServiceError> {
    let token = bearer(request.headers())
        .ok_or(ServiceError::Stranger)?
        .to_owned();
    let service = Arc::clone(&state.service);
    let known = web::block(move || service.authenticate(None, Some(&token))).await;
    match known {
        Ok(Ok(_)) => Ok(()),
        // A worker acts on each of these: one whose token is over registers again.
        Ok(Err(
            error @ (ServiceError::Store(_)
            | ServiceError::Banned { .. }
            | ServiceError::WorkerToken("wrong")),
        )) => Err(error),
        _ => Err(ServiceError::Stranger),
    }
}

async fn refusal(request: &ServiceRequest, state: &Data<State>, is_stranger: bool) -> Option<ServiceError> {
    let access = &state.access;
    let any_name = access.any_name || !access.address.ip().is_loopback();
    if !any_name && !is_for(request.headers(), access.address) {
        return Some(ServiceError::WrongHost);
    }
    if !reads(request.method())
        && request.headers().contains_key(ORIGIN)
        && !is_same_origin(request.headers())
    {
        return Some(ServiceError::WrongOrigin);
    }
    let path = request.path();
    let is_open = OPEN.contains(&path) || path.starts_with(assets::PREFIX) || path.starts_with("/docs/");
    let is_operator = request.extensions().get::<Operator>().is_some();
    // Nobody is asked for a token where only this machine was to reach it; a proxy has everybody reach it.
    let is_here_only = access.is_here_only && is_passed_on(request.headers());
    let is_open = is_open && !(is_here_only && REGISTER.contains(&path));
    if !(state.service.asks_for_token() || is_here_only) || !is_stranger || is_open || is_operator {
        return None;
    }
    match is_worker(request, state).await {
        Err(ServiceError::Stranger) if is_here_only => Some(ServiceError::HereOnly),
        known => known.err(),
    }
}
