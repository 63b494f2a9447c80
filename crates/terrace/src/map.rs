//! The way of requests as it is now, put together from the file in force, the fleet, the endpoints and the numbers of
//! the last seconds. Made at most once a second however many look, since it asks each of those.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use terrace_admin::map::{Figures, Gate, Instance, Listener, Map, Route, Service};
use terrace_fleet::{FleetStatus, InstanceStatus, ServiceStatus};
use terrace_runtime::clock;
use terrace_signals::alerts::{AlertState, Severity};
use terrace_signals::series::{Measure, Quantile, Query, Selector};
use terrace_telemetry::Handle as Telemetry;
use terrace_upstream::{EndpointReport, Health};

use crate::compile;
use crate::control::kind;
use crate::file::{self, Action, Resolved, Source};
use crate::running::{InForce, Running};

/// A map younger than this is shown again.
const FRESH: Duration = Duration::from_millis(900);
/// Figures are of so long.
const RECENT: Duration = Duration::from_secs(10);
/// A state is what it was for so long, for the rings have a point a second.
const NOW: Duration = Duration::from_secs(2);
/// The mean of a breaker's state from which on it counts as open: it was so at one of the two last looks.
const OPEN_FROM: f64 = 1.0;
/// Sparklines are of so long, a point each five seconds.
const SPARK: Duration = Duration::from_secs(300);
const SPARK_STEP_POINTS: usize = 5;

/// The map made last, and when.
pub(crate) type Last = std::sync::Mutex<Option<(Duration, Arc<Map>)>>;

impl Running {
    /// The map, at most a second old.
    pub(crate) async fn map(&self) -> Arc<Map> {
        let now = clock::now();
        if let Some(map) = self.fresh_map(now) {
            return map;
        }
        let fleet = self.fleet.status().await;
        let map = Arc::new(self.draw(now, &fleet));
        *self.last_map.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, Arc::clone(&map)));
        map
    }

    fn fresh_map(&self, now: Duration) -> Option<Arc<Map>> {
        let last = self.last_map.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, map) = last.as_ref()?;
        (now.saturating_sub(*at) < FRESH).then(|| Arc::clone(map))
    }

    fn draw(&self, now: Duration, fleet: &FleetStatus) -> Map {
        let in_force = self.in_force();
        let numbers = Numbers::read(&self.telemetry);
        let at = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        let routes: Vec<Route> =
            in_force.resolved.routes.values().map(|found| route(found, &numbers)).collect();
        Map {
            at: at.as_secs_f64(),
            uptime_seconds: now.saturating_sub(self.started_at).as_secs(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            total: total(&routes, &numbers),
            listeners: self.map_listeners(&in_force, &numbers),
            services: self.map_services(&in_force.resolved, fleet, &numbers, now),
            routes,
            faults: crate::faults::list(&self.edge.faults()),
            alerts_firing: self.firing(),
            not_ready: self.not_available(),
            host_cpu: numbers.host_cpu,
            host_memory: numbers.host_memory,
        }
    }

    fn firing(&self) -> [u32; 2] {
        let alerts = self.telemetry.alerts();
        let of = |severity| {
            let firing = alerts.iter().filter(|alert| alert.state == AlertState::Firing);
            firing.filter(|alert| alert.severity == severity).count() as u32
        };
        [of(Severity::Page), of(Severity::Ticket)]
    }

    fn map_listeners(&self, in_force: &InForce, numbers: &Numbers) -> Vec<Listener> {
        let listener = |found: &file::Listener| Listener {
            name: found.name.clone(),
            urls: self.urls(found),
            connections: numbers.connections.get(&found.name).copied().unwrap_or_default(),
            accepted_rate: numbers.accepted.get(&found.name).copied().unwrap_or_default(),
            routes: routes_of(&in_force.resolved, &found.name),
        };
        in_force.resolved.listeners.values().map(listener).collect()
    }

    fn map_services(
        &self,
        resolved: &Resolved,
        fleet: &FleetStatus,
        numbers: &Numbers,
        now: Duration,
    ) -> Vec<Service> {
        let service = |found: &file::Service| {
            let upstream = self.services.upstream(&found.name);
            let endpoints = upstream.map(|upstream| upstream.report(now)).unwrap_or_default();
            match fleet.service(&found.name) {
                Some(status) => managed(found, status, &endpoints, numbers),
                None => unmanaged(found, &endpoints, numbers),
            }
        };
        resolved.services.values().map(service).collect()
    }
}

/// Everything from outside: what routes of the file took.
fn total(routes: &[Route], numbers: &Numbers) -> Figures {
    let rate = routes.iter().map(|route| route.figures.rate).sum::<f64>() + numbers.rate("none");
    let failed: f64 =
        routes.iter().map(|route| route.figures.rate * route.figures.errors.unwrap_or_default()).sum();
    let sparks = routes.iter().map(|route| route.figures.spark.as_slice());
    Figures {
        rate,
        errors: (rate > 0.0).then(|| failed / rate),
        p50: numbers.outside_p50,
        p99: numbers.outside_p99,
        in_flight: routes.iter().map(|route| route.figures.in_flight).sum(),
        spark: add_up(sparks),
    }
}

fn add_up<'a>(sparks: impl Iterator<Item = &'a [f32]>) -> Vec<f32> {
    let mut sum: Vec<f32> = Vec::new();
    for spark in sparks {
        sum.resize(sum.len().max(spark.len()), 0.0);
        sum.iter_mut().zip(spark).for_each(|(sum, point)| *sum += point);
    }
    sum
}

fn route(found: &file::Route, numbers: &Numbers) -> Route {
    let (action, to) = match &found.action {
        Action::Forward { to, .. } => {
            (None, to.iter().map(|target| (target.service.clone(), target.weight)).collect())
        }
        Action::Redirect { .. } => (Some("redirect".to_owned()), Vec::new()),
        Action::Respond { .. } => (Some("respond".to_owned()), Vec::new()),
    };
    Route {
        name: found.name.clone(),
        at: found.at.iter().map(ToString::to_string).collect(),
        action,
        to,
        asks_who: found.guards.auth.is_some(),
        limits: compile::limit::names(&found.name, &found.guards),
        figures: numbers.of_route(&found.name),
    }
}

/// The routes that can be reached through a listener.
fn routes_of(resolved: &Resolved, listener: &str) -> Vec<String> {
    let is_reachable = |route: &&file::Route| {
        route.listeners.is_empty() || route.listeners.iter().any(|name| name == listener)
    };
    resolved.routes.values().filter(is_reachable).map(|route| route.name.clone()).collect()
}

fn managed(
    found: &file::Service,
    status: &ServiceStatus,
    endpoints: &[EndpointReport],
    numbers: &Numbers,
) -> Service {
    let instance = |instance: &InstanceStatus| {
        let endpoint = endpoints.iter().find(|endpoint| *endpoint.name == *instance.name);
        let seen = numbers.of_instance(&found.name, &instance.name, endpoint);
        Instance {
            name: instance.name.clone(),
            address: instance.port.map(|port| format!("127.0.0.1:{port}")),
            pid: instance.pid,
            state: instance.state.as_str().to_owned(),
            uptime_seconds: Some(instance.uptime_seconds),
            restarts: instance.restarts,
            ..seen
        }
    };
    Service {
        state: status.state.as_str().to_owned(),
        reason: status.reason.clone(),
        desired: status.desired,
        ready: status.ready,
        is_managed: true,
        instances: status.instances.iter().map(instance).collect(),
        ..service(found, numbers)
    }
}

fn unmanaged(found: &file::Service, endpoints: &[EndpointReport], numbers: &Numbers) -> Service {
    let in_use = endpoints.iter().filter(|endpoint| endpoint.is_candidate).count() as u32;
    let host = |endpoint: &EndpointReport| Instance {
        name: endpoint.name.to_string(),
        address: Some(endpoint.address.to_string()),
        state: health(endpoint.health).to_owned(),
        ..numbers.of_instance(&found.name, &endpoint.name, Some(endpoint))
    };
    Service {
        state: if in_use > 0 { "running" } else { "unavailable" }.to_owned(),
        ready: in_use,
        instances: endpoints.iter().map(host).collect(),
        ..service(found, numbers)
    }
}

/// What checks say of a host, in the words of a map.
fn health(of: Health) -> &'static str {
    match of {
        Health::Unknown => "unknown",
        Health::Up => "healthy",
        Health::Down => "unhealthy",
    }
}

fn service(found: &file::Service, numbers: &Numbers) -> Service {
    let is_managed = matches!(found.source, Source::Run(_));
    Service {
        name: found.name.clone(),
        kind: kind(&found.source).to_owned(),
        is_managed,
        figures: numbers.of_service(&found.name),
        gate: numbers.of_gate(&found.name),
        ..Service::default()
    }
}

/// The last seconds' numbers, read once for all that the map shows.
struct Numbers {
    routes: BTreeMap<String, Figures>,
    services: BTreeMap<String, Figures>,
    gates: BTreeMap<String, Gate>,
    endpoints: BTreeMap<(String, String), Figures>,
    cpu: BTreeMap<(String, String), f64>,
    memory: BTreeMap<(String, String), f64>,
    connections: BTreeMap<String, f64>,
    accepted: BTreeMap<String, f64>,
    outside_p50: Option<f64>,
    outside_p99: Option<f64>,
    host_cpu: Option<f64>,
    host_memory: Option<f64>,
}

impl Numbers {
    fn read(telemetry: &Telemetry) -> Self {
        let ask = Ask(telemetry);
        let of_instances = |name, measure| ask.by(name, measure, ["service", "instance"]);
        let available = ask.single("terrace_host_memory_available_bytes", Measure::Value);
        let memory = ask.single("terrace_host_memory_total_bytes", Measure::Value);
        let outside = |quantile| ask.single(OUTSIDE, Measure::Quantile(quantile));
        let endpoints = ask.endpoints();
        Self {
            routes: ask.routes(),
            services: with_sparks_of(&endpoints, ask.services()),
            gates: ask.gates(),
            endpoints,
            cpu: of_instances("terrace_instance_cpu_seconds_total", Measure::Rate),
            memory: of_instances("terrace_instance_memory_bytes", Measure::Value),
            connections: ask.by_one("terrace_connections", Measure::Value, "listener"),
            accepted: ask.by_one("terrace_connections_accepted_total", Measure::Rate, "listener"),
            outside_p50: outside(Quantile::P50),
            outside_p99: outside(Quantile::P99),
            host_cpu: ask.single("terrace_host_cpu_usage_ratio", Measure::Value),
            host_memory: available.zip(memory).map(|(available, total)| 1.0 - available / total),
        }
    }

    fn rate(&self, route: &str) -> f64 {
        self.routes.get(route).map_or(0.0, |figures| figures.rate)
    }

    fn of_route(&self, route: &str) -> Figures {
        self.routes.get(route).cloned().unwrap_or_default()
    }

    fn of_service(&self, service: &str) -> Figures {
        self.services.get(service).cloned().unwrap_or_default()
    }

    fn of_gate(&self, service: &str) -> Gate {
        self.gates.get(service).cloned().unwrap_or_default()
    }

    /// What the endpoint's report and the numbers say; the rest is the caller's.
    fn of_instance(&self, service: &str, instance: &str, endpoint: Option<&EndpointReport>) -> Instance {
        let key = (service.to_owned(), instance.to_owned());
        let figures = self.endpoints.get(&key).cloned().unwrap_or_default();
        let in_flight = endpoint.map_or(0, |endpoint| endpoint.in_flight);
        Instance {
            in_rotation: endpoint.is_some_and(|endpoint| endpoint.is_candidate),
            is_drained: endpoint.is_some_and(|endpoint| endpoint.is_drained),
            ejected_for_seconds: endpoint
                .and_then(|endpoint| endpoint.ejected_for)
                .map(|left| left.as_secs_f64()),
            latency: endpoint.and_then(|endpoint| endpoint.latency).map(|latency| latency.as_secs_f64()),
            cpu: self.cpu.get(&key).copied(),
            memory_bytes: self.memory.get(&key).copied(),
            figures: Figures { in_flight: f64::from(in_flight), ..figures },
            ..Instance::default()
        }
    }
}

/// A service's past is that of its endpoints together: asked for once, it serves both.
fn with_sparks_of(
    endpoints: &BTreeMap<(String, String), Figures>,
    mut services: BTreeMap<String, Figures>,
) -> BTreeMap<String, Figures> {
    for (name, figures) in &mut services {
        let own = endpoints.iter().filter(|((service, _), _)| service == name);
        figures.spark = add_up(own.map(|(_, figures)| figures.spark.as_slice()));
    }
    services
}

/// What may become of a request to a service without anybody having failed: classes of status, and clients that left.
const FINE: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "client_left"];
/// All requests from outside as one distribution.
const OUTSIDE: &str = "terrace_outside_request_duration_seconds";
/// Attempts by service, endpoint and outcome.
const UPSTREAM: &str = "terrace_upstream_requests_total";

/// Questions to telemetry about the last seconds.
struct Ask<'a>(&'a Telemetry);

impl Ask<'_> {
    fn recent(&self, name: &str, measure: Measure, by: &[&str]) -> Vec<(Vec<String>, f64)> {
        let means = self.0.latest(&question(name, measure, by, RECENT));
        means.into_iter().map(|(labels, mean)| (values(&labels, by), mean)).collect()
    }

    fn by(&self, name: &str, measure: Measure, by: [&str; 2]) -> BTreeMap<(String, String), f64> {
        let pair = |(labels, value): (Vec<String>, f64)| {
            let mut labels = labels.into_iter();
            ((labels.next().unwrap_or_default(), labels.next().unwrap_or_default()), value)
        };
        self.recent(name, measure, &by).into_iter().map(pair).collect()
    }

    fn by_one(&self, name: &str, measure: Measure, by: &str) -> BTreeMap<String, f64> {
        let one =
            |(labels, value): (Vec<String>, f64)| (labels.into_iter().next().unwrap_or_default(), value);
        self.recent(name, measure, &[by]).into_iter().map(one).collect()
    }

    fn single(&self, name: &str, measure: Measure) -> Option<f64> {
        self.recent(name, measure, &[]).into_iter().next().map(|(_, value)| value)
    }

    /// By the values of those labels.
    fn sparks(&self, name: &str, by: &[&str]) -> Vec<(Vec<String>, Vec<f32>)> {
        let chart = self.0.query(&question(name, Measure::Rate, by, SPARK));
        chart.lines.iter().map(|line| (values(&line.labels, by), spark(&line.points))).collect()
    }

    fn routes(&self) -> BTreeMap<String, Figures> {
        let classes = self.by("terrace_requests_total", Measure::Rate, ["route", "class"]);
        let is_failure = |class: &str| class == "5xx";
        let counted = self.counted(&classes, is_failure);
        let timed = self.timed(counted, "terrace_request_duration_seconds", "route");
        let mut figures = timed;
        for (route, in_flight) in self.by_one("terrace_requests_in_flight", Measure::Value, "route") {
            figures.entry(route).or_default().in_flight = in_flight;
        }
        for (route, spark) in self.sparks("terrace_requests_total", &["route"]) {
            figures.entry(route.concat()).or_default().spark = spark;
        }
        figures
    }

    fn services(&self) -> BTreeMap<String, Figures> {
        let outcomes = self.by(UPSTREAM, Measure::Rate, ["service", "outcome"]);
        let counted = self.counted(&outcomes, |outcome| outcome != "success");
        let mut figures = self.timed(counted, "terrace_service_request_duration_seconds", "service");
        for (service, in_flight) in self.by_one("terrace_upstream_in_flight", Measure::Value, "service") {
            figures.entry(service).or_default().in_flight = in_flight;
        }
        figures
    }

    fn gates(&self) -> BTreeMap<String, Gate> {
        let classes = self.by("terrace_service_requests_total", Measure::Rate, ["service", "class"]);
        let asked = self.counted(&classes, |class| !FINE.contains(&class));
        let gate = |(service, asked): (String, Figures)| {
            (service, Gate { asked_rate: asked.rate, asked_errors: asked.errors, ..Gate::default() })
        };
        let mut gates: BTreeMap<String, Gate> = asked.into_iter().map(gate).collect();
        for (service, state) in self.newest("terrace_breaker_state", "service") {
            gates.entry(service).or_default().is_open = state >= OPEN_FROM;
        }
        for (service, limit) in self.newest("terrace_concurrency_limit", "service") {
            gates.entry(service).or_default().limit = (limit > 0.0).then_some(limit);
        }
        for (service, waiting) in self.newest("terrace_queue_length", "service") {
            gates.entry(service).or_default().waiting = waiting;
        }
        gates
    }

    /// What is so now, and not on the average of the last seconds.
    fn newest(&self, name: &str, by: &str) -> Vec<(String, f64)> {
        let means = self.0.latest(&question(name, Measure::Value, &[by], NOW));
        means.into_iter().map(|(labels, value)| (values(&labels, &[by]).concat(), value)).collect()
    }

    fn endpoints(&self) -> BTreeMap<(String, String), Figures> {
        let mut figures: BTreeMap<(String, String), Figures> = BTreeMap::new();
        for (labels, rate) in self.recent(UPSTREAM, Measure::Rate, &["service", "endpoint", "outcome"]) {
            let [service, endpoint, outcome] = labels.as_slice() else { continue };
            let figures = figures.entry((service.clone(), endpoint.clone())).or_default();
            add(figures, rate, outcome != "success");
        }
        figures.values_mut().for_each(to_share);
        for (labels, spark) in self.sparks(UPSTREAM, &["service", "endpoint"]) {
            let [service, endpoint] = labels.as_slice() else { continue };
            figures.entry((service.clone(), endpoint.clone())).or_default().spark = spark;
        }
        figures
    }

    fn counted(
        &self,
        rates: &BTreeMap<(String, String), f64>,
        is_failure: impl Fn(&str) -> bool,
    ) -> BTreeMap<String, Figures> {
        let mut figures: BTreeMap<String, Figures> = BTreeMap::new();
        for ((name, class), rate) in rates {
            add(figures.entry(name.clone()).or_default(), *rate, is_failure(class));
        }
        figures.values_mut().for_each(to_share);
        figures
    }

    fn timed(
        &self,
        mut figures: BTreeMap<String, Figures>,
        histogram: &str,
        by: &str,
    ) -> BTreeMap<String, Figures> {
        for (name, p50) in self.by_one(histogram, Measure::Quantile(Quantile::P50), by) {
            figures.entry(name).or_default().p50 = Some(p50);
        }
        for (name, p99) in self.by_one(histogram, Measure::Quantile(Quantile::P99), by) {
            figures.entry(name).or_default().p99 = Some(p99);
        }
        figures
    }
}

fn question(name: &str, measure: Measure, by: &[&str], last: Duration) -> Query {
    Query {
        selector: Selector { name: name.to_owned(), labels: Vec::new() },
        measure,
        last,
        by: Some(by.iter().map(|label| (*label).to_owned()).collect()),
    }
}

/// The values of those labels, in their order.
fn values(labels: &[(String, String)], of: &[&str]) -> Vec<String> {
    let value = |of: &&str| labels.iter().find(|(name, _)| name == of).map(|(_, value)| value.clone());
    of.iter().map(|of| value(of).unwrap_or_default()).collect()
}

/// Adds to the rate, and to what failed; a share comes of it at the end.
fn add(figures: &mut Figures, rate: f64, failed: bool) {
    figures.rate += rate;
    *figures.errors.get_or_insert(0.0) += if failed { rate } else { 0.0 };
}

fn to_share(figures: &mut Figures) {
    figures.errors = figures.errors.filter(|_| figures.rate > 0.0).map(|failed| failed / figures.rate);
}

fn average(points: &[f64]) -> Option<f64> {
    let known = points.iter().filter(|point| !point.is_nan());
    let (sum, count) = known.fold((0.0, 0_u32), |(sum, count), point| (sum + point, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// A point each five seconds; what is not known reads as 0.
fn spark(points: &[f64]) -> Vec<f32> {
    let point = |points: &[f64]| average(points).unwrap_or_default() as f32;
    points.rchunks(SPARK_STEP_POINTS).rev().map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_left_out_of_an_average() {
        assert_eq!(average(&[f64::NAN, 1.0, 3.0]), Some(2.0));
        assert_eq!(average(&[f64::NAN]), None);
        assert_eq!(spark(&[9.0, 1.0, 1.0, 1.0, 1.0, 1.0, f64::NAN]), [5.0, 1.0]);
    }

    #[test]
    fn the_error_share_is_of_all_requests() {
        let mut figures = Figures::default();
        add(&mut figures, 9.0, false);
        add(&mut figures, 1.0, true);
        to_share(&mut figures);
        assert_eq!((figures.rate, figures.errors), (10.0, Some(0.1)));
        let mut idle = Figures::default();
        add(&mut idle, 0.0, false);
        to_share(&mut idle);
        assert_eq!(idle.errors, None, "of no requests there is no share");
    }
}
