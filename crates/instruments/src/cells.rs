//! Cells of one number, one per core.
//!
//! Two cores adding to one cache line cost each other more than the rest of the work (2.4 ns alone, 5.8 ns
//! shared, on the reference machine). So each thread of the data plane names itself once and adds to its own
//! line; whoever reads sums them up. Threads without a name (control plane, tests) share the first cell.

use std::cell::Cell;

thread_local! {
    /// 0 for threads that never said who they are, else the number given plus one.
    static SHARD: Cell<usize> = const { Cell::new(0) };
}

/// Tells which cells the calling thread adds to: `shard` is its number among the data-plane threads, from 0.
/// To be called once when such a thread starts. A number beyond the meter's shards shares a cell: slower, never wrong.
pub fn set_shard(shard: usize) {
    SHARD.with(|cell| cell.set(shard.saturating_add(1)));
}

/// A value alone on its cache line. 64 bytes is the line of every server CPU we run on; pairs of lines (which
/// some prefetchers couple) would double the memory of each series for a gain we could not measure.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Padded<T>(pub(crate) T);

/// One `T` per shard, and one for threads without a shard.
#[derive(Debug)]
pub(crate) struct PerShard<T>(Box<[Padded<T>]>);

impl<T: Default> PerShard<T> {
    /// Cells for `shards` data-plane threads.
    pub(crate) fn new(shards: usize) -> Self {
        let mut cells = Vec::new();
        cells.resize_with(shards.saturating_add(1), Padded::default);
        Self(cells.into_boxed_slice())
    }

    /// The calling thread's own.
    #[inline]
    pub(crate) fn own(&self) -> &T {
        let wanted = SHARD.with(Cell::get);
        // A compare instead of a remainder: the remainder alone would cost more than the add.
        match self.0.get(wanted) {
            Some(cell) => &cell.0,
            None => &self.0[wanted % self.0.len()].0,
        }
    }

    /// All of them, for reading.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|cell| &cell.0)
    }
}
