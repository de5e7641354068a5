//! The wallets in the node's data directory, for who is signed in. Keys never leave it: the node signs.

use super::{Answer, blocking, parse};
use crate::api::ApiState;
use crate::api::error::ApiError;
use crate::api::types::{Accepted, NewWallet, SignRequest, Signable, WalletList, WalletView};
use crate::identity::IdentityError;
use crate::wallet::{Wallet, WalletError};
use actix_web::web::{Json, Path};
use actix_web::{get, post};
use block_chain_common::codec::BoundedBytes;
use block_chain_common::keys::{Address, SecretKey};
use block_chain_common::limits::MAX_MEMO_BYTES;
use block_chain_common::quantity::Amount;
use block_chain_common::transaction::{Payload, RecordKey, RecordValue};
use block_chain_web::strict::{JsonObject, Strict};
use std::path::Path as FilePath;
use utoipa_actix_web::service_config::ServiceConfig;

pub(super) fn configure(config: &mut ServiceConfig<'_>) {
    config
        .service(list_wallets)
        .service(add_wallet)
        .service(sign_with_wallet);
}

/// What is wrong with a wallet, as an answer.
pub(in crate::api) fn wallet_refusal(error: WalletError) -> ApiError {
    let message = match error.hint() {
        // The hints speak of commands, which a page has not.
        Some(hint) if matches!(error, WalletError::Taken(_)) => format!("{error}: {hint}"),
        _ => error.to_string(),
    };
    match error {
        WalletError::Unknown(_) | WalletError::None => ApiError::NotFound(message),
        WalletError::Passphrase(_) => ApiError::Passphrase(message),
        WalletError::Label { .. }
        | WalletError::Number { .. }
        | WalletError::EmptyPassphrase
        | WalletError::Damaged { .. }
        | WalletError::NewerFormat { .. }
        | WalletError::Secret => ApiError::Malformed(message),
        WalletError::Identity(IdentityError::Random(_)) | WalletError::Io { .. } => {
            tracing::error!(%message, "a wallet");
            ApiError::Conflict(message)
        }
        _ => ApiError::Conflict(message),
    }
}

fn view(wallet: &Wallet, default: Option<Address>) -> WalletView {
    WalletView {
        address: wallet.address,
        public_key: wallet.public_key,
        label: wallet.label.clone(),
        number: wallet.number.clone(),
        locked: wallet.is_locked(),
        default: default == Some(wallet.address),
    }
}

/// The wallets of this node
#[utoipa::path(
    tag = "wallets",
    security(("cookie" = [])),
    responses((status = 200, description = "the wallets", body = WalletList), ApiError)
)]
#[get("/v1/wallets")]
async fn list_wallets(state: ApiState) -> Answer<WalletList> {
    state.require_trust()?;
    let wallets = state.interface.wallets.clone();
    let list = blocking(move || {
        let all = wallets.list().map_err(wallet_refusal)?;
        let named = wallets.default_address().map_err(wallet_refusal)?;
        let default = named.or_else(|| all.first().map(|wallet| wallet.address));
        let wallets = all.iter().map(|wallet| view(wallet, default)).collect();
        Ok(WalletList { wallets })
    });
    Ok(Json(list.await?))
}

/// Make a wallet, or take one from a file
///
/// A file must hold its key encrypted: a bare key does not cross HTTP.
#[utoipa::path(
    request_body = NewWallet,
    tag = "wallets",
    security(("cookie" = [])),
    responses((status = 200, description = "the wallet", body = WalletView), ApiError)
)]
#[post("/v1/wallets")]
async fn add_wallet(state: ApiState, Json(Strict(body)): JsonObject<NewWallet>) -> Answer<WalletView> {
    if body.passphrase.is_some() && !state.is_private {
        return Err(ApiError::Clear);
    }
    let wallets = state.interface.wallets.clone();
    let made = blocking(move || {
        let passphrase = body.passphrase.as_ref().map(|text| text.as_str());
        let made = match &body.file {
            None => wallets.add(None, body.label.as_deref(), body.number.as_deref(), passphrase),
            Some(text) => {
                if !Wallet::is_locked_text(text) {
                    return Err(ApiError::Malformed(
                        "the file is no wallet whose key is encrypted: `wallet export` with a passphrase writes one, \
                         and `wallet import` takes others"
                            .to_owned(),
                    ));
                }
                wallets.import(text, FilePath::new("the file"))
            }
        };
        let made = made.map_err(wallet_refusal)?;
        let default = wallets.default_address().map_err(wallet_refusal)?;
        Ok(view(&made, default))
    });
    Ok(Json(made.await?))
}

/// Sign with a wallet's key, and hand it in
#[utoipa::path(
    request_body = Signable,
    tag = "wallets",
    security(("cookie" = [])),
    params(("address" = Address, Path, description = "the wallet's address")),
    responses((status = 200, description = "it waits for a block, and is on disk", body = Accepted), ApiError)
)]
#[post("/v1/wallets/{address}/sign")]
async fn sign_with_wallet(
    state: ApiState,
    address: Path<String>,
    Json(Strict(SignRequest(mut what))): JsonObject<SignRequest>,
) -> Answer<Accepted> {
    let passphrase = what.take_passphrase();
    if passphrase.is_some() && !state.is_private {
        return Err(ApiError::Clear);
    }
    let address: Address = parse(&address)?;
    let payload = payload(what)?;
    if matches!(&payload, Payload::Transfer { to, .. } if *to == address) {
        return Err(ApiError::Malformed(format!(
            "{address} is the sender's own address"
        )));
    }
    let wallets = state.interface.wallets.clone();
    let key: SecretKey = blocking(move || {
        let wallet = wallets.find(&address.to_string()).map_err(wallet_refusal)?;
        let opened = wallet.open(|| Ok(passphrase));
        opened.map_err(|error| match error.downcast::<WalletError>() {
            Ok(error) => wallet_refusal(error),
            Err(other) => ApiError::Conflict(other.to_string()),
        })
    })
    .await?;
    Ok(Json(state.node.sign_and_submit(&key, payload).await?))
}

fn payload(what: Signable) -> Result<Payload, ApiError> {
    let malformed = |what: &str, error: String| ApiError::Malformed(format!("the {what} has {error}"));
    let value = |text: String, what: &str| {
        RecordValue::new(text.into_bytes()).map_err(|error| malformed(what, error.to_string()))
    };
    Ok(match what {
        Signable::Put { key, value: text, .. } => Payload::Put {
            key: RecordKey::new(key.into_bytes()).map_err(|error| malformed("key", error.to_string()))?,
            value: value(text, "value")?,
        },
        Signable::Message { message, .. } => Payload::Message {
            bytes: value(message, "message")?,
        },
        Signable::Transfer { to, amount, memo, .. } => Payload::Transfer {
            to,
            amount: Amount::new(amount),
            memo: BoundedBytes::new(memo.clone().into_bytes()).map_err(|_error| {
                let found = memo.len();
                ApiError::Malformed(format!(
                    "the note has {found} bytes, at most {MAX_MEMO_BYTES} are allowed"
                ))
            })?,
        },
        Signable::Deposit { to, amount, .. } => Payload::Deposit {
            to,
            amount: Amount::new(amount),
        },
        Signable::Stake { amount, .. } => Payload::Stake {
            amount: Amount::new(amount),
        },
        Signable::Unstake { amount, .. } => Payload::Unstake {
            amount: Amount::new(amount),
        },
    })
}
