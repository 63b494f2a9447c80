//! Moments as log lines write them: RFC 3339, or a number since 1970 whose unit its size tells.

use std::time::{Duration, SystemTime};

use serde_json::Number;

/// The longest text that can be a moment.
const TEXT_BYTES_MAX: usize = 40;

/// Reads `2026-01-31T23:59:59.123Z` (RFC 3339 section 5.6): also with a blank for the `T`, a comma before the
/// fraction, and an offset without its colon. A time without an offset is nobody's time and refused; so is one
/// before 1970.
pub fn rfc3339(text: &str) -> Option<SystemTime> {
    if text.len() > TEXT_BYTES_MAX || !text.is_ascii() {
        return None;
    }
    let (date, time) = text.split_at_checked(10)?;
    let time = time.strip_prefix(['T', 't', ' '])?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (of_day, rest) = time.split_at_checked(8)?;
    let [hour, minute, second] = numbers(of_day, ':', [2, 2, 2])?;
    // A leap second is the last second of its day twice.
    if !(1..=12).contains(&month)
        || day < 1
        || day > days_in(year, month)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    let (nanos, offset) = fraction(rest)?;
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second.min(59);
    let utc = u64::try_from(seconds - offset_seconds(offset)?).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(utc, nanos))
}

/// Reads seconds, milliseconds, microseconds or nanoseconds since 1970: the unit that puts the moment between 1973 and
/// 5138, for numbers of 1e8 and more.
pub(crate) fn epoch(number: &Number) -> Option<SystemTime> {
    let since = match number.as_u64() {
        Some(whole @ 0..100_000_000_000) => Duration::from_secs(whole),
        Some(whole @ 0..100_000_000_000_000) => Duration::from_millis(whole),
        Some(whole @ 0..100_000_000_000_000_000) => Duration::from_micros(whole),
        Some(whole) => Duration::from_nanos(whole),
        None => of_seconds(seconds_of(number.as_f64()?))?,
    };
    SystemTime::UNIX_EPOCH.checked_add(since)
}

fn seconds_of(number: f64) -> f64 {
    let unit = [(1e11, 1.0), (1e14, 1e3), (1e17, 1e6)].into_iter().find(|(below, _)| number < *below);
    number / unit.map_or(1e9, |(_, unit)| unit)
}

/// To the microsecond, which is as much as 64 bits of floating point hold of a time in this century.
fn of_seconds(seconds: f64) -> Option<Duration> {
    let micros = (seconds * 1e6).round();
    (0.0..1e18).contains(&micros).then(|| Duration::from_micros(micros as u64))
}

fn numbers(text: &str, separator: char, widths: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(separator);
    let mut values = [0; 3];
    for (value, width) in values.iter_mut().zip(widths) {
        *value = digits(parts.next().filter(|part| part.len() == width)?)?;
    }
    parts.next().is_none().then_some(values)
}

fn digits(text: &str) -> Option<i64> {
    let all = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if all { text.parse().ok() } else { None }
}

/// Nanoseconds, and what follows the fraction.
fn fraction(rest: &str) -> Option<(u32, &str)> {
    let Some(after) = rest.strip_prefix(['.', ',']) else { return Some((0, rest)) };
    let length = after.bytes().take_while(u8::is_ascii_digit).count();
    let nanos = after.bytes().take(length).chain(std::iter::repeat(b'0')).take(9);
    let nanos = nanos.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    (length > 0).then_some((nanos, &after[length..]))
}

fn offset_seconds(offset: &str) -> Option<i64> {
    if matches!(offset, "Z" | "z" | " UTC") {
        return Some(0);
    }
    let sign = match offset.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = match offset[1..].split_once(':') {
        Some(both) => both,
        None => offset[1..].split_at_checked(2)?,
    };
    let both = hours.len() == 2 && minutes.len() == 2;
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    (both && hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    [31, 28 + i64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][(month - 1) as usize]
}

/// Howard Hinnant's `days_from_civil`, for years from 0.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use terrace_instruments::Timestamp;

    fn at(text: &str) -> Option<u128> {
        Some(rfc3339(text)?.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos())
    }

    #[test]
    fn a_moment_may_be_written_in_the_ways_that_libraries_write_it() {
        let seconds = 1_767_225_599_000_000_000;
        assert_eq!(at("2025-12-31T23:59:59Z"), Some(seconds));
        assert_eq!(at("2025-12-31 23:59:59,123Z"), Some(seconds + 123_000_000));
        assert_eq!(at("2026-01-01T01:29:59.123456789012+01:30"), Some(seconds + 123_456_789));
        assert_eq!(at("2025-12-31T13:59:59-1000"), Some(seconds));
        assert_eq!(at("2016-12-31T23:59:60Z"), at("2016-12-31T23:59:59Z"));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "2025-12-31",
            "2025-12-31T23:59:59",
            "2025-02-29T00:00:00Z",
            "2025-13-01T00:00:00Z",
            "2025-12-31T24:00:00Z",
            "1969-12-31T23:59:59Z",
            "2025-12-31T23:59:59+1:00",
            "2025-12-31T23:59:59.Z",
            "2025-12-31T23:59:59+25:00",
            "+025-12-31T23:59:59Z",
            "2025-12-31T23:59:59Zürich",
            "१९७०-०१-०१T00:00:00Z",
        ] {
            assert_eq!(at(text), None, "{text}");
        }
    }

    #[test]
    fn the_size_of_a_number_tells_its_unit() {
        let check = |json: &str, nanos: u128| {
            let number: Number = serde_json::from_str(json).unwrap();
            let time = epoch(&number).unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            assert_eq!(time.as_nanos(), nanos, "{json}");
        };
        check("1700000000", 1_700_000_000_000_000_000);
        check("1700000000.5", 1_700_000_000_500_000_000);
        check("1700000000.123", 1_700_000_000_123_000_000);
        check("1700000000123", 1_700_000_000_123_000_000);
        check("1700000000123.5", 1_700_000_000_123_500_000);
        check("1700000000123456", 1_700_000_000_123_456_000);
        check("1700000000123456789", 1_700_000_000_123_456_789);
        for json in ["-1", "-1.5", "1e300"] {
            assert_eq!(epoch(&serde_json::from_str(json).unwrap()), None, "{json}");
        }
    }

    proptest! {
        #[test]
        fn what_we_write_we_read(seconds in 0_u64..253_402_300_800, micros in 0_u32..1_000_000) {
            let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, micros * 1_000);
            prop_assert_eq!(rfc3339(Timestamp::default().format(time)), Some(time));
        }

        #[test]
        fn no_text_breaks_it(text in "[0-9TZ:.,+-]{0,45}|\\PC*") {
            let _time = rfc3339(&text);
        }
    }
}
