//! Which trace a request belongs to, and what the endpoint is told of it (W3C Trace Context, Level 1).
//!
//! Every request that is traced has ids, since whoever comes after it needs them, and whether it will be kept is not known
//! before its end. The ids are all that it pays for: where a trace begins one random number, 16 digits and one field. A try's id
//! is made of the hop's by a mixing that is one-to-one, so that it need not be remembered, and no two of a hop are alike.

use std::time::Duration;

use terrace_http::{Fields, Known, RequestHead};
use terrace_instruments::{SpanId, TraceId, TraceParent, Tracer};
use terrace_runtime::random;

use crate::client::Digits;

/// A `tracestate` with more members is no `tracestate` (W3C Trace Context section 3.3.1.1).
const STATE_MEMBERS_MAX: usize = 32;
/// Bytes of `tracestate` that are passed on; 512 are asked for (section 3.3.1.5).
const STATE_BYTES_MAX: usize = 2_048;

/// Digits of half a trace's id.
const HALF_DIGITS: usize = TraceId::DIGITS / 2;

/// The upper half of the ids of traces that begin on a core within a second, and its digits, which need not be written
/// anew for each. The lower half is random for each: more than the 56 bits that are asked for (W3C Trace Context, Level 2,
/// "Random Trace ID Flag").
#[derive(Debug, Clone, Copy)]
pub(crate) struct Half {
    upper: u64,
    digits: [u8; HALF_DIGITS],
}

impl Half {
    /// An upper half of its own.
    pub(crate) fn new() -> Self {
        let upper = random::u64().max(1);
        Self { upper, digits: SpanId(upper).digits() }
    }

    /// The id with that lower half.
    #[inline]
    fn with(&self, lower: u64) -> (TraceId, Digits) {
        let mut digits = [0; TraceId::DIGITS];
        digits[..HALF_DIGITS].copy_from_slice(&self.digits);
        digits[HALF_DIGITS..].copy_from_slice(&SpanId(lower).digits());
        (TraceId(u128::from(self.upper) << 64 | u128::from(lower)), digits)
    }
}

/// A hop's place in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) trace: TraceId,
    /// The hop itself: what tries hang under.
    pub(crate) span: SpanId,
    /// The caller's span, where a caller said so.
    pub(crate) parent: Option<SpanId>,
    /// The caller keeps the trace.
    pub(crate) is_asked: bool,
    /// The trace is in the sample.
    pub(crate) is_in_sample: bool,
}

impl Place {
    /// Takes the trace over that the fields name, or begins one. Neither field is left: what is passed on is written for
    /// each try, see [`Place::tell`], but `tracestate` stays beside a trace that is taken over.
    #[inline]
    pub(crate) fn begin(tracer: &Tracer, half: &Half, fields: &mut Fields, now: Duration) -> (Self, Digits) {
        match caller(fields) {
            Some(caller) => {
                tracer.heard_caller(now);
                let (parent, is_asked) = (Some(caller.parent), caller.is_sampled);
                let (span, digits) = (SpanId(random::u64().max(1)), caller.trace.digits());
                (Self { parent, is_asked, ..Self::of(tracer, caller.trace, span) }, digits)
            }
            None => {
                let lower = unlike_turned(random::u64());
                let (trace, digits) = half.with(lower);
                (Self::of(tracer, trace, SpanId(lower)), digits)
            }
        }
    }

    #[inline]
    fn of(tracer: &Tracer, trace: TraceId, span: SpanId) -> Self {
        let is_in_sample = tracer.is_in_sample(trace);
        Self { trace, span, parent: None, is_asked: false, is_in_sample }
    }

    /// The span of the part with that number: tries are 1 and up, other parts have numbers of their own. Where a trace
    /// begins, the hop is called by the lower half of its id and the first try by that half turned round, whose digits are
    /// at hand.
    #[inline]
    pub(crate) fn part(&self, number: u64) -> SpanId {
        if number == 1 && self.parent.is_none() {
            return SpanId(turned(self.span.0));
        }
        // Golden-ratio steps through the finaliser of SplitMix64 (Steele, Lea, Flood 2014): one-to-one.
        let mut mixed = self.span.0.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        SpanId((mixed ^ (mixed >> 31)).max(1))
    }

    /// Writes what the endpoint of a try shall know: that the try is its caller. `digits` are the trace's.
    #[inline]
    pub(crate) fn tell(&self, head: &mut RequestHead, digits: &Digits, number: u32) {
        let is_sampled = self.is_asked || self.is_in_sample;
        let parent = match (number, self.parent) {
            (1, None) => turned_digits(digits),
            _ => self.part(u64::from(number)).digits(),
        };
        head.trace_parent = Some(TraceParent::encode_of(digits, &parent, is_sampled));
    }
}

#[inline]
fn turned(word: u64) -> u64 {
    word.rotate_left(32)
}

/// The digits of a trace's lower half, turned round.
#[inline]
fn turned_digits(trace: &Digits) -> [u8; HALF_DIGITS] {
    let mut out = [0; HALF_DIGITS];
    out[..8].copy_from_slice(&trace[24..]);
    out[8..].copy_from_slice(&trace[16..24]);
    out
}

/// The same number, or one that is not the same when it is turned round. Not zero either.
#[inline]
fn unlike_turned(word: u64) -> u64 {
    if turned(word) == word { word ^ 1 } else { word }
}

/// What the caller says of its trace; afterwards the fields hold no `traceparent`, and a `tracestate` only beside a valid
/// one (sections 3.2, 3.3: a vendor that cannot read the one must not pass on the other).
#[inline]
fn caller(fields: &mut Fields) -> Option<TraceParent> {
    let said = {
        let mut said = fields.all(Known::Traceparent);
        match (said.next(), said.next()) {
            (None, _) => None,
            (Some(one), None) => Some(TraceParent::parse(one)),
            // Two are none: which of them would be believed is up to the reader.
            (Some(_), Some(_)) => Some(None),
        }
    };
    if said.is_some() {
        fields.remove(Known::Traceparent);
    }
    let caller = said.flatten();
    if fields.has(Known::Tracestate) && (caller.is_none() || !is_fit_state(fields)) {
        fields.remove(Known::Tracestate);
    }
    caller
}

fn is_fit_state(fields: &Fields) -> bool {
    let members =
        fields.all(Known::Tracestate).map(|list| list.split(|byte| *byte == b',').count()).sum::<usize>();
    let bytes = fields.all(Known::Tracestate).map(<[u8]>::len).sum::<usize>();
    members <= STATE_MEMBERS_MAX && bytes <= STATE_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const EXAMPLE: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn fields(said: &[(Known, &[u8])]) -> Fields {
        let mut fields = Fields::new();
        said.iter().for_each(|(name, value)| fields.append_known(*name, value));
        fields
    }

    fn begun(said: &[(Known, &[u8])]) -> (Place, Fields) {
        let (tracer, _receiver) = Tracer::channel(1);
        let mut fields = fields(said);
        (Place::begin(&tracer, &Half::new(), &mut fields, Duration::ZERO).0, fields)
    }

    #[test]
    fn a_callers_trace_is_taken_over_and_its_state_left_as_it_is() {
        let (place, fields) = begun(&[(Known::Traceparent, EXAMPLE), (Known::Tracestate, b"a=1, b=2")]);
        assert_eq!(place.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(place.parent, Some(SpanId(0xb7ad_6b71_6920_3331)));
        assert!(place.is_asked);
        assert_eq!(fields.get(Known::Tracestate), Some(&b"a=1, b=2"[..]));
        assert!(!fields.has(Known::Traceparent));
    }

    #[test]
    fn what_is_not_valid_is_ignored_together_with_its_state() {
        for said in [
            &[(Known::Tracestate, &b"a=1"[..])][..],
            &[(Known::Traceparent, b"00-bad"), (Known::Tracestate, b"a=1")],
            &[(Known::Traceparent, EXAMPLE), (Known::Traceparent, EXAMPLE), (Known::Tracestate, b"a=1")],
        ] {
            let (place, fields) = begun(said);
            assert!(place.parent.is_none() && fields.is_empty(), "{said:?}");
        }
    }

    #[test]
    fn a_state_beyond_its_bounds_goes_and_the_trace_stays() {
        let state = |members| vec!["a=1"; members].join(",");
        let with =
            |state: &str| begun(&[(Known::Traceparent, EXAMPLE), (Known::Tracestate, state.as_bytes())]);
        assert!(with(&state(STATE_MEMBERS_MAX)).1.has(Known::Tracestate));
        let (place, fields) = with(&state(STATE_MEMBERS_MAX + 1));
        assert!(place.parent.is_some() && !fields.has(Known::Tracestate));
        assert!(!with(&format!("a={}", "x".repeat(STATE_BYTES_MAX))).1.has(Known::Tracestate));
    }

    #[test]
    fn every_part_of_a_hop_has_an_id_of_its_own() {
        let (place, _) = begun(&[]);
        let mut head = RequestHead::new();
        let mut told = |number| {
            place.tell(&mut head, &place.trace.digits(), number);
            TraceParent::parse(&head.trace_parent.expect("told")).expect("valid")
        };
        let ids: HashSet<SpanId> = (1..2_000).map(|number| place.part(number)).collect();
        assert_eq!(ids.len(), 1_999);
        assert!(!ids.contains(&place.span), "nor is the hop called like one of its parts");
        for number in [1, 2] {
            let says = told(number);
            assert_eq!((says.trace, says.parent), (place.trace, place.part(u64::from(number))));
        }
    }
}
