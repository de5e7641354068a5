//! `POST /register` and `POST|GET /check_leader`, as the earlier coordinator had them.

use super::{State, call, now};
use crate::error::ServiceError;
use actix_web::web::{Data, Json};
use actix_web::{post, route};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

pub(super) fn configure(config: &mut ServiceConfig<'_>) {
    config.service(register_without_key).service(check_leader);
}

/// An id without a key.
#[derive(Serialize, ToSchema)]
struct KeylessWorker {
    /// The id: never reused.
    worker_id: Uuid,
}

/// Who leads chain main.
#[derive(Serialize, ToSchema)]
struct MainLeader {
    /// The leader's id, where there is one.
    leader: Option<Uuid>,
}

/// An id alone, as the earlier coordinator gave them
///
/// Who wants to take part registers with a key, at `/v1/workers`.
#[utoipa::path(
    tag = "earlier coordinator",
    responses((status = 200, description = "a new id", body = KeylessWorker), ServiceError)
)]
#[post("/register")]
async fn register_without_key(state: Data<State>) -> Result<Json<KeylessWorker>, ServiceError> {
    let worker_id = call(&state, |service| service.register_without_key(now())).await?;
    Ok(Json(KeylessWorker { worker_id }))
}

/// The leader of chain main, as the earlier coordinator named it
#[utoipa::path(
    tag = "earlier coordinator",
    responses((status = 200, description = "the leader", body = MainLeader), ServiceError)
)]
#[route("/check_leader", method = "GET", method = "POST")]
async fn check_leader(state: Data<State>) -> Result<Json<MainLeader>, ServiceError> {
    let view = call(&state, |service| service.view("main", now())).await?;
    let leader = view.leader.map(|leader| leader.worker_id);
    Ok(Json(MainLeader { leader }))
}
