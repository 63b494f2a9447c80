//! `[log]`: where the access log and the events go.

use std::path::PathBuf;
use std::time::Duration;

use super::read::{Read, Reader, Scalar, Switch, Wrong, table};
use super::spec::Form;
use super::tree::Node;
use super::values::{Share, Size};

table! {
    /// Where the logs go. Every line is one JSON object.
    pub(crate) struct LogTable {
        /// One line per request.
        "access" access: AccessTable = {};
        /// What happens to Terrace and the services, and what instances print.
        "events" events: EventsTable = {};
        /// Memory for the last events and lines of instances, to be searched by `terrace logs` and the dashboard.
        "kept" kept: Size = "64MiB", within "1MiB" to "16GiB";
    }
}

table! {
    /// One line per request.
    pub(crate) struct AccessTable {
        /// `"stdout"`, `"stderr"`, `"off"`, or the path of a file.
        "to" to: Destination = "stdout";
        /// Share of the requests that are logged, picked at random.
        "sample" sample: Share = "100%";
        /// When a file is set aside. `false`: never; another program may do it.
        "rotate" rotate: Switch<RotateTable> = {};
    }
}

table! {
    /// What happens to Terrace and the services, and what instances print.
    pub(crate) struct EventsTable {
        /// `"stdout"`, `"stderr"`, `"off"`, or the path of a file.
        "to" to: Destination = "stderr";
        /// When a file is set aside. `false`: never; another program may do it.
        "rotate" rotate: Switch<RotateTable> = {};
    }
}

table! {
    /// A file is set aside as `access.log.1`, the one before as `access.log.2`, and so on.
    pub(crate) struct RotateTable {
        /// When it has reached this size. `false`: whatever its size.
        "size" size: Switch<Size> = "100MiB", within "64KiB" to "1TiB";
        /// When its first line is so old. `false`: whatever its age.
        "age" age: Switch<Duration> = false, within "1m" to "366d", example "1d";
        /// So many older files are kept.
        "keep" keep: u32 = 5, within 0 to 1000;
    }
}

/// Where lines go, as written.
#[derive(Clone, Debug)]
pub(crate) enum Destination {
    Stream(LogTo),
    File(String),
}

impl Scalar for Destination {
    const FORM: Form = Form { noun: "a destination", example: "stdout", pattern: "^.+$" };

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "stdout" => Ok(Self::Stream(LogTo::Stdout)),
            "stderr" => Ok(Self::Stream(LogTo::Stderr)),
            "off" => Ok(Self::Stream(LogTo::Off)),
            path if path.contains(['/', '.']) && !path.contains('\0') => Ok(Self::File(path.to_owned())),
            // A bare word is more likely a slip than a file beside terrace.toml.
            _ => Err(Wrong::because(
                "is neither \"stdout\", \"stderr\", \"off\" nor a path like \"logs/access.log\"",
            )),
        }
    }
}

/// The logs.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// Where the access log goes.
    pub access_to: LogTo,
    /// Share of the requests that are logged, 0 to 1.
    pub access_share: f64,
    /// When its file is set aside; `None`: never.
    pub access_rotate: Option<Rotate>,
    /// Where events go.
    pub events_to: LogTo,
    /// When their file is set aside; `None`: never.
    pub events_rotate: Option<Rotate>,
    /// Bytes of memory for the last events and lines of instances.
    pub kept_bytes_max: u64,
}

/// When a file is set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotate {
    /// When it has so many bytes.
    pub bytes_max: Option<u64>,
    /// When its first line is so old.
    pub age_max: Option<Duration>,
    /// So many older files are kept.
    pub files_kept_max: u32,
}

impl From<RotateTable> for Rotate {
    fn from(table: RotateTable) -> Self {
        Self {
            bytes_max: table.size.on().map(|size| size.0),
            age_max: table.age.on(),
            files_kept_max: table.keep,
        }
    }
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTo {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Nowhere.
    Off,
    /// Appended to a file.
    File(PathBuf),
}

pub(crate) fn resolve(node: &Node, reader: &mut Reader<'_>) -> Option<Log> {
    let table = LogTable::read(node, reader)?;
    let destination = |destination: Destination| match destination {
        Destination::Stream(to) => to,
        Destination::File(path) => LogTo::File(reader.path(&path)),
    };
    Some(Log {
        access_to: destination(table.access.to),
        access_share: table.access.sample.0,
        access_rotate: table.access.rotate.on().map(Rotate::from),
        events_to: destination(table.events.to),
        events_rotate: table.events.rotate.on().map(Rotate::from),
        kept_bytes_max: table.kept.0,
    })
}
