//! The interface's description, and a page to read it that needs nothing from elsewhere.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};
use utoipa_swagger_ui::{Config, SwaggerUi};

/// Method, path, what it does. The bodies are those of `block_chain_common::coordinator_api`.
const ROUTES: [(&str, &str, &str); 18] = [
    ("post", "/v1/challenges", "a nonce to sign, for a registration"),
    ("post", "/v1/workers", "register: the same key gets the same id"),
    (
        "post",
        "/v1/workers/{id}/heartbeat",
        "the worker lives; answers with the chain's view (bearer token)",
    ),
    (
        "post",
        "/v1/workers/{id}/leave",
        "the worker leaves (bearer token)",
    ),
    ("get", "/v1/chains", "all chains"),
    ("get", "/v1/chains/{name}", "a chain: id, spec, coordinator's key"),
    (
        "get",
        "/v1/chains/{name}/view",
        "members, leader, term, last checkpoint, what is final",
    ),
    (
        "get",
        "/v1/chains/{name}/checkpoints",
        "checkpoints from a size on (?from=&limit=, at most 1,000)",
    ),
    (
        "post",
        "/v1/chains/{name}/checkpoints",
        "the leader asks to commit a block (bearer token)",
    ),
    (
        "post",
        "/v1/chains/{name}/cosignatures",
        "a member cosigns a checkpoint (bearer token)",
    ),
    ("get", "/v1/events", "server-sent events"),
    (
        "post",
        "/register",
        "an id without a key, as the earlier coordinator gave them",
    ),
    ("get", "/check_leader", "the leader of chain main"),
    ("post", "/check_leader", "the leader of chain main"),
    ("get", "/healthz", "the process is up; its service and version"),
    ("get", "/readyz", "the database answers"),
    ("get", "/metrics", "figures for Prometheus"),
    ("get", "/", "the page for people"),
];

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config
        .route("/openapi.json", web::get().to(document))
        .route("/docs", web::get().to(to_docs))
        .service(SwaggerUi::new("/docs/{_:.*}").config(Config::from("/openapi.json")));
}

async fn to_docs() -> HttpResponse {
    HttpResponse::TemporaryRedirect()
        .insert_header(("location", "/docs/"))
        .finish()
}

async fn document() -> HttpResponse {
    HttpResponse::Ok().json(openapi())
}

fn openapi() -> Value {
    let mut paths = serde_json::Map::new();
    for (method, path, summary) in ROUTES {
        let parameters: Vec<Value> = ["id", "name"]
            .iter()
            .filter(|name| path.contains(&format!("{{{name}}}")))
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
            .collect();
        let mut operation = json!({
            "summary": summary,
            "parameters": parameters,
            "responses": {
                "200": { "description": "done" },
                "default": {
                    "description": "refused: code, message, and sometimes a hint",
                    "content": { "application/json": { "schema": { "$ref": "#/components/schemas/ApiError" } } }
                }
            }
        });
        if method == "post" && path.starts_with("/v1") {
            operation["requestBody"] =
                json!({ "content": { "application/json": { "schema": { "type": "object" } } } });
        }
        paths.entry(path).or_insert_with(|| json!({}))[method] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "block-chain-server", "version": env!("CARGO_PKG_VERSION"),
                  "description": "The coordinator: ids, leaders, checkpoints. It holds no blocks." },
        "paths": paths,
        "components": { "schemas": { "ApiError": {
            "type": "object",
            "required": ["code", "message"],
            "properties": { "code": { "type": "string" }, "message": { "type": "string" }, "hint": { "type": "string" } }
        } } }
    })
}
