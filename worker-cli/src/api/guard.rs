//! What every request passes: the host, the origin, the length, the cookie or the session; and is counted.
//!
//! A page elsewhere may have its name resolve to this machine, but its browser then sends that name as the host: only
//! addresses and `localhost` pass. On loopback the port must be this one too; beyond it, ports may be mapped.

use super::error::ApiError;
use super::{Interface, NamedChain, Reader, Trusted, pages};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderValue, X_CONTENT_TYPE_OPTIONS};
use actix_web::http::{Method, StatusCode, Uri};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{HttpMessage as _, HttpRequest};
use block_chain_common::limits::MAX_REQUEST_BYTES;
use block_chain_web::assets;
use block_chain_web::connections::close_where_too_many;
use block_chain_web::host::{is_for, stranger};
use block_chain_web::limit::is_guess;
use block_chain_web::page::for_people;
use block_chain_web::session::{bearer, is_same_origin, reads};
use block_chain_web::slow;
use std::net::IpAddr;
use std::time::Instant;
use tracing::Instrument as _;

/// Begins the path of a request to another chain than the home chain.
const CHAIN_PREFIX: &str = "/chains/";

/// The cookie for what changes something, the host for everything.
pub(super) async fn guard(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    name_chain(&mut request);
    let Some(state) = request.app_data::<Data<Interface>>().cloned() else {
        return Ok(next.call(request).await?.map_into_boxed_body());
    };
    if state
        .sessions
        .allows(request.method(), request.headers(), Instant::now())
    {
        request.extensions_mut().insert(Trusted);
    }
    slow::bounded(&mut request, slow::BODY);
    let stranger = stranger(request.peer_addr(), request.headers());
    let is_trusted = request.extensions().get::<Trusted>().is_some();
    if is_trusted || stranger.is_none() || state.is_open {
        request.extensions_mut().insert(Reader);
    }
    let admitted = stranger.map_or(Ok(false), |address| admit(&request, &state, address));
    let is_judged = matches!(admitted, Ok(true));
    let refused = match admitted {
        Err(error) => Some(error),
        Ok(_) => refusal(&request, &state),
    };
    let response = match refused {
        Some(error) => request.error_response(error).map_into_boxed_body(),
        None => {
            let span = tracing::info_span!("request", method = %request.method(), path = request.path());
            next.call(request).instrument(span).await?.map_into_boxed_body()
        }
    };
    let mut response = for_people(response, refusal_page);
    response
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let is_wrong = matches!(
        response.status(),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
    );
    if let Some(address) = stranger.filter(|_| is_judged && !is_wrong) {
        state.limiter.pardon(address, Instant::now());
    }
    close_where_too_many(response.response_mut());
    let route = response.request().match_pattern();
    state
        .metrics
        .answered(route.as_deref().unwrap_or("none"), response.status().as_u16());
    Ok(response)
}

/// Whether a stranger may ask now; gives whether a guess was paid for: who shows the cookie makes none.
fn admit(request: &ServiceRequest, state: &Interface, address: IpAddr) -> Result<bool, ApiError> {
    let now = Instant::now();
    let too_fast = |seconds| ApiError::TooFast { seconds };
    state.limiter.ask(address, now).map_err(too_fast)?;
    let is_trusted = request.extensions().get::<Trusted>().is_some();
    if is_trusted || !(signs_in(request) || bearer(request.headers()).is_some_and(is_guess)) {
        return Ok(false);
    }
    state.limiter.judge(address, now).map_err(too_fast)?;
    Ok(true)
}

fn signs_in(request: &ServiceRequest) -> bool {
    request.path() == "/v1/session" && request.method() == Method::POST
}

/// A refusal as a page of the chain that was asked for.
fn refusal_page(error: &ApiError, request: &HttpRequest) -> Option<String> {
    // Who may not read is told nothing of a chain, not even whether it is here.
    if request.extensions().get::<Reader>().is_none() {
        return pages::bare_refusal(error);
    }
    let named = request.extensions().get::<NamedChain>().cloned();
    let base = named.map_or_else(|| "/".to_owned(), |NamedChain(name)| format!("/chains/{name}/"));
    pages::refusal(error, base)
}

/// Takes the chain's name off the path, so that every route is there for every chain.
fn name_chain(request: &mut ServiceRequest) {
    let uri = request.uri().clone();
    let Some(named) = uri.path().strip_prefix(CHAIN_PREFIX) else {
        return;
    };
    let (name, path) = match named.find('/') {
        Some(end) => named.split_at(end),
        None => (named, "/"),
    };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    // A path within a path: the router's own parts are put together again, so this is one.
    let Ok(path_and_query) = format!("{path}{query}").parse() else {
        return;
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path_and_query);
    if let Ok(uri) = Uri::from_parts(parts) {
        request.extensions_mut().insert(NamedChain(name.to_owned()));
        request.match_info_mut().get_mut().update(&uri);
        request.head_mut().uri = uri;
    }
}

/// What everybody may read, of no chain in particular: it shows nothing of one.
const OPEN: [&str; 5] = ["/healthz", "/readyz", "/login", "/openapi.json", "/docs"];

fn refusal(request: &ServiceRequest, state: &Interface) -> Option<ApiError> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    if !state.any_name && !is_for(request.headers(), state.address) {
        return Some(ApiError::WrongHost);
    }
    let is_trusted = request.extensions().get::<Trusted>().is_some();
    if reads(request.method()) {
        let path = request.path();
        let is_open = OPEN.contains(&path) || path.starts_with(assets::PREFIX) || path.starts_with("/docs/");
        let asked = request.extensions();
        let may_read = asked.get::<Reader>().is_some() || (is_open && asked.get::<NamedChain>().is_none());
        return (!may_read).then_some(ApiError::Forbidden);
    }
    // A browser says which page asks; signing in is for the own pages alone too.
    let elsewhere = header("origin").is_some() && !is_same_origin(request.headers());
    if elsewhere || (!signs_in(request) && !is_trusted) {
        return Some(if elsewhere {
            ApiError::WrongOrigin
        } else {
            ApiError::Forbidden
        });
    }
    let length = header("content-length").and_then(|length| length.parse::<usize>().ok());
    length
        .filter(|length| *length > MAX_REQUEST_BYTES)
        .map(|_| ApiError::TooLarge)
}
