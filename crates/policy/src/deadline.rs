//! How much time a caller leaves, as it says so in a field; and whether that is enough.
//!
//! `grpc-timeout` says how much is left when the request was sent (gRPC over HTTP/2, "Requests": at most eight digits and a
//! unit). `X-Request-Deadline` says until when, in Unix time: seconds, with a fraction where one is wanted
//! (`1767225600.250`). What is left shrinks on the way by itself in the second form, where both clocks agree; the first
//! needs no clocks that agree, but does not count what the way took. A caller that names both gets the earlier.
//!
//! Whoever hands a request on says how much of its time is left, so that no hop works on what the first one has given up,
//! and begins nothing that cannot be done by then.

use std::time::Duration;

/// Hours that may be written in eight digits.
const GRPC_VALUE_MAX: u128 = 99_999_999;
/// What is further away is no deadline: a caller's clock is wrong, or it did not mean one.
const AHEAD_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Reads `grpc-timeout`; anything else than its grammar is none.
pub fn parse_grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount = digits.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(amount * 3600)),
        b'M' => Some(Duration::from_secs(amount * 60)),
        b'S' => Some(Duration::from_secs(amount)),
        b'm' => Some(Duration::from_millis(amount)),
        b'u' => Some(Duration::from_micros(amount)),
        b'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

/// Writes `grpc-timeout`: in the finest unit that has room for it, rounded down, so that nobody is told of more time than
/// there is.
pub fn format_grpc_timeout(left: Duration, out: &mut Vec<u8>) {
    let units = [(1, b'n'), (1_000, b'u'), (1_000_000, b'm'), (1_000_000_000, b'S'), (60_000_000_000, b'M')];
    let fits = |unit: &(u128, u8)| left.as_nanos() / unit.0 <= GRPC_VALUE_MAX;
    let (nanos, letter) = units.into_iter().find(fits).unwrap_or((3_600_000_000_000, b'H'));
    let amount = (left.as_nanos() / nanos).min(GRPC_VALUE_MAX);
    out.extend_from_slice(amount.to_string().as_bytes());
    out.push(letter);
}

/// Reads `X-Request-Deadline` at `wall`, the time since 1970, as what is left until then: nothing, when it has passed; none
/// for what is no such moment, or one in more than thirty days.
pub fn parse_request_deadline(value: &[u8], wall: Duration) -> Option<Duration> {
    let (whole, fraction) = match value.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&value[..dot], &value[dot + 1..]),
        None => (value, &b""[..]),
    };
    let is_number = |digits: &[u8]| digits.iter().all(u8::is_ascii_digit);
    let has_form = !whole.is_empty() && whole.len() <= 11 && fraction.len() <= 9;
    if !has_form || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let number = |digits: &[u8]| digits.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    let nanos = number(fraction) * 10_u64.pow(9 - fraction.len() as u32);
    let at = Duration::from_secs(number(whole)) + Duration::from_nanos(nanos);
    let left = at.saturating_sub(wall);
    if left > AHEAD_MAX { None } else { Some(left) }
}

/// Writes `X-Request-Deadline`: the moment `at` since 1970, in seconds and milliseconds, rounded down.
pub fn format_request_deadline(at: Duration, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(at.as_secs()).as_bytes());
    let millis = at.subsec_millis();
    let digit = |place| b'0' + (millis / place % 10) as u8;
    out.extend_from_slice(&[b'.', digit(100), digit(10), digit(1)]);
}

/// Whether a request with so much time left can be answered by a service whose fastest answers take `fastest`, after
/// waiting for `wait` more. What is not known is believed.
pub fn can_make_it(left: Duration, wait: Duration, fastest: Option<Duration>) -> bool {
    left > wait.saturating_add(fastest.unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WALL: Duration = Duration::from_secs(1_767_225_600);

    fn grpc(left: Duration) -> String {
        let mut out = Vec::new();
        format_grpc_timeout(left, &mut out);
        String::from_utf8(out).expect("digits and a letter")
    }

    #[test]
    fn grpc_requests_timeout_is_digits_and_a_unit() {
        let read = |text: &str| parse_grpc_timeout(text.as_bytes());
        assert_eq!(read("100m"), Some(Duration::from_millis(100)));
        assert_eq!(read("2H"), Some(Duration::from_secs(7_200)));
        assert_eq!(read("99999999S"), Some(Duration::from_secs(99_999_999)));
        for wrong in ["", "m", "100", "100x", "-1S", "1.5S", "123456789S", " 1S", "1S "] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn grpc_requests_timeout_is_written_as_finely_as_there_is_room() {
        assert_eq!(grpc(Duration::ZERO), "0n");
        assert_eq!(grpc(Duration::from_millis(99)), "99000000n");
        assert_eq!(grpc(Duration::from_millis(2_500)), "2500000u");
        assert_eq!(grpc(Duration::from_secs(7 * 24 * 3600)), "604800S");
        assert_eq!(grpc(Duration::MAX), "99999999H");
    }

    #[test]
    fn a_deadline_is_a_moment_in_unix_time() {
        let read = |text: &str| parse_request_deadline(text.as_bytes(), WALL);
        assert_eq!(read("1767225602.250"), Some(Duration::from_millis(2_250)));
        assert_eq!(read("1767225603"), Some(Duration::from_secs(3)));
        assert_eq!(read("1767225000"), Some(Duration::ZERO), "it has passed");
        assert_eq!(read("1767225602."), Some(Duration::from_secs(2)));
        for wrong in ["", ".5", "soon", "-1", "1767225602.1234567891", "1,5", "1767225602.2 ", "99999999999"]
        {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_cannot_be_done_in_time_is_not_begun() {
        let fastest = Some(Duration::from_millis(20));
        assert!(can_make_it(Duration::from_millis(100), Duration::from_millis(50), fastest));
        assert!(!can_make_it(Duration::from_millis(60), Duration::from_millis(50), fastest));
        assert!(can_make_it(Duration::from_nanos(1), Duration::ZERO, None));
        assert!(!can_make_it(Duration::ZERO, Duration::ZERO, None));
    }

    proptest! {
        #[test]
        fn nobody_is_told_of_more_time_than_there_is(nanos in 0_u64..u64::MAX) {
            let left = Duration::from_nanos(nanos);
            let told = parse_grpc_timeout(grpc(left).as_bytes()).expect("what is written can be read");
            prop_assert!(told <= left && left - told <= left / 1_000_000 + Duration::from_nanos(1));
        }

        #[test]
        fn a_deadline_is_read_as_it_was_written(millis in 0_u64..2_592_000_000) {
            let mut out = Vec::new();
            format_request_deadline(WALL + Duration::from_millis(millis), &mut out);
            prop_assert_eq!(parse_request_deadline(&out, WALL), Some(Duration::from_millis(millis)));
        }

        #[test]
        fn whatever_stands_there_is_read_or_not(value in prop::collection::vec(any::<u8>(), 0..24)) {
            let _none = (parse_grpc_timeout(&value), parse_request_deadline(&value, WALL));
        }
    }
}
