//! Signing in with a browser, and out.

use super::{frame, html};
use crate::api::ApiState;
use crate::api::error::ApiError;
use crate::api::types::{SignIn, SignedIn};
use actix_web::web::Json;
use actix_web::{HttpRequest, HttpResponse, delete, get, post};
use askama::Template;
use block_chain_web::page::{Frame, answer};
use block_chain_web::strict::{JsonObject, Strict};
use std::time::Instant;
use utoipa_actix_web::service_config::ServiceConfig;

pub(super) fn configure(config: &mut ServiceConfig<'_>) {
    config.service(show_login).service(sign_in).service(sign_out);
}

#[derive(Template)]
#[template(path = "login.html")]
struct Login {
    frame: Frame,
    file: String,
}

/// Where one signs in
#[utoipa::path(
    tag = "pages",
    responses((status = 200, description = "the page", body = String, content_type = "text/html"), ApiError)
)]
#[get("/login")]
async fn show_login(state: ApiState) -> Result<HttpResponse, ApiError> {
    Ok(answer(html(&Login {
        frame: Frame {
            live: false,
            ..frame(&state, "Sign in", "login")
        },
        // Where the data directory is tells of the machine.
        file: match state.may_read {
            true => state.interface.cookie_file.display().to_string(),
            false => "api.cookie".to_owned(),
        },
    })?))
}

/// Sign in with the node's word: the browser may then change what the cookie's holder may
#[utoipa::path(
    request_body = SignIn,
    tag = "pages",
    responses((status = 200, description = "signed in, by the cookie that is set", body = SignedIn), ApiError)
)]
#[post("/v1/session")]
async fn sign_in(state: ApiState, Json(Strict(body)): JsonObject<SignIn>) -> Result<HttpResponse, ApiError> {
    if !state.is_private {
        return Err(ApiError::Clear);
    }
    if !state.interface.sessions.is_word(body.word.trim()) {
        return Err(ApiError::Forbidden);
    }
    let cookie = state.interface.sessions.begin(Instant::now());
    let cookie = cookie.ok_or_else(|| ApiError::Conflict("the system gives no random bytes".to_owned()))?;
    Ok(HttpResponse::Ok()
        .cookie(cookie)
        .json(SignedIn { signed_in: true }))
}

/// Sign out
#[utoipa::path(
    tag = "pages",
    security(("cookie" = [])),
    responses((status = 200, description = "signed out", body = SignedIn), ApiError)
)]
#[delete("/v1/session")]
async fn sign_out(state: ApiState, request: HttpRequest) -> HttpResponse {
    let cookie = state.interface.sessions.end(request.headers());
    HttpResponse::Ok()
        .cookie(cookie)
        .json(SignedIn { signed_in: false })
}
