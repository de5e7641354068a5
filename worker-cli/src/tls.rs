//! TLS as a client: the handshake is always checked, and whose certificate is trusted is for a `Judge` to say.
//!
//! Towards coordinators: the public roots, authorities of one's own, or one certificate pinned by its fingerprint. Towards
//! databases: see `dump::tls`.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt::Debug;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

/// The longest file of authorities that is read: all public ones take a quarter of a megabyte.
const MAX_AUTHORITIES_BYTES: u64 = 1 << 20;

/// Why whom to trust cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// What should be certificates is not.
    #[error("authorities {file}: {reason}")]
    Authorities {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// What should be a fingerprint is not.
    #[error("fingerprint {0:?} is not 64 hex digits")]
    Fingerprint(String),
    /// One of two is enough.
    #[error("a fingerprint and authorities are told, one of the two decides")]
    Both,
    /// It would seem to protect, and not.
    #[error("whose certificate is trusted is told, but {0} is asked without TLS")]
    WithoutTls(String),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] Error),
}

/// Whose certificate a coordinator is believed to be who it is by: the public authorities' where nothing is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// The fingerprint of the one certificate that is trusted.
    fingerprint: Option<String>,
    /// The certificates of the authorities that are trusted, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    authorities: Option<String>,
}

impl Trust {
    /// The certificate with this SHA-256 fingerprint (hex) alone.
    #[must_use]
    pub const fn pinned(fingerprint: String) -> Self {
        Self {
            fingerprint: Some(fingerprint),
            authorities: None,
        }
    }

    /// Whatever these authorities have issued.
    ///
    /// # Errors
    /// Where the file cannot be read, is too long, or holds anything but certificates.
    pub fn authorities(path: &Path) -> Result<Self, TrustError> {
        let refused = |reason: String| TrustError::Authorities {
            file: path.display().to_string(),
            reason,
        };
        let mut text = String::new();
        let opened = File::open(path).map_err(|error| refused(error.to_string()))?;
        let read = opened.take(MAX_AUTHORITIES_BYTES + 1).read_to_string(&mut text);
        let bytes = read.map_err(|error| refused(error.to_string()))?;
        if u64::try_from(bytes).unwrap_or(u64::MAX) > MAX_AUTHORITIES_BYTES {
            return Err(refused(format!("it has more than {MAX_AUTHORITIES_BYTES} bytes")));
        }
        roots(&text).map_err(refused)?;
        Ok(Self {
            fingerprint: None,
            authorities: Some(text),
        })
    }

    /// That it says something these servers can keep: 64 hex digits, and TLS.
    ///
    /// # Errors
    /// Where it does not.
    pub fn check(&self, servers: &[String]) -> Result<(), TrustError> {
        if let Some(fingerprint) = &self.fingerprint {
            let digits = plain(fingerprint);
            if digits.len() != 64 || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
                return Err(TrustError::Fingerprint(fingerprint.chars().take(100).collect()));
            }
        }
        let told = self.fingerprint.is_some() || self.authorities.is_some();
        match servers.iter().find(|server| !server.starts_with("https://")) {
            Some(server) if told => Err(TrustError::WithoutTls(server.clone())),
            _ => Ok(()),
        }
    }

    /// An HTTP client that trusts so. It follows no redirection: that could lead to another server, or out of TLS.
    ///
    /// # Errors
    /// Where TLS cannot be set up: nothing is then sent without it.
    pub fn http_client(&self) -> Result<reqwest::ClientBuilder, TrustError> {
        let config = match (&self.fingerprint, &self.authorities) {
            (Some(fingerprint), _) => client_config(Pinned {
                fingerprint: plain(fingerprint),
            })?,
            (None, authorities) => {
                let roots = match authorities {
                    Some(text) => roots(text).map_err(|reason| TrustError::Authorities {
                        file: "of the registration".to_owned(),
                        reason,
                    })?,
                    None => webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(),
                };
                let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
                let builder = builder.with_safe_default_protocol_versions()?;
                builder.with_root_certificates(roots).with_no_client_auth()
            }
        };
        let client = reqwest::Client::builder().tls_backend_preconfigured(config);
        Ok(client.redirect(reqwest::redirect::Policy::none()))
    }
}

/// The authorities of a text in PEM.
fn roots(text: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    match roots.is_empty() {
        true => Err("no certificate in it".to_owned()),
        false => Ok(roots),
    }
}

/// What a failed request says of the server's certificate, where that is why it failed.
pub(crate) fn certificate_complaint(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        match error.downcast_ref::<Error>() {
            Some(Error::InvalidCertificate(reason)) => return Some(reason.to_string()),
            Some(Error::General(reason)) => return Some(reason.clone()),
            _ => {}
        }
        // What is within an error of I/O is not its source.
        let within = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        next = match within {
            Some(within) => Some(within),
            None => error.source(),
        };
    }
    None
}

/// Says whether a server's certificate is trusted.
pub(crate) trait Judge: Debug + Send + Sync + 'static {
    /// The certificate and those that came with it, the name that the server was asked by, what it said of revocation,
    /// and the time.
    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<(), Error>;
}

/// The client's side, trusting what the judge does.
pub(crate) fn client_config(judge: impl Judge) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier {
        judge,
        provider: Arc::clone(&provider),
    };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// A fingerprint as it is compared: some programs write colons and capitals.
fn plain(fingerprint: &str) -> String {
    fingerprint.replace(':', "").to_ascii_lowercase()
}

#[derive(Debug)]
struct Pinned {
    fingerprint: String,
}

impl Judge for Pinned {
    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<(), Error> {
        let found = hex::encode(Sha256::digest(certificate));
        if found == self.fingerprint {
            return Ok(());
        }
        Err(Error::General(format!(
            "the server's certificate has fingerprint {found}, {} is pinned",
            self.fingerprint
        )))
    }
}

#[derive(Debug)]
struct Verifier<J> {
    judge: J,
    provider: Arc<CryptoProvider>,
}

impl<J: Judge> ServerCertVerifier for Verifier<J> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge.judge(end_entity, intermediates, name, ocsp, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
