//! The interface's description, made of what the handlers say of themselves, and a page to read it that needs nothing
//! from elsewhere. Who asks for what is not in it is told so here.

use crate::error::ServiceError;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, get};
use block_chain_common::coordinator_api::{ApiError, Event};
pub(super) use block_chain_web::interface::Interface;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_actix_web::service_config::ServiceConfig;
use utoipa_swagger_ui::{Config, SwaggerUi};

/// What is said of the whole; the routes come from the handlers.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "block-chain-server",
        description = "The coordinator: ids, leaders, checkpoints. It holds no blocks."
    ),
    components(schemas(ApiError, Event)),
    modifiers(&WorkerToken)
)]
struct Base;

struct WorkerToken;

impl Modify for WorkerToken {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let mut http = Http::new(HttpAuthScheme::Bearer);
        http.description = Some("the worker's token, which its registration gave".to_owned());
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("worker_token", SecurityScheme::Http(http));
        let mut http = Http::new(HttpAuthScheme::Bearer);
        http.description =
            Some("the operator's word: what api.cookie in the data directory holds".to_owned());
        components.add_security_scheme("operator", SecurityScheme::Http(http));
    }
}

/// The description without its routes.
pub(super) fn base() -> utoipa::openapi::OpenApi {
    Base::openapi()
}

pub(super) fn configure(config: &mut ServiceConfig<'_>) {
    config.service(openapi_json).service(docs);
    let pages = SwaggerUi::new("/docs/{_:.*}").config(Config::from("/openapi.json"));
    config.map(|config| config.service(pages));
}

/// This description, as OpenAPI 3.1
#[utoipa::path(tag = "service", responses((status = 200, description = "the document", body = Object)))]
#[get("/openapi.json")]
async fn openapi_json(interface: Data<Interface>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(interface.document().to_owned())
}

/// A page to read and try the interface
#[utoipa::path(tag = "service", responses((status = 307, description = "it is at /docs/")))]
#[get("/docs")]
async fn docs() -> HttpResponse {
    HttpResponse::TemporaryRedirect()
        .insert_header(("location", "/docs/"))
        .finish()
}

/// What is asked for is not there, or not by this method.
pub(super) async fn unrouted(
    request: HttpRequest,
    interface: Data<Interface>,
) -> Result<HttpResponse, ServiceError> {
    let method = request.method().to_string();
    let found = interface.methods(request.path());
    let path = request.path().chars().take(120).collect();
    Err(match found {
        Some(allowed) => ServiceError::Method {
            method,
            path,
            allowed: allowed.to_owned(),
        },
        None => ServiceError::NoRoute { method, path },
    })
}
