//! Our own metrics as OTLP has them: counters as sums that only grow, durations as histograms over the bounds that the text
//! formats have too.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use terrace_instruments::{FamilySnapshot, HistogramSnapshot, Kind, SeriesSnapshot, SeriesValue, Value};
use terrace_otlp::{Attributes, Data, HistogramPoint, Metric, NumberPoint, Temporality};
use terrace_signals::series::{base_name, unit};

use crate::exposition::BOUNDS_US;

/// All families that hold anything.
pub(super) fn collected(families: &[FamilySnapshot], began: SystemTime, now: SystemTime) -> Vec<Metric> {
    let times = Times { start: nanos(began), time: nanos(now) };
    families.iter().map(|family| metric(family, &times)).collect()
}

/// How many points a metric has.
pub(super) fn points(metric: &Metric) -> u64 {
    let points = match &metric.data {
        Data::Gauge(points) | Data::Sum { points, .. } => points.len(),
        Data::Histogram { points, .. } => points.len(),
        Data::Exponential { points, .. } => points.len(),
        Data::Summary(points) => points.len(),
    };
    points as u64
}

struct Times {
    start: u64,
    time: u64,
}

fn metric(snapshot: &FamilySnapshot, times: &Times) -> Metric {
    let family = snapshot.family;
    let number = |series: &SeriesSnapshot| number_point(snapshot, series, times);
    let temporality = Temporality::Cumulative;
    let data = match family.kind {
        Kind::Gauge => Data::Gauge(snapshot.series.iter().map(number).collect()),
        Kind::Counter => {
            Data::Sum { temporality, is_monotone: true, points: snapshot.series.iter().map(number).collect() }
        }
        Kind::Histogram => {
            let point = |series: &SeriesSnapshot| histogram_point(snapshot, series, times);
            Data::Histogram { temporality, points: snapshot.series.iter().filter_map(point).collect() }
        }
    };
    Metric {
        name: base_name(family.name, unit(family), family.kind),
        description: family.help.to_owned(),
        unit: ucum(unit(family)).to_owned(),
        service: Arc::from("terrace"),
        instance: Arc::from(""),
        data,
    }
}

/// OpenTelemetry writes units by UCUM.
fn ucum(unit: &str) -> &str {
    match unit {
        "seconds" => "s",
        "bytes" => "By",
        other => other,
    }
}

fn attributes(snapshot: &FamilySnapshot, series: &SeriesSnapshot) -> Attributes {
    let names = snapshot.family.labels.iter().map(|name| Cow::Borrowed(*name));
    let values = series.labels.iter().map(|value| Value::Text(Cow::Owned(value.clone())));
    names.zip(values).collect()
}

fn number_point(snapshot: &FamilySnapshot, series: &SeriesSnapshot, times: &Times) -> NumberPoint {
    let value = match &series.value {
        SeriesValue::Counter(value) => *value as f64,
        SeriesValue::Gauge(value) => *value as f64,
        SeriesValue::Histogram(durations) => durations.count() as f64,
    };
    NumberPoint { attributes: attributes(snapshot, series), start: times.start, time: times.time, value }
}

fn histogram_point(
    snapshot: &FamilySnapshot,
    series: &SeriesSnapshot,
    times: &Times,
) -> Option<HistogramPoint> {
    let SeriesValue::Histogram(durations) = &series.value else { return None };
    Some(HistogramPoint {
        attributes: attributes(snapshot, series),
        start: times.start,
        time: times.time,
        count: durations.count(),
        sum: Some(durations.sum().as_secs_f64()),
        bounds: BOUNDS_US.iter().map(|bound| *bound as f64 / 1e6).collect(),
        counts: bucket_counts(durations),
    })
}

/// How many fell into each bucket; the last has no upper end.
fn bucket_counts(durations: &HistogramSnapshot) -> Vec<u64> {
    let mut below = 0;
    let at_most = BOUNDS_US.iter().map(|bound| durations.count_at_most(Duration::from_micros(*bound)));
    let cumulative = at_most.chain([durations.count()]);
    cumulative
        .map(|count| {
            let own = count.saturating_sub(below);
            below = count.max(below);
            own
        })
        .collect()
}

fn nanos(moment: SystemTime) -> u64 {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use terrace_instruments::{Family, Meter};

    static DURATION: Family = Family {
        name: "wait",
        help: "How long.",
        unit: "seconds",
        labels: &["route"],
        kind: Kind::Histogram,
    };
    static COUNT: Family =
        Family { name: "things_total", help: "Things.", unit: "", labels: &[], kind: Kind::Counter };

    #[test]
    fn a_histogram_leaves_with_a_count_for_each_bucket_and_the_rest() {
        let meter = Meter::new(1);
        let (waits, things) = (meter.histogram(&DURATION, &["a"]), meter.counter(&COUNT, &[]));
        [1, 300, 999_999].iter().for_each(|millis| waits.record(Duration::from_millis(*millis)));
        things.add(3);
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(5);
        let metrics = collected(&meter.collect(), SystemTime::UNIX_EPOCH, at);
        let Data::Sum { is_monotone: true, points: sum, .. } = &metrics[0].data else {
            panic!("{metrics:?}")
        };
        assert_eq!((metrics[0].name.as_str(), sum[0].value, sum[0].time), ("things", 3.0, 5_000_000_000));
        let Data::Histogram { points: histogram, .. } = &metrics[1].data else { panic!("{metrics:?}") };
        assert_eq!((metrics[1].name.as_str(), metrics[1].unit.as_str()), ("wait_seconds", "s"));
        let point = &histogram[0];
        assert_eq!((point.counts.len(), point.counts.iter().sum::<u64>(), point.count), (17, 3, 3));
        assert_eq!(point.counts[16], 1, "a thousand seconds are in no bucket");
        assert_eq!(points(&metrics[1]), 1);
    }
}
