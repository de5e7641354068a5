//! Certificates: given ones, or one made here and kept.

use crate::settings::Settings;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{file}: {reason}")]
    File {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// The certificate and key do not make a configuration.
    #[error("the certificate cannot be used: {0}")]
    Config(String),
}

/// A configuration, and the SHA-256 fingerprint of the certificate.
pub type Configured = (ServerConfig, String);

/// The TLS configuration that the settings ask for, if any.
///
/// # Errors
/// Where files cannot be read or do not fit each other.
pub fn configure(settings: &Settings, data_dir: &Path) -> Result<Option<Configured>, TlsError> {
    match (&settings.tls_cert, &settings.tls_key) {
        (Some(cert), Some(key)) => load(cert, key).map(Some),
        _ if settings.tls_self_signed => {
            let (cert, key) = (data_dir.join("tls.crt"), data_dir.join("tls.key"));
            if !cert.exists() || !key.exists() {
                make(&cert, &key, settings)?;
            }
            load(&cert, &key).map(Some)
        }
        _ => Ok(None),
    }
}

fn load(cert: &Path, key: &Path) -> Result<Configured, TlsError> {
    let file = |path: &Path, reason: String| TlsError::File {
        file: path.display().to_string(),
        reason,
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert)
        .map_err(|error| file(cert, error.to_string()))?
        .collect();
    let chain = chain.map_err(|error| file(cert, error.to_string()))?;
    let first = chain
        .first()
        .ok_or_else(|| file(cert, "no certificate in it".to_owned()))?;
    let fingerprint = hex::encode(Sha256::digest(first));
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| file(key, error.to_string()))?;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key);
    Ok((
        config.map_err(|error| TlsError::Config(error.to_string()))?,
        fingerprint,
    ))
}

fn make(cert: &Path, key: &Path, settings: &Settings) -> Result<(), TlsError> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.push(settings.bind().ip().to_string());
    let made =
        rcgen::generate_simple_self_signed(names).map_err(|error| TlsError::Config(error.to_string()))?;
    write(key, &made.signing_key.serialize_pem(), 0o600)?;
    write(cert, &made.cert.pem(), 0o644)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let opened = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|error| TlsError::File {
        file: path.display().to_string(),
        reason: error.to_string(),
    })
}
