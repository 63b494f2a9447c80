//! How many requests a service is given at once, found out from how long its answers take.
//!
//! A service at its limit answers late, and the more it is given the later (Little's law: what it is given, over what it
//! answers each second). So a limit that follows latency keeps the line where it can be seen, in front of the service, and
//! its order and its end chosen ([`crate::Line`]). Such limits are known (Vegas; Netflix's gradient; Envoy's adaptive
//! concurrency) for three faults, and this law is made around them:
//!
//! - *They measure the ideal latency by refusing traffic.* Here it is measured all the time: the median of each beat, when
//!   nothing presses, is taken into a slow average; nothing is refused to learn it.
//! - *They take a service that has become slower for one that is overloaded*, refuse more and more of what it could well
//!   serve, and stay there. Here each cut is an experiment: if as much is answered with less at once, it was a line that was
//!   cut off, and cutting goes on; if less is answered, in proportion, nothing stood in line: the service takes as long as it
//!   takes, so that latency becomes the measure, and the limit is given back at once.
//! - *At their floor they cannot recover.* Here a floor that is reached while answers are still late proves the same, for at
//!   the floor there is no line.
//!
//! And it limits nothing without need: there is no limit until answers take four times as long as usual, and at least a
//! tenth of a second longer; it goes away when nothing has pressed against it for a while.

use std::time::Duration;

/// The parameters of the adaptive limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GradientLaw {
    /// Never fewer at once than this.
    pub floor: u32,
    /// Never more than this.
    pub ceiling: u32,
    /// Answers may take so many times as long as usual …
    pub tolerance: u32,
    /// … and in any case so much longer.
    pub slack: Duration,
}

impl Default for GradientLaw {
    /// From four to a million; four times as long as usual, and at least 100 ms longer.
    fn default() -> Self {
        Self { floor: 4, ceiling: 1 << 20, tolerance: 4, slack: Duration::from_millis(100) }
    }
}

/// What a service did within a short while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When that while ended.
    pub now: Duration,
    /// How long it was.
    pub span: Duration,
    /// Answers within it.
    pub answers: u64,
    /// The median of what they took.
    pub latency: Duration,
    /// Requests that it was given and had not answered, at the end.
    pub in_flight: u32,
    /// Requests that waited for the limit, at the end.
    pub waiting: u32,
}

/// The adaptive limit of one service. One at a time calls it, a few times a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gradient {
    /// None while there is no need for one.
    limit: Option<f64>,
    /// What answers usually take, in seconds.
    usual_s: Option<f64>,
    /// What they took when last seen.
    latest_s: f64,
    phase: Phase,
    /// It is a line that makes answers late: seen by one that grew, or by a cut that cost no answers.
    is_line: bool,
    grown_at: Duration,
    pressed_at: Duration,
}

/// Where in an experiment the limit is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Phase {
    /// Answers are in time.
    #[default]
    Calm,
    /// They are late: how many come each second is counted, before the first cut and after each.
    Counting { since: Duration, in_flight: u32, counted: Counted, last: Option<Cut> },
    /// A cut was made, and takes effect by then.
    Settling { until: Duration, cut: Cut },
}

/// Answers over a while.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counted {
    answers: u64,
    span: Duration,
}

/// A cut, as an experiment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cut {
    /// Requests at once before it.
    from: f64,
    /// And after.
    to: f64,
    /// Answers each second before it.
    rate: f64,
}

/// Of what is usual, so much is made of what was last seen, each second.
const USUAL_GAIN: f64 = 1.0 / 60.0;
/// The same while answers are faster than usual: what was possible once is believed sooner than what was not.
const FASTER_GAIN: f64 = 1.0 / 5.0;
/// So much is kept by the first cut, of which nobody knows yet whether it helps: enough less for the answers to tell.
const FIRST_KEPT: f64 = 0.7;
/// So much is kept at least, and at most, by those after it.
const KEPT_MIN: f64 = 0.1;
const KEPT_MAX: f64 = 0.8;
/// Growth at once, where the limit is pressed against and answers are in time.
const GROWTH: f64 = 1.1;
/// Without pressure for that long there is no need for a limit.
const LIFTED_AFTER: Duration = Duration::from_secs(10);
/// Answers are counted, and changes waited for, at least and at most for so long.
const COUNTED_FOR: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// So many answers are enough to tell a rate from another that is a fifth less.
const COUNTED: u64 = 100;
/// A line that grows so much while answers are counted is seen to be one.
const LINE_GROWTH: f64 = 1.3;

impl Gradient {
    /// The limit; none while there is no need for one.
    pub fn limit(&self, law: &GradientLaw) -> Option<u32> {
        self.limit.map(|limit| (limit as u32).clamp(law.floor.max(1), law.ceiling))
    }

    /// What answers usually take, once any came; while nobody knows whether that has changed, what they take now.
    pub fn usual(&self) -> Option<Duration> {
        let is_open = self.phase != Phase::Calm && !self.is_line;
        let usual_s = self.usual_s?;
        Some(Duration::from_secs_f64(if is_open { usual_s.max(self.latest_s) } else { usual_s }))
    }

    /// Takes in what was seen, and changes the limit where that asks for it.
    pub fn observe(&mut self, law: &GradientLaw, sample: &Sample) {
        let latency_s = sample.latency.as_secs_f64().max(1e-6);
        self.latest_s = latency_s;
        let Some(usual_s) = self.usual_s else {
            self.usual_s = Some(latency_s);
            return;
        };
        if self.is_pressed(sample) {
            self.pressed_at = sample.now;
        }
        let tolerated_s = (usual_s * f64::from(law.tolerance)).max(usual_s + law.slack.as_secs_f64());
        let is_late = latency_s > tolerated_s;
        match self.phase {
            Phase::Calm if is_late => self.phase = Phase::counting(sample, None),
            Phase::Calm => {
                self.learn(usual_s, latency_s, sample);
                self.give(sample);
            }
            Phase::Settling { until, cut } if sample.now >= until => {
                self.phase = Phase::counting(sample, Some(cut));
            }
            Phase::Settling { .. } => {}
            Phase::Counting { since, in_flight, mut counted, last } => {
                counted.answers += sample.answers;
                counted.span += sample.span;
                self.phase = Phase::Counting { since, in_flight, counted, last };
                let counted_for = sample.now.saturating_sub(since);
                // Where all began at the same moment they end so too, again and again: only a whole turn tells the rate.
                let is_enough = self.is_line && counted.answers >= COUNTED && counted_for >= COUNTED_FOR.0;
                if is_enough || counted_for >= bounded(latency_s) {
                    self.is_line |= f64::from(sample.in_flight) > LINE_GROWTH * f64::from(in_flight);
                    let excess = if is_late { Some(latency_s / tolerated_s) } else { None };
                    self.decide(law, sample, counted.rate(), (excess, last));
                }
            }
        }
    }

    /// Whether more would be given if the limit let it.
    fn is_pressed(&self, sample: &Sample) -> bool {
        let is_near = |limit: f64| f64::from(sample.in_flight) >= 0.8 * limit;
        sample.waiting > 0 || self.limit.is_some_and(is_near)
    }

    /// Takes an ordinary latency into what is usual. Where the limit is pressed against, some of it is our own doing.
    fn learn(&mut self, usual_s: f64, latency_s: f64, sample: &Sample) {
        let gain = match latency_s < usual_s {
            true => FASTER_GAIN,
            false if self.limit.is_some() => return,
            false => USUAL_GAIN,
        };
        let weight = 1.0 - (-gain * sample.span.as_secs_f64().min(60.0)).exp();
        self.usual_s = Some(usual_s + (latency_s - usual_s) * weight);
    }

    /// Answers are in time: more may be given, and where nothing presses there need be no limit.
    fn give(&mut self, sample: &Sample) {
        let Some(limit) = &mut self.limit else { return };
        if sample.now.saturating_sub(self.pressed_at) >= LIFTED_AFTER {
            self.limit = None;
            self.is_line = false;
        } else if sample.now == self.pressed_at
            && sample.now >= self.grown_at + sample.latency.min(COUNTED_FOR.1)
        {
            *limit = *limit * GROWTH + 1.0;
            self.grown_at = sample.now;
        }
    }

    /// Answers were counted: they are in time again, or there was no line to cut off, or less is given.
    fn decide(
        &mut self,
        law: &GradientLaw,
        sample: &Sample,
        rate: f64,
        (excess, last): (Option<f64>, Option<Cut>),
    ) {
        let floor = f64::from(law.floor.max(1));
        let at_once = f64::from(sample.in_flight).min(self.limit.unwrap_or(f64::MAX));
        let was_in_vain = last.filter(|cut| cut.was_in_vain(rate));
        match (excess, was_in_vain) {
            (_, Some(cut)) => self.accept(cut.from),
            (None, None) => self.phase = Phase::Calm,
            (Some(_), None) if at_once <= floor => self.accept(2.0 * floor),
            (Some(excess), None) => {
                // A cut that cost no answers cut off a line.
                self.is_line |= last.is_some();
                let kept = match self.is_line {
                    false => FIRST_KEPT,
                    true => (1.0 / excess).clamp(KEPT_MIN, KEPT_MAX),
                };
                let cut = Cut { from: at_once, to: (at_once * kept).max(floor), rate };
                self.limit = Some(cut.to);
                self.pressed_at = sample.now;
                // Those who are there have to leave first, and the answers that tell are those of the requests after: by
                // Little's law that takes as long as answers take now.
                let until = sample.now + bounded(1.2 * self.latest_s);
                self.phase = Phase::Settling { until, cut };
            }
        }
    }

    /// There is no line: this is what answers take now.
    fn accept(&mut self, at_once: f64) {
        self.usual_s = Some(self.latest_s);
        self.is_line = false;
        self.limit = self.limit.map(|limit| limit.max(at_once * GROWTH + 1.0));
        self.phase = Phase::Calm;
    }
}

impl Phase {
    fn counting(sample: &Sample, last: Option<Cut>) -> Self {
        let (since, in_flight) = (sample.now, sample.in_flight);
        Self::Counting { since, in_flight, counted: Counted::default(), last }
    }
}

impl Counted {
    fn rate(self) -> f64 {
        self.answers as f64 / self.span.as_secs_f64().max(1e-3)
    }
}

impl Cut {
    /// Whether answers became fewer by more than half of what they would where nothing stood in line.
    fn was_in_vain(&self, rate: f64) -> bool {
        rate < self.rate * (1.0 + self.to / self.from) / 2.0
    }
}

fn bounded(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.min(60.0)).clamp(COUNTED_FOR.0, COUNTED_FOR.1)
}

#[cfg(test)]
mod tests;
