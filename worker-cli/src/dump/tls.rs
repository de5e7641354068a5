//! TLS to the database: libpq's ladder of certificate checks, over rustls.

use crate::tls::{self, Judge};
use rustls::client::danger::ServerCertVerifier as _;
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, Error, RootCertStore};
use std::path::Path;
use std::sync::Arc;

/// How far the server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verify {
    /// Encrypt only.
    Nothing,
    /// A trusted authority issued it, for whatever name.
    Chain,
    /// A trusted authority issued it for this host.
    Full,
}

/// The client's side; `root` is a PEM file of the authorities to trust instead of the public ones.
pub(super) fn client_config(verify: Verify, root: Option<&Path>) -> Result<ClientConfig, String> {
    let (mut chain, mut listed) = (None, Vec::new());
    if verify != Verify::Nothing {
        let mut roots = RootCertStore::empty();
        match root {
            Some(path) => {
                listed = read_roots(path)?;
                for certificate in &listed {
                    let added = roots.add(certificate.clone());
                    added.map_err(|error| format!("sslrootcert {}: {error}", path.display()))?;
                }
            }
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        chain = Some(verifier.build().map_err(|error| error.to_string())?);
    }
    let judge = LikeLibpq {
        chain,
        listed,
        names: verify == Verify::Full,
    };
    tls::client_config(judge).map_err(|error| error.to_string())
}

fn read_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unreadable = |error: String| format!("sslrootcert {}: {error}", path.display());
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(error.to_string()))?;
    let certificates: Result<Vec<_>, _> = certificates.collect();
    let certificates = certificates.map_err(|error| unreadable(error.to_string()))?;
    if certificates.is_empty() {
        return Err(unreadable("no certificate in it".to_owned()));
    }
    Ok(certificates)
}

#[derive(Debug)]
struct LikeLibpq {
    chain: Option<Arc<WebPkiServerVerifier>>,
    /// A server's own certificate among the trusted ones needs no issuer, even where it says that it is an authority
    /// (which webpki refuses): that is how self-signed certificates are commonly made.
    listed: Vec<CertificateDer<'static>>,
    names: bool,
}

impl Judge for LikeLibpq {
    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<(), Error> {
        let Some(chain) = &self.chain else {
            return Ok(());
        };
        if self.listed.iter().any(|listed| listed == certificate) {
            if self.names {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
            }
            return Ok(());
        }
        match chain.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // The name is looked at after the chain has been found good.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.names => Ok(()),
            other => other.map(|_| ()),
        }
    }
}
