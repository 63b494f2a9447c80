//! One histogram over time: how many, how long in sum, and four quantiles, at each resolution from its own difference.
//!
//! The median of five minutes is not the mean of three hundred medians. So the histogram as it was when a step began is
//! kept until the step ends, and the quantiles of the step are those of the difference.
//!
//! For a time that ends now and is none of those steps, such as the last ten seconds, see [`pieces`](super::pieces).
//!
//! Memory of one: six rings of 8,160 bytes, three snapshots of at most 8 KiB each (3 KiB for latencies between 100 µs
//! and 10 s), and 48 KiB of pieces: 122,800 bytes at most, so a thousand histograms stay below 118 MiB.
//!
//! A histogram of ours begins again only after a gap; one that shrinks without a gap is a sum of which a part is gone, and
//! what is left brought nothing new.

use terrace_instruments::HistogramSnapshot;

use super::Quantile;
use super::pieces::{self, Pieces};
use super::rings::{Resolution, Rings, Second};
use super::store::Identity;

const QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

/// A histogram's rings.
#[derive(Debug)]
pub(crate) struct Distribution {
    pub(crate) identity: Identity,
    /// Of the last look, at the beginning of the open quarter of a minute, and of the open five minutes.
    last: Option<HistogramSnapshot>,
    quarter: HistogramSnapshot,
    long: HistogramSnapshot,
    /// After which second the open quarter of a minute and the open five minutes begin.
    began: [Second; 2],
    pieces: Pieces,
    /// Recorded a second.
    pub(crate) count: Rings,
    /// Seconds recorded, a second.
    pub(crate) sum: Rings,
    quantiles: [Rings; QUANTILES.len()],
}

impl Distribution {
    /// One of which nothing is known up to `filled`.
    pub(crate) fn new(identity: Identity, filled: Second) -> Self {
        let none = HistogramSnapshot::default;
        let (count, sum) = (Rings::new(filled), Rings::new(filled));
        let quantiles = std::array::from_fn(|_| Rings::new(filled));
        let mut pieces = Pieces::default();
        pieces.begin(filled);
        let (quarter, long, began) = (none(), none(), [filled; 2]);
        Self { identity, last: None, quarter, long, began, pieces, count, sum, quantiles }
    }

    /// The rings of a quantile, in seconds; NaN where nothing was recorded.
    pub(crate) fn quantile(&self, quantile: Quantile) -> &Rings {
        &self.quantiles[match quantile {
            Quantile::P50 => 0,
            Quantile::P90 => 1,
            Quantile::P99 => 2,
            Quantile::P999 => 3,
        }]
    }

    /// Adds to `whole` what was recorded after `start`, as far as that is kept.
    pub(crate) fn add_since(&self, start: Second, whole: &mut HistogramSnapshot) {
        self.pieces.add_since(start, whole);
    }

    /// Takes one look.
    pub(crate) fn see(&mut self, second: Second, now: &HistogramSnapshot, is_born: bool, gap_secs_max: u32) {
        let since = second.saturating_sub(self.count.filled());
        if since == 0 {
            return;
        }
        self.identity.seen = second;
        let last = self.last.replace(now.clone()).or_else(|| is_born.then(HistogramSnapshot::default));
        match last.filter(|_| since <= gap_secs_max) {
            Some(last) => self.fill(second, now, &now.since(&last)),
            None => self.begin(second, now),
        }
    }

    /// Nothing is known of the time before.
    fn begin(&mut self, second: Second, now: &HistogramSnapshot) {
        (self.quarter, self.long, self.began) = (now.clone(), now.clone(), [second; 2]);
        self.pieces.begin(second);
        for rings in [&mut self.count, &mut self.sum].into_iter().chain(&mut self.quantiles) {
            rings.skip(second);
        }
    }

    fn fill(&mut self, second: Second, now: &HistogramSnapshot, new: &HistogramSnapshot) {
        let (begin, secs) = (self.count.filled() + 1, f64::from(second - self.count.filled()));
        self.pieces.push(Resolution::Second, begin - 1, second, new);
        self.count.fill(second, (new.count() as f64 / secs) as f32);
        self.sum.fill(second, (new.sum().as_secs_f64() / secs) as f32);
        for (rings, value) in self.quantiles.iter_mut().zip(quantiles(new)) {
            rings.fill(second, value);
        }
        for resolution in [Resolution::Quarter, Resolution::Long] {
            self.end_steps(resolution, begin, second, now);
        }
    }

    /// Sets the quantiles of the steps that ended between `begin` and `second`, and begins the next.
    fn end_steps(&mut self, resolution: Resolution, begin: Second, second: Second, now: &HistogramSnapshot) {
        let ended = resolution.step_of(begin)..resolution.ended(second);
        if ended.is_empty() {
            return;
        }
        let (open, began) = match resolution {
            Resolution::Quarter => (&mut self.quarter, &mut self.began[0]),
            _ => (&mut self.long, &mut self.began[1]),
        };
        let new = now.since(open);
        let values = quantiles(&new);
        *open = now.clone();
        self.pieces.push(resolution, std::mem::replace(began, second), second, &new);
        for step in ended {
            for (rings, value) in self.quantiles.iter_mut().zip(values) {
                rings.set(resolution, step, value);
            }
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        // The highest bucket that a snapshot can have needs 28 octaves of 32 counts; then there are its examples.
        const SNAPSHOT_BYTES_MAX: usize = 8 << 10;
        size_of::<Self>() + 3 * SNAPSHOT_BYTES_MAX + pieces::BYTES_MAX
    }
}

fn quantiles(of: &HistogramSnapshot) -> [f32; QUANTILES.len()] {
    QUANTILES.map(|q| of.quantile(q).map_or(f32::NAN, |value| value.as_secs_f32()))
}
