//! The page of an instance, or of a host: whether requests go there and why not, and its charts.

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, html};

use crate::control::ControlError;
use crate::map::{Instance, Service};

use super::actions::drain_form;
use super::charts::{Page, Range};
use super::charts_drawn::charts;
use super::figures::{UNKNOWN, bytes, number, rate, seconds, share, span};
use super::layout::{Nav, page};
use super::overview::Reach;
use super::overview_map::{instance_state, stands};
use super::pages::{self, chart_files, crumbs, fact};
use super::past::View;
use super::service::failing;
use super::shapes::{badge, segment};
use super::visitor::Visitor;
use super::{Dashboard, lists};

pub(super) fn router() -> Router<Dashboard> {
    Router::new().route("/services/{service}/instances/{name}", get(instance))
}

async fn instance(
    State(dashboard): State<Dashboard>,
    visitor: Visitor,
    Path((service_name, name)): Path<(String, String)>,
    Query(reach): Query<Reach>,
) -> Result<Response, ControlError> {
    let map = dashboard.control.map().await?;
    let found = map.services.iter().find(|service| service.name == service_name).and_then(|service| {
        let instance = service.instances.iter().find(|instance| instance.name == name)?;
        Some((service, instance))
    });
    let Some((service, instance)) = found else {
        let detail = format!("{service_name} has no instance called {name} now; it may have been replaced.");
        return Err(ControlError::not_found(detail));
    };
    let view = pages::view(&dashboard, &map, Range::from_key(&reach.last));
    let actions = drain_form(&visitor, &service.name, &instance.name, instance.is_drained);
    let content = content(&view, service, instance, &actions);
    Ok(page(&format!("Instance {name}"), &visitor, Nav::Overview, content))
}

fn content(view: &View<'_>, service: &Service, instance: &Instance, actions: &Markup) -> Markup {
    let of_service = format!("/services/{}", segment(&service.name));
    html! {
        (crumbs(&[("Services", lists::SERVICES), (&service.name, &of_service), (&instance.name, "")]))
        div class="page-head" {
            div data-live="head" {
                div class="title" {
                    h1 { "Instance " (instance.name) }
                    (badge(stands(instance), &instance_state(instance)))
                    (failing(&instance.figures))
                }
                p class="sub" { (rotation(instance)) }
            }
            div class="actions" data-live="actions" {
                (actions)
                a class="button" href={ "/logs?service=" (segment(&service.name)) "&instance=" (segment(&instance.name)) } { "Log lines" }
            }
        }
        div data-live="now" { (now(instance)) }
        (charts(view, &Page::Instance(service.name.clone(), instance.name.clone())))
        (chart_files())
    }
}

/// Whether requests go there, and if not, why, and until when.
fn rotation(instance: &Instance) -> String {
    match instance.ejected_for_seconds {
        _ if instance.is_drained => {
            "An operator took it out of rotation; no new requests go there.".to_owned()
        }
        Some(left) if left > 0.0 => {
            format!("It failed too often, so no requests go there for another {}.", seconds(left.ceil()))
        }
        Some(_) => {
            "It failed too often; one request at a time finds out whether it is well again.".to_owned()
        }
        None if instance.in_rotation => "Requests go there.".to_owned(),
        None => "No requests go there until it is ready.".to_owned(),
    }
}

fn now(instance: &Instance) -> Markup {
    let figures = &instance.figures;
    let or = |text: Option<String>| text.unwrap_or_else(|| UNKNOWN.to_owned());
    html! {
        section class="panel" aria-label="Now" {
            dl class="facts" {
                (fact("Attempts", &rate(figures.rate)))
                (fact("Errors", &or(figures.errors.map(share))))
                (fact("First byte, last answer", &or(instance.latency.map(seconds))))
                (fact("In flight", &number(figures.in_flight)))
                (fact("CPU, cores", &or(instance.cpu.map(number))))
                (fact("Memory", &or(instance.memory_bytes.map(bytes))))
                (fact("Address", &or(instance.address.clone())))
                (fact("Process", &or(instance.pid.map(|pid| pid.to_string()))))
                (fact("Up", &or(instance.uptime_seconds.map(span))))
                (fact("Restarts", &instance.restarts.to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::testing::{FakePast, hostile_map, shop_map};
    use super::*;

    #[test]
    fn an_instance_says_why_no_requests_go_there() {
        let mut instance = Instance { in_rotation: true, ..Instance::default() };
        assert_eq!(rotation(&instance), "Requests go there.");
        instance.is_drained = true;
        assert!(rotation(&instance).contains("operator"));
        instance.ejected_for_seconds = Some(4.2);
        assert!(rotation(&instance).contains("operator"), "it is not tried while it is drained");
        instance.is_drained = false;
        assert!(rotation(&instance).contains("for another 5"));
        instance.ejected_for_seconds = Some(0.0);
        assert!(rotation(&instance).contains("one request at a time"));
    }

    #[test]
    fn instances_of_any_name_have_a_page() {
        for map in [shop_map(), hostile_map()] {
            let past = FakePast::default();
            let view = View { map: &map, past: &past, now: SystemTime::UNIX_EPOCH, range: Range::Day };
            let service = &map.services[0];
            let page = content(&view, service, &service.instances[0], &Markup::default()).into_string();
            assert!(!page.contains("<script>alert") && !page.contains("style=") && !page.contains("NaN"));
        }
    }
}
