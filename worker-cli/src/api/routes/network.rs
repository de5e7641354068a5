//! The node and its network: how it is, who leads, its peers; checks, the copy to SQL, and its end.

use super::Answer;
use crate::api::ApiState;
use crate::api::body::Body;
use crate::api::error::ApiError;
use crate::api::types::{
    BackupMade, CheckProgress, CheckReport, CheckRequest, Disconnected, DumpRequest, DumpStatus, DumpStopped,
    LeaderView, LogFilter, NewBackup, NewSnapshot, NodeStatus, PeerView, PeersView, Slots, SnapshotMade,
    Stopping,
};
use crate::machine::ChainRead as _;
use crate::node::{NodeHandle, now};
use crate::storage::StorageError;
use actix_web::web::Json;
use actix_web::{HttpResponse, get, post};
use block_chain_backup::Cause;
use block_chain_common::block::current_draw;
use block_chain_common::keys::Address;
use block_chain_common::quantity::Timestamp;
use block_chain_common::stake::{slot_at, slot_start};
use block_chain_telemetry::TelemetryError;
use block_chain_web::strict::{JsonObject, Strict};
use std::num::NonZeroUsize;
use std::path::Path;
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
        .service(back_up)
        .service(get_log)
        .service(set_log)
        .service(make_a_snapshot)
        .service(stop_node);
}

/// The node now: head, committed, final, leader, what waits and why
#[utoipa::path(
    tag = "node",
    responses((status = 200, description = "the node now", body = NodeStatus), ApiError)
)]
#[get("/v1/status")]
async fn get_status(state: ApiState) -> Answer<NodeStatus> {
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
async fn get_leader(state: ApiState) -> Answer<LeaderView> {
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
async fn get_peers(state: ApiState) -> Answer<PeersView> {
    Ok(Json(peers_view(&state)))
}

pub(in crate::api) fn peers_view(state: &ApiState) -> PeersView {
    let me = state.node.status().public_key;
    let (connected, relayed) = (state.node.connected(), state.node.relayed());
    let members = state
        .node
        .chain_view()
        .map(|view| view.members)
        .unwrap_or_default();
    let others = members.into_iter().filter(|member| member.public_key != me);
    let peers: Vec<PeerView> = others
        .map(|member| PeerView {
            connected: connected.contains(&member.public_key),
            relayed: relayed.contains(&member.public_key),
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
async fn get_keys(state: ApiState) -> Result<HttpResponse, ApiError> {
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
    request_body = Option<CheckRequest>,
    responses((status = 200, description = "what was found", body = CheckReport), ApiError)
)]
#[post("/v1/check")]
async fn check_everything(state: ApiState, body: Body) -> Answer<CheckReport> {
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
async fn get_check(state: ApiState) -> Answer<CheckProgress> {
    Ok(Json(state.check.progress()))
}

/// Copy to PostgreSQL, and follow
#[utoipa::path(
    request_body = DumpRequest,
    tag = "copy to SQL",
    security(("cookie" = [])),
    responses((status = 200, description = "the copy now", body = DumpStatus), ApiError)
)]
#[post("/v1/dump")]
async fn start_dump(state: ApiState, Json(Strict(body)): JsonObject<DumpRequest>) -> Answer<DumpStatus> {
    Ok(Json(state.dump.start(body).await?))
}

/// The copy now
#[utoipa::path(
    tag = "copy to SQL",
    responses((status = 200, description = "the copy now", body = DumpStatus), ApiError)
)]
#[get("/v1/dump")]
async fn get_dump(state: ApiState) -> Answer<DumpStatus> {
    Ok(Json(state.dump.status()))
}

/// Stop the copy
#[utoipa::path(
    tag = "copy to SQL",
    security(("cookie" = [])),
    responses((status = 200, description = "it has stopped", body = DumpStopped), ApiError)
)]
#[post("/v1/dump/stop")]
async fn stop_dump(state: ApiState) -> Answer<DumpStopped> {
    Ok(Json(state.dump.stop().await?))
}

/// Leave the network with all chains, and stop; the data stays
#[utoipa::path(
    tag = "node",
    security(("cookie" = [])),
    responses((status = 200, description = "the worker has left", body = Disconnected), ApiError)
)]
#[post("/v1/disconnect")]
async fn disconnect(state: ApiState) -> Answer<Disconnected> {
    let disconnected = match &state.interface.manager {
        Some(manager) => manager.leave_all().await?,
        None => state.node.leave().await?,
    };
    state.node.stop().await;
    Ok(Json(Disconnected { disconnected }))
}

/// Make a backup of this worker: who it is, its wallets, and all its chains
///
/// The node writes the file itself: what is in it crosses no network.
#[utoipa::path(
    request_body = NewBackup,
    tag = "node",
    security(("cookie" = [])),
    responses((status = 200, description = "it is made, and on disk", body = BackupMade), ApiError)
)]
#[post("/v1/backups")]
async fn back_up(state: ApiState, Json(Strict(body)): JsonObject<NewBackup>) -> Answer<BackupMade> {
    whole_path(body.to.as_deref())?;
    let keep = body.keep.map(NonZeroUsize::get);
    Ok(Json(state.manager()?.back_up(Cause::Asked, body.to, keep).await?))
}

/// Make a snapshot of the chain with its state at the last final block: what a new worker begins with
///
/// It holds no secrets. A worker that is registered with it checks it against the cosigned checkpoint that it ends with.
#[utoipa::path(
    request_body = NewSnapshot,
    tag = "node",
    security(("cookie" = [])),
    responses((status = 200, description = "it is made, and on disk", body = SnapshotMade), ApiError)
)]
#[post("/v1/snapshots")]
async fn make_a_snapshot(
    state: ApiState,
    Json(Strict(body)): JsonObject<NewSnapshot>,
) -> Answer<SnapshotMade> {
    whole_path(body.to.as_deref())?;
    Ok(Json(state.manager()?.snapshot(&state.node, body.to).await?))
}

fn whole_path(to: Option<&Path>) -> Result<(), ApiError> {
    match to.filter(|to| !to.is_absolute()) {
        Some(to) => {
            let to = to.display().to_string();
            let reason = format!("{to:?} is not a whole path: the node runs in another folder");
            Err(ApiError::Malformed(reason))
        }
        None => Ok(()),
    }
}

/// What the node logs
#[utoipa::path(
    tag = "node",
    responses((status = 200, description = "the filter", body = LogFilter), ApiError)
)]
#[get("/v1/log")]
async fn get_log() -> Answer<LogFilter> {
    log_filter()
}

fn log_filter() -> Answer<LogFilter> {
    let filter = block_chain_telemetry::filter();
    let filter = filter.map_err(|error| ApiError::Conflict(error.to_string()))?;
    Ok(Json(LogFilter { filter }))
}

/// Log more, or less, from now on and until the node ends
#[utoipa::path(
    request_body = LogFilter,
    tag = "node",
    security(("cookie" = [])),
    responses((status = 200, description = "the filter now", body = LogFilter), ApiError)
)]
#[post("/v1/log")]
async fn set_log(Json(Strict(body)): JsonObject<LogFilter>) -> Answer<LogFilter> {
    block_chain_telemetry::set_filter(&body.filter).map_err(|error| match error {
        TelemetryError::Filter { .. } => ApiError::Malformed(error.to_string()),
        other => ApiError::Conflict(other.to_string()),
    })?;
    log_filter()
}

/// Stop, and stay a member
#[utoipa::path(
    tag = "node",
    security(("cookie" = [])),
    responses((status = 200, description = "the node stops", body = Stopping), ApiError)
)]
#[post("/v1/stop")]
async fn stop_node(state: ApiState) -> Answer<Stopping> {
    state.node.stop().await;
    Ok(Json(Stopping {}))
}
