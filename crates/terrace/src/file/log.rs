//! `[log]`: where the access log and the events go.

use std::path::PathBuf;

use super::read::{Read, Reader, Scalar, Wrong, table};
use super::spec::Form;
use super::tree::Node;
use super::values::Share;

table! {
    /// Where the logs go. Every line is one JSON object.
    pub(crate) struct LogTable {
        /// One line per request.
        "access" access: AccessTable = {};
        /// What happens to Terrace and the services, and what instances print.
        "events" events: EventsTable = {};
    }
}

table! {
    /// One line per request.
    pub(crate) struct AccessTable {
        /// `"stdout"`, `"stderr"`, `"off"`, or the path of a file.
        "to" to: Destination = "stdout";
        /// Share of the requests that are logged, picked at random.
        "sample" sample: Share = "100%";
    }
}

table! {
    /// What happens to Terrace and the services, and what instances print.
    pub(crate) struct EventsTable {
        /// `"stdout"`, `"stderr"`, `"off"`, or the path of a file.
        "to" to: Destination = "stderr";
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
    /// Where events go.
    pub events_to: LogTo,
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
        events_to: destination(table.events.to),
    })
}
