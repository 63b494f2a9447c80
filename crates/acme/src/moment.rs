//! Moments of the wall clock as certificates and authorities write them: three notations, one meaning. Within a
//! program a moment is a [`Duration`] since 1970; what lies before that counts as 1970, for no certificate of ours does.

use std::time::Duration;

/// As of which a year of two digits belongs to the last century (RFC 5280 section 4.1.2.5.1).
const UTC_TIME_CENTURY: u64 = 50;

/// `UTCTime` as certificates have it: `YYMMDDHHMMSSZ` (RFC 5280 section 4.1.2.5.1).
pub(crate) fn utc_time(text: &[u8]) -> Option<Duration> {
    let [year @ .., _, _, _, _, _, _, _, _, _, _, b'Z'] = text else { return None };
    let (2, Some(short)) = (year.len(), number(year)) else { return None };
    let year = if short < UTC_TIME_CENTURY { 2000 + short } else { 1900 + short };
    moment(year, &text[2..12])
}

/// `GeneralizedTime` as certificates have it: `YYYYMMDDHHMMSSZ` (RFC 5280 section 4.1.2.5.2).
pub(crate) fn generalized_time(text: &[u8]) -> Option<Duration> {
    let (15, [digits @ .., b'Z']) = (text.len(), text) else { return None };
    moment(number(&digits[..4])?, &digits[4..])
}

/// A timestamp of RFC 3339: `2025-01-02T04:00:00Z`, perhaps with a fraction, perhaps with an offset.
pub(crate) fn rfc3339(text: &str) -> Option<Duration> {
    let bytes = text.as_bytes();
    let (head, rest) = bytes.split_at_checked(19)?;
    let digits: Vec<u8> = [0..4, 5..7, 8..10, 11..13, 14..16, 17..19].map(|part| &head[part]).concat();
    let marks = [head[4], head[7], head[10].to_ascii_uppercase(), head[13], head[16]];
    if marks != *b"--T::" {
        return None;
    }
    let at = moment(number(&digits[..4])?, &digits[4..])?;
    let fraction = match rest {
        [b'.', rest @ ..] => rest.iter().take_while(|byte| byte.is_ascii_digit()).count() + 1,
        _ => 0,
    };
    match &rest[fraction..] {
        [b'Z' | b'z'] => Some(at),
        [sign @ (b'+' | b'-'), hour @ .., b':', ten, one] => {
            let minutes = number(hour)?.checked_mul(60)?.checked_add(number(&[*ten, *one])?)?;
            let offset = Duration::from_secs(minutes.checked_mul(60)?);
            if *sign == b'+' { Some(at.saturating_sub(offset)) } else { at.checked_add(offset) }
        }
        _ => None,
    }
}

/// `rest`: month, day, hour, minute and second, of two digits each.
fn moment(year: u64, rest: &[u8]) -> Option<Duration> {
    let part = |at: usize| number(rest.get(at..at + 2)?);
    let (month, day, hour, minute, second) = (part(0)?, part(2)?, part(4)?, part(6)?, part(8)?);
    let is_one = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60;
    // A leap second is the second after the 59th.
    if !is_one || second > 60 || rest.len() != 10 {
        return None;
    }
    let Some(days) = days_since_1970(year, month, day) else { return Some(Duration::ZERO) };
    Some(Duration::from_secs(days * 86_400 + hour * 3_600 + minute * 60 + second))
}

/// Days of the Gregorian calendar since 1970; nothing for what was before (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", days_from_civil).
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = year - u64::from(month <= 2).min(year);
    let (era, of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

fn number(digits: &[u8]) -> Option<u64> {
    let is_number = (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;
    use terrace_instruments::Timestamp;

    use super::*;

    fn seconds(moment: Option<Duration>) -> Option<u64> {
        moment.map(|moment| moment.as_secs())
    }

    #[test]
    fn rfc5280_4_1_2_5_both_notations_of_certificates_are_read() {
        assert_eq!(seconds(utc_time(b"700101000000Z")), Some(0));
        assert_eq!(seconds(utc_time(b"491231235959Z")), Some(2_524_607_999), "2049");
        assert_eq!(seconds(utc_time(b"500101000000Z")), Some(0), "1950 is before all of ours");
        assert_eq!(seconds(generalized_time(b"20500101000000Z")), Some(2_524_608_000));
        assert_eq!(seconds(generalized_time(b"20240229120000Z")), Some(1_709_208_000));
        for wrong in
            ["", "Z", "7001010000Z", "700101000000", "701301000000Z", "7001010000600Z", "7a0101000000Z"]
        {
            assert_eq!(utc_time(wrong.as_bytes()), None, "{wrong}");
            assert_eq!(generalized_time(format!("19{wrong}").as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn rfc3339_5_8_its_own_examples_are_read() {
        assert_eq!(seconds(rfc3339("1985-04-12T23:20:50.52Z")), Some(482_196_050));
        assert_eq!(rfc3339("1996-12-19T16:39:57-08:00"), rfc3339("1996-12-20T00:39:57Z"));
        assert_eq!(rfc3339("1990-12-31T15:59:60-08:00"), rfc3339("1990-12-31T23:59:60Z"));
        assert_eq!(rfc3339("1937-01-01T12:00:27.87+00:20"), Some(Duration::ZERO));
        for wrong in
            ["", "2025-01-02", "2025-01-02 04:00:00Z", "2025-01-02T04:00:00", "2025-01-02T04:00:00.Y"]
        {
            assert_eq!(rfc3339(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_the_log_writes_is_read_as_the_same_second(secs in 0_u64..7_258_118_400) {
            let mut stamp = Timestamp::default();
            let text = stamp.format(SystemTime::UNIX_EPOCH + Duration::from_secs(secs)).to_owned();
            prop_assert_eq!(seconds(rfc3339(&text)), Some(secs), "{}", text);
        }

        #[test]
        fn no_text_panics(text in ".{0,40}", bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            let _read = (rfc3339(&text), utc_time(&bytes), generalized_time(&bytes));
        }
    }
}
