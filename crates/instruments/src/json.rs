//! The little JSON that log lines need, written straight into a buffer (RFC 8259).

use crate::event::Value;

/// Appends a JSON string, quotes included. Control characters, quotes and backslashes are escaped, so a line of the
/// log stays one line whatever a client sent.
pub fn push_json_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push_escaped(out, text.as_bytes());
    out.push(b'"');
}

/// Appends the inside of a JSON string. Runs of plain bytes are copied whole.
pub(crate) fn push_escaped(out: &mut Vec<u8>, mut bytes: &[u8]) {
    while let Some(at) = bytes.iter().position(|byte| needs_escape(*byte)) {
        out.extend_from_slice(&bytes[..at]);
        push_escape(out, bytes[at]);
        bytes = &bytes[at + 1..];
    }
    out.extend_from_slice(bytes);
}

fn needs_escape(byte: u8) -> bool {
    // DEL is legal in JSON, but a terminal that shows the line would act on it.
    byte < 0x20 || byte == b'"' || byte == b'\\' || byte == 0x7f
}

#[cold]
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
pub(crate) fn push_u64(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Appends microseconds as seconds with six decimals.
pub(crate) fn push_seconds(out: &mut Vec<u8>, micros: u64) {
    push_u64(out, micros / 1_000_000);
    let mut decimals = *b".000000";
    let mut rest = micros % 1_000_000;
    for digit in decimals[1..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&decimals);
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
