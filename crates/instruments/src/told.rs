//! A bound on what is told in words about a thing that anybody can cause: so many events in each second, or lines by the thousand
//! would bury what is the matter, and push out of the log's queue what others say. What is not told is still counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Events in each second.
const PER_SECOND_MAX: u64 = 5;

/// How much was told of late.
#[derive(Debug, Default)]
pub struct Told(AtomicU64);

impl Told {
    /// Whether one more may be told at `now`, which is since the clock's start.
    pub fn may(&self, now: Duration) -> bool {
        let second = now.as_secs() << 8;
        let told = |state: u64| match state & !0xff == second {
            true if state & 0xff >= PER_SECOND_MAX => None,
            true => Some(state + 1),
            false => Some(second + 1),
        };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, told).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_told_in_each_second_and_no_more() {
        let told = Told::default();
        for second in [0, 1, 7] {
            let now = Duration::from_secs(second);
            assert_eq!((0..20).filter(|_| told.may(now)).count() as u64, PER_SECOND_MAX);
        }
    }
}
