//! The shape that all three signals share: resources, scopes within them, items within those.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::json;
use crate::value::{Origin, read_origin};
use crate::wire::{Fields, Message, Raw, text};
use crate::{DecodeError, ITEMS_MAX, NAME_BYTES_MAX};

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Data points.
    Metrics,
    /// Log records.
    Logs,
}

impl Signal {
    /// All of them.
    pub const ALL: [Signal; 3] = [Signal::Traces, Signal::Metrics, Signal::Logs];

    /// In lower case, as in a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }

    /// The path of a POST over HTTP (OTLP specification, "OTLP/HTTP Request").
    pub fn http_path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Metrics => "/v1/metrics",
            Self::Logs => "/v1/logs",
        }
    }

    /// The path of a call over gRPC (the `*_service.proto`).
    pub fn grpc_path(self) -> &'static str {
        match self {
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        }
    }
}

/// What was read of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Received<T> {
    /// In the order of the request.
    pub items: Vec<T>,
    /// Items that were left out.
    pub refused: u64,
    /// Why the last of them was.
    pub why: &'static str,
}

impl<T> Received<T> {
    pub(crate) fn new() -> Self {
        Self { items: Vec::new(), refused: 0, why: "" }
    }

    pub(crate) fn refuse(&mut self, count: u64, why: &'static str) {
        self.refused += count;
        self.why = why;
    }

    /// Takes an item, unless there are enough.
    pub(crate) fn take(&mut self, item: T) {
        match self.items.len() < ITEMS_MAX {
            true => self.items.push(item),
            false => self.refuse(1, "there are more items in one request than Terrace takes (32768)"),
        }
    }
}

/// The same request as protobuf (OTLP specification, "JSON Protobuf Encoding"). Fields that nobody knows are passed over.
///
/// # Errors
/// [`DecodeError::Json`] when it is no JSON, or a field is not of its type.
pub fn json_to_protobuf(signal: Signal, body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    json::transcode(signal, body)
}

/// Calls `each` with who sent it, the scope's name and the bytes of each item.
pub(crate) fn walk(
    request: &[u8],
    mut each: impl FnMut(&Origin, &str, &[u8]) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    for resource in messages(request, 1) {
        let resource = resource?;
        // The resource may lie behind what it belongs to.
        let mut origin = Origin::default();
        for bytes in messages(resource, 1) {
            origin = read_origin(bytes?)?;
        }
        for scope in messages(resource, 2) {
            let scope = scope?;
            let name = scope_name(scope)?;
            for item in messages(scope, 2) {
                each(&origin, &name, item?)?;
            }
        }
    }
    Ok(())
}

/// InstrumentationScope: 1 name.
fn scope_name(scope: &[u8]) -> Result<String, DecodeError> {
    let mut name = String::new();
    for bytes in messages(scope, 1) {
        for inner in messages(bytes?, 1) {
            name = text(inner?, NAME_BYTES_MAX).into_owned();
        }
    }
    Ok(name)
}

/// The values of one field of bytes, in order.
pub(crate) fn messages(message: &[u8], number: u32) -> impl Iterator<Item = Result<&[u8], DecodeError>> {
    Fields::new(message).filter_map(move |field| match field {
        Ok((found, Raw::Bytes(bytes))) if found == number => Some(Ok(bytes)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}

/// Writes the scope of what is ours as field 1.
pub(crate) fn write_scope(message: &mut Message, version: &str) {
    message.message(1, |scope| {
        scope.text(1, "terrace");
        scope.text(2, version);
    });
}

/// A moment as nanoseconds since 1970.
pub(crate) fn moment(nanos: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos)
}

/// Nanoseconds since 1970; 0 before, the last ones after 2554.
pub(crate) fn nanos(moment: SystemTime) -> u64 {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Items by who they come from, in order of first appearance.
pub(crate) fn by_origin<'a, T>(
    items: &'a [T],
    origin: impl Fn(&'a T) -> (&'a Arc<str>, &'a Arc<str>),
) -> Vec<(Origin, Vec<&'a T>)> {
    let mut groups: Vec<(Origin, Vec<&'a T>)> = Vec::new();
    for item in items {
        let (service, instance) = origin(item);
        let known = groups.iter_mut().rfind(|(of, _)| of.service == *service && of.instance == *instance);
        match known {
            Some((_, group)) => group.push(item),
            None => {
                let origin = Origin { service: Arc::clone(service), instance: Arc::clone(instance) };
                groups.push((origin, vec![item]));
            }
        }
    }
    groups
}
