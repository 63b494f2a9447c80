//! What can be asked of a running Terrace. The binary implements it; here it is only spoken to.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use terrace_auth::NewKey;

use crate::map::{Fault, Map};

/// What a command comes to, in its own time.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, ControlError>> + Send + 'a>>;

/// The behaviour behind the API. Answers are JSON objects, shown to people and scripts as they are, so that no secret
/// may be in them.
pub trait Control: Send + Sync + 'static {
    /// What runs, and how it is.
    fn status(&self) -> Answer<'_, Value>;
    /// The configuration in force, all defaults resolved, secrets redacted.
    fn config(&self) -> Answer<'_, Value>;
    /// Reads the file anew and puts it in force, whole or not at all. With `wait`: answers once the roll-out of what that
    /// changed is done, and fails when that does not come to a good end within that time; the file is in force all the same.
    fn reload(&self, wait: Option<Duration>) -> Answer<'_, Value>;
    /// Runs this many instances of a service until its key changes in the file.
    fn scale(&self, service: String, instances: u32) -> Answer<'_, Value>;
    /// Replaces a service's instances one by one.
    fn restart(&self, service: String) -> Answer<'_, Value>;
    /// The way of requests with its figures, at most a second old; shared by all who look.
    fn map(&self) -> Answer<'_, Arc<Map>>;
    /// Takes an instance or host out of rotation, or lets it in again, until it is replaced or Terrace is started anew.
    fn drain(&self, service: String, instance: String, is_out: bool) -> Answer<'_, Value>;
    /// What goes wrong on purpose now, by route.
    fn faults(&self) -> Answer<'_, Vec<Fault>>;
    /// Lets something go wrong on purpose for a while.
    fn begin_fault(&self, wanted: FaultWanted) -> Answer<'_, Fault>;
    /// Ends the fault with that id, or all that operators began on the route of that name; what they were.
    fn end_faults(&self, which: String) -> Answer<'_, Vec<Fault>>;
    /// The API keys that there are, without their secrets.
    fn keys(&self) -> Answer<'_, Value>;
    /// Makes an API key that opens doors from then on. The answer holds its text, which is never had again.
    fn create_key(&self, new: NewKey) -> Answer<'_, Value>;
    /// Takes an API key away for good.
    fn revoke_key(&self, id: String) -> Answer<'_, Value>;
    /// Ends Terrace gracefully; answers when that has begun.
    fn stop(&self) -> Answer<'_, Value>;
    /// Why Terrace is not ready to serve, a sentence each; empty when it is.
    fn not_ready(&self) -> Vec<String>;
}

/// Something that shall go wrong on purpose.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultWanted {
    /// The route whose requests it falls on.
    pub route: String,
    /// How long they wait.
    pub delay: Option<Duration>,
    /// The status that they are answered with.
    pub abort: Option<u16>,
    /// For how many of them: above 0, at most 1.
    pub share: f64,
    /// What they must carry: names and values.
    pub headers: Vec<(String, String)>,
    /// After how long it ends by itself.
    pub lasts: Duration,
}

/// As the audit log has it: `orders: delay 0.5s, abort 503, share 0.1, with x-test: 1, for 300s`.
impl fmt::Display for FaultWanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.route)?;
        if let Some(delay) = self.delay {
            write!(f, " delay {}s,", delay.as_secs_f64())?;
        }
        if let Some(status) = self.abort {
            write!(f, " abort {status},")?;
        }
        write!(f, " share {},", self.share)?;
        for (name, value) in &self.headers {
            write!(f, " with {name}: {value},")?;
        }
        write!(f, " for {}s", self.lasts.as_secs_f64())
    }
}

/// Why a command was not carried out, told as RFC 9457 asks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{title}: {detail}")]
pub struct ControlError {
    /// HTTP status: 4xx when the caller is at fault, 5xx when Terrace or the machine is.
    pub status: u16,
    /// What kind of problem, the same for each occurrence.
    pub title: String,
    /// What happened this time, and what to do about it.
    pub detail: String,
    /// Whether asking again unchanged does no harm and may help.
    pub retry_safe: bool,
}

impl ControlError {
    /// There is no such thing (404).
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(404, "Not found", detail, false)
    }

    /// What was asked makes no sense (422), such as a file with errors.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(422, "Not acceptable as it is", detail, false)
    }

    /// Something else is going on (409).
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(409, "Not possible now", detail, true)
    }

    /// Terrace or the machine is at fault (500).
    pub fn failed(detail: impl Into<String>) -> Self {
        Self::new(500, "Failed", detail, false)
    }

    pub(crate) fn new(status: u16, title: &str, detail: impl Into<String>, retry_safe: bool) -> Self {
        Self { status, title: title.to_owned(), detail: detail.into(), retry_safe }
    }
}
