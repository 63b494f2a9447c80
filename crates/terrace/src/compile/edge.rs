//! `[listen.*]` for the edge, and for each service the listener on loopback that its neighbours use.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use terrace_auth::Login;
use terrace_edge as edge;
use terrace_http::Bounds as HeadBounds;
use terrace_route::Pattern;
use terrace_upstream::Upstream;

use super::route::{self, Places};
use super::{guards, limit, resilience};
use crate::file::{Balance, Bounds, HashKey, Listener, ProxyProtocolIn, Resolved, Route, Service, Source};
use crate::identity::Prepared;

/// What the edge needs beside the file.
pub(crate) struct Parts<'a> {
    pub(crate) upstreams: &'a BTreeMap<String, Arc<Upstream>>,
    pub(crate) certificates: &'a BTreeMap<String, Arc<edge::Certificates>>,
    /// Who answers the questions of authorities, if any will ask.
    pub(crate) issuer: Option<&'a Arc<dyn edge::Issuer>>,
    /// Who may use which route, and the logins that lead there.
    pub(crate) identity: &'a Prepared,
    /// How often which route may be used, and the limits of API keys.
    pub(crate) limits: (&'a terrace_limits::Prepared, &'a Arc<terrace_limits::KeyLimits>),
    /// Where each routed service's internal listener is.
    pub(crate) internal: &'a BTreeMap<String, SocketAddr>,
}

/// Everything that the edge serves.
pub(crate) fn config(resolved: &Resolved, parts: &Parts<'_>) -> edge::Config {
    let places = Places(resolved.services.values().filter(|service| service.is_routed()).collect());
    let mut routes: Vec<edge::Route> =
        resolved.routes.values().map(|found| route::route(found, &places)).collect();
    for route in &mut routes {
        if let Some(gate) = parts.identity.gates.get(&route.name) {
            route.guards.get_or_insert_default().identity = Some(Arc::clone(gate));
        }
    }
    for (route, found) in routes.iter_mut().zip(resolved.routes.values()) {
        let name = limit::route_name(&found.name);
        limited(route, limit::limits(&name, &found.guards, resolved, parts.limits, &route.action));
    }
    let mut listeners: Vec<edge::Listener> =
        resolved.listeners.values().flat_map(|found| listeners_of(found, parts)).collect();
    for service in &places.0 {
        let Some(address) = parts.internal.get(&service.name) else { continue };
        listeners.push(internal_listener(service, *address, routes.len()));
        let mut route = route::internal(service, internal_name(&service.name), &places);
        let limits = limit::limits(&route.name, &service.guards, resolved, parts.limits, &route.action);
        limited(&mut route, limits);
        routes.push(route);
    }
    let state = &resolved.terrace.state_folder;
    let services = places.0.iter().map(|found| edge_service(found, state, parts)).collect();
    edge::Config {
        listeners,
        services,
        routes,
        overload: resilience::overload(resolved.overload),
        issuer: parts.issuer.map(Arc::clone),
        logins: parts.identity.logins.iter().map(|login| login_pages(login, resolved)).collect(),
    }
}

/// A login's pages are on the hosts of the routes that lead there.
fn login_pages(login: &Arc<Login>, resolved: &Resolved) -> edge::LoginPages {
    let leads_there = |route: &&Route| {
        let auth = route.guards.auth.as_ref();
        auth.is_some_and(|auth| auth.login.as_ref() == Some(&login.config().name))
    };
    let at = resolved.routes.values().filter(leads_there).flat_map(|route| &route.at);
    edge::LoginPages { login: Arc::clone(login), hosts: at.map(Pattern::host).collect() }
}

fn limited(route: &mut edge::Route, limits: Option<Arc<edge::Limits>>) {
    if limits.is_some() {
        route.guards.get_or_insert_default().limits = limits;
    }
}

/// The state folder, where it lies in the one that a program of ours works in.
fn withheld(service: &Service, state: &Path) -> Option<edge::Withheld> {
    let Source::Run(program) = &service.source else { return None };
    edge::Withheld::new(state.strip_prefix(&program.folder).ok()?.to_str()?)
}

fn edge_service(service: &Service, state: &Path, parts: &Parts<'_>) -> edge::Service {
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
        resilience: resilience::of_service(service),
        withheld: withheld(service, state),
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
    listener.trusted_proxies.iter().map(guards::network).collect()
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

/// How a service's internal listener and route are called.
pub(crate) fn internal_name(service: &str) -> String {
    format!("internal:{service}")
}
