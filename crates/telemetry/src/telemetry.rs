//! The component: built from a [`Config`], spoken to through a [`Handle`].

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, SystemTime};

use terrace_instruments::{
    AccessSettings, Kind, Log, Meter, Span, Timestamp, TraceId, TraceSettings, Tracer,
};
use terrace_runtime::clock;
use terrace_runtime::drain::Drain;
use terrace_signals::alerts::{AlertView, ObjectiveView, SilenceView};
use terrace_signals::records::{LogFilter, Records};
use terrace_signals::series::{Chart, MetricName, Query};
use terrace_signals::traces::{TraceFilter, TraceSummary};
use tokio::sync::watch;

use crate::alerts::Alerts;
use crate::config::{Config, Destination, Rotation, Traces};
use crate::export::Sending;
use crate::exposition::{Exposition, Format, Rendered, labels};
use crate::history;
use crate::host::Figures;
use crate::observatory::{Instance, Observatory};
use crate::output::Output;
use crate::process;
use crate::receive::Receiving;
use crate::records::{RecordBook, RecordStream};
use crate::scrape::Scraper;
use crate::traces;
use crate::writer::{Command, LostLines, Outputs, Writer};

/// Events that may wait for the writer: some seconds of a noisy fleet, at most a few MiB.
const EVENTS_WAITING_MAX: usize = 16_384;
/// Spans of kept traces that may wait to be taken: a second of a thousand kept requests.
const SPANS_WAITING_MAX: usize = 16_384;
/// How often numbers are looked at.
const OBSERVE_EVERY: Duration = Duration::from_secs(1);
/// How long the end waits for a destination that takes nothing.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Why telemetry could not be built or changed. What ran before runs on.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The user's to put right; a retry helps once the file can be written.
    #[error("cannot write the log {path}: {source}; check its folder's permissions, or log to \"stdout\"", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system's: no standard stream, or no thread to be had.
    #[error("cannot start the log writer: {0}")]
    Start(#[from] io::Error),
}

/// Log lines that were lost, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lost {
    /// Events dropped because too many waited.
    pub events_dropped: u64,
    /// Events that the destination did not take.
    pub events_unwritten: u64,
    /// Access lines dropped because too many waited.
    pub access_dropped: u64,
    /// Access lines that the destination did not take.
    pub access_unwritten: u64,
}

/// The running telemetry. Keep it, and [`stop`](Telemetry::stop) it last, so that the last words are written.
#[derive(Debug)]
pub struct Telemetry {
    handle: Handle,
}

/// Speaks to the running telemetry. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    log: Log,
    meter: Meter,
    commands: mpsc::Sender<Command>,
    lost: Arc<LostLines>,
    config: Arc<watch::Sender<Arc<Config>>>,
    /// One change at a time.
    changing: Arc<Mutex<()>>,
    tracer: Tracer,
    observatory: Arc<Observatory>,
    book: Arc<RecordBook>,
    figures: Arc<Figures>,
}

impl Telemetry {
    /// Opens the destinations and starts the writing thread. Metrics are those of `meter`.
    pub fn build(config: Config, meter: Meter) -> Result<Self, BuildError> {
        let outputs = open(&config)?;
        let (log, receiver) = Log::channel_with_clock(EVENTS_WAITING_MAX, clock::wall);
        let (commands, told) = mpsc::channel();
        let lost = Arc::new(LostLines::default());
        let book = Arc::new(RecordBook::new(config.records_bytes_max, clock::wall()));
        let writer = Writer {
            receiver,
            commands: told,
            outputs,
            lost: Arc::clone(&lost),
            book: Arc::clone(&book),
            stamp: Timestamp::default(),
            told: (0, 0),
            told_at: None,
        };
        std::thread::Builder::new().name("terrace-log".to_owned()).spawn(|| writer.run())?;
        let (tracer, spans) = Tracer::channel(SPANS_WAITING_MAX);
        configure(&log, &tracer, &config);
        let (config, changing) = (Arc::new(watch::Sender::new(Arc::new(config))), Arc::default());
        let alerts = Alerts::new(config.subscribe(), log.clone(), meter.clone());
        let observatory = Arc::new(Observatory::new(meter.clone(), spans, alerts));
        let figures = Arc::default();
        let handle =
            Handle { log, meter, commands, lost, config, changing, tracer, observatory, book, figures };
        Ok(Self { handle })
    }

    /// Where to emit.
    pub fn log(&self) -> Log {
        self.handle.log.clone()
    }

    /// Where kept spans go.
    pub fn tracer(&self) -> Tracer {
        self.handle.tracer.clone()
    }

    /// For those who change it while it runs, or serve its metrics.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Writes what was said so far and ends the writer; gives up after two seconds when a destination takes
    /// nothing. Says whether all was written.
    pub fn stop(self) -> bool {
        self.handle.ask(Command::Stop, STOP_TIMEOUT)
    }
}

impl Handle {
    /// Opens log files anew by their names; for SIGHUP after an outside rotation. A file that was moved is noticed
    /// within a second of writing even without.
    pub fn reopen(&self) {
        self.tell(Command::Reopen);
    }

    /// Changes what goes where, without losing a line. On an error nothing has changed.
    pub fn apply(&self, config: Config) -> Result<(), BuildError> {
        let _one_at_a_time = match self.changing.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        };
        let outputs_differ = !same_outputs(&self.config.borrow(), &config);
        if outputs_differ {
            self.tell(Command::Use(Box::new(open(&config)?)));
        }
        configure(&self.log, &self.tracer, &config);
        self.book.set_bytes_max(config.records_bytes_max);
        self.config.send_replace(Arc::new(config));
        Ok(())
    }

    /// Looks at all numbers once a second, and does what follows from them, until `drain` is asked for.
    pub async fn run(self, drain: Drain) {
        let alerts = self.observatory.alerting().run(drain.clone());
        let scraper = Scraper {
            config: self.config.subscribe(),
            observatory: Arc::clone(&self.observatory),
            log: self.log.clone(),
        };
        let otlp =
            async { tokio::join!(self.sending().run(drain.clone()), self.receiving().run(drain.clone())) };
        tokio::join!(self.observe(drain.clone()), alerts, scraper.run(drain.clone()), otlp);
    }

    /// What leaves for a collector.
    fn sending(&self) -> Sending {
        Sending {
            config: self.config.subscribe(),
            meter: self.meter.clone(),
            observatory: Arc::clone(&self.observatory),
            book: Arc::clone(&self.book),
            log: self.log.clone(),
        }
    }

    /// What the app sends.
    fn receiving(&self) -> Receiving {
        Receiving {
            config: self.config.subscribe(),
            meter: self.meter.clone(),
            observatory: Arc::clone(&self.observatory),
            book: Arc::clone(&self.book),
            log: self.log.clone(),
        }
    }

    async fn observe(&self, mut drain: Drain) {
        let mut every = tokio::time::interval(OBSERVE_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = drain.requested() => return,
                _ = every.tick() => {}
            }
            let (state, instances) = (self.config().state.clone(), self.observatory.instances());
            let figures = self.figures.read(clock::now(), state, instances).await;
            self.observatory.foreign().offer(figures);
            // Beside the control plane's thread: ten thousand series are some milliseconds, and an alert that begins asks
            // a week of them what was unusual.
            let observatory = Arc::clone(&self.observatory);
            let ticked = tokio::task::spawn_blocking(move || observatory.tick(clock::now())).await;
            debug_assert!(ticked.is_ok(), "a tick does not panic");
        }
    }

    /// For components that count what they do and are handed this handle alone.
    pub fn meter(&self) -> Meter {
        self.meter.clone()
    }

    /// What is in force now.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// Says which instances of the app there are now.
    pub fn set_instances(&self, instances: Vec<Instance>) {
        self.observatory.set_instances(instances);
    }

    /// Answers a question about the past, as of the last second.
    pub fn query(&self, query: &Query) -> Chart {
        self.observatory.query(query)
    }

    /// The mean over the question's time of each of its lines, where anything is known: for what is looked at each second.
    pub fn latest(&self, query: &Query) -> Vec<(Vec<(String, String)>, f64)> {
        self.observatory.latest(query)
    }

    /// Which metrics can be asked for: ours, the machine's and the app's.
    pub fn metric_names(&self) -> Vec<MetricName> {
        self.observatory.metric_names()
    }

    /// The newest kept traces that fit.
    pub fn traces(&self, filter: &TraceFilter) -> Vec<TraceSummary> {
        self.observatory.traces(filter)
    }

    /// All spans of a trace, parents before their children.
    pub fn trace(&self, trace: TraceId) -> Option<Vec<Span>> {
        self.observatory.trace(trace)
    }

    /// Alerts that are pending, firing or were resolved not long ago; what matters most comes first.
    pub fn alerts(&self) -> Vec<AlertView> {
        self.observatory.alerting().alerts()
    }

    /// How the objectives stand.
    pub fn objectives(&self) -> Vec<ObjectiveView> {
        self.observatory.alerting().objectives()
    }

    /// Silences in force.
    pub fn silences(&self) -> Vec<SilenceView> {
        self.observatory.alerting().silences()
    }

    /// Tells nobody about `target`, an objective's or rule's name or an alert's id, for so long; answers when that is on disk,
    /// with whether it is. Where the disk takes nothing, the silence holds all the same until Terrace is started anew: a full
    /// disk is no reason to let somebody be called all night.
    ///
    /// # Errors
    /// A sentence for the user, when there is no such target or the time is out of bounds.
    pub async fn silence(
        &self,
        target: &str,
        lasts: Duration,
        comment: &str,
        by: &str,
    ) -> Result<(SilenceView, bool), String> {
        self.observatory.alerting().silence(target, lasts, (comment, by)).await
    }

    /// Ends a silence; says whether that is on disk, and nothing when there was none.
    pub async fn unsilence(&self, id: &str) -> Option<bool> {
        self.observatory.alerting().unsilence(id).await
    }

    /// Sends a test alert to one receiver, or to all: name and what came of it.
    pub async fn test_receivers(&self, name: Option<&str>) -> Vec<(String, Result<(), String>)> {
        self.observatory.alerting().test(name).await
    }

    /// The last records that are wanted, at most `last`, oldest first. What was emitted in the last moment may not be
    /// among them yet; see [`Handle::flush`]. To search all for a text may take some tens of milliseconds.
    pub fn records(&self, filter: &LogFilter, last: usize) -> Records {
        self.book.recent(filter, last)
    }

    /// Records that come from now on and are wanted.
    pub fn follow(&self, filter: LogFilter) -> RecordStream {
        self.book.follow(filter)
    }

    /// From when on memory holds all records of a service, or of all: since the start, or since the last one that had to
    /// make room.
    pub fn records_whole_since(&self, service: Option<&str>) -> SystemTime {
        self.book.whole_since(service)
    }

    /// The services that said something that is still in memory, `terrace` for Terrace itself, in order of the names.
    pub fn records_services(&self) -> Vec<String> {
        self.book.services()
    }

    /// Waits until everything emitted before is written, at most `timeout`; says whether it is.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.ask(Command::Flush, timeout)
    }

    /// Log lines lost so far.
    pub fn dropped(&self) -> Lost {
        let dropped = self.log.dropped();
        Lost {
            events_dropped: dropped.events,
            events_unwritten: self.lost.events.load(Relaxed),
            access_dropped: dropped.access,
            access_unwritten: self.lost.access.load(Relaxed),
        }
    }

    /// All metrics as text: the meter's, the process's and telemetry's own, in the format that the scraper's
    /// `Accept` field prefers.
    pub fn metrics(&self, accept: Option<&str>) -> Rendered {
        let mut out = Exposition::new(Format::negotiate(accept));
        for snapshot in self.meter.collect() {
            out.collected(&snapshot);
        }
        self.render_lost(&mut out);
        self.observatory.alerting().render(&mut out);
        history::render(&mut out, &self.observatory);
        self.observatory.scraped().render_own(&mut out);
        traces::render(&mut out, self.observatory.trace_counts());
        process::render(&mut out);
        self.figures.render(&mut out);
        out.finish()
    }

    /// The app's own metrics as text, of all instances, as they were fetched or sent last; with labels that say of which service and
    /// instance they are.
    pub fn service_metrics(&self, accept: Option<&str>) -> Rendered {
        self.observatory.scraped().render(Format::negotiate(accept), self.observatory.said())
    }

    fn render_lost(&self, out: &mut Exposition) {
        let lost = self.dropped();
        out.family(
            "terrace_log_lines_lost",
            "Log lines that were lost, by log and reason.",
            "",
            Kind::Counter,
        );
        let rows = [
            ("events", "queue-full", lost.events_dropped),
            ("events", "write-failed", lost.events_unwritten),
            ("access", "queue-full", lost.access_dropped),
            ("access", "write-failed", lost.access_unwritten),
        ];
        for (log, reason, count) in rows {
            out.counter(&labels(&["log", "reason"], &[log, reason]), count);
        }
    }

    fn ask(&self, command: impl FnOnce(mpsc::SyncSender<()>) -> Command, timeout: Duration) -> bool {
        let (answer, answered) = mpsc::sync_channel(1);
        self.tell(command(answer));
        answered.recv_timeout(timeout).is_ok()
    }

    fn tell(&self, command: Command) {
        // Fails only after the end, when there is nothing left to tell.
        let _ = self.commands.send(command);
        self.log.wake();
    }
}

fn same_outputs(a: &Config, b: &Config) -> bool {
    (&a.events, &a.access, a.style, a.rotation, a.access_rotation)
        == (&b.events, &b.access, b.style, b.rotation, b.access_rotation)
}

fn configure(log: &Log, tracer: &Tracer, config: &Config) {
    let Traces { on, sample, slow } = config.traces;
    tracer.configure(TraceSettings { on, sample, slow });
    log.set_level(config.level);
    let on = config.access_settings.on && config.access != Destination::Off;
    log.set_access(AccessSettings { on, ..config.access_settings });
}

fn open(config: &Config) -> Result<Outputs, BuildError> {
    let events = open_one(config, &config.events, config.rotation)?;
    let access = match config.access == config.events {
        true => None,
        false => Some(open_one(config, &config.access, config.access_rotation)?),
    };
    Ok(Outputs { events, access })
}

fn open_one(config: &Config, destination: &Destination, rotation: Rotation) -> Result<Output, BuildError> {
    let opened = Output::open(destination, config.style, rotation);
    opened.map_err(|source| match destination {
        Destination::File(path) => BuildError::Open { path: path.clone(), source },
        _ => BuildError::Start(source),
    })
}
