//! The last log records of each service and of Terrace itself, to be searched and followed.
//!
//! An app's line is read for what it says of itself (level, time, trace, message) when it is JSON, and left as it is
//! otherwise. What is kept is bounded in bytes and shared fairly: the service that holds most gives way, so a loud one
//! does not push out the one sentence that a quiet one said.

mod app_line;
mod clean;
mod filter;
mod levels;
mod moment;
mod plain;
mod store;
mod telling;

use std::sync::Arc;
use std::time::SystemTime;

use terrace_instruments::{Level, TraceId};

// The public interface is:
pub use app_line::{AppLine, LINE_BYTES_MAX, TIME_OFF_MAX, read_line};
pub use clean::clean;
pub use filter::LogFilter;
pub use levels::level_of;
pub use moment::rfc3339;
pub use store::{Cursor, RecordStore};
pub use telling::telling_rank;

/// The name under which Terrace's own records are found.
pub const TERRACE: &str = "terrace";

/// The event of a line that does not name its own.
pub const APP_OUTPUT: &str = "app.output";

/// One line of a log, whoever wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct LogRecord {
    /// When.
    pub time: SystemTime,
    /// How much it matters; an app's plain line is `Info` unless its text clearly says otherwise, whichever stream it
    /// was written to.
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
    /// Whether the app said it, and not Terrace about the app.
    pub is_app: bool,
    /// Whether an app wrote it to standard error.
    pub is_stderr: bool,
    /// Whether the line was too long and the rest was left out.
    pub is_cut: bool,
}

/// Records, newest last.
pub type Records = Vec<Arc<LogRecord>>;

impl LogRecord {
    /// A record of Terrace itself with nothing but its name.
    pub fn new(time: SystemTime, level: Level, event: impl Into<String>) -> Self {
        Self {
            time,
            level,
            event: event.into(),
            service: String::new(),
            instance: String::new(),
            request_id: String::new(),
            trace: None,
            message: String::new(),
            fields: Vec::new(),
            is_app: false,
            is_stderr: false,
            is_cut: false,
        }
    }

    /// Whose it is: the service, or `terrace`.
    pub fn owner(&self) -> &str {
        if self.service.is_empty() { TERRACE } else { &self.service }
    }
}
