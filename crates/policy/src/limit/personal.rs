//! Token buckets of which each key has its own rate: what an API key may take is written in the key, not in a route. Each
//! cell carries its pace, and fits itself to another one when the key's limit was changed.

use std::num::NonZeroU32;

use super::bucket::{Bucket, Pace};
use super::table::{Cell, Size, Table};
use super::{Decision, Key, Moment, Rate};

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
    fn a_key_whose_limit_was_raised_has_used_what_it_had_used() {
        let buckets = PersonalBuckets::new(100);
        assert!(take(&buckets, 1, 10, 10).allowed);
        assert_eq!(take(&buckets, 1, 30, 5).remaining, 15);
        buckets.give_back(Key::from_hash(1), 5, Moment::default());
        assert_eq!(take(&buckets, 1, 30, 0).remaining, 20);
    }
}
