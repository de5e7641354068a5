//! The routes that workers use: see `block_chain_common::coordinator_api`.

use super::{State, bearer, call, now};
use crate::error::ServiceError;
use actix_web::web::{Data, Json, Path, Query};
use actix_web::{HttpRequest, get, post};
use block_chain_common::coordinator_api::{
    ChainInfo, ChainSummary, ChainView, Challenge, CheckpointPage, CheckpointView, Claim, ClaimTaken,
    CommitAnswer, CommitFigures, CommitRequest, CosignRequest, CreateChain, Heard, Heartbeat, Heartbeats,
    LeaveRequest, Left, Noted, Orders, RegisterRequest, Registration,
};
use block_chain_web::strict::{JsonObject, Strict};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

pub(super) fn configure(config: &mut ServiceConfig<'_>) {
    config
        .service(challenge)
        .service(register)
        .service(heartbeat)
        .service(heartbeats)
        .service(leave)
        .service(claim)
        .service(recoveries)
        .service(orders)
        .service(create_chain)
        .service(chains)
        .service(chain)
        .service(chain_view)
        .service(checkpoints)
        .service(commit)
        .service(cosign)
        .service(tell_figures);
}

type Answer<T> = Result<Json<T>, ServiceError>;

/// A nonce to sign, for a registration
#[utoipa::path(
    tag = "workers",
    responses((status = 200, description = "good for one use within a minute", body = Challenge), ServiceError)
)]
#[post("/v1/challenges")]
async fn challenge(state: Data<State>) -> Answer<Challenge> {
    Ok(Json(call(&state, |service| service.challenge(now())).await?))
}

/// Register: the same key gets the same id, and a new token
#[utoipa::path(
    request_body = RegisterRequest,
    tag = "workers",
    responses((status = 200, description = "the worker is part of the network", body = Registration), ServiceError)
)]
#[post("/v1/workers")]
async fn register(
    state: Data<State>,
    Json(Strict(body)): JsonObject<RegisterRequest>,
) -> Answer<Registration> {
    let registered = call(&state, move |service| service.register(&body, now()));
    Ok(Json(registered.await?))
}

/// The worker lives
#[utoipa::path(
    request_body = Heartbeat,
    tag = "workers",
    params(("id" = Uuid, Path, description = "the worker's id")),
    security(("worker_token" = [])),
    responses((status = 200, description = "the chain's network now", body = ChainView), ServiceError)
)]
#[post("/v1/workers/{id}/heartbeat")]
async fn heartbeat(
    state: Data<State>,
    request: HttpRequest,
    id: Path<Uuid>,
    Json(Strict(body)): JsonObject<Heartbeat>,
) -> Answer<ChainView> {
    let token = bearer(&request);
    let view = call(&state, move |service| {
        let who = service.authenticate(Some(*id), token.as_deref())?;
        service.heartbeat(&who, &body, now())
    });
    Ok(Json(view.await?))
}

/// The worker lives, on several chains at once
#[utoipa::path(
    request_body = Heartbeats,
    tag = "workers",
    params(("id" = Uuid, Path, description = "the worker's id")),
    security(("worker_token" = [])),
    responses((status = 200, description = "of each chain, in order, its network or why the worker is not heard there", body = Heard), ServiceError)
)]
#[post("/v1/workers/{id}/heartbeats")]
async fn heartbeats(
    state: Data<State>,
    request: HttpRequest,
    id: Path<Uuid>,
    Json(Strict(body)): JsonObject<Heartbeats>,
) -> Answer<Heard> {
    let token = bearer(&request);
    let heard = call(&state, move |service| {
        let who = service.authenticate(Some(*id), token.as_deref())?;
        service.heartbeats(&who, &body.beats, now())
    });
    Ok(Json(heard.await?))
}

/// The worker leaves a chain's network
#[utoipa::path(
    request_body = LeaveRequest,
    tag = "workers",
    params(("id" = Uuid, Path, description = "the worker's id")),
    security(("worker_token" = [])),
    responses((status = 200, description = "it has left", body = Left), ServiceError)
)]
#[post("/v1/workers/{id}/leave")]
async fn leave(
    state: Data<State>,
    request: HttpRequest,
    id: Path<Uuid>,
    Json(Strict(body)): JsonObject<LeaveRequest>,
) -> Answer<Left> {
    let token = bearer(&request);
    let left = call(&state, move |service| {
        let who = service.authenticate(Some(*id), token.as_deref())?;
        service.leave(&who, &body.chain, now())
    });
    Ok(Json(left.await?))
}

/// The worker shows what the coordinator does not know any more
#[utoipa::path(
    request_body = Claim,
    tag = "workers",
    params(("id" = Uuid, Path, description = "the worker's id")),
    security(("worker_token" = [])),
    responses((status = 200, description = "it is kept until an operator recovers the coordinator", body = ClaimTaken), ServiceError)
)]
#[post("/v1/workers/{id}/claim")]
async fn claim(
    state: Data<State>,
    request: HttpRequest,
    id: Path<Uuid>,
    Json(Strict(body)): JsonObject<Claim>,
) -> Answer<ClaimTaken> {
    let token = bearer(&request);
    let taken = call(&state, move |service| {
        let who = service.authenticate(Some(*id), token.as_deref())?;
        service.claim(&who, &body, now())
    });
    Ok(Json(taken.await?))
}

/// What operators had this coordinator recover: signed statements, oldest first
#[utoipa::path(
    tag = "chains",
    params(("name" = String, Path, description = "the chain's name", example = "main")),
    responses((status = 200, description = "signed notes", body = Vec<String>), ServiceError)
)]
#[get("/v1/chains/{name}/recoveries")]
async fn recoveries(state: Data<State>, name: Path<String>) -> Answer<Vec<String>> {
    let found = call(&state, move |service| service.recoveries(&name));
    Ok(Json(found.await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OrdersQuery {
    /// The first nonce that is wanted.
    #[serde(default)]
    from: u64,
}

/// Transactions that the coordinator has signed for a chain, for workers to put on it
#[utoipa::path(
    tag = "chains",
    params(("name" = String, Path, description = "the chain's name", example = "main"), OrdersQuery),
    responses((status = 200, description = "at most 100 of them", body = Orders), ServiceError)
)]
#[get("/v1/chains/{name}/orders")]
async fn orders(state: Data<State>, name: Path<String>, Query(query): Query<OrdersQuery>) -> Answer<Orders> {
    let found = call(&state, move |service| service.orders(&name, query.from));
    Ok(Json(found.await?))
}

/// Make a chain; the same spec again changes nothing
#[utoipa::path(
    request_body = CreateChain,
    tag = "chains",
    security(("worker_token" = [])),
    responses((status = 200, description = "the chain", body = ChainInfo), ServiceError)
)]
#[post("/v1/chains")]
async fn create_chain(
    state: Data<State>,
    request: HttpRequest,
    Json(Strict(body)): JsonObject<CreateChain>,
) -> Answer<ChainInfo> {
    let token = bearer(&request);
    let made = call(&state, move |service| {
        let who = service.authenticate(None, token.as_deref())?;
        service.create_chain(&who, &body.spec)
    });
    Ok(Json(made.await?))
}

/// All chains
#[utoipa::path(
    tag = "chains",
    responses((status = 200, description = "by name", body = Vec<ChainSummary>), ServiceError)
)]
#[get("/v1/chains")]
async fn chains(state: Data<State>) -> Answer<Vec<ChainSummary>> {
    Ok(Json(call(&state, |service| service.chain_list(now())).await?))
}

/// A chain: its id, spec and coordinator's key
#[utoipa::path(
    tag = "chains",
    params(("name" = String, Path, description = "the chain's name", example = "main")),
    responses((status = 200, description = "the chain", body = ChainInfo), ServiceError)
)]
#[get("/v1/chains/{name}")]
async fn chain(state: Data<State>, name: Path<String>) -> Answer<ChainInfo> {
    Ok(Json(call(&state, move |service| service.chain(&name)).await?))
}

/// A chain's network: members, leader, term, last checkpoint, what is final
#[utoipa::path(
    tag = "chains",
    params(("name" = String, Path, description = "the chain's name", example = "main")),
    responses((status = 200, description = "its network now", body = ChainView), ServiceError)
)]
#[get("/v1/chains/{name}/view")]
async fn chain_view(state: Data<State>, name: Path<String>) -> Answer<ChainView> {
    let view = call(&state, move |service| service.view(&name, now()));
    Ok(Json(view.await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PageQuery {
    /// The first size wanted.
    #[serde(default)]
    #[param(default = 0)]
    from: u64,
    /// How many at most; 1,000 are the most there are on one page.
    #[serde(default = "default_limit")]
    #[param(default = 100)]
    limit: u64,
}

const fn default_limit() -> u64 {
    100
}

/// Checkpoints from a size on
#[utoipa::path(
    tag = "chains",
    params(("name" = String, Path, description = "the chain's name", example = "main"), PageQuery),
    responses((status = 200, description = "in order of size", body = CheckpointPage), ServiceError)
)]
#[get("/v1/chains/{name}/checkpoints")]
async fn checkpoints(
    state: Data<State>,
    name: Path<String>,
    Query(page): Query<PageQuery>,
) -> Answer<CheckpointPage> {
    let found = call(&state, move |service| {
        service.checkpoints(&name, page.from, page.limit)
    });
    Ok(Json(found.await?))
}

/// The leader asks to commit a block
#[utoipa::path(
    request_body = CommitRequest,
    tag = "chains",
    params(("name" = String, Path, description = "the chain's name", example = "main")),
    security(("worker_token" = [])),
    responses((status = 200, description = "the block is committed", body = CommitAnswer), ServiceError)
)]
#[post("/v1/chains/{name}/checkpoints")]
async fn commit(
    state: Data<State>,
    request: HttpRequest,
    name: Path<String>,
    Json(Strict(body)): JsonObject<CommitRequest>,
) -> Answer<CommitAnswer> {
    let token = bearer(&request);
    let answer = call(&state, move |service| {
        let who = service.authenticate(None, token.as_deref())?;
        let answer = service.commit(&who, &name, &body)?;
        service.note_committed(&name, body.size, now());
        Ok(answer)
    });
    Ok(Json(answer.await?))
}

/// A leader tells what the blocks hold that it had committed, for the page of figures
#[utoipa::path(
    request_body = CommitFigures,
    tag = "workers",
    params(("id" = Uuid, Path, description = "the worker's id")),
    security(("worker_token" = [])),
    responses((status = 200, description = "taken note of", body = Noted), ServiceError)
)]
#[post("/v1/workers/{id}/figures")]
async fn tell_figures(
    state: Data<State>,
    request: HttpRequest,
    id: Path<Uuid>,
    Json(Strict(body)): JsonObject<CommitFigures>,
) -> Answer<Noted> {
    let token = bearer(&request);
    let noted = call(&state, move |service| {
        service.authenticate(Some(*id), token.as_deref())?;
        service.note_figures(&body, now())?;
        Ok(Noted {})
    });
    Ok(Json(noted.await?))
}

/// A member cosigns a checkpoint that it has persisted
#[utoipa::path(
    request_body = CosignRequest,
    tag = "chains",
    params(("name" = String, Path, description = "the chain's name", example = "main")),
    security(("worker_token" = [])),
    responses((status = 200, description = "the checkpoint, with this cosignature", body = CheckpointView), ServiceError)
)]
#[post("/v1/chains/{name}/cosignatures")]
async fn cosign(
    state: Data<State>,
    request: HttpRequest,
    name: Path<String>,
    Json(Strict(body)): JsonObject<CosignRequest>,
) -> Answer<CheckpointView> {
    let token = bearer(&request);
    let answer = call(&state, move |service| {
        let who = service.authenticate(None, token.as_deref())?;
        let view = service.cosign(&who, &name, &body)?;
        if view.is_final {
            service.note_final(&name, view.size, now());
        }
        Ok(view)
    });
    Ok(Json(answer.await?))
}
