//! The client of a node's HTTP interface; where the node is down it is started first.

mod launch;

pub use launch::{RunningNode, has_ended, launch, running_api};

use crate::cli::{DEFAULT_SERVER, Global};
use crate::coordinator::root_cause;
use crate::identity::{IdentityError, WorkerFile, read_private};
use crate::tls::Trust;
use block_chain_common::coordinator_api::ApiError;
use block_chain_common::limits::check_name;
use reqwest::{Method, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest answer that is read whole, a block of 8 MiB with its bytes escaped; longer ones are streamed.
const MAX_ANSWER_BYTES: usize = 64 * 1_048_576;
/// A search or a check may take long; a connection that nobody answers ends some day.
const WHOLE: Duration = Duration::from_secs(24 * 3_600);
const CONNECT: Duration = Duration::from_secs(5);

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
        /// What its log says to do about it.
        hint: Option<String>,
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
            Self::Launch { dir, hint, .. } => Some(match hint {
                Some(hint) => hint.clone(),
                None => format!("its log is {}", dir.join("node.log").display()),
            }),
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
    /// Before every path, where another chain than the home chain is asked.
    prefix: String,
    chain: String,
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
        let chain = global.chain.clone().unwrap_or_else(|| worker.chain.clone());
        check_name(&chain).map_err(|error| {
            ClientError::Refused(ApiError {
                code: "malformed".to_owned(),
                message: error.to_string(),
                hint: Some("block-chain-worker chain list shows the chains".to_owned()),
            })
        })?;
        if running_api(&dir).await.is_none() {
            crate::output::note(&format!("starting the node of {}…", dir.display()));
            launch(&dir, &global.server, &worker.listen).await?;
        }
        let prefix = match chain == worker.chain {
            true => String::new(),
            false => format!("/chains/{chain}"),
        };
        Ok(Self {
            prefix,
            chain,
            ..Self::of(&dir).await?
        })
    }

    /// The client of what is not one chain's alone.
    #[must_use]
    pub fn for_all_chains(&self) -> Self {
        Self {
            prefix: String::new(),
            ..self.clone()
        }
    }

    /// The name of the chain that is asked.
    #[must_use]
    pub fn chain(&self) -> &str {
        &self.chain
    }

    /// The running node of a data directory, and its home chain.
    ///
    /// # Errors
    /// Where it does not run.
    pub async fn of(dir: &Path) -> Result<Self, ClientError> {
        let not_running = || ClientError::Launch {
            dir: dir.to_owned(),
            reason: "it does not run".to_owned(),
            hint: None,
        };
        let node = running_api(dir).await.ok_or_else(not_running)?;
        let cookie = read_private(dir, "api.cookie")?.ok_or_else(not_running)?;
        Self::new(node, cookie)
    }

    fn new(node: RunningNode, cookie: String) -> Result<Self, ClientError> {
        let http = local_http(node.fingerprint.as_deref())?
            .connect_timeout(CONNECT)
            .build()
            .map_err(|error| ClientError::Answer(error.to_string()))?;
        Ok(Self {
            http,
            api: node.api,
            cookie,
            prefix: String::new(),
            chain: String::new(),
        })
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

    /// `POST` of bytes, and the JSON of the answer.
    ///
    /// # Errors
    /// Where the node does not answer, or refuses.
    pub async fn post_bytes<T: DeserializeOwned>(&self, path: &str, body: Vec<u8>) -> Result<T, ClientError> {
        let request = self.request(Method::POST, path, &[]);
        let request = request
            .header("content-type", "application/octet-stream")
            .body(body);
        self.read(self.answer(request).await?).await
    }

    /// `GET`, and the text of the answer.
    ///
    /// # Errors
    /// Where the node does not answer, or refuses.
    pub async fn text(&self, path: &str) -> Result<String, ClientError> {
        let bytes = bounded(self.stream(path, &[]).await?).await?;
        String::from_utf8(bytes).map_err(|error| ClientError::Answer(error.to_string()))
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
        let mut request = self.request(method, path, query);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.answer(request).await
    }

    fn request(&self, method: Method, path: &str, query: &[(&str, String)]) -> reqwest::RequestBuilder {
        self.http
            .request(method, format!("{}{}{path}", self.api, self.prefix))
            .query(query)
            .bearer_auth(&self.cookie)
            .timeout(WHOLE)
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Response, ClientError> {
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
        let bytes = bounded(response).await?;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::Answer(error.to_string()))
    }

    async fn refusal(&self, response: Response) -> ClientError {
        let status = response.status();
        let body = bounded(response).await.unwrap_or_default();
        match serde_json::from_slice::<ApiError>(&body) {
            Ok(error) => ClientError::Refused(error),
            Err(_) => ClientError::Answer(format!("it answers {status}")),
        }
    }
}

/// A client of this machine's own nodes: what goes to them (the cookie, a database's password) goes through no proxy
/// that the environment names. A node that serves TLS is known by its certificate's fingerprint.
fn local_http(fingerprint: Option<&str>) -> Result<reqwest::ClientBuilder, ClientError> {
    let trust = fingerprint.map(|fingerprint| Trust::pinned(fingerprint.to_owned()));
    let http = trust.unwrap_or_default().http_client();
    let http = http.map_err(|error| ClientError::Answer(error.to_string()))?;
    Ok(http.no_proxy())
}

/// The body, of at most [`MAX_ANSWER_BYTES`].
async fn bounded(mut response: Response) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| ClientError::Answer(root_cause(&error)))?
    {
        if bytes.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(ClientError::Answer(format!(
                "it has more than {MAX_ANSWER_BYTES} bytes"
            )));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
    use serde_json::{Value, json};
    use std::path::Path;

    /// A node that answers what a test wants; its data directory describes it.
    fn fake_node(dir: &Path, pid: u32) -> String {
        let server = HttpServer::new(move || {
            App::new()
                .route(
                    "/v1/status",
                    web::get().to(move || async move { HttpResponse::Ok().json(json!({ "pid": pid })) }),
                )
                .route(
                    "/echo",
                    web::post().to(|request: HttpRequest, body: web::Json<Value>| async move {
                        let header = request.headers().get("authorization").unwrap().to_str().unwrap();
                        HttpResponse::Ok().json(json!({ "header": header, "body": *body }))
                    }),
                )
                .route(
                    "/refused",
                    web::get().to(|| async {
                        HttpResponse::BadRequest()
                            .json(json!({ "code": "c", "message": "too long", "hint": "shorten it" }))
                    }),
                )
                .route(
                    "/away",
                    web::get().to(|| async {
                        HttpResponse::Found()
                            .insert_header(("location", "/v1/status"))
                            .finish()
                    }),
                )
                .route(
                    "/endless",
                    web::get().to(|| async {
                        let piece = web::Bytes::from_static(&[b' '; 65_536]);
                        HttpResponse::Ok().streaming(futures_util::stream::repeat_with(move || {
                            Ok::<_, std::io::Error>(piece.clone())
                        }))
                    }),
                )
        });
        let server = server
            .workers(1)
            .disable_signals()
            .bind(("127.0.0.1", 0))
            .unwrap();
        let api = format!("http://{}", server.addrs()[0]);
        tokio::spawn(server.run());
        describe(dir, &api, 7);
        api
    }

    fn describe(dir: &Path, api: &str, pid: u32) {
        std::fs::write(
            dir.join("node.json"),
            json!({ "pid": pid, "api": api }).to_string(),
        )
        .unwrap();
        std::fs::write(dir.join("api.cookie"), "a-word").unwrap();
    }

    #[tokio::test]
    async fn answers_and_refusals_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let api = fake_node(dir.path(), 7);
        let node = NodeClient::of(dir.path()).await.unwrap();
        assert_eq!(node.api(), api);
        let echo: Value = node.post("/echo", &json!({ "a": 1 })).await.unwrap();
        assert_eq!(echo, json!({ "header": "Bearer a-word", "body": { "a": 1 } }));
        let refused = node.get::<Value>("/refused", &[]).await.unwrap_err();
        assert_eq!(
            (refused.to_string(), refused.hint()),
            ("too long".to_owned(), Some("shorten it".to_owned()))
        );
        let table = [
            ("/none", "it answers 404"),
            ("/away", "it answers 302"),
            ("/endless", "more than"),
        ];
        for (path, part) in table {
            let error = node.get::<Value>(path, &[]).await.unwrap_err().to_string();
            assert!(error.contains(part), "{path}: {error}");
        }
    }

    #[tokio::test]
    async fn another_nodes_answer_is_not_taken_for_this_ones() {
        let dir = tempfile::tempdir().unwrap();
        // After a crash another node may have got the port.
        let api = fake_node(dir.path(), 8);
        assert_eq!(running_api(dir.path()).await, None);
        describe(dir.path(), &api, 8);
        assert_eq!(running_api(dir.path()).await.unwrap().api, api);
    }

    #[tokio::test]
    async fn a_node_that_is_gone_or_was_never_there_does_not_run() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(running_api(dir.path()).await, None);
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        for text in [
            format!(r#"{{"pid":1,"api":"http://{free}"}}"#),
            "nonsense".to_owned(),
        ] {
            std::fs::write(dir.path().join("node.json"), text).unwrap();
            assert_eq!(running_api(dir.path()).await, None);
        }
        let error = NodeClient::of(dir.path()).await.err().unwrap();
        assert!(error.to_string().ends_with("it does not run"), "{error}");
    }
}
