//! What every request passes: the host, the length, the cookie; and is counted.
//!
//! A page elsewhere may have its name resolve to this machine, but its browser then sends that name as the host: only
//! addresses and `localhost` pass. On loopback the port must be this one too; beyond it, ports may be mapped.

use super::ApiState;
use super::error::ApiError;
use actix_web::ResponseError as _;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{HeaderValue, X_CONTENT_TYPE_OPTIONS};
use actix_web::middleware::Next;
use actix_web::web::Data;
use block_chain_common::hash::sha256;
use block_chain_common::limits::MAX_REQUEST_BYTES;
use std::net::{IpAddr, SocketAddr};

/// The cookie for what changes something, the host for everything.
pub(super) async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let state = request.app_data::<Data<ApiState>>().cloned();
    let refused = state.as_ref().and_then(|state| refusal(&request, state));
    let mut response = match refused {
        Some(error) => request
            .into_response(error.error_response())
            .map_into_right_body(),
        None => next.call(request).await?.map_into_left_body(),
    };
    response
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(state) = state {
        let route = response.request().match_pattern();
        state
            .metrics
            .answered(route.as_deref().unwrap_or("none"), response.status().as_u16());
    }
    Ok(response)
}

fn refusal(request: &ServiceRequest, state: &ApiState) -> Option<ApiError> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    if !header("host").is_some_and(|host| is_ours(host, state.address)) {
        return Some(ApiError::WrongHost);
    }
    if request.method() == Method::GET || request.method() == Method::HEAD {
        return None;
    }
    let given = header("authorization")
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    // Compared by their hashes, so that a difference in time says nothing of the cookie.
    if sha256(&[given.as_bytes()]) != sha256(&[state.cookie.as_bytes()]) {
        return Some(ApiError::Forbidden);
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
