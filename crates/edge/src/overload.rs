//! Shedding under overload: when this machine itself runs short of memory, time or connections, requests that matter least
//! are refused first, at once, so that the rest stays fast.
//!
//! The control plane measures ([`watch`]); on a request's way it is one number. What a request matters is said by its route,
//! by a field that a caller set, or by a claim of who asks; the last is known only after the guard that asks.
//!
//! What one service asks of another on the way to an answer counts for one more than it says: the request that it is for was
//! let in already, and the work done for it would be in vain. To draw again at each step would let half of the half pass, and
//! of a chain of four one in sixteen.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use terrace_instruments::{Event, Gauge, Level, Log, Meter};
use terrace_policy::{OverloadLaw, Pressure, Priority as Rank, Share, Vitals, sheds};
use terrace_runtime::drain::Drain;

use crate::chain::{Ending, Request, Way};
use crate::config::Purpose;
use crate::journal::Journal;
use crate::metrics::{self, Shed, ShedMetrics};
use crate::note::Note;
use crate::problem::{Fault, Problem};

/// From one measurement to the next.
const MEASURED_EVERY: Duration = Duration::from_millis(250);
/// Measurements of a core's lag of which the least counts: one that was late once had bad luck.
const LAGS: usize = 4;

/// How much requests matter when not all can be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Priority {
    /// Always so much.
    Level(Rank),
    /// As a field says.
    Field {
        /// Its name, in lower case.
        name: Box<str>,
        /// Where there is none, or none that says it.
        default: Rank,
    },
    /// By a claim of who asks; what is in neither list is normal.
    Claim {
        /// Its name, with dots on the way down into it.
        path: Box<str>,
        /// Values that matter more.
        high: Vec<String>,
        /// Values that matter less.
        low: Vec<String>,
    },
}

impl Default for Priority {
    fn default() -> Self {
        Self::Level(Rank::Normal)
    }
}

/// How hard pressed this machine is; shared by all cores.
#[derive(Debug)]
pub(crate) struct Overload {
    level: AtomicU32,
    /// By how much each core's event loop came too late when it last looked, in nanoseconds.
    lags_ns: Box<[AtomicU64]>,
    shed: ShedMetrics,
    pressure: Gauge,
}

impl Overload {
    pub(crate) fn new(cores: usize, meter: &Meter) -> Arc<Self> {
        Arc::new(Self {
            level: AtomicU32::new(0),
            lags_ns: (0..cores).map(|_| AtomicU64::new(0)).collect(),
            shed: ShedMetrics::new(meter, None),
            pressure: metrics::pressure(meter),
        })
    }

    /// A core says by how much it came too late.
    pub(crate) fn lagged(&self, core: usize, lag: Duration) {
        if let Some(cell) = self.lags_ns.get(core) {
            cell.store(u64::try_from(lag.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    fn lags(&self) -> impl Iterator<Item = Duration> + '_ {
        self.lags_ns.iter().map(|cell| Duration::from_nanos(cell.load(Ordering::Relaxed)))
    }
}

/// What [`watch`] is told of, apart from the cores' lag.
pub(crate) trait Signs {
    /// The bounds in force; none when overload is not looked at.
    fn law(&self) -> Option<OverloadLaw>;
    /// The largest share of its connections that any listener has open.
    fn connections(&self) -> Share;
}

/// Measures until asked to drain; on the control plane.
pub(crate) async fn watch(
    overload: Arc<Overload>,
    signs: impl Signs,
    memory: impl Fn() -> Option<Share>,
    log: Log,
    mut drain: Drain,
) {
    let mut watched = Watched::new(overload.lags_ns.len());
    loop {
        tokio::select! {
            () = drain.requested() => return,
            () = tokio::time::sleep(MEASURED_EVERY) => {}
        }
        watched.measure(&overload, &signs, memory().unwrap_or(Share::ZERO), &log);
    }
}

/// What was measured of late.
struct Watched {
    pressure: Pressure,
    lags: Vec<[Duration; LAGS]>,
    turn: usize,
}

impl Watched {
    fn new(cores: usize) -> Self {
        Self { pressure: Pressure::default(), lags: vec![[Duration::ZERO; LAGS]; cores], turn: 0 }
    }

    fn measure(&mut self, overload: &Overload, signs: &impl Signs, memory: Share, log: &Log) {
        let before = self.pressure;
        match signs.law() {
            Some(law) => {
                let vitals = Vitals { memory, lag: self.lag(overload), connections: signs.connections() };
                self.pressure.observe(&law, &vitals);
            }
            None => self.pressure = Pressure::default(),
        }
        let level = self.pressure.level();
        overload.level.store(level, Ordering::Relaxed);
        overload.pressure.set(i64::from(level));
        match (before.level(), level) {
            (0, 1..) => {
                let strain = self.pressure.strain().map_or("", terrace_policy::Strain::as_str);
                log.emit(Event::new(Level::Warn, "overload.began").field("strain", strain));
            }
            (1.., 0) => log.emit(Event::new(Level::Info, "overload.ended")),
            _ => {}
        }
    }

    /// The lag of the core that is latest, of each the least of the last few.
    fn lag(&mut self, overload: &Overload) -> Duration {
        self.turn = (self.turn + 1) % LAGS;
        let turn = self.turn;
        self.lags.iter_mut().zip(overload.lags()).for_each(|(lags, lag)| lags[turn] = lag);
        let least = |lags: &[Duration; LAGS]| lags.iter().min().copied().unwrap_or_default();
        self.lags.iter().map(least).max().unwrap_or_default()
    }
}

/// Finds out what a request matters, as far as that is known before anybody has asked who sends it, and refuses it where
/// there is no room for that.
pub(crate) fn admit(
    way: Way<'_>,
    priority: &Priority,
    request: &mut Request<'_, '_>,
    journal: &mut Journal<'_>,
) -> Result<(), Ending> {
    match priority {
        Priority::Level(rank) => request.passed.priority = *rank,
        Priority::Field { name, default } => {
            let told = request.exchange.head.fields.named(name.as_bytes()).and_then(Rank::parse);
            request.passed.priority = told.unwrap_or(*default);
        }
        Priority::Claim { .. } => return Ok(()),
    }
    admit_one(way, request, journal)
}

/// The same, where a claim says what a request matters.
pub(crate) fn admit_claimed(
    way: Way<'_>,
    priority: &Priority,
    request: &mut Request<'_, '_>,
    journal: &mut Journal<'_>,
) -> Result<(), Ending> {
    let Priority::Claim { path, high, low } = priority else { return Ok(()) };
    let rank = match request.passed.claim(path) {
        Some(claim) if high.iter().any(|value| *value == claim) => Rank::High,
        Some(claim) if low.iter().any(|value| *value == claim) => Rank::Low,
        Some(_) | None => Rank::Normal,
    };
    request.passed.priority = rank;
    admit_one(way, request, journal)
}

/// Refuses what there is no room for now.
#[inline]
pub(crate) fn admit_one(
    way: Way<'_>,
    request: &Request<'_, '_>,
    journal: &mut Journal<'_>,
) -> Result<(), Ending> {
    let level = way.core.overload.level.load(Ordering::Relaxed);
    if level == 0 { Ok(()) } else { admit_under(level, way, request.passed.priority, journal) }
}

/// What a request counts for here.
fn weight(way: Way<'_>, rank: Rank) -> Rank {
    match way.listener.config.purpose {
        Purpose::Internal { .. } => rank.raised(),
        Purpose::Route | Purpose::RedirectToTls { .. } => rank,
    }
}

#[cold]
fn admit_under(level: u32, way: Way<'_>, rank: Rank, journal: &mut Journal<'_>) -> Result<(), Ending> {
    if !sheds(level, weight(way, rank), terrace_runtime::random::u64()) {
        return Ok(());
    }
    way.core.overload.shed.count(Shed::Overload, rank);
    journal.note(Note::Shed(Shed::Overload.as_str()));
    let detail = "this machine has as much to do as it can; requests that matter more are served first";
    let mut problem = Problem::new(503, "proxy_internal_response", Fault::Terrace, true, detail);
    problem.retry_after_s = Some(1);
    Err(problem.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(Option<OverloadLaw>, Share);

    impl Signs for Fixed {
        fn law(&self) -> Option<OverloadLaw> {
            self.0
        }

        fn connections(&self) -> Share {
            self.1
        }
    }

    fn measured(times: usize, signs: &Fixed, lag: impl Fn(usize) -> Duration) -> u32 {
        let overload = Overload::new(2, &Meter::new(2));
        let mut watched = Watched::new(2);
        for time in 0..times {
            overload.lagged(1, lag(time));
            watched.measure(&overload, signs, Share::percent(10), &Log::discard());
        }
        overload.level.load(Ordering::Relaxed)
    }

    const LATE: Duration = Duration::from_millis(300);

    #[test]
    fn a_core_that_is_late_every_time_is_pressure_and_one_that_was_once_is_not() {
        let law = Fixed(Some(OverloadLaw::default()), Share::ZERO);
        assert!(measured(LAGS, &law, |_| LATE) > 0);
        assert_eq!(measured(20, &law, |time| if time % LAGS == 0 { Duration::ZERO } else { LATE }), 0);
    }

    #[test]
    fn connections_near_their_bound_are_pressure() {
        let law = Fixed(Some(OverloadLaw::default()), Share::percent(95));
        assert!(measured(1, &law, |_| Duration::ZERO) > 0);
    }

    #[test]
    fn without_a_law_there_is_none() {
        assert_eq!(measured(20, &Fixed(None, Share::ALL), |_| LATE), 0);
    }
}
