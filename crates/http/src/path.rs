//! One form for each path, before any rule is matched (RFC 3986 section 6.2.2).
//!
//! A proxy matches rules against a path and the server behind it serves a file by that path. If the two read
//! `/a/%2e%2e/admin` differently, the rule protects nothing. So the path is brought to one normal form, that form is
//! matched and that form is sent on: unreserved characters decoded, `.` and `..` resolved, repeated slashes merged, bytes
//! outside ASCII encoded, hexadecimal digits in upper case. An encoded slash stays data (`group%2Fproject`), but
//! where decoding it would make a dot segment the two readings differ, and the path is refused. Where it would lead to
//! another rule is for whoever has the rules to say: [`other_readings`] tells what else a server may make of a path.

use std::borrow::Cow;

/// Why a path has no one form. The client's fault; sending it again does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not start with a slash.
    #[error("the path does not start with a slash")]
    NoSlash,
    /// A percent sign without two hexadecimal digits.
    #[error("a percent sign is not followed by two hexadecimal digits")]
    Percent,
    /// A NUL, another control character, a space or a fragment.
    #[error("the path has a character that paths do not have")]
    Character,
    /// A dot segment beside an encoded slash or a backslash.
    #[error("the path has a dot segment beside an encoded slash")]
    Ambiguous,
}

/// The one normal form of `path` (without the query).
///
/// # Errors
/// [`PathError`] when two readers could understand the path differently.
pub fn normalise(path: &str) -> Result<Cow<'_, str>, PathError> {
    if !path.starts_with('/') {
        return Err(PathError::NoSlash);
    }
    if is_normal(path.as_bytes()) {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode_unreserved(path)?;
    let resolved = resolve(&decoded);
    if is_ambiguous(&resolved) { Err(PathError::Ambiguous) } else { Ok(Cow::Owned(resolved)) }
}

/// Nearly every path: nothing encoded, no two slashes, no segment that starts with a dot.
fn is_normal(path: &[u8]) -> bool {
    let mut previous = 0;
    path.iter().all(|&byte| {
        let after_slash = std::mem::replace(&mut previous, byte) == b'/';
        let plain = matches!(byte, b'!' | b'$'..=b'[' | b']'..=b'~') && byte != b'%';
        plain && !(after_slash && matches!(byte, b'/' | b'.'))
    })
}

fn decode_unreserved(path: &str) -> Result<String, PathError> {
    let mut decoded = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => push_decoded(&mut decoded, hex_pair(&mut bytes)?)?,
            0..=0x20 | 0x7f | b'#' => return Err(PathError::Character),
            0x80.. => push_encoded(&mut decoded, byte),
            _ => decoded.push(char::from(byte)),
        }
    }
    Ok(decoded)
}

fn hex_pair(bytes: &mut impl Iterator<Item = u8>) -> Result<u8, PathError> {
    let mut digit = || char::from(bytes.next()?).to_digit(16);
    match (digit(), digit()) {
        (Some(high), Some(low)) => Ok((high * 16 + low) as u8),
        _ => Err(PathError::Percent),
    }
}

fn push_decoded(out: &mut String, byte: u8) -> Result<(), PathError> {
    match byte {
        0 => Err(PathError::Character),
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            out.push(char::from(byte));
            Ok(())
        }
        _ => {
            push_encoded(out, byte);
            Ok(())
        }
    }
}

fn push_encoded(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// Removes dot segments (RFC 3986 section 5.2.4) and empty segments, keeps a trailing slash.
fn resolve(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_folder = false;
    for segment in path.split('/').skip(1) {
        ends_in_folder = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            _ => kept.push(segment),
        }
    }
    let mut resolved = String::with_capacity(path.len());
    for segment in &kept {
        resolved.push('/');
        resolved.push_str(segment);
    }
    if ends_in_folder || kept.is_empty() {
        resolved.push('/');
    }
    resolved
}

/// What servers may read in the place of this path, which is in normal form: those that decode every character before they look
/// at the path (CGI and WSGI, RFC 3875 section 4.1.5), those that take a backslash for a slash, those that cut the parameters
/// off its segments first (servlets; RFC 3986 section 3.3), and those to which a slash at its end is nothing. Empty for nearly every
/// path, at the price of a scan.
#[must_use]
pub fn other_readings(path: &str) -> Vec<String> {
    let ends_in_folder = path.len() > 1 && path.ends_with('/');
    if !ends_in_folder && memchr::memchr3(b'%', b';', b'\\', path.as_bytes()).is_none() {
        return Vec::new();
    }
    let read = |path: &str| resolve(&decode_visible(path).replace('\\', "/"));
    let mut readings = Vec::new();
    for reading in [read(path), read(&without_parameters(path))] {
        let file = reading.strip_suffix('/').filter(|file| !file.is_empty()).map(str::to_owned);
        for reading in std::iter::once(reading).chain(file) {
            if reading != path && !readings.contains(&reading) {
                readings.push(reading);
            }
        }
    }
    readings
}

/// With every character plain that can be seen, but for `%` itself: none is decoded twice.
fn decode_visible(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let code = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        rest = match code {
            Some(byte @ (b'!'..=b'$' | b'&'..=b'~')) => {
                decoded.push(char::from(byte));
                &after[2..]
            }
            _ => {
                decoded.push('%');
                after
            }
        };
    }
    decoded.push_str(rest);
    decoded
}

fn without_parameters(path: &str) -> String {
    let plain = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
    plain.collect::<Vec<_>>().join("/")
}

/// Whether a reader that takes `%2F`, `%5C` or `\` for a slash would see a dot segment that we did not.
fn is_ambiguous(path: &str) -> bool {
    let with_slashes = path.replace("%2F", "/").replace("%5C", "/").replace('\\', "/");
    // Path parameters (`..;x`) are cut off by some servers before they resolve dot segments.
    with_slashes.split('/').any(|segment| matches!(segment.split(';').next(), Some("." | "..")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(path: &str, normal: &str) {
        assert_eq!(normalise(path).as_deref(), Ok(normal), "{path}");
    }

    #[test]
    fn rfc3986_6_2_2_each_path_has_one_form() {
        check("/", "/");
        check("/a/b", "/a/b");
        check("/a//b", "/a/b");
        check("/a/./b/../c", "/a/c");
        check("/a/b/..", "/a/");
        check("/a/b/.", "/a/b/");
        check("/../../etc", "/etc");
        check("/%61%2D%7e", "/a-~");
        check("/%2e%2e/admin", "/admin");
        check("/a/%2E%2e/admin", "/admin");
        check("/group%2fproject", "/group%2Fproject");
        check("/caf\u{e9}", "/caf%C3%A9");
        check("/.well-known/x", "/.well-known/x");
        check("/a;b=c/d", "/a;b=c/d");
    }

    #[test]
    fn what_two_readers_would_read_differently_is_refused() {
        use PathError::{Ambiguous, Character, NoSlash, Percent};
        for (path, error) in [
            ("/a/..%2fadmin", Ambiguous),
            ("/a%2f..%2fadmin", Ambiguous),
            ("/a/..%5cadmin", Ambiguous),
            ("/a/..\\admin", Ambiguous),
            ("/a/..;/admin", Ambiguous),
            ("/%", Percent),
            ("/%4", Percent),
            ("/%zz", Percent),
            ("/%00", Character),
            ("/a b", Character),
            ("/a#b", Character),
            ("a", NoSlash),
            ("", NoSlash),
        ] {
            assert_eq!(normalise(path), Err(error), "{path}");
        }
    }

    #[test]
    fn a_path_that_servers_read_otherwise_is_known_with_what_they_read() {
        let readings = |path: &str| other_readings(&normalise(path).expect("a path"));
        assert_eq!(readings("/admin/"), ["/admin"]);
        for path in ["/", "/admin/users", "/caf%C3%A9/%20x", "/a:b@c,d+e", "/100%25"] {
            assert!(readings(path).is_empty(), "{path}");
        }
        for path in
            ["/admin%2fusers", "/%2fadmin/users", "/admin\\users", "/admin%5Cusers", "/%2F%2Fadmin%2Fusers"]
        {
            assert_eq!(readings(path), ["/admin/users"], "{path}");
        }
        for path in ["/admin;x/users", "/admin;x=1;y/users", "/;x/admin/users;z"] {
            assert!(readings(path).contains(&"/admin/users".to_owned()), "{path}");
        }
        assert_eq!(readings("/admin;a%2Fb/users"), ["/admin;a/b/users", "/admin/users"]);
        assert_eq!(readings("/%40me"), ["/@me"]);
        assert_eq!(readings("/a%252Fb"), [""; 0], "nobody decodes twice");
    }

    proptest! {
        #[test]
        fn other_readings_are_paths_too(path in "/[a-z0-9./%;\\\\\u{e9}F2-]{0,24}") {
            if let Ok(normal) = normalise(&path) {
                for reading in other_readings(&normal) {
                    prop_assert!(reading.starts_with('/') && !reading.contains("//") && reading.is_ascii(), "{reading}");
                }
            }
        }

        #[test]
        fn normalising_twice_is_normalising_once(path in "/[a-zA-Z0-9./%;\\\\\u{e9}~-]{0,24}") {
            if let Ok(once) = normalise(&path) {
                let twice = normalise(&once);
                prop_assert_eq!(twice.as_deref(), Ok(once.as_ref()));
                prop_assert!(!once.contains("//") && !once.contains("/../") && !once.contains("/./"));
            }
        }

        #[test]
        fn no_path_panics(path in any::<String>()) {
            let _refused = normalise(&path);
        }
    }
}
