//! Forms and queries (WHATWG URL, application/x-www-form-urlencoded): what is said to an authorization server, and what comes back
//! from it in an address.

use std::fmt::Write as _;

/// Pairs of one query; more are none of ours.
const PAIRS_MAX: usize = 32;

/// Writes pairs of names and values.
pub(crate) fn write(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (index, (name, value)) in pairs.iter().enumerate() {
        if index > 0 {
            text.push('&');
        }
        push(&mut text, name);
        text.push('=');
        push(&mut text, value);
    }
    text
}

/// An address with pairs added to its query.
pub(crate) fn address(url: &str, pairs: &[(&str, &str)]) -> String {
    let (url, _fragment) = url.split_once('#').unwrap_or((url, ""));
    let joint = if url.contains('?') { '&' } else { '?' };
    format!("{url}{joint}{}", write(pairs))
}

/// A single value as it stands in a form.
pub(crate) fn encoded(value: &str) -> String {
    let mut text = String::new();
    push(&mut text, value);
    text
}

fn push(text: &mut String, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte))
            }
            _ => {
                let _infallible = write!(text, "%{byte:02X}");
            }
        }
    }
}

/// A query, read. Nothing when it has too many pairs, or one that is no text.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn read(text: &str) -> Option<Self> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let read = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decoded(name)?, decoded(value)?))
        };
        let read: Vec<(String, String)> = pairs.take(PAIRS_MAX + 1).map(read).collect::<Option<_>>()?;
        (read.len() <= PAIRS_MAX).then_some(Self(read))
    }

    /// The value of that name; an error where it is given twice, for then two readers may read two (RFC 6749 section 3.1).
    pub(crate) fn once(&self, name: &str) -> Result<Option<&str>, Twice> {
        let mut found = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        match (found.next(), found.next()) {
            (value, None) => Ok(value),
            _ => Err(Twice),
        }
    }
}

/// Whether a query that can be read is the same after it is written and read again: for fuzzing.
pub(crate) fn reads_as_written(text: &str) {
    let Some(query) = Query::read(text) else { return };
    let pairs = query.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let pairs: Vec<(&str, &str)> = pairs.filter(|pair| *pair != ("", "")).collect();
    let again = Query::read(&write(&pairs)).expect("what we wrote");
    let again: Vec<(&str, &str)> =
        again.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(pairs, again);
}

/// A name that stands twice in a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Twice;

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, after @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                bytes.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
                rest = after;
            }
            (b'%', _) => return None,
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_form_is_read_as_it_was_written() {
        let text = write(&[("a b", "c&d=e"), ("ä", "+%\0\r\n"), ("", "")]);
        assert_eq!(text, "a%20b=c%26d%3De&%C3%A4=%2B%25%00%0D%0A&=");
        assert_eq!(address("https://x/a?b=c#d", &[("e", "f")]), "https://x/a?b=c&e=f");
        assert_eq!(address("https://x/a", &[("e", "f")]), "https://x/a?e=f");
        let query = Query::read("code=a+b%2B&state=&flag").expect("read");
        assert_eq!(query.once("code"), Ok(Some("a b+")));
        assert_eq!(
            (query.once("state"), query.once("flag"), query.once("x")),
            (Ok(Some("")), Ok(Some("")), Ok(None))
        );
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        assert_eq!(Query::read("code=a&code=b").expect("read").once("code"), Err(Twice));
        assert_eq!(Query::read("code=a&%63ode=a").expect("read").once("code"), Err(Twice));
        for wrong in ["a=%", "a=%1", "a=%zz", "a=%ff", "%=a", "a=%+1"] {
            assert!(Query::read(wrong).is_none(), "{wrong}");
        }
        assert!(Query::read(&"a&".repeat(PAIRS_MAX)).is_some());
        assert!(Query::read(&"a&".repeat(PAIRS_MAX + 1)).is_none());
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_again(name in ".{0,20}", value in ".{0,40}") {
            let text = write(&[(&name, &value)]);
            prop_assert!(text.is_ascii());
            let query = Query::read(&text).expect("what we wrote");
            prop_assert_eq!(query.once(&name), Ok(Some(value.as_str())));
        }
    }
}
