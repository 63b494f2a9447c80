//! What the past costs: ten thousand series with full rings stay below 96 MiB. A test program of its own, because it asks
//! the system how much memory the process has.

use std::sync::Arc;
use std::time::Duration;

use terrace_instruments::Kind;
use terrace_signals::series::{Measure, Query, Sample, Selector, SeriesBounds, SeriesStore};

const WEEK_SECS: u64 = 7 * 86_400;
const LIMIT_BYTES: usize = 96 << 20;

/// Four labels each, as the busiest of ours have; `n` in one of them makes each a series of its own.
fn sample(n: usize, value: f64) -> Sample {
    let labels = [
        ("endpoint", format!("127.0.0.1:{}", 10_000 + n)),
        ("instance", format!("orders-{}", n % 100)),
        ("outcome", "upstream.connection_refused".to_owned()),
        ("service", "orders".to_owned()),
    ];
    let labels: Vec<(Arc<str>, Arc<str>)> =
        labels.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    Sample {
        name: format!("metric_{}_total", n % 200).into(),
        kind: Kind::Counter,
        labels: labels.into(),
        value,
    }
}

/// Memory of this process that is not given back, in bytes (proc(5), `VmRSS`).
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel says it");
    let kilobytes: usize = line.trim().trim_end_matches(" kB").parse().expect("it is a number");
    kilobytes * 1_024
}

/// A ring is as large empty as it is full. So all series are seen throughout the week, but only a hundred of them in
/// every five minutes, every fifteen seconds of the last six hours and every second of the last five minutes.
#[test]
#[cfg(target_os = "linux")]
fn ten_thousand_series_of_a_week_take_less_than_96_mib() {
    let all: Vec<Sample> = (0..10_000).map(|n| sample(n, 1.0)).collect();
    let before = resident_bytes();
    let mut store = SeriesStore::new(SeriesBounds::default());
    let mut now = 0;
    while now <= WEEK_SECS {
        let some = if now % 43_200 == 0 { all.len() } else { 100 };
        let seen: Vec<Sample> =
            all[..some].iter().map(|one| Sample { value: now as f64, ..one.clone() }).collect();
        store.record(Duration::from_secs(now), &[], &seen);
        now += match WEEK_SECS - now {
            0..300 => 1,
            300..21_600 => 15,
            _ => 300,
        };
    }
    let (grown, usage) = (resident_bytes() - before, store.usage());
    assert_eq!((usage.scalars, usage.refused), (10_000, 0));
    assert!(usage.bytes < LIMIT_BYTES, "{} bytes by its own account", usage.bytes);
    assert!(grown < LIMIT_BYTES, "{grown} bytes by the system's account");
    assert!(usage.bytes > grown / 10 * 9, "{} bytes counted of {grown}", usage.bytes);
    for (last_secs, points) in [(300, 300), (21_600, 1_440), (WEEK_SECS, 2_016)] {
        let selector = Selector {
            name: "metric_7_total".to_owned(),
            labels: vec![("endpoint".into(), "127.0.0.1:10007".into())],
        };
        let last = Duration::from_secs(last_secs);
        let chart = store.query(&Query { selector, measure: Measure::Rate, last, by: None });
        let known = chart.lines[0].points.iter().filter(|point| (**point - 1.0).abs() < 0.01).count();
        assert!(known >= points - 1, "{known} of {points} points");
    }
}

/// Labels are as long as the bound allows, and nothing else grows with them.
#[test]
#[cfg(target_os = "linux")]
fn the_worst_labels_do_not_break_the_limit() {
    let bounds = SeriesBounds::default();
    let mut store = SeriesStore::new(bounds);
    for second in 0..3_u64 {
        let all: Vec<Sample> = (0..20_000)
            .map(|n| {
                let labels: Vec<(Arc<str>, Arc<str>)> = (0..8)
                    .map(|label| {
                        (format!("l{label}").into(), format!("{n}-{label}-{}", "x".repeat(90)).into())
                    })
                    .collect();
                Sample {
                    name: format!("metric_{n}").into(),
                    kind: Kind::Gauge,
                    labels: labels.into(),
                    value: 1.0,
                }
            })
            .collect();
        store.record(Duration::from_secs(second), &[], &all);
    }
    let usage = store.usage();
    assert!(usage.refused > 0 && usage.bytes < LIMIT_BYTES, "{usage:?}");
}
