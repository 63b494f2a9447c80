//! Metrics (metrics/v1 `metrics.proto`), as they are read. Exemplars and metadata are passed over; points that say that they
//! have no value are left out silently, as that is what they say.

use std::sync::Arc;

use crate::request::{Received, messages, walk};
use crate::value::{Origin, push_pair};
use crate::wire::{Fields, Raw, from_zigzag, packed_fixed64, packed_varints, text};
use crate::{Attributes, BUCKETS_MAX, DecodeError, ITEMS_MAX, NAME_BYTES_MAX};

/// A metric of one sender.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Such as `http.server.request.duration`.
    pub name: String,
    /// One sentence; may be empty.
    pub description: String,
    /// By UCUM, such as `s`, `By`, `{request}`; may be empty.
    pub unit: String,
    /// Who sent it.
    pub service: Arc<str>,
    /// Which instance of it; may be empty.
    pub instance: Arc<str>,
    /// Its points.
    pub data: Data,
}

/// What the numbers mean.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Values as they were.
    Gauge(Vec<NumberPoint>),
    /// Sums.
    Sum {
        /// Since when they count.
        temporality: Temporality,
        /// Whether they only grow.
        is_monotone: bool,
        /// The points.
        points: Vec<NumberPoint>,
    },
    /// Distributions over given buckets.
    Histogram {
        /// Since when they count.
        temporality: Temporality,
        /// The points.
        points: Vec<HistogramPoint>,
    },
    /// Distributions over buckets that grow by a factor.
    Exponential {
        /// Since when they count.
        temporality: Temporality,
        /// The points.
        points: Vec<ExponentialPoint>,
    },
    /// Quantiles that the sender worked out.
    Summary(Vec<SummaryPoint>),
}

/// Since when a sum counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Temporality {
    /// Since the sender's start.
    #[default]
    Cumulative,
    /// Since the point before.
    Delta,
}

/// A number of one set of attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NumberPoint {
    /// Which series.
    pub attributes: Attributes,
    /// Since when it counts, in nanoseconds since 1970; 0 where unknown.
    pub start: u64,
    /// When, in nanoseconds since 1970.
    pub time: u64,
    /// The number.
    pub value: f64,
}

/// A distribution over given buckets.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HistogramPoint {
    /// Which series.
    pub attributes: Attributes,
    /// Since when it counts, in nanoseconds since 1970; 0 where unknown.
    pub start: u64,
    /// When, in nanoseconds since 1970.
    pub time: u64,
    /// How many.
    pub count: u64,
    /// Their sum, where it is known.
    pub sum: Option<f64>,
    /// Upper ends of all buckets but the last, included.
    pub bounds: Vec<f64>,
    /// One more than there are bounds; none where only count and sum are known.
    pub counts: Vec<u64>,
}

/// A distribution over buckets of which each ends at `base` times the end before, `base = 2^(2^-scale)`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ExponentialPoint {
    /// Which series.
    pub attributes: Attributes,
    /// Since when it counts, in nanoseconds since 1970; 0 where unknown.
    pub start: u64,
    /// When, in nanoseconds since 1970.
    pub time: u64,
    /// How many.
    pub count: u64,
    /// Their sum, where it is known.
    pub sum: Option<f64>,
    /// How fine the buckets are.
    pub scale: i32,
    /// How many were zero, or too near to it.
    pub zero_count: u64,
    /// Of values above.
    pub positive: Buckets,
    /// Of values below, by their absolute value.
    pub negative: Buckets,
}

/// Counts of buckets: that at `i` is of values in `(base^(offset+i), base^(offset+i+1)]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Buckets {
    /// Of the first.
    pub offset: i32,
    /// How many in each.
    pub counts: Vec<u64>,
}

/// Quantiles.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SummaryPoint {
    /// Which series.
    pub attributes: Attributes,
    /// Since when it counts, in nanoseconds since 1970; 0 where unknown.
    pub start: u64,
    /// When, in nanoseconds since 1970.
    pub time: u64,
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Quantile and value.
    pub quantiles: Vec<(f64, f64)>,
}

/// Reads an ExportMetricsServiceRequest. Metrics without name, and points beyond the bound, are refused.
///
/// # Errors
/// [`DecodeError::Malformed`].
pub fn read_metrics(request: &[u8]) -> Result<Received<Metric>, DecodeError> {
    let mut received = Received::new();
    let mut room = ITEMS_MAX;
    walk(request, |origin, _scope, bytes| {
        let (metric, refused) = read_metric(origin, bytes, &mut room)?;
        if refused > 0 {
            received.refuse(refused, "there are more data points in one request than Terrace takes (32768)");
        }
        match metric {
            Some(metric) => received.take(metric),
            None => received.refuse(1, "a metric needs a name and data"),
        }
        Ok(())
    })?;
    Ok(received)
}

/// Metric: 1 name, 2 description, 3 unit, 5 gauge, 7 sum, 9 histogram, 10 exponential histogram, 11 summary.
fn read_metric(
    origin: &Origin,
    bytes: &[u8],
    room: &mut usize,
) -> Result<(Option<Metric>, u64), DecodeError> {
    let (mut name, mut description, mut unit) = (String::new(), String::new(), String::new());
    let (mut data, mut refused) = (None, 0);
    for field in Fields::new(bytes) {
        let (number, Raw::Bytes(bytes)) = field? else { continue };
        match number {
            1 => name = text(bytes, NAME_BYTES_MAX).into_owned(),
            2 => description = text(bytes, NAME_BYTES_MAX).into_owned(),
            3 => unit = text(bytes, NAME_BYTES_MAX).into_owned(),
            5 | 7 | 9 | 10 | 11 => data = Some(read_data(number, bytes, room, &mut refused)?),
            _ => {}
        }
    }
    let (service, instance) = (origin.service.clone(), origin.instance.clone());
    let data = data.filter(|_| !name.is_empty());
    Ok((data.map(|data| Metric { name, description, unit, service, instance, data }), refused))
}

/// All kinds of data: 1 points, 2 temporality; Sum: 3 is_monotonic.
fn read_data(number: u32, bytes: &[u8], room: &mut usize, refused: &mut u64) -> Result<Data, DecodeError> {
    let (mut temporality, mut is_monotone) = (Temporality::Cumulative, false);
    for field in Fields::new(bytes) {
        match field? {
            (2, Raw::Varint(1)) => temporality = Temporality::Delta,
            (3, Raw::Varint(bool)) => is_monotone = bool != 0,
            _ => {}
        }
    }
    let mut points = Points { bytes, room, refused };
    Ok(match number {
        5 => Data::Gauge(points.read(number_point)?),
        7 => Data::Sum { temporality, is_monotone, points: points.read(number_point)? },
        9 => Data::Histogram { temporality, points: points.read(histogram_point)? },
        10 => Data::Exponential { temporality, points: points.read(exponential_point)? },
        _ => Data::Summary(points.read(summary_point)?),
    })
}

struct Points<'a> {
    bytes: &'a [u8],
    room: &'a mut usize,
    refused: &'a mut u64,
}

impl Points<'_> {
    fn read<T>(
        &mut self,
        one: impl Fn(&[u8]) -> Result<Option<T>, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let mut points = Vec::new();
        for point in messages(self.bytes, 1) {
            match one(point?)? {
                None => {}
                Some(_) if *self.room == 0 => *self.refused += 1,
                Some(point) => {
                    *self.room -= 1;
                    points.push(point);
                }
            }
        }
        Ok(points)
    }
}

/// `DataPointFlags`: there is no value.
const NO_RECORDED_VALUE: u64 = 1;

/// NumberDataPoint: 2 start, 3 time, 4 double, 6 int, 7 attributes, 8 flags.
fn number_point(bytes: &[u8]) -> Result<Option<NumberPoint>, DecodeError> {
    let (mut point, mut flags, mut value) = (NumberPoint::default(), 0, None);
    for field in Fields::new(bytes) {
        match field? {
            (2, Raw::Fixed64(nanos)) => point.start = nanos,
            (3, Raw::Fixed64(nanos)) => point.time = nanos,
            (4, Raw::Fixed64(bits)) => value = Some(f64::from_bits(bits)),
            (6, Raw::Fixed64(int)) => value = Some(int as i64 as f64),
            (7, Raw::Bytes(pair)) => push_pair(&mut point.attributes, pair)?,
            (8, Raw::Varint(bits)) => flags = bits,
            _ => {}
        }
    }
    let value = value.filter(|_| flags & NO_RECORDED_VALUE == 0);
    Ok(value.map(|value| NumberPoint { value, ..point }))
}

/// HistogramDataPoint: 2 start, 3 time, 4 count, 5 sum, 6 bucket_counts, 7 explicit_bounds, 9 attributes, 10 flags.
fn histogram_point(bytes: &[u8]) -> Result<Option<HistogramPoint>, DecodeError> {
    let (mut point, mut flags) = (HistogramPoint::default(), 0);
    for field in Fields::new(bytes) {
        match field? {
            (2, Raw::Fixed64(nanos)) => point.start = nanos,
            (3, Raw::Fixed64(nanos)) => point.time = nanos,
            (4, Raw::Fixed64(count)) => point.count = count,
            (5, Raw::Fixed64(bits)) => point.sum = Some(f64::from_bits(bits)),
            (6, Raw::Bytes(packed)) => fill(&mut point.counts, packed_fixed64(packed, BUCKETS_MAX + 1)),
            (6, Raw::Fixed64(count)) => fill(&mut point.counts, [count].into_iter()),
            (7, Raw::Bytes(packed)) => fill(&mut point.bounds, doubles(packed)),
            (7, Raw::Fixed64(bits)) => fill(&mut point.bounds, [f64::from_bits(bits)].into_iter()),
            (9, Raw::Bytes(pair)) => push_pair(&mut point.attributes, pair)?,
            (10, Raw::Varint(bits)) => flags = bits,
            _ => {}
        }
    }
    if point.counts.len() != point.bounds.len() + 1 {
        // Buckets that cannot be understood; what is left is still true.
        point.counts.clear();
        point.bounds.clear();
    }
    Ok((flags & NO_RECORDED_VALUE == 0).then_some(point))
}

fn doubles(packed: &[u8]) -> impl Iterator<Item = f64> {
    packed_fixed64(packed, BUCKETS_MAX).map(f64::from_bits)
}

/// A repeated field may come in several pieces; all of them together are bounded.
fn fill<T>(list: &mut Vec<T>, more: impl Iterator<Item = T>) {
    let room = (BUCKETS_MAX + 1).saturating_sub(list.len());
    list.extend(more.take(room));
}

/// ExponentialHistogramDataPoint: 1 attributes, 2 start, 3 time, 4 count, 5 sum, 6 scale, 7 zero_count, 8 positive,
/// 9 negative, 10 flags.
fn exponential_point(bytes: &[u8]) -> Result<Option<ExponentialPoint>, DecodeError> {
    let (mut point, mut flags) = (ExponentialPoint::default(), 0);
    for field in Fields::new(bytes) {
        match field? {
            (1, Raw::Bytes(pair)) => push_pair(&mut point.attributes, pair)?,
            (2, Raw::Fixed64(nanos)) => point.start = nanos,
            (3, Raw::Fixed64(nanos)) => point.time = nanos,
            (4, Raw::Fixed64(count)) => point.count = count,
            (5, Raw::Fixed64(bits)) => point.sum = Some(f64::from_bits(bits)),
            (6, Raw::Varint(scale)) => point.scale = small(from_zigzag(scale)),
            (7, Raw::Fixed64(count)) => point.zero_count = count,
            (8, Raw::Bytes(bytes)) => point.positive = buckets(bytes)?,
            (9, Raw::Bytes(bytes)) => point.negative = buckets(bytes)?,
            (10, Raw::Varint(bits)) => flags = bits,
            _ => {}
        }
    }
    Ok((flags & NO_RECORDED_VALUE == 0).then_some(point))
}

/// Buckets: 1 offset, 2 bucket_counts.
fn buckets(bytes: &[u8]) -> Result<Buckets, DecodeError> {
    let mut buckets = Buckets::default();
    for field in Fields::new(bytes) {
        match field? {
            (1, Raw::Varint(offset)) => buckets.offset = small(from_zigzag(offset)),
            (2, Raw::Bytes(packed)) => fill(&mut buckets.counts, packed_varints(packed, BUCKETS_MAX)),
            (2, Raw::Varint(count)) => fill(&mut buckets.counts, [count].into_iter()),
            _ => {}
        }
    }
    Ok(buckets)
}

fn small(number: i64) -> i32 {
    number.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

/// SummaryDataPoint: 2 start, 3 time, 4 count, 5 sum, 6 quantile_values, 7 attributes, 8 flags.
fn summary_point(bytes: &[u8]) -> Result<Option<SummaryPoint>, DecodeError> {
    let (mut point, mut flags) = (SummaryPoint::default(), 0);
    for field in Fields::new(bytes) {
        match field? {
            (2, Raw::Fixed64(nanos)) => point.start = nanos,
            (3, Raw::Fixed64(nanos)) => point.time = nanos,
            (4, Raw::Fixed64(count)) => point.count = count,
            (5, Raw::Fixed64(bits)) => point.sum = f64::from_bits(bits),
            (6, Raw::Bytes(bytes)) => fill(&mut point.quantiles, [quantile(bytes)?].into_iter()),
            (7, Raw::Bytes(pair)) => push_pair(&mut point.attributes, pair)?,
            (8, Raw::Varint(bits)) => flags = bits,
            _ => {}
        }
    }
    Ok((flags & NO_RECORDED_VALUE == 0).then_some(point))
}

/// ValueAtQuantile: 1 quantile, 2 value.
fn quantile(bytes: &[u8]) -> Result<(f64, f64), DecodeError> {
    let (mut quantile, mut value) = (0.0, 0.0);
    for field in Fields::new(bytes) {
        match field? {
            (1, Raw::Fixed64(bits)) => quantile = f64::from_bits(bits),
            (2, Raw::Fixed64(bits)) => value = f64::from_bits(bits),
            _ => {}
        }
    }
    Ok((quantile, value))
}
