//! `[log]` for telemetry: where events and access lines go. How they look on a terminal is not the file's business, it
//! comes from the command line.

use terrace_instruments::{AccessSettings, Level};
use terrace_telemetry::{Config, Destination, Rotation, Style};

use crate::file::{Log, LogTo};

/// Where events and the access log go.
pub(crate) fn config(log: &Log, style: Style) -> Config {
    Config {
        events: destination(&log.events_to),
        level: Level::Info,
        access: destination(&log.access_to),
        access_settings: AccessSettings {
            on: log.access_to != LogTo::Off,
            sample: log.access_share,
            ..AccessSettings::default()
        },
        style,
        rotation: Rotation::default(),
        ..Config::default()
    }
}

fn destination(to: &LogTo) -> Destination {
    match to {
        LogTo::Stdout => Destination::Stdout,
        LogTo::Stderr => Destination::Stderr,
        LogTo::Off => Destination::Off,
        LogTo::File(path) => Destination::File(path.clone()),
    }
}
