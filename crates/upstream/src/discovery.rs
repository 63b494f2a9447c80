//! Endpoints found by name: hosts in the file, and DNS names whose answers change.
//!
//! All names of a source are asked in one round, at the same time; the round's answers become one
//! publication, and the next round comes when the shortest time to live has passed. A name that cannot be
//! resolved, or that resolves to nothing, keeps the addresses it had: a name server that is down, or a record
//! deleted by mistake, must not take a running service with it, and endpoints that are truly gone are noticed
//! by their health. The resolver is made anew each round, so that changes of `/etc/resolv.conf` and
//! `/etc/hosts` are followed too; it caches nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use terrace_instruments::{Event, Level, Log};
use terrace_policy::Backoff;
use terrace_runtime::drain::Drain;
use terrace_runtime::random;
use tokio::task::JoinSet;

use crate::lookup::{Addresses, Answer, LookupError, Service, addresses, services};
use crate::metrics::DiscoveryMetrics;
use crate::roster::{Member, MemberState};
use crate::upstream::Upstream;

/// How often names are asked.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// However short a record's time to live, a name is not asked more often than this.
    ttl_min: Duration,
    /// However long it is, a change is seen after this.
    ttl_max: Duration,
    /// Between rounds in which a name failed.
    retry: Backoff,
}

const PACE: Pace = Pace {
    ttl_min: Duration::from_secs(1),
    ttl_max: Duration::from_secs(300),
    retry: Backoff { from: Duration::from_secs(1), to: Duration::from_secs(30) },
};

/// Where a service's endpoints are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What is asked for.
    pub names: Names,
    /// The DNS server to ask; none asks as the system is configured.
    pub resolver: Option<SocketAddr>,
}

/// What a source asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// Addresses and host names (A and AAAA), each with its port.
    Hosts(Vec<Host>),
    /// A service name with its underscores, as `_http._tcp.example.com` (SRV, RFC 2782). Of its targets those
    /// of the lowest priority are used, with their weights.
    Srv(Arc<str>),
}

/// One host of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// An IP address, or a name; each address of the name becomes an endpoint.
    pub host: Arc<str>,
    /// The port of all its addresses.
    pub port: u16,
    /// The weight of each of its addresses.
    pub weight: u32,
}

/// Finds one service's endpoints.
#[derive(Debug)]
pub struct Discovery {
    source: Source,
    service: Arc<str>,
    metrics: DiscoveryMetrics,
    log: Log,
    /// What each name was last known to be.
    known: BTreeMap<Arc<str>, Addresses>,
    /// The targets of a service name, as last known.
    targets: Vec<Service>,
    /// Names that failed in the last round, so that each failure is told once.
    failing: BTreeSet<Arc<str>>,
    rounds_failed: u32,
    pace: Pace,
}

impl Discovery {
    /// Finds the endpoints of this upstream's service.
    pub fn build(source: Source, upstream: &Upstream) -> Self {
        Self {
            source,
            service: Arc::clone(upstream.service()),
            metrics: upstream.discovery_metrics(),
            log: upstream.log().clone(),
            known: BTreeMap::new(),
            targets: Vec::new(),
            failing: BTreeSet::new(),
            rounds_failed: 0,
            pace: PACE,
        }
    }

    /// Publishes what is found, at first and whenever it changes, until asked to drain. What was last published
    /// stays when this ends.
    pub async fn run(mut self, publish: impl Fn(Vec<Member>), mut drain: Drain) {
        let mut published = self.members();
        if !published.is_empty() {
            // Plain addresses need no answer and do not wait for names that do.
            publish(published.clone());
        }
        loop {
            let wait = tokio::select! {
                () = drain.requested() => return,
                wait = self.round() => wait,
            };
            let members = self.members();
            if members != published {
                publish(members.clone());
                published = members;
            }
            tokio::select! {
                () = drain.requested() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Asks for every name; how long the answers are good for.
    async fn round(&mut self) -> Duration {
        let mut ttl = self.pace.ttl_max;
        let mut is_whole = self.ask_services(&mut ttl).await;
        let mut lookups = JoinSet::new();
        for name in self.host_names() {
            let resolver = self.source.resolver;
            lookups.spawn(async move { (Arc::clone(&name), addresses(&name, resolver).await) });
        }
        while let Some(joined) = lookups.join_next().await {
            let Ok((name, result)) = joined else { continue };
            is_whole &= self.take_addresses(name, result, &mut ttl);
        }
        self.rounds_failed = if is_whole { 0 } else { self.rounds_failed.saturating_add(1) };
        if is_whole {
            return ttl.max(self.pace.ttl_min);
        }
        let retry = self.pace.retry.equal_jitter(self.rounds_failed, random::u64());
        ttl.min(retry).max(self.pace.ttl_min)
    }

    /// Asks for the targets of a service name; whether there was nothing to ask or an answer.
    async fn ask_services(&mut self, ttl: &mut Duration) -> bool {
        let Names::Srv(name) = &self.source.names else { return true };
        let name = Arc::clone(name);
        match services(&name, self.source.resolver).await {
            Ok(answer) => {
                *ttl = answer.ttl.min(*ttl);
                self.targets = answer.found;
                self.answered(&name);
                true
            }
            Err(error) => {
                self.failed(&name, &error, self.targets.len());
                false
            }
        }
    }

    /// Takes over what a name resolved to; whether it did.
    fn take_addresses(
        &mut self,
        name: Arc<str>,
        result: Result<Answer<Addresses>, LookupError>,
        ttl: &mut Duration,
    ) -> bool {
        let before = self.known.get(&name).cloned().unwrap_or_default();
        match result.map(|answer| (answer.ttl, answer.found.or_as_before(before.clone()))) {
            Ok((good_for, addresses)) => {
                *ttl = good_for.min(*ttl);
                self.answered(&name);
                self.known.insert(name, addresses);
                true
            }
            Err(error) => {
                self.failed(&name, &error, before.iter().count());
                false
            }
        }
    }

    /// The names to be resolved to addresses.
    fn host_names(&self) -> BTreeSet<Arc<str>> {
        let is_name = |host: &Arc<str>| host.parse::<IpAddr>().is_err();
        match &self.source.names {
            Names::Hosts(hosts) => hosts.iter().map(|host| Arc::clone(&host.host)).filter(is_name).collect(),
            Names::Srv(_) => self.targets.iter().map(|target| Arc::clone(&target.target)).collect(),
        }
    }

    /// What all that is known comes to.
    /// The endpoints as far as they are known: before [`Discovery::run`] those that are plain addresses.
    pub fn members(&self) -> Vec<Member> {
        match &self.source.names {
            Names::Hosts(hosts) => {
                let of = |host: &Host| self.members_of(&host.host, host.port, host.weight);
                hosts.iter().flat_map(of).collect()
            }
            Names::Srv(_) => {
                // Weight 0 means "a very small chance" (RFC 2782), not none.
                let of = |target: &Service| {
                    self.members_of(&target.target, target.port, u32::from(target.weight).max(1))
                };
                self.targets.iter().flat_map(of).collect()
            }
        }
    }

    fn members_of(&self, host: &Arc<str>, port: u16, weight: u32) -> Vec<Member> {
        let member = |ip: IpAddr, host: Option<Arc<str>>| {
            let address = SocketAddr::new(ip, port);
            Member { name: address.to_string().into(), host, address, weight, state: MemberState::Open }
        };
        match (host.parse::<IpAddr>(), self.known.get(host)) {
            (Ok(ip), _) => vec![member(ip, None)],
            (Err(_), Some(known)) => {
                // The dot that ends an absolute name belongs into questions, not into Host fields and certificates.
                let host: Arc<str> = host.trim_end_matches('.').into();
                known.iter().map(|ip| member(ip, Some(Arc::clone(&host)))).collect()
            }
            (Err(_), None) => Vec::new(),
        }
    }

    fn answered(&mut self, name: &Arc<str>) {
        self.metrics.answered.inc();
        if self.failing.remove(name) {
            let event = Event::new(Level::Info, "discovery.lookup.recovered");
            self.log.emit(event.service(&*self.service).field("name", &**name));
        }
    }

    fn failed(&mut self, name: &Arc<str>, error: &LookupError, kept: usize) {
        self.metrics.failed.inc();
        if self.failing.insert(Arc::clone(name)) {
            let event = Event::new(Level::Warn, "discovery.lookup.failed").service(&*self.service);
            let event = event.field("name", &**name).field("error", error.to_string());
            self.log.emit(event.field("kept", kept).message("the last known addresses stay in use"));
        }
    }
}

#[cfg(test)]
mod tests;
