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

use terrace_instruments::{BLOCK_BYTES, Plate};
use terrace_policy::{Ejection, Evidence, ProbeEnd, Spread};
use tokio::sync::Notify;

use crate::id::EndpointId;
use crate::latency::Latency;
use crate::lease::Outcome;
use crate::metrics::EndpointMetrics;
use crate::padded::Padded;
use crate::slights::Slights;
use crate::upstream::Upstream;

/// The word of an endpoint's load holds three counts: requests, upgraded connections, and of the requests those that were
/// sent whole and whose response's head has not come.
const STREAM: u64 = 1 << COUNT_BITS;
const AWAITED: u64 = 1 << (2 * COUNT_BITS);
const COUNT_BITS: u32 = 21;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
/// Requests and upgraded connections at once, whatever is configured, so that no count runs over into the next: a million.
const BUSY_MAX: u32 = 1 << (COUNT_BITS - 1);

/// Where requests of a service can go. Shared; every method may run on any core.
#[derive(Debug)]
pub struct Endpoint {
    id: EndpointId,
    sign: Arc<Sign>,
    host: Option<Arc<str>>,
    upstream: Weak<Upstream>,
    limits: Limits,
    standing: Standing,
    work: Padded<Work>,
    connections: Padded<AtomicU32>,
    latency: Padded<Latency>,
    spread: Padded<Spread>,
    evidence: Padded<Evidence>,
    slights: Slights,
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

    /// Bytes that it takes, estimated from above.
    pub fn bytes(&self) -> usize {
        let shared = 2 * size_of::<usize>() + BLOCK_BYTES;
        size_of::<Self>() + shared + self.name.len() + shared + self.plate.bytes().len() + BLOCK_BYTES
    }
}

/// What the endpoint is at.
#[derive(Debug, Default)]
struct Work {
    load: AtomicU64,
    /// When it was asked first and for the second time since it last answered anything, in nanoseconds; 0 while it was not. An
    /// answer that takes long by nature is owed all the while, and proves nothing as long as whatever was asked later is
    /// answered.
    asked_ns: [AtomicU64; 2],
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
    /// Whether it is ejected, for those who only want to know.
    is_out: AtomicBool,
    /// When a probe may begin that risks nothing, in nanoseconds; a hint, so that picks take the lock only then.
    probe_ns: AtomicU64,
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
                is_out: AtomicBool::new(false),
                probe_ns: AtomicU64::new(NEVER),
            },
            work: Padded::default(),
            connections: Padded::default(),
            latency: Padded::default(),
            spread: Padded::default(),
            evidence: Padded::default(),
            slights: Slights::default(),
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
        (self.work.load.load(Ordering::SeqCst) & COUNT_MASK) as u32
    }

    /// Upgraded connections.
    pub fn streams(&self) -> u32 {
        (self.work.load.load(Ordering::SeqCst) >> COUNT_BITS & COUNT_MASK) as u32
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

    /// How long the last answer that was fine took to its head; none before the first.
    pub fn latency(&self) -> Option<Duration> {
        self.latency.measured()
    }

    /// Attempts that failed since the last that was fine, or since it was let in again.
    pub fn failures_in_row(&self) -> u32 {
        self.latency.failures_in_row()
    }

    /// Whether it is out for failing, for being slow or for being silent; requests that wait for it wait in vain, as far
    /// as anybody knows.
    pub fn is_out(&self) -> bool {
        self.standing.is_out.load(Ordering::Relaxed)
    }

    /// Requests that were sent whole and whose response's head has not come.
    pub(crate) fn awaited(&self) -> u32 {
        (self.work.load.load(Ordering::Relaxed) >> (2 * COUNT_BITS)) as u32
    }

    /// For how long two things that it was asked, or more, have been owed and nothing was answered; not at all, while it
    /// owes less. One alone may be a report that takes long.
    pub(crate) fn silent_for(&self, now: Duration) -> Duration {
        match self.stalled_for(now) {
            Duration::ZERO => Duration::ZERO,
            _ if self.awaited() < 2 => Duration::ZERO,
            _ => since(self.work.asked_ns[1].load(Ordering::Relaxed), now),
        }
    }

    /// For how long it has owed anything and answered nothing.
    pub(crate) fn stalled_for(&self, now: Duration) -> Duration {
        match self.awaited() {
            0 => Duration::ZERO,
            _ => since(self.work.asked_ns[0].load(Ordering::Acquire), now),
        }
    }

    /// Requests and streams together.
    pub(crate) fn busy(&self) -> u64 {
        busy(self.work.load.load(Ordering::Relaxed))
    }

    /// The same as a picker sees it: recent failures count as requests too.
    pub(crate) fn load(&self, now: Duration) -> u64 {
        self.busy() + self.slights.weight(now)
    }

    /// What a request is expected to take; at least as long as the endpoint has answered nothing.
    pub(crate) fn expected_latency_us(&self, now: Duration) -> f32 {
        let stalled_us = self.stalled_for(now).as_secs_f32() * 1e6;
        self.latency.estimate_us(now).max(stalled_us)
    }

    /// Counts a request in, unless the endpoint is at its bound or was withdrawn. One that is `whole` owes an answer at
    /// once.
    pub(crate) fn begin_request(&self, is_whole: bool, now: Duration) -> Result<(), Refusal> {
        let counts = if is_whole { 1 + AWAITED } else { 1 };
        let before = self.work.load.fetch_add(counts, Ordering::SeqCst);
        let refusal = if busy(before) >= u64::from(self.limits.requests_max.load(Ordering::Relaxed)) {
            Some(Refusal::Full)
        } else if !self.is_accepting() {
            Some(Refusal::Closed)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.subtract(counts);
            return Err(refusal);
        }
        if is_whole {
            self.asked(before, now);
        }
        Ok(())
    }

    /// A request that was begun is sent whole now: it owes an answer.
    pub(crate) fn request_is_whole(&self, now: Duration) {
        let before = self.work.load.fetch_add(AWAITED, Ordering::SeqCst);
        self.asked(before, now);
    }

    /// It was asked one thing more than `before`. What was asked of it and given up since is past when it owes nothing.
    #[inline]
    fn asked(&self, before: u64, now: Duration) {
        let [first, second] = &self.work.asked_ns;
        let owed_nothing = before >> (2 * COUNT_BITS) == 0;
        if owed_nothing || first.load(Ordering::Relaxed) == 0 {
            second.store(0, Ordering::Relaxed);
            // After the second one: who sees this sees nothing from before the last answer beside it.
            first.store(nanos(now).max(1), Ordering::Release);
        } else if second.load(Ordering::Relaxed) == 0 {
            second.store(nanos(now).max(1), Ordering::Relaxed);
        }
    }

    /// An answer is owed no longer: it came (`is_heard`), or nobody waits for it any more.
    pub(crate) fn request_is_answered(&self, is_heard: bool) {
        if is_heard {
            self.work.asked_ns[0].store(0, Ordering::Relaxed);
        }
        self.work.load.fetch_sub(AWAITED, Ordering::SeqCst);
    }

    /// An answer is owed no longer, and the request has ended with it.
    pub(crate) fn end_awaited_request(&self) {
        self.subtract(1 + AWAITED);
    }

    pub(crate) fn end_request(&self) {
        self.subtract(1);
    }

    pub(crate) fn end_stream(&self) {
        self.subtract(STREAM);
    }

    pub(crate) fn request_becomes_stream(&self) {
        // One addition, so that no moment shows neither.
        self.work.load.fetch_add(STREAM - 1, Ordering::SeqCst);
        self.tell_waiters();
    }

    /// Tells how an attempt ended: to the latency, to the ejection's evidence, to the figures.
    pub(crate) fn record(&self, outcome: Outcome, now: Duration) {
        match outcome {
            Outcome::Success { latency } => {
                self.metrics.success.inc();
                self.metrics.latency.record(latency);
                self.latency.success(latency, now);
                self.spread.record(latency);
                self.slights.success(now);
                self.record_success(now);
            }
            Outcome::Failure { kind, latency } => {
                self.metrics.failure(kind).inc();
                self.latency.failure(latency, now);
                self.slights.failure(now);
                if let Some(upstream) = self.upstream.upgrade() {
                    upstream.failed(self, kind, now);
                }
            }
        }
    }

    pub(crate) fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    pub(crate) fn spread(&self) -> &Spread {
        &self.spread
    }

    /// Looks at the ejection; to change it, [`Endpoint::change_ejection`].
    pub(crate) fn ejection(&self) -> Ejection {
        *self.locked_ejection()
    }

    /// Changes the ejection, and what is known of it without the lock.
    pub(crate) fn change_ejection<T>(&self, change: impl FnOnce(&mut Ejection) -> T) -> T {
        let mut ejection = self.locked_ejection();
        let changed = change(&mut ejection);
        self.standing.is_out.store(ejection.is_ejected(), Ordering::Relaxed);
        self.standing.probe_ns.store(ejection.probe_at().map_or(NEVER, nanos), Ordering::Relaxed);
        changed
    }

    /// Readmits it at once, with nothing held against it.
    pub(crate) fn pardon(&self) {
        self.change_ejection(Ejection::pardon);
        self.forgive();
    }

    /// Holds nothing against it any more. What it took while it was ill says nothing of what it takes now.
    pub(crate) fn forgive(&self) {
        self.evidence.clear();
        self.slights.clear();
        self.latency.clear();
    }

    /// Begins a probe of an endpoint that is out, if one is due. Costs one look while none is.
    pub(crate) fn try_begin_probe(&self, is_safe: bool, now: Duration) -> bool {
        let is_due = nanos(now) >= self.standing.probe_ns.load(Ordering::Relaxed);
        is_due && self.change_ejection(|ejection| ejection.try_begin_probe(now, is_safe))
    }

    /// The probe has ended.
    pub(crate) fn end_probe(&self, end: ProbeEnd, now: Duration) {
        if let Some(upstream) = self.upstream.upgrade() {
            upstream.end_probe(self, end, now);
        }
    }

    /// Whether an answer that took so long is that of an endpoint that is well.
    pub(crate) fn is_fast_enough(&self, latency: Duration) -> bool {
        self.upstream.upgrade().is_none_or(|upstream| latency <= upstream.slow_limit())
    }

    fn locked_ejection(&self) -> MutexGuard<'_, Ejection> {
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
        self.limits.requests_max.store(bounds.requests_max.min(BUSY_MAX), Ordering::Relaxed);
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
    pub(crate) fn observe(&self) {
        self.metrics.in_flight.set(i64::from(self.in_flight()));
        self.metrics.streams.set(i64::from(self.streams()));
        self.metrics.connections.set(i64::from(self.connections()));
        self.metrics.healthy.set(i64::from(self.health() != Health::Down));
        self.metrics.ejected.set(i64::from(self.is_out()));
        self.metrics.drained.set(i64::from(self.is_drained()));
    }

    fn record_success(&self, now: Duration) {
        let window_ns = self.limits.ejection_window_ns.load(Ordering::Relaxed);
        if window_ns > 0 {
            self.evidence.success(Duration::from_nanos(window_ns), now);
        }
    }

    fn subtract(&self, what: u64) {
        let before = self.work.load.fetch_sub(what, Ordering::SeqCst);
        debug_assert!(before >= what, "every end has its beginning");
        self.tell_waiters();
    }

    fn tell_waiters(&self) {
        if self.waiters.load(Ordering::SeqCst) > 0 {
            self.ended.notify_waiters();
        }
    }
}

const NEVER: u64 = u64::MAX;

/// Requests and streams in a word of load.
fn busy(load: u64) -> u64 {
    (load & COUNT_MASK) + (load >> COUNT_BITS & COUNT_MASK)
}

/// How long ago that was; no time, when it never was.
fn since(then_ns: u64, now: Duration) -> Duration {
    match then_ns {
        0 => Duration::ZERO,
        then_ns => now.saturating_sub(Duration::from_nanos(then_ns)),
    }
}

fn nanos(moment: Duration) -> u64 {
    u64::try_from(moment.as_nanos()).unwrap_or(NEVER)
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
