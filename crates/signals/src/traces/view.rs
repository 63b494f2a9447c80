//! What a list shows of a trace, and what a search finds in it; both made anew whenever spans came, so that reading
//! a list of thousands costs no more than reading it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::SystemTime;

use rustc_hash::FxHashSet;
use terrace_instruments::{Span, SpanId, SpanKind, SpanStatus, TraceId, Value};

use super::skew;
use super::tree::{self, Placed};
use super::trigrams::Trigrams;
use super::{KEPT_ATTRIBUTE, PATH_CHARACTERS_MAX, SKEW_ATTRIBUTE, TraceSummary};

/// The name under which Terrace's own spans come.
pub(super) const TERRACE: &str = "terrace";

const ROUTE_ATTRIBUTES: [&str; 2] = ["terrace.route", "http.route"];
const PATH_ATTRIBUTE: &str = "url.path";
const SERVICE_ATTRIBUTE: &str = "terrace.service";
const STATUS_ATTRIBUTE: &str = "http.response.status_code";

/// All spans as they are shown: in tree order, with clocks put right.
pub(super) fn shown(spans: &[Span]) -> Vec<Span> {
    let mut shown = Vec::with_capacity(spans.len());
    for placed in tree::arrange(spans) {
        let mut span = spans[placed.index].clone();
        if !placed.shift.is_zero() {
            span.start = skew::later(span.start, placed.shift);
            let seconds = Value::Float(placed.shift.as_secs_f64());
            span.attributes.push((Cow::Borrowed(SKEW_ATTRIBUTE), seconds));
        }
        shown.push(span);
    }
    shown
}

/// The line of a list. `spans` is not empty.
pub(super) fn summary(trace: TraceId, spans: &[Span], left_out: u64) -> TraceSummary {
    let order = tree::arrange(spans);
    let in_order = || order.iter().map(|placed| &spans[placed.index]);
    let (start, end) = extent(spans, &order);
    let (is_error, is_retried) = outcome(spans, &order);
    TraceSummary {
        trace,
        root: in_order().next().map_or_else(String::new, |span| span.name.clone().into_owned()),
        path: in_order().find_map(path_of).unwrap_or_default(),
        route: in_order().find_map(route_of).unwrap_or_default().to_owned(),
        services: services(in_order()),
        start,
        duration: end.duration_since(start).unwrap_or_default(),
        spans: spans.len(),
        spans_left_out: left_out,
        is_error,
        is_retried,
        status: in_order().filter(|span| span.kind == SpanKind::Server).find_map(status_of),
        kept: in_order().find_map(kept_of).unwrap_or("sampled"),
    }
}

/// Text attribute of a span.
fn text<'a>(span: &'a Span, name: &str) -> Option<&'a str> {
    match attribute(span, name) {
        Some(Value::Text(text)) if !text.is_empty() => Some(text),
        _ => None,
    }
}

/// The route that a span of ours names; what a framework of the app calls its routes is another thing.
pub(super) fn route_of(span: &Span) -> Option<&str> {
    if span.service.as_ref() != TERRACE {
        return None;
    }
    ROUTE_ATTRIBUTES.iter().find_map(|name| text(span, name))
}

/// Whether anything failed, and whether nothing did but tries after which another went well, with what was below them.
fn outcome(spans: &[Span], order: &[Placed]) -> (bool, bool) {
    let is_try = |span: &&Span| span.kind == SpanKind::Client && span.service.as_ref() == TERRACE;
    let has_failed = |span: &Span| span.status == SpanStatus::Error;
    let failed_hop = |span: &&Span| span.kind == SpanKind::Server && has_failed(span);
    let failed_hops: FxHashSet<SpanId> = spans.iter().filter(failed_hop).map(|span| span.id).collect();
    let went_well = |span: &&Span| is_try(span) && !has_failed(span);
    let saved: FxHashSet<SpanId> = spans.iter().filter(went_well).filter_map(|span| span.parent).collect();
    let mut made_good: FxHashSet<SpanId> = FxHashSet::default();
    let mut is_error = false;
    for span in order.iter().map(|placed| &spans[placed.index]) {
        let is_within = |set: &FxHashSet<SpanId>| span.parent.is_some_and(|parent| set.contains(&parent));
        let is_saved = is_try(&span) && has_failed(span) && is_within(&saved) && !is_within(&failed_hops);
        if is_saved || is_within(&made_good) {
            made_good.insert(span.id);
        } else if has_failed(span) {
            is_error = true;
        }
    }
    (is_error, !is_error && !made_good.is_empty())
}

/// The path that a span of ours was asked for. A client may write as much of it as it likes.
fn path_of(span: &Span) -> Option<String> {
    if span.service.as_ref() != TERRACE {
        return None;
    }
    let path = text(span, PATH_ATTRIBUTE)?;
    Some(match path.char_indices().nth(PATH_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &path[..end]),
        None => path.to_owned(),
    })
}

fn attribute<'a>(span: &'a Span, name: &str) -> Option<&'a Value> {
    span.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

fn extent(spans: &[Span], order: &[Placed]) -> (SystemTime, SystemTime) {
    let mut moments = order.iter().map(|placed| {
        let start = tree::shown_start(spans, *placed);
        (start, skew::later(start, spans[placed.index].duration))
    });
    let Some(first) = moments.next() else { return (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH) };
    moments.fold(first, |(start, end), (from, to)| (start.min(from), end.max(to)))
}

/// Who did something, and whom a span of ours says it asked.
fn services<'a>(spans: impl Iterator<Item = &'a Span>) -> Vec<String> {
    let mut services: Vec<String> = Vec::new();
    for span in spans {
        let named = text(span, SERVICE_ATTRIBUTE);
        for name in [Some(span.service.as_ref()), named].into_iter().flatten() {
            if !name.is_empty() && !services.iter().any(|known| known == name) {
                services.push(name.to_owned());
            }
        }
    }
    services
}

fn status_of(span: &Span) -> Option<u16> {
    match attribute(span, STATUS_ATTRIBUTE)? {
        Value::Int(status) => u16::try_from(*status).ok(),
        Value::Uint(status) => u16::try_from(*status).ok(),
        _ => None,
    }
}

fn kept_of(span: &Span) -> Option<&'static str> {
    let known = ["sampled", "asked", "error", "slow"];
    let said = text(span, KEPT_ATTRIBUTE)?;
    known.into_iter().find(|reason| *reason == said)
}

/// Whether a hop of ours was kept for what became of it.
pub(super) fn is_trouble(span: &Span) -> bool {
    match kept_of(span) {
        Some("error" | "slow") => true,
        kept => kept.is_some() && span.status == SpanStatus::Error,
    }
}

/// The pieces of all texts of a trace.
pub(super) fn trigrams(trace: TraceId, spans: &[Span]) -> Trigrams {
    let mut pieces = Trigrams::new();
    pieces.add(trace.to_string().as_bytes());
    for span in spans {
        let _all_visited = visit(span, |text| {
            pieces.add(text.as_bytes());
            false
        });
    }
    pieces
}

/// Whether `wanted`, in lower case, is somewhere in the trace.
pub(super) fn holds(trace: TraceId, spans: &[Span], wanted: &str) -> bool {
    contains(&trace.to_string(), wanted)
        || spans.iter().any(|span| visit(span, |text| contains(text, wanted)))
}

/// Hands over each text of a span until `found` says so.
fn visit(span: &Span, mut found: impl FnMut(&str) -> bool) -> bool {
    if found(&span.name) || found(&span.service) || found(&span.instance) {
        return true;
    }
    let mut number = String::new();
    span.attributes.iter().any(|(name, value)| found(name) || found(as_text(value, &mut number)))
}

fn as_text<'a>(value: &'a Value, number: &'a mut String) -> &'a str {
    number.clear();
    // Writing to a string does not fail.
    let _ = match value {
        Value::Text(text) => return text,
        Value::Int(value) => write!(number, "{value}"),
        Value::Uint(value) => write!(number, "{value}"),
        Value::Float(value) => write!(number, "{value}"),
        Value::Bool(value) => write!(number, "{value}"),
        Value::Duration(value) => write!(number, "{}", value.as_secs_f64()),
    };
    number
}

/// Whether `text` contains `wanted`, which is in lower case.
fn contains(text: &str, wanted: &str) -> bool {
    let Some(first) = wanted.as_bytes().first() else { return true };
    let (text, wanted) = (text.as_bytes(), wanted.as_bytes());
    if text.len() < wanted.len() {
        return false;
    }
    let starts = &text[..=text.len() - wanted.len()];
    let fits = |at: usize| text[at..at + wanted.len()].eq_ignore_ascii_case(wanted);
    starts.iter().enumerate().any(|(at, byte)| byte.to_ascii_lowercase() == *first && fits(at))
}
