//! A PostgreSQL URL and its connections: `sslmode` and `sslrootcert` as libpq has them, over rustls.
//!
//! No message and no `Debug` shows a URL's password. Absent: client certificates, password files, service files.

use super::tls::{Verify, client_config};
use diesel_async::AsyncPgConnection;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres_rustls::MakeRustlsConnect;

/// For the network's part of connecting.
const CONNECT: Duration = Duration::from_secs(5);
/// For all of it, the sign-in included.
const SIGN_IN: Duration = Duration::from_secs(10);
/// A database whose machine is gone is noticed after so long a silence: workers ask again after 10 s.
const SILENT: Duration = Duration::from_secs(10);

/// A database URL, checked.
#[derive(Clone)]
pub(super) struct DatabaseUrl {
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
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let refuse = |reason: &str| reason.to_owned();
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(refuse("it does not begin with postgresql://"));
        }
        // The driver knows neither `verify-*` nor `sslrootcert`, so these are taken out of what it gets.
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let (mut mode, mut root, mut rest) = (None, None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let decoded = url::form_urlencoded::parse(pair.as_bytes()).next();
            let value = decoded.map(|(_, value)| value.into_owned());
            match pair.split('=').next() {
                Some("sslmode") => mode = value,
                Some("sslrootcert") => root = value.filter(|path| path != "system").map(PathBuf::from),
                _ => rest.push(pair),
            }
        }
        let url = match rest.is_empty() {
            true => base.to_owned(),
            false => format!("{base}?{}", rest.join("&")),
        };
        let mut config = Config::from_str(&url).map_err(|error| root_cause(&error))?;
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
            .keepalives_idle(SILENT / 2)
            .tcp_user_timeout(SILENT)
            .application_name("block-chain-server");
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
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Connects; the runtime that this runs on drives the connection.
    pub(super) async fn connect(&self) -> Result<AsyncPgConnection, String> {
        let mut first = None;
        for mode in &self.modes {
            match self.attempt(*mode).await {
                Ok(connection) => return Ok(connection),
                Err((reason, again)) => {
                    first.get_or_insert(reason);
                    if !again {
                        break;
                    }
                }
            }
        }
        Err(first.unwrap_or_default())
    }

    /// One attempt; with the error whether another `sslmode` may help.
    async fn attempt(&self, mode: SslMode) -> Result<AsyncPgConnection, (String, bool)> {
        let tls = client_config(self.verify, self.root.as_deref()).map_err(|reason| (reason, false))?;
        let mut config = self.config.clone();
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
        AsyncPgConnection::try_from_client_and_connection(client, connection)
            .await
            .map_err(|error| (error.to_string(), false))
    }
}

/// What the driver says first is often "error connecting to server" alone.
fn root_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => root_cause(source),
        None => error.to_string(),
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
        let socket =
            DatabaseUrl::parse("postgresql:///records?host=/run/pg&user=me&sslmode=require").unwrap();
        assert_eq!(socket.shown(), "postgresql://me@/run/pg:5432/records");
        assert_eq!(socket.modes, [SslMode::Disable]);
    }

    #[test]
    fn what_is_no_url_is_refused_without_repeating_it() {
        for text in [
            "nonsense",
            "mysql://u:secret-word@h/d",
            "postgresql:///d",
            "postgresql://",
            "postgresql://u:secret-word@h/d?sslmode=maybe",
            "postgresql://u:secret-word@h:99999/d",
            "postgresql://u:secret-word@h:port/d",
            "postgresql://u:pass@secret-word@h/d",
            "postgresql://u:secret-word@h/d?sslcert=/x",
        ] {
            let error = DatabaseUrl::parse(text).unwrap_err();
            assert!(!error.contains("secret-word"), "{error}");
        }
    }
}
