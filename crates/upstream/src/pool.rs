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
        let now = clock::now();
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
        let lent = self.lent().get_mut(&key(endpoint)).and_then(Vec::pop)?;
        self.count.fetch_sub(1, Ordering::Relaxed);
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
