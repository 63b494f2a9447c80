//! The services' upstreams, which live as long as their service through every reload, and the tasks that look after
//! each: upkeep, health checks, discovery.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use terrace_instruments::{Log, Meter};
use terrace_runtime::clock;
use terrace_runtime::drain::{self, Drain, Drainer};
use terrace_upstream::{BuildError, Discovery, IdentityKey, Member, Source, Upstream};

use crate::compile;
use crate::file::{Resolved, Service};

/// How long the endpoints of a service that is gone are still there for those who were let in before, see the edge's own
/// memory of former listeners; and how often it is looked whether instances have ended.
const LEAVING: Duration = Duration::from_secs(10);

/// All upstreams.
pub(crate) struct Services {
    meter: Meter,
    log: Log,
    identity_key: IdentityKey,
    running: Mutex<BTreeMap<String, Running>>,
    /// Upstreams of services that the file has no more: their instances are stopped when their requests have ended.
    leaving: Arc<Leaving>,
}

/// Upstreams on their way out.
#[derive(Default)]
struct Leaving(Mutex<BTreeMap<String, Arc<Upstream>>>);

/// One service's upstream and its tasks.
struct Running {
    upstream: Arc<Upstream>,
    source: Option<Source>,
    _upkeep: Drainer,
    /// Dropped with its source.
    discovery: Option<Drainer>,
}

/// Upstreams for a file that is not in force yet: those that exist as they are, new ones made.
pub(crate) struct Prepared {
    pub(crate) upstreams: BTreeMap<String, Arc<Upstream>>,
}

impl Services {
    pub(crate) fn new(meter: Meter, log: Log, identity_key: IdentityKey) -> Self {
        Self { meter, log, identity_key, running: Mutex::default(), leaving: Arc::default() }
    }

    pub(crate) fn upstream(&self, service: &str) -> Option<Arc<Upstream>> {
        self.running().get(service).map(|running| Arc::clone(&running.upstream))
    }

    /// The upstream of a service that is in force, or was until its instances have ended.
    pub(crate) fn in_use(&self, service: &str) -> Option<Arc<Upstream>> {
        self.upstream(service).or_else(|| self.leaving().get(service).map(Arc::clone))
    }

    /// Takes the instances of a service that Terrace runs as its endpoints. One that has hosts or a name by now has its
    /// endpoints from there, and the instances that still end are none of them.
    pub(crate) fn publish_instances(&self, service: &str, members: &[Member]) {
        let running = self.running();
        match running.get(service) {
            Some(found) if found.source.is_some() => {}
            Some(found) => found.upstream.publish(members, clock::now()),
            None => {
                if let Some(upstream) = self.leaving().get(service) {
                    upstream.publish(members, clock::now());
                }
            }
        }
    }

    pub(crate) fn upstreams(&self) -> Vec<Arc<Upstream>> {
        self.running().values().map(|running| Arc::clone(&running.upstream)).collect()
    }

    /// Makes what is new and finds out what would be refused. Changes nothing that runs.
    pub(crate) fn prepare(&self, resolved: &Resolved) -> Result<Prepared, BuildError> {
        let running = self.running();
        let mut upstreams = BTreeMap::new();
        for service in routed(resolved) {
            let config = compile::upstream::config(service, self.identity_key);
            let existing = running.get(&service.name).map(|running| Arc::clone(&running.upstream));
            let existing = existing.or_else(|| self.leaving().get(&service.name).map(Arc::clone));
            let upstream = match existing {
                Some(existing) => {
                    // Built only for its errors.
                    Upstream::build(config, &Meter::new(1), &Log::discard())?;
                    existing
                }
                None => self.build(service, config)?,
            };
            upstreams.insert(service.name.clone(), upstream);
        }
        Ok(Prepared { upstreams })
    }

    /// A new upstream, with the endpoints that need not be looked for: the first request must find them.
    fn build(
        &self,
        service: &Service,
        config: terrace_upstream::Config,
    ) -> Result<Arc<Upstream>, BuildError> {
        let upstream = Upstream::build(config, &self.meter, &self.log)?;
        if let Some(source) = compile::upstream::source(service) {
            upstream.publish(&Discovery::build(source, &upstream).members(), clock::now());
        }
        Ok(upstream)
    }

    /// Takes the prepared upstreams into use: parameters migrate, tasks start and end.
    pub(crate) fn commit(&self, resolved: &Resolved, prepared: Prepared) -> Result<(), BuildError> {
        let mut running = self.running();
        let mut before = std::mem::take(&mut *running);
        for service in routed(resolved) {
            let Some(upstream) = prepared.upstreams.get(&service.name) else { continue };
            let source = compile::upstream::source(service);
            let entry = match before.remove(&service.name) {
                Some(existing) => existing.go_on(service, self.identity_key, source)?,
                None => {
                    // One that comes back while it was leaving has another configuration by now.
                    upstream.apply(compile::upstream::config(service, self.identity_key), clock::now())?;
                    Running::start(Arc::clone(upstream), source)
                }
            };
            running.insert(service.name.clone(), entry);
        }
        self.let_go(before, &running);
        Ok(())
    }

    /// Keeps the upstreams of services that are gone until nothing is in flight on them.
    fn let_go(&self, gone: BTreeMap<String, Running>, running: &BTreeMap<String, Running>) {
        let mut leaving = self.leaving();
        for (name, gone) in gone {
            let (all, upstream) = (Arc::clone(&self.leaving), Arc::clone(&gone.upstream));
            let has_source = gone.source.is_some();
            leaving.insert(name, gone.upstream);
            tokio::spawn(async move {
                tokio::time::sleep(LEAVING).await;
                while !all.end(&upstream, has_source) {
                    tokio::time::sleep(LEAVING).await;
                }
            });
        }
        let is_busy = |upstream: &Upstream| !upstream.report(clock::now()).is_empty();
        leaving.retain(|name, upstream| !running.contains_key(name) && is_busy(upstream));
    }

    fn leaving(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Upstream>>> {
        self.leaving.lock()
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        // A map of services is whole after any panic.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leaving {
    /// Forgets an upstream that nothing is left of; says whether there is nothing more to do. Instances are withdrawn by
    /// the fleet when they end. Hosts do not end, so they are withdrawn here.
    fn end(&self, upstream: &Arc<Upstream>, has_source: bool) -> bool {
        let mut leaving = self.lock();
        // It may be in force again, or have left again as another one.
        if !leaving.get(&**upstream.service()).is_some_and(|here| Arc::ptr_eq(here, upstream)) {
            return true;
        }
        if has_source {
            upstream.publish(&[], clock::now());
        }
        let is_over = upstream.report(clock::now()).is_empty();
        if is_over {
            leaving.remove(&**upstream.service());
        }
        is_over
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Upstream>>> {
        // A map of upstreams is whole after any panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn routed(resolved: &Resolved) -> impl Iterator<Item = &Service> {
    resolved.services.values().filter(|service| service.is_routed())
}

impl Running {
    fn start(upstream: Arc<Upstream>, source: Option<Source>) -> Self {
        let (upkeep, drain) = drain::channel();
        tokio::spawn(terrace_upstream::maintain(Arc::clone(&upstream), drain.clone()));
        tokio::spawn(terrace_upstream::check(Arc::clone(&upstream), drain));
        let discovery = source.clone().map(|source| discover(source, &upstream));
        Self { upstream, source, _upkeep: upkeep, discovery }
    }

    /// The service goes on under another configuration.
    fn go_on(
        mut self,
        service: &Service,
        identity_key: IdentityKey,
        source: Option<Source>,
    ) -> Result<Self, BuildError> {
        self.upstream.apply(compile::upstream::config(service, identity_key), clock::now())?;
        if self.source != source {
            self.discovery = None;
            self.discovery = source.clone().map(|source| discover(source, &self.upstream));
            self.source = source;
        }
        Ok(self)
    }
}

fn discover(source: Source, upstream: &Arc<Upstream>) -> Drainer {
    let (drainer, drain): (Drainer, Drain) = drain::channel();
    let discovery = Discovery::build(source, upstream);
    let upstream = Arc::clone(upstream);
    tokio::spawn(async move {
        discovery.run(|members| upstream.publish(&members, clock::now()), drain).await;
    });
    drainer
}

#[cfg(test)]
mod tests {
    use terrace_upstream::{Ask, Config};

    use super::*;

    fn leaving(leaving: &Leaving) -> Arc<Upstream> {
        let config = Config::new("stock", IdentityKey([0; 16]));
        let upstream = Upstream::build(config, &Meter::new(1), &Log::discard()).expect("valid");
        upstream.publish(&[Member::new("a", ([127, 0, 0, 1], 1).into())], clock::now());
        leaving.lock().insert("stock".to_owned(), Arc::clone(&upstream));
        upstream
    }

    #[test]
    fn hosts_of_a_service_that_is_gone_are_forgotten_after_their_last_request() {
        let all = Leaving::default();
        let upstream = leaving(&all);
        let lease = upstream.pick(&Ask::default(), clock::now(), &mut || 0).expect("an endpoint");
        assert!(!all.end(&upstream, true), "a request is in flight");
        drop(lease);
        assert!(all.end(&upstream, true));
        assert!(all.lock().is_empty());
    }

    #[test]
    fn instances_are_left_to_the_fleet_and_a_service_that_came_back_is_left_alone() {
        let all = Leaving::default();
        let upstream = leaving(&all);
        assert!(!all.end(&upstream, false), "its instances have not ended");
        all.lock().clear();
        assert!(all.end(&upstream, true), "it is in force again");
        assert!(upstream.is_available());
    }
}
