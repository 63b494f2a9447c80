//! The list of kept traces, and the page of one: its waterfall and the details of each span.
//!
//! The page of a trace needs no script: a row is a link to its span's details, which the style sheet shows when they are
//! the address's target. With a script rows fold, arrows walk through them, and the id can be copied.

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, html};
use serde::Deserialize;
use std::time::Duration;
use terrace_instruments::{Span, SpanKind, SpanStatus, TraceId, Value};
use terrace_signals::traces::{SKEW_ATTRIBUTE, TraceFilter, TraceSummary};

use crate::control::ControlError;
use crate::map::Map;

use super::charts::Range;
use super::figures::{UNKNOWN, seconds, share};
use super::layout::{Nav, page, time};
use super::pages::{self, crumbs, fact};
use super::past::View;
use super::shapes::{Health, badge, hue, in_hue_of, mark, segment, service_name};
use super::traces_list::{answer, trace_table};
use super::traces_waterfall::{Piece, Row, Waterfall, blame, lay_out, tried, tried_instance};
use super::visitor::Visitor;
use super::{Dashboard, assets};

/// Traces in the list.
const TRACES_MAX: usize = 100;
/// Deeper spans are indented no further.
const DEPTH_MAX: usize = 12;
/// The width of a row's drawing; the style sheet stretches it.
const WIDTH: f64 = 1_000.0;

pub(super) fn router() -> Router<Dashboard> {
    Router::new().route("/traces", get(list)).route("/traces/{id}", get(trace))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Search {
    service: String,
    route: String,
    /// Milliseconds.
    over: String,
    errors: Option<String>,
    text: String,
}

impl Search {
    fn filter(&self) -> TraceFilter {
        let some = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let over: f64 = self.over.trim().parse().unwrap_or(0.0);
        TraceFilter {
            service: some(&self.service),
            route: some(&self.route),
            duration_min: Duration::try_from_secs_f64(over.max(0.0) / 1e3).unwrap_or_default(),
            errors_only: self.errors.is_some(),
            text: some(&self.text),
            limit: TRACES_MAX,
        }
    }
}

async fn list(
    State(dashboard): State<Dashboard>,
    visitor: Visitor,
    Query(search): Query<Search>,
) -> Result<Response, ControlError> {
    let map = dashboard.control.map().await?;
    let view = pages::view(&dashboard, &map, Range::default());
    Ok(page("Traces", &visitor, Nav::Traces, list_content(&view, &search)))
}

fn list_content(view: &View<'_>, search: &Search) -> Markup {
    let traces = view.past.traces(&search.filter());
    html! {
        div class="page-head" {
            div {
                h1 { "Traces" }
                p class="sub" { "The way of single requests, step by step. Failed and slow ones are always kept, and a sample of the others." }
            }
        }
        section class="panel" aria-label="Filters" { (filters(view.map, search)) }
        section class="panel" aria-label="Traces" {
            div data-live="traces" {
                @if traces.is_empty() { (nothing(search)) }
                @else { (trace_table(view, &traces)) }
            }
            @if traces.len() == TRACES_MAX { p class="hint" { "The newest " (TRACES_MAX) "; filter to see others." } }
        }
        script type="module" src=(assets::url("map.js")) {}
    }
}

fn nothing(search: &Search) -> Markup {
    let filter = search.filter();
    let is_filtered = filter != (TraceFilter { limit: TRACES_MAX, ..TraceFilter::default() });
    html! {
        p class="empty" {
            @if is_filtered { "No kept trace fits. " a href="/traces" { "Show all" } }
            @else { "No trace is kept yet. With the next failed or slow request, or one in the sample, one will be; " b { "[trace] sample = \"100%\"" } " keeps all." }
        }
    }
}

fn filters(map: &Map, search: &Search) -> Markup {
    let routes: Vec<&str> = map.routes.iter().map(|route| route.name.as_str()).collect();
    let services: Vec<&str> = map.services.iter().map(|service| service.name.as_str()).collect();
    html! {
        form class="filters" method="get" action="/traces" {
            (choice("service", "Service", &services, &search.service))
            (choice("route", "Route", &routes, &search.route))
            label class="field" { "Longer than, ms" input type="number" name="over" min="0" step="any" size="8" value=(search.over); }
            label class="field grow" { "Text in names and attributes" input type="search" name="text" value=(search.text) data-filter; }
            label class="field check" { input type="checkbox" name="errors" checked[search.errors.is_some()]; "Failed only" }
            button class="primary" type="submit" { "Filter" }
        }
    }
}

fn choice(name: &str, label: &str, options: &[&str], chosen: &str) -> Markup {
    let is_known = chosen.is_empty() || options.contains(&chosen);
    html! {
        label class="field" {
            (label)
            select name=(name) {
                option value="" { "any" }
                @if !is_known { option value=(chosen) selected { (chosen) } }
                @for option in options { option value=(option) selected[*option == chosen] { (option) } }
            }
        }
    }
}

async fn trace(
    State(dashboard): State<Dashboard>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Response, ControlError> {
    let Ok(id) = id.parse::<TraceId>() else {
        return Err(ControlError::not_found("A trace's id has 32 hexadecimal digits, in lower case."));
    };
    let map = Map::default();
    let view = pages::view(&dashboard, &map, Range::default());
    let Some(spans) = view.past.trace(id) else {
        let detail = format!("No trace {id} is kept; it was not chosen, or newer ones took its place.");
        return Err(ControlError::not_found(detail));
    };
    Ok(page(&format!("Trace {id}"), &visitor, Nav::Traces, trace_content(&view, id, &spans)))
}

fn trace_content(view: &View<'_>, id: TraceId, spans: &[Span]) -> Markup {
    let filter = TraceFilter { text: Some(id.to_string()), limit: 1, ..TraceFilter::default() };
    let found = view.past.traces(&filter);
    let summary = found.first().filter(|summary| summary.trace == id);
    let laid = lay_out(spans);
    html! {
        (crumbs(&[("Traces", "/traces"), (&id.to_string()[..8], "")]))
        (trace_head(view, id, spans, summary, laid.seconds))
        (blame_bar(&blame(spans, &laid)))
        div class="trace" {
            section class="panel" aria-labelledby="waterfall" {
                header {
                    h2 id="waterfall" { "Waterfall" }
                    p class="hint key" {
                        svg class="swatch" viewBox="0 0 18 8" aria-hidden="true" { rect class="span" width="18" height="8" rx="2" {} } "running "
                        svg class="swatch" viewBox="0 0 18 8" aria-hidden="true" { rect class="own" width="18" height="8" rx="2" {} } "its own time "
                        svg class="swatch" viewBox="0 0 18 8" aria-hidden="true" { rect class="critical" y="5" width="18" height="3" {} } "critical path: held the answer up"
                    }
                }
                (waterfall(spans, &laid))
            }
            aside class="panel details" aria-label="Details of a span" tabindex="0" {
                @for (span, row) in spans.iter().zip(&laid.rows) { (detail(span, row, &laid)) }
            }
        }
        script type="module" src=(assets::url("waterfall.js")) {}
    }
}

fn trace_head(
    view: &View<'_>,
    id: TraceId,
    spans: &[Span],
    summary: Option<&TraceSummary>,
    took: f64,
) -> Markup {
    let root = spans.first();
    html! {
        div class="page-head" {
            div {
                div class="title" {
                    h1 { (root.map_or("", |span| &span.name)) }
                    @if let Some(summary) = summary { (answer(summary)) }
                }
                p class="sub id" { "Trace " (id) }
            }
            div class="actions" {
                button type="button" data-copy=(id) hidden { "Copy id" }
                a class="button" href={ "/logs?trace=" (id) } { "Log lines" }
            }
        }
        section class="panel" aria-label="Trace" {
            dl class="facts" {
                (fact("Took", &seconds(took)))
                @if let Some(root) = root {
                    div { dt { "Began" } dd { (time(root.start)) span class="hint" { " " (view.ago(root.start)) } } }
                }
                (fact("Spans", &spans.len().to_string()))
                @if let Some(summary) = summary {
                    (fact("Kept as", kept(summary.kept)))
                    @if !summary.route.is_empty() {
                        div { dt { "Route" } dd { a href={ "/routes/" (segment(&summary.route)) } { (summary.route) } } }
                    }
                    @if summary.spans_left_out > 0 { (fact("Spans left out", &summary.spans_left_out.to_string())) }
                }
            }
            @if spans.iter().any(|span| skew(span).is_some()) {
                p class="hint" { "Clocks disagree: some spans seemed to begin before what caused them and are shown later; their details say by how much." }
            }
        }
    }
}

fn kept(kept: &str) -> &str {
    match kept {
        "asked" => "asked for by the caller",
        "error" => "failed",
        other => other,
    }
}

/// Whose time it was: the critical path by service.
fn blame_bar(shares: &[(&str, f64)]) -> Markup {
    let mut at = 0.0;
    let pieces: Vec<(&str, f64, f64)> = shares
        .iter()
        .map(|(service, part)| {
            at += part;
            (*service, at - part, *part)
        })
        .collect();
    html! {
        @if !pieces.is_empty() {
            section class="panel blame" aria-labelledby="blame" {
                h2 id="blame" { "Whose time it was" }
                svg viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" {
                    @for (service, from, part) in &pieces {
                        rect class={ "hue-" (hue(service)) } x=(at_most(from * WIDTH)) width=(at_most((part * WIDTH - 2.0).max(1.0))) height="10" {}
                    }
                }
                ul {
                    @for (service, _, part) in &pieces { li { (service_name(service)) b { (share(*part)) } } }
                }
            }
        }
    }
}

fn at_most(value: f64) -> String {
    format!("{:.1}", value.clamp(0.0, WIDTH))
}

fn waterfall(spans: &[Span], laid: &Waterfall) -> Markup {
    let ticks: Vec<String> = (0..5).map(|part| seconds(laid.seconds * f64::from(part) / 4.0)).collect();
    html! {
        div class="waterfall" data-waterfall {
            div class="ruler" aria-hidden="true" {
                span class="scale" { @for tick in &ticks { span { (tick) } } }
            }
            ol {
                @for (span, row) in spans.iter().zip(&laid.rows) { li data-depth=(row.depth) { (waterfall_row(span, row, laid.seconds)) } }
            }
        }
    }
}

fn waterfall_row(span: &Span, row: &Row, all: f64) -> Markup {
    let is_error = span.status == SpanStatus::Error;
    let to = |seconds: f64| if all > 0.0 { seconds / all * WIDTH } else { 0.0 };
    let piece =
        |(from, until): Piece| (at_most(to(from)), format!("{:.1}", to(until - from).clamp(1.5, WIDTH)));
    let whole = piece(row.whole);
    html! {
        a class={ "span-row depth-" (row.depth.min(DEPTH_MAX)) @if is_error { " bad" } } href={ "#s-" (span.id) } {
            span class="name" {
                span class="fold" aria-hidden="true" { @if row.is_parent { "▾" } }
                @if is_error { (mark(Health::Bad)) span class="visually-hidden" { "failed: " } }
                span class="what" { (span.name) }
                span class="who" { (who(span)) }
            }
            svg class={ "track hue-" (hue(&span.service)) } viewBox="0 0 1000 20" preserveAspectRatio="none" aria-hidden="true" {
                rect class="span" x=(whole.0) y="4" width=(whole.1) height="12" {}
                @for own in &row.own { @let (x, width) = piece(*own); rect class="own" x=(x) y="4" width=(width) height="12" {} }
                @for critical in &row.critical { @let (x, width) = piece(*critical); rect class="critical" x=(x) y="17" width=(width) height="3" {} }
            }
            span class="took" { (seconds(span.duration.as_secs_f64())) }
        }
    }
}

/// Who did it; of a try, who was asked.
fn who(span: &Span) -> Markup {
    match (tried(span), tried_instance(span)) {
        (Some(service), instance) => in_hue_of(service, &format!("→ {}", instance.unwrap_or(service))),
        (None, _) if span.instance.is_empty() => service_name(&span.service),
        (None, _) => in_hue_of(&span.service, &span.instance),
    }
}

fn detail(span: &Span, row: &Row, laid: &Waterfall) -> Markup {
    let or = |text: &str| if text.is_empty() { UNKNOWN.to_owned() } else { text.to_owned() };
    let critical: f64 = row.critical.iter().map(|(from, to)| to - from).sum();
    html! {
        section class="span-detail" id={ "s-" (span.id) } tabindex="-1" {
            h2 { (span.name) }
            p class="title" {
                (service_name(&span.service))
                @match span.status {
                    SpanStatus::Error => (badge(Health::Bad, "failed")),
                    SpanStatus::Ok => (badge(Health::Ok, "well")),
                    SpanStatus::Unset => "",
                }
            }
            dl class="facts" {
                (fact("Took", &seconds(span.duration.as_secs_f64())))
                (fact("Own time", &seconds(row.own_seconds())))
                (fact("Began after", &seconds(row.whole.0)))
                (fact("Of the critical path", &share(if laid.seconds > 0.0 { critical / laid.seconds } else { 0.0 })))
                (fact("Instance", &or(&span.instance)))
                (fact("Kind", kind(span.kind)))
            }
            @if !span.attributes.is_empty() {
                table class="list attributes" {
                    caption { "Attributes" }
                    tbody { @for (name, value) in &span.attributes { tr { th scope="row" { (name) } td { (shown(name, value)) } } } }
                }
            }
            p class="hint id" { "Span " (span.id) @if let Some(parent) = span.parent { ", caused by " a href={ "#s-" (parent) } { (parent) } } }
        }
    }
}

fn kind(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Internal => "step within",
        SpanKind::Server => "request taken",
        SpanKind::Client => "request sent",
        SpanKind::Producer => "message sent",
        SpanKind::Consumer => "message taken",
    }
}

fn skew(span: &Span) -> Option<&Value> {
    span.attributes.iter().find(|(name, _)| name == SKEW_ATTRIBUTE).map(|(_, value)| value)
}

fn shown(name: &str, value: &Value) -> String {
    match value {
        Value::Float(number) if name.ends_with("_seconds") => seconds(*number),
        Value::Text(text) => text.clone().into_owned(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bool(is_so) => if *is_so { "yes" } else { "no" }.to_owned(),
        Value::Duration(duration) => seconds(duration.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::testing::{FakePast, hostile_map, shop_map, summaries, trace_spans};
    use super::*;

    fn view<'a>(map: &'a Map, past: &'a FakePast) -> View<'a> {
        View { map, past, now: SystemTime::UNIX_EPOCH, range: Range::Hour }
    }

    #[test]
    fn the_list_keeps_what_was_filtered_for() {
        let search = Search {
            service: "gone".to_owned(),
            over: "250".to_owned(),
            errors: Some("on".to_owned()),
            text: "\"><script>".to_owned(),
            ..Search::default()
        };
        assert_eq!(search.filter().duration_min, Duration::from_millis(250));
        let page = list_content(&view(&shop_map(), &FakePast::default()), &search).into_string();
        assert!(page.contains("<option value=\"gone\" selected>") && page.contains("value=\"250\""));
        assert!(!page.contains("<script>\""));
    }

    #[test]
    fn nonsense_in_the_filter_is_no_filter() {
        for over in ["", "fast", "-1", "1e300", "NaN"] {
            let search = Search { over: over.to_owned(), ..Search::default() };
            assert_eq!(search.filter().duration_min, Duration::ZERO, "{over}");
        }
    }

    #[test]
    fn a_trace_shows_each_span_with_its_details() {
        let spans = trace_spans();
        let map = shop_map();
        let page =
            trace_content(&view(&map, &FakePast::default()), summaries()[0].trace, &spans).into_string();
        for span in &spans {
            assert!(page.contains(&format!("href=\"#s-{}\"", span.id)));
            assert!(page.contains(&format!("id=\"s-{}\"", span.id)));
        }
        for text in ["Whose time it was", "Attributes", "critical path", "Clocks disagree"] {
            assert!(page.contains(text), "{text}");
        }
        assert!(!page.contains("style=") && !page.contains("NaN"));
    }

    #[test]
    fn spans_of_an_app_stay_text() {
        let mut spans = trace_spans();
        spans[0].name = "<script>alert(1)</script>".into();
        spans[0].service = "\" onload=\"x".into();
        spans[0].attributes.push(("<b>".into(), Value::Text("</table><script>alert(2)".into())));
        let map = hostile_map();
        let page = trace_content(&view(&map, &FakePast::default()), TraceId(7), &spans).into_string();
        assert!(!page.contains("<script>alert") && !page.contains("\" onload"));
    }

    #[test]
    fn an_empty_list_says_how_to_fill_it() {
        let past = FakePast { is_empty: true };
        let page = list_content(&view(&Map::default(), &past), &Search::default()).into_string();
        assert!(page.contains("sample = &quot;100%&quot;"));
    }
}
