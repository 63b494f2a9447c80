//! Log lines: one JSON object each, to standard output, as a supervisor likes to read them.

use std::io::Write;

use serde_json::{Value, json};

use crate::clock;

/// Something that is as it should be.
pub(crate) fn info(event: &str, fields: Value) {
    write("info", event, fields);
}

/// Something a person may want to look at.
pub(crate) fn warn(event: &str, fields: Value) {
    write("warn", event, fields);
}

/// Something that is broken.
pub(crate) fn error(event: &str, fields: Value) {
    write("error", event, fields);
}

fn write(level: &str, event: &str, fields: Value) {
    let mut line = json!({ "at": clock::rfc3339(clock::wall_ms()), "level": level, "event": event });
    if let (Value::Object(line), Value::Object(fields)) = (&mut line, fields) {
        line.extend(fields);
    }
    let mut text = line.to_string();
    text.push('\n');
    // One write per line, so that lines never mix. A reader that went away must not end the shop.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
