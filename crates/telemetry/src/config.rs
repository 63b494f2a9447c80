//! Where lines go and how they look.

use std::path::PathBuf;

use terrace_instruments::{AccessSettings, Level};

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
    /// When files are cut off.
    pub rotation: Rotation,
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
        }
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
    /// So many older files are kept.
    pub files_kept_max: u32,
}

impl Default for Rotation {
    /// 100 MiB and five older files: at most 600 MiB of disk for each log.
    fn default() -> Self {
        Self { bytes_max: 100 << 20, files_kept_max: 5 }
    }
}
