//! Figures for Prometheus.

use super::{State, call, now};
use crate::error::{Refused, ServiceError};
use actix_web::web::Data;
use actix_web::{HttpResponse, get};
use block_chain_web::tls::figure;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

/// What the coordinator counts.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    refused: IntCounterVec,
    chains: IntGaugeVec,
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// Never with the names below; the type is that of the registry.
    pub fn new() -> prometheus::Result<Self> {
        let requests = Opts::new(
            "block_chain_server_requests_total",
            "requests answered, by route and status",
        );
        let requests = IntCounterVec::new(requests, &["route", "status"])?;
        let refused = Opts::new(
            "block_chain_server_refused_total",
            "requests refused, by the code of the error",
        );
        let refused = IntCounterVec::new(refused, &["code"])?;
        let chains = Opts::new(
            "block_chain_server_chain",
            "of each chain: members, alive, term, committed, final",
        );
        let chains = IntGaugeVec::new(chains, &["chain", "what"])?;
        let registry = Registry::new();
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        registry.register(Box::new(chains.clone()))?;
        Ok(Self {
            registry,
            requests,
            refused,
            chains,
        })
    }

    /// Counts an answer. The route is its pattern, never the path asked for: whoever asks must not choose how many
    /// figures are kept.
    pub fn answered(&self, route: Option<&str>, status: u16, refused: Option<Refused>) {
        let route = route.unwrap_or("other");
        self.requests
            .with_label_values(&[route, &status.to_string()])
            .inc();
        if let Some(Refused(code)) = refused {
            self.refused.with_label_values(&[code]).inc();
        }
    }
}

/// Figures for Prometheus
#[utoipa::path(
    tag = "service",
    responses((status = 200, description = "the figures", body = String, content_type = "text/plain"), ServiceError)
)]
#[get("/metrics")]
pub(super) async fn figures(state: Data<State>) -> Result<HttpResponse, ServiceError> {
    let views = call(&state, |service| {
        service
            .chain_names()?
            .iter()
            .map(|chain| service.view(chain, now()))
            .collect::<Result<Vec<_>, _>>()
    });
    for view in views.await? {
        let alive = view.members.iter().filter(|member| member.alive).count();
        let figures = [
            ("members", u64::try_from(view.members.len()).unwrap_or(u64::MAX)),
            ("alive", u64::try_from(alive).unwrap_or(u64::MAX)),
            ("term", view.term.get()),
            (
                "committed",
                view.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.size),
            ),
            ("final", view.final_size),
        ];
        for (what, figure) in figures {
            let figure = i64::try_from(figure).unwrap_or(i64::MAX);
            state
                .metrics
                .chains
                .with_label_values(&[view.chain.as_str(), what])
                .set(figure);
        }
    }
    let text = TextEncoder::new().encode_to_string(&state.metrics.registry.gather());
    let mut text = text.map_err(|error| ServiceError::Busy(error.to_string()))?;
    text.push_str(&figure(state.access.certificate.as_deref()));
    Ok(HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4")
        .body(text))
}
