//! `[listen.*]` and `[route.*]` for the edge, and for each service the listener on loopback that its neighbours use.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use terrace_edge as edge;
use terrace_http::Bounds as HeadBounds;
use terrace_policy::{Backoff, BudgetLaw, Conditions, RetryPolicy, Share, Statuses, Timeouts};
use terrace_route::Split;
use terrace_upstream::Upstream;

use crate::file::{
    Action, Balance, Bounds, HashKey, Listener, PathChange, Policies, ProxyProtocolIn, Resolved, Retry,
    RetryOn, Route, Service, Target,
};

/// What the edge needs beside the file.
pub(crate) struct Parts<'a> {
    pub(crate) upstreams: &'a BTreeMap<String, Arc<Upstream>>,
    pub(crate) certificates: &'a BTreeMap<String, Arc<edge::Certificates>>,
    /// Who answers the questions of authorities, if any will ask.
    pub(crate) issuer: Option<&'a Arc<dyn edge::Issuer>>,
    /// Where each routed service's internal listener is.
    pub(crate) internal: &'a BTreeMap<String, SocketAddr>,
}

/// Everything that the edge serves.
pub(crate) fn config(resolved: &Resolved, parts: &Parts<'_>) -> edge::Config {
    let services: Vec<&Service> = resolved.services.values().filter(|service| service.is_routed()).collect();
    let index = |name: &str| services.iter().position(|service| service.name == name);
    let mut routes: Vec<edge::Route> = resolved.routes.values().map(|found| route(found, &index)).collect();
    let mut listeners: Vec<edge::Listener> =
        resolved.listeners.values().flat_map(|found| listeners_of(found, parts)).collect();
    for (place, service) in services.iter().enumerate() {
        let Some(address) = parts.internal.get(&service.name) else { continue };
        listeners.push(internal_listener(service, *address, routes.len()));
        routes.push(internal_route(service, place));
    }
    let services = services.iter().map(|found| edge_service(found, parts)).collect();
    edge::Config { listeners, services, routes, issuer: parts.issuer.map(Arc::clone), ..edge::Config::default() }
}

fn edge_service(service: &Service, parts: &Parts<'_>) -> edge::Service {
    edge::Service {
        name: service.name.clone(),
        upstream: Arc::clone(&parts.upstreams[&service.name]),
        hash: match &service.balance {
            Balance::IpHash | Balance::Hash(HashKey::Address) => edge::HashSource::Client,
            Balance::Hash(HashKey::Header(name)) => edge::HashSource::Field(name.to_ascii_lowercase()),
            Balance::Hash(HashKey::Cookie(name)) => edge::HashSource::Cookie(name.clone()),
            _ => edge::HashSource::None,
        },
        sticky: service
            .sticky
            .as_ref()
            .map(|sticky| edge::Sticky { cookie: sticky.cookie.clone(), ttl: sticky.ttl }),
        resilience: edge::Resilience::default(),
    }
}

fn listeners_of(listener: &Listener, parts: &Parts<'_>) -> Vec<edge::Listener> {
    let tls = parts.certificates.get(&listener.name).map(Arc::clone);
    let port = listener.addresses.first().map_or(443, SocketAddr::port);
    let main = edge::Listener {
        name: listener.name.clone(),
        purpose: edge::Purpose::Route,
        addresses: listener.addresses.clone(),
        tls,
        http2: listener.http2,
        proxy_protocol: match listener.proxy_protocol {
            ProxyProtocolIn::Off => edge::ProxyProtocol::Off,
            ProxyProtocolIn::V1 => edge::ProxyProtocol::V1,
            ProxyProtocolIn::V2 => edge::ProxyProtocol::V2,
            ProxyProtocolIn::Any => edge::ProxyProtocol::Any,
        },
        trusted_proxies: networks(listener),
        bounds: bounds(&listener.bounds),
    };
    if listener.redirect_from.is_empty() {
        return vec![main];
    }
    let redirect = edge::Listener {
        name: format!("{}-redirect", listener.name),
        purpose: edge::Purpose::RedirectToTls { port },
        addresses: listener.redirect_from.clone(),
        tls: None,
        ..main.clone()
    };
    vec![main, redirect]
}

fn networks(listener: &Listener) -> Vec<edge::Network> {
    let network = |found: &crate::file::Network| edge::Network::new(found.address, found.prefix_bits);
    listener.trusted_proxies.iter().map(network).collect()
}

fn bounds(bounds: &Bounds) -> edge::Bounds {
    let bytes = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    edge::Bounds {
        head: HeadBounds {
            head_bytes_max: bytes(bounds.header_bytes_max),
            fields_max: bounds.header_count_max as usize,
            target_bytes_max: bytes(bounds.uri_bytes_max),
        },
        head_time: bounds.header_time_max,
        body_rate_min: bounds.body_bytes_per_second_min,
        idle: bounds.idle_max,
        connections_max: bounds.connections_max as usize,
        connections_per_client_max: bounds.connections_per_client_max as usize,
        streams_max: bounds.streams_max,
        resets_max: bounds.resets_max,
    }
}

/// The listener through which a service's neighbours reach it. They are on this machine and believed.
fn internal_listener(service: &Service, address: SocketAddr, route: usize) -> edge::Listener {
    edge::Listener {
        name: internal_name(&service.name),
        purpose: edge::Purpose::Internal { route },
        addresses: vec![address],
        tls: None,
        http2: true,
        proxy_protocol: edge::ProxyProtocol::Off,
        trusted_proxies: vec![
            edge::Network::new([127, 0, 0, 0].into(), 8),
            edge::Network::new(std::net::Ipv6Addr::LOCALHOST.into(), 128),
        ],
        bounds: edge::Bounds { connections_per_client_max: usize::MAX, ..edge::Bounds::default() },
    }
}

fn internal_route(service: &Service, place: usize) -> edge::Route {
    edge::Route {
        name: internal_name(&service.name),
        at: Vec::new(),
        conditions: terrace_route::Conditions::default(),
        listeners: Vec::new(),
        guards: None,
        action: edge::Action::Forward {
            split: Split::new(vec![(0, 1)]).expect("invariant: one target with a weight is a split"),
            targets: vec![edge::Target { service: place, policy: policy(&service.policies) }],
            choosing: None,
            mirror: None,
            strip: None,
            rewrite: None,
        },
    }
}

/// How a service's internal listener and route are called.
pub(crate) fn internal_name(service: &str) -> String {
    format!("internal:{service}")
}

fn route(route: &Route, index: &impl Fn(&str) -> Option<usize>) -> edge::Route {
    edge::Route {
        name: route.name.clone(),
        at: route.at.clone(),
        conditions: route.conditions.clone(),
        listeners: route.listeners.clone(),
        guards: None,
        action: action(&route.action, index),
    }
}

fn action(action: &Action, index: &impl Fn(&str) -> Option<usize>) -> edge::Action {
    match action {
        Action::Forward { to, path, .. } => {
            let weights = to.iter().enumerate().map(|(place, target)| (place, target.weight)).collect();
            let (strip, rewrite) = match path {
                PathChange::Keep => (None, None),
                PathChange::Strip(strip) => (Some(strip.clone()), None),
                PathChange::Rewrite(rewrite) => (None, Some(rewrite.clone())),
            };
            edge::Action::Forward {
                split: Split::new(weights)
                    .expect("invariant: the file's check leaves a target with a weight"),
                targets: to.iter().map(|found| target(found, index)).collect(),
                choosing: None,
                mirror: None,
                strip,
                rewrite,
            }
        }
        Action::Redirect { to, status, .. } => edge::Action::Redirect { to: to.clone(), status: *status },
        Action::Respond { status, body, media_type, .. } => edge::Action::Respond {
            status: *status,
            body: Bytes::copy_from_slice(body.as_bytes()),
            content_type: media_type.clone(),
        },
    }
}

fn target(target: &Target, index: &impl Fn(&str) -> Option<usize>) -> edge::Target {
    edge::Target {
        service: index(&target.service)
            .expect("invariant: the file's check knows every service that a route names"),
        policy: policy(&target.policies),
    }
}

fn policy(policies: &Policies) -> edge::Policy {
    edge::Policy {
        timeouts: Timeouts {
            connect: policies.timeout.connect,
            first_byte: policies.timeout.first_byte,
            idle: policies.timeout.idle,
            attempt: policies.timeout.attempt,
            total: policies.timeout.total,
        },
        retry: policies.retry.as_ref().map_or_else(RetryPolicy::off, retry),
        hedge: None,
        deadline: true,
        fallback: None,
        body_bytes_max: policies.body_bytes_max,
        request_id: policies.request_id,
    }
}

fn retry(retry: &Retry) -> RetryPolicy {
    RetryPolicy {
        attempts_max: retry.attempts_max,
        on: conditions(&retry.on),
        methods: retry.methods.clone(),
        backoff: Backoff { from: retry.backoff_from, to: retry.backoff_to },
        budget: BudgetLaw { share: Share::from_ratio(retry.budget_share), ..BudgetLaw::default() },
    }
}

fn conditions(on: &RetryOn) -> Conditions {
    let statuses = on.statuses.iter().flat_map(|range| range.from..=range.to);
    Conditions {
        connect: on.connect,
        reset: on.reset,
        timeout: on.timeout,
        statuses: statuses.fold(Statuses::none(), Statuses::with),
    }
}
