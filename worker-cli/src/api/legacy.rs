//! The routes of earlier systems, for programs that were written for them: wallets and transfers (`/wallet`, `/transaction`,
//! `/blockchain`), any JSON (`/inject`, `/leap`, `/stats`…), messages (`/add`, `/data`, `/neighbours`). Each stands on what
//! this node does anyway: what they send is signed, and waits for a block like everything else.
//!
//! What changes something asks for the node's cookie, also where the earlier route was a GET; deposits need the role `issue`.

use super::ApiState;
use super::blocks::as_list;
use super::error::ApiError;
use super::pieces::streaming;
use super::routes::{account_view, blocking, wallet_refusal};
use super::types::{Accepted, BlockView, Mined};
use crate::node::RequestError;
use crate::wallet::{Wallet, WalletError};
use actix_web::web::{Json, Query};
use actix_web::{HttpRequest, HttpResponse, get, post, put};
use block_chain_common::codec::BoundedBytes;
use block_chain_common::hash::BlockHash;
use block_chain_common::keys::Address;
use block_chain_common::quantity::Amount;
use block_chain_common::transaction::{Payload, RecordKey, RecordValue};
use block_chain_web::session::bearer;
use block_chain_web::strict::{JsonObject, Strict};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use zeroize::Zeroizing;

/// How long a block is waited for.
const MINE: Duration = Duration::from_secs(60);
/// Messages that are listed.
const MESSAGES: usize = 10_000;

pub(super) fn configure(config: &mut ServiceConfig<'_>) {
    config
        .service(new_wallet)
        .service(get_balance)
        .service(deposit)
        .service(new_transaction)
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

/// A wallet for a telephone number.
#[derive(Deserialize, ToSchema)]
struct NumberRequest {
    /// The number, which stays in the node's data directory.
    number: String,
    /// The password, under which the key rests.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    password: Option<Zeroizing<String>>,
}

/// A new wallet.
#[derive(Serialize, ToSchema)]
struct NewWalletAnswer {
    message: String,
    /// Its address.
    addr: Address,
}

/// Earlier system 2: a wallet for a telephone number
#[utoipa::path(
    tag = "earlier systems",
    security(("cookie" = [])),
    responses((status = 200, description = "the wallet", body = NewWalletAnswer), ApiError)
)]
#[post("/wallet/new_wallet/")]
async fn new_wallet(
    state: ApiState,
    Json(Strict(body)): JsonObject<NumberRequest>,
) -> Answer<NewWalletAnswer> {
    private(&state, body.password.is_some())?;
    let wallets = state.interface.wallets.clone();
    let made = blocking(move || {
        let password = body.password.as_ref().map(|text| text.as_str());
        wallets
            .add(None, None, Some(&body.number), password)
            .map_err(wallet_refusal)
    });
    Ok(Json(NewWalletAnswer {
        message: "Wallet was created.".to_owned(),
        addr: made.await?.address,
    }))
}

/// Passwords cross a network under TLS alone.
fn private(state: &ApiState, has_password: bool) -> Result<(), ApiError> {
    if has_password && !state.is_private {
        return Err(ApiError::Clear);
    }
    Ok(())
}

/// A wallet's balance.
#[derive(Serialize, ToSchema)]
struct BalanceAnswer {
    message: String,
    /// What it can spend, in base units.
    balance: Amount,
}

/// Earlier system 2: the balance of a wallet, by its number and password
#[utoipa::path(
    tag = "earlier systems",
    security(("cookie" = [])),
    responses((status = 200, description = "its balance", body = BalanceAnswer), ApiError)
)]
#[post("/wallet/get_balance/")]
async fn get_balance(
    state: ApiState,
    Json(Strict(body)): JsonObject<NumberRequest>,
) -> Answer<BalanceAnswer> {
    private(&state, body.password.is_some())?;
    let wallets = state.interface.wallets.clone();
    let address = blocking(move || {
        let wallet = wallets.find(&body.number).map_err(wallet_refusal)?;
        opened(&wallet, body.password)?;
        Ok(wallet.address)
    })
    .await?;
    let account = account_view(&state, address).await?;
    Ok(Json(BalanceAnswer {
        message: "Balance of the wallet.".to_owned(),
        balance: account.available,
    }))
}

fn opened(
    wallet: &Wallet,
    password: Option<Zeroizing<String>>,
) -> Result<block_chain_common::keys::SecretKey, ApiError> {
    let key = wallet.open(|| Ok(password));
    key.map_err(|error| match error.downcast::<WalletError>() {
        Ok(error) => wallet_refusal(error),
        Err(other) => ApiError::Conflict(other.to_string()),
    })
}

/// Whole base units: a number, or a number as text. `10.0` is one, too: programs of system 2 count money in floating point.
fn amount(value: &Value) -> Result<Amount, ApiError> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => String::new(),
    };
    let digits = match text.split_once('.') {
        Some((whole, part)) if !part.is_empty() && part.bytes().all(|digit| digit == b'0') => whole,
        _ => text.as_str(),
    };
    let number = digits.parse::<u64>().ok();
    let number = number.filter(|number| *number > 0);
    number.map(Amount::new).ok_or_else(|| {
        let shown: String = value.to_string().chars().take(80).collect();
        malformed(&format!("the amount {shown} is not a whole number above 0"))
    })
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

/// New units for a wallet.
#[derive(Deserialize, ToSchema)]
struct DepositRequest {
    /// Its address.
    wallet: String,
    /// How many base units.
    #[schema(value_type = u64)]
    amount: Value,
}

/// Earlier system 2: new units for a wallet; the worker's key needs the role `issue`
#[utoipa::path(
    tag = "earlier systems",
    security(("cookie" = [])),
    responses((status = 200, description = "it waits for a block", body = SentAnswer), ApiError)
)]
#[post("/transaction/deposit/")]
async fn deposit(state: ApiState, Json(Strict(body)): JsonObject<DepositRequest>) -> Answer<SentAnswer> {
    let to: Address = body
        .wallet
        .parse()
        .or(Err(malformed("Wallet address validation failed.")))?;
    let payload = Payload::Deposit {
        to,
        amount: amount(&body.amount)?,
    };
    let key = state.node.secret_key().clone();
    let accepted = state.node.sign_and_submit(&key, payload).await?;
    Ok(sent("Deposit will be added to a block.", &accepted))
}

/// Units from wallet to wallet.
#[derive(Deserialize, ToSchema)]
struct TransferRequest {
    /// The sender's address, of a wallet of this node.
    sender: String,
    /// The recipient's address.
    recipient: String,
    /// How many base units.
    #[schema(value_type = u64)]
    amount: Value,
    /// The sender's password, where its key rests under one.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    password: Option<Zeroizing<String>>,
}

/// Earlier system 2: units from a wallet of this node to another
#[utoipa::path(
    tag = "earlier systems",
    security(("cookie" = [])),
    responses((status = 200, description = "it waits for a block", body = SentAnswer), ApiError)
)]
#[post("/transaction/new_transaction/")]
async fn new_transaction(
    state: ApiState,
    Json(Strict(body)): JsonObject<TransferRequest>,
) -> Answer<SentAnswer> {
    private(&state, body.password.is_some())?;
    let bad_sender = || malformed("Sender address validation failed.");
    let sender: Address = body.sender.parse().or(Err(bad_sender()))?;
    let to: Address = body
        .recipient
        .parse()
        .or(Err(malformed("Recipient address validation failed.")))?;
    let amount = amount(&body.amount)?;
    if sender == to {
        return Err(malformed("Sender and recipient are the same."));
    }
    let wallets = state.interface.wallets.clone();
    let password = body.password;
    let key = blocking(move || match wallets.find(&sender.to_string()) {
        Ok(wallet) => opened(&wallet, password),
        Err(WalletError::Unknown(_)) => Err(malformed(&format!("There is no wallet {sender} on this node."))),
        Err(error) => Err(wallet_refusal(error)),
    })
    .await?;
    let payload = Payload::Transfer {
        to,
        amount,
        memo: BoundedBytes::default(),
    };
    match state.node.sign_and_submit(&key, payload).await {
        Ok(accepted) => Ok(sent("Transaction will be added to a block.", &accepted)),
        Err(RequestError::Refused(reason)) if reason.contains("MEM-3") => Err(malformed("Not enough funds.")),
        Err(error) => Err(error.into()),
    }
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
