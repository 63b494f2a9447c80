//! What the fuzzer calls, and what must hold of every input.

use terrace_instruments::TraceParent;

/// What is read is not zero, is written as a version 00 that reads the same, and says what the bytes say.
pub(crate) fn trace_parent(data: &[u8]) {
    let Some(read) = TraceParent::parse(data) else { return };
    assert!(read.trace.0 != 0 && read.parent.0 != 0);
    let written = read.encode();
    assert_eq!(TraceParent::parse(&written), Some(read));
    assert_eq!(written[3..52], data[3..52]);
    assert!(data[..2] != *b"ff");
    assert!(data.len() == TraceParent::BYTES || (data[..2] != *b"00" && data[TraceParent::BYTES] == b'-'));
}
