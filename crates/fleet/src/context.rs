//! What every part of the fleet shares, and how each says what happened.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use terrace_instruments::{Event, Level, Log, Meter};
use tokio::sync::watch;

use crate::ledger::Ledger;
use crate::ports::Ports;
use crate::rotation::Rotation;
use crate::shim::protocol::OutputLine;

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
    pub(crate) log: Log,
    pub(crate) meter: Meter,
    /// Counts up whenever a status may have changed.
    pub(crate) changes: watch::Sender<u64>,
}

impl Context {
    /// Hands on a line that an instance printed. How much it matters is known when it has been read.
    pub(crate) fn output(&self, service: &str, instance: &str, line: OutputLine) {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(line.at_ms);
        let event = Event { time, ..Event::new(Level::Info, "app.output") };
        let event = event.service(service).instance(instance).field("stream", line.stream.as_str());
        let event = event.message(line.text);
        self.log.relay(if line.cut { event.field("cut", true) } else { event });
    }
}
