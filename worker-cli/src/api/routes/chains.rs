//! The chains: which there are, joining, leaving and making them.

use super::Answer;
use crate::api::ApiState;
use crate::api::error::ApiError;
use crate::api::types::{ChainDetail, ChainLeft, ChainList, Joined, NewChain};
use actix_web::web::{Json, Path};
use actix_web::{get, post};
use block_chain_web::strict::{JsonObject, Strict};
use utoipa_actix_web::service_config::ServiceConfig;

pub(super) fn configure(config: &mut ServiceConfig<'_>) {
    config
        .service(list_chains)
        .service(create_chain)
        .service(show_chain)
        .service(join_chain)
        .service(leave_chain);
}

/// All chains of the coordinator, and what this node has of them
#[utoipa::path(
    tag = "chains",
    responses((status = 200, description = "by name", body = ChainList), ApiError)
)]
#[get("/v1/chains")]
async fn list_chains(state: ApiState) -> Answer<ChainList> {
    Ok(Json(state.manager()?.list().await))
}

/// Make a chain, or fork one, and join it; the same again changes nothing
#[utoipa::path(
    request_body = NewChain,
    tag = "chains",
    security(("cookie" = [])),
    responses((status = 200, description = "it is there, and joined", body = Joined), ApiError)
)]
#[post("/v1/chains")]
async fn create_chain(state: ApiState, Json(Strict(body)): JsonObject<NewChain>) -> Answer<Joined> {
    let name = body.name.clone();
    state.manager()?.create(body).await?;
    joined(&state, name, true)
}

/// A chain's spec
#[utoipa::path(
    tag = "chains",
    params(("name" = String, Path, description = "the chain's name", example = "main")),
    responses((status = 200, description = "the chain", body = ChainDetail), ApiError)
)]
#[get("/v1/chains/{name}")]
async fn show_chain(state: ApiState, name: Path<String>) -> Answer<ChainDetail> {
    Ok(Json(state.manager()?.show(&name).await?))
}

/// Join a chain: this node holds a replica of it from now on
#[utoipa::path(
    tag = "chains",
    security(("cookie" = [])),
    params(("name" = String, Path, description = "the chain's name", example = "audit")),
    responses((status = 200, description = "it is joined", body = Joined), ApiError)
)]
#[post("/v1/chains/{name}/join")]
async fn join_chain(state: ApiState, name: Path<String>) -> Answer<Joined> {
    let is_new = state.manager()?.join(&name).await?;
    joined(&state, name.into_inner(), is_new)
}

/// Leave a chain; the replica's data stays
#[utoipa::path(
    tag = "chains",
    security(("cookie" = [])),
    params(("name" = String, Path, description = "the chain's name", example = "audit")),
    responses((status = 200, description = "it is left", body = ChainLeft), ApiError)
)]
#[post("/v1/chains/{name}/leave")]
async fn leave_chain(state: ApiState, name: Path<String>) -> Answer<ChainLeft> {
    let left = state.manager()?.leave(&name).await?;
    let chain = name.into_inner();
    Ok(Json(ChainLeft { chain, left }))
}

fn joined(state: &ApiState, chain: String, joined: bool) -> Answer<Joined> {
    let open = state.interface.chains.get(Some(&chain));
    let gone = || ApiError::Conflict(format!("chain {chain:?} was left at once"));
    let chain_id = open.ok_or_else(gone)?.node.chain_id();
    Ok(Json(Joined {
        chain,
        chain_id,
        joined,
    }))
}
