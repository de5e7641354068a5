//! For which host a request is, and whether it comes from this machine itself.
//!
//! A page elsewhere may have its name resolve to this machine (DNS rebinding), but its browser then sends that name as the
//! host. A proxy on this machine makes everybody's requests look like this machine's: it says so in a header, or hands on
//! the name that it was asked by.

use actix_web::http::header::{FORWARDED, HOST, HeaderMap, HeaderName, VIA, X_FORWARDED_FOR};
use std::net::{IpAddr, SocketAddr};

/// What proxies add to what they pass on.
const PASSED_ON: [HeaderName; 3] = [FORWARDED, X_FORWARDED_FOR, VIA];

/// The name or address of a `Host` header, and its port where it has one. `None` where the port is no number.
fn parts(host: &str) -> Option<(&str, Option<u16>)> {
    // A colon within brackets is the address's own.
    match host.rsplit_once(':').filter(|_| !host.ends_with(']')) {
        Some((name, port)) => port.parse().ok().map(|port| (name, Some(port))),
        None => Some((host, None)),
    }
}

/// The address that a host is written as, if it is; for IPv6 in brackets.
fn literal(name: &str) -> Option<IpAddr> {
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    bare.unwrap_or(name).parse().ok()
}

fn is_localhost(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
}

/// Whether a `Host` header names the program that listens on an address by an address or as `localhost`. On loopback the
/// port must be its own too; beyond it, ports may be mapped.
#[must_use]
pub fn is_ours(host: &str, address: SocketAddr) -> bool {
    let Some((name, port)) = parts(host) else {
        return false;
    };
    let named = literal(name);
    if !address.ip().is_loopback() {
        return named.is_some() || is_localhost(name);
    }
    let here = named.map_or_else(|| is_localhost(name), |ip| ip.is_loopback());
    // Without a port it is that of the scheme: clients leave it out.
    let is_port = port.map_or(matches!(address.port(), 80 | 443), |port| port == address.port());
    here && is_port
}

/// Whether the `Host` header of a request names the program that listens on an address, see [`is_ours`].
#[must_use]
pub fn is_for(headers: &HeaderMap, address: SocketAddr) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    host.is_some_and(|host| is_ours(host, address))
}

/// Whether a request is asked by a name that stands for more than this machine. Browsers and proxies always say by which.
fn is_by_name(headers: &HeaderMap) -> bool {
    headers.get(HOST).is_some_and(|host| {
        let name = host.to_str().ok().and_then(parts).map(|(name, _)| name);
        name.is_none_or(|name| literal(name).is_none() && !is_localhost(name))
    })
}

/// Whether a proxy has passed a request on, by its own word.
#[must_use]
pub fn is_passed_on(headers: &HeaderMap) -> bool {
    PASSED_ON.iter().any(|name| headers.contains_key(name))
}

/// The address of who asks from another machine, or through a proxy on this one. This machine is trusted: it reads what
/// others do not, and overloads nobody but itself.
#[must_use]
pub fn stranger(peer: Option<SocketAddr>, headers: &HeaderMap) -> Option<IpAddr> {
    let address = peer?.ip();
    let is_here = address.to_canonical().is_loopback() && !is_passed_on(headers) && !is_by_name(headers);
    (!is_here).then_some(address)
}

/// What a program knows of the way that requests take to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Nothing.
    Open,
    /// It serves TLS.
    Tls,
    /// Whoever runs it has said that nobody reads what crosses it: from a container's host, or through a proxy that ends TLS.
    Private,
}

impl Way {
    /// As it is told.
    #[must_use]
    pub const fn of(is_private: bool, is_secure: bool) -> Self {
        match (is_private, is_secure) {
            (true, _) => Self::Private,
            (false, true) => Self::Tls,
            (false, false) => Self::Open,
        }
    }
}

/// Whether nobody on the way can read what is asked: it comes from this machine, or under TLS that nobody on the way ends, or
/// the way is said to be private.
#[must_use]
pub fn is_private(peer: Option<SocketAddr>, headers: &HeaderMap, way: Way) -> bool {
    let is_here = || peer.is_some() && stranger(peer, headers).is_none();
    way == Way::Private || (!is_passed_on(headers) && (way == Way::Tls || is_here()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    type Sent<'a> = &'a [(&'a str, &'a str)];

    fn headers(of: Sent<'_>) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in of {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    #[test]
    fn only_addresses_and_localhost_are_this_program() {
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
            assert_eq!(is_for(&headers(&[("host", host)]), loopback), on_loopback);
        }
        assert!(!is_for(&HeaderMap::new(), loopback), "no host");
        for (host, port, ours) in [
            ("localhost", 443, true),
            ("127.0.0.1", 80, true),
            ("localhost", 8_080, false),
            ("localhost:80", 443, false),
            ("evil.example", 80, false),
        ] {
            assert_eq!(
                is_ours(host, ([127, 0, 0, 1], port).into()),
                ours,
                "{host} on {port}"
            );
        }
    }

    #[test]
    fn who_asks_through_a_proxy_or_by_a_name_is_a_stranger() {
        // The peer, what it sends, whether it is a stranger, whether it is private without TLS and with.
        let table: [(&str, Sent<'_>, bool, bool, bool); 12] = [
            ("127.0.0.1:9", &[], false, true, true),
            ("[::1]:9", &[("host", "[::1]:18000")], false, true, true),
            (
                "[::ffff:127.0.0.1]:9",
                &[("host", "localhost:1")],
                false,
                true,
                true,
            ),
            ("127.0.0.1:9", &[("host", "10.0.0.1:18000")], false, true, true),
            ("127.0.0.1:9", &[("host", "chain.example")], true, false, true),
            (
                "127.0.0.1:9",
                &[("host", "localhost.evil.example:1")],
                true,
                false,
                true,
            ),
            ("127.0.0.1:9", &[("host", "localhost:none")], true, false, true),
            (
                "127.0.0.1:9",
                &[("x-forwarded-for", "10.0.0.7")],
                true,
                false,
                false,
            ),
            (
                "127.0.0.1:9",
                &[("forwarded", "for=10.0.0.7")],
                true,
                false,
                false,
            ),
            (
                "127.0.0.1:9",
                &[("via", "1.1 proxy"), ("host", "127.0.0.1")],
                true,
                false,
                false,
            ),
            ("10.0.0.7:9", &[("host", "localhost")], true, false, true),
            ("10.0.0.7:9", &[("via", "1.1 proxy")], true, false, false),
        ];
        for (peer, sent, is_stranger, in_the_clear, under_tls) in table {
            let (peer, sent_headers) = (Some(peer.parse().unwrap()), headers(sent));
            assert_eq!(
                stranger(peer, &sent_headers).is_some(),
                is_stranger,
                "{peer:?} {sent:?}"
            );
            assert_eq!(
                is_private(peer, &sent_headers, Way::Open),
                in_the_clear,
                "{peer:?} {sent:?}"
            );
            assert_eq!(
                is_private(peer, &sent_headers, Way::Tls),
                under_tls,
                "{peer:?} {sent:?}"
            );
        }
        assert!(
            !is_private(None, &HeaderMap::new(), Way::Open),
            "nobody knows from where"
        );
    }

    #[test]
    fn a_way_that_is_said_to_be_private_is() {
        let (peer, sent) = (
            Some("10.0.0.9:1".parse().unwrap()),
            headers(&[("x-forwarded-for", "10.0.0.7")]),
        );
        assert!(is_private(peer, &sent, Way::of(true, false)));
        assert!(
            !is_private(peer, &sent, Way::of(false, true)),
            "the proxy may have ended TLS"
        );
        assert!(is_private(peer, &HeaderMap::new(), Way::of(false, true)));
        assert!(!is_private(peer, &HeaderMap::new(), Way::of(false, false)));
    }
}
