//! When a request that waits is sent a second time, to another endpoint, and the first answer taken.
//!
//! "The Tail at Scale" (Dean and Barroso, 2013): where one of twenty answers is slow, sending those that wait for longer
//! than nineteen of twenty once more takes the slowness away for a twentieth more work. More work is what an ill service
//! can bear least, so a hedge is charged to the retry budget like a retry, and only what may be sent twice is hedged.

use std::time::Duration;

/// The parameters of hedging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HedgeLaw {
    /// For how long an answer is waited for first.
    pub after: HedgeAfter,
    /// Attempts in all, the first one counted.
    pub attempts: u32,
}

impl Default for HedgeLaw {
    /// A second attempt, after what 95 of 100 answers take.
    fn default() -> Self {
        Self { after: HedgeAfter::Usual(Quantile::P95), attempts: 2 }
    }
}

/// For how long an answer is waited for before the request is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HedgeAfter {
    /// What so many of the service's answers take.
    Usual(Quantile),
    /// So long.
    Fixed(Duration),
}

/// How many of a hundred answers do not take longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantile {
    /// Half.
    P50,
    /// 90.
    P90,
    /// 95.
    P95,
    /// 99.
    P99,
}

impl HedgeLaw {
    /// Sooner than this nothing is sent again: it would be sent again when a thread was late.
    const AFTER_MIN: Duration = Duration::from_millis(2);

    /// How long to wait for the answer of the `attempt`-th attempt (counted from 1) before the next one; none, when there is
    /// no next one, or it is not known yet what is `usual`.
    pub fn wait(&self, attempt: u32, usual: impl FnOnce(Quantile) -> Option<Duration>) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        match self.after {
            HedgeAfter::Fixed(after) => Some(after),
            HedgeAfter::Usual(quantile) => Some(usual(quantile)?.max(Self::AFTER_MIN)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hedge_waits_for_what_is_usual_and_is_not_sent_while_that_is_unknown() {
        let law = HedgeLaw::default();
        let p95 = |usual: Option<Duration>| {
            move |quantile: Quantile| {
                assert_eq!(quantile, Quantile::P95);
                usual
            }
        };
        let ms = Duration::from_millis;
        assert_eq!(law.wait(1, p95(None)), None);
        assert_eq!(law.wait(1, p95(Some(ms(40)))), Some(ms(40)));
        assert_eq!(law.wait(1, p95(Some(Duration::from_micros(90)))), Some(ms(2)));
        assert_eq!(law.wait(2, p95(Some(ms(40)))), None, "two attempts in all");
    }

    #[test]
    fn a_fixed_wait_is_kept_whatever_is_usual() {
        let law = HedgeLaw { after: HedgeAfter::Fixed(Duration::from_millis(50)), attempts: 3 };
        assert_eq!(law.wait(2, |_| None), Some(Duration::from_millis(50)));
        assert_eq!(law.wait(3, |_| None), None);
    }
}
