//! What the fuzzers call, and what must hold of every input: nothing panics, what is read is within its bounds, and what we
//! write of it is read again as the same.

use std::fmt::Debug;

use terrace_otlp::{
    ATTRIBUTES_MAX, Attributes, DecodeError, ITEMS_MAX, NAME_BYTES_MAX, Received, Signal, json_to_protobuf,
    read_logs, read_metrics, read_traces, write_logs, write_metrics, write_traces,
};

/// Spans.
pub(crate) fn traces(data: &[u8]) {
    stable(data, read_traces, |spans| write_traces(spans, "1", &[("a", "b")]));
    let Ok(received) = read_traces(data) else { return };
    for span in &received.items {
        bounded(&span.attributes);
        assert!(span.name.len() <= 3 * NAME_BYTES_MAX, "a replaced byte takes three");
    }
}

/// Metrics.
pub(crate) fn metrics(data: &[u8]) {
    stable(data, read_metrics, |metrics| write_metrics(metrics, "1", &[]));
}

/// Log records.
pub(crate) fn logs(data: &[u8]) {
    stable(data, read_logs, |records| write_logs(records, "1", &[]));
    let Ok(received) = read_logs(data) else { return };
    received.items.iter().for_each(|record| bounded(&record.attributes));
}

/// JSON becomes protobuf that holds together.
pub(crate) fn json(data: &[u8]) {
    for signal in Signal::ALL {
        let Ok(protobuf) = json_to_protobuf(signal, data) else { continue };
        assert!(protobuf.len() <= 10 * data.len(), "a number of one digit takes nine bytes");
        let read = match signal {
            Signal::Traces => read_traces(&protobuf).map(drop),
            Signal::Metrics => read_metrics(&protobuf).map(drop),
            Signal::Logs => read_logs(&protobuf).map(drop),
        };
        assert_eq!(read, Ok(()), "{}", String::from_utf8_lossy(data));
    }
}

fn bounded(attributes: &Attributes) {
    assert!(attributes.len() <= ATTRIBUTES_MAX);
    assert!(attributes.iter().all(|(name, _)| !name.is_empty()));
}

/// What was read once may have lost what we do not keep; from then on it stays what it is. Compared as text, for NaN is
/// not equal to itself.
fn stable<T: Debug>(
    data: &[u8],
    read: impl Fn(&[u8]) -> Result<Received<T>, DecodeError>,
    write: impl Fn(&[T]) -> Vec<u8>,
) {
    let Ok(first) = read(data) else { return };
    assert!(first.items.len() <= ITEMS_MAX);
    let second = read(&write(&first.items)).expect("what we write can be read");
    let third = read(&write(&second.items)).expect("what we write can be read");
    assert_eq!(second.items.len(), first.items.len());
    assert_eq!(format!("{:?}", third.items), format!("{:?}", second.items));
}
