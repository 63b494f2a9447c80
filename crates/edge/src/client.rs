//! Who is asking: the client's address, scheme and request id, from the connection itself, and from what proxies in
//! front say when they are trusted. A client's own claims are removed before anybody can believe them.

use std::cell::{Cell, OnceCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use terrace_http::{Fields, Known, KnownSet, RequestHead, tokens};
use terrace_instruments::{AddressText, Plate, TraceId};
use terrace_policy::limit::AddressKey;
use terrace_runtime::random;

use crate::config::Network;
use crate::tls::Shown;

/// The longest request id that is taken over from a trusted proxy.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// A longer host is in no DNS (RFC 1035 section 2.3.4), and not remembered.
const HOST_BYTES_KEPT_MAX: usize = 255;
/// A request that passed that many proxies goes in circles.
const VIA_MAX: usize = 24;

/// How a client is connected.
#[derive(Debug, Clone)]
pub(crate) struct Connected {
    /// The other end, after the PROXY protocol.
    pub(crate) peer: SocketAddr,
    /// The peer's address; of IPv4 also where it came as an IPv6 one that stands for it.
    pub(crate) peer_address: IpAddr,
    /// Our end, after the PROXY protocol.
    pub(crate) local: SocketAddr,
    pub(crate) is_tls: bool,
    /// The peer's address as every request's fields have it.
    pub(crate) peer_text: AddressText,
    /// What every request's log line says of the connection.
    pub(crate) plate: Plate,
    /// What the client showed of itself in the handshake, verified there.
    pub(crate) certificate: Option<Rc<Shown>>,
    /// The listener's name.
    listener: Box<str>,
    /// The same with the host that the first request asked for, as nearly all after it do.
    opening: OnceCell<(Box<str>, Plate)>,
    /// The key by which the last client was limited.
    pub(crate) address_key: Cell<Option<AddressKey>>,
}

impl Connected {
    /// A connection in the clear, to the listener of that name.
    pub(crate) fn new(peer: SocketAddr, local: SocketAddr, listener: &str) -> Self {
        let peer_text = AddressText::new(peer.ip());
        let plate = Plate::new(&[("client", text(&peer_text)), ("listener", listener)]);
        let (listener, opening) = (listener.into(), OnceCell::new());
        let address_key = Cell::default();
        Self {
            peer,
            peer_address: peer.ip().to_canonical(),
            local,
            is_tls: false,
            peer_text,
            plate,
            certificate: None,
            listener,
            opening,
            address_key,
        }
    }

    /// Whether the client showed a certificate that would not be taken any more.
    #[inline]
    pub(crate) fn is_doubted(&self) -> bool {
        self.certificate.as_ref().is_some_and(|shown| !shown.is_believed())
    }

    /// How a log line of a request for that host goes on after its numbers, and what of the host is left to say.
    #[inline]
    pub(crate) fn opening<'h>(&self, host: &'h str) -> (&Plate, &'h str) {
        if host.len() > HOST_BYTES_KEPT_MAX {
            return (&self.plate, host);
        }
        let (known, plate) = self.opening.get_or_init(|| {
            let pairs = [("client", text(&self.peer_text)), ("listener", &self.listener), ("host", host)];
            (host.into(), Plate::new(&pairs))
        });
        if **known == *host { (plate, "") } else { (&self.plate, host) }
    }
}

fn text(address: &AddressText) -> &str {
    std::str::from_utf8(address.as_bytes()).unwrap_or_default()
}

/// Finds out who asks, and puts what the service shall know of it into the request's fields. Afterwards they hold a
/// request id, see [`request_id`]: the one that a trusted proxy gave, else that of the `trace` that begins with this
/// request, so that whoever is told the one can look for the other, else one of its own. The digits are those of an id of
/// ours.
pub(crate) fn identify(
    head: &mut RequestHead,
    connected: &Connected,
    trusted: &[Network],
    trace: Option<&Digits>,
) -> (IpAddr, Option<Digits>) {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let peer = connected.peer_address;
    let believes = is_trusted(peer);
    if !believes {
        head.fields.remove_all(CLAIMS);
    }
    head.fields.remove_unknown(|name| is_look_alike(name) || !believes && is_claim(name));
    if !head.fields.has(Known::Host) {
        // HTTP/1.0 needs none, but the service is spoken to in HTTP/1.1, which does (RFC 9112 section 3.3).
        head.fields.append_known(Known::Host, connected.local.to_string().as_bytes());
    }
    let address = if believes { claimed_address(&head.fields, &is_trusted).unwrap_or(peer) } else { peer };
    let id = ensure_request_id(&mut head.fields, trace);
    forward_addresses(head, connected, peer, address);
    (address, id)
}

/// The request's id.
pub(crate) fn request_id(fields: &Fields) -> &str {
    fields.text(Known::XRequestId).unwrap_or_default()
}

/// What only a trusted proxy, or a neighbour, may say.
const CLAIMS: KnownSet = KnownSet::of(&[
    Known::Forwarded,
    Known::XForwardedFor,
    Known::XForwardedHost,
    Known::XForwardedPort,
    Known::XForwardedProto,
    Known::XRealIp,
    Known::XRequestDeadline,
    Known::XRequestId,
    Known::XTerraceAttempt,
    Known::XTerraceMirror,
]);

/// Whether an unknown field says what proxies say under other names: whom they speak for, and for which address. Frameworks believe
/// them (`X-Forwarded-Prefix`, `X-Forwarded-Ssl`; `X-Original-URL` takes the place of the path that was routed), and only who is in
/// front may be believed.
fn is_claim(name: &[u8]) -> bool {
    const FAMILY: &[u8] = b"x-forwarded-";
    const NAMES: [&[u8]; 9] = [
        b"cf-connecting-ip",
        b"client-ip",
        b"fastly-client-ip",
        b"true-client-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-original-host",
        b"x-original-url",
        b"x-rewrite-url",
    ];
    let begins_like_one = matches!(name.first(), Some(b'c' | b'C' | b'f' | b'F' | b't' | b'T' | b'x' | b'X'));
    begins_like_one
        && (name.get(..FAMILY.len()).is_some_and(|start| is_read_as(start, FAMILY))
            || NAMES.iter().any(|claim| is_read_as(name, claim)))
}

/// Whether a service may take a field of that name for the other, which is in lower case (RFC 3875 section 4.1.18).
fn is_read_as(name: &[u8], other: &[u8]) -> bool {
    let read = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() == other.len() && name.iter().map(read).eq(other.iter().copied())
}

/// Whether a service may take an unknown field for one that decides: `X_Forwarded_For`, `Content_Length`.
fn is_look_alike(name: &[u8]) -> bool {
    name.contains(&b'_') && Known::lookup_as_read(name).is_some()
}

/// The last address that no trusted proxy vouches away: read from the right, as each proxy appends what it saw. What is
/// no address ends the reading, for nobody vouches for what stands left of it: there a client may have written anything.
fn claimed_address(fields: &Fields, is_trusted: &impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let chain: Vec<Option<IpAddr>> = match fields.has(Known::XForwardedFor) {
        true => fields.all(Known::XForwardedFor).flat_map(tokens).map(parse_address).collect(),
        false => fields.all(Known::Forwarded).flat_map(tokens).map(forwarded_for).collect(),
    };
    let mut last = None;
    for address in chain.into_iter().rev().map_while(|address| address) {
        last = Some(address);
        if !is_trusted(address) {
            break;
        }
    }
    last
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

/// Keeps the id that a trusted proxy gave, when it is one that a log can hold; else gives one and says which.
fn ensure_request_id(fields: &mut Fields, trace: Option<&Digits>) -> Option<Digits> {
    let is_fit =
        |id: &[u8]| !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && id.iter().all(u8::is_ascii_graphic);
    match fields.get(Known::XRequestId) {
        Some(id) if is_fit(id) => return None,
        Some(_) => fields.remove(Known::XRequestId),
        None => {}
    }
    let digits = trace.copied().unwrap_or_else(random_id);
    fields.append_known(Known::XRequestId, &digits);
    Some(digits)
}

/// 128 bits in hexadecimal.
pub(crate) type Digits = [u8; TraceId::DIGITS];

fn random_id() -> Digits {
    TraceId(u128::from(random::u64()) << 64 | u128::from(random::u64())).digits()
}

/// Tells the service who asked and how: `X-Forwarded-*` and `Forwarded` (RFC 7239), `X-Real-IP`, `Via`.
///
/// The lists get the neighbour, `X-Real-IP` the client: that is what it is read for.
fn forward_addresses(head: &mut RequestHead, connected: &Connected, peer: IpAddr, client: IpAddr) {
    let scheme: &[u8] = if connected.is_tls { b"https" } else { b"http" };
    let version = head.version.number();
    let fields = &mut head.fields;
    let peer_text = connected.peer_text.as_bytes();
    append_to_list(fields, Known::XForwardedFor, |out| out.extend_from_slice(peer_text));
    // Where a list says who the client is, a proxy may have let the client's own word here pass.
    if client != peer {
        fields.remove(Known::XRealIp);
    }
    add_unless_there(fields, Known::XRealIp, |out| match client == peer {
        true => out.extend_from_slice(peer_text),
        false => out.extend_from_slice(AddressText::new(client).as_bytes()),
    });
    add_unless_there(fields, Known::XForwardedProto, |out| out.extend_from_slice(scheme));
    add_unless_there(fields, Known::XForwardedPort, |out| {
        out.extend_from_slice(itoa::Buffer::new().format(connected.local.port()).as_bytes());
    });
    let host: SmallHost = fields.get(Known::Host).unwrap_or_default().into();
    let host = &*host;
    add_unless_there(fields, Known::XForwardedHost, |out| out.extend_from_slice(host));
    append_to_list(fields, Known::Forwarded, |out| push_forwarded(out, (peer, peer_text), scheme, host));
    append_to_list(fields, Known::Via, |out| {
        out.extend_from_slice(version.as_bytes());
        out.extend_from_slice(b" terrace");
    });
}

/// A host's bytes beside the fields that it is copied into; on the stack, as nearly every host fits.
struct SmallHost {
    near: [u8; SmallHost::NEAR_BYTES],
    bytes: usize,
    far: Vec<u8>,
}

impl SmallHost {
    const NEAR_BYTES: usize = 64;
}

impl From<&[u8]> for SmallHost {
    fn from(host: &[u8]) -> Self {
        let mut small = Self { near: [0; Self::NEAR_BYTES], bytes: host.len(), far: Vec::new() };
        match small.near.get_mut(..host.len()) {
            Some(near) => near.copy_from_slice(host),
            None => small.far = host.to_vec(),
        }
        small
    }
}

impl std::ops::Deref for SmallHost {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.near.get(..self.bytes).unwrap_or(&self.far)
    }
}

fn add_unless_there(fields: &mut Fields, name: Known, write: impl FnOnce(&mut Vec<u8>)) {
    if !fields.has(name) {
        fields.append_with(name, write);
    }
}

/// Adds an element at the end of a list, keeping what trusted proxies wrote before.
fn append_to_list(fields: &mut Fields, name: Known, element: impl FnOnce(&mut Vec<u8>)) {
    if !fields.has(name) {
        return fields.append_with(name, element);
    }
    let mut list: Vec<u8> = Vec::new();
    for value in fields.all(name) {
        list.extend_from_slice(value);
        list.extend_from_slice(b", ");
    }
    fields.remove(name);
    fields.append_with(name, |out| {
        out.extend_from_slice(&list);
        element(out);
    });
}

/// RFC 7239 section 4; an IPv6 address is bracketed and quoted (section 6.1).
fn push_forwarded(out: &mut Vec<u8>, (peer, peer_text): (IpAddr, &[u8]), scheme: &[u8], host: &[u8]) {
    out.extend_from_slice(b"for=");
    let (open, close): (&[u8], &[u8]) = if peer.is_ipv4() { (b"", b"") } else { (b"\"[", b"]\"") };
    for part in [open, peer_text, close] {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(scheme);
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if host.is_empty() {
        return;
    }
    let quote: &[u8] = if host.iter().all(is_token) { b"" } else { b"\"" };
    for part in [b";host=", quote, host, quote] {
        out.extend_from_slice(part);
    }
}

/// Whether the request has passed so many proxies that it goes in circles.
pub(crate) fn goes_in_circles(fields: &Fields) -> bool {
    // An element takes a byte at least, so that hardly any list has to be counted.
    let bytes: usize = fields.all(Known::Via).map(<[u8]>::len).sum();
    bytes > VIA_MAX && fields.all(Known::Via).flat_map(tokens).count() > VIA_MAX
}

#[cfg(test)]
mod tests {
    use terrace_http::{Bounds, parse_request};

    use super::*;

    fn identified(fields: &str, peer: &str, trusted: &[(&str, u8)]) -> (RequestHead, IpAddr) {
        let mut head = RequestHead::new();
        let text = format!("GET / HTTP/1.1\r\nHost: shop.example:8443\r\n{fields}\r\n");
        parse_request(text.as_bytes(), &Bounds::default(), &mut head).expect("valid");
        let trusted: Vec<_> =
            trusted.iter().map(|(text, bits)| Network::new(text.parse().expect("valid"), *bits)).collect();
        let peer = SocketAddr::new(peer.parse().expect("valid"), 5000);
        let local = "192.0.2.200:8443".parse().expect("valid");
        let connected = Connected { is_tls: true, ..Connected::new(peer, local, "public") };
        let (asker, _) = identify(&mut head, &connected, &trusted, None);
        (head, asker)
    }

    const SPOOFED: &str = "X-Forwarded-For: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\n\
                           X-Forwarded-Proto: http\r\nX-Request-Id: mine\r\n";

    #[test]
    fn a_client_cannot_say_who_it_is() {
        let (head, asker) = identified(SPOOFED, "203.0.113.9", &[("10.0.0.0", 8)]);
        assert_eq!(asker, "203.0.113.9".parse::<IpAddr>().expect("valid"));
        assert_eq!(head.fields.text(Known::XForwardedFor), Some("203.0.113.9"));
        assert_eq!(head.fields.text(Known::XRealIp), Some("203.0.113.9"));
        assert_eq!(head.fields.text(Known::XForwardedProto), Some("https"));
        assert_eq!(
            head.fields.text(Known::Forwarded),
            Some("for=203.0.113.9;proto=https;host=\"shop.example:8443\"")
        );
        assert!(request_id(&head.fields).len() == 32, "not the client's own");
        assert_eq!(head.fields.text(Known::XForwardedPort), Some("8443"));
    }

    #[test]
    fn nor_by_any_other_name_that_frameworks_believe() {
        const CLAIMS: &str = "X-Forwarded-Prefix: /x\r\nx_forwarded_ssl: on\r\nX-Original-URL: /admin\r\nX-Rewrite-Url: /admin\r\n\
                              True-Client-IP: 1.1.1.1\r\nCLIENT_IP: 1.1.1.1\r\nCf-Connecting-Ip: 1.1.1.1\r\n\
                              X-Terrace-Attempt: 2\r\nX-Terrace-Mirror: a\r\nX-Request-Deadline: 1\r\n";
        let names = |head: &RequestHead| {
            head.fields.iter().map(|(name, _)| name.to_ascii_lowercase()).collect::<Vec<_>>()
        };
        let (plain, _) = identified("X-Client: mine\r\nX-Forwarding: mine\r\n", "203.0.113.9", &[]);
        let (lying, _) = identified(
            &format!("X-Client: mine\r\nX-Forwarding: mine\r\n{CLAIMS}"),
            "203.0.113.9",
            &[("10.0.0.0", 8)],
        );
        assert_eq!(names(&lying), names(&plain));
        let (believed, _) = identified(CLAIMS, "10.0.0.1", &[("10.0.0.0", 8)]);
        assert_eq!(names(&believed).len(), names(&identified("", "10.0.0.1", &[]).0).len() + 10);
    }

    #[test]
    fn a_trusted_proxy_says_who_the_client_is() {
        let fields = "X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.0.0.7\r\nX-Request-Id: given\r\nX-Real-IP: 6.6.6.6\r\n";
        let (head, asker) = identified(fields, "::ffff:10.0.0.1", &[("10.0.0.0", 8)]);
        assert_eq!(asker, "203.0.113.9".parse::<IpAddr>().expect("valid"), "not what the client forged");
        assert_eq!(request_id(&head.fields), "given");
        assert_eq!(head.fields.text(Known::XForwardedFor), Some("6.6.6.6, 203.0.113.9, 10.0.0.7, 10.0.0.1"));
        assert_eq!(head.fields.text(Known::XRealIp), Some("203.0.113.9"), "the client, not its word");
        let (head, _) = identified("X-Real-IP: 203.0.113.9\r\n", "10.0.0.1", &[("10.0.0.0", 8)]);
        assert_eq!(head.fields.text(Known::XRealIp), Some("203.0.113.9"), "all that the proxy says");
    }

    #[test]
    fn a_client_cannot_hide_behind_something_that_is_no_address() {
        let trusted = [("10.0.0.0", 8)];
        for fields in [
            "X-Forwarded-For: 1.1.1.1, junk, 203.0.113.9\r\n",
            "X-Forwarded-For: junk, 203.0.113.9, 10.0.0.7\r\n",
            "Forwarded: for=1.1.1.1, for=_hidden, for=203.0.113.9\r\n",
        ] {
            let (_, asker) = identified(fields, "10.0.0.1", &trusted);
            assert_eq!(asker, "203.0.113.9".parse::<IpAddr>().expect("valid"), "{fields}");
        }
        let (_, asker) = identified("Forwarded: for=1.1.1.1, for=unknown\r\n", "10.0.0.1", &trusted);
        assert_eq!(asker, "10.0.0.1".parse::<IpAddr>().expect("valid"), "nobody vouches for the rest");
    }

    #[test]
    fn rfc7239_4_forwarded_is_read_when_a_trusted_proxy_sends_it() {
        let fields = "Forwarded: for=\"[2001:db8::9]:4711\";proto=https, For=10.0.0.7\r\n";
        let (_, asker) = identified(fields, "10.0.0.1", &[("10.0.0.0", 8)]);
        assert_eq!(asker, "2001:db8::9".parse::<IpAddr>().expect("valid"));
    }

    #[test]
    fn a_request_that_goes_in_circles_is_noticed() {
        let via = format!("Via: {}\r\n", ["1.1 terrace"; 30].join(", "));
        let (head, _) = identified(&via, "203.0.113.9", &[]);
        assert!(goes_in_circles(&head.fields));
        assert!(!goes_in_circles(&identified("", "203.0.113.9", &[]).0.fields));
    }
}
