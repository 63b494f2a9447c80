//! Numbers as people read them: three digits that matter, a unit, and no more.
//!
//! A rate of 1,234.56 requests a second is `1.23k/s`: who needs the rest asks `/metrics`. The space before a unit is a
//! narrow one that does not break. `charts.js` has the same rules for axes and cursors; both are tested with the same
//! examples in mind, so change them together.

use std::time::Duration;

/// A narrow space that does not break.
const THIN: char = '\u{202f}';
/// What stands where nothing is known.
pub(super) const UNKNOWN: &str = "–";

/// Three digits that matter, without trailing zeros after a point.
fn digits(value: f64) -> String {
    // An empty sum is -0.
    let value = if value == 0.0 { 0.0 } else { value };
    let size = value.abs();
    let places = match size {
        _ if size >= 99.95 => 0,
        _ if size >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.places$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A number without a unit: `0`, `0.25`, `842`, `1.2k`, `3.41M`.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if !value.is_finite() => UNKNOWN.to_owned(),
        _ if size >= 999.5e6 => format!("{}G", digits(value / 1e9)),
        _ if size >= 999.5e3 => format!("{}M", digits(value / 1e6)),
        _ if size >= 999.5 => format!("{}k", digits(value / 1e3)),
        _ if size > 0.0 && size < 0.005 => "<0.01".to_owned(),
        _ => digits(value),
    }
}

/// A rate a second: `0/s`, `1.2k/s`.
pub(super) fn rate(value: f64) -> String {
    match value.is_finite() {
        true => format!("{}/s", number(value)),
        false => UNKNOWN.to_owned(),
    }
}

/// A time in seconds: `430 µs`, `12.3 ms`, `1.24 s`, `2.5 min`, `3.1 h`.
pub(super) fn seconds(value: f64) -> String {
    let (value, unit) = match value.abs() {
        _ if !value.is_finite() => return UNKNOWN.to_owned(),
        0.0 => (0.0, "ms"),
        size if size < 999.5e-6 => (value * 1e6, "µs"),
        size if size < 0.9995 => (value * 1e3, "ms"),
        size if size < 99.95 => (value, "s"),
        size if size < 5_997.0 => (value / 60.0, "min"),
        _ => (value / 3600.0, "h"),
    };
    format!("{}{THIN}{unit}", digits(value))
}

/// A share of 1 as per cent, with as many nines as it has: `0 %`, `0.02 %`, `12.5 %`, `99.95 %`. What is not quite none
/// or all is never rounded to it.
pub(super) fn share(value: f64) -> String {
    let percent = value * 100.0;
    let text = match percent {
        _ if !percent.is_finite() => return UNKNOWN.to_owned(),
        _ if percent > 0.0 && percent < 0.005 => "<0.01".to_owned(),
        _ if percent > 99.995 && percent < 100.0 => ">99.99".to_owned(),
        _ if (99.0..100.0).contains(&percent) => trimmed(percent, 2),
        _ => digits(percent),
    };
    format!("{text}{THIN}%")
}

fn trimmed(value: f64, places: usize) -> String {
    format!("{value:.places$}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Bytes: `512 B`, `64 MiB`, `1.5 GiB`.
pub(super) fn bytes(value: f64) -> String {
    if !value.is_finite() {
        return UNKNOWN.to_owned();
    }
    let mut value = value;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        if value.abs() < 999.5 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{}{THIN}{unit}", digits(value))
}

/// How long something has gone on, in its two largest units: `12 s`, `4 min 30 s`, `3 d 4 h`.
pub(super) fn span(seconds: u64) -> String {
    let parts = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let first = parts.iter().position(|(size, _)| seconds >= *size).unwrap_or(parts.len() - 1);
    let (size, unit) = parts[first];
    let head = format!("{}{THIN}{unit}", seconds / size);
    match parts.get(first + 1) {
        Some((next, unit)) if seconds % size / next > 0 => {
            format!("{head} {}{THIN}{unit}", seconds % size / next)
        }
        _ => head,
    }
}

/// A stretch of time as one word and a number, for windows and thresholds: `30 days`, `5 minutes`, `1 hour`.
pub(super) fn words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [(86_400, "day"), (3_600, "hour"), (60, "minute")];
    for (size, unit) in parts {
        if seconds >= size && seconds.is_multiple_of(size) {
            return plural(seconds / size, unit);
        }
    }
    match duration.subsec_nanos() {
        0 => plural(seconds, "second"),
        _ => self::seconds(duration.as_secs_f64()),
    }
}

/// A count with its noun: `1 instance`, `3 instances`.
pub(super) fn plural(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

/// How a quantity is written and drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Something a second.
    Rate,
    /// A part of 1.
    Share,
    /// Time in seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A plain number.
    Number,
}

impl Unit {
    /// A value in this unit.
    pub(super) fn format(self, value: f64) -> String {
        match self {
            Self::Rate => rate(value),
            Self::Share => share(value),
            Self::Seconds => seconds(value),
            Self::Bytes => bytes(value),
            Self::Number => number(value),
        }
    }

    /// Its name towards `charts.js`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Share => "share",
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
            Self::Number => "number",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(written: &str, expected: &str) {
        assert_eq!(written.replace(THIN, " "), expected);
    }

    #[test]
    fn rates_are_read_at_a_glance() {
        check(&rate(0.0), "0/s");
        check(&rate(0.001), "<0.01/s");
        check(&rate(0.25), "0.25/s");
        check(&rate(14.0), "14/s");
        check(&rate(142.4), "142/s");
        check(&rate(999.6), "1k/s");
        check(&rate(1_234.5), "1.23k/s");
        check(&rate(3_400_000.0), "3.4M/s");
        check(&rate(f64::NAN), "–");
    }

    #[test]
    fn times_have_the_unit_that_fits() {
        check(&seconds(0.0), "0 ms");
        check(&seconds(0.000_43), "430 µs");
        check(&seconds(0.012_34), "12.3 ms");
        check(&seconds(0.999_9), "1 s");
        check(&seconds(1.24), "1.24 s");
        check(&seconds(150.0), "2.5 min");
        check(&seconds(11_160.0), "3.1 h");
        check(&seconds(f64::INFINITY), "–");
    }

    #[test]
    fn a_share_is_never_rounded_to_all_or_none() {
        check(&share(0.0), "0 %");
        check(&share(-0.0), "0 %");
        check(&share(0.000_01), "<0.01 %");
        check(&share(0.0002), "0.02 %");
        check(&share(0.125), "12.5 %");
        check(&share(0.9995), "99.95 %");
        check(&share(0.999_999), ">99.99 %");
        check(&share(1.0), "100 %");
    }

    #[test]
    fn sizes_and_spans() {
        check(&bytes(512.0), "512 B");
        check(&bytes(64.0 * 1024.0 * 1024.0), "64 MiB");
        check(&bytes(1.5 * f64::from(1 << 30)), "1.5 GiB");
        check(&bytes(1_000.0), "0.98 KiB");
        check(&span(0), "0 s");
        check(&span(12), "12 s");
        check(&span(270), "4 min 30 s");
        check(&span(273_600), "3 d 4 h");
        check(&span(3_600), "1 h");
        check(&words(Duration::from_secs(30 * 86_400)), "30 days");
        check(&words(Duration::from_secs(3_600)), "1 hour");
        check(&words(Duration::from_millis(300)), "300 ms");
        check(&plural(1, "instance"), "1 instance");
    }
}
