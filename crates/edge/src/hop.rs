//! Fields that are between two neighbours only and must not be passed on (RFC 9110 section 7.6.1).

use terrace_http::{Fields, Known, KnownSet, Method, RequestHead, Version, contains_token, tokens};

/// More options than that in `Connection` are no request: each is held against every field.
const OPTIONS_MAX: usize = 64;

fn names_too_many_options(fields: &Fields) -> bool {
    fields.all(Known::Connection).flat_map(tokens).nth(OPTIONS_MAX).is_some()
}

/// What a request asks its neighbour for, taken out of its fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The protocol to switch to, if the client asks for one and may.
    pub(crate) upgrade: Option<Vec<u8>>,
    /// Whether the connection shall end after this request.
    pub(crate) close: bool,
    /// Whether an HTTP/1.0 client wants to keep it.
    pub(crate) keep_alive: bool,
    /// Whether the client waits for 100 before it sends the body (RFC 9110 section 10.1.1).
    pub(crate) expects_continue: bool,
    /// Whether it names more connection options than are looked at.
    pub(crate) names_too_many: bool,
}

/// Takes the fields between neighbours out of a request. An upgrade and `TE: trailers` are put back for the next one.
pub(crate) fn take_from_request(head: &mut RequestHead) -> Asked {
    let asked = asked(head);
    let wants_trailers = head.fields.all(Known::Te).any(|te| contains_token(te, "trailers"));
    remove(&mut head.fields);
    head.fields.remove(Known::Te);
    if wants_trailers {
        head.fields.append_known(Known::Te, b"trailers");
    }
    if let Some(protocol) = &asked.upgrade {
        head.fields.append_known(Known::Connection, b"upgrade");
        head.fields.append_known(Known::Upgrade, protocol);
    }
    asked
}

fn asked(head: &RequestHead) -> Asked {
    let says = |token| head.fields.all(Known::Connection).any(|value| contains_token(value, token));
    // RFC 9110 section 7.8: an upgrade counts when `Connection` names it, and never in HTTP/1.0 or HTTP/2.
    let upgrade = match head.fields.get(Known::Upgrade) {
        Some(protocol)
            if head.version == Version::Http11
                && head.method == Method::Get
                && says("upgrade")
                && !has_body(&head.fields) =>
        {
            // h2c is for us to answer, not for the service.
            tokens(protocol).find(|name| !name.eq_ignore_ascii_case(b"h2c")).map(<[u8]>::to_vec)
        }
        _ => None,
    };
    let expects = |value: &[u8]| value.eq_ignore_ascii_case(b"100-continue");
    Asked {
        upgrade,
        close: says("close"),
        keep_alive: says("keep-alive"),
        expects_continue: head.version != Version::Http10
            && head.fields.get(Known::Expect).is_some_and(expects),
        names_too_many: names_too_many_options(&head.fields),
    }
}

/// A body beside an upgrade could be taken for the other protocol's first bytes, so there the upgrade is not asked for.
fn has_body(fields: &Fields) -> bool {
    fields.has(Known::TransferEncoding)
        || fields.get(Known::ContentLength).is_some_and(|length| length != b"0")
}

/// Takes the fields between neighbours out of a response; those of an accepted upgrade stay.
pub(crate) fn take_from_response(status: u16, fields: &mut Fields) {
    let upgrade = if status == 101 { fields.get(Known::Upgrade).map(<[u8]>::to_vec) } else { None };
    remove(fields);
    if let Some(protocol) = upgrade {
        fields.append_known(Known::Connection, b"upgrade");
        fields.append_known(Known::Upgrade, &protocol);
    }
}

const BETWEEN_NEIGHBOURS: KnownSet = KnownSet::of(&[
    Known::Connection,
    Known::KeepAlive,
    Known::ProxyConnection,
    Known::TransferEncoding,
    Known::Upgrade,
    Known::ProxyAuthorization,
    Known::ProxyAuthenticate,
    Known::Http2Settings,
]);

fn remove(fields: &mut Fields) {
    let named = named_by_connection(fields);
    fields.remove_all(BETWEEN_NEIGHBOURS);
    if !named.is_empty() {
        fields.retain(|_, name, _| !named.iter().any(|listed| listed.eq_ignore_ascii_case(name)));
    }
}

/// Fields that `Connection` names. A client must not use it to remove what others need to see, so the fields that say
/// where a message goes or ends, and those that we or a trusted proxy set, cannot be named.
fn named_by_connection(fields: &Fields) -> Vec<Vec<u8>> {
    let is_plain = |token: &&[u8]| {
        [&b"close"[..], b"keep-alive", b"upgrade", b"te"]
            .iter()
            .any(|plain| token.eq_ignore_ascii_case(plain))
    };
    let options = fields.all(Known::Connection).flat_map(tokens).take(OPTIONS_MAX);
    let listed = options.filter(|token| !is_plain(token));
    listed.filter(|token| !is_protected(token)).map(<[u8]>::to_vec).collect()
}

fn is_protected(name: &[u8]) -> bool {
    matches!(
        Known::lookup(name),
        Some(
            Known::Host
                | Known::ContentLength
                | Known::ContentType
                | Known::Authorization
                | Known::Cookie
                | Known::Forwarded
                | Known::Via
                | Known::Traceparent
                | Known::Tracestate
                | Known::XForwardedFor
                | Known::XForwardedHost
                | Known::XForwardedPort
                | Known::XForwardedProto
                | Known::XRealIp
                | Known::XRequestId
        )
    )
}

#[cfg(test)]
mod tests {
    use terrace_http::{Bounds, parse_request};

    use super::*;

    fn taken(fields: &str) -> (Vec<String>, Asked) {
        let mut head = RequestHead::new();
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        parse_request(text.as_bytes(), &Bounds::default(), &mut head).expect("valid");
        let asked = take_from_request(&mut head);
        let line = |(name, value): (&[u8], &[u8])| {
            format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
        };
        (head.fields.iter().map(line).collect(), asked)
    }

    #[test]
    fn rfc9110_7_6_1_fields_between_neighbours_are_not_passed_on() {
        let (fields, asked) = taken(
            "Connection: close, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\n\
             TE: gzip, trailers\r\nProxy-Authorization: Basic x\r\nX-Kept: 2\r\n",
        );
        assert_eq!(fields, ["Host: a", "X-Kept: 2", "te: trailers"]);
        assert!(asked.close && asked.upgrade.is_none());
    }

    #[test]
    fn more_options_than_anybody_means_are_noticed() {
        let connection = |count: usize| {
            let mut fields = Fields::new();
            fields.append(b"Connection", vec!["x"; count].join(",").as_bytes());
            fields
        };
        assert!(!names_too_many_options(&connection(OPTIONS_MAX)));
        assert!(names_too_many_options(&connection(OPTIONS_MAX + 1)));
    }

    #[test]
    fn a_client_cannot_make_us_drop_what_says_who_it_is() {
        let (fields, _) =
            taken("Connection: Host, X-Forwarded-For, Cookie\r\nCookie: c\r\nX-Forwarded-For: 1\r\n");
        assert_eq!(fields, ["Host: a", "Cookie: c", "X-Forwarded-For: 1"]);
    }

    #[test]
    fn rfc9110_7_8_an_upgrade_is_passed_on_when_connection_names_it() {
        let (fields, asked) = taken("Connection: Upgrade\r\nUpgrade: websocket\r\n");
        assert_eq!(asked.upgrade.as_deref(), Some(&b"websocket"[..]));
        assert_eq!(fields, ["Host: a", "connection: upgrade", "upgrade: websocket"]);
        let (fields, asked) = taken("Upgrade: websocket\r\n");
        assert_eq!((fields, asked.upgrade), (vec!["Host: a".to_owned()], None));
        let (_, asked) =
            taken("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n");
        assert_eq!(asked.upgrade, None);
    }
}
