//! The one door for time. A moment is a [`Duration`] since the process first asked, so that pure code can be
//! handed any moment by a test; nothing else in the workspace may read a clock (`clippy.toml` sees to it).

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// Where the clock starts, as we read it and as timers do.
struct Start {
    #[cfg(target_os = "linux")]
    nanos: u64,
    instant: Instant,
}

/// The monotonic now: time since the clock's start. Costs one vDSO call, no system call.
#[must_use]
pub fn now() -> Duration {
    since(start())
}

/// The wall clock, for what people and certificates read; it may jump, so no decision on the request's way uses it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// The tokio instant at which the moment `at` is reached; for arming timers only.
#[must_use]
pub fn instant(at: Duration) -> tokio::time::Instant {
    tokio::time::Instant::from_std(start().instant + at)
}

fn start() -> &'static Start {
    static START: OnceLock<Start> = OnceLock::new();
    START.get_or_init(begin)
}

#[expect(clippy::disallowed_methods, reason = "this is the door")]
fn begin() -> Start {
    // The timers' start is not before ours, so that the moment that a timer waited for has come when it fires.
    Start {
        #[cfg(target_os = "linux")]
        nanos: monotonic_nanos(),
        instant: Instant::now(),
    }
}

/// A request reads the clock a dozen times: whole nanoseconds are taken from each other in a tenth of the instructions that two
/// pairs of seconds and nanoseconds take.
#[cfg(target_os = "linux")]
fn since(start: &Start) -> Duration {
    Duration::from_nanos(monotonic_nanos().saturating_sub(start.nanos))
}

#[cfg(not(target_os = "linux"))]
fn since(start: &Start) -> Duration {
    start.instant.elapsed()
}

/// The clock that [`Instant`] reads too. 64 bits of nanoseconds are 584 years since the machine was started.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no safe door to the clock's own number is as cheap, or works without a vDSO")]
fn monotonic_nanos() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours that lives until the call is over. The clock is always there.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    debug_assert_eq!(answer, 0, "Linux has a monotonic clock");
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_a_timer_fires_its_moment_has_come() {
        let at = now();
        #[expect(clippy::disallowed_methods, reason = "as tokio reads it")]
        let is_due = instant(at).into_std() <= Instant::now();
        assert!(!is_due || now() >= at);
        #[expect(clippy::disallowed_methods, reason = "as tokio reads it")]
        let on_timers = Instant::now() - start().instant;
        assert!(on_timers <= now(), "timers are never ahead of the clock");
    }
}
