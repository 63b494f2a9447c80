//! The last log records of each service and of Terrace itself, to be searched and followed.

use std::sync::Arc;
use std::time::SystemTime;

use terrace_instruments::{Level, TraceId};

/// One line of a log, whoever wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct LogRecord {
    /// When.
    pub time: SystemTime,
    /// How much it matters; an app's plain line on stdout is `Info`, on stderr `Warn` only when its text says so.
    pub level: Level,
    /// Such as `fleet.instance.ready`; `app.output` for what an app printed; an app's own name for it when its line was JSON.
    pub event: String,
    /// The service; empty for Terrace itself.
    pub service: String,
    /// The instance, where there is one.
    pub instance: String,
    /// The request, where there is one.
    pub request_id: String,
    /// The trace, where there is one.
    pub trace: Option<TraceId>,
    /// The text for people.
    pub message: String,
    /// All else: name and value as JSON text.
    pub fields: Vec<(String, String)>,
    /// Whether an app wrote it to standard error.
    pub is_stderr: bool,
    /// Whether the line was too long and the rest was left out.
    pub is_cut: bool,
}

/// Which records are wanted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogFilter {
    /// Of this service; `terrace` for Terrace itself.
    pub service: Option<String>,
    /// Of this instance.
    pub instance: Option<String>,
    /// This level and above.
    pub level_min: Option<Level>,
    /// Of this trace.
    pub trace: Option<TraceId>,
    /// With this text in message or fields, whatever its case.
    pub text: Option<String>,
    /// Not before.
    pub since: Option<SystemTime>,
    /// Not after.
    pub until: Option<SystemTime>,
}

impl LogFilter {
    /// Whether a record is wanted.
    pub fn wants(&self, _record: &LogRecord) -> bool {
        true
    }
}

/// Records, newest last.
pub type Records = Vec<Arc<LogRecord>>;
