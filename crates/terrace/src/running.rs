//! One running Terrace: every component built in order, connected, and taken to another file or to an end. This is the
//! one place where all of them meet.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use terrace_acme::Acme;
use terrace_admin::{Admin, Claim};
use terrace_auth::{AuthTask, Keys};
use terrace_edge::Edge;
use terrace_fleet::{Fleet, ServiceState, ServiceStatus};
use terrace_instruments::{Event, Level, Log, Meter};
use terrace_limits::{Config as LimitsConfig, Limits};
use terrace_policy::Share;
use terrace_runtime::drain::{self, Drain, Drainer};
use terrace_runtime::{clock, threads};
use terrace_signals::records::{LogFilter, LogRecord};
use terrace_telemetry::{Instance, Style, Telemetry, for_terminal, record_json};

use crate::certificates::Keyring;
use crate::compile::{self, edge::Parts, fleet::Neighbours};
use crate::control::Remote;
use crate::file::{self, Loaded, Resolved, Tls};
use crate::identity::{Identity, IdentityError};
use crate::rotation::Upstreams;
use crate::services::Services;
use crate::state::State;

/// Where the configuration comes from.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// A file, with the overlay of that name.
    File(PathBuf, Option<String>),
    /// The command after `--`.
    Command(Vec<String>),
}

/// Why Terrace did not start, or a file was not taken into use. What ran runs on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpError {
    #[error("{0}")]
    File(file::Problems),
    #[error("cannot use the state folder {}: {error}{}", folder.display(), advice(error))]
    State { folder: PathBuf, error: io::Error },
    #[error(
        "[otlp]: `export` leads to {to}, where Terrace itself takes the app's telemetry in: it would go round in a circle; name the collector's address"
    )]
    OtlpLoop { to: String },
    #[error("cannot start the threads of the data plane: {0}")]
    Threads(io::Error),
    #[error(transparent)]
    Telemetry(#[from] terrace_telemetry::BuildError),
    #[error("[admin]: {0}")]
    AdminConfig(#[from] compile::admin::AdminError),
    #[error(transparent)]
    Admin(#[from] terrace_admin::BuildError),
    #[error(transparent)]
    Upstream(#[from] terrace_upstream::BuildError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Limits(#[from] terrace_limits::BuildError),
    #[error("[acme]: {0}")]
    Acme(#[from] terrace_acme::BuildError),
    #[error("[listen.{listener}]: {error}")]
    Tls { listener: String, error: Box<dyn std::error::Error + Send + Sync> },
    #[error(transparent)]
    Edge(#[from] terrace_edge::EdgeError),
    #[error(transparent)]
    FleetBuild(#[from] terrace_fleet::BuildError),
    #[error(transparent)]
    Fleet(#[from] terrace_fleet::Error),
    #[error("service {service} did not start: {reason}{output}")]
    NotReady { service: String, reason: String, output: String },
}

/// Whose it is to put right, where what the system says leaves that open.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; give it to the user who runs Terrace (chown), or name another folder with `state` in [terrace]"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "; name a folder that can be written with `state` in [terrace], or make that file system writable (under systemd: ReadWritePaths=)"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room on that disk",
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => "; it must be a folder",
        _ => "",
    }
}

impl Origin {
    /// Reads the configuration anew.
    pub(crate) fn read(&self) -> Result<Loaded, UpError> {
        let read = match self {
            Self::File(path, env) => file::load_here(path, env.as_deref()),
            Self::Command(command) => Loaded::for_command(command),
        };
        read.map_err(UpError::File)
    }
}

/// A running Terrace.
pub(crate) struct Running {
    pub(crate) origin: Origin,
    pub(crate) log: Log,
    pub(crate) edge: Edge,
    pub(crate) services: Arc<Services>,
    pub(crate) fleet: terrace_fleet::Handle,
    pub(crate) telemetry: terrace_telemetry::Handle,
    pub(crate) identity: Identity,
    pub(crate) started_at: Duration,
    /// Set once all components stand.
    pub(crate) admin: std::sync::OnceLock<terrace_admin::Handle>,
    pub(crate) stop: Drainer,
    pub(crate) last_map: crate::map::Last,
    state: State,
    style: Style,
    in_force: Mutex<Arc<InForce>>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
    keyring: Arc<Keyring>,
    limits: Limits,
}

/// The configuration that is served, and what was chosen for it.
pub(crate) struct InForce {
    pub(crate) resolved: Resolved,
    /// The same, each value with where it was written, to be shown: the file may say something else by now.
    pub(crate) written: Arc<serde_json::Value>,
    pub(crate) internal: BTreeMap<String, SocketAddr>,
    /// Where the app's own telemetry is taken in, if anywhere.
    pub(crate) otlp: Option<SocketAddr>,
}

impl InForce {
    /// Before anything is served.
    fn nothing_yet(resolved: &Resolved, otlp: Option<SocketAddr>) -> Self {
        Self { resolved: resolved.clone(), written: Arc::default(), internal: BTreeMap::new(), otlp }
    }

    fn neighbours(&self) -> Neighbours<'_> {
        Neighbours { internal: &self.internal, otlp: self.otlp, inherits: &is_set_here }
    }
}

/// Whether Terrace's own environment, which instances inherit, has a variable.
fn is_set_here(name: &str) -> bool {
    std::env::var_os(name).is_some()
}

/// What runs beside the requests, to be waited for at the end.
pub(crate) struct Tasks {
    telemetry: Telemetry,
    observing: tokio::task::JoinHandle<()>,
    observing_drain: Drainer,
    fleet: tokio::task::JoinHandle<()>,
    fleet_drain: Drainer,
    admin: tokio::task::JoinHandle<Claim>,
    admin_drain: Drainer,
    acme: tokio::task::JoinHandle<()>,
    acme_drain: Drainer,
    /// What checks proofs, and what follows the API keys.
    identity: [tokio::task::JoinHandle<()>; 2],
    identity_drain: Drainer,
    limits: tokio::task::JoinHandle<()>,
    limits_drain: Drainer,
}

/// Builds every component, connects them and takes the configuration into use. When it fails, nothing was started.
pub(crate) async fn start(
    origin: Origin,
    style: Style,
    stop: Drainer,
) -> Result<(Arc<Running>, Tasks), UpError> {
    let loaded = origin.read()?;
    let resolved = &loaded.resolved;
    let Ground { state, otlp, cores, meter, telemetry, log } = lay_ground(resolved, style)?;

    let edge = Edge::build(cores, meter.clone(), &log, &telemetry.tracer());
    let services = build_services(&state, &meter, &log)?;
    let rotation = Arc::new(Upstreams { services: Arc::clone(&services), edge: edge.clone() });
    let (fleet, fleet_handle) = build_fleet(resolved, &state, rotation, &meter, &log)?;
    let acme = Acme::build(&meter, &log);
    let (identity, checking) = Identity::open(&state, &log, &meter)?;
    let limits = build_limits(&state, &meter, &log)?;
    let keyring = Keyring::new(state.clone(), log.clone(), acme.handle());

    let running = Arc::new(Running {
        origin,
        log,
        edge,
        services,
        fleet: fleet_handle,
        telemetry: telemetry.handle(),
        identity,
        started_at: clock::now(),
        admin: std::sync::OnceLock::new(),
        stop,
        last_map: crate::map::Last::default(),
        state,
        style,
        in_force: Mutex::new(Arc::new(InForce::nothing_yet(resolved, otlp))),
        changing: tokio::sync::Mutex::default(),
        keyring,
        limits: limits.clone(),
    });
    let admin = running.build_admin(resolved, &telemetry)?;
    running.serve(&loaded, otlp).await?;
    let identity = (checking, running.identity.keys.clone());
    let tasks = Tasks::spawn(telemetry, fleet, admin, acme, identity, limits);
    tokio::spawn(tell_instances(running.fleet.clone(), running.telemetry.clone()));
    tokio::spawn(watch_overload(running.edge.clone()));
    running.fleet.apply(running.fleet_services(resolved)).await?;
    Ok((running, tasks))
}

/// What every component stands on.
struct Ground {
    state: State,
    /// Where the app's own telemetry is taken in, if anywhere.
    otlp: Option<SocketAddr>,
    cores: threads::Cores,
    meter: Meter,
    telemetry: Telemetry,
    log: Log,
}

fn lay_ground(resolved: &Resolved, style: Style) -> Result<Ground, UpError> {
    let folder = &resolved.terrace.state_folder;
    let refused = |error| UpError::State { folder: folder.clone(), error };
    let state = State::open(folder).map_err(refused)?;
    // Before anything in it is read, or changed under another Terrace.
    terrace_admin::check_state_folder(state.folder())?;
    let otlp = otlp_address(resolved, &state, None)?;
    let threads = resolved.terrace.threads.map_or_else(threads::available_cores, |count| count as usize);
    let meter = Meter::new(threads);
    let config = compile::telemetry::config(resolved, style, otlp, state.folder());
    let telemetry = Telemetry::build(config, meter.clone())?;
    let log = telemetry.log();
    let cores = threads::Cores::start(threads).map_err(UpError::Threads)?;
    Ok(Ground { state, otlp, cores, meter, telemetry, log })
}

/// Lets the edge know how hard pressed this machine is, for as long as there is anything to shed.
async fn watch_overload(edge: Edge) {
    let (_never_asked, drain) = drain::channel();
    let memory = || terrace_telemetry::own_memory_share().map(Share::from_ratio);
    edge.watch_overload(memory, drain).await;
}

/// Where the app's own telemetry is taken in. `open`: where it is by now.
fn otlp_address(
    resolved: &Resolved,
    state: &State,
    open: Option<SocketAddr>,
) -> Result<Option<SocketAddr>, UpError> {
    let Some(wanted) = resolved.otlp.receive else { return Ok(None) };
    let refused = |error| UpError::State { folder: state.folder().to_owned(), error };
    let address = state.otlp_address(wanted, open).map_err(refused)?;
    match resolved.otlp.export.as_ref().filter(|export| export.leads_to(address)) {
        Some(export) => Err(UpError::OtlpLoop { to: export.to.clone() }),
        None => Ok(Some(address)),
    }
}

fn build_services(state: &State, meter: &Meter, log: &Log) -> Result<Arc<Services>, UpError> {
    let refused = |error| UpError::State { folder: state.folder().to_owned(), error };
    let key = state.identity_key().map_err(refused)?;
    Ok(Arc::new(Services::new(meter.clone(), log.clone(), key)))
}

fn build_limits(state: &State, meter: &Meter, log: &Log) -> Result<Limits, UpError> {
    let folder = Some(state.folder().join("limits"));
    Ok(Limits::build(LimitsConfig { folder, ..LimitsConfig::default() }, meter, log)?)
}

fn build_fleet(
    resolved: &Resolved,
    state: &State,
    rotation: Arc<Upstreams>,
    meter: &Meter,
    log: &Log,
) -> Result<(Fleet, terrace_fleet::Handle), UpError> {
    let shim = vec!["/proc/self/exe".to_owned(), "shim".to_owned()];
    let mut config = terrace_fleet::Config::new(state.folder().to_owned(), shim);
    config.drain = resolved.terrace.drain;
    // A variable that holds a secret is for the one who names it, not for every app.
    let secret = compile::secrets::variables(resolved);
    config.environment.retain(|(name, _)| !name.to_str().is_some_and(|name| secret.contains(name)));
    Ok(terrace_fleet::build(config, rotation, meter, log.clone())?)
}

impl Running {
    fn build_admin(self: &Arc<Self>, resolved: &Resolved, telemetry: &Telemetry) -> Result<Admin, UpError> {
        let config = compile::admin::config(&resolved.admin, &self.state)?;
        let control = Arc::new(Remote(Arc::clone(self)));
        let admin = Admin::build(config, control, telemetry.handle(), self.log.clone())?;
        let _set_once = self.admin.set(admin.handle());
        Ok(admin)
    }

    /// The configuration in force.
    pub(crate) fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Serves requests as `loaded` says: all that can be refused is tried first, then everything changes.
    async fn serve(&self, loaded: &Loaded, otlp: Option<SocketAddr>) -> Result<(), UpError> {
        let resolved = &loaded.resolved;
        let refused = |error| UpError::State { folder: self.state.folder().to_owned(), error };
        let before = self.in_force();
        let internal =
            self.state.internal_addresses(&resolved.services, &before.internal).map_err(refused)?;
        let written = Arc::new(loaded.to_json());
        let in_force = Arc::new(InForce { resolved: resolved.clone(), written, internal, otlp });
        self.fleet.check(&compile::fleet::services(resolved, &in_force.neighbours()))?;
        let prepared = self.services.prepare(resolved)?;
        let keys = self.keyring.prepare(resolved).await?;
        let identity = self.identity.prepare(resolved, &in_force.internal)?;
        let limits = self.limits.prepare(compile::limit::specs(resolved));
        let parts = Parts {
            identity: &identity,
            limits: (&limits, &self.limits.of_keys()),
            upstreams: &prepared.upstreams,
            certificates: &keys.certificates,
            issuer: keys.issuer.as_ref(),
            internal: &in_force.internal,
        };
        self.edge.apply(compile::edge::config(resolved, &parts)).await?;
        self.limits.commit(limits);
        self.keyring.commit(keys);
        self.services.commit(resolved, prepared)?;
        *self.in_force.lock().unwrap_or_else(PoisonError::into_inner) = in_force;
        Ok(())
    }

    fn fleet_services(&self, resolved: &Resolved) -> Vec<terrace_fleet::ServiceConfig> {
        compile::fleet::services(resolved, &self.in_force().neighbours())
    }

    /// Reads the configuration anew and takes it into use, whole or not at all; says what changed.
    pub(crate) async fn reload(&self) -> Result<Vec<file::Change>, UpError> {
        let _one_at_a_time = self.changing.lock().await;
        let loaded = self.origin.read()?;
        let resolved = &loaded.resolved;
        let changes = file::diff(&self.in_force().resolved, resolved);
        self.warn_of_what_needs_a_restart(resolved);
        let before = self.in_force();
        let otlp = otlp_address(resolved, &self.state, before.otlp)?;
        self.apply_around(resolved, otlp)?;
        if let Err(error) = self.serve(&loaded, otlp).await {
            if let Err(more) = self.apply_around(&before.resolved, before.otlp) {
                let event = Event::new(Level::Error, "reload.not_undone").field("problem", more.to_string());
                self.log.emit(event.message("[log] and [admin] are as the refused file wants them"));
            }
            return Err(error);
        }
        self.fleet.apply(self.fleet_services(resolved)).await?;
        self.log.emit(Event::new(Level::Info, "reload.done").message(file::summary(&changes)));
        self.hint(&before.resolved.hints());
        Ok(changes)
    }

    /// Changes what telemetry does and `[admin]`, both or neither. They come before what requests meet, since they can be undone
    /// without anybody noticing.
    fn apply_around(&self, resolved: &Resolved, otlp: Option<SocketAddr>) -> Result<(), UpError> {
        let admin = compile::admin::config(&resolved.admin, &self.state)?;
        self.telemetry.apply(self.telemetry_config(resolved, otlp))?;
        let Some(Err(error)) = self.admin.get().map(|handle| handle.apply(admin)) else { return Ok(()) };
        let before = self.in_force();
        self.telemetry.apply(self.telemetry_config(&before.resolved, before.otlp))?;
        Err(error.into())
    }

    fn telemetry_config(&self, resolved: &Resolved, otlp: Option<SocketAddr>) -> terrace_telemetry::Config {
        compile::telemetry::config(resolved, self.style, otlp, self.state.folder())
    }

    /// What was chosen at the start stays until the next one.
    fn warn_of_what_needs_a_restart(&self, resolved: &Resolved) {
        let now = &self.in_force().resolved.terrace;
        for (key, changed) in [
            ("terrace.threads", now.threads != resolved.terrace.threads),
            ("terrace.state", now.state_folder != resolved.terrace.state_folder),
        ] {
            if changed {
                let event = Event::new(Level::Warn, "reload.needs_restart").field("key", key);
                self.log.emit(event.message("takes effect when Terrace is started anew"));
            }
        }
    }

    /// Waits until every service that Terrace runs is ready, and says which one cannot get there: in a crash loop, or not
    /// ready within its own time. One that ends because its neighbour is not up yet is started again, as later too.
    pub(crate) async fn all_ready(&self) -> Result<(), UpError> {
        /// How often the time is looked at.
        const LOOK: Duration = Duration::from_millis(200);
        let mut changes = self.fleet.changes();
        loop {
            let services = self.fleet.status().await.services;
            if let Some(failed) = services.iter().find(|service| self.has_failed_to_start(service)) {
                return Err(self.not_ready(failed).await);
            }
            if services.iter().all(|service| service.state == ServiceState::Running) {
                return Ok(());
            }
            let _looked_again = tokio::time::timeout(LOOK, changes.changed()).await;
        }
    }

    fn has_failed_to_start(&self, service: &ServiceStatus) -> bool {
        let is_stuck = matches!(service.state, ServiceState::RolloutFailed | ServiceState::CrashLoop);
        let within = match self.in_force().resolved.services.get(&service.name).map(|found| &found.source) {
            Some(file::Source::Run(program)) => program.ready.within,
            _ => Duration::MAX,
        };
        let is_late = clock::now().saturating_sub(self.started_at) > within;
        service.ready == 0 && service.desired > 0 && (is_stuck || is_late)
    }

    async fn not_ready(&self, service: &ServiceStatus) -> UpError {
        let output = self.last_output(service.name.clone()).await;
        let last_exit = service.instances.iter().find_map(|instance| instance.last_exit.clone());
        let reason =
            service.reason.clone().or(last_exit).unwrap_or_else(|| service.state.as_str().to_owned());
        UpError::NotReady { service: service.name.clone(), reason, output }
    }

    /// The last lines that a service printed, each on a line of its own.
    async fn last_output(&self, service: String) -> String {
        const LINES_MAX: usize = 20;
        const RECORDS_MAX: usize = 200;
        const WRITTEN_WITHIN: Duration = Duration::from_secs(1);
        let telemetry = self.telemetry.clone();
        let read = tokio::task::spawn_blocking(move || {
            let _what_is_there_will_do = telemetry.flush(WRITTEN_WITHIN);
            telemetry.records(&LogFilter { service: Some(service), ..LogFilter::default() }, RECORDS_MAX)
        });
        let mut records = read.await.unwrap_or_default();
        records.retain(|record| record.is_app);
        let lines = records[records.len().saturating_sub(LINES_MAX)..].iter();
        let text = |record: &LogRecord| match record.message.is_empty() {
            true => record_json(record),
            false => record.message.clone(),
        };
        lines.map(|record| format!("\n  | {}", for_terminal(&text(record), false))).collect()
    }

    /// What is not ready yet; empty when everything is.
    pub(crate) fn not_available(&self) -> Vec<String> {
        let upstreams = self.services.upstreams();
        let waiting = upstreams.iter().filter(|upstream| !upstream.is_available());
        waiting
            .map(|upstream| format!("service {} has no endpoint that is ready", upstream.service()))
            .collect()
    }

    /// Where clients of a listener can connect: with the true port where the file leaves it to the system.
    pub(crate) fn urls(&self, listener: &file::Listener) -> Vec<String> {
        let scheme = if listener.tls == Tls::Off { "http" } else { "https" };
        let bound = |address| self.edge.bound(&listener.name, address).unwrap_or(address);
        listener.addresses.iter().map(|address| format!("{scheme}://{}", bound(*address))).collect()
    }

    /// Tells what is hardly meant in the file that is in force, but for what was told before.
    fn hint(&self, told: &[String]) {
        for hint in self.in_force().resolved.hints().into_iter().filter(|hint| !told.contains(hint)) {
            self.log.emit(Event::new(Level::Warn, "file.hint").message(hint));
        }
    }

    /// Says where clients can connect.
    pub(crate) fn announce(&self) {
        for listener in self.in_force().resolved.listeners.values() {
            for url in self.urls(listener) {
                let event = Event::new(Level::Info, "listening").field("listener", listener.name.as_str());
                self.log.emit(event.message(url));
            }
        }
        if let Some(address) = self.admin.get().and_then(|admin| admin.addresses().loopback) {
            let event = Event::new(Level::Info, "dashboard").field("address", address.to_string());
            self.log.emit(event.message("`terrace dashboard` opens it"));
        }
        self.hint(&[]);
        self.log.emit(Event::new(Level::Info, "ready").message("every service is ready"));
    }

    /// Lets requests finish, then stops what Terrace runs, then Terrace.
    pub(crate) async fn end(&self, tasks: Tasks) {
        let drain = self.in_force().resolved.terrace.drain;
        if let Some(admin) = self.admin.get() {
            admin.set_draining();
        }
        self.log.emit(Event::new(Level::Info, "stopping").message("requests in flight finish first"));
        let until = clock::now() + drain;
        self.edge.drain(drain).await;
        let _ended_already = self.fleet.stop_all(until.saturating_sub(clock::now())).await;
        tasks.end(&self.log).await;
    }
}

/// Tells telemetry which instances there are, each time that changes, until the fleet is gone.
async fn tell_instances(fleet: terrace_fleet::Handle, telemetry: terrace_telemetry::Handle) {
    let mut changes = fleet.changes();
    loop {
        let services = fleet.status().await.services;
        telemetry.set_instances(services.iter().flat_map(instances).collect());
        if changes.changed().await.is_err() {
            return;
        }
    }
}

fn instances(service: &ServiceStatus) -> impl Iterator<Item = Instance> + use<'_> {
    let name: Arc<str> = service.name.as_str().into();
    service.instances.iter().map(move |instance| Instance {
        service: Arc::clone(&name),
        name: instance.name.as_str().into(),
        pid: instance.pid,
        address: instance.port.map(|port| SocketAddr::from(([127, 0, 0, 1], port))),
    })
}

impl Tasks {
    fn spawn(
        telemetry: Telemetry,
        fleet: Fleet,
        admin: Admin,
        acme: Acme,
        identity: (AuthTask, Keys),
        limits: Limits,
    ) -> Self {
        let (fleet_drain, drain): (Drainer, Drain) = drain::channel();
        let fleet = tokio::spawn(fleet.run(drain));
        let (admin_drain, drain): (Drainer, Drain) = drain::channel();
        let admin = tokio::spawn(admin.run(drain));
        let (observing_drain, drain): (Drainer, Drain) = drain::channel();
        let observing = tokio::spawn(telemetry.handle().run(drain));
        let (acme_drain, drain): (Drainer, Drain) = drain::channel();
        let acme = tokio::spawn(acme.run(drain));
        let (identity_drain, drain): (Drainer, Drain) = drain::channel();
        let (checking, keys) =
            (tokio::spawn(identity.0.run(drain.clone())), tokio::spawn(identity.1.run(drain)));
        let identity = [checking, keys];
        let (limits_drain, drain): (Drainer, Drain) = drain::channel();
        let limits = tokio::spawn(limits.run(drain));
        Self {
            telemetry,
            observing,
            observing_drain,
            fleet,
            fleet_drain,
            admin,
            admin_drain,
            acme,
            acme_drain,
            identity,
            identity_drain,
            limits,
            limits_drain,
        }
    }

    async fn end(self, log: &Log) {
        self.acme_drain.request();
        self.identity_drain.request();
        self.limits_drain.request();
        self.fleet_drain.request();
        let _panicked = self.fleet.await;
        let _panicked = self.acme.await;
        for task in self.identity {
            let _panicked = task.await;
        }
        let _panicked = self.limits.await;
        log.emit(Event::new(Level::Info, "stopped").message("nothing is left running"));
        self.observing_drain.request();
        let _panicked = self.observing.await;
        self.admin_drain.request();
        if let Ok(claim) = self.admin.await {
            claim.until_exit();
        }
        self.telemetry.stop();
    }
}
