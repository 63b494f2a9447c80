//! The edge as a component: its listeners open and close as the configuration says, and every core serves from the same
//! snapshot.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use terrace_instruments::{Log, Meter, Tracer};
use terrace_policy::{BreakerState, OverloadLaw, Share};
use terrace_runtime::clock;
use terrace_runtime::drain::{self, Drain, Drainer};
use terrace_runtime::sockets::Listening;
use terrace_runtime::threads::Cores;
use terrace_upstream::Shelf;
use tokio::sync::oneshot;

use crate::config::{Config, Listener};
use crate::core::Core;
use crate::fault::FaultBoard;
use crate::listener::{self, Shared};
use crate::metrics;
use crate::overload::{self, Overload, Signs};
use crate::snapshot::{Registry, Snapshot};

/// How often a core looks after its idle connections.
const SWEEP: Duration = Duration::from_secs(1);

/// Why a configuration could not be taken into use. What ran before runs on.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// An address could not be listened on.
    #[error("listener {listener} cannot listen on {address}: {error}{}", advice(error))]
    Listen {
        /// The listener.
        listener: String,
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        error: io::Error,
    },
    /// Routes contradict each other.
    #[error("the routes contradict each other: {}", .0.join("; "))]
    Routes(Vec<String>),
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another program listens there: stop it or choose another port",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
        _ => "",
    }
}

/// The edge. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Edge(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    cores: Cores,
    meter: Meter,
    overload: Arc<Overload>,
    log: Log,
    state: Mutex<State>,
}

/// A listener's name and one of its addresses, as configured.
type Place = (String, SocketAddr);

/// What survives reloads.
#[derive(Debug)]
struct State {
    open: HashMap<Place, Open>,
    registry: Registry,
    next_id: u64,
    overload: Option<OverloadLaw>,
    /// Listeners that went away, by id.
    leaving: Vec<u64>,
    /// Ports of listeners that went away, each for as long as a socket of it is still open.
    closing: Vec<(u16, Weak<()>)>,
}

impl State {
    fn new(registry: Registry) -> Self {
        let (leaving, closing) = (Vec::new(), Vec::new());
        Self { open: HashMap::new(), registry, next_id: 0, overload: None, leaving, closing }
    }

    /// Whether this program listens on the port, be it with sockets that are about to close: who takes a listener out of
    /// the file and puts it back at once shall have it back.
    fn is_ours(&self, port: u16) -> bool {
        let is_closing =
            |(closing, sockets): &(u16, Weak<()>)| *closing == port && sockets.strong_count() > 0;
        self.open.values().any(|open| open.address.port() == port) || self.closing.iter().any(is_closing)
    }
}

/// A listener that accepts.
#[derive(Debug)]
struct Open {
    id: u64,
    /// With the port that was taken where the configuration asks for any.
    address: SocketAddr,
    drainer: Drainer,
    shared: Arc<Shared>,
    /// Held by each socket's task too.
    sockets: Arc<()>,
}

impl Edge {
    /// An edge without listeners on these cores; [`Edge::apply`] brings them.
    #[must_use]
    pub fn build(cores: Cores, meter: Meter, log: &Log, tracer: &Tracer) -> Self {
        let shelf = Shelf::new(cores.count());
        let overload = Overload::new(cores.count(), &meter);
        let mut registry = Registry::new(&meter, log);
        let faults = registry.faults.clone();
        let empty = Snapshot::build(Config::default(), &mut registry, &meter);
        let empty = Arc::new(empty.expect("invariant: no routes cannot contradict each other"));
        for index in 0..cores.count() {
            let (snapshot, shelf) = (Arc::clone(&empty), Arc::clone(&shelf));
            let told = (log.clone(), tracer.clone());
            let panics = metrics::panics(&meter);
            let overload = Arc::clone(&overload);
            // One of the cores looks after leases for all.
            let faults = (index == 0).then(|| faults.clone());
            cores.post(index, move || {
                let core = Core::install(snapshot, shelf, told, (panics, overload));
                tokio::task::spawn_local(Rc::clone(&core).look_after_waiting(index));
                tokio::task::spawn_local(async move {
                    loop {
                        tokio::time::sleep(SWEEP).await;
                        core.sweep();
                        if let Some(faults) = &faults {
                            faults.end_expired(clock::now());
                        }
                    }
                });
            });
        }
        let (log, state) = (log.clone(), Mutex::new(State::new(registry)));
        Self(Arc::new(Inner { cores, meter, overload, log, state }))
    }

    /// Takes another configuration into use: whole, or not at all. New addresses are listened on before anything is
    /// changed; then every core serves from the new snapshot; then addresses that are gone are let go.
    ///
    /// # Errors
    /// [`EdgeError`] when an address cannot be had or routes contradict each other; nothing has changed then.
    pub async fn apply(&self, config: Config) -> Result<(), EdgeError> {
        let opened = self.open_new(&config)?;
        let law = config.overload;
        let wanted: Vec<Place> = config.listeners.iter().flat_map(addresses).collect();
        let snapshot = {
            let mut state = self.state();
            Snapshot::build(config, &mut state.registry, &self.0.meter)
        };
        let snapshot = Arc::new(snapshot.map_err(contradictions)?);
        self.state().overload = law;
        self.on_every_core(move |core| core.set_snapshot(Arc::clone(&snapshot))).await;
        for (key, listening) in opened {
            self.accept(key, listening);
        }
        self.let_go(&wanted);
        Ok(())
    }

    /// Opens what is not open yet.
    fn open_new(&self, config: &Config) -> Result<Vec<(Place, Listening)>, EdgeError> {
        let state = self.state();
        let mut opened = Vec::new();
        for key in config.listeners.iter().flat_map(addresses).filter(|key| !state.open.contains_key(key)) {
            let (listener, address) = key.clone();
            // A port that is ours already may go from one listener to another, or to another address of this machine.
            let open = if state.is_ours(address.port()) { Listening::open_beside } else { Listening::open };
            let listening = open(address, self.0.cores.count()).map_err(|error| EdgeError::Listen {
                listener,
                address,
                error,
            })?;
            opened.push((key, listening));
        }
        Ok(opened)
    }

    fn accept(&self, key: Place, listening: Listening) {
        let mut state = self.state();
        state.next_id += 1;
        let (drainer, drain) = drain::channel();
        let id = state.next_id;
        let shared = Shared::new(id, &key.0);
        let sockets = Arc::new(());
        let open = Open {
            id,
            address: listening.address(),
            drainer,
            shared: Arc::clone(&shared),
            sockets: Arc::clone(&sockets),
        };
        state.open.insert(key, open);
        for (index, socket) in listening.into_sockets().into_iter().enumerate() {
            let (shared, drain, open) = (Arc::clone(&shared), drain.clone(), Arc::clone(&sockets));
            self.0.cores.post(index, move || {
                if let Some(core) = Core::here() {
                    tokio::task::spawn_local(async move {
                        listener::accept(core, socket, shared, drain).await;
                        drop(open);
                    });
                }
            });
        }
    }

    /// Stops accepting on addresses that are not wanted any more, and asks their connections to end after their requests.
    fn let_go(&self, wanted: &[Place]) {
        let mut state = self.state();
        state.closing.retain(|(_, sockets)| sockets.strong_count() > 0);
        let unwanted: Vec<_> = state.open.keys().filter(|key| !wanted.contains(key)).cloned().collect();
        for key in unwanted {
            let Some(open) = state.open.remove(&key) else { continue };
            open.drainer.request();
            state.leaving.push(open.id);
            state.closing.push((open.address.port(), Arc::downgrade(&open.sockets)));
            for index in 0..self.0.cores.count() {
                let id = open.id;
                self.0.cores.post(index, move || {
                    if let Some(core) = Core::here() {
                        core.ask_to_leave(id);
                    }
                });
            }
        }
    }

    /// What operators break on purpose.
    #[must_use]
    pub fn faults(&self) -> FaultBoard {
        self.state().registry.faults.clone()
    }

    /// What the breaker of a service is at: `closed` also where it has none; nothing for a service that is not known.
    #[must_use]
    pub fn breaker(&self, service: &str, now: Duration) -> Option<BreakerState> {
        self.state().registry.breaker(service, now)
    }

    /// The address on which a listener's first address is really listened on.
    #[must_use]
    pub fn address(&self, listener: &str) -> Option<SocketAddr> {
        let state = self.state();
        state.open.iter().find(|((name, _), _)| name == listener).map(|(_, open)| open.address)
    }

    /// Where a listener really listens for one of its configured addresses: the same place, but for port 0, which lets the
    /// system choose. `None`: it does not listen.
    #[must_use]
    pub fn bound(&self, listener: &str, configured: SocketAddr) -> Option<SocketAddr> {
        self.state().open.get(&(listener.to_owned(), configured)).map(|open| open.address)
    }

    /// Stops accepting, asks every connection to end after its request, and resolves when all have, or after `within`.
    pub async fn drain(&self, within: Duration) {
        self.let_go(&[]);
        let until = clock::now() + within;
        while self.connections_leaving().await > 0 && clock::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn connections_leaving(&self) -> usize {
        let ids = self.state().leaving.clone();
        let counts = self.on_every_core(move |core| ids.iter().map(|id| core.clients_of(*id)).sum::<usize>());
        counts.await.into_iter().sum()
    }

    /// Makes every core do at once what it does once a second: let go of idle connections to endpoints that take no more
    /// requests, and hand over the spans of traces that turned out to be kept.
    pub fn sweep(&self) {
        for index in 0..self.0.cores.count() {
            self.0.cores.post(index, || {
                if let Some(core) = Core::here() {
                    core.sweep();
                }
            });
        }
    }

    /// Watches how hard pressed this machine is, until asked to drain; on the control plane. `memory` tells how much of what
    /// this process could have it has, where that is known.
    pub async fn watch_overload(&self, memory: impl Fn() -> Option<Share>, drain: Drain) {
        let (overload, log) = (Arc::clone(&self.0.overload), self.0.log.clone());
        overload::watch(overload, self.clone(), memory, log, drain).await;
    }

    /// Runs `act` on every core and collects what it gives.
    async fn on_every_core<T: Send + 'static>(
        &self,
        act: impl Fn(&Core) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let mut answers = Vec::new();
        for index in 0..self.0.cores.count() {
            let (sender, answer) = oneshot::channel();
            let act = act.clone();
            self.0.cores.post(index, move || {
                if let Some(core) = Core::here() {
                    let _nobody_waits = sender.send(act(&core));
                }
            });
            answers.push(answer);
        }
        let mut given = Vec::new();
        for answer in answers {
            given.extend(answer.await.ok());
        }
        given
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Lists of listeners are whole after any panic.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Signs for Edge {
    fn law(&self) -> Option<OverloadLaw> {
        self.state().overload
    }

    fn connections(&self) -> Share {
        let state = self.state();
        let shares = state.open.values().map(|open| open.shared.open_share());
        shares.max().unwrap_or(Share::ZERO)
    }
}

fn addresses(listener: &Listener) -> impl Iterator<Item = Place> {
    listener.addresses.iter().map(|address| (listener.name.clone(), *address))
}

fn contradictions(problems: Vec<terrace_route::Problem>) -> EdgeError {
    EdgeError::Routes(problems.iter().map(ToString::to_string).collect())
}
