//! Spans (trace/v1 `trace.proto`).
//!
//! A span's events have no place in [`Span`]: the attributes of an exception become the span's own, and any other event an
//! attribute `event.NAME` with the time since the span's start, so that what went wrong is seen in a waterfall. Links are
//! passed over. The status' sentence is `otel.status_description`, the library's name `otel.scope.name`, as OpenTelemetry
//! has it for systems without them ("OpenTelemetry to non-OTLP exporters").

use std::borrow::Cow;
use std::time::Duration;

use terrace_instruments::{Span, SpanKind, SpanStatus, Value};

use crate::request::{self, Received, moment, nanos, walk, write_scope};
use crate::value::{Origin, push_pair, write_attributes, write_resource};
use crate::wire::{Fields, Message, Raw, text};
use crate::{ATTRIBUTES_MAX, Attributes, DecodeError, EVENTS_MAX, NAME_BYTES_MAX, TEXT_BYTES_MAX, ids};

const DESCRIPTION: &str = "otel.status_description";
const SCOPE: &str = "otel.scope.name";

/// Reads an ExportTraceServiceRequest. Spans without valid ids are refused.
///
/// # Errors
/// [`DecodeError::Malformed`].
pub fn read_traces(request: &[u8]) -> Result<Received<Span>, DecodeError> {
    let mut received = Received::new();
    walk(request, |origin, scope, bytes| {
        match read_span(origin, scope, bytes)? {
            Some(span) => received.take(span),
            None => {
                received.refuse(1, "a span needs a trace id of 16 bytes and a span id of 8, not all zero")
            }
        }
        Ok(())
    })?;
    Ok(received)
}

fn read_span(origin: &Origin, scope: &str, bytes: &[u8]) -> Result<Option<Span>, DecodeError> {
    let (mut trace, mut id, mut parent) = (None, None, None);
    let (mut name, mut kind, mut status) = (String::new(), SpanKind::Internal, SpanStatus::Unset);
    let (mut start, mut end, mut attributes, mut events) = (0, 0, Attributes::new(), 0);
    for field in Fields::new(bytes) {
        match field? {
            (1, Raw::Bytes(bytes)) => trace = ids::trace(bytes),
            (2, Raw::Bytes(bytes)) => id = ids::span(bytes),
            (4, Raw::Bytes(bytes)) => parent = ids::span(bytes),
            (5, Raw::Bytes(bytes)) => name = text(bytes, NAME_BYTES_MAX).into_owned(),
            (6, Raw::Varint(number)) => kind = kind_of(number),
            (7, Raw::Fixed64(nanos)) => start = nanos,
            (8, Raw::Fixed64(nanos)) => end = nanos,
            (9, Raw::Bytes(pair)) => push_pair(&mut attributes, pair)?,
            (11, Raw::Bytes(event)) if events < EVENTS_MAX => {
                events += 1;
                push_event(&mut attributes, event, start)?;
            }
            (15, Raw::Bytes(bytes)) => status = read_status(bytes, &mut attributes)?,
            _ => {}
        }
    }
    push_text(&mut attributes, SCOPE, scope);
    let (Some(trace), Some(id)) = (trace, id) else { return Ok(None) };
    Ok(Some(Span {
        trace,
        id,
        parent,
        name: Cow::Owned(name),
        kind,
        service: origin.service.clone(),
        instance: origin.instance.clone(),
        start: moment(start),
        duration: Duration::from_nanos(end.saturating_sub(start)),
        status,
        attributes,
    }))
}

fn kind_of(number: u64) -> SpanKind {
    match number {
        2 => SpanKind::Server,
        3 => SpanKind::Client,
        4 => SpanKind::Producer,
        5 => SpanKind::Consumer,
        _ => SpanKind::Internal,
    }
}

fn number_of(kind: SpanKind) -> u64 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

/// Status: 2 message, 3 code.
fn read_status(status: &[u8], attributes: &mut Attributes) -> Result<SpanStatus, DecodeError> {
    let mut code = SpanStatus::Unset;
    for field in Fields::new(status) {
        match field? {
            (2, Raw::Bytes(bytes)) => push_text(attributes, DESCRIPTION, &text(bytes, TEXT_BYTES_MAX)),
            (3, Raw::Varint(1)) => code = SpanStatus::Ok,
            (3, Raw::Varint(2)) => code = SpanStatus::Error,
            _ => {}
        }
    }
    Ok(code)
}

/// Event: 1 time, 2 name, 3 attributes.
fn push_event(attributes: &mut Attributes, event: &[u8], start: u64) -> Result<(), DecodeError> {
    let (mut name, mut time, mut own) = (Cow::Borrowed(""), 0, Attributes::new());
    for field in Fields::new(event) {
        match field? {
            (1, Raw::Fixed64(nanos)) => time = nanos,
            (2, Raw::Bytes(bytes)) => name = text(bytes, NAME_BYTES_MAX),
            (3, Raw::Bytes(pair)) => push_pair(&mut own, pair)?,
            _ => {}
        }
    }
    if name == "exception" {
        own.truncate(ATTRIBUTES_MAX.saturating_sub(attributes.len()));
        attributes.append(&mut own);
    } else if attributes.len() < ATTRIBUTES_MAX {
        let after = Duration::from_nanos(time.saturating_sub(start));
        attributes.push((Cow::Owned(format!("event.{name}")), Value::Duration(after)));
    }
    Ok(())
}

fn push_text(attributes: &mut Attributes, name: &'static str, value: &str) {
    let is_there = attributes.iter().any(|(known, _)| known == name);
    if !value.is_empty() && !is_there && attributes.len() < ATTRIBUTES_MAX {
        attributes.push((Cow::Borrowed(name), Value::Text(Cow::Owned(value.to_owned()))));
    }
}

/// An ExportTraceServiceRequest of these spans: a resource for each service and instance, which also has the attributes
/// `about`, such as the version of who sends.
pub fn write_traces(spans: &[Span], version: &str, about: &[(&str, &str)]) -> Vec<u8> {
    let mut request = Message::default();
    for (origin, spans) in request::by_origin(spans, |span| (&span.service, &span.instance)) {
        request.message(1, |resource| {
            write_resource(resource, &origin, about);
            resource.message(2, |scope| {
                write_scope(scope, version);
                for span in spans {
                    scope.message(2, |message| write_span(message, span));
                }
            });
        });
    }
    request.0
}

fn write_span(message: &mut Message, span: &Span) {
    message.bytes(1, &span.trace.0.to_be_bytes());
    message.bytes(2, &span.id.0.to_be_bytes());
    if let Some(parent) = span.parent {
        message.bytes(4, &parent.0.to_be_bytes());
    }
    message.text(5, &span.name);
    message.varint(6, number_of(span.kind));
    let start = nanos(span.start);
    let length = u64::try_from(span.duration.as_nanos()).unwrap_or(u64::MAX);
    message.fixed64(7, start);
    message.fixed64(8, start.saturating_add(length));
    write_attributes(message, 9, &span.attributes);
    match span.status {
        SpanStatus::Unset => {}
        SpanStatus::Ok => message.message(15, |status| status.varint(3, 1)),
        SpanStatus::Error => message.message(15, |status| status.varint(3, 2)),
    }
    // Sampled (W3C Trace Context), or it would not be sent.
    message.fixed32(16, 1);
}
