//! What is unusual: explains, and never pages.
//!
//! Traffic has a day. So from each point the median of the same time on previous days is taken away, and what is left is
//! compared with what was left before: 0.6745·|x − median|/MAD is the number of standard deviations, were it normal, and
//! the median absolute deviation is not moved by the very outliers that are looked for (Iglewicz and Hoaglin, 1993, whose
//! bound of 3.5 is used here). One point is nothing: two of the last three, ten minutes, must lie outside.

use std::time::Duration;

use super::{Measure, Quantile, Query, Selector, SeriesStore};

/// Five-minute steps in a day.
const DAY: usize = 288;
/// Previous days that must be known of a time of day before it can be called usual.
const DAYS_MIN: usize = 2;
/// The last points, of which so many must be unusual.
const JUDGED: usize = 3;
const UNUSUAL_MIN: usize = 2;
/// A point with a higher score is unusual.
const SCORE_MAX: f64 = 3.5;
/// A deviation below this share of the usual value is none, however steady the series was.
const STEADY_SHARE: f64 = 0.02;
/// Residuals that a spread is taken of, at least: six hours.
const KNOWN_MIN: usize = 72;
/// Lines that are looked at.
const LINES_MAX: usize = 300;
/// Anomalies that are told; the strongest.
const TOLD_MAX: usize = 10;
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// Something that is not as usual at this time of day.
#[derive(Debug, Clone, PartialEq)]
pub struct Anomaly {
    /// For a person: what, by how much.
    pub note: String,
    /// Standard deviations from the usual; above 3.5.
    pub score: f64,
    /// Over the last five minutes that have ended.
    pub value: f64,
    /// The median at this time of day.
    pub usual: f64,
}

/// What of a series is unusual.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Finding {
    score: f64,
    value: f64,
    usual: f64,
}

/// What is watched: metric, measure, label by which it is summed, and what a person calls it.
const WATCHED: [(&str, Measure, &str, &str); 6] = [
    ("terrace_requests_total", Measure::Rate, "route", "requests a second"),
    ("terrace_request_duration_seconds", Measure::Quantile(Quantile::P99), "route", "p99 in seconds"),
    (
        "terrace_upstream_first_byte_seconds",
        Measure::Quantile(Quantile::P99),
        "service",
        "p99 to the first byte in seconds",
    ),
    ("terrace_instance_cpu_seconds_total", Measure::Rate, "service", "CPUs used"),
    ("terrace_instance_memory_bytes", Measure::Value, "service", "bytes of memory"),
    ("terrace_host_cpu_usage_ratio", Measure::Value, "", "CPU usage of the machine"),
];

impl SeriesStore {
    /// What is unusual now among what is watched: requests, latencies, CPU and memory, and the app's own counters. The
    /// strongest first, at most ten. Needs two days of history. Costs some milliseconds, so it is for moments when
    /// somebody asks why, not for every second.
    pub fn anomalies(&self) -> Vec<Anomaly> {
        let watched = WATCHED.map(|(name, measure, by, what)| (name.to_owned(), measure, by, what));
        let names = self.names();
        let of_the_app = names.iter().filter(|metric| {
            let is_ours = metric.name.starts_with("terrace_") || metric.name.starts_with("process_");
            metric.name.ends_with("_total") && !is_ours
        });
        let of_the_app =
            of_the_app.map(|metric| (metric.name.to_string(), Measure::Rate, "service", "a second"));
        let mut anomalies = Vec::new();
        let mut lines_left = LINES_MAX;
        for (name, measure, by, what) in watched.into_iter().chain(of_the_app) {
            if lines_left == 0 {
                break;
            }
            let lines = self.unusual_lines(&name, measure, by, what, &mut lines_left);
            anomalies.extend(lines);
        }
        anomalies.sort_by(|a, b| b.score.total_cmp(&a.score));
        anomalies.truncate(TOLD_MAX);
        anomalies
    }

    fn unusual_lines(
        &self,
        name: &str,
        measure: Measure,
        by: &str,
        what: &str,
        lines_left: &mut usize,
    ) -> Vec<Anomaly> {
        let by = if by.is_empty() { Vec::new() } else { vec![by.to_owned()] };
        let selector = Selector { name: name.to_owned(), labels: Vec::new() };
        let chart = self.query(&Query { selector, measure, last: WEEK, by: Some(by) });
        let lines = chart.lines.iter().take(*lines_left);
        let found = lines.filter_map(|line| {
            let Finding { score, value, usual } = judge(&line.points)?;
            let of: Vec<String> =
                line.labels.iter().map(|(name, value)| format!(" of {name} {value}")).collect();
            let (of, is, was) = (of.concat(), shown(value), shown(usual));
            let note = format!("{name}{of}: {is} {what}, usually {was} at this time (score {score:.1})");
            Some(Anomaly { note, score, value, usual })
        });
        let found = found.collect();
        *lines_left = lines_left.saturating_sub(chart.lines.len());
        found
    }
}

/// Whether the last points are unusual, by all of them at five minutes each, oldest first.
fn judge(points: &[f64]) -> Option<Finding> {
    let residuals: Vec<f64> = (0..points.len()).map(|at| points[at] - usual_at(points, at)).collect();
    let judged_from = points.len().checked_sub(JUDGED)?;
    let known: Vec<f64> = residuals[..judged_from].iter().copied().filter(|value| !value.is_nan()).collect();
    if known.len() < KNOWN_MIN {
        return None;
    }
    let middle = median(known.clone());
    let spread = median(known.iter().map(|value| (value - middle).abs()).collect());
    let last = (judged_from..points.len()).rev().find(|at| !residuals[*at].is_nan())?;
    let (value, usual) = (points[last], usual_at(points, last));
    let spread = spread.max(STEADY_SHARE * usual.abs()).max(f64::MIN_POSITIVE);
    let score = |at: usize| 0.6745 * (residuals[at] - middle).abs() / spread;
    // A comparison with NaN is false: what is not known is not unusual.
    let unusual = (judged_from..points.len()).filter(|at| score(*at) > SCORE_MAX).count();
    let is_still = score(last) > SCORE_MAX;
    (unusual >= UNUSUAL_MIN && is_still).then(|| Finding { score: score(last), value, usual })
}

/// The median of this time of day, a step more or less, on previous days; NaN when too few are known.
fn usual_at(points: &[f64], at: usize) -> f64 {
    let mut same = Vec::with_capacity(21);
    let mut days = 0;
    let mut day_before = at;
    while let Some(then) = day_before.checked_sub(DAY) {
        day_before = then;
        let near = &points[then.saturating_sub(1)..=then + 1];
        let before = same.len();
        same.extend(near.iter().copied().filter(|value| !value.is_nan()));
        days += usize::from(same.len() > before);
    }
    if days < DAYS_MIN { f64::NAN } else { median(same) }
}

/// NaN of nothing.
fn median(mut values: Vec<f64>) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    let middle = values.len() / 2;
    let (below, value, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let value = *value;
    if below.len() == middle && values.len() % 2 == 1 {
        return value;
    }
    let before = values[..middle].iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (before + value) / 2.0
}

/// Three digits that tell something.
fn shown(value: f64) -> String {
    match value.abs() {
        large if large >= 1e6 => format!("{value:.2e}"),
        middle if middle >= 100.0 => format!("{value:.0}"),
        small if small >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A week of a day's rise and fall, with noise that is the same in every run.
    fn week(days: usize) -> Vec<f64> {
        let mut noise = 7_u64;
        let mut points = Vec::new();
        for at in 0..days * DAY {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let jitter = (noise >> 40) as f64 / f64::from(1 << 24) - 0.5;
            let time_of_day = (at % DAY) as f64 / DAY as f64;
            points.push(100.0 - 80.0 * (time_of_day * std::f64::consts::TAU).cos() + 4.0 * jitter);
        }
        points
    }

    fn with_last(mut points: Vec<f64>, last: [f64; 3]) -> Vec<f64> {
        let from = points.len() - last.len();
        points[from..].copy_from_slice(&last);
        points
    }

    #[test]
    fn the_rush_of_every_morning_is_nothing_unusual() {
        let points = week(7);
        for end in 4 * DAY..7 * DAY {
            assert_eq!(judge(&points[..end]), None, "at {end}");
        }
    }

    #[test]
    fn a_night_with_the_traffic_of_noon_is_unusual() {
        let found = judge(&with_last(week(7), [180.0, 181.0, 182.0])).expect("it is unusual");
        assert!(found.score > 10.0 && found.usual < 25.0 && found.value > 181.0, "{found:?}");
        assert!(judge(&with_last(week(7), [0.0, 0.0, 0.0])).is_some(), "and so is silence");
    }

    #[test]
    fn one_point_is_nothing_and_what_is_over_is_over() {
        assert_eq!(judge(&with_last(week(7), [20.0, 20.0, 180.0])), None);
        assert_eq!(judge(&with_last(week(7), [180.0, 180.0, 20.0])), None);
        assert!(judge(&with_last(week(7), [20.0, 180.0, 180.0])).is_some());
    }

    #[test]
    fn nobody_judges_after_a_day() {
        assert_eq!(judge(&with_last(week(1), [1e6; 3])), None);
        assert_eq!(judge(&with_last(week(2), [1e6; 3])), None);
        assert!(judge(&with_last(week(4), [1e6; 3])).is_some());
    }

    #[test]
    fn a_series_that_never_moved_may_move_a_little() {
        assert_eq!(judge(&with_last(vec![50.0; 7 * DAY], [51.0; 3])), None);
        assert!(judge(&with_last(vec![50.0; 7 * DAY], [70.0; 3])).is_some());
    }

    proptest! {
        #[test]
        fn nothing_makes_the_judge_panic(points in proptest::collection::vec(
            prop_oneof![Just(f64::NAN), Just(0.0), -1e9..1e9_f64], 0..1_000), repeat in 1..4_usize)
        {
            let _finding = judge(&points.repeat(repeat));
        }

        #[test]
        fn a_median_splits_a_list_in_halves(mut values in proptest::collection::vec(-1e3..1e3_f64, 1..50)) {
            let shown = median(values.clone());
            values.sort_by(f64::total_cmp);
            let exact = (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
            prop_assert!((shown - exact).abs() < 1e-9);
        }
    }
}
