//! The limits of API keys: each key may have one of its own, written when the key was made (`100/s`), wherever it is used. A
//! bucket that holds as many as the rate allows in its time.

use std::num::NonZeroU32;
use std::time::Duration;

use terrace_instruments::Meter;
use terrace_policy::limit::{Decision, Key, KeySeed, Law, Material, Moment, PersonalBuckets, Policy, Rate};
use terrace_runtime::clock;

use crate::metrics::{LimitMetrics, Outcome};

/// What these limits are called together, in metrics and answers.
pub const KEY_LIMIT: &str = "api-key";
/// Keys with a limit of their own that are remembered at least.
const KEYS_MAX: usize = 100_000;

/// The limits of API keys.
#[derive(Debug)]
pub struct KeyLimits {
    seed: KeySeed,
    buckets: PersonalBuckets,
    metrics: LimitMetrics,
}

/// What a request took from its key's own limit. Dropped, it gives it back.
#[derive(Debug)]
#[must_use = "what it holds is given back when it is dropped"]
pub struct KeyHold<'a> {
    limits: &'a KeyLimits,
    key: Key,
    cost: u32,
}

impl KeyHold<'_> {
    /// Uses up what was taken.
    pub fn keep(mut self) {
        self.cost = 0;
    }
}

impl Drop for KeyHold<'_> {
    fn drop(&mut self) {
        if self.cost > 0 {
            let now = Moment { clock: clock::now(), wall: Duration::ZERO };
            self.limits.buckets.give_back(self.key, self.cost, now);
        }
    }
}

impl KeyLimits {
    pub(crate) fn new(seed: KeySeed, meter: &Meter) -> Self {
        let metrics = LimitMetrics::new(meter, KEY_LIMIT);
        Self { seed, buckets: PersonalBuckets::new(KEYS_MAX), metrics }
    }

    /// Takes one request from the limit of the key with that id, which is written as `written`. Nothing when that is none.
    pub fn take(&self, id: &str, written: &str, now: Moment) -> Option<(Decision, Policy, KeyHold<'_>)> {
        let (rate, burst) = parse(written)?;
        let mut material = Material::new();
        material.text(id.as_bytes());
        let key = material.key(&self.seed);
        let decision = self.buckets.take(key, rate, burst, 1, now);
        self.metrics.count(if decision.allowed { Outcome::Allowed } else { Outcome::Refused });
        let hold = KeyHold { limits: self, key, cost: u32::from(decision.allowed) };
        Some((decision, Law::TokenBucket { rate, burst }.policy(), hold))
    }
}

/// `100/s`: a rate, and as many at once as it allows in its time. A month is 30 days here.
fn parse(written: &str) -> Option<(Rate, NonZeroU32)> {
    let (count, period) = written.split_once('/')?;
    let count = count.parse::<NonZeroU32>().ok()?;
    let seconds = match period {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "month" => 30 * 86_400,
        _ => return None,
    };
    Some((Rate::new(count, Duration::from_secs(seconds)), count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> KeyLimits {
        KeyLimits::new(KeySeed::new(1, 2), &Meter::new(1))
    }

    fn allowed(limits: &KeyLimits, id: &str, written: &str) -> Option<bool> {
        let (decision, _, hold) = limits.take(id, written, Moment::default())?;
        hold.keep();
        Some(decision.allowed)
    }

    #[test]
    fn each_key_may_take_what_is_written_in_it() {
        let limits = limits();
        let taken = |id, written| (0..10).filter(|_| allowed(&limits, id, written) == Some(true)).count();
        assert_eq!((taken("a", "3/s"), taken("b", "5/month"), taken("a", "3/s")), (3, 5, 0));
    }

    #[test]
    fn a_request_that_another_limit_refused_costs_the_key_nothing() {
        let limits = limits();
        for _ in 0..10 {
            let (decision, _, hold) = limits.take("a", "1/d", crate::limit::now()).expect("a limit");
            assert!(decision.allowed);
            drop(hold);
        }
    }

    #[test]
    fn what_is_no_limit_limits_nobody() {
        for written in ["", "5", "0/s", "-1/s", "5/y", "x/s", "99999999999/s"] {
            assert_eq!(allowed(&limits(), "a", written), None, "{written}");
        }
    }
}
