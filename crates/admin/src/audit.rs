//! Who changed what, when, and how it ended: an event, and a line in `audit.log` of the state folder.
//!
//! The file is for the question asked weeks later. It is only ever appended to, readable by its owner alone, and bounded:
//! at 1 MiB it is set aside, and three older ones are kept.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use terrace_instruments::{Counter, Event, Family, Kind, Level, Log, Meter, Timestamp};
use terrace_runtime::clock;

use crate::control::ControlError;
use crate::gate::Caller;

const BYTES_MAX: u64 = 1 << 20;
const FILES_KEPT_MAX: u32 = 3;
/// Refusals of which a minute tells; the others are counted.
const REFUSALS_TOLD_PER_MINUTE_MAX: u32 = 10;

static REFUSED: Family = Family {
    name: "terrace_admin_refused",
    help: "Requests at the admin API and the dashboard, logins included, that were not let in.",
    unit: "",
    labels: &[],
    kind: Kind::Counter,
};

/// Writes the audit log. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Audit {
    log: Log,
    path: Arc<Mutex<PathBuf>>,
    refused: Counter,
    telling: Arc<Mutex<Telling>>,
}

/// Bounds what is told of refusals: whoever guesses tokens must not wash the log away.
#[derive(Debug, Default)]
struct Telling {
    minute: u64,
    told: u32,
    /// Since the last that was told.
    untold: u64,
}

impl Telling {
    /// Whether one more is told, and how many before it were not.
    fn may(&mut self, now: Duration) -> Option<u64> {
        let minute = now.as_secs() / 60;
        if minute != self.minute {
            (self.minute, self.told) = (minute, 0);
        }
        if self.told >= REFUSALS_TOLD_PER_MINUTE_MAX {
            self.untold += 1;
            return None;
        }
        self.told += 1;
        Some(std::mem::take(&mut self.untold))
    }
}

/// A change that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) caller: Caller,
    /// `reload`, `scale` …
    pub(crate) action: &'static str,
    pub(crate) service: Option<String>,
    pub(crate) instances: Option<u32>,
    /// What else it was about: an instance, a silence, a receiver.
    pub(crate) target: Option<String>,
}

impl Change {
    /// A change that is about all of Terrace.
    pub(crate) fn new(caller: Caller, action: &'static str) -> Self {
        Self { caller, action, service: None, instances: None, target: None }
    }

    /// The service it is about.
    pub(crate) fn service(mut self, name: impl Into<String>) -> Self {
        self.service = Some(name.into());
        self
    }

    /// The number of instances asked for.
    pub(crate) fn instances(mut self, instances: u32) -> Self {
        self.instances = Some(instances);
        self
    }

    /// What else it is about.
    pub(crate) fn target(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into());
        self
    }
}

impl Audit {
    pub(crate) fn new(log: Log, meter: &Meter, state: &Path) -> Self {
        let path = Arc::new(Mutex::new(state.join("audit.log")));
        Self { log, path, refused: meter.counter(&REFUSED, &[]), telling: Arc::default() }
    }

    /// Notes how a change ended. A file that cannot be written is told of in the log; the change has happened by then.
    pub(crate) async fn note(&self, change: &Change, outcome: Result<(), &ControlError>) {
        self.log.emit(event(change, outcome));
        let line = format!("{}\n", entry(change, outcome));
        let path = Arc::clone(&self.path);
        let written = tokio::task::spawn_blocking(move || append(&path, line.as_bytes())).await;
        let problem = match written {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the runtime is ending".to_owned(),
        };
        self.log.emit(Event::new(Level::Error, "admin.audit.unwritten").field("problem", problem));
    }

    /// The last changes, newest first, at most `last`: from the file and, when that is short, from the one set aside
    /// before it. Lines that are no JSON (a crash cut one off) are left out.
    pub(crate) async fn last(&self, last: usize) -> io::Result<Vec<Value>> {
        let path = Arc::clone(&self.path);
        let read = tokio::task::spawn_blocking(move || read_last(&path, last)).await;
        read.unwrap_or_else(|_| Err(io::Error::other("the runtime is ending")))
    }

    /// Tells that a face opened, but cannot be served.
    pub(crate) fn unserved(&self, error: &io::Error) {
        self.log.emit(Event::new(Level::Error, "admin.unserved").field("problem", error.to_string()));
    }

    /// Tells of somebody who was not let in, of a few a minute. No line in the file: a stranger could fill it.
    pub(crate) fn refused(&self, caller: Caller, problem: &ControlError) {
        self.refused.inc();
        let told = self.telling.lock().unwrap_or_else(PoisonError::into_inner).may(clock::now());
        let Some(untold) = told else { return };
        let mut event = Event::new(Level::Warn, "admin.refused").field("who", who(caller));
        event = event.field("status", problem.status).field("detail", problem.detail.as_str());
        if untold > 0 {
            event = event.field("untold_before", untold);
        }
        self.log.emit(event);
    }
}

/// Whoever asked, in words.
pub(crate) fn who(caller: Caller) -> String {
    match caller {
        Caller::Peer { uid, pid: Some(pid) } => format!("uid {uid}, pid {pid}"),
        Caller::Peer { uid, pid: None } => format!("uid {uid}"),
        Caller::Tcp { from } => format!("a stranger, from {from}"),
        Caller::Token { from, role } => format!("{} token, from {from}", role.as_str()),
        Caller::Dashboard { from, role } => format!("dashboard {}, from {from}", role.as_str()),
    }
}

fn event(change: &Change, outcome: Result<(), &ControlError>) -> Event {
    let level = if outcome.is_ok() { Level::Info } else { Level::Warn };
    let mut event =
        Event::new(level, "admin.change").field("who", who(change.caller)).field("action", change.action);
    if let Some(service) = &change.service {
        event = event.service(service.as_str());
    }
    if let Some(instances) = change.instances {
        event = event.field("instances", instances);
    }
    if let Some(target) = &change.target {
        event = event.field("target", target.as_str());
    }
    match outcome {
        Ok(()) => event.field("outcome", "done"),
        Err(error) => event
            .field("outcome", "refused")
            .field("status", error.status)
            .field("detail", error.detail.as_str()),
    }
}

fn entry(change: &Change, outcome: Result<(), &ControlError>) -> Value {
    let who = match change.caller {
        Caller::Peer { uid, pid } => json!({ "uid": uid, "pid": pid }),
        Caller::Tcp { from } => json!({ "from": from.to_string() }),
        Caller::Token { from, role } => {
            json!({ "token": true, "role": role.as_str(), "from": from.to_string() })
        }
        Caller::Dashboard { from, role } => {
            json!({ "dashboard": true, "role": role.as_str(), "from": from.to_string() })
        }
    };
    let mut entry = json!({
        "time": Timestamp::default().format(clock::wall()),
        "who": who,
        "action": change.action,
        "outcome": if outcome.is_ok() { "done" } else { "refused" },
    });
    if let Some(service) = &change.service {
        entry["service"] = json!(service);
    }
    if let Some(instances) = change.instances {
        entry["instances"] = json!(instances);
    }
    if let Some(target) = &change.target {
        entry["target"] = json!(target);
    }
    if let Err(error) = outcome {
        entry["status"] = json!(error.status);
        entry["detail"] = json!(error.detail);
    }
    entry
}

/// Appends under the lock, so that two changes at once neither mix their lines nor rotate twice.
fn append(path: &Mutex<PathBuf>, line: &[u8]) -> io::Result<()> {
    let path = match path.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    };
    rotate(&path)?;
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&*path)?;
    file.write_all(line)
}

fn read_last(path: &Mutex<PathBuf>, last: usize) -> io::Result<Vec<Value>> {
    let path = match path.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    };
    let mut entries = Vec::new();
    for file in [path.clone(), path.with_extension("log.1")] {
        let text = match fs::read_to_string(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            read => read?,
        };
        let parsed = text.lines().rev().filter_map(|line| serde_json::from_str(line).ok());
        entries.extend(parsed.take(last - entries.len()));
    }
    Ok(entries)
}

fn rotate(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() >= BYTES_MAX => {}
        _ => return Ok(()),
    }
    let older = |number: u32| path.with_extension(format!("log.{number}"));
    for number in (1..FILES_KEPT_MAX).rev() {
        match fs::rename(older(number), older(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, older(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_flood_of_refusals_a_few_a_minute_are_told_and_how_many_were_not() {
        let mut telling = Telling::default();
        let mut told = |second: u64, times: u32| -> Vec<u64> {
            (0..times).filter_map(|_| telling.may(Duration::from_secs(second))).collect()
        };
        assert_eq!(told(600, 1_000), [0; 10]);
        assert!(told(659, 5).is_empty());
        assert_eq!(told(660, 2), [995, 0]);
    }

    #[test]
    fn a_large_audit_log_is_set_aside_and_only_three_are_kept() {
        let folder = std::env::temp_dir().join(format!("terrace-audit-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = Mutex::new(folder.join("audit.log"));
        let filler = vec![b'x'; BYTES_MAX as usize];
        (0..6).for_each(|_| append(&path, &filler).unwrap());
        let mut names: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(names, ["audit.log", "audit.log.1", "audit.log.2", "audit.log.3"]);
    }
}
