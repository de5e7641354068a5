//! The page of a block, with its Merkle tree: one of the chain, or one that competed for its place.

use super::merkle::{self, TreeRow};
use super::{known_header, proof, time, units};
use crate::api::ApiState;
use crate::api::error::ApiError;
use crate::api::json::{reward_of, to_json};
use crate::api::pages::names::Names;
use crate::api::pages::show::{Row, rows};
use crate::api::pages::{fate, frame, html, read, short};
use crate::api::routes::parse;
use crate::machine::ChainRead as _;
use actix_web::web::{Path, Query};
use actix_web::{HttpResponse, get};
use askama::Template;
use block_chain_common::hash::BlockHash;
use block_chain_common::header::{Header, Proof};
use block_chain_common::quantity::Height;
use block_chain_web::page::Frame;
use serde::Deserialize;
use utoipa::IntoParams;

const TRANSACTIONS_SHOWN: u32 = 200;

#[derive(Template)]
#[template(path = "block.html")]
struct BlockPage {
    frame: Frame,
    /// What its own links name it by: its height on the chain, else its hash.
    which: String,
    height: u64,
    state: &'static str,
    class: &'static str,
    previous: Option<String>,
    next: Option<u64>,
    facts: Vec<(&'static str, String)>,
    producer: String,
    producer_name: String,
    count: u32,
    /// Whether its transactions are on the chain, so that each has a page.
    on_chain: bool,
    /// Whether its transactions are here: of a block that has lost the store keeps none.
    is_whole: bool,
    transactions: Vec<Row>,
    earlier: Option<u32>,
    later: Option<u32>,
    tree: Vec<TreeRow>,
    above: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Part {
    /// The index of the first transaction that is shown.
    #[serde(default)]
    from: u32,
    /// The node of the Merkle tree that is shown, as `LEVEL.INDEX` with level 0 for the leaves; the root where it is not said.
    #[param(example = "10.0")]
    node: Option<String>,
}

/// A block, with its Merkle tree
#[utoipa::path(
    tag = "pages",
    params(("which" = String, Path, description = "a height, or a hash of 64 hex digits", example = "0"), Part),
    responses((status = 200, description = "the page", body = String, content_type = "text/html"), ApiError)
)]
#[get("/blocks/{which}")]
pub(super) async fn show_block(
    state: ApiState,
    which: Path<String>,
    Query(asked): Query<Part>,
) -> Result<HttpResponse, ApiError> {
    read(move || block_page(&state, &which, &asked)).await
}

/// The block that a height or hash names.
fn named(state: &ApiState, which: &str) -> Result<(BlockHash, Header), ApiError> {
    let store = state.node.store();
    if let Ok(height) = which.parse::<u64>() {
        let unknown = || ApiError::NotFound(format!("there is no block {height} yet"));
        return store.header_at(Height::new(height))?.ok_or_else(unknown);
    }
    let hash: BlockHash = parse(which)?;
    let header = known_header(state, &hash)?;
    let header = header.ok_or_else(|| ApiError::NotFound(format!("there is no block {hash}")))?;
    Ok((hash, header))
}

fn block_page(state: &ApiState, which: &str, asked: &Part) -> Result<String, ApiError> {
    let (hash, header) = named(state, which)?;
    let store = state.node.store().snapshot();
    let (height, count) = (header.height, header.transaction_count);
    let on_chain = store.hash_at(height)? == Some(hash);
    let (fate, class) = fate(state, height, on_chain);
    let ids = store.transaction_ids(height, &hash)?;
    let (tree, above) = merkle::part(&ids, asked.node.as_deref())?;
    let end = asked.from.saturating_add(TRANSACTIONS_SHOWN).min(count);
    let first = usize::try_from(asked.from).unwrap_or(usize::MAX);
    let shown = usize::try_from(end.saturating_sub(asked.from)).unwrap_or(0);
    let part = store.stream_transactions(height, &hash).skip(first).take(shown);
    let part = part.map(|transaction| transaction.map(|found| to_json(&found, found.id())));
    let is_whole = u32::try_from(ids.len()).ok() == Some(count);
    let transactions: Vec<_> = part.collect::<Result<_, _>>()?;
    let title = match on_chain {
        true => format!("Block {height}"),
        false => format!("Block {}, for height {height}", short(&hash)),
    };
    let before_it = match height {
        Height::ZERO => None,
        _ if on_chain => Some(height.get().saturating_sub(1).to_string()),
        _ => Some(header.previous.to_string()),
    };
    html(&BlockPage {
        frame: frame(state, title, "./"),
        which: match on_chain {
            true => height.to_string(),
            false => hash.to_string(),
        },
        height: height.get(),
        state: fate,
        class,
        previous: before_it,
        next: (on_chain && height < store.head().0).then(|| height.next().get()),
        facts: facts(state, &hash, &header),
        producer: header.producer.to_string(),
        producer_name: Names::of(state).address(&header.producer),
        count,
        on_chain,
        is_whole,
        transactions: rows(state, &transactions),
        earlier: (asked.from > 0).then(|| asked.from.saturating_sub(TRANSACTIONS_SHOWN)),
        later: (end < count).then_some(end),
        tree,
        above,
    })
}

fn facts(state: &ApiState, hash: &BlockHash, header: &Header) -> Vec<(&'static str, String)> {
    vec![
        ("Hash", hash.to_string()),
        ("Before it", header.previous.to_string()),
        ("Time", time(header)),
        (
            "Proof",
            match &header.proof {
                Proof::Work { nonce, .. } => format!("{}, nonce {nonce}", proof(&header.proof)),
                other => proof(other),
            },
        ),
        (
            "Reward",
            units(state, reward_of(state.node.spec(), header.height)),
        ),
        ("Merkle root", header.transactions_root.to_string()),
        ("State digest", header.state_digest.to_string()),
        ("History root", header.history_root.to_string()),
    ]
}
