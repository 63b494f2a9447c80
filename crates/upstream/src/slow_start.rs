//! A newcomer's share: a tenth at first, the whole after a while, in steps of a twentieth.
//!
//! A process that has just started has cold caches, and one that has just come back from an ejection has
//! nothing in flight, so that every picker that looks at load would run to it. Steps instead of a smooth rise
//! let the candidates be computed twenty times instead of on every pick.

use std::time::Duration;

const STEPS: u32 = 20;
const PERCENT_MIN: u32 = 10;

/// A share in per cent, and when it next grows; never, when it is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ramp {
    pub(crate) percent: u32,
    pub(crate) grows_at: Option<Duration>,
}

impl Ramp {
    /// The whole share, for good.
    pub(crate) const WHOLE: Self = Self { percent: 100, grows_at: None };

    /// The share of who started at `since` and takes `over` to the whole.
    pub(crate) fn new(since: Duration, over: Duration, now: Duration) -> Self {
        let age = now.saturating_sub(since);
        if age >= over {
            return Self::WHOLE;
        }
        let step = u32::try_from(age.as_nanos() * u128::from(STEPS) / over.as_nanos()).unwrap_or(STEPS);
        let percent = (step * 100 / STEPS).max(PERCENT_MIN);
        // Rounded up, so that at that moment the step has surely come.
        let grows_at = since + over * (step + 1) / STEPS + Duration::from_nanos(1);
        Self { percent, grows_at: Some(grows_at) }
    }

    /// Both at once: the smaller share, looked at again when either grows.
    pub(crate) fn and(self, other: Self) -> Self {
        let percent = self.percent.min(other.percent);
        let grows_at = match (self.grows_at, other.grows_at) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        Self { percent, grows_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OVER: Duration = Duration::from_secs(10);

    #[test]
    fn a_newcomer_starts_with_a_tenth_and_ends_with_the_whole() {
        let since = Duration::from_secs(100);
        assert_eq!(Ramp::new(since, OVER, since).percent, 10);
        assert_eq!(Ramp::new(since, OVER, since + OVER / 2).percent, 50);
        assert_eq!(Ramp::new(since, OVER, since + OVER), Ramp::WHOLE);
    }

    #[test]
    fn without_a_slow_start_the_share_is_whole_at_once() {
        assert_eq!(Ramp::new(OVER, Duration::ZERO, OVER), Ramp::WHOLE);
    }

    proptest! {
        /// Who looks only when told to look sees every step, and comes to the whole.
        #[test]
        fn following_the_steps_leads_to_the_whole(since_ns in 0_u64..1 << 60, over_ns in 1_u64..1 << 45) {
            let (since, over) = (Duration::from_nanos(since_ns), Duration::from_nanos(over_ns));
            let (mut now, mut looks, mut percent) = (since, 0, 0);
            while let Some(grows_at) = Ramp::new(since, over, now).grows_at {
                prop_assert!(grows_at > now);
                prop_assert!(Ramp::new(since, over, now).percent >= percent);
                (now, percent) = (grows_at, Ramp::new(since, over, now).percent);
                looks += 1;
            }
            prop_assert!(looks <= STEPS + 1);
        }
    }
}
