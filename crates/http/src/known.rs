//! The field names that Terrace itself reads or writes, as numbers.
//!
//! A request carries ten to thirty fields; finding one by number is a scan over bytes. A name is looked up once, when
//! the head is parsed: four of its bytes and its length lead to the one known name that it can be, by a table without collisions
//! that the compiler finds (Fredman, Komlós and Szemerédi, Storing a sparse table with O(1) worst case access time, 1984).

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
    RateLimit = "ratelimit",
    RateLimitPolicy = "ratelimit-policy",
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
const SLOT_BITS: u32 = 10;
const SEED: u32 = seed();
/// For each slot the index in `ALL` of the known name whose slot it is.
const SLOTS: [u8; 1 << SLOT_BITS] = match slots(SEED) {
    Some(slots) => slots,
    None => panic!("the seed was found by trying it"),
};

/// A seed with which no two known names share a slot.
const fn seed() -> u32 {
    let mut seed = 0x9e37_79b1;
    while slots(seed).is_none() {
        seed = seed.wrapping_add(0x3c6e_f372);
    }
    seed
}

const fn slots(seed: u32) -> Option<[u8; 1 << SLOT_BITS]> {
    let mut slots = [ABSENT; 1 << SLOT_BITS];
    let mut index = 0;
    while index < ALL.len() {
        let name = ALL[index].1.as_bytes();
        assert!(name.len() <= LONGEST, "a known name is longer than LONGEST");
        let slot = slot(name, seed);
        if slots[slot] != ABSENT {
            return None;
        }
        slots[slot] = index as u8;
        index += 1;
    }
    Some(slots)
}

/// The slot of a name of at least one byte, the same in whatever case it is written.
#[inline]
const fn slot(name: &[u8], seed: u32) -> usize {
    let bytes = name.len();
    let some = u32::from_le_bytes([name[0], name[bytes / 2], name[bytes.saturating_sub(4)], name[bytes - 1]]);
    let mixed =
        (some | 0x2020_2020).wrapping_add((bytes as u32).wrapping_mul(0x0101_4321)).wrapping_mul(seed);
    (mixed >> (u32::BITS - SLOT_BITS)) as usize
}

/// Whether a name is the known one of the same length, in whatever case it is written. Known names are lower-case letters, digits
/// and hyphens; of those only letters have the bit 0x40, and differ from their other case in the bit below it.
#[inline]
fn is_same(name: &[u8], known: &[u8]) -> bool {
    let is_same_word = |at: usize| {
        let word = |of: &[u8]| of[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
        let (word, known) = (word(name), word(known));
        word | (known >> 1 & 0x2020_2020_2020_2020) == known
    };
    match name.len() {
        bytes @ 8.. => (0..bytes - 7).step_by(8).all(is_same_word) && is_same_word(bytes - 8),
        _ => name.iter().zip(known).all(|(byte, known)| byte | (known >> 1 & 0x20) == *known),
    }
}

/// A set of known names, a bit for each. Two words, since shifting one of 128 bits takes a dozen instructions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KnownSet([u64; 2]);

const _: () = assert!(ALL.len() <= 128, "a set has a bit for each known name");

impl KnownSet {
    /// No name.
    pub const EMPTY: Self = Self([0; 2]);

    /// Those names.
    #[must_use]
    pub const fn of(names: &[Known]) -> Self {
        let (mut set, mut at) = (Self::EMPTY, 0);
        while at < names.len() {
            set.add(names[at]);
            at += 1;
        }
        set
    }

    /// Adds a name.
    #[inline]
    pub const fn add(&mut self, name: Known) {
        self.0[name as usize >> 6] |= 1 << (name as u64 & 63);
    }

    /// Adds those of another set.
    #[inline]
    pub const fn add_all(&mut self, other: Self) {
        self.0 = [self.0[0] | other.0[0], self.0[1] | other.0[1]];
    }

    /// Those of the set that are not in the other.
    #[inline]
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self([self.0[0] & !other.0[0], self.0[1] & !other.0[1]])
    }

    /// Whether the name is among them.
    #[inline]
    #[must_use]
    pub const fn has(self, name: Known) -> bool {
        self.0[name as usize >> 6] >> (name as u64 & 63) & 1 != 0
    }

    /// Whether one name is in both.
    #[inline]
    #[must_use]
    pub const fn meets(self, other: Self) -> bool {
        self.0[0] & other.0[0] | self.0[1] & other.0[1] != 0
    }
}

impl Known {
    /// The known name that equals `name`, in whatever case it is written.
    #[must_use]
    pub fn lookup(name: &[u8]) -> Option<Self> {
        if name.is_empty() || name.len() > LONGEST {
            return None;
        }
        let (known, known_name) = ALL.get(usize::from(SLOTS[slot(name, SEED)]))?;
        let is_it = name.len() == known_name.len() && is_same(name, known_name.as_bytes());
        is_it.then_some(*known)
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

    #[test]
    fn a_name_with_one_other_byte_is_another_name() {
        for (known, name) in ALL {
            for at in 0..name.len() {
                for byte in 0..=u8::MAX {
                    let mut other = name.as_bytes().to_vec();
                    other[at] = byte;
                    let expected = ALL.iter().find(|(_, name)| other.eq_ignore_ascii_case(name.as_bytes()));
                    assert_eq!(
                        Known::lookup(&other),
                        expected.map(|(known, _)| *known),
                        "{known:?} {other:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_set_has_what_was_put_in_and_nothing_else() {
        let mut some = KnownSet::of(&[Known::Accept]);
        some.add_all(KnownSet::of(&[Known::XTerraceMirror]));
        for (known, _) in ALL {
            assert_eq!(some.has(*known), matches!(known, Known::Accept | Known::XTerraceMirror), "{known:?}");
            assert_eq!(some.meets(KnownSet::of(&[*known])), some.has(*known));
        }
        assert!(!some.without(KnownSet::of(&[Known::Accept])).has(Known::Accept));
    }
}
