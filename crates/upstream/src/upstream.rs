//! One service's upstream: takes publications, reloads and verdicts, and hands out leases.
//!
//! It lives as long as its service, through every reload. Picks read an immutable picture without a lock;
//! everything that changes the picture goes through the roster, one at a time. A pick never waits for that
//! lock: where the time alone has made the picture wrong (an ejection is over, a newcomer's share grows) the
//! first core to notice makes a new one, and the others go on with the old.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use terrace_instruments::{Event, Level, Log, Meter};
use terrace_policy::{EjectionCause, EjectionLaw, ProbeEnd, Share, SilenceLaw, normal_of};
use terrace_runtime::clock;
use terrace_runtime::drain::Drain;
use tokio::sync::watch;

use crate::config::{Balance, Config};
use crate::endpoint::{Endpoint, Health, Identity};
use crate::error::{BuildError, NoEndpoint};
use crate::id::EndpointId;
use crate::lease::{FailureKind, Lease};
use crate::live::{Ask, Live, Miss};
use crate::metrics::{DiscoveryMetrics, EndpointMetrics, ServiceMetrics};
use crate::padded::Padded;
use crate::pulse::{Beat, Pulse, SharedUsual, Usual};
use crate::report::EndpointReport;
use crate::roster::{Member, MemberState, Roster, Seat, bounds};
use crate::tls::Tls;

/// Endpoints of one service; further ones are not used, and an event says so.
const ENDPOINTS_MAX: usize = 4_096;
/// Pictures looked at by one pick, should endpoints be withdrawn between them.
const PICTURES_MAX: usize = 4;
/// From one look at gauges and readmissions to the next, where no request looks.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);
/// From one look at what answers took and who owes any to the next, while requests pass; longer for many endpoints.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Endpoints for which that interval is twice as long.
const LOOK_ENDPOINTS: u32 = 256;
const NEVER: u64 = u64::MAX;

/// A service's configuration, with what was made of it.
#[derive(Debug)]
pub struct Settings {
    /// As given.
    pub config: Config,
    /// TLS towards the endpoints, if they speak it.
    pub tls: Option<Tls>,
}

/// The endpoints of one service.
#[derive(Debug)]
pub struct Upstream {
    service: Arc<str>,
    me: Weak<Self>,
    settings: ArcSwap<Settings>,
    live: ArcSwap<Live>,
    /// When the picture will be wrong by the time alone, or endpoints are to be looked at again, in nanoseconds.
    due_ns: AtomicU64,
    /// An endpoint's standing changed while somebody else held the lock.
    is_outdated: AtomicBool,
    usual: SharedUsual,
    /// What takes longer is slow, in nanoseconds; [`NEVER`] while there is no measure.
    slow_ns: AtomicU64,
    /// Who answers nothing for longer is silent, in nanoseconds.
    silence_ns: AtomicU64,
    /// The share of failures that was normal when it was last looked at, in millionths.
    normal_failing_ppm: AtomicU32,
    beats: Padded<AtomicU64>,
    beat: Mutex<Beat>,
    turn: Padded<AtomicU64>,
    roster: Mutex<Roster>,
    changes: watch::Sender<u64>,
    metrics: ServiceMetrics,
    meter: Meter,
    log: Log,
}

impl Upstream {
    /// An upstream without endpoints; [`Upstream::publish`] brings them. Fails when TLS was asked for and its roots
    /// or name are unusable.
    pub fn build(config: Config, meter: &Meter, log: &Log) -> Result<Arc<Self>, BuildError> {
        let service = Arc::clone(&config.service);
        let metrics = ServiceMetrics::new(meter, &service);
        let live = Live::empty(config.balance);
        let settings = Settings::build(config)?;
        Ok(Arc::new_cyclic(|me| Self {
            service,
            me: Weak::clone(me),
            settings: ArcSwap::from_pointee(settings),
            live: ArcSwap::from_pointee(live),
            due_ns: AtomicU64::new(NEVER),
            is_outdated: AtomicBool::new(false),
            usual: SharedUsual::default(),
            slow_ns: AtomicU64::new(NEVER),
            silence_ns: AtomicU64::new(nanos(SilenceLaw::default().limit(None))),
            normal_failing_ppm: AtomicU32::new(0),
            beats: Padded::default(),
            beat: Mutex::default(),
            turn: Padded::default(),
            roster: Mutex::default(),
            changes: watch::Sender::new(0),
            metrics,
            meter: meter.clone(),
            log: log.clone(),
        }))
    }

    /// The service's name.
    pub fn service(&self) -> &Arc<str> {
        &self.service
    }

    /// The configuration in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Takes over another configuration of the same service. Endpoints keep what is known of them: an ejected one
    /// stays out for as long as it was told, unless ejection is switched off. Ids of endpoints that exist stay.
    /// On an error nothing has changed.
    pub fn apply(&self, config: Config, now: Duration) -> Result<(), BuildError> {
        let settings = self.settings.load().followed_by(config)?;
        let mut roster = self.roster();
        for endpoint in roster.everyone() {
            endpoint.set_bounds(bounds(&settings.config));
            if settings.config.ejection.is_none() {
                endpoint.pardon();
            }
            if settings.config.health.is_none() && endpoint.health() == Health::Down {
                endpoint.set_health(Health::Unknown);
            }
        }
        self.settings.store(Arc::new(settings));
        self.refold(&mut roster, now);
        Ok(())
    }

    /// Replaces the set of endpoints. Those of the same name and address keep what is known of them; those that are
    /// gone or closed get no new request from here on, while requests in flight there go on.
    pub fn publish(&self, members: &[Member], now: Duration) {
        let mut guard = self.roster();
        let roster = &mut *guard;
        let mut seated: HashMap<Key, Seat> = roster.seats.drain(..).map(|seat| (key(&seat), seat)).collect();
        let (before, mut added) = (seated.len(), 0_usize);
        for member in self.distinct(members) {
            let seat = match seated.remove(&(Arc::clone(&member.name), member.address)) {
                Some(seat) => seat,
                None => {
                    added += 1;
                    self.new_seat(roster, member)
                }
            };
            roster.seats.push(seat.updated(member, now));
        }
        let gone: Vec<Seat> = seated.into_values().collect();
        roster.retire(&gone);
        self.tell_change(added, before + added - roster.seats.len(), roster.seats.len());
        self.refold(roster, now);
        roster.close_withdrawn();
    }

    /// Takes the endpoint of that name out of rotation, or lets it in again; says whether there is one. What is in flight
    /// there goes on. It holds for as long as the endpoint exists: an instance that is replaced starts in rotation.
    pub fn set_drained(&self, name: &str, is_out: bool, now: Duration) -> bool {
        let mut roster = self.roster();
        let is_it = |seat: &&mut Seat| &**seat.endpoint.name() == name;
        let mut is_known = false;
        for seat in roster.seats.iter_mut().filter(is_it) {
            is_known = true;
            if seat.endpoint.is_drained() == is_out {
                continue;
            }
            seat.endpoint.set_drained(is_out);
            if !is_out {
                // Back after a while: its share grows as a newcomer's, and whoever lets it in takes it to be well.
                seat.joined_at = now;
                seat.endpoint.pardon();
                seat.pulse.forget(now);
            }
            if seat.is_open() {
                // Before the picture that offers it; who is drained is closed after the picture that does not.
                seat.endpoint.set_accepting(true);
            }
            let what = if is_out { "upstream.endpoint.drained" } else { "upstream.endpoint.undrained" };
            self.emit(Level::Info, what, |event| event.instance(name));
        }
        self.refold(&mut roster, now);
        roster.close_withdrawn();
        is_known
    }

    /// Picks an endpoint and counts a request in there. Reads no lock and waits for nobody.
    ///
    /// # Errors
    /// Says why there is no endpoint to be had; nothing was sent then.
    pub fn pick(
        &self,
        ask: &Ask<'_>,
        now: Duration,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Lease, NoEndpoint> {
        self.attend(now);
        for _ in 0..PICTURES_MAX {
            match self.live.load().pick(ask, &self.turn, now, random) {
                Ok(lease) => return Ok(lease),
                Err(Miss::Nobody(why)) => return Err(why),
                Err(Miss::Outdated) => {}
            }
        }
        Err(NoEndpoint::NoneReady)
    }

    /// Whether a request could be sent somewhere now, bounds aside; for readiness.
    pub fn is_available(&self) -> bool {
        self.live.load().nobody.is_none()
    }

    /// Whether so few endpoints are healthy that all ready ones are used.
    pub fn is_panicking(&self) -> bool {
        self.live.load().is_panicking
    }

    /// Resolves when no request is in flight at the endpoints that have this name now, published or withdrawn.
    /// Withdraw or close the endpoint first, or new requests may keep it busy.
    pub fn wait_idle(&self, name: &str) -> impl Future<Output = ()> + Send + use<> {
        wait_all(self.named(name), |requests, _| requests == 0)
    }

    /// Resolves when the endpoints of this name have neither a request in flight nor an upgraded connection.
    pub fn wait_streams_idle(&self, name: &str) -> impl Future<Output = ()> + Send + use<> {
        wait_all(self.named(name), |requests, streams| requests == 0 && streams == 0)
    }

    /// All endpoints as they stand: published ones in their order, then withdrawn ones that are still busy.
    pub fn report(&self, now: Duration) -> Vec<EndpointReport> {
        let live = self.live.load();
        let roster = self.roster();
        let published =
            roster.seats.iter().map(|seat| EndpointReport::published(seat, &live.candidates, now));
        let retired = roster.retired.iter().filter_map(Weak::upgrade).filter(|endpoint| endpoint.busy() > 0);
        published.chain(retired.map(|endpoint| EndpointReport::withdrawn(&endpoint, now))).collect()
    }

    /// Counts a retry that the budget allowed (or refused).
    pub fn count_retry(&self, is_allowed: bool) {
        if is_allowed { self.metrics.retries_begun.inc() } else { self.metrics.retries_refused.inc() }
    }

    /// Brings the picture and the gauges up to the time; for a service that no request passes through.
    pub fn maintain(&self, now: Duration) {
        self.attend(now);
        let mut roster = self.roster();
        roster.retired.retain(|endpoint| endpoint.strong_count() > 0);
        for endpoint in roster.everyone() {
            endpoint.observe();
        }
    }

    /// Changes whenever endpoints or settings may have changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The published endpoints that take requests.
    pub(crate) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let roster = self.roster();
        let open = roster.seats.iter().filter(|seat| seat.takes_requests());
        open.map(|seat| Arc::clone(&seat.endpoint)).collect()
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    pub(crate) fn discovery_metrics(&self) -> DiscoveryMetrics {
        DiscoveryMetrics::new(&self.meter, &self.service)
    }

    /// A check's verdict on an endpoint; `detail` says what it saw.
    pub(crate) fn set_health(&self, endpoint: &Endpoint, health: Health, detail: &str, now: Duration) {
        let mut roster = self.roster();
        let before = endpoint.health();
        let Some(seat) = roster.seat_mut(endpoint) else { return };
        if before == health {
            return;
        }
        endpoint.set_health(health);
        if before == Health::Down {
            // Back after an outage: its share grows as a newcomer's.
            seat.joined_at = now;
        }
        self.emit(
            if health == Health::Down { Level::Warn } else { Level::Info },
            "upstream.health.changed",
            |event| {
                event.instance(&**endpoint.name()).field("health", health.as_str()).field("detail", detail)
            },
        );
        self.refold(&mut roster, now);
    }

    /// An attempt at an endpoint failed: one failure more, perhaps one too many.
    pub(crate) fn failed(&self, endpoint: &Endpoint, kind: FailureKind, now: Duration) {
        let settings = self.settings.load();
        let Some(law) = &settings.config.ejection else { return };
        let Some(cause) = endpoint.evidence().failure(law, now) else { return };
        // That nobody can be connected to is no request's fault, however the neighbours fare.
        let is_its_own = kind == FailureKind::Connect;
        let normal = Share::from_ppm(self.normal_failing_ppm.load(Ordering::Relaxed));
        // Where everything fails it is not found out anew with each failure.
        if is_its_own || law.is_out_of_line(cause, normal) {
            self.eject(endpoint, law, cause, is_its_own, now);
        }
    }

    /// Takes an endpoint out, if it is out of line and the set can spare it. When the lock is taken the evidence stays,
    /// and the next failure tries again: a request does not wait.
    fn eject(
        &self,
        endpoint: &Endpoint,
        law: &EjectionLaw,
        cause: EjectionCause,
        is_its_own: bool,
        now: Duration,
    ) {
        let Some(mut roster) = self.try_roster() else { return };
        if endpoint.is_out() || !(is_its_own || law.is_out_of_line(cause, roster.normal_failing(law, now))) {
            return;
        }
        endpoint.evidence().clear();
        let is_published = roster.seat_mut(endpoint).is_some_and(|seat| seat.takes_requests());
        if is_published && self.take_out(&roster, endpoint, law, cause, now) {
            self.refold(&mut roster, now);
        }
    }

    /// Ejects an endpoint that is in, unless too many are out already. The picture is to be made anew then.
    fn take_out(
        &self,
        roster: &Roster,
        endpoint: &Endpoint,
        law: &EjectionLaw,
        cause: EjectionCause,
        now: Duration,
    ) -> bool {
        if !roster.may_eject(law) {
            return false;
        }
        let ends_at = endpoint.change_ejection(|ejection| ejection.eject(law, now));
        self.metrics.ejections.inc();
        self.emit(Level::Warn, "upstream.endpoint.ejected", |event| {
            let event = event.instance(&**endpoint.name()).field("for", ends_at.saturating_sub(now));
            with_cause(event, cause)
        });
        true
    }

    /// A probe of an endpoint that is out has ended; perhaps it lets the endpoint in again.
    pub(crate) fn end_probe(&self, endpoint: &Endpoint, end: ProbeEnd, now: Duration) {
        let law = self.settings.load().config.ejection.unwrap_or_default();
        if !endpoint.change_ejection(|ejection| ejection.end_probe(&law, now, end)) {
            return;
        }
        endpoint.forgive();
        self.emit(Level::Info, "upstream.endpoint.readmitted", |event| event.instance(&**endpoint.name()));
        match self.try_roster() {
            Some(mut roster) => {
                if let Some(seat) = roster.seat_mut(endpoint) {
                    // What its answers took while it was ill is of no more use.
                    seat.pulse.forget(now);
                }
                self.refold(&mut roster, now);
            }
            // Whoever has the lock may not have seen it: the picture is made anew with the next look.
            None => self.is_outdated.store(true, Ordering::Relaxed),
        }
    }

    /// What answers usually take.
    pub fn usual(&self) -> Usual {
        self.usual.load()
    }

    /// Beats so far: when it has grown, [`Upstream::beat`] tells of another.
    #[inline]
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// The last beat; none before the first.
    pub fn beat(&self) -> Beat {
        *self.beat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What takes longer is a slow endpoint's answer; without a measure nothing is.
    pub fn slow_limit(&self) -> Duration {
        Duration::from_nanos(self.slow_ns.load(Ordering::Relaxed))
    }

    /// After how long without any answer an endpoint that owes some is taken for silent.
    #[inline]
    pub fn silence_limit(&self) -> Duration {
        Duration::from_nanos(self.silence_ns.load(Ordering::Relaxed))
    }

    /// For how long whoever waits for an answer need not look after it: until then the endpoint is not silent, and a probe
    /// not overdue.
    #[inline]
    pub fn patience(&self, is_probe: bool) -> Duration {
        let silence = self.silence_limit();
        if is_probe { silence.min(self.slow_limit()) } else { silence }
    }

    /// Looks at the configuration in force without taking it along.
    #[inline]
    pub fn with_settings<T>(&self, look: impl FnOnce(&Settings) -> T) -> T {
        look(&self.settings.load())
    }

    fn silence_limit_by(&self, law: &SilenceLaw) -> Duration {
        let usual = self.usual();
        match usual.is_known {
            true => law.limit(usual.p99),
            // A few answers may all have been quick ones.
            false => law.limit(None).max(law.limit(usual.p99)),
        }
    }

    /// Looks after what the time alone changes: shares that grow, endpoints that fell silent, what is usual. To be called
    /// by whoever passes or waits; costs one look while nothing is due.
    #[inline]
    pub fn attend(&self, now: Duration) {
        if nanos(now) >= self.due_ns.load(Ordering::Relaxed) {
            self.attend_now(now);
        }
    }

    #[cold]
    fn attend_now(&self, now: Duration) {
        let Some(mut roster) = self.try_roster() else { return };
        let someone_is_out = self.look(&mut roster, now);
        let is_outdated = self.is_outdated.swap(false, Ordering::Relaxed);
        if someone_is_out || is_outdated || roster.refold_at.is_some_and(|due_at| due_at <= now) {
            self.refold(&mut roster, now);
        } else {
            self.set_due(&roster, now);
        }
    }

    fn set_due(&self, roster: &Roster, now: Duration) {
        let look_at = now + LOOK_INTERVAL * (1 + roster.seats.len() as u32 / LOOK_ENDPOINTS);
        let due_at = roster.refold_at.map_or(look_at, |refold_at| refold_at.min(look_at));
        self.due_ns.store(nanos(due_at), Ordering::Relaxed);
    }

    /// Takes in what endpoints answered since the last time, and ejects who is out of line with its neighbours; says
    /// whether anybody was.
    fn look(&self, roster: &mut Roster, now: Duration) -> bool {
        let Roster { seats, pulse, .. } = &mut *roster;
        for seat in seats {
            let fresh = seat.pulse.take(seat.endpoint.spread(), now);
            if !seat.endpoint.is_out() {
                pulse.add(&fresh);
            }
        }
        self.usual.store(pulse.usual(now));
        if let Some(beat) = pulse.beat(now) {
            *self.beat.lock().unwrap_or_else(PoisonError::into_inner) = beat;
            self.beats.store(beat.number, Ordering::Relaxed);
        }
        let settings = self.settings.load();
        let Some(law) = &settings.config.ejection else { return false };
        let silence = law.silence.unwrap_or_default();
        self.silence_ns.store(nanos(self.silence_limit_by(&silence)), Ordering::Relaxed);
        self.normal_failing_ppm.store(roster.normal_failing(law, now).ppm(), Ordering::Relaxed);
        let silent = self.eject_silent(roster, law, now);
        let slow = self.eject_slow(roster, law, settings.config.balance, now);
        silent || slow
    }

    /// When more than half of a set owes answers and gives none, it is what they all wait for, or a few requests that take
    /// long, and taking some out helps nobody.
    fn eject_silent(&self, roster: &Roster, law: &EjectionLaw, now: Duration) -> bool {
        let Some(silence) = &law.silence else { return false };
        let limit = self.silence_limit_by(silence);
        let open = || roster.seats.iter().filter(|seat| seat.is_open());
        let is_silent = |seat: &&Seat| seat.endpoint.silent_for(now) > limit;
        let stalled = open().filter(|seat| seat.endpoint.stalled_for(now) > limit).count();
        if stalled == 0 || 2 * stalled > open().count() {
            return false;
        }
        let mut any = false;
        for seat in open().filter(is_silent).filter(|seat| !seat.endpoint.is_out()) {
            let cause = EjectionCause::Silent(seat.endpoint.silent_for(now));
            any |= self.take_out(roster, &seat.endpoint, law, cause, now);
        }
        any
    }

    fn eject_slow(&self, roster: &Roster, law: &EjectionLaw, balance: Balance, now: Duration) -> bool {
        let Some(slow) = &law.slow else { return false };
        let is_in = |seat: &&Seat| seat.is_open() && !seat.endpoint.is_out();
        let neighbours = roster.seats.iter().filter(is_in);
        let mut medians: Vec<Duration> = neighbours.filter_map(|seat| seat.pulse.median(now)).collect();
        // By themselves endpoints have no measure; and where a hash decides, what is asked of them differs.
        let has_measure = medians.len() > 1 && balance != Balance::Hash;
        let normal = if has_measure { normal_of(&mut medians) } else { None };
        let Some(limit) = slow.limit(normal) else { return false };
        self.slow_ns.store(nanos(limit), Ordering::Relaxed);
        let mut any = false;
        for seat in roster.seats.iter().filter(is_in) {
            if let Some(cause) = slow.cause(seat.pulse.window(), limit) {
                any |= self.take_out(roster, &seat.endpoint, law, cause, now);
            }
        }
        any
    }

    fn refold(&self, roster: &mut Roster, now: Duration) {
        let folded = roster.fold(&self.settings.load().config, now);
        self.metrics.available.set(i64::try_from(folded.live.candidates.len()).unwrap_or(i64::MAX));
        self.metrics.panic.set(i64::from(folded.live.is_panicking));
        roster.refold_at = folded.due_at;
        self.set_due(roster, now);
        let is_panicking = folded.live.is_panicking;
        let before = self.live.swap(Arc::new(folded.live));
        match (before.is_panicking, is_panicking) {
            (false, true) => self.emit(Level::Warn, "upstream.panic.began", |event| {
                event.message("too few endpoints are healthy: all ready ones are used")
            }),
            (true, false) => self.emit(Level::Info, "upstream.panic.ended", |event| event),
            (false, false) | (true, true) => {}
        }
        self.changes.send_modify(|change| *change = change.wrapping_add(1));
    }

    fn new_seat(&self, roster: &Roster, member: &Member) -> Seat {
        let endpoint = match roster.find_retired(&member.name, member.address) {
            Some(endpoint) => endpoint,
            None => self.new_endpoint(member),
        };
        endpoint.set_bounds(bounds(&self.settings.load().config));
        let (state, joined_at) = (MemberState::Closed, Duration::ZERO);
        Seat { endpoint, weight: 0, state, joined_at, pulse: Pulse::default() }
    }

    fn new_endpoint(&self, member: &Member) -> Arc<Endpoint> {
        let key = self.settings.load().config.identity_key;
        let identity = Identity {
            id: EndpointId::new(&key, &self.service, &member.name),
            name: Arc::clone(&member.name),
            host: member.host.clone(),
            address: member.address,
        };
        let metrics = EndpointMetrics::new(&self.meter, &self.metrics, &self.service, &member.name);
        Arc::new(Endpoint::new(identity, metrics, Weak::clone(&self.me)))
    }

    /// Each endpoint once, and not more than the bound.
    fn distinct<'a>(&self, members: &'a [Member]) -> Vec<&'a Member> {
        let mut seen = HashSet::with_capacity(members.len());
        let mut distinct: Vec<&Member> =
            members.iter().filter(|member| seen.insert((&member.name, member.address))).collect();
        if distinct.len() > ENDPOINTS_MAX {
            self.emit(Level::Warn, "upstream.endpoints.too_many", |event| {
                event.field("published", distinct.len()).field("used", ENDPOINTS_MAX)
            });
            distinct.truncate(ENDPOINTS_MAX);
        }
        distinct
    }

    fn tell_change(&self, added: usize, removed: usize, endpoints: usize) {
        if added + removed > 0 {
            self.emit(Level::Info, "upstream.endpoints.changed", |event| {
                event.field("added", added).field("removed", removed).field("endpoints", endpoints)
            });
        }
    }

    fn named(&self, name: &str) -> Vec<Arc<Endpoint>> {
        self.roster().everyone().filter(|endpoint| &**endpoint.name() == name).collect()
    }

    fn emit(&self, level: Level, name: &'static str, fill: impl FnOnce(Event) -> Event) {
        self.log.emit(fill(Event::new(level, name).service(&*self.service)));
    }

    fn roster(&self) -> MutexGuard<'_, Roster> {
        match self.roster.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    fn try_roster(&self) -> Option<MutexGuard<'_, Roster>> {
        match self.roster.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl Settings {
    fn build(config: Config) -> Result<Self, BuildError> {
        let tls = match &config.tls {
            Some(tls) => Some(Tls::build(&config, tls)?),
            None => None,
        };
        Ok(Self { config, tls })
    }

    /// The settings of another configuration. Where TLS stays as it is, what it remembers stays too, so that sessions
    /// resume.
    fn followed_by(&self, config: Config) -> Result<Self, BuildError> {
        let is_same = config.tls == self.config.tls && config.protocol == self.config.protocol;
        match is_same {
            true => Ok(Self { config, tls: self.tls.clone() }),
            false => Self::build(config),
        }
    }
}

/// Keeps gauges, readmissions and slow starts up to the time until asked to drain; on the control plane.
pub async fn maintain(upstream: Arc<Upstream>, mut drain: Drain) {
    loop {
        upstream.maintain(clock::now());
        tokio::select! {
            () = drain.requested() => return,
            () = tokio::time::sleep(MAINTENANCE_INTERVAL) => {}
        }
    }
}

type Key = (Arc<str>, SocketAddr);

fn key(seat: &Seat) -> Key {
    (Arc::clone(seat.endpoint.name()), seat.endpoint.address())
}

async fn wait_all(endpoints: Vec<Arc<Endpoint>>, is_idle: fn(u32, u32) -> bool) {
    for endpoint in endpoints {
        endpoint.wait_until(is_idle).await;
    }
}

fn with_cause(event: Event, cause: EjectionCause) -> Event {
    match cause {
        EjectionCause::Consecutive(failures) => {
            event.field("cause", "consecutive").field("failures", failures)
        }
        EjectionCause::Share { failures, requests } => {
            event.field("cause", "share").field("failures", failures).field("requests", requests)
        }
        EjectionCause::Slow { slow, answers, limit } => {
            event.field("cause", "slow").field("slow", slow).field("answers", answers).field("limit", limit)
        }
        EjectionCause::Silent(silent) => event.field("cause", "silent").field("silent", silent),
    }
}

fn nanos(moment: Duration) -> u64 {
    u64::try_from(moment.as_nanos()).unwrap_or(NEVER)
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
