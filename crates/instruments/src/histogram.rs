//! Durations, counted in buckets that grow with the value.
//!
//! Log-linear like HdrHistogram: below 32 µs each microsecond is a bucket; above, each power of two is cut into
//! 32 equal ones. A bucket is at most 1/32 of its value wide, and its middle stands for it, so a quantile is off
//! by at most 1/64 (1.6 %). Nothing is configured per histogram, so any two can be added up.
//!
//! Memory per series and core that records: 512 bytes, and 256 more for each power of two that occurs;
//! at most 7.5 KiB. Latencies of one route span some ten powers of two: about 3 KiB. Where traced durations are recorded
//! it is 1 KiB more, for the examples.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, SystemTime};

use crate::cells::PerShard;
use crate::trace::TraceId;

/// Buckets in one octave (power of two).
const SUB_BUCKETS: usize = 32;
const SUB_BITS: u32 = SUB_BUCKETS.trailing_zeros();
/// What is longer counts as this long: 1 h.
const VALUE_US_MAX: u64 = 3_600_000_000;
/// The linear part below 32 µs, then 2⁵ … 2³¹ µs; 1 h lies below 2³² µs.
const OCTAVES: usize = 28;

type Octave = Box<[AtomicU64; SUB_BUCKETS]>;

/// A distribution of durations from 1 µs to 1 h; longer counts as 1 h. Cheap to clone, free of locks.
#[derive(Debug, Clone)]
pub struct Histogram(pub(crate) Arc<PerShard<HistogramCells>>);

/// The buckets of one core; an octave is allocated when the first value falls into it.
#[derive(Debug, Default)]
pub(crate) struct HistogramCells {
    sum_ns: AtomicU64,
    octaves: [OnceLock<Octave>; OCTAVES],
    exemplars: OnceLock<Box<Mutex<Exemplars>>>,
}

/// For each classic bucket, and for what lies above them all, the last example.
type Exemplars = [Option<Exemplar>; CLASSIC_BOUNDS_US.len() + 1];

/// Bounds of the classic buckets, in microseconds.
const CLASSIC_BOUNDS_US: [u64; 16] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// A duration that was recorded, and the trace that shows how it came about (OpenMetrics 1.0 section 4.6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exemplar {
    /// The duration, at most an hour.
    pub value: Duration,
    /// Its trace, which was kept.
    pub trace: TraceId,
    /// When it was recorded.
    pub at: SystemTime,
}

impl Exemplar {
    /// The number of the classic bucket that it lies in.
    fn bucket(&self) -> usize {
        let value_ns = self.value.as_nanos();
        CLASSIC_BOUNDS_US.iter().take_while(|bound_us| u128::from(**bound_us) * 1_000 < value_ns).count()
    }
}

impl Histogram {
    /// Counts one duration: two relaxed atomic adds on the calling core's own memory.
    #[inline]
    pub fn record(&self, duration: Duration) {
        let cells = self.0.own();
        let nanos = nanos_counted(duration);
        let (octave, sub) = place(nanos / 1_000);
        cells.sum_ns.fetch_add(nanos, Relaxed);
        cells.octaves[octave].get_or_init(new_octave)[sub].fetch_add(1, Relaxed);
    }

    /// Counts one duration and remembers it as the example of its classic bucket. Only for requests whose trace is kept:
    /// it takes a lock, the calling core's own.
    pub fn record_traced(&self, duration: Duration, trace: TraceId, at: SystemTime) {
        self.record(duration);
        self.exemplify(duration, trace, at);
    }

    /// Remembers a duration that was counted before as the example of its classic bucket.
    #[cold]
    pub fn exemplify(&self, duration: Duration, trace: TraceId, at: SystemTime) {
        let value = duration.min(Duration::from_micros(VALUE_US_MAX));
        let exemplar = Exemplar { value, trace, at };
        let cells = self.0.own();
        lock(cells.exemplars.get_or_init(Box::default))[exemplar.bucket()] = Some(exemplar);
    }

    /// What was recorded so far, over all cores.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let mut snapshot = HistogramSnapshot::default();
        for cells in self.0.iter() {
            snapshot.absorb(cells);
        }
        snapshot
    }
}

fn lock(exemplars: &Mutex<Exemplars>) -> MutexGuard<'_, Exemplars> {
    match exemplars.lock() {
        Ok(guard) => guard,
        // An example is put in its place whole.
        Err(poisoned) => poisoned.into_inner(),
    }
}

#[cold]
fn new_octave() -> Octave {
    Box::new([const { AtomicU64::new(0) }; SUB_BUCKETS])
}

/// A duration as it is counted, in nanoseconds. In one step instead of by 128 bits, for each request pays for it.
#[inline]
fn nanos_counted(duration: Duration) -> u64 {
    if duration.as_secs() >= VALUE_US_MAX / 1_000_000 {
        return VALUE_US_MAX * 1_000;
    }
    duration.as_secs() * 1_000_000_000 + u64::from(duration.subsec_nanos())
}

/// Octave and bucket within it of a value in microseconds, at most [`VALUE_US_MAX`].
#[inline]
fn place(micros: u64) -> (usize, usize) {
    if micros < SUB_BUCKETS as u64 {
        return (0, micros as usize);
    }
    let exponent = micros.ilog2();
    // The highest bit is the octave's; what is left of the next five is the bucket.
    let sub = (micros >> (exponent - SUB_BITS)) as usize % SUB_BUCKETS;
    ((exponent - SUB_BITS + 1) as usize, sub)
}

/// The first value of a bucket, and the first value after it, in microseconds.
fn bounds_us(index: usize) -> (u64, u64) {
    let (octave, sub) = (index / SUB_BUCKETS, (index % SUB_BUCKETS) as u64);
    if octave == 0 {
        return (sub, sub + 1);
    }
    let width = 1_u64 << (octave - 1);
    let from = (SUB_BUCKETS as u64 + sub) * width;
    (from, from + width)
}

/// What a [`Histogram`] held at one moment. Can be added up over series and subtracted over time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// Counts by bucket, as many as the highest that occurred needs.
    counts: Vec<u64>,
    count: u64,
    sum_ns: u64,
    /// By bucket; at most one each.
    exemplars: Vec<Exemplar>,
}

impl HistogramSnapshot {
    /// Upper bounds of the classic buckets in the text formats, in microseconds; each has at most one exemplar.
    pub const CLASSIC_BOUNDS_US: [u64; 16] = CLASSIC_BOUNDS_US;

    /// Examples of recorded durations whose traces were kept, ordered by duration: the last one of each classic bucket
    /// and of what lies above them all, so at most 17.
    pub fn exemplars(&self) -> &[Exemplar] {
        &self.exemplars
    }

    /// Takes an example in, in the place of an older one of the same bucket.
    fn exemplify(&mut self, exemplar: Exemplar) {
        let bucket = exemplar.bucket();
        match self.exemplars.binary_search_by_key(&bucket, Exemplar::bucket) {
            Ok(at) if self.exemplars[at].at <= exemplar.at => self.exemplars[at] = exemplar,
            Ok(_) => {}
            Err(at) => self.exemplars.insert(at, exemplar),
        }
    }

    fn absorb(&mut self, cells: &HistogramCells) {
        self.sum_ns = self.sum_ns.wrapping_add(cells.sum_ns.load(Relaxed));
        for (octave, slot) in cells.octaves.iter().enumerate() {
            let Some(buckets) = slot.get() else { continue };
            for (sub, bucket) in buckets.iter().enumerate() {
                self.put(octave * SUB_BUCKETS + sub, bucket.load(Relaxed));
            }
        }
        if let Some(exemplars) = cells.exemplars.get() {
            lock(exemplars).iter().flatten().for_each(|exemplar| self.exemplify(*exemplar));
        }
    }

    fn put(&mut self, index: usize, count: u64) {
        if count == 0 {
            return;
        }
        if self.counts.len() <= index {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] += count;
        self.count += count;
    }

    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns)
    }

    /// The duration that a share `q` (0 to 1) of all did not exceed, within 1.6 % and half a microsecond; `None` when nothing was recorded.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        if self.count == 0 {
            return None;
        }
        let rank = ((q.clamp(0.0, 1.0) * self.count as f64).ceil() as u64).clamp(1, self.count);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                let (from, to) = bounds_us(index);
                return Some(Duration::from_nanos((from + to) * 500));
            }
        }
        None
    }

    /// How many lay at or below `bound`, where a bucket that `bound` cuts counts by its middle. Monotone in `bound`.
    pub fn count_at_most(&self, bound: Duration) -> u64 {
        let bound_ns = bound.as_nanos();
        let below = |index: &usize| {
            let (from, to) = bounds_us(*index);
            u128::from(from + to) * 500 <= bound_ns
        };
        (0..self.counts.len()).take_while(below).map(|index| self.counts[index]).sum()
    }

    /// Adds what another histogram held.
    pub fn merge(&mut self, other: &HistogramSnapshot) {
        for (index, count) in other.counts.iter().enumerate() {
            self.put(index, *count);
        }
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
        other.exemplars.iter().for_each(|exemplar| self.exemplify(*exemplar));
    }

    /// How many of each duration there were, in few bytes, for who keeps many: for each bucket that is not empty the
    /// distance from the one before and the count, both as LEB128, so two to three bytes for most. Sum and exemplars are
    /// not in it.
    pub fn packed(&self) -> Box<[u8]> {
        let (mut bytes, mut next) = (Vec::new(), 0);
        for (index, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            push_leb128(&mut bytes, (index - next) as u64);
            push_leb128(&mut bytes, *count);
            next = index + 1;
        }
        bytes.into_boxed_slice()
    }

    /// Adds what [`packed`](Self::packed) gave; what it did not give ends where it makes no sense.
    pub fn add_packed(&mut self, packed: &[u8]) {
        let (mut rest, mut next) = (packed, 0_usize);
        while let Some((distance, count)) = take_leb128(&mut rest).zip(take_leb128(&mut rest)) {
            let index = next.saturating_add(distance as usize);
            if index >= OCTAVES * SUB_BUCKETS {
                return;
            }
            self.put(index, count);
            next = index + 1;
        }
    }

    /// What was recorded since `earlier`, a snapshot of the same histogram. It has no exemplars.
    pub fn since(&self, earlier: &HistogramSnapshot) -> HistogramSnapshot {
        let mut difference = HistogramSnapshot::default();
        for (index, count) in self.counts.iter().enumerate() {
            let before = earlier.counts.get(index).copied().unwrap_or(0);
            difference.put(index, count.saturating_sub(before));
        }
        difference.sum_ns = self.sum_ns.saturating_sub(earlier.sum_ns);
        difference
    }
}

fn push_leb128(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// The next number; `None` at the end, and of one that has no end.
fn take_leb128(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if *first < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn histogram() -> Histogram {
        Histogram(Arc::new(PerShard::new(2)))
    }

    #[test]
    fn buckets_follow_one_another_without_gap_or_overlap() {
        let mut expected = 0;
        for index in 0..OCTAVES * SUB_BUCKETS {
            let (from, to) = bounds_us(index);
            assert_eq!(from, expected, "bucket {index}");
            expected = to;
        }
        assert!(expected > VALUE_US_MAX, "an hour has a bucket");
    }

    #[test]
    fn nothing_recorded_has_no_quantile() {
        assert_eq!(histogram().snapshot().quantile(0.5), None);
        assert_eq!(histogram().snapshot().count(), 0);
    }

    #[test]
    fn a_duration_beyond_an_hour_counts_as_an_hour() {
        let histogram = histogram();
        histogram.record(Duration::MAX);
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.sum(), Duration::from_secs(3_600));
        let error = snapshot.quantile(1.0).unwrap().as_secs_f64() / 3_600.0 - 1.0;
        assert!(error.abs() < 0.016, "{error}");
    }

    #[test]
    fn memory_is_allocated_only_for_octaves_that_occur() {
        let histogram = histogram();
        histogram.record(Duration::from_millis(3));
        let allocated: usize = histogram
            .0
            .iter()
            .flat_map(|cells| &cells.octaves)
            .filter(|octave| octave.get().is_some())
            .count();
        assert_eq!(allocated, 1);
        assert!(size_of::<HistogramCells>() <= 512, "{}", size_of::<HistogramCells>());
    }

    #[test]
    fn since_shows_only_what_came_after() {
        let histogram = histogram();
        histogram.record(Duration::from_millis(1));
        let earlier = histogram.snapshot();
        histogram.record(Duration::from_millis(500));
        let since = histogram.snapshot().since(&earlier);
        assert_eq!((since.count(), since.sum()), (1, Duration::from_millis(500)));
        let mut whole = earlier.clone();
        whole.merge(&since);
        assert_eq!(whole, histogram.snapshot());
    }

    #[test]
    fn each_classic_bucket_remembers_the_last_kept_trace_and_no_other_record_does() {
        let histogram = histogram();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        histogram.record(Duration::from_millis(700));
        assert_eq!(histogram.snapshot().exemplars(), []);
        histogram.record_traced(Duration::from_millis(700), TraceId(1), at(1));
        histogram.record_traced(Duration::from_millis(800), TraceId(2), at(2));
        histogram.record_traced(Duration::from_millis(1), TraceId(3), at(3));
        histogram.record_traced(Duration::from_secs(70), TraceId(4), at(4));
        let snapshot = histogram.snapshot();
        let shown: Vec<_> = snapshot.exemplars().iter().map(|one| (one.value, one.trace.0)).collect();
        let expected =
            [(Duration::from_millis(1), 3), (Duration::from_millis(800), 2), (Duration::from_secs(70), 4)];
        assert_eq!((shown.as_slice(), snapshot.count()), (expected.as_slice(), 5));
        let bucket =
            |micros| Exemplar { value: Duration::from_micros(micros), trace: TraceId(1), at: at(0) }.bucket();
        assert_eq!((bucket(500), bucket(501), bucket(1_000)), (0, 1, 1), "a bound is in its own bucket");
    }

    #[test]
    fn of_two_cores_examples_the_newer_is_shown() {
        let histogram = histogram();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        std::thread::scope(|scope| {
            for shard in 0..2 {
                let histogram = &histogram;
                scope.spawn(move || {
                    crate::set_shard(shard);
                    let trace = TraceId(shard as u128 + 1);
                    histogram.record_traced(Duration::from_millis(3), trace, at(10 - shard as u64));
                });
            }
        });
        let snapshot = histogram.snapshot();
        assert_eq!((snapshot.exemplars().len(), snapshot.exemplars()[0].trace), (1, TraceId(1)));
        let mut merged = HistogramSnapshot::default();
        merged.merge(&snapshot);
        assert_eq!(merged.exemplars(), snapshot.exemplars());
    }

    fn durations_us() -> impl Strategy<Value = Vec<u64>> {
        // Evenly over magnitudes, as latencies are.
        let value =
            (0_u32..32, any::<u64>()).prop_map(|(bits, value)| (value & ((1 << bits) - 1)).min(VALUE_US_MAX));
        proptest::collection::vec(value, 1..300)
    }

    proptest! {
        #[test]
        fn what_is_packed_is_all_there_again(values in durations_us(), more in durations_us()) {
            let histogram = histogram();
            values.iter().for_each(|us| histogram.record(Duration::from_micros(*us)));
            let earlier = histogram.snapshot();
            more.iter().for_each(|us| histogram.record(Duration::from_micros(*us)));
            let whole = histogram.snapshot();
            let mut added = HistogramSnapshot::default();
            added.add_packed(&whole.since(&earlier).packed());
            added.add_packed(&earlier.packed());
            prop_assert_eq!((&added.counts, added.count), (&whole.counts, whole.count));
        }

        #[test]
        fn every_value_lies_in_its_bucket(micros in 0..=VALUE_US_MAX) {
            let (octave, sub) = place(micros);
            let (from, to) = bounds_us(octave * SUB_BUCKETS + sub);
            prop_assert!(from <= micros && micros < to);
            prop_assert!(to - from == 1 || (to - from) * 32 <= from);
        }

        #[test]
        fn quantiles_are_within_two_percent_of_the_exact_ones(mut values in durations_us(), q in 0.0..=1.0_f64) {
            let histogram = histogram();
            values.iter().for_each(|micros| histogram.record(Duration::from_micros(*micros)));
            values.sort_unstable();
            let rank = ((q * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let exact = values[rank - 1] as f64;
            let shown = histogram.snapshot().quantile(q).unwrap().as_nanos() as f64 / 1e3;
            prop_assert!((shown - exact).abs() <= (exact * 0.02).max(0.5), "exact {exact} µs, shown {shown} µs");
        }

        #[test]
        fn cumulative_counts_never_fall_and_end_at_the_count(values in durations_us(), mut bounds in durations_us()) {
            let histogram = histogram();
            values.iter().for_each(|micros| histogram.record(Duration::from_micros(*micros)));
            let snapshot = histogram.snapshot();
            bounds.sort_unstable();
            bounds.push(2 * VALUE_US_MAX);
            let counts: Vec<u64> = bounds.iter().map(|at| snapshot.count_at_most(Duration::from_micros(*at))).collect();
            prop_assert!(counts.is_sorted());
            prop_assert_eq!(*counts.last().unwrap(), values.len() as u64);
        }
    }
}
