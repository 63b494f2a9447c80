//! The component: three faces, of which two come and go while it runs.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use axum::Router;
use terrace_instruments::Log;
use terrace_runtime::drain::{self, Drain, Drainer};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::audit::Audit;
use crate::config::{Config, Loopback};
use crate::control::Control;
use crate::dashboard::{self, Dashboard, Sessions};
use crate::serve::{Face, Gate, Listening};
use crate::socket::{Claim, Socket};
use crate::{api, probes};

/// Why the admin API could not be built or changed. What ran before runs on.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The user's to put right: one state folder serves one Terrace.
    #[error("Terrace is already running here, pid {pid} (state folder {state}); `terrace status` shows it, `terrace stop` ends it", state = state.display())]
    AlreadyRunning {
        /// The folder.
        state: PathBuf,
        /// Its holder, as far as known.
        pid: String,
    },
    /// The state folder cannot be used: the user's or the machine's fault.
    #[error("cannot {what} {path}: {source}", path = path.display())]
    State {
        /// What was tried.
        what: &'static str,
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The address cannot be listened on; a retry helps once it is free.
    #[error("cannot listen on {address} for {face}: {source}{}", advice(source))]
    Listen {
        /// `the admin API` or `probes`.
        face: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The state folder cannot change while Terrace runs.
    #[error("the state folder cannot change from {from} to {to} while Terrace runs; restart it", from = from.display(), to = to.display())]
    StateMoved {
        /// The folder in use.
        from: PathBuf,
        /// The one asked for.
        to: PathBuf,
    },
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program listens there, perhaps another Terrace: choose another for `address` or `probes` in [admin]"
        }
        _ => "",
    }
}

/// Where the faces listen; a port of 0 in the configuration is the true one here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Addresses {
    /// The control API.
    pub loopback: Option<SocketAddr>,
    /// The probes.
    pub probes: Option<SocketAddr>,
}

/// The admin API, listening but not yet answering.
#[derive(Debug)]
pub struct Admin {
    handle: Handle,
    socket: Socket,
    started: mpsc::UnboundedReceiver<Face>,
}

/// Changes the running admin API. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    api: Router,
    probes: Router,
    pages: Router,
    sessions: Arc<Sessions>,
    audit: Audit,
    draining: Arc<AtomicBool>,
    faces: Mutex<Faces>,
    /// To the running component. At most one message a change, so it needs no bound.
    start: mpsc::UnboundedSender<Face>,
}

/// What listens at present.
#[derive(Debug)]
struct Faces {
    config: Config,
    socket: Drainer,
    loopback: Option<OpenLoopback>,
    probes: Option<Open>,
}

#[derive(Debug)]
struct Open {
    bound: SocketAddr,
    close: Drainer,
}

#[derive(Debug)]
struct OpenLoopback {
    open: Open,
    settings: Arc<RwLock<Loopback>>,
}

impl Admin {
    /// Takes the state folder and opens all faces. Commands go to `control`; metrics come from `telemetry`; changes and
    /// refusals are told to `log`.
    pub fn build(
        config: Config,
        control: Arc<dyn Control>,
        telemetry: terrace_telemetry::Handle,
        log: Log,
    ) -> Result<Self, BuildError> {
        let (socket, listener) = Socket::open(&config.state)?;
        let audit = Audit::new(log, &telemetry.meter(), &config.state);
        let draining = Arc::new(AtomicBool::new(false));
        let sessions = Arc::new(Sessions::open(&config.state).map_err(|source| BuildError::State {
            what: "keep the key of sessions in",
            path: config.state.clone(),
            source,
        })?);
        let api = api::router(Arc::clone(&control), audit.clone(), Arc::clone(&sessions), telemetry.clone());
        let dashboard = Dashboard::new(Arc::clone(&control), telemetry.clone(), audit.clone(), &sessions);
        let pages = dashboard::router(dashboard);
        let probes = probes::router(control, telemetry, Arc::clone(&draining));
        let (start, started) = mpsc::unbounded_channel();
        let (close, closing) = drain::channel();
        let closed = Config { loopback: None, probes: None, ..config.clone() };
        let faces = Mutex::new(Faces { config: closed, socket: close, loopback: None, probes: None });
        let handle = Handle(Arc::new(Shared { api, probes, pages, sessions, audit, draining, faces, start }));
        let gate = Gate::Socket { own_uid: rustix::process::geteuid().as_raw() };
        handle.0.start(Listening::Unix(listener), gate, &handle.0.api, closing);
        handle.apply(config)?;
        Ok(Self { handle, socket, started })
    }

    /// For those who change it while it runs.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Answers until `drain` is asked for, which should be the last thing when Terrace stops: so that status and
    /// readiness can be asked while the rest drains. The socket is removed and the state folder free when what this returns is dropped.
    pub async fn run(mut self, mut drain: Drain) -> Claim {
        let mut serving = JoinSet::new();
        loop {
            tokio::select! {
                () = drain.requested() => break,
                Some(face) = self.started.recv() => {
                    serving.spawn(face.serve());
                }
                Some(_closed) = serving.join_next() => {}
            }
        }
        self.handle.0.close_all();
        while serving.join_next().await.is_some() {}
        Claim(self.socket)
    }
}

impl Handle {
    /// Opens, moves and closes faces so that they are as `config` says. On an error nothing has changed.
    pub fn apply(&self, config: Config) -> Result<(), BuildError> {
        let shared = &self.0;
        let mut faces = shared.faces();
        if config.state != faces.config.state {
            return Err(BuildError::StateMoved { from: faces.config.state.clone(), to: config.state });
        }
        // All that can fail comes first.
        let loopback_address = config.loopback.as_ref().map(Loopback::address);
        let old_loopback_address = faces.config.loopback.as_ref().map(Loopback::address);
        let any_port = config.loopback.as_ref().is_some_and(Loopback::takes_any_port);
        let choice = Choice { any_port, before: chosen_before(&config.state) };
        let loopback = rebind("the admin API", old_loopback_address, loopback_address, choice)?;
        let probes = rebind("probes", faces.config.probes, config.probes, Choice::default())?;
        shared.change_loopback(&mut faces, loopback, config.loopback.as_ref());
        let bound = faces.loopback.as_ref().map(|loopback| loopback.open.bound);
        if let Some(bound) = bound.filter(|bound| loopback_address != Some(*bound)) {
            remember_chosen(&config.state, bound);
        }
        shared.change_probes(&mut faces, probes);
        faces.config = config;
        Ok(())
    }

    /// Makes `/readyz` fail from now on: said when Terrace begins to stop, while it still answers everything.
    pub fn set_draining(&self) {
        self.0.draining.store(true, Relaxed);
    }

    /// Where the faces listen.
    pub fn addresses(&self) -> Addresses {
        let faces = self.0.faces();
        Addresses {
            loopback: faces.loopback.as_ref().map(|loopback| loopback.open.bound),
            probes: faces.probes.as_ref().map(|open| open.bound),
        }
    }
}

/// What becomes of a face's listener.
enum Rebind {
    Keep,
    Close,
    Open(TcpListener, SocketAddr),
}

/// What else will do where an address is not free, or leaves the port open.
#[derive(Clone, Copy, Default)]
struct Choice {
    any_port: bool,
    /// Where the face was the last time that we chose, so that who has it open finds it again after a restart.
    before: Option<SocketAddr>,
}

/// In the state folder: where the dashboard is when we choose.
const CHOSEN: &str = "dashboard.address";

fn chosen_before(state: &Path) -> Option<SocketAddr> {
    fs::read_to_string(state.join(CHOSEN)).ok()?.trim().parse().ok()
}

/// What cannot be kept is chosen anew the next time; that is no reason not to open.
fn remember_chosen(state: &Path, bound: SocketAddr) {
    let mut options = OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o600).open(state.join(CHOSEN));
    let _kept = opened.and_then(|mut file| writeln!(file, "{bound}"));
}

fn bind(address: SocketAddr, choice: Choice) -> io::Result<TcpListener> {
    if address.port() != 0 {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && choice.any_port => {}
            bound => return bound,
        }
    }
    match choice.before.filter(|before| before.ip() == address.ip()).map(TcpListener::bind) {
        Some(Ok(listener)) => Ok(listener),
        _ => TcpListener::bind(SocketAddr::new(address.ip(), 0)),
    }
}

fn rebind(
    face: &'static str,
    old: Option<SocketAddr>,
    new: Option<SocketAddr>,
    choice: Choice,
) -> Result<Rebind, BuildError> {
    let address = match new {
        _ if old == new => return Ok(Rebind::Keep),
        None => return Ok(Rebind::Close),
        Some(address) => address,
    };
    let failed = |source| BuildError::Listen { face, address, source };
    let listener = bind(address, choice).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok(Rebind::Open(listener, bound))
}

impl Shared {
    fn faces(&self) -> MutexGuard<'_, Faces> {
        match self.faces.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    fn change_loopback(&self, faces: &mut Faces, rebind: Rebind, config: Option<&Loopback>) {
        match (rebind, config) {
            (Rebind::Keep, Some(config)) => {
                if let Some(open) = &faces.loopback {
                    self.sessions.set_door(Some((config, open.open.bound)));
                    open.set(config.clone());
                }
            }
            (Rebind::Open(listener, bound), Some(config)) => {
                close(faces.loopback.take().map(|loopback| loopback.open));
                let settings = Arc::new(RwLock::new(config.clone()));
                let (close, closing) = drain::channel();
                self.sessions.set_door(Some((config, bound)));
                let gate = Gate::Loopback {
                    settings: Arc::clone(&settings),
                    bound,
                    sessions: Arc::clone(&self.sessions),
                    pages: self.pages.clone(),
                };
                self.start(Listening::Tcp(listener), gate, &self.api, closing);
                faces.loopback = Some(OpenLoopback { open: Open { bound, close }, settings });
            }
            _ => {
                self.sessions.set_door(None);
                close(faces.loopback.take().map(|loopback| loopback.open));
            }
        }
    }

    fn change_probes(&self, faces: &mut Faces, rebind: Rebind) {
        match rebind {
            Rebind::Keep => {}
            Rebind::Close => close(faces.probes.take()),
            Rebind::Open(listener, bound) => {
                close(faces.probes.take());
                let (close, closing) = drain::channel();
                self.start(Listening::Tcp(listener), Gate::Probes { bound }, &self.probes, closing);
                faces.probes = Some(Open { bound, close });
            }
        }
    }

    fn start(&self, listener: Listening, gate: Gate, router: &Router, closing: Drain) {
        let face = Face { listener, gate, router: router.clone(), audit: self.audit.clone(), closing };
        // Fails only after the end, when the face may as well be closed at once.
        let _ended = self.start.send(face);
    }

    fn close_all(&self) {
        let mut faces = self.faces();
        faces.socket.request();
        close(faces.loopback.take().map(|loopback| loopback.open));
        close(faces.probes.take());
        faces.config.loopback = None;
        faces.config.probes = None;
    }
}

fn close(open: Option<Open>) {
    if let Some(open) = open {
        open.close.request();
    }
}

impl OpenLoopback {
    fn set(&self, config: Loopback) {
        match self.settings.write() {
            Ok(mut settings) => *settings = config,
            Err(poisoned) => *poisoned.into_inner() = config,
        }
    }
}
