//! Connections: how many one address may have, and how long a client may leave unread what is sent to it.
//!
//! A server's own limit is for all connections together, so that one machine could take every place; and once an answer is
//! written, nothing else waits for its reader. Under TLS a connection is counted once the handshake is done, which has a
//! time of its own. This machine's connections are not counted: whoever is here can stop the program anyway.

use crate::host::Way;
use crate::limit::counted;
use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::Extensions;
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::rt::net::TcpStream;
use actix_web::{HttpResponse, body::MessageBody};
use socket2::SockRef;
use std::any::Any;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Connections of one address: a browser has six, a worker two; behind one address (NAT) there is room for half of the workers
/// that a chain may have.
pub const PER_ADDRESS: usize = 256;
/// How long what was sent may stay unread: a client that takes nothing for so long is gone, or means harm.
pub const UNREAD: Duration = Duration::from_secs(30);

/// The connections of a program, by address.
pub struct Connections {
    open: Mutex<HashMap<IpAddr, usize>>,
    /// Whether those of an address are counted.
    counts: fn(IpAddr) -> bool,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            open: Mutex::default(),
            counts: |address| !address.is_loopback(),
        }
    }
}

/// A connection that counts until it is dropped.
struct Open {
    of: Arc<Connections>,
    address: IpAddr,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = self.of.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

impl Connections {
    /// None yet. Those that come by a private way are not counted: a proxy's are all of one address.
    #[must_use]
    pub fn of(way: Way) -> Self {
        match way {
            Way::Private => Self {
                counts: |_| false,
                ..Self::default()
            },
            Way::Open | Way::Tls => Self::default(),
        }
    }

    /// One more of an address; `None` where it has as many as it may.
    fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Open> {
        let address = counted(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        if *count >= PER_ADDRESS {
            return None;
        }
        *count = count.saturating_add(1);
        Some(Open {
            of: Arc::clone(self),
            address,
        })
    }

    /// Counts a connection that begins, for as long as what it is given is kept; one too many ends at once.
    fn begin(self: &Arc<Self>, stream: &TcpStream, kept: &mut Extensions) {
        let peer: Option<SocketAddr> = stream.peer_addr().ok();
        let address = peer.map(|peer| peer.ip().to_canonical());
        let Some(address) = address.filter(|address| (self.counts)(*address)) else {
            return;
        };
        match self.enter(address) {
            Some(open) => {
                // For as long as the connection lives, and its requests with it.
                kept.insert(open);
            }
            None => {
                tracing::debug!(%address, "{PER_ADDRESS} connections are open, one more is closed");
                if let Err(error) = SockRef::from(stream).shutdown(Shutdown::Both) {
                    tracing::trace!(%error, "it is gone already");
                }
            }
        }
    }

    /// What a server calls with each connection that begins.
    pub fn counter(self: &Arc<Self>) -> impl Fn(&dyn Any, &mut Extensions) + Send + Sync + 'static {
        let connections = Arc::clone(self);
        move |io, kept| {
            let clear = io.downcast_ref::<TcpStream>();
            let secure = || Some(io.downcast_ref::<TlsStream<TcpStream>>()?.get_ref().0);
            if let Some(stream) = clear.or_else(secure) {
                connections.begin(stream, kept);
            }
        }
    }
}

/// Has the system end connections of a listener whose client leaves unread what it is sent. They have it from the listener.
///
/// # Errors
/// Where the system refuses.
pub fn end_unread(listener: &TcpListener, after: Duration) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    SockRef::from(listener).set_tcp_user_timeout(Some(after))?;
    #[cfg(not(target_os = "linux"))]
    tracing::debug!(
        ?after,
        ?listener,
        "this system does not end connections that nobody reads"
    );
    Ok(())
}

/// Whoever asks too much begins anew: the connection ends with this answer.
pub fn close_where_too_many(answer: &mut HttpResponse<impl MessageBody>) {
    if answer.status() == StatusCode::TOO_MANY_REQUESTS {
        answer.head_mut().set_connection_type(ConnectionType::Close);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::{App, HttpServer};
    use std::io::{ErrorKind, Write as _};

    #[test]
    fn an_address_has_so_many_connections_and_others_have_theirs() {
        let all = Arc::new(Connections::default());
        let (one, other): (IpAddr, IpAddr) = ("10.0.0.7".parse().unwrap(), "10.0.0.8".parse().unwrap());
        let mut open: Vec<_> = (0..PER_ADDRESS).map(|_| all.enter(one).unwrap()).collect();
        assert!(all.enter(one).is_none());
        assert!(
            all.enter("::ffff:10.0.0.7".parse().unwrap()).is_none(),
            "the same machine"
        );
        assert!(all.enter(other).is_some());
        open.pop();
        assert!(all.enter(one).is_some(), "one has ended");
        drop(open);
        assert!(
            all.open.lock().unwrap().is_empty(),
            "nothing is kept of who is gone"
        );
    }

    #[actix_web::test]
    async fn this_machine_has_as_many_as_it_likes() {
        let all = Arc::new(Connections::default());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (counter, mut kept) = (all.counter(), Extensions::new());
        for _ in 0..=PER_ADDRESS {
            let stream = TcpStream::connect(address).await.unwrap();
            // Else they would queue, and more than the system queues would wait.
            let taken = listener.accept().unwrap();
            counter(&stream, &mut kept);
            drop(taken);
            assert!(SockRef::from(&stream).peer_addr().is_ok());
        }
        assert!(all.open.lock().unwrap().is_empty());
    }

    /// A server that counts this machine's connections too; where it listens.
    fn serve(all: &Arc<Connections>, tls: Option<rustls::ServerConfig>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = HttpServer::new(App::new).workers(1).disable_signals();
        // None of them ends by itself.
        let server = server
            .keep_alive(Duration::from_secs(600))
            .on_connect(all.counter());
        let server = match tls {
            Some(config) => server.listen_rustls_0_23(listener, config).unwrap(),
            None => server.listen(listener).unwrap(),
        };
        actix_web::rt::spawn(server.run());
        address
    }

    /// Asks on a connection; whether there is an answer.
    fn is_answered(stream: &mut (impl std::io::Read + std::io::Write)) -> bool {
        let asked = stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let (mut head, mut next) = (Vec::new(), [0]);
        while asked.is_ok() && !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut next).is_ok() {
            head.push(next[0]);
        }
        head.starts_with(b"HTTP/1.1 404") && head.ends_with(b"\r\n\r\n")
    }

    fn everybody_s() -> Arc<Connections> {
        Arc::new(Connections {
            counts: |_| true,
            ..Connections::default()
        })
    }

    fn wait_for(all: &Connections, count: usize) {
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while all.open.lock().unwrap().values().sum::<usize>() != count {
            assert!(std::time::Instant::now() < deadline, "not {count}");
            std::thread::yield_now();
        }
    }

    #[actix_web::test]
    async fn a_server_closes_one_too_many_at_once_and_has_room_again_when_one_ends() {
        let all = everybody_s();
        let address = serve(&all, None);
        let asking = actix_web::rt::task::spawn_blocking(move || {
            let connect = || std::net::TcpStream::connect(address).unwrap();
            let mut open: Vec<_> = (0..PER_ADDRESS).map(|_| connect()).collect();
            assert!(open.iter_mut().all(is_answered));
            assert!(!is_answered(&mut connect()), "one too many");
            assert!(open.iter_mut().all(is_answered), "the others stay");
            open.pop();
            wait_for(&all, PER_ADDRESS - 1);
            assert!(is_answered(&mut connect()));
            drop(open);
            wait_for(&all, 0);
        });
        asking.await.unwrap();
    }

    #[actix_web::test]
    async fn connections_under_tls_count_too() {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let all = everybody_s();
        let address = serve(&all, Some(config));
        let asking = actix_web::rt::task::spawn_blocking(move || {
            let name = "localhost".try_into().unwrap();
            let session = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
            let stream = std::net::TcpStream::connect(address).unwrap();
            let mut stream = rustls::StreamOwned::new(session, stream);
            assert!(is_answered(&mut stream));
            wait_for(&all, 1);
            drop(stream);
            wait_for(&all, 0);
        });
        asking.await.unwrap();
    }

    /// Who never reads is ended by the system; waiting for that is the test, so the time is short.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_client_that_reads_nothing_is_gone_after_its_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        end_unread(&listener, Duration::from_millis(400)).unwrap();
        let silent = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        let kept = SockRef::from(&accepted).tcp_user_timeout().unwrap();
        assert_eq!(kept, Some(Duration::from_millis(400)));
        accepted.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
        let piece = vec![0; 1 << 20];
        let ended = (0..1_000).find_map(|_| accepted.write_all(&piece).err());
        assert_eq!(ended.map(|error| error.kind()), Some(ErrorKind::TimedOut));
        drop(silent);
    }

    #[test]
    fn an_answer_that_asks_for_a_pause_ends_its_connection() {
        for (mut answer, closes) in [
            (HttpResponse::TooManyRequests().finish(), true),
            (HttpResponse::Ok().finish(), false),
        ] {
            close_where_too_many(&mut answer);
            assert_eq!(answer.head().connection_type() == ConnectionType::Close, closes);
        }
    }
}
