//! The routes that workers use: see `block_chain_common::coordinator_api`.

use super::{State, bearer, call, now};
use crate::error::ServiceError;
use actix_web::web::{self, Data, Json, Path, Query};
use actix_web::{HttpRequest, HttpResponse};
use block_chain_common::coordinator_api::{
    CommitRequest, CosignRequest, Heartbeat, LeaveRequest, RegisterRequest,
};
use serde::Deserialize;
use uuid::Uuid;

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config
        .route("/v1/challenges", web::post().to(challenge))
        .route("/v1/workers", web::post().to(register))
        .route("/v1/workers/{id}/heartbeat", web::post().to(heartbeat))
        .route("/v1/workers/{id}/leave", web::post().to(leave))
        .route("/v1/chains", web::get().to(chains))
        .route("/v1/chains/{name}", web::get().to(chain))
        .route("/v1/chains/{name}/view", web::get().to(view))
        .route("/v1/chains/{name}/checkpoints", web::get().to(checkpoints))
        .route("/v1/chains/{name}/checkpoints", web::post().to(commit))
        .route("/v1/chains/{name}/cosignatures", web::post().to(cosign));
}

type Answer = Result<HttpResponse, ServiceError>;

async fn challenge(state: Data<State>) -> Answer {
    Ok(HttpResponse::Ok().json(call(&state, |service| service.challenge(now())).await?))
}

async fn register(state: Data<State>, Json(body): Json<RegisterRequest>) -> Answer {
    Ok(HttpResponse::Ok().json(call(&state, move |service| service.register(&body, now())).await?))
}

async fn heartbeat(
    state: Data<State>,
    request: HttpRequest,
    id: Path<Uuid>,
    Json(body): Json<Heartbeat>,
) -> Answer {
    let token = bearer(&request);
    let view = call(&state, move |service| {
        let who = service.authenticate(Some(*id), token.as_deref())?;
        service.heartbeat(&who, &body, now())
    });
    Ok(HttpResponse::Ok().json(view.await?))
}

async fn leave(
    state: Data<State>,
    request: HttpRequest,
    id: Path<Uuid>,
    Json(body): Json<LeaveRequest>,
) -> Answer {
    let token = bearer(&request);
    let left = call(&state, move |service| {
        let who = service.authenticate(Some(*id), token.as_deref())?;
        service.leave(&who, &body.chain, now())
    });
    Ok(HttpResponse::Ok().json(left.await?))
}

async fn chains(state: Data<State>) -> Answer {
    Ok(HttpResponse::Ok().json(call(&state, |service| service.chains()).await?))
}

async fn chain(state: Data<State>, name: Path<String>) -> Answer {
    Ok(HttpResponse::Ok().json(call(&state, move |service| service.chain(&name)).await?))
}

async fn view(state: Data<State>, name: Path<String>) -> Answer {
    Ok(HttpResponse::Ok().json(call(&state, move |service| service.view(&name, now())).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    #[serde(default)]
    from: u64,
    #[serde(default = "default_limit")]
    limit: u64,
}

const fn default_limit() -> u64 {
    100
}

async fn checkpoints(state: Data<State>, name: Path<String>, Query(page): Query<PageQuery>) -> Answer {
    let found = call(&state, move |service| {
        service.checkpoints(&name, page.from, page.limit)
    });
    Ok(HttpResponse::Ok().json(found.await?))
}

async fn commit(
    state: Data<State>,
    request: HttpRequest,
    name: Path<String>,
    Json(body): Json<CommitRequest>,
) -> Answer {
    let token = bearer(&request);
    let answer = call(&state, move |service| {
        let who = service.authenticate(None, token.as_deref())?;
        service.commit(&who, &name, &body)
    });
    Ok(HttpResponse::Ok().json(answer.await?))
}

async fn cosign(
    state: Data<State>,
    request: HttpRequest,
    name: Path<String>,
    Json(body): Json<CosignRequest>,
) -> Answer {
    let token = bearer(&request);
    let answer = call(&state, move |service| {
        let who = service.authenticate(None, token.as_deref())?;
        service.cosign(&who, &name, &body)
    });
    Ok(HttpResponse::Ok().json(answer.await?))
}
