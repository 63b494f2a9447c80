//! The app's data points as the samples that Prometheus would have of them, which is what charts and alerts know.
//!
//! A histogram becomes counters of its buckets, sum and count; an exponential one first gets buckets of powers of two, so
//! that their bounds stay the same while its scale changes. What counts from point to point (delta) is added up here, as
//! long as it is heard of at least every ten minutes. Pure: the time comes in.

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use terrace_instruments::{Kind, Value};
use terrace_otlp::{Attributes, Data, ExponentialPoint, HistogramPoint, Metric, SummaryPoint, Temporality};
use terrace_signals::series::Sample;
use terrace_signals::series::text::{Suffix, TextFamily, TextKind, TextSample};

use super::names;
use crate::foreign::label_bytes;

/// Samples of one request; a histogram takes one for each bucket.
const SAMPLES_MAX: usize = 16_384;
/// Series that are added up.
const TOTALS_MAX: usize = 20_000;
/// Bytes of their names and labels, estimated.
const TOTALS_BYTES_MAX: usize = 16 << 20;
/// Labels of one series, those of service and instance included; further ones are left out.
const LABELS_MAX: usize = 32;
/// Bytes of a label's value; the rest is cut off.
const VALUE_BYTES_MAX: usize = 256;
/// Buckets of an exponential histogram; what lies below them is in the lowest.
const OCTAVES_MAX: usize = 48;
/// A series that was not heard of for so long begins again from 0.
const FORGET_AFTER: Duration = Duration::from_secs(600);

type Labels = Arc<[(Arc<str>, Arc<str>)]>;

/// What is added up from point to point.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    totals: FxHashMap<(Arc<str>, Labels), Total>,
    /// Of the keys.
    bytes: usize,
}

#[derive(Debug, Default)]
struct Total {
    value: f64,
    /// The last point's, in nanoseconds since 1970, so that one sent twice counts once.
    time: u64,
    heard: Duration,
}

/// What was read of a request.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) samples: Vec<Sample>,
    /// The same, to be shown to whoever fetches them here.
    pub(super) families: Vec<TextFamily>,
    /// Data points.
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) why: &'static str,
}

/// One metric on its way.
struct Reading<'a> {
    numbers: &'a mut Numbers,
    now: Duration,
    metric: &'a Metric,
    name: String,
    is_delta: bool,
    read: &'a mut Read,
    said: Vec<TextSample>,
}

/// One point of it.
struct Point<'a> {
    attributes: &'a Attributes,
    time: u64,
}

impl Numbers {
    /// The samples of these metrics. Names that begin with `terrace_` are ours and refused.
    pub(super) fn read(&mut self, now: Duration, metrics: &[Metric]) -> Read {
        self.forget(now);
        let mut read = Read::default();
        for metric in metrics {
            let name = names::metric(&metric.name, &metric.unit);
            let temporality = temporality(&metric.data);
            let is_delta = temporality == Temporality::Delta;
            let is_ours = name.starts_with("terrace_");
            let said = Vec::new();
            let mut reading = Reading { numbers: self, now, metric, name, is_delta, read: &mut read, said };
            if is_ours {
                reading.refuse_all();
            } else {
                reading.read();
            }
        }
        read
    }

    fn forget(&mut self, now: Duration) {
        let bytes = &mut self.bytes;
        self.totals.retain(|(name, labels), total| {
            let is_heard = now.saturating_sub(total.heard) < FORGET_AFTER;
            *bytes -= if is_heard { 0 } else { label_bytes(name, labels) };
            is_heard
        });
    }

    /// The sum of all points so far; none when there is no room for another series.
    fn total(&mut self, now: Duration, sample: &Sample, time: u64) -> Option<f64> {
        let key = (Arc::clone(&sample.name), Arc::clone(&sample.labels));
        if !self.totals.contains_key(&key) {
            let bytes = self.bytes + label_bytes(&sample.name, &sample.labels);
            if self.totals.len() >= TOTALS_MAX || bytes > TOTALS_BYTES_MAX {
                return None;
            }
            self.bytes = bytes;
        }
        let total = self.totals.entry(key).or_default();
        if time == 0 || time > total.time {
            total.value += sample.value;
            total.time = time;
        }
        total.heard = now;
        Some(total.value)
    }
}

fn text_kind(data: &Data) -> TextKind {
    match data {
        Data::Sum { is_monotone: true, .. } => TextKind::Counter,
        Data::Gauge(_) | Data::Sum { .. } => TextKind::Gauge,
        Data::Histogram { .. } | Data::Exponential { .. } => TextKind::Histogram,
        Data::Summary(_) => TextKind::Summary,
    }
}

fn temporality(data: &Data) -> Temporality {
    match data {
        Data::Gauge(_) | Data::Summary(_) => Temporality::Cumulative,
        Data::Sum { temporality, .. }
        | Data::Histogram { temporality, .. }
        | Data::Exponential { temporality, .. } => *temporality,
    }
}

impl Reading<'_> {
    fn read(&mut self) {
        match &self.metric.data {
            Data::Gauge(points) => self.numbers(points, Kind::Gauge),
            Data::Sum { is_monotone: false, points, .. } => self.numbers(points, Kind::Gauge),
            Data::Sum { is_monotone: true, points, .. } => self.numbers(points, Kind::Counter),
            Data::Histogram { points, .. } => points.iter().for_each(|point| self.histogram(point)),
            Data::Exponential { points, .. } => points.iter().for_each(|point| self.exponential(point)),
            Data::Summary(points) => points.iter().for_each(|point| self.summary(point)),
        }
        if !self.said.is_empty() {
            self.read.families.push(TextFamily {
                name: Arc::from(self.name.as_str()),
                kind: text_kind(&self.metric.data),
                help: cut(&self.metric.description).to_owned(),
                unit: String::new(),
                samples: std::mem::take(&mut self.said),
            });
        }
    }

    fn refuse_all(&mut self) {
        let count = match &self.metric.data {
            Data::Gauge(points) | Data::Sum { points, .. } => points.len(),
            Data::Histogram { points, .. } => points.len(),
            Data::Exponential { points, .. } => points.len(),
            Data::Summary(points) => points.len(),
        };
        self.read.refused += count as u64;
        self.read.why = "names that begin with terrace_ are Terrace's own";
    }

    fn numbers(&mut self, points: &[terrace_otlp::NumberPoint], kind: Kind) {
        let ending = if kind == Kind::Counter { Suffix::Total } else { Suffix::Bare };
        for point in points {
            let of = Point { attributes: &point.attributes, time: point.time };
            self.point(&of, vec![(ending, None, kind, point.value)]);
        }
    }

    fn histogram(&mut self, point: &HistogramPoint) {
        let of = Point { attributes: &point.attributes, time: point.time };
        let mut below = 0;
        let mut samples = Vec::with_capacity(point.counts.len() + 3);
        for (bound, count) in point.bounds.iter().zip(&point.counts) {
            below = count.saturating_add(below);
            samples.push((Suffix::Bucket, Some(("le", bound.to_string())), Kind::Counter, below as f64));
        }
        self.distribution(&of, samples, point.count, point.sum);
    }

    fn exponential(&mut self, point: &ExponentialPoint) {
        let of = Point { attributes: &point.attributes, time: point.time };
        let mut below = point.negative.counts.iter().copied().fold(point.zero_count, u64::saturating_add);
        let mut samples = vec![(Suffix::Bucket, Some(("le", "0".to_owned())), Kind::Counter, below as f64)];
        for (exponent, count) in octaves(point) {
            below = below.saturating_add(count);
            let bound = 2_f64.powi(exponent);
            samples.push((Suffix::Bucket, Some(("le", bound.to_string())), Kind::Counter, below as f64));
        }
        self.distribution(&of, samples, point.count, point.sum);
    }

    fn summary(&mut self, point: &SummaryPoint) {
        let of = Point { attributes: &point.attributes, time: point.time };
        let quantile = |(quantile, value): &(f64, f64)| {
            (Suffix::Bare, Some(("quantile", quantile.to_string())), Kind::Gauge, *value)
        };
        let mut samples: Vec<Piece> = point.quantiles.iter().map(quantile).collect();
        samples.push((Suffix::Count, None, Kind::Counter, point.count as f64));
        samples.push((Suffix::Sum, None, Kind::Counter, point.sum));
        self.point(&of, samples);
    }

    fn distribution(&mut self, of: &Point<'_>, mut samples: Vec<Piece>, count: u64, sum: Option<f64>) {
        samples.push((Suffix::Bucket, Some(("le", "+Inf".to_owned())), Kind::Counter, count as f64));
        samples.push((Suffix::Count, None, Kind::Counter, count as f64));
        if let Some(sum) = sum {
            samples.push((Suffix::Sum, None, Kind::Counter, sum));
        }
        self.point(of, samples);
    }

    /// All samples of a point, or none.
    fn point(&mut self, of: &Point<'_>, pieces: Vec<Piece>) {
        if self.read.samples.len() + pieces.len() > SAMPLES_MAX {
            return self.refuse("there are more series in one request than Terrace takes");
        }
        let labels = self.labels(of.attributes);
        let mut samples = Vec::with_capacity(pieces.len());
        let mut said = Vec::with_capacity(pieces.len());
        for (ending, label, kind, value) in pieces {
            let name = Arc::from(format!("{}{}", self.name, ending.text()));
            let mut sample = Sample { name, kind, labels: finished(&labels, label), value };
            if self.is_delta {
                let Some(total) = self.numbers.total(self.now, &sample, of.time) else {
                    return self.refuse("there are more series of delta temporality than Terrace adds up");
                };
                sample.value = total;
            }
            let labels = Arc::clone(&sample.labels);
            said.push(TextSample { suffix: ending, labels, value: sample.value });
            samples.push(sample);
        }
        self.read.accepted += 1;
        self.read.samples.append(&mut samples);
        self.said.append(&mut said);
    }

    fn refuse(&mut self, why: &'static str) {
        self.read.refused += 1;
        self.read.why = why;
    }

    /// Labels without the last, in no order. What the app calls `service` or `instance` is `exported_…`, as Prometheus
    /// has it.
    fn labels(&self, attributes: &Attributes) -> Vec<(Arc<str>, Arc<str>)> {
        let mut labels: Vec<(Arc<str>, Arc<str>)> =
            vec![(Arc::from("service"), Arc::clone(&self.metric.service))];
        if !self.metric.instance.is_empty() {
            labels.push((Arc::from("instance"), Arc::clone(&self.metric.instance)));
        }
        for (name, value) in attributes.iter().take(LABELS_MAX - 3) {
            let mut name = names::label(name);
            if matches!(name.as_str(), "service" | "instance" | "le" | "quantile") {
                name.insert_str(0, "exported_");
            }
            labels.push((Arc::from(name), text(value)));
        }
        labels
    }
}

/// A name's ending, a further label, what the number does, and the number.
type Piece = (Suffix, Option<(&'static str, String)>, Kind, f64);

/// In order of the names, each once.
fn finished(labels: &[(Arc<str>, Arc<str>)], further: Option<(&'static str, String)>) -> Labels {
    let mut labels = labels.to_vec();
    labels.extend(further.map(|(name, value)| (Arc::from(name), Arc::from(value))));
    labels.sort_by(|(a, _), (b, _)| a.cmp(b));
    labels.dedup_by(|(later, _), (earlier, _)| later == earlier);
    labels.into()
}

/// Counts of values above zero, by the exponent of the power of two that they do not exceed, lowest first.
fn octaves(point: &ExponentialPoint) -> Vec<(i32, u64)> {
    let mut octaves: Vec<(i32, u64)> = Vec::new();
    for (place, count) in point.positive.counts.iter().enumerate() {
        let index = i64::from(point.positive.offset) + place as i64;
        let exponent = upper_exponent(index, point.scale);
        match octaves.last_mut() {
            Some((last, held)) if *last == exponent => *held = held.saturating_add(*count),
            _ => octaves.push((exponent, *count)),
        }
    }
    let spare = octaves.len().saturating_sub(OCTAVES_MAX);
    let low = octaves.drain(..spare).fold(0, |low: u64, (_, count)| low.saturating_add(count));
    if let Some((_, held)) = octaves.first_mut() {
        *held = held.saturating_add(low);
    }
    octaves
}

/// Bucket `index` ends at `2^((index + 1) / 2^scale)`; the next whole exponent from there on.
fn upper_exponent(index: i64, scale: i32) -> i32 {
    let end = index + 1;
    let exponent = match scale {
        0.. => -((-end) >> scale.min(62)),
        _ => end.saturating_mul(1_i64 << scale.unsigned_abs().min(40)),
    };
    exponent.clamp(-1_100, 1_100) as i32
}

fn text(value: &Value) -> Arc<str> {
    match value {
        Value::Text(text) => Arc::from(cut(text)),
        Value::Int(value) => Arc::from(value.to_string()),
        Value::Uint(value) => Arc::from(value.to_string()),
        Value::Float(value) => Arc::from(value.to_string()),
        Value::Bool(value) => Arc::from(value.to_string()),
        Value::Duration(value) => Arc::from(value.as_secs_f64().to_string()),
    }
}

/// At the last border of a character within the bound.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(VALUE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;
    use terrace_otlp::{Buckets, NumberPoint};

    const NOW: Duration = Duration::from_secs(1_000);

    fn metric(name: &str, unit: &str, data: Data) -> Metric {
        Metric {
            name: name.to_owned(),
            description: String::new(),
            unit: unit.to_owned(),
            service: Arc::from("orders"),
            instance: Arc::from("orders-1"),
            data,
        }
    }

    fn lines(read: &Read) -> Vec<String> {
        let line = |sample: &Sample| {
            let labels: Vec<String> =
                sample.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{}{{{}}} {}", sample.name, labels.join(","), sample.value)
        };
        read.samples.iter().map(line).collect()
    }

    fn point(value: f64, time: u64) -> NumberPoint {
        let attributes = vec![
            (Cow::Borrowed("payment.kind"), Value::from("card")),
            (Cow::Borrowed("service"), Value::from("theirs")),
        ];
        NumberPoint { attributes, start: 0, time, value }
    }

    fn sum(temporality: Temporality, is_monotone: bool, points: Vec<NumberPoint>) -> Data {
        Data::Sum { temporality, is_monotone, points }
    }

    #[test]
    fn business_figures_are_found_under_the_names_that_prometheus_would_give_them() {
        let placed =
            metric("orders.placed", "{order}", sum(Temporality::Cumulative, true, vec![point(3.0, 1)]));
        let read = Numbers::default().read(NOW, &[placed]);
        let labels = "exported_service=theirs,instance=orders-1,payment_kind=card,service=orders";
        assert_eq!(lines(&read), [format!("orders_placed_total{{{labels}}} 3")]);
        assert_eq!((read.samples[0].kind, read.accepted, read.refused), (Kind::Counter, 1, 0));
    }

    #[test]
    fn what_counts_from_point_to_point_is_added_up_and_twice_sent_counts_once() {
        let mut numbers = Numbers::default();
        let mut read = |now, value, time| {
            let data = sum(Temporality::Delta, true, vec![point(value, time)]);
            numbers.read(now, &[metric("x", "", data)]).samples[0].value
        };
        assert_eq!((read(NOW, 3.0, 1), read(NOW, 4.0, 2), read(NOW, 4.0, 2)), (3.0, 7.0, 7.0));
        assert_eq!(read(NOW + FORGET_AFTER, 1.0, 3), 1.0, "after ten minutes of silence it begins again");
    }

    #[test]
    fn what_goes_up_and_down_is_a_gauge() {
        let data = sum(Temporality::Cumulative, false, vec![point(-3.0, 1)]);
        let read = Numbers::default().read(NOW, &[metric("queue.length", "1", data)]);
        assert_eq!((read.samples[0].name.as_ref(), read.samples[0].kind), ("queue_length", Kind::Gauge));
    }

    #[test]
    fn a_histogram_becomes_buckets_sum_and_count() {
        let point = HistogramPoint {
            count: 6,
            sum: Some(2.5),
            bounds: vec![0.5, 1.0],
            counts: vec![1, 2, 3],
            ..HistogramPoint::default()
        };
        let data = Data::Histogram { temporality: Temporality::Cumulative, points: vec![point] };
        let read = Numbers::default().read(NOW, &[metric("wait", "s", data)]);
        let who = "instance=orders-1";
        assert_eq!(
            lines(&read),
            [
                format!("wait_seconds_bucket{{{who},le=0.5,service=orders}} 1"),
                format!("wait_seconds_bucket{{{who},le=1,service=orders}} 3"),
                format!("wait_seconds_bucket{{{who},le=+Inf,service=orders}} 6"),
                format!("wait_seconds_count{{{who},service=orders}} 6"),
                format!("wait_seconds_sum{{{who},service=orders}} 2.5"),
            ]
        );
    }

    #[test]
    fn an_exponential_histogram_has_the_same_bounds_at_any_scale() {
        // Values 1.2 (in (1, 2]), 3 (in (2, 4]) and 3.9: at scale 1 the buckets end at the square roots of two's powers.
        let at = |scale, offset, counts: &[u64]| {
            let positive = Buckets { offset, counts: counts.to_vec() };
            octaves(&ExponentialPoint { scale, positive, ..ExponentialPoint::default() })
        };
        assert_eq!(at(0, 0, &[1, 2]), [(1, 1), (2, 2)]);
        assert_eq!(at(1, 0, &[1, 0, 0, 2]), [(1, 1), (2, 2)]);
        assert_eq!(at(2, -4, &[1, 0, 0, 0, 7]), [(0, 1), (1, 7)], "at scale 2 four buckets are an octave");
        assert_eq!(at(-1, 0, &[3]), [(2, 3)]);
        assert_eq!(at(0, i32::MIN, &[1; 3]), [(-1_100, 3)]);
        let many = at(0, 0, &[1; 200]);
        assert_eq!((many.len(), many[0]), (OCTAVES_MAX, (153, 153)));
    }

    #[test]
    fn label_bombs_and_forged_names_are_refused_and_counted() {
        let bomb = |place: usize| NumberPoint {
            attributes: vec![(Cow::Borrowed("id"), Value::from(place))],
            ..NumberPoint::default()
        };
        let points = (0..SAMPLES_MAX + 7).map(bomb).collect();
        let read = Numbers::default().read(NOW, &[metric("x", "", Data::Gauge(points))]);
        assert_eq!((read.accepted as usize, read.refused), (SAMPLES_MAX, 7));
        let mut numbers = Numbers::default();
        for round in 0..2 {
            let points = (0..15_000).map(|place| bomb(place + round * 15_000)).collect();
            let read = numbers.read(NOW, &[metric("x", "", sum(Temporality::Delta, true, points))]);
            assert_eq!(read.refused as usize, round * 10_000);
        }
        let forged = metric("terrace.requests", "", Data::Gauge(vec![bomb(1)]));
        let read = Numbers::default().read(NOW, &[forged]);
        assert_eq!((read.samples.len(), read.refused), (0, 1));
        let wide = NumberPoint {
            attributes: (0..100)
                .map(|place| (Cow::Owned(format!("a{place}")), Value::from("ü".repeat(500))))
                .collect(),
            ..NumberPoint::default()
        };
        let read = Numbers::default().read(NOW, &[metric("x", "", Data::Gauge(vec![wide]))]);
        assert!(read.samples[0].labels.len() <= LABELS_MAX);
        assert!(read.samples[0].labels.iter().all(|(_, value)| value.len() <= VALUE_BYTES_MAX));
    }

    #[test]
    fn counts_beyond_all_measure_do_no_harm() {
        let point = HistogramPoint {
            count: u64::MAX,
            bounds: vec![0.5, 1.0],
            counts: vec![u64::MAX; 3],
            ..HistogramPoint::default()
        };
        let plain = Data::Histogram { temporality: Temporality::Cumulative, points: vec![point] };
        let counts = || Buckets { offset: -3, counts: vec![u64::MAX; 1_000] };
        let point = ExponentialPoint {
            zero_count: u64::MAX,
            positive: counts(),
            negative: counts(),
            scale: 3,
            ..ExponentialPoint::default()
        };
        let exponential = Data::Exponential { temporality: Temporality::Cumulative, points: vec![point] };
        for data in [plain, exponential] {
            let read = Numbers::default().read(NOW, &[metric("wait", "s", data)]);
            assert_eq!(read.accepted, 1);
        }
    }

    #[test]
    fn series_of_long_labels_that_are_added_up_are_bounded_by_their_bytes_and_make_room_when_they_go() {
        let mut numbers = Numbers::default();
        let mut send = |now, from: usize| {
            let point = |number: usize| NumberPoint {
                attributes: (0..8)
                    .map(|label| {
                        (Cow::Owned(format!("label_{label}")), Value::from(format!("{number:0>250}")))
                    })
                    .collect(),
                ..point(1.0, 1)
            };
            let points = (from..from + 16_000).map(point).collect();
            numbers.read(now, &[metric("x", "", sum(Temporality::Delta, true, points))]).accepted
        };
        let taken = send(NOW, 0);
        assert!(taken > 1_000 && (taken as usize) < TOTALS_BYTES_MAX / 2_000, "{taken}");
        assert_eq!(send(NOW, 20_000), 0);
        assert_eq!(send(NOW + FORGET_AFTER, 20_000), taken);
    }
}
