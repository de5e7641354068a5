//! The coordinator's HTTP interface. GETs change nothing; every error is an `ApiError`.

mod events;
mod legacy;
mod metrics;
mod openapi;
mod page;
mod workers;

pub use metrics::Metrics;

use crate::error::ServiceError;
use crate::service::Service;
use actix_web::{HttpRequest, HttpResponse, web};
use block_chain_common::coordinator_api::{API_VERSION, ApiError};
use block_chain_common::quantity::Timestamp;
use serde_json::json;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The body of a request: the largest is a commit with 256 acknowledgements.
const MAX_BODY_BYTES: usize = 1_048_576;

/// What every handler is given.
pub struct State {
    /// The rules.
    pub service: Arc<Service>,
    /// What is counted.
    pub metrics: Metrics,
    /// Tells open event streams to end.
    pub stopping: tokio::sync::watch::Receiver<bool>,
}

/// Adds all routes.
pub fn configure(config: &mut web::ServiceConfig) {
    let json = web::JsonConfig::default()
        .limit(MAX_BODY_BYTES)
        .content_type_required(false)
        .error_handler(|error, _| {
            ServiceError::Malformed(format!("the body cannot be read: {error}")).into()
        });
    let query = web::QueryConfig::default().error_handler(|error, _| {
        ServiceError::Malformed(format!("the query cannot be read: {error}")).into()
    });
    let path = web::PathConfig::default().error_handler(|error, _| {
        ServiceError::Malformed(format!("the path cannot be read: {error}")).into()
    });
    config.app_data(json).app_data(query).app_data(path);
    workers::configure(config);
    legacy::configure(config);
    openapi::configure(config);
    config
        .route("/v1/events", web::get().to(events::stream))
        .route("/healthz", web::get().to(healthz))
        .route("/readyz", web::get().to(readyz))
        .route("/metrics", web::get().to(metrics::show))
        .route("/", web::get().to(page::show))
        .default_service(web::to(not_found));
}

/// The clock, read at the edge: the service takes time as an argument.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::new(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Runs a call of the service on a thread that may block.
async fn call<T: Send + 'static>(
    state: &web::Data<State>,
    run: impl FnOnce(&Service) -> Result<T, ServiceError> + Send + 'static,
) -> Result<T, ServiceError> {
    let service = Arc::clone(&state.service);
    match web::block(move || run(&service)).await {
        Ok(result) => result,
        Err(_) => Err(ServiceError::Busy("the server is stopping".to_owned())),
    }
}

fn bearer(request: &HttpRequest) -> Option<String> {
    let header = request.headers().get("authorization")?.to_str().ok()?;
    header.strip_prefix("Bearer ").map(str::to_owned)
}

async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({
        "status": "ok",
        "service": "block-chain-server",
        "api_version": API_VERSION,
        "version": env!("CARGO_PKG_VERSION"),
    }))
}

async fn readyz(state: web::Data<State>) -> Result<HttpResponse, ServiceError> {
    call(&state, Service::ready).await?;
    Ok(HttpResponse::Ok().json(json!({ "status": "ready" })))
}

async fn not_found(request: HttpRequest) -> HttpResponse {
    let path: String = request.path().chars().take(120).collect();
    HttpResponse::NotFound().json(ApiError {
        code: "not_found".to_owned(),
        message: format!("there is no {} {path}", request.method()),
        hint: Some("the routes are listed at /docs".to_owned()),
    })
}
