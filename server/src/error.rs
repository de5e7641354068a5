//! What the coordinator refuses, each with its code and HTTP status, in one table.

mod codes;

use crate::store::{Refusal, StoreError};
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderValue, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use block_chain_common::coordinator_api::{API_VERSION, ApiError};
use block_chain_common::limits::{MAX_CHAIN_WORKERS, MAX_SPEC_BYTES};
use block_chain_common::quantity::Term;
use block_chain_web::interface::status_of;
use codes::CODES;
use uuid::Uuid;

/// The body of a request: the largest is a chain's spec in hex.
pub(crate) const MAX_BODY_BYTES: usize = 2 * MAX_SPEC_BYTES + 65_536;

/// When to try again where nothing else is known, in seconds.
const RETRY_S: u64 = 5;

/// Left on a refusal's response, so that it can be counted by its code.
#[derive(Debug, Clone, Copy)]
pub struct Refused(pub &'static str);

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The body or a parameter cannot be read, or breaks a limit.
    #[error("{0}")]
    Malformed(String),
    /// The body is too long.
    #[error("the body has more than {MAX_BODY_BYTES} bytes")]
    TooLarge,
    /// There is no such route.
    #[error("there is no {method} {path}")]
    NoRoute {
        /// The method asked for.
        method: String,
        /// The path asked for, cut short.
        path: String,
    },
    /// The route is there for other methods.
    #[error("{path} does not take {method}, only {allowed}")]
    Method {
        /// The method asked for.
        method: String,
        /// The path asked for, cut short.
        path: String,
        /// Those it takes, as the `Allow` header has them.
        allowed: String,
    },
    /// The worker speaks another version.
    #[error("the worker speaks version {found} of the interface, this coordinator {API_VERSION}")]
    Version {
        /// The worker's version.
        found: u32,
    },
    /// There is no such chain.
    #[error("there is no chain {name:?}")]
    UnknownChain {
        /// The name asked for.
        name: String,
    },
    /// There is a chain of this name already, and another spec.
    #[error("there is a chain {name:?} already, with another spec")]
    ChainExists {
        /// The name.
        name: String,
    },
    /// The spec of a new chain cannot be read, or breaks a rule.
    #[error("{0}")]
    Spec(String),
    /// The coordinator's key administers no such chain.
    #[error("this coordinator's key is no admin of chain {chain:?}: a worker has made it")]
    NotAdmin {
        /// The chain.
        chain: String,
    },
    /// There is no such worker, or it is no member of the chain.
    #[error("worker {id} is not a member of chain {chain:?}")]
    UnknownWorker {
        /// The worker.
        id: Uuid,
        /// The chain.
        chain: String,
    },
    /// The challenge is over, was used, or was never given; or its signature is wrong.
    #[error("{0}")]
    Challenge(&'static str),
    /// The join token is wrong or missing.
    #[error("the join token is {0}")]
    JoinToken(&'static str),
    /// The worker's token is wrong or missing.
    #[error("the worker's token is {0}")]
    WorkerToken(&'static str),
    /// The operator's word is wrong or missing.
    #[error("the operator's word is {0}")]
    Operator(&'static str),
    /// Only who is part of the network may read this.
    #[error("this is for the network's workers and its operator")]
    Stranger,
    /// It comes through a proxy to a server that asks nobody for a token, since it is for its own machine.
    #[error("this server is for its own machine alone, and this comes through a proxy")]
    HereOnly,
    /// A page of another site asks.
    #[error("the request is made by a page of another site than this server's")]
    WrongOrigin,
    /// The host is another: a page elsewhere may have its name resolve to this machine.
    #[error("the request is for another host than this server, which is for this machine alone")]
    WrongHost,
    /// The operator's word in the clear.
    #[error("the operator's word crosses a network under TLS alone")]
    Clear,
    /// There is no such join token.
    #[error("there is no join token {id}")]
    UnknownToken {
        /// What it is listed by.
        id: Uuid,
    },
    /// The last worker that counts stays.
    #[error(
        "worker {id} is the last of chain {chain:?} that counts, and no other holds all that is committed"
    )]
    LastMember {
        /// The worker.
        id: Uuid,
        /// The chain.
        chain: String,
    },
    /// The chain has as many workers as it may.
    #[error("chain {chain:?} has {MAX_CHAIN_WORKERS} workers, no more are allowed")]
    Full {
        /// The chain.
        chain: String,
    },
    /// A worker has made as many chains as it may.
    #[error("this worker has made {made} chains, at most {allowed} are allowed; the operator may make more")]
    MadeTooMany {
        /// Those it has made.
        made: u64,
        /// Those it may.
        allowed: u64,
    },
    /// The worker is banned.
    #[error("worker {id} is banned from this network")]
    Banned {
        /// The worker.
        id: Uuid,
    },
    /// There is no such worker.
    #[error("there is no worker {id}")]
    NoWorker {
        /// The id asked for.
        id: Uuid,
    },
    /// An address asks too much, or was refused too often.
    #[error("too many requests from this address; again in {seconds} s")]
    TooFast {
        /// When it may ask again.
        seconds: u64,
    },
    /// Too much of something is out already.
    #[error("{0}")]
    Busy(String),
    /// AGR-3: only the leader of the term commits.
    #[error("AGR-3: term {found} is not the term of a leader that asks, term {current} is current")]
    StaleTerm {
        /// The term given.
        found: Term,
        /// The term now.
        current: Term,
    },
    /// AGR-4: a checkpoint follows the last one.
    #[error("AGR-4: the checkpoint follows one of {found} blocks, the last one covers {current}")]
    StaleCheckpoint {
        /// The size given.
        found: u64,
        /// The size there is.
        current: u64,
    },
    /// AGR-5: a majority of members has acknowledged the block.
    #[error("AGR-5: {found} members acknowledge the block, {needed} are needed")]
    NoQuorum {
        /// Valid acknowledgements of distinct members.
        found: usize,
        /// A majority.
        needed: usize,
    },
    /// AGR-6: the checkpoint is consistent with the last one.
    #[error("AGR-6: the consistency proof does not lead from {old} to {new} blocks")]
    Inconsistent {
        /// The last checkpoint's size.
        old: u64,
        /// The new one's.
        new: u64,
    },
    /// AGR-7: a cosignature is for a checkpoint there is, by the worker itself.
    #[error("AGR-7: {0}")]
    Cosignature(String),
    /// AGR-8: a worker knows more than this coordinator: it was restored from a backup.
    #[error(
        "AGR-8: the worker has seen term {worker_term} and a checkpoint of {worker_size} blocks, this coordinator knows term {term} and {size} blocks"
    )]
    Behind {
        /// The worker's term.
        worker_term: u64,
        /// The worker's checkpoint.
        worker_size: u64,
        /// The term here.
        term: u64,
        /// The checkpoint here.
        size: u64,
    },
    /// AGR-8: workers have shown a checkpoint that this coordinator has signed and does not know any more.
    #[error(
        "AGR-8: this coordinator has signed a checkpoint of {shown} blocks and knows {size}: it was restored from an old copy, and commits nothing before it has recovered"
    )]
    RecoveryNeeded {
        /// Blocks covered by what was shown.
        shown: u64,
        /// Blocks known here.
        size: u64,
    },
    /// AGR-9: what a silent member might know would be lost.
    #[error(
        "AGR-9: {silent} of {members} members were not heard within a minute, and may know more than the others"
    )]
    MembersMissing {
        /// Members not heard.
        silent: usize,
        /// Members.
        members: usize,
    },
    /// AGR-9: nobody shows more than this coordinator has.
    #[error("AGR-9: no worker shows anything of chain {chain:?} that this coordinator lacks")]
    NothingToRecover {
        /// The chain.
        chain: String,
    },
    /// AGR-9: two workers show checkpoints that contradict each other.
    #[error(
        "AGR-9: workers show two different checkpoints of {size} blocks, both signed by this coordinator"
    )]
    Contradiction {
        /// Blocks that both cover.
        size: u64,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ServiceError {
    /// The short name that programs tell refusals apart by; its status is in `CODES`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::TooLarge => "too_large",
            Self::NoRoute { .. } => "not_found",
            Self::Method { .. } => "method",
            // Not 426, which asks for another protocol on the connection.
            Self::Version { .. } => "version",
            Self::UnknownChain { .. } => "unknown_chain",
            Self::ChainExists { .. } => "chain_exists",
            Self::Spec(_) => "spec",
            Self::NotAdmin { .. } => "not_admin",
            Self::UnknownWorker { .. } => "unknown_worker",
            Self::Challenge(_) => "challenge",
            Self::JoinToken(_) => "join_token",
            Self::WorkerToken(_) => "worker_token",
            Self::Operator(_) => "operator",
            Self::Stranger | Self::HereOnly => "stranger",
            Self::WrongOrigin => "wrong_origin",
            Self::WrongHost => "wrong_host",
            Self::Clear => "clear",
            Self::UnknownToken { .. } => "unknown_token",
            Self::LastMember { .. } => "last_member",
            Self::Full { .. } => "full",
            Self::MadeTooMany { .. } => "too_many_chains",
            Self::Banned { .. } => "banned",
            Self::NoWorker { .. } => "unknown_worker",
            Self::TooFast { .. } => "too_fast",
            Self::Busy(_) => "busy",
            Self::StaleTerm { .. } => "stale_term",
            Self::StaleCheckpoint { .. } => "stale_checkpoint",
            Self::NoQuorum { .. } => "no_quorum",
            Self::Inconsistent { .. } => "inconsistent",
            Self::Cosignature(_) => "cosignature",
            Self::Behind { .. } => "coordinator_behind",
            Self::RecoveryNeeded { .. } => "recovery_needed",
            Self::MembersMissing { .. } => "members_missing",
            Self::NothingToRecover { .. } => "nothing_to_recover",
            Self::Contradiction { .. } => "contradiction",
            Self::Store(_) => "database",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::JoinToken(_) => {
                Some("register --token TOKEN, with the token that the server printed at its first start")
            }
            Self::WorkerToken(_) | Self::UnknownWorker { .. } => {
                Some("register again: the same key gets the same id")
            }
            Self::Banned { .. } => {
                Some("the operator lets it back in on the coordinator's page, or by unban")
            }
            Self::NoWorker { .. } => Some("the coordinator's page lists the workers with their ids"),
            Self::Operator(_) | Self::Stranger => Some(
                "the operator's word is in api.cookie in the server's data directory; sign in with it at /login",
            ),
            Self::HereOnly => Some(
                "start it with --join-token TOKEN, or with --open where everybody who reaches the proxy may read and register",
            ),
            Self::WrongHost => Some(
                "ask by the address that it listens on, or as localhost with its port; to be reached by a name, it takes --bind beyond loopback",
            ),
            Self::Clear => Some(
                "serve TLS with --tls-self-signed or --tls-cert, or sign in on the server's own machine, as through ssh -L",
            ),
            Self::ChainExists { .. } => {
                Some("take another name, or join it: block-chain-worker chain join NAME")
            }
            Self::UnknownChain { .. } => Some("block-chain-worker chain list shows the chains"),
            Self::NotAdmin { .. } => Some("block-chain-worker roles shows who is, and can grant roles"),
            Self::NoRoute { .. } | Self::Method { .. } => Some("the routes are listed at /docs"),
            Self::Version { .. } => Some("run the same version of block-chain-server and block-chain-worker"),
            Self::Behind { .. } | Self::RecoveryNeeded { .. } => Some(
                "restore a newer copy of the coordinator's database, or have it go on from what the workers have: block-chain-server recover",
            ),
            Self::MembersMissing { .. } => Some(
                "let the server and all workers run for a minute; --without-missing gives up what only the silent ones may know",
            ),
            Self::NothingToRecover { .. } => {
                Some("let the server and the workers run: they show it what they have every few seconds")
            }
            Self::Contradiction { .. } => Some(
                "the coordinator's key has signed two histories; compare the workers with check_consistency",
            ),
            _ => None,
        }
    }
}

impl ServiceError {
    /// As it is told to clients.
    pub(crate) fn body(&self) -> ApiError {
        ApiError {
            code: self.code().to_owned(),
            message: self.to_string(),
            hint: self.hint().map(str::to_owned),
        }
    }
}

impl Refusal for ServiceError {
    fn store_error(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}

impl ResponseError for ServiceError {
    fn status_code(&self) -> StatusCode {
        status_of(&CODES, self.code())
    }

    fn error_response(&self) -> HttpResponse {
        let (code, status) = (self.code(), self.status_code());
        if status.is_server_error() {
            tracing::error!(error = %self, "a request failed");
        }
        let mut response = HttpResponse::build(status).json(self.body());
        if let Self::Method { allowed, .. } = self
            && let Ok(allowed) = HeaderValue::from_str(allowed)
        {
            response.headers_mut().insert(ALLOW, allowed);
        }
        // Whatever there is too much of is fewer in a while.
        let retry = match self {
            Self::TooFast { seconds } => Some(*seconds),
            _ if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE => {
                Some(RETRY_S)
            }
            _ => None,
        };
        if let Some(seconds) = retry {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(Refused(code));
        response
    }
}
