//! What a histogram recorded of late, in pieces that are put together for any time that ends now.
//!
//! The median of ten seconds is not the mean of ten medians: twenty fast requests and then a slow one would have a median
//! half as long as the slow one. So what each second brought is kept for a while, and what each quarter of a minute, five
//! minutes and half hour brought for longer; a question takes the longest pieces that lie within its time. Where only
//! longer pieces are left than would fit at its far end, one of them sticks out: by less than 15 s of up to six minutes,
//! 5 min of up to 75 minutes, and half an hour of up to a day.
//!
//! Bounded by the number of pieces and by their bytes together: of a histogram with very many different durations the
//! half hours do not reach back a whole day.

use std::collections::VecDeque;

use terrace_instruments::HistogramSnapshot;

use super::rings::{Resolution, Second};

/// Pieces kept of a second, a quarter of a minute, five minutes and half an hour each.
const KEPT: [usize; 4] = [30, 24, 15, 49];
const LONG: usize = 2;
const HALF_HOUR: usize = 3;
const HALF_HOUR_SECS: u32 = 1_800;
/// Bytes of all pieces of one histogram.
pub(crate) const BYTES_MAX: usize = 48 << 10;

/// What was recorded after `from`, up to and with `to`.
#[derive(Debug)]
struct Piece {
    from: Second,
    to: Second,
    packed: Box<[u8]>,
}

/// Pieces of one histogram, of each length from old to new.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    of: [VecDeque<Piece>; KEPT.len()],
    bytes: usize,
    /// After which second the open half hour begins.
    half_hour: Second,
}

impl Pieces {
    /// Nothing is known of what went right before.
    pub(crate) fn begin(&mut self, second: Second) {
        self.half_hour = second;
    }

    /// Takes what a step brought that ended with `to`.
    pub(crate) fn push(&mut self, resolution: Resolution, from: Second, to: Second, new: &HistogramSnapshot) {
        let of = match resolution {
            Resolution::Second => 0,
            Resolution::Quarter => 1,
            Resolution::Long => LONG,
        };
        self.keep(of, Piece { from, to, packed: new.packed() });
        if of == LONG && (self.half_hour + 1) / HALF_HOUR_SECS < (to + 1) / HALF_HOUR_SECS {
            self.end_half_hour(to);
        }
    }

    fn end_half_hour(&mut self, to: Second) {
        let from = std::mem::replace(&mut self.half_hour, to);
        let mut parts = self.of[LONG].iter().filter(|piece| piece.from >= from).peekable();
        // Without its beginning it would claim more than it knows.
        if parts.peek().is_some_and(|first| first.from == from) {
            let mut whole = HistogramSnapshot::default();
            parts.for_each(|piece| whole.add_packed(&piece.packed));
            self.keep(HALF_HOUR, Piece { from, to, packed: whole.packed() });
        }
    }

    fn keep(&mut self, of: usize, piece: Piece) {
        self.bytes += piece.bytes();
        self.of[of].push_back(piece);
        if self.of[of].len() > KEPT[of] {
            self.drop_oldest(of);
        }
        while self.bytes > BYTES_MAX {
            let longest = self.of.iter().rposition(|pieces| !pieces.is_empty());
            longest.into_iter().for_each(|of| self.drop_oldest(of));
        }
    }

    fn drop_oldest(&mut self, of: usize) {
        let dropped = self.of[of].pop_front();
        self.bytes -= dropped.map_or(0, |piece| piece.bytes());
    }

    /// Adds to `whole` what was recorded after `start`.
    pub(crate) fn add_since(&self, start: Second, whole: &mut HistogramSnapshot) {
        let mut end = Second::MAX;
        while let Some(piece) = self.ending(start, end) {
            whole.add_packed(&piece.packed);
            end = piece.from;
        }
    }

    /// The piece that ends last by `end`; of several the longest that does not begin before `start`, else the shortest.
    fn ending(&self, start: Second, end: Second) -> Option<&Piece> {
        let last = |pieces: &VecDeque<Piece>| {
            let ended = pieces.partition_point(|piece| piece.to <= end);
            ended.checked_sub(1)
        };
        let candidates = || self.of.iter().filter_map(|pieces| pieces.get(last(pieces)?));
        let to = candidates().map(|piece| piece.to).max().filter(|to| *to > start)?;
        let ending = || candidates().filter(|piece| piece.to == to);
        let within = ending().filter(|piece| piece.from >= start).min_by_key(|piece| piece.from);
        within.or_else(|| ending().max_by_key(|piece| piece.from))
    }
}

impl Piece {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.packed.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;
    use terrace_instruments::{Family, Kind, Meter, SeriesValue};

    static DURATION: Family =
        Family { name: "duration", help: "", unit: "seconds", labels: &[], kind: Kind::Histogram };

    fn recorded(micros: impl Iterator<Item = u64>) -> HistogramSnapshot {
        let meter = Meter::new(1);
        let histogram = meter.histogram(&DURATION, &[]);
        micros.for_each(|micros| histogram.record(Duration::from_micros(micros)));
        let mut collected = meter.collect();
        match collected.remove(0).series.remove(0).value {
            SeriesValue::Histogram(snapshot) => snapshot,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn however_wide_what_is_recorded_its_bytes_are_bounded_and_the_newest_is_there() {
        let wide = recorded((0..32_u32).flat_map(|bits| (32..64).map(move |sub| (sub << bits) >> 5)));
        let mut pieces = Pieces::default();
        for second in 1..20_000 {
            pieces.push(Resolution::Second, second - 1, second, &wide);
            for resolution in [Resolution::Quarter, Resolution::Long] {
                if resolution.ended(second) != resolution.step_of(second) {
                    let from = second.saturating_sub(resolution.step_secs());
                    pieces.push(resolution, from, second, &wide);
                }
            }
            assert!(pieces.bytes <= BYTES_MAX);
        }
        let mut last = HistogramSnapshot::default();
        pieces.add_since(19_989, &mut last);
        assert_eq!(last.count(), 10 * wide.count());
    }

    proptest! {
        #[test]
        fn all_of_a_time_is_counted_once(secs in 1..600_u32, last in 1..30_u32) {
            let one = recorded(std::iter::once(1_000));
            let (mut pieces, mut quarter) = (Pieces::default(), 0);
            for second in 1..=secs {
                pieces.push(Resolution::Second, second - 1, second, &one);
                if Resolution::Quarter.ended(second) != Resolution::Quarter.step_of(second) {
                    let whole = recorded((quarter..second).map(|_| 1_000));
                    pieces.push(Resolution::Quarter, std::mem::replace(&mut quarter, second), second, &whole);
                }
            }
            let mut whole = HistogramSnapshot::default();
            pieces.add_since(secs.saturating_sub(last), &mut whole);
            prop_assert_eq!(whole.count(), u64::from(last.min(secs)));
        }
    }
}
