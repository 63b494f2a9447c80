//! Two kinds of events counted over a sliding window, from several cores at once, without a lock or a timer.
//!
//! The window is ten cells in a ring. Each cell is one atomic word that carries the number of the slice of
//! time it belongs to beside its two counts, so whoever comes first in a new slice takes the cell over with
//! the same compare-and-swap that counts. A cell whose tag is too old is simply not added up: nothing has
//! to be swept, and a window that nobody touches costs nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Slices in a window: the share of the window by which a count may be too old is one in so many.
const CELLS: u64 = 10;
const COUNT_BITS: u32 = 22;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const TAG_MASK: u64 = (1 << (64 - 2 * COUNT_BITS)) - 1;

/// A sliding window over two kinds of events. Shared by reference; every method may run on any core.
///
/// A cell counts at most four million of each kind and then stays full, which is far above what one process
/// serves in a tenth of a window.
#[derive(Debug, Default)]
pub(crate) struct Window {
    cells: [AtomicU64; CELLS as usize],
}

/// What a window holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) plain: u64,
    pub(crate) marked: u64,
}

impl Window {
    /// Counts one event that happened `now`, in a window `span` long.
    pub(crate) fn record(&self, span: Duration, now: Duration, marked: bool) {
        let slice = slice_of(span, now);
        let cell = &self.cells[(slice % CELLS) as usize];
        let tag = slice & TAG_MASK;
        let counted = |word: u64| add(word, tag, marked);
        // Failure means that the cell already belongs to a later slice: this event came too late to matter.
        let _ = cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted);
    }

    /// What happened within `span` before `now`.
    pub(crate) fn sums(&self, span: Duration, now: Duration) -> Sums {
        let tag = slice_of(span, now) & TAG_MASK;
        let mut sums = Sums::default();
        for cell in &self.cells {
            let word = cell.load(Ordering::Relaxed);
            if tag.wrapping_sub(tag_of(word)) & TAG_MASK < CELLS {
                sums.plain += word & COUNT_MAX;
                sums.marked += (word >> COUNT_BITS) & COUNT_MAX;
            }
        }
        sums
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        for cell in &self.cells {
            cell.store(0, Ordering::Relaxed);
        }
    }
}

fn tag_of(word: u64) -> u64 {
    word >> (2 * COUNT_BITS)
}

/// The number of the slice in which `now` lies; from 1, so that an untouched cell belongs to none but slice 0.
fn slice_of(span: Duration, now: Duration) -> u64 {
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    1 + nanos(now) / (nanos(span) / CELLS).max(1)
}

/// The word with one event more, or nothing when the cell has moved on to a later slice.
fn add(word: u64, tag: u64, marked: bool) -> Option<u64> {
    let ahead = tag.wrapping_sub(tag_of(word)) & TAG_MASK;
    let is_late = ahead > TAG_MASK / 2;
    if is_late {
        return None;
    }
    let kept = if ahead == 0 { word } else { tag << (2 * COUNT_BITS) };
    let shift = if marked { COUNT_BITS } else { 0 };
    let is_full = (kept >> shift) & COUNT_MAX == COUNT_MAX;
    Some(if is_full { kept } else { kept + (1 << shift) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPAN: Duration = Duration::from_secs(10);

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn events_leave_when_the_window_has_passed() {
        let window = Window::default();
        window.record(SPAN, at(500), false);
        window.record(SPAN, at(700), true);
        assert_eq!(window.sums(SPAN, at(9_900)), Sums { plain: 1, marked: 1 });
        assert_eq!(window.sums(SPAN, at(10_100)), Sums::default());
    }

    #[test]
    fn a_fresh_window_is_empty_at_any_time() {
        for millis in [0, 1, 999, 1_000, 1_000_000_000] {
            assert_eq!(Window::default().sums(SPAN, at(millis)), Sums::default());
        }
    }

    #[test]
    fn an_event_that_comes_too_late_does_not_disturb_the_present() {
        let window = Window::default();
        window.record(SPAN, at(25_000), false);
        window.record(SPAN, at(15_000), true);
        assert_eq!(window.sums(SPAN, at(25_000)), Sums { plain: 1, marked: 0 });
    }

    #[test]
    fn a_full_cell_stays_full_and_spills_into_nothing() {
        let word = add((5 << (2 * COUNT_BITS)) | COUNT_MAX, 5, false).expect("not late");
        assert_eq!(word, (5 << (2 * COUNT_BITS)) | COUNT_MAX);
    }

    proptest! {
        /// Against the naive window: a list of events, filtered by slice.
        #[test]
        fn sums_are_those_of_a_list_of_events(gaps in prop::collection::vec((0_u64..3_000, any::<bool>()), 1..200)) {
            let window = Window::default();
            let (mut now, mut events) = (0, Vec::new());
            for (gap, marked) in gaps {
                now += gap;
                window.record(SPAN, at(now), marked);
                events.push((now / 1_000, marked));
                let inside = |slice: u64| now / 1_000 - slice < CELLS;
                let plain = events.iter().filter(|(slice, marked)| inside(*slice) && !marked).count() as u64;
                let marked = events.iter().filter(|(slice, marked)| inside(*slice) && *marked).count() as u64;
                prop_assert_eq!(window.sums(SPAN, at(now)), Sums { plain, marked });
            }
        }
    }

    #[test]
    fn several_cores_count_every_event() {
        let window = Window::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    (0..10_000).for_each(|event| window.record(SPAN, at(event / 5), event % 4 == 0))
                });
            }
        });
        assert_eq!(window.sums(SPAN, at(2_000)), Sums { plain: 30_000, marked: 10_000 });
    }
}
