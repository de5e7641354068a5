//! Figures for Prometheus.

use super::ApiState;
use super::error::ApiError;
use super::types::NodeStatus;
use actix_web::{HttpResponse, get};
use block_chain_web::tls::figure;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

/// A gauge's name, what it shows, and where its figure is taken from.
type Figure = (&'static str, &'static str, fn(&NodeStatus) -> u64);

const FIGURES: [Figure; 12] = [
    ("height", "height of the head", |s| s.height.get()),
    ("committed_blocks", "blocks committed", |s| s.committed_size),
    ("final_blocks", "blocks final", |s| s.final_size),
    ("term", "the term", |s| s.term.get()),
    ("leads", "1 where this worker leads", |s| u64::from(s.is_leader)),
    ("server_reachable", "1 where the coordinator answers", |s| {
        u64::from(s.server_reachable)
    }),
    ("peers", "peers connected", |s| count(s.peers)),
    ("members", "workers of the chain", |s| count(s.members)),
    ("mempool_transactions", "transactions that wait", |s| {
        count(s.mempool_count)
    }),
    ("mempool_bytes", "bytes of the transactions that wait", |s| {
        count(s.mempool_bytes)
    }),
    (
        "mining_attempts",
        "attempts of the search under way, 0 where there is none",
        |s| s.mining.as_ref().map_or(0, |mining| mining.attempts),
    ),
    (
        "syncing_to",
        "the height that is caught up to, 0 where nothing is missing",
        |s| s.syncing_to.map_or(0, |height| height.get()),
    ),
];

/// What the interface counts and shows.
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    gauges: Vec<IntGaugeVec>,
}

impl Metrics {
    /// Registers everything.
    pub(super) fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let requests = Opts::new(
            "block_chain_node_requests_total",
            "requests answered, by route and status",
        );
        let requests = IntCounterVec::new(requests, &["route", "status"])?;
        registry.register(Box::new(requests.clone()))?;
        let mut gauges = Vec::with_capacity(FIGURES.len());
        for (name, help, _) in FIGURES {
            let opts = Opts::new(format!("block_chain_node_{name}"), help);
            let gauge = IntGaugeVec::new(opts, &["chain"])?;
            registry.register(Box::new(gauge.clone()))?;
            gauges.push(gauge);
        }
        Ok(Self {
            registry,
            requests,
            gauges,
        })
    }

    /// Counts an answer. The route is its pattern, so that there are no more of them than routes.
    pub(super) fn answered(&self, route: &str, status: u16) {
        self.requests
            .with_label_values(&[route, &status.to_string()])
            .inc();
    }

    fn show(&self, chains: &[(String, NodeStatus)]) -> prometheus::Result<String> {
        for (gauge, (_, _, figure)) in self.gauges.iter().zip(FIGURES) {
            // A chain that was left is shown no more.
            gauge.reset();
            for (chain, status) in chains {
                let value = i64::try_from(figure(status)).unwrap_or(i64::MAX);
                gauge.with_label_values(&[chain]).set(value);
            }
        }
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// Figures for Prometheus, of all chains
#[utoipa::path(
    tag = "service",
    responses((status = 200, description = "the figures", body = String, content_type = "text/plain"), ApiError)
)]
#[get("/metrics")]
pub(super) async fn figures(state: ApiState) -> Result<HttpResponse, ApiError> {
    let open = state.interface.chains.open();
    let open = open.into_iter();
    let chains: Vec<_> = open.map(|(name, chain)| (name, chain.node.status())).collect();
    let text = state.interface.metrics.show(&chains);
    let mut text = text.map_err(|error| ApiError::Conflict(error.to_string()))?;
    text.push_str(&figure(state.interface.certificate.as_deref()));
    Ok(HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4")
        .body(text))
}

fn count(items: usize) -> u64 {
    u64::try_from(items).unwrap_or(u64::MAX)
}
