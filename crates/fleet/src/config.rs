//! What the fleet is told: the services to run and how. Plain values, already resolved by whoever read the file:
//! env-files are read, secrets are loaded, the neighbours' addresses are in. Nothing here knows TOML.

use std::ffi::OsString;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use terrace_policy::{Backoff, RestartLaw};

/// Instances that one service may have at most.
pub const INSTANCES_MAX: u32 = 1_000;

/// What the fleet itself needs to know.
#[derive(Clone)]
pub struct Config {
    /// The state folder, absolute. Shims, the numbers set by `scale` and the releases done are kept in it.
    pub state: PathBuf,
    /// The command that ends in [`shim_main`](crate::shim_main). On Linux `/proc/self/exe` as its first word starts
    /// the very program that runs, also after its file was replaced.
    pub shim_command: Vec<String>,
    /// How long a shim whose Terrace died waits for a successor before it ends its app.
    pub adopt_within: Duration,
    /// The bound on requests and streams in flight when everything stops.
    pub drain: Duration,
    /// How long a release command may run.
    pub release_within: Duration,
    /// What apps inherit beside their own variables. `TERRACE_*` and what a service manager meant for Terrace alone
    /// is left out, and so are names and values that are not UTF-8.
    pub environment: Vec<(OsString, OsString)>,
}

impl Config {
    /// The usual: ten seconds for a successor, 30 s of drain, 15 minutes for a release, this process's environment.
    #[must_use]
    pub fn new(state: PathBuf, shim_command: Vec<String>) -> Self {
        Self {
            state,
            shim_command,
            adopt_within: Duration::from_secs(10),
            drain: Duration::from_secs(30),
            release_within: Duration::from_secs(15 * 60),
            environment: std::env::vars_os().collect(),
        }
    }
}

/// Shows no environment: it may hold secrets.
impl fmt::Debug for Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Config")
            .field("state", &self.state)
            .field("shim_command", &self.shim_command)
            .field("adopt_within", &self.adopt_within)
            .field("drain", &self.drain)
            .field("release_within", &self.release_within)
            .finish_non_exhaustive()
    }
}

/// One service that the fleet runs.
#[derive(Clone, Debug)]
pub struct ServiceConfig {
    /// Unique; `[a-z][a-z0-9-]*`. Instances are called after it: `orders-1`, `orders-2` …
    pub name: String,
    /// The program and its arguments, without a shell. A program without a slash is looked up in the app's `PATH`.
    pub argv: Vec<String>,
    /// Runs once before a new configuration is rolled out; its failure refuses the roll-out.
    pub release: Option<Vec<String>>,
    /// How many shall run, at most [`INSTANCES_MAX`]. [`Handle::scale`](crate::Handle::scale) overrides it until it
    /// changes here.
    pub instances: u32,
    /// Has no port and takes no requests.
    pub worker: bool,
    /// The working folder, absolute.
    pub folder: PathBuf,
    /// Variables of its own; they win over inherited ones.
    pub env: Vec<(String, Value)>,
    /// Name or number of the user to become; needs root, unless it is the present one.
    pub user: Option<String>,
    /// Name or number of the group to become; default is the user's.
    pub group: Option<String>,
    /// The variable that tells an instance its port.
    pub port_env: String,
    /// When an instance counts as ready.
    pub ready: Ready,
    /// How an instance is stopped.
    pub stop: Stop,
    /// When an instance that ended by itself is started again.
    pub restart: RestartLaw,
}

impl ServiceConfig {
    /// One instance of `argv` in the root folder, ready when its port accepts, everything else as usual.
    #[must_use]
    pub fn new(name: impl Into<String>, argv: Vec<String>) -> Self {
        Self {
            name: name.into(),
            argv,
            release: None,
            instances: 1,
            worker: false,
            folder: PathBuf::from("/"),
            env: Vec::new(),
            user: None,
            group: None,
            port_env: "PORT".to_owned(),
            ready: Ready::default(),
            stop: Stop::default(),
            restart: restart_usual(),
        }
    }
}

/// 200 ms growing to 30 s; five endings within two minutes are a crash loop.
fn restart_usual() -> RestartLaw {
    RestartLaw {
        backoff: Backoff { from: Duration::from_millis(200), to: Duration::from_secs(30) },
        crash_loop: 5,
        within: Duration::from_secs(120),
    }
}

/// A variable's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// May be shown.
    Plain(String),
    /// Must never be shown.
    Secret(Secret),
    /// This text with the instance's name behind it, such as `service.instance.id=orders-1`.
    OfInstance(String),
}

impl Value {
    /// What is the same for all instances of the value itself, for the environment of the app and nothing else.
    pub(crate) fn expose(&self) -> &str {
        match self {
            Self::Plain(value) | Self::OfInstance(value) => value,
            Self::Secret(secret) => &secret.0,
        }
    }

    /// The value itself for one instance, for its environment and nothing else.
    pub(crate) fn expose_to(&self, instance: &str) -> String {
        match self {
            Self::OfInstance(before) => format!("{before}{instance}"),
            Self::Plain(_) | Self::Secret(_) => self.expose().to_owned(),
        }
    }
}

/// A value that prints as `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the value in; only the app's environment gets it out again.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

/// When an instance counts as ready, and how long it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// By what sign.
    pub kind: ReadyKind,
    /// An instance that is not ready by then is stopped and counts as failed.
    pub within: Duration,
}

impl Default for Ready {
    fn default() -> Self {
        Self { kind: ReadyKind::Tcp, within: Duration::from_secs(60) }
    }
}

/// The sign of readiness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadyKind {
    /// `GET path` on its port answers with a status of this range.
    Http {
        /// Path and query.
        path: String,
        /// Inclusive.
        status: RangeInclusive<u16>,
    },
    /// Its port accepts a connection.
    Tcp,
    /// It sends `READY=1` to `NOTIFY_SOCKET`, as described in sd_notify(3).
    Notify,
    /// It has run for a second. The only other choice that a worker has besides `Notify`.
    None,
}

/// How an instance is stopped: out of rotation, then requests, then streams, then the signal, then the kill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The bound on requests in flight.
    pub drain: Duration,
    /// The bound on WebSockets and other streams, counted from when the requests are through.
    pub streams: Duration,
    /// Between the signal and SIGKILL.
    pub grace: Duration,
    /// The signal that asks the app to finish; SIGTERM is 15.
    pub signal: i32,
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            drain: Duration::from_secs(30),
            streams: Duration::from_secs(300),
            grace: Duration::from_secs(30),
            signal: 15,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let mut service = ServiceConfig::new("orders", vec!["node".to_owned()]);
        service.env.push(("TOKEN".to_owned(), Value::Secret(Secret::new("hunter2"))));
        let printed = format!("{service:?}");
        assert!(printed.contains("[redacted]") && !printed.contains("hunter2"), "{printed}");
    }

    #[test]
    fn the_inherited_environment_does_not_print() {
        let mut config = Config::new(PathBuf::from("/x"), Vec::new());
        config.environment = vec![("TOKEN".into(), "hunter2".into())];
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
