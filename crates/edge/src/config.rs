//! What the edge is told: plain values that cannot be invalid and know no file.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use terrace_auth::Login;
use terrace_http::Bounds as HeadBounds;
use terrace_policy::{HedgeLaw, OverloadLaw, RetryPolicy, Timeouts};
use terrace_route::{Conditions, Pattern, Redirect, Rewrite, Split, Strip};
use terrace_upstream::Upstream;

use crate::challenge::Issuer;
use crate::choose::Choosing;
use crate::fallback::Fallback;
use crate::guards::Guards;
use crate::mirror::Mirror;
use crate::resilience::Resilience;
use crate::tls;
use crate::withheld::Withheld;

/// Everything the edge serves, replaced whole by a reload.
#[derive(Debug, Default)]
pub struct Config {
    /// Where clients connect to.
    pub listeners: Vec<Listener>,
    /// Where requests go to.
    pub services: Vec<Service>,
    /// Which request goes where.
    pub routes: Vec<Route>,
    /// When requests are sent away because this machine has too much to do; none never.
    pub overload: Option<OverloadLaw>,
    /// Logins of browsers, each with pages of its own below a path, on every listener but the internal ones.
    pub logins: Vec<LoginPages>,
    /// Who answers the questions of authorities that issue certificates, if any do.
    pub issuer: Option<Arc<dyn Issuer>>,
}

/// A login, and where its pages are.
#[derive(Debug, Clone)]
pub struct LoginPages {
    /// The login.
    pub login: Arc<Login>,
    /// The hosts of the routes that lead there, as [`Pattern::host`] has them; nothing is any. On others it has no business: a
    /// login of one host is not begun, nor ended, by whoever calls this one by another name.
    pub hosts: Vec<Option<String>>,
}

impl LoginPages {
    /// Whether its pages are on that host, which is in normal form.
    pub(crate) fn are_on(&self, host: &str) -> bool {
        self.hosts.iter().any(|pattern| match pattern.as_deref() {
            None => true,
            Some(pattern) => match pattern.strip_prefix('*') {
                Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
                None => host == pattern,
            },
        })
    }
}

/// One listener: addresses that are served alike.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Its name, in metrics and logs.
    pub name: String,
    /// What it does with requests.
    pub purpose: Purpose,
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    /// TLS, if it speaks it.
    pub tls: Option<Arc<tls::Certificates>>,
    /// Whether HTTP/2 is spoken, by ALPN and by prior knowledge.
    pub http2: bool,
    /// Whether each connection begins with a PROXY protocol header.
    pub proxy_protocol: ProxyProtocol,
    /// Whose word on who the client is gets believed.
    pub trusted_proxies: Vec<Network>,
    /// Its bounds.
    pub bounds: Bounds,
}

/// What a listener does with requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// Looks for their route.
    Route,
    /// Sends all to one service: the way of neighbours to one another.
    Internal {
        /// The route that holds the service's own policies, by its index in [`Config::routes`].
        route: usize,
    },
    /// Sends clients to HTTPS on that port.
    RedirectToTls {
        /// The port.
        port: u16,
    },
}

/// Whether and which PROXY protocol header opens each connection (haproxy.org, proxy-protocol.txt).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyProtocol {
    /// None.
    #[default]
    Off,
    /// The line of version 1.
    V1,
    /// The binary header of version 2.
    V2,
    /// Either.
    Any,
}

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

impl Network {
    /// The addresses that share the first `prefix_bits` bits with `address`; more bits than there are mean all.
    #[must_use]
    pub fn new(address: IpAddr, prefix_bits: u8) -> Self {
        Self { address: address.to_canonical(), prefix_bits }
    }

    /// Its first and its last address.
    pub(crate) fn bounds(&self) -> (IpAddr, IpAddr) {
        match self.address {
            IpAddr::V4(address) => {
                let bits = u32::from(self.prefix_bits).min(32);
                let rest = u32::MAX.checked_shr(bits).unwrap_or(0);
                let first = address.to_bits() & !rest;
                (IpAddr::V4(first.into()), IpAddr::V4((first | rest).into()))
            }
            IpAddr::V6(address) => {
                let bits = u32::from(self.prefix_bits).min(128);
                let rest = u128::MAX.checked_shr(bits).unwrap_or(0);
                let first = address.to_bits() & !rest;
                (IpAddr::V6(first.into()), IpAddr::V6((first | rest).into()))
            }
        }
    }

    /// Whether `address` is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let shared = |ours: u128, theirs: u128, width: u32| {
            let bits = u32::from(self.prefix_bits).min(width);
            bits == 0 || (ours ^ theirs) >> (width - bits) == 0
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                shared(ours.to_bits().into(), theirs.to_bits().into(), 32)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => shared(ours.to_bits(), theirs.to_bits(), 128),
            _ => false,
        }
    }
}

/// What a listener lets one client, or all of them, take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Of a request's head.
    pub head: HeadBounds,
    /// For a request's head to arrive, from its first byte; for the TLS handshake too.
    pub head_time: Duration,
    /// Bytes per second that a body must keep up, after a grace of ten seconds, in either direction; 0 asks nothing.
    pub body_rate_min: u64,
    /// For a connection without a request.
    pub idle: Duration,
    /// Connections at once.
    pub connections_max: usize,
    /// Connections at once from one address; IPv6 counts by /64.
    pub connections_per_client_max: usize,
    /// Streams at once on one HTTP/2 connection.
    pub streams_max: u32,
    /// Streams that a client may reset on one HTTP/2 connection within ten seconds.
    pub resets_max: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            head: HeadBounds::default(),
            head_time: Duration::from_secs(10),
            body_rate_min: 256,
            idle: Duration::from_secs(75),
            connections_max: 10_000,
            connections_per_client_max: 1_000,
            streams_max: 128,
            resets_max: 100,
        }
    }
}

/// A service as the edge sees it.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its endpoints.
    pub upstream: Arc<Upstream>,
    /// What the hash pickers hash.
    pub hash: HashSource,
    /// The cookie that leads a client back to the same endpoint.
    pub sticky: Option<Sticky>,
    /// How it is kept from being given more than it can do.
    pub resilience: Resilience,
    /// What it must not be asked for.
    pub withheld: Option<Withheld>,
}

/// What of a request the hash pickers hash.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HashSource {
    /// Nothing.
    #[default]
    None,
    /// The client's address.
    Client,
    /// The value of that field, lower case.
    Field(String),
    /// The value of that cookie.
    Cookie(String),
}

/// A cookie that leads a client back to the same endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky {
    /// Its name.
    pub cookie: String,
    /// How long it lasts.
    pub ttl: Duration,
}

/// One route: which requests, and what becomes of them.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// Host and path patterns; empty for a route that only an internal listener uses.
    pub at: Vec<Pattern>,
    /// Further conditions.
    pub conditions: Conditions,
    /// The listeners it is reached through; empty for all.
    pub listeners: Vec<String>,
    /// What stands before its action; none where there is nothing.
    pub guards: Option<Box<Guards>>,
    /// What becomes of its requests.
    pub action: Action,
}

/// A service that a route sends requests to, and the policies that hold for them.
#[derive(Debug, Clone)]
pub struct Target {
    /// The service, by index in [`Config::services`].
    pub service: usize,
    /// The policies, merged.
    pub policy: Policy,
}

/// What becomes of a route's requests.
#[derive(Debug, Clone)]
pub enum Action {
    /// They go to a service.
    Forward {
        /// Which of the targets, by index.
        split: Split<usize>,
        /// The services it may be.
        targets: Vec<Target>,
        /// How one of them is chosen, where that is more than a share of chance.
        choosing: Option<Box<Choosing>>,
        /// A service that gets copies.
        mirror: Option<Mirror>,
        /// What is cut off the front of the path.
        strip: Option<Strip>,
        /// What the path becomes.
        rewrite: Option<Rewrite>,
    },
    /// The client is sent elsewhere.
    Redirect {
        /// Where.
        to: Redirect,
        /// 301, 302, 303, 307 or 308.
        status: u16,
    },
    /// A fixed answer.
    Respond {
        /// Its status.
        status: u16,
        /// Its body.
        body: Bytes,
        /// Its media type.
        content_type: String,
    },
}

/// Policies, merged.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Retries.
    pub retry: RetryPolicy,
    /// When a request is sent once more while its answer is waited for; none only where an endpoint was taken out.
    pub hedge: Option<HedgeLaw>,
    /// Whether a caller's deadline is kept, where the caller is believed, and endpoints are told of theirs.
    pub deadline: bool,
    /// What answers when the service could not.
    pub fallback: Option<Box<Fallback>>,
    /// Bytes of a request's body.
    pub body_bytes_max: Option<u64>,
    /// Whether the service is told the request's id.
    pub request_id: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_its_addresses_and_no_others() {
        let network = |text: &str, bits| Network::new(text.parse().expect("an address"), bits);
        let has = |network: Network, text: &str| network.contains(text.parse().expect("an address"));
        assert!(has(network("10.0.0.0", 8), "10.255.0.1"));
        assert!(has(network("10.0.0.0", 8), "::ffff:10.1.2.3"), "mapped addresses are the IPv4 ones");
        assert!(!has(network("10.0.0.0", 8), "11.0.0.1"));
        assert!(has(network("0.0.0.0", 0), "203.0.113.9"));
        assert!(!has(network("0.0.0.0", 0), "2001:db8::1"));
        assert!(has(network("2001:db8::", 32), "2001:db8:ffff::1"));
        assert!(has(network("192.0.2.1", 99), "192.0.2.1"));
        assert!(!has(network("192.0.2.1", 32), "192.0.2.2"));
    }
}
