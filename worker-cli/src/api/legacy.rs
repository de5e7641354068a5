//! The routes of earlier systems, for programs that were written for them: wallets and transfers (`/wallet`, `/transaction`,
//! `/blockchain`), any JSON (`/inject`, `/leap`, `/stats`…), messages (`/add`, `/data`, `/neighbours`). Each stands on what
//! this node does anyway: what they send is signed, and waits for a block like everything else.
//!
//! What changes something asks for the node's cookie, also where the earlier route was a GET; deposits need the role `issue`.

mod wallets;

use super::ApiState;
use super::blocks::as_list;
use super::error::ApiError;
use super::pieces::streaming;
use super::types::{Accepted, BlockView, Mined};
use actix_web::web::{Json, Query};
use actix_web::{HttpRequest, HttpResponse, get, post, put};
use block_chain_common::hash::BlockHash;
use block_chain_common::transaction::{Payload, RecordKey, RecordValue};
use block_chain_web::session::bearer;
use block_chain_web::strict::{JsonObject, Strict};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

/// How long a block is waited for.
const MINE: Duration = Duration::from_secs(60);
/// Messages that are listed.
const MESSAGES: usize = 10_000;

pub(super) fn configure(config: &mut ServiceConfig<'_>) {
    wallets::configure(config);
    config
        .service(blockchain_chain)
        .service(blockchain_mine)
        .service(validate)
        .service(resolve)
        .service(inject)
        .service(leap)
        .service(json_chain)
        .service(chain)
        .service(discover)
        .service(discovered)
        .service(stats)
        .service(add)
        .service(neighbours)
        .service(data);
}

/// For a GET that does something: a page elsewhere may have a browser ask for it, with the cookie of whoever is signed in,
/// but cannot have it send a word that it does not know.
fn require_word(state: &ApiState, request: &HttpRequest) -> Result<(), ApiError> {
    state.require_trust()?;
    bearer(request.headers()).map(drop).ok_or(ApiError::Forbidden)
}

type Answer<T> = Result<Json<T>, ApiError>;

fn malformed(text: &str) -> ApiError {
    ApiError::Malformed(text.to_owned())
}

/// What will be in a block.
#[derive(Serialize, ToSchema)]
struct SentAnswer {
    message: String,
    /// The transaction's id.
    transaction_id: String,
}

fn sent(message: &str, accepted: &Accepted) -> Json<SentAnswer> {
    Json(SentAnswer {
        message: message.to_owned(),
        transaction_id: accepted
            .transaction_ids
            .first()
            .map(ToString::to_string)
            .unwrap_or_default(),
    })
}

/// The whole chain.
#[derive(Serialize, ToSchema)]
struct ChainAnswer {
    /// Its blocks, oldest first.
    chain: Vec<BlockView>,
    /// How many.
    length: u64,
}

fn whole_chain(state: &ApiState) -> Result<HttpResponse, ApiError> {
    let node = state.node.clone();
    streaming(state, "application/json", move |out| {
        as_list(&node, out, "{\"chain\":[", |length| {
            format!("],\"length\":{length}}}")
        })
    })
}

/// Earlier system 2: the whole chain
#[utoipa::path(
    tag = "earlier systems",
    responses((status = 200, description = "the chain", body = ChainAnswer), ApiError)
)]
#[get("/blockchain/chain/")]
async fn blockchain_chain(state: ApiState) -> Result<HttpResponse, ApiError> {
    whole_chain(&state)
}

/// Earlier systems 3 and 5: the whole chain
#[utoipa::path(
    tag = "earlier systems",
    responses((status = 200, description = "the chain", body = ChainAnswer), ApiError)
)]
#[get("/chain")]
async fn chain(state: ApiState) -> Result<HttpResponse, ApiError> {
    whole_chain(&state)
}

/// Earlier system 3: the whole chain as a list
#[utoipa::path(
    tag = "earlier systems",
    responses((status = 200, description = "its blocks, oldest first", body = Vec<BlockView>), ApiError)
)]
#[get("/json-chain")]
async fn json_chain(state: ApiState) -> Result<HttpResponse, ApiError> {
    let node = state.node.clone();
    streaming(&state, "application/json", move |out| {
        as_list(&node, out, "[", |_| "]".to_owned())
    })
}

/// Earlier system 2: make a block of what waits. It was a GET, and asks for the cookie since it changes something
#[utoipa::path(
    tag = "earlier systems",
    security(("cookie" = [])),
    responses((status = 200, description = "the block", body = Mined), ApiError)
)]
#[get("/blockchain/mine_block/")]
async fn blockchain_mine(state: ApiState, request: HttpRequest) -> Answer<Mined> {
    require_word(&state, &request)?;
    if state.node.mempool(0).count == 0 {
        return Err(malformed("No transactions for mining."));
    }
    Ok(Json(state.node.mine(MINE).await?))
}

/// Earlier system 3: make a block. It was a GET, and asks for the cookie since it changes something
#[utoipa::path(
    tag = "earlier systems",
    security(("cookie" = [])),
    responses((status = 200, description = "the block", body = Mined), ApiError)
)]
#[get("/leap")]
async fn leap(state: ApiState, request: HttpRequest) -> Answer<Mined> {
    require_word(&state, &request)?;
    Ok(Json(state.node.mine(MINE).await?))
}

/// Whether the chain is sound.
#[derive(Serialize, ToSchema)]
struct ValidAnswer {
    message: String,
    /// Whether every block holds, and the replicas are the same.
    valid: bool,
}

/// Earlier system 2: is the chain sound? It reads every block, and asks for the cookie
#[utoipa::path(
    tag = "earlier systems",
    security(("cookie" = [])),
    responses((status = 200, description = "whether it is", body = ValidAnswer), ApiError)
)]
#[get("/blockchain/validate/")]
async fn validate(state: ApiState, request: HttpRequest) -> Answer<ValidAnswer> {
    require_word(&state, &request)?;
    let report = crate::check::run(&state.node, false, &state.check).await;
    let valid = report.map_err(ApiError::Conflict)?.consistent;
    let message = if valid {
        "The chain is valid."
    } else {
        "The chain is not valid."
    };
    Ok(Json(ValidAnswer {
        message: message.to_owned(),
        valid,
    }))
}

/// How long the chain is.
#[derive(Serialize, ToSchema)]
struct StatsAnswer {
    /// How many blocks.
    length: u64,
    /// The newest one's hash.
    hash: BlockHash,
}

fn stats_of(state: &ApiState) -> StatsAnswer {
    let (height, hash) = state.node.store().head();
    StatsAnswer {
        length: height.get().saturating_add(1),
        hash,
    }
}

/// The chain that all nodes have.
#[derive(Serialize, ToSchema)]
struct ResolvedAnswer {
    message: String,
    #[serde(flatten)]
    stats: StatsAnswer,
}

/// Earlier system 2: the chain that all nodes agree to; here they do so by themselves, and nothing is replaced
#[utoipa::path(
    tag = "earlier systems",
    responses((status = 200, description = "the chain", body = ResolvedAnswer), ApiError)
)]
#[get("/blockchain/nodes/resolve/")]
async fn resolve(state: ApiState) -> Json<ResolvedAnswer> {
    Json(ResolvedAnswer {
        message: "Our chain is authoritative.".to_owned(),
        stats: stats_of(&state),
    })
}

/// Earlier system 3: how long the chain is, and its newest block
#[utoipa::path(
    tag = "earlier systems",
    responses((status = 200, description = "the statistics", body = StatsAnswer), ApiError)
)]
#[get("/stats")]
async fn stats(state: ApiState) -> Json<StatsAnswer> {
    Json(stats_of(&state))
}

/// Anything to put on the chain.
#[derive(Deserialize, ToSchema)]
struct InjectRequest {
    /// Any JSON.
    data: Value,
}

/// Earlier system 3: put any JSON on the chain, as a record of its own
#[utoipa::path(
    tag = "earlier systems",
    security(("cookie" = [])),
    responses((status = 200, description = "it waits for a block", body = SentAnswer), ApiError)
)]
#[post("/inject")]
async fn inject(state: ApiState, Json(Strict(body)): JsonObject<InjectRequest>) -> Answer<SentAnswer> {
    // A key of its own, ordered by time: the earlier chain had none.
    let key = format!("inject/{}", Uuid::now_v7());
    let value = body.data.to_string();
    let bad = |what: &str, error: String| ApiError::Malformed(format!("the {what} has {error}"));
    let record = (
        RecordKey::new(key.into_bytes()).map_err(|error| bad("key", error.to_string()))?,
        RecordValue::new(value.into_bytes()).map_err(|error| bad("data", error.to_string()))?,
    );
    let accepted = state.node.submit_records(vec![record]).await?;
    Ok(sent("The data will be added to a block.", &accepted))
}

/// A node to know.
#[derive(Deserialize, ToSchema)]
struct DiscoverRequest {
    /// Its address.
    host: String,
}

/// The nodes that are known.
#[derive(Serialize, ToSchema)]
struct HostsAnswer {
    /// Where the interfaces of those are that live.
    hosts: Vec<String>,
    /// How many.
    length: usize,
}

/// The other workers that the coordinator hears, one entry each: where programs reach its interface, as `HOST:PORT`.
fn hosts_of(state: &ApiState) -> HostsAnswer {
    let me = state.node.status().public_key;
    let view = state.node.chain_view();
    let members = view.iter().flat_map(|view| &view.members);
    let others = members.filter(|member| member.alive && member.public_key != me);
    let host = |api: &String| {
        api.split_once("://")
            .map_or(api.as_str(), |(_, host)| host)
            .to_owned()
    };
    let hosts: Vec<String> = others
        .filter_map(|member| member.api.as_ref().map(host))
        .collect();
    HostsAnswer {
        length: hosts.len(),
        hosts,
    }
}

/// Earlier system 3: make a node known. Here the coordinator names the nodes of a network: the answer is those
#[utoipa::path(
    tag = "earlier systems",
    security(("cookie" = [])),
    responses((status = 200, description = "the nodes of the network", body = HostsAnswer), ApiError)
)]
#[post("/discover")]
async fn discover(state: ApiState, Json(Strict(body)): JsonObject<DiscoverRequest>) -> Answer<HostsAnswer> {
    if body.host.is_empty() || body.host.len() > 256 {
        return Err(malformed("the host is not 1 to 256 bytes long"));
    }
    Ok(Json(hosts_of(&state)))
}

/// Earlier system 3: the nodes that are known
#[utoipa::path(
    tag = "earlier systems",
    responses((status = 200, description = "the nodes of the network", body = HostsAnswer), ApiError)
)]
#[get("/discover")]
async fn discovered(state: ApiState) -> Json<HostsAnswer> {
    Json(hosts_of(&state))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AddQuery {
    /// The message.
    message: Option<String>,
}

/// Earlier system 5: put a message on the chain
#[utoipa::path(
    tag = "earlier systems",
    params(AddQuery),
    security(("cookie" = [])),
    responses((status = 200, description = "it waits for a block", body = SentAnswer), ApiError)
)]
#[put("/add")]
async fn add(state: ApiState, Query(asked): Query<AddQuery>) -> Answer<SentAnswer> {
    let message = asked.message.filter(|message| !message.is_empty());
    let message = message.ok_or_else(|| malformed("There is no message."))?;
    let bytes = RecordValue::new(message.into_bytes());
    let bytes = bytes.map_err(|error| ApiError::Malformed(format!("the message has {error}")))?;
    let key = state.node.secret_key().clone();
    let accepted = state
        .node
        .sign_and_submit(&key, Payload::Message { bytes })
        .await?;
    Ok(sent("The message will be added to a block.", &accepted))
}

/// The other nodes.
#[derive(Serialize, ToSchema)]
struct NeighboursAnswer {
    /// Where they are reached.
    neighbours: Vec<String>,
    /// How many.
    length: usize,
}

/// Earlier system 5: the other nodes
#[utoipa::path(
    tag = "earlier systems",
    responses((status = 200, description = "the nodes", body = NeighboursAnswer), ApiError)
)]
#[get("/neighbours")]
async fn neighbours(state: ApiState) -> Json<NeighboursAnswer> {
    let HostsAnswer { hosts, length } = hosts_of(&state);
    Json(NeighboursAnswer {
        neighbours: hosts,
        length,
    })
}

/// What waits.
#[derive(Serialize, ToSchema)]
struct DataAnswer {
    /// Messages that are in no block yet, oldest first; one that is not text stands in hex.
    data: Vec<String>,
    /// How many.
    length: usize,
}

/// Earlier system 5: the messages that are in no block yet
#[utoipa::path(
    tag = "earlier systems",
    responses((status = 200, description = "the messages", body = DataAnswer), ApiError)
)]
#[get("/data")]
async fn data(state: ApiState) -> Json<DataAnswer> {
    let waiting = state.node.waiting_messages(MESSAGES);
    let data: Vec<String> = waiting
        .iter()
        .filter_map(|checked| match &checked.transaction().payload {
            Payload::Message { bytes } => {
                let text = std::str::from_utf8(bytes.as_slice()).map(str::to_owned);
                Some(text.unwrap_or_else(|_| hex::encode(bytes.as_slice())))
            }
            _ => None,
        })
        .collect();
    Json(DataAnswer {
        length: data.len(),
        data,
    })
}
