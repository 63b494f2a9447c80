//! Percent-encoding, in both directions (RFC 3986, sections 2.1 to 2.3 and 3.3).
//!
//! Patterns and templates are written by people, paths come from a normaliser; both are brought into one form here:
//! unreserved characters plain, what a path may not hold encoded, escapes in upper case.

/// The value of a hexadecimal digit.
fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// The byte that the escape at the start of `text` stands for; `None` when there is no whole escape.
pub(crate) fn escape(text: &[u8]) -> Option<u8> {
    match text {
        [b'%', high, low, ..] => Some(hex(*high)? << 4 | hex(*low)?),
        _ => None,
    }
}

/// The bytes that `text` stands for, with `plus` for a plain `+`. A `%` that begins no escape stands for itself.
pub(crate) fn decoded(text: &str, plus: u8) -> impl Iterator<Item = u8> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let byte = *bytes.get(at)?;
        if let Some(value) = escape(&bytes[at..]) {
            at += 3;
            return Some(value);
        }
        at += 1;
        Some(if byte == b'+' { plus } else { byte })
    })
}

/// Where the first segment of `path` ends. Segments are short, so a plain loop takes a fifth off a whole lookup
/// against the standard library's search.
pub(crate) fn segment_end(path: &str) -> usize {
    path.bytes().position(|byte| byte == b'/').unwrap_or(path.len())
}

/// The offset of the last character's border at or before `offset`.
pub(crate) fn border_before(text: &str, offset: usize) -> usize {
    (0..=offset).rev().find(|offset| text.is_char_boundary(*offset)).unwrap_or(0)
}

/// `byte` as an escape.
pub(crate) fn escaped(byte: u8) -> [u8; 3] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    [b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

/// Appends `byte` as an escape.
pub(crate) fn push_escape(out: &mut String, byte: u8) {
    out.extend(escaped(byte).map(char::from));
}

/// Characters that mean the same plain and encoded (RFC 3986, section 2.3).
pub(crate) fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Characters that the path of an address may hold plain (RFC 3986, section 3.3).
pub(crate) fn path_byte(byte: u8) -> bool {
    unreserved(byte) || b"/!$&'()*+,;=:@".contains(&byte)
}

/// Characters that stay plain in a normalised path: also those that should have been encoded, such as `[` and `|`,
/// because clients send them both ways and servers may tell the two apart.
pub(crate) fn matched_byte(byte: u8) -> bool {
    byte.is_ascii_graphic()
}

/// Characters that text may hold plain inside the value of one query parameter, without ending it or reading as a space.
pub(crate) fn query_value_byte(byte: u8) -> bool {
    (path_byte(byte) || byte == b'?') && !matches!(byte, b'&' | b'+' | b'=' | b';')
}

/// Characters that a whole query or fragment may hold plain.
pub(crate) fn query_byte(byte: u8) -> bool {
    path_byte(byte) || byte == b'?'
}

/// Characters of a request's own query that are passed on as they came. Wider than [`query_byte`]: an app may have
/// signed `a[b]=1` or a lone `%`, so only what could end a header field, a query or an attribute is encoded.
pub(crate) fn foreign_query_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`')
}

/// Characters of a host, with port and brackets.
pub(crate) fn authority_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'[' | b']')
}

/// Appends `text`, encoding every byte that `keep` refuses. Whole escapes stay as they are.
pub(crate) fn push_encoded(out: &mut String, text: &str, keep: fn(u8) -> bool) {
    let bytes = text.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        if byte.is_ascii() && keep(byte) || escape(&bytes[at..]).is_some() {
            out.push(char::from(byte));
        } else {
            push_escape(out, byte);
        }
    }
}

/// Appends `text`, encoding every byte that `keep` refuses; a `%` stands for itself and is encoded too.
pub(crate) fn push_all_encoded(out: &mut String, text: &str, keep: fn(u8) -> bool) {
    for byte in text.bytes() {
        match byte.is_ascii() && keep(byte) {
            true => out.push(char::from(byte)),
            false => push_escape(out, byte),
        }
    }
}

/// `text` in the form of a normalised path: escapes of unreserved characters decoded, other escapes in upper case,
/// what may not stand plain encoded. The error is the offset of a `%` that begins no escape.
pub(crate) fn normal_form(text: &str, keep: fn(u8) -> bool) -> Result<String, usize> {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte != b'%' {
            if byte.is_ascii() && keep(byte) {
                out.push(char::from(byte))
            } else {
                push_escape(&mut out, byte)
            }
            at += 1;
            continue;
        }
        match escape(&bytes[at..]) {
            Some(value) if unreserved(value) => out.push(char::from(value)),
            Some(value) => push_escape(&mut out, value),
            None => return Err(at),
        }
        at += 3;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_written_by_hand_gets_the_form_of_a_normalised_one() {
        assert_eq!(normal_form("caf\u{e9}", matched_byte).as_deref(), Ok("caf%C3%A9"));
        assert_eq!(normal_form("caf%c3%a9", matched_byte).as_deref(), Ok("caf%C3%A9"));
        assert_eq!(normal_form("%7Euser", matched_byte).as_deref(), Ok("~user"));
        assert_eq!(normal_form("a%2fb[c]", matched_byte).as_deref(), Ok("a%2Fb[c]"));
        assert_eq!(normal_form("100%", matched_byte), Err(3));
    }

    #[test]
    fn encoding_keeps_escapes_and_encodes_the_rest() {
        let mut out = String::new();
        push_encoded(&mut out, "a%20b\r\n%zz\u{e9}/", path_byte);
        assert_eq!(out, "a%20b%0D%0A%25zz%C3%A9/");
    }
}
