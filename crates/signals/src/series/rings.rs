//! One series at three resolutions: what a second brought is kept for five minutes, its means for longer.
//!
//! Time is counted in whole seconds. Each series fills its own rings up to the second in which it was last seen, so one
//! that is looked at every fifteen seconds lags behind one that is looked at every second; until the next look its
//! last value stands for it, so that a sum over both does not dip at the end.

use super::small::{decode, encode};

/// A second in which something was seen, counted from 1 as the clock starts.
pub(crate) type Second = u32;

/// How finely the past is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// For five minutes.
    Second,
    /// Fifteen seconds, for six hours.
    Quarter,
    /// Five minutes, for seven days.
    Long,
}

impl Resolution {
    /// The finest that reaches back so many seconds; the coarsest when none does.
    pub(crate) fn covering(last_secs: u64) -> Self {
        let covers = |resolution: &Self| last_secs <= resolution.reach_secs();
        [Self::Second, Self::Quarter].into_iter().find(covers).unwrap_or(Self::Long)
    }

    /// Seconds from one point to the next.
    pub(crate) const fn step_secs(self) -> u32 {
        match self {
            Self::Second => 1,
            Self::Quarter => 15,
            Self::Long => 300,
        }
    }

    /// Points kept.
    pub(crate) const fn points(self) -> usize {
        match self {
            Self::Second => 300,
            Self::Quarter => 1_440,
            Self::Long => 2_016,
        }
    }

    /// How far back it reaches.
    pub(crate) const fn reach_secs(self) -> u64 {
        self.points() as u64 * self.step_secs() as u64
    }

    /// The step that `second` belongs to.
    pub(crate) const fn step_of(self, second: Second) -> u32 {
        second / self.step_secs()
    }

    /// How many steps have ended with `second`: those before this number.
    pub(crate) const fn ended(self, second: Second) -> u32 {
        (second + 1) / self.step_secs()
    }

    /// The last second of a step.
    pub(crate) const fn last_of(self, step: u32) -> Second {
        (step + 1) * self.step_secs() - 1
    }
}

/// The step of a coarser ring that is still being filled.
#[derive(Debug, Clone, Copy, Default)]
struct Open {
    sum: f64,
    known: u32,
}

impl Open {
    fn add(&mut self, value: f32) {
        if !value.is_nan() {
            self.sum += f64::from(value);
            self.known += 1;
        }
    }

    fn mean(self) -> f32 {
        if self.known == 0 { f32::NAN } else { (self.sum / f64::from(self.known)) as f32 }
    }
}

/// The rings of one number. 8,160 bytes, whatever is in them.
#[derive(Debug)]
pub(crate) struct Rings {
    seconds: [f32; Resolution::Second.points()],
    quarters: [u16; Resolution::Quarter.points()],
    longs: [u16; Resolution::Long.points()],
    quarter: Open,
    long: Open,
    /// The last second that was written.
    filled: Second,
    /// How long the last value may stand for those that have not come yet.
    hold_secs: u32,
}

impl Rings {
    /// Rings in which nothing is known up to `filled`.
    pub(crate) fn new(filled: Second) -> Self {
        Self {
            seconds: [f32::NAN; Resolution::Second.points()],
            quarters: [encode(f32::NAN); Resolution::Quarter.points()],
            longs: [encode(f32::NAN); Resolution::Long.points()],
            quarter: Open::default(),
            long: Open::default(),
            filled,
            hold_secs: 0,
        }
    }

    /// The last second that was written.
    pub(crate) fn filled(&self) -> Second {
        self.filled
    }

    /// For how long after the last second written its value is taken for what is not known yet.
    pub(crate) fn set_hold(&mut self, secs: u32) {
        self.hold_secs = secs;
    }

    /// `value` stands for each second after the last one written, up to and with `to`.
    pub(crate) fn fill(&mut self, to: Second, value: f32) {
        for second in self.filled + 1..=to {
            self.put(second, value);
        }
    }

    /// Nothing is known of the seconds up to and with `to`. At most some thousand writes, however long the gap.
    pub(crate) fn skip(&mut self, to: Second) {
        if to - self.filled.min(to) <= Resolution::Second.points() as u32 {
            return self.fill(to, f32::NAN);
        }
        self.close_open_steps();
        self.seconds.fill(f32::NAN);
        let (quarter, long) = (Resolution::Quarter, Resolution::Long);
        for step in unknown_steps(quarter, self.filled, to) {
            self.quarters[place(quarter, step)] = encode(f32::NAN);
        }
        for step in unknown_steps(long, self.filled, to) {
            self.longs[place(long, step)] = encode(f32::NAN);
        }
        self.filled = to;
    }

    fn close_open_steps(&mut self) {
        let (quarter, long) = (Resolution::Quarter, Resolution::Long);
        self.quarters[place(quarter, quarter.step_of(self.filled + 1))] = encode(self.quarter.mean());
        self.longs[place(long, long.step_of(self.filled + 1))] = encode(self.long.mean());
        (self.quarter, self.long) = (Open::default(), Open::default());
    }

    fn put(&mut self, second: Second, value: f32) {
        self.seconds[place(Resolution::Second, second)] = value;
        self.quarter.add(value);
        self.long.add(value);
        self.filled = second;
        if Resolution::Quarter.ended(second) != Resolution::Quarter.step_of(second) {
            let mean = std::mem::take(&mut self.quarter).mean();
            self.set(Resolution::Quarter, Resolution::Quarter.step_of(second), mean);
        }
        if Resolution::Long.ended(second) != Resolution::Long.step_of(second) {
            let mean = std::mem::take(&mut self.long).mean();
            self.set(Resolution::Long, Resolution::Long.step_of(second), mean);
        }
    }

    /// Says what a step that has ended brought as a whole, where that is not the mean of its seconds.
    pub(crate) fn set(&mut self, resolution: Resolution, step: u32, value: f32) {
        match resolution {
            Resolution::Second => self.seconds[place(resolution, step)] = value,
            Resolution::Quarter => self.quarters[place(resolution, step)] = encode(value),
            Resolution::Long => self.longs[place(resolution, step)] = encode(value),
        }
    }

    /// The value of a step; NaN where nothing is known of it.
    pub(crate) fn get(&self, resolution: Resolution, step: u32) -> f64 {
        let ended = resolution.ended(self.filled);
        if step >= ended {
            return f64::from(self.not_ended(resolution, step));
        }
        if (ended - step) as usize > resolution.points() {
            return f64::NAN;
        }
        f64::from(match resolution {
            Resolution::Second => self.seconds[place(resolution, step)],
            Resolution::Quarter => decode(self.quarters[place(resolution, step)]),
            Resolution::Long => decode(self.longs[place(resolution, step)]),
        })
    }

    /// Of a step that has not ended for this series though it may have for others: what is known of it so far.
    fn not_ended(&self, resolution: Resolution, step: u32) -> f32 {
        let open = match resolution {
            Resolution::Second => Open::default(),
            Resolution::Quarter => self.quarter,
            Resolution::Long => self.long,
        };
        if open.known > 0 && step == resolution.ended(self.filled) {
            return open.mean();
        }
        let begins = step * resolution.step_secs();
        let held = begins <= self.filled.saturating_add(self.hold_secs);
        if held { self.seconds[place(Resolution::Second, self.filled)] } else { f32::NAN }
    }
}

fn place(resolution: Resolution, step: u32) -> usize {
    step as usize % resolution.points()
}

/// Steps after the one that was open when `filled` was written, that have ended by `to`; no more than the ring has.
fn unknown_steps(resolution: Resolution, filled: Second, to: Second) -> std::ops::Range<u32> {
    let end = resolution.ended(to);
    let begin = resolution.step_of(filled + 1) + 1;
    begin.max(end.saturating_sub(resolution.points() as u32))..end
}
