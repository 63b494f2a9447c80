//! Accepting connections on one core's socket of a listener: counted against the bounds, named by a proxy in front where
//! one is asked for, secured, and handed to the engine that the client speaks.

use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use terrace_instruments::{Event, Gauge, Level};
use terrace_policy::Share;
use terrace_runtime::drain::Drain;
use terrace_runtime::timer::Timer;
use terrace_runtime::{clock, sockets};
use terrace_wire::Io;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::challenge::{self, Handshake};
use crate::client::Connected;
use crate::config::{Listener, ProxyProtocol};
use crate::core::Core;
use crate::http1::{self, Session};
use crate::snapshot::ListenerView;
use crate::tls::Shown;
use crate::{http2, proxy_protocol};

/// How long handshakes that had begun may still complete at a listener that goes away.
const CLOSING: Duration = Duration::from_millis(300);
/// How long to wait when the system has no descriptors left.
const EXHAUSTED: Duration = Duration::from_millis(50);
/// How often that is told.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// The first byte of a TLS record that holds a handshake (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// What all cores of one listener share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Tells listeners apart that a reload replaced.
    pub(crate) id: u64,
    pub(crate) name: String,
    /// Whoever comes out of the line now is served once and asked to leave.
    is_closing: AtomicBool,
    connections: AtomicUsize,
    /// The bound on these, as it was when the last one came.
    connections_max: AtomicUsize,
    by_client: ByClient,
    /// When an accept that failed may be told next, in milliseconds.
    tell_at_ms: AtomicU64,
}

/// Connections by client address, in shards, so that cores seldom meet.
#[derive(Debug)]
struct ByClient {
    hasher: RandomState,
    shards: Vec<Mutex<HashMap<IpAddr, usize>>>,
}

const SHARDS: usize = 32;

impl Shared {
    pub(crate) fn new(id: u64, name: &str) -> Arc<Self> {
        let by_client =
            ByClient { hasher: RandomState::new(), shards: (0..SHARDS).map(|_| Mutex::default()).collect() };
        let (name, is_closing) = (name.to_owned(), AtomicBool::new(false));
        Arc::new(Self {
            id,
            name,
            is_closing,
            connections: AtomicUsize::new(0),
            connections_max: AtomicUsize::new(usize::MAX),
            by_client,
            tell_at_ms: AtomicU64::new(0),
        })
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// How much of its bound on connections is used.
    pub(crate) fn open_share(&self) -> Share {
        let open = self.connections.load(Ordering::Relaxed);
        let max = self.connections_max.load(Ordering::Relaxed).max(1);
        Share::from_ratio(open as f64 / max as f64)
    }

    /// Whether an accept that failed is told now: all cores fail alike and again and again, and lines by the thousand
    /// would bury what is the matter, or fill the disk.
    fn may_tell(&self, now: Duration) -> bool {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let next = |at: u64| (ms(now) >= at).then(|| ms(now + TELL_EVERY));
        self.tell_at_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    /// Counts a connection in, when the bounds have room for it.
    fn admit(self: &Arc<Self>, client: IpAddr, view: &ListenerView) -> Option<Admitted> {
        let bounds = &view.config.bounds;
        self.connections_max.store(bounds.connections_max, Ordering::Relaxed);
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        if before >= bounds.connections_max {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let client = counted_as(client);
        if !self.by_client.enter(client, bounds.connections_per_client_max) {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        view.metrics.open.add(1);
        Some(Admitted { shared: Arc::clone(self), client, open: view.metrics.open.clone() })
    }
}

/// A client has a whole /64 of IPv6 for itself.
fn counted_as(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

impl ByClient {
    fn shard(&self, client: IpAddr) -> &Mutex<HashMap<IpAddr, usize>> {
        &self.shards[self.hasher.hash_one(client) as usize % SHARDS]
    }

    fn enter(&self, client: IpAddr, max: usize) -> bool {
        let mut shard = self.shard(client).lock().unwrap_or_else(PoisonError::into_inner);
        let count = shard.entry(client).or_default();
        let has_room = *count < max;
        *count += usize::from(has_room);
        if *count == 0 {
            shard.remove(&client);
        }
        has_room
    }

    fn leave(&self, client: IpAddr) {
        let mut shard = self.shard(client).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = shard.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&client);
            }
        }
    }
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
struct Admitted {
    shared: Arc<Shared>,
    client: IpAddr,
    open: Gauge,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.open.sub(1);
        self.shared.by_client.leave(self.client);
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts on this core until the listener goes away.
pub(crate) async fn accept(
    core: Rc<Core>,
    socket: std::net::TcpListener,
    shared: Arc<Shared>,
    mut drain: Drain,
) {
    let Ok(listener) = TcpListener::from_std(socket) else { return };
    loop {
        tokio::select! {
            biased;
            accepted = listener.accept() => take(&core, &shared, accepted).await,
            () = drain.requested() => break,
        }
    }
    close(&core, &shared, listener).await;
}

async fn take(core: &Rc<Core>, shared: &Arc<Shared>, accepted: io::Result<(TcpStream, SocketAddr)>) {
    match accepted {
        Ok((stream, peer)) => {
            tokio::task::spawn_local(serve(Rc::clone(core), Arc::clone(shared), stream, peer));
        }
        Err(error) if is_of_one_connection(&error) => {}
        Err(error) => {
            if shared.may_tell(clock::now()) {
                core.log.emit(exhausted(&shared.name, &error));
            }
            tokio::time::sleep(EXHAUSTED).await;
        }
    }
}

/// The connection was gone before it was accepted; the next one may be fine (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn exhausted(listener: &str, error: &io::Error) -> Event {
    Event::new(Level::Error, "listener.accept_failed")
        .field("listener", listener)
        .field("error", error.to_string())
        .field("advice", "raise the limit of open files (LimitNOFILE) or lower the listener's bounds")
}

/// Serves who is already in the line, and only then closes.
async fn close(core: &Rc<Core>, shared: &Arc<Shared>, listener: TcpListener) {
    shared.is_closing.store(true, Ordering::Relaxed);
    let _without_it_a_handshake_may_be_reset = sockets::refuse_new_handshakes(&listener);
    let mut timer = Timer::new();
    let until = clock::now() + CLOSING;
    while let Ok(accepted) = timer.run(until, listener.accept()).await {
        take(core, shared, accepted).await;
    }
}

async fn serve(core: Rc<Core>, shared: Arc<Shared>, mut stream: TcpStream, peer: SocketAddr) {
    let Some(view) = core.sight(&shared.name).look().map(|(_, view)| view.clone()) else { return };
    let guard = core.enter(&shared);
    let Ok(mut connected) = connected(&stream, peer, &shared.name) else { return };
    let mut timer = Timer::new();
    let until = clock::now() + view.config.bounds.head_time;
    let named = timer.run(until, Box::pin(read_proxy_header(&mut stream, &mut connected, &view.config)));
    if !matches!(named.await, Ok(Ok(()))) {
        view.metrics.failed.inc();
        return;
    }
    let Some(_admitted) = shared.admit(connected.peer.ip(), &view) else {
        view.metrics.over_bound.inc();
        refuse(stream, view.config.tls.is_some()).await;
        return;
    };
    let (io, speaks_http2) = match timer.run(until, Box::pin(secure(stream, &view.config, until))).await {
        Ok(Secured::Client { io, speaks_http2, certificate }) => {
            connected.certificate = certificate;
            (io, speaks_http2)
        }
        Ok(Secured::Answered) => return view.metrics.answered.inc(),
        Ok(Secured::Failed) | Err(_) => return view.metrics.failed.inc(),
    };
    view.metrics.served.inc();
    connected.is_tls = io.is_tls();
    let bounds = view.config.bounds;
    let http2 = view.config.http2;
    let session = Session { core, guard, listener: shared.name.clone(), connected, may_ask: Cell::new(true) };
    drop((timer, view));
    match speaks_http2 {
        // What only some connections need stands on the heap, so that the others do not carry room for it.
        true => Box::pin(http2::serve(session, io, bounds)).await,
        false => http1::serve(session, io, bounds, http2).await,
    }
}

fn connected(stream: &TcpStream, peer: SocketAddr, listener: &str) -> io::Result<Connected> {
    Ok(Connected::new(peer, stream.local_addr()?, listener))
}

/// Learns from the proxy in front who the client is, where the listener asks for it.
async fn read_proxy_header(
    stream: &mut TcpStream,
    connected: &mut Connected,
    config: &Listener,
) -> io::Result<()> {
    if config.proxy_protocol == ProxyProtocol::Off {
        return Ok(());
    }
    let peer = connected.peer.ip();
    if !config.trusted_proxies.iter().any(|network| network.contains(peer)) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    if let Some((source, destination)) = proxy_protocol::read(stream, config.proxy_protocol).await? {
        *connected = Connected::new(source, destination, &config.name);
    }
    Ok(())
}

/// Over the bound: an answer where one can be had for nothing, so that the client is told to come back.
async fn refuse(mut stream: TcpStream, is_tls: bool) {
    const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\
        retry-after: 1\r\nproxy-status: terrace; error=connection_limit_reached\r\n\r\n";
    if !is_tls && stream.write_all(ANSWER).await.is_ok() {
        see_off(stream).await;
    }
}

/// Ends a connection on which the last word was said. With bytes left unread it would end by a reset, which may overtake
/// that word: a client would not learn why it was refused.
pub(crate) async fn see_off(mut stream: TcpStream) {
    let mut timer = Timer::new();
    let rest = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    let _gone_either_way = timer.run(clock::now() + CLOSING, rest).await;
}

/// What a connection is once nothing stands between us and requests.
enum Secured {
    /// A client's.
    Client {
        io: Io,
        /// HTTP/2 was agreed.
        speaks_http2: bool,
        /// What the client showed of itself.
        certificate: Option<Rc<Shown>>,
    },
    /// It was an authority's question, see [`challenge`].
    Answered,
    Failed,
}

impl Secured {
    fn plain(stream: TcpStream) -> Self {
        Self::Client { io: Io::from(stream), speaks_http2: false, certificate: None }
    }
}

/// TLS, where the listener speaks it. A plain request to such a listener is answered with a way to the right scheme.
async fn secure(stream: TcpStream, config: &Listener, until: Duration) -> Secured {
    let Some(tls) = &config.tls else { return Secured::plain(stream) };
    let mut first = [0];
    match stream.peek(&mut first).await {
        // Served as the redirect that the chain makes of plain requests on a TLS listener.
        Ok(1) if first[0] != TLS_HANDSHAKE => return Secured::plain(stream),
        Ok(_) => {}
        Err(_) => return Secured::Failed,
    }
    let verifier = tls.verifier();
    let shaken = match tls.issuer() {
        Some(issuer) => Box::pin(challenge::accept(stream, tls, &*issuer, until)).await,
        None => challenge::shake(TlsAcceptor::from(tls.server_config()).accept(stream)).await,
    };
    let stream = match shaken {
        Handshake::Client(stream) => *stream,
        Handshake::Answered => return Secured::Answered,
        Handshake::Failed => return Secured::Failed,
    };
    let session = stream.get_ref().1;
    let speaks_http2 = session.alpn_protocol() == Some(b"h2");
    let certificate = session.peer_certificates().and_then(|chain| tls.shown(chain, verifier));
    Secured::Client { io: Io::from(stream), speaks_http2, certificate }
}

#[cfg(test)]
mod tests {
    use terrace_instruments::Log;

    use super::*;

    #[test]
    fn a_client_is_counted_by_its_network_and_let_go_when_it_leaves() {
        let by_client =
            ByClient { hasher: RandomState::new(), shards: (0..SHARDS).map(|_| Mutex::default()).collect() };
        let one = counted_as("2001:db8::1".parse().expect("valid"));
        let same = counted_as("2001:db8::ffff:1".parse().expect("valid"));
        assert_eq!(one, same);
        assert!(by_client.enter(one, 2) && by_client.enter(same, 2));
        assert!(!by_client.enter(one, 2), "over its bound");
        by_client.leave(one);
        assert!(by_client.enter(one, 2));
        by_client.leave(one);
        by_client.leave(one);
        assert!(
            by_client.shards.iter().all(|shard| shard.lock().expect("whole").is_empty()),
            "nothing is left behind"
        );
    }

    #[test]
    fn descriptors_that_run_out_are_told_once_a_second() {
        let shared = Shared::new(1, "public");
        let told = (0..40).filter(|turn| shared.may_tell(Duration::from_millis(50 * turn))).count();
        assert_eq!(told, 2, "in two seconds");
    }

    #[test]
    fn a_log_line_says_what_to_do_when_descriptors_run_out() {
        let (log, receiver) = Log::channel(1);
        log.emit(exhausted("public", &io::Error::from_raw_os_error(24)));
        assert_eq!(receiver.take_events().len(), 1);
    }
}
