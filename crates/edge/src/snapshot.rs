//! The configuration made ready for requests: immutable, shared by all cores, replaced whole by a reload. What must
//! survive a reload does not live here, it is only pointed to: upstreams, retry budgets, counters.

use std::collections::HashMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use terrace_instruments::Meter;
use terrace_policy::RetryBudget;
use terrace_route::{Listener as RouteListener, Match, Problem, Rule, Table};

use crate::config::{Action, Config, Listener, Purpose, Service, Target};
use crate::metrics::{ListenerMetrics, RouteMetrics};

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
    pub(crate) listeners: FxHashMap<String, ListenerView>,
    pub(crate) no_route: RouteMetrics,
}

/// One route, ready.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) name: String,
    pub(crate) action: Action,
    pub(crate) metrics: RouteMetrics,
    /// One for each target of the action.
    pub(crate) budgets: Vec<Arc<RetryBudget>>,
}

/// One listener as a request on it sees it.
#[derive(Debug, Clone)]
pub(crate) struct ListenerView {
    pub(crate) config: Arc<Listener>,
    pub(crate) table: RouteListener,
    pub(crate) metrics: ListenerMetrics,
}

/// Retry budgets by route and service, which outlive snapshots.
pub(crate) type Budgets = HashMap<(String, String), Arc<RetryBudget>>;

impl Snapshot {
    /// Builds the table, resolves every name and every metric handle.
    pub(crate) fn build(config: Config, budgets: &mut Budgets, meter: &Meter) -> Result<Self, Vec<Problem>> {
        let in_table = |(_, route): &(usize, &crate::config::Route)| !route.at.is_empty();
        let (rules, found) =
            config.routes.iter().enumerate().filter(in_table).unzip::<_, _, Vec<_>, Vec<_>>();
        let table = Table::build(found.into_iter().map(rule).collect())?;
        let view = |listener: Listener| {
            let metrics = ListenerMetrics::new(meter, &listener.name);
            let table = table.listener(&listener.name);
            (listener.name.clone(), ListenerView { config: Arc::new(listener), table, metrics })
        };
        let listeners = config.listeners.into_iter().map(view).collect();
        let mut kept = Budgets::new();
        let services = config.services;
        let ready = |route: crate::config::Route| Route {
            metrics: RouteMetrics::new(meter, &route.name),
            budgets: route_budgets(&route, &services, budgets, &mut kept),
            name: route.name,
            action: route.action,
        };
        let routes = config.routes.into_iter().map(ready).collect();
        *budgets = kept;
        Ok(Self { routes, services, listeners, no_route: RouteMetrics::new(meter, NO_ROUTE), table, rules })
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
