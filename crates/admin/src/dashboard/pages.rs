//! What the pages along the request's way have in common: how they are made from a request, and their usual parts.

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use serde::Deserialize;
use terrace_runtime::clock;
use terrace_signals::alerts::Subject;
use terrace_signals::traces::TraceFilter;

use crate::control::ControlError;
use crate::map::Map;

use super::charts::{Page, Range};
use super::charts_drawn::data;
use super::objective::budgets;
use super::past::View;
use super::shapes::segment;
use super::traces_list::trace_table;
use super::{Dashboard, assets};

/// Traces that a page shows of what it is about.
const TRACES_MAX: usize = 8;

/// What a page is made of, now.
pub(super) fn view<'a>(dashboard: &'a Dashboard, map: &'a Map, range: Range) -> View<'a> {
    View { map, past: &dashboard.telemetry, now: clock::wall(), range }
}

pub(super) fn router() -> Router<Dashboard> {
    Router::new().route("/data/charts", get(chart_data))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DataQuery {
    route: Option<String>,
    service: Option<String>,
    instance: Option<String>,
    objective: Option<String>,
    machine: Option<String>,
    last: String,
}

impl DataQuery {
    fn page(self) -> Result<Page, ControlError> {
        if self.machine.is_some() {
            return Ok(Page::Machine);
        }
        match (self.route, self.service, self.instance, self.objective) {
            (Some(name), None, None, None) => Ok(Page::Route(name)),
            (None, Some(name), None, None) => Ok(Page::Service(name)),
            (None, Some(service), Some(name), None) => Ok(Page::Instance(service, name)),
            (None, None, None, Some(name)) => Ok(Page::Objective(name)),
            _ => Err(ControlError::invalid(
                "Name one route, service, instance of a service, objective, or the machine.",
            )),
        }
    }
}

async fn chart_data(
    State(dashboard): State<Dashboard>,
    Query(query): Query<DataQuery>,
) -> Result<Response, ControlError> {
    let range = Range::from_key(&query.last);
    let page = query.page()?;
    let map = dashboard.control.map().await?;
    Ok(axum::Json(data(&view(&dashboard, &map, range), &page)).into_response())
}

/// Scripts and styles of pages with charts.
pub(super) fn chart_files() -> Markup {
    html! {
        link rel="stylesheet" href=(assets::url("uplot/uPlot.min.css"));
        // Not deferred, so that it is there when the module runs.
        script src=(assets::url("uplot/uPlot.iife.min.js")) {}
        script type="module" src=(assets::url("charts.js")) {}
        script type="module" src=(assets::url("map.js")) {}
    }
}

/// A name and its value, for heads of pages.
pub(super) fn fact(name: &str, value: &str) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// The kept traces of a route or a service, and where its log lines are.
pub(super) fn related_traces(view: &View<'_>, subject: &Subject) -> Markup {
    let mut filter = TraceFilter { limit: TRACES_MAX, ..TraceFilter::default() };
    let query = match subject {
        Subject::Route(name) => {
            filter.route = Some(name.clone());
            format!("route={}", segment(name))
        }
        Subject::Service(name) => {
            filter.service = Some(name.clone());
            format!("service={}", segment(name))
        }
    };
    let traces = view.past.traces(&filter);
    html! {
        section class="panel" aria-labelledby="related-traces" data-live="traces" {
            header {
                h2 id="related-traces" { "Kept traces" }
                a href={ "/traces?" (query) } { "All of them" }
            }
            @if traces.is_empty() { p class="empty" { "None yet: failed and slow requests are kept, and a sample of the others." } }
            @else { (trace_table(view, &traces)) }
        }
    }
}

/// The objectives that are about a route or a service; nothing when there are none.
pub(super) fn related_objectives(view: &View<'_>, subject: &Subject) -> Markup {
    let mut objectives = view.past.objectives();
    objectives.retain(|objective| objective.subject == *subject);
    html! {
        @if !objectives.is_empty() {
            section class="panel" aria-labelledby="related-objectives" data-live="objectives" {
                header { h2 id="related-objectives" { "Objectives" } }
                (budgets(&objectives))
            }
        }
    }
}

/// Where a page is within the others: name and address, from the overview down.
pub(super) fn crumbs(way: &[(&str, &str)]) -> Markup {
    html! {
        nav aria-label="Breadcrumb" {
            ol class="crumbs" {
                li { a href="/" { "Overview" } }
                @for (name, place) in way {
                    li { @if place.is_empty() { (name) } @else { a href=(place) { (name) } } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_are_asked_for_by_page_and_nothing_else() {
        let asked = |service: Option<&str>, instance: Option<&str>| {
            let query = DataQuery {
                service: service.map(str::to_owned),
                instance: instance.map(str::to_owned),
                ..DataQuery::default()
            };
            query.page().map_err(|problem| problem.status)
        };
        assert_eq!(asked(Some("a"), None), Ok(Page::Service("a".to_owned())));
        assert_eq!(asked(Some("a"), Some("a-1")), Ok(Page::Instance("a".to_owned(), "a-1".to_owned())));
        assert_eq!(asked(None, Some("a-1")), Err(422));
        assert_eq!(asked(None, None), Err(422));
    }
}
