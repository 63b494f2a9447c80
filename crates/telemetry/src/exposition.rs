//! Metrics as text: Prometheus 0.0.4 and OpenMetrics 1.0, whichever the scraper prefers.
//!
//! The two differ in little: OpenMetrics names a counter's family without `_total`, knows units, and ends with
//! `# EOF`. Histograms are shown as classic buckets at fixed bounds from 0.5 ms to 60 s, whatever was recorded, so that
//! those of all routes and releases can be added up.
//!
//! Sources: <https://prometheus.io/docs/instrumenting/exposition_formats/>; OpenMetrics 1.0, sections 5 and 6.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use terrace_instruments::{Exemplar, FamilySnapshot, HistogramSnapshot, Kind, SeriesValue};
use terrace_signals::series::text::{Dialect, canonical, escape};
use terrace_signals::series::{base_name, unit};

/// Upper bounds of the buckets, in microseconds.
pub(crate) const BOUNDS_US: [u64; 16] = HistogramSnapshot::CLASSIC_BOUNDS_US;

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Prometheus,
    /// OpenMetrics text 1.0.0.
    OpenMetrics,
}

/// Metrics as text, with the type to send along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Value of the `Content-Type` field.
    pub content_type: &'static str,
    /// The text.
    pub body: String,
}

impl Format {
    /// The format a scraper prefers by its `Accept` field (RFC 9110 section 12.5.1). OpenMetrics only when it is
    /// asked for by name and not liked less than plain text.
    pub fn negotiate(accept: Option<&str>) -> Self {
        let (mut open_metrics, mut plain) = (0.0, 0.0);
        for part in accept.unwrap_or_default().split(',') {
            let (media, quality) = preference(part);
            match media {
                // Prometheus names each version that it understands; the one that we speak counts.
                "application/openmetrics-text" => open_metrics = quality.max(open_metrics),
                "text/plain" => plain = quality.max(plain),
                _ => {}
            }
        }
        if open_metrics > 0.0 && open_metrics >= plain { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The grammar it is written in.
    pub(crate) fn dialect(self) -> Dialect {
        match self {
            Self::Prometheus => Dialect::Prometheus,
            Self::OpenMetrics => Dialect::OpenMetrics,
        }
    }

    /// Value of the `Content-Type` field.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The media type and its `q`; a type with a version other than 1.0.0 is not understood and counts as unwanted.
fn preference(part: &str) -> (&str, f64) {
    let mut pieces = part.split(';').map(str::trim);
    let media = pieces.next().unwrap_or_default();
    let mut quality = 1.0;
    for piece in pieces {
        match piece.split_once('=') {
            Some(("q", value)) => quality = value.parse().unwrap_or(0.0),
            Some(("version", version)) if media.ends_with("openmetrics-text") && version != "1.0.0" => {
                return (media, 0.0);
            }
            _ => {}
        }
    }
    (media, quality)
}

/// A text being written.
#[derive(Debug)]
pub(crate) struct Exposition {
    format: Format,
    text: String,
    family: String,
}

impl Exposition {
    pub(crate) fn new(format: Format) -> Self {
        Self { format, text: String::with_capacity(16 << 10), family: String::new() }
    }

    /// Ends the text.
    pub(crate) fn finish(mut self) -> Rendered {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        Rendered { content_type: self.format.content_type(), body: self.text }
    }

    /// Adds a family as a meter collected it.
    pub(crate) fn collected(&mut self, snapshot: &FamilySnapshot) {
        let family = snapshot.family;
        self.family(family.name, family.help, unit(family), family.kind);
        for series in &snapshot.series {
            let labels = labels(family.labels, &series.labels);
            match &series.value {
                SeriesValue::Counter(value) => self.line("_total", &labels, value),
                SeriesValue::Gauge(value) => self.line("", &labels, value),
                SeriesValue::Histogram(histogram) => self.histogram(&labels, histogram),
            }
        }
    }

    /// Begins a family, whose samples follow.
    pub(crate) fn family(&mut self, name: &str, help: &str, unit: &str, kind: Kind) {
        self.family = base_name(name, unit, kind);
        let kind_name = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let suffix = if kind == Kind::Counter && self.format == Format::Prometheus { "_total" } else { "" };
        let name = format!("{}{suffix}", self.family);
        self.text.push_str(&format!("# HELP {name} "));
        escape(&mut self.text, help, self.format == Format::OpenMetrics);
        self.text.push_str(&format!("\n# TYPE {name} {kind_name}\n"));
        if self.format == Format::OpenMetrics && !unit.is_empty() {
            self.text.push_str(&format!("# UNIT {name} {unit}\n"));
        }
    }

    /// Adds a sample of a counter family that no meter holds.
    pub(crate) fn counter(&mut self, labels: &str, value: impl std::fmt::Display) {
        self.line("_total", labels, value);
    }

    /// Adds a sample of a gauge family that no meter holds.
    pub(crate) fn gauge(&mut self, labels: &str, value: impl std::fmt::Display) {
        self.line("", labels, value);
    }

    fn histogram(&mut self, labels: &str, histogram: &HistogramSnapshot) {
        let separator = if labels.is_empty() { "" } else { "," };
        let mut exemplars = histogram.exemplars().iter().peekable();
        for bound_us in BOUNDS_US {
            let bound = Duration::from_micros(bound_us);
            let labels = format!("{labels}{separator}le=\"{}\"", self.bound(bound_us));
            self.bucket(
                &labels,
                histogram.count_at_most(bound),
                exemplars.next_if(|known| known.value <= bound),
            );
        }
        self.bucket(&format!("{labels}{separator}le=\"+Inf\""), histogram.count(), exemplars.next());
        self.line("_sum", labels, histogram.sum().as_secs_f64());
        self.line("_count", labels, histogram.count());
    }

    /// A bucket, and in OpenMetrics an example of what lies in it (section 4.6.1).
    fn bucket(&mut self, labels: &str, count: u64, exemplar: Option<&Exemplar>) {
        match exemplar.filter(|_| self.format == Format::OpenMetrics) {
            Some(exemplar) => self.line("_bucket", labels, format_args!("{count} {}", example(exemplar))),
            None => self.line("_bucket", labels, count),
        }
    }

    /// OpenMetrics wants bounds as floats, `1.0` instead of `1` (section 5.3.1, canonical numbers).
    fn bound(&self, bound_us: u64) -> String {
        let seconds = bound_us as f64 / 1e6;
        match self.format {
            Format::OpenMetrics => canonical(seconds),
            Format::Prometheus => format!("{seconds}"),
        }
    }

    fn line(&mut self, suffix: &str, labels: &str, value: impl std::fmt::Display) {
        let (open, close) = if labels.is_empty() { ("", "") } else { ("{", "}") };
        let written = writeln!(self.text, "{}{suffix}{open}{labels}{close} {value}", self.family);
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
    }
}

/// An exemplar's trace, value and time: 40 of the 128 characters that its labels may have.
fn example(exemplar: &Exemplar) -> String {
    let value = exemplar.value.as_secs_f64();
    let at = exemplar.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    format!("# {{trace_id=\"{}\"}} {value} {at:.3}", exemplar.trace)
}

/// `a="x",b="y"`.
pub(crate) fn labels(names: &[&str], values: &[impl AsRef<str>]) -> String {
    let mut text = String::new();
    for (name, value) in names.iter().zip(values) {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        escape(&mut text, value.as_ref(), true);
        text.push('"');
    }
    text
}
