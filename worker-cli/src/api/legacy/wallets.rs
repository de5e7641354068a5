//! System 2's wallets and transfers: a wallet for a telephone number, its balance, deposits and transfers.

use super::{Answer, SentAnswer, malformed, sent};
use crate::api::ApiState;
use crate::api::error::ApiError;
use crate::api::routes::{account_view, blocking, wallet_refusal};
use crate::node::RequestError;
use crate::wallet::{Wallet, WalletError};
use actix_web::post;
use actix_web::web::Json;
use block_chain_common::codec::BoundedBytes;
use block_chain_common::keys::{Address, SecretKey};
use block_chain_common::quantity::Amount;
use block_chain_common::transaction::Payload;
use block_chain_web::strict::{JsonObject, Strict};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use zeroize::Zeroizing;

pub(super) fn configure(config: &mut ServiceConfig<'_>) {
    config
        .service(new_wallet)
        .service(get_balance)
        .service(deposit)
        .service(new_transaction);
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

fn opened(wallet: &Wallet, password: Option<Zeroizing<String>>) -> Result<SecretKey, ApiError> {
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
