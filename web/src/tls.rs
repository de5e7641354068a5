//! TLS as a server: a certificate from files, or one made here and kept, which is read again when its files change.
//!
//! One that cannot be used, or is over already, never replaces one that is good; when one ends is said in time.

use crate::time::utc;
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
/// How long before its end a certificate is warned of: an authority that renews by itself does so a month before.
const SOON_S: u64 = 14 * DAY_S;
/// How often it is warned of.
const DAY_S: u64 = 86_400;

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
    /// A new certificate is over already.
    #[error("the certificate {cert} has expired on {ended}")]
    Expired {
        /// Its file.
        cert: String,
        /// When.
        ended: String,
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

/// A certificate and its key, and when it ends.
#[derive(Debug, Clone)]
struct Loaded {
    key: Arc<CertifiedKey>,
    /// Unix time; `None` where it cannot be read.
    expires_s: Option<u64>,
}

impl Loaded {
    fn has_expired(&self, now: SystemTime) -> bool {
        self.expires_s.is_some_and(|expires| expires <= seconds(now))
    }
}

#[derive(Debug)]
struct Served(RwLock<Loaded>);

impl Served {
    fn now(&self) -> Loaded {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now().key)
    }
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// The date alone, in UTC.
fn day_of(unix_s: u64) -> String {
    utc(unix_s.saturating_mul(1_000)).chars().take(10).collect()
}

/// The end of a certificate for `/metrics`; nothing where there is none.
#[must_use]
pub fn figure(certificate: Option<&Certificate>) -> String {
    const NAME: &str = "block_chain_certificate_expires_seconds";
    let expires = certificate.and_then(Certificate::expires);
    expires.map_or_else(String::new, |expires| {
        format!("# HELP {NAME} when the certificate that is served ends, in Unix time\n# TYPE {NAME} gauge\n{NAME} {expires}\n")
    })
}

/// Says that a certificate ends soon, once a day, and at once of another.
#[derive(Default)]
struct Reminder {
    /// Of which end it was said, and when.
    said: Option<(u64, u64)>,
}

impl Reminder {
    /// What is to be said now, if anything.
    fn say(&mut self, expires_s: Option<u64>, now: SystemTime) -> Option<String> {
        let (expires, now) = (expires_s?, seconds(now));
        let is_said = self
            .said
            .is_some_and(|(of, at)| of == expires && now.saturating_sub(at) < DAY_S);
        if is_said || expires.saturating_sub(now) > SOON_S {
            return None;
        }
        self.said = Some((expires, now));
        let (left, day) = (expires.saturating_sub(now) / DAY_S, day_of(expires));
        Some(match expires <= now {
            true => format!("it has expired on {day}: clients refuse it"),
            false => format!("it expires on {day}, in {left} days"),
        })
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
        let served = Arc::new(Served(RwLock::new(load(&cert, &key)?)));
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
        let cert = self.served.now().key.cert.first().cloned();
        cert.map_or_else(String::new, |cert| hex::encode(Sha256::digest(cert)))
    }

    /// When the certificate ends, in Unix time, where that can be read.
    #[must_use]
    pub fn expires(&self) -> Option<u64> {
        self.served.now().expires_s
    }

    /// Reads the files again where they have changed since they were last taken over; gives whether they had. What cannot be
    /// used changes nothing, and is tried again: the other file may come a moment later.
    ///
    /// # Errors
    /// Where the new files cannot be read or do not fit each other, or the certificate is over and the one before is not.
    pub fn reload(&self, now: SystemTime) -> Result<bool, TlsError> {
        let found = seen(&self.cert, &self.key);
        if *self.seen.lock().unwrap_or_else(PoisonError::into_inner) == found {
            return Ok(false);
        }
        let loaded = load(&self.cert, &self.key)?;
        if let Some(ended) = loaded.expires_s.filter(|_| loaded.has_expired(now))
            && !self.served.now().has_expired(now)
        {
            return Err(TlsError::Expired {
                cert: self.cert.display().to_string(),
                ended: day_of(ended),
            });
        }
        *self.served.0.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(true)
    }

    /// Looks for changes until it is told to stop, and warns of the end; `changed` is called with each new fingerprint.
    pub async fn keep_fresh(
        self: Arc<Self>,
        mut stopping: watch::Receiver<bool>,
        changed: impl Fn(&str) + Send,
    ) {
        let (mut reminder, mut failure) = (Reminder::default(), None);
        loop {
            if let Some(notice) = reminder.say(self.expires(), SystemTime::now()) {
                tracing::warn!(cert = %self.cert.display(), "the certificate: {notice}");
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _ = stopping.changed() => return,
            }
            let certificate = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || certificate.reload(SystemTime::now())).await;
            let failed = match looked {
                Ok(Ok(true)) => {
                    let fingerprint = self.fingerprint();
                    tracing::info!(fingerprint, "a new certificate is served");
                    changed(&fingerprint);
                    None
                }
                Ok(Ok(false)) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            // Each look finds the same again: it is said once.
            if let Some(error) = failed.as_deref().filter(|_| failed != failure) {
                tracing::error!(error, "the certificate before is served on");
            }
            failure = failed;
        }
    }
}

fn seen(cert: &Path, key: &Path) -> Seen {
    [cert, key].map(|path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

fn load(cert: &Path, key: &Path) -> Result<Loaded, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert)
        .map_err(|error| file_error(cert, &error))?
        .collect();
    let chain = chain.map_err(|error| file_error(cert, &error))?;
    if chain.is_empty() {
        return Err(file_error(cert, &"no certificate in it"));
    }
    let expires_s = chain.first().and_then(expiry);
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| file_error(key, &error))?;
    let signing = any_supported_type(&private).map_err(|error| file_error(key, &error))?;
    let certified = CertifiedKey::new(chain, signing);
    certified.keys_match().map_err(|error| TlsError::Unfit {
        cert: cert.display().to_string(),
        reason: format!("{} is not its key: {error}", key.display()),
    })?;
    Ok(Loaded {
        key: Arc::new(certified),
        expires_s,
    })
}

/// When a certificate ends, in Unix time. One that only this parser does not read is served all the same.
fn expiry(certificate: &CertificateDer<'_>) -> Option<u64> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    u64::try_from(parsed.validity().not_after.timestamp()).ok()
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
        assert!(
            !certificate.reload(SystemTime::now()).unwrap(),
            "nothing has changed"
        );
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
        let refused = certificate.reload(SystemTime::now()).unwrap_err().to_string();
        assert!(refused.contains("is not its key"), "{refused}");
        assert_eq!(certificate.fingerprint(), first);
        // A torn one.
        std::fs::write(&cert, "-----BEGIN CERTIFICATE-----\nAAAA").unwrap();
        assert!(certificate.reload(SystemTime::now()).is_err());
        std::fs::copy(other.path().join("tls.crt"), &cert).unwrap();
        std::fs::copy(other.path().join("tls.key"), &key).unwrap();
        assert!(certificate.reload(SystemTime::now()).unwrap());
        assert_eq!(certificate.fingerprint(), second.fingerprint());
        certificate.config().unwrap();
    }

    /// Writes a certificate that ends on a day into a folder.
    fn write_ending(dir: &Path, year: i32) {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        std::fs::write(dir.join("tls.key"), key.serialize_pem()).unwrap();
        std::fs::write(dir.join("tls.crt"), made.pem()).unwrap();
        // Written within one tick of the system's clock, two files of one length would seem one.
        let written = at(u64::try_from(year).unwrap());
        let file = std::fs::File::options()
            .write(true)
            .open(dir.join("tls.crt"))
            .unwrap();
        file.set_modified(written).unwrap();
    }

    fn at(unix_s: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(unix_s)
    }

    /// The first day of 2030 and of 2040.
    const IN_2030: u64 = 1_893_456_000;
    const IN_2040: u64 = 2_208_988_800;

    #[test]
    fn what_has_expired_replaces_nothing_that_is_good() {
        let dir = tempfile::tempdir().unwrap();
        write_ending(dir.path(), 2040);
        let certificate = Certificate::open(source(dir.path())).unwrap();
        assert_eq!(certificate.expires(), Some(IN_2040));
        let good = certificate.fingerprint();
        write_ending(dir.path(), 2030);
        let refused = certificate.reload(at(IN_2030)).unwrap_err().to_string();
        assert!(refused.contains("has expired on 2030-01-01"), "{refused}");
        assert_eq!(certificate.fingerprint(), good);
        // The day before it is good.
        assert!(certificate.reload(at(IN_2030 - DAY_S)).unwrap());
        assert_eq!(certificate.expires(), Some(IN_2030));
        // Where the one before is over too, another cannot be worse.
        write_ending(dir.path(), 2025);
        assert!(certificate.reload(at(IN_2030)).unwrap());
        let figure = figure(Some(&certificate));
        assert!(
            figure.ends_with("block_chain_certificate_expires_seconds 1735689600\n"),
            "{figure}"
        );
        assert_eq!(super::figure(None), "");
    }

    #[test]
    fn what_could_not_be_used_is_tried_again() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write_ending(dir.path(), 2040);
        write_ending(other.path(), 2040);
        let certificate = Certificate::open(source(dir.path())).unwrap();
        std::fs::copy(other.path().join("tls.crt"), dir.path().join("tls.crt")).unwrap();
        // The key is not there yet, however often it is looked for; then it is.
        for _ in 0..2 {
            assert!(certificate.reload(at(IN_2030)).is_err());
        }
        std::fs::copy(other.path().join("tls.key"), dir.path().join("tls.key")).unwrap();
        assert!(certificate.reload(at(IN_2030)).unwrap());
        assert!(!certificate.reload(at(IN_2030)).unwrap());
    }

    #[test]
    fn its_end_is_said_two_weeks_before_and_once_a_day() {
        let mut reminder = Reminder::default();
        let ends = Some(IN_2030);
        assert_eq!(reminder.say(None, at(IN_2030)), None);
        assert_eq!(reminder.say(ends, at(IN_2030 - SOON_S - 1)), None);
        let said = reminder.say(ends, at(IN_2030 - SOON_S)).unwrap();
        assert!(
            said.starts_with("it expires on 2030-01-01") && said.ends_with("in 14 days"),
            "{said}"
        );
        assert_eq!(reminder.say(ends, at(IN_2030 - SOON_S + DAY_S - 1)), None);
        assert!(reminder.say(ends, at(IN_2030 - SOON_S + DAY_S)).is_some());
        assert!(reminder.say(ends, at(IN_2030)).unwrap().contains("has expired"));
        assert!(
            reminder.say(Some(IN_2030 + 1), at(IN_2030)).is_some(),
            "another certificate"
        );
        assert_eq!(reminder.say(Some(IN_2040), at(IN_2030)), None);
    }
}
