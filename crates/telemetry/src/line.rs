//! An event as one JSON line.

use terrace_instruments::{Event, Timestamp, push_json_string, push_json_value};

/// Appends `event` with its newline. The keys come in the order a person reads them.
pub(crate) fn push_event(out: &mut Vec<u8>, stamp: &mut Timestamp, event: &Event) {
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(stamp.format(event.time).as_bytes());
    out.extend_from_slice(b"\",\"level\":\"");
    out.extend_from_slice(event.level.as_str().as_bytes());
    out.push(b'"');
    push_text(out, "event", Some(event.name));
    push_text(out, "service", event.service.as_deref());
    push_text(out, "instance", event.instance.as_deref());
    push_text(out, "request_id", event.request.as_deref());
    push_text(out, "trace_id", event.trace.map(|trace| trace.to_string()).as_deref());
    push_text(out, "message", event.message.as_deref());
    for (key, value) in &event.fields {
        push_key(out, key);
        push_json_value(out, value);
    }
    out.extend_from_slice(b"}\n");
}

fn push_key(out: &mut Vec<u8>, key: &str) {
    out.push(b',');
    push_json_string(out, key);
    out.push(b':');
}

fn push_text(out: &mut Vec<u8>, key: &str, text: Option<&str>) {
    if let Some(text) = text {
        push_key(out, key);
        push_json_string(out, text);
    }
}
