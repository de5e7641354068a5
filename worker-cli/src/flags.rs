//! What a worker and its node are told by flags and variables, besides what holds for every command.

use crate::tls::{Trust, TrustError};
use block_chain_backup::checked_interval;
use block_chain_telemetry::LogFormat;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// What a worker registers with.
#[derive(Clone, Default, PartialEq, Eq, clap::Args)]
pub struct JoinFlags {
    /// A name for people, of a-z, 0-9 and -
    #[arg(long, env = "BLOCK_CHAIN_NAME")]
    pub name: Option<String>,
    /// The network's join token
    #[arg(long, env = "BLOCK_CHAIN_JOIN_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// The SHA-256 fingerprint of the coordinator's certificate, as --tls-self-signed prints it: that one alone is trusted
    #[arg(long, value_name = "HEX", env = "BLOCK_CHAIN_FINGERPRINT")]
    pub fingerprint: Option<String>,
    /// The authorities that may issue the coordinator's certificate, PEM, in place of the public ones
    #[arg(long, value_name = "FILE", env = "BLOCK_CHAIN_SERVER_CA")]
    pub server_ca: Option<OsString>,
}

impl std::fmt::Debug for JoinFlags {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinFlags")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl JoinFlags {
    /// Whom the coordinator's certificate is from, where that was told.
    ///
    /// # Errors
    /// Where the file cannot be read or holds no certificate.
    pub fn trust(&self) -> Result<Option<Trust>, TrustError> {
        let fingerprint = self.fingerprint.as_deref().filter(|text| !text.is_empty());
        let file = self.server_ca.as_ref().filter(|file| !file.is_empty());
        match (fingerprint, file) {
            (Some(_), Some(_)) => Err(TrustError::Both),
            (Some(fingerprint), None) => Ok(Some(Trust::pinned(fingerprint.to_owned()))),
            (None, Some(file)) => Trust::authorities(Path::new(file)).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// What is said; a variable that is set to nothing, as in a file of them, says nothing.
    #[must_use]
    pub fn without_empty(self) -> Self {
        let kept = |text: Option<String>| text.filter(|text| !text.is_empty());
        Self {
            name: kept(self.name),
            token: kept(self.token),
            ..self
        }
    }
}

/// What a node is told at its start, as far as it was: where it listens, when it makes backups, what it logs.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeFlags {
    /// Where the node's page and interface listen [default: 127.0.0.1:0]; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", env = "BLOCK_CHAIN_API")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api: Option<SocketAddr>,
    /// The UDP port for peers [default: 0]; 0 takes a free one
    #[arg(long, value_name = "PORT", env = "BLOCK_CHAIN_P2P_PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p2p_port: Option<u16>,
    /// The address for peers [default: loopback where all coordinators are on it, else every interface]
    #[arg(long, value_name = "IP", env = "BLOCK_CHAIN_P2P_BIND")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p2p_bind: Option<IpAddr>,
    /// TLS for the page and interface: the certificate chain, PEM
    #[arg(
        long,
        value_name = "FILE",
        requires = "api_tls_key",
        env = "BLOCK_CHAIN_API_TLS_CERT"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_tls_cert: Option<PathBuf>,
    /// TLS for the page and interface: the private key, PEM
    #[arg(
        long,
        value_name = "FILE",
        requires = "api_tls_cert",
        env = "BLOCK_CHAIN_API_TLS_KEY"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_tls_key: Option<PathBuf>,
    /// TLS for the page and interface with a certificate made here; status shows its fingerprint
    #[arg(
        long,
        conflicts_with = "api_tls_cert",
        env = "BLOCK_CHAIN_API_TLS_SELF_SIGNED"
    )]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub api_tls_self_signed: bool,
    /// Nobody reads what crosses the way to the page, as from a container's host or through a proxy that ends TLS: one may
    /// sign in and send passphrases without TLS here
    #[arg(long, env = "BLOCK_CHAIN_API_PRIVATE_WAY")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub api_private_way: bool,
    /// Let everybody read who reaches the page and interface; else only this machine, and who shows the word in api.cookie
    #[arg(long, env = "BLOCK_CHAIN_API_OPEN")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub api_open: bool,
    /// Serve the routes of the earlier systems too, for programs that were written for them
    #[arg(long, env = "BLOCK_CHAIN_LEGACY_ROUTES")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub legacy_routes: bool,
    /// Make a backup so often, where something has changed: 30s at the least, as 15m, 12h or 1d
    #[arg(long, value_name = "TIME", value_parser = checked_interval, env = "BLOCK_CHAIN_BACKUP_EVERY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_every: Option<String>,
    /// The folder of these backups [default: backups in the data directory; better on another disk]
    #[arg(long, value_name = "FOLDER", env = "BLOCK_CHAIN_BACKUP_TO")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_to: Option<PathBuf>,
    /// How many of these backups are kept [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), env = "BLOCK_CHAIN_BACKUP_KEEP")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_keep: Option<u32>,
    /// How the node's log looks [default: human]
    #[arg(long, value_enum, env = "BLOCK_CHAIN_LOG_FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
    /// What the node logs: a level, or levels by target, as info,iroh=debug [default: warn,block_chain_worker=info]
    #[arg(long, value_name = "FILTER", value_parser = log_filter, env = "BLOCK_CHAIN_LOG")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// Send spans to this OpenTelemetry collector (OTLP over HTTP), as http://localhost:4318
    #[arg(long, value_name = "URL", env = "BLOCK_CHAIN_OTLP")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp: Option<String>,
}

/// As it was told, where it is one.
fn log_filter(text: &str) -> Result<String, String> {
    let checked = block_chain_telemetry::check_filter(text).map_err(|error| error.to_string())?;
    drop(checked);
    Ok(text.to_owned())
}

impl NodeFlags {
    /// What is told here, and the rest from `other`.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self {
            api: self.api.or(other.api),
            p2p_port: self.p2p_port.or(other.p2p_port),
            p2p_bind: self.p2p_bind.or(other.p2p_bind),
            api_tls_cert: self.api_tls_cert.clone().or_else(|| other.api_tls_cert.clone()),
            api_tls_key: self.api_tls_key.clone().or_else(|| other.api_tls_key.clone()),
            api_tls_self_signed: self.api_tls_self_signed
                || (other.api_tls_self_signed && self.api_tls_cert.is_none()),
            api_private_way: self.api_private_way || other.api_private_way,
            api_open: self.api_open || other.api_open,
            legacy_routes: self.legacy_routes || other.legacy_routes,
            backup_every: self.backup_every.clone().or_else(|| other.backup_every.clone()),
            backup_to: self.backup_to.clone().or_else(|| other.backup_to.clone()),
            backup_keep: self.backup_keep.or(other.backup_keep),
            log_format: self.log_format.or(other.log_format),
            log: self.log.clone().or_else(|| other.log.clone()),
            otlp: self.otlp.clone().or_else(|| other.otlp.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_to_nothing_says_nothing() {
        let empty = JoinFlags {
            name: Some(String::new()),
            token: Some(String::new()),
            fingerprint: Some(String::new()),
            server_ca: Some(OsString::new()),
        };
        assert_eq!(empty.trust().unwrap(), None);
        let kept = empty.without_empty();
        assert_eq!((kept.name, kept.token), (None, None));
        let both = JoinFlags {
            fingerprint: Some("ab".repeat(32)),
            server_ca: Some("ca.pem".into()),
            ..JoinFlags::default()
        };
        assert!(matches!(both.trust(), Err(TrustError::Both)));
        let pinned = JoinFlags {
            server_ca: Some(OsString::new()),
            ..both
        };
        assert_eq!(pinned.trust().unwrap(), Some(Trust::pinned("ab".repeat(32))));
    }
}
