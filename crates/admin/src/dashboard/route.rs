//! The page of a route: which requests it takes, how they fare, and where they go.

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, html};
use terrace_signals::alerts::Subject;

use crate::control::ControlError;
use crate::map::{Map, Route};

use super::charts::{Page, Range};
use super::charts_drawn::charts;
use super::figures::{UNKNOWN, number, rate, seconds, share};
use super::layout::{Nav, page};
use super::overview::Reach;
use super::overview_map::{service_stands, service_state, told};
use super::pages::{self, chart_files, crumbs, fact, related_objectives, related_traces};
use super::past::View;
use super::service::failing;
use super::shapes::{Health, badge, segment};
use super::visitor::Visitor;
use super::{Dashboard, lists};

pub(super) fn router() -> Router<Dashboard> {
    Router::new().route("/routes/{name}", get(route))
}

async fn route(
    State(dashboard): State<Dashboard>,
    visitor: Visitor,
    Path(name): Path<String>,
    Query(reach): Query<Reach>,
) -> Result<Response, ControlError> {
    let map = dashboard.control.map().await?;
    let Some(route) = map.routes.iter().find(|route| route.name == name) else {
        return Err(ControlError::not_found(format!("The file has no route called {name}.")));
    };
    let view = pages::view(&dashboard, &map, Range::from_key(&reach.last));
    Ok(page(&format!("Route {name}"), &visitor, Nav::Overview, content(&view, route)))
}

fn content(view: &View<'_>, route: &Route) -> Markup {
    let subject = Subject::Route(route.name.clone());
    html! {
        (crumbs(&[("Routes", lists::ROUTES), (&route.name, "")]))
        div data-live="head" { (head(view.map, route)) }
        (related_objectives(view, &subject))
        (charts(view, &Page::Route(route.name.clone())))
        (related_traces(view, &subject))
        (chart_files())
    }
}

fn head(map: &Map, route: &Route) -> Markup {
    let figures = &route.figures;
    let health = Health::of_figures(figures);
    let word = match health {
        Health::Idle => "no requests",
        Health::Ok => "well",
        Health::Warn => "some fail",
        Health::Bad => "failing",
    };
    let time = |value: Option<f64>| value.map_or_else(|| UNKNOWN.to_owned(), seconds);
    let listeners: Vec<&str> = map
        .listeners
        .iter()
        .filter(|listener| listener.routes.contains(&route.name))
        .map(|listener| listener.name.as_str())
        .collect();
    html! {
        div class="page-head" {
            div {
                div class="title" { h1 { "Route " (route.name) } (badge(health, word)) }
                p class="sub" { "takes " b { (route.at.join(", ")) } " from " (listeners.join(", ")) }
            }
            div class="actions" { a class="button" href={ "/logs?text=" (segment(&route.name)) } { "Log lines" } }
        }
        section class="panel" aria-label="Now" {
            dl class="facts" {
                (fact("Requests", &rate(figures.rate)))
                (fact("Errors", &figures.errors.map_or_else(|| UNKNOWN.to_owned(), share)))
                (fact("Median", &time(figures.p50)))
                (fact("p99", &time(figures.p99)))
                (fact("In flight", &number(figures.in_flight)))
                @if !route.limits.is_empty() { (fact("Limited by", &route.limits.join(", "))) }
                @if let Some(action) = &route.action { (fact("Answers itself", action)) }
                @for (name, weight) in &route.to {
                    div {
                        dt { "Leads to" @if route.to.len() > 1 { ", weight " (weight) } }
                        dd { a href={ "/services/" (segment(name)) } { (name) } " " (target(map, name)) }
                    }
                }
            }
        }
    }
}

fn target(map: &Map, name: &str) -> Markup {
    html! {
        @if let Some(service) = map.services.iter().find(|service| service.name == name) {
            (badge(service_stands(service), &service_state(service))) " " (failing(&told(service)))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::testing::{FakePast, hostile_map, shop_map};
    use super::*;

    #[test]
    fn a_route_says_what_it_takes_and_where_it_leads() {
        let map = shop_map();
        let past = FakePast::default();
        let view = View { map: &map, past: &past, now: SystemTime::UNIX_EPOCH, range: Range::Hour };
        let route = map.routes.iter().find(|route| route.name == "api-orders").unwrap();
        let page = content(&view, route).into_string();
        for text in ["/api/orders/*", "href=\"/services/orders\"", "from public", "Kept traces"] {
            assert!(page.contains(text), "{text}");
        }
    }

    #[test]
    fn every_route_of_a_hostile_file_has_a_page() {
        let map = hostile_map();
        let past = FakePast { is_empty: true };
        let view = View { map: &map, past: &past, now: SystemTime::UNIX_EPOCH, range: Range::Week };
        for route in map.routes.iter().take(3) {
            let page = content(&view, route).into_string();
            assert!(!page.contains("<script>alert") && !page.contains("style="));
        }
    }
}
