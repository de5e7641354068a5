//! The interface's description, made of what the handlers say of themselves, and a page to read it that needs nothing
//! from elsewhere. Who asks for what is not in it is told so here.

use super::error::ApiError;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, get};
use block_chain_common::coordinator_api::ApiError as Refusal;
pub(super) use block_chain_web::interface::Interface;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_actix_web::service_config::ServiceConfig;
use utoipa_swagger_ui::{Config, SwaggerUi};

/// What is said of the whole; the routes come from the handlers.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "block-chain-worker: a node",
        description = "One worker's replicas of its chains, for its commands, its page, and programs on its machine."
    ),
    components(schemas(Refusal)),
    servers(
        (url = "/", description = "the chain that the worker is registered for"),
        (
            url = "/chains/{chain}",
            description = "another chain that it has joined",
            variables(("chain" = (default = "main", description = "the chain's name")))
        )
    ),
    modifiers(&Cookie)
)]
struct Base;

struct Cookie;

impl Modify for Cookie {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let mut http = Http::new(HttpAuthScheme::Bearer);
        http.description = Some("the word in api.cookie in the data directory".to_owned());
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("cookie", SecurityScheme::Http(http));
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
) -> Result<HttpResponse, ApiError> {
    let method = request.method().to_string();
    let found = interface.methods(request.path());
    let path = request.path().chars().take(120).collect();
    Err(match found {
        Some(allowed) => ApiError::Method {
            method,
            path,
            allowed: allowed.to_owned(),
        },
        None => ApiError::NotFound(format!(
            "there is no {method} {path}; the routes are listed at /docs"
        )),
    })
}
