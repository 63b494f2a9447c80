//! A trace as a waterfall: one row a span, in the order of cause, on one axis of time.
//!
//! Two things are computed that the spans do not say. *Self time* is when a span ran and none of its children did: where
//! the time went, rather than where it was waited for. The *critical path* is found from the end backwards: what ended last
//! held the answer up, before it what ended last before that began, and so on; to make anything else faster would not
//! have made the answer faster (Jaeger computes it the same way). Pure: spans in, rows out.
//!
//! A try of Terrace's has parts (`connect`, `first byte` …) that lie over whatever the service itself tells of the same
//! time. They divide what of a try nobody else explains, and never hide the service's own spans; and whose time a try
//! was is the service's that was waited for, even when its app sends no spans at all.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use terrace_instruments::{Span, SpanId, SpanKind, Value};

/// The name under which Terrace's own spans come.
const TERRACE: &str = "terrace";

/// From and to, in seconds after the trace's start.
pub(super) type Piece = (f64, f64);

/// All rows on one axis.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Waterfall {
    /// From the first moment to the last, in seconds.
    pub(super) seconds: f64,
    /// One for each span, in their order.
    pub(super) rows: Vec<Row>,
}

/// One span.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Row {
    /// How many known spans lie above it.
    pub(super) depth: usize,
    /// Whether it caused others.
    pub(super) is_parent: bool,
    /// When it ran.
    pub(super) whole: Piece,
    /// When it ran and none of its children.
    pub(super) own: Vec<Piece>,
    /// When the answer waited for it and for nothing below it.
    pub(super) critical: Vec<Piece>,
}

impl Row {
    /// Seconds in which it ran and none of its children.
    pub(super) fn own_seconds(&self) -> f64 {
        self.own.iter().map(|(from, to)| to - from).sum()
    }
}

/// Who caused whom, as places in the list of spans.
struct Family {
    parents: Vec<Option<usize>>,
    /// Of each span, what it caused; without the parts of a try.
    children: Vec<Vec<usize>>,
    /// Of each try, its parts.
    parts: Vec<Vec<usize>>,
}

/// Lays spans out; parents come before their children.
pub(super) fn lay_out(spans: &[Span]) -> Waterfall {
    let Some(start) = spans.iter().map(|span| span.start).min() else { return Waterfall::default() };
    let mut rows: Vec<Row> = spans.iter().map(|span| row(span, start)).collect();
    let family = family(spans);
    for (index, parent) in family.parents.iter().enumerate() {
        if let Some(parent) = *parent {
            rows[index].depth = rows[parent].depth + 1;
            rows[parent].is_parent = true;
        }
    }
    mark_own(&mut rows, &family);
    mark_critical(&mut rows, &family);
    let seconds = rows.iter().map(|row| row.whole.1).fold(0.0, f64::max);
    Waterfall { seconds, rows }
}

fn family(spans: &[Span]) -> Family {
    let parents = parents(spans);
    let (mut children, mut parts) = (vec![Vec::new(); spans.len()], vec![Vec::new(); spans.len()]);
    for (index, parent) in parents.iter().enumerate() {
        let Some(parent) = *parent else { continue };
        let is_part = spans[index].service.as_ref() == TERRACE
            && spans[index].kind == SpanKind::Internal
            && tried(&spans[parent]).is_some();
        if is_part { parts[parent].push(index) } else { children[parent].push(index) }
    }
    Family { parents, children, parts }
}

/// The service that a try of Terrace's asked.
pub(super) fn tried(span: &Span) -> Option<&str> {
    let is_try = span.service.as_ref() == TERRACE && span.kind == SpanKind::Client;
    text(span, "terrace.service").filter(|_| is_try)
}

/// The instance that a try of Terrace's asked.
pub(super) fn tried_instance(span: &Span) -> Option<&str> {
    tried(span).and_then(|_| text(span, "terrace.instance"))
}

fn text<'a>(span: &'a Span, name: &str) -> Option<&'a str> {
    match span.attributes.iter().find(|(key, _)| key == name) {
        Some((_, Value::Text(text))) if !text.is_empty() => Some(text),
        _ => None,
    }
}

fn mark_own(rows: &mut [Row], family: &Family) {
    let whole =
        |rows: &[Row], of: &[usize]| -> Vec<Piece> { of.iter().map(|each| rows[*each].whole).collect() };
    for index in 0..rows.len() {
        let told = whole(rows, &family.children[index]);
        for part in &family.parts[index] {
            rows[*part].own = without(rows[*part].whole, told.clone());
        }
        let mut below = told;
        below.extend(whole(rows, &family.parts[index]));
        let is_part = family.parents[index].is_some_and(|parent| family.parts[parent].contains(&index));
        if !is_part {
            rows[index].own = without(rows[index].whole, below);
        }
    }
}

fn row(span: &Span, start: SystemTime) -> Row {
    let from = since(span.start, start).as_secs_f64();
    Row { whole: (from, from + span.duration.as_secs_f64()), ..Row::default() }
}

fn since(time: SystemTime, start: SystemTime) -> Duration {
    match time.duration_since(start) {
        Ok(since) => since,
        Err(_) => Duration::ZERO,
    }
}

/// The row of each span's parent. Only one that stands above counts, so that there is no circle however the ids are.
fn parents(spans: &[Span]) -> Vec<Option<usize>> {
    let mut known: HashMap<SpanId, usize> = HashMap::with_capacity(spans.len());
    let mut parents = Vec::with_capacity(spans.len());
    for (index, span) in spans.iter().enumerate() {
        parents.push(span.parent.and_then(|parent| known.get(&parent).copied()));
        known.entry(span.id).or_insert(index);
    }
    parents
}

/// What remains of `whole` without what lies in any of `others`.
fn without(whole: Piece, mut others: Vec<Piece>) -> Vec<Piece> {
    others.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut pieces = Vec::new();
    let mut at = whole.0;
    for (from, to) in others {
        if from > at {
            push(&mut pieces, at, from.min(whole.1));
        }
        at = at.max(to);
    }
    push(&mut pieces, at, whole.1);
    pieces
}

fn push(pieces: &mut Vec<Piece>, from: f64, to: f64) {
    if to > from {
        pieces.push((from, to));
    }
}

/// Follows the critical path from the longest span at the top. Work is a list of spans, each with the moments between which
/// it can have held the answer up: not before its parent began, not after what the parent waited for next. A span is
/// met at most once.
fn mark_critical(rows: &mut [Row], family: &Family) {
    // A trace whose first span is not known yet has several at the top; the longest stands for the request.
    let tops = (0..rows.len()).filter(|index| family.parents[*index].is_none());
    let Some(root) = tops.max_by(|a, b| length(&rows[*a]).total_cmp(&length(&rows[*b]))) else { return };
    let mut work = vec![(root, rows[root].whole)];
    while let Some((index, (floor, until))) = work.pop() {
        let floor = floor.max(rows[index].whole.0);
        let mut at = until.min(rows[index].whole.1);
        let mut below = family.children[index].clone();
        below.sort_by(|a, b| rows[*b].whole.1.total_cmp(&rows[*a].whole.1));
        let mut pieces = Vec::new();
        for child in below {
            let (from, to) = rows[child].whole;
            // It began after what held us up, so it held nothing up; or it ended before the span began.
            if from >= at || to <= floor {
                continue;
            }
            push(&mut pieces, to.min(at), at);
            work.push((child, (floor, to.min(at))));
            at = from.max(floor);
        }
        push(&mut pieces, floor, at);
        pieces.reverse();
        rows[index].critical = pieces;
        divide(rows, index, &family.parts[index]);
    }
}

/// Gives the parts of a try what of its critical pieces lies in them, the part that ended first before the others.
fn divide(rows: &mut [Row], index: usize, parts: &[usize]) {
    let mut parts = parts.to_vec();
    parts.sort_by(|a, b| rows[*a].whole.1.total_cmp(&rows[*b].whole.1));
    for part in parts {
        let whole = rows[part].whole;
        let (mut taken, mut left) = (Vec::new(), Vec::new());
        for (from, to) in std::mem::take(&mut rows[index].critical) {
            push(&mut taken, from.max(whole.0), to.min(whole.1));
            push(&mut left, from, to.min(whole.0));
            push(&mut left, from.max(whole.1), to);
        }
        rows[index].critical = left;
        rows[part].critical = taken;
    }
}

fn length(row: &Row) -> f64 {
    row.whole.1 - row.whole.0
}

/// How much of the critical path each service is, largest first; parts of 1.
pub(super) fn blame<'a>(spans: &'a [Span], waterfall: &Waterfall) -> Vec<(&'a str, f64)> {
    let parents = parents(spans);
    let mut shares: Vec<(&str, f64)> = Vec::new();
    for (index, (span, row)) in spans.iter().zip(&waterfall.rows).enumerate() {
        let seconds: f64 = row.critical.iter().map(|(from, to)| to - from).sum();
        let above = parents[index].filter(|_| span.service.as_ref() == TERRACE).map(|parent| &spans[parent]);
        let service = tried(span).or_else(|| above.and_then(tried)).unwrap_or(&span.service);
        match shares.iter_mut().find(|(known, _)| *known == service) {
            Some((_, sum)) => *sum += seconds,
            None => shares.push((service, seconds)),
        }
    }
    let all: f64 = shares.iter().map(|(_, seconds)| seconds).sum();
    shares.retain(|(_, seconds)| *seconds > 0.0);
    shares.iter_mut().for_each(|(_, seconds)| *seconds /= all);
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::span;
    use super::*;

    #[track_caller]
    fn close(pieces: &[Piece], expected: &[Piece]) {
        let same = |(a, b): (&Piece, &Piece)| (a.0 - b.0).abs() < 1e-9 && (a.1 - b.1).abs() < 1e-9;
        assert!(
            pieces.len() == expected.len() && pieces.iter().zip(expected).all(same),
            "{pieces:?} {expected:?}"
        );
    }

    #[test]
    fn time_is_a_spans_own_while_no_child_runs() {
        let spans = [span(1, 0, 0, 100), span(2, 1, 10, 40), span(3, 1, 30, 30), span(4, 3, 35, 5)];
        let rows = lay_out(&spans).rows;
        close(&rows[0].own, &[(0.0, 0.01), (0.06, 0.1)]);
        close(&rows[2].own, &[(0.03, 0.035), (0.04, 0.06)]);
        assert_eq!([0, 1, 1, 2], [rows[0].depth, rows[1].depth, rows[2].depth, rows[3].depth]);
        assert!((rows[0].own_seconds() - 0.05).abs() < 1e-9);
    }

    #[test]
    fn the_critical_path_goes_through_what_ended_last() {
        // Two calls side by side: only the slower one held the answer up, but before it began the quicker did.
        let spans = [span(1, 0, 0, 100), span(2, 1, 10, 40), span(3, 1, 30, 60)];
        let rows = lay_out(&spans).rows;
        close(&rows[2].critical, &[(0.03, 0.09)]);
        close(&rows[1].critical, &[(0.01, 0.03)]);
        close(&rows[0].critical, &[(0.0, 0.01), (0.09, 0.1)]);
    }

    #[test]
    fn what_goes_on_after_the_answer_held_nothing_up() {
        let spans = [span(1, 0, 0, 50), span(2, 1, 60, 100)];
        let laid = lay_out(&spans);
        close(&laid.rows[0].critical, &[(0.0, 0.05)]);
        assert!(laid.rows[1].critical.is_empty());
        assert!((laid.seconds - 0.16).abs() < 1e-9);
    }

    #[test]
    fn a_service_is_blamed_for_its_part_of_the_path() {
        let mut spans = [span(1, 0, 0, 100), span(2, 1, 0, 75)];
        spans[1].service = "orders".into();
        let shares = blame(&spans, &lay_out(&spans));
        assert_eq!(shares[0].0, "orders");
        assert!((shares[0].1 - 0.75).abs() < 1e-9);
    }

    /// A try of 100 ms to the orders, with its parts.
    fn a_try() -> Vec<Span> {
        let mut spans = vec![span(1, 0, 0, 110), span(2, 1, 5, 100), span(3, 2, 5, 10), span(4, 2, 15, 80)];
        spans[1].kind = SpanKind::Client;
        spans[1].attributes.push(("terrace.service".into(), Value::Text("orders".into())));
        spans
    }

    #[test]
    fn an_app_that_sends_no_spans_is_blamed_for_what_was_waited() {
        let spans = a_try();
        let laid = lay_out(&spans);
        close(&laid.rows[2].critical, &[(0.005, 0.015)]);
        close(&laid.rows[3].critical, &[(0.015, 0.095)]);
        close(&laid.rows[1].critical, &[(0.095, 0.105)]);
        let shares = blame(&spans, &laid);
        assert_eq!(shares[0].0, "orders");
        assert!((shares[0].1 - 100.0 / 110.0).abs() < 1e-9);
    }

    #[test]
    fn the_parts_of_a_try_do_not_hide_what_the_app_says() {
        let mut spans = a_try();
        spans.push(span(5, 2, 20, 60));
        (spans[4].kind, spans[4].service) = (SpanKind::Server, "orders".into());
        let rows = lay_out(&spans).rows;
        close(&rows[4].critical, &[(0.02, 0.08)]);
        close(&rows[3].critical, &[(0.015, 0.02), (0.08, 0.095)]);
        close(&rows[3].own, &[(0.015, 0.02), (0.08, 0.095)]);
        close(&rows[4].own, &[(0.02, 0.08)]);
    }

    #[test]
    fn nothing_and_circles_are_laid_out_too() {
        assert_eq!(lay_out(&[]), Waterfall::default());
        let laid = lay_out(&[span(1, 2, 0, 1), span(2, 1, 0, 1), span(2, 2, 0, 1)]);
        assert_eq!(laid.rows.len(), 3);
    }

    proptest! {
        #[test]
        fn the_critical_path_is_as_long_as_the_root_and_never_doubles(
            raw in prop::collection::vec((0_u64..8, 0_u64..1000, 1_u64..1000), 1..40),
        ) {
            let spans: Vec<Span> = raw.iter().enumerate().map(|(index, (up, start, length))| {
                let id = index as u64 + 1;
                // The first spans everything, so that it is the only top.
                match index {
                    0 => span(1, 0, 0, 5_000),
                    _ => span(id, id.saturating_sub(1 + up).max(1), *start, *length),
                }
            }).collect();
            let laid = lay_out(&spans);
            let mut pieces: Vec<Piece> = laid.rows.iter().flat_map(|row| row.critical.clone()).collect();
            pieces.sort_by(|a, b| a.0.total_cmp(&b.0));
            let sum: f64 = pieces.iter().map(|(from, to)| to - from).sum();
            prop_assert!(sum <= laid.rows[0].whole.1 + 1e-6, "{sum}");
            prop_assert!(pieces.windows(2).all(|pair| pair[0].1 <= pair[1].0 + 1e-6));
            for row in &laid.rows {
                prop_assert!(row.own.iter().all(|(from, to)| *from >= row.whole.0 - 1e-9 && *to <= row.whole.1 + 1e-9));
            }
        }
    }
}
