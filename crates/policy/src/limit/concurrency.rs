//! Concurrency: a count of permits that are out. A permit gives itself back when it is dropped, however its request ended,
//! so none can be lost; and a key with permits out is never forgotten, so none can be had twice.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::table::{Cell, Size, Table};
use super::{Decision, Key, Moment};

/// When a place will be free nobody knows; to ask again after a second is polite.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// One key's permits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Out(u64);

impl Cell for Out {
    type Law = NonZeroU32;

    fn is_idle(&self, _: &NonZeroU32, _: Moment) -> bool {
        self.0 == 0
    }

    fn used(&self, _: &NonZeroU32, _: Moment) -> u64 {
        self.0
    }

    fn is_pinned(&self) -> bool {
        self.0 > 0
    }
}

/// Leave to be under way; given back when dropped.
#[derive(Debug)]
#[must_use = "a permit that is dropped is given back at once"]
pub struct Permit {
    table: Arc<Table<Out>>,
    key: Key,
    cost: u32,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let known = self.table.with_known(self.key, |_, out| out.0 -= u64::from(self.cost));
        debug_assert!(
            self.cost == 0 || known.is_some(),
            "invariant: a key with permits out is not forgotten"
        );
    }
}

/// Permits by key.
#[derive(Debug)]
pub(super) struct Concurrency(Arc<Table<Out>>);

impl Concurrency {
    pub(super) fn new(at_once: NonZeroU32, size: Size) -> Self {
        Self(Arc::new(Table::new(at_once, size)))
    }

    pub(super) fn take(&self, key: Key, cost: u32, now: Moment) -> (Decision, Option<Permit>) {
        let decision = self.0.with(key, now, |at_once, out| out.take(*at_once, cost));
        let permit = || Permit { table: Arc::clone(&self.0), key, cost };
        (decision, decision.allowed.then(permit))
    }

    /// Permits that are out stay out, also where the new bound is smaller.
    pub(super) fn migrate(&self, at_once: NonZeroU32, keys_max: usize, now: Moment) {
        self.0.migrate(at_once, keys_max, now, |_, _, _| ());
    }

    pub(super) fn table(&self) -> &Table<Out> {
        &self.0
    }
}

impl Out {
    fn take(&mut self, at_once: NonZeroU32, cost: u32) -> Decision {
        let limit = u64::from(at_once.get());
        let allowed = self.0 + u64::from(cost) <= limit;
        if allowed {
            self.0 += u64::from(cost);
        }
        let can_ever = u64::from(cost) <= limit;
        Decision {
            allowed,
            limit,
            remaining: limit.saturating_sub(self.0),
            reset: if self.0 == 0 { Duration::ZERO } else { RETRY_AFTER },
            retry_after: if allowed || !can_ever { None } else { Some(RETRY_AFTER) },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use proptest::prelude::*;

    use super::*;

    const KEY: Key = Key::from_hash(7);

    fn concurrency(at_once: u32) -> Concurrency {
        Concurrency::new(NonZeroU32::new(at_once).expect("not zero"), Size::of(16))
    }

    fn permit(concurrency: &Concurrency, key: Key) -> Option<Permit> {
        concurrency.take(key, 1, Moment::default()).1
    }

    #[test]
    fn a_permit_comes_back_when_it_is_dropped() {
        let concurrency = concurrency(2);
        let held = [permit(&concurrency, KEY), permit(&concurrency, KEY)];
        let (refused, none) = concurrency.take(KEY, 1, Moment::default());
        assert_eq!((refused.limit, refused.remaining, refused.retry_after), (2, 0, Some(RETRY_AFTER)));
        assert!(none.is_none());
        drop(held);
        assert!(permit(&concurrency, KEY).is_some());
    }

    #[test]
    fn after_a_reload_who_is_under_way_still_counts() {
        let concurrency = concurrency(3);
        let held: Vec<_> = (0..3).filter_map(|_| permit(&concurrency, KEY)).collect();
        concurrency.migrate(NonZeroU32::MIN, 16, Moment::default());
        assert!(permit(&concurrency, KEY).is_none());
        drop(held);
        let _held = permit(&concurrency, KEY);
        assert!(permit(&concurrency, KEY).is_none());
    }

    #[test]
    fn a_flood_of_other_keys_does_not_free_a_place() {
        let concurrency = concurrency(1);
        let _held = permit(&concurrency, KEY);
        let mut others = Vec::new();
        others.extend((8..5_000).map(|number| permit(&concurrency, Key::from_hash(number << 64 | number))));
        assert!(permit(&concurrency, KEY).is_none());
    }

    #[test]
    fn many_threads_never_hold_one_more_than_the_limit() {
        let (concurrency, out) = (concurrency(5), AtomicU32::new(0));
        let work = || {
            for _ in 0..5_000 {
                let Some(held) = permit(&concurrency, KEY) else { continue };
                assert!(out.fetch_add(1, Ordering::SeqCst) < 5);
                std::hint::spin_loop();
                out.fetch_sub(1, Ordering::SeqCst);
                drop(held);
            }
        };
        std::thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(work))));
        assert_eq!(concurrency.take(KEY, 5, Moment::default()).0.remaining, 0);
    }

    proptest! {
        /// Against a list of who is under way.
        #[test]
        fn it_decides_as_a_list_of_those_under_way_does(
            limit in 1_u32..10,
            events in prop::collection::vec((any::<bool>(), 0_u32..4), 1..200),
        ) {
            let concurrency = concurrency(limit);
            let mut under_way: Vec<(Permit, u32)> = Vec::new();
            for (is_end, cost) in events {
                if is_end && !under_way.is_empty() {
                    drop(under_way.remove(cost as usize % under_way.len()));
                    continue;
                }
                let used: u32 = under_way.iter().map(|(_, cost)| cost).sum();
                let (decision, permit) = concurrency.take(KEY, cost, Moment::default());
                prop_assert_eq!(decision.allowed, used + cost <= limit);
                under_way.extend(permit.map(|permit| (permit, cost)));
            }
        }
    }
}
