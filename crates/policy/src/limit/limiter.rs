//! One limiter of any algorithm, and its way from one law to the next.

use std::time::Duration;

use super::bucket::{Buckets, Pace};
use super::concurrency::{Concurrency, Permit};
use super::fixed::FixedWindows;
use super::line::{Arrival, LineLaw, Lines, Place};
use super::quota::{QuotaLaw, QuotaUse, Quotas};
use super::sliding::SlidingWindows;
use super::table::{Keys, Size};
use super::{Decision, Key, Law, Moment};

/// A limiter over keys, shared by all cores by reference.
#[derive(Debug)]
pub struct Limiter(Kind);

#[derive(Debug)]
enum Kind {
    Buckets(Buckets),
    Lines(Lines),
    Fixed(FixedWindows),
    Sliding(SlidingWindows),
    Concurrency(Concurrency),
    Quotas(Quotas),
}

/// A limiter's answer, with what is to be held.
#[derive(Debug)]
#[must_use = "what is held is given back when it is dropped"]
pub enum Answer {
    /// It may pass, or not; nothing is held. What it took can be given back by [`Limiter::give_back`].
    Decided(Decision),
    /// It may pass, and holds this while it is under way.
    Held(Decision, Permit),
    /// It may pass when its turn comes.
    Waits(Decision, Place),
    /// It may pass or not, and this is what its key has used of its quota now, to be written down.
    Counted(Decision, QuotaUse),
}

impl Answer {
    /// The decision in it.
    #[must_use]
    pub fn decision(&self) -> &Decision {
        match self {
            Self::Decided(decision)
            | Self::Held(decision, _)
            | Self::Waits(decision, _)
            | Self::Counted(decision, _) => decision,
        }
    }
}

impl Limiter {
    /// A limiter that has seen nothing, and remembers at least `keys_max` keys.
    #[must_use]
    pub fn new(law: Law, keys_max: usize) -> Self {
        Self::sized(law, Size::of(keys_max))
    }

    fn sized(law: Law, size: Size) -> Self {
        Self(match law {
            Law::TokenBucket { rate, burst } => Kind::Buckets(Buckets::new(Pace::new(rate, burst), size)),
            Law::LeakyBucket { rate, burst, queue_max } => {
                Kind::Lines(Lines::new(LineLaw::new(rate, burst, queue_max), size))
            }
            Law::FixedWindow { rate } => Kind::Fixed(FixedWindows::new(rate, size)),
            Law::SlidingWindow { rate } => Kind::Sliding(SlidingWindows::new(rate, size)),
            Law::Concurrency { at_once } => Kind::Concurrency(Concurrency::new(at_once, size)),
            Law::Quota { limit, period } => Kind::Quotas(Quotas::new(QuotaLaw { limit, period }, size)),
        })
    }

    /// Asks for one request that costs `cost` and can wait for `wait_max`, should it have to wait.
    #[inline]
    pub fn take(&self, key: Key, cost: u32, now: Moment, wait_max: Duration) -> Answer {
        match &self.0 {
            Kind::Buckets(buckets) => Answer::Decided(buckets.take(key, cost, now)),
            Kind::Fixed(windows) => Answer::Decided(windows.take(key, cost, now)),
            Kind::Sliding(windows) => Answer::Decided(windows.take(key, cost, now)),
            Kind::Lines(lines) => match lines.join(key, cost, now, wait_max) {
                Arrival::Gone(decision) | Arrival::Refused(decision) => Answer::Decided(decision),
                Arrival::Waits(decision, place) => Answer::Waits(decision, place),
            },
            Kind::Concurrency(concurrency) => match concurrency.take(key, cost, now) {
                (decision, Some(permit)) => Answer::Held(decision, permit),
                (decision, None) => Answer::Decided(decision),
            },
            Kind::Quotas(quotas) => {
                let (decision, used) = quotas.take(key, cost, now);
                Answer::Counted(decision, used)
            }
        }
    }

    /// Takes over how much of the limit a key is known to have used, from elsewhere. It never makes less of what is known
    /// here, and nothing of who is under way.
    pub fn raise_to(&self, key: Key, used: u64, now: Moment) {
        match &self.0 {
            Kind::Buckets(buckets) => buckets.raise_to(key, used, now),
            Kind::Lines(lines) => lines.raise_to(key, used, now),
            Kind::Fixed(windows) => windows.raise_to(key, used, now),
            Kind::Sliding(windows) => windows.raise_to(key, used, now),
            Kind::Concurrency(_) => {}
            Kind::Quotas(quotas) => quotas.raise_to(key, used, now),
        }
    }

    /// Gives back what was taken at the moment `taken` for a request that another limit refused, or whose client left. Of a
    /// quota, what is used now. A permit and a place give themselves back.
    pub fn give_back(&self, key: Key, cost: u32, taken: Moment, now: Moment) -> Option<QuotaUse> {
        match &self.0 {
            Kind::Buckets(buckets) => buckets.give_back(key, cost, now),
            Kind::Lines(lines) => lines.give_back(key, cost, now),
            Kind::Fixed(windows) => windows.give_back(key, cost, taken),
            Kind::Sliding(windows) => windows.give_back(key, cost, taken),
            Kind::Concurrency(_) => {}
            Kind::Quotas(quotas) => return quotas.give_back(key, cost, taken),
        }
        None
    }

    /// Of a quota: what is known of a key from elsewhere. It never makes less of what is known here.
    pub fn raise(&self, key: Key, known: QuotaUse, now: Moment) {
        if let Kind::Quotas(quotas) = &self.0 {
            quotas.raise(key, known, now);
        }
    }

    /// Whether it counts by the algorithm of that law.
    #[must_use]
    pub fn is_for(&self, law: &Law) -> bool {
        matches!(
            (&self.0, law),
            (Kind::Buckets(_), Law::TokenBucket { .. })
                | (Kind::Lines(_), Law::LeakyBucket { .. })
                | (Kind::Fixed(_), Law::FixedWindow { .. })
                | (Kind::Sliding(_), Law::SlidingWindow { .. })
                | (Kind::Concurrency(_), Law::Concurrency { .. })
                | (Kind::Quotas(_), Law::Quota { .. })
        )
    }

    /// Goes on under another law and bound with all that was counted: what was used stays used, whoever is under way or in
    /// line stays so. A law of another algorithm changes nothing; [`Limiter::changed_to`] is for that.
    pub fn set_law(&self, law: Law, keys_max: usize, now: Moment) {
        match (&self.0, law) {
            (Kind::Buckets(buckets), Law::TokenBucket { rate, burst }) => {
                buckets.migrate(Pace::new(rate, burst), keys_max, now);
            }
            (Kind::Lines(lines), Law::LeakyBucket { rate, burst, queue_max }) => {
                lines.migrate(LineLaw::new(rate, burst, queue_max), keys_max, now);
            }
            (Kind::Fixed(windows), Law::FixedWindow { rate }) => windows.migrate(rate, keys_max, now),
            (Kind::Sliding(windows), Law::SlidingWindow { rate }) => windows.migrate(rate, keys_max, now),
            (Kind::Concurrency(concurrency), Law::Concurrency { at_once }) => {
                concurrency.migrate(at_once, keys_max, now);
            }
            (Kind::Quotas(quotas), Law::Quota { limit, period }) => {
                quotas.migrate(QuotaLaw { limit, period }, keys_max, now);
            }
            _ => debug_assert!(false, "invariant: a limiter's algorithm is changed by `changed_to`"),
        }
    }

    /// A limiter of any algorithm that goes on with what each key has used; who is under way or in line finishes with this
    /// one. A permit says who is under way and not what was used, so to and from concurrency nothing is carried.
    #[must_use]
    pub fn changed_to(&self, law: Law, keys_max: usize, now: Moment) -> Self {
        let next = Self::sized(law, Size::beside(keys_max, self.table()));
        self.tell(&next, now);
        next
    }

    /// Tells a limiter that was made by [`Limiter::changed_to`] of this one what has been used here since.
    pub fn tell(&self, next: &Self, now: Moment) {
        if !matches!(next.0, Kind::Concurrency(_)) && !matches!(self.0, Kind::Concurrency(_)) {
            self.table().each_used(now, &mut |key, used| next.raise_to(key, used, now));
        }
    }

    /// Of a quota: what the key is known to have used.
    #[must_use]
    pub fn quota_use(&self, key: Key) -> Option<QuotaUse> {
        match &self.0 {
            Kind::Quotas(quotas) => quotas.known(key),
            _ => None,
        }
    }

    /// How many keys it remembers.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.table().len()
    }

    /// How many keys it forgot that still owed something, for want of room.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.table().forgotten()
    }

    fn table(&self) -> &dyn Keys {
        match &self.0 {
            Kind::Buckets(buckets) => buckets.table(),
            Kind::Lines(lines) => lines.table(),
            Kind::Fixed(windows) => windows.table(),
            Kind::Sliding(windows) => windows.table(),
            Kind::Concurrency(concurrency) => concurrency.table(),
            Kind::Quotas(quotas) => quotas.table(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU32, NonZeroU64};

    use super::super::{Period, Rate};
    use super::*;

    const KEY: Key = Key::from_hash(7);
    const NOW: Moment = Moment { clock: Duration::from_secs(10), wall: Duration::from_secs(1_000_000) };

    fn count(count: u32) -> NonZeroU32 {
        NonZeroU32::new(count).expect("not zero")
    }

    fn rate() -> Rate {
        Rate::new(count(10), Duration::from_secs(60))
    }

    fn laws() -> [Law; 5] {
        [
            Law::TokenBucket { rate: rate(), burst: count(10) },
            Law::LeakyBucket { rate: rate(), burst: count(10), queue_max: 0 },
            Law::FixedWindow { rate: rate() },
            Law::SlidingWindow { rate: rate() },
            Law::Quota { limit: NonZeroU64::new(10).expect("not zero"), period: Period::Day },
        ]
    }

    fn allowed(limiter: &Limiter, cost: u32) -> bool {
        limiter.take(KEY, cost, NOW, Duration::ZERO).decision().allowed
    }

    #[test]
    fn from_any_algorithm_to_any_other_what_was_used_stays_used() {
        for before in laws() {
            for after in laws() {
                let limiter = Limiter::new(before, 100);
                assert!(allowed(&limiter, 7), "{before:?}");
                let next = limiter.changed_to(after, 100, NOW);
                assert!(!allowed(&next, 4), "{before:?} to {after:?}");
                assert!(allowed(&next, 3), "{before:?} to {after:?}");
            }
        }
    }

    #[test]
    fn what_is_used_until_the_next_algorithm_is_in_force_is_told_to_it() {
        for before in laws() {
            for after in laws() {
                let limiter = Limiter::new(before, 100);
                assert!(allowed(&limiter, 2), "{before:?}");
                let next = limiter.changed_to(after, 100, NOW);
                assert!(allowed(&limiter, 5) && allowed(&next, 1), "{before:?} to {after:?}");
                limiter.tell(&next, NOW);
                assert!(!allowed(&next, 4) && allowed(&next, 3), "{before:?} to {after:?}");
            }
        }
    }

    #[test]
    fn all_of_them_give_back_what_was_taken_for_nothing() {
        for law in laws() {
            let limiter = Limiter::new(law, 100);
            assert!(allowed(&limiter, 10) && !allowed(&limiter, 1), "{law:?}");
            limiter.give_back(KEY, 4, NOW, NOW);
            assert!(!allowed(&limiter, 5) && allowed(&limiter, 4), "{law:?}");
        }
    }

    #[test]
    fn what_others_know_is_taken_over_where_it_is_more() {
        for law in laws() {
            let limiter = Limiter::new(law, 100);
            limiter.raise_to(KEY, 8, NOW);
            limiter.raise_to(KEY, 3, NOW);
            assert!(!allowed(&limiter, 3) && allowed(&limiter, 1), "{law:?}");
            limiter.raise_to(KEY, 1_000, NOW);
            assert!(!allowed(&limiter, 1), "{law:?}");
        }
    }

    #[test]
    fn whoever_is_under_way_finishes_with_the_limiter_that_let_it_in() {
        let limiter = Limiter::new(Law::Concurrency { at_once: count(1) }, 100);
        let held = limiter.take(KEY, 1, NOW, Duration::ZERO);
        assert!(held.decision().allowed && !allowed(&limiter, 1));
        let next = limiter.changed_to(Law::FixedWindow { rate: rate() }, 100, NOW);
        assert!(allowed(&next, 10));
        drop(limiter);
        drop(held);
    }
}
