//! Which endpoint a client is led back to: by a cookie of ours, or by a hash of something in the request.

use std::net::IpAddr;

use terrace_http::{Fields, Known, RequestHead};
use terrace_upstream::EndpointId;

use crate::config::{HashSource, Service, Sticky};

/// The hash of what the service's requests are told apart by.
pub(crate) fn hash(service: &Service, head: &RequestHead, client: IpAddr) -> Option<u64> {
    match &service.hash {
        HashSource::None => None,
        HashSource::Client => Some(match client {
            IpAddr::V4(address) => fnv1a(&address.octets()),
            IpAddr::V6(address) => fnv1a(&address.octets()),
        }),
        HashSource::Field(name) => head.fields.named(name.as_bytes()).map(fnv1a),
        HashSource::Cookie(name) => cookie(&head.fields, name).map(fnv1a),
    }
}

/// The endpoint that the client's cookie names.
pub(crate) fn endpoint(sticky: &Sticky, fields: &Fields) -> Option<EndpointId> {
    EndpointId::parse(std::str::from_utf8(cookie(fields, &sticky.cookie)?).ok()?)
}

/// The field that leads the client back to `id` (RFC 6265 section 4.1).
pub(crate) fn set_cookie(sticky: &Sticky, id: EndpointId, is_tls: bool) -> String {
    let secure = if is_tls { "; Secure" } else { "" };
    let (name, seconds) = (&sticky.cookie, sticky.ttl.as_secs());
    format!("{name}={id}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
}

/// The value of the first cookie of that name (RFC 6265 section 4.2).
pub(crate) fn cookie<'a>(fields: &'a Fields, name: &str) -> Option<&'a [u8]> {
    fields.all(Known::Cookie).flat_map(|value| value.split(|byte| *byte == b';')).find_map(|pair| {
        let pair = pair.trim_ascii();
        pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
    })
}

/// FNV-1a (Fowler, Noll, Vo), then mixed so that all bits count: the same on every machine and in every version.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6265_4_2_a_cookie_is_found_among_others() {
        let mut fields = Fields::new();
        fields.append(b"Cookie", b"a=1; where=00000000000000ff; b=2");
        assert_eq!(cookie(&fields, "b"), Some(&b"2"[..]));
        assert_eq!(cookie(&fields, "here"), None, "not the end of another name");
        let sticky = Sticky { cookie: "where".to_owned(), ttl: std::time::Duration::from_secs(60) };
        let id = endpoint(&sticky, &fields).expect("an id");
        let expected = "where=00000000000000ff; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure";
        assert_eq!(set_cookie(&sticky, id, true), expected);
    }
}
