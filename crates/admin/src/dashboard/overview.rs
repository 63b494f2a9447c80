//! The first page: is all well, and if not, where; then the way of a request, then promises and recent trouble.
//!
//! Its headline is a verdict, so that whoever was called at night reads one sentence first. Everything in trouble is
//! named below it with a link to where one looks next.

use axum::Router;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, html};
use serde::Deserialize;
use terrace_signals::alerts::{AlertState, AlertView, Severity, Subject};
use terrace_signals::traces::{TraceFilter, TraceSummary};

use crate::control::ControlError;
use crate::map::{Fault, Instance, Map, Route, Service};

use super::charts::{Range, golden};
use super::charts_drawn::read;
use super::figures::{UNKNOWN, number, plural, rate, seconds, share, span};
use super::layout::{Nav, page};
use super::objective::budgets;
use super::overview_map::{instance_state, living_map, service_state};
use super::past::View;
use super::shapes::{Health, bar, mark, segment, spark};
use super::traces_list::trace_table;
use super::visitor::Visitor;
use super::{Dashboard, assets, faults, lists, pages};

/// Problems named below the headline; the rest is counted.
const PROBLEMS_MAX: usize = 6;
/// Traces with an error, or slow ones, that are shown.
const TROUBLE_MAX: usize = 6;
/// The newest traces among which slow ones are looked for.
const SLOW_SOUGHT_MAX: usize = 400;

/// Shares of the machine from which on their meters are marked.
const CPU_BUSY: f64 = 0.95;
const MEMORY_FULL: f64 = 0.9;

/// The reach of charts in a page's query.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Reach {
    /// A [`Range`]'s key.
    #[serde(default)]
    pub(super) last: String,
}

pub(super) fn router() -> Router<Dashboard> {
    Router::new().route("/", get(overview))
}

async fn overview(
    State(dashboard): State<Dashboard>,
    visitor: Visitor,
    Query(reach): Query<Reach>,
) -> Result<Response, ControlError> {
    let map = dashboard.control.map().await?;
    let view = pages::view(&dashboard, &map, Range::from_key(&reach.last));
    Ok(page("Overview", &visitor, Nav::Overview, content(&view)))
}

/// The page without what is around it.
pub(super) fn content(view: &View<'_>) -> Markup {
    let map = view.map;
    let alerts = view.past.alerts();
    let problems = problems(map, &alerts);
    html! {
        div data-live="headline" {
            div class="page-head" {
                div {
                    h1 { (verdict(map, &problems)) }
                    p class="sub" { (stand(map)) }
                }
            }
            (banner(&problems))
            (tiles(view))
        }
        section class="panel map-panel" aria-labelledby="way" {
            header {
                div {
                    h2 id="way" { "The way of a request" }
                    p class="hint" {
                        "Requests come in at the left, are matched to a route by host and path, and go to one of a service's "
                        "instances at the right. Thicker is busier; trouble has a ring and a mark. Names lead to charts and traces."
                    }
                }
                div class="panel-tools" {
                    label class="field" data-map-filter hidden {
                        span class="visually-hidden" { "Show only what is called" }
                        input type="search" id="map-filter" placeholder="Filter by name or path" data-filter;
                    }
                }
            }
            div data-live="map" { (way(map)) }
        }
        div data-live="below" {
            div class="columns" {
                (promises(view))
                (trouble(view))
            }
        }
        script type="module" src=(assets::url("map.js")) {}
    }
}

fn way(map: &Map) -> Markup {
    match map.routes.is_empty() && map.services.is_empty() {
        true => html! {
            p class="empty" {
                "No route and no service yet. Write a " b { "[service.…]" } " and a " b { "[route.…]" }
                " into terrace.toml and they appear here, without a restart."
            }
        },
        false => living_map(map),
    }
}

/// Something that wants a look.
#[derive(Debug, PartialEq, Eq)]
struct Trouble {
    health: Health,
    text: String,
    link: String,
}

/// All that is wrong, worst first: what fires, what is not ready, which services and instances are not well. One cause is
/// told once: an objective's several rules are one line, and what fires for a route is not said of the route again.
fn problems(map: &Map, alerts: &[AlertView]) -> Vec<Trouble> {
    let firing: Vec<&AlertView> = firing(alerts);
    let mut all: Vec<Trouble> = firing.iter().map(|alert| trouble_of_alert(alert)).collect();
    let of_services: Vec<(&str, Vec<Trouble>)> =
        map.services.iter().map(|service| (service.name.as_str(), troubles_of_service(service))).collect();
    let is_told = |reason: &str| {
        of_services.iter().any(|(name, troubles)| !troubles.is_empty() && reason.contains(*name))
    };
    let not_ready = map.not_ready.iter().filter(|reason| !is_told(reason)).map(|reason| Trouble {
        health: Health::Bad,
        text: format!("Not ready: {reason}"),
        link: "/logs?service=terrace".to_owned(),
    });
    all.extend(not_ready);
    let is_subject = |route: &Route| {
        firing.iter().any(|alert| match &alert.subject {
            Some(Subject::Route(name)) => route.name == *name,
            Some(Subject::Service(name)) => route.to.iter().any(|(to, _)| to == name),
            None => false,
        })
    };
    let failing = map.routes.iter().filter(|route| !is_subject(route)).filter_map(trouble_of_route);
    all.extend(failing);
    all.extend(of_services.into_iter().flat_map(|(_, troubles)| troubles));
    all.extend(map.faults.iter().map(|fault| trouble_of_fault(fault, map.at)));
    all.extend(trouble_of_machine(map));
    all.sort_by_key(|trouble| std::cmp::Reverse(trouble.health));
    all
}

/// One alert for each name: the one that matters most, which comes first.
fn firing(alerts: &[AlertView]) -> Vec<&AlertView> {
    let mut firing: Vec<&AlertView> = Vec::new();
    let is_loud = |alert: &&AlertView| alert.state == AlertState::Firing && alert.silenced_until.is_none();
    for alert in alerts.iter().filter(is_loud) {
        match firing.iter_mut().find(|known| known.name == alert.name) {
            Some(known) if known.severity < alert.severity => *known = alert,
            Some(_) => {}
            None => firing.push(alert),
        }
    }
    firing
}

fn trouble_of_alert(alert: &AlertView) -> Trouble {
    Trouble {
        health: if alert.severity == Severity::Page { Health::Bad } else { Health::Warn },
        text: format!("{}: {}", alert.name, alert.summary),
        link: "/alerts".to_owned(),
    }
}

fn trouble_of_route(route: &Route) -> Option<Trouble> {
    let errors = route.figures.errors?;
    let text = format!("{} of the requests to route {} fail", share(errors), route.name);
    let link = format!("/routes/{}", segment(&route.name));
    (Health::of_figures(&route.figures) == Health::Bad).then_some(Trouble { health: Health::Bad, text, link })
}

/// What is broken on purpose wants to be known, lest somebody looks for its cause.
fn trouble_of_fault(fault: &Fault, now: f64) -> Trouble {
    let text = format!("On purpose, for another {}: {}", faults::left(fault, now), faults::sentence(fault));
    Trouble { health: Health::Warn, text, link: faults::PLACE.to_owned() }
}

/// Memory that runs out ends processes. A busy CPU is worth its money: where it hurts, requests are slow or fail, and that is
/// told as such.
fn trouble_of_machine(map: &Map) -> Option<Trouble> {
    let memory = map.host_memory.filter(|used| *used >= MEMORY_FULL)?;
    let text = format!("{} of the machine's memory is in use; what needs more may be ended", share(memory));
    Some(Trouble { health: Health::Warn, text, link: "/machine".to_owned() })
}

fn troubles_of_service(service: &Service) -> Vec<Trouble> {
    let link = format!("/services/{}", segment(&service.name));
    if service.gate.is_open {
        let rate = rate(service.gate.asked_rate);
        let text = format!(
            "Service {} answers nobody: its breaker is open, and whoever asks ({rate}) is told so at once",
            service.name
        );
        return vec![Trouble { health: Health::Bad, text, link }];
    }
    let health = Health::of_state(&service.state);
    if health > Health::Ok {
        let reason = service.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let text = format!("Service {}, {}{reason}", service.name, service_state(service));
        return vec![Trouble { health, text, link }];
    }
    let is_service_failing = Health::of_figures(&service.figures) > Health::Ok;
    let instances = service.instances.iter().filter_map(|instance| {
        let text = trouble_of_instance(instance, is_service_failing)?;
        let link = format!("{link}/instances/{}", segment(&instance.name));
        // A service that runs has others to take its place.
        Some(Trouble { health: Health::Warn, text: format!("{}: {text}", instance.name), link })
    });
    instances.collect()
}

/// What is wrong with an instance; that an operator drained it is not. Where all of a service fails, an instance
/// alone is not to blame.
fn trouble_of_instance(instance: &Instance, is_service_failing: bool) -> Option<String> {
    let is_ejected = instance.ejected_for_seconds.is_some() && !instance.is_drained;
    let is_out = is_ejected || Health::of_state(&instance.state) > Health::Ok;
    match instance.figures.errors {
        _ if is_out => Some(instance_state(instance)),
        Some(errors) if !is_service_failing && Health::of_figures(&instance.figures) == Health::Bad => {
            Some(format!("{} of its requests fail", share(errors)))
        }
        _ => None,
    }
}

fn verdict(map: &Map, problems: &[Trouble]) -> String {
    let bad = problems.iter().filter(|trouble| trouble.health == Health::Bad).count() as u64;
    match (bad, problems.len() as u64) {
        (0, 0) if map.total.rate <= 0.0 => "All is well, and nobody asks for anything".to_owned(),
        (0, 0) => "All is well".to_owned(),
        (0, 1) => "Users are served; one thing wants a look".to_owned(),
        (0, all) => format!("Users are served; {all} things want a look"),
        (1, _) => "One thing is broken".to_owned(),
        (bad, _) => format!("{bad} things are broken"),
    }
}

fn stand(map: &Map) -> Markup {
    let (ready, all) = map.services.iter().fold((0, 0), |(ready, all), service| {
        (
            ready + u64::from(service.ready),
            all + u64::from(service.desired).max(service.instances.len() as u64),
        )
    });
    html! {
        a href=(lists::ROUTES) { (plural(map.routes.len() as u64, "route")) } ", "
        a href=(lists::SERVICES) { (plural(map.services.len() as u64, "service")) } ", "
        (ready) " of " (plural(all, "instance")) " ready · Terrace " (map.version) " up " (span(map.uptime_seconds))
    }
}

fn banner(problems: &[Trouble]) -> Markup {
    let worst = problems.first().map_or(Health::Ok, |trouble| trouble.health);
    let hidden = problems.len().saturating_sub(PROBLEMS_MAX);
    html! {
        @if !problems.is_empty() {
            div class={ "banner " (worst.class()) } {
                ul class="problems" {
                    @for trouble in problems.iter().take(PROBLEMS_MAX) {
                        li class=(trouble.health.class()) { (mark(trouble.health)) a href=(trouble.link) { (trouble.text) } }
                    }
                    @if hidden > 0 { li { "and " (hidden) " more" } }
                }
            }
        }
    }
}

/// Traffic, errors, latency, saturation.
fn tiles(view: &View<'_>) -> Markup {
    let total = &view.map.total;
    let [requests, errors, latency] = golden().map(|spec| read(spec, view.past, Range::FiveMinutes));
    let errors_health = Health::of_figures(total);
    let sparks: Vec<f64> = total.spark.iter().map(|point| f64::from(*point)).collect();
    let requests =
        if requests.first_points().is_empty() { sparks.as_slice() } else { requests.first_points() };
    let time = |value: Option<f64>| value.map_or_else(|| UNKNOWN.to_owned(), seconds);
    html! {
        div class="tiles" {
            (tile("Requests", &rate(total.rate), &format!("{} in flight", number(total.in_flight)), requests, Health::Ok))
            (tile("Errors", &total.errors.map_or_else(|| UNKNOWN.to_owned(), share), "of all requests, answered 5xx", errors.first_points(), errors_health))
            (tile("Latency, p99", &time(total.p99), &format!("half take less than {}", time(total.p50)), latency.first_points(), Health::Ok))
            (host(view.map))
        }
    }
}

fn tile(label: &str, big: &str, note: &str, points: &[f64], health: Health) -> Markup {
    let class = match health {
        Health::Bad | Health::Warn => health.class(),
        _ => "",
    };
    html! {
        div class={ "tile " (class) } {
            p class="label" { @if !class.is_empty() { (mark(health)) " " } (label) }
            p class="big" { (big) }
            (spark(points))
            p class="note" { (note) }
        }
    }
}

fn host(map: &Map) -> Markup {
    let health = |share: Option<f64>, full: f64| match share {
        Some(share) if share >= full => Health::Warn,
        _ => Health::Idle,
    };
    let rows = [("CPU", map.host_cpu, CPU_BUSY), ("Memory", map.host_memory, MEMORY_FULL)];
    // Marked as a whole only where the headline speaks of it too.
    let worst = trouble_of_machine(map).map(|trouble| trouble.health);
    html! {
        div class={ "tile " (worst.map_or("", Health::class)) } {
            p class="label" { @if let Some(worst) = worst { (mark(worst)) " " } a href="/machine" { "Machine" } }
            div class="meters" {
                @for (name, value, full) in rows {
                    span { (name) }
                    (bar(value.unwrap_or(0.0), health(value, full)))
                    b class="num" { (value.map_or_else(|| UNKNOWN.to_owned(), share)) }
                }
            }
        }
    }
}

fn promises(view: &View<'_>) -> Markup {
    let objectives = view.past.objectives();
    html! {
        section class="panel" aria-labelledby="promises" {
            header {
                h2 id="promises" { "Objectives" }
                @if !objectives.is_empty() { a href=(lists::OBJECTIVES) { "All objectives" } }
            }
            @if objectives.is_empty() {
                p class="empty" {
                    "None yet. Promise something, such as " b { "[objective.checkout] route = \"orders\", success = \"99.9%\"" }
                    ", and you are called when users suffer, and only then."
                }
            } @else { (budgets(&objectives)) }
        }
    }
}

fn trouble(view: &View<'_>) -> Markup {
    let traces = failed_and_slow(view);
    html! {
        section class="panel" aria-labelledby="trouble" {
            header {
                h2 id="trouble" { "Failed and slow of late" }
                a href="/traces" { "All traces" }
            }
            @if traces.is_empty() { p class="empty" { "No request failed or was slow of late." } }
            @else { (trace_table(view, &traces)) }
        }
    }
}

/// The newest that failed or were slow. Failed ones can be asked for; slow ones are looked for among the newest.
fn failed_and_slow(view: &View<'_>) -> Vec<TraceSummary> {
    let failed = TraceFilter { errors_only: true, limit: TROUBLE_MAX, ..TraceFilter::default() };
    let newest = TraceFilter { limit: SLOW_SOUGHT_MAX, ..TraceFilter::default() };
    let mut traces = view.past.traces(&failed);
    traces.retain(|trace| trace.is_error);
    let mut slow = view.past.traces(&newest);
    slow.retain(|trace| !trace.is_error && trace.kept == "slow");
    traces.extend(slow);
    traces.sort_by_key(|trace| std::cmp::Reverse(trace.start));
    traces.truncate(TROUBLE_MAX);
    traces
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::past::Past;
    use super::super::testing::{FakePast, hostile_map, shop_map};
    use super::*;
    use crate::map::Gate;

    fn shown(map: &Map, past: &FakePast) -> String {
        content(&View { map, past, now: SystemTime::UNIX_EPOCH, range: Range::FiveMinutes }).into_string()
    }

    #[test]
    fn the_headline_says_whether_all_is_well() {
        let mut map = shop_map();
        map.services.iter_mut().for_each(|service| {
            service.state = "running".to_owned();
            service.figures.errors = Some(0.0);
            service.instances.iter_mut().for_each(|instance| {
                instance.state = "ready".to_owned();
                instance.figures.errors = None;
                (instance.is_drained, instance.ejected_for_seconds) = (false, None);
            });
        });
        map.routes.iter_mut().for_each(|route| route.figures.errors = Some(0.0));
        assert_eq!(verdict(&map, &problems(&map, &[])), "All is well");
        map.services[0].state = "crash-loop".to_owned();
        assert_eq!(verdict(&map, &problems(&map, &[])), "One thing is broken");
        map.not_ready.push("no instance of orders is ready".to_owned());
        assert_eq!(verdict(&map, &problems(&map, &[])), "2 things are broken");
    }

    #[test]
    fn a_breaker_that_is_open_is_told_with_whose_it_is() {
        let mut map = shop_map();
        map.services[3].gate = Gate { is_open: true, asked_rate: 3.0, ..Gate::default() };
        let told = problems(&map, &[]);
        let of_breaker = told.iter().find(|trouble| trouble.text.contains("breaker")).expect("it is told");
        assert_eq!((of_breaker.health, of_breaker.link.as_str()), (Health::Bad, "/services/payments"));
        assert!(of_breaker.text.starts_with("Service payments answers nobody"), "{}", of_breaker.text);
    }

    #[test]
    fn the_machines_tile_and_the_headline_agree() {
        let marked = |cpu: f64, memory: f64| {
            let map = Map { host_cpu: Some(cpu), host_memory: Some(memory), ..Map::default() };
            let tile = host(&map).into_string();
            (tile.contains("\"tile warn\""), verdict(&map, &problems(&map, &[])).starts_with("All is well"))
        };
        assert_eq!(marked(1.0, 0.5), (false, true), "a busy CPU alone is no trouble");
        assert_eq!(marked(0.1, 0.93), (true, false));
        assert_eq!(marked(f64::NAN, f64::NAN), (false, true));
    }

    #[test]
    fn what_is_broken_on_purpose_is_said_before_somebody_looks_for_its_cause() {
        let fault = Fault {
            route: "orders".to_owned(),
            abort: Some(503),
            share: 0.1,
            until: 720.0,
            ..Fault::default()
        };
        let map = Map { faults: vec![fault], ..Map::default() };
        let page = shown(&map, &FakePast { is_empty: true }).replace('\u{202f}', " ");
        let said = "On purpose, for another 12 min: 10 % of the requests to route orders are answered 503";
        assert!(page.contains(said) && page.contains("href=\"/alerts#faults\""), "{page}");
        assert!(page.contains("Users are served; one thing wants a look"));
    }

    #[test]
    fn one_cause_is_told_once() {
        let map = shop_map();
        let mut alerts = FakePast::default().alerts();
        alerts.push(AlertView { severity: Severity::Ticket, id: "a2".to_owned(), ..alerts[0].clone() });
        let texts: Vec<String> = problems(&map, &alerts).into_iter().map(|trouble| trouble.text).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts[0].starts_with("checkout: ") && texts[1].starts_with("orders-2: ejected"), "{texts:?}");
        alerts.iter_mut().for_each(|alert| alert.silenced_until = Some(alert.since));
        let texts: Vec<String> = problems(&map, &alerts).into_iter().map(|trouble| trouble.text).collect();
        assert!(texts[0].contains("requests to route api-orders fail"), "{texts:?}");
    }

    #[test]
    fn an_empty_terrace_says_what_to_do() {
        let page = shown(&Map::default(), &FakePast { is_empty: true });
        assert!(page.contains("terrace.toml") && page.contains("No request failed"));
        assert!(!page.contains("NaN"));
    }

    #[test]
    fn names_from_the_file_stay_text() {
        let page = shown(&hostile_map(), &FakePast::default());
        assert!(!page.contains("<script>alert") && !page.contains("style=") && !page.contains("onerror=\""));
        assert!(page.contains("&lt;script&gt;"));
    }

    #[test]
    fn everything_of_the_shop_is_on_the_page() {
        let page = shown(&shop_map(), &FakePast::default());
        for text in ["api-orders", "/api/orders/*", "orders-1", "Objectives", "p99", "Failed and slow"] {
            assert!(page.contains(text), "{text}");
        }
    }
}
