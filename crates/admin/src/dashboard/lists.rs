//! All routes, all services, all objectives: for whoever knows what they look for, or wants to compare. The map shows the
//! same as a picture; here every name stands in a line with its figures.

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, html};
use terrace_signals::alerts::ObjectiveView;

use crate::control::ControlError;
use crate::map::{Figures, Map, Route, Service};

use super::Dashboard;
use super::figures::{UNKNOWN, number, plural, rate, seconds, share};
use super::layout::{Nav, page};
use super::objective::budgets;
use super::overview_map::{service_stands, service_state};
use super::pages::crumbs;
use super::service::failing;
use super::shapes::{Health, badge, segment, spark};
use super::visitor::Visitor;

/// Where these pages are; what stands on the way to a route, service or objective leads here.
pub(super) const ROUTES: &str = "/routes";
pub(super) const SERVICES: &str = "/services";
pub(super) const OBJECTIVES: &str = "/objectives";

pub(super) fn router() -> Router<Dashboard> {
    Router::new()
        .route(ROUTES, get(show_routes))
        .route(SERVICES, get(show_services))
        .route(OBJECTIVES, get(show_objectives))
}

async fn show_routes(State(dashboard): State<Dashboard>, visitor: Visitor) -> Result<Response, ControlError> {
    let map = dashboard.control.map().await?;
    Ok(page("Routes", &visitor, Nav::Overview, routes(&map)))
}

async fn show_services(
    State(dashboard): State<Dashboard>,
    visitor: Visitor,
) -> Result<Response, ControlError> {
    let map = dashboard.control.map().await?;
    Ok(page("Services", &visitor, Nav::Overview, services(&map)))
}

async fn show_objectives(State(dashboard): State<Dashboard>, visitor: Visitor) -> Response {
    let content = objectives(&dashboard.telemetry.objectives());
    page("Objectives", &visitor, Nav::Overview, content)
}

fn head(title: &str, count: &str, about: &str) -> Markup {
    html! {
        (crumbs(&[(title, "")]))
        div class="page-head" { div { h1 { (title) } p class="sub" { (count) ": " (about) } } }
    }
}

fn routes(map: &Map) -> Markup {
    let count = plural(map.routes.len() as u64, "route");
    html! {
        (head("Routes", &count, "which requests are taken, and where they go."))
        section class="panel" aria-label="All routes" data-live="list" {
            @if map.routes.is_empty() { p class="empty" { "The file has no " b { "[route.…]" } "." } }
            @else { (table(&["Name", "Takes", "Leads to"], map.routes.iter().map(route))) }
        }
    }
}

fn services(map: &Map) -> Markup {
    let count = plural(map.services.len() as u64, "service");
    html! {
        (head("Services", &count, "what answers requests, and how many instances of it there are."))
        section class="panel" aria-label="All services" data-live="list" {
            @if map.services.is_empty() { p class="empty" { "The file has no " b { "[service.…]" } "." } }
            @else { (table(&["Name", "State", "Reached by"], map.services.iter().map(|one| service(map, one)))) }
        }
    }
}

fn objectives(all: &[ObjectiveView]) -> Markup {
    let mut names: Vec<&str> = all.iter().map(|view| view.name.as_str()).collect();
    names.dedup();
    let count = plural(names.len() as u64, "objective");
    html! {
        (head("Objectives", &count, "what users are promised, and what is left of what may fail."))
        section class="panel" aria-label="All objectives" data-live="list" {
            @if all.is_empty() {
                p class="empty" {
                    "None yet. Promise something, such as " b { "[objective.checkout] route = \"orders\", success = \"99.9%\"" } "."
                }
            } @else { (budgets(all)) }
        }
    }
}

/// Rows with figures behind their own columns.
fn table(own: &[&str], rows: impl Iterator<Item = Markup>) -> Markup {
    html! {
        div class="scroll" tabindex="0" role="group" aria-label="Table" {
            table class="list" {
                thead { tr {
                    @for name in own { th scope="col" { (name) } }
                    @for name in ["Requests", "Last minutes", "Errors", "Median", "p99", "In flight"] {
                        th scope="col" class="num" { (name) }
                    }
                } }
                tbody { @for row in rows { (row) } }
            }
        }
    }
}

fn route(route: &Route) -> Markup {
    html! {
        tr {
            th scope="row" { a href={ (ROUTES) "/" (segment(&route.name)) } { (route.name) } }
            td { (route.at.join(", ")) }
            td {
                @if let Some(action) = &route.action { (action) }
                @for (name, _) in &route.to { a href={ (SERVICES) "/" (segment(name)) } { (name) } " " }
            }
            (figures(&route.figures))
        }
    }
}

fn service(map: &Map, service: &Service) -> Markup {
    let is_way = |route: &&Route| route.to.iter().any(|(to, _)| *to == service.name);
    html! {
        tr {
            th scope="row" { a href={ (SERVICES) "/" (segment(&service.name)) } { (service.name) } }
            td { (badge(service_stands(service), &service_state(service))) }
            td {
                @for route in map.routes.iter().filter(is_way) {
                    a href={ (ROUTES) "/" (segment(&route.name)) } { (route.name) } " "
                }
            }
            (figures(&service.figures))
        }
    }
}

fn figures(figures: &Figures) -> Markup {
    let points: Vec<f64> = figures.spark.iter().map(|point| f64::from(*point)).collect();
    let or = |text: Option<String>| text.unwrap_or_else(|| UNKNOWN.to_owned());
    html! {
        td class="num" { (rate(figures.rate)) }
        td class="num" { (spark(&points)) }
        td class="num" {
            @if Health::of_figures(figures) > Health::Ok { (failing(figures)) }
            @else { (or(figures.errors.map(share))) }
        }
        td class="num" { (or(figures.p50.map(seconds))) }
        td class="num" { (or(figures.p99.map(seconds))) }
        td class="num" { (number(figures.in_flight)) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, hostile_map, shop_map};
    use super::*;

    #[test]
    fn every_route_and_service_stands_in_a_line_with_what_it_is_tied_to() {
        let map = shop_map();
        let (routes, services) = (routes(&map).into_string(), services(&map).into_string());
        for text in ["6 routes", "href=\"/routes/api-orders\"", "/api/orders/*", "href=\"/services/orders\""]
        {
            assert!(routes.contains(text), "{text}");
        }
        for text in ["5 services", "2 of 3 ready", "href=\"/services/web\"", "href=\"/routes/pictures\""] {
            assert!(services.contains(text), "{text}");
        }
    }

    #[test]
    fn an_objective_with_two_promises_is_one_objective() {
        let page = objectives(&testing::objectives()).into_string();
        assert!(page.contains("1 objective:") && page.contains("href=\"/objectives/checkout\""), "{page}");
        assert!(objectives(&[]).into_string().contains("None yet"));
    }

    #[test]
    fn names_from_the_file_stay_text() {
        let map = hostile_map();
        let page = routes(&map).into_string() + &services(&map).into_string();
        assert!(!page.contains("<script>alert") && !page.contains("style=") && !page.contains("NaN"));
        assert!(routes(&Map::default()).into_string().contains("[route.…]"));
        assert!(services(&Map::default()).into_string().contains("[service.…]"));
    }
}
