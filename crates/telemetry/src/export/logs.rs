//! Log records as OTLP has them.

use std::borrow::Cow;
use std::sync::Arc;

use terrace_instruments::{Level, Value};
use terrace_signals::records::{APP_OUTPUT, LogRecord};

/// A record as it leaves.
pub(super) fn record(record: &LogRecord) -> terrace_otlp::LogRecord {
    let mut attributes: terrace_otlp::Attributes =
        record.fields.iter().map(|(name, json)| (Cow::Owned(name.clone()), value(json))).collect();
    if !record.request_id.is_empty() {
        attributes.push((Cow::Borrowed("request_id"), Value::from(record.request_id.as_str())));
    }
    let has_event = record.event != APP_OUTPUT;
    terrace_otlp::LogRecord {
        time: record.time,
        severity: severity(record.level),
        severity_text: record.level.as_str().to_owned(),
        body: (!record.message.is_empty()).then(|| Value::from(record.message.as_str())),
        attributes,
        trace: record.trace,
        span: None,
        event: if has_event { record.event.clone() } else { String::new() },
        service: Arc::from(record.owner()),
        instance: Arc::from(record.instance.as_str()),
    }
}

/// The lowest number of each range (logs data model, "Field: SeverityNumber").
fn severity(level: Level) -> u8 {
    match level {
        Level::Debug => 5,
        Level::Info => 9,
        Level::Warn => 13,
        Level::Error => 17,
    }
}

/// Plain values as what they are, lists and maps as their text.
fn value(json: &str) -> Value {
    match serde_json::from_str(json) {
        Ok(serde_json::Value::String(text)) => Value::from(text),
        Ok(serde_json::Value::Bool(value)) => Value::from(value),
        Ok(serde_json::Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(value), _) => Value::from(value),
            (None, Some(value)) => Value::from(value),
            (None, None) => Value::from(json),
        },
        _ => Value::from(json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn a_record_leaves_with_its_fields_as_what_they_are() {
        let mut said = LogRecord::new(SystemTime::UNIX_EPOCH, Level::Error, "fleet.instance.crashed");
        said.service = "orders".to_owned();
        said.request_id = "r1".to_owned();
        let fields =
            [("text", "\"a\""), ("count", "-3"), ("share", "0.5"), ("list", "[1,2]"), ("yes", "true")];
        said.fields = fields.map(|(name, json)| (name.to_owned(), json.to_owned())).to_vec();
        let sent = record(&said);
        let values: Vec<Value> = sent.attributes.iter().map(|(_, value)| value.clone()).collect();
        let expected: [Value; 6] =
            ["a".into(), (-3_i64).into(), 0.5.into(), "[1,2]".into(), true.into(), "r1".into()];
        assert_eq!(values, expected);
        assert_eq!(
            (sent.severity, sent.event.as_str(), &*sent.service),
            (17, "fleet.instance.crashed", "orders")
        );
        assert_eq!(
            (sent.body, record(&LogRecord { event: APP_OUTPUT.to_owned(), ..said }).event),
            (None, String::new())
        );
    }
}
