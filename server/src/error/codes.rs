//! Every code of a refusal, its status, and what it means: what the description of the interface says of each route.

use super::ServiceError;
use actix_web::http::StatusCode;
use block_chain_common::coordinator_api::ApiError;
use block_chain_web::interface::{Refusal, refused};
use std::collections::BTreeMap;
use utoipa::openapi::{Ref, RefOr, Response};
use utoipa::{IntoResponses, ToSchema as _};

/// What every route may answer besides what it is for.
impl IntoResponses for ServiceError {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refused(&CODES, &Ref::from_schema_name(ApiError::name()))
    }
}

/// Every code of a refusal, its status, and what it means.
pub(super) const CODES: [Refusal; 36] = [
    (
        "malformed",
        StatusCode::BAD_REQUEST,
        "the path, the query or the body cannot be read, or breaks a limit",
    ),
    (
        "spec",
        StatusCode::BAD_REQUEST,
        "a chain's spec breaks a rule, which the message names",
    ),
    (
        "worker_token",
        StatusCode::UNAUTHORIZED,
        "the worker's token is missing or wrong",
    ),
    (
        "operator",
        StatusCode::UNAUTHORIZED,
        "the operator's word is missing or wrong",
    ),
    (
        "stranger",
        StatusCode::UNAUTHORIZED,
        "only workers and the operator may read this",
    ),
    (
        "challenge",
        StatusCode::FORBIDDEN,
        "the challenge is over, was used or never given, or its signature is wrong",
    ),
    (
        "join_token",
        StatusCode::FORBIDDEN,
        "the join token is missing, wrong, expired, revoked or used up",
    ),
    (
        "wrong_origin",
        StatusCode::FORBIDDEN,
        "a page of another site asks",
    ),
    (
        "wrong_host",
        StatusCode::FORBIDDEN,
        "the request names another host than this server",
    ),
    (
        "clear",
        StatusCode::FORBIDDEN,
        "the operator's word would cross a network without TLS",
    ),
    (
        "banned",
        StatusCode::FORBIDDEN,
        "the operator has banned the worker",
    ),
    ("not_found", StatusCode::NOT_FOUND, "there is no such route"),
    ("unknown_chain", StatusCode::NOT_FOUND, "there is no such chain"),
    (
        "unknown_worker",
        StatusCode::NOT_FOUND,
        "there is no such worker on the chain",
    ),
    (
        "unknown_token",
        StatusCode::NOT_FOUND,
        "there is no such join token",
    ),
    (
        "method",
        StatusCode::METHOD_NOT_ALLOWED,
        "the path takes other methods, which `Allow` names",
    ),
    (
        "version",
        StatusCode::CONFLICT,
        "the worker speaks another version of the interface",
    ),
    (
        "chain_exists",
        StatusCode::CONFLICT,
        "there is a chain of this name already",
    ),
    (
        "not_admin",
        StatusCode::CONFLICT,
        "the coordinator's key is no admin of the chain",
    ),
    (
        "last_member",
        StatusCode::CONFLICT,
        "the last worker that counts stays",
    ),
    (
        "too_many_chains",
        StatusCode::CONFLICT,
        "the worker has made as many chains as it may",
    ),
    (
        "full",
        StatusCode::CONFLICT,
        "the chain has as many workers as it may",
    ),
    (
        "stale_term",
        StatusCode::CONFLICT,
        "AGR-3: the term is not that of a leader that asks",
    ),
    (
        "stale_checkpoint",
        StatusCode::CONFLICT,
        "AGR-4: the checkpoint does not follow the last one",
    ),
    (
        "no_quorum",
        StatusCode::CONFLICT,
        "AGR-5: too few members acknowledge the block",
    ),
    (
        "inconsistent",
        StatusCode::CONFLICT,
        "AGR-6: the consistency proof does not hold",
    ),
    (
        "cosignature",
        StatusCode::CONFLICT,
        "AGR-7: the cosignature is for nothing there is, or by nobody who may",
    ),
    (
        "coordinator_behind",
        StatusCode::CONFLICT,
        "AGR-8: the worker knows more than this coordinator",
    ),
    (
        "recovery_needed",
        StatusCode::CONFLICT,
        "AGR-8: this coordinator was restored from an old copy, and has to recover",
    ),
    (
        "members_missing",
        StatusCode::CONFLICT,
        "AGR-9: members that may know more are silent",
    ),
    (
        "nothing_to_recover",
        StatusCode::CONFLICT,
        "AGR-9: no worker shows anything that is lacking",
    ),
    (
        "contradiction",
        StatusCode::CONFLICT,
        "AGR-9: workers show two checkpoints that contradict each other",
    ),
    (
        "too_large",
        StatusCode::PAYLOAD_TOO_LARGE,
        "the body is longer than is allowed",
    ),
    (
        "too_fast",
        StatusCode::TOO_MANY_REQUESTS,
        "the address asks too much, or was refused too often; `Retry-After` says when again",
    ),
    (
        "busy",
        StatusCode::TOO_MANY_REQUESTS,
        "as much of it is under way as may be at a time; `Retry-After` says when again",
    ),
    ("database", StatusCode::SERVICE_UNAVAILABLE, "the database fails"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_described_once() {
        let source = include_str!("../error.rs");
        let (begin, end) = (
            source.find("pub fn code(&self)").unwrap(),
            source.find("pub fn hint").unwrap(),
        );
        let mut used: Vec<&str> = source[begin..end]
            .split('"')
            .skip(1)
            .step_by(2)
            .filter(|code| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
            .collect();
        used.sort_unstable();
        used.dedup();
        let mut described = CODES.map(|(code, ..)| code);
        described.sort_unstable();
        assert_eq!(used, described);
    }
}
