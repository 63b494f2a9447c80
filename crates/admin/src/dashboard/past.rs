//! What the pages ask about the past. Telemetry answers; a test or a picture book answers with what it likes.

use std::time::SystemTime;

use terrace_instruments::{Span, TraceId};
use terrace_signals::alerts::{AlertView, ObjectiveView};
use terrace_signals::series::{Chart, MetricName, Query};
use terrace_signals::traces::{TraceFilter, TraceSummary};

use crate::map::Map;

use super::charts::Range;

/// The questions; [`terrace_telemetry::Handle`] says more about each.
pub(super) trait Past {
    /// Numbers over time.
    fn chart(&self, query: &Query) -> Chart;
    /// The newest kept traces that fit.
    fn traces(&self, filter: &TraceFilter) -> Vec<TraceSummary>;
    /// All spans of one.
    fn trace(&self, trace: TraceId) -> Option<Vec<Span>>;
    /// Alerts, what matters most first.
    fn alerts(&self) -> Vec<AlertView>;
    /// How promises stand.
    fn objectives(&self) -> Vec<ObjectiveView>;
    /// Which metrics there are.
    fn metrics(&self) -> Vec<MetricName>;
}

impl Past for terrace_telemetry::Handle {
    fn chart(&self, query: &Query) -> Chart {
        self.query(query)
    }

    fn traces(&self, filter: &TraceFilter) -> Vec<TraceSummary> {
        self.traces(filter)
    }

    fn trace(&self, trace: TraceId) -> Option<Vec<Span>> {
        self.trace(trace)
    }

    fn alerts(&self) -> Vec<AlertView> {
        self.alerts()
    }

    fn objectives(&self) -> Vec<ObjectiveView> {
        self.objectives()
    }

    fn metrics(&self) -> Vec<MetricName> {
        self.metric_names()
    }
}

/// What a page is made of: the present, the past, the time, and how far back to look.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    /// The way of requests as it is now.
    pub(super) map: &'a Map,
    /// Who answers questions about the past.
    pub(super) past: &'a dyn Past,
    /// Wall time, for what people read.
    pub(super) now: SystemTime,
    /// How far back charts reach.
    pub(super) range: Range,
}

impl View<'_> {
    /// How long ago `time` was, in words; what lies ahead was just now, for clocks differ a little.
    pub(super) fn ago(&self, time: SystemTime) -> String {
        let seconds = match self.now.duration_since(time) {
            Ok(past) => past.as_secs(),
            Err(_) => 0,
        };
        match seconds {
            0 => "just now".to_owned(),
            1..=119 => format!("{seconds}\u{202f}s ago"),
            120..=7_199 => format!("{}\u{202f}min ago", seconds / 60),
            7_200..=172_799 => format!("{}\u{202f}h ago", seconds / 3_600),
            _ => format!("{} days ago", seconds / 86_400),
        }
    }
}
