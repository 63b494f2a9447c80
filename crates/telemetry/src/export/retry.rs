//! When a batch is tried again. Pure: the time and the randomness come in.

use std::time::Duration;

/// Before the second attempt; doubled for each further one.
const FIRST: Duration = Duration::from_secs(1);
/// Between two attempts, at most; also when the collector asks for more.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// A batch that was not taken for so long is given up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

/// The attempts of one batch.
#[derive(Debug)]
pub(super) struct Retry {
    since: Duration,
    attempts: u32,
}

impl Retry {
    pub(super) fn new(now: Duration) -> Self {
        Self { since: now, attempts: 0 }
    }

    /// How long to wait before the next attempt; `None` to give up. `asked` is what the collector asked for, `random` any
    /// number. Without being asked the wait is 50 % to 100 % of the doubling one, so that many who lost one collector do
    /// not come back as one.
    pub(super) fn next(&mut self, now: Duration, asked: Option<Duration>, random: u64) -> Option<Duration> {
        let full = FIRST.saturating_mul(1 << self.attempts.min(10)).min(WAIT_MAX);
        self.attempts += 1;
        let share = (random % 1_024) as f64 / 1_024.0;
        let wait = match asked {
            Some(asked) => asked.min(WAIT_MAX).max(full.mul_f64(0.5)),
            None => full.mul_f64(0.5 + 0.5 * share),
        };
        (now + wait < self.since + GIVE_UP_AFTER).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_and_end_within_a_minute() {
        let (mut now, mut retry, mut waits) = (7 * S, Retry::new(7 * S), Vec::new());
        while let Some(wait) = retry.next(now, None, 1_023) {
            waits.push(wait.as_secs_f64().round() as u64);
            now += wait;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16]);
        assert!(now < 67 * S);
    }

    #[test]
    fn what_the_collector_asks_for_is_done_within_reason() {
        assert_eq!(Retry::new(S).next(S, Some(7 * S), 0), Some(7 * S));
        assert_eq!(Retry::new(S).next(S, Some(9_999 * S), 0), Some(30 * S));
        assert_eq!(Retry::new(S).next(S, Some(Duration::ZERO), 0), Some(S / 2), "not in a tight loop");
    }
}
