//! `format`, as an assertion. JSON Schema leaves open whether it is one; who writes `format: email` at a gateway means it.
//!
//! The formats of JSON Schema (2020-12, Validation, section 7.3) but those that take a table of all scripts (`idn-…`), `iri…`
//! and `uri-template`, and those of OpenAPI that a value can break. A format that is not known here says nothing, as the
//! specification has it.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::pattern::Pattern;
use super::uri;
use crate::json::{Decimal, Item};

/// A format that a value can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    DateTime,
    Date,
    Time,
    Duration,
    Email,
    Hostname,
    Ipv4,
    Ipv6,
    Uri,
    UriReference,
    Uuid,
    JsonPointer,
    RelativeJsonPointer,
    Regex,
    /// base64 (OpenAPI 3.0; RFC 4648 section 4).
    Byte,
    /// OpenAPI 3.1 section 4.4.
    Int32,
    Int64,
}

impl Format {
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "date-time" => Self::DateTime,
            "date" => Self::Date,
            "time" => Self::Time,
            "duration" => Self::Duration,
            "email" => Self::Email,
            "hostname" => Self::Hostname,
            "ipv4" => Self::Ipv4,
            "ipv6" => Self::Ipv6,
            "uri" => Self::Uri,
            "uri-reference" => Self::UriReference,
            "uuid" => Self::Uuid,
            "json-pointer" => Self::JsonPointer,
            "relative-json-pointer" => Self::RelativeJsonPointer,
            "regex" => Self::Regex,
            "byte" => Self::Byte,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            _ => return None,
        })
    }

    /// What a value that breaks it is told to be.
    pub(crate) fn wanted(self) -> &'static str {
        match self {
            Self::DateTime => "a date and time such as 2026-11-22T18:00:00Z (RFC 3339)",
            Self::Date => "a date such as 2026-11-22",
            Self::Time => "a time with its offset such as 18:00:00Z (RFC 3339)",
            Self::Duration => "a duration such as P1DT12H (ISO 8601)",
            Self::Email => "an email address",
            Self::Hostname => "a host name",
            Self::Ipv4 => "an IPv4 address",
            Self::Ipv6 => "an IPv6 address",
            Self::Uri => "a URI with its scheme",
            Self::UriReference => "a URI or a reference",
            Self::Uuid => "a UUID",
            Self::JsonPointer => "a JSON Pointer",
            Self::RelativeJsonPointer => "a relative JSON Pointer",
            Self::Regex => "a regular expression",
            Self::Byte => "base64",
            Self::Int32 => "an integer of 32 bits",
            Self::Int64 => "an integer of 64 bits",
        }
    }

    /// Whether `item` fits; a value of a kind that the format does not speak of always does.
    pub(crate) fn fits(self, item: &Item<'_>) -> bool {
        match self {
            Self::Int32 => item.number().is_none_or(|number| is_within(&number, "-2147483648", "2147483647")),
            Self::Int64 => item
                .number()
                .is_none_or(|number| is_within(&number, "-9223372036854775808", "9223372036854775807")),
            _ => item.text().is_none_or(|text| self.fits_text(&text)),
        }
    }

    fn fits_text(self, text: &str) -> bool {
        match self {
            Self::DateTime => is_date_time(text),
            Self::Date => is_date(text),
            Self::Time => is_time(text),
            Self::Duration => is_duration(text),
            Self::Email => is_email(text),
            Self::Hostname => is_hostname(text),
            Self::Ipv4 => text.parse::<Ipv4Addr>().is_ok(),
            Self::Ipv6 => text.parse::<Ipv6Addr>().is_ok(),
            Self::Uri => {
                is_uri_reference(text)
                    && text.split_once(':').is_some_and(|(scheme, _)| uri::is_scheme(scheme))
            }
            Self::UriReference => is_uri_reference(text),
            Self::Uuid => is_uuid(text),
            Self::JsonPointer => is_json_pointer(text),
            Self::RelativeJsonPointer => is_relative_json_pointer(text),
            Self::Regex => text.len() <= PATTERN_BYTES_MAX && Pattern::compile(text).is_ok(),
            Self::Byte => is_base64(text),
            Self::Int32 | Self::Int64 => true,
        }
    }
}

/// A value that is to be a pattern costs memory to try.
const PATTERN_BYTES_MAX: usize = 256;

fn is_within(number: &Decimal<'_>, from: &str, to: &str) -> bool {
    number.is_integer() && *number >= Decimal::of(from) && *number <= Decimal::of(to)
}

/// The number that `digits` ASCII digits at the start of `text` are, and what follows them.
fn digits(text: &str, digits: usize) -> Option<(u32, &str)> {
    let (number, rest) = text.split_at_checked(digits)?;
    let are_digits = number.bytes().all(|byte| byte.is_ascii_digit());
    are_digits.then(|| number.parse().ok().map(|number| (number, rest))).flatten()
}

/// RFC 3339 section 5.6, `full-date`.
fn is_date(text: &str) -> bool {
    let read = || {
        let (year, rest) = digits(text, 4)?;
        let (month, rest) = digits(rest.strip_prefix('-')?, 2)?;
        let (day, rest) = digits(rest.strip_prefix('-')?, 2)?;
        Some((year, month, day, rest))
    };
    let Some((year, month, day, "")) = read() else { return false };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => 0,
    };
    (1..=days).contains(&day)
}

/// RFC 3339 section 5.6, `full-time`. The leap second is the last of a day in UTC.
fn is_time(text: &str) -> bool {
    let read = || {
        let (hour, rest) = digits(text, 2)?;
        let (minute, rest) = digits(rest.strip_prefix(':')?, 2)?;
        let (second, rest) = digits(rest.strip_prefix(':')?, 2)?;
        Some((hour, minute, second, rest))
    };
    let Some((hour, minute, second, rest)) = read() else { return false };
    let rest = match rest.strip_prefix('.') {
        Some(fraction) => {
            let after = fraction.trim_start_matches(|letter: char| letter.is_ascii_digit());
            if after.len() == fraction.len() {
                return false;
            }
            after
        }
        None => rest,
    };
    let Some(offset_min) = offset_min(rest) else { return false };
    let minute_of_day = i64::from(hour * 60 + minute) - offset_min;
    let is_last = minute_of_day.rem_euclid(24 * 60) == 23 * 60 + 59;
    hour <= 23 && minute <= 59 && (second <= 59 || (second == 60 && is_last))
}

/// `Z` or `+02:00`, in minutes.
fn offset_min(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let (hours, rest) = digits(text.strip_prefix(['+', '-'])?, 2)?;
    let (minutes, rest) = digits(rest.strip_prefix(':')?, 2)?;
    (rest.is_empty() && hours <= 23 && minutes <= 59).then_some(sign * i64::from(hours * 60 + minutes))
}

fn is_date_time(text: &str) -> bool {
    let Some((date, rest)) = text.split_at_checked(10) else { return false };
    rest.strip_prefix(['T', 't']).is_some_and(|time| is_date(date) && is_time(time))
}

/// RFC 3339 appendix A: the units in order, none left out between two, weeks alone.
fn is_duration(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('P') else { return false };
    let (date, time) = match rest.split_once('T') {
        Some((date, time)) => (date, Some(time)),
        None => (rest, None),
    };
    let is_some = |text: &str| !text.is_empty();
    match time {
        Some(time) => (date.is_empty() || are_units(date, "YMD")) && is_some(time) && are_units(time, "HMS"),
        None => is_some(date) && (are_units(date, "YMD") || are_units(date, "W")),
    }
}

fn are_units(text: &str, units: &str) -> bool {
    let mut rest = text;
    let mut last: Option<usize> = None;
    while !rest.is_empty() {
        let unit_at = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        let unit = rest[unit_at..].chars().next().and_then(|letter| units.find(letter));
        let Some(unit) = unit.filter(|unit| unit_at > 0 && last.is_none_or(|last| *unit == last + 1)) else {
            return false;
        };
        last = Some(unit);
        rest = &rest[unit_at + 1..];
    }
    true
}

/// RFC 5321 section 4.1.2, `Mailbox`.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let is_domain = match domain.strip_prefix('[').and_then(|domain| domain.strip_suffix(']')) {
        Some(address) => match address.strip_prefix("IPv6:") {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => address.parse::<Ipv4Addr>().is_ok(),
        },
        None => is_hostname(domain),
    };
    is_domain && local.len() <= 64 && (is_dot_string(local) || is_quoted_string(local))
}

fn is_dot_string(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte);
    text.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_part))
}

fn is_quoted_string(text: &str) -> bool {
    let Some(inner) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else { return false };
    let mut bytes = inner.bytes();
    while let Some(byte) = bytes.next() {
        let is_fine = match byte {
            b'"' => false,
            b'\\' => bytes.next().is_some_and(|byte| (32..127).contains(&byte)),
            byte => (32..127).contains(&byte),
        };
        if !is_fine {
            return false;
        }
    }
    true
}

/// RFC 1123 section 2.1; a label that begins with `xn--` must be one (RFC 5891 section 4.2), as far as letters tell.
fn is_hostname(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let is_plain =
            label.as_bytes().get(2..4) != Some(b"--") || label.to_ascii_lowercase().starts_with("xn--");
        (1..=63).contains(&label.len())
            && is_inner
            && is_plain
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// RFC 3986 section 4.1: the letters, the percent-encoding, and the brackets of an address.
fn is_uri_reference(text: &str) -> bool {
    let (text, fragment) = match text.split_once('#') {
        Some((text, fragment)) => (text, fragment),
        None => (text, ""),
    };
    let (hierarchy, query) = text.split_once('?').unwrap_or((text, ""));
    let (scheme, rest) = match hierarchy.find([':', '/']) {
        Some(at) if hierarchy.as_bytes()[at] == b':' => (Some(&hierarchy[..at]), &hierarchy[at + 1..]),
        _ => (None, hierarchy),
    };
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("", rest),
    };
    scheme.is_none_or(uri::is_scheme)
        && is_authority(authority)
        && [path, query, fragment].iter().all(|part| is_made_of(part, b":@/?"))
}

fn is_authority(text: &str) -> bool {
    let (user, host) = text.rsplit_once('@').unwrap_or(("", text));
    if !is_made_of(user, b":") {
        return false;
    }
    let Some(rest) = host.strip_prefix('[') else {
        let (host, port) = host.rsplit_once(':').unwrap_or((host, ""));
        return is_made_of(host, b"") && port.bytes().all(|byte| byte.is_ascii_digit());
    };
    let Some((address, port)) = rest.split_once(']') else { return false };
    let is_port = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    let is_future = address.starts_with(['v', 'V']) && is_made_of(address, b":");
    is_port && (is_future || address.parse::<Ipv6Addr>().is_ok())
}

/// Unreserved letters, sub-delimiters, percent-encoding, and `more`.
fn is_made_of(text: &str, more: &[u8]) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let is_fine = match byte {
            b'%' => {
                let mut is_hex = || bytes.next().is_some_and(|byte| byte.is_ascii_hexdigit());
                is_hex() && is_hex()
            }
            byte => {
                byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte) || more.contains(&byte)
            }
        };
        if !is_fine {
            return false;
        }
    }
    true
}

/// RFC 9562 section 4.
fn is_uuid(text: &str) -> bool {
    let is_fine = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    text.len() == 36 && text.bytes().enumerate().all(is_fine)
}

/// RFC 6901 section 3.
fn is_json_pointer(text: &str) -> bool {
    let are_escapes = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    (text.is_empty() || text.starts_with('/')) && are_escapes
}

fn is_relative_json_pointer(text: &str) -> bool {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (up, rest) = text.split_at(end);
    let is_number = up == "0" || (!up.is_empty() && !up.starts_with('0'));
    is_number && (rest == "#" || is_json_pointer(rest))
}

fn is_base64(text: &str) -> bool {
    let bare = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    text.len().is_multiple_of(4)
        && bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}
