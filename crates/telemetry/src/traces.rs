//! Numbers about the kept traces: how many there are, and what became of the spans that are not among them.

use terrace_instruments::Kind;
use terrace_signals::traces::TraceCounts;

use crate::exposition::{Exposition, labels};

/// Adds them.
pub(crate) fn render(out: &mut Exposition, counts: TraceCounts) {
    out.family("terrace_traces", "Traces kept in memory.", "", Kind::Gauge);
    out.gauge("", counts.traces);
    out.family("terrace_traces_bytes", "Memory that kept traces take.", "bytes", Kind::Gauge);
    out.gauge("", counts.bytes);
    let help = "Traces that gave way to newer ones.";
    out.family("terrace_traces_evicted", help, "", Kind::Counter);
    out.counter("", counts.traces_evicted);
    let help = "Spans of the app that wait for their trace to be kept.";
    out.family("terrace_app_spans_pending", help, "", Kind::Gauge);
    out.gauge("", counts.spans_pending);
    let help = "Spans that are in no kept trace: expired when nobody kept theirs, left-out when it had grown too large, refused when too many waited.";
    out.family("terrace_spans_left", help, "", Kind::Counter);
    let rows = [
        ("expired", counts.spans_expired),
        ("left-out", counts.spans_left_out),
        ("refused", counts.spans_refused),
    ];
    for (reason, count) in rows {
        out.counter(&labels(&["reason"], &[reason]), count);
    }
}
