//! The frame of a page, for the template `base.html` that the pages of both programs extend.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY};
use actix_web::{HttpRequest, HttpResponse, ResponseError};

/// Nothing from elsewhere, no script but the program's own file, in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'self'; frame-ancestors 'none'";

/// What every page has.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    /// What serves it: stands in the title after the page's own.
    pub product: String,
    /// The page's title.
    pub title: String,
    /// What relative links begin with.
    pub base: String,
    /// This page's own address, with its query: for links within it.
    pub here: String,
    /// The pages that every page leads to.
    pub links: Vec<Link>,
    /// The chains to choose from, where there are several.
    pub chains: Vec<Link>,
    /// Whether whoever asks is signed in.
    pub signed_in: bool,
    /// Whether the page shows anew what changes, as events come.
    pub live: bool,
}

/// A link of the frame.
#[derive(Debug, Clone)]
pub struct Link {
    /// Where to.
    pub href: String,
    /// What it says.
    pub text: String,
    /// Whether this page is of it.
    pub current: bool,
}

/// An answer; a refusal is put into a page where a browser asked for one. `render` gives the page of a refusal.
pub fn for_people<E: ResponseError + 'static>(
    answered: ServiceResponse<impl MessageBody + 'static>,
    render: impl FnOnce(&E, &HttpRequest) -> Option<String>,
) -> ServiceResponse<BoxBody> {
    let accepts = answered.request().headers().get(ACCEPT);
    let wants_page = accepts.is_some_and(|value| value.as_bytes().starts_with(b"text/html"));
    let error = answered.response().error().filter(|_| wants_page);
    let found = error.and_then(|error| error.as_error::<E>());
    let Some(html) = found.and_then(|error| render(error, answered.request())) else {
        return answered.map_into_boxed_body();
    };
    let status = answered.status();
    let mut page = answer(html);
    *page.status_mut() = status;
    answered.into_response(page)
}

/// A page as an answer.
#[must_use]
pub fn answer(html: String) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((REFERRER_POLICY, "same-origin"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(html)
}
