//! The limits of API keys: each key may have one of its own, written when the key was made, wherever it is used. By second,
//! minute or hour (`100/s`) it is a bucket that holds as many as the rate allows in its time; by day or month (`1000/month`) it
//! is a quota of the calendar, which a restart does not fill again.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use terrace_instruments::Meter;
use terrace_policy::limit::{
    Decision, Key, KeySeed, Law, Material, Moment, Period, PersonalBuckets, PersonalQuotas, Policy, Rate,
};
use terrace_runtime::clock;

use crate::limit::{Unsaved, lasting, now};
use crate::metrics::{LimitMetrics, Outcome};
use crate::quotas::{LimitId, Quotas};

/// What these limits are called together, in metrics and answers.
pub const KEY_LIMIT: &str = "api-key";
/// Keys with a limit of their own that are remembered at least.
const KEYS_MAX: usize = 100_000;
/// Their place in the file of quotas; no limit of the configuration can be called that.
const KEPT_AS: &str = "api-key/own";

/// The limits of API keys.
#[derive(Debug)]
pub struct KeyLimits {
    seed: KeySeed,
    buckets: PersonalBuckets,
    quotas: PersonalQuotas,
    kept: Option<(LimitId, Arc<Quotas>)>,
    metrics: LimitMetrics,
}

/// What a key's own limit says to a request.
#[derive(Debug)]
pub struct KeyStep<'a> {
    /// Whether it may pass.
    pub decision: Decision,
    /// What the limit promises.
    pub policy: Policy,
    /// What it took.
    pub hold: KeyHold<'a>,
    /// Wait for this before it passes: too many of the key are not written down yet.
    pub unsaved: Option<Unsaved>,
}

/// What a request took from its key's own limit. Dropped, it gives it back.
#[derive(Debug)]
#[must_use = "what it holds is given back when it is dropped"]
pub struct KeyHold<'a> {
    limits: &'a KeyLimits,
    what: What,
    key: Key,
    cost: u32,
    taken: Moment,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Bucket,
    Quota,
}

impl KeyHold<'_> {
    /// Uses up what was taken.
    pub fn keep(mut self) {
        self.cost = 0;
    }
}

impl Drop for KeyHold<'_> {
    fn drop(&mut self) {
        let Self { limits, what, key, cost, taken } = self;
        match what {
            _ if *cost == 0 => {}
            What::Bucket => {
                let now = Moment { clock: clock::now(), wall: Duration::ZERO };
                limits.buckets.give_back(*key, *cost, now);
            }
            What::Quota => {
                let used = limits.quotas.give_back(*key, *cost, *taken);
                if let (Some(used), Some((id, quotas))) = (used, &limits.kept) {
                    quotas.correct(*id, key.bits(), used);
                }
            }
        }
    }
}

impl KeyLimits {
    /// `quotas`: where those of days and months are kept; they live in memory alone without it.
    pub(crate) fn new(seed: KeySeed, quotas: Option<Arc<Quotas>>, meter: &Meter) -> Self {
        let kept = quotas.map(|quotas| (LimitId::of(KEPT_AS), quotas));
        let own = PersonalQuotas::new(KEYS_MAX);
        if let Some((id, quotas)) = &kept {
            let known = quotas.of_limit(*id).into_iter();
            known.for_each(|(key, used)| own.raise(Key::from_hash(key), used, now()));
        }
        let metrics = LimitMetrics::new(meter, KEY_LIMIT);
        Self { seed, buckets: PersonalBuckets::new(KEYS_MAX), quotas: own, kept, metrics }
    }

    /// Takes one request from the limit of the key with that id, which is written as `written`. Nothing when that is none.
    pub fn take(&self, id: &str, written: &str, now: Moment) -> Option<KeyStep<'_>> {
        let law = parse(written)?;
        let mut material = Material::new();
        material.text(id.as_bytes());
        let (what, key, decision, unsaved) = match law {
            Law::Quota { limit, period } => {
                let key = lasting(&material);
                let (decision, used) = self.quotas.take(key, (limit, period), 1, now);
                let kept = self.kept.as_ref().filter(|_| decision.allowed);
                let unsaved = kept.and_then(|(id, quotas)| quotas.note(*id, key.bits(), used));
                (What::Quota, key, decision, unsaved)
            }
            Law::TokenBucket { rate, burst } => {
                let key = material.key(&self.seed);
                (What::Bucket, key, self.buckets.take(key, rate, burst, 1, now), None)
            }
            _ => return None,
        };
        self.metrics.count(if decision.allowed { Outcome::Allowed } else { Outcome::Refused });
        let hold = KeyHold { limits: self, what, key, cost: u32::from(decision.allowed), taken: now };
        Some(KeyStep { decision, policy: law.policy(), hold, unsaved })
    }
}

/// `100/s`: a rate, and as many at once as it allows in its time; `100/d` and `100/month`: a quota.
fn parse(written: &str) -> Option<Law> {
    let (count, period) = written.split_once('/')?;
    let count = count.parse::<NonZeroU32>().ok()?;
    let bucket = |seconds| {
        Some(Law::TokenBucket { rate: Rate::new(count, Duration::from_secs(seconds)), burst: count })
    };
    let quota = |period| Some(Law::Quota { limit: NonZeroU64::from(count), period });
    match period {
        "s" => bucket(1),
        "m" => bucket(60),
        "h" => bucket(3_600),
        "d" => quota(Period::Day),
        "month" => quota(Period::Month),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> KeyLimits {
        KeyLimits::new(KeySeed::new(1, 2), None, &Meter::new(1))
    }

    fn allowed(limits: &KeyLimits, id: &str, written: &str) -> Option<bool> {
        let step = limits.take(id, written, Moment::default())?;
        step.hold.keep();
        Some(step.decision.allowed)
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
        for written in ["1/h", "1/d", "1/month"] {
            for _ in 0..10 {
                let step = limits.take("a", written, now()).expect("a limit");
                assert!(step.decision.allowed, "{written}");
            }
        }
    }

    #[test]
    fn what_is_no_limit_limits_nobody() {
        for written in ["", "5", "0/s", "-1/s", "5/y", "x/s", "99999999999/s"] {
            assert_eq!(allowed(&limits(), "a", written), None, "{written}");
        }
    }
}
