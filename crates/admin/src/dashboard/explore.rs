//! Any metric: what there is, and one question about it.
//!
//! A form is a question: a name, labels that must be equal, what of it (rate, value, a quantile), and the label by which
//! lines are split. Its address can be kept and shared. Nothing is computed over several metrics here: who wants that has
//! Prometheus, which reads the same numbers.

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use serde::Deserialize;
use terrace_instruments::Kind;
use terrace_signals::series::{Measure, MetricName, Quantile, Selector};

use crate::control::ControlError;
use crate::map::Map;

use super::Dashboard;
use super::charts::{Asked, Page, Range};
use super::charts_drawn::{charts, data};
use super::layout::{Nav, page};
use super::pages::{self, chart_files};
use super::past::View;
use super::shapes::segment;
use super::visitor::Visitor;

/// Labels of one question; more are left out.
const LABELS_MAX: usize = 16;

/// What can be asked of a metric, as it stands in a URL and as a person reads it.
const MEASURES: [(&str, &str, Measure); 7] = [
    ("rate", "rate a second", Measure::Rate),
    ("value", "value", Measure::Value),
    ("p50", "p50", Measure::Quantile(Quantile::P50)),
    ("p90", "p90", Measure::Quantile(Quantile::P90)),
    ("p99", "p99", Measure::Quantile(Quantile::P99)),
    ("p99.9", "p99.9", Measure::Quantile(Quantile::P999)),
    ("mean", "mean", Measure::Mean),
];

pub(super) fn router() -> Router<Dashboard> {
    Router::new().route("/metrics-explorer", get(explore)).route("/data/metric", get(metric_data))
}

/// The form's fields.
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(default)]
struct Form {
    name: String,
    /// `route=orders, class=5xx`.
    labels: String,
    of: String,
    /// Empty: each series is a line; `-`: all summed.
    by: String,
    last: String,
}

impl Form {
    fn asked(&self, metrics: &[MetricName]) -> Option<Asked> {
        let name = self.name.trim();
        if name.is_empty() {
            return None;
        }
        let given = MEASURES.iter().find(|(key, ..)| *key == self.of).map(|(.., measure)| *measure);
        let usual = || match metrics.iter().find(|metric| &*metric.name == name).map(|metric| metric.kind) {
            Some(Kind::Counter) => Measure::Rate,
            Some(Kind::Histogram) => Measure::Quantile(Quantile::P99),
            Some(Kind::Gauge) => Measure::Value,
            None if name.ends_with("_total") => Measure::Rate,
            None => Measure::Value,
        };
        let by = match self.by.trim() {
            "" => None,
            "-" => Some(Vec::new()),
            labels => Some(words(labels).map(str::to_owned).collect()),
        };
        let selector = Selector { name: name.to_owned(), labels: labels(&self.labels) };
        Some(Asked { selector, measure: given.unwrap_or_else(usual), by })
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ']).filter(|word| !word.is_empty()).take(LABELS_MAX)
}

/// `name=value` pairs, separated by commas; quotation marks around a value are left out. What is no pair is skipped.
fn labels(text: &str) -> Vec<(String, String)> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('=')).take(LABELS_MAX);
    let trimmed =
        pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().trim_matches('"').to_owned()));
    trimmed.filter(|(name, _)| !name.is_empty()).collect()
}

/// Where the answer to a question is had.
pub(super) fn source_url(asked: &Asked) -> String {
    let of = MEASURES.iter().find(|(.., measure)| *measure == asked.measure).map_or("", |(key, ..)| *key);
    let labels: Vec<String> =
        asked.selector.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let by = match &asked.by {
        None => String::new(),
        Some(by) if by.is_empty() => "-".to_owned(),
        Some(by) => by.join(","),
    };
    let name = segment(&asked.selector.name);
    format!("/data/metric?name={name}&labels={}&of={of}&by={}", segment(&labels.join(",")), segment(&by))
}

async fn explore(
    State(dashboard): State<Dashboard>,
    visitor: Visitor,
    Query(form): Query<Form>,
) -> Result<Response, ControlError> {
    let map = Map::default();
    let view = pages::view(&dashboard, &map, Range::from_key(&form.last));
    Ok(page("Metrics", &visitor, Nav::Metrics, content(&view, &form)))
}

async fn metric_data(
    State(dashboard): State<Dashboard>,
    Query(form): Query<Form>,
) -> Result<Response, ControlError> {
    let map = Map::default();
    let view = pages::view(&dashboard, &map, Range::from_key(&form.last));
    let Some(asked) = form.asked(&view.past.metrics()) else {
        return Err(ControlError::invalid("Name a metric: ?name=terrace_requests_total"));
    };
    Ok(axum::Json(data(&view, &Page::Explore(asked))).into_response())
}

fn content(view: &View<'_>, form: &Form) -> Markup {
    let metrics = view.past.metrics();
    let asked = form.asked(&metrics);
    html! {
        div class="page-head" {
            div {
                h1 { "Metrics" }
                p class="sub" { "Every number that Terrace has, its own and the app's, over the last seven days." }
            }
        }
        section class="panel" aria-label="Question" { (question_form(&metrics, form, asked.as_ref())) }
        @if let Some(asked) = asked { (charts(view, &Page::Explore(asked))) }
        section class="panel" aria-labelledby="known" {
            header { h2 id="known" { "What there is" } span class="hint" { (metrics.len()) " metrics" } }
            (known(&metrics))
        }
        (chart_files())
    }
}

fn question_form(metrics: &[MetricName], form: &Form, asked: Option<&Asked>) -> Markup {
    let measure = asked.map(|asked| asked.measure);
    html! {
        form class="filters" method="get" action="/metrics-explorer" {
            label class="field grow" { "Metric"
                input type="search" name="name" list="metric-names" value=(form.name) placeholder="terrace_requests_total" required data-filter;
            }
            datalist id="metric-names" { @for metric in metrics { option value=(metric.name) {} } }
            label class="field grow" { "Where, as name=value, …" input type="text" name="labels" value=(form.labels) placeholder="route=orders, class=5xx"; }
            label class="field" { "Show"
                select name="of" {
                    @for (key, text, each) in MEASURES { option value=(key) selected[measure == Some(each)] { (text) } }
                }
            }
            label class="field" { "A line for each" input type="text" name="by" value=(form.by) placeholder="series; - for all" size="14"; }
            input type="hidden" name="last" value=(Range::from_key(&form.last).key());
            button class="primary" type="submit" { "Show" }
        }
    }
}

fn known(metrics: &[MetricName]) -> Markup {
    html! {
        @if metrics.is_empty() { p class="empty" { "Nothing was counted yet." } }
        @else {
            div class="scroll" tabindex="0" role="group" aria-label="Table of metrics" {
                table class="list metrics" {
                    thead { tr {
                        th scope="col" { "Name" } th scope="col" { "What it says" }
                        th scope="col" { "Labels" } th scope="col" class="num" { "Series" }
                    } }
                    tbody {
                        @for metric in metrics {
                            tr {
                                th scope="row" { a href={ "/metrics-explorer?name=" (segment(&metric.name)) } { (metric.name) } }
                                td { (metric.help) }
                                td { (metric.labels.join(", ")) }
                                td class="num" { (metric.series) }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::testing::FakePast;
    use super::*;

    fn form(name: &str, labels: &str, of: &str, by: &str) -> Form {
        Form { name: name.into(), labels: labels.into(), of: of.into(), by: by.into(), last: "1h".into() }
    }

    #[test]
    fn a_question_has_its_usual_measure_unless_told() {
        let measure = |name: &str, of: &str| form(name, "", of, "").asked(&[]).map(|asked| asked.measure);
        assert_eq!(measure("orders_placed_total", ""), Some(Measure::Rate));
        assert_eq!(measure("queue_length", ""), Some(Measure::Value));
        assert_eq!(measure("anything", "p99"), Some(Measure::Quantile(Quantile::P99)));
        assert_eq!(measure(" ", "p99"), None);
    }

    #[test]
    fn labels_are_pairs_and_all_else_is_skipped() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            labels("route=\"a b\", class = 5xx,nonsense,=x"),
            [pair("route", "a b"), pair("class", "5xx")]
        );
        assert_eq!(labels(&"a=b,".repeat(100)).len(), LABELS_MAX);
    }

    #[test]
    fn a_question_survives_its_address() {
        let asked = form("x_total", "route=a&b", "mean", "-").asked(&[]).unwrap();
        assert_eq!(source_url(&asked), "/data/metric?name=x_total&labels=route%3Da%26b&of=mean&by=-");
    }

    #[test]
    fn the_page_lists_what_there_is_and_escapes_what_was_asked() {
        let map = Map::default();
        let view =
            View { map: &map, past: &FakePast::default(), now: SystemTime::UNIX_EPOCH, range: Range::Hour };
        let page = content(&view, &form("\"><script>alert(1)</script>", "", "", "")).into_string();
        assert!(page.contains("terrace_requests_total"));
        assert!(!page.contains("<script>alert"));
    }
}
