//! Clocks that disagree. Each machine stamps its spans by its own clock, so a child can seem to begin before what
//! caused it, which cannot be.
//!
//! Only what is impossible is put right: a span of another process that seems to begin before its parent is moved, with
//! all that its process did below it, into the middle of its parent when it fits, else to its start (as Jaeger does it,
//! `model/adjuster/clockskew.go`). A child that outlives its parent is left alone, for work that goes on after the
//! answer is no error. Clocks that are wrong by less than a call takes are not noticed and do no harm. What is stored
//! and exported keeps its own times.

use std::time::{Duration, SystemTime};

use terrace_instruments::Span;

/// How much later `child` is shown than its clock said, where its parent is shown `parent_shift` later.
pub(super) fn shift(parent: &Span, parent_shift: Duration, child: &Span) -> Duration {
    if parent.service == child.service && parent.instance == child.instance {
        return parent_shift;
    }
    let caused = later(parent.start, parent_shift);
    let Ok(early) = caused.duration_since(child.start) else { return Duration::ZERO };
    match parent.duration.checked_sub(child.duration) {
        Some(spare) if !early.is_zero() => early.saturating_add(spare / 2),
        _ => early,
    }
}

/// `by` after `time`; `time` itself where that is beyond all times.
pub(super) fn later(time: SystemTime, by: Duration) -> SystemTime {
    match time.checked_add(by) {
        Some(later) => later,
        None => time,
    }
}
