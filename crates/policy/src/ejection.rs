//! Outlier ejection, an endpoint's circuit breaker: one whose answers fail, or that is out of line with its neighbours, is
//! taken out of rotation, and comes back by proving itself.
//!
//! Four kinds of evidence count. *Failures in a row* catch an endpoint that died: five of them happen within milliseconds
//! under load. *The share of failures over a window* catches one that is half ill, whose successes keep breaking the row;
//! it needs a minimum of requests, or one failure of one would be a share of all. *Slowness* and *silence* catch what
//! fails nothing: they are held against the neighbours' latencies and not against a number that somebody would have to
//! tune ([`SlowLaw`], [`SilenceLaw`]).
//!
//! Failures too are held against the neighbours': where all of them fail every third request, it is the requests that are
//! ill, or what all endpoints wait for, and five failures in a row are bound to happen to each of them. Then a row must be
//! as unlikely as five are where little fails, and of a share only what is above the neighbours' counts
//! ([`EjectionLaw::is_out_of_line`]).
//!
//! An endpoint that is out (open) is let in by *probes* (half-open): one request at a time, and a few in a row must go
//! well. Two kinds of request serve. One that may be sent twice can be sent elsewhere when the probe fails, so that its
//! client notices nothing; such a probe is made early, after [`EjectionLaw::probe`]. Any other request would be lost with
//! it, and is risked only after [`EjectionLaw::duration`]. Both pauses double with each ejection in a row; time spent in
//! rotation takes the doublings back, so an endpoint that relapses at once is trusted less than one that relapses after an
//! hour, and trust returns step by step. A probe that has said nothing for ten seconds, because its client sends its body
//! slowly or the endpoint has lost it, is not waited for any further: the next one goes beside it.
//!
//! [`Evidence`] is what several cores write on every answer: atomics, no lock. [`Ejection`] is the verdict over time,
//! changed rarely and by one at a time. How many endpoints of a set may be out at once is a question about the set and is
//! answered by [`EjectionLaw::may_eject`].

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::window::Window;
use crate::{Backoff, Share, SpreadCounts};

/// Where one in so many answers fails or fewer, failures in a row count as they are configured.
const ORDINARY: f64 = 16.0;
/// Larger numbers of failures in a row ask no more of chance than this one: five where a sixteenth fails are one in a million.
const ROW_MAX: u32 = 5;
/// An endpoint is taken to have answered so often before it was first asked, and well: a few answers say little.
const TAKEN_AS_WELL: f64 = 5.0;

/// The parameters of ejection. Cheap to copy; may change between two calls (a reload).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EjectionLaw {
    /// This many failures in a row eject; 0 counts as 1.
    pub failures: u32,
    /// This share of failures over `window` ejects; `Share::ZERO` switches this evidence off.
    pub share: Share,
    /// With fewer requests than this in the window the share says nothing.
    pub requests: u32,
    /// The window of the share.
    pub window: Duration,
    /// When an endpoint counts as slow; none never does.
    pub slow: Option<SlowLaw>,
    /// When it counts as silent; none never does.
    pub silence: Option<SilenceLaw>,
    /// How long any request is kept away from an endpoint that is out: the first time, and at the longest.
    pub duration: Backoff,
    /// The same for requests that may be sent twice, and so lose nothing by being a probe.
    pub probe: Backoff,
    /// So many probes in a row that go well readmit; 0 counts as 1.
    pub probes: u32,
    /// How long an endpoint that is readmitted takes to its full share.
    pub ramp: Duration,
    /// So much time in rotation takes one doubling back.
    pub forgiven_after: Duration,
    /// At most this share of a set is out at once.
    pub share_max: Share,
}

impl Default for EjectionLaw {
    /// Five in a row, or half of at least 20 in 10 s, or slow, or silent; probed after 1 s (any request: after 10 s) and
    /// readmitted by three probes, over 2 s; never more than half of a set. So an endpoint that was ill for however long
    /// has its share again within five seconds of getting well.
    fn default() -> Self {
        Self {
            failures: 5,
            share: Share::percent(50),
            requests: 20,
            window: Duration::from_secs(10),
            slow: Some(SlowLaw::default()),
            silence: Some(SilenceLaw::default()),
            duration: Backoff { from: Duration::from_secs(10), to: Duration::from_secs(300) },
            probe: Backoff { from: Duration::from_secs(1), to: Duration::from_secs(30) },
            probes: 3,
            ramp: Duration::from_secs(2),
            forgiven_after: Duration::from_secs(5),
            share_max: Share::percent(50),
        }
    }
}

/// When an endpoint is slow: when so large a share of its answers takes longer than a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowLaw {
    /// The limit; none is three times the median of its neighbours, and at least a tenth of a second.
    pub over: Option<Duration>,
    /// The share of its answers.
    pub share: Share,
    /// With fewer answers than this it says nothing.
    pub answers: u32,
}

impl Default for SlowLaw {
    /// Half of ten or more answers, each three times as long as the neighbours' median.
    fn default() -> Self {
        Self { over: None, share: Share::percent(50), answers: 10 }
    }
}

impl SlowLaw {
    /// Against the neighbours' median: less is the ordinary difference between machines.
    const TIMES: u32 = 3;
    /// Nobody is ejected for being slower than its neighbours by what nobody notices.
    const OVER_MIN: Duration = Duration::from_millis(100);

    /// What counts as slow where the neighbours' median is `normal`; none while that is not known.
    pub fn limit(&self, normal: Option<Duration>) -> Option<Duration> {
        match (self.over, normal) {
            (Some(over), _) => Some(over),
            (None, Some(normal)) => Some((normal * Self::TIMES).max(Self::OVER_MIN)),
            (None, None) => None,
        }
    }

    /// Whether these answers are those of a slow endpoint.
    pub fn cause(&self, answers: &SpreadCounts, limit: Duration) -> Option<EjectionCause> {
        let (slow, total) = (answers.over(limit), answers.total());
        let is_enough = total >= u64::from(self.answers.max(1));
        let is_slow = is_enough && self.share.is_reached_by(slow, total);
        is_slow.then_some(EjectionCause::Slow { slow, answers: total, limit })
    }
}

/// When an endpoint that owes two answers or more and gives none is silent: after a multiple of what nearly all answers
/// take, since it was asked for the second one. Load alone makes nobody silent, for an endpoint that is busy still answers
/// now and then; nor does one request that takes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SilenceLaw {
    /// Not sooner than this.
    pub from: Duration,
    /// Nor later than this.
    pub to: Duration,
}

impl Default for SilenceLaw {
    /// From a quarter of a second to 30 s.
    fn default() -> Self {
        Self { from: Duration::from_millis(250), to: Duration::from_secs(30) }
    }
}

impl SilenceLaw {
    /// Times what 99 of 100 answers take.
    const TIMES: u32 = 3;
    /// Where nothing is known of how long answers take.
    const UNKNOWN: Duration = Duration::from_secs(1);

    /// How long an endpoint may owe answers without giving one, where 99 of 100 answers of the service took at most `usual`.
    pub fn limit(&self, usual: Option<Duration>) -> Duration {
        let limit = usual.map_or(Self::UNKNOWN, |usual| usual.saturating_mul(Self::TIMES));
        limit.clamp(self.from, self.to.max(self.from))
    }
}

/// The median of the neighbours' medians: what is normal for a set, whichever of it is ill, as long as half is well.
/// Sorts what it is given; none without any.
pub fn normal_of(medians: &mut [Duration]) -> Option<Duration> {
    medians.sort_unstable();
    // Of an even number the lower one: the slower half may be the ill one.
    medians.get(medians.len().saturating_sub(1) / 2).copied()
}

/// The share of failures that is normal for a set: that of the best quarter, for as long as so much is well the others can
/// be blamed. Sorts what it is given; nothing without any.
pub fn normal_failing_of(failing: &mut [Share]) -> Share {
    failing.sort_unstable();
    failing.get(failing.len().saturating_sub(1) / 4).copied().unwrap_or(Share::ZERO)
}

/// Why an endpoint is to be ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EjectionCause {
    /// So many failures in a row.
    Consecutive(u32),
    /// Failures, of so many requests in the window.
    Share {
        /// How many failed.
        failures: u64,
        /// Of how many.
        requests: u64,
    },
    /// So many answers took longer than the limit.
    Slow {
        /// How many did.
        slow: u64,
        /// Of how many.
        answers: u64,
        /// The limit.
        limit: Duration,
    },
    /// It owed answers and gave none for that long.
    Silent(Duration),
}

/// What is known of one endpoint's answers. Written from any core on every answer.
#[derive(Debug, Default)]
pub struct Evidence {
    consecutive: AtomicU32,
    window: Window,
}

impl Evidence {
    /// An answer that was fine. Costs one atomic update.
    pub fn success(&self, window: Duration, now: Duration) {
        // The store is behind a load: successes of healthy endpoints shall not fight over the line.
        if self.consecutive.load(Ordering::Relaxed) != 0 {
            self.consecutive.store(0, Ordering::Relaxed);
        }
        self.window.record(window, now, false);
    }

    /// An answer that failed. A cause, when that is one too many.
    pub fn failure(&self, law: &EjectionLaw, now: Duration) -> Option<EjectionCause> {
        let consecutive = self.consecutive.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        self.window.record(law.window, now, true);
        if consecutive >= law.failures.max(1) {
            return Some(EjectionCause::Consecutive(consecutive));
        }
        self.share_cause(law, now)
    }

    /// The share of answers that fail of late, with some that went well added: of an endpoint that was hardly asked it is
    /// small. A row that is under way counts although the window does not show it yet.
    pub fn failing(&self, window: Duration, now: Duration) -> Share {
        let sums = self.window.sums(window, now);
        let row = f64::from(self.consecutive());
        let in_row = row / (row + TAKEN_AS_WELL);
        let in_window = sums.marked as f64 / ((sums.plain + sums.marked) as f64 + TAKEN_AS_WELL);
        Share::from_ratio(in_row.max(in_window))
    }

    /// Failures in a row, up to now.
    pub fn consecutive(&self) -> u32 {
        self.consecutive.load(Ordering::Relaxed)
    }

    /// Forgets everything: after an ejection (or a refused one) the count begins anew.
    pub fn clear(&self) {
        self.consecutive.store(0, Ordering::Relaxed);
        self.window.clear();
    }

    fn share_cause(&self, law: &EjectionLaw, now: Duration) -> Option<EjectionCause> {
        let sums = self.window.sums(law.window, now);
        let requests = sums.plain + sums.marked;
        let is_enough = requests >= u64::from(law.requests.max(1));
        let is_over = law.share > Share::ZERO && law.share.is_reached_by(sums.marked, requests);
        (is_enough && is_over).then_some(EjectionCause::Share { failures: sums.marked, requests })
    }
}

/// Whether one endpoint is out, who may probe it and when, and how far it is trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ejection {
    /// Ejections in a row that are not forgiven yet.
    level: u32,
    out: Option<Out>,
    readmitted_at: Option<Duration>,
}

/// An endpoint that is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Out {
    /// When a request that may be sent twice may go there.
    probe_at: Duration,
    /// When any may.
    any_at: Duration,
    /// Probes in a row that went well.
    well: u32,
    /// The probe that is waited for, and since when.
    probing: Option<(Probing, Duration)>,
}

/// For so long the next probe waits for one that says nothing.
const PROBE_WAITED_FOR: Duration = Duration::from_secs(10);

/// What a probe that is under way risks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probing {
    Safely,
    AtRisk,
}

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeEnd {
    /// As an endpoint's answers should.
    Well,
    /// In a failure, or too late.
    Ill,
    /// It says nothing: the client went away.
    Nothing,
}

impl Ejection {
    /// Takes the endpoint out; answers until when any request is kept away. One that is out stays out as it was told.
    pub fn eject(&mut self, law: &EjectionLaw, now: Duration) -> Duration {
        if let Some(out) = self.out {
            return out.any_at;
        }
        let remembered = self.level.saturating_sub(self.forgiven(law, now));
        self.level = (remembered + 1).min(level_max(law));
        let any_at = now + law.duration.bound(self.level);
        self.out = Some(Out { probe_at: now + law.probe.bound(self.level), any_at, well: 0, probing: None });
        any_at
    }

    /// Whether the endpoint is out: it stays so until probes readmit it.
    pub fn is_ejected(&self) -> bool {
        self.out.is_some()
    }

    /// Until when any request is kept away; none, when the endpoint is not out.
    pub fn ends_at(&self) -> Option<Duration> {
        self.out.map(|out| out.any_at)
    }

    /// When the next probe may begin, if it is a request that may be sent twice; none, when the endpoint is not out.
    pub fn probe_at(&self) -> Option<Duration> {
        self.out.map(|out| out.probing.map_or(out.probe_at, |(_, since)| since + PROBE_WAITED_FOR))
    }

    /// When the endpoint last came back.
    pub fn readmitted_at(&self) -> Option<Duration> {
        self.readmitted_at
    }

    /// Whether a request may go to the endpoint although it is out, as the only one. `is_safe` says that it may be sent
    /// elsewhere should it fail.
    pub fn try_begin_probe(&mut self, now: Duration, is_safe: bool) -> bool {
        let Some(out) = &mut self.out else { return false };
        // Once a probe went well, the next is hardly a risk.
        let is_due = now >= out.probe_at && (is_safe || out.well > 0 || now >= out.any_at);
        let is_probed = out.probing.is_some_and(|(_, since)| now < since + PROBE_WAITED_FOR);
        if is_probed || !is_due {
            return false;
        }
        out.probing = Some((if is_safe { Probing::Safely } else { Probing::AtRisk }, now));
        true
    }

    /// A probe that was begun has ended; true when that readmits the endpoint. One that was not waited for any more says as much
    /// as the one after it.
    pub fn end_probe(&mut self, law: &EjectionLaw, now: Duration, end: ProbeEnd) -> bool {
        let Some(out) = &mut self.out else { return false };
        let Some((probing, _)) = out.probing.take() else { return false };
        match end {
            ProbeEnd::Nothing => {}
            ProbeEnd::Well => {
                out.well += 1;
                if out.well >= law.probes {
                    self.out = None;
                    self.readmitted_at = Some(now);
                    return true;
                }
            }
            ProbeEnd::Ill => {
                out.well = 0;
                if probing == Probing::AtRisk {
                    self.level = (self.level + 1).min(level_max(law));
                    out.any_at = now + law.duration.bound(self.level);
                }
                out.probe_at = now + law.probe.bound(self.level);
            }
        }
        false
    }

    /// Readmits at once and forgets the past: the law was switched off, or the process behind is a new one.
    pub fn pardon(&mut self) -> bool {
        let was_ejected = self.out.is_some();
        *self = Self::default();
        was_ejected
    }

    /// How many doublings the time in rotation has taken back.
    fn forgiven(&self, law: &EjectionLaw, now: Duration) -> u32 {
        let Some(readmitted_at) = self.readmitted_at else { return 0 };
        let calm = now.saturating_sub(readmitted_at).as_nanos();
        u32::try_from(calm / law.forgiven_after.as_nanos().max(1)).unwrap_or(u32::MAX)
    }
}

/// The level at which both pauses are longest. Counting beyond it would only have to be forgiven later.
fn level_max(law: &EjectionLaw) -> u32 {
    let is_longest = |level: &u32| {
        law.duration.bound(*level) >= law.duration.to && law.probe.bound(*level) >= law.probe.to
    };
    (1..32).find(is_longest).unwrap_or(32)
}

impl EjectionLaw {
    /// Whether so much failing is the endpoint's own, where of its neighbours' answers the share `normal` fails as well.
    ///
    /// It must not be chance: `failures` of `requests` are that with a probability of at most exp(-n D), D being the
    /// relative entropy of the two shares (Hoeffding, "Probability Inequalities for Sums of Bounded Random Variables",
    /// 1963, theorem 1). For a row that asks for `failures` times 4 / log2(1 / normal): twice as many where a quarter
    /// fails, four times where half does. And what is above normal, of all that could be, must reach the law's share
    /// (Abbott, "A Method of Computing the Effectiveness of an Insecticide", 1925).
    pub fn is_out_of_line(&self, cause: EjectionCause, normal: Share) -> bool {
        let (failures, requests) = match cause {
            EjectionCause::Consecutive(row) => (f64::from(row), f64::from(row)),
            EjectionCause::Share { failures, requests } => (failures as f64, requests as f64),
            // These were found by the neighbours' measure.
            EjectionCause::Slow { .. } | EjectionCause::Silent(_) => return true,
        };
        let (share, normal) = (failures / requests.max(1.0), normal.ratio());
        if normal <= 0.0 || share <= normal {
            return normal <= 0.0;
        }
        let own = (share - normal) / (1.0 - normal);
        let unlikely = f64::from(self.failures.clamp(1, ROW_MAX)) * ORDINARY.ln();
        Share::from_ratio(own) >= self.share && requests * relative_entropy(share, normal) >= unlikely
    }

    /// Whether one more of `endpoints` may go when `ejected` are out already. A set of one never loses it:
    /// a failing endpoint is better than none.
    pub fn may_eject(&self, ejected: usize, endpoints: usize) -> bool {
        (ejected as u64) < self.share_max.of(endpoints as u64)
    }
}

/// How far a share is from an expected one that is neither none nor all, in nats.
fn relative_entropy(share: f64, expected: f64) -> f64 {
    let part = |is: f64, was: f64| if is > 0.0 { is * (is / was).ln() } else { 0.0 };
    part(share, expected) + part(1.0 - share, 1.0 - expected)
}

#[cfg(test)]
mod tests;
