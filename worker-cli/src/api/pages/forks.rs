//! The tree of recent candidates: what was committed, and what was orphaned.

use super::explorer::time;
use super::names::Names;
use super::{fate, frame, html, read, short};
use crate::api::ApiState;
use crate::api::error::ApiError;
use crate::machine::ChainRead as _;
use crate::node::SeenBlock;
use actix_web::{HttpResponse, get};
use askama::Template;
use block_chain_common::hash::BlockHash;
use block_chain_common::quantity::Height;
use block_chain_web::page::Frame;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use utoipa_actix_web::service_config::ServiceConfig;

/// Heights that are shown, the newest.
const HEIGHTS: u64 = 16;
/// A block's box, and the space that it has, in the drawing's units.
const BOX: (usize, usize) = (104, 34);
const STEP: (usize, usize) = (136, 52);

pub(super) fn configure(config: &mut ServiceConfig<'_>) {
    config.service(show_forks);
}

struct Candidate {
    height: u64,
    hash: String,
    previous: String,
    producer: String,
    producer_name: String,
    time: String,
    count: u32,
    on_chain: bool,
    link: String,
    fate: &'static str,
    class: &'static str,
}

#[derive(Template)]
#[template(path = "forks.html")]
struct Forks {
    frame: Frame,
    limit: u64,
    drawing: String,
    blocks: Vec<Candidate>,
}

/// The tree of recent candidates: what was committed, and what was orphaned
#[utoipa::path(
    tag = "pages",
    responses((status = 200, description = "the page", body = String, content_type = "text/html"), ApiError)
)]
#[get("/forks")]
async fn show_forks(state: ApiState) -> Result<HttpResponse, ApiError> {
    read(move || {
        let blocks = candidates(&state)?;
        html(&Forks {
            frame: frame(&state, "Forks", "forks"),
            limit: HEIGHTS,
            drawing: drawing(&blocks),
            blocks,
        })
    })
    .await
}

/// The chain's last blocks, and those that competed with them; newest first, of a height the chain's first.
fn candidates(state: &ApiState) -> Result<Vec<Candidate>, ApiError> {
    let store = state.node.store();
    let head = store.head().0.get();
    let first = head.saturating_sub(HEIGHTS - 1);
    let mut all: BTreeMap<BlockHash, SeenBlock> = BTreeMap::new();
    for seen in state.node.seen_blocks() {
        if seen.header.height.get() >= first {
            all.insert(seen.hash, seen);
        }
    }
    for height in (first..=head).map(Height::new) {
        if let Some((hash, header)) = store.header_at(height)? {
            all.insert(hash, SeenBlock::of(hash, &header));
        }
    }
    let names = Names::of(state);
    let mut candidates = Vec::with_capacity(all.len());
    for seen in all.into_values() {
        let SeenBlock { hash, header } = seen;
        let on_chain = store.hash_at(header.height)? == Some(hash);
        let (fate, class) = fate(state, header.height, on_chain);
        candidates.push(Candidate {
            height: header.height.get(),
            hash: hash.to_string(),
            previous: header.previous.to_string(),
            producer: header.producer.to_string(),
            producer_name: names.address(&header.producer),
            time: time(&header),
            count: header.transaction_count,
            on_chain,
            link: match on_chain {
                true => format!("blocks/{}", header.height),
                false => format!("blocks/{hash}"),
            },
            fate,
            class,
        });
    }
    candidates.sort_by(|a, b| (b.height, b.on_chain, &a.hash).cmp(&(a.height, a.on_chain, &b.hash)));
    Ok(candidates)
}

/// The tree from left to right, the chain in the first row.
fn drawing(blocks: &[Candidate]) -> String {
    let first = blocks.iter().map(|block| block.height).min().unwrap_or(0);
    let mut places: HashMap<&str, (usize, usize)> = HashMap::new();
    let mut rows: HashMap<u64, usize> = HashMap::new();
    for block in blocks {
        let row = rows.entry(block.height).or_insert(0);
        let column = usize::try_from(block.height.saturating_sub(first)).unwrap_or(0);
        places.insert(&block.hash, (column, *row));
        *row = row.saturating_add(1);
    }
    let (columns, deepest) = (
        places.values().map(|(column, _)| column + 1).max().unwrap_or(1),
        rows.values().copied().max().unwrap_or(1),
    );
    let (width, height) = (columns * STEP.0, deepest * STEP.1);
    let mut svg = format!(
        "<svg class=\"forks\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\"><title>The tree of recent blocks; the table below has the same</title>"
    );
    let corner = |(column, row): (usize, usize)| (column * STEP.0 + 4, row * STEP.1 + 8);
    for block in blocks {
        let Some(place) = places.get(block.hash.as_str()) else {
            continue;
        };
        let (x, y) = corner(*place);
        let middle = y + BOX.1 / 2;
        if let Some(parent) = places.get(block.previous.as_str()) {
            let (from_x, from_y) = corner(*parent);
            let (from_x, from_y) = (from_x + BOX.0, from_y + BOX.1 / 2);
            let bend = (from_x + x) / 2;
            push(
                &mut svg,
                format_args!(
                    "<path class=\"edge\" d=\"M{from_x} {from_y}C{bend} {from_y} {bend} {middle} {x} {middle}\"/>"
                ),
            );
        }
        let class = if block.class == "waits" { "" } else { block.class };
        push(
            &mut svg,
            format_args!(
                "<rect class=\"box {class}\" x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" rx=\"5\"/><text x=\"{}\" y=\"{}\">{} · {}</text><text x=\"{}\" y=\"{}\">{}</text>",
                BOX.0,
                BOX.1,
                x + 7,
                y + 14,
                block.height,
                short(&block.hash).chars().take(6).collect::<String>(),
                x + 7,
                y + 28,
                block.fate
            ),
        );
    }
    svg.push_str("</svg>");
    svg
}

fn push(svg: &mut String, text: std::fmt::Arguments<'_>) {
    let written = svg.write_fmt(text);
    debug_assert!(written.is_ok(), "writing into a string cannot fail");
}
