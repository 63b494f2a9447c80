//! The last some thousand kept traces, put together from spans that come from several hops and from the app.

use std::time::{Duration, SystemTime};

use terrace_instruments::{Span, TraceId};

/// One kept trace, in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceSummary {
    /// Its id.
    pub trace: TraceId,
    /// Name of its first span, such as `GET /orders/*`.
    pub root: String,
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
    /// Whether a span of it failed.
    pub is_error: bool,
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
    /// Somewhere in names and attributes.
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
    /// Bytes of all of them together, estimated.
    pub bytes_max: usize,
}

impl Default for TraceBounds {
    fn default() -> Self {
        Self { traces_max: 4_000, spans_per_trace_max: 500, bytes_max: 64 << 20 }
    }
}

/// The kept traces.
#[derive(Debug)]
pub struct TraceStore {
    _bounds: TraceBounds,
}

impl TraceStore {
    /// An empty store.
    pub fn new(bounds: TraceBounds) -> Self {
        Self { _bounds: bounds }
    }

    /// Takes spans of hops through Terrace that were decided to be kept.
    pub fn keep(&mut self, _now: Duration, _spans: Vec<Span>) {}

    /// Takes spans that the app sent. They wait a while for their trace to be kept, unless it already is, or began in the
    /// app itself.
    pub fn offer(&mut self, _now: Duration, _spans: Vec<Span>) {}

    /// The newest traces that fit.
    pub fn recent(&self, _filter: &TraceFilter) -> Vec<TraceSummary> {
        Vec::new()
    }

    /// All spans of a trace, parents before their children, siblings by start.
    pub fn get(&self, _trace: TraceId) -> Option<Vec<Span>> {
        None
    }
}
