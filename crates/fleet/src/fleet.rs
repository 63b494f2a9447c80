//! The fleet as a whole: adopts what it finds, hands each service its part of what shall be, and ends them all.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use terrace_instruments::{Log, Meter};
use terrace_runtime::drain::Drain;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::adopt::{self, Adopted};
use crate::config::{Config, INSTANCES_MAX, ServiceConfig};
use crate::context::Context;
use crate::error::{BuildError, Error};
use crate::ledger::Ledger;
use crate::ports::Ports;
use crate::rotation::Rotation;
use crate::service::{Command, Service};
use crate::spec::{self, Spec};
use crate::status::{FleetStatus, ServiceState, ServiceStatus};

/// Requests that may wait for the fleet, and commands for each service.
const QUEUE_MAX: usize = 64;

/// A fleet that does not run yet.
pub struct Fleet {
    context: Arc<Context>,
    drain: Duration,
    requests: mpsc::Receiver<Request>,
    found: BTreeMap<String, Vec<Adopted>>,
    services: BTreeMap<String, mpsc::Sender<Command>>,
    tasks: JoinSet<String>,
    stopping: bool,
}

/// Talks to a fleet. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    context: Arc<Context>,
}

enum Request {
    Apply(Vec<Spec>, oneshot::Sender<()>),
    Scale(String, u32, oneshot::Sender<Result<(), Error>>),
    Restart(String, oneshot::Sender<Result<(), Error>>),
    Status(oneshot::Sender<FleetStatus>),
    StopAll(Duration, oneshot::Sender<()>),
}

/// Prepares a fleet. Nothing is started or adopted before [`Fleet::run`].
///
/// # Errors
/// When the state folder cannot be used, or the shim command is missing.
pub fn build(
    config: Config,
    rotation: Arc<dyn Rotation>,
    meter: &Meter,
    log: Log,
) -> Result<(Fleet, Handle), BuildError> {
    if config.shim_command.is_empty() {
        return Err(BuildError::NoShim);
    }
    if !config.state.is_absolute() {
        return Err(BuildError::Relative(config.state));
    }
    let instances = config.state.join("instances");
    private_folder(&config.state)?;
    private_folder(&instances)?;
    let context = Arc::new(Context {
        shim_command: config.shim_command,
        instances,
        adopt_within: config.adopt_within,
        release_within: config.release_within,
        inherited: spec::inheritable(&config.environment),
        rotation,
        ports: Ports::default(),
        ledger: Ledger::open(config.state.join("fleet.json"), &log),
        log,
        meter: meter.clone(),
        changes: watch::Sender::new(0),
    });
    Ok(assemble(context, config.drain))
}

fn assemble(context: Arc<Context>, drain: Duration) -> (Fleet, Handle) {
    let (sender, requests) = mpsc::channel(QUEUE_MAX);
    let fleet = Fleet {
        context: Arc::clone(&context),
        drain,
        requests,
        found: BTreeMap::new(),
        services: BTreeMap::new(),
        tasks: JoinSet::new(),
        stopping: false,
    };
    (fleet, Handle { requests: sender, context })
}

/// Makes a folder that only its owner may enter.
fn private_folder(path: &Path) -> Result<(), BuildError> {
    let refused = |source| BuildError::State { path: PathBuf::from(path), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(refused)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(refused)
}

impl Fleet {
    /// Adopts what runs already, then serves its handles until it is asked to drain, and then stops everything.
    ///
    /// A fleet that is dropped instead leaves its instances running under their shims, which wait for a successor.
    pub async fn run(mut self, mut drain: Drain) {
        for found in adopt::adopt_all(&self.context.instances).await {
            self.found.entry(found.facts.service.clone()).or_default().push(found);
        }
        while !(self.stopping && self.tasks.is_empty()) {
            tokio::select! {
                Some(request) = self.requests.recv() => self.serve(request).await,
                () = drain.requested(), if !self.stopping => self.stop_all(self.drain).await,
                Some(ended) = self.tasks.join_next() => self.note_end(&ended.unwrap_or_default()),
            }
        }
        self.context.changes.send_modify(|version| *version += 1);
    }

    async fn serve(&mut self, request: Request) {
        match request {
            Request::Apply(_, done) if self.stopping => drop(done),
            Request::Apply(specs, done) => {
                self.apply(specs).await;
                let _asker_gave_up = done.send(());
            }
            Request::Scale(name, count, done) => match self.services.get(&name) {
                Some(service) => drop(service.send(Command::Scale(count, done)).await),
                None => drop(done.send(Err(self.unknown(name)))),
            },
            Request::Restart(name, done) => drop(done.send(self.restart(name).await)),
            Request::Status(answer) => drop(answer.send(self.status().await)),
            Request::StopAll(bound, done) => {
                self.stop_all(bound).await;
                let _asker_gave_up = done.send(());
            }
        }
    }

    async fn apply(&mut self, specs: Vec<Spec>) {
        let specs: BTreeMap<String, Spec> =
            specs.into_iter().map(|spec| (spec.config.name.clone(), spec)).collect();
        for (name, service) in &self.services {
            if !specs.contains_key(name) {
                let _ended_already = service.send(Command::End(None)).await;
            }
        }
        for (name, spec) in specs {
            self.configure(name, Arc::new(spec)).await;
        }
        self.end_strangers(None);
    }

    async fn configure(&mut self, name: String, spec: Arc<Spec>) {
        if let Some(service) = self.services.get(&name)
            && service.send(Command::Configure(Arc::clone(&spec))).await.is_ok()
        {
            return;
        }
        self.start(name, Some(spec));
    }

    fn start(&mut self, name: String, spec: Option<Arc<Spec>>) -> mpsc::Sender<Command> {
        let found = self.found.remove(&name).unwrap_or_default();
        let (sender, commands) = mpsc::channel(QUEUE_MAX);
        let service = Service::new(Arc::clone(&self.context), name.clone(), spec, found, commands);
        self.services.insert(name.clone(), sender.clone());
        self.tasks.spawn(async move {
            service.run().await;
            name
        });
        sender
    }

    /// Ends found instances of services that are not wanted any more.
    fn end_strangers(&mut self, bound: Option<Duration>) {
        let strangers: Vec<String> = self.found.keys().cloned().collect();
        for name in strangers {
            let service = self.start(name, None);
            let _full_is_impossible = service.try_send(Command::End(bound));
        }
    }

    async fn restart(&mut self, name: String) -> Result<(), Error> {
        match self.services.get(&name) {
            Some(service) if service.send(Command::Restart).await.is_ok() => Ok(()),
            _ => Err(self.unknown(name)),
        }
    }

    async fn status(&self) -> FleetStatus {
        let mut status = FleetStatus::default();
        for service in self.services.values() {
            let (answer, answered) = oneshot::channel();
            // What a closed channel gives back holds the answer's other end: kept, it would be waited for for ever.
            if service.send(Command::Status(answer)).await.is_ok() {
                status.services.extend(answered.await);
            }
        }
        status
    }

    async fn stop_all(&mut self, bound: Duration) {
        self.stopping = true;
        for service in self.services.values() {
            let _ended_already = service.send(Command::End(Some(bound))).await;
        }
        self.end_strangers(Some(bound));
    }

    /// A service of the same name may have been started anew meanwhile, whose sender is open.
    fn note_end(&mut self, name: &str) {
        if self.services.get(name).is_some_and(mpsc::Sender::is_closed) {
            self.services.remove(name);
        }
        self.context.changes.send_modify(|version| *version += 1);
    }

    fn unknown(&self, name: String) -> Error {
        Error::UnknownService { name, services: self.services.keys().cloned().collect() }
    }
}

impl Handle {
    /// Says whether `services` could be applied, without applying them.
    ///
    /// # Errors
    /// [`Error::Refused`] with everything that is wrong with any of them.
    pub fn check(&self, services: &[ServiceConfig]) -> Result<(), Error> {
        spec::check(services.to_vec(), &self.context.inherited).map(drop).map_err(Error::Refused)
    }

    /// Makes these the services that run: new ones start, missing ones stop, changed ones are rolled out. Returns
    /// when that was taken on, not when it is done; see [`settled`](Self::settled). Services that run already in an
    /// earlier Terrace's shims are in rotation when it returns.
    ///
    /// # Errors
    /// [`Error::Refused`] when any of them is wrong; then nothing has changed. [`Error::Stopping`].
    pub async fn apply(&self, services: Vec<ServiceConfig>) -> Result<(), Error> {
        let specs = spec::check(services, &self.context.inherited).map_err(Error::Refused)?;
        self.ask(|done| Request::Apply(specs, done)).await
    }

    /// Sets a service's number of instances until it changes in the file; it is kept over a restart of Terrace.
    ///
    /// # Errors
    /// [`Error::UnknownService`], [`Error::TooMany`], [`Error::State`], [`Error::Stopping`].
    pub async fn scale(&self, service: &str, instances: u32) -> Result<(), Error> {
        if instances > INSTANCES_MAX {
            return Err(Error::TooMany { asked: instances, max: INSTANCES_MAX });
        }
        self.ask(|done| Request::Scale(service.to_owned(), instances, done)).await?
    }

    /// Replaces every instance of a service, one by one, without ever having fewer ready.
    ///
    /// # Errors
    /// [`Error::UnknownService`], [`Error::Stopping`].
    pub async fn restart(&self, service: &str) -> Result<(), Error> {
        self.ask(|done| Request::Restart(service.to_owned(), done)).await?
    }

    /// How everything stands. Empty when the fleet has ended.
    pub async fn status(&self) -> FleetStatus {
        self.ask(Request::Status).await.unwrap_or_default()
    }

    /// Counts up whenever the status may have changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.context.changes.subscribe()
    }

    /// Waits until a service is where it was sent, or cannot get there by itself: running, stopped, its roll-out
    /// failed, or in a crash loop. `None` when there is no such service (any more).
    pub async fn settled(&self, service: &str) -> Option<ServiceStatus> {
        let mut changes = self.changes();
        loop {
            let status = self.status().await.service(service)?.clone();
            match status.state {
                ServiceState::Running | ServiceState::Stopped => return Some(status),
                ServiceState::RolloutFailed | ServiceState::CrashLoop => return Some(status),
                _ => changes.changed().await.ok()?,
            }
        }
    }

    /// Stops every service; requests and streams in flight have `drain` at most. Returns when that has begun;
    /// [`Fleet::run`] returns when it is done.
    ///
    /// # Errors
    /// [`Error::Stopping`] when the fleet has ended already.
    pub async fn stop_all(&self, drain: Duration) -> Result<(), Error> {
        self.ask(|done| Request::StopAll(drain, done)).await
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, Error> {
        let (done, answer) = oneshot::channel();
        self.requests.send(request(done)).await.map_err(|_| Error::Stopping)?;
        answer.await.map_err(|_| Error::Stopping)
    }
}
