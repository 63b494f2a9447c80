//! `terrace traces`: the kept traces as a list, and one as a waterfall.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::SystemTime;

use serde_json::Value;
use terrace_admin::client::{self, ClientError};
use terrace_runtime::clock;
use terrace_telemetry::for_terminal;

use super::{Paint, encoded, print, second, values};
use crate::cli::{Global, Traces};

/// Characters of the waterfall's bars.
const BAR_WIDTH: usize = 40;
/// Of a span's name with what it belongs to.
const NAME_WIDTH: usize = 46;
/// Of an attribute; the whole is in the answer with `--json`.
const ATTRIBUTE_CHARACTERS_MAX: usize = 200;
/// Deeper spans are not set in further.
const DEPTH_MAX: usize = 12;

/// Asks, and prints the answer.
pub(super) async fn run(socket: &Path, traces: &Traces, global: &Global) -> Result<(), ClientError> {
    let path = match &traces.id {
        Some(id) => format!("/v1/traces/{}", encoded(id)),
        None => list_path(traces),
    };
    let value = client::request(socket, "GET", &path, None).await?;
    print(global, &value, |paint| match traces.id {
        Some(_) => waterfall(&value, paint),
        None => list(&value, clock::wall(), paint),
    });
    Ok(())
}

fn list_path(traces: &Traces) -> String {
    let mut path = format!("/v1/traces?limit={}&errors={}", traces.lines, traces.errors);
    for (key, wanted) in [("service", &traces.service), ("route", &traces.route), ("text", &traces.text)] {
        if let Some(wanted) = wanted {
            let _infallible = write!(path, "&{key}={}", encoded(wanted));
        }
    }
    if let Some(slower) = traces.slower {
        let _infallible = write!(path, "&slower_than_seconds={}", slower.as_secs_f64());
    }
    path
}

fn spans(count: &Value) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} span{plural}")
}

fn list(value: &Value, now: SystemTime, paint: Paint) -> String {
    let mut out = String::new();
    for trace in values(&value["traces"]) {
        let failed = trace["is_error"] == true;
        let retried = if trace["is_retried"] == true { ", retried" } else { "" };
        let status =
            trace["status"].as_u64().map_or_else(|| "   ".to_owned(), |status| format!("{status:>3}"));
        let status = if failed { paint.bad(&status) } else { status };
        let services: Vec<&str> = values(&trace["services"]).filter_map(Value::as_str).collect();
        let _infallible = writeln!(
            out,
            "{} {} {status} {:>8} {}{} {} {}",
            paint.faint(&second(text(trace, "start"), now)),
            text(trace, "trace_id"),
            time(trace["duration_seconds"].as_f64()),
            paint.bold(&shown(text(trace, "root"))),
            path(trace),
            shown(&services.join(" → ")),
            paint.faint(&format!("({}, {}{retried})", spans(&trace["spans"]), text(trace, "kept"))),
        );
    }
    if out.is_empty() {
        out.push_str("no trace is kept that fits; failed and slow requests are always kept, others by [trace] sample\n");
    }
    out
}

/// The path that was asked for, where the name does not say it.
fn path(trace: &Value) -> String {
    match text(trace, "path") {
        path if text(trace, "root").ends_with(path) => String::new(),
        path => format!(" {}", shown(path)),
    }
}

/// Each span with a bar that stands where it happened in the time of the whole.
fn waterfall(value: &Value, paint: Paint) -> String {
    let spans: Vec<&Value> = values(&value["spans"]).collect();
    let starts: Vec<f64> = spans.iter().map(|span| start(span)).collect();
    let ends = spans.iter().zip(&starts).map(|(span, start)| start + duration(span));
    let first = starts.iter().copied().fold(f64::INFINITY, f64::min);
    let whole = (ends.fold(first, f64::max) - first).max(1e-9);
    let depths = depths(&spans);
    let mut out = String::new();
    let _infallible = writeln!(
        out,
        "{} {}, {} spans",
        paint.bold(&format!("trace {}", text(value, "trace_id"))),
        time(Some(whole)),
        spans.len()
    );
    for ((span, start), depth) in spans.iter().zip(&starts).zip(depths) {
        push_span(&mut out, span, (start - first) / whole, duration(span) / whole, depth, paint);
    }
    out
}

fn push_span(out: &mut String, span: &Value, from: f64, share: f64, depth: usize, paint: Paint) {
    let who = match text(span, "instance") {
        "" => text(span, "service"),
        instance => instance,
    };
    let name = format!("{}{} {}", "  ".repeat(depth), shown(who), shown(text(span, "name")));
    let name: String = name.chars().take(NAME_WIDTH).collect();
    let failed = span["is_error"] == true;
    let bar = bar(from, share);
    let bar = if failed { paint.bad(&bar) } else { paint.name(who, &bar) };
    let mark = if failed { paint.bad(" failed") } else { String::new() };
    let _infallible = writeln!(
        out,
        "{name:<NAME_WIDTH$} {bar} {:>8}{mark}{}",
        time(Some(duration(span))),
        paint.faint(&attributes(span)),
    );
}

/// At least one character wide, and within its place.
fn bar(from: f64, share: f64) -> String {
    let at = ((from * BAR_WIDTH as f64) as usize).min(BAR_WIDTH - 1);
    let width = ((share * BAR_WIDTH as f64).round() as usize).clamp(1, BAR_WIDTH - at);
    format!("{}{}{}", "·".repeat(at), "█".repeat(width), "·".repeat(BAR_WIDTH - at - width))
}

/// How deep each span lies below spans that are known. Parents come before their children.
fn depths(spans: &[&Value]) -> Vec<usize> {
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    let mut depths = Vec::with_capacity(spans.len());
    for span in spans {
        let parent = span["parent_id"].as_str().and_then(|parent| known.get(parent));
        let depth = parent.map_or(0, |depth| (depth + 1).min(DEPTH_MAX));
        known.insert(text(span, "span_id"), depth);
        depths.push(depth);
    }
    depths
}

/// The few that say at once what it was about.
fn attributes(span: &Value) -> String {
    const SHOWN: [&str; 6] = [
        "http.response.status_code",
        "http.route",
        "url.path",
        "error.type",
        "terrace.reason",
        "db.query.text",
    ];
    let mut out = String::new();
    for key in SHOWN {
        let value = match &span["attributes"][key] {
            Value::Null => continue,
            Value::String(text) => shown(text),
            other => other.to_string(),
        };
        let value = match value.char_indices().nth(ATTRIBUTE_CHARACTERS_MAX) {
            Some((end, _)) => format!("{}…", &value[..end]),
            None => value,
        };
        let _infallible = write!(out, " {value}");
    }
    out
}

fn start(span: &Value) -> f64 {
    seconds_of_day(text(span, "start")).unwrap_or_default()
}

fn duration(span: &Value) -> f64 {
    span["duration_seconds"].as_f64().unwrap_or_default()
}

/// `2026-01-31T23:59:59.123456Z` as seconds, exact for differences between moments of a trace: days count as in one
/// month, and a trace over the end of a month is only drawn badly.
fn seconds_of_day(time: &str) -> Option<f64> {
    let (day, of_day) = time.split_once('T')?;
    let day: f64 = day.get(8..10)?.parse().ok()?;
    let mut parts = of_day.trim_end_matches('Z').split(':');
    let mut part = || parts.next()?.parse::<f64>().ok();
    Some(((day * 24.0 + part()?) * 60.0 + part()?) * 60.0 + part()?)
}

/// For a column of eight.
fn time(seconds: Option<f64>) -> String {
    match seconds {
        None => String::new(),
        Some(seconds) if seconds < 0.001 => format!("{:.0} µs", seconds * 1e6),
        Some(seconds) if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        Some(seconds) => format!("{seconds:.2} s"),
    }
}

fn shown(text: &str) -> String {
    for_terminal(text, false)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn span(id: &str, parent: Option<&str>, name: &str, start: &str, seconds: f64) -> Value {
        json!({
            "span_id": id, "parent_id": parent, "name": name, "service": "terrace", "instance": "",
            "start": format!("2026-01-31T23:59:{start}Z"), "duration_seconds": seconds, "is_error": name == "try",
            "attributes": { "http.response.status_code": 502 },
        })
    }

    #[test]
    fn a_trace_is_a_waterfall_in_proportion() {
        let value = json!({ "trace_id": "4bf9", "spans": [
            span("1", None, "GET /orders/*", "59.000000", 0.4),
            span("2", Some("1"), "try", "59.100000", 0.1),
            span("3", Some("2"), "connect", "59.100000", 0.000_01),
            span("4", Some("9"), "elsewhere", "59.399999", 0.5),
        ] });
        let shown = waterfall(&value, Paint(false));
        let bars: Vec<&str> = shown
            .lines()
            .skip(1)
            .map(|line| line.split_whitespace().find(|word| word.contains('█')).unwrap())
            .collect();
        assert!(bars.iter().all(|bar| bar.chars().count() == BAR_WIDTH), "{shown}");
        assert_eq!(
            bars.iter().map(|bar| bar.chars().position(|cell| cell == '█').unwrap()).collect::<Vec<_>>(),
            [0, 4, 4, 17]
        );
        assert_eq!(
            bars.iter().map(|bar| bar.chars().filter(|cell| *cell == '█').count()).collect::<Vec<_>>(),
            [18, 4, 1, 22]
        );
        assert!(
            shown.contains("\n  terrace try")
                && shown.contains("\n    terrace connect")
                && shown.contains("\nterrace elsewhere"),
            "{shown}"
        );
        assert!(shown.contains("100.0 ms failed 502"), "{shown}");
        assert!(shown.starts_with("trace 4bf9 900.0 ms, 4 spans\n"), "{shown}");
    }

    #[test]
    fn a_list_says_what_each_was_and_why_it_was_kept() {
        let trace = json!({
            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "root": "GET /orders/*", "path": "/orders/17", "services": ["orders", "stock"],
            "start": "2026-01-31T12:00:00.000000Z", "duration_seconds": 1.25, "spans": 7, "is_error": true,
            "status": 502, "kept": "error",
        });
        assert_eq!(
            list(&json!({ "traces": [trace] }), SystemTime::UNIX_EPOCH, Paint(false)),
            "2026-01-31 12:00:00 4bf92f3577b34da6a3ce929d0e0e4736 502   1.25 s GET /orders/* /orders/17 orders → stock (7 spans, error)\n"
        );
        assert!(
            list(&json!({ "traces": [] }), SystemTime::UNIX_EPOCH, Paint(false))
                .starts_with("no trace is kept")
        );
    }

    #[test]
    fn odd_answers_draw_something() {
        for spans in [json!([]), json!([{}]), json!([{ "start": "x", "duration_seconds": -1.0 }]), json!(5)] {
            waterfall(&json!({ "spans": spans }), Paint(true));
        }
    }
}
