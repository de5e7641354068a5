//! Whom a dialler wants, and where that may be.
//!
//! A peer's addresses may lead to others, who would answer with the wrong key and so end the attempt. The first packet names
//! the chain and the peer (as TLS protocol names); who is not meant is silent, so that the right one is heard.

use block_chain_common::hash::ChainId;
use block_chain_common::keys::PublicKey;
use iroh::endpoint::Incoming;
use std::net::SocketAddr;

/// Begins the second protocol name of a dialler, which no node serves: the rest is the key of whom it wants.
const ADDRESSEE: &str = "block-chain/to/";

/// The addresses of a peer that can be its own from here: not those that lead back to this node (the same private address
/// and port on two machines), and loopback only for peers without another.
pub(super) fn reachable(mut addresses: Vec<SocketAddr>, own: &[SocketAddr]) -> Vec<SocketAddr> {
    addresses.retain(|address| !own.contains(address));
    if addresses.iter().any(|address| !address.ip().is_loopback()) {
        addresses.retain(|address| !address.ip().is_loopback());
    }
    addresses
}

pub(super) fn alpn(chain: &ChainId) -> Vec<u8> {
    format!("block-chain/1/{chain}").into_bytes()
}

/// Says whom a dialler wants.
pub(super) fn addressee(key: &PublicKey) -> Vec<u8> {
    format!("{ADDRESSEE}{key}").into_bytes()
}

/// Whether a first packet names this node, or nobody.
pub(super) fn is_meant_for(me: &[u8], incoming: &Incoming) -> bool {
    let Some(names) = incoming.decrypt().and_then(|first| first.alpns()) else {
        return true;
    };
    let mut named = names
        .filter_map(Result::ok)
        .filter(|name| name.starts_with(ADDRESSEE.as_bytes()))
        .peekable();
    named.peek().is_none() || named.any(|name| name == me)
}
