//! When a supervised process that ended is started again, and when its endings are a crash loop.
//!
//! One crash deserves an almost immediate restart: the traffic is waiting. A program that cannot start
//! deserves ever longer waits, or it burns the machine and its own logs. The two are told apart by whether
//! the process had a *stable run*: it reported that it was ready and then lived for at least the longest
//! delay. A stable run forgets everything before it.
//!
//! A crash loop is `crash_loop` endings within `within`. Once declared it holds until the next stable run:
//! with delays at their longest there may be fewer endings in the window than it takes to declare one, and a
//! verdict that flaps while nothing got better helps nobody.

use std::collections::VecDeque;
use std::time::Duration;

use crate::Backoff;

/// The parameters of restarting. Cheap to copy; may change between two calls (a reload).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartLaw {
    /// The delay before the first restart, and the longest delay; doubled at each unstable run between.
    pub backoff: Backoff,
    /// This many endings within `within` are a crash loop. 0 counts as 1.
    pub crash_loop: u32,
    /// The window in which endings are counted.
    pub within: Duration,
}

/// What one instance has been through. Give each instance its own.
#[derive(Clone, Debug, Default)]
pub struct RestartState {
    /// Moments of the latest endings, oldest first; never more than `crash_loop`.
    endings: VecDeque<Duration>,
    failures: u32,
    ready_since: Option<Duration>,
    crash_loop: bool,
}

/// What to do about an ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Start again after this long: between half the exponential bound and the bound.
    pub delay: Duration,
    /// Whether the instance is in a crash loop now.
    pub crash_loop: bool,
    /// Whether this very ending began it, so that it is told once.
    pub crash_loop_began: bool,
}

impl RestartState {
    /// The process is up and ready. From here its run may become a stable one.
    pub fn started_ok(&mut self, now: Duration) {
        self.ready_since = Some(now);
    }

    /// The process ended by itself (or never got ready) and shall run again.
    pub fn exited(&mut self, law: &RestartLaw, now: Duration, random: u64) -> Decision {
        if self.is_stable(law, now) {
            *self = Self::default();
        }
        self.ready_since = None;
        self.failures = self.failures.saturating_add(1);
        let crash_loop_began = self.count(law, now) && !self.crash_loop;
        self.crash_loop |= crash_loop_began;
        let delay = law.backoff.equal_jitter(self.failures, random);
        Decision { delay, crash_loop: self.crash_loop, crash_loop_began }
    }

    /// Whether the present run has lasted long enough to forget the crashes before it.
    pub fn is_stable(&self, law: &RestartLaw, now: Duration) -> bool {
        match self.ready_since {
            Some(since) => now.saturating_sub(since) >= law.backoff.to,
            None => false,
        }
    }

    /// Whether the instance is in a crash loop, for a report between two endings.
    pub fn is_crash_loop(&self, law: &RestartLaw, now: Duration) -> bool {
        self.crash_loop && !self.is_stable(law, now)
    }

    /// Counts this ending; whether the window is full.
    fn count(&mut self, law: &RestartLaw, now: Duration) -> bool {
        let full = law.crash_loop.max(1) as usize;
        self.endings.push_back(now);
        while self.endings.len() > full {
            self.endings.pop_front();
        }
        while self.endings.front().is_some_and(|ending| now.saturating_sub(*ending) > law.within) {
            self.endings.pop_front();
        }
        self.endings.len() >= full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAW: RestartLaw = RestartLaw {
        backoff: Backoff { from: Duration::from_millis(200), to: Duration::from_secs(30) },
        crash_loop: 5,
        within: Duration::from_secs(120),
    };

    /// A program that dies as soon as it is started; answers the decision of each ending.
    fn dies_at_once(times: usize) -> (RestartState, Duration, Vec<Decision>) {
        let (mut state, mut now, mut decisions) = (RestartState::default(), Duration::ZERO, Vec::new());
        for _ in 0..times {
            let decision = state.exited(&LAW, now, u64::MAX);
            now += decision.delay;
            decisions.push(decision);
        }
        (state, now, decisions)
    }

    #[test]
    fn the_first_crash_is_restarted_almost_at_once() {
        let decision = RestartState::default().exited(&LAW, Duration::ZERO, 0);
        assert_eq!(decision.delay, Duration::from_millis(100));
        assert!(!decision.crash_loop);
    }

    #[test]
    fn the_fifth_ending_in_the_window_is_a_crash_loop_and_is_told_once() {
        let (_, _, decisions) = dies_at_once(7);
        let looping: Vec<bool> = decisions.iter().map(|decision| decision.crash_loop).collect();
        assert_eq!(looping, [false, false, false, false, true, true, true]);
        assert_eq!(decisions.iter().filter(|decision| decision.crash_loop_began).count(), 1);
    }

    #[test]
    fn delays_grow_to_the_longest_and_stay_there() {
        let (_, _, decisions) = dies_at_once(12);
        assert!(decisions.windows(2).all(|pair| pair[0].delay <= pair[1].delay));
        assert!(decisions[11].delay <= LAW.backoff.to);
        assert!(decisions[11].delay > LAW.backoff.to * 99 / 100);
    }

    #[test]
    fn a_crash_loop_holds_while_the_delays_leave_few_endings_in_the_window() {
        let (_, _, decisions) = dies_at_once(40);
        assert!(decisions[39].crash_loop);
    }

    #[test]
    fn a_stable_run_forgets_the_crashes_before_it() {
        let (mut state, now, _) = dies_at_once(12);
        state.started_ok(now);
        assert!(state.is_crash_loop(&LAW, now));
        let later = now + LAW.backoff.to;
        assert!(!state.is_crash_loop(&LAW, later));
        let decision = state.exited(&LAW, later, 0);
        assert_eq!(decision.delay, Duration::from_millis(100));
        assert!(!decision.crash_loop);
    }

    #[test]
    fn being_ready_for_a_moment_is_no_stable_run() {
        let (mut state, now, _) = dies_at_once(12);
        state.started_ok(now);
        let decision = state.exited(&LAW, now + Duration::from_secs(1), 0);
        assert_eq!(decision.delay, LAW.backoff.to / 2);
        assert!(decision.crash_loop && !decision.crash_loop_began);
    }

    #[test]
    fn rare_crashes_are_no_crash_loop() {
        let mut state = RestartState::default();
        for hour in 0..50 {
            let decision = state.exited(&LAW, Duration::from_secs(hour * 3600), 0);
            assert!(!decision.crash_loop);
        }
    }
}
