//! Lines for people: what happened, to whom, in one glance.
//!
//! `12:03:04.512 info  orders-1   ready port=34567 after=210ms`, in UTC. Each service keeps one colour. What programs
//! print may carry colours of their own, which pass; every other control sequence is taken out, since a terminal
//! would obey it.

use std::time::{Duration, SystemTime};

use serde_json::Value as Json;
use terrace_instruments::{Event, Level, Timestamp, Value};
use terrace_signals::records::LogRecord;

const DIM: &str = "2";
const BOLD: &str = "1";
/// Colours that read on dark and on light ground; red and yellow are kept for what went wrong.
const SERVICES: [&str; 6] = ["36", "35", "34", "32", "96", "95"];
/// Columns for the name of the instance.
const WHO_WIDTH: usize = 14;

/// Writes lines for people.
#[derive(Debug)]
pub(crate) struct Pretty {
    colour: bool,
    stamp: Timestamp,
}

impl Pretty {
    pub(crate) fn new(colour: bool) -> Self {
        Self { colour, stamp: Timestamp::default() }
    }

    /// Appends an event as one line.
    pub(crate) fn push_event(&mut self, out: &mut Vec<u8>, event: &Event) {
        let mut line = self.beginning(event.time, event.level, event);
        self.what(&mut line, event);
        line.push('\n');
        out.extend_from_slice(line.as_bytes());
    }

    /// Appends what an app printed: as it is, with its colours, or by its parts when it was JSON.
    pub(crate) fn push_app(&mut self, out: &mut Vec<u8>, record: &LogRecord, event: &Event) {
        let mut line = self.beginning(record.time, record.level, event);
        let printed = event.message.as_deref().unwrap_or_default();
        if printed.trim_start().starts_with('{') {
            self.parts(&mut line, record);
        } else {
            line.push_str(&for_terminal(printed, self.colour));
        }
        line.push('\n');
        out.extend_from_slice(line.as_bytes());
    }

    fn beginning(&mut self, time: SystemTime, level: Level, event: &Event) -> String {
        let level = self.paint(level_colour(level), &format!("{:5}", level.as_str()));
        format!("{}{level} {} ", self.head(time), self.who(event))
    }

    fn parts(&self, line: &mut String, record: &LogRecord) {
        if record.message.is_empty() {
            line.push_str(&self.paint(BOLD, &for_terminal(&record.event, false)));
        }
        for (at, text) in record.message.lines().enumerate() {
            // What follows is set in, so that a message cannot pass for another line of the log.
            line.push_str(if at == 0 { "" } else { "\n  " });
            line.push_str(&for_terminal(text, false));
        }
        for (name, value) in &record.fields {
            line.push(' ');
            line.push_str(&self.paint(DIM, &format!("{}=", for_terminal(name, false))));
            line.push_str(&for_terminal(value, false));
        }
    }

    /// Appends access lines, which come as JSON.
    pub(crate) fn push_access(&mut self, out: &mut Vec<u8>, lines: &[u8]) {
        for json in lines.split(|byte| *byte == b'\n').filter(|json| !json.is_empty()) {
            match serde_json::from_slice::<Json>(json) {
                Ok(record) => out.extend_from_slice(self.access(&record).as_bytes()),
                Err(_) => out.extend_from_slice(json),
            }
            out.push(b'\n');
        }
    }

    /// The time of day; who needs the date as well reads the JSON.
    fn head(&mut self, time: SystemTime) -> String {
        let of_day = self.stamp.format(time)[11..23].to_owned();
        self.paint(DIM, &of_day) + " "
    }

    fn who(&self, event: &Event) -> String {
        let service = event.service.as_deref().unwrap_or_default();
        let name = event.instance.as_deref().unwrap_or(service);
        let shown = if name.is_empty() { "terrace" } else { name };
        let padded = format!("{:WHO_WIDTH$}", for_terminal(shown, false));
        if name.is_empty() { self.paint(DIM, &padded) } else { self.paint(service_colour(service), &padded) }
    }

    fn what(&self, line: &mut String, event: &Event) {
        match sentence(event) {
            Some(text) => line.push_str(&for_terminal(text, self.colour)),
            None => line.push_str(&self.paint(BOLD, event.name)),
        }
        let rest = event.fields.iter().filter(|(key, _)| !(event.message.is_none() && is_sentence(key)));
        for (key, value) in rest {
            line.push(' ');
            line.push_str(&self.paint(DIM, &format!("{key}=")));
            line.push_str(&shown(value));
        }
    }

    fn access(&self, record: &Json) -> String {
        let text = |key: &str| for_terminal(record[key].as_str().unwrap_or_default(), false);
        let status = record["status"].as_u64().unwrap_or_default();
        let time = text("time");
        let millis = record["duration_seconds"].as_f64().unwrap_or_default() * 1e3;
        let who = if record["instance"].is_string() { text("instance") } else { text("service") };
        let head = self.paint(DIM, time.get(11..23).unwrap_or(&time));
        let who = self.paint(service_colour(&text("service")), &format!("{who:WHO_WIDTH$}"));
        let status = self.paint(status_colour(status), &status.to_string());
        let (method, host, path) = (text("method"), text("host"), text("path"));
        let took = self.paint(DIM, &format!("{millis:.1} ms"));
        let outcome = match record["outcome"].as_str() {
            Some("ok") | None => String::new(),
            Some(outcome) => format!(" {}", for_terminal(outcome, false)),
        };
        format!("{head} {status}   {who} {method} {host}{path} {took}{outcome}")
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// What an event says in words: its message, or the line that a program printed.
fn sentence(event: &Event) -> Option<&str> {
    if let Some(message) = &event.message {
        return Some(message);
    }
    let field = event.fields.iter().find(|(key, _)| is_sentence(key));
    match field {
        Some((_, Value::Text(text))) => Some(text),
        _ => None,
    }
}

fn is_sentence(key: &str) -> bool {
    matches!(key, "message" | "line" | "text")
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) if text.contains(' ') => format!("{:?}", for_terminal(text, false)),
        Value::Text(text) => for_terminal(text, false),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bool(yes) => yes.to_string(),
        Value::Duration(span) => {
            let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
            format!("{:?}", Duration::from_micros(micros))
        }
    }
}

fn level_colour(level: Level) -> &'static str {
    match level {
        Level::Debug => DIM,
        Level::Info => "32",
        Level::Warn => "33",
        Level::Error => "1;31",
    }
}

fn status_colour(status: u64) -> &'static str {
    match status {
        0..=399 => "32",
        400..=499 => "33",
        _ => "1;31",
    }
}

/// The same for the same name in every run (FNV-1a).
fn service_colour(service: &str) -> &'static str {
    let hash = service.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    SERVICES[(hash % SERVICES.len() as u64) as usize]
}

/// Text that somebody else wrote, as a terminal may show it: without control characters; a tab becomes a blank.
/// Colours (`ESC [ … m`, ECMA-48 SGR) stay when `colour` is set, and are switched off at the end, since a program may be
/// killed before it does so.
pub fn for_terminal(text: &str, colour: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut coloured = false;
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let length = colour_length(rest);
        match (length, character) {
            (Some(length), _) if colour => {
                out.push_str(&rest[..length]);
                coloured = true;
            }
            (Some(_), _) => {}
            (None, '\t') => out.push(' '),
            (None, control) if control.is_control() => {}
            (None, plain) => out.push(plain),
        }
        rest = &rest[length.unwrap_or_else(|| character.len_utf8())..];
    }
    if coloured {
        out.push_str("\u{1b}[0m");
    }
    out
}

/// Bytes of the colour sequence that `text` begins with.
fn colour_length(text: &str) -> Option<usize> {
    let body = text.strip_prefix("\u{1b}[")?;
    let digits = body.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b';').count();
    (body.as_bytes().get(digits) == Some(&b'm')).then_some(digits + 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(event: &Event, colour: bool) -> String {
        let mut out = Vec::new();
        Pretty::new(colour).push_event(&mut out, event);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event_reads_like_a_line_of_a_diary() {
        let mut event = Event::new(Level::Info, "fleet.instance.ready")
            .service("orders")
            .instance("orders-1")
            .message("ready")
            .field("port", 34_567_u16)
            .field("after", Duration::from_millis(210));
        event.time = SystemTime::UNIX_EPOCH + Duration::from_millis(43_384_512);
        assert_eq!(line(&event, false), "12:03:04.512 info  orders-1       ready port=34567 after=210ms\n");
    }

    #[test]
    fn an_event_without_words_shows_its_name() {
        let event = Event::new(Level::Warn, "reload.refused").field("why", "line 3: no");
        assert_eq!(
            line(&event, false),
            "00:00:00.000 warn  terrace        reload.refused why=\"line 3: no\"\n"
        );
        let output = Event::new(Level::Info, "instance.output").field("line", "listening");
        assert_eq!(line(&output, false), "00:00:00.000 info  terrace        listening\n");
    }

    #[test]
    fn a_program_may_colour_its_lines_but_not_steer_the_terminal() {
        let event =
            Event::new(Level::Info, "o").message("\u{1b}[31mred\u{1b}[0m\u{1b}[2J\u{1b}]0;title\u{7}\ta\r\n");
        assert!(line(&event, true).ends_with("\u{1b}[31mred\u{1b}[0m[2J]0;title a\u{1b}[0m\n"));
        assert!(line(&event, false).ends_with(" red[2J]0;title a\n"));
    }

    #[test]
    fn an_apps_json_is_shown_by_its_parts_and_its_plain_lines_as_they_are() {
        let line = |printed: &'static str| {
            let event =
                Event::new(Level::Info, "app.output").service("orders").instance("orders-1").message(printed);
            let record = crate::records::record(&event);
            let mut out = Vec::new();
            Pretty::new(true).push_app(&mut out, &record, &event);
            for_terminal(&String::from_utf8(out).unwrap().replace('\n', "|"), false)
        };
        assert_eq!(
            line(r#"{"level":40,"msg":"slow\n00:00:00.000 info  terrace","ms":7,"to":"a b"}"#),
            "00:00:00.000 warn  orders-1       slow|  00:00:00.000 info  terrace ms=7 to=\"a b\"|"
        );
        assert_eq!(line("ERROR \u{1b}[31mno"), "00:00:00.000 error orders-1       ERROR no|");
    }

    #[test]
    fn a_request_on_a_terminal_is_short() {
        let json = br#"{"time":"2023-11-14T22:13:20.123456Z","status":502,"duration_seconds":0.0015,"method":"GET","host":"shop","path":"/o","service":"orders","outcome":"upstream.reset"}"#;
        let mut out = Vec::new();
        Pretty::new(false).push_access(&mut out, json);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "22:13:20.123 502   orders         GET shop/o 1.5 ms upstream.reset\n"
        );
    }

    #[test]
    fn a_service_keeps_its_colour() {
        let event = |service: &str| line(&Event::new(Level::Info, "x").service(service).message("m"), true);
        assert_eq!(event("orders"), event("orders"));
        assert!(event("orders").contains("\u{1b}[2m00:00:00.000\u{1b}[0m"));
    }
}
