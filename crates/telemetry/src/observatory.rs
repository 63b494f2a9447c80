//! What is known of the past, kept up to date: each second all numbers are read once, and everything that follows from
//! them, charts, objectives, alerts, follows from that one reading.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use terrace_instruments::{Meter, Span, SpanReceiver, TraceId};
use terrace_signals::series::{Chart, MetricName, Query, SeriesBounds, SeriesStore, SeriesUsage};
use terrace_signals::traces::{TraceBounds, TraceCounts, TraceFilter, TraceStore, TraceSummary};

use crate::alerts::Alerts;
use crate::derived;
use crate::export::Exporter;
use crate::foreign::Foreign;
use crate::receive::Said;
use crate::scrape::Kept;

/// One instance of the app, as far as telemetry is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The service.
    pub service: Arc<str>,
    /// Such as `orders-1`.
    pub name: Arc<str>,
    /// Its first process: the leader of its process group.
    pub pid: Option<i32>,
    /// Where it takes requests.
    pub address: Option<SocketAddr>,
}

/// All that is known of the past.
#[derive(Debug)]
pub(crate) struct Observatory {
    meter: Meter,
    spans: SpanReceiver,
    series: Mutex<SeriesStore>,
    traces: Mutex<TraceStore>,
    instances: Mutex<Vec<Instance>>,
    alerts: Alerts,
    foreign: Foreign,
    scraped: Kept,
    said: Said,
    exporter: Exporter,
}

impl Observatory {
    pub(crate) fn new(meter: Meter, spans: SpanReceiver, alerts: Alerts) -> Self {
        Self {
            exporter: Exporter::new(&meter),
            meter,
            spans,
            series: Mutex::new(SeriesStore::new(SeriesBounds::default())),
            traces: Mutex::new(TraceStore::new(TraceBounds::default())),
            instances: Mutex::default(),
            alerts,
            foreign: Foreign::default(),
            scraped: Kept::default(),
            said: Said::default(),
        }
    }

    /// Where numbers from elsewhere are put; they are part of the next reading.
    pub(crate) fn foreign(&self) -> &Foreign {
        &self.foreign
    }

    /// What the app's instances said of themselves.
    pub(crate) fn scraped(&self) -> &Kept {
        &self.scraped
    }

    /// What they sent of themselves.
    pub(crate) fn said(&self) -> &Said {
        &self.said
    }

    /// Which metrics there are.
    pub(crate) fn metric_names(&self) -> Vec<MetricName> {
        let mut names = lock(&self.series).names();
        for name in names.iter_mut().filter(|name| name.help.is_empty()) {
            name.help = crate::host::help(&name.name).into();
        }
        names
    }

    /// What is not as it usually is at this time of day.
    fn unusual(&self) -> Vec<String> {
        lock(&self.series).anomalies().into_iter().map(|anomaly| anomaly.note).collect()
    }

    /// How full the rings are.
    pub(crate) fn series_usage(&self) -> SeriesUsage {
        lock(&self.series).usage()
    }

    /// Spans dropped because nobody took them in time.
    pub(crate) fn spans_dropped(&self) -> u64 {
        self.spans.dropped()
    }

    /// The instances of the app.
    pub(crate) fn instances(&self) -> Vec<Instance> {
        lock(&self.instances).clone()
    }

    /// Reads everything once.
    pub(crate) fn tick(&self, now: Duration) {
        let mut own = self.meter.collect();
        self.meter.forget_unheld();
        own.extend(derived::outside(&own));
        let foreign = self.foreign.take();
        own.sort_by_key(derived::is_judged_alone);
        let remembered = own.partition_point(|snapshot| !derived::is_judged_alone(snapshot));
        lock(&self.series).record(now, &own[..remembered], &foreign);
        self.keep_spans(now);
        let ask = |query: &Query| lock(&self.series).query_whole(query);
        self.alerts.tick(now, &own, &ask, &|| self.unusual());
    }

    /// What was kept is there to be looked at, and leaves with what the app said of the same traces.
    pub(crate) fn keep_spans(&self, now: Duration) {
        let kept = self.spans.take();
        let is_wanted = self.exporter.is_on();
        let mut leaving = if is_wanted { kept.all_spans() } else { Vec::new() };
        let mut traces = lock(&self.traces);
        traces.keep(now, kept.spans);
        traces.keep_hops(now, kept.hops);
        leaving.extend(traces.take_joined(is_wanted));
        drop(traces);
        self.exporter.offer(&leaving);
    }

    /// Takes spans that the app sent.
    pub(crate) fn offer_spans(&self, now: Duration, spans: Vec<Span>) {
        lock(&self.traces).offer(now, spans);
    }

    /// Where spans wait to be sent on.
    pub(crate) fn exporter(&self) -> &Exporter {
        &self.exporter
    }

    /// What the store of traces holds and has lost.
    pub(crate) fn trace_counts(&self) -> TraceCounts {
        lock(&self.traces).counts()
    }

    pub(crate) fn set_instances(&self, instances: Vec<Instance>) {
        *lock(&self.instances) = instances;
    }

    pub(crate) fn latest(&self, query: &Query) -> Vec<(Vec<(String, String)>, f64)> {
        lock(&self.series).latest(query)
    }

    pub(crate) fn query(&self, query: &Query) -> Chart {
        lock(&self.series).query(query)
    }

    pub(crate) fn trace(&self, trace: TraceId) -> Option<Vec<Span>> {
        lock(&self.traces).get(trace)
    }

    /// Objectives, alerts, silences and receivers.
    pub(crate) fn alerting(&self) -> Alerts {
        self.alerts.clone()
    }

    pub(crate) fn traces(&self, filter: &TraceFilter) -> Vec<TraceSummary> {
        lock(&self.traces).recent(filter)
    }
}

/// A panic of one reader leaves nothing half-done that matters.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
