//! A record as one JSON line.
//!
//! Two shapes. In a log file the fields of Terrace's own events stand beside the rest, where collectors look for them;
//! those of an app's line stand under `fields`, so that no app can pass for Terrace or another service. For those who
//! ask the admin API, all fields stand under `fields`.

use terrace_instruments::{Timestamp, push_json_string};
use terrace_signals::records::LogRecord;

/// Appends `record` with its newline, as a log file has it. The keys come in the order a person reads them.
pub(crate) fn push_record(out: &mut Vec<u8>, stamp: &mut Timestamp, record: &LogRecord) {
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(stamp.format(record.time).as_bytes());
    push_head(out, record, &record.service);
    if record.is_app {
        push_fields(out, record);
    } else {
        push_pairs(out, record, b',');
    }
    out.extend_from_slice(b"}\n");
}

/// The record as the admin API tells it: one JSON object without a newline. The time is in milliseconds (RFC 3339);
/// the service of Terrace's own records is `terrace`; what is empty is left out.
pub fn record_json(record: &LogRecord) -> String {
    let mut out = b"{\"time\":\"".to_vec();
    let mut stamp = Timestamp::default();
    let time = stamp.format(record.time);
    // Milliseconds are what an app's clock is good for, and what JavaScript reads.
    out.extend_from_slice(&time.as_bytes()[..time.len() - "000Z".len()]);
    out.push(b'Z');
    push_head(&mut out, record, record.owner());
    push_fields(&mut out, record);
    out.push(b'}');
    String::from_utf8(out).expect("invariant: JSON text is made of text and ASCII escapes")
}

/// From the end of the time to the message.
fn push_head(out: &mut Vec<u8>, record: &LogRecord, service: &str) {
    out.extend_from_slice(b"\",\"level\":\"");
    out.extend_from_slice(record.level.as_str().as_bytes());
    out.push(b'"');
    push_text(out, "event", &record.event);
    push_text(out, "service", service);
    push_text(out, "instance", &record.instance);
    push_text(out, "request_id", &record.request_id);
    if let Some(trace) = record.trace {
        push_text(out, "trace_id", &trace.to_string());
    }
    push_text(out, "message", &record.message);
    if record.is_app {
        push_text(out, "stream", if record.is_stderr { "stderr" } else { "stdout" });
    }
    if record.is_cut {
        out.extend_from_slice(b",\"cut\":true");
    }
}

fn push_fields(out: &mut Vec<u8>, record: &LogRecord) {
    if !record.fields.is_empty() {
        out.extend_from_slice(b",\"fields\":");
        push_pairs(out, record, b'{');
        out.push(b'}');
    }
}

/// The fields, each behind a comma, the first behind `first`.
fn push_pairs(out: &mut Vec<u8>, record: &LogRecord, first: u8) {
    for (at, (name, value)) in record.fields.iter().enumerate() {
        out.push(if at == 0 { first } else { b',' });
        push_json_string(out, name);
        out.push(b':');
        out.extend_from_slice(value.as_bytes());
    }
}

fn push_text(out: &mut Vec<u8>, key: &str, text: &str) {
    if !text.is_empty() {
        out.push(b',');
        push_json_string(out, key);
        out.push(b':');
        push_json_string(out, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};
    use terrace_instruments::{Level, TraceId};

    fn app(text: &str) -> LogRecord {
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456);
        LogRecord::of_app(at, "orders", "orders-1", text, true, false)
    }

    fn in_file(record: &LogRecord) -> String {
        let mut out = Vec::new();
        push_record(&mut out, &mut Timestamp::default(), record);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_an_app_prints_cannot_pass_for_somebody_else() {
        let record = app(r#"{"service":"terrace","event":"ready","level":"warn","msg":"x","time":0}"#);
        assert_eq!(
            in_file(&record),
            concat!(
                r#"{"time":"2023-11-14T22:13:20.123456Z","level":"warn","event":"ready","service":"orders","instance":"orders-1","#,
                r#""message":"x","stream":"stderr","fields":{"service":"terrace","app_time":"1970-01-01T00:00:00.000000Z"}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn the_admin_api_tells_all_fields_apart_and_names_terrace() {
        let record = LogRecord {
            trace: Some(TraceId(0xab)),
            fields: vec![("port".to_owned(), "80".to_owned())],
            ..LogRecord::new(SystemTime::UNIX_EPOCH, Level::Info, "listening")
        };
        assert_eq!(
            record_json(&record),
            concat!(
                r#"{"time":"1970-01-01T00:00:00.000Z","level":"info","event":"listening","service":"terrace","#,
                r#""trace_id":"000000000000000000000000000000ab","fields":{"port":80}}"#
            )
        );
        assert!(
            in_file(&record).ends_with("\"trace_id\":\"000000000000000000000000000000ab\",\"port\":80}\n")
        );
    }

    #[test]
    fn a_line_stays_one_line_of_json_whatever_is_printed() {
        for text in ["a\u{1}\n\"b\\", "{\"msg\":\"a\\nb\",\"k\\\"\\n\":[1,{\"x\":\"\\u0000\"}]}", ""] {
            let line = in_file(&app(text));
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{line}");
            assert!(serde_json::from_str::<serde_json::Value>(&record_json(&app(text))).is_ok(), "{line}");
        }
    }
}
