//! The page of a service: its state and what can be done about it, its charts, its instances.

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, html};
use terrace_signals::alerts::Subject;

use crate::control::ControlError;
use crate::map::{Figures, Instance, Route, Service};

use super::actions::{drain_form, restart_form, scale_form};
use super::charts::{Page, Range};
use super::charts_drawn::charts;
use super::figures::{UNKNOWN, bytes, number, rate, seconds, share, span};
use super::layout::{Nav, page};
use super::overview::Reach;
use super::overview_map::{instance_state, service_stands, service_state, stands, told};
use super::pages::{self, chart_files, crumbs, fact, related_objectives, related_traces};
use super::past::View;
use super::shapes::{Health, badge, segment, spark};
use super::visitor::Visitor;
use super::{Dashboard, lists};

/// Instances in the table; the rest is counted.
const INSTANCES_MAX: usize = 200;

pub(super) fn router() -> Router<Dashboard> {
    Router::new().route("/services/{name}", get(service))
}

async fn service(
    State(dashboard): State<Dashboard>,
    visitor: Visitor,
    Path(name): Path<String>,
    Query(reach): Query<Reach>,
) -> Result<Response, ControlError> {
    let map = dashboard.control.map().await?;
    let Some(service) = map.services.iter().find(|service| service.name == name) else {
        return Err(ControlError::not_found(format!("The file has no service called {name}.")));
    };
    let view = pages::view(&dashboard, &map, Range::from_key(&reach.last));
    let actions = html! { (scale_form(&visitor, service)) (restart_form(&visitor, service)) };
    let drain =
        |instance: &Instance| drain_form(&visitor, &service.name, &instance.name, instance.is_drained);
    let content = content(&view, service, &Actions { whole: actions, each: &drain });
    Ok(page(&format!("Service {name}"), &visitor, Nav::Overview, content))
}

/// What can be done here, as forms: with the service, and with each instance.
struct Actions<'a> {
    whole: Markup,
    each: &'a dyn Fn(&Instance) -> Markup,
}

fn content(view: &View<'_>, service: &Service, actions: &Actions<'_>) -> Markup {
    let subject = Subject::Service(service.name.clone());
    html! {
        (crumbs(&[("Services", lists::SERVICES), (&service.name, "")]))
        div class="page-head" {
            div data-live="head" { (title(service)) }
            div class="actions" {
                (actions.whole)
                a class="button" href={ "/logs?service=" (segment(&service.name)) } { "Log lines" }
            }
        }
        div data-live="now" { (now(view, service)) }
        section class="panel" id="instances" aria-labelledby="instances-head" {
            header { h2 id="instances-head" { "Instances" } }
            div data-live="instances" { (instances(service, actions.each)) }
        }
        (related_objectives(view, &subject))
        (charts(view, &Page::Service(service.name.clone())))
        (related_traces(view, &subject))
        (chart_files())
    }
}

fn title(service: &Service) -> Markup {
    html! {
        div class="title" {
            h1 { "Service " (service.name) }
            (badge(service_stands(service), &service_state(service)))
            (failing(&told(service)))
        }
        @if service.gate.is_open {
            p class="sub" {
                "It gave no answer too often, so whoever asks is told so at once and waits for nothing. One request at a time "
                "finds out whether it is well again; then all are let through, without anybody's doing."
            }
        }
        @if let Some(reason) = &service.reason { p class="sub" { (reason) } }
    }
}

/// A badge when requests fail, whatever the state says.
pub(super) fn failing(figures: &Figures) -> Markup {
    let health = Health::of_figures(figures);
    html! {
        @if health > Health::Ok {
            (badge(health, &format!("{} errors", figures.errors.map_or_else(|| UNKNOWN.to_owned(), share))))
        }
    }
}

fn now(view: &View<'_>, service: &Service) -> Markup {
    let figures = &service.figures;
    let time = |value: Option<f64>| value.map_or_else(|| UNKNOWN.to_owned(), seconds);
    let is_here = |route: &&Route| route.to.iter().any(|(to, _)| *to == service.name);
    let reached: Vec<&Route> = view.map.routes.iter().filter(is_here).collect();
    html! {
        section class="panel" aria-label="Now" {
            dl class="facts" {
                (fact("Attempts", &rate(figures.rate)))
                (fact("Errors", &figures.errors.map_or_else(|| UNKNOWN.to_owned(), share)))
                (fact("Median", &time(figures.p50)))
                (fact("p99", &time(figures.p99)))
                (fact("In flight", &number(figures.in_flight)))
                (fact("Asked for", &rate(service.gate.asked_rate)))
                div {
                    dt { "Breaker" }
                    dd {
                        @if service.gate.is_open { (badge(Health::Bad, "open")) }
                        @else { "closed" }
                    }
                }
                (fact("At once", &service.gate.limit.map_or_else(|| "no limit".to_owned(), |limit| format!("at most {}", number(limit)))))
                (fact("In line", &number(service.gate.waiting)))
                (fact("Kind", kind(&service.kind)))
                div {
                    dt { "Reached by" }
                    dd {
                        @for route in &reached { a href={ "/routes/" (segment(&route.name)) } { (route.name) } " " }
                        @if reached.is_empty() { "other services" }
                    }
                }
            }
        }
    }
}

fn kind(kind: &str) -> &str {
    match kind {
        "run" => "run by Terrace",
        "worker" => "worker, run by Terrace",
        "hosts" => "hosts from the file",
        "dns" => "hosts from DNS",
        other => other,
    }
}

fn instances(service: &Service, action: &dyn Fn(&Instance) -> Markup) -> Markup {
    let hidden = service.instances.len().saturating_sub(INSTANCES_MAX);
    html! {
        @if service.instances.is_empty() { p class="empty" { "There is none at present." } }
        @else {
            div class="scroll" tabindex="0" role="group" aria-label="Table of instances" {
                table class="list" {
                    thead { tr {
                        th scope="col" { "Name" } th scope="col" { "State" } th scope="col" { "Address" }
                        th scope="col" class="num" { "Requests" } th scope="col" class="num" { "Last minutes" }
                        th scope="col" class="num" { "Errors" } th scope="col" class="num" { "First byte" }
                        th scope="col" class="num" { "In flight" } th scope="col" class="num" { "CPU" }
                        th scope="col" class="num" { "Memory" } th scope="col" class="num" { "Up" }
                        th scope="col" class="num" { "Restarts" }
                        th scope="col" { span class="visually-hidden" { "Action" } }
                    } }
                    tbody { @for instance in service.instances.iter().take(INSTANCES_MAX) { (row(service, instance, &action(instance))) } }
                }
            }
            @if hidden > 0 { p class="hint" { "and " (hidden) " more" } }
        }
    }
}

fn row(service: &Service, instance: &Instance, action: &Markup) -> Markup {
    let figures = &instance.figures;
    let health = stands(instance);
    let points: Vec<f64> = figures.spark.iter().map(|point| f64::from(*point)).collect();
    let or = |text: Option<String>| text.unwrap_or_else(|| UNKNOWN.to_owned());
    let errors = Health::of_figures(figures);
    html! {
        tr {
            th scope="row" {
                a href={ "/services/" (segment(&service.name)) "/instances/" (segment(&instance.name)) } { (instance.name) }
            }
            td { (badge(health, &instance_state(instance))) }
            td { (instance.address.as_deref().unwrap_or(UNKNOWN)) }
            td class="num" { (rate(figures.rate)) }
            td class="num" { (spark(&points)) }
            td class="num" {
                @if errors > Health::Ok { (failing(figures)) } @else { (or(figures.errors.map(share))) }
            }
            td class="num" { (or(instance.latency.map(seconds))) }
            td class="num" { (number(figures.in_flight)) }
            td class="num" { (or(instance.cpu.map(number))) }
            td class="num" { (or(instance.memory_bytes.map(bytes))) }
            td class="num" { (or(instance.uptime_seconds.map(span))) }
            td class="num" { (instance.restarts) }
            td class="num" { (action) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::testing::{FakePast, hostile_map, shop_map};
    use super::*;
    use crate::map::Gate;

    #[test]
    fn a_service_shows_its_instances_and_its_actions() {
        let map = shop_map();
        let past = FakePast::default();
        let view = View { map: &map, past: &past, now: SystemTime::UNIX_EPOCH, range: Range::Hour };
        let service = map.services.iter().find(|service| service.name == "orders").unwrap();
        let actions =
            Actions { whole: html! { button { "Restart" } }, each: &|_| html! { button { "Drain" } } };
        let page = content(&view, service, &actions).into_string();
        for text in ["orders-1", "Restart", "Drain", "api-orders", "Reached by", "First byte"] {
            assert!(page.contains(text), "{text}");
        }
    }

    #[test]
    fn a_service_shows_what_stands_in_front_of_it() {
        let (mut map, past) = (shop_map(), FakePast::default());
        let gate = Gate {
            is_open: true,
            limit: Some(12.0),
            waiting: 3.0,
            asked_rate: 40.0,
            asked_errors: Some(1.0),
        };
        map.services[3].gate = gate;
        let view = View { map: &map, past: &past, now: SystemTime::UNIX_EPOCH, range: Range::Hour };
        let actions = Actions { whole: Markup::default(), each: &|_| Markup::default() };
        let page = content(&view, &map.services[3], &actions).into_string().replace('\u{202f}', " ");
        for text in
            ["breaker open, 1 of 1 ready", "100 % errors", "at most 12", "40/s", "Sent away", "In line"]
        {
            assert!(page.contains(text), "{text}");
        }
    }

    #[test]
    fn two_hundred_instances_with_hostile_names_are_a_table() {
        let map = hostile_map();
        let past = FakePast { is_empty: true };
        let view = View { map: &map, past: &past, now: SystemTime::UNIX_EPOCH, range: Range::Week };
        let page = content(
            &view,
            &map.services[0],
            &Actions { whole: Markup::default(), each: &|_| Markup::default() },
        )
        .into_string();
        assert!(page.matches("<tr>").count() >= 200);
        assert!(!page.contains("<script>alert") && !page.contains("style="));
        assert!(page.len() < 1_000_000);
    }
}
