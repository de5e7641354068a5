//! What the operator may ask: join tokens, terms, figures; taking workers out, making chains, asking for forks.

use super::guard::Operator;
use super::{State, call, now};
use crate::error::ServiceError;
use crate::service::{NewToken, from_sql};
use crate::store::{FigureRow, JoinTokenRow, TermRow};
use actix_web::web::{Data, Json, Path, Query, ReqData};
use actix_web::{HttpRequest, HttpResponse, delete, get, post};
use block_chain_common::chain_spec::{ChainSpec, ProofSpec};
use block_chain_common::coordinator_api::{ChainInfo, ForkWish, Left, StakeShare};
use block_chain_common::keys::Address;
use block_chain_common::quantity::{Amount, Height, Timestamp};
use block_chain_common::work::{MAX_DIFFICULTY, Target};
use block_chain_web::host::is_private;
use block_chain_web::strict::{JsonObject, Strict};
use serde::{Deserialize, Serialize};
use std::time::Instant;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use zeroize::Zeroizing;

/// Minutes of figures where it is not said: an hour.
const HOUR: u64 = 60;
/// A new chain's difficulty where it is not said.
const USUAL_DIFFICULTY: u8 = 20;

pub(super) fn configure(config: &mut ServiceConfig<'_>) {
    config
        .service(sign_in)
        .service(sign_out)
        .service(list_tokens)
        .service(create_token)
        .service(revoke_token)
        .service(terms)
        .service(get_log)
        .service(set_log)
        .service(figures)
        .service(evict)
        .service(make_chain)
        .service(ask_for_fork);
}

/// What the server logs.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LogFilter {
    /// A level, or levels by target.
    #[schema(example = "info,actix_web=debug")]
    filter: String,
}

/// What the server logs
#[utoipa::path(
    tag = "operator",
    security(("operator" = [])),
    responses((status = 200, description = "the filter", body = LogFilter), ServiceError)
)]
#[get("/v1/log")]
async fn get_log(operator: Asked) -> Answer<LogFilter> {
    require(operator)?;
    let filter = block_chain_telemetry::filter();
    let filter = filter.map_err(|error| ServiceError::Malformed(error.to_string()))?;
    Ok(Json(LogFilter { filter }))
}

/// Log more, or less, from now on and until the server ends
#[utoipa::path(
    request_body = LogFilter,
    tag = "operator",
    security(("operator" = [])),
    responses((status = 200, description = "the filter now", body = LogFilter), ServiceError)
)]
#[post("/v1/log")]
async fn set_log(operator: Asked, Json(Strict(body)): JsonObject<LogFilter>) -> Answer<LogFilter> {
    require(operator.clone())?;
    let set = block_chain_telemetry::set_filter(&body.filter);
    set.map_err(|error| ServiceError::Malformed(error.to_string()))?;
    Ok(Json(body))
}

pub(super) type Answer<T> = Result<Json<T>, ServiceError>;
/// There where the operator asks.
pub(super) type Asked = Option<ReqData<Operator>>;

pub(super) fn require(operator: Asked) -> Result<(), ServiceError> {
    operator
        .map(drop)
        .ok_or(ServiceError::Operator("missing or wrong"))
}

/// The operator's word, to sign in with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SignIn {
    /// What `api.cookie` in the data directory holds.
    #[schema(value_type = String)]
    word: Zeroizing<String>,
}

/// Whether the browser is signed in.
#[derive(Serialize, ToSchema)]
struct SignedIn {
    /// Whether it is.
    signed_in: bool,
}

/// Sign in with the operator's word
#[utoipa::path(
    request_body = SignIn,
    tag = "operator",
    responses((status = 200, description = "signed in, by the cookie that is set", body = SignedIn), ServiceError)
)]
#[post("/v1/session")]
async fn sign_in(
    state: Data<State>,
    request: HttpRequest,
    Json(Strict(body)): JsonObject<SignIn>,
) -> Result<HttpResponse, ServiceError> {
    if !is_private(request.peer_addr(), request.headers(), state.access.way) {
        return Err(ServiceError::Clear);
    }
    if !state.access.sessions.is_word(body.word.trim()) {
        return Err(ServiceError::Operator("wrong"));
    }
    let cookie = state.access.sessions.begin(Instant::now());
    let cookie = cookie.ok_or_else(|| ServiceError::Busy("the system gives no random bytes".to_owned()))?;
    Ok(HttpResponse::Ok()
        .cookie(cookie)
        .json(SignedIn { signed_in: true }))
}

/// Sign out
#[utoipa::path(
    tag = "operator",
    responses((status = 200, description = "signed out", body = SignedIn), ServiceError)
)]
#[delete("/v1/session")]
async fn sign_out(state: Data<State>, request: HttpRequest) -> HttpResponse {
    let cookie = state.access.sessions.end(request.headers());
    HttpResponse::Ok()
        .cookie(cookie)
        .json(SignedIn { signed_in: false })
}

/// A join token, without the token itself.
#[derive(Serialize, ToSchema)]
pub(super) struct JoinToken {
    /// What it is listed and revoked by.
    pub(super) id: String,
    /// What it is for.
    pub(super) label: String,
    /// When it was made.
    pub(super) created: Timestamp,
    /// From when on it is no good; never where it is not said.
    pub(super) expires: Option<Timestamp>,
    /// How many workers it still lets in; any number where it is not said.
    pub(super) uses_left: Option<u64>,
    /// How many it has let in.
    pub(super) used: u64,
    /// When it was revoked.
    pub(super) revoked: Option<Timestamp>,
}

impl From<JoinTokenRow> for JoinToken {
    fn from(row: JoinTokenRow) -> Self {
        let time = |ms| Timestamp::new(from_sql(ms));
        Self {
            id: row.id,
            label: row.label,
            created: time(row.created_ms),
            expires: row.expires_ms.map(time),
            uses_left: row.uses_left.map(from_sql),
            used: from_sql(row.used),
            revoked: row.revoked_ms.map(time),
        }
    }
}

/// All join tokens.
#[derive(Serialize, ToSchema)]
struct JoinTokens {
    /// The newest first.
    tokens: Vec<JoinToken>,
}

/// The join tokens that were made here
#[utoipa::path(
    tag = "operator",
    security(("operator" = [])),
    responses((status = 200, description = "the tokens, without the tokens themselves", body = JoinTokens), ServiceError)
)]
#[get("/v1/tokens")]
async fn list_tokens(state: Data<State>, operator: Asked) -> Answer<JoinTokens> {
    require(operator)?;
    let rows = call(&state, |service| service.tokens()).await?;
    let tokens = rows.into_iter().map(JoinToken::from).collect();
    Ok(Json(JoinTokens { tokens }))
}

/// A join token to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TokenRequest {
    /// What it is for, at most 64 characters.
    #[serde(default)]
    label: String,
    /// For how long it is good, in milliseconds; for ever where it is not said.
    #[serde(default)]
    lifetime_ms: Option<u64>,
    /// How many workers it lets in; any number where it is not said.
    #[serde(default)]
    uses: Option<u64>,
}

/// A join token, shown this once.
#[derive(Serialize, ToSchema)]
struct NewJoinToken {
    /// What workers show to register: `register --token TOKEN`.
    #[schema(value_type = String)]
    token: Zeroizing<String>,
    /// What is kept of it.
    #[serde(flatten)]
    about: JoinToken,
}

/// Make a join token; it is shown this once
#[utoipa::path(
    request_body = TokenRequest,
    tag = "operator",
    security(("operator" = [])),
    responses((status = 200, description = "the token", body = NewJoinToken), ServiceError)
)]
#[post("/v1/tokens")]
async fn create_token(
    state: Data<State>,
    operator: Asked,
    Json(Strict(body)): JsonObject<TokenRequest>,
) -> Answer<NewJoinToken> {
    require(operator)?;
    let new = NewToken {
        label: body.label,
        lifetime_ms: body.lifetime_ms,
        uses: body.uses,
    };
    let (token, row) = call(&state, move |service| service.create_token(&new, now())).await?;
    Ok(Json(NewJoinToken {
        token,
        about: row.into(),
    }))
}

/// Revoke a join token; the workers that it let in stay
#[utoipa::path(
    tag = "operator",
    params(("id" = Uuid, Path, description = "what the token is listed by")),
    security(("operator" = [])),
    responses((status = 200, description = "it lets nobody in any more", body = JoinToken), ServiceError)
)]
#[post("/v1/tokens/{id}/revoke")]
async fn revoke_token(state: Data<State>, operator: Asked, id: Path<Uuid>) -> Answer<JoinToken> {
    require(operator)?;
    let row = call(&state, move |service| service.revoke_token(*id, now())).await?;
    Ok(Json(row.into()))
}

/// Who led in a term.
#[derive(Serialize, ToSchema)]
struct TermView {
    /// The term.
    term: u64,
    /// The leader.
    worker_id: String,
    /// Since when.
    since: Timestamp,
}

impl From<TermRow> for TermView {
    fn from(row: TermRow) -> Self {
        Self {
            term: from_sql(row.term),
            worker_id: row.worker,
            since: Timestamp::new(from_sql(row.since_ms)),
        }
    }
}

/// The last terms of a chain.
#[derive(Serialize, ToSchema)]
struct Terms {
    /// The newest first.
    terms: Vec<TermView>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Limit {
    /// How many at most, 100 where it is not said, 1,000 at most.
    limit: Option<u64>,
}

/// Who led in the last terms
#[utoipa::path(
    tag = "chains",
    params(("name" = String, Path, description = "the chain's name", example = "main"), Limit),
    responses((status = 200, description = "the terms", body = Terms), ServiceError)
)]
#[get("/v1/chains/{name}/terms")]
async fn terms(state: Data<State>, name: Path<String>, Query(asked): Query<Limit>) -> Answer<Terms> {
    let rows = call(&state, move |service| {
        service.terms(&name, asked.limit.unwrap_or(100))
    });
    let terms = rows.await?.into_iter().map(TermView::from).collect();
    Ok(Json(Terms { terms }))
}

/// What was committed in a minute.
#[derive(Serialize, ToSchema)]
struct Figure {
    /// When the minute began.
    minute: Timestamp,
    /// Blocks.
    blocks: u64,
    /// Their transactions.
    transactions: u64,
    /// Their encoded bytes.
    bytes: u64,
    /// Attempts that their proofs of work stand for, on average.
    work: f64,
    /// Checkpoints.
    checkpoints: u64,
    /// How long those that became final took for it on average, in milliseconds.
    final_ms: Option<u64>,
    /// Who has how much of the stake, where that was told.
    shares: Vec<StakeShare>,
}

impl From<FigureRow> for Figure {
    fn from(row: FigureRow) -> Self {
        Self {
            minute: Timestamp::new(from_sql(row.minute).saturating_mul(60_000)),
            blocks: from_sql(row.blocks),
            transactions: from_sql(row.transactions),
            bytes: from_sql(row.bytes),
            work: row.work,
            checkpoints: from_sql(row.checkpoints),
            final_ms: from_sql(row.final_ms).checked_div(from_sql(row.finals)),
            shares: serde_json::from_str(&row.shares).unwrap_or_default(),
        }
    }
}

/// What was committed, minute by minute.
#[derive(Serialize, ToSchema)]
struct Figures {
    /// Oldest first; minutes in which nothing happened are left out.
    figures: Vec<Figure>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Span {
    /// The last minutes, 60 where it is not said, 44,640 (a month) at most.
    minutes: Option<u64>,
}

/// What was committed in the last minutes
#[utoipa::path(
    tag = "chains",
    params(("name" = String, Path, description = "the chain's name", example = "main"), Span),
    responses((status = 200, description = "the figures", body = Figures), ServiceError)
)]
#[get("/v1/chains/{name}/figures")]
async fn figures(state: Data<State>, name: Path<String>, Query(asked): Query<Span>) -> Answer<Figures> {
    let minutes = asked.minutes.unwrap_or(HOUR);
    let rows = call(&state, move |service| service.figures(&name, minutes, now()));
    let figures = rows.await?.into_iter().map(Figure::from).collect();
    Ok(Json(Figures { figures }))
}

/// Take a worker out of a chain's network
///
/// One that still runs joins again with its next heartbeat, and counts once it holds what is committed.
#[utoipa::path(
    tag = "operator",
    params(
        ("name" = String, Path, description = "the chain's name", example = "main"),
        ("worker" = Uuid, Path, description = "the worker's id")
    ),
    security(("operator" = [])),
    responses((status = 200, description = "it is out", body = Left), ServiceError)
)]
#[post("/v1/chains/{name}/members/{worker}/evict")]
async fn evict(state: Data<State>, operator: Asked, path: Path<(String, Uuid)>) -> Answer<Left> {
    require(operator)?;
    let left = call(&state, move |service| service.evict(&path.0, path.1, now()));
    Ok(Json(left.await?))
}

/// How the blocks of a new chain are proven.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ProofName {
    /// By work.
    Work,
    /// By stake.
    Stake,
    /// By the leader's signature.
    Authority,
}

/// A chain to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewChain {
    /// How its blocks are proven.
    proof: ProofName,
    /// The interval between blocks, in milliseconds; 0: on demand alone.
    #[serde(default)]
    interval_ms: Option<u64>,
    /// On a chain of work, leading zero bits of the easiest hash.
    #[serde(default)]
    difficulty: Option<u8>,
    /// What a block pays its producer.
    #[serde(default)]
    reward: Option<u64>,
    /// Its first admin, who may issue too; the coordinator's own key where it is not said.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    admin: Option<Address>,
}

/// Make a chain; workers join it with `chain join NAME`
#[utoipa::path(
    request_body = NewChain,
    tag = "operator",
    params(("name" = String, Path, description = "its name", example = "audit")),
    security(("operator" = [])),
    responses((status = 200, description = "the chain", body = ChainInfo), ServiceError)
)]
#[post("/v1/chains/{name}")]
async fn make_chain(
    state: Data<State>,
    operator: Asked,
    name: Path<String>,
    Json(Strict(body)): JsonObject<NewChain>,
) -> Answer<ChainInfo> {
    require(operator)?;
    let made = call(&state, move |service| {
        let admin = body.admin.unwrap_or_else(|| service.public_key().address());
        let mut spec = ChainSpec::default_for(&name, admin);
        let difficulty = body.difficulty.unwrap_or(USUAL_DIFFICULTY);
        if difficulty > MAX_DIFFICULTY {
            return Err(ServiceError::Malformed(format!(
                "a difficulty of {difficulty} bits, at most {MAX_DIFFICULTY} are allowed"
            )));
        }
        spec.proof = match body.proof {
            ProofName::Work => ProofSpec::Work {
                initial_bits: Target::from_leading_zero_bits(difficulty).to_bits(),
            },
            ProofName::Stake => ProofSpec::Stake,
            ProofName::Authority => ProofSpec::Authority,
        };
        spec.block_interval_ms = body.interval_ms.unwrap_or(spec.block_interval_ms);
        spec.reward = body.reward.map_or(spec.reward, Amount::new);
        service.make_chain(spec)
    });
    Ok(Json(made.await?))
}

/// Ask for a fork of a chain: its leader makes it, since the coordinator holds no state
#[utoipa::path(
    request_body = ForkWish,
    tag = "operator",
    params(("name" = String, Path, description = "the chain that is forked", example = "main")),
    security(("operator" = [])),
    responses((status = 200, description = "it is asked for", body = ForkWish), ServiceError)
)]
#[post("/v1/chains/{name}/forks")]
async fn ask_for_fork(
    state: Data<State>,
    operator: Asked,
    name: Path<String>,
    Json(Strict(body)): JsonObject<ForkWish>,
) -> Answer<ForkWish> {
    require(operator)?;
    let asked = call(&state, move |service| {
        service.ask_for_fork(&name, &body.name, body.at, now())
    });
    let wish = asked.await?;
    Ok(Json(ForkWish {
        name: wish.name,
        at: Height::new(from_sql(wish.height)),
    }))
}
