//! `[alert.NAME]`: an alert on any metric, Terrace's own or the app's.

use std::collections::BTreeMap;
use std::time::Duration;

use terrace_signals::alerts::{Severity, Threshold};
use terrace_signals::series::{Measure, Quantile, Query, Selector};

use super::objective::{check_receivers, receivers};
use super::problem::Finding;
use super::read::{OneOrMany, Read, Reader, Scalar, Wrong, choice, table};
use super::route::Known;
use super::spec::Form;
use super::tree::Node;
use super::values::Words;

table! {
    /// An alert on any metric, Terrace's own or the app's: it fires while the figure is above or below a bound. Page on what
    /// users feel, which is what `[objective.*]` is for; this is for figures that only the app knows.
    pub(crate) struct AlertTable one of "above" "below" {
        /// Its name as in `/metrics`.
        "metric" metric: MetricName, example "orders_placed_total";
        /// Only series with these labels.
        "labels" labels: BTreeMap<String, Words>, example { service = "orders" };
        /// Which figure of it. Default: `rate` for names that end in `_total`, `_count`, `_sum` or `_bucket`, else `value`.
        "of" of: Option<Of>, example "p99";
        /// One alert for each value of these labels. Default: one for all series together; their figures are added, of
        /// quantiles and means the highest counts.
        "by" by: Option<OneOrMany<LabelName>>, example ["service"];
        /// Fires while the figure is above this.
        "above" above: Option<f64>, example 0.5;
        /// Fires while the figure is below this.
        "below" below: Option<f64>, example 0.1;
        /// The time over which the figure is averaged; a quantile is that of all that was recorded in it.
        "over" over: Duration = "5m", within "5s" to "1d";
        /// How long it must hold until somebody is told.
        "for" hold: Duration = "1m", within "0s" to "7d";
        /// How much it matters.
        "severity" severity: SeverityWord = "ticket";
        /// The receiver that is told, or a list of them. Default: all that take the severity.
        "notify" notify: Option<OneOrMany<Words>>, example ["oncall"];
    }
}

choice! {
    /// A figure of a metric.
    pub(crate) enum Of {
        /// Increase a second, of a counter.
        "rate" Rate,
        /// The value, of a gauge.
        "value" Value,
        /// Median of a histogram, in seconds.
        "p50" P50,
        /// 90 % are smaller.
        "p90" P90,
        /// 99 % are smaller.
        "p99" P99,
        /// 99.9 % are smaller.
        "p99.9" P999,
        /// Mean of a histogram.
        "mean" Mean,
    }
}

choice! {
    /// How much an alert matters.
    pub(crate) enum SeverityWord {
        /// Somebody must look now.
        "page" Page,
        /// Somebody should look within days.
        "ticket" Ticket,
        /// For the record.
        "info" Info,
    }
}

impl From<SeverityWord> for Severity {
    fn from(word: SeverityWord) -> Self {
        match word {
            SeverityWord::Page => Self::Page,
            SeverityWord::Ticket => Self::Ticket,
            SeverityWord::Info => Self::Info,
        }
    }
}

/// Name of a metric in the Prometheus text.
#[derive(Clone, Debug)]
pub(crate) struct MetricName(String);

impl Scalar for MetricName {
    const FORM: Form = Form {
        noun: "a name of a metric",
        example: "orders_placed_total",
        pattern: "^[a-zA-Z_:][a-zA-Z0-9_:]*$",
    };

    fn parse(text: &str) -> Result<Self, Wrong> {
        if is_metric(text) {
            return Ok(Self(text.to_owned()));
        }
        if text.contains('{') {
            return Err(Wrong::because("is more than a name; what is in braces goes into `labels`"));
        }
        // OpenTelemetry writes dots, which become underscores on the way in.
        let better = text.replace(['.', '-', '/', ' '], "_");
        Err(if is_metric(&better) { Wrong::write(better) } else { Wrong::form() })
    }
}

fn is_metric(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
    text.len() <= 200
        && !text.starts_with(|first: char| first.is_ascii_digit())
        && !text.is_empty()
        && text.bytes().all(known)
}

/// Name of a label in the Prometheus text.
#[derive(Clone, Debug)]
pub(crate) struct LabelName(String);

impl Scalar for LabelName {
    const FORM: Form =
        Form { noun: "a name of a label", example: "service", pattern: "^[a-zA-Z_][a-zA-Z0-9_]*$" };

    fn parse(text: &str) -> Result<Self, Wrong> {
        if is_metric(text) && !text.contains(':') {
            return Ok(Self(text.to_owned()));
        }
        let better = text.replace(['.', '-', '/', ' ', ':'], "_");
        Err(if is_metric(&better) { Wrong::write(better) } else { Wrong::form() })
    }
}

/// Terrace's own metrics that are histograms, which have no value.
const HISTOGRAMS: [&str; 6] = [
    "terrace_request_duration_seconds",
    "terrace_failed_request_duration_seconds",
    "terrace_service_request_duration_seconds",
    "terrace_service_failed_request_duration_seconds",
    "terrace_upstream_first_byte_seconds",
    "terrace_queue_wait_seconds",
];
/// Endings of counters.
const COUNTERS: [&str; 4] = ["_total", "_count", "_sum", "_bucket"];

/// The alert called `name`.
pub(crate) fn resolve(
    name: &str,
    node: &Node,
    known: &Known<'_>,
    reader: &mut Reader<'_>,
) -> Option<Threshold> {
    let named = check_receivers(node, known, reader);
    let labelled = check_labels(node, reader);
    let table = AlertTable::read(node, reader)?;
    let measure = measure(&table, node, reader)?;
    named?;
    labelled?;
    let by = super::read::any(table.by).into_iter().map(|label| label.0).collect();
    let labels = table.labels.into_iter().map(|(name, value)| (name, value.0)).collect();
    Some(Threshold {
        name: name.to_owned(),
        query: Query {
            selector: Selector { name: table.metric.0, labels },
            measure,
            last: table.over,
            by: Some(by),
        },
        above: table.above,
        below: table.below,
        hold: table.hold,
        severity: table.severity.into(),
        notify: receivers(table.notify),
    })
}

fn check_labels(node: &Node, reader: &mut Reader<'_>) -> Option<()> {
    let mut good = Some(());
    for (name, entry) in node.get("labels").and_then(Node::table).into_iter().flatten() {
        if LabelName::parse(name).is_err() {
            good = reader.refuse(Finding::new(entry.key, format!("{name:?} is no name of a label")));
        }
    }
    good
}

fn measure(table: &AlertTable, node: &Node, reader: &mut Reader<'_>) -> Option<Measure> {
    let metric = table.metric.0.as_str();
    let is_counter = COUNTERS.iter().any(|ending| metric.ends_with(ending));
    let is_histogram = HISTOGRAMS.contains(&metric);
    let quantile = |quantile| Some(Measure::Quantile(quantile));
    match table.of {
        None if is_histogram => {
            let finding = Finding::new(
                node.origin_of("metric"),
                format!("`{metric}` is a histogram: it has no single value"),
            );
            reader.refuse(finding.help("add of = \"p99\", or another figure"))
        }
        Some(Of::Value) if is_histogram => {
            let finding =
                Finding::new(node.origin_of("of"), format!("`{metric}` is a histogram: it has no value"));
            reader.refuse(finding.help("write \"p99\", \"mean\" or \"rate\""))
        }
        Some(Of::P50 | Of::P90 | Of::P99 | Of::P999 | Of::Mean) if is_counter => {
            let finding =
                Finding::new(node.origin_of("of"), format!("`{metric}` is a counter: it has a rate only"));
            reader.refuse(finding.help("write \"rate\", or name the histogram without its ending"))
        }
        None if is_counter => Some(Measure::Rate),
        None | Some(Of::Value) => Some(Measure::Value),
        Some(Of::Rate) => Some(Measure::Rate),
        Some(Of::Mean) => Some(Measure::Mean),
        Some(Of::P50) => quantile(Quantile::P50),
        Some(Of::P90) => quantile(Quantile::P90),
        Some(Of::P99) => quantile(Quantile::P99),
        Some(Of::P999) => quantile(Quantile::P999),
    }
}
