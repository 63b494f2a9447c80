//! How fast somebody may guess tokens. Pure.
//!
//! Everybody comes from the same loopback address, so a guesser cannot be told from the operator, and a lock-out would
//! lock out the operator. Therefore a right token is always taken at once, and only the *answer to a wrong one* waits:
//! longer with every failure, and only so many at a time.

use std::time::Duration;

/// The first wrong answer.
const DELAY_MIN: Duration = Duration::from_millis(250);
/// The longest wait, which a person who mistyped many times still bears.
const DELAY_MAX: Duration = Duration::from_secs(4);
/// After so long without a failure all is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// Wrong answers that wait at a time; further ones are refused unheard.
const WAITING_MAX: u32 = 16;

/// What is known of guesses.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    failures: u32,
    last: Duration,
    waiting: u32,
}

impl Throttle {
    /// An attempt failed: how long its answer waits, or `None` when too many wait already. Each `Some` is followed by
    /// [`Throttle::answered`].
    pub(crate) fn failed(&mut self, now: Duration) -> Option<Duration> {
        if now.saturating_sub(self.last) > FORGET_AFTER {
            self.failures = 0;
        }
        self.last = now;
        if self.waiting >= WAITING_MAX {
            return None;
        }
        self.waiting += 1;
        let delay = DELAY_MIN.saturating_mul(1 << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        Some(delay.min(DELAY_MAX))
    }

    /// A failed attempt was answered.
    pub(crate) fn answered(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_guess_waits_longer_up_to_four_seconds_and_a_quiet_minute_forgives() {
        let (mut throttle, mut at) = (Throttle::default(), Duration::from_secs(100));
        let mut delays = Vec::new();
        for _ in 0..7 {
            delays.push(throttle.failed(at).unwrap().as_millis());
            throttle.answered();
            at += Duration::from_secs(1);
        }
        assert_eq!(delays, [250, 500, 1_000, 2_000, 4_000, 4_000, 4_000]);
        assert_eq!(throttle.failed(at + Duration::from_secs(120)), Some(DELAY_MIN));
    }

    #[test]
    fn only_so_many_wrong_answers_wait_at_a_time() {
        let mut throttle = Throttle::default();
        for _ in 0..WAITING_MAX {
            assert!(throttle.failed(Duration::ZERO).is_some());
        }
        assert_eq!(throttle.failed(Duration::ZERO), None);
        throttle.answered();
        assert!(throttle.failed(Duration::ZERO).is_some());
    }
}
