//! Faults on purpose: delays and refusals for a share of the requests, to see what they do to the rest. Each is a lease
//! that ends by itself: one in the file at a time of day, one that an operator began after a while. Nobody has to remember
//! to take it out again.
//!
//! A fault comes after all that may refuse a request and before anything that knows how services are: what is broken on
//! purpose counts as a failure of the route, so that alerts ring, and never against a service, its endpoints or its breaker.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use terrace_instruments::{Counter, Event, Level, Log, Meter, Timestamp};
use terrace_policy::Share;
use terrace_route::HeaderMatch;
use terrace_runtime::clock;

use crate::chain::{CLIENT_GONE, Ending, Request, Way};
use crate::journal::Journal;
use crate::metrics::FaultMetrics;
use crate::note::Note;
use crate::problem::{Fault as Whose, Problem};

/// The longest delay: longer than any client waits.
pub const DELAY_MAX: Duration = Duration::from_secs(300);
/// The longest lease of a fault that an operator began. What shall be broken for longer belongs in the file.
pub const LEASE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Leases at once, over all routes.
pub const LEASES_MAX: usize = 64;

/// What goes wrong on purpose, and for whom.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    delay: Option<Duration>,
    abort: Option<u16>,
    share: Share,
    headers: Box<[(String, HeaderMatch)]>,
}

/// A fault that cannot be, or cannot begin now. The caller's fault but for [`FaultError::TooMany`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// Neither delay nor abort.
    #[error("a fault delays requests or aborts them; give `delay` or `abort`")]
    Nothing,
    /// Longer than [`DELAY_MAX`].
    #[error("a fault delays by at most {} s", DELAY_MAX.as_secs())]
    Delay,
    /// No status of an error.
    #[error("a fault aborts with a status from 400 to 599, not {0}")]
    Abort(u16),
    /// A share of nothing.
    #[error("a fault for no share of the requests is none")]
    NoShare,
    /// No end, or one later than [`LEASE_MAX`].
    #[error("a fault lasts for at most {} h, and it ends by itself", LEASE_MAX.as_secs() / 3600)]
    Lease,
    /// No such route.
    #[error("there is no route {0}")]
    NoRoute(String),
    /// [`LEASES_MAX`] are under way.
    #[error("{LEASES_MAX} faults are under way already; end one first")]
    TooMany,
}

impl Fault {
    /// A fault for that share of the requests that carry these headers (names in any case). With both, requests are
    /// delayed and then aborted.
    ///
    /// # Errors
    /// [`FaultError`] for what is no fault, or an unbounded one.
    pub fn new(
        delay: Option<Duration>,
        abort: Option<u16>,
        share: Share,
        headers: Vec<(String, HeaderMatch)>,
    ) -> Result<Self, FaultError> {
        match (delay, abort) {
            (None, None) => return Err(FaultError::Nothing),
            (Some(delay), _) if delay > DELAY_MAX => return Err(FaultError::Delay),
            (_, Some(status)) if !(400..=599).contains(&status) => return Err(FaultError::Abort(status)),
            _ => {}
        }
        if share == Share::ZERO {
            return Err(FaultError::NoShare);
        }
        let lower = |(name, wanted): (String, HeaderMatch)| (name.to_ascii_lowercase(), wanted);
        Ok(Self { delay, abort, share, headers: headers.into_iter().map(lower).collect() })
    }

    /// How long requests wait.
    #[must_use]
    pub fn delay(&self) -> Option<Duration> {
        self.delay
    }

    /// The status that they are answered with.
    #[must_use]
    pub fn abort(&self) -> Option<u16> {
        self.abort
    }

    /// What requests must carry, by names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &HeaderMatch)> {
        self.headers.iter().map(|(name, wanted)| (name.as_str(), wanted))
    }

    /// For how many of the requests.
    #[must_use]
    pub fn share(&self) -> Share {
        self.share
    }

    fn falls_on(&self, request: &Request<'_, '_>) -> bool {
        let fields = &request.exchange.head.fields;
        self.headers.iter().all(|(name, wanted)| wanted.admits(fields.named(name.as_bytes())))
            && draw(self.share, terrace_runtime::random::u64())
    }
}

/// Whether a number evenly spread over all there are falls in a share.
pub(crate) fn draw(share: Share, random: u64) -> bool {
    share == Share::ALL || random < share.of(u64::MAX)
}

/// The faults that the file has for a route, each until a time of day.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults(pub Vec<(Fault, SystemTime)>);

/// A fault that is under way, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultReport {
    /// What ends it; nothing for one of the file, which the file ends.
    pub id: Option<u64>,
    /// The route.
    pub route: String,
    /// What goes wrong.
    pub fault: Fault,
    /// When it ends by itself.
    pub until: SystemTime,
}

/// The faults that operators began. They outlive reloads, but neither their lease nor their route. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FaultBoard(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    log: Log,
    meter: Meter,
    /// Whether any lease is under way, so that a look each second costs nothing while none is.
    is_any: AtomicBool,
    next_id: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    slots: BTreeMap<String, Arc<Slot>>,
    /// For the list: what the file in force has.
    of_file: Vec<(String, Fault, SystemTime)>,
}

/// One route's faults of operators: a request without any looks at one flag.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    is_set: AtomicBool,
    leases: ArcSwap<Vec<Lease>>,
}

#[derive(Debug, Clone)]
struct Lease {
    id: u64,
    fault: Fault,
    metrics: FaultMetrics,
    /// By the clock that nobody sets.
    ends_at: Duration,
    until: SystemTime,
}

impl Slot {
    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Relaxed)
    }

    /// The first under way that fits; one that is over falls on nobody, whether it was taken out yet or not.
    fn find(&self, now: Duration, fits: impl Fn(&Fault) -> bool) -> Option<Lease> {
        let leases = self.leases.load();
        leases.iter().find(|lease| lease.ends_at > now && fits(&lease.fault)).cloned()
    }

    fn store(&self, leases: Vec<Lease>) {
        self.is_set.store(!leases.is_empty(), Ordering::Relaxed);
        self.leases.store(Arc::new(leases));
    }
}

impl FaultBoard {
    pub(crate) fn new(log: Log, meter: Meter) -> Self {
        let (is_any, next_id) = (AtomicBool::new(false), AtomicU64::new(1));
        Self(Arc::new(Shared { log, meter, is_any, next_id, state: Mutex::default() }))
    }

    /// Takes over the routes of a configuration: the slots of those that are gone end with their leases.
    pub(crate) fn routes<'a>(
        &self,
        routes: impl Iterator<Item = (&'a str, Option<&'a Faults>)>,
    ) -> Vec<Arc<Slot>> {
        let mut state = self.state();
        let before = std::mem::take(&mut *state);
        let mut slots = Vec::new();
        for (name, faults) in routes {
            let slot = before.slots.get(name).map_or_else(Arc::default, Arc::clone);
            state.slots.insert(name.to_owned(), Arc::clone(&slot));
            slots.push(slot);
            let listed = faults.iter().flat_map(|faults| &faults.0);
            state.of_file.extend(listed.map(|(fault, until)| (name.to_owned(), fault.clone(), *until)));
        }
        slots
    }

    /// Begins a fault on a route for a while, and says what ends it earlier and when it ends by itself.
    ///
    /// # Errors
    /// [`FaultError`] when there is no such route, the lease is too long, or too many are under way.
    pub fn begin(&self, route: &str, fault: Fault, lasts: Duration) -> Result<FaultReport, FaultError> {
        if lasts.is_zero() || lasts > LEASE_MAX {
            return Err(FaultError::Lease);
        }
        let now = clock::now();
        self.end_expired(now);
        let state = self.state();
        let slot = state.slots.get(route).ok_or_else(|| FaultError::NoRoute(route.to_owned()))?;
        let count: usize = state.slots.values().map(|slot| slot.leases.load().len()).sum();
        if count >= LEASES_MAX {
            return Err(FaultError::TooMany);
        }
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let until = clock::wall() + lasts;
        let mut leases = slot.leases.load().to_vec();
        let metrics = FaultMetrics::new(&self.0.meter, route);
        leases.push(Lease { id, fault: fault.clone(), metrics, ends_at: now + lasts, until });
        slot.store(leases);
        self.0.is_any.store(true, Ordering::Relaxed);
        Ok(FaultReport { id: Some(id), route: route.to_owned(), fault, until })
    }

    /// Ends a fault that an operator began; what it was.
    pub fn end(&self, id: u64) -> Option<FaultReport> {
        let state = self.state();
        for (route, slot) in &state.slots {
            let mut leases = slot.leases.load().to_vec();
            if let Some(place) = leases.iter().position(|lease| lease.id == id) {
                let lease = leases.remove(place);
                slot.store(leases);
                return Some(lease.report(route));
            }
        }
        None
    }

    /// All that is under way, by route.
    #[must_use]
    pub fn list(&self) -> Vec<FaultReport> {
        self.end_expired(clock::now());
        let wall = clock::wall();
        let state = self.state();
        let of_file = state.of_file.iter().filter(|(_, _, until)| *until > wall);
        let mut listed: Vec<FaultReport> = of_file
            .map(|(route, fault, until)| FaultReport {
                id: None,
                route: route.clone(),
                fault: fault.clone(),
                until: *until,
            })
            .collect();
        for (route, slot) in &state.slots {
            listed.extend(slot.leases.load().iter().map(|lease| lease.report(route)));
        }
        listed.sort_by(|a, b| (&a.route, a.id).cmp(&(&b.route, b.id)));
        listed
    }

    /// Takes leases out that are over, and says so. To be called about once a second.
    pub(crate) fn end_expired(&self, now: Duration) {
        if !self.0.is_any.load(Ordering::Relaxed) {
            return;
        }
        let state = self.state();
        let is_set = state.slots.values().any(|slot| slot.is_set());
        self.0.is_any.store(is_set, Ordering::Relaxed);
        for (route, slot) in state.slots.iter().filter(|(_, slot)| slot.is_set()) {
            let leases = slot.leases.load();
            let (over, left): (Vec<Lease>, Vec<Lease>) =
                leases.iter().cloned().partition(|lease| lease.ends_at <= now);
            if over.is_empty() {
                continue;
            }
            slot.store(left);
            for lease in over {
                let event = Event::new(Level::Info, "fault.ended").field("route", route.clone());
                self.0.log.emit(event.field("id", lease.id));
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each slot is whole after any panic.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    fn report(&self, route: &str) -> FaultReport {
        FaultReport {
            id: Some(self.id),
            route: route.to_owned(),
            fault: self.fault.clone(),
            until: self.until,
        }
    }
}

/// Lets go wrong what shall by the file.
pub(crate) async fn inject(
    way: Way<'_>,
    faults: &Faults,
    request: &mut Request<'_, '_>,
    journal: &mut Journal<'_>,
) -> Result<(), Ending> {
    let now = way.core.wall_at(clock::now());
    for (fault, until) in &faults.0 {
        if *until > now && fault.falls_on(request) {
            let metrics = journal.rules().and_then(|rules| rules.faults.as_ref());
            return go_wrong(fault, *until, request, (journal, metrics)).await;
        }
    }
    Ok(())
}

/// Lets go wrong what shall by an operator.
pub(crate) async fn inject_leased(
    slot: &Slot,
    request: &mut Request<'_, '_>,
    journal: &mut Journal<'_>,
) -> Result<(), Ending> {
    match slot.find(clock::now(), |fault| fault.falls_on(request)) {
        Some(lease) => go_wrong(&lease.fault, lease.until, request, (journal, Some(&lease.metrics))).await,
        None => Ok(()),
    }
}

async fn go_wrong(
    fault: &Fault,
    until: SystemTime,
    request: &mut Request<'_, '_>,
    (journal, metrics): (&mut Journal<'_>, Option<&FaultMetrics>),
) -> Result<(), Ending> {
    if let Some(delay) = fault.delay {
        journal.note(Note::Delayed(delay));
        count(metrics.map(|metrics| &metrics.delayed));
        let exchange = &mut *request.exchange;
        let reply = &mut exchange.reply;
        let gone = poll_fn(|cx| reply.poll_gone(cx));
        if exchange.reused.down.run(clock::now() + delay, gone).await.is_ok() {
            return Err(Ending::Gone(CLIENT_GONE));
        }
    }
    let Some(status) = fault.abort else { return Ok(()) };
    journal.note(Note::Aborted);
    count(metrics.map(|metrics| &metrics.aborted));
    let mut timestamp = Timestamp::default();
    let until = timestamp.format(until);
    let detail = format!("a fault on purpose, until {until} at the latest; the service was not asked");
    Err(Problem::new(status, "proxy_internal_response", Whose::Terrace, true, detail).into())
}

fn count(counter: Option<&Counter>) {
    if let Some(counter) = counter {
        counter.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn board() -> (FaultBoard, terrace_instruments::Receiver) {
        let (log, told) = Log::channel(64);
        let board = FaultBoard::new(log, Meter::new(1));
        board.routes([("orders", None), ("web", None)].into_iter());
        (board, told)
    }

    fn abort() -> Fault {
        Fault::new(None, Some(503), Share::ALL, Vec::new()).expect("valid")
    }

    fn routes(board: &FaultBoard) -> Vec<String> {
        board.list().into_iter().map(|report| report.route).collect()
    }

    #[test]
    fn a_lease_survives_a_reload_and_goes_with_its_route() {
        let (board, _told) = board();
        board.begin("orders", abort(), HOUR).expect("a route");
        board.begin("web", abort(), HOUR).expect("a route");
        let slots = board.routes([("web", None), ("orders", None)].into_iter());
        assert_eq!(routes(&board), ["orders", "web"]);
        assert!(slots.iter().all(|slot| slot.is_set()));
        board.routes([("orders", None)].into_iter());
        assert_eq!(routes(&board), ["orders"]);
        let slots = board.routes([("orders", None), ("web", None)].into_iter());
        assert_eq!(slots.iter().map(|slot| slot.is_set()).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn a_lease_ends_by_itself_and_it_is_told() {
        let (board, told) = board();
        board.begin("orders", abort(), HOUR).expect("a route");
        board.begin("orders", abort(), 3 * HOUR).expect("a route");
        board.end_expired(clock::now() + 2 * HOUR);
        assert_eq!((board.list().len(), told.take_events().len()), (1, 1));
        board.end_expired(clock::now() + 4 * HOUR);
        let slots = board.routes([("orders", None)].into_iter());
        assert!(board.list().is_empty() && !slots[0].is_set());
    }

    #[test]
    fn a_lease_that_is_over_falls_on_nobody_before_anybody_has_looked() {
        let (board, _told) = board();
        board.begin("orders", abort(), HOUR).expect("a route");
        let slots = board.routes([("orders", None)].into_iter());
        let falls = |now| slots[0].find(now, |_| true).is_some();
        assert!(falls(clock::now()) && !falls(clock::now() + HOUR));
        assert!(slots[0].is_set());
    }

    #[test]
    fn what_the_file_breaks_is_listed_until_it_is_over() {
        let (board, _told) = board();
        let wall = clock::wall();
        let faults = Faults(vec![(abort(), wall + HOUR), (abort(), wall)]);
        board.routes([("orders", Some(&faults)), ("web", None)].into_iter());
        board.begin("web", abort(), HOUR).expect("a route");
        let ids: Vec<_> =
            board.list().into_iter().map(|report| (report.route, report.id.is_some())).collect();
        assert_eq!(ids, [("orders".to_owned(), false), ("web".to_owned(), true)]);
    }

    #[test]
    fn nothing_goes_wrong_for_ever_everywhere_or_nowhere() {
        let (board, _told) = board();
        let begin = |lasts| board.begin("orders", abort(), lasts).map(|_| ());
        assert_eq!(begin(LEASE_MAX + HOUR), Err(FaultError::Lease));
        assert_eq!(begin(Duration::ZERO), Err(FaultError::Lease));
        let nowhere = board.begin("oders", abort(), HOUR);
        assert_eq!(nowhere, Err(FaultError::NoRoute("oders".to_owned())));
        for _ in 0..LEASES_MAX {
            begin(HOUR).expect("room");
        }
        assert_eq!(begin(HOUR), Err(FaultError::TooMany));
    }

    #[test]
    fn what_is_no_fault_is_refused() {
        let fault = |delay, abort, share| Fault::new(delay, abort, share, Vec::new()).err();
        assert_eq!(fault(None, None, Share::ALL), Some(FaultError::Nothing));
        assert_eq!(fault(Some(DELAY_MAX + HOUR), None, Share::ALL), Some(FaultError::Delay));
        assert_eq!(fault(None, Some(200), Share::ALL), Some(FaultError::Abort(200)));
        assert_eq!(fault(None, Some(503), Share::ZERO), Some(FaultError::NoShare));
        assert_eq!(fault(Some(DELAY_MAX), Some(400), Share::ALL), None);
    }

    #[test]
    fn a_share_is_drawn_as_often_as_it_says() {
        let drawn = |percent| {
            let numbers = (0..10_000_u64).map(|step| step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            numbers.filter(|number| draw(Share::percent(percent), *number)).count()
        };
        assert_eq!((drawn(0), drawn(100)), (0, 10_000));
        assert!(drawn(25).abs_diff(2_500) < 50);
        assert!(draw(Share::ALL, u64::MAX));
    }
}
