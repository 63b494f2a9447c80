//! How many bytes a span takes. An allocation counts its capacity and what the allocator keeps beside it, so that the
//! bound on a store is a bound on the process and not on a fiction. Names that spans share are counted for each of them:
//! the estimate is never too low.

use std::borrow::Cow;

use terrace_instruments::{BLOCK_BYTES, Span, Value};

type Text = Cow<'static, str>;

/// Bytes of the span and of all that it alone holds, estimated from above.
pub fn span_bytes(span: &Span) -> usize {
    let names = text_bytes(&span.name) + shared_bytes(&span.service) + shared_bytes(&span.instance);
    let table = span.attributes.capacity() * size_of::<(Text, Value)>();
    let attributes: usize =
        span.attributes.iter().map(|(name, value)| text_bytes(name) + value_bytes(value)).sum();
    size_of::<Span>() + names + BLOCK_BYTES + table + attributes
}

fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Text(text) => text_bytes(text),
        _ => 0,
    }
}

/// Nothing for a text that is part of the program.
fn text_bytes(text: &Text) -> usize {
    match text {
        Cow::Borrowed(_) => 0,
        Cow::Owned(text) => text.capacity() + BLOCK_BYTES,
    }
}

/// The text and the two counts in front of it.
fn shared_bytes(text: &str) -> usize {
    text.len() + 2 * size_of::<usize>() + BLOCK_BYTES
}
