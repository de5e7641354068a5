//! What every request passes: the host, the origin, the length, the cookie or the session; and is counted.
//!
//! A page elsewhere may have its name resolve to this machine, but its browser then sends that name as the host: only
//! addresses and `localhost` pass. On loopback the port must be this one too; beyond it, ports may be mapped.

use super::error::ApiError;
use super::{Interface, NamedChain, Trusted, pages};
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderValue, X_CONTENT_TYPE_OPTIONS};
use actix_web::http::{Method, StatusCode, Uri};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{HttpMessage as _, HttpRequest};
use block_chain_common::limits::MAX_REQUEST_BYTES;
use block_chain_web::assets;
use block_chain_web::limit::stranger;
use block_chain_web::page::for_people;
use block_chain_web::session::{is_same_origin, reads};
use block_chain_web::slow;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;
use tracing::Instrument as _;

/// Begins the path of a request to another chain than the home chain.
const CHAIN_PREFIX: &str = "/chains/";

/// The cookie for what changes something, the host for everything.
pub(super) async fn guard(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    name_chain(&mut request);
    let state = request.app_data::<Data<Interface>>().cloned();
    let allows = |state: &Data<Interface>| {
        let sessions = &state.sessions;
        sessions.allows(request.method(), request.headers(), Instant::now())
    };
    if state.as_ref().is_some_and(allows) {
        request.extensions_mut().insert(Trusted);
    }
    slow::bounded(&mut request, slow::BODY);
    let stranger = stranger(request.peer_addr());
    let refused = state.as_ref().and_then(|state| {
        let limited = stranger.and_then(|address| state.limiter.ask(address, Instant::now()).err());
        match limited {
            Some(seconds) => Some(ApiError::TooFast { seconds }),
            None => refusal(&request, state, stranger.is_some()),
        }
    });
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
    if let (Some(state), Some(address)) = (&state, stranger)
        && matches!(
            response.status(),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        )
    {
        state.limiter.refused(address, Instant::now());
    }
    if let Some(state) = state {
        let route = response.request().match_pattern();
        state
            .metrics
            .answered(route.as_deref().unwrap_or("none"), response.status().as_u16());
    }
    Ok(response)
}

/// A refusal as a page of the chain that was asked for.
fn refusal_page(error: &ApiError, request: &HttpRequest) -> Option<String> {
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

/// What everybody may read: it shows nothing of the chain.
const OPEN: [&str; 5] = ["/healthz", "/readyz", "/login", "/openapi.json", "/docs"];

fn refusal(request: &ServiceRequest, state: &Interface, is_stranger: bool) -> Option<ApiError> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    if !state.any_name && !header("host").is_some_and(|host| is_ours(host, state.address)) {
        return Some(ApiError::WrongHost);
    }
    let is_trusted = request.extensions().get::<Trusted>().is_some();
    if reads(request.method()) {
        let path = request.path();
        let is_open = OPEN.contains(&path) || path.starts_with(assets::PREFIX) || path.starts_with("/docs/");
        let may_read = is_trusted || !is_stranger || state.is_open || is_open;
        return (!may_read).then_some(ApiError::Forbidden);
    }
    // A browser says which page asks; signing in is for the own pages alone too.
    let elsewhere = header("origin").is_some() && !is_same_origin(request.headers());
    let signs_in = request.path() == "/v1/session" && request.method() == Method::POST;
    if elsewhere || (!signs_in && !is_trusted) {
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

/// Whether a `Host` header names this node by an address or as `localhost`.
fn is_ours(host: &str, address: SocketAddr) -> bool {
    // A colon within brackets is the address's own.
    let (name, port) = match host.rsplit_once(':').filter(|_| !host.ends_with(']')) {
        Some((name, port)) => match port.parse::<u16>() {
            Ok(port) => (name, Some(port)),
            Err(_) => return false,
        },
        None => (host, None),
    };
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    let named = bare.parse::<IpAddr>().ok();
    if !address.ip().is_loopback() {
        return named.is_some() || name.eq_ignore_ascii_case("localhost");
    }
    let here = named.map_or(name.eq_ignore_ascii_case("localhost"), |ip| ip.is_loopback());
    here && port == Some(address.port())
}

#[cfg(test)]
mod tests {
    use super::is_ours;
    use std::net::SocketAddr;

    #[test]
    fn only_addresses_and_localhost_are_this_node() {
        let loopback: SocketAddr = "127.0.0.1:4000".parse().unwrap();
        let open: SocketAddr = "0.0.0.0:4000".parse().unwrap();
        let table = [
            ("127.0.0.1:4000", true, true),
            ("localhost:4000", true, true),
            ("LOCALHOST:4000", true, true),
            ("[::1]:4000", true, true),
            ("127.0.0.1:4001", false, true),
            ("127.0.0.1", false, true),
            ("10.0.0.7:4000", false, true),
            ("[2001:db8::1]:80", false, true),
            ("evil.example:4000", false, false),
            ("localhost.evil.example:4000", false, false),
            ("127.0.0.1.evil.example:4000", false, false),
            ("127.0.0.1:4000@evil.example", false, false),
            ("", false, false),
            (":4000", false, false),
            ("[::1", false, false),
        ];
        for (host, on_loopback, beyond) in table {
            assert_eq!(is_ours(host, loopback), on_loopback, "{host:?} on loopback");
            assert_eq!(is_ours(host, open), beyond, "{host:?} beyond loopback");
        }
    }
}
