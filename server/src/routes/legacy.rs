//! `POST /register` and `POST|GET /check_leader`, as the earlier coordinator had them.

use super::{State, call, now};
use crate::error::ServiceError;
use actix_web::HttpResponse;
use actix_web::web::{self, Data};
use serde_json::json;

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config
        .route("/register", web::post().to(register))
        .route("/check_leader", web::get().to(check_leader))
        .route("/check_leader", web::post().to(check_leader));
}

/// An id alone: who wants to take part registers with a key, at `/v1/workers`.
async fn register(state: Data<State>) -> Result<HttpResponse, ServiceError> {
    let id = call(&state, |service| service.register_without_key(now())).await?;
    Ok(HttpResponse::Ok().json(json!({ "worker_id": id })))
}

async fn check_leader(state: Data<State>) -> Result<HttpResponse, ServiceError> {
    let view = call(&state, |service| service.view("main", now())).await?;
    let leader = view.leader.map(|leader| leader.worker_id);
    Ok(HttpResponse::Ok().json(json!({ "leader": leader })))
}
