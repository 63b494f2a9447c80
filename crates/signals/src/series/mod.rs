//! Numbers over time: a ring for each resolution of each series, within a bound on all of them.
//!
//! One second for five minutes shows what happens now, fifteen seconds for six hours what happened since lunch, five
//! minutes for seven days whether that is usual.

mod anomaly;
mod distribution;
mod foreign;
mod labels;
mod names;
mod pieces;
mod query;
mod rings;
mod small;
mod store;
pub mod text;

use std::sync::Arc;
use std::time::Duration;

use terrace_instruments::Kind;

// The public interface is this, and the types below:
pub use anomaly::Anomaly;
pub use names::{base_name, text_name, unit};
pub use store::SeriesStore;

/// Which series: those of this name that carry all of these labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Selector {
    /// Name as in the Prometheus text, such as `terrace_requests_total` or `orders_placed_total`; for histograms the
    /// family's, such as `terrace_request_duration_seconds`.
    pub name: String,
    /// Label names and values that must be equal.
    pub labels: Vec<(String, String)>,
}

/// What is wanted of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Increase a second, of a counter, or of a histogram's count.
    Rate,
    /// The value, of a gauge.
    Value,
    /// Of a histogram, in seconds.
    Quantile(Quantile),
    /// Sum over count of a histogram, in seconds.
    Mean,
}

/// The quantiles that are kept of each histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quantile {
    /// The median.
    P50,
    /// 0.9.
    P90,
    /// 0.99.
    P99,
    /// 0.999.
    P999,
}

impl Quantile {
    /// As a share of all.
    pub fn share(self) -> f64 {
        match self {
            Self::P50 => 0.5,
            Self::P90 => 0.9,
            Self::P99 => 0.99,
            Self::P999 => 0.999,
        }
    }
}

/// A question about the past.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Query {
    /// Which series.
    pub selector: Selector,
    /// What of them.
    pub measure: Measure,
    /// How far back from now; the finest resolution that reaches so far answers.
    pub last: Duration,
    /// Lines of which the values are summed (of quantiles the highest is taken) over all other labels; `None`: each
    /// series is a line of its own.
    pub by: Option<Vec<String>>,
}

/// The answer: lines that share their time axis.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chart {
    /// How long before now the first point's step ended.
    pub first_ago: Duration,
    /// Between two points.
    pub step: Duration,
    /// Ordered by their labels; the first 500.
    pub lines: Vec<Line>,
    /// Further lines, which are not in it.
    pub left_out: usize,
}

/// One line of a [`Chart`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Line {
    /// Label names and values.
    pub labels: Vec<(String, String)>,
    /// One for each step; NaN where nothing is known.
    pub points: Vec<f64>,
    /// Where it was asked for, the quantile or mean of the whole time, which is not the mean of the points.
    pub whole: Option<f64>,
}

/// A number that comes from elsewhere than our own meter: the machine, an instance's processes, the app itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Name as in the Prometheus text.
    pub name: Arc<str>,
    /// Counter or gauge; a foreign histogram comes as counters of its buckets, sum and count.
    pub kind: Kind,
    /// Label names and values, in order of the names.
    pub labels: Arc<[(Arc<str>, Arc<str>)]>,
    /// The value now.
    pub value: f64,
}

/// Bounds of a [`SeriesStore`]. By default its scalar series take less than 96 MiB, labels included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeriesBounds {
    /// Scalar series; further ones are counted and not kept.
    pub scalars_max: usize,
    /// Histograms; the memory of one is at most 122,800 bytes.
    pub histograms_max: usize,
    /// Bytes of label names and values, of all series together.
    pub labels_bytes_max: usize,
}

impl Default for SeriesBounds {
    fn default() -> Self {
        Self { scalars_max: 10_000, histograms_max: 1_000, labels_bytes_max: 12 << 20 }
    }
}

/// A metric, for who looks for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricName {
    /// Name as in the Prometheus text.
    pub name: Arc<str>,
    /// What its numbers do.
    pub kind: Kind,
    /// One sentence; empty where nobody told.
    pub help: Arc<str>,
    /// Names of the labels that occur, in order.
    pub labels: Vec<Arc<str>>,
    /// Series that were seen in the last ten minutes.
    pub series: usize,
}

/// How full a [`SeriesStore`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeriesUsage {
    /// Scalar series.
    pub scalars: usize,
    /// Histograms.
    pub histograms: usize,
    /// Series for which there was no room, since the start.
    pub refused: u64,
    /// Bytes on the heap, estimated from above.
    pub bytes: usize,
}
