//! A PostgreSQL URL and its connection: `sslmode` as libpq has it, over rustls. The password is never shown.

use diesel_async::AsyncPgConnection;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

const CONNECT: Duration = Duration::from_secs(5);

/// How far the server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verify {
    Nothing,
    Chain,
    Full,
}

/// A database URL, checked.
#[derive(Clone)]
pub(super) struct DatabaseUrl {
    config: Config,
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
        let mut url = url::Url::parse(text).map_err(|error| refuse(&error.to_string()))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(refuse("it does not begin with postgresql://"));
        }
        let (mut mode, mut root, mut rest) = (None, None, Vec::new());
        for (name, value) in url.query_pairs() {
            match name.as_ref() {
                "sslmode" => mode = Some(value.into_owned()),
                "sslrootcert" => root = Some(PathBuf::from(value.as_ref())),
                _ => rest.push((name.into_owned(), value.into_owned())),
            }
        }
        url.set_query(None);
        if !rest.is_empty() {
            url.query_pairs_mut().extend_pairs(rest);
        }
        let mut config = Config::from_str(url.as_str()).map_err(|error| refuse(&error.to_string()))?;
        if config.get_hosts().is_empty() {
            return Err(refuse("it names no host"));
        }
        config.connect_timeout(CONNECT);
        config.keepalives_idle(CONNECT);
        config.tcp_user_timeout(CONNECT * 2);
        // As libpq: `require` with a root certificate given verifies like `verify-ca`.
        let (ssl, verify) = match mode.as_deref() {
            Some("disable") => (SslMode::Disable, Verify::Nothing),
            None | Some("allow" | "prefer") => (SslMode::Prefer, Verify::Nothing),
            Some("require") if root.is_some() => (SslMode::Require, Verify::Chain),
            Some("require") => (SslMode::Require, Verify::Nothing),
            Some("verify-ca") => (SslMode::Require, Verify::Chain),
            Some("verify-full") => (SslMode::Require, Verify::Full),
            Some(other) => {
                return Err(format!(
                    "sslmode {other:?} is none of disable, allow, prefer, require, verify-ca, verify-full"
                ));
            }
        };
        config.ssl_mode(ssl);
        let shown = shown(&config);
        Ok(Self {
            config,
            verify,
            root,
            shown,
        })
    }

    /// The database for people and logs: without its password.
    #[must_use]
    pub(super) fn shown(&self) -> String {
        self.shown.clone()
    }

    /// Connects; the runtime that this runs on drives the connection.
    pub(super) async fn connect(&self) -> Result<AsyncPgConnection, String> {
        let tls = MakeRustlsConnect::new(self.tls()?);
        let connecting = tokio::time::timeout(CONNECT * 2, self.config.connect(tls)).await;
        let (client, connection) = connecting
            .or(Err("it does not answer in 10 s".to_owned()))?
            .map_err(|error| root_cause(&error))?;
        AsyncPgConnection::try_from_client_and_connection(client, connection)
            .await
            .map_err(|error| error.to_string())
    }

    fn tls(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let chain = match self.verify {
            Verify::Nothing => None,
            Verify::Chain | Verify::Full => {
                let verifier = WebPkiServerVerifier::builder_with_provider(
                    Arc::new(self.roots()?),
                    Arc::clone(&provider),
                );
                Some(verifier.build().map_err(|error| error.to_string())?)
            }
        };
        let verifier = LikeLibpq {
            chain,
            names: self.verify == Verify::Full,
            provider,
        };
        Ok(builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth())
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let Some(path) = &self.root else {
            return Ok(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect());
        };
        let mut roots = RootCertStore::empty();
        let unreadable = |error: String| format!("sslrootcert {}: {error}", path.display());
        for certificate in
            CertificateDer::pem_file_iter(path).map_err(|error| unreadable(error.to_string()))?
        {
            let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| unreadable(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(unreadable("no certificate in it".to_owned()));
        }
        Ok(roots)
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
        None => String::new(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5_432);
    let user = config.get_user().unwrap_or("");
    format!(
        "postgresql://{user}@{host}:{port}/{}",
        config.get_dbname().unwrap_or(user)
    )
}

/// libpq's ladder: encrypt only, check the chain, check chain and name.
#[derive(Debug)]
struct LikeLibpq {
    chain: Option<Arc<WebPkiServerVerifier>>,
    names: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for LikeLibpq {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        match chain.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            // `verify-ca` takes any name.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.names => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
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
        assert_eq!(url.verify, Verify::Full);
    }

    #[test]
    fn what_is_no_url_is_refused_without_repeating_it() {
        for text in [
            "nonsense",
            "mysql://u:secret-word@h/d",
            "postgresql:///d",
            "postgresql://u:secret-word@h/d?sslmode=maybe",
        ] {
            let error = DatabaseUrl::parse(text).unwrap_err();
            assert!(!error.contains("secret-word"), "{error}");
        }
    }
}
