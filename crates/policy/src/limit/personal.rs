//! Token buckets and quotas of which each key has its own: what an API key may take is written in the key, not in a route.
//! Each cell carries its pace or limit, and fits itself to another one when the key's limit was changed.

use std::num::{NonZeroU32, NonZeroU64};

use super::bucket::{Bucket, Pace};
use super::quota::QuotaLaw;
use super::table::{Cell, Size, Table};
use super::{Decision, Key, Moment, Period, QuotaUse, Rate};

/// Token buckets by key, each with a rate of its own.
#[derive(Debug)]
pub struct PersonalBuckets(Table<Personal>);

#[derive(Debug, Default)]
struct Personal {
    pace: Option<Pace>,
    bucket: Bucket,
}

impl Cell for Personal {
    type Law = ();

    fn is_idle(&self, (): &(), now: Moment) -> bool {
        self.pace.is_none_or(|pace| self.bucket.owed(&pace, now.clock) == 0)
    }

    fn used(&self, (): &(), now: Moment) -> u64 {
        self.pace.map_or(0, |pace| self.bucket.used(&pace, now))
    }

    /// Paces differ, so what is compared is the time that it takes to be forgiven.
    fn owes(&self, (): &(), now: Moment) -> u128 {
        self.pace.map_or(0, |pace| pace.time(self.bucket.owed(&pace, now.clock)).as_nanos())
    }

    /// As often as the finest pace needs it.
    fn sweep_every_ns((): &()) -> u64 {
        Pace::SWEEP_EVERY_MIN_NS
    }
}

impl PersonalBuckets {
    /// Buckets of at least `keys_max` keys.
    #[must_use]
    pub fn new(keys_max: usize) -> Self {
        Self(Table::new((), Size::of(keys_max)))
    }

    /// Takes `cost` from the key's bucket, which refills at `rate` and holds `burst`.
    pub fn take(&self, key: Key, rate: Rate, burst: NonZeroU32, cost: u32, now: Moment) -> Decision {
        let pace = Pace::new(rate, burst);
        self.0.with(key, now, |(), personal| {
            match personal.pace {
                Some(before) if before != pace => personal.bucket.carry_over(&before, &pace, now.clock),
                Some(_) => {}
                None => personal.bucket = Bucket::full(&pace, now.clock),
            }
            personal.pace = Some(pace);
            personal.bucket.take(&pace, cost, now.clock)
        })
    }

    /// Gives back what was taken for nothing.
    pub fn give_back(&self, key: Key, cost: u32, now: Moment) {
        let _forgotten_is_as_good = self.0.with_known(key, |(), personal| {
            if let Some(pace) = personal.pace {
                personal.bucket.give_back(&pace, cost, now.clock);
            }
        });
    }
}

/// Quotas by key, each with a limit of its own.
#[derive(Debug)]
pub struct PersonalQuotas(Table<PersonalQuota>);

#[derive(Debug, Default)]
struct PersonalQuota {
    law: Option<QuotaLaw>,
    used: QuotaUse,
}

impl Cell for PersonalQuota {
    type Law = ();

    fn is_idle(&self, (): &(), now: Moment) -> bool {
        self.used.is_over(now.wall)
    }

    /// Of one that was not asked for since a restart: what it used of its month.
    fn used(&self, (): &(), now: Moment) -> u64 {
        let month = QuotaLaw { limit: NonZeroU64::MAX, period: Period::Month };
        self.used.used(&self.law.unwrap_or(month), now)
    }
}

impl PersonalQuotas {
    /// Quotas of at least `keys_max` keys.
    #[must_use]
    pub fn new(keys_max: usize) -> Self {
        Self(Table::new((), Size::of(keys_max)))
    }

    /// Takes `cost` from what the key has in a day or month; the decision, and what is used now.
    pub fn take(
        &self,
        key: Key,
        (limit, period): (NonZeroU64, Period),
        cost: u32,
        now: Moment,
    ) -> (Decision, QuotaUse) {
        let law = QuotaLaw { limit, period };
        self.0.with(key, now, |(), personal| {
            personal.law = Some(law);
            (personal.used.take(&law, cost, now), personal.used)
        })
    }

    /// Gives back what was `taken` then for nothing; what is used now, unless the key is forgotten.
    pub fn give_back(&self, key: Key, cost: u32, taken: Moment) -> Option<QuotaUse> {
        self.0.with_known(key, |(), personal| {
            personal.used.give_back(cost, taken);
            personal.used
        })
    }

    /// Takes over what was used before a restart.
    pub fn raise(&self, key: Key, known: QuotaUse, now: Moment) {
        self.0.with(key, now, |(), personal| personal.used = personal.used.at_least(&known));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn take(buckets: &PersonalBuckets, key: u128, count: u32, cost: u32) -> Decision {
        let count = NonZeroU32::new(count).expect("not zero");
        let rate = Rate::new(count, Duration::from_secs(60));
        buckets.take(Key::from_hash(key), rate, count, cost, Moment::default())
    }

    #[test]
    fn each_key_has_its_own_rate() {
        let buckets = PersonalBuckets::new(100);
        assert!(take(&buckets, 1, 10, 10).allowed && !take(&buckets, 1, 10, 1).allowed);
        assert!(take(&buckets, 2, 20, 20).allowed && !take(&buckets, 2, 20, 1).allowed);
    }

    #[test]
    fn each_key_has_its_own_quota_and_goes_on_with_it_after_a_restart() {
        let per_month = |count| (NonZeroU64::new(count).expect("not zero"), Period::Month);
        let take = |quotas: &PersonalQuotas, key, count, cost| {
            quotas.take(Key::from_hash(key), per_month(count), cost, Moment::default())
        };
        let quotas = PersonalQuotas::new(100);
        assert!(take(&quotas, 1, 10, 10).0.allowed && !take(&quotas, 1, 10, 1).0.allowed);
        assert!(take(&quotas, 2, 20, 20).0.allowed);
        let (raised, used) = take(&quotas, 1, 30, 5);
        assert_eq!(raised.remaining, 15, "its limit was raised");
        let after = PersonalQuotas::new(100);
        after.raise(Key::from_hash(1), used, Moment::default());
        assert_eq!(take(&after, 1, 30, 0).0.remaining, 15);
        assert!(after.give_back(Key::from_hash(1), 5, Moment::default()).is_some());
        assert_eq!(take(&after, 1, 30, 0).0.remaining, 20);
    }

    #[test]
    fn a_key_whose_limit_was_raised_has_used_what_it_had_used() {
        let buckets = PersonalBuckets::new(100);
        assert!(take(&buckets, 1, 10, 10).allowed);
        assert_eq!(take(&buckets, 1, 30, 5).remaining, 15);
        buckets.give_back(Key::from_hash(1), 5, Moment::default());
        assert_eq!(take(&buckets, 1, 30, 0).remaining, 20);
    }
}
