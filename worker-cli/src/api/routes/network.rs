//! The node and its network: how it is, who leads, its peers; checks, the copy to SQL, and its end.

use super::Answer;
use crate::api::ApiState;
use crate::api::body::Body;
use crate::api::error::ApiError;
use crate::api::types::{
    CheckProgress, CheckReport, CheckRequest, Disconnected, DumpRequest, DumpStatus, DumpStopped, LeaderView,
    NodeStatus, PeerView, PeersView, Slots, Stopping,
};
use crate::machine::ChainRead as _;
use crate::node::{NodeHandle, now};
use crate::storage::StorageError;
use actix_web::web::{Data, Json};
use actix_web::{HttpResponse, get, post};
use block_chain_common::block::current_draw;
use block_chain_common::keys::Address;
use block_chain_common::quantity::Timestamp;
use block_chain_common::stake::{slot_at, slot_start};
use utoipa_actix_web::service_config::ServiceConfig;

/// Slots that are looked at for a worker's next one.
const MAX_SLOTS: u64 = 10_000;

pub(super) fn configure(config: &mut ServiceConfig<'_>) {
    config
        .service(get_status)
        .service(get_leader)
        .service(get_peers)
        .service(get_keys)
        .service(check_everything)
        .service(get_check)
        .service(start_dump)
        .service(get_dump)
        .service(stop_dump)
        .service(disconnect)
        .service(stop_node);
}

/// The node now: head, committed, final, leader, what waits and why
#[utoipa::path(
    tag = "node",
    responses((status = 200, description = "the node now", body = NodeStatus), ApiError)
)]
#[get("/v1/status")]
async fn get_status(state: Data<ApiState>) -> Answer<NodeStatus> {
    Ok(Json(full_status(&state)))
}

pub(in crate::api) fn full_status(state: &ApiState) -> NodeStatus {
    let mut status = state.node.status();
    if let Ok(Some(stored)) = state.node.store().header(&status.head) {
        status.head_time = stored.header.timestamp;
    }
    status.slots = slots(&state.node, now()).unwrap_or_else(|error| {
        tracing::warn!(%error, "the draw of producers cannot be read");
        None
    });
    status
}

/// A worker's slots from `now` on, on a chain of stake.
fn slots(node: &NodeHandle, now: Timestamp) -> Result<Option<Slots>, StorageError> {
    let slot_ms = node.spec().spec().block_interval_ms;
    let Some(draw) = current_draw(&node.store().snapshot())? else {
        return Ok(None);
    };
    let me = node.secret_key().public_key().address();
    let stakes = draw.stakes.as_slice();
    let sum = |of: Option<&Address>| -> u128 {
        let counted = stakes
            .iter()
            .filter(|stake| of.is_none_or(|of| stake.address == *of));
        counted.map(|stake| u128::from(stake.amount.get())).sum()
    };
    let share = sum(Some(&me)).saturating_mul(1_000_000).checked_div(sum(None));
    let first = slot_at(now, slot_ms).saturating_add(1);
    let is_mine = |slot: &u64| draw.producer(*slot).is_none_or(|producer| producer == me);
    let is_drawn = draw.includes(&me);
    let next = (first..first.saturating_add(MAX_SLOTS)).find(|slot| is_drawn && is_mine(slot));
    Ok(Some(Slots {
        slot_ms,
        is_drawn,
        share_ppm: share
            .and_then(|share| u64::try_from(share).ok())
            .unwrap_or(1_000_000),
        next: next.map(|slot| slot_start(slot, slot_ms)),
    }))
}

/// Who leads, in which term, since when
#[utoipa::path(
    tag = "node",
    responses((status = 200, description = "who leads", body = LeaderView), ApiError)
)]
#[get("/v1/leader")]
async fn get_leader(state: Data<ApiState>) -> Answer<LeaderView> {
    let me = state.node.status().worker_id;
    let view = state.node.chain_view();
    let leader = view.as_ref().and_then(|view| view.leader.as_ref());
    Ok(Json(LeaderView {
        leader_id: leader.map(|leader| leader.worker_id),
        term: view.as_ref().map(|view| view.term).unwrap_or_default(),
        since: leader.map(|leader| leader.since),
        is_me: leader.is_some_and(|leader| leader.worker_id == me),
    }))
}

/// The other workers
#[utoipa::path(
    tag = "node",
    responses((status = 200, description = "all other workers of the chain", body = PeersView), ApiError)
)]
#[get("/v1/peers")]
async fn get_peers(state: Data<ApiState>) -> Answer<PeersView> {
    Ok(Json(peers_view(&state)))
}

pub(in crate::api) fn peers_view(state: &ApiState) -> PeersView {
    let me = state.node.status().public_key;
    let connected = state.node.connected();
    let members = state
        .node
        .chain_view()
        .map(|view| view.members)
        .unwrap_or_default();
    let others = members.into_iter().filter(|member| member.public_key != me);
    let peers: Vec<PeerView> = others
        .map(|member| PeerView {
            connected: connected.contains(&member.public_key),
            worker_id: member.worker_id,
            public_key: member.public_key,
            name: member.name,
            addresses: member.addresses,
            alive: member.alive,
            height: member.height,
            committed: member.committed,
        })
        .collect();
    PeersView {
        count: peers.len(),
        peers,
    }
}

/// The chain's public keys, as the text that a receipt is verified with
#[utoipa::path(
    tag = "node",
    responses((status = 200, description = "the keys", body = String, content_type = "text/plain"), ApiError)
)]
#[get("/v1/keys")]
async fn get_keys(state: Data<ApiState>) -> Result<HttpResponse, ApiError> {
    let unknown = || ApiError::Conflict("no coordinator has said yet who the chain's members are".to_owned());
    let keys = state.node.chain_keys().ok_or_else(unknown)?;
    let mut answer = HttpResponse::Ok();
    Ok(answer
        .content_type("text/plain; charset=utf-8")
        .body(keys.to_text()))
}

/// Check everything: this replica byte by byte, and the others against it
#[utoipa::path(
    tag = "check",
    security(("cookie" = [])),
    request_body = CheckRequest,
    responses((status = 200, description = "what was found", body = CheckReport), ApiError)
)]
#[post("/v1/check")]
async fn check_everything(state: Data<ApiState>, body: Body) -> Answer<CheckReport> {
    let request: CheckRequest = body.json_or_default()?;
    let report = crate::check::run(&state.node, request.repair, &state.check).await;
    Ok(Json(report.map_err(ApiError::Conflict)?))
}

/// How far a check is
#[utoipa::path(
    tag = "check",
    responses((status = 200, description = "its progress", body = CheckProgress), ApiError)
)]
#[get("/v1/check")]
async fn get_check(state: Data<ApiState>) -> Answer<CheckProgress> {
    Ok(Json(state.check.progress()))
}

/// Copy to PostgreSQL, and follow
#[utoipa::path(
    tag = "copy to SQL",
    security(("cookie" = [])),
    responses((status = 200, description = "the copy now", body = DumpStatus), ApiError)
)]
#[post("/v1/dump")]
async fn start_dump(state: Data<ApiState>, Json(body): Json<DumpRequest>) -> Answer<DumpStatus> {
    Ok(Json(state.dump.start(body).await?))
}

/// The copy now
#[utoipa::path(
    tag = "copy to SQL",
    responses((status = 200, description = "the copy now", body = DumpStatus), ApiError)
)]
#[get("/v1/dump")]
async fn get_dump(state: Data<ApiState>) -> Answer<DumpStatus> {
    Ok(Json(state.dump.status()))
}

/// Stop the copy
#[utoipa::path(
    tag = "copy to SQL",
    security(("cookie" = [])),
    responses((status = 200, description = "it has stopped", body = DumpStopped), ApiError)
)]
#[post("/v1/dump/stop")]
async fn stop_dump(state: Data<ApiState>) -> Answer<DumpStopped> {
    Ok(Json(state.dump.stop().await?))
}

/// Leave the network, and stop; the data stays
#[utoipa::path(
    tag = "node",
    security(("cookie" = [])),
    responses((status = 200, description = "the worker has left", body = Disconnected), ApiError)
)]
#[post("/v1/disconnect")]
async fn disconnect(state: Data<ApiState>) -> Answer<Disconnected> {
    let disconnected = state.node.leave().await?;
    state.node.stop().await;
    Ok(Json(Disconnected { disconnected }))
}

/// Stop, and stay a member
#[utoipa::path(
    tag = "node",
    security(("cookie" = [])),
    responses((status = 200, description = "the node stops", body = Stopping), ApiError)
)]
#[post("/v1/stop")]
async fn stop_node(state: Data<ApiState>) -> Answer<Stopping> {
    state.node.stop().await;
    Ok(Json(Stopping {}))
}
