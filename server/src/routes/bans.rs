//! Shutting a worker out, and letting it back in.

use super::operator::{Answer, Asked, require};
use super::{State, call, now};
use crate::error::ServiceError;
use actix_web::post;
use actix_web::web::{Data, Json, Path};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

pub(super) fn configure(config: &mut ServiceConfig<'_>) {
    config.service(ban).service(unban);
}

/// Whether a worker is banned.
#[derive(Serialize, ToSchema)]
struct Banned {
    /// The worker.
    worker_id: Uuid,
    /// Whether it is.
    banned: bool,
    /// The chains that it was taken out of now.
    left: Vec<String>,
    /// Those where it is the last that counts: it stays until another holds all that is committed.
    stays: Vec<String>,
}

/// Ban a worker: it is taken out of all chains, and is heard, registered and relayed no more
///
/// Where it is the last member that counts, it stays a member, silent, until another can take its place.
#[utoipa::path(
    tag = "operator",
    params(("id" = Uuid, Path, description = "the worker's id")),
    security(("operator" = [])),
    responses((status = 200, description = "it is banned", body = Banned), ServiceError)
)]
#[post("/v1/workers/{id}/ban")]
async fn ban(state: Data<State>, operator: Asked, id: Path<Uuid>) -> Answer<Banned> {
    require(operator)?;
    let worker_id = *id;
    let done = call(&state, move |service| service.ban(worker_id, now())).await?;
    Ok(Json(Banned {
        worker_id,
        banned: true,
        left: done.left,
        stays: done.stays,
    }))
}

/// Let a banned worker back in: it registers again by itself
#[utoipa::path(
    tag = "operator",
    params(("id" = Uuid, Path, description = "the worker's id")),
    security(("operator" = [])),
    responses((status = 200, description = "it is banned no more", body = Banned), ServiceError)
)]
#[post("/v1/workers/{id}/unban")]
async fn unban(state: Data<State>, operator: Asked, id: Path<Uuid>) -> Answer<Banned> {
    require(operator)?;
    let worker_id = *id;
    call(&state, move |service| service.unban(worker_id)).await?;
    Ok(Json(Banned {
        worker_id,
        banned: false,
        left: Vec::new(),
        stays: Vec::new(),
    }))
}
