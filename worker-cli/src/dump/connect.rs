//! Database URLs and connections, with `sslmode` and `sslrootcert` as libpq has them.
//!
//! No message and no `Debug` shows a URL's password. Absent: client certificates, password files, service files.

use super::DumpError;
use super::tls::{Verify, client_config};
use crate::coordinator::root_cause;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

/// For the network's part of connecting.
const CONNECT: Duration = Duration::from_secs(5);
/// For all of it, the sign-in included.
const SIGN_IN: Duration = Duration::from_secs(10);
/// A database whose machine is gone is noticed after half a minute of silence and three unanswered probes.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);
/// How long to wait for connections to end that were given up.
const CLOSE: Duration = Duration::from_secs(10);

/// A text that is no database URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the database URL cannot be read: {0}")]
pub struct UrlError(String);

/// A database URL, checked.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    config: Config,
    /// Tried one after the other.
    modes: Vec<SslMode>,
    verify: Verify,
    root: Option<PathBuf>,
    shown: String,
}

impl std::fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

impl DatabaseUrl {
    /// Reads `postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=…&sslrootcert=…`.
    ///
    /// # Errors
    /// Where it is none; the message does not hold the URL, which may hold a password.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let refuse = |reason: &str| UrlError(reason.to_owned());
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(refuse("it does not begin with postgresql://"));
        }
        // The driver knows neither `verify-*` nor `sslrootcert`, so these are taken out of what it gets.
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let (mut mode, mut root, mut rest) = (None, None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let value = || {
                url::form_urlencoded::parse(pair.as_bytes())
                    .next()
                    .map(|(_, value)| value.into_owned())
            };
            match pair.split('=').next() {
                Some("sslmode") => mode = value(),
                Some("sslrootcert") => root = value().filter(|path| path != "system").map(PathBuf::from),
                _ => rest.push(pair),
            }
        }
        let url = if rest.is_empty() {
            base.to_owned()
        } else {
            format!("{base}?{}", rest.join("&"))
        };
        let mut config = Config::from_str(&url).map_err(|error| refuse(&root_cause(&error)))?;
        let hosts = config.get_hosts();
        if hosts.is_empty() && config.get_hostaddrs().is_empty() {
            return Err(refuse("it names no host"));
        }
        if hosts
            .iter()
            .any(|host| matches!(host, Host::Tcp(name) if name.contains('@')))
        {
            return Err(refuse("its host has an @ in it; in a password, write %40"));
        }
        let sockets_only = !hosts.is_empty() && hosts.iter().all(|host| matches!(host, Host::Unix(_)));
        let (modes, verify) = match mode.as_deref() {
            _ if sockets_only => (vec![SslMode::Disable], Verify::Nothing),
            Some("disable") => (vec![SslMode::Disable], Verify::Nothing),
            Some("allow") => (vec![SslMode::Disable, SslMode::Require], Verify::Nothing),
            None | Some("prefer") => (vec![SslMode::Prefer, SslMode::Disable], Verify::Nothing),
            // As libpq: with a root certificate given, `require` verifies like `verify-ca`.
            Some("require") if root.is_some() => (vec![SslMode::Require], Verify::Chain),
            Some("require") => (vec![SslMode::Require], Verify::Nothing),
            Some("verify-ca") => (vec![SslMode::Require], Verify::Chain),
            Some("verify-full") => (vec![SslMode::Require], Verify::Full),
            Some(_) => {
                return Err(refuse(
                    "its sslmode is none of disable, allow, prefer, require, verify-ca, verify-full",
                ));
            }
        };
        config
            .connect_timeout(CONNECT)
            .application_name("block-chain-worker");
        config
            .keepalives_idle(KEEPALIVE.0)
            .keepalives_interval(KEEPALIVE.1)
            .keepalives_retries(KEEPALIVE.2);
        config.tcp_user_timeout(KEEPALIVE.0 + KEEPALIVE.1 * KEEPALIVE.2);
        let shown = shown(&config);
        Ok(Self {
            config,
            modes,
            verify,
            root,
            shown,
        })
    }

    /// The database for people and logs: without its password.
    #[must_use]
    pub fn shown(&self) -> String {
        self.shown.clone()
    }
}

fn shown(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(path)) => path.display().to_string(),
        None => config
            .get_hostaddrs()
            .first()
            .map(ToString::to_string)
            .unwrap_or_default(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5_432);
    let user = config.get_user().unwrap_or("");
    format!(
        "postgresql://{user}@{host}:{port}/{}",
        config.get_dbname().unwrap_or(user)
    )
}

/// Connections that were opened, so that whoever gives them up can wait until they have ended: what was sent to the
/// database until then may still take effect.
#[derive(Debug, Default)]
pub(super) struct Connections(JoinSet<()>);

impl Connections {
    /// Connects. The connection ends when the client is dropped.
    pub(super) async fn open(&mut self, url: &DatabaseUrl) -> Result<Client, DumpError> {
        let mut first = None;
        for mode in &url.modes {
            match self.attempt(url, *mode).await {
                Ok(client) => return Ok(client),
                Err((reason, again)) => {
                    first.get_or_insert(reason);
                    if !again {
                        break;
                    }
                }
            }
        }
        Err(DumpError::Database {
            database: url.shown(),
            reason: first.unwrap_or_default(),
        })
    }

    /// Waits until all have ended, or for 10 s.
    pub(super) async fn closed(&mut self) {
        let ended = async { while self.0.join_next().await.is_some() {} };
        if tokio::time::timeout(CLOSE, ended).await.is_err() {
            self.0.abort_all();
        }
    }

    /// One attempt; with the error whether another `sslmode` may help.
    async fn attempt(&mut self, url: &DatabaseUrl, mode: SslMode) -> Result<Client, (String, bool)> {
        let tls = client_config(url.verify, url.root.as_deref()).map_err(|reason| (reason, false))?;
        let mut config = url.config.clone();
        config.ssl_mode(mode);
        let connecting = tokio::time::timeout(SIGN_IN, config.connect(MakeRustlsConnect::new(tls))).await;
        let silent = (format!("it does not answer in {} s", SIGN_IN.as_secs()), false);
        let (client, connection) = connecting.or(Err(silent))?.map_err(|error| {
            // A server that refuses unencrypted (or encrypted) clients says that they may not connect.
            let refused = error
                .code()
                .is_none_or(|code| *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION);
            (root_cause(&error), refused)
        })?;
        while self.0.try_join_next().is_some() {}
        self.0.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the database's connection ended");
            }
        });
        Ok(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        let url =
            DatabaseUrl::parse("postgresql://me:secret-word@db.example:5433/records?sslmode=verify-full")
                .unwrap();
        assert_eq!(url.shown(), "postgresql://me@db.example:5433/records");
        assert_eq!(format!("{url:?}"), url.shown());
        assert_eq!((url.verify, url.modes), (Verify::Full, vec![SslMode::Require]));
    }

    #[test]
    fn sslmode_is_libpqs() {
        let table = [
            ("", 2, Verify::Nothing),
            ("?sslmode=disable", 1, Verify::Nothing),
            ("?sslmode=allow", 2, Verify::Nothing),
            ("?sslmode=prefer", 2, Verify::Nothing),
            ("?sslmode=require", 1, Verify::Nothing),
            ("?sslmode=require&sslrootcert=%2Fa%20b.pem", 1, Verify::Chain),
            (
                "?sslrootcert=system&sslmode=verify-ca&application_name=x",
                1,
                Verify::Chain,
            ),
        ];
        for (query, modes, verify) in table {
            let url = DatabaseUrl::parse(&format!("postgres://u@h/d{query}")).unwrap();
            assert_eq!((url.modes.len(), url.verify), (modes, verify), "{query}");
        }
        let url = DatabaseUrl::parse("postgres://u@h/d?sslrootcert=%2Fa%20b.pem").unwrap();
        assert_eq!(url.root, Some(PathBuf::from("/a b.pem")));
    }

    #[test]
    fn sockets_and_odd_passwords_are_understood() {
        let socket =
            DatabaseUrl::parse("postgresql:///records?host=/run/pg&user=me&sslmode=require").unwrap();
        assert_eq!(socket.shown(), "postgresql://me@/run/pg:5432/records");
        assert_eq!(socket.modes, [SslMode::Disable]);
        let socket = DatabaseUrl::parse("postgresql://me@%2Frun%2Fpg/records").unwrap();
        assert_eq!(socket.shown(), "postgresql://me@/run/pg:5432/records");
        let odd = DatabaseUrl::parse("postgresql://me:p%40ss%3Fw%2F%25@h/d").unwrap();
        assert_eq!(odd.config.get_password(), Some(b"p@ss?w/%".as_slice()));
    }

    #[test]
    fn what_is_no_url_is_refused_without_repeating_it() {
        let table = [
            "nonsense",
            "mysql://u:secret-word@h/d",
            "postgresql:///d",
            "postgresql://",
            "postgresql://u:secret-word@h/d?sslmode=maybe",
            "postgresql://u:secret-word@h:99999/d",
            "postgresql://u:secret-word@h:port/d",
            "postgresql://u:pass@secret-word@h/d",
            "postgresql://u:secret-word@h/d?sslcert=/x",
            "postgresql://u:%ffsecret-word@h/d?%ff=%ff",
        ];
        for text in table {
            if let Err(error) = DatabaseUrl::parse(text) {
                assert!(!error.to_string().contains("secret-word"), "{error}");
            } else {
                assert!(text.contains("%ff"), "{text}");
            }
        }
    }
}
