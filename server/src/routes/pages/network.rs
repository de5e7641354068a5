//! The network: workers with their health, who leads, what is final, and why not.

use super::{Asked, frame, page, time};
use crate::error::ServiceError;
use crate::routes::{State, call, now};
use crate::service::from_sql;
use crate::store::{TermRow, WorkerRow};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, get};
use askama::Template;
use block_chain_common::coordinator_api::{ChainView, Member};
use block_chain_common::finality::{MissingWorker, waiting};
use block_chain_web::page::Frame;
use block_chain_web::time::utc;
use std::collections::BTreeMap;
use utoipa_actix_web::service_config::ServiceConfig;

/// Terms that are looked back at.
const TERMS_SHOWN: u64 = 20;

pub(super) fn configure(config: &mut ServiceConfig<'_>) {
    config.service(home);
}

struct Worker {
    name: String,
    leads: bool,
    health: String,
    class: &'static str,
    height: u64,
    committed: u64,
    lag: String,
    version: String,
    page: Option<String>,
    id: String,
}

struct Term {
    number: u64,
    leader: String,
    since: String,
}

struct Chain {
    name: String,
    waiting: Option<String>,
    missing: Vec<String>,
    facts: Vec<(&'static str, String)>,
    members: Vec<Worker>,
    terms: Vec<Term>,
}

#[derive(Template)]
#[template(path = "network.html")]
struct Network {
    frame: Frame,
    chains: Vec<Chain>,
    banned: Vec<Banned>,
}

struct Banned {
    name: String,
    id: String,
    since: String,
}

impl From<WorkerRow> for Banned {
    fn from(row: WorkerRow) -> Self {
        Self {
            name: row.name.unwrap_or_else(|| "–".to_owned()),
            id: row.id,
            since: row.banned_ms.map_or_else(String::new, time),
        }
    }
}

/// The network: workers, leaders, what is committed and final, and why what is not is not
#[utoipa::path(
    tag = "pages",
    responses((status = 200, description = "the page", body = String, content_type = "text/html"), ServiceError)
)]
#[get("/")]
async fn home(
    state: Data<State>,
    request: HttpRequest,
    operator: Asked,
) -> Result<HttpResponse, ServiceError> {
    let views = call(&state, |service| {
        let mut views = Vec::new();
        for chain in service.chain_names()? {
            let view = service.view(&chain, now())?;
            views.push((view, service.terms(&chain, TERMS_SHOWN)?));
        }
        let led = views.iter().flat_map(|(_, terms)| terms);
        let names = service.names_of(&led.map(|term| term.worker.clone()).collect())?;
        Ok((views, names, service.banned()?))
    });
    let (chains, names, banned) = views.await?;
    page(&Network {
        frame: frame(&request, "Network", "./", &operator),
        chains: chains
            .iter()
            .map(|(view, terms)| chain(view, terms, &names))
            .collect(),
        banned: banned.into_iter().map(Banned::from).collect(),
    })
}

/// `names` are those of the workers that have led, also where they are members no more.
fn chain(view: &ChainView, terms: &[TermRow], names: &BTreeMap<String, String>) -> Chain {
    let committed = view.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.size);
    let head = view
        .members
        .iter()
        .map(|member| member.height)
        .max()
        .unwrap_or_default();
    let named = |id: &str| {
        let member = view
            .members
            .iter()
            .find(|member| member.worker_id.to_string() == id);
        let name = member.and_then(|member| member.name.clone());
        let name = name.or_else(|| names.get(id).cloned());
        name.map_or_else(|| id.to_owned(), |name| format!("{name} ({id})"))
    };
    let leader = view.leader.as_ref().map_or_else(
        || format!("none, term {}", view.term),
        |leader| format!("{}, term {}", named(&leader.worker_id.to_string()), leader.term),
    );
    let waits = waiting(view, head);
    let counting = view.counting().count();
    let facts = vec![
        ("Leader", leader),
        ("Head", format!("block {head}")),
        ("Committed", blocks(committed)),
        ("Final", blocks(view.final_size)),
        (
            "Majority",
            format!("{} of the {counting} workers that count", view.quorum),
        ),
    ];
    Chain {
        name: view.chain.clone(),
        waiting: waits.as_ref().map(|waits| match &waits.hint {
            Some(hint) => format!("{}. {hint}", waits.reason),
            None => waits.reason.clone(),
        }),
        missing: waits
            .iter()
            .flat_map(|waits| waits.missing.iter().map(MissingWorker::describe))
            .collect(),
        facts,
        members: view
            .members
            .iter()
            .map(|member| worker(member, view, head.get()))
            .collect(),
        terms: terms
            .iter()
            .map(|term| Term {
                number: from_sql(term.term),
                leader: named(&term.worker),
                since: time(term.since_ms),
            })
            .collect(),
    }
}

fn worker(member: &Member, view: &ChainView, head: u64) -> Worker {
    let (health, class) = match (member.alive, member.counts) {
        (true, true) => ("alive".to_owned(), "good"),
        (true, false) => ("alive, joining: it does not count yet".to_owned(), "waits"),
        (false, _) => {
            let since = utc(view.time.get().saturating_sub(member.silent_ms));
            let seconds = member.silent_ms / 1_000;
            (format!("silent since {since}, for {seconds} s"), "bad")
        }
    };
    let behind = head.saturating_sub(member.height.get());
    Worker {
        name: member.name.clone().unwrap_or_else(|| "–".to_owned()),
        leads: view
            .leader
            .as_ref()
            .is_some_and(|leader| leader.worker_id == member.worker_id),
        health,
        class,
        height: member.height.get(),
        committed: member.committed.get(),
        lag: match behind {
            0 => "none".to_owned(),
            1 => "1 block".to_owned(),
            _ => format!("{behind} blocks"),
        },
        version: member.version.clone().unwrap_or_else(|| "–".to_owned()),
        page: member.api.clone(),
        id: member.worker_id.to_string(),
    }
}

fn blocks(size: u64) -> String {
    match size {
        0 => "nothing yet".to_owned(),
        1 => "1 block".to_owned(),
        _ => format!("{size} blocks, up to block {}", size.saturating_sub(1)),
    }
}
