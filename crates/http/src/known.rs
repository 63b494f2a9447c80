//! The field names that Terrace itself reads or writes, as numbers.
//!
//! A request carries ten to thirty fields; finding one by number is a scan over bytes. A name is looked up once, when
//! the head is parsed, by its length and then by comparison with the few known names of that length.

macro_rules! known {
    ($($variant:ident = $name:literal,)+) => {
        /// A field name that Terrace reads or writes itself.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "each variant is the field of that name")]
        pub enum Known { $($variant),+ }

        const ALL: &[(Known, &str)] = &[$((Known::$variant, $name)),+];

        impl Known {
            /// The name in lower case, as HTTP/2 wants it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Known::$variant => $name),+ }
            }
        }
    };
}

known! {
    Accept = "accept",
    AcceptEncoding = "accept-encoding",
    AcceptRanges = "accept-ranges",
    Allow = "allow",
    AltSvc = "alt-svc",
    Authorization = "authorization",
    CacheControl = "cache-control",
    Connection = "connection",
    ContentEncoding = "content-encoding",
    ContentLength = "content-length",
    ContentRange = "content-range",
    ContentType = "content-type",
    Cookie = "cookie",
    Date = "date",
    Etag = "etag",
    Expect = "expect",
    Forwarded = "forwarded",
    GrpcMessage = "grpc-message",
    GrpcStatus = "grpc-status",
    GrpcTimeout = "grpc-timeout",
    Host = "host",
    Http2Settings = "http2-settings",
    IfMatch = "if-match",
    IfNoneMatch = "if-none-match",
    KeepAlive = "keep-alive",
    Location = "location",
    Origin = "origin",
    ProxyAuthenticate = "proxy-authenticate",
    ProxyAuthorization = "proxy-authorization",
    ProxyConnection = "proxy-connection",
    ProxyStatus = "proxy-status",
    Referer = "referer",
    RetryAfter = "retry-after",
    SecWebSocketKey = "sec-websocket-key",
    Server = "server",
    SetCookie = "set-cookie",
    Te = "te",
    Traceparent = "traceparent",
    Tracestate = "tracestate",
    Trailer = "trailer",
    TransferEncoding = "transfer-encoding",
    Upgrade = "upgrade",
    UserAgent = "user-agent",
    Vary = "vary",
    Via = "via",
    XForwardedFor = "x-forwarded-for",
    XForwardedHost = "x-forwarded-host",
    XForwardedPort = "x-forwarded-port",
    XForwardedProto = "x-forwarded-proto",
    XRealIp = "x-real-ip",
    XRequestDeadline = "x-request-deadline",
    XRequestId = "x-request-id",
    XTerraceAttempt = "x-terrace-attempt",
    XTerraceMirror = "x-terrace-mirror",
}

const LONGEST: usize = 24;
const ABSENT: u8 = u8::MAX;

/// For each length the index of the first known name of that length, in `BY_LENGTH`.
const FIRST: [u8; LONGEST + 2] = first();
const BY_LENGTH: [(Known, &str); ALL.len()] = by_length();

const fn by_length() -> [(Known, &'static str); ALL.len()] {
    let mut sorted = [ALL[0]; ALL.len()];
    let (mut at, mut length) = (0, 0);
    while length <= LONGEST {
        let mut index = 0;
        while index < ALL.len() {
            if ALL[index].1.len() == length {
                sorted[at] = ALL[index];
                at += 1;
            }
            index += 1;
        }
        length += 1;
    }
    assert!(at == ALL.len(), "a known name is longer than LONGEST");
    sorted
}

const fn first() -> [u8; LONGEST + 2] {
    let mut first = [ABSENT; LONGEST + 2];
    let mut index = ALL.len();
    while index > 0 {
        index -= 1;
        first[BY_LENGTH[index].1.len()] = index as u8;
    }
    first
}

impl Known {
    /// The known name that equals `name`, in whatever case it is written.
    #[must_use]
    pub fn lookup(name: &[u8]) -> Option<Self> {
        let length = name.len();
        if length > LONGEST || FIRST[length] == ABSENT {
            return None;
        }
        BY_LENGTH[usize::from(FIRST[length])..]
            .iter()
            .take_while(|(_, known)| known.len() == length)
            .find(|(_, known)| known.as_bytes().eq_ignore_ascii_case(name))
            .map(|(known, _)| *known)
    }

    /// The known name that a server may take `name` for: CGI and its descendants (RFC 3875 section 4.1.18) write `-` as
    /// `_`, and so cannot tell `X_Forwarded_For` from the field that a proxy sets.
    #[must_use]
    pub fn lookup_as_read(name: &[u8]) -> Option<Self> {
        if name.len() > LONGEST || !name.contains(&b'_') {
            return Self::lookup(name);
        }
        let mut as_read = [0; LONGEST];
        let as_read = &mut as_read[..name.len()];
        as_read.copy_from_slice(name);
        as_read.iter_mut().filter(|byte| **byte == b'_').for_each(|byte| *byte = b'-');
        Self::lookup(as_read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case_and_nothing_else_is() {
        for (known, name) in ALL {
            assert_eq!(Known::lookup(name.as_bytes()), Some(*known));
            assert_eq!(Known::lookup(name.to_ascii_uppercase().as_bytes()), Some(*known));
            assert_eq!(Known::lookup(format!("{name}x").as_bytes()), None);
            assert_eq!(Known::lookup(&name.as_bytes()[1..]), None);
        }
        assert_eq!(Known::lookup(b""), None);
        assert_eq!(Known::lookup_as_read(b"X_Forwarded-FOR"), Some(Known::XForwardedFor));
        assert_eq!(Known::lookup_as_read(b"x-forwarded-for"), Some(Known::XForwardedFor));
        assert_eq!(Known::lookup_as_read(b"x_other"), None);
        assert_eq!(Known::lookup(&[b'a'; 300]), None);
    }
}
