//! The map as lines of a tree: listeners with the routes that are reached through them, services with their instances. Pure:
//! the same map and the same wishes give the same lines.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use terrace_admin::map::{Figures, Instance, Listener, Map, Route, Service};

use super::state::{Sort, State};
use crate::figures;

/// What a line is about. It stays the same while figures come and go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Listener(String),
    Route(String),
    Service(String),
    Instance { service: String, name: String },
}

impl Key {
    /// Its name in the file, or the instance's.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Listener(name) | Self::Route(name) | Self::Service(name) | Self::Instance { name, .. } => {
                name
            }
        }
    }

    /// The service that it belongs to, if any.
    pub(super) fn service(&self) -> Option<&str> {
        match self {
            Self::Service(name) | Self::Instance { service: name, .. } => Some(name),
            Self::Listener(_) | Self::Route(_) => None,
        }
    }
}

/// How a line's state is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Plain,
    Good,
    Unsettled,
    Bad,
}

/// A line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) key: Key,
    /// 0 or 1.
    pub(super) depth: u16,
    /// Whether it has lines below it, and whether they are shown.
    pub(super) is_open: Option<bool>,
    /// Beside the name: an address, a pattern, where it leads.
    pub(super) detail: String,
    pub(super) state: (String, Mood),
    pub(super) rate: String,
    pub(super) errors: (String, Mood),
    pub(super) p50: String,
    pub(super) p99: String,
    pub(super) in_flight: String,
    pub(super) cpu: String,
    pub(super) memory: String,
    pub(super) spark: Vec<f32>,
}

/// A heading, or a line.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Line {
    Heading(&'static str),
    Row(Box<Row>),
}

/// All lines, from top to bottom.
pub(super) fn lines(map: &Map, state: &State) -> Vec<Line> {
    let entrances = entrances(map, state);
    let services = services(map, state);
    let mut lines = Vec::new();
    for (heading, rows) in [("LISTENERS AND ROUTES", entrances), ("SERVICES AND INSTANCES", services)] {
        if !rows.is_empty() {
            lines.push(Line::Heading(heading));
            lines.extend(rows.into_iter().map(|row| Line::Row(Box::new(row))));
        }
    }
    lines
}

/// The lines that can be chosen.
pub(super) fn keys(map: &Map, state: &State) -> Vec<Key> {
    let key = |line: Line| match line {
        Line::Row(row) => Some(row.key),
        Line::Heading(_) => None,
    };
    lines(map, state).into_iter().filter_map(key).collect()
}

fn entrances(map: &Map, state: &State) -> Vec<Row> {
    let mut shown: BTreeSet<&str> = BTreeSet::new();
    let mut rows = Vec::new();
    for listener in &map.listeners {
        let reached: Vec<&Route> = map
            .routes
            .iter()
            .filter(|route| listener.routes.contains(&route.name) && !shown.contains(route.name.as_str()))
            .collect();
        let elsewhere = listener.routes.len().saturating_sub(reached.len());
        shown.extend(reached.iter().map(|route| route.name.as_str()));
        let key = Key::Listener(listener.name.clone());
        push_group(state, listener_row(listener, elsewhere, key), sorted(&reached, state), &mut rows);
    }
    let lost: Vec<&Route> = map.routes.iter().filter(|route| !shown.contains(route.name.as_str())).collect();
    rows.extend(sorted(&lost, state).into_iter().filter(|row| state.wants(row)));
    rows
}

fn sorted(routes: &[&Route], state: &State) -> Vec<Row> {
    let mut routes = routes.to_vec();
    routes.sort_by(|one, other| order(state.sort, (&one.name, &one.figures), (&other.name, &other.figures)));
    routes.into_iter().map(route_row).collect()
}

fn services(map: &Map, state: &State) -> Vec<Row> {
    let mut services: Vec<&Service> = map.services.iter().collect();
    services
        .sort_by(|one, other| order(state.sort, (&one.name, &one.figures), (&other.name, &other.figures)));
    let mut rows = Vec::new();
    for service in services {
        let instances = service.instances.iter().map(|instance| instance_row(&service.name, instance));
        push_group(state, service_row(service), instances.collect(), &mut rows);
    }
    rows
}

/// By name, else the most first; what is not known comes last.
fn order(sort: Sort, one: (&str, &Figures), other: (&str, &Figures)) -> Ordering {
    let figure = |figures: &Figures| match sort {
        Sort::Name => None,
        Sort::Rate => Some(figures.rate),
        Sort::Errors => figures.errors,
        Sort::P99 => figures.p99,
    };
    let figure = |figures| figure(figures).unwrap_or(f64::NEG_INFINITY);
    figure(other.1).total_cmp(&figure(one.1)).then_with(|| one.0.cmp(other.0))
}

/// A line with those below it, as far as they are open and wanted. A line that is not wanted itself stays above those
/// that are, so that it can be seen where they belong.
fn push_group(state: &State, mut parent: Row, children: Vec<Row>, rows: &mut Vec<Row>) {
    let is_wanted = state.wants(&parent);
    let wanted: Vec<Row> = children.into_iter().filter(|row| is_wanted || state.wants(row)).collect();
    if !is_wanted && wanted.is_empty() {
        return;
    }
    let is_open = state.is_open(&parent.key) || !state.filter.is_empty();
    parent.is_open = (!wanted.is_empty()).then_some(is_open);
    rows.push(parent);
    if is_open {
        rows.extend(wanted.into_iter().map(|row| Row { depth: 1, ..row }));
    }
}

fn row(key: Key, detail: String, state: (String, Mood), figures: &Figures) -> Row {
    let errors = match figures.errors {
        Some(share) if share >= 0.01 => Mood::Bad,
        Some(share) if share > 0.0 => Mood::Unsettled,
        _ => Mood::Plain,
    };
    Row {
        key,
        depth: 0,
        is_open: None,
        detail,
        state,
        rate: figures::rate(figures.rate),
        errors: (figures::percent(figures.errors), errors),
        p50: figures::seconds(figures.p50),
        p99: figures::seconds(figures.p99),
        in_flight: figures::count(figures.in_flight),
        cpu: String::new(),
        memory: String::new(),
        spark: figures.spark.clone(),
    }
}

fn listener_row(listener: &Listener, elsewhere: usize, key: Key) -> Row {
    let mut detail = listener.urls.join(" ");
    if elsewhere > 0 {
        let routes = if elsewhere == 1 { "route" } else { "routes" };
        detail.push_str(&format!(" (and {elsewhere} {routes} of another)"));
    }
    let connections = format!("{} conn", figures::count(listener.connections));
    let none = String::new;
    Row {
        rate: format!("+{}", figures::rate(listener.accepted_rate)),
        errors: (none(), Mood::Plain),
        p50: none(),
        p99: none(),
        in_flight: none(),
        ..row(key, detail, (connections, Mood::Plain), &Figures::default())
    }
}

fn route_row(route: &Route) -> Row {
    let to = match (&route.action, route.to.as_slice()) {
        (Some(action), _) => action.clone(),
        (None, [(service, _)]) => service.clone(),
        (None, many) => {
            let shares: Vec<String> =
                many.iter().map(|(service, weight)| format!("{service} {weight}")).collect();
            shares.join(", ")
        }
    };
    let detail = format!("{} → {to}", route.at.join(" "));
    row(Key::Route(route.name.clone()), detail, (String::new(), Mood::Plain), &route.figures)
}

fn service_row(service: &Service) -> Row {
    let ready = match service.desired {
        0 => service.state.clone(),
        desired => format!("{}/{desired} {}", service.ready, service.state),
    };
    let detail = service.reason.clone().unwrap_or_else(|| service.kind.clone());
    let state = match service.gate.is_open {
        true => ("breaker open".to_owned(), Mood::Bad),
        false => (ready, mood(&service.state)),
    };
    row(Key::Service(service.name.clone()), detail, state, &service.figures)
}

fn instance_row(service: &str, instance: &Instance) -> Row {
    let key = Key::Instance { service: service.to_owned(), name: instance.name.clone() };
    let state = match (instance.is_drained, instance.ejected_for_seconds) {
        (true, _) => ("drained".to_owned(), Mood::Unsettled),
        (false, Some(seconds)) => (format!("ejected {seconds:.0} s"), Mood::Bad),
        (false, None) => (instance.state.clone(), mood(&instance.state)),
    };
    let mut detail: Vec<String> = instance.address.iter().cloned().collect();
    if instance.restarts > 0 {
        detail.push(format!("restarted {}×", instance.restarts));
    }
    detail.extend(instance.uptime_seconds.map(|seconds| format!("up {}", figures::age(seconds))));
    Row {
        // The quantiles are the service's; what the balancer expects counts failures as slow, and would mislead here.
        p50: String::new(),
        p99: String::new(),
        cpu: figures::percent(instance.cpu),
        memory: figures::bytes(instance.memory_bytes),
        ..row(key, detail.join(", "), state, &instance.figures)
    }
}

fn mood(state: &str) -> Mood {
    match state {
        "ready" | "running" | "healthy" => Mood::Good,
        "crash-loop" | "rollout-failed" | "unhealthy" | "unavailable" => Mood::Bad,
        "" => Mood::Plain,
        _ => Mood::Unsettled,
    }
}
