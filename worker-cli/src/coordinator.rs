//! The coordinator's client: the next server is tried where one does not answer; answers are bounded in size.

use crate::tls::{Trust, TrustError, certificate_complaint};
use block_chain_common::chain_spec::ChainSpec;
use block_chain_common::codec::encode;
use block_chain_common::coordinator_api::{
    API_VERSION, ApiError, ChainHeard, ChainInfo, ChainSummary, ChainView, Challenge, CheckpointView, Claim,
    ClaimTaken, CommitAnswer, CommitFigures, CommitRequest, CosignRequest, CreateChain, EVENTS_KEEP_ALIVE_MS,
    Event, Heard, Heartbeat, Heartbeats, LeaveRequest, Left, Noted, Orders, RegisterRequest, Registration,
    registration_bytes,
};
use block_chain_common::keys::SecretKey;
use futures_util::StreamExt as _;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use uuid::Uuid;

/// The longest answer that is read: a registration with a spec of a megabyte, in hex.
const MAX_ANSWER_BYTES: usize = 4 * 1_048_576;
const CONNECT: Duration = Duration::from_secs(2);
const WHOLE: Duration = Duration::from_secs(10);
/// A stream of events on which nothing came for so long, not even the server's sign of life, has nobody at its other end.
const SILENT: Duration = Duration::from_millis(EVENTS_KEEP_ALIVE_MS * 3);

/// Why a coordinator's answer is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// None answers.
    #[error("no server answers at {servers}: {reason}")]
    Unreachable {
        /// The servers that were tried.
        servers: String,
        /// What became of the last.
        reason: String,
    },
    /// Something answers that is no coordinator.
    #[error("{server} is not a block-chain-server: {reason}")]
    NotACoordinator {
        /// The server.
        server: String,
        /// What it said.
        reason: String,
    },
    /// A coordinator of another version.
    #[error("{server} speaks version {found} of the interface, this program {API_VERSION}")]
    Version {
        /// The server.
        server: String,
        /// Its version.
        found: u64,
    },
    /// The coordinator refuses.
    #[error("{}", .0.message)]
    Refused(ApiError),
    /// A server's certificate that is not believed.
    #[error("the certificate of {server} is not trusted: {reason}")]
    Certificate {
        /// The server.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Whom to trust that cannot be told, or that nothing would be held against.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The client cannot be made.
    #[error("cannot make an HTTP client: {0}")]
    Client(String),
}

impl CoordinatorError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => {
                Some("start one with block-chain-server, or name it with --server URL".to_owned())
            }
            Self::NotACoordinator { .. } => Some("name the coordinator with --server URL".to_owned()),
            Self::Version { .. } => Some("run the same version of both programs".to_owned()),
            Self::Refused(error) => error.hint.clone(),
            Self::Certificate { .. } => Some(
                "register again with --fingerprint HEX, which the server prints for --tls-self-signed, or with --server-ca FILE"
                    .to_owned(),
            ),
            Self::Trust(_) => Some(
                "--server https://HOST:18000 with --fingerprint, the 64 hex digits that the server prints, or --server-ca FILE, PEM"
                    .to_owned(),
            ),
            Self::Client(_) => None,
        }
    }
}

/// The coordinator. Cheap to clone.
#[derive(Clone)]
pub struct CoordinatorClient {
    http: reqwest::Client,
    servers: Arc<Vec<String>>,
    /// The server that answered last: it is asked first.
    current: Arc<AtomicUsize>,
    token: Arc<RwLock<Option<String>>>,
}

impl CoordinatorClient {
    /// A client of these servers; `token` is the worker's own.
    ///
    /// # Errors
    /// Where no HTTP client can be made, or what is trusted is no use.
    pub fn new(servers: Vec<String>, token: Option<String>, trust: &Trust) -> Result<Self, CoordinatorError> {
        trust.check(&servers)?;
        let mut http = trust.http_client()?;
        if servers.iter().all(|server| is_here(server)) {
            // Tokens for this machine go to no proxy that the environment names.
            http = http.no_proxy();
        }
        let http = http
            .connect_timeout(CONNECT)
            .build()
            .map_err(|error| CoordinatorError::Client(error.to_string()))?;
        let servers = servers
            .into_iter()
            .map(|server| server.trim_end_matches('/').to_owned())
            .collect();
        Ok(Self {
            http,
            servers: Arc::new(servers),
            current: Arc::default(),
            token: Arc::new(RwLock::new(token)),
        })
    }

    /// The server that answered last.
    #[must_use]
    pub fn server(&self) -> &str {
        let current = self.current.load(Ordering::Relaxed);
        self.servers.get(current).map_or("", String::as_str)
    }

    /// Uses another token of the worker from now on.
    pub fn set_token(&self, token: String) {
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = Some(token);
    }

    /// Checks that a coordinator of this version of the interface answers; its program's version.
    ///
    /// # Errors
    /// Where none does, or it is another program or version.
    pub async fn check(&self) -> Result<String, CoordinatorError> {
        let (server, response) = self.request(Method::GET, "/healthz", None::<&()>).await?;
        let status = response.status();
        let text = bounded_text(response).await.unwrap_or_default();
        let health: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        if health["service"] != "block-chain-server" {
            let reason = format!("GET /healthz answers {status}");
            return Err(CoordinatorError::NotACoordinator { server, reason });
        }
        match health["api_version"].as_u64() {
            Some(found) if found == u64::from(API_VERSION) => {
                Ok(health["version"].as_str().unwrap_or("unknown").to_owned())
            }
            found => Err(CoordinatorError::Version {
                server,
                found: found.unwrap_or(0),
            }),
        }
    }

    /// Registers a key: the same key gets the same id.
    ///
    /// # Errors
    /// Where no coordinator answers, or it refuses.
    pub async fn register(
        &self,
        key: &SecretKey,
        chain: &str,
        name: Option<String>,
        token: Option<String>,
    ) -> Result<Registration, CoordinatorError> {
        let Challenge { challenge } = self.post("/v1/challenges", &()).await?;
        let public_key = key.public_key();
        let signature = key.sign(&registration_bytes(&challenge, chain, &public_key));
        let request = RegisterRequest {
            api_version: API_VERSION,
            chain: chain.to_owned(),
            public_key,
            name,
            token,
            addresses: Vec::new(),
            api: None,
            challenge,
            signature,
        };
        let registration: Registration = self.post("/v1/workers", &request).await?;
        self.set_token(registration.worker_token.clone());
        Ok(registration)
    }

    /// Says that the worker lives, on several chains (at most 64); what is said of each comes in their order.
    ///
    /// # Errors
    /// Where no coordinator answers, or it refuses.
    pub async fn heartbeats(
        &self,
        id: Uuid,
        beats: Vec<Heartbeat>,
    ) -> Result<Vec<ChainHeard>, CoordinatorError> {
        let path = format!("/v1/workers/{id}/heartbeats");
        let wanted = beats.len();
        match self.post(&path, &Heartbeats { beats }).await {
            Ok(Heard { chains }) if chains.len() == wanted => Ok(chains),
            Ok(Heard { chains }) => Err(CoordinatorError::NotACoordinator {
                server: self.servers.join(", "),
                reason: format!("it says {} things of {wanted} chains", chains.len()),
            }),
            // Perhaps it is one, of another version: then that is the reason.
            Err(error @ CoordinatorError::NotACoordinator { .. }) => match self.check().await {
                Err(version @ CoordinatorError::Version { .. }) => Err(version),
                _ => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// Makes a chain; the same again changes nothing.
    ///
    /// # Errors
    /// Where no coordinator answers, or it refuses.
    pub async fn create_chain(&self, spec: &ChainSpec) -> Result<ChainInfo, CoordinatorError> {
        let spec = hex::encode(encode(spec));
        self.post("/v1/chains", &CreateChain { spec }).await
    }

    /// All chains.
    ///
    /// # Errors
    /// Where no coordinator answers, or it refuses.
    pub async fn chains(&self) -> Result<Vec<ChainSummary>, CoordinatorError> {
        let (server, response) = self.request(Method::GET, "/v1/chains", None::<&()>).await?;
        read(server, response).await
    }

    /// A chain; its name is checked already.
    ///
    /// # Errors
    /// Where no coordinator answers, or it refuses.
    pub async fn chain(&self, name: &str) -> Result<ChainInfo, CoordinatorError> {
        let path = format!("/v1/chains/{name}");
        let (server, response) = self.request(Method::GET, &path, None::<&()>).await?;
        read(server, response).await
    }

    /// Shows what the coordinator does not know any more.
    ///
    /// # Errors
    /// Where no coordinator answers, or it refuses.
    pub async fn claim(&self, id: Uuid, claim: &Claim) -> Result<ClaimTaken, CoordinatorError> {
        self.post(&format!("/v1/workers/{id}/claim"), claim).await
    }

    /// Leaves the network.
    ///
    /// # Errors
    /// Where no coordinator answers, or it refuses.
    pub async fn leave(&self, id: Uuid, chain: &str) -> Result<Left, CoordinatorError> {
        self.post(
            &format!("/v1/workers/{id}/leave"),
            &LeaveRequest {
                chain: chain.to_owned(),
            },
        )
        .await
    }

    /// The chain's network now.
    ///
    /// # Errors
    /// Where no coordinator answers, or it refuses.
    pub async fn view(&self, chain: &str) -> Result<ChainView, CoordinatorError> {
        let (server, response) = self
            .request(Method::GET, &format!("/v1/chains/{chain}/view"), None::<&()>)
            .await?;
        read(server, response).await
    }

    /// Transactions that the coordinator has signed for a chain, from a nonce on.
    ///
    /// # Errors
    /// Where no coordinator answers, or it refuses.
    pub async fn orders(&self, chain: &str, from: u64) -> Result<Orders, CoordinatorError> {
        let path = format!("/v1/chains/{chain}/orders?from={from}");
        let (server, response) = self.request(Method::GET, &path, None::<&()>).await?;
        read(server, response).await
    }

    /// Asks to commit a block.
    ///
    /// # Errors
    /// Where no coordinator answers, or it refuses.
    pub async fn commit(
        &self,
        chain: &str,
        request: &CommitRequest,
    ) -> Result<CommitAnswer, CoordinatorError> {
        self.post(&format!("/v1/chains/{chain}/checkpoints"), request)
            .await
    }

    /// Tells what committed blocks hold.
    ///
    /// # Errors
    /// Where no coordinator answers, or it refuses.
    pub async fn tell_figures(&self, id: Uuid, figures: &CommitFigures) -> Result<Noted, CoordinatorError> {
        self.post(&format!("/v1/workers/{id}/figures"), figures).await
    }

    /// Gives a cosignature.
    ///
    /// # Errors
    /// Where no coordinator answers, or it refuses.
    pub async fn cosign(
        &self,
        chain: &str,
        request: &CosignRequest,
    ) -> Result<CheckpointView, CoordinatorError> {
        self.post(&format!("/v1/chains/{chain}/cosignatures"), request)
            .await
    }

    /// Calls `wake` with nothing when a stream of events begins, since some may have been missed before, and then for each
    /// event with its chain, until the stream ends or falls silent.
    ///
    /// # Errors
    /// Where no coordinator answers, or the one that did is silent.
    pub async fn listen(&self, wake: impl FnMut(Option<&str>)) -> Result<(), CoordinatorError> {
        self.listen_for(SILENT, wake).await
    }

    async fn listen_for(
        &self,
        silent: Duration,
        mut wake: impl FnMut(Option<&str>),
    ) -> Result<(), CoordinatorError> {
        let mut last = None;
        for (place, server) in self.in_turn() {
            let mut asked = self.http.get(format!("{server}/v1/events"));
            if let Some(token) = self.token.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
                asked = asked.bearer_auth(token);
            }
            let asked = asked.send();
            let response = match tokio::time::timeout(WHOLE, asked).await {
                Ok(Ok(response)) if response.status().is_success() => response,
                Ok(Ok(response)) => {
                    last = Some(self.unreachable(format!("GET /v1/events answers {}", response.status())));
                    continue;
                }
                Ok(Err(error)) => {
                    last = Some(self.failed(server, &error));
                    continue;
                }
                Err(_) => {
                    last = Some(self.unreachable(format!("it does not answer in {} s", WHOLE.as_secs())));
                    continue;
                }
            };
            self.current.store(place, Ordering::Relaxed);
            wake(None);
            let (mut chunks, mut lines) = (response.bytes_stream(), Lines::default());
            loop {
                match tokio::time::timeout(silent, chunks.next()).await {
                    Ok(Some(Ok(chunk))) => {
                        for line in lines.events(&chunk) {
                            // One that cannot be read may be news of anything.
                            let event = serde_json::from_slice::<Event>(&line).ok();
                            wake(event.as_ref().map(Event::chain));
                        }
                    }
                    Ok(Some(Err(_)) | None) => return Ok(()),
                    Err(_) => {
                        let silent = silent.as_millis();
                        return Err(self.unreachable(format!("{server} has been silent for {silent} ms")));
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| self.unreachable("there is none".to_owned())))
    }

    /// The servers with their places, the one that answered last first.
    fn in_turn(&self) -> impl Iterator<Item = (usize, &String)> {
        let all = self.servers.iter().enumerate();
        let first = self.current.load(Ordering::Relaxed);
        all.clone().skip(first).chain(all.take(first))
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CoordinatorError> {
        let (server, response) = self.request(Method::POST, path, Some(body)).await?;
        read(server, response).await
    }

    /// Tries the servers in turn.
    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<(String, Response), CoordinatorError> {
        let mut last = None;
        for (place, server) in self.in_turn() {
            let mut request: RequestBuilder = self
                .http
                .request(method.clone(), format!("{server}{path}"))
                .timeout(WHOLE);
            if let Some(token) = self.token.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
                request = request.bearer_auth(token);
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            match request.send().await {
                // A server whose database is away may have a sister that reaches it.
                Ok(response)
                    if response.status() == StatusCode::SERVICE_UNAVAILABLE && self.servers.len() > 1 => {}
                Ok(response) => {
                    self.current.store(place, Ordering::Relaxed);
                    return Ok((server.clone(), response));
                }
                Err(error) => last = Some(self.failed(server, &error)),
            }
        }
        Err(last.unwrap_or_else(|| self.unreachable("its database is away".to_owned())))
    }

    /// Why a server cannot be asked.
    fn failed(&self, server: &str, error: &reqwest::Error) -> CoordinatorError {
        match certificate_complaint(error) {
            Some(reason) => CoordinatorError::Certificate {
                server: server.to_owned(),
                reason,
            },
            None => self.unreachable(root_cause(error)),
        }
    }

    fn unreachable(&self, reason: String) -> CoordinatorError {
        CoordinatorError::Unreachable {
            servers: self.servers.join(", "),
            reason,
        }
    }
}

/// Whether a server's URL names this machine.
pub(crate) fn is_here(server: &str) -> bool {
    let url = url::Url::parse(server).ok();
    let host = url.as_ref().and_then(url::Url::host_str).unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A stream's lines, however it is cut into chunks.
#[derive(Default)]
struct Lines {
    /// The line that is not over yet, as far as it is looked at.
    begun: Vec<u8>,
}

impl Lines {
    const EVENT: &[u8] = b"data:";
    /// More than any event has; the rest of a longer line is not kept.
    const LONGEST: usize = 1_024;

    /// The data of the events whose lines end in this chunk.
    fn events(&mut self, chunk: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        for byte in chunk {
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.begun);
                found.extend(line.strip_prefix(Self::EVENT).map(<[u8]>::to_vec));
            } else if self.begun.len() < Self::LONGEST {
                self.begun.push(*byte);
            }
        }
        found
    }
}

/// The innermost error: the outer ones only say that a request failed.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

async fn read<T: DeserializeOwned>(server: String, response: Response) -> Result<T, CoordinatorError> {
    let status = response.status();
    let not_ours = |reason: String| CoordinatorError::NotACoordinator {
        server: server.clone(),
        reason,
    };
    let text = bounded_text(response).await.map_err(not_ours)?;
    if status.is_success() {
        return serde_json::from_str(&text)
            .map_err(|error| not_ours(format!("its answer cannot be read: {error}")));
    }
    match serde_json::from_str::<ApiError>(&text) {
        Ok(error) => Err(CoordinatorError::Refused(error)),
        Err(_) => Err(not_ours(format!("it answers {status}"))),
    }
}

/// The body, of at most [`MAX_ANSWER_BYTES`].
async fn bounded_text(response: Response) -> Result<String, String> {
    let mut chunks = response.bytes_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk.map_err(|error| root_cause(&error))?);
        if bytes.len() > MAX_ANSWER_BYTES {
            return Err(format!("its answer has more than {MAX_ANSWER_BYTES} bytes"));
        }
    }
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
