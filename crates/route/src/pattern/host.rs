//! The host of a pattern: a name, a wildcard, an IPv6 address, or none.
//!
//! Names are compared as ASCII in lower case, so an international name is written in its `xn--` form, as clients send it.

use std::net::Ipv6Addr;

use super::error::PatternFault;

/// Which hosts a pattern is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// Every host, and a request without one.
    Any,
    /// Every host one or more labels below this one.
    Wildcard(Box<str>),
    /// This host alone: a DNS name or an IPv4 address.
    Exact(Box<str>),
    /// This address, in whichever of its notations.
    V6(Ipv6Addr),
}

impl Host {
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::Any => None,
            Self::Wildcard(suffix) => Some(format!("*.{suffix}")),
            Self::Exact(name) => Some(name.to_string()),
            Self::V6(address) => Some(format!("[{address}]")),
        }
    }
}

/// Reads the host that stands before the first `/` of a pattern.
pub(super) fn parse(text: &str) -> Result<Host, (usize, PatternFault)> {
    if text.is_empty() {
        return Ok(Host::Any);
    }
    if text.starts_with('[') {
        return v6(text);
    }
    if let Some(offset) = text.find(['{', '}']) {
        return Err((offset, PatternFault::CaptureInHost));
    }
    if let Some(offset) = text.find(':') {
        return Err((offset, PatternFault::Port));
    }
    let (wildcard, name) = match text.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, text),
    };
    let start = text.len() - name.len();
    if let Err((offset, fault)) = check_name(name) {
        return Err((start + offset, fault));
    }
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase().into_boxed_str();
    Ok(if wildcard { Host::Wildcard(name) } else { Host::Exact(name) })
}

fn v6(text: &str) -> Result<Host, (usize, PatternFault)> {
    let Some(close) = text.find(']') else {
        return Err((0, PatternFault::Address));
    };
    if text[close + 1..].starts_with(':') {
        return Err((close + 1, PatternFault::Port));
    }
    if close + 1 < text.len() {
        return Err((close + 1, PatternFault::Address));
    }
    match text[1..close].parse() {
        Ok(address) => Ok(Host::V6(address)),
        Err(_) => Err((1, PatternFault::Address)),
    }
}

/// Labels of 1 to 63 characters, 253 in all (RFC 1035, section 2.3.4); `_` is allowed as it occurs in practice.
fn check_name(name: &str) -> Result<(), (usize, PatternFault)> {
    let mut start = 0;
    for label in name.strip_suffix('.').unwrap_or(name).split('.') {
        if label.is_empty() || label.len() > 63 {
            return Err((start, PatternFault::Label));
        }
        for (offset, character) in label.char_indices() {
            match character {
                '*' => return Err((start + offset, PatternFault::Wildcard)),
                'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' => {}
                _ if character.is_ascii() => return Err((start + offset, PatternFault::HostCharacter)),
                _ => return Err((start + offset, PatternFault::International)),
            }
        }
        start += label.len() + 1;
    }
    if name.len() > 253 { Err((253, PatternFault::Label)) } else { Ok(()) }
}
