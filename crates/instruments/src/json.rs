//! The little JSON that log lines need, written straight into a buffer (RFC 8259).

use crate::event::Value;

/// Appends a JSON string, quotes included. Control characters, quotes and backslashes are escaped, so a line of the
/// log stays one line whatever a client sent.
pub fn push_json_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push_escaped(out, text.as_bytes());
    out.push(b'"');
}

/// Appends the inside of a JSON string. Nearly all text needs no escape, which is found out eight bytes at a time: byte by
/// byte this was half the cost of an access line.
#[inline]
pub(crate) fn push_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    if is_plain(bytes) {
        out.extend_from_slice(bytes);
    } else {
        push_with_escapes(out, bytes);
    }
}

#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk() else {
        return !bytes.iter().any(|byte| needs_escape(*byte));
    };
    let (words, _) = bytes.as_chunks();
    // The last eight may overlap those before them.
    words.iter().fold(telling(last), |found, word| found | telling(word)) == 0
}

/// Not zero when one of eight bytes needs an escape: the classic tests for a byte below a number and for a byte that is
/// zero, in all lanes of a word at once (Warren, Hacker's Delight, section 6-1).
#[inline]
fn telling(bytes: &[u8; 8]) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_le_bytes(*bytes);
    let is = |byte: u8| {
        let zero_where = word ^ (u64::from(byte) * ONES);
        zero_where.wrapping_sub(ONES) & !zero_where
    };
    let is_control = word.wrapping_sub(0x20 * ONES) & !word;
    (is_control | is(b'"') | is(b'\\') | is(0x7f)) & (0x80 * ONES)
}

#[inline]
fn needs_escape(byte: u8) -> bool {
    // DEL is legal in JSON, but a terminal that shows the line would act on it.
    (byte < 0x20) | (byte == b'"') | (byte == b'\\') | (byte == 0x7f)
}

#[cold]
fn push_with_escapes(out: &mut Vec<u8>, mut bytes: &[u8]) {
    while let Some(at) = bytes.iter().position(|byte| needs_escape(*byte)) {
        out.extend_from_slice(&bytes[..at]);
        push_escape(out, bytes[at]);
        bytes = &bytes[at + 1..];
    }
    out.extend_from_slice(bytes);
}

fn push_escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
        }
    }
}

/// Appends a decimal number.
#[inline]
pub(crate) fn push_u64(out: &mut Vec<u8>, number: u64) {
    match number {
        0..10_000 => push_up_to_four(out, number as u16),
        _ => push_large(out, number),
    }
}

/// Octets, statuses and most sizes: four digits at once, pushed over those that do not count.
#[inline]
fn push_up_to_four(out: &mut Vec<u8>, number: u16) {
    let ([a, b], [c, d]) = (two(usize::from(number / 100)), two(usize::from(number)));
    let leading = usize::from(number < 1_000) + usize::from(number < 100) + usize::from(number < 10);
    let digits = u32::from_le_bytes([a, b, c, d]) >> (8 * leading);
    out.extend_from_slice(&digits.to_le_bytes());
    out.truncate(out.len() - leading);
}

/// `00` to `99`, end to end.
const TWO_DIGITS: [[u8; 2]; 100] = two_digits();

const fn two_digits() -> [[u8; 2]; 100] {
    let mut table = [[b'0'; 2]; 100];
    let mut number = 0;
    while number < 100 {
        table[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    table
}

/// The last two digits of a number.
#[inline]
fn two(number: usize) -> [u8; 2] {
    TWO_DIGITS[number % 100]
}

/// The last three digits of a number: a status.
#[inline]
pub(crate) fn three(number: u32) -> [u8; 3] {
    let [tens, ones] = two(number as usize);
    [b'0' + (number / 100 % 10) as u8, tens, ones]
}

/// The last six digits of a number below 100 million: microseconds of a second. All of its eight digits are worked out side
/// by side, in one register: by fours, by pairs, by ones (Lemire, "Converting integers to fix-digit representations quickly").
#[inline]
pub(crate) fn six(number: u32) -> [u8; 6] {
    const PAIRS: u64 = 0x0000_007f_0000_007f;
    const ONES: u64 = 0x000f_000f_000f_000f;
    let fours = u64::from(number / 10_000) | u64::from(number % 10_000) << 32;
    let high_pairs = ((fours * 10_486) >> 20) & PAIRS;
    let pairs = high_pairs | (fours - 100 * high_pairs) << 16;
    let tens = ((pairs * 103) >> 10) & ONES;
    let digits = tens | (pairs - 10 * tens) << 8;
    let [_, _, rest @ ..] = (digits | 0x3030_3030_3030_3030).to_le_bytes();
    rest
}

#[cold]
fn push_large(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    while number > 0 {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&digits[start..]);
}

/// Appends microseconds as seconds with six decimals.
#[inline]
pub(crate) fn push_seconds(out: &mut Vec<u8>, micros: u64) {
    let mut text = *b"0.000000";
    text[2..].copy_from_slice(&six((micros % 1_000_000) as u32));
    match micros / 1_000_000 {
        // Nearly every request: the point and all before it in one copy.
        seconds @ 0..10 => {
            text[0] = b'0' + seconds as u8;
            out.extend_from_slice(&text);
        }
        seconds => {
            push_u64(out, seconds);
            out.extend_from_slice(&text[1..]);
        }
    }
}

/// Appends a field's value as JSON; durations in seconds, numbers that are not finite as `null`.
pub fn push_json_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Text(text) => push_json_string(out, text),
        Value::Uint(number) => push_u64(out, *number),
        Value::Int(number) => {
            if *number < 0 {
                out.push(b'-');
            }
            push_u64(out, number.unsigned_abs());
        }
        Value::Float(number) if number.is_finite() => out.extend_from_slice(number.to_string().as_bytes()),
        Value::Float(_) => out.extend_from_slice(b"null"),
        Value::Bool(yes) => out.extend_from_slice(if *yes { b"true" } else { b"false" }),
        Value::Duration(span) => push_seconds(out, u64::try_from(span.as_micros()).unwrap_or(u64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_comes_back_from_a_json_parser(text in any::<String>()) {
            let mut out = Vec::new();
            push_json_string(&mut out, &text);
            prop_assert!(!out.contains(&b'\n'));
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn a_byte_is_escaped_exactly_where_it_must_be(
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0x1e_u8..0x24, 0x5b_u8..0x5e, 0x7e_u8..0x82], 0..40),
        ) {
            let must = bytes.iter().any(|byte| needs_escape(*byte));
            prop_assert_eq!(is_plain(&bytes), !must);
        }

        #[test]
        fn any_number_comes_back_from_a_json_parser(int in any::<i64>(), uint in any::<u64>(), float in any::<f64>()) {
            for value in [Value::Int(int), Value::Uint(uint), Value::Float(float)] {
                let mut out = Vec::new();
                push_json_value(&mut out, &value);
                let parsed: serde_json::Value = serde_json::from_slice(&out).unwrap();
                match value {
                    Value::Int(int) => prop_assert_eq!(parsed.as_i64(), Some(int)),
                    Value::Uint(uint) => prop_assert_eq!(parsed.as_u64(), Some(uint)),
                    _ if !float.is_finite() => prop_assert!(parsed.is_null()),
                    _ => {
                        let error = parsed.as_f64().unwrap() - float;
                        prop_assert!(error.abs() <= float.abs() * 1e-12);
                    }
                }
            }
        }
    }

    #[test]
    fn every_microsecond_of_a_second_has_its_six_digits() {
        let mut wrong =
            (0..1_000_000_u32).filter(|number| six(*number)[..] != *format!("{number:06}").as_bytes());
        assert_eq!(wrong.next(), None);
    }

    #[test]
    fn a_duration_is_written_in_seconds() {
        let mut out = Vec::new();
        push_json_value(&mut out, &Value::Duration(std::time::Duration::from_micros(61_000_042)));
        assert_eq!(out, b"61.000042");
    }
}
