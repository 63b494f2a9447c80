//! The parameters of limits. Cheap to copy and to compare; they may change between two decisions, by a reload.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

/// So many in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: NonZeroU32,
    period: Duration,
}

impl Rate {
    /// The longest period there is: a leap year.
    pub const PERIOD_MAX: Duration = Duration::from_secs(366 * 86_400);

    /// `count` in each `period`, which counts as a nanosecond at least and as [`Rate::PERIOD_MAX`] at most.
    #[must_use]
    pub fn new(count: NonZeroU32, period: Duration) -> Self {
        Self { count, period: period.clamp(Duration::from_nanos(1), Self::PERIOD_MAX) }
    }

    /// How many.
    #[must_use]
    pub fn count(self) -> u32 {
        self.count.get()
    }

    /// In how long.
    #[must_use]
    pub fn period(self) -> Duration {
        self.period
    }
}

/// A calendar window, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// From midnight to midnight.
    Day,
    /// From the first of a month to the first of the next.
    Month,
}

/// An algorithm and its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// Refills evenly at `rate`, holds `burst`.
    TokenBucket {
        /// How fast it refills.
        rate: Rate,
        /// What it holds.
        burst: NonZeroU32,
    },
    /// Lets requests leave evenly at `rate`; the others wait in line.
    LeakyBucket {
        /// How fast requests leave.
        rate: Rate,
        /// So many may leave at once after a pause; 1 shapes strictly.
        burst: NonZeroU32,
        /// So many may wait, for each key.
        queue_max: u32,
    },
    /// `rate.count` from a key's first request on for a period.
    FixedWindow {
        /// Limit and window.
        rate: Rate,
    },
    /// `rate.count` in any period.
    SlidingWindow {
        /// Limit and window.
        rate: Rate,
    },
    /// So many under way at once.
    Concurrency {
        /// How many.
        at_once: NonZeroU32,
    },
    /// So many a day or month.
    Quota {
        /// How many.
        limit: NonZeroU64,
        /// Of which window.
        period: Period,
    },
}

/// What a limit promises, as `RateLimit-Policy` tells it (draft-ietf-httpapi-ratelimit-headers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `q`: what can be had in one window.
    pub quota: u64,
    /// `w`: the window. None for concurrency, and for months, which are not equally long.
    pub window: Option<Duration>,
    /// Whether `q` counts requests at once (`qu="concurrent-requests"`).
    pub is_concurrency: bool,
}

impl Law {
    /// What it promises. Of a bucket: that what it holds is there again after the time in which it fills.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let counted = |quota, window| Policy { quota, window, is_concurrency: false };
        match *self {
            Self::TokenBucket { rate, burst } => {
                let filled = rate.period.as_secs_f64() * f64::from(burst.get()) / f64::from(rate.count());
                let filled = Duration::try_from_secs_f64(filled).unwrap_or(Rate::PERIOD_MAX);
                counted(u64::from(burst.get()), Some(filled))
            }
            Self::LeakyBucket { rate, .. } | Self::FixedWindow { rate } | Self::SlidingWindow { rate } => {
                counted(u64::from(rate.count()), Some(rate.period))
            }
            Self::Concurrency { at_once } => {
                Policy { quota: u64::from(at_once.get()), window: None, is_concurrency: true }
            }
            Self::Quota { limit, period: Period::Day } => {
                counted(limit.get(), Some(Duration::from_secs(86_400)))
            }
            Self::Quota { limit, period: Period::Month } => counted(limit.get(), None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(count: u32) -> NonZeroU32 {
        NonZeroU32::new(count).expect("not zero")
    }

    fn rate(number: u32, secs: u64) -> Rate {
        Rate::new(count(number), Duration::from_secs(secs))
    }

    #[test]
    fn a_bucket_promises_its_burst_in_the_time_that_it_takes_to_fill() {
        let law = Law::TokenBucket { rate: rate(100, 1), burst: count(200) };
        let promised = Policy { quota: 200, window: Some(Duration::from_secs(2)), is_concurrency: false };
        assert_eq!(law.policy(), promised);
    }
}
