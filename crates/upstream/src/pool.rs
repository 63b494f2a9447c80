//! Connections to endpoints, kept for the next request. Each core has its own, so that taking one needs no lock; what a
//! core has not needed for a second it lends to the others within a bound, so that an uneven spread of clients over
//! cores does not multiply connections.
//!
//! The connection used last is used next: the others grow old and are closed, and the pool is as large as it must be.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustc_hash::FxHashMap;
use terrace_runtime::clock;
use terrace_runtime::timer::Timer;
use terrace_wire::{Io, http1};
use tokio::net::TcpStream;

use crate::client::{Http1Link, Http2Link, Link};
use crate::config::{Protocol, ProxyProtocol};
use crate::connect::{ConnectError, Proxied, connect};
use crate::endpoint::{ConnectionPermit, Endpoint};
use crate::upstream::Settings;

/// Idle for that long, a connection may be lent to another core.
const LEND_AFTER: Duration = Duration::from_secs(1);
/// Connections to one endpoint that wait to be borrowed.
const LENT_PER_ENDPOINT_MAX: usize = 16;
/// Connections that wait to be borrowed in all.
const LENT_MAX: usize = 1024;

/// One core's connections to all endpoints.
#[derive(Debug)]
pub struct Pool {
    shelf: Arc<Shelf>,
    endpoints: RefCell<FxHashMap<usize, Kept>>,
}

/// What one core keeps to one endpoint.
#[derive(Debug)]
struct Kept {
    endpoint: Arc<Endpoint>,
    idle: Vec<Idle>,
    http2: Vec<Http2Link>,
    dialing: Rc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Idle {
    link: Box<Http1Link>,
    since: Duration,
    until: Duration,
}

/// Where cores leave connections for one another.
#[derive(Debug)]
pub struct Shelf {
    /// A single core has nobody to lend to.
    is_shared: bool,
    count: AtomicUsize,
    lent: Mutex<HashMap<usize, Vec<Lent>>>,
}

#[derive(Debug)]
struct Lent {
    tcp: std::net::TcpStream,
    permit: ConnectionPermit,
    until: Duration,
}

/// The address of an endpoint's state names it for as long as somebody holds it, and every list here does.
fn key(endpoint: &Arc<Endpoint>) -> usize {
    Arc::as_ptr(endpoint) as usize
}

impl Pool {
    /// An empty pool that lends through `shelf`.
    #[must_use]
    pub fn new(shelf: Arc<Shelf>) -> Self {
        Self { shelf, endpoints: RefCell::default() }
    }

    /// A link to `endpoint` that waits here, or that another core lent.
    #[must_use]
    pub fn reuse(&self, settings: &Settings, endpoint: &Arc<Endpoint>) -> Option<Link> {
        if settings.config.proxy_protocol_out != ProxyProtocol::Off {
            // Such a connection speaks for one client and is not kept for another.
            return None;
        }
        match settings.config.protocol {
            Protocol::Http1 => self.take(endpoint).map(Link::Http1),
            Protocol::H2 => self.http2_with_room(endpoint).map(Link::Http2),
        }
    }

    /// A new link to `endpoint`; of HTTP/2 perhaps one that somebody else dialled meanwhile.
    ///
    /// # Errors
    /// [`ConnectError`] when it cannot be had.
    pub async fn dial(
        &self,
        settings: &Settings,
        endpoint: &Arc<Endpoint>,
        proxied: Proxied,
        timer: &mut Timer,
    ) -> Result<Link, ConnectError> {
        let is_private = settings.config.proxy_protocol_out != ProxyProtocol::Off;
        match settings.config.protocol {
            Protocol::H2 if !is_private => self.dial_http2(settings, endpoint, proxied, timer).await,
            _ => connect(settings, endpoint, proxied, timer).await,
        }
    }

    fn take(&self, endpoint: &Arc<Endpoint>) -> Option<Box<Http1Link>> {
        let now = clock::now();
        if let Some(kept) = self.endpoints.borrow_mut().get_mut(&key(endpoint)) {
            while let Some(mut idle) = kept.idle.pop() {
                if idle.until > now && !idle.link.connection.is_stale() {
                    return Some(idle.link);
                }
            }
        }
        self.shelf.borrow_from(endpoint, now)
    }

    async fn dial_http2(
        &self,
        settings: &Settings,
        endpoint: &Arc<Endpoint>,
        proxied: Proxied,
        timer: &mut Timer,
    ) -> Result<Link, ConnectError> {
        // One dials; who waits meanwhile most likely finds room on what it brings.
        let dialing = self.with_kept(endpoint, |kept| Rc::clone(&kept.dialing));
        let _turn = dialing.lock().await;
        if let Some(link) = self.http2_with_room(endpoint) {
            return Ok(Link::Http2(link));
        }
        let link = connect(settings, endpoint, proxied, timer).await?;
        if let Link::Http2(link) = &link {
            self.with_kept(endpoint, |kept| kept.http2.push(link.clone()));
        }
        Ok(link)
    }

    fn http2_with_room(&self, endpoint: &Arc<Endpoint>) -> Option<Http2Link> {
        let endpoints = self.endpoints.borrow();
        endpoints.get(&key(endpoint))?.http2.iter().find(|link| link.has_room()).cloned()
    }

    fn with_kept<T>(&self, endpoint: &Arc<Endpoint>, act: impl FnOnce(&mut Kept) -> T) -> T {
        let mut endpoints = self.endpoints.borrow_mut();
        let kept = match endpoints.entry(key(endpoint)) {
            Entry::Occupied(kept) => kept.into_mut(),
            Entry::Vacant(place) => place.insert(Kept {
                endpoint: Arc::clone(endpoint),
                idle: Vec::new(),
                http2: Vec::new(),
                dialing: Rc::default(),
            }),
        };
        act(kept)
    }

    /// Keeps a link whose exchange is over for the next one, for at most `keep_alive` where the endpoint named a time.
    pub fn keep(&self, settings: &Settings, link: Link, keep_alive: Option<Duration>) {
        let Link::Http1(mut link) = link else { return };
        let connections = &settings.config.connections;
        let endpoint = Arc::clone(link.permit.endpoint());
        let is_ready = link.connection.is_body_read() && link.connection.is_body_written();
        let is_private = settings.config.proxy_protocol_out != ProxyProtocol::Off;
        if !is_ready || is_private || !endpoint.is_accepting() {
            return;
        }
        link.is_reused = true;
        let now = clock::now();
        let time = keep_alive.map_or(connections.idle_time, |named| named.min(connections.idle_time));
        self.with_kept(&endpoint, |kept| {
            if kept.idle.len() < connections.idle_per_core_max as usize {
                kept.idle.push(Idle { link, since: now, until: now + time });
            }
        });
    }

    /// Closes what is too old or leads to an endpoint that takes no more requests, and lends what was not needed for a
    /// while. To be called about once a second.
    pub fn sweep(&self) {
        self.sweep_at(clock::now());
    }

    fn sweep_at(&self, now: Duration) {
        let mut lendable = Vec::new();
        self.endpoints.borrow_mut().retain(|_, kept| {
            if !kept.endpoint.is_accepting() {
                kept.idle.clear();
                // What is under way goes on: each exchange holds its own share in the connection.
                kept.http2.clear();
            }
            kept.http2.retain(|link| !link.is_closed());
            kept.idle.retain_mut(|idle| idle.until > now && !idle.link.connection.is_stale());
            if !self.shelf.is_shared {
                return !kept.idle.is_empty() || !kept.http2.is_empty();
            }
            let unneeded = kept.idle.iter().take_while(|idle| idle.since + LEND_AFTER <= now).count();
            lendable.extend(kept.idle.drain(..unneeded));
            !kept.idle.is_empty() || !kept.http2.is_empty()
        });
        for idle in lendable {
            self.shelf.lend(*idle.link, idle.until);
        }
        self.shelf.sweep(now);
    }
}

impl Shelf {
    /// A shelf for that many cores.
    #[must_use]
    pub fn new(cores: usize) -> Arc<Self> {
        Arc::new(Self { is_shared: cores > 1, count: AtomicUsize::new(0), lent: Mutex::default() })
    }

    fn lent(&self) -> MutexGuard<'_, HashMap<usize, Vec<Lent>>> {
        // Lists of sockets are whole after any panic.
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn borrow_from(&self, endpoint: &Arc<Endpoint>, now: Duration) -> Option<Box<Http1Link>> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let lent = {
            let mut lists = self.lent();
            let lent = lists.get_mut(&key(endpoint)).and_then(Vec::pop)?;
            // Under the lock, as every change of it: else a sweep in between counts without this one, and it is taken
            // off twice.
            self.count.fetch_sub(1, Ordering::Relaxed);
            lent
        };
        if lent.until <= now || !is_quiet(&lent.tcp) {
            return None;
        }
        let io = Io::from(TcpStream::from_std(lent.tcp).ok()?);
        let mut link = Http1Link::new(http1::Connection::new(io), lent.permit);
        link.is_reused = true;
        Some(Box::new(link))
    }

    fn lend(&self, link: Http1Link, until: Duration) {
        let key = key(link.permit.endpoint());
        let Some(tcp) = link.connection.into_io().into_plain() else { return };
        let mut lent = self.lent();
        let list = lent.entry(key).or_default();
        if list.len() < LENT_PER_ENDPOINT_MAX && self.count.load(Ordering::Relaxed) < LENT_MAX {
            list.push(Lent { tcp, permit: link.permit, until });
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn sweep(&self, now: Duration) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut lent = self.lent();
        lent.retain(|_, list| {
            list.retain(|lent| lent.until > now && lent.permit.endpoint().is_accepting());
            !list.is_empty()
        });
        self.count.store(lent.values().map(Vec::len).sum(), Ordering::Relaxed);
    }
}

/// Whether the endpoint neither closed nor sent anything.
fn is_quiet(tcp: &std::net::TcpStream) -> bool {
    matches!(tcp.peek(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use terrace_instruments::{Log, Meter};
    use terrace_wire::WireError;
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::Config;
    use crate::id::IdentityKey;
    use crate::lease::Lease;
    use crate::live::Ask;
    use crate::roster::Member;
    use crate::upstream::Upstream;

    /// An endpoint that accepts and says nothing, and the upstream that leads there.
    struct World {
        listener: TcpListener,
        upstream: Arc<Upstream>,
    }

    impl World {
        async fn new(change: impl FnOnce(&mut Config)) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let mut config = Config::new("orders", IdentityKey([0; 16]));
            change(&mut config);
            let upstream = Upstream::build(config, &Meter::new(1), &Log::discard()).expect("valid");
            let member = Member::new("orders-1", listener.local_addr().expect("bound"));
            upstream.publish(&[member], clock::now());
            Self { listener, upstream }
        }

        fn lease(&self) -> Lease {
            self.upstream.pick(&Ask::default(), clock::now(), &mut || 0).expect("an endpoint")
        }

        async fn dial(&self, pool: &Pool) -> (Link, TcpStream) {
            let lease = self.lease();
            let settings = self.upstream.settings();
            let mut timer = Timer::new();
            let (link, accepted) = tokio::join!(
                pool.dial(&settings, lease.endpoint(), proxied(), &mut timer),
                self.listener.accept()
            );
            (link.expect("connected"), accepted.expect("accepted").0)
        }

        fn reuse(&self, pool: &Pool) -> Option<Link> {
            pool.reuse(&self.upstream.settings(), self.lease().endpoint())
        }

        fn connections(&self) -> u32 {
            self.lease().endpoint().connections()
        }
    }

    fn proxied() -> Proxied {
        let any: SocketAddr = ([127, 0, 0, 1], 1).into();
        Proxied { source: any, destination: any }
    }

    /// Waits until the event loop has learnt that the endpoint closed.
    async fn until_closed(link: &mut Link) {
        let Link::Http1(link) = link else { panic!("HTTP/1 was asked for") };
        let ended: Result<bool, WireError> = link.connection.readable().await;
        assert!(matches!(ended, Ok(false)));
    }

    #[tokio::test]
    async fn a_connection_that_was_kept_is_used_for_the_next_request() {
        let world = World::new(|_| {}).await;
        let pool = Pool::new(Shelf::new(1));
        assert!(world.reuse(&pool).is_none());
        let (link, _peer) = world.dial(&pool).await;
        assert!(!link.is_reused());
        pool.keep(&world.upstream.settings(), link, None);
        assert!(world.reuse(&pool).expect("kept").is_reused());
        assert_eq!(world.connections(), 0, "one that is dropped no longer counts");
    }

    #[tokio::test]
    async fn a_connection_that_the_endpoint_closed_is_not_used_again() {
        let world = World::new(|_| {}).await;
        let pool = Pool::new(Shelf::new(1));
        let (mut link, peer) = world.dial(&pool).await;
        drop(peer);
        until_closed(&mut link).await;
        pool.keep(&world.upstream.settings(), link, None);
        assert!(world.reuse(&pool).is_none());
    }

    #[tokio::test]
    async fn no_more_connections_are_kept_and_opened_than_the_bounds_say() {
        let world = World::new(|config| {
            config.connections.idle_per_core_max = 1;
            config.connections.per_endpoint_max = 2;
        })
        .await;
        let pool = Pool::new(Shelf::new(1));
        let (first, _one) = world.dial(&pool).await;
        let (second, _two) = world.dial(&pool).await;
        let settings = world.upstream.settings();
        let lease = world.lease();
        let third = pool.dial(&settings, lease.endpoint(), proxied(), &mut Timer::new()).await;
        assert!(matches!(third, Err(ConnectError::Full)));
        pool.keep(&settings, first, None);
        pool.keep(&settings, second, None);
        assert_eq!(lease.endpoint().connections(), 1, "the second had no place and was closed");
    }

    #[tokio::test]
    async fn what_one_core_does_not_need_another_may_use() {
        let world = World::new(|_| {}).await;
        let shelf = Shelf::new(2);
        let (one, other) = (Pool::new(Arc::clone(&shelf)), Pool::new(shelf));
        let (link, _peer) = world.dial(&one).await;
        one.keep(&world.upstream.settings(), link, None);
        one.sweep();
        assert!(world.reuse(&other).is_none(), "not before it has been idle for a while");
        one.sweep_at(clock::now() + 2 * LEND_AFTER);
        assert!(world.reuse(&one).is_some_and(|link| link.is_reused()), "its own core may take it back");
        let (link, _peer) = world.dial(&one).await;
        one.keep(&world.upstream.settings(), link, None);
        one.sweep_at(clock::now() + 2 * LEND_AFTER);
        assert!(world.reuse(&other).is_some_and(|link| link.is_reused()));
    }

    #[tokio::test]
    async fn connections_to_an_endpoint_that_goes_away_are_let_go() {
        let world = World::new(|_| {}).await;
        let pool = Pool::new(Shelf::new(1));
        let (link, _peer) = world.dial(&pool).await;
        let endpoint = Arc::clone(world.lease().endpoint());
        pool.keep(&world.upstream.settings(), link, None);
        world.upstream.publish(&[], clock::now());
        pool.sweep();
        assert_eq!(endpoint.connections(), 0);
    }

    #[tokio::test]
    async fn a_connection_that_speaks_for_one_client_is_not_kept_for_another() {
        let world = World::new(|config| config.proxy_protocol_out = ProxyProtocol::V2).await;
        let pool = Pool::new(Shelf::new(1));
        let (link, _peer) = world.dial(&pool).await;
        pool.keep(&world.upstream.settings(), link, None);
        assert!(world.reuse(&pool).is_none());
    }
}
