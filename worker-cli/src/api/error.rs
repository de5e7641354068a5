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
use std::collections::BTreeMap;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
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
    fn code_and_status(&self) -> (&'static str, StatusCode) {
        match self {
            Self::Malformed(_) => ("malformed", StatusCode::BAD_REQUEST),
            Self::TooLarge => ("too_large", StatusCode::PAYLOAD_TOO_LARGE),
            Self::Forbidden => ("forbidden", StatusCode::UNAUTHORIZED),
            Self::Clear => ("clear", StatusCode::FORBIDDEN),
            Self::WrongOrigin => ("wrong_origin", StatusCode::FORBIDDEN),
            Self::WrongHost => ("wrong_host", StatusCode::FORBIDDEN),
            Self::NotFound(_) => ("not_found", StatusCode::NOT_FOUND),
            Self::Method { .. } => ("method", StatusCode::METHOD_NOT_ALLOWED),
            Self::Conflict(_) => ("conflict", StatusCode::CONFLICT),
            Self::NotCommitted { .. } => ("not_committed", StatusCode::CONFLICT),
            Self::TooFast { .. } => ("too_fast", StatusCode::TOO_MANY_REQUESTS),
            Self::Busy(_) => ("busy", StatusCode::SERVICE_UNAVAILABLE),
            Self::Dump(_) => ("dump", StatusCode::BAD_REQUEST),
            Self::Chains(error) => match error {
                ChainsError::Name(_) => ("malformed", StatusCode::BAD_REQUEST),
                ChainsError::Spec(_) | ChainsError::File(_) => ("spec", StatusCode::BAD_REQUEST),
                ChainsError::NotJoined { .. } => ("not_joined", StatusCode::NOT_FOUND),
                ChainsError::Coordinator(CoordinatorError::Refused(_)) => {
                    ("refused_by_coordinator", StatusCode::CONFLICT)
                }
                ChainsError::Coordinator(_) => ("unreachable", StatusCode::SERVICE_UNAVAILABLE),
                ChainsError::Backup(_)
                | ChainsError::Identity(_)
                | ChainsError::Storage(_)
                | ChainsError::Driver(_) => ("storage", StatusCode::INTERNAL_SERVER_ERROR),
                ChainsError::Fork(ForkFailure::Storage(_)) => ("storage", StatusCode::INTERNAL_SERVER_ERROR),
                ChainsError::Failed { .. }
                | ChainsError::NotFinal { .. }
                | ChainsError::ParentBehind { .. }
                | ChainsError::NoParent { .. }
                | ChainsError::Fork(_)
                | ChainsError::Home { .. }
                | ChainsError::TooMany
                | ChainsError::Exists { .. }
                | ChainsError::OtherChain { .. }
                | ChainsError::Contradiction { .. } => ("conflict", StatusCode::CONFLICT),
            },
            Self::Request(error) => match error {
                RequestError::Transaction { .. } => ("transaction", StatusCode::BAD_REQUEST),
                RequestError::Refused(_) => ("refused", StatusCode::BAD_REQUEST),
                RequestError::Timeout(_) => ("timeout", StatusCode::CONFLICT),
                RequestError::Unreachable(_) => ("unreachable", StatusCode::SERVICE_UNAVAILABLE),
                RequestError::Storage(_) => ("storage", StatusCode::INTERNAL_SERVER_ERROR),
                RequestError::Stopping => ("stopping", StatusCode::SERVICE_UNAVAILABLE),
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
        self.code_and_status().1
    }

    fn error_response(&self) -> HttpResponse {
        let (code, status) = self.code_and_status();
        if status.is_server_error() {
            tracing::warn!(error = %self, "a request failed");
        }
        let mut response = HttpResponse::build(status).json(Body {
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
        let body = || {
            let schema = Ref::from_schema_name(Body::name());
            ContentBuilder::new().schema(Some(schema)).build()
        };
        let refused = |description: &str| {
            let response = ResponseBuilder::new().description(description);
            response.content("application/json", body()).build().into()
        };
        BTreeMap::from([
            ("4XX".to_owned(), refused("it is refused, by a rule or a limit")),
            (
                "5XX".to_owned(),
                refused("the store fails, or others do not answer in time"),
            ),
        ])
    }
}
