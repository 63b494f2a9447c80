//! The field `traceparent`: which trace a request belongs to, and which span sent it (W3C Trace Context, Level 1,
//! section 3.2).
//!
//! `00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01`: version, trace, parent, flags. What breaks the grammar in
//! one byte is worth nothing, for nobody knows which byte is wrong; a trace is then begun anew. Versions after ours are
//! read as ours, as far as ours goes (section 4.3, "Versioning of traceparent").

use crate::hex;
use crate::trace::{SpanId, TraceId};

/// What `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace: TraceId,
    /// The caller's span.
    pub parent: SpanId,
    /// Whether the caller may keep the trace (section 3.2.2.5.1).
    pub is_sampled: bool,
}

impl TraceParent {
    /// Bytes of the field's value in version 00.
    pub const BYTES: usize = 55;

    /// Reads a field's value, without spaces around it. `None` for what must be ignored: another grammar, version `ff`,
    /// letters in upper case, ids of zeros.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(Self::BYTES)?;
        let known: &[u8; Self::BYTES] = known.try_into().ok()?;
        // A later version may go on, after a dash; this one may not.
        let may_go_on = &known[..2] != b"00" && rest.first() == Some(&b'-');
        let are_dashes = [known[2], known[35], known[52]] == [b'-'; 3];
        let version = byte([known[0], known[1]])?;
        if version == 0xff || !are_dashes || !(rest.is_empty() || may_go_on) {
            return None;
        }
        let word = |at: usize| hex::number(known[at..at + 16].try_into().ok()?);
        let trace = u128::from(word(3)?) << 64 | u128::from(word(19)?);
        let parent = word(36)?;
        let flags = byte([known[53], known[54]])?;
        let is_known = trace != 0 && parent != 0;
        is_known.then_some(Self { trace: TraceId(trace), parent: SpanId(parent), is_sampled: flags & 1 == 1 })
    }

    /// The field's value in version 00. Flags that Level 1 does not know are not passed on (section 3.2.2.5).
    #[must_use]
    pub fn encode(&self) -> [u8; Self::BYTES] {
        Self::encode_of(&self.trace.digits(), &self.parent.digits(), self.is_sampled)
    }

    /// The same, of ids whose digits are at hand.
    #[inline]
    #[must_use]
    pub fn encode_of(
        trace: &[u8; TraceId::DIGITS],
        parent: &[u8; SpanId::DIGITS],
        is_sampled: bool,
    ) -> [u8; Self::BYTES] {
        let mut out = *b"00-00000000000000000000000000000000-0000000000000000-00";
        out[3..35].copy_from_slice(trace);
        out[36..52].copy_from_slice(parent);
        out[54] = b'0' + u8::from(is_sampled);
        out
    }
}

/// Two digits in lower case.
fn byte(digits: [u8; 2]) -> Option<u8> {
    let mut sixteen = [b'0'; 16];
    sixteen[14..].copy_from_slice(&digits);
    Some(hex::number(&sixteen)? as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn example() -> TraceParent {
        TraceParent {
            trace: TraceId(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c),
            parent: SpanId(0xb7ad_6b71_6920_3331),
            is_sampled: true,
        }
    }

    #[test]
    fn section_3_2_3_the_examples_of_the_recommendation_are_read() {
        assert_eq!(TraceParent::parse(EXAMPLE.as_bytes()), Some(example()));
        let not_sampled = EXAMPLE.replace("-01", "-00");
        assert_eq!(
            TraceParent::parse(not_sampled.as_bytes()),
            Some(TraceParent { is_sampled: false, ..example() })
        );
        assert_eq!(example().encode(), EXAMPLE.as_bytes());
    }

    #[test]
    fn section_3_2_2_what_breaks_the_grammar_is_ignored_whole() {
        let upper = EXAMPLE.replace("0af7", "0AF7");
        for broken in [
            "",
            "00",
            &EXAMPLE[..54],
            &EXAMPLE[1..],
            &format!("{EXAMPLE}-"),
            &format!("{EXAMPLE}-what-the-future-will-be-like"),
            &format!("{EXAMPLE}."),
            &format!("ff{}", &EXAMPLE[2..]),
            &format!("0x{}", &EXAMPLE[2..]),
            &EXAMPLE.replace('-', "_"),
            &upper,
            &EXAMPLE.replace("0af7651916cd43dd8448eb211c80319c", "00000000000000000000000000000000"),
            &EXAMPLE.replace("b7ad6b7169203331", "0000000000000000"),
            &EXAMPLE.replace("-01", "-0g"),
        ] {
            assert_eq!(TraceParent::parse(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn section_4_3_a_later_version_is_read_as_far_as_ours_goes() {
        let later = format!("cc{}", &EXAMPLE[2..]);
        assert_eq!(TraceParent::parse(later.as_bytes()), Some(example()));
        let longer = format!("{later}-what-the-future-will-be-like");
        assert_eq!(TraceParent::parse(longer.as_bytes()), Some(example()));
        assert_eq!(TraceParent::parse(format!("{later}.what").as_bytes()), None);
    }

    #[test]
    fn section_3_2_2_5_flags_that_are_not_known_say_nothing() {
        let odd = EXAMPLE.replace("-01", "-fe");
        assert!(!TraceParent::parse(odd.as_bytes()).expect("flags are any two digits").is_sampled);
        let even = EXAMPLE.replace("-01", "-ff");
        assert_eq!(TraceParent::parse(even.as_bytes()).expect("the same").encode()[53..], *b"01");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(trace in 1..=u128::MAX, parent in 1..=u64::MAX, is_sampled in any::<bool>()) {
            let given = TraceParent { trace: TraceId(trace), parent: SpanId(parent), is_sampled };
            prop_assert_eq!(TraceParent::parse(&given.encode()), Some(given));
        }
    }
}
