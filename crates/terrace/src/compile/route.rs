//! `[route.*]` for the edge: which requests, what stands before them, and which service they go to; and the way of a
//! service's neighbours, which has no pattern.

use bytes::Bytes;
use terrace_edge as edge;
use terrace_policy::{Backoff, BudgetLaw, Conditions, RetryPolicy, Share, Timeouts};
use terrace_route::{Choice, ChoiceRule, Split};

use super::{guards, resilience};
use crate::file::{
    Action, Choice as Chosen, Mirror, PathChange, Policies, Retry, RetryOn, Route, Service, Stick, StickKey,
    Target,
};

/// The services that requests can be sent to, in the order in which the edge has them.
pub(super) struct Places<'a>(pub(super) Vec<&'a Service>);

impl Places<'_> {
    /// The place of a service.
    pub(super) fn of(&self, name: &str) -> usize {
        self.0
            .iter()
            .position(|service| service.name == name)
            .expect("invariant: the file's check knows every service that is named")
    }
}

/// A route.
pub(super) fn route(route: &Route, places: &Places<'_>) -> edge::Route {
    edge::Route {
        name: route.name.clone(),
        at: route.at.clone(),
        conditions: route.conditions.clone(),
        listeners: route.listeners.clone(),
        guards: guards::guards(&route.guards),
        action: action(&route.action, places),
    }
}

/// The way of a service's neighbours.
pub(super) fn internal(service: &Service, name: String, places: &Places<'_>) -> edge::Route {
    let target =
        edge::Target { service: places.of(&service.name), policy: policy(&service.policies, places) };
    edge::Route {
        name,
        at: Vec::new(),
        conditions: terrace_route::Conditions::default(),
        listeners: Vec::new(),
        guards: guards::guards(&service.guards),
        action: edge::Action::Forward {
            split: Split::new(vec![(0, 1)]).expect("invariant: one target with a weight is a split"),
            targets: vec![target],
            choosing: None,
            mirror: None,
            strip: None,
            rewrite: None,
        },
    }
}

fn action(action: &Action, places: &Places<'_>) -> edge::Action {
    match action {
        Action::Forward { to, choose, stick, mirror, path } => {
            let sides = Sides::of(to, choose);
            let (strip, rewrite) = match path {
                PathChange::Keep => (None, None),
                PathChange::Strip(strip) => (Some(strip.clone()), None),
                PathChange::Rewrite(rewrite) => (None, Some(rewrite.clone())),
            };
            edge::Action::Forward {
                split: sides.split(),
                targets: sides.targets(places),
                choosing: sides.choosing(choose, stick.as_ref()).map(Box::new),
                mirror: mirror.as_ref().map(|found| copies(found, places)),
                strip,
                rewrite,
            }
        }
        Action::Redirect { to, status } => edge::Action::Redirect { to: to.clone(), status: *status },
        Action::Respond { status, body, media_type } => edge::Action::Respond {
            status: *status,
            body: Bytes::copy_from_slice(body.as_bytes()),
            content_type: media_type.clone(),
        },
    }
}

/// The services that a route may lead to: those with weights, then those that only `choose` leads to.
struct Sides<'a>(Vec<(&'a str, u32, &'a Policies)>);

impl<'a> Sides<'a> {
    fn of(to: &'a [Target], choose: &'a [Chosen]) -> Self {
        let weighted = to.iter().map(|target| (target.service.as_str(), target.weight, &target.policies));
        let mut sides = Self(weighted.collect());
        for chosen in choose {
            if sides.place(&chosen.service).is_none() {
                sides.0.push((&chosen.service, 0, &chosen.policies));
            }
        }
        sides
    }

    fn place(&self, service: &str) -> Option<usize> {
        self.0.iter().position(|(name, _, _)| *name == service)
    }

    fn split(&self) -> Split<usize> {
        let weights = self.0.iter().enumerate().map(|(place, (_, weight, _))| (place, *weight)).collect();
        Split::new(weights).expect("invariant: the file's check leaves a target with a weight")
    }

    fn targets(&self, places: &Places<'_>) -> Vec<edge::Target> {
        let target = |(service, _, policies): &(&str, u32, &Policies)| edge::Target {
            service: places.of(service),
            policy: policy(policies, places),
        };
        self.0.iter().map(target).collect()
    }

    /// How one of them is chosen, where that is more than a share of chance.
    fn choosing(&self, choose: &[Chosen], stick: Option<&Stick>) -> Option<edge::Choosing> {
        if choose.is_empty() && stick.is_none() {
            return None;
        }
        let weights: Vec<(&str, u32)> = self.0.iter().map(|(name, weight, _)| (*name, *weight)).collect();
        let rules = choose.iter().map(|chosen| self.rule(chosen)).collect();
        let choice =
            Choice::new(&weights, rules).expect("invariant: the file's check leaves rules that choose");
        Some(edge::Choosing { choice, stick: stick.map(side_keeper) })
    }

    fn rule(&self, chosen: &Chosen) -> ChoiceRule {
        let condition = &chosen.condition;
        ChoiceRule {
            to: self.place(&chosen.service).expect("invariant: every chosen service is a side"),
            headers: condition.headers.clone(),
            cookies: condition.cookies.clone(),
            claims: condition.claims.clone(),
            share: condition.share,
        }
    }
}

fn side_keeper(stick: &Stick) -> edge::Stick {
    match stick {
        Stick::Key(StickKey::ClientAddress) => edge::Stick::Key(edge::StickKey::Client),
        Stick::Key(StickKey::Header(name)) => {
            edge::Stick::Key(edge::StickKey::Field(name.to_ascii_lowercase()))
        }
        Stick::Key(StickKey::Cookie(name)) => edge::Stick::Key(edge::StickKey::Cookie(name.clone())),
        Stick::Key(StickKey::Claim(path)) => edge::Stick::Key(edge::StickKey::Claim(path.clone())),
        Stick::Cookie { name, lasts } => {
            edge::Stick::Cookie(edge::Sticky { cookie: name.clone(), ttl: *lasts })
        }
    }
}

fn copies(mirror: &Mirror, places: &Places<'_>) -> edge::Mirror {
    edge::Mirror {
        to: places.of(&mirror.service),
        share: Share::from_ratio(mirror.share),
        compare: mirror.compare,
        body_bytes_max: edge::Mirror::BODY_BYTES_MAX,
    }
}

/// The policies of the way to a service.
pub(super) fn policy(policies: &Policies, places: &Places<'_>) -> edge::Policy {
    edge::Policy {
        timeouts: Timeouts {
            connect: policies.timeout.connect,
            first_byte: policies.timeout.first_byte,
            idle: policies.timeout.idle,
            attempt: policies.timeout.attempt,
            total: policies.timeout.total,
        },
        retry: policies.retry.as_ref().map_or_else(RetryPolicy::off, retry),
        hedge: policies.hedge.map(resilience::hedge),
        deadline: policies.timeout.deadline,
        fallback: policies.fallback.as_ref().map(|found| Box::new(resilience::fallback(found, places))),
        body_bytes_max: policies.body_bytes_max,
        request_id: policies.request_id,
    }
}

fn retry(retry: &Retry) -> RetryPolicy {
    let budget = BudgetLaw {
        share: Share::from_ratio(retry.budget_share),
        per_client: retry.client_share.map_or(Share::ALL, Share::from_ratio),
        ..BudgetLaw::default()
    };
    RetryPolicy {
        attempts_max: retry.attempts_max,
        on: conditions(&retry.on),
        methods: retry.methods.clone(),
        backoff: Backoff { from: retry.backoff_from, to: retry.backoff_to },
        budget,
    }
}

fn conditions(on: &RetryOn) -> Conditions {
    Conditions {
        connect: on.connect,
        reset: on.reset,
        timeout: on.timeout,
        statuses: resilience::statuses(&on.statuses),
    }
}
