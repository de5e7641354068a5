//! The style, the script and the icon of all pages.

use actix_web::http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use actix_web::{HttpRequest, HttpResponse, web};
use sha2::{Digest as _, Sha256};

const STYLE: &str = include_str!("../assets/style.css");
const SCRIPT: &str = include_str!("../assets/script.js");
const ICON: &str = include_str!("../assets/icon.svg");

/// The path that everything here is below.
pub const PREFIX: &str = "/assets/";

/// Adds them to a server.
pub fn configure(config: &mut web::ServiceConfig) {
    config
        .route("/assets/style.css", web::get().to(style))
        .route("/assets/script.js", web::get().to(script))
        .route("/assets/icon.svg", web::get().to(icon));
}

async fn style(request: HttpRequest) -> HttpResponse {
    answer(&request, "text/css; charset=utf-8", STYLE)
}

async fn script(request: HttpRequest) -> HttpResponse {
    answer(&request, "text/javascript; charset=utf-8", SCRIPT)
}

async fn icon(request: HttpRequest) -> HttpResponse {
    answer(&request, "image/svg+xml", ICON)
}

/// Asked again each time, so that an upgrade shows at once; sent only where it has changed.
fn answer(request: &HttpRequest, kind: &str, text: &'static str) -> HttpResponse {
    let tag = format!("\"{}\"", hex::encode(Sha256::digest(text.as_bytes())));
    let known = request.headers().get(IF_NONE_MATCH);
    let mut answer = if known.is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    answer
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header((ETAG, tag))
        .content_type(kind)
        .body(text)
}
