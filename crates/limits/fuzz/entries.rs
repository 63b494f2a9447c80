//! What the fuzzers call, and what must hold of every input.

/// Answers of a Redis, or of whoever speaks in its place: read or refused, never more than there is.
pub(crate) fn resp(data: &[u8]) {
    terrace_limits::fuzzing::resp(data);
}

/// A file of quotas as a crash or a stranger left it: what is read is what was written.
pub(crate) fn quota_log(data: &[u8]) {
    terrace_limits::fuzzing::quota_log(data);
}
