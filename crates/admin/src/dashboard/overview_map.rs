//! The living map: listeners, routes, services and instances in columns, joined by what flows between them.
//!
//! The browser lays the cards out, the server draws the curves between them, and both agree without a script because the
//! heights are few and known: a card, a service, an instance have one height each ([`Geometry`], and the variables of
//! the same names in `app.css`), a column spreads its slots evenly over the height of the tallest, and a curve's
//! box is stretched over the same height. So the map is right before any script runs, and at any font size.
//!
//! It is for people: what is quiet steps back, what is in trouble gets a ring, a mark and words, and a service of a
//! hundred instances shows the few that need a look and counts the rest.

use maud::{Markup, html};

use crate::map::{Figures, Instance, Listener, Map, Route, Service};

use super::figures::{UNKNOWN, bytes, number, plural, rate, seconds, share};
use super::shapes::{Health, curve, mark, segment, spark, stroke};

/// Routes or services from which on cards become one line high.
const COMPACT_FROM: usize = 17;
/// Curves that move; more would keep a slow machine busy, and nobody sees them all.
const MOVING_MAX: usize = 60;

/// Heights in sixteenths of a rem, as in the style sheet.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Geometry {
    is_compact: bool,
    card: f64,
    service: f64,
    instance: f64,
    /// Instances of a service that are shown; the rest is counted in a line of its own.
    instances_max: usize,
}

/// Between two instances.
const INSTANCE_GAP: f64 = 6.0;
/// Around each card.
const CARD_GAP: f64 = 10.0;
/// Around each service with its instances.
const SERVICE_GAP: f64 = 14.0;

impl Geometry {
    fn of(map: &Map) -> Self {
        match map.routes.len().max(map.services.len()) >= COMPACT_FROM {
            true => Self { is_compact: true, card: 42.0, service: 56.0, instance: 28.0, instances_max: 2 },
            false => Self { is_compact: false, card: 78.0, service: 88.0, instance: 42.0, instances_max: 5 },
        }
    }

    /// Lines that a service's instances take.
    fn lines(&self, service: &Service) -> usize {
        match service.instances.len() {
            0 => 1,
            count if count > self.instances_max => self.instances_max + 1,
            count => count,
        }
    }

    /// The height of a service with its instances.
    fn row(&self, service: &Service) -> f64 {
        let lines = self.lines(service) as f64;
        (lines * (self.instance + INSTANCE_GAP) - INSTANCE_GAP).max(self.service)
    }
}

/// What stands in the columns, from top to bottom. The order follows from who leads to whom alone, so that nothing moves
/// while figures change.
#[derive(Debug)]
struct Columns<'a> {
    listeners: &'a [Listener],
    routes: Vec<&'a Route>,
    services: Vec<&'a Service>,
}

/// Times that both columns are put in order by the other one; few crossings go away after that.
const SWEEPS: usize = 4;

impl<'a> Columns<'a> {
    /// Each service stands at the mean height of the routes that lead to it and each route at that of its services (the
    /// barycentre method of Sugiyama, Tagawa and Toda, 1981), so that few curves cross.
    fn of(map: &'a Map) -> Self {
        let mut routes: Vec<&Route> = map.routes.iter().collect();
        let mut services: Vec<&Service> = map.services.iter().collect();
        for _ in 0..SWEEPS {
            services = sorted_by_mean(services, |service| {
                let leads_here = |route: &&Route| route.to.iter().any(|(to, _)| *to == service.name);
                routes
                    .iter()
                    .enumerate()
                    .filter(|(_, route)| leads_here(route))
                    .map(|(place, _)| place)
                    .collect()
            });
            routes = sorted_by_mean(routes, |route| {
                let is_meant = |service: &&Service| route.to.iter().any(|(to, _)| *to == service.name);
                services
                    .iter()
                    .enumerate()
                    .filter(|(_, service)| is_meant(service))
                    .map(|(place, _)| place)
                    .collect()
            });
        }
        Self { listeners: &map.listeners, routes, services }
    }

    /// Whether requests come to a service although no route from outside leads there.
    fn is_inner(&self, service: &Service) -> bool {
        let is_reached = self.routes.iter().any(|route| route.to.iter().any(|(to, _)| *to == service.name));
        !is_reached && (service.figures.rate > 0.0 || service.gate.asked_rate > 0.0)
    }
}

/// Stable, so that names decide where places do not; what is joined to nothing comes last.
fn sorted_by_mean<T>(all: Vec<&T>, places: impl Fn(&T) -> Vec<usize>) -> Vec<&T> {
    let mut keyed: Vec<(f64, &T)> = all
        .into_iter()
        .map(|each| {
            let places = places(each);
            let mean = places.iter().sum::<usize>() as f64 / places.len() as f64;
            (if places.is_empty() { f64::INFINITY } else { mean }, each)
        })
        .collect();
    keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
    keyed.into_iter().map(|(_, each)| each).collect()
}

/// Where the middles of all cards are, from the top of the map.
#[derive(Debug, PartialEq)]
struct Layout {
    height: f64,
    listeners: Vec<f64>,
    routes: Vec<f64>,
    services: Vec<f64>,
}

impl Layout {
    fn of(columns: &Columns<'_>, geometry: Geometry) -> Self {
        let slots = |count: usize| count as f64 * (geometry.card + CARD_GAP);
        let rows: Vec<f64> =
            columns.services.iter().map(|service| geometry.row(service) + SERVICE_GAP).collect();
        let of_services: f64 = rows.iter().sum();
        let height = of_services.max(slots(columns.routes.len())).max(slots(columns.listeners.len()));
        let spare = match rows.len() {
            0 => 0.0,
            count => (height - of_services) / count as f64,
        };
        let mut top = 0.0;
        let services = rows.iter().map(|row| {
            let middle = top + (row + spare) / 2.0;
            top += row + spare;
            middle
        });
        Self {
            height,
            listeners: spread(columns.listeners.len(), height),
            routes: spread(columns.routes.len(), height),
            services: services.collect(),
        }
    }
}

/// The middles of `count` equal slots.
fn spread(count: usize, height: f64) -> Vec<f64> {
    (0..count).map(|index| height * (index as f64 + 0.5) / count as f64).collect()
}

/// A curve of the map, with what decides how it looks.
#[derive(Debug, PartialEq)]
struct Edge<'a> {
    from: (&'static str, &'a str),
    to: (&'static str, &'a str),
    path: String,
    rate: f64,
    health: Health,
}

/// The map, to be put into a panel.
pub(super) fn living_map(map: &Map) -> Markup {
    let geometry = Geometry::of(map);
    let columns = Columns::of(map);
    let layout = Layout::of(&columns, geometry);
    let busiest = map.routes.iter().map(|route| route.figures.rate).fold(0.0, f64::max);
    let in_front = listener_edges(&columns, &layout);
    let behind = service_edges(&columns, &layout);
    html! {
        div class={ "map" @if geometry.is_compact { " compact" } } id="map" {
            div class="map-column" {
                h3 class="map-head" { "Listeners" }
                ul { @for listener in columns.listeners { li { (listener_card(listener)) } } }
            }
            (gutter(layout.height, &in_front, busiest))
            div class="map-column" {
                h3 class="map-head" { "Routes" }
                ul { @for route in &columns.routes { li { (route_card(route)) } } }
            }
            (gutter(layout.height, &behind, busiest))
            div class="map-column services" {
                div class="map-head pair" { h3 { "Services" } h3 { "Instances" } }
                ul { @for service in &columns.services { li class="service-row" { (service_row(service, columns.is_inner(service), geometry)) } } }
            }
        }
    }
}

fn listener_edges<'a>(columns: &Columns<'a>, layout: &Layout) -> Vec<Edge<'a>> {
    let mut edges = Vec::new();
    for (listener, from) in columns.listeners.iter().zip(&layout.listeners) {
        for (route, to) in columns.routes.iter().zip(&layout.routes) {
            if !listener.routes.contains(&route.name) {
                continue;
            }
            let doors = columns.listeners.iter().filter(|other| other.routes.contains(&route.name)).count();
            edges.push(Edge {
                from: ("listener", &listener.name),
                to: ("route", &route.name),
                path: curve(*from, *to),
                rate: route.figures.rate / doors.max(1) as f64,
                health: Health::of_figures(&route.figures),
            });
        }
    }
    edges
}

fn service_edges<'a>(columns: &Columns<'a>, layout: &Layout) -> Vec<Edge<'a>> {
    let mut edges = Vec::new();
    for (route, from) in columns.routes.iter().zip(&layout.routes) {
        let weights: u32 = route.to.iter().map(|(_, weight)| *weight).sum();
        for (name, weight) in &route.to {
            let Some(index) = columns.services.iter().position(|service| service.name == *name) else {
                continue;
            };
            edges.push(Edge {
                from: ("route", &route.name),
                to: ("service", name),
                path: curve(*from, layout.services[index]),
                rate: route.figures.rate * f64::from(*weight) / f64::from(weights.max(1)),
                health: Health::of_figures(&route.figures),
            });
        }
    }
    edges
}

/// The space between two columns, with the curves in it. They say nothing that the cards do not, so they are hidden from
/// those who read by ear.
fn gutter(height: f64, edges: &[Edge<'_>], busiest: f64) -> Markup {
    let still = edges.len() > MOVING_MAX;
    html! {
        svg class="gutter" viewBox={ "0 0 100 " (height.max(1.0)) } preserveAspectRatio="none" aria-hidden="true" {
            @for edge in edges { (drawn(edge, busiest, still)) }
        }
    }
}

fn drawn(edge: &Edge<'_>, busiest: f64, is_still: bool) -> Markup {
    let width = stroke(edge.rate, busiest);
    let opacity = if edge.rate > 0.0 { 0.22 + 0.4 * (width - 1.0) / 5.0 } else { 0.3 };
    let class = match (edge.health, edge.rate > 0.0) {
        (Health::Bad, _) => "edge bad",
        (_, false) => "edge quiet",
        _ => "edge",
    };
    html! {
        g class=(class) data-from={ (edge.from.0) ":" (edge.from.1) } data-to={ (edge.to.0) ":" (edge.to.1) } {
            path d=(edge.path) stroke-width=(format!("{width:.2}")) stroke-opacity=(format!("{opacity:.2}")) {}
            @if edge.rate > 0.0 && !is_still {
                path class={ "flow flow-" (speed(edge.rate)) } d=(edge.path) {}
            }
        }
    }
}

/// How fast dots run along a curve, in four steps by the decade of its rate.
fn speed(rate: f64) -> u32 {
    match rate {
        _ if rate < 1.0 => 0,
        _ if rate < 10.0 => 1,
        _ if rate < 100.0 => 2,
        _ => 3,
    }
}

fn listener_card(listener: &Listener) -> Markup {
    let quiet = if listener.connections > 0.0 || listener.accepted_rate > 0.0 { "" } else { " quiet" };
    html! {
        article class={ "node listener" (quiet) } data-node={ "listener:" (listener.name) } data-find=(listener.name) {
            header { h4 { (listener.name) } }
            p class="line" title=(listener.urls.join(", ")) { (listener.urls.join(", ")) }
            p class="vitals" {
                span { b { (number(listener.connections)) } " open" }
                span { b { (rate(listener.accepted_rate)) } " new" }
            }
        }
    }
}

fn route_card(route: &Route) -> Markup {
    let health = Health::of_figures(&route.figures);
    let at = route.at.join(", ");
    html! {
        article class=(node_class("route", health, &route.figures)) data-node={ "route:" (route.name) }
            data-find={ (route.name) " " (at) } {
            header {
                (mark(health))
                h4 { a href={ "/routes/" (segment(&route.name)) } { (route.name) } }
                span class="rate" { (rate(route.figures.rate)) }
            }
            div class="line" {
                span title=(at) { (at) @if let Some(action) = &route.action { " · " (action) } }
                (sparkline(&route.figures))
            }
            (vitals(&route.figures))
        }
    }
}

fn service_row<'a>(service: &'a Service, is_inner: bool, geometry: Geometry) -> Markup {
    let height = geometry.row(service);
    let (shown, hidden) = shown_instances(service, geometry);
    let lines = geometry.lines(service);
    let busiest = shown.iter().map(|instance| instance.figures.rate).fold(0.0, f64::max);
    let block = lines as f64 * (geometry.instance + INSTANCE_GAP) - INSTANCE_GAP;
    let middle = |line: usize| {
        (height - block) / 2.0 + line as f64 * (geometry.instance + INSTANCE_GAP) + geometry.instance / 2.0
    };
    let edge = |(line, instance): (usize, &&'a Instance)| Edge {
        from: ("service", service.name.as_str()),
        to: ("instance", instance.name.as_str()),
        path: curve(height / 2.0, middle(line)),
        rate: instance.figures.rate,
        health: instance_health(instance),
    };
    let edges: Vec<Edge<'_>> = shown.iter().enumerate().map(edge).collect();
    html! {
        (service_card(service, is_inner))
        (gutter(height, &edges, busiest))
        ul class="instances" aria-label={ "Instances of " (service.name) } {
            @for instance in &shown { li { (instance_card(service, instance)) } }
            @if hidden > 0 {
                li { a class="more" href={ "/services/" (segment(&service.name)) "#instances" } { (rest(service, &shown)) } }
            }
            @if shown.is_empty() { li { p class="more" { "no instance" } } }
        }
    }
}

/// Those of a service that are shown: all when they are few, otherwise those in trouble first.
fn shown_instances(service: &Service, geometry: Geometry) -> (Vec<&Instance>, usize) {
    let mut all: Vec<&Instance> = service.instances.iter().collect();
    if all.len() <= geometry.instances_max {
        return (all, 0);
    }
    all.sort_by_key(|instance| std::cmp::Reverse(instance_health(instance).max(Health::Ok)));
    let hidden = all.len() - geometry.instances_max;
    all.truncate(geometry.instances_max);
    (all, hidden)
}

fn rest(service: &Service, shown: &[&Instance]) -> String {
    let hidden = service
        .instances
        .iter()
        .filter(|instance| !shown.iter().any(|other| std::ptr::eq(*other, *instance)));
    let (mut count, mut well) = (0_u64, 0_u64);
    for instance in hidden {
        count += 1;
        well += u64::from(instance_health(instance) <= Health::Ok);
    }
    match well == count {
        true => format!("{count} more, all well"),
        false => format!("{count} more, {well} of them well"),
    }
}

/// How well a service is: its state, then whether its requests fail, and those of whoever asks for it.
pub(super) fn service_health(service: &Service) -> Health {
    service_stands(service).max(Health::of_figures(&service.figures)).max(Health::of_figures(&asked(service)))
}

/// How those fare who ask for a service, whether they got as far as an instance or not.
fn asked(service: &Service) -> Figures {
    Figures { rate: service.gate.asked_rate, errors: service.gate.asked_errors, ..Figures::default() }
}

/// How a service does: its instances, or where those who ask fare worse (its breaker is open, the line is full), those.
pub(super) fn told(service: &Service) -> Figures {
    let asked = asked(service);
    match service.gate.is_open || Health::of_figures(&asked) > Health::of_figures(&service.figures) {
        true => Figures { rate: asked.rate, errors: asked.errors, ..service.figures.clone() },
        false => service.figures.clone(),
    }
}

/// Whether a service runs, with as many instances as it shall have, and is let do so.
pub(super) fn service_stands(service: &Service) -> Health {
    let is_short = service.desired > 0 && service.ready < service.desired;
    let by_state = Health::of_state(&service.state).max(if is_short { Health::Warn } else { Health::Idle });
    if service.gate.is_open { Health::Bad } else { by_state }
}

/// How well an instance is: its state, whether it gets requests, and whether they fail.
pub(super) fn instance_health(instance: &Instance) -> Health {
    stands(instance).max(Health::of_figures(&instance.figures))
}

/// Whether an instance is there and gets requests.
pub(super) fn stands(instance: &Instance) -> Health {
    let by_state = Health::of_state(&instance.state);
    match () {
        () if instance.is_drained => by_state.max(Health::Warn),
        () if instance.ejected_for_seconds.is_some() => Health::Bad,
        () => by_state,
    }
}

/// What an instance's state is called, with what an operator or its failures made of it. Of one that is drained nobody finds out
/// whether it is well again.
pub(super) fn instance_state(instance: &Instance) -> String {
    match instance.ejected_for_seconds {
        _ if instance.is_drained => format!("{}, drained", instance.state),
        Some(left) if left > 0.0 => format!("ejected for {}", seconds(left.ceil())),
        Some(_) => "ejected, on trial".to_owned(),
        None => instance.state.clone(),
    }
}

/// A service's breaker, state and instances in words.
pub(super) fn service_state(service: &Service) -> String {
    let breaker = if service.gate.is_open { "breaker open, " } else { "" };
    match service.desired {
        0 => {
            format!("{breaker}{} of {} in use", service.ready, plural(service.instances.len() as u64, "host"))
        }
        desired if service.state == "running" => format!("{breaker}{} of {desired} ready", service.ready),
        desired => format!("{breaker}{}, {} of {desired} ready", service.state, service.ready),
    }
}

fn service_card(service: &Service, is_inner: bool) -> Markup {
    let (health, told) = (service_health(service), told(service));
    html! {
        article class=(node_class("service", health, &service.figures)) data-node={ "service:" (service.name) }
            data-find=(service.name) {
            header {
                (mark(health))
                h4 { a href={ "/services/" (segment(&service.name)) } { (service.name) } }
                span class="rate" { (rate(told.rate)) }
            }
            div class="line" {
                span title=[service.reason.as_deref()] {
                    (service_state(service))
                    @if is_inner { ", asked by other services" }
                    @if let Some(reason) = &service.reason { ": " (reason) }
                }
                (sparkline(&service.figures))
            }
            (vitals(&told))
        }
    }
}

fn instance_card(service: &Service, instance: &Instance) -> Markup {
    let health = instance_health(instance);
    let link = format!("/services/{}/instances/{}", segment(&service.name), segment(&instance.name));
    html! {
        article class=(node_class("instance", health, &instance.figures)) data-node={ "instance:" (instance.name) }
            data-find={ (instance.name) " " (service.name) } {
            header {
                (mark(health))
                h4 { a href=(link) { (instance.name) } }
                @if stands(instance) > Health::Ok { span class="state" { (instance_state(instance)) } }
                @else { span class="visually-hidden" { (instance.state) } }
                (sparkline(&instance.figures))
                span class="rate" { (rate(instance.figures.rate)) }
            }
            p class="vitals" {
                (errors(&instance.figures))
                @if let Some(cpu) = instance.cpu { span { b { (number(cpu)) } " CPU" } }
                @if let Some(memory) = instance.memory_bytes { span { b { (bytes(memory)) } } }
                span { b { (number(instance.figures.in_flight)) } " in flight" }
            }
        }
    }
}

fn node_class(kind: &str, health: Health, figures: &Figures) -> String {
    let quiet = if figures.rate > 0.0 || health > Health::Ok { "" } else { " quiet" };
    format!("node {kind} {}{quiet}", health.class())
}

fn sparkline(figures: &Figures) -> Markup {
    let points: Vec<f64> = figures.spark.iter().map(|point| f64::from(*point)).collect();
    spark(&points)
}

fn vitals(figures: &Figures) -> Markup {
    let time = |value: Option<f64>| value.map_or_else(|| UNKNOWN.to_owned(), seconds);
    html! {
        p class="vitals" {
            (errors(figures))
            span { "p99 " b { (time(figures.p99)) } }
            span { "p50 " b { (time(figures.p50)) } }
            span { b { (number(figures.in_flight)) } " in flight" }
        }
    }
}

fn errors(figures: &Figures) -> Markup {
    let class = match Health::of_figures(figures) {
        Health::Bad => "failing bad",
        Health::Warn => "failing warn",
        _ => "",
    };
    html! {
        @match figures.errors {
            Some(errors) => span class=(class) { b { (share(errors)) } " errors" },
            None => span { "no requests" },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{hostile_map, shop_map};
    use super::*;
    use crate::map::Gate;

    #[test]
    fn every_card_has_its_middle_within_the_map() {
        for map in [shop_map(), hostile_map(), Map::default()] {
            let layout = Layout::of(&Columns::of(&map), Geometry::of(&map));
            for middles in [&layout.listeners, &layout.routes, &layout.services] {
                assert!(middles.is_sorted());
                assert!(middles.iter().all(|middle| (0.0..=layout.height).contains(middle)));
            }
            assert_eq!(layout.services.len(), map.services.len());
        }
    }

    #[test]
    fn slots_are_spread_evenly_over_the_tallest_column() {
        assert_eq!(spread(2, 100.0), [25.0, 75.0]);
        let (routes, services) = (vec![Route::default(); 4], vec![Service::default()]);
        let map = Map { routes, services, ..Map::default() };
        let layout = Layout::of(&Columns::of(&map), Geometry::of(&map));
        assert_eq!(layout.height, 4.0 * 88.0);
        assert_eq!(layout.services, [2.0 * 88.0]);
    }

    #[test]
    fn columns_are_ordered_so_that_curves_do_not_cross() {
        let map = shop_map();
        let columns = Columns::of(&map);
        let services: Vec<&str> = columns.services.iter().map(|service| service.name.as_str()).collect();
        // Nothing outside leads to the payments.
        assert_eq!(services, ["auth", "orders", "catalog", "web", "payments"]);
        let routes: Vec<&str> = columns.routes.iter().map(|route| route.name.as_str()).collect();
        assert_eq!(routes, ["api-auth", "keys", "api-orders", "api-catalog", "pictures", "pages"]);
    }

    #[test]
    fn a_big_service_shows_those_in_trouble_and_counts_the_rest() {
        let well = Instance { state: "ready".to_owned(), ..Instance::default() };
        let mut instances = vec![well; 100];
        instances[63].state = "crash-loop".to_owned();
        instances[63].name = "orders-64".to_owned();
        let service = Service { instances, state: "running".to_owned(), ..Service::default() };
        let geometry = Geometry::of(&Map::default());
        let (shown, hidden) = shown_instances(&service, geometry);
        assert_eq!((shown.len(), hidden, shown[0].name.as_str()), (5, 95, "orders-64"));
        assert_eq!(rest(&service, &shown), "95 more, all well");
    }

    #[test]
    fn a_weighted_route_splits_its_width() {
        let mut map = shop_map();
        map.routes[0].to = vec![("web".to_owned(), 90), ("orders".to_owned(), 10), ("gone".to_owned(), 1)];
        map.routes[0].figures.rate = 101.0;
        let columns = Columns::of(&map);
        let edges = service_edges(&columns, &Layout::of(&columns, Geometry::of(&map)));
        let of_route = edges.iter().filter(|edge| edge.from.1 == "api-auth");
        let rates: Vec<f64> = of_route.map(|edge| edge.rate.round()).collect();
        assert_eq!(rates, [90.0, 10.0]);
    }

    #[test]
    fn a_hundred_instances_and_fifty_routes_stay_a_page() {
        let page = living_map(&hostile_map()).into_string();
        assert!(page.len() < 600_000, "{} bytes", page.len());
        assert!(!page.contains("<script>"), "names are escaped");
    }

    #[test]
    fn a_service_that_nobody_is_let_through_to_is_in_trouble_although_its_instances_are_asked_nothing() {
        let mut service = Service { state: "running".to_owned(), desired: 1, ready: 1, ..Service::default() };
        assert_eq!(service_health(&service), Health::Ok);
        service.gate = Gate { is_open: true, asked_rate: 12.0, asked_errors: Some(1.0), ..Gate::default() };
        assert_eq!(service_health(&service), Health::Bad);
        let card = service_card(&service, true).into_string().replace('\u{202f}', " ");
        assert!(card.contains("breaker open, 1 of 1 ready, asked by other services"), "{card}");
        assert!(card.contains("failing bad") && card.contains("100 %") && card.contains("12/s"), "{card}");
        service.gate.is_open = false;
        service.gate.asked_errors = Some(0.02);
        assert_eq!(service_health(&service), Health::Bad, "a line that is full is trouble too");
    }

    #[test]
    fn an_instance_that_is_ejected_or_drained_says_so() {
        let mut instance = Instance { state: "ready".to_owned(), ..Instance::default() };
        assert_eq!(instance_health(&instance), Health::Ok);
        instance.is_drained = true;
        assert_eq!(
            (instance_health(&instance), instance_state(&instance).as_str()),
            (Health::Warn, "ready, drained")
        );
        instance.ejected_for_seconds = Some(11.2);
        assert_eq!(instance_state(&instance), "ready, drained", "it is not tried while it is drained");
        instance.is_drained = false;
        assert_eq!(instance_health(&instance), Health::Bad);
        assert!(instance_state(&instance).starts_with("ejected for 12"));
        instance.ejected_for_seconds = Some(0.0);
        assert_eq!(instance_state(&instance), "ejected, on trial");
    }
}
