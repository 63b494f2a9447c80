//! `terrace logs`: what is asked for, and how a record looks to a person.
//!
//! `12:03:04.512 warn  orders-1       slow ms=740`: the time is UTC, with the day before it when it is not today. What
//! apps print is shown without anything that would steer the terminal.

use std::path::Path;
use std::time::SystemTime;

use serde_json::Value;
use terrace_admin::client::{self, ClientError};
use terrace_runtime::clock;
use terrace_signals::records::telling_rank;
use terrace_telemetry::for_terminal;

use super::{Paint, encoded, moment, say};
use crate::cli::{Global, Logs};

/// Columns for the name of the instance.
const WHO_WIDTH: usize = 14;

/// Asks, and prints until the end, or until nobody reads it any more.
pub(super) async fn print(socket: &Path, logs: &Logs, global: &Global) -> Result<(), ClientError> {
    let paint = Paint(global.colours_output());
    let mut lines = client::stream(socket, &path(logs)).await?;
    let mut is_empty = true;
    while let Some(line) = lines.next().await? {
        is_empty = false;
        let shown = match serde_json::from_str::<Value>(&line) {
            Ok(record) if !global.json => shown(&record, clock::wall(), paint),
            _ => line,
        };
        if say(&format!("{shown}\n")).is_err() {
            break;
        }
    }
    if is_empty && !global.json {
        eprintln!("{}", nothing_found(logs));
    }
    Ok(())
}

/// Beside the output, so that a script that counts lines counts none.
fn nothing_found(logs: &Logs) -> String {
    match &logs.trace {
        Some(trace) => format!(
            "no line of the trace {} is kept; `terrace traces {0}` shows its way where that was kept",
            for_terminal(trace, false)
        ),
        None => "no line that fits is kept".to_owned(),
    }
}

fn path(logs: &Logs) -> String {
    let mut path = format!("/v1/logs?lines={}&follow={}", logs.lines, logs.follow);
    let asked = [
        ("service", &logs.service),
        ("instance", &logs.instance),
        ("level", &logs.level),
        ("trace", &logs.trace),
        ("text", &logs.text),
        ("since", &logs.since),
        ("until", &logs.until),
    ];
    for (key, value) in asked {
        if let Some(value) = value {
            path.push_str(&format!("&{key}={}", encoded(value)));
        }
    }
    path
}

fn shown(record: &Value, now: SystemTime, paint: Paint) -> String {
    if let Some(note) = record["note"].as_str() {
        return paint.faint(&format!("({})", for_terminal(note, false)));
    }
    if let Some(missed) = record["missed_lines"].as_u64() {
        return paint.faint(&format!("({missed} lines were not read in time)"));
    }
    let text = |key: &str| record[key].as_str().unwrap_or_default();
    let who = if text("instance").is_empty() { text("service") } else { text("instance") };
    let who = paint.name(text("service"), &format!("{:WHO_WIDTH$}", for_terminal(who, false)));
    let level = paint.level(text("level"));
    format!("{} {level} {who} {}", paint.faint(&moment(text("time"), now)), what(record, paint))
}

fn what(record: &Value, paint: Paint) -> String {
    let mut out = match record["message"].as_str() {
        // What follows is set in, so that a message cannot pass for another line of the log.
        Some(message) => {
            let lines = message.lines().map(|line| for_terminal(line, paint.0));
            lines.collect::<Vec<_>>().join("\n  ")
        }
        None => paint.bold(&for_terminal(record["event"].as_str().unwrap_or_default(), false)),
    };
    let ids = ["request_id", "trace_id"].iter().filter_map(|key| Some((*key, record.get(key)?)));
    let fields = record["fields"].as_object().into_iter().flatten();
    let mut fields: Vec<(&str, &Value)> = fields.map(|(name, value)| (name.as_str(), value)).collect();
    // What only says again whose line it is, or of which trace, would be told twice.
    fields.retain(|(name, value)| match *name {
        "service" | "instance" => record.get(name) != Some(value),
        _ => record.get("trace_id") != Some(value),
    });
    fields.sort_by_key(|(name, _)| telling_rank(name));
    for (name, value) in fields.into_iter().chain(ids) {
        out.push_str(&format!(
            " {}{}",
            paint.faint(&format!("{}=", for_terminal(name, false))),
            field(value)
        ));
    }
    if record["cut"] == true {
        out.push_str(&paint.faint(" (the line was longer)"));
    }
    out
}

/// Words without their quotes.
fn field(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() && !text.contains([' ', '"', '\n']) => {
            for_terminal(text, false)
        }
        other => for_terminal(&other.to_string(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    /// On 1 January 2024.
    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_704_067_200)
    }

    #[test]
    fn a_record_is_one_line_with_what_matters_first() {
        let record = json!({
            "time": "2024-01-01T12:03:04.512Z", "level": "warn", "service": "orders", "instance": "orders-1",
            "event": "app.output", "message": "slow", "trace_id": "4bf9", "fields": { "ms": 740, "to": "a b", "who": "eve" },
        });
        assert_eq!(
            shown(&record, now(), Paint(false)),
            "12:03:04.512 warn  orders-1       slow ms=740 to=\"a b\" who=eve trace_id=4bf9"
        );
    }

    #[test]
    fn what_became_of_a_request_stands_first() {
        let record = json!({
            "time": "2024-01-01T12:00:00.000Z", "level": "info", "service": "catalog", "instance": "catalog-1", "event": "request",
            "trace_id": "4bf9", "fields": { "at": "x", "instance": "catalog-1", "request": "4bf9", "items": 3, "method": "GET", "path": "/products", "status": 200, "took_ms": 4 },
        });
        let line = shown(&record, now(), Paint(false));
        assert!(
            line.ends_with(
                " request method=GET path=/products status=200 took_ms=4 items=3 at=x trace_id=4bf9"
            ),
            "{line}"
        );
    }

    #[test]
    fn a_record_of_another_day_says_which() {
        let record = json!({ "time": "2023-12-31T12:03:04.512Z", "level": "info", "service": "terrace", "event": "ready" });
        assert_eq!(shown(&record, now(), Paint(false)), "2023-12-31 12:03:04.512 info  terrace        ready");
    }

    #[test]
    fn what_an_app_prints_cannot_command_the_terminal() {
        let record = json!({
            "time": "2024-01-01T00:00:00.000Z", "level": "info", "instance": "web-1",
            "message": "\u{1b}]0;title\u{7}\u{1b}[2Ja\n00:00 fake", "fields": { "\u{1b}[2J": "\u{1b}c" },
        });
        assert_eq!(
            shown(&record, now(), Paint(false)),
            "00:00:00.000 info  web-1          ]0;title[2Ja\n  00:00 fake [2J=c"
        );
    }

    #[test]
    fn what_is_looked_for_may_hold_any_character() {
        assert_eq!(encoded("a b&c=d/é"), "a%20b%26c%3Dd%2F%C3%A9");
    }

    #[test]
    fn what_is_missing_is_said_and_not_taken_for_a_record() {
        assert_eq!(
            shown(&json!({ "missed_lines": 7 }), now(), Paint(false)),
            "(7 lines were not read in time)"
        );
        assert_eq!(shown(&json!({ "note": "gone" }), now(), Paint(false)), "(gone)");
    }
}
