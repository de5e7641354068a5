//! The interface's description, made of what the handlers say of themselves, and a page to read it that needs nothing
//! from elsewhere. Who asks for what is not in it is told so here.

use super::error::ApiError;
use actix_web::dev::ResourceDef;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, get};
use block_chain_common::coordinator_api::ApiError as Refusal;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_actix_web::service_config::ServiceConfig;
use utoipa_swagger_ui::{Config, SwaggerUi};

/// What is said of the whole; the routes come from the handlers.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "block-chain-worker: a node",
        description = "One worker's replica of the chain, for its commands, its page, and programs on its machine."
    ),
    components(schemas(Refusal)),
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

/// The interface as it is served: its description, and the methods of each path.
pub(super) struct Interface {
    document: String,
    routes: Vec<(ResourceDef, String)>,
}

impl Interface {
    /// Of the description of all routes.
    pub(super) fn new(document: &utoipa::openapi::OpenApi) -> Self {
        let routes = document.paths.paths.iter().map(|(path, item)| {
            let item = serde_json::to_value(item).unwrap_or_default();
            let methods = item.as_object().into_iter().flat_map(|item| item.keys());
            let methods: Vec<String> = methods.map(|method| method.to_uppercase()).collect();
            (ResourceDef::new(path.as_str()), methods.join(", "))
        });
        Self {
            routes: routes.collect(),
            document: serde_json::to_string(document).unwrap_or_default(),
        }
    }
}

/// This description, as OpenAPI 3.1
#[utoipa::path(tag = "service", responses((status = 200, description = "the document", body = Object)))]
#[get("/openapi.json")]
async fn openapi_json(interface: Data<Interface>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(interface.document.clone())
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
    let found = interface
        .routes
        .iter()
        .find(|(path, _)| path.is_match(request.path()));
    let path = request.path().chars().take(120).collect();
    Err(match found {
        Some((_, allowed)) => ApiError::Method {
            method,
            path,
            allowed: allowed.clone(),
        },
        None => ApiError::NotFound(format!(
            "there is no {method} {path}; the routes are listed at /docs"
        )),
    })
}
