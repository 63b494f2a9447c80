//! What every part of the fleet shares, and how each says what happened.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use terrace_instruments::{Event, Log, Meter};
use tokio::sync::watch;

use crate::ledger::Ledger;
use crate::logs::{LogBook, LogLine};
use crate::ports::Ports;
use crate::rotation::Rotation;

/// Shared by all services of a fleet.
pub(crate) struct Context {
    pub(crate) shim_command: Vec<String>,
    /// Where shims keep their files.
    pub(crate) instances: PathBuf,
    pub(crate) adopt_within: Duration,
    pub(crate) release_within: Duration,
    /// What apps inherit.
    pub(crate) inherited: Vec<(String, String)>,
    pub(crate) rotation: Arc<dyn Rotation>,
    pub(crate) ports: Ports,
    pub(crate) ledger: Ledger,
    pub(crate) logs: LogBook,
    pub(crate) log: Log,
    pub(crate) meter: Meter,
    /// Counts up whenever a status may have changed.
    pub(crate) changes: watch::Sender<u64>,
}

impl Context {
    /// Keeps a line of output, and makes it an event.
    pub(crate) fn output(&self, line: LogLine) {
        let level = terrace_instruments::Level::Info;
        let event = Event::new(level, "app.output").service(&line.service).instance(&line.instance);
        let event = event.field("stream", line.stream.as_str()).field("line", &line.text);
        self.log.emit(if line.cut { event.field("cut", true) } else { event });
        self.logs.push(line);
    }
}
