//! Content codings (RFC 9110 section 8.4.1), and which of them a client wants best (section 12.5.3).
//!
//! A client says with weights what it takes. Where it does not care between two, we do: zstd costs the least for its
//! size, Brotli is what older browsers have, gzip is what everybody has.

/// A coding that we can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// `zstd` (RFC 8878), within a window that every client must support (RFC 9659).
    Zstd,
    /// `br` (RFC 7932).
    Brotli,
    /// `gzip` (RFC 1952).
    Gzip,
}

impl Coding {
    /// All, those that we like best first.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    /// As it stands in `Content-Encoding`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    /// The coding of that name, in whatever case; `x-gzip` is `gzip` (RFC 9110 section 8.4.1.3).
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match () {
            () if is("x-gzip") => Some(Self::Gzip),
            () => Self::ALL.into_iter().find(|coding| is(coding.name())),
        }
    }
}

/// Members of `Accept-Encoding` that are looked at; nobody has so many.
const MEMBERS_MAX: usize = 64;
/// A weight of 1, in thousandths.
const WHOLE: u16 = 1000;

/// What a client said of each coding, in thousandths; nothing where it said nothing.
#[derive(Debug, Clone, Copy, Default)]
struct Weights {
    codings: [Option<u16>; Coding::ALL.len()],
    identity: Option<u16>,
    any: Option<u16>,
}

/// The coding among `offered` that the client wants best; where it likes several alike, the first of them. `None` when it
/// rather has the body as it is, or takes none of them.
///
/// `accept` are the values of all its `Accept-Encoding` fields. A client without the field takes anything, but means
/// nothing by it (RFC 9110 section 12.5.3), so it gets what every client can read.
pub fn negotiate<'a>(accept: impl IntoIterator<Item = &'a [u8]>, offered: &[Coding]) -> Option<Coding> {
    let weights = Weights::read(accept);
    let mut best = None;
    // The body as it is counts as the least of what is taken, unless the client weighs it itself.
    let mut best_weight = weights.identity.unwrap_or(0);
    for coding in offered {
        let weight = weights.of(*coding);
        // At a tie a coding beats the body as it is, and the one that stands first beats those after it.
        let is_better = weight > best_weight || (best.is_none() && weight == best_weight);
        if weight > 0 && is_better {
            (best, best_weight) = (Some(*coding), weight);
        }
    }
    best
}

impl Weights {
    fn read<'a>(accept: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut weights = Self::default();
        let members = accept.into_iter().flat_map(terrace_http::tokens);
        for member in members.take(MEMBERS_MAX) {
            let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default();
            let weight = parts.find_map(weight).unwrap_or(WHOLE);
            if let Some(slot) = weights.slot(name) {
                // Of a name that stands twice the lower weight counts: it cannot be what the client does not take.
                *slot = Some(slot.map_or(weight, |before| before.min(weight)));
            }
        }
        weights
    }

    fn slot(&mut self, name: &[u8]) -> Option<&mut Option<u16>> {
        match name {
            b"*" => Some(&mut self.any),
            _ if name.eq_ignore_ascii_case(b"identity") => Some(&mut self.identity),
            _ => Coding::named(name).map(|coding| &mut self.codings[coding as usize]),
        }
    }

    fn of(&self, coding: Coding) -> u16 {
        self.codings[coding as usize].or(self.any).unwrap_or(0)
    }
}

/// The weight that a parameter gives, in thousandths; 0 for one that is no weight (`q=x`), which is the safe reading.
fn weight(parameter: &[u8]) -> Option<u16> {
    let [b'q' | b'Q', b'=', value @ ..] = parameter else { return None };
    Some(thousandths(value).unwrap_or(0))
}

/// RFC 9110 section 12.4.2: `0`, `0.5`, `1.000`; at most three digits after the point.
pub(crate) fn thousandths(value: &[u8]) -> Option<u16> {
    let (whole, rest) = value.split_first()?;
    let digits = match rest {
        [] => rest,
        [b'.', digits @ ..] if digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit) => digits,
        _ => return None,
    };
    let padded = digits.iter().chain(b"000").take(3);
    let fraction = padded.fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    match (whole, fraction) {
        (b'0', fraction) => Some(fraction),
        (b'1', 0) => Some(WHOLE),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accept: &[&str]) -> Option<Coding> {
        negotiate(accept.iter().map(|value| value.as_bytes()), &Coding::ALL)
    }

    #[test]
    fn rfc9110_12_5_3_a_client_gets_what_it_weighs_most() {
        assert_eq!(chosen(&["gzip;q=1.0, br;q=0.5"]), Some(Coding::Gzip));
        assert_eq!(chosen(&["gzip;q=0.001 , br ; q=0"]), Some(Coding::Gzip));
        assert_eq!(chosen(&["gzip", "br;Q=0.9"]), Some(Coding::Gzip));
        assert_eq!(chosen(&["compress, x-gzip"]), Some(Coding::Gzip));
    }

    #[test]
    fn where_a_client_does_not_care_our_order_counts() {
        assert_eq!(chosen(&["gzip, deflate, br, zstd"]), Some(Coding::Zstd));
        assert_eq!(chosen(&["gzip, BR"]), Some(Coding::Brotli));
        assert_eq!(chosen(&["*"]), Some(Coding::Zstd));
        let ours = [Coding::Gzip, Coding::Zstd];
        assert_eq!(negotiate([&b"zstd, gzip"[..]], &ours), Some(Coding::Gzip), "the order offered");
        assert_eq!(negotiate([&b"br"[..]], &ours), None);
    }

    #[test]
    fn rfc9110_12_5_3_a_star_speaks_for_what_is_not_named() {
        assert_eq!(chosen(&["zstd;q=0, *"]), Some(Coding::Brotli));
        assert_eq!(chosen(&["gzip, *;q=0"]), Some(Coding::Gzip));
        assert_eq!(chosen(&["*;q=0.5, gzip"]), Some(Coding::Gzip));
        assert_eq!(chosen(&["identity;q=0.5, *;q=0"]), None);
    }

    #[test]
    fn a_client_that_says_nothing_or_wants_the_body_as_it_is_gets_it() {
        assert_eq!(chosen(&[]), None);
        assert_eq!(chosen(&[""]), None);
        assert_eq!(chosen(&["identity"]), None);
        assert_eq!(chosen(&["identity, gzip;q=0.5"]), None);
        assert_eq!(chosen(&["identity;q=0.5, gzip;q=0.5"]), Some(Coding::Gzip));
        assert_eq!(chosen(&["identity;q=0"]), None, "it names nothing that it takes");
        assert_eq!(chosen(&["identity;q=0, gzip;q=0.1"]), Some(Coding::Gzip));
    }

    #[test]
    fn what_is_no_weight_is_no_wish() {
        for weight in ["q=", "q=2", "q=1.001", "q=.5", "q=0.1234", "q=-1", "q=0x"] {
            assert_eq!(chosen(&[&format!("gzip;{weight}")]), None, "{weight}");
        }
        assert_eq!(chosen(&["gzip;level=9"]), Some(Coding::Gzip), "a parameter that nobody knows");
        assert_eq!(chosen(&["gzip;q=0, gzip"]), None, "said twice");
        assert_eq!(thousandths(b"0.05"), Some(50));
    }
}
