//! The pages for people: the network and its agreement, join tokens, chains, figures.

mod figures;
mod network;

use super::guard::Operator;
use super::{State, call};
use crate::error::ServiceError;
use crate::service::from_sql;
use crate::store::{ForkWishRow, JoinTokenRow};
use actix_web::web::{Data, ReqData};
use actix_web::{HttpRequest, HttpResponse, ResponseError as _, get};
use askama::Template;
use block_chain_common::coordinator_api::ChainSummary;
use block_chain_common::quantity::Timestamp;
use block_chain_web::host::stranger;
use block_chain_web::page::{Frame, Link, answer};
use block_chain_web::time::utc;
use utoipa_actix_web::service_config::ServiceConfig;

pub(super) fn configure(config: &mut ServiceConfig<'_>) {
    config
        .service(show_tokens)
        .service(show_chains)
        .service(show_login);
    network::configure(config);
    figures::configure(config);
}

/// The pages that every page leads to.
const LINKS: [(&str, &str); 4] = [
    ("./", "Network"),
    ("chains", "Chains"),
    ("figures", "Figures"),
    ("tokens", "Tokens"),
];

type Asked = Option<ReqData<Operator>>;

fn frame(request: &HttpRequest, title: impl Into<String>, current: &str, operator: &Asked) -> Frame {
    Frame {
        title: title.into(),
        here: request
            .uri()
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .to_owned(),
        signed_in: operator.is_some(),
        live: true,
        ..empty_frame(current)
    }
}

fn empty_frame(current: &str) -> Frame {
    let links = LINKS.iter().map(|(href, text)| Link {
        href: (*href).to_owned(),
        text: (*text).to_owned(),
        current: *href == current,
    });
    Frame {
        product: "block-chain-server".to_owned(),
        base: "/".to_owned(),
        here: "/".to_owned(),
        links: links.collect(),
        ..Frame::default()
    }
}

fn page(page: &impl Template) -> Result<HttpResponse, ServiceError> {
    let html = page.render();
    html.map(answer)
        .map_err(|error| ServiceError::Busy(format!("the page cannot be made: {error}")))
}

#[derive(Template)]
#[template(path = "error.html")]
struct Failed {
    frame: Frame,
    message: String,
    hint: Option<&'static str>,
}

/// A refusal, for who asks with a browser.
pub(super) fn refusal(error: &ServiceError) -> Option<String> {
    let title = error.status_code().canonical_reason().unwrap_or("Refused");
    let page = Failed {
        frame: Frame {
            title: title.to_owned(),
            ..empty_frame("")
        },
        message: error.to_string(),
        hint: error.hint(),
    };
    page.render().ok()
}

fn time(ms: i64) -> String {
    utc(from_sql(ms))
}

struct Token {
    id: String,
    label: String,
    state: &'static str,
    class: &'static str,
    good: bool,
    used: i64,
    left: String,
    created: String,
    expires: String,
}

impl Token {
    fn of(row: JoinTokenRow, now: Timestamp) -> Self {
        let is_over = row
            .expires_ms
            .is_some_and(|expires| from_sql(expires) <= now.get());
        let (state, class) = match (row.revoked_ms, is_over, row.uses_left) {
            (Some(_), ..) => ("revoked", "bad"),
            (None, true, _) => ("expired", "soft"),
            (None, false, Some(0)) => ("used up", "soft"),
            _ => ("good", "good"),
        };
        Self {
            label: if row.label.is_empty() {
                "–".to_owned()
            } else {
                row.label
            },
            state,
            class,
            good: class == "good",
            used: row.used,
            left: row
                .uses_left
                .map_or_else(|| "any number".to_owned(), |left| left.to_string()),
            created: time(row.created_ms),
            expires: row.expires_ms.map_or_else(|| "for ever".to_owned(), time),
            id: row.id,
        }
    }
}

#[derive(Template)]
#[template(path = "tokens.html")]
struct TokensPage {
    frame: Frame,
    asks: bool,
    tokens: Vec<Token>,
}

/// The join tokens, for the operator
#[utoipa::path(
    tag = "pages",
    responses((status = 200, description = "the page", body = String, content_type = "text/html"), ServiceError)
)]
#[get("/tokens")]
async fn show_tokens(
    state: Data<State>,
    request: HttpRequest,
    operator: Asked,
) -> Result<HttpResponse, ServiceError> {
    let rows = match &operator {
        Some(_) => call(&state, |service| service.tokens()).await?,
        None => Vec::new(),
    };
    let now = super::now();
    page(&TokensPage {
        frame: frame(&request, "Join tokens", "tokens", &operator),
        asks: state.service.asks_for_token(),
        tokens: rows.into_iter().map(|row| Token::of(row, now)).collect(),
    })
}

struct Chain {
    name: String,
    proof: String,
    parent: String,
    members: usize,
    committed: u64,
    final_size: u64,
    id: String,
}

#[derive(Template)]
#[template(path = "make.html")]
struct ChainsPage {
    frame: Frame,
    chains: Vec<Chain>,
    wishes: Vec<ForkWishRow>,
}

/// The chains, and making and forking them
#[utoipa::path(
    tag = "pages",
    responses((status = 200, description = "the page", body = String, content_type = "text/html"), ServiceError)
)]
#[get("/chains")]
async fn show_chains(
    state: Data<State>,
    request: HttpRequest,
    operator: Asked,
) -> Result<HttpResponse, ServiceError> {
    let (all, wishes) = call(&state, |service| {
        Ok((service.chain_list(super::now())?, service.fork_wishes()?))
    })
    .await?;
    let name_of = |id| {
        let found = all.iter().find(|chain: &&ChainSummary| Some(chain.id) == id);
        found.map_or_else(|| "–".to_owned(), |chain| chain.name.clone())
    };
    let chains = all.iter().map(|chain| Chain {
        name: chain.name.clone(),
        proof: chain.proof.clone(),
        parent: name_of(chain.parent),
        members: chain.members,
        committed: chain.committed_size,
        final_size: chain.final_size,
        id: chain.id.to_string(),
    });
    page(&ChainsPage {
        frame: frame(&request, "Chains", "chains", &operator),
        chains: chains.collect(),
        wishes,
    })
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    frame: Frame,
    file: String,
}

/// Where the operator signs in
#[utoipa::path(
    tag = "pages",
    responses((status = 200, description = "the page", body = String, content_type = "text/html"), ServiceError)
)]
#[get("/login")]
async fn show_login(
    state: Data<State>,
    request: HttpRequest,
    operator: Asked,
) -> Result<HttpResponse, ServiceError> {
    page(&LoginPage {
        frame: Frame {
            live: false,
            ..frame(&request, "Sign in", "login", &operator)
        },
        // Where the data directory is tells of the machine.
        file: match stranger(request.peer_addr(), request.headers()) {
            Some(_) if operator.is_none() => "api.cookie".to_owned(),
            _ => state.access.file.display().to_string(),
        },
    })
}
