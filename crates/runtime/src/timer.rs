//! Deadlines that cost nothing while they are met.
//!
//! Arming and disarming a timer for every read of every request would take a lock and a walk through the timer wheel
//! each time. A [`Timer`] stays armed at the earliest moment it was ever asked for; when that moment comes it looks
//! whether the deadline has moved on meanwhile and, if so, sleeps again. A connection that serves a thousand requests
//! a second thus touches the wheel a few times a minute.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::Sleep;

use crate::clock;

/// The deadline passed before the work was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the deadline passed")]
pub struct Elapsed;

/// One lazily armed timer, for one thing waited for at a time.
#[derive(Debug, Default)]
pub struct Timer {
    armed: Option<Armed>,
}

#[derive(Debug)]
struct Armed {
    sleep: Pin<Box<Sleep>>,
    at: Duration,
}

/// A moment that never comes (136 years after the clock's start).
pub const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

impl Timer {
    /// A timer that is not armed yet; it takes no memory on the heap until something is waited for.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits for `work`, at most until the moment `until` of [`clock::now`].
    ///
    /// # Errors
    /// [`Elapsed`] when the moment came first; `work` is dropped.
    pub fn run<F: Future>(
        &mut self,
        until: Duration,
        work: F,
    ) -> impl Future<Output = Result<F::Output, Elapsed>> {
        // Not an async function: that would keep `work` twice, once as an argument and once pinned.
        Run { timer: self, until, work }
    }

    /// Ready once the moment `until` has come; otherwise the task is woken when it does, or earlier.
    pub fn poll_elapsed(&mut self, cx: &mut Context<'_>, until: Duration) -> Poll<()> {
        if until >= NEVER {
            return Poll::Pending;
        }
        let armed = self.armed.get_or_insert_with(|| Armed {
            sleep: Box::pin(tokio::time::sleep_until(clock::instant(until))),
            at: until,
        });
        if armed.at > until {
            armed.rearm(until);
        }
        while armed.sleep.as_mut().poll(cx).is_ready() {
            if clock::now() >= until {
                return Poll::Ready(());
            }
            armed.rearm(until);
        }
        Poll::Pending
    }
}

pin_project! {
    /// Work with a deadline.
    struct Run<'a, F> {
        timer: &'a mut Timer,
        until: Duration,
        #[pin]
        work: F,
    }
}

impl<F: Future> Future for Run<'_, F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let run = self.project();
        if let Poll::Ready(output) = run.work.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        run.timer.poll_elapsed(cx, *run.until).map(|()| Err(Elapsed))
    }
}

impl Armed {
    fn rearm(&mut self, at: Duration) {
        self.at = at;
        self.sleep.as_mut().reset(clock::instant(at));
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn work_that_is_done_in_time_is_returned() {
        let mut timer = Timer::new();
        assert_eq!(timer.run(NEVER, async { 7 }).await, Ok(7));
        assert!(timer.armed.is_none(), "nothing was armed for work that was ready at once");
    }

    #[tokio::test]
    async fn a_deadline_in_the_past_ends_work_that_waits() {
        let mut timer = Timer::new();
        assert_eq!(timer.run(clock::now(), std::future::pending::<()>()).await, Err(Elapsed));
    }

    #[tokio::test]
    async fn a_deadline_that_moved_on_is_kept_by_the_timer_armed_before() {
        let mut timer = Timer::new();
        let early = clock::now() + Duration::from_millis(5);
        let late = early + Duration::from_millis(20);
        assert!(poll_fn(|cx| Poll::Ready(timer.poll_elapsed(cx, early))).await.is_pending());
        assert_eq!(timer.run(late, std::future::pending::<()>()).await, Err(Elapsed));
        assert!(clock::now() >= late, "the early arming must not end the wait for the later deadline");
    }

    #[tokio::test]
    async fn an_earlier_deadline_is_kept_by_a_timer_armed_for_a_later_one() {
        let mut timer = Timer::new();
        let late = clock::now() + Duration::from_secs(600);
        assert!(poll_fn(|cx| Poll::Ready(timer.poll_elapsed(cx, late))).await.is_pending());
        assert_eq!(timer.run(clock::now(), std::future::pending::<()>()).await, Err(Elapsed));
    }
}
