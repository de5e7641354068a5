//! What the commands are told: flags, over `BLOCK_CHAIN_*` variables, over `worker.toml` in the data directory.
//!
//! The flags and variables are read by clap; here the file fills what neither says. A name that it should not hold is an
//! error, so that a slip of the pen is not silently the default.

use super::Global;
use crate::flags::NodeFlags;
use block_chain_telemetry::LogFormat;
use figment::Figment;
use figment::providers::{Format as _, Serialized, Toml};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Why the settings cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file is not one of settings.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A server that cannot be one.
    #[error("server {0:?} is not an http or https URL")]
    Server(String),
    /// A server's URL with more than a server; it is not shown, since that may be a password.
    #[error("a server's URL has a user, a query or a fragment; it may have a host, a port and a path")]
    ServerParts,
}

impl SettingsError {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::File { .. } => {
                "it may say: server, chain, api, p2p_port, p2p_bind, api_tls_cert, api_tls_key, api_tls_self_signed, api_private_way, api_open, legacy_routes, backup_every, backup_to, backup_keep, log_format, log, otlp"
            }
            Self::Server(_) | Self::ServerParts => "--server http://HOST:18000",
        }
    }
}

/// The names of `worker.toml`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Servers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p2p_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p2p_bind: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_tls_cert: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_tls_key: Option<PathBuf>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[serde(default)]
    api_tls_self_signed: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[serde(default)]
    api_private_way: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[serde(default)]
    api_open: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[serde(default)]
    legacy_routes: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    backup_every: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backup_to: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backup_keep: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_format: Option<LogFormat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    otlp: Option<String>,
}

/// One, or a list.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Servers {
    One(String),
    Many(Vec<String>),
}

impl Global {
    /// Fills what the flags and variables leave open from `worker.toml`, and gives where the file has a node listen.
    ///
    /// # Errors
    /// Where the file cannot be read or holds something else, or a server is no URL.
    pub fn with_file(mut self) -> Result<(Self, NodeFlags), SettingsError> {
        let path = self.data_dir().join("worker.toml");
        let flags = File {
            server: (!self.server.is_empty()).then(|| Servers::Many(self.server.clone())),
            chain: self.chain.clone(),
            ..File::default()
        };
        let mut figment = Figment::new();
        // Where even that cannot be asked, the command that needs the directory says so better.
        if path.try_exists().unwrap_or(false) {
            figment = figment.merge(Toml::file_exact(&path));
        }
        let merged: File = figment
            .merge(Serialized::defaults(&flags))
            .extract()
            .map_err(|error| SettingsError::File {
                path: path.clone(),
                // A parser's picture of the place, on one line.
                reason: error.to_string().split_whitespace().collect::<Vec<_>>().join(" "),
            })?;
        self.server = match merged.server {
            Some(Servers::One(list)) => list.split(',').map(str::to_owned).collect(),
            Some(Servers::Many(list)) => list,
            None => Vec::new(),
        };
        for server in &mut self.server {
            server.truncate(server.trim_end_matches('/').len());
            check_server(server)?;
        }
        self.chain = merged.chain;
        let listen = NodeFlags {
            api: merged.api,
            p2p_port: merged.p2p_port,
            p2p_bind: merged.p2p_bind,
            api_tls_cert: merged.api_tls_cert,
            api_tls_key: merged.api_tls_key,
            api_tls_self_signed: merged.api_tls_self_signed,
            api_private_way: merged.api_private_way,
            api_open: merged.api_open,
            legacy_routes: merged.legacy_routes,
            backup_every: merged.backup_every,
            backup_to: merged.backup_to,
            backup_keep: merged.backup_keep,
            log_format: merged.log_format,
            log: merged.log,
            otlp: merged.otlp,
        };
        Ok((self, listen))
    }
}

fn check_server(server: &str) -> Result<(), SettingsError> {
    let parsed = url::Url::parse(server).ok();
    let fits = parsed.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(url) = fits else {
        // What stands before an `@` may be a password.
        let shown = server.rsplit('@').next().unwrap_or_default();
        return Err(SettingsError::Server(shown.chars().take(200).collect()));
    };
    let is_plain = url.username().is_empty() && url.password().is_none();
    match is_plain && url.query().is_none() && url.fragment().is_none() {
        true => Ok(()),
        false => Err(SettingsError::ServerParts),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cli;
    use super::*;
    use clap::Parser as _;
    use std::path::Path;

    fn told(dir: &Path, flags: &[&str], file: Option<&str>) -> Result<(Global, NodeFlags), SettingsError> {
        if let Some(text) = file {
            std::fs::write(dir.join("worker.toml"), text).unwrap();
        }
        let dir = dir.display().to_string();
        let words = ["block-chain-worker", "status", "--data-dir", &dir];
        let cli = Cli::try_parse_from(words.iter().chain(flags)).unwrap();
        cli.global.with_file()
    }

    #[test]
    fn flags_stand_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = "server = \"http://file:1,http://file:2/\"\nchain = \"other\"\np2p_port = 7000\n";
        let (global, listen) = told(dir.path(), &[], Some(file)).unwrap();
        assert_eq!(global.server, ["http://file:1", "http://file:2"]);
        assert_eq!(
            (global.chain.as_deref(), listen.p2p_port),
            (Some("other"), Some(7_000))
        );
        let (global, _) = told(
            dir.path(),
            &["--server", "http://flag:1", "--chain", "main"],
            None,
        )
        .unwrap();
        assert_eq!(
            (global.server.as_slice(), global.chain.as_deref()),
            (["http://flag:1".to_owned()].as_slice(), Some("main"))
        );
    }

    #[test]
    fn without_a_file_nothing_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (global, listen) = told(dir.path(), &[], None).unwrap();
        assert_eq!(
            (global.server.len(), global.chain, listen),
            (0, None, NodeFlags::default())
        );
    }

    #[test]
    fn what_cannot_be_a_setting_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let table = [
            ("sever = \"http://a\"", "sever"),
            ("p2p_port = 70000", "p2p_port"),
            ("server = \"nonsense\"", "nonsense"),
            ("server = [\"ftp://a\"]", "ftp://a"),
            ("not toml", "worker.toml"),
        ];
        for (file, part) in table {
            let error = told(dir.path(), &[], Some(file)).unwrap_err().to_string();
            assert!(error.contains(part), "{file}: {error}");
        }
        for flag in ["", "localhost:18000", "http://", "file:///etc"] {
            let error = told(dir.path(), &["--server", flag], Some("")).unwrap_err();
            assert!(matches!(error, SettingsError::Server(_)), "{flag}: {error}");
        }
    }
}
