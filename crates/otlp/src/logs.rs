//! Log records (logs/v1 `logs.proto`).

use std::sync::Arc;
use std::time::SystemTime;

use terrace_instruments::{SpanId, TraceId, Value};

use crate::request::{Received, by_origin, moment, nanos, walk, write_scope};
use crate::value::{Origin, push_pair, read_value, write_attributes, write_resource, write_value};
use crate::wire::{Fields, Message, Raw, text};
use crate::{Attributes, DecodeError, NAME_BYTES_MAX, ids};

/// A log record of one sender.
#[derive(Debug, Clone, PartialEq)]
pub struct LogRecord {
    /// When it happened, else when it was noticed; 1970 where neither is known.
    pub time: SystemTime,
    /// 1–4 trace, 5–8 debug, 9–12 info, 13–16 warn, 17–20 error, 21–24 fatal; 0 unknown.
    pub severity: u8,
    /// What the sender calls that; may be empty.
    pub severity_text: String,
    /// What it says; a list or map as JSON text.
    pub body: Option<Value>,
    /// The rest.
    pub attributes: Attributes,
    /// The trace, where there is one.
    pub trace: Option<TraceId>,
    /// The span, where there is one.
    pub span: Option<SpanId>,
    /// The event's name; may be empty.
    pub event: String,
    /// Who sent it.
    pub service: Arc<str>,
    /// Which instance of it; may be empty.
    pub instance: Arc<str>,
}

/// Reads an ExportLogsServiceRequest.
///
/// # Errors
/// [`DecodeError::Malformed`].
pub fn read_logs(request: &[u8]) -> Result<Received<LogRecord>, DecodeError> {
    let mut received = Received::new();
    walk(request, |origin, _scope, bytes| {
        received.take(read_record(origin, bytes)?);
        Ok(())
    })?;
    Ok(received)
}

/// LogRecord: 1 time, 2 severity_number, 3 severity_text, 5 body, 6 attributes, 9 trace_id, 10 span_id, 11 observed time,
/// 12 event_name.
fn read_record(origin: &Origin, bytes: &[u8]) -> Result<LogRecord, DecodeError> {
    let mut record = LogRecord::of(origin);
    let (mut time, mut observed) = (0, 0);
    for field in Fields::new(bytes) {
        match field? {
            (1, Raw::Fixed64(nanos)) => time = nanos,
            (2, Raw::Varint(number)) => record.severity = u8::try_from(number).unwrap_or_default(),
            (3, Raw::Bytes(bytes)) => record.severity_text = text(bytes, NAME_BYTES_MAX).into_owned(),
            (5, Raw::Bytes(any)) => record.body = read_value(any)?,
            (6, Raw::Bytes(pair)) => push_pair(&mut record.attributes, pair)?,
            (9, Raw::Bytes(bytes)) => record.trace = ids::trace(bytes),
            (10, Raw::Bytes(bytes)) => record.span = ids::span(bytes),
            (11, Raw::Fixed64(nanos)) => observed = nanos,
            (12, Raw::Bytes(bytes)) => record.event = text(bytes, NAME_BYTES_MAX).into_owned(),
            _ => {}
        }
    }
    record.time = moment(if time > 0 { time } else { observed });
    Ok(record)
}

impl LogRecord {
    fn of(origin: &Origin) -> Self {
        Self {
            time: SystemTime::UNIX_EPOCH,
            severity: 0,
            severity_text: String::new(),
            body: None,
            attributes: Attributes::new(),
            trace: None,
            span: None,
            event: String::new(),
            service: origin.service.clone(),
            instance: origin.instance.clone(),
        }
    }
}

/// An ExportLogsServiceRequest of these records: a resource for each service and instance, which also has the attributes
/// `about`.
pub fn write_logs(records: &[LogRecord], version: &str, about: &[(&str, &str)]) -> Vec<u8> {
    let mut request = Message::default();
    for (origin, records) in by_origin(records, |record| (&record.service, &record.instance)) {
        request.message(1, |resource| {
            write_resource(resource, &origin, about);
            resource.message(2, |scope| {
                write_scope(scope, version);
                for record in records {
                    scope.message(2, |message| write_record(message, record));
                }
            });
        });
    }
    request.0
}

fn write_record(message: &mut Message, record: &LogRecord) {
    message.fixed64(1, nanos(record.time));
    message.fixed64(11, nanos(record.time));
    message.varint(2, u64::from(record.severity));
    message.text(3, &record.severity_text);
    if let Some(body) = &record.body {
        message.message(5, |any| write_value(any, body));
    }
    write_attributes(message, 6, &record.attributes);
    if let Some(trace) = record.trace {
        message.bytes(9, &trace.0.to_be_bytes());
    }
    if let Some(span) = record.span {
        message.bytes(10, &span.0.to_be_bytes());
    }
    message.text(12, &record.event);
}
