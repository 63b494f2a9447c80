//! One endpoint: where it is, what it is busy with, and what is known of it.
//!
//! An endpoint outlives the configuration that named it: its counts, latency and ejection survive a reload,
//! and it stays reachable after it was withdrawn until the last request at it has ended. Everything a request
//! touches is an atomic; the lock inside guards only what changes when the endpoint's standing does.
//!
//! Withdrawing must not race with picking: a request that is just being sent must either be counted before
//! the drain looks, or see that it came too late. So a pick counts first and then looks whether the endpoint
//! still accepts, and a withdrawal forbids first and then looks at the count, both in one total order
//! (sequentially consistent, as in Dekker's algorithm). At least one of the two sees the other.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use terrace_instruments::Plate;
use terrace_policy::{Ejection, Evidence};
use tokio::sync::Notify;

use crate::id::EndpointId;
use crate::latency::Latency;
use crate::lease::Outcome;
use crate::metrics::EndpointMetrics;
use crate::padded::Padded;
use crate::upstream::Upstream;

/// One more stream, in [`Load`].
const STREAM: u64 = 1 << 32;
const REQUESTS_MASK: u64 = STREAM - 1;

/// Where requests of a service can go. Shared; every method may run on any core.
#[derive(Debug)]
pub struct Endpoint {
    id: EndpointId,
    sign: Arc<Sign>,
    host: Option<Arc<str>>,
    upstream: Weak<Upstream>,
    limits: Limits,
    standing: Standing,
    load: Padded<AtomicU64>,
    connections: Padded<AtomicU32>,
    latency: Padded<Latency>,
    evidence: Padded<Evidence>,
    waiters: AtomicU32,
    ended: Notify,
    pub(crate) metrics: EndpointMetrics,
}

/// What an endpoint is known by, to be remembered for longer than the endpoint is there.
#[derive(Debug, PartialEq, Eq)]
pub struct Sign {
    name: Arc<str>,
    address: SocketAddr,
    plate: Plate,
}

impl Sign {
    /// Of an instance of that name, or a host as it was configured, at that address.
    pub fn new(name: Arc<str>, address: SocketAddr) -> Self {
        let plate = Plate::new(&[("instance", &name)]);
        Self { name, address, plate }
    }

    /// The name of the instance, or the address as it was configured.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The name as a line of the access log has it.
    pub fn plate(&self) -> &Plate {
        &self.plate
    }
}

/// Parameters that a reload may change, as the request's way reads them.
#[derive(Debug)]
struct Limits {
    connections_max: AtomicU32,
    requests_max: AtomicU32,
    /// Zero while nothing is ejected.
    ejection_window_ns: AtomicU64,
}

/// What decides whether the endpoint is a candidate. Written by the upstream alone, under its lock.
#[derive(Debug)]
struct Standing {
    is_accepting: AtomicBool,
    is_drained: AtomicBool,
    health: AtomicU8,
    ejection: Mutex<Ejection>,
}

/// What active checks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not checked yet, or not checked at all: used until a check says otherwise.
    Unknown,
    /// Checks pass.
    Up,
    /// Checks fail.
    Down,
}

impl Health {
    /// In lower case, as in reports and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// Who an endpoint is; what a new one is made of.
pub(crate) struct Identity {
    pub(crate) id: EndpointId,
    pub(crate) name: Arc<str>,
    pub(crate) host: Option<Arc<str>>,
    pub(crate) address: SocketAddr,
}

/// The bounds in force, as plain values.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) connections_max: u32,
    pub(crate) requests_max: u32,
    pub(crate) ejection_window: Duration,
}

/// Why no request can begin at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Withdrawn since the caller looked.
    Closed,
    /// At its bound.
    Full,
}

impl Endpoint {
    pub(crate) fn new(identity: Identity, metrics: EndpointMetrics, upstream: Weak<Upstream>) -> Self {
        Self {
            id: identity.id,
            sign: Arc::new(Sign::new(identity.name, identity.address)),
            host: identity.host,
            upstream,
            limits: Limits {
                connections_max: AtomicU32::new(0),
                requests_max: AtomicU32::new(0),
                ejection_window_ns: AtomicU64::new(0),
            },
            standing: Standing {
                is_accepting: AtomicBool::new(false),
                is_drained: AtomicBool::new(false),
                health: AtomicU8::new(Health::Unknown as u8),
                ejection: Mutex::default(),
            },
            load: Padded::default(),
            connections: Padded::default(),
            latency: Padded::default(),
            evidence: Padded::default(),
            waiters: AtomicU32::new(0),
            ended: Notify::new(),
            metrics,
        }
    }

    /// Identifies the endpoint towards clients, as in a sticky cookie.
    pub fn id(&self) -> EndpointId {
        self.id
    }

    /// The name of the instance, or the address as it was configured.
    pub fn name(&self) -> &Arc<str> {
        &self.sign.name
    }

    /// What it is known by.
    pub fn sign(&self) -> &Arc<Sign> {
        &self.sign
    }

    /// The host name under which the endpoint was found, if there was one.
    pub fn host(&self) -> Option<&Arc<str>> {
        self.host.as_ref()
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.sign.address
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> u32 {
        (self.load.load(Ordering::SeqCst) & REQUESTS_MASK) as u32
    }

    /// Upgraded connections.
    pub fn streams(&self) -> u32 {
        (self.load.load(Ordering::SeqCst) >> 32) as u32
    }

    /// Connections open, over all cores, idle ones included.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Whether new requests may begin. False once the endpoint is draining or withdrawn; then idle connections
    /// to it are of no more use.
    pub fn is_accepting(&self) -> bool {
        self.standing.is_accepting.load(Ordering::SeqCst)
    }

    /// Whether an operator took it out of rotation.
    pub fn is_drained(&self) -> bool {
        self.standing.is_drained.load(Ordering::Relaxed)
    }

    /// What active checks say.
    pub fn health(&self) -> Health {
        match self.standing.health.load(Ordering::Relaxed) {
            up if up == Health::Up as u8 => Health::Up,
            down if down == Health::Down as u8 => Health::Down,
            _ => Health::Unknown,
        }
    }

    /// Room for one more connection within the bound over all cores; held until dropped.
    pub fn open_connection(self: &Arc<Self>) -> Option<ConnectionPermit> {
        let open = self.connections.fetch_add(1, Ordering::Relaxed);
        // Made at once: its drop gives the count back when there is no room.
        let permit = ConnectionPermit(Arc::clone(self));
        (open < self.limits.connections_max.load(Ordering::Relaxed)).then_some(permit)
    }

    /// The expected latency, when there was ever a sample.
    pub fn latency(&self, now: Duration) -> Option<Duration> {
        self.latency.known(now)
    }

    /// Requests and streams together.
    pub(crate) fn load(&self) -> u64 {
        let load = self.load.load(Ordering::Relaxed);
        (load & REQUESTS_MASK) + (load >> 32)
    }

    pub(crate) fn expected_latency_us(&self, now: Duration) -> f32 {
        self.latency.estimate_us(now)
    }

    /// Counts a request in, unless the endpoint is at its bound or was withdrawn.
    pub(crate) fn begin_request(&self) -> Result<(), Refusal> {
        let before = self.load.fetch_add(1, Ordering::SeqCst);
        let busy = (before & REQUESTS_MASK) + (before >> 32);
        if busy >= u64::from(self.limits.requests_max.load(Ordering::Relaxed)) {
            self.end_request();
            return Err(Refusal::Full);
        }
        if !self.is_accepting() {
            self.end_request();
            return Err(Refusal::Closed);
        }
        Ok(())
    }

    pub(crate) fn end_request(&self) {
        self.subtract(1);
    }

    pub(crate) fn end_stream(&self) {
        self.subtract(STREAM);
    }

    pub(crate) fn request_becomes_stream(&self) {
        // One addition, so that no moment shows neither.
        self.load.fetch_add(STREAM - 1, Ordering::SeqCst);
        self.tell_waiters();
    }

    /// Tells how an attempt ended: to the latency, to the ejection's evidence, to the figures.
    pub(crate) fn record(&self, outcome: Outcome, now: Duration) {
        match outcome {
            Outcome::Success { latency } => {
                self.metrics.success.inc();
                self.metrics.latency.record(latency);
                self.latency.success(latency, now);
                self.record_success(now);
            }
            Outcome::Failure { kind, latency } => {
                self.metrics.failure(kind).inc();
                self.latency.failure(latency, now);
                if let Some(upstream) = self.upstream.upgrade() {
                    upstream.failed(self, now);
                }
            }
        }
    }

    pub(crate) fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    pub(crate) fn ejection(&self) -> MutexGuard<'_, Ejection> {
        match self.standing.ejection.lock() {
            Ok(guard) => guard,
            // An ejection is changed in one step; a panic elsewhere leaves it whole.
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    pub(crate) fn set_accepting(&self, is_accepting: bool) {
        self.standing.is_accepting.store(is_accepting, Ordering::SeqCst);
    }

    pub(crate) fn set_drained(&self, is_out: bool) {
        self.standing.is_drained.store(is_out, Ordering::Relaxed);
    }

    pub(crate) fn set_health(&self, health: Health) {
        self.standing.health.store(health as u8, Ordering::Relaxed);
    }

    pub(crate) fn set_bounds(&self, bounds: Bounds) {
        let window_ns = u64::try_from(bounds.ejection_window.as_nanos()).unwrap_or(u64::MAX);
        self.limits.connections_max.store(bounds.connections_max, Ordering::Relaxed);
        self.limits.requests_max.store(bounds.requests_max, Ordering::Relaxed);
        self.limits.ejection_window_ns.store(window_ns, Ordering::Relaxed);
    }

    /// Resolves when `is_idle` holds of (requests, streams).
    pub(crate) async fn wait_until(&self, is_idle: fn(u32, u32) -> bool) {
        let _counted = Waiter::new(&self.waiters);
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            // Enlisted before looking: an end between the look and the wait is not missed.
            ended.as_mut().enable();
            if is_idle(self.in_flight(), self.streams()) {
                return;
            }
            ended.await;
        }
    }

    /// Sets the gauges to what holds now.
    pub(crate) fn observe(&self, now: Duration) {
        self.metrics.in_flight.set(i64::from(self.in_flight()));
        self.metrics.streams.set(i64::from(self.streams()));
        self.metrics.connections.set(i64::from(self.connections()));
        self.metrics.healthy.set(i64::from(self.health() != Health::Down));
        self.metrics.ejected.set(i64::from(self.ejection().is_ejected(now)));
        self.metrics.drained.set(i64::from(self.is_drained()));
    }

    fn record_success(&self, now: Duration) {
        let window_ns = self.limits.ejection_window_ns.load(Ordering::Relaxed);
        if window_ns > 0 {
            self.evidence.success(Duration::from_nanos(window_ns), now);
        }
    }

    fn subtract(&self, what: u64) {
        let before = self.load.fetch_sub(what, Ordering::SeqCst);
        debug_assert!(before >= what, "every end has its beginning");
        self.tell_waiters();
    }

    fn tell_waiters(&self) {
        if self.waiters.load(Ordering::SeqCst) > 0 {
            self.ended.notify_waiters();
        }
    }
}

/// Room for one connection to an endpoint; given back when dropped.
#[derive(Debug)]
pub struct ConnectionPermit(Arc<Endpoint>);

impl ConnectionPermit {
    /// The endpoint it leads to.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts who waits, so that requests need not wake anybody while nobody does.
struct Waiter<'a>(&'a AtomicU32);

impl<'a> Waiter<'a> {
    fn new(waiters: &'a AtomicU32) -> Self {
        waiters.fetch_add(1, Ordering::SeqCst);
        Self(waiters)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
