//! A line that an app printed, read for what it says of itself.
//!
//! Most logging libraries can write JSON, and hardly two name things alike. So a line that is one JSON object is read by
//! the names that are in use; what is not understood stays as a field. Any other line is its own message. Whatever an app prints, a
//! record comes of it, and never one that costs more than a few times its line.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::Value as Json;
use terrace_instruments::{Level, Timestamp, TraceId, push_json_string};

use super::clean::clean;
use super::levels::{level_of, level_of_number};
use super::{APP_OUTPUT, LogRecord, moment, plain};

/// A longer line is cut there before it is read.
pub const LINE_BYTES_MAX: usize = 64 << 10;
/// Fields of one line; further ones are counted in a field `fields_left_out`.
const FIELDS_MAX: usize = 128;
/// Longer names are no names of events or requests.
const NAME_BYTES_MAX: usize = 128;
/// An app's own time is believed when it is this close to when the line came; a clock that is further off would hide
/// its records from whoever looks at the last hour.
pub const TIME_OFF_MAX: Duration = Duration::from_secs(86_400);

/// What a line says.
#[derive(Debug, Clone, PartialEq)]
pub struct AppLine {
    /// How much it matters; `Info` when it does not say.
    pub level: Level,
    /// When it was written, as the app says.
    pub time: Option<SystemTime>,
    /// Its own name for what happened, or its logger's.
    pub event: Option<String>,
    /// The text for people.
    pub message: String,
    /// The trace.
    pub trace: Option<TraceId>,
    /// The request; empty where unknown.
    pub request_id: String,
    /// All else: name and value as JSON text. No name is twice in it.
    pub fields: Vec<(String, String)>,
    /// Whether it was a JSON object.
    pub is_json: bool,
    /// Fields that were too many.
    fields_left_out: u64,
}

/// Reads a line. `is_cut` says that its end was left out: then the pairs of a JSON object that are whole are read.
///
/// Of a JSON object, by names of any case: the level (`level`, `severity`, `lvl`, `levelname`, `level_name`,
/// `log.level`, `@l`; words or the numbers of pino, syslog and Monolog), the message (`msg`, `message`, `body`, `@m`),
/// the time (`ts`, `time`, `timestamp`, `@timestamp`, `@t`; RFC 3339 or a number since 1970), the trace (`trace_id`,
/// `traceId`, `trace.id`, `dd.trace_id`, `otelTraceID`, `traceparent`), the request (`request_id`, `requestId`, `req_id`,
/// `reqId`, `req.id`) and the event (`event`, `event.name`, `logger`, `logger_name`, `target`). A span's id becomes the
/// field `span_id`. What stands under `fields` (as Rust's `tracing` writes it) is read as if it stood beside it. The
/// first of two keys with one meaning counts; the other stays a field.
pub fn read_line(text: &str, is_cut: bool) -> AppLine {
    let (text, is_cut) = match text.len() > LINE_BYTES_MAX {
        true => (head(text, LINE_BYTES_MAX), true),
        false => (text, is_cut),
    };
    match object(text.trim(), is_cut) {
        Some(pairs) => AppLine::of_pairs(pairs),
        None => AppLine::of_text(text),
    }
}

impl LogRecord {
    /// The record of a line that an instance wrote at `at`. A time of the app's own that is too far off becomes a field
    /// `app_time`.
    pub fn of_app(
        at: SystemTime,
        service: &str,
        instance: &str,
        text: &str,
        is_stderr: bool,
        is_cut: bool,
    ) -> Self {
        let mut line = read_line(text, is_cut);
        let is_near = |time: &SystemTime| match time.duration_since(at) {
            Ok(ahead) => ahead <= TIME_OFF_MAX,
            Err(behind) => behind.duration() <= TIME_OFF_MAX,
        };
        if let Some(far) = line.time.take_if(|time| !is_near(time)) {
            let written = Timestamp::default().format(far).to_owned();
            line.add_field("app_time".to_owned(), &Json::String(written));
        }
        Self {
            time: line.time.unwrap_or(at),
            level: line.level,
            event: line.event.unwrap_or_else(|| APP_OUTPUT.to_owned()),
            service: service.to_owned(),
            instance: instance.to_owned(),
            request_id: line.request_id,
            trace: line.trace,
            message: line.message,
            fields: line.fields,
            is_app: true,
            is_stderr,
            is_cut,
        }
    }
}

/// What a key of an object is about.
enum Meaning {
    Level,
    Message,
    Time,
    Trace,
    DatadogTrace,
    Traceparent,
    Span,
    Request,
    Event,
    /// An object whose pairs belong one level up.
    Inner,
    Trailer(&'static str),
    Other,
}

fn meaning(key: &str) -> Meaning {
    const KEY_BYTES_MAX: usize = 16;
    if key.len() > KEY_BYTES_MAX {
        return Meaning::Other;
    }
    match key.to_ascii_lowercase().as_str() {
        "level" | "severity" | "lvl" | "levelname" | "level_name" | "log.level" | "@l" => Meaning::Level,
        "msg" | "message" | "body" | "@m" => Meaning::Message,
        "ts" | "time" | "timestamp" | "@timestamp" | "@t" => Meaning::Time,
        "trace_id" | "traceid" | "trace.id" | "oteltraceid" => Meaning::Trace,
        "dd.trace_id" => Meaning::DatadogTrace,
        "traceparent" => Meaning::Traceparent,
        "span_id" | "spanid" | "span.id" | "dd.span_id" | "otelspanid" => Meaning::Span,
        "request_id" | "requestid" | "req_id" | "reqid" | "req.id" | "request.id" | "x-request-id" => {
            Meaning::Request
        }
        "event" | "event.name" | "event_name" | "logger" | "logger_name" | "target" => Meaning::Event,
        "fields" => Meaning::Inner,
        "trace" => Meaning::Trailer("trace"),
        "span" => Meaning::Trailer("span"),
        "dd" => Meaning::Trailer("dd"),
        "req" => Meaning::Trailer("req"),
        _ => Meaning::Other,
    }
}

impl AppLine {
    fn empty(is_json: bool) -> Self {
        Self {
            level: Level::Info,
            time: None,
            event: None,
            message: String::new(),
            trace: None,
            request_id: String::new(),
            fields: Vec::new(),
            is_json,
            fields_left_out: 0,
        }
    }

    fn of_text(text: &str) -> Self {
        let cleaned = clean(text);
        let (level, message) = plain::level_at_head(cleaned.trim_end());
        Self { level: level.unwrap_or(Level::Info), message: message.to_owned(), ..Self::empty(false) }
    }

    fn of_pairs(pairs: Vec<(String, Json)>) -> Self {
        let mut reading = Reading { line: Self::empty(true), level: None };
        for (key, value) in pairs {
            reading.take(key, value, true);
        }
        let Reading { mut line, level } = reading;
        line.level = level.unwrap_or(Level::Info);
        line.settle_event();
        if line.fields_left_out > 0 {
            line.fields.push(("fields_left_out".to_owned(), line.fields_left_out.to_string()));
        }
        line
    }

    /// Python's structlog calls the message `event`. A name has no blanks; a sentence is the message, if there is no other.
    fn settle_event(&mut self) {
        let Some(event) = self.event.take() else { return };
        let is_name =
            !event.is_empty() && event.len() <= NAME_BYTES_MAX && !event.contains(char::is_whitespace);
        if is_name {
            self.event = Some(event);
        } else if self.message.is_empty() {
            self.message = event;
        } else {
            self.add_field("event".to_owned(), &Json::String(event));
        }
    }

    fn add_field(&mut self, name: String, value: &Json) {
        let name = clean(head(&name, NAME_BYTES_MAX)).into_owned();
        if self.fields.len() >= FIELDS_MAX || self.fields.iter().any(|(other, _)| *other == name) {
            self.fields_left_out += 1;
            return;
        }
        self.fields.push((name, json_text(value)));
    }
}

struct Reading {
    line: AppLine,
    level: Option<Level>,
}

impl Reading {
    /// Takes a pair in by what its key means; what says nothing new, or nothing that is understood, becomes a field.
    fn take(&mut self, key: String, value: Json, is_outer: bool) {
        let line = &mut self.line;
        let taken = match meaning(&key) {
            Meaning::Level => fill(&mut self.level, || level(&value)),
            Meaning::Time => fill(&mut line.time, || time(&value)),
            Meaning::Trace => fill(&mut line.trace, || trace_id(value.as_str()?)),
            Meaning::DatadogTrace => fill(&mut line.trace, || datadog_trace_id(&value)),
            Meaning::Traceparent => fill(&mut line.trace, || trace_id(value.as_str()?.split('-').nth(1)?)),
            Meaning::Message => fill_text(&mut line.message, || words(&value)),
            Meaning::Request => {
                fill_text(&mut line.request_id, || words(&value).filter(|id| id.len() <= NAME_BYTES_MAX))
            }
            Meaning::Event => fill(&mut line.event, || Some(clean(value.as_str()?).into_owned())),
            Meaning::Span => return line.add_field("span_id".to_owned(), &value),
            Meaning::Inner if is_outer && value.is_object() => return self.take_inner(value),
            Meaning::Trailer(whose) => {
                self.look_into(whose, &value);
                false
            }
            Meaning::Inner | Meaning::Other => false,
        };
        if !taken {
            self.line.add_field(key, &value);
        }
    }

    fn take_inner(&mut self, value: Json) {
        let Json::Object(pairs) = value else { return };
        for (key, value) in pairs {
            self.take(key, value, false);
        }
    }

    /// The ids that Elastic's, Datadog's and pino's libraries put one level down. The object stays a field, too.
    fn look_into(&mut self, whose: &str, value: &Json) {
        let line = &mut self.line;
        match whose {
            "trace" => drop(fill(&mut line.trace, || trace_id(value["id"].as_str()?))),
            "dd" => drop(fill(&mut line.trace, || datadog_trace_id(&value["trace_id"]))),
            "req" => drop(fill_text(&mut line.request_id, || {
                words(&value["id"]).filter(|id| id.len() <= NAME_BYTES_MAX)
            })),
            _ => {}
        }
    }
}

/// Fills what is empty yet; says whether it did.
fn fill<T>(slot: &mut Option<T>, read: impl FnOnce() -> Option<T>) -> bool {
    if slot.is_none() {
        *slot = read();
        return slot.is_some();
    }
    false
}

fn fill_text(slot: &mut String, read: impl FnOnce() -> Option<String>) -> bool {
    if slot.is_empty()
        && let Some(text) = read()
    {
        *slot = text;
        return true;
    }
    false
}

fn level(value: &Json) -> Option<Level> {
    match value {
        Json::String(word) => level_of(word.trim()).or_else(|| level_of_number(word.trim().parse().ok()?)),
        Json::Number(number) => level_of_number(number.as_u64()?),
        _ => None,
    }
}

fn time(value: &Json) -> Option<SystemTime> {
    const DIGITS_MAX: usize = 32;
    match value {
        Json::Number(number) => moment::epoch(number),
        Json::String(text) => moment::rfc3339(text).or_else(|| {
            let number =
                text.len() <= DIGITS_MAX && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            if number { moment::epoch(&serde_json::from_str(text).ok()?) } else { None }
        }),
        _ => None,
    }
}

/// 32 hexadecimal digits in any case, or 16 as older systems have them.
fn trace_id(text: &str) -> Option<TraceId> {
    match text.len() {
        32 => text.to_ascii_lowercase().parse().ok(),
        16 => format!("{:0>32}", text.to_ascii_lowercase()).parse().ok(),
        _ => None,
    }
}

/// Datadog writes the lower half in decimal, or the whole in hexadecimal.
fn datadog_trace_id(value: &Json) -> Option<TraceId> {
    let id = match value {
        Json::Number(number) => number.as_u64(),
        Json::String(text) if text.len() == 32 => return trace_id(text),
        Json::String(text) => text.parse().ok(),
        _ => None,
    };
    id.filter(|id| *id != 0).map(|id| TraceId(u128::from(id)))
}

/// Text, or a number or truth value as text.
fn words(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(clean(text).into_owned()),
        Json::Number(_) | Json::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

fn json_text(value: &Json) -> String {
    let Json::String(text) = value else { return value.to_string() };
    let mut out = Vec::with_capacity(text.len() + 2);
    push_json_string(&mut out, &clean(text));
    String::from_utf8(out).expect("invariant: JSON text is made of text and ASCII escapes")
}

/// The pairs of an object, in their order. `None` when the text is no JSON object, or none that ends and was not cut.
/// `serde_json` refuses values nested more than 127 deep.
fn object(text: &str, is_cut: bool) -> Option<Vec<(String, Json)>> {
    if !text.starts_with('{') {
        return None;
    }
    let mut pairs = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = Pairs(&mut pairs).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    match read {
        Ok(()) => Some(pairs),
        Err(error) if is_cut && error.is_eof() && !pairs.is_empty() => Some(pairs),
        Err(_) => None,
    }
}

/// As many whole characters as fit into so many bytes.
fn head(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

/// Collects pairs into a list that keeps what was read before an error.
struct Pairs<'a>(&'a mut Vec<(String, Json)>);

impl<'de> DeserializeSeed<'de> for Pairs<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Pairs<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(pair) = map.next_entry()? {
            self.0.push(pair);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn read(text: &str) -> AppLine {
        read_line(text, false)
    }

    fn fields(line: &AppLine) -> Vec<(&str, &str)> {
        line.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    fn millis(line: &AppLine) -> u128 {
        line.time.expect("it says when").duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()
    }

    #[test]
    fn a_line_of_pino_is_understood() {
        let line = read(
            r#"{"level":50,"time":1700000000123,"pid":7,"req":{"id":"r-1","method":"GET"},"msg":"no \u001b[31mstock\u001b[0m","err":{"code":3}}"#,
        );
        assert_eq!(
            (line.level, line.message.as_str(), line.request_id.as_str()),
            (Level::Error, "no stock", "r-1")
        );
        assert_eq!(millis(&line), 1_700_000_000_123);
        assert_eq!(
            fields(&line),
            [("pid", "7"), ("req", r#"{"id":"r-1","method":"GET"}"#), ("err", r#"{"code":3}"#)]
        );
    }

    #[test]
    fn a_line_of_rust_tracing_is_understood() {
        let line = read(
            r#"{"timestamp":"2026-01-31T23:59:59.5Z","level":"WARN","fields":{"message":"slow","took":1.5},"target":"shop::orders"}"#,
        );
        assert_eq!(
            (line.level, line.message.as_str(), line.event.as_deref()),
            (Level::Warn, "slow", Some("shop::orders"))
        );
        assert_eq!((millis(&line) % 1_000, fields(&line)), (500, vec![("took", "1.5")]));
    }

    #[test]
    fn structlog_calls_its_message_event() {
        let line = read(r#"{"event":"user logged in","level":"info","user":"eve"}"#);
        assert_eq!((line.message.as_str(), line.event.as_deref()), ("user logged in", None));
        let line = read(r#"{"event":"user.login","message":"hello","level":"info"}"#);
        assert_eq!((line.message.as_str(), line.event.as_deref()), ("hello", Some("user.login")));
    }

    #[test]
    fn the_trace_is_found_under_its_many_names() {
        let id: TraceId = TRACE.parse().unwrap();
        for json in [
            format!(r#"{{"trace_id":"{TRACE}"}}"#),
            format!(r#"{{"traceId":"{}"}}"#, TRACE.to_uppercase()),
            format!(r#"{{"trace.id":"{TRACE}"}}"#),
            format!(r#"{{"trace":{{"id":"{TRACE}"}}}}"#),
            format!(r#"{{"dd":{{"trace_id":"{TRACE}"}}}}"#),
            format!(r#"{{"traceparent":"00-{TRACE}-00f067aa0ba902b7-01"}}"#),
        ] {
            assert_eq!(read(&json).trace, Some(id), "{json}");
        }
        assert_eq!(
            read(r#"{"dd.trace_id":"11803532876627986230"}"#).trace,
            Some(TraceId(0xa3ce_929d_0e0e_4736))
        );
        assert_eq!(read(r#"{"trace_id":"a3ce929d0e0e4736"}"#).trace, Some(TraceId(0xa3ce_929d_0e0e_4736)));
        let none = read(r#"{"trace_id":"00000000000000000000000000000000","spanId":"1"}"#);
        assert_eq!((none.trace, none.fields[1].clone()), (None, ("span_id".to_owned(), "\"1\"".to_owned())));
    }

    #[test]
    fn what_is_not_understood_stays_a_field_and_the_first_of_two_counts() {
        let line = read(
            r#"{"level":"terrible","severity":"error","time":"noon","msg":{"a":1},"message":"b","body":"c"}"#,
        );
        assert_eq!((line.level, line.message.as_str(), line.time), (Level::Error, "b", None));
        assert_eq!(
            fields(&line),
            [("level", "\"terrible\""), ("time", "\"noon\""), ("msg", r#"{"a":1}"#), ("body", "\"c\"")]
        );
    }

    #[test]
    fn a_line_that_is_no_object_is_its_own_message() {
        for text in ["listening", "[1,2]", "{not json}", "{\"a\":1} tail", "{\"a\":", "\"text\"", "", "{"] {
            let line = read(text);
            assert_eq!(
                (line.is_json, line.message.as_str(), line.level),
                (false, text, Level::Info),
                "{text}"
            );
        }
        assert_eq!(read("\u{1b}[31mERROR\u{1b}[0m no\r").message, "ERROR no");
        assert_eq!(read("\u{1b}[31mERROR\u{1b}[0m no\r").level, Level::Error);
    }

    #[test]
    fn of_an_object_that_was_cut_off_the_whole_pairs_are_read() {
        let line = read_line(r#"{"level":"error","msg":"no","stack":"at a.js:1\n at b"#, true);
        assert_eq!(
            (line.is_json, line.level, line.message.as_str(), line.fields.len()),
            (true, Level::Error, "no", 0)
        );
        assert!(!read_line(r#"{"level"#, true).is_json);
    }

    #[test]
    fn fields_are_bounded_and_no_name_is_twice() {
        let pairs: Vec<String> = (0..1_000).map(|number| format!("\"k{number}\":{number}")).collect();
        let line = read(&format!("{{\"a\":1,\"a\":2,{}}}", pairs.join(",")));
        assert_eq!(line.fields.len(), FIELDS_MAX + 1);
        assert_eq!(line.fields.last(), Some(&("fields_left_out".to_owned(), "874".to_owned())));
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(1_000), "]".repeat(1_000));
        assert!(!read(&deep).is_json);
        let long = format!("{{\"msg\":\"hello\",\"a\":\"{}\"}}", "é".repeat(LINE_BYTES_MAX));
        let line = read(&long);
        assert_eq!((line.is_json, line.message.as_str()), (true, "hello"));
        assert!(read(&"é".repeat(LINE_BYTES_MAX)).message.len() <= LINE_BYTES_MAX);
    }

    #[test]
    fn an_apps_clock_is_believed_within_a_day() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let time = |seconds: u64| {
            let text = format!("{{\"ts\":{seconds},\"msg\":\"x\"}}");
            LogRecord::of_app(at, "web", "web-1", &text, false, false).time
        };
        assert_eq!(time(1_699_999_990), at - Duration::from_secs(10));
        assert_eq!(time(1_700_000_010), at + Duration::from_secs(10));
        assert_eq!((time(0), time(4_000_000_000)), (at, at));
        let far = LogRecord::of_app(at, "web", "web-1", "{\"ts\":0}", false, false);
        assert_eq!(far.fields, [("app_time".to_owned(), "\"1970-01-01T00:00:00.000000Z\"".to_owned())]);
    }

    fn json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            any::<String>().prop_map(Json::from),
            "(trace|warn|ERROR|2026-01-31T00:00:00Z|[0-9a-f]{32}|a b)".prop_map(Json::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop::collection::btree_map("(fields|id|trace_id|[a-z]{1,3})", inner, 0..4)
                .prop_map(|map| Json::Object(map.into_iter().collect()))
        })
    }

    proptest! {
        /// Whatever a program prints, as one object: nothing is lost but what has a place of its own, all values are JSON.
        #[test]
        fn any_object_becomes_a_record(
            pairs in prop::collection::btree_map("(level|msg|ts|event|trace_id|dd|fields|req|[a-zA-Z.]{1,8})", json(), 0..12),
        ) {
            let text = Json::Object(pairs.into_iter().collect()).to_string();
            let line = read(&text);
            prop_assert!(line.is_json);
            for (name, value) in &line.fields {
                prop_assert!(serde_json::from_str::<Json>(value).is_ok(), "{}: {}", name, value);
            }
            let mut names: Vec<&String> = line.fields.iter().map(|(name, _)| name).collect();
            names.sort();
            names.dedup();
            prop_assert_eq!(names.len(), line.fields.len());
        }

        #[test]
        fn any_text_becomes_a_record(text in any::<String>(), is_cut in any::<bool>()) {
            let line = read_line(&text, is_cut);
            prop_assert!(line.message.chars().all(|c| !c.is_control() || c == '\t' || c == '\n'));
        }

        #[test]
        fn a_plain_line_is_kept_word_for_word(text in "[a-z][a-z =:]{0,40}[a-z]") {
            prop_assert_eq!(read(&text).message, text);
        }
    }
}
