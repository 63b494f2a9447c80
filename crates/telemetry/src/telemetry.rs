//! The component: built from a [`Config`], spoken to through a [`Handle`].

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use terrace_instruments::{AccessSettings, Kind, Log, Meter, Timestamp};
use terrace_runtime::clock;

use crate::config::{Config, Destination};
use crate::exposition::{Exposition, Format, Rendered, labels};
use crate::output::Output;
use crate::process;
use crate::writer::{Command, LostLines, Outputs, Writer};

/// Events that may wait for the writer: some seconds of a noisy fleet, at most a few MiB.
const EVENTS_WAITING_MAX: usize = 16_384;
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
    config: Arc<Mutex<Config>>,
}

impl Telemetry {
    /// Opens the destinations and starts the writing thread. Metrics are those of `meter`.
    pub fn build(config: Config, meter: Meter) -> Result<Self, BuildError> {
        let outputs = open(&config)?;
        let (log, receiver) = Log::channel_with_clock(EVENTS_WAITING_MAX, clock::wall);
        let (commands, told) = mpsc::channel();
        let lost = Arc::new(LostLines::default());
        let writer = Writer {
            receiver,
            commands: told,
            outputs,
            lost: Arc::clone(&lost),
            stamp: Timestamp::default(),
            told: 0,
        };
        std::thread::Builder::new().name("terrace-log".to_owned()).spawn(|| writer.run())?;
        configure(&log, &config);
        let handle = Handle { log, meter, commands, lost, config: Arc::new(Mutex::new(config)) };
        Ok(Self { handle })
    }

    /// Where to emit.
    pub fn log(&self) -> Log {
        self.handle.log.clone()
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
        let mut current = match self.config.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        };
        if !same_outputs(&current, &config) {
            self.tell(Command::Use(Box::new(open(&config)?)));
        }
        configure(&self.log, &config);
        *current = config;
        Ok(())
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
        process::render(&mut out);
        out.finish()
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
    (&a.events, &a.access, a.style, a.rotation) == (&b.events, &b.access, b.style, b.rotation)
}

fn configure(log: &Log, config: &Config) {
    log.set_level(config.level);
    let on = config.access_settings.on && config.access != Destination::Off;
    log.set_access(AccessSettings { on, ..config.access_settings });
}

fn open(config: &Config) -> Result<Outputs, BuildError> {
    let events = open_one(config, &config.events)?;
    let access = match config.access == config.events {
        true => None,
        false => Some(open_one(config, &config.access)?),
    };
    Ok(Outputs { events, access })
}

fn open_one(config: &Config, destination: &Destination) -> Result<Output, BuildError> {
    let opened = Output::open(destination, config.style, config.rotation);
    opened.map_err(|source| match destination {
        Destination::File(path) => BuildError::Open { path: path.clone(), source },
        _ => BuildError::Start(source),
    })
}
