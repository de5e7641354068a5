//! The node itself: what it is, its chains, the other workers.

use super::{frame, html};
use crate::api::ApiState;
use crate::api::error::ApiError;
use crate::api::routes::{full_status, peers_view};
use crate::api::types::{ChainEntry, ChainList, PeerView};
use crate::output;
use actix_web::{HttpResponse, get};
use askama::Template;
use block_chain_web::page::{Frame, answer};
use utoipa_actix_web::service_config::ServiceConfig;

pub(super) fn configure(config: &mut ServiceConfig<'_>) {
    config.service(show_node);
}

struct Peer {
    name: String,
    id: String,
    heard: &'static str,
    heard_class: &'static str,
    connected: &'static str,
    connected_class: &'static str,
    height: u64,
    committed: u64,
}

#[derive(Template)]
#[template(path = "node.html")]
struct NodePage {
    frame: Frame,
    facts: Vec<(&'static str, String)>,
    chains: Vec<ChainEntry>,
    error: Option<String>,
    peers: Vec<Peer>,
}

/// The node: what it is, its chains, the other workers
#[utoipa::path(
    tag = "pages",
    responses((status = 200, description = "the page", body = String, content_type = "text/html"), ApiError)
)]
#[get("/node")]
async fn show_node(state: ApiState) -> Result<HttpResponse, ApiError> {
    let ChainList { chains, error } = match &state.interface.manager {
        Some(manager) => manager.list().await,
        None => ChainList {
            chains: vec![ChainEntry::local(&state.node, true)],
            error: None,
        },
    };
    let status = full_status(&state);
    let mut facts = vec![
        ("Worker", status.worker_id.to_string()),
        ("Key", status.public_key.to_string()),
        ("Address", status.address.to_string()),
        (
            "Coordinator",
            format!(
                "{}{}",
                status.servers.join(", "),
                if status.server_reachable {
                    ""
                } else {
                    ", does not answer"
                }
            ),
        ),
        ("Interface", status.api.clone()),
        ("Version", status.version.clone()),
        ("Runs for", output::duration(status.uptime_ms)),
    ];
    facts.extend(status.clock_offset_ms.map(|offset| {
        (
            "Clock",
            format!("{} ms off the coordinator's", offset.unsigned_abs()),
        )
    }));
    let mark = |is: bool| if is { ("yes", "") } else { ("no", "waits") };
    let reach = |peer: &PeerView| match (peer.connected, peer.relayed) {
        (true, false) => ("direct", ""),
        (true, true) => ("relayed", ""),
        (false, _) => mark(false),
    };
    let peers = peers_view(&state).peers.into_iter().map(|peer| {
        let ((heard, heard_class), (connected, connected_class)) = (mark(peer.alive), reach(&peer));
        Peer {
            name: peer.name.unwrap_or_else(|| "–".to_owned()),
            id: peer.worker_id.to_string(),
            heard,
            heard_class,
            connected,
            connected_class,
            height: peer.height.get(),
            committed: peer.committed.get(),
        }
    });
    Ok(answer(html(&NodePage {
        frame: frame(&state, "Node", "node"),
        facts,
        chains,
        error,
        peers: peers.collect(),
    })?))
}
