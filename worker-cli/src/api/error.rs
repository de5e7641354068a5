//! What the node refuses, each with its code and HTTP status, in one table.

use super::types::Status;
use crate::coordinator::CoordinatorError;
use crate::dump::DumpError;
use crate::node::{ChainsError, RequestError};
use crate::storage::{ForkFailure, StorageError};
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderValue, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use block_chain_common::coordinator_api::ApiError as Body;
use block_chain_common::limits::MAX_REQUEST_BYTES;
use block_chain_web::interface::{Refusal, refused, status_of};
use std::collections::BTreeMap;
use utoipa::openapi::{Ref, RefOr, Response};
use utoipa::{IntoResponses, ToSchema as _};

/// When to try again where nothing else is known, in seconds.
const RETRY_S: u64 = 5;

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The body or a parameter cannot be read, or breaks a limit.
    #[error("{0}")]
    Malformed(String),
    /// The body is too long.
    #[error("the body has more than {MAX_REQUEST_BYTES} bytes")]
    TooLarge,
    /// The cookie is missing or wrong.
    #[error("the node's cookie is missing or wrong")]
    Forbidden,
    /// A page of another site asks.
    #[error("the request is made by a page of another site than this node's")]
    WrongOrigin,
    /// A passphrase or the node's word in the clear.
    #[error("a passphrase or the node's word crosses a network under TLS alone")]
    Clear,
    /// A passphrase that does not open the key.
    #[error("{0}")]
    Passphrase(String),
    /// The host is another.
    #[error("the request is for another host than this node")]
    WrongHost,
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The route is there for other methods.
    #[error("{path} does not take {method}, only {allowed}")]
    Method {
        /// The method asked for.
        method: String,
        /// The path asked for, cut short.
        path: String,
        /// Those it takes, as the `Allow` header has them.
        allowed: String,
    },
    /// It cannot be done now.
    #[error("{0}")]
    Conflict(String),
    /// A receipt needs a committed block, and where that was final before members came, their cosignatures.
    #[error("{what} is {}; a receipt needs a committed block that a majority of the members has cosigned", status.name())]
    NotCommitted {
        /// The transaction or its block.
        what: String,
        /// How far it is agreed to.
        status: Status,
    },
    /// An address asks too much, or was refused too often.
    #[error("too many requests from this address; again in {seconds} s")]
    TooFast {
        /// When it may ask again.
        seconds: u64,
    },
    /// It is asked for too often at a time.
    #[error("{0}")]
    Busy(String),
    /// The node refuses.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The chain is not here, or cannot be joined, left or made.
    #[error(transparent)]
    Chains(#[from] ChainsError),
    /// The copy to SQL refuses.
    #[error(transparent)]
    Dump(#[from] DumpError),
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        Self::Request(RequestError::Storage(error))
    }
}

impl ApiError {
    /// The short name that programs tell refusals apart by; its status is in [`CODES`].
    fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::TooLarge => "too_large",
            Self::Forbidden => "forbidden",
            Self::Clear => "clear",
            Self::Passphrase(_) => "passphrase",
            Self::WrongOrigin => "wrong_origin",
            Self::WrongHost => "wrong_host",
            Self::NotFound(_) => "not_found",
            Self::Method { .. } => "method",
            Self::Conflict(_) => "conflict",
            Self::NotCommitted { .. } => "not_committed",
            Self::TooFast { .. } => "too_fast",
            Self::Busy(_) => "busy",
            Self::Dump(_) => "dump",
            Self::Chains(error) => match error {
                ChainsError::Name(_) => "malformed",
                ChainsError::Spec(_) | ChainsError::File(_) => "spec",
                ChainsError::NotJoined { .. } => "not_joined",
                ChainsError::Coordinator(CoordinatorError::Refused(_)) => "refused_by_coordinator",
                ChainsError::Coordinator(_) => "unreachable",
                ChainsError::Backup(_)
                | ChainsError::Identity(_)
                | ChainsError::Storage(_)
                | ChainsError::Driver(_) => "storage",
                ChainsError::Fork(ForkFailure::Storage(_)) => "storage",
                ChainsError::Failed { .. }
                | ChainsError::NotFinal { .. }
                | ChainsError::ParentBehind { .. }
                | ChainsError::NoParent { .. }
                | ChainsError::Fork(_)
                | ChainsError::Home { .. }
                | ChainsError::TooMany
                | ChainsError::Exists { .. }
                | ChainsError::OtherChain { .. }
                | ChainsError::Contradiction { .. } => "conflict",
            },
            Self::Request(error) => match error {
                RequestError::Transaction { .. } => "transaction",
                RequestError::Refused(_) => "refused",
                RequestError::Timeout(_) => "timeout",
                RequestError::Unreachable(_) => "unreachable",
                RequestError::Storage(_) => "storage",
                RequestError::Stopping => "stopping",
            },
        }
    }

    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::Forbidden => Some(
                "send Authorization: Bearer, with the word in api.cookie in the data directory".to_owned(),
            ),
            Self::Request(RequestError::Storage(error)) => error.hint().map(str::to_owned),
            Self::WrongHost => {
                Some("ask by the address that node.json in the data directory names".to_owned())
            }
            Self::Clear => Some(
                "serve TLS with --api-tls-self-signed or --api-tls-cert, or ask on the node's own machine, as through ssh -L".to_owned(),
            ),
            Self::NotCommitted {
                status: Status::Pending,
                ..
            } => Some("block-chain-worker mine_block makes a block now".to_owned()),
            Self::NotCommitted { .. } => {
                Some("block-chain-worker status says what the block waits for".to_owned())
            }
            Self::Method { .. } => Some("the routes are listed at /docs".to_owned()),
            Self::Dump(error) => error.hint().map(str::to_owned),
            Self::Chains(error) => error.hint(),
            _ => None,
        }
    }
}

impl ApiError {
    /// Its status in words.
    pub(super) fn title(&self) -> &'static str {
        self.status_code().canonical_reason().unwrap_or("Refused")
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        status_of(&CODES, self.code())
    }

    fn error_response(&self) -> HttpResponse {
        let (code, status) = (self.code(), self.status_code());
        if status.is_server_error() {
            tracing::warn!(error = %self, "a request failed");
        }
        let mut response = HttpResponse::build(status);
        if matches!(self, Self::TooFast { .. }) {
            // Whoever asks too much keeps no connection open meanwhile.
            response.force_close();
        }
        let mut response = response.json(Body {
            code: code.to_owned(),
            message: self.to_string(),
            hint: self.hint(),
        });
        if let Self::Method { allowed, .. } = self
            && let Ok(allowed) = HeaderValue::from_str(allowed)
        {
            response.headers_mut().insert(ALLOW, allowed);
        }
        let retry = match self {
            Self::TooFast { seconds } => Some(*seconds),
            // Whatever there is too much of is fewer in a while.
            _ if status == StatusCode::SERVICE_UNAVAILABLE => Some(RETRY_S),
            _ => None,
        };
        if let Some(seconds) = retry {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// What every route may answer besides what it is for.
impl IntoResponses for ApiError {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refused(&CODES, &Ref::from_schema_name(Body::name()))
    }
}

/// Every code of a refusal, its status, and what it means.
const CODES: [Refusal; 23] = [
    (
        "malformed",
        StatusCode::BAD_REQUEST,
        "the path, the query or the body cannot be read, or breaks a limit",
    ),
    (
        "transaction",
        StatusCode::BAD_REQUEST,
        "a transaction breaks a rule of the protocol, which the message names",
    ),
    (
        "refused",
        StatusCode::BAD_REQUEST,
        "what waits already leaves no room for it, or no funds",
    ),
    (
        "spec",
        StatusCode::BAD_REQUEST,
        "a chain's spec breaks a rule, which the message names",
    ),
    ("dump", StatusCode::BAD_REQUEST, "the SQL copy cannot be begun"),
    (
        "forbidden",
        StatusCode::UNAUTHORIZED,
        "the node's cookie is missing or wrong",
    ),
    (
        "wrong_origin",
        StatusCode::FORBIDDEN,
        "a page of another site asks",
    ),
    (
        "wrong_host",
        StatusCode::FORBIDDEN,
        "the request names another host than this node",
    ),
    (
        "clear",
        StatusCode::FORBIDDEN,
        "a secret would cross a network without TLS",
    ),
    (
        "passphrase",
        StatusCode::FORBIDDEN,
        "the passphrase does not open the wallet's key",
    ),
    ("not_found", StatusCode::NOT_FOUND, "there is no such thing"),
    (
        "not_joined",
        StatusCode::NOT_FOUND,
        "the node has not joined the chain",
    ),
    (
        "method",
        StatusCode::METHOD_NOT_ALLOWED,
        "the path takes other methods, which `Allow` names",
    ),
    (
        "conflict",
        StatusCode::CONFLICT,
        "it cannot be done as things are now",
    ),
    (
        "not_committed",
        StatusCode::CONFLICT,
        "a receipt needs a committed block",
    ),
    (
        "timeout",
        StatusCode::CONFLICT,
        "it did not happen in the time that was given",
    ),
    (
        "refused_by_coordinator",
        StatusCode::CONFLICT,
        "the coordinator refuses, for the reason in the message",
    ),
    (
        "too_large",
        StatusCode::PAYLOAD_TOO_LARGE,
        "the body is longer than 16 MiB",
    ),
    (
        "too_fast",
        StatusCode::TOO_MANY_REQUESTS,
        "the address asks too much, or was refused too often; `Retry-After` says when again",
    ),
    (
        "storage",
        StatusCode::INTERNAL_SERVER_ERROR,
        "the disk or what is on it fails",
    ),
    (
        "busy",
        StatusCode::SERVICE_UNAVAILABLE,
        "as much of it is under way as may be at a time; `Retry-After` says when again",
    ),
    (
        "unreachable",
        StatusCode::SERVICE_UNAVAILABLE,
        "the coordinator or a worker does not answer",
    ),
    ("stopping", StatusCode::SERVICE_UNAVAILABLE, "the node stops"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_described_once() {
        let source = include_str!("error.rs");
        let (begin, end) = (
            source.find("fn code(&self)").unwrap(),
            source.find("pub(super) fn hint").unwrap(),
        );
        let mut used: Vec<&str> = source[begin..end]
            .split('"')
            .skip(1)
            .step_by(2)
            .filter(|code| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
            .collect();
        used.sort_unstable();
        used.dedup();
        let mut described = CODES.map(|(code, ..)| code);
        described.sort_unstable();
        assert_eq!(used, described);
    }
}
