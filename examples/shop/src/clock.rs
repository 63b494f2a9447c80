//! The one door through which time comes in, and how it is written.
//!
//! The shop stands for an app that has never heard of Terrace, so it has a clock of its own.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment for measuring how long something took.
#[expect(clippy::disallowed_methods, reason = "this is the shop's one door for monotonic time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since 1970 UTC, as stored in every database of the shop.
pub(crate) fn wall_ms() -> i64 {
    wall_us() / 1000
}

/// Microseconds since 1970 UTC.
#[expect(clippy::disallowed_methods, reason = "this is the shop's one door for wall time")]
pub(crate) fn wall_us() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(_) => 0, // a clock before 1970: order of events is lost, nothing else
    }
}

/// `duration` in whole milliseconds.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// RFC 3339, UTC, with milliseconds: for logs and machines.
pub(crate) fn rfc3339(at_ms: i64) -> String {
    let ((year, month, day), ms) = (date(at_ms), at_ms.rem_euclid(86_400_000));
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
}

/// "12 March 2026, 14:05 UTC": for people.
pub(crate) fn for_people(at_ms: i64) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let ((year, month, day), ms) = (date(at_ms), at_ms.rem_euclid(86_400_000));
    format!("{day} {} {year}, {:02}:{:02} UTC", MONTHS[month - 1], ms / 3_600_000, ms / 60_000 % 60)
}

/// Year, month (1 to 12) and day; Howard Hinnant's `civil_from_days`.
fn date(at_ms: i64) -> (i64, usize, i64) {
    let days = at_ms.div_euclid(86_400_000) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, usize::try_from(month).unwrap_or(1), day)
}

/// Reads `"300ms"`, `"5s"` or `"2m"`; refuses anything longer than an hour.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return Err(format!("'{text}' is no duration; write it like 300ms, 5s or 2m")),
    };
    match digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_ms)) {
        Some(ms) if ms <= 3_600_000 => Ok(Duration::from_millis(ms)),
        _ => Err(format!("'{text}' is out of range; at most 60m")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_leap_days() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_709_208_000_123), "2024-02-29T12:00:00.123Z");
        assert_eq!(for_people(1_709_294_400_000), "1 March 2024, 12:00 UTC");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
    }

    #[test]
    fn durations_have_a_unit_and_a_bound() {
        assert_eq!(parse_duration("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "5", "ms", "-1s", "61m", "99999999999999999999s", "1 s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
