//! Who is asking: the client's address, scheme and request id, from the connection itself, and from what proxies in
//! front say when they are trusted. A client's own claims are removed before anybody can believe them.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use terrace_http::{Fields, Known, RequestHead, Version, tokens};

use crate::config::Network;

/// The longest request id that is taken over from a trusted proxy.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// A request that passed that many proxies goes in circles.
const VIA_MAX: usize = 24;

/// How a client is connected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connected {
    /// The other end, after the PROXY protocol.
    pub(crate) peer: SocketAddr,
    /// Our end, after the PROXY protocol.
    pub(crate) local: SocketAddr,
    pub(crate) is_tls: bool,
}

/// Who is asking.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    pub(crate) address: IpAddr,
    pub(crate) request_id: String,
}

/// Finds out who asks, and puts what the service shall know of it into the request's fields.
pub(crate) fn identify(head: &mut RequestHead, connected: &Connected, trusted: &[Network]) -> Asker {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let peer = connected.peer.ip().to_canonical();
    let believes = is_trusted(peer);
    if !believes {
        remove_claims(&mut head.fields);
    }
    let address = if believes { claimed_address(&head.fields, &is_trusted).unwrap_or(peer) } else { peer };
    let request_id = request_id(&mut head.fields);
    forward_addresses(head, connected, peer);
    Asker { address, request_id }
}

/// Fields that only a trusted proxy may set.
fn remove_claims(fields: &mut Fields) {
    fields.retain(|known, _, _| {
        !matches!(
            known,
            Some(
                Known::Forwarded
                    | Known::XForwardedFor
                    | Known::XForwardedHost
                    | Known::XForwardedPort
                    | Known::XForwardedProto
                    | Known::XRealIp
                    | Known::XRequestId
            )
        )
    });
}

/// The last address that no trusted proxy vouches away: read from the right, as each proxy appends what it saw.
fn claimed_address(fields: &Fields, is_trusted: &impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let chain: Vec<IpAddr> = match fields.has(Known::XForwardedFor) {
        true => fields.all(Known::XForwardedFor).flat_map(tokens).map_while(parse_address).collect(),
        false => fields.all(Known::Forwarded).flat_map(tokens).filter_map(forwarded_for).collect(),
    };
    let first_untrusted = chain.iter().rev().find(|address| !is_trusted(**address));
    first_untrusted.or_else(|| chain.first()).copied()
}

/// The `for` of one element of `Forwarded` (RFC 7239 section 4).
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    element.split(|byte| *byte == b';').find_map(|pair| {
        let pair = pair.trim_ascii();
        let (name, value) = (pair.get(..4)?, &pair[4..]);
        if name.eq_ignore_ascii_case(b"for=") { parse_address(value) } else { None }
    })
}

/// An address, with a port or not, quoted or not: `192.0.2.1`, `192.0.2.1:80`, `"[2001:db8::1]:80"`.
fn parse_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim_matches('"');
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip().to_canonical());
    }
    let bracketed = text.strip_prefix('[')?.strip_suffix(']')?;
    bracketed.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn request_id(fields: &mut Fields) -> String {
    let is_fit = |id: &&str| {
        !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if let Some(id) = fields.text(Known::XRequestId).filter(is_fit) {
        return id.to_owned();
    }
    let id = new_request_id();
    fields.set(Known::XRequestId, id.as_bytes());
    id
}

/// 128 random bits in hexadecimal.
fn new_request_id() -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut id = String::with_capacity(32);
    for _ in 0..2 {
        let mut bits = terrace_runtime::random::u64();
        for _ in 0..16 {
            id.push(char::from(DIGITS[(bits & 15) as usize]));
            bits >>= 4;
        }
    }
    id
}

/// Tells the service who asked and how: `X-Forwarded-*` and `Forwarded` (RFC 7239), `X-Real-IP`, `Via`.
fn forward_addresses(head: &mut RequestHead, connected: &Connected, peer: IpAddr) {
    let scheme = if connected.is_tls { "https" } else { "http" };
    let mut text = String::with_capacity(96);
    append_to_list(&mut head.fields, Known::XForwardedFor, |value| push_address(value, peer), &mut text);
    if !head.fields.has(Known::XRealIp) {
        text.clear();
        push_address(&mut text, peer);
        head.fields.append_known(Known::XRealIp, text.as_bytes());
    }
    if !head.fields.has(Known::XForwardedProto) {
        head.fields.append_known(Known::XForwardedProto, scheme.as_bytes());
    }
    if !head.fields.has(Known::XForwardedHost) {
        text.clear();
        text.push_str(head.fields.text(Known::Host).unwrap_or_default());
        head.fields.append_known(Known::XForwardedHost, text.as_bytes());
    }
    if !head.fields.has(Known::XForwardedPort) {
        text.clear();
        push_number(&mut text, u32::from(connected.local.port()));
        head.fields.append_known(Known::XForwardedPort, text.as_bytes());
    }
    let host = head.fields.text(Known::Host).unwrap_or_default().to_owned();
    append_to_list(
        &mut head.fields,
        Known::Forwarded,
        |value| push_forwarded(value, peer, scheme, &host),
        &mut text,
    );
    let version = head.version;
    append_to_list(&mut head.fields, Known::Via, |value| push_via(value, version), &mut text);
}

/// Adds an element at the end of a list, keeping what trusted proxies wrote before.
fn append_to_list(fields: &mut Fields, name: Known, element: impl FnOnce(&mut String), text: &mut String) {
    text.clear();
    for value in fields.all(name).filter_map(|value| std::str::from_utf8(value).ok()) {
        text.push_str(value);
        text.push_str(", ");
    }
    element(text);
    fields.set(name, text.as_bytes());
}

fn push_via(value: &mut String, version: Version) {
    value.push_str(version.number());
    value.push_str(" terrace");
}

/// RFC 7239 section 4; an IPv6 address is bracketed and quoted (section 6.1).
fn push_forwarded(value: &mut String, peer: IpAddr, scheme: &str, host: &str) {
    value.push_str("for=");
    match peer {
        IpAddr::V4(_) => push_address(value, peer),
        IpAddr::V6(address) => {
            let _infallible = write!(value, "\"[{address}]\"");
        }
    }
    value.push_str(";proto=");
    value.push_str(scheme);
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    match host {
        "" => {}
        host if host.bytes().all(is_token) => {
            value.push_str(";host=");
            value.push_str(host);
        }
        host => {
            value.push_str(";host=\"");
            value.push_str(host);
            value.push('"');
        }
    }
}

/// IPv4 by hand, since the standard formatter costs more than all else in here together.
fn push_address(out: &mut String, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push('.');
                }
                push_number(out, u32::from(octet));
            }
        }
        IpAddr::V6(address) => {
            let _infallible = write!(out, "{address}");
        }
    }
}

fn push_number(out: &mut String, number: u32) {
    if number >= 10 {
        push_number(out, number / 10);
    }
    out.push(char::from(b'0' + (number % 10) as u8));
}

/// Whether the request has passed so many proxies that it goes in circles.
pub(crate) fn goes_in_circles(fields: &Fields) -> bool {
    fields.all(Known::Via).flat_map(tokens).count() > VIA_MAX
}

#[cfg(test)]
mod tests {
    use terrace_http::{Bounds, parse_request};

    use super::*;

    fn identified(fields: &str, peer: &str, trusted: &[(&str, u8)]) -> (RequestHead, Asker) {
        let mut head = RequestHead::new();
        let text = format!("GET / HTTP/1.1\r\nHost: shop.example:8443\r\n{fields}\r\n");
        parse_request(text.as_bytes(), &Bounds::default(), &mut head).expect("valid");
        let trusted: Vec<_> =
            trusted.iter().map(|(text, bits)| Network::new(text.parse().expect("valid"), *bits)).collect();
        let connected = Connected {
            peer: SocketAddr::new(peer.parse().expect("valid"), 5000),
            local: "192.0.2.200:8443".parse().expect("valid"),
            is_tls: true,
        };
        let asker = identify(&mut head, &connected, &trusted);
        (head, asker)
    }

    const SPOOFED: &str = "X-Forwarded-For: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\n\
                           X-Forwarded-Proto: http\r\nX-Request-Id: mine\r\n";

    #[test]
    fn a_client_cannot_say_who_it_is() {
        let (head, asker) = identified(SPOOFED, "203.0.113.9", &[("10.0.0.0", 8)]);
        assert_eq!(asker.address, "203.0.113.9".parse::<IpAddr>().expect("valid"));
        assert_eq!(head.fields.text(Known::XForwardedFor), Some("203.0.113.9"));
        assert_eq!(head.fields.text(Known::XRealIp), Some("203.0.113.9"));
        assert_eq!(head.fields.text(Known::XForwardedProto), Some("https"));
        assert_eq!(
            head.fields.text(Known::Forwarded),
            Some("for=203.0.113.9;proto=https;host=\"shop.example:8443\"")
        );
        assert_ne!(asker.request_id, "mine");
        assert_eq!(head.fields.text(Known::XForwardedPort), Some("8443"));
    }

    #[test]
    fn a_trusted_proxy_says_who_the_client_is() {
        let fields = "X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.0.0.7\r\nX-Request-Id: given\r\n";
        let (head, asker) = identified(fields, "::ffff:10.0.0.1", &[("10.0.0.0", 8)]);
        assert_eq!(
            asker.address,
            "203.0.113.9".parse::<IpAddr>().expect("valid"),
            "not what the client forged"
        );
        assert_eq!(asker.request_id, "given");
        assert_eq!(head.fields.text(Known::XForwardedFor), Some("6.6.6.6, 203.0.113.9, 10.0.0.7, 10.0.0.1"));
    }

    #[test]
    fn rfc7239_4_forwarded_is_read_when_a_trusted_proxy_sends_it() {
        let fields = "Forwarded: for=\"[2001:db8::9]:4711\";proto=https, For=10.0.0.7\r\n";
        let (_, asker) = identified(fields, "10.0.0.1", &[("10.0.0.0", 8)]);
        assert_eq!(asker.address, "2001:db8::9".parse::<IpAddr>().expect("valid"));
    }

    #[test]
    fn a_request_that_goes_in_circles_is_noticed() {
        let via = format!("Via: {}\r\n", ["1.1 terrace"; 30].join(", "));
        let (head, _) = identified(&via, "203.0.113.9", &[]);
        assert!(goes_in_circles(&head.fields));
        assert!(!goes_in_circles(&identified("", "203.0.113.9", &[]).0.fields));
    }
}
