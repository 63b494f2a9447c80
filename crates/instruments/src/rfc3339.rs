//! The time of day as people and log collectors read it: `2026-01-31T23:59:59.123456Z` (RFC 3339 section 5.6).

use std::time::{Duration, SystemTime};

use crate::json::six;

/// Writes timestamps in UTC, and remembers the last second written: a thousand lines a second share one date.
#[derive(Debug, Clone)]
pub struct Timestamp {
    second: u64,
    text: [u8; TEMPLATE.len()],
}

const TEMPLATE: &[u8; 27] = b"1970-01-01T00:00:00.000000Z";
const DAY_S: u64 = 86_400;

impl Default for Timestamp {
    fn default() -> Self {
        Self { second: 0, text: *TEMPLATE }
    }
}

impl Timestamp {
    /// How long a timestamp is.
    pub(crate) const BYTES: usize = TEMPLATE.len();

    /// The text for `time`, with microseconds. Times before 1970 read as 1970, and years after 9999 keep their last
    /// four digits.
    pub fn format(&mut self, time: SystemTime) -> &str {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        std::str::from_utf8(self.bytes(since)).expect("a timestamp is ASCII digits in an ASCII template")
    }

    /// The same as bytes, of a time since 1970.
    #[inline]
    pub(crate) fn bytes(&mut self, since: Duration) -> &[u8; Self::BYTES] {
        if since.as_secs() != self.second {
            self.write_second(since.as_secs());
        }
        self.text[20..26].copy_from_slice(&six(since.subsec_micros()));
        &self.text
    }

    #[cold]
    fn write_second(&mut self, second: u64) {
        let (year, month, day) = civil(second / DAY_S);
        let of_day = second % DAY_S;
        put(&mut self.text[0..4], year);
        put(&mut self.text[5..7], month);
        put(&mut self.text[8..10], day);
        put(&mut self.text[11..13], of_day / 3_600);
        put(&mut self.text[14..16], of_day / 60 % 60);
        put(&mut self.text[17..19], of_day % 60);
        self.second = second;
    }
}

fn put(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Year, month and day of a number of days since 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms",
/// `civil_from_days`): years begin in March, so that the leap day is the last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(seconds: u64, micros: u64, expected: &str) {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros);
        assert_eq!(Timestamp::default().format(time), expected);
    }

    #[test]
    fn times_read_as_rfc_3339_says() {
        check(0, 0, "1970-01-01T00:00:00.000000Z");
        check(951_782_400, 7, "2000-02-29T00:00:00.000007Z");
        check(1_767_225_599, 999_999, "2025-12-31T23:59:59.999999Z");
        check(4_107_542_400, 0, "2100-03-01T00:00:00.000000Z");
    }

    proptest! {
        #[test]
        fn each_day_is_the_day_after_the_last(day in 0_u64..100_000) {
            let ((year, month, of_month), next) = (civil(day), civil(day + 1));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let days = [31, 28 + u64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month as usize - 1];
            let expected = match (of_month == days, month) {
                (false, _) => (year, month, of_month + 1),
                (true, 12) => (year + 1, 1, 1),
                (true, _) => (year, month + 1, 1),
            };
            prop_assert_eq!(next, expected);
        }
    }
}
