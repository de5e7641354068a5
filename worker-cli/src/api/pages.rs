//! The pages for people, in the frame that both programs share. Their templates are in `templates/`.

mod explorer;
mod forks;
mod names;
mod node;
mod session;
mod show;
mod wallet;

use super::ApiState;
use super::error::ApiError;
use super::routes::blocking;
use actix_web::HttpResponse;
use askama::Template;
use block_chain_common::quantity::Height;
use block_chain_web::page::{Frame, Link, answer};
use utoipa_actix_web::service_config::ServiceConfig;

pub(super) fn configure(config: &mut ServiceConfig<'_>) {
    explorer::configure(config);
    forks::configure(config);
    node::configure(config);
    session::configure(config);
    wallet::configure(config);
}

/// The pages that every page leads to.
const LINKS: [(&str, &str); 4] = [
    ("./", "Chain"),
    ("forks", "Forks"),
    ("wallet", "Wallets"),
    ("node", "Node"),
];

/// The frame for who may not read: it says nothing of the worker and its chains.
fn bare_frame(title: impl Into<String>) -> Frame {
    Frame {
        product: "block-chain".to_owned(),
        title: title.into(),
        base: "/".to_owned(),
        here: "/".to_owned(),
        ..Frame::default()
    }
}

/// The frame of a page; `current` is the page of [`LINKS`] that it belongs to.
fn frame(state: &ApiState, title: impl Into<String>, current: &str) -> Frame {
    if !state.may_read {
        return bare_frame(title);
    }
    let name = state.node.spec().spec().name.as_str();
    let open = state.interface.chains.open();
    let chains = open.iter().filter(|_| open.len() > 1).map(|(chain, _)| Link {
        href: format!("/chains/{chain}/"),
        text: chain.clone(),
        current: chain == name,
    });
    let links = LINKS.iter().map(|(href, text)| Link {
        href: (*href).to_owned(),
        text: (*text).to_owned(),
        current: *href == current,
    });
    let status = state.node.status();
    Frame {
        product: match &status.name {
            Some(worker) => format!("{worker} · {name}"),
            None => format!("block-chain · {name}"),
        },
        title: title.into(),
        base: state.base.clone(),
        here: state.here.clone(),
        links: links.collect(),
        chains: chains.collect(),
        signed_in: state.is_trusted,
        live: true,
    }
}

fn html(page: &impl Template) -> Result<String, ApiError> {
    let html = page.render();
    html.map_err(|error| ApiError::Conflict(format!("the page cannot be made: {error}")))
}

/// A page that reads the store.
async fn read(
    make: impl FnOnce() -> Result<String, ApiError> + Send + 'static,
) -> Result<HttpResponse, ApiError> {
    Ok(answer(blocking(make).await?))
}

#[derive(Template)]
#[template(path = "error.html")]
struct Failed {
    frame: Frame,
    message: String,
    hint: Option<String>,
}

/// A refusal, for who asks with a browser and may not read.
pub(super) fn bare_refusal(error: &ApiError) -> Option<String> {
    let page = Failed {
        frame: bare_frame(error.title()),
        message: error.to_string(),
        hint: error.hint(),
    };
    page.render().ok()
}

/// A refusal, for who asks with a browser. `base` is what the chain's links begin with.
pub(super) fn refusal(error: &ApiError, base: String) -> Option<String> {
    let links = LINKS.iter().map(|(href, text)| Link {
        href: (*href).to_owned(),
        text: (*text).to_owned(),
        current: false,
    });
    let page = Failed {
        frame: Frame {
            product: "block-chain".to_owned(),
            title: error.title().to_owned(),
            here: base.clone(),
            base,
            links: links.collect(),
            ..Frame::default()
        },
        message: error.to_string(),
        hint: error.hint(),
    };
    page.render().ok()
}

/// What became of a block, and its class in the style.
fn fate(state: &ApiState, height: Height, on_chain: bool) -> (&'static str, &'static str) {
    let committed = state
        .node
        .store()
        .committed()
        .map_or(0, |checkpoint| checkpoint.size);
    match on_chain {
        true => {
            let status = state.node.block_status(height).name();
            (status, status)
        }
        false if height.get() < committed => ("orphaned", "orphaned"),
        false => ("competes", "waits"),
    }
}

/// How many characters of a hash are enough to tell it by.
const SHORT: usize = 12;

fn short(text: &impl ToString) -> String {
    text.to_string().chars().take(SHORT).collect()
}
