//! The interface's description, and a page to read it that needs nothing from elsewhere.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};
use utoipa_swagger_ui::{Config, SwaggerUi};

/// Method, path, what it does. The bodies are those of `types`.
const ROUTES: [(&str, &str, &str); 26] = [
    (
        "get",
        "/v1/status",
        "the node now: head, committed, final, leader, what waits and why",
    ),
    ("get", "/v1/leader", "who leads, in which term, since when"),
    (
        "post",
        "/v1/records",
        "put records, signed with the worker's key (cookie)",
    ),
    (
        "post",
        "/v1/transactions",
        "take signed transactions, JSON or binary (cookie)",
    ),
    (
        "get",
        "/v1/transactions/{id}",
        "one transaction, and how far it is agreed to",
    ),
    ("get", "/v1/mempool", "what waits (?limit=)"),
    ("post", "/v1/mine", "make a block now (cookie)"),
    (
        "get",
        "/v1/blocks",
        "blocks as NDJSON, oldest first (?from=&limit=)",
    ),
    ("get", "/v1/blocks/{which}", "a block by height or hash"),
    ("get", "/v1/record", "a key's value (?key=&history=&limit=)"),
    ("get", "/v1/accounts/{address}", "what an address has"),
    ("get", "/v1/receipts/{id}", "the proof of a transaction, as text"),
    ("get", "/v1/peers", "the other workers"),
    ("post", "/v1/check", "check everything (cookie)"),
    ("get", "/v1/check", "how far a check is"),
    ("post", "/v1/dump", "copy to PostgreSQL and follow (cookie)"),
    ("get", "/v1/dump", "the copy now"),
    ("post", "/v1/dump/stop", "stop the copy (cookie)"),
    ("post", "/v1/disconnect", "leave the network and stop (cookie)"),
    ("post", "/v1/stop", "stop, and stay a member (cookie)"),
    ("get", "/v1/events", "server-sent events"),
    ("get", "/healthz", "the process is up"),
    ("get", "/readyz", "the node has what its peers have"),
    ("get", "/find", "a page for a key or an id (?q=)"),
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
    let mut paths = serde_json::Map::new();
    for (method, path, summary) in ROUTES {
        let parameters: Vec<Value> = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
            .collect();
        paths.entry(path).or_insert_with(|| json!({}))[method] = json!({
            "summary": summary,
            "parameters": parameters,
            "responses": {
                "200": { "description": "done" },
                "default": { "description": "refused: {code, message, hint}" }
            }
        });
    }
    HttpResponse::Ok().json(json!({
        "openapi": "3.1.0",
        "info": { "title": "block-chain-worker: a node", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
    }))
}
