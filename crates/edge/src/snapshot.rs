//! The configuration made ready for requests: immutable, shared by all cores, replaced whole by a reload. What must
//! survive a reload does not live here, it is only pointed to: upstreams, retry budgets, counters.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustc_hash::FxHashMap;
use terrace_auth::Reserved;
use terrace_instruments::{Log, Meter, Plate};
use terrace_policy::{BreakerState, RetryBudget};
use terrace_route::{Listener as RouteListener, Match, Problem, Rule, Table};

use crate::bulkhead::Gate;
use crate::challenge::Issuer;
use crate::choose::Sides;
use crate::config::{Action, Config, Listener, LoginPages, Purpose, Service, Target};
use crate::fallback::FallbackTo;
use crate::fault::{FaultBoard, Slot};
use crate::guards::{self, Guards};
use crate::identity;
use crate::metrics::{ListenerMetrics, MirrorMetrics, RouteMetrics, RuleMetrics, ServiceMetrics};
use crate::mirror::{self, Lane};

/// The label of requests that no route takes.
const NO_ROUTE: &str = "none";

/// The configuration, ready.
#[derive(Debug)]
pub(crate) struct Snapshot {
    table: Table,
    /// For each rule of the table its route.
    rules: Vec<usize>,
    pub(crate) routes: Vec<Route>,
    pub(crate) services: Vec<Service>,
    /// For each service its figures.
    pub(crate) service_metrics: Vec<ServiceMetrics>,
    /// For each service its gate.
    pub(crate) gates: Vec<Arc<Gate>>,
    pub(crate) listeners: FxHashMap<String, ListenerView>,
    pub(crate) no_route: NoRoute,
    pub(crate) names: Arc<Names>,
    pub(crate) issuer: Option<Arc<dyn Issuer>>,
    pub(crate) logins: Vec<LoginPages>,
    /// Fields that no client may set, where routes ask who somebody is.
    pub(crate) reserved: Option<Arc<Reserved>>,
    /// Whether any route refuses whom others let through.
    pub(crate) asks: bool,
}

/// What stands in the place of a route where none matched.
#[derive(Debug)]
pub(crate) struct NoRoute {
    pub(crate) metrics: RouteMetrics,
    pub(crate) plate: Plate,
}

/// What the parts of a snapshot are called; all that is left of it for hops that are looked at later.
#[derive(Debug)]
pub(crate) struct Names {
    /// No two snapshots of the process have the same.
    pub(crate) serial: u64,
    routes: Vec<Arc<RouteName>>,
    services: Vec<Arc<str>>,
    listeners: Vec<Arc<str>>,
    nobody: Arc<str>,
}

/// How a route is called in traces.
#[derive(Debug)]
pub(crate) struct RouteName {
    pub(crate) name: Arc<str>,
    /// The path that it is found at, such as `/orders/*`; its name where there are several.
    pub(crate) pattern: Box<str>,
}

impl Names {
    pub(crate) fn new(routes: Vec<RouteName>, services: Vec<Arc<str>>, listeners: Vec<Arc<str>>) -> Self {
        static SERIALS: AtomicU64 = AtomicU64::new(0);
        let serial = SERIALS.fetch_add(1, Ordering::Relaxed);
        let routes = routes.into_iter().map(Arc::new).collect();
        Self { serial, routes, services, listeners, nobody: Arc::from("") }
    }

    /// No route has a number beyond those there are: that one is for requests without.
    pub(crate) fn route(&self, number: u32) -> Option<&Arc<RouteName>> {
        self.routes.get(number as usize)
    }

    pub(crate) fn service(&self, number: u32) -> &Arc<str> {
        self.services.get(number as usize).unwrap_or(&self.nobody)
    }

    pub(crate) fn listener(&self, number: u32) -> &Arc<str> {
        self.listeners.get(number as usize).unwrap_or(&self.nobody)
    }
}

/// One route, ready.
#[derive(Debug)]
pub(crate) struct Route {
    /// Its place among the routes.
    pub(crate) number: u32,
    /// What an access line says of a request that no service answers.
    pub(crate) plate: Plate,
    pub(crate) guards: Option<Box<Guards>>,
    pub(crate) action: Action,
    /// What its targets are called in a client's cookie, where it chooses among them.
    pub(crate) sides: Sides,
    pub(crate) mirror: Option<mirror::Ready>,
    /// What operators broke on purpose.
    pub(crate) faults: Arc<Slot>,
    pub(crate) metrics: RouteMetrics,
    pub(crate) rules: Option<Box<RuleMetrics>>,
    /// One for each target of the action.
    pub(crate) budgets: Vec<Arc<RetryBudget>>,
    /// The same of one that goes to the target's service, one for each target.
    pub(crate) plates: Vec<Plate>,
    /// The same of one that another service answers in its place, where there is one.
    pub(crate) plates_instead: Vec<Option<Plate>>,
}

/// One listener as a request on it sees it.
#[derive(Debug, Clone)]
pub(crate) struct ListenerView {
    pub(crate) config: Arc<Listener>,
    pub(crate) table: RouteListener,
    pub(crate) metrics: ListenerMetrics,
    /// Its place among the listeners.
    pub(crate) number: u32,
    pub(crate) plate: Plate,
}

/// What outlives snapshots, by name.
#[derive(Debug)]
pub(crate) struct Registry {
    budgets: Budgets,
    /// The lanes of copies, by the service that gets them.
    lanes: HashMap<String, Arc<Lane>>,
    pub(crate) faults: FaultBoard,
    /// By service.
    gates: HashMap<String, Arc<Gate>>,
    log: Log,
}

impl Registry {
    pub(crate) fn new(meter: &Meter, log: &Log) -> Self {
        let faults = FaultBoard::new(log.clone(), meter.clone());
        let (lanes, gates) = (HashMap::new(), HashMap::new());
        Self { budgets: Budgets::new(), lanes, faults, gates, log: log.clone() }
    }

    /// The gates of these services, with all they know, under the settings that hold now; those of others are forgotten.
    fn gates(&mut self, services: &[Service], meter: &Meter) -> Vec<Arc<Gate>> {
        let mut before = std::mem::take(&mut self.gates);
        let gate = |service: &Service| match before.remove(&service.name) {
            Some(gate) => {
                gate.apply(service.resilience);
                gate
            }
            None => Gate::new(&service.name, service.resilience, meter, &self.log),
        };
        let gates: Vec<Arc<Gate>> = services.iter().map(gate).collect();
        let names = services.iter().map(|service| service.name.clone());
        self.gates = names.zip(gates.iter().map(Arc::clone)).collect();
        gates
    }

    /// What the breaker of a service is at; none of a service that is not known.
    pub(crate) fn breaker(&self, service: &str, now: Duration) -> Option<BreakerState> {
        Some(self.gates.get(service)?.breaker(now))
    }

    /// The lane of copies to that service.
    fn lane(&mut self, service: &str) -> Arc<Lane> {
        Arc::clone(self.lanes.entry(service.to_owned()).or_default())
    }
}

/// Retry budgets by route and service.
type Budgets = HashMap<(String, String), Arc<RetryBudget>>;

impl Snapshot {
    /// Builds the table, resolves every name and every metric handle.
    pub(crate) fn build(
        config: Config,
        registry: &mut Registry,
        meter: &Meter,
    ) -> Result<Self, Vec<Problem>> {
        let in_table = |(_, route): &(usize, &crate::config::Route)| !route.at.is_empty();
        let (rules, found) =
            config.routes.iter().enumerate().filter(in_table).unzip::<_, _, Vec<_>, Vec<_>>();
        let table = Table::build(found.into_iter().map(rule).collect())?;
        let names = Arc::new(names(&config));
        let view = |(number, listener): (u32, Listener)| {
            let metrics = ListenerMetrics::new(meter, &listener.name);
            let table = table.listener(&listener.name);
            let plate = Plate::new(&[("listener", &listener.name)]);
            (
                listener.name.clone(),
                ListenerView { config: Arc::new(listener), table, metrics, number, plate },
            )
        };
        let listeners = (0..).zip(config.listeners).map(view).collect();
        let issuer = config.issuer;
        let reserved = identity::reserved(&config.routes);
        let asks = config.routes.len() > 1
            && config.routes.iter().any(|route| guards::ask_more(None, route.guards.as_deref()));
        let mut kept = Budgets::new();
        let services = config.services;
        registry.lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        let slots = registry.faults.routes(config.routes.iter().map(|route| {
            let faults = route.guards.as_ref().and_then(|guards| guards.faults.as_deref());
            (route.name.as_str(), faults)
        }));
        let ready = |((number, route), faults): ((u32, crate::config::Route), Arc<Slot>)| Route {
            number,
            metrics: RouteMetrics::new(meter, &route.name),
            rules: route_rules(&route, &services, meter),
            budgets: route_budgets(&route, &services, &registry.budgets, &mut kept),
            plate: Plate::new(&[("route", &route.name)]),
            plates: route_plates(&route, &services),
            plates_instead: route_plates_instead(&route, &services),
            sides: route_sides(&route, &services),
            mirror: route_mirror(&route, &services, |service| registry.lane(service), meter),
            faults,
            guards: route.guards,
            action: route.action,
        };
        let routes = (0..).zip(config.routes).zip(slots).map(ready).collect();
        registry.budgets = kept;
        let service_metrics =
            services.iter().map(|service| ServiceMetrics::new(meter, &service.name)).collect();
        let gates = registry.gates(&services, meter);
        let no_route = NoRoute {
            metrics: RouteMetrics::new(meter, NO_ROUTE),
            plate: Plate::new(&[("route", NO_ROUTE)]),
        };
        Ok(Self {
            routes,
            services,
            service_metrics,
            gates,
            listeners,
            no_route,
            names,
            issuer,
            logins: config.logins,
            reserved,
            asks,
            table,
            rules,
        })
    }

    /// The most specific route that matches on that listener.
    pub(crate) fn find<R: terrace_route::Request>(
        &self,
        listener: RouteListener,
        request: &R,
    ) -> Option<(&Route, Match)> {
        let found = self.table.find(listener, request)?;
        Some((&self.routes[self.rules[found.rule]], found))
    }

    /// The methods that routes for the request's host and path take.
    pub(crate) fn allowed<R: terrace_route::Request>(
        &self,
        listener: RouteListener,
        request: &R,
    ) -> Vec<&str> {
        self.table.allowed(listener, request)
    }

    /// The route that an internal listener leads to, without looking at the table.
    pub(crate) fn fixed_route(&self, listener: &Listener) -> Option<usize> {
        match listener.purpose {
            Purpose::Internal { route } => Some(route),
            Purpose::Route | Purpose::RedirectToTls { .. } => None,
        }
    }
}

fn names(config: &Config) -> Names {
    let route = |route: &crate::config::Route| {
        let path =
            |at: &terrace_route::Pattern| at.as_str().find('/').map(|slash| at.as_str()[slash..].to_owned());
        let mut paths: Vec<String> = route.at.iter().filter_map(path).collect();
        paths.dedup();
        let pattern = if paths.len() == 1 { paths.remove(0) } else { route.name.clone() };
        RouteName { name: route.name.as_str().into(), pattern: pattern.into() }
    };
    Names::new(
        config.routes.iter().map(route).collect(),
        config.services.iter().map(|service| service.name.as_str().into()).collect(),
        config.listeners.iter().map(|listener| listener.name.as_str().into()).collect(),
    )
}

fn route_plates(route: &crate::config::Route, services: &[Service]) -> Vec<Plate> {
    let Action::Forward { targets, .. } = &route.action else { return Vec::new() };
    let plate =
        |target: &Target| Plate::new(&[("route", &route.name), ("service", &services[target.service].name)]);
    targets.iter().map(plate).collect()
}

fn route_plates_instead(route: &crate::config::Route, services: &[Service]) -> Vec<Option<Plate>> {
    let Action::Forward { targets, .. } = &route.action else { return Vec::new() };
    let plate = |target: &Target| match &target.policy.fallback.as_ref()?.to {
        FallbackTo::Service(instead) => {
            Some(Plate::new(&[("route", &route.name), ("service", &services[instead.service].name)]))
        }
        FallbackTo::Respond { .. } => None,
    };
    targets.iter().map(plate).collect()
}

/// The figures of what a route's rules do.
fn route_rules(
    route: &crate::config::Route,
    services: &[Service],
    meter: &Meter,
) -> Option<Box<RuleMetrics>> {
    let chosen: Vec<&str> = match &route.action {
        Action::Forward { targets, choosing: Some(_), .. } => {
            targets.iter().map(|target| services[target.service].name.as_str()).collect()
        }
        _ => Vec::new(),
    };
    RuleMetrics::new(meter, &route.name, route.guards.as_deref(), &chosen)
}

/// What a route's targets are called in a client's cookie, where it chooses among them.
fn route_sides(route: &crate::config::Route, services: &[Service]) -> Sides {
    match &route.action {
        Action::Forward { targets, choosing: Some(_), .. } => Sides::of(targets, services),
        _ => Sides::default(),
    }
}

fn route_mirror(
    route: &crate::config::Route,
    services: &[Service],
    mut lane: impl FnMut(&str) -> Arc<Lane>,
    meter: &Meter,
) -> Option<mirror::Ready> {
    let Action::Forward { mirror: Some(mirror), .. } = &route.action else { return None };
    let service = &services[mirror.to].name;
    Some(mirror::Ready { lane: lane(service), metrics: MirrorMetrics::new(meter, &route.name, service) })
}

/// The budgets of a route's targets, with all that they counted so far, under the laws that hold now.
fn route_budgets(
    route: &crate::config::Route,
    services: &[Service],
    before: &Budgets,
    kept: &mut Budgets,
) -> Vec<Arc<RetryBudget>> {
    let Action::Forward { targets, .. } = &route.action else { return Vec::new() };
    let budget = |target: &Target| {
        let law = target.policy.retry.budget;
        let key = (route.name.clone(), services[target.service].name.clone());
        let budget = before.get(&key).map_or_else(|| Arc::new(RetryBudget::new(law)), Arc::clone);
        budget.set_law(law);
        kept.insert(key, Arc::clone(&budget));
        budget
    };
    targets.iter().map(budget).collect()
}

fn rule(route: &crate::config::Route) -> Rule {
    Rule {
        name: route.name.clone(),
        at: route.at.clone(),
        conditions: route.conditions.clone(),
        listeners: route.listeners.clone(),
    }
}
