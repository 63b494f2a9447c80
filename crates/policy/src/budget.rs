//! A budget for retries: a share of what was admitted, counted over ten seconds.
//!
//! Why budgets and not only a maximum of attempts? A maximum bounds what one request may cost, a budget what
//! all together may. With three attempts each, a service that begins to fail is sent three times its load at
//! the very moment it can bear the least, and stays down when the load exceeds a third of what it can bear,
//! long after the first cause is gone. With a budget of 10 % the worst is 1.1 times the load, whatever
//! happens, while a single lost connection is still retried at once.
//!
//! A retry is charged when it is decided upon, before its backoff, and stays outstanding until it ends: retries
//! that wait are load that is already promised (envoy issue 30205 is about a budget that forgot them). A small
//! floor lets a quiet service retry too, where a tenth of three requests would be none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::Share;
use crate::client_share::ClientShares;
use crate::window::Window;

/// Long enough to smooth bursts, short enough to forget yesterday (as in finagle's retry budget).
const WINDOW: Duration = Duration::from_secs(10);

/// The parameters of a retry budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetLaw {
    /// Retries as a share of admitted requests.
    pub share: Share,
    /// Retries per second that are allowed however little is admitted.
    pub floor_per_s: u32,
    /// Retries of one client as a share of its own requests; `Share::ALL` asks nobody.
    pub per_client: Share,
}

impl Default for BudgetLaw {
    /// A tenth, and one per second; of one client's requests a fifth.
    fn default() -> Self {
        Self { share: Share::percent(10), floor_per_s: 1, per_client: Share::percent(20) }
    }
}

/// Counts admitted requests and retries; shared by all cores. Between them they may overshoot by one retry for
/// each core that decides at the same instant.
#[derive(Debug)]
pub struct RetryBudget {
    window: Window,
    /// Retries decided upon and not ended yet.
    outstanding: AtomicU32,
    share_ppm: AtomicU32,
    floor_per_s: AtomicU32,
    per_client_ppm: AtomicU32,
    clients: ClientShares,
}

impl RetryBudget {
    /// A budget that has seen nothing.
    pub fn new(law: BudgetLaw) -> Self {
        Self {
            window: Window::default(),
            outstanding: AtomicU32::new(0),
            share_ppm: AtomicU32::new(law.share.ppm()),
            floor_per_s: AtomicU32::new(law.floor_per_s),
            per_client_ppm: AtomicU32::new(law.per_client.ppm()),
            clients: ClientShares::default(),
        }
    }

    /// Goes on with other parameters and all that was counted.
    pub fn set_law(&self, law: BudgetLaw) {
        self.share_ppm.store(law.share.ppm(), Ordering::Relaxed);
        self.floor_per_s.store(law.floor_per_s, Ordering::Relaxed);
        self.per_client_ppm.store(law.per_client.ppm(), Ordering::Relaxed);
    }

    /// A request was admitted: its first attempt begins.
    pub fn admit(&self, now: Duration) {
        self.window.record(WINDOW, now, false);
    }

    /// The same of a client, told apart from others by a hash.
    pub fn admit_from(&self, client: u64, now: Duration) {
        self.admit(now);
        if self.per_client() < Share::ALL {
            self.clients.admit(client, now);
        }
    }

    /// Charges a retry of this client, before it waits out its backoff. None, when the budget is spent, or the client's
    /// share of it.
    pub fn try_begin_retry_from(self: &Arc<Self>, client: u64, now: Duration) -> Option<RetryPermit> {
        let per_client = self.per_client();
        if per_client == Share::ALL {
            return self.try_begin_retry(now);
        }
        // Looked at first: whoever has had its share must not use up what is the others'.
        if !self.clients.may_retry(per_client, client, now) {
            return None;
        }
        let permit = self.try_begin_retry(now)?;
        self.clients.retry(client, now);
        Some(permit)
    }

    fn per_client(&self) -> Share {
        Share::from_ppm(self.per_client_ppm.load(Ordering::Relaxed))
    }

    /// Charges a retry, before it waits out its backoff. None, when the budget is spent.
    pub fn try_begin_retry(self: &Arc<Self>, now: Duration) -> Option<RetryPermit> {
        let outstanding = self.outstanding.fetch_add(1, Ordering::Relaxed);
        // Made at once: its drop takes back what was just added when there is no room.
        let permit = RetryPermit(Arc::clone(self));
        let sums = self.window.sums(WINDOW, now);
        let spent = sums.marked.max(u64::from(outstanding));
        if spent >= self.allowed(sums.plain) {
            return None;
        }
        self.window.record(WINDOW, now, true);
        Some(permit)
    }

    fn allowed(&self, admitted: u64) -> u64 {
        let share = Share::from_ppm(self.share_ppm.load(Ordering::Relaxed));
        let floor = u64::from(self.floor_per_s.load(Ordering::Relaxed)) * WINDOW.as_secs();
        share.of(admitted) + floor
    }
}

/// A retry that the budget was charged for; keep it until the retry has ended.
#[derive(Debug)]
pub struct RetryPermit(Arc<RetryBudget>);

impl Drop for RetryPermit {
    fn drop(&mut self) {
        self.0.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn budget(percent: u32, floor_per_s: u32) -> Arc<RetryBudget> {
        Arc::new(RetryBudget::new(BudgetLaw {
            share: Share::percent(percent),
            floor_per_s,
            per_client: Share::ALL,
        }))
    }

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// How many retries the budget grants in a row, each ending at once.
    fn granted(budget: &Arc<RetryBudget>, now: Duration) -> usize {
        (0..10_000).take_while(|_| budget.try_begin_retry(now).is_some()).count()
    }

    #[test]
    fn a_tenth_of_what_was_admitted_may_be_retried() {
        let budget = budget(10, 0);
        (0..1_000).for_each(|_| budget.admit(at(100)));
        assert_eq!(granted(&budget, at(100)), 100);
    }

    #[test]
    fn a_quiet_service_may_retry_by_the_floor() {
        assert_eq!(granted(&budget(10, 1), at(100)), 10);
        assert_eq!(granted(&budget(10, 0), at(100)), 0);
    }

    #[test]
    fn what_was_admitted_and_retried_is_forgotten_after_ten_seconds() {
        let budget = budget(10, 0);
        (0..100).for_each(|_| budget.admit(at(100)));
        assert_eq!(granted(&budget, at(100)), 10);
        (0..50).for_each(|_| budget.admit(at(12_000)));
        assert_eq!(granted(&budget, at(12_000)), 5);
    }

    #[test]
    fn retries_that_wait_long_are_charged_until_they_end() {
        let budget = budget(0, 1);
        let mut waiting = Vec::new();
        waiting.extend(std::iter::from_fn(|| budget.try_begin_retry(at(0))));
        assert_eq!(waiting.len(), 10);
        assert_eq!(granted(&budget, at(60_000)), 0);
        drop(waiting);
        assert_eq!(granted(&budget, at(60_000)), 10);
    }

    #[test]
    fn a_refused_retry_charges_nothing() {
        let budget = budget(0, 0);
        (0..5).for_each(|_| assert!(budget.try_begin_retry(at(0)).is_none()));
        assert_eq!(budget.outstanding.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_client_whose_every_request_fails_leaves_the_others_their_retries() {
        let law = BudgetLaw { share: Share::percent(10), floor_per_s: 0, per_client: Share::percent(20) };
        let budget = Arc::new(RetryBudget::new(law));
        (0..900).for_each(|_| budget.admit_from(1, at(100)));
        (0..100).for_each(|_| budget.admit_from(2, at(100)));
        let of = |client| (0..200).filter(|_| budget.try_begin_retry_from(client, at(100)).is_some()).count();
        assert_eq!(of(2), 23, "a fifth of its own requests and three");
        assert_eq!(of(1), 77, "the rest of the tenth of all");
    }

    #[test]
    fn another_law_goes_on_with_what_was_counted() {
        let budget = budget(10, 0);
        (0..1_000).for_each(|_| budget.admit(at(100)));
        assert_eq!(granted(&budget, at(100)), 100);
        budget.set_law(BudgetLaw { share: Share::percent(20), floor_per_s: 0, per_client: Share::ALL });
        assert_eq!(granted(&budget, at(100)), 100);
    }

    #[test]
    fn several_cores_overshoot_by_no_more_than_themselves() {
        let budget = budget(10, 0);
        (0..10_000).for_each(|_| budget.admit(at(0)));
        let total = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| total.fetch_add(granted(&budget, at(0)) as u32, Ordering::Relaxed));
            }
        });
        let total = total.into_inner();
        assert!((1_000..=1_003).contains(&total), "{total}");
    }

    proptest! {
        /// Whatever the order of events: within any ten seconds, no more retries than the law says.
        #[test]
        fn retries_never_exceed_the_budget(events in prop::collection::vec((0_u64..400, any::<bool>()), 1..400)) {
            let budget = budget(10, 1);
            let (mut now, mut admitted, mut retried) = (0, Vec::new(), Vec::new());
            for (gap, is_retry) in events {
                now += gap;
                let slice = now / 1_000;
                let within = |moments: &[u64]| moments.iter().filter(|moment| slice - **moment < 10).count();
                if !is_retry {
                    budget.admit(at(now));
                    admitted.push(slice);
                } else if budget.try_begin_retry(at(now)).is_some() {
                    prop_assert!(within(&retried) < within(&admitted) / 10 + 10);
                    retried.push(slice);
                } else {
                    prop_assert!(within(&retried) >= within(&admitted) / 10 + 10);
                }
            }
        }
    }
}
