//! The one door for time. A moment is a [`Duration`] since the process first asked, so that pure code can be
//! handed any moment by a test; nothing else in the workspace may read a clock (`clippy.toml` sees to it).

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// The monotonic now: time since the clock's start. Costs one vDSO call, no system call.
#[must_use]
pub fn now() -> Duration {
    start().elapsed()
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
    tokio::time::Instant::from_std(start() + at)
}

#[expect(clippy::disallowed_methods, reason = "this is the door")]
fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}
