//! The coordinator's HTTP interface. GETs change nothing; every error is an `ApiError`.

mod bans;
mod events;
mod guard;
mod legacy;
mod metrics;
mod openapi;
mod operator;
mod pages;
mod workers;

pub use metrics::Metrics;

use crate::error::{MAX_BODY_BYTES, ServiceError};
use crate::service::Service;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::error::JsonPayloadError;
use actix_web::middleware::from_fn;
use actix_web::web::{self, Json};
use actix_web::{App, HttpRequest, get};
use block_chain_common::coordinator_api::API_VERSION;
use block_chain_common::quantity::Timestamp;
use block_chain_web::host::Way;
use block_chain_web::limit::{Limiter, Limits};
use block_chain_web::session::Sessions;
use block_chain_web::tls::Certificate;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;
use utoipa::ToSchema;
use utoipa_actix_web::AppExt as _;
use utoipa_actix_web::service_config::ServiceConfig;

/// What every handler is given.
pub struct State {
    service: Arc<Service>,
    metrics: Metrics,
    /// Tells open event streams to end.
    stopping: tokio::sync::watch::Receiver<bool>,
    listeners: Arc<Semaphore>,
    access: Access,
    limiter: Limiter,
}

/// Who the operator is, and by what the server is asked.
pub struct Access {
    /// Browsers that are signed in.
    pub sessions: Sessions,
    /// The file that holds the word to sign in with.
    pub file: PathBuf,
    /// Where the server listens.
    pub address: SocketAddr,
    /// Whether it may be asked by any name: its certificate says which are good.
    pub any_name: bool,
    /// Whether it is for its own machine alone: on loopback, without a join token and without `--open`.
    pub is_here_only: bool,
    /// What is known of the way that requests take to it.
    pub way: Way,
    /// With this certificate.
    pub certificate: Option<Arc<Certificate>>,
}

impl State {
    /// The state of a server with this service.
    ///
    /// # Errors
    /// Where two figures have one name.
    pub fn new(
        service: Arc<Service>,
        stopping: tokio::sync::watch::Receiver<bool>,
        access: Access,
    ) -> prometheus::Result<Self> {
        Ok(Self {
            service,
            metrics: Metrics::new()?,
            stopping,
            listeners: Arc::new(Semaphore::new(events::MAX_LISTENERS)),
            access,
            limiter: Limiter::new(Limits::default()),
        })
    }
}

/// All routes, with their description and what answers besides them.
pub fn app(
    state: web::Data<State>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    let app = App::new().app_data(state).wrap(from_fn(guard::guard));
    let app = app.into_utoipa_app().openapi(openapi::base());
    let (app, document) = app.configure(configure).split_for_parts();
    app.app_data(web::Data::new(openapi::Interface::new(&document)))
        .default_service(web::to(openapi::unrouted))
}

fn configure(config: &mut ServiceConfig<'_>) {
    let json = web::JsonConfig::default()
        .limit(MAX_BODY_BYTES)
        .content_type_required(false)
        .error_handler(|error, _| unreadable(error).into());
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
    operator::configure(config);
    bans::configure(config);
    pages::configure(config);
    config.map(|config| config.configure(block_chain_web::assets::configure));
    config
        .service(events::events)
        .service(healthz)
        .service(readyz)
        .service(metrics::figures);
}

fn unreadable(error: JsonPayloadError) -> ServiceError {
    match error {
        JsonPayloadError::OverflowKnownLength { .. } | JsonPayloadError::Overflow { .. } => {
            ServiceError::TooLarge
        }
        JsonPayloadError::Deserialize(error) => {
            ServiceError::Malformed(format!("the body cannot be read: {error}"))
        }
        other => ServiceError::Malformed(format!("the body cannot be read: {other}")),
    }
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
    block_chain_web::session::bearer(request.headers()).map(str::to_owned)
}

/// The process is up.
#[derive(Serialize, ToSchema)]
struct Health {
    /// `ok`.
    status: &'static str,
    /// `block-chain-server`: tells it from other programs.
    service: &'static str,
    /// The version of this interface.
    api_version: u32,
    /// The program's version.
    version: &'static str,
}

/// The process is up: its service and version
#[utoipa::path(tag = "service", responses((status = 200, description = "it is", body = Health)))]
#[get("/healthz")]
async fn healthz() -> Json<Health> {
    Json(Health {
        status: "ok",
        service: "block-chain-server",
        api_version: API_VERSION,
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// The server is of use.
#[derive(Serialize, ToSchema)]
struct Ready {
    /// `ready`.
    status: &'static str,
}

/// The database answers
#[utoipa::path(
    tag = "service",
    responses((status = 200, description = "it does", body = Ready), ServiceError)
)]
#[get("/readyz")]
async fn readyz(state: web::Data<State>) -> Result<Json<Ready>, ServiceError> {
    call(&state, Service::ready).await?;
    Ok(Json(Ready { status: "ready" }))
}
