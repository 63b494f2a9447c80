//! A log record of the app as one of ours.

use std::borrow::Cow;
use std::time::SystemTime;

use terrace_instruments::{Level, Value, push_json_value};
use terrace_signals::records::{APP_OUTPUT, LogRecord, clean, level_of};

/// `now` is for records that do not say when.
pub(super) fn record(record: terrace_otlp::LogRecord, now: SystemTime) -> LogRecord {
    let time = if record.time == SystemTime::UNIX_EPOCH { now } else { record.time };
    let event = if record.event.is_empty() { APP_OUTPUT } else { &record.event };
    let request_id = record.attributes.iter().find_map(|(name, value)| match (&**name, value) {
        ("request_id" | "request.id" | "http.request.id", Value::Text(id)) => Some(clean(id).into_owned()),
        _ => None,
    });
    let field = |(name, value): &(Cow<'static, str>, Value)| (clean(name).into_owned(), json(value));
    LogRecord {
        service: service(&record.service),
        instance: clean(&record.instance).into_owned(),
        request_id: request_id.unwrap_or_default(),
        trace: record.trace,
        message: message(record.body.as_ref()),
        fields: record.attributes.iter().map(field).collect(),
        is_app: true,
        ..LogRecord::new(time, level(&record), clean(event))
    }
}

/// Empty and `terrace` mean Terrace itself, who says nothing this way.
fn service(name: &str) -> String {
    match name {
        "terrace" => "terrace (app)".to_owned(),
        name => clean(name).into_owned(),
    }
}

/// By the number (logs data model, "Field: SeverityNumber"); without one by the sender's own word.
fn level(record: &terrace_otlp::LogRecord) -> Level {
    match record.severity {
        1..=8 => Level::Debug,
        9..=12 => Level::Info,
        13..=16 => Level::Warn,
        17.. => Level::Error,
        0 => match level_of(&record.severity_text) {
            Some(level) => level,
            None => Level::Info,
        },
    }
}

fn message(body: Option<&Value>) -> String {
    match body {
        None => String::new(),
        Some(Value::Text(text)) => clean(text).into_owned(),
        Some(other) => json(other),
    }
}

/// What cannot be seen is written as an escape by JSON, or not at all.
fn json(value: &Value) -> String {
    let mut out = Vec::new();
    match value {
        Value::Text(text) => push_json_value(&mut out, &Value::from(clean(text).into_owned())),
        other => push_json_value(&mut out, other),
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;
    use terrace_instruments::TraceId;

    fn sent() -> terrace_otlp::LogRecord {
        terrace_otlp::LogRecord {
            time: SystemTime::UNIX_EPOCH,
            severity: 0,
            severity_text: "CRITICAL".to_owned(),
            body: Some(Value::from("it \u{1b}[31mbroke")),
            attributes: vec![
                (Cow::Borrowed("request_id"), Value::from("r1")),
                (Cow::Borrowed("count"), Value::from(3_u32)),
            ],
            trace: Some(TraceId(7)),
            span: None,
            event: String::new(),
            service: Arc::from("orders"),
            instance: Arc::from("orders-1"),
        }
    }

    #[test]
    fn a_record_of_the_app_is_found_as_any_other() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(9);
        let record = record(sent(), now);
        assert_eq!((record.time, record.level, record.event.as_str()), (now, Level::Error, APP_OUTPUT));
        assert_eq!((record.service.as_str(), record.instance.as_str()), ("orders", "orders-1"));
        assert_eq!((record.message.as_str(), record.request_id.as_str()), ("it broke", "r1"));
        assert_eq!(record.fields[1], ("count".to_owned(), "3".to_owned()));
        assert!(record.is_app && record.trace == Some(TraceId(7)));
    }

    #[test]
    fn the_number_says_the_level_and_terrace_is_nobody_else() {
        let levels =
            [1, 8, 9, 13, 17, 24].map(|severity| level(&terrace_otlp::LogRecord { severity, ..sent() }));
        use Level::{Debug, Error, Info, Warn};
        assert_eq!(levels, [Debug, Debug, Info, Warn, Error, Error]);
        let forged = terrace_otlp::LogRecord { service: Arc::from("terrace"), ..sent() };
        assert_eq!(record(forged, SystemTime::UNIX_EPOCH).owner(), "terrace (app)");
    }
}
