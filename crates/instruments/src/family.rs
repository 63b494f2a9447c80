//! What a metric is called and what it means: one constant beside the code that counts.

/// What the numbers of a family do over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution of durations.
    Histogram,
}

/// A metric family: a name, its meaning and its label names. Always a `static`.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Name in Prometheus form, such as `terrace_requests` or `terrace_request_duration_seconds`. A trailing
    /// `_total` of a counter and a missing unit suffix are put right by the exposition.
    pub name: &'static str,
    /// One sentence for a person.
    pub help: &'static str,
    /// `""`, or a base unit: `"seconds"`, `"bytes"`. Histograms record durations and are in seconds.
    pub unit: &'static str,
    /// Label names, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// What the numbers do.
    pub kind: Kind,
}

impl Family {
    /// The name without `_total`, under which a family is one and the same.
    pub(crate) fn base(&self) -> &'static str {
        match self.name.strip_suffix("_total") {
            Some(base) if self.kind == Kind::Counter => base,
            _ => self.name,
        }
    }

    /// Whether both describe the same numbers; the help text may differ.
    pub(crate) fn same_shape(&self, other: &Family) -> bool {
        self.kind == other.kind && self.labels == other.labels && self.unit == other.unit
    }
}
