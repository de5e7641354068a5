//! The client of a node's HTTP interface; where the node is down it is started first.

mod launch;

pub use launch::{launch, running_api};

use crate::cli::{DEFAULT_SERVER, Global, Listen};
use crate::coordinator::root_cause;
use crate::identity::{IdentityError, WorkerFile, read_private};
use block_chain_common::coordinator_api::ApiError;
use reqwest::{Method, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest answer that is read whole; longer ones are streamed.
const MAX_ANSWER_BYTES: u64 = 64 * 1_048_576;

/// Why a node's answer is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody has registered here.
    #[error("no worker is registered in {}", .0.display())]
    NotRegistered(PathBuf),
    /// The node cannot be started.
    #[error("the node of {} does not start: {reason}", dir.display())]
    Launch {
        /// The data directory.
        dir: PathBuf,
        /// What its log says last.
        reason: String,
    },
    /// The node does not answer.
    #[error("the node at {api} does not answer: {reason}")]
    Unreachable {
        /// Its address.
        api: String,
        /// What became of the request.
        reason: String,
    },
    /// The node refuses.
    #[error("{}", .0.message)]
    Refused(ApiError),
    /// The answer cannot be read.
    #[error("the node's answer cannot be read: {0}")]
    Answer(String),
    /// The data directory.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl ClientError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotRegistered(_) => Some("block-chain-worker register".to_owned()),
            Self::Launch { dir, .. } => Some(format!("its log is {}", dir.join("node.log").display())),
            Self::Unreachable { .. } => Some("block-chain-worker status starts it again".to_owned()),
            Self::Refused(error) => error.hint.clone(),
            Self::Answer(_) => Some("run the same version of the program for both".to_owned()),
            Self::Identity(_) => None,
        }
    }
}

/// The client of one node.
#[derive(Clone)]
pub struct NodeClient {
    http: reqwest::Client,
    api: String,
    cookie: String,
}

/// The coordinators that the flags name.
#[must_use]
pub fn servers(global: &Global) -> Vec<String> {
    if global.server.is_empty() {
        vec![DEFAULT_SERVER.to_owned()]
    } else {
        global.server.clone()
    }
}

impl NodeClient {
    /// The node of a data directory; it is started where it is down, and that is said.
    ///
    /// # Errors
    /// Where nobody has registered there, or the node does not start.
    pub async fn connect(global: &Global) -> Result<Self, ClientError> {
        let dir = global.data_dir();
        let worker = WorkerFile::load(&dir)?.ok_or_else(|| ClientError::NotRegistered(dir.clone()))?;
        if worker.chain != global.chain {
            let code = "other_chain".to_owned();
            let message = format!(
                "this worker is registered for chain {:?}, not {:?}",
                worker.chain, global.chain
            );
            return Err(ClientError::Refused(ApiError {
                code,
                message,
                hint: Some(format!("--chain {}", worker.chain)),
            }));
        }
        if running_api(&dir).await.is_none() {
            crate::output::note(&format!("starting the node of {}…", dir.display()));
            launch(
                &dir,
                &global.server,
                &Listen {
                    api: ([127, 0, 0, 1], 0).into(),
                    p2p_port: 0,
                    p2p_bind: None,
                },
            )
            .await?;
        }
        Self::of(&dir).await
    }

    /// The running node of a data directory.
    ///
    /// # Errors
    /// Where it does not run.
    pub async fn of(dir: &Path) -> Result<Self, ClientError> {
        let not_running = || ClientError::Launch {
            dir: dir.to_owned(),
            reason: "it does not run".to_owned(),
        };
        let api = running_api(dir).await.ok_or_else(not_running)?;
        let cookie = read_private(dir, "api.cookie")?.ok_or_else(not_running)?;
        let http = crate::tls::http_client(None)
            .build()
            .map_err(|error| ClientError::Answer(error.to_string()))?;
        Ok(Self { http, api, cookie })
    }

    /// The node's address.
    #[must_use]
    pub fn api(&self) -> &str {
        &self.api
    }

    /// `GET`, and the JSON of the answer.
    ///
    /// # Errors
    /// Where the node does not answer, or refuses.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, ClientError> {
        self.read(self.send(Method::GET, path, query, None::<&()>).await?)
            .await
    }

    /// `POST`, and the JSON of the answer.
    ///
    /// # Errors
    /// Where the node does not answer, or refuses.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.read(self.send(Method::POST, path, &[], Some(body)).await?)
            .await
    }

    /// `GET`, and the text of the answer.
    ///
    /// # Errors
    /// Where the node does not answer, or refuses.
    pub async fn text(&self, path: &str) -> Result<String, ClientError> {
        let response = self.stream(path, &[]).await?;
        response
            .text()
            .await
            .map_err(|error| ClientError::Answer(root_cause(&error)))
    }

    /// `GET`, to be read as it comes.
    ///
    /// # Errors
    /// Where the node does not answer, or refuses.
    pub async fn stream(&self, path: &str, query: &[(&str, String)]) -> Result<Response, ClientError> {
        let response = self.send(Method::GET, path, query, None::<&()>).await?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(self.refusal(response).await)
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<&impl Serialize>,
    ) -> Result<Response, ClientError> {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.api))
            .query(query)
            .bearer_auth(&self.cookie);
        request = request.timeout(Duration::from_secs(24 * 3_600));
        if let Some(body) = body {
            request = request.json(body);
        }
        let unreachable = |error: reqwest::Error| ClientError::Unreachable {
            api: self.api.clone(),
            reason: root_cause(&error),
        };
        request.send().await.map_err(unreachable)
    }

    async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T, ClientError> {
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        if response
            .content_length()
            .is_some_and(|length| length > MAX_ANSWER_BYTES)
        {
            return Err(ClientError::Answer(format!(
                "it has more than {MAX_ANSWER_BYTES} bytes"
            )));
        }
        let bytes = response
            .bytes()
            .await
            .map_err(|error| ClientError::Answer(root_cause(&error)))?;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::Answer(error.to_string()))
    }

    async fn refusal(&self, response: Response) -> ClientError {
        let status = response.status();
        match response.json::<ApiError>().await {
            Ok(error) => ClientError::Refused(error),
            Err(_) => ClientError::Answer(format!("it answers {status}")),
        }
    }
}
