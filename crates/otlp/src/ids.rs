//! Ids of traces and spans as bytes: the highest first, as everybody writes them.

use terrace_instruments::{SpanId, TraceId};

/// None unless there are sixteen bytes that are not all zero.
pub(crate) fn trace(bytes: &[u8]) -> Option<TraceId> {
    let id = u128::from_be_bytes(bytes.try_into().ok()?);
    (id != 0).then_some(TraceId(id))
}

/// None unless there are eight bytes that are not all zero.
pub(crate) fn span(bytes: &[u8]) -> Option<SpanId> {
    let id = u64::from_be_bytes(bytes.try_into().ok()?);
    (id != 0).then_some(SpanId(id))
}
