//! What is kept, where it goes, and whom it calls.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use terrace_instruments::{AccessSettings, Level};
use terrace_signals::alerts::{Objective, Severity, Threshold};

/// Everything telemetry needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where events go.
    pub events: Destination,
    /// Events below this level are not kept.
    pub level: Level,
    /// Where the access log goes.
    pub access: Destination,
    /// Which requests it shows, and how. Off when `access` is [`Destination::Off`].
    pub access_settings: AccessSettings,
    /// How lines look on stdout and stderr; files are always JSON.
    pub style: Style,
    /// When the events' file is set aside; also the access log's when both are one file.
    pub rotation: Rotation,
    /// When the access log's file is set aside.
    pub access_rotation: Rotation,
    /// Bytes of log records kept in memory to be searched.
    pub records_bytes_max: usize,
    /// Which traces are kept.
    pub traces: Traces,
    /// Where signals go besides.
    pub export: Option<Export>,
    /// Where the app's own OTLP is taken in; a true port, not 0.
    pub receive: Option<SocketAddr>,
    /// Services whose own metrics are fetched.
    pub scrapes: Vec<Scrape>,
    /// What users are promised.
    pub objectives: Vec<Objective>,
    /// Alerts on metrics.
    pub thresholds: Vec<Threshold>,
    /// Whom alerts are told.
    pub receivers: Vec<Receiver>,
    /// The folder in which the state of objectives, alerts and silences survives; `None`: it does not.
    pub state: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            events: Destination::Stderr,
            level: Level::Info,
            access: Destination::Stdout,
            access_settings: AccessSettings::default(),
            style: Style::Auto,
            rotation: Rotation::default(),
            access_rotation: Rotation::default(),
            records_bytes_max: 64 << 20,
            traces: Traces::default(),
            export: None,
            receive: None,
            scrapes: Vec::new(),
            objectives: Vec::new(),
            thresholds: Vec::new(),
            receivers: Vec::new(),
            state: None,
        }
    }
}

/// Which traces are kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Traces {
    /// Whether requests are traced at all.
    pub on: bool,
    /// Share of those that begin here that is kept whatever becomes of them, 0 to 1.
    pub sample: f64,
    /// What takes longer is kept.
    pub slow: Duration,
}

impl Default for Traces {
    fn default() -> Self {
        Self { on: true, sample: 0.01, slow: Duration::from_secs(1) }
    }
}

/// A collector that takes OTLP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// `http://collector:4318` or `https://…`; for HTTP the paths `/v1/traces` … are added.
    pub url: String,
    /// How it is spoken to.
    pub protocol: ExportProtocol,
    /// Fields of each request.
    pub headers: Vec<(String, Secret)>,
    /// Kept traces.
    pub traces: bool,
    /// All metrics, each minute.
    pub metrics: bool,
    /// Log records.
    pub logs: bool,
}

/// How a collector is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportProtocol {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP, as binary protobuf.
    Http,
}

/// A service whose own metrics are fetched from each of its instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrape {
    /// The service.
    pub service: Arc<str>,
    /// The path, such as `/metrics`.
    pub path: String,
    /// How often.
    pub every: Duration,
}

/// Whom alerts are told, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Receiver {
    /// Its name in the file.
    pub name: String,
    /// The way.
    pub way: Way,
    /// Only alerts that matter at least so much.
    pub severity_min: Severity,
    /// Whether it is told when an alert is over.
    pub resolved: bool,
    /// So long the first alerts of a group wait for others.
    pub group_wait: Duration,
    /// An alert that goes on is told again after that long.
    pub repeat: Duration,
}

/// How alerts are told.
#[derive(Debug, Clone, PartialEq)]
pub enum Way {
    /// POST of Alertmanager's webhook body, version 4.
    Webhook {
        /// Where to.
        url: Secret,
        /// Fields of each request.
        headers: Vec<(String, Secret)>,
    },
    /// POST of a text as Slack, Mattermost and Discord's `/slack` take it.
    Slack {
        /// Where to; who knows it may post.
        url: Secret,
    },
    /// A mail.
    Email {
        /// `smtp://host:25`, `smtp+starttls://host:587` or `smtps://host:465`.
        server: String,
        /// To log in.
        login: Option<(String, Secret)>,
        /// The sender.
        from: String,
        /// Never empty.
        to: Vec<String>,
    },
    /// A program that gets the webhook body on standard input.
    Command(Vec<String>),
}

/// What nobody may read in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redacted")
    }
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to; its folder is created when missing.
    File(PathBuf),
}

/// How lines look on a standard stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// For people when the stream is a terminal, JSON otherwise; colours unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For people, without colours.
    Plain,
    /// For people, with colours.
    Colour,
}

/// When a log file is set aside: `access.log` becomes `access.log.1`, that becomes `access.log.2` …
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// A file that has reached this many bytes is set aside; 0 never.
    pub bytes_max: u64,
    /// A file whose first line is so old is set aside when the next line comes.
    pub age_max: Option<Duration>,
    /// So many older files are kept; with 0 the file is emptied instead.
    pub files_kept_max: u32,
}

impl Default for Rotation {
    /// 100 MiB, whatever its age, and five older files: at most 600 MiB of disk for each log.
    fn default() -> Self {
        Self { bytes_max: 100 << 20, age_max: None, files_kept_max: 5 }
    }
}
