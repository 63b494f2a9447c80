//! What the past itself costs, and what of it was not kept: numbers about the numbers.

use terrace_instruments::Kind;

use crate::exposition::{Exposition, labels};
use crate::observatory::Observatory;

/// Adds them.
pub(crate) fn render(out: &mut Exposition, observatory: &Observatory) {
    let usage = observatory.series_usage();
    out.family("terrace_history_series", "Series kept in memory, by kind.", "", Kind::Gauge);
    out.gauge(&labels(&["kind"], &["histogram"]), usage.histograms);
    out.gauge(&labels(&["kind"], &["scalar"]), usage.scalars);
    out.family("terrace_history_bytes", "Memory that kept series take.", "bytes", Kind::Gauge);
    out.gauge("", usage.bytes);
    counter(
        out,
        "terrace_history_series_refused",
        "Series that were not kept because there was no room.",
        usage.refused,
    );
    counter(
        out,
        "terrace_history_samples_dropped",
        "Samples from elsewhere that were not looked at because too many came at once.",
        observatory.foreign().dropped(),
    );
    counter(
        out,
        "terrace_spans_dropped",
        "Spans of kept traces that were lost because too many came at once.",
        observatory.spans_dropped(),
    );
}

fn counter(out: &mut Exposition, name: &str, help: &str, value: u64) {
    out.family(name, help, "", Kind::Counter);
    out.counter("", value);
}
