//! The last some thousand kept traces, put together from spans that come from several hops and from the app.
//!
//! A trace is known by its id alone: whoever hands in a span with that id adds to it, in whatever order the pieces come.
//! What Terrace kept is there at once; what the app sends about a request waits a while, for the decision to keep that
//! request may come later than the app's first span, and is forgotten when it does not come. A trace that began in the
//! app itself, with a root span that no hop of ours caused, was chosen by the app's own sampler and is kept as it is.
//!
//! A hop of ours is kept as it was noted ([`terrace_instruments::Hop`]), and its spans are made for each look anew: most traces
//! are never looked at, and spans take ten times the room and the time.
//!
//! Bounds hold for the number of traces, for the bytes of all, and for each trace. When room is needed the oldest gives
//! way, and it is taken from whoever holds most of the room: the traces of one route, or those that one service began.
//! So a route that fails a thousand times a second pushes out its own past and leaves the others theirs.

mod filter;
mod pending;
mod skew;
mod store;
#[cfg(test)]
mod tests;
mod tree;
mod trigrams;
mod view;
mod weight;

use std::time::{Duration, SystemTime};

use terrace_instruments::TraceId;

// The public interface is:
pub use store::{TraceCounts, TraceStore};
pub use weight::span_bytes;

/// Attribute of a server span of ours that says why its trace was kept: `sampled`, `asked`, `error` or `slow`.
pub const KEPT_ATTRIBUTE: &str = "terrace.kept";
/// Attribute, in seconds, of a span that is shown later than its own clock said, since it cannot have begun before
/// what caused it.
pub const SKEW_ATTRIBUTE: &str = "terrace.clock_skew_seconds";

/// Characters of a path in a list; the whole is with the trace.
pub const PATH_CHARACTERS_MAX: usize = 120;

/// One kept trace, in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceSummary {
    /// Its id.
    pub trace: TraceId,
    /// Name of its first span, such as `GET /orders/*`.
    pub root: String,
    /// The path that was asked for, without the query, at most [`PATH_CHARACTERS_MAX`] characters; empty where no span
    /// of ours says it.
    pub path: String,
    /// The route of its first hop.
    pub route: String,
    /// Services it came through, in order of first appearance.
    pub services: Vec<String>,
    /// When it began.
    pub start: SystemTime,
    /// From its first to its last moment.
    pub duration: Duration,
    /// Spans known of it.
    pub spans: usize,
    /// Spans left out since the trace had grown too large.
    pub spans_left_out: u64,
    /// Whether a span of it failed, but for a try after which another went well.
    pub is_error: bool,
    /// Whether a try failed after which another went well, and nothing else did.
    pub is_retried: bool,
    /// Status of the answer to the client, where known.
    pub status: Option<u16>,
    /// Why it was kept: `sampled`, `error`, `slow`, or `asked` by the caller's own flag.
    pub kept: &'static str,
}

/// Which traces are wanted; newest first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TraceFilter {
    /// That came through this service.
    pub service: Option<String>,
    /// Whose first hop met this route.
    pub route: Option<String>,
    /// That took at least so long.
    pub duration_min: Duration,
    /// Only failed ones.
    pub errors_only: bool,
    /// Somewhere in the id, in names, services and attributes; ASCII letters match in either case.
    pub text: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// Bounds of a [`TraceStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceBounds {
    /// Traces kept; the oldest gives way.
    pub traces_max: usize,
    /// Spans of one trace; further ones are counted.
    pub spans_per_trace_max: usize,
    /// Bytes of one trace, estimated; further spans are counted.
    pub bytes_per_trace_max: usize,
    /// Bytes of all of them together, estimated.
    pub bytes_max: usize,
    /// How long spans of the app wait for their trace to be kept.
    pub pending_time: Duration,
    /// Bytes of the spans that wait, estimated; further ones are counted.
    pub pending_bytes_max: usize,
}

impl Default for TraceBounds {
    fn default() -> Self {
        Self {
            traces_max: 4_000,
            spans_per_trace_max: 500,
            bytes_per_trace_max: 1 << 20,
            bytes_max: 64 << 20,
            pending_time: Duration::from_secs(30),
            pending_bytes_max: 16 << 20,
        }
    }
}
