//! TLS as a server: a certificate from files, or one made here and kept, which is read again when its files change.

use rustls::ServerConfig;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sha2::{Digest as _, Sha256};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// How often files are looked at for a change.
const LOOK: Duration = Duration::from_secs(5);

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
    #[error("the certificate {cert} cannot be used: {reason}")]
    Unfit {
        /// Its file.
        cert: String,
        /// What is wrong.
        reason: String,
    },
}

/// Where a certificate is from.
#[derive(Debug, Clone)]
pub enum Source {
    /// Files in PEM.
    Files {
        /// The certificate, and those that lead to its root.
        cert: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// Made here, and kept in a folder as `tls.crt` and `tls.key`.
    SelfSigned {
        /// The folder.
        dir: PathBuf,
        /// The address that is listened on, a name of it besides `localhost`.
        address: IpAddr,
    },
}

/// A certificate that is served, and read again when its files change.
pub struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    served: Arc<Served>,
    seen: Mutex<Seen>,
}

/// When both files were written, and how long they are.
type Seen = [Option<(SystemTime, u64)>; 2];

#[derive(Debug)]
struct Served(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn file_error(file: &Path, reason: &impl ToString) -> TlsError {
    TlsError::File {
        file: file.display().to_string(),
        reason: reason.to_string(),
    }
}

impl Certificate {
    /// Reads it; one that is to be made here is made where it is not there yet.
    ///
    /// # Errors
    /// Where files cannot be read or do not fit each other.
    pub fn open(source: Source) -> Result<Self, TlsError> {
        let (cert, key) = match source {
            Source::Files { cert, key } => (cert, key),
            Source::SelfSigned { dir, address } => {
                let (cert, key) = (dir.join("tls.crt"), dir.join("tls.key"));
                if !cert.exists() || !key.exists() {
                    make(&cert, &key, address)?;
                }
                (cert, key)
            }
        };
        let seen = seen(&cert, &key);
        let served = Arc::new(Served(RwLock::new(Arc::new(load(&cert, &key)?))));
        Ok(Self {
            cert,
            key,
            served,
            seen: Mutex::new(seen),
        })
    }

    /// What a server is given: it always serves the certificate that was read last.
    ///
    /// # Errors
    /// Where this build of TLS lacks what it needs.
    pub fn config(&self) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| self.unfit(&error))?;
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Served>::clone(&self.served);
        Ok(builder.with_no_client_auth().with_cert_resolver(resolver))
    }

    fn unfit(&self, reason: &impl ToString) -> TlsError {
        TlsError::Unfit {
            cert: self.cert.display().to_string(),
            reason: reason.to_string(),
        }
    }

    /// The SHA-256 fingerprint of the certificate, in hex.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let served = self.served.0.read().unwrap_or_else(PoisonError::into_inner);
        served
            .cert
            .first()
            .map_or_else(String::new, |cert| hex::encode(Sha256::digest(cert)))
    }

    /// Reads the files again where they have changed; gives whether they had. One that cannot be used changes nothing.
    ///
    /// # Errors
    /// Where the new files cannot be read or do not fit each other.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let now = seen(&self.cert, &self.key);
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen == now {
                return Ok(false);
            }
            *seen = now;
        }
        let loaded = Arc::new(load(&self.cert, &self.key)?);
        *self.served.0.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(true)
    }

    /// Looks for changes until it is told to stop; `changed` is called with each new fingerprint.
    pub async fn keep_fresh(
        self: Arc<Self>,
        mut stopping: watch::Receiver<bool>,
        changed: impl Fn(&str) + Send,
    ) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _ = stopping.changed() => return,
            }
            let certificate = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || certificate.reload()).await {
                Ok(Ok(true)) => {
                    let fingerprint = self.fingerprint();
                    tracing::info!(fingerprint, "a new certificate is served");
                    changed(&fingerprint);
                }
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::error!(%error, "the certificate before is served on"),
                Err(error) => tracing::error!(%error, "the certificate's files cannot be looked at"),
            }
        }
    }
}

fn seen(cert: &Path, key: &Path) -> Seen {
    [cert, key].map(|path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

fn load(cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert)
        .map_err(|error| file_error(cert, &error))?
        .collect();
    let chain = chain.map_err(|error| file_error(cert, &error))?;
    if chain.is_empty() {
        return Err(file_error(cert, &"no certificate in it"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| file_error(key, &error))?;
    let signing = any_supported_type(&private).map_err(|error| file_error(key, &error))?;
    let certified = CertifiedKey::new(chain, signing);
    certified.keys_match().map_err(|error| TlsError::Unfit {
        cert: cert.display().to_string(),
        reason: format!("{} is not its key: {error}", key.display()),
    })?;
    Ok(certified)
}

fn make(cert: &Path, key: &Path, address: IpAddr) -> Result<(), TlsError> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.push(address.to_string());
    let made = rcgen::generate_simple_self_signed(names).map_err(|error| TlsError::Unfit {
        cert: cert.display().to_string(),
        reason: error.to_string(),
    })?;
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
    written.map_err(|error| file_error(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(dir: &Path) -> Source {
        Source::SelfSigned {
            dir: dir.to_owned(),
            address: [10, 0, 0, 7].into(),
        }
    }

    #[test]
    fn a_new_certificate_is_served_without_a_restart_and_a_bad_one_is_not() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let certificate = Certificate::open(source(dir.path())).unwrap();
        let (first, second) = (
            certificate.fingerprint(),
            Certificate::open(source(other.path())).unwrap(),
        );
        assert!(!certificate.reload().unwrap(), "nothing has changed");
        assert_eq!(
            Certificate::open(source(dir.path())).unwrap().fingerprint(),
            first,
            "it is kept"
        );
        // The certificate of another key.
        let (cert, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
        std::fs::write(
            &cert,
            [
                std::fs::read(other.path().join("tls.crt")).unwrap(),
                b"\n".to_vec(),
            ]
            .concat(),
        )
        .unwrap();
        let refused = certificate.reload().unwrap_err().to_string();
        assert!(refused.contains("is not its key"), "{refused}");
        assert_eq!(certificate.fingerprint(), first);
        // A torn one.
        std::fs::write(&cert, "-----BEGIN CERTIFICATE-----\nAAAA").unwrap();
        assert!(certificate.reload().is_err());
        std::fs::copy(other.path().join("tls.crt"), &cert).unwrap();
        std::fs::copy(other.path().join("tls.key"), &key).unwrap();
        assert!(certificate.reload().unwrap());
        assert_eq!(certificate.fingerprint(), second.fingerprint());
        certificate.config().unwrap();
    }
}
