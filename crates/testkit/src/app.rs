//! An app that does what it is told, by the path of each request and by files in its folder.
//!
//! It runs as a process of its own ([`App::serve_as_process`]), as a service's instance does, or on a thread of the test
//! ([`App::start`]), as an endpoint that Terrace does not run.
//!
//! | path | what it does |
//! |---|---|
//! | `/` | greets |
//! | `/health` | 200; 503 while a file `unwell` or `unwell-NAME` is in the folder |
//! | `/metrics` | its own metrics, as a Prometheus reads them |
//! | `/seen` | tells as JSON what it was asked, how, and by whom |
//! | `/upload` | reads the body and tells its length and [`fingerprint`] |
//! | `/pattern?gate=X` | reads the body, when there is a file `gate-X`, and tells its length and whether it is [`pattern`](wire::pattern) |
//! | `/mirror` | sends the body back, chunked, with its length in a trailer |
//! | `/download?bytes=N` | sends so many bytes |
//! | `/status?code=N` | answers so |
//! | `/hold?gate=X` | leaves a file `at-X`, and answers when there is a file `gate-X` |
//! | `/events?gate=X` | server-sent events, the second one when there is a file `gate-X` |
//! | `/early?code=N` | answers before the body has come, and closes |
//! | `/garbage?kind=K` | what no proxy may pass on |
//! | `/ws` | a WebSocket that sends texts back |
//! | `/print?line=L` | prints it |
//! | `/env?name=N` | tells a variable |
//! | `/call?url=N&path=P` | asks for P at the URL that the variable N has, and answers as that did, or with the status `else` |
//! | `/exit?code=N` | ends the process |
//!
//! While a file `failing` or `failing-NAME` is in the folder, everything but `/health` is answered with 500. `APP_MODE` in
//! the environment makes a process that is `never-ready`, or that ends at once (`exit`).

mod answers;
mod serve;
mod sha1;
pub(crate) mod wire;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use wire::{fingerprint, pattern};

/// The variable that names the folder, and by which a process is known as an app.
pub(crate) const FOLDER_VARIABLE: &str = "TESTKIT_FOLDER";

/// An app on threads of this process. It is down when this is dropped.
#[derive(Debug)]
pub struct App {
    shared: Arc<Shared>,
    address: SocketAddr,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    /// Requests that began, health checks aside.
    requests: AtomicU64,
    is_down: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

impl App {
    /// Starts one on a free port of loopback.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn start(name: &str, folder: &Path) -> Self {
        Self::start_at(name, folder, (Ipv4Addr::LOCALHOST, 0).into())
    }

    /// Starts one there.
    ///
    /// # Panics
    /// When that cannot be listened on.
    #[must_use]
    pub fn start_at(name: &str, folder: &Path, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).expect("the app's port is free");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared::new(name, folder));
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, &accepting));
        Self { shared, address }
    }

    /// Serves as a process of its own until it is killed, as the environment says. Returns at once when the
    /// environment says nothing.
    ///
    /// # Errors
    /// When the port cannot be listened on.
    pub fn serve_as_process() -> io::Result<()> {
        let variable = |name| std::env::var(name).ok();
        let (Some(folder), Some(name)) = (variable(FOLDER_VARIABLE), variable("TERRACE_INSTANCE")) else {
            return Ok(());
        };
        match variable("APP_MODE").as_deref() {
            Some("exit") => {
                answers::print("the ledger is locked, giving up");
                std::process::exit(3);
            }
            Some("never-ready") => loop {
                std::thread::park();
            },
            _ => {}
        }
        let port =
            variable("PORT").and_then(|port| port.parse::<u16>().ok()).ok_or(io::ErrorKind::InvalidInput)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        answers::print(&format!("{name} listens"));
        accept(&listener, &Arc::new(Shared::new(&name, Path::new(&folder))));
        Ok(())
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests came, health checks and fetches of its metrics aside.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.shared.is_down.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts, which then lets the port go.
        let _gone_already = TcpStream::connect(self.address);
        for stream in self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _closed_already = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Shared {
    fn new(name: &str, folder: &Path) -> Self {
        Self {
            name: name.to_owned(),
            folder: folder.to_owned(),
            requests: AtomicU64::new(0),
            is_down: AtomicBool::new(false),
            connections: Mutex::default(),
        }
    }

    pub(crate) fn requests_counted(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether a file tells this app, or all, to be in `state`.
    pub(crate) fn is_told(&self, state: &str) -> bool {
        self.folder.join(state).exists() || self.folder.join(format!("{state}-{}", self.name)).exists()
    }

    fn keep(&self, stream: &TcpStream) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.extend(stream.try_clone());
        // An endpoint of a long test sees many; the oldest are long closed.
        if connections.len() > 512 {
            connections.drain(..256);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.is_down.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(served) = stream.try_clone() else { continue };
        shared.keep(&stream);
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            // That a client goes away is its own affair.
            let _client_gone = serve::connection(served, &shared);
            // What is kept of it for the app's end would hold it open.
            let _closed_already = stream.shutdown(std::net::Shutdown::Both);
        });
    }
}
