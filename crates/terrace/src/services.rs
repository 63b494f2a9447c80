//! The services' upstreams, which live as long as their service through every reload, and the tasks that look after
//! each: upkeep, health checks, discovery.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use terrace_instruments::{Log, Meter};
use terrace_runtime::clock;
use terrace_runtime::drain::{self, Drain, Drainer};
use terrace_upstream::{BuildError, Discovery, IdentityKey, Source, Upstream};

use crate::compile;
use crate::file::{Resolved, Service};

/// All upstreams.
pub(crate) struct Services {
    meter: Meter,
    log: Log,
    identity_key: IdentityKey,
    running: Mutex<BTreeMap<String, Running>>,
}

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
        Self { meter, log, identity_key, running: Mutex::default() }
    }

    pub(crate) fn upstream(&self, service: &str) -> Option<Arc<Upstream>> {
        self.running().get(service).map(|running| Arc::clone(&running.upstream))
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
            let upstream = match running.get(&service.name) {
                Some(existing) => {
                    // Built only for its errors.
                    Upstream::build(config, &Meter::new(1), &Log::discard())?;
                    Arc::clone(&existing.upstream)
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
                None => Running::start(Arc::clone(upstream), source),
            };
            running.insert(service.name.clone(), entry);
        }
        Ok(())
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        // A map of services is whole after any panic.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
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
