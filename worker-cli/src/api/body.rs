//! A request's body as bytes: within the limit, else refused with the limit in the answer.

use super::error::ApiError;
use actix_web::dev::Payload;
use actix_web::web::{self, Bytes};
use actix_web::{FromRequest, HttpRequest};
use block_chain_common::limits::MAX_REQUEST_BYTES;
use block_chain_web::strict::Strict;
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;

/// The body.
pub(super) struct Body(pub(super) Bytes);

impl FromRequest for Body {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let payload = web::Payload::from_request(request, payload);
        Box::pin(async move {
            let unreadable =
                |error: actix_web::Error| ApiError::Malformed(format!("the body cannot be read: {error}"));
            let payload = payload.await.map_err(unreadable)?;
            let read = payload.to_bytes_limited(MAX_REQUEST_BYTES).await;
            let bytes = read.or(Err(ApiError::TooLarge))?;
            bytes.map(Self).map_err(unreadable)
        })
    }
}

impl Body {
    /// As JSON; nothing at all stands for the default.
    pub(super) fn json_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, ApiError> {
        if self.0.is_empty() {
            Ok(T::default())
        } else {
            self.json()
        }
    }

    /// As JSON.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_slice(&self.0)
            .map(|Strict(value)| value)
            .map_err(|error| ApiError::Malformed(format!("the body cannot be read: {error}")))
    }
}
