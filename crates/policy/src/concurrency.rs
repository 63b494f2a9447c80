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
//!   cut off, and cutting goes on; if less is answered, in proportion, perhaps nothing stood in line. Then the limit is given
//!   back, and if as much is answered as before, that was so: the service takes as long as it takes, and that latency becomes
//!   the measure. (If not, the service can do less than it could, which is no reason to give it more.)
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
    Counting { since: Duration, in_flight: u32, counted: Counted, last: Step },
    /// A step was taken, and takes effect by then.
    Settling { until: Duration, last: Step },
}

/// The last step of an experiment.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// None was taken.
    None,
    /// Less was given.
    Cut(Cut),
    /// And then as much as before, since answers had become fewer.
    GivenBack(Cut),
}

/// Answers over a while.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counted {
    answers: u64,
    span: Duration,
    /// The sum of the medians, each as often as it had answers.
    latencies_s: f64,
}

/// A cut, or several in a row, as an experiment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cut {
    /// Requests at once before the first.
    from: f64,
    /// And after the last.
    to: f64,
    /// Answers each second before the first.
    rate: f64,
    /// And what they took.
    latency_s: f64,
}

/// Of what is usual, so much is made of what was last seen, each second.
const USUAL_GAIN: f64 = 1.0 / 60.0;
/// The same while answers are faster than usual: what was possible once is believed sooner than what was not.
const FASTER_GAIN: f64 = 1.0 / 5.0;
/// So much is kept by the first cut, of which nobody knows yet whether it helps: enough less for the answers to tell.
const FIRST_KEPT: f64 = 0.6;
/// With so much left, or less, answers tell whether it was too little: a machine that others use too loses a tenth now and
/// then. Once a line was seen, more is asked for to believe that there is none.
const TOLD_FROM: f64 = 0.7;
const TOLD_FROM_AFTER_LINE: f64 = 0.35;
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
            Phase::Calm if is_late => self.phase = Phase::counting(sample, Step::None),
            Phase::Calm => {
                self.learn(usual_s, latency_s, sample);
                self.give(sample);
            }
            Phase::Settling { until, last } if sample.now >= until => {
                self.phase = Phase::counting(sample, last);
            }
            Phase::Settling { .. } => {}
            Phase::Counting { since, in_flight, mut counted, last } => {
                counted.answers += sample.answers;
                counted.span += sample.span;
                counted.latencies_s += latency_s * sample.answers as f64;
                self.phase = Phase::Counting { since, in_flight, counted, last };
                let counted_for = sample.now.saturating_sub(since);
                // Where all began at the same moment they end so too, again and again: only a whole turn tells the rate.
                let is_enough = self.is_line && counted.answers >= COUNTED && counted_for >= COUNTED_FOR.0;
                if is_enough || counted_for >= bounded(latency_s) {
                    self.is_line |= f64::from(sample.in_flight) > LINE_GROWTH * f64::from(in_flight);
                    let excess = if is_late { Some(latency_s / tolerated_s) } else { None };
                    self.decide(law, sample, counted, (excess, last));
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
        counted: Counted,
        (excess, last): (Option<f64>, Step),
    ) {
        let floor = f64::from(law.floor.max(1));
        let at_once = f64::from(sample.in_flight).min(self.limit.unwrap_or(f64::MAX));
        match last {
            Step::Cut(cut) if cut.kept() <= self.told_from() && cut.cost_answers(counted) => {
                self.limit = Some(cut.from);
                return self.settle(sample, Step::GivenBack(cut));
            }
            Step::GivenBack(cut) if cut.has_back(counted) => return self.accept(cut.from),
            // A cut that cost no answers cut off a line; and one that did not bring them back did not cost them.
            Step::Cut(_) | Step::GivenBack(_) => self.is_line = true,
            Step::None => {}
        }
        match excess {
            None => self.phase = Phase::Calm,
            Some(_) if at_once <= floor => self.accept(2.0 * floor),
            Some(excess) => {
                let kept = match self.is_line {
                    false => FIRST_KEPT,
                    true => (1.0 / excess).clamp(KEPT_MIN, KEPT_MAX),
                };
                let to = (at_once * kept).max(floor);
                let cut = match last {
                    Step::Cut(cut) => Cut { to, ..cut },
                    Step::GivenBack(_) | Step::None => {
                        let (rate, latency_s) = (counted.rate(), counted.latency_s());
                        Cut { from: at_once, to, rate, latency_s }
                    }
                };
                self.limit = Some(to);
                self.pressed_at = sample.now;
                self.settle(sample, Step::Cut(cut));
            }
        }
    }

    /// Those who are there have to leave first, and the answers that tell are those of the requests after: by Little's law
    /// that takes as long as answers take now.
    fn settle(&mut self, sample: &Sample, last: Step) {
        let until = sample.now + bounded(1.2 * self.latest_s);
        self.phase = Phase::Settling { until, last };
    }

    fn told_from(&self) -> f64 {
        if self.is_line { TOLD_FROM_AFTER_LINE } else { TOLD_FROM }
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
    fn counting(sample: &Sample, last: Step) -> Self {
        let (since, in_flight) = (sample.now, sample.in_flight);
        Self::Counting { since, in_flight, counted: Counted::default(), last }
    }
}

impl Counted {
    fn rate(self) -> f64 {
        self.answers as f64 / self.span.as_secs_f64().max(1e-3)
    }

    fn latency_s(self) -> f64 {
        self.latencies_s / self.answers.max(1) as f64
    }
}

impl Cut {
    /// Whether it took answers away and not a line. Of less at once, by Little's law, either the answers are fewer or they
    /// come sooner; which of the two, by more than half of the cut, is asked of both, since a machine that others use too
    /// now and then answers less for a while whatever it is given.
    fn cost_answers(&self, after: Counted) -> bool {
        let between = (1.0 + self.kept()) / 2.0;
        let are_fewer = after.rate() < self.rate * between;
        let are_as_late = after.latency_s() > self.latency_s * between;
        are_fewer && are_as_late
    }

    fn kept(&self) -> f64 {
        self.to / self.from
    }

    /// Whether as many answers come as before it.
    fn has_back(&self, after: Counted) -> bool {
        after.rate() >= 0.9 * self.rate
    }
}

fn bounded(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.min(60.0)).clamp(COUNTED_FOR.0, COUNTED_FOR.1)
}

#[cfg(test)]
mod tests;
