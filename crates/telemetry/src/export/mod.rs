//! Signals that leave: kept spans, and if wanted all metrics each minute and all log records, as OTLP to a collector.
//!
//! Each signal has a lane of its own, so that a collector that chokes on one still gets the others. What waits is bounded
//! in number and bytes; what finds no room is dropped and counted. A batch is tried again while the collector says that a
//! retry may help, or says nothing, and given up after a minute: what is new is worth more than what is old. Nobody on a
//! request's way waits for any of this, or learns of it; `terrace_export_items_total` tells.

mod attempt;
mod lane;
mod logs;
mod metrics;
mod queue;
mod retry;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use terrace_instruments::{Counter, Family, Kind, Log, Meter, Span};
use terrace_otlp::Signal;
use terrace_runtime::clock;
use terrace_runtime::drain::Drain;
use terrace_signals::records::{LogFilter, LogRecord};
use tokio::sync::{Notify, watch};

use crate::config::Config;
use crate::observatory::Observatory;
use crate::records::{Followed, RecordBook, RecordStream};
use lane::Lane;
use queue::SpanQueue;
use terrace_fetch::Client;

/// Ours, as the scope of all that is sent says it.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Items of one request.
const BATCH_MAX: usize = 512;
/// How often all metrics are sent.
const METRICS_EVERY: Duration = Duration::from_secs(60);
/// Log records from before the start of sending that are sent too.
const EARLIER_MAX: usize = 4_096;
/// How long the end waits for a collector to take what waits.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// How long log records gather to be sent together.
const GATHER_TIME: Duration = Duration::from_secs(1);

static ITEMS: Family = Family {
    name: "terrace_export_items_total",
    help: "Spans, data points and log records for the collector, by what became of them: sent, refused by it, given up after retries, dropped because too many waited.",
    unit: "",
    labels: &["signal", "outcome"],
    kind: Kind::Counter,
};

/// What became of the items of one signal.
#[derive(Debug, Clone)]
pub(crate) struct Counts {
    pub(crate) sent: Counter,
    pub(crate) refused: Counter,
    pub(crate) given_up: Counter,
    pub(crate) dropped: Counter,
}

impl Counts {
    fn new(meter: &Meter, signal: Signal) -> Self {
        let counter = |outcome| meter.counter(&ITEMS, &[signal.as_str(), outcome]);
        Self {
            sent: counter("sent"),
            refused: counter("refused"),
            given_up: counter("given-up"),
            dropped: counter("dropped"),
        }
    }
}

/// Where spans wait to be sent.
#[derive(Debug)]
pub(crate) struct Exporter {
    spans: Mutex<SpanQueue>,
    came: Notify,
    counts: Counts,
}

impl Exporter {
    pub(crate) fn new(meter: &Meter) -> Self {
        let counts = Counts::new(meter, Signal::Traces);
        Self { spans: Mutex::new(SpanQueue::new()), came: Notify::new(), counts }
    }

    /// Whether anybody wants spans.
    pub(crate) fn is_on(&self) -> bool {
        self.spans().is_on()
    }

    /// Lets spans wait to be sent, if they are wanted; what finds no room is dropped and counted. Never blocks.
    pub(crate) fn offer(&self, spans: &[Span]) {
        let dropped = self.spans().push(spans);
        self.counts.dropped.add(dropped);
        if !spans.is_empty() {
            self.came.notify_one();
        }
    }

    fn spans(&self) -> MutexGuard<'_, SpanQueue> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends what is wanted where the configuration says, as it says at the time.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) config: watch::Receiver<Arc<Config>>,
    pub(crate) meter: Meter,
    pub(crate) observatory: Arc<Observatory>,
    pub(crate) book: Arc<RecordBook>,
    pub(crate) log: Log,
}

impl Sending {
    /// Until `drain` is asked for; then once more what waits, for at most two seconds.
    pub(crate) async fn run(self, drain: Drain) {
        let client = Client::new();
        let lane = |signal| Lane::new(signal, client.clone(), &self, drain.clone());
        let (mut traces, mut metrics, mut logs) =
            (lane(Signal::Traces), lane(Signal::Metrics), lane(Signal::Logs));
        tokio::join!(
            send_spans(&self.observatory, &mut traces, drain.clone()),
            send_metrics(&self.meter, &mut metrics, drain.clone()),
            send_logs(&self.book, &mut logs, drain.clone()),
        );
    }
}

fn wants(config: &watch::Receiver<Arc<Config>>, signal: Signal) -> bool {
    let config = config.borrow();
    config.export.as_ref().is_some_and(|export| match signal {
        Signal::Traces => export.traces,
        Signal::Metrics => export.metrics,
        Signal::Logs => export.logs,
    })
}

async fn send_spans(observatory: &Observatory, lane: &mut Lane, mut drain: Drain) {
    let (exporter, mut config) = (observatory.exporter(), lane.config());
    while !drain.is_requested() {
        exporter.spans().set_on(wants(&config, Signal::Traces));
        if send_waiting(exporter, lane).await {
            continue;
        }
        tokio::select! {
            () = drain.requested() => break,
            () = exporter.came.notified() => {}
            changed = config.changed() => if changed.is_err() { break },
        }
    }
    // What was kept since the last look.
    observatory.keep_spans(clock::now());
    lane.end(async |lane| while send_waiting(exporter, lane).await {}).await;
}

/// Says whether anything waited.
async fn send_waiting(exporter: &Exporter, lane: &mut Lane) -> bool {
    let batch = exporter.spans().take(BATCH_MAX);
    if !batch.is_empty() {
        let write = |about: &[(&str, &str)]| terrace_otlp::write_traces(&batch, VERSION, about);
        lane.send(batch.len() as u64, write).await;
    }
    !batch.is_empty()
}

async fn send_metrics(meter: &Meter, lane: &mut Lane, mut drain: Drain) {
    let config = lane.config();
    let began = clock::wall();
    let mut every = tokio::time::interval(METRICS_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        let is_end = tokio::select! {
            () = drain.requested() => true,
            _ = every.tick() => false,
        };
        if wants(&config, Signal::Metrics) {
            let metrics = metrics::collected(&meter.collect(), began, clock::wall());
            for batch in metrics.chunks(BATCH_MAX) {
                let points = batch.iter().map(metrics::points).sum();
                let write = |about: &[(&str, &str)]| terrace_otlp::write_metrics(batch, VERSION, about);
                match is_end {
                    true => lane.end(async |lane| lane.send(points, write).await).await,
                    false => lane.send(points, write).await,
                }
            }
        }
        if is_end {
            return;
        }
    }
}

async fn send_logs(book: &Arc<RecordBook>, lane: &mut Lane, mut drain: Drain) {
    let mut config = lane.config();
    // The first words of all were said before anybody listened.
    let mut earlier_max = EARLIER_MAX;
    while !drain.is_requested() {
        if !wants(&config, Signal::Logs) {
            earlier_max = 0;
            tokio::select! {
                () = drain.requested() => return,
                changed = config.changed() => if changed.is_err() { return },
            }
            continue;
        }
        let stream = book.follow(LogFilter::default());
        for earlier in stream.recent(std::mem::take(&mut earlier_max)).chunks(BATCH_MAX) {
            send_records(earlier, lane).await;
        }
        send_followed(stream, lane, &mut config, drain.clone()).await;
    }
}

/// Until logs are not wanted any more, or the end.
async fn send_followed(
    mut stream: RecordStream,
    lane: &mut Lane,
    config: &mut watch::Receiver<Arc<Config>>,
    mut drain: Drain,
) {
    while wants(config, Signal::Logs) {
        let mut batch = Vec::new();
        let is_end = tokio::select! {
            () = drain.requested() => true,
            changed = config.changed() => changed.is_err(),
            () = gather(&mut stream, lane, &mut batch) => false,
        };
        if is_end {
            return lane.end(async |lane| send_records(&batch, lane).await).await;
        }
        send_records(&batch, lane).await;
    }
}

async fn send_records(records: &[Arc<LogRecord>], lane: &mut Lane) {
    if records.is_empty() {
        return;
    }
    let records: Vec<terrace_otlp::LogRecord> = records.iter().map(|record| logs::record(record)).collect();
    let write = |about: &[(&str, &str)]| terrace_otlp::write_logs(&records, VERSION, about);
    lane.send(records.len() as u64, write).await;
}

/// Fills a batch, for a second from its first record on.
async fn gather(stream: &mut RecordStream, lane: &Lane, batch: &mut Vec<Arc<LogRecord>>) {
    let mut until = None;
    while batch.len() < BATCH_MAX {
        let next = stream.next();
        let followed = match until {
            None => next.await,
            Some(until) => match tokio::time::timeout_at(until, next).await {
                Ok(followed) => followed,
                Err(_elapsed) => return,
            },
        };
        until.get_or_insert_with(|| clock::instant(clock::now() + GATHER_TIME));
        match followed {
            Followed::Record(record) => batch.push(record),
            Followed::Missed(missed) => lane.dropped(missed),
        }
    }
}
