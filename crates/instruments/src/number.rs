//! Counters and gauges: handles onto per-core cells.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use crate::cells::PerShard;

/// A number that only grows. Cheap to clone, free of locks; all clones add to the same number.
#[derive(Debug, Clone)]
pub struct Counter(pub(crate) Arc<PerShard<AtomicU64>>);

impl Counter {
    /// Adds one: a relaxed atomic add to a cache line of the calling core.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `by`.
    #[inline]
    pub fn add(&self, by: u64) {
        self.0.own().fetch_add(by, Relaxed);
    }

    /// The sum over all cores. For tests and pages; not for a request's way.
    pub fn value(&self) -> u64 {
        self.0.iter().fold(0, |sum, cell| sum.wrapping_add(cell.load(Relaxed)))
    }
}

/// A number that goes up and down. Cheap to clone, free of locks.
#[derive(Debug, Clone)]
pub struct Gauge(pub(crate) Arc<GaugeCells>);

/// The value is `level` plus all `moves`. `set` moves the level only, so that an add on another core at the same
/// moment is kept, as if it had come after.
#[derive(Debug)]
pub(crate) struct GaugeCells {
    level: AtomicI64,
    moves: PerShard<AtomicI64>,
}

impl GaugeCells {
    pub(crate) fn new(shards: usize) -> Self {
        Self { level: AtomicI64::new(0), moves: PerShard::new(shards) }
    }

    fn moved(&self) -> i64 {
        self.moves.iter().fold(0, |sum, cell| sum.wrapping_add(cell.load(Relaxed)))
    }
}

impl Gauge {
    /// Makes the value `to`. Reads every core's cell: for states, not for a request's way.
    pub fn set(&self, to: i64) {
        self.0.level.store(to.wrapping_sub(self.0.moved()), Relaxed);
    }

    /// Adds `by` on the calling core's cache line.
    #[inline]
    pub fn add(&self, by: i64) {
        self.0.moves.own().fetch_add(by, Relaxed);
    }

    /// Takes `by` away on the calling core's cache line.
    #[inline]
    pub fn sub(&self, by: i64) {
        self.0.moves.own().fetch_sub(by, Relaxed);
    }

    /// The value over all cores.
    pub fn value(&self) -> i64 {
        self.0.level.load(Relaxed).wrapping_add(self.0.moved())
    }
}
