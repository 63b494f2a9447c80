//! A log record of the app as one of ours.

use std::borrow::Cow;
use std::time::SystemTime;

use terrace_instruments::{Level, Timestamp, Value, push_json_value};
use terrace_signals::records::{APP_OUTPUT, LogRecord, TIME_OFF_MAX, clean, level_of};

use super::senders::readable;

/// `now` is for records that do not say when. A time that is too far off becomes a field `app_time`, as in lines.
pub(super) fn record(record: terrace_otlp::LogRecord, now: SystemTime) -> LogRecord {
    let is_said = record.time != SystemTime::UNIX_EPOCH;
    let (time, far) = match is_said && is_near(record.time, now) {
        true => (record.time, None),
        false => (now, is_said.then(|| Timestamp::default().format(record.time).to_owned())),
    };
    let event = if record.event.is_empty() { APP_OUTPUT } else { &record.event };
    let request_id = record.attributes.iter().find_map(|(name, value)| match (&**name, value) {
        ("request_id" | "request.id" | "http.request.id", Value::Text(id)) => Some(clean(id).into_owned()),
        _ => None,
    });
    let app_time = |time: String| ("app_time".to_owned(), json(&Value::from(time)));
    let field = |(name, value): &(Cow<'static, str>, Value)| (clean(name).into_owned(), json(value));
    LogRecord {
        service: readable(&record.service),
        instance: clean(&record.instance).into_owned(),
        request_id: request_id.unwrap_or_default(),
        trace: record.trace,
        message: message(record.body.as_ref()),
        fields: record.attributes.iter().map(field).chain(far.map(app_time)).collect(),
        is_app: true,
        ..LogRecord::new(time, level(&record), clean(event))
    }
}

/// Whether a time can be believed: one that is far off would stand among the last lines for ever, or hide what came today.
fn is_near(said: SystemTime, now: SystemTime) -> bool {
    let off = match said.duration_since(now) {
        Ok(ahead) => ahead,
        Err(behind) => behind.duration(),
    };
    off <= TIME_OFF_MAX
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

    #[test]
    fn a_name_that_looks_like_terraces_once_it_is_clean_is_not_terraces() {
        for (name, owner) in [
            ("terr\u{0}ace", "terrace (app)"),
            ("\u{1b}[1mterrace", "terrace (app)"),
            (" terrace\n", "terrace (app)"),
            ("\u{1b}[0m", "unknown_service"),
        ] {
            let forged = terrace_otlp::LogRecord { service: Arc::from(name), ..sent() };
            assert_eq!(record(forged, SystemTime::UNIX_EPOCH).owner(), owner, "{name:?}");
        }
    }

    #[test]
    fn a_clock_that_is_a_century_off_does_not_hide_what_is_said_today() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let day = Duration::from_secs(86_400);
        let at = |time| record(terrace_otlp::LogRecord { time, ..sent() }, now);
        assert_eq!((at(now + day).time, at(now - day).time), (now + day, now - day));
        assert_eq!((at(now + 36_500 * day).time, at(now - 2 * day).time), (now, now));
        let said = ("app_time".to_owned(), "\"2027-01-13T08:00:00.000000Z\"".to_owned());
        assert_eq!(at(now - 2 * day).fields.last(), Some(&said));
    }
}
