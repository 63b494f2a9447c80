//! Waiting for a condition. A test names what it waits for, so that the failure does.

use std::time::{Duration, Instant};

/// How long a condition may take to come true: far longer than it does anywhere, since a loaded machine is no defect.
pub const DEADLINE: Duration = Duration::from_secs(40);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks until there is something to see, and returns it.
///
/// # Panics
/// When nothing is seen within [`DEADLINE`].
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = now() + DEADLINE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(now() < deadline, "waited in vain until {what}");
        std::thread::sleep(PAUSE);
    }
}

/// [`until`] a condition holds.
///
/// # Panics
/// When it does not hold within [`DEADLINE`].
#[track_caller]
pub fn until_true(what: &str, mut holds: impl FnMut() -> bool) {
    until(what, || holds().then_some(()));
}

#[expect(clippy::disallowed_methods, reason = "tests wait in the time of the machine they run on")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
