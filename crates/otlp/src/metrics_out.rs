//! Metrics as they are written.

use crate::metrics::{
    Buckets, Data, ExponentialPoint, HistogramPoint, Metric, NumberPoint, SummaryPoint, Temporality,
};
use crate::request::{by_origin, write_scope};
use crate::value::{write_attributes, write_resource};
use crate::wire::{Message, to_zigzag};

/// An ExportMetricsServiceRequest of these metrics: a resource for each service and instance, which also has the
/// attributes `about`.
pub fn write_metrics(metrics: &[Metric], version: &str, about: &[(&str, &str)]) -> Vec<u8> {
    let mut request = Message::default();
    for (origin, metrics) in by_origin(metrics, |metric| (&metric.service, &metric.instance)) {
        request.message(1, |resource| {
            write_resource(resource, &origin, about);
            resource.message(2, |scope| {
                write_scope(scope, version);
                for metric in metrics {
                    scope.message(2, |message| write_metric(message, metric));
                }
            });
        });
    }
    request.0
}

fn write_metric(message: &mut Message, metric: &Metric) {
    message.text(1, &metric.name);
    message.text(2, &metric.description);
    message.text(3, &metric.unit);
    match &metric.data {
        Data::Gauge(points) => message.message(5, |data| write_points(data, points, number)),
        Data::Sum { temporality, is_monotone, points } => message.message(7, |data| {
            write_points(data, points, number);
            data.varint(2, code(*temporality));
            data.varint(3, u64::from(*is_monotone));
        }),
        Data::Histogram { temporality, points } => message.message(9, |data| {
            write_points(data, points, histogram);
            data.varint(2, code(*temporality));
        }),
        Data::Exponential { temporality, points } => message.message(10, |data| {
            write_points(data, points, exponential);
            data.varint(2, code(*temporality));
        }),
        Data::Summary(points) => message.message(11, |data| write_points(data, points, summary)),
    }
}

fn write_points<T>(data: &mut Message, points: &[T], write: impl Fn(&mut Message, &T)) {
    for point in points {
        data.message(1, |message| write(message, point));
    }
}

/// `AggregationTemporality`.
fn code(temporality: Temporality) -> u64 {
    match temporality {
        Temporality::Delta => 1,
        Temporality::Cumulative => 2,
    }
}

fn number(message: &mut Message, point: &NumberPoint) {
    times(message, point.start, point.time);
    message.double(4, point.value);
    write_attributes(message, 7, &point.attributes);
}

fn times(message: &mut Message, start: u64, time: u64) {
    if start > 0 {
        message.fixed64(2, start);
    }
    message.fixed64(3, time);
}

fn histogram(message: &mut Message, point: &HistogramPoint) {
    times(message, point.start, point.time);
    message.fixed64(4, point.count);
    if let Some(sum) = point.sum {
        message.double(5, sum);
    }
    message.bytes(6, &packed(point.counts.iter().copied()));
    message.bytes(7, &packed(point.bounds.iter().map(|bound| bound.to_bits())));
    write_attributes(message, 9, &point.attributes);
}

fn packed(numbers: impl Iterator<Item = u64>) -> Vec<u8> {
    numbers.flat_map(u64::to_le_bytes).collect()
}

fn exponential(message: &mut Message, point: &ExponentialPoint) {
    write_attributes(message, 1, &point.attributes);
    times(message, point.start, point.time);
    message.fixed64(4, point.count);
    if let Some(sum) = point.sum {
        message.double(5, sum);
    }
    message.varint(6, to_zigzag(i64::from(point.scale)));
    message.fixed64(7, point.zero_count);
    message.message(8, |message| buckets(message, &point.positive));
    message.message(9, |message| buckets(message, &point.negative));
}

fn buckets(message: &mut Message, buckets: &Buckets) {
    message.varint(1, to_zigzag(i64::from(buckets.offset)));
    let mut counts = Message::default();
    buckets.counts.iter().for_each(|count| counts.raw_varint(*count));
    message.bytes(2, &counts.0);
}

fn summary(message: &mut Message, point: &SummaryPoint) {
    times(message, point.start, point.time);
    message.fixed64(4, point.count);
    message.double(5, point.sum);
    for (quantile, value) in &point.quantiles {
        message.message(6, |message| {
            message.double(1, *quantile);
            message.double(2, *value);
        });
    }
    write_attributes(message, 7, &point.attributes);
}
