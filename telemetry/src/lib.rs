//! What both programs say of themselves while they run: a log for people or for programs, whose level can be changed
//! meanwhile, and spans for OpenTelemetry where a collector is named.
//!
//! The log goes to standard error, a line an event. Spans are sent by OTLP over HTTP, in batches from a thread of their own: a
//! collector that does not answer holds nothing up, and what does not fit is dropped.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::{Deserialize, Serialize};
use std::io::IsTerminal as _;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// How long a collector may take for a batch.
const EXPORT: Duration = Duration::from_secs(5);
/// The longest filter.
const MAX_FILTER: usize = 1_000;

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// What is told of it.
#[derive(Debug, Clone, Default)]
pub struct Telemetry {
    /// The program, as a collector shows it.
    pub service: &'static str,
    /// How a line looks.
    pub format: LogFormat,
    /// Whether a terminal gets colour.
    pub colour: bool,
    /// What is logged, as `info` or `warn,block_chain_worker=debug`; `RUST_LOG` stands over it.
    pub filter: String,
    /// The collector, as `http://localhost:4318`.
    pub otlp: Option<String>,
}

/// Why it cannot begin, or not change.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// What is to be logged cannot be read.
    #[error("{filter:?} is no filter of the log: {reason}")]
    Filter {
        /// What was told.
        filter: String,
        /// What is wrong.
        reason: String,
    },
    /// The collector's address.
    #[error("{0:?} is no address of a collector")]
    Otlp(String),
    /// What sends spans cannot be made.
    #[error("spans cannot be sent: {0}")]
    Export(#[from] ExporterBuildError),
    /// Something else logs already.
    #[error(transparent)]
    Begun(#[from] TryInitError),
    /// There is no log in this process.
    #[error("this process has no log whose filter could be changed")]
    None,
}

struct Changing {
    handle: reload::Handle<EnvFilter, Registry>,
    /// As it was told: the library says it in another order.
    told: Mutex<String>,
}

static CHANGING: OnceLock<Changing> = OnceLock::new();

/// Sends what waits when it is dropped.
#[derive(Debug)]
pub struct Guard(Option<SdkTracerProvider>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take() {
            // The program ends: there is nobody left to tell.
            provider.shutdown_with_timeout(EXPORT).ok();
        }
    }
}

/// Whether a text is a filter: levels, and targets with levels.
///
/// # Errors
/// What is wrong with it.
pub fn check_filter(filter: &str) -> Result<EnvFilter, TelemetryError> {
    let wrong = |reason: String| TelemetryError::Filter {
        filter: filter.chars().take(100).collect(),
        reason,
    };
    if filter.len() > MAX_FILTER {
        return Err(wrong(format!("it has more than {MAX_FILTER} bytes")));
    }
    if filter.trim().is_empty() {
        return Err(wrong("it is empty".to_owned()));
    }
    // A bare word that is no level would be taken for a target, and everything else be silent.
    let is_level = |word: &str| {
        matches!(
            word.to_ascii_lowercase().as_str(),
            "off" | "error" | "warn" | "info" | "debug" | "trace"
        )
    };
    let parts: Vec<_> = filter.split(',').map(str::trim).collect();
    if let Some(part) = parts.iter().find(|part| !part.contains('=') && !is_level(part)) {
        return Err(wrong(format!(
            "{part:?} is none of off, error, warn, info, debug, trace"
        )));
    }
    EnvFilter::try_new(parts.join(",")).map_err(|error| wrong(error.to_string()))
}

/// The collector's address for traces.
fn traces_url(otlp: &str) -> Result<String, TelemetryError> {
    let wrong = || TelemetryError::Otlp(otlp.chars().take(200).collect());
    let url = url::Url::parse(otlp).or(Err(wrong()))?;
    // A password in it would be shown by whoever lists processes.
    let is_plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !is_plain {
        return Err(wrong());
    }
    Ok(format!("{}/v1/traces", otlp.trim_end_matches('/')))
}

/// Begins to log; once a process.
///
/// # Errors
/// See [`TelemetryError`].
pub fn begin(told: &Telemetry) -> Result<Guard, TelemetryError> {
    let from_outside = std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty());
    let filter = match &from_outside {
        Some(filter) => EnvFilter::try_new(filter).map_err(|error| TelemetryError::Filter {
            filter: filter.clone(),
            reason: error.to_string(),
        })?,
        None => check_filter(&told.filter)?,
    };
    let shown = from_outside.unwrap_or_else(|| told.filter.clone());
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match told.format {
        LogFormat::Human => lines
            .with_ansi(told.colour && std::io::stderr().is_terminal())
            .boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let provider = told
        .otlp
        .as_deref()
        .map(|otlp| spans(told.service, otlp))
        .transpose()?;
    let spans = provider
        .as_ref()
        .map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer(told.service)));
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .with(spans)
        .try_init()?;
    // Only the first process-wide log gets here.
    let told = Mutex::new(shown);
    CHANGING.set(Changing { handle, told }).ok();
    Ok(Guard(provider))
}

fn spans(service: &'static str, otlp: &str) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(traces_url(otlp)?)
        .with_timeout(EXPORT)
        .build()?;
    let resource = Resource::builder().with_service_name(service).build();
    let builder = SdkTracerProvider::builder().with_resource(resource);
    Ok(builder.with_batch_exporter(exporter).build())
}

/// What is logged now.
///
/// # Errors
/// Where this process has no log of this kind.
pub fn filter() -> Result<String, TelemetryError> {
    let changing = CHANGING.get().ok_or(TelemetryError::None)?;
    Ok(changing
        .told
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone())
}

/// Changes what is logged, until the program ends.
///
/// # Errors
/// Where it is no filter, or this process has no log of this kind.
pub fn set_filter(filter: &str) -> Result<(), TelemetryError> {
    let checked = check_filter(filter)?;
    let changing = CHANGING.get().ok_or(TelemetryError::None)?;
    changing.handle.reload(checked).or(Err(TelemetryError::None))?;
    filter.clone_into(&mut changing.told.lock().unwrap_or_else(PoisonError::into_inner));
    tracing::info!(filter, "the log's filter is changed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_levels_and_targets_with_levels() {
        for good in ["info", "WARN", "warn,block_chain_worker=debug", "off, iroh=trace"] {
            assert!(check_filter(good).is_ok(), "{good}");
        }
        let long = "a=info,".repeat(200);
        for bad in ["", " ", "loud", "info,loud", "info,", "a=loud", "[", &long] {
            let error = check_filter(bad).unwrap_err().to_string();
            assert!(
                error.contains("no filter of the log") && error.len() < 300,
                "{bad}: {error}"
            );
        }
    }

    #[test]
    fn a_collector_has_an_address_without_secrets() {
        assert_eq!(
            traces_url("http://localhost:4318/").unwrap(),
            "http://localhost:4318/v1/traces"
        );
        for bad in [
            "",
            "localhost:4318",
            "ftp://a",
            "http://",
            "http://u:p@a",
            "http://a?token=x",
        ] {
            assert!(traces_url(bad).is_err(), "{bad}");
        }
    }
}
