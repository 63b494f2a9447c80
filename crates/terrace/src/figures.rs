//! Numbers as they fit into a column: two or three digits that mean something, and the unit.

/// Requests a second: `0`, `0.4`, `12.3`, `142`, `1.2k`.
pub(crate) fn rate(rate: f64) -> String {
    match rate {
        rate if !rate.is_finite() => UNKNOWN.to_owned(),
        rate if rate < 0.05 => "0".to_owned(),
        rate if rate < 99.95 => format!("{rate:.1}"),
        rate if rate < 999.5 => format!("{rate:.0}"),
        rate if rate < 99_950.0 => format!("{:.1}k", rate / 1e3),
        rate if rate < 999_500.0 => format!("{:.0}k", rate / 1e3),
        rate => format!("{:.1}M", rate / 1e6),
    }
}

/// A share as percent: `0 %`, `0.02 %`, `12 %`.
pub(crate) fn percent(share: Option<f64>) -> String {
    match share.map(|share| share * 100.0) {
        Some(0.0) => "0 %".to_owned(),
        Some(percent) if percent < 0.01 => "<0.01 %".to_owned(),
        Some(percent) if percent < 1.0 => format!("{percent:.2} %"),
        Some(percent) if percent < 9.95 => format!("{percent:.1} %"),
        Some(percent) if percent.is_finite() => format!("{percent:.0} %"),
        _ => UNKNOWN.to_owned(),
    }
}

/// A span of time: `850 µs`, `12 ms`, `1.2 s`.
pub(crate) fn seconds(seconds: Option<f64>) -> String {
    match seconds {
        Some(seconds) if seconds < 0.000_999_5 => format!("{:.0} µs", seconds * 1e6),
        Some(seconds) if seconds < 0.009_95 => format!("{:.1} ms", seconds * 1e3),
        Some(seconds) if seconds < 0.999_5 => format!("{:.0} ms", seconds * 1e3),
        Some(seconds) if seconds < 99.95 => format!("{seconds:.1} s"),
        Some(seconds) if seconds.is_finite() => format!("{seconds:.0} s"),
        _ => UNKNOWN.to_owned(),
    }
}

/// Bytes: `34 MiB`.
pub(crate) fn bytes(bytes: Option<f64>) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let Some(mut number) = bytes.filter(|bytes| bytes.is_finite()) else { return UNKNOWN.to_owned() };
    let mut unit = "B";
    for larger in UNITS {
        if number < 999.5 {
            break;
        }
        number /= 1024.0;
        unit = larger;
    }
    if number < 9.95 && unit != "B" { format!("{number:.1} {unit}") } else { format!("{number:.0} {unit}") }
}

/// How long something has been: `12 s`, `5 min`, `3 h`, `4 d`.
pub(crate) fn age(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A count that may be a mean.
pub(crate) fn count(count: f64) -> String {
    if count.is_finite() { format!("{count:.0}") } else { UNKNOWN.to_owned() }
}

/// What stands where nothing is known.
const UNKNOWN: &str = "–";

/// The newest `width` points as bars of eight heights, the highest of all shown being full; a zero is a low line, so that
/// silence can be told from nothing known.
pub(crate) fn spark(points: &[f32], width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let shown = &points[points.len().saturating_sub(width)..];
    let highest = shown.iter().copied().filter(|point| point.is_finite()).fold(0.0_f32, f32::max);
    let bar = |point: &f32| match point {
        point if !point.is_finite() => ' ',
        _ if highest <= 0.0 => BARS[0],
        point => BARS[((point / highest * 7.0).round() as usize).min(7)],
    };
    let bars: String = shown.iter().map(bar).collect();
    format!("{bars:>width$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_keeps_the_digits_that_mean_something() {
        assert_eq!(
            [0.0, 0.01, 0.44, 12.34, 99.96, 142.4, 1_234.0, 250_000.0, 3e6].map(rate),
            ["0", "0", "0.4", "12.3", "100", "142", "1.2k", "250k", "3.0M"]
        );
        assert_eq!(
            [None, Some(0.0), Some(0.00001), Some(0.0002), Some(0.05), Some(0.123), Some(1.0)].map(percent),
            ["–", "0 %", "<0.01 %", "0.02 %", "5.0 %", "12 %", "100 %"]
        );
        assert_eq!(
            [None, Some(0.00085), Some(0.0012), Some(0.0123), Some(0.9999), Some(1.23), Some(120.0)]
                .map(seconds),
            ["–", "850 µs", "1.2 ms", "12 ms", "1.0 s", "1.2 s", "120 s"]
        );
        assert_eq!(
            [Some(0.0), Some(900.0), Some(34e6), Some(5e9)].map(bytes),
            ["0 B", "900 B", "32 MiB", "4.7 GiB"]
        );
        assert_eq!([59, 600, 7_200, 200_000].map(age), ["59 s", "10 min", "2 h", "2 d"]);
    }

    #[test]
    fn what_is_no_number_is_shown_as_unknown() {
        assert_eq!(
            (rate(f64::NAN), seconds(Some(f64::INFINITY)), percent(Some(f64::NAN))),
            ("–".into(), "–".into(), "–".into())
        );
        assert_eq!((bytes(Some(f64::NAN)), count(f64::NAN)), ("–".into(), "–".into()));
    }

    #[test]
    fn a_spark_shows_the_newest_points_in_proportion() {
        assert_eq!(spark(&[0.0, 3.5, 7.0], 5), "  ▁▅█");
        assert_eq!(spark(&[9.0, 0.0, 0.0], 2), "▁▁", "what has left the picture does not set its scale");
        assert_eq!(spark(&[f32::NAN, 1.0], 2), " █");
        assert_eq!((spark(&[], 3), spark(&[1.0], 0)), ("   ".into(), String::new()));
    }
}
