//! Requests that wait for an answer, looked after ten times a second, all of a core at once.
//!
//! An endpoint that falls silent tells nobody, so whoever waits for it must look up now and then. A timer for each request
//! would be armed and disarmed for nothing a million times before it is needed once; here a request leaves the moment from
//! which it wants to be looked after in a place of its connection's own, and a core goes through its places ten times a
//! second. What it finds says also how late the core itself is, since it knows when it meant to look.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use terrace_runtime::timer::NEVER;

/// From one look to the next.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The places of one core.
#[derive(Debug, Default)]
pub(crate) struct Lookout {
    places: RefCell<Vec<Rc<Place>>>,
}

/// Where a connection's (or a stream's) present request says from when on it wants to be woken.
#[derive(Debug)]
pub(crate) struct Place {
    from: Cell<Duration>,
    is_due: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Lookout {
    /// A place that is looked at for as long as it is held.
    pub(crate) fn place(&self) -> Rc<Place> {
        let place =
            Rc::new(Place { from: Cell::new(NEVER), is_due: Cell::new(false), waker: RefCell::new(None) });
        self.places.borrow_mut().push(Rc::clone(&place));
        place
    }

    /// Wakes who wants to be.
    pub(crate) fn look(&self, now: Duration) {
        self.places.borrow_mut().retain(|place| {
            if now >= place.from.get() {
                place.wake();
            }
            Rc::strong_count(place) > 1
        });
    }
}

impl Place {
    /// Wants to be woken at the first look from that moment on, and at each after it.
    #[inline]
    pub(crate) fn watch_from(&self, from: Duration) {
        self.from.set(from);
    }

    /// Wants not to be woken any more.
    #[inline]
    pub(crate) fn rest(&self) {
        self.from.set(NEVER);
        self.is_due.set(false);
    }

    /// Ready once for each look.
    #[inline]
    pub(crate) fn poll_due(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        if self.is_due.replace(false) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn wake(&self) {
        self.is_due.set(true);
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(place: &Place) -> bool {
        place.poll_due(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_request_is_woken_from_the_moment_it_asked_for_and_at_each_look_after() {
        let lookout = Lookout::default();
        let place = lookout.place();
        place.watch_from(Duration::from_millis(250));
        lookout.look(Duration::from_millis(200));
        assert!(!due(&place));
        lookout.look(Duration::from_millis(300));
        assert!(due(&place) && !due(&place));
        lookout.look(Duration::from_millis(400));
        assert!(due(&place));
        place.rest();
        lookout.look(Duration::from_millis(500));
        assert!(!due(&place));
    }

    #[test]
    fn a_place_that_nobody_holds_is_forgotten() {
        let lookout = Lookout::default();
        drop(lookout.place());
        let _held = lookout.place();
        lookout.look(Duration::ZERO);
        assert_eq!(lookout.places.borrow().len(), 1);
    }
}
