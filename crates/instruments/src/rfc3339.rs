//! The time of day as people and log collectors read it: `2026-01-31T23:59:59.123456Z` (RFC 3339 section 5.6).

use std::time::{Duration, SystemTime};

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
    /// The text for `time`, with microseconds. Times before 1970 read as 1970, those after 9999 as their own year's last four digits.
    pub fn format(&mut self, time: SystemTime) -> &str {
        let since = match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => since,
            Err(_) => Duration::ZERO,
        };
        if since.as_secs() != self.second {
            self.write_second(since.as_secs());
        }
        put(&mut self.text[20..26], u64::from(since.subsec_micros()));
        std::str::from_utf8(&self.text).expect("a timestamp is ASCII digits in an ASCII template")
    }

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
