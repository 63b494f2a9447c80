//! Requests of several kinds, from several clients at once, each looked at: what came back, and of what did not, when and
//! from whom.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::app::fingerprint;
use crate::http::{Connection, Request, Response};
use crate::wait::{now, until_true};
use crate::websocket::WebSocket;

/// Between two requests of one client: so that a debug build on a small machine has breath left for what the test is
/// about.
const PACE: Duration = Duration::from_millis(3);
/// Sends and echoes over one WebSocket.
const ECHOES: u32 = 40;

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `GET`s over a connection that is kept.
    Get,
    /// `POST`s of some kilobytes, each over a connection of its own.
    Upload,
    /// WebSockets, each held for many messages.
    WebSocket,
}

/// What did not go well.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Of which client.
    pub kind: Kind,
    /// When the request was begun.
    pub began: Instant,
    /// When it had failed.
    pub ended: Instant,
    /// The instance, where the client got to know it.
    pub instance: Option<String>,
    /// What came instead.
    pub what: String,
}

/// What came of it all.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// `GET`s that were answered as they should.
    pub gets: u64,
    /// Uploads that arrived whole.
    pub uploads: u64,
    /// WebSockets that were opened, used and closed as they should.
    pub websockets: u64,
    /// All others.
    pub failures: Vec<Failure>,
}

/// Clients at work. They stop when this is dropped.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    stop: AtomicBool,
    tally: Mutex<Tally>,
}

impl Load {
    /// Sets so many clients of each kind to work, and returns when each kind has had its first success.
    ///
    /// # Panics
    /// When it does not come.
    #[must_use]
    pub fn start(address: SocketAddr, clients: &[(Kind, usize)]) -> Self {
        let shared = Shared { address, stop: AtomicBool::new(false), tally: Mutex::default() };
        let mut load = Self { shared: Arc::new(shared), clients: Vec::new() };
        for (kind, count) in clients {
            for number in 0..*count {
                let (shared, kind) = (Arc::clone(&load.shared), *kind);
                load.clients.push(std::thread::spawn(move || shared.work(kind, number)));
            }
        }
        load.wait_for_more(clients);
        load
    }

    /// Waits until more of each kind went well than had when this was called.
    ///
    /// # Panics
    /// When it does not come.
    pub fn wait_for_more(&self, kinds: &[(Kind, usize)]) {
        let before = self.tally();
        for (kind, _) in kinds.iter().filter(|(_, count)| *count > 0) {
            until_true("more requests have gone well", || self.tally().count(*kind) > before.count(*kind));
        }
    }

    /// How it stands.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.shared.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets every client finish what it is doing, and tells what came of it all.
    #[must_use]
    pub fn stop(mut self) -> Tally {
        self.end();
        self.tally()
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for client in self.clients.drain(..) {
            let _panicked = client.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

impl Tally {
    /// How many of a kind went well.
    #[must_use]
    pub fn count(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Get => self.gets,
            Kind::Upload => self.uploads,
            Kind::WebSocket => self.websockets,
        }
    }

    /// Nothing failed.
    ///
    /// # Panics
    /// When anything did.
    #[track_caller]
    pub fn assert_nothing_lost(&self) {
        let failed: Vec<String> = self.failures.iter().take(10).map(|failure| failure.what.clone()).collect();
        let (count, done) = (self.failures.len(), self.gets + self.uploads + self.websockets);
        assert!(failed.is_empty(), "{count} of {done} failed, such as: {failed:#?}");
    }
}

impl Shared {
    fn work(&self, kind: Kind, number: usize) {
        let mut connection = None;
        let mut turn = number as u64;
        while !self.stop.load(Ordering::SeqCst) {
            let began = now();
            let mut instance = None;
            let done = match kind {
                Kind::Get => self.get(&mut connection),
                Kind::Upload => self.upload(turn),
                Kind::WebSocket => self.websocket(&mut instance),
            };
            self.note(kind, began, instance, done);
            turn = turn.wrapping_add(1);
            std::thread::sleep(PACE);
        }
    }

    fn note(&self, kind: Kind, began: Instant, instance: Option<String>, done: io::Result<()>) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        match (done, kind) {
            (Ok(()), Kind::Get) => tally.gets += 1,
            (Ok(()), Kind::Upload) => tally.uploads += 1,
            (Ok(()), Kind::WebSocket) => tally.websockets += 1,
            (Err(error), _) => {
                let what = format!("{kind:?} of {}: {error}", instance.as_deref().unwrap_or("?"));
                tally.failures.push(Failure { kind, began, ended: now(), instance, what });
            }
        }
    }

    fn get(&self, kept: &mut Option<Connection>) -> io::Result<()> {
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => Connection::open(self.address)?,
        };
        let response = connection.exchange(&Request::get("/"))?;
        expect(response.status == 200 && response.text().starts_with("hello from"), &response)?;
        if !response.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            *kept = Some(connection);
        }
        Ok(())
    }

    fn upload(&self, turn: u64) -> io::Result<()> {
        let body: Vec<u8> = (0..2_000 + turn % 7 * 3_000).map(|at| (at * 31 + turn) as u8).collect();
        let expected = fingerprint(&body);
        let response = Request::post("/upload", body).try_send(self.address)?;
        expect(response.status == 200 && response.json()["fingerprint"] == expected, &response)
    }

    fn websocket(&self, instance: &mut Option<String>) -> io::Result<()> {
        let mut socket = WebSocket::open(self.address, "/ws")?;
        *instance = Some(socket.instance.clone());
        for number in 0..ECHOES {
            socket.echo(&format!("message {number}"))?;
            std::thread::sleep(PACE);
        }
        socket.close()
    }
}

fn expect(holds: bool, response: &Response) -> io::Result<()> {
    if holds {
        return Ok(());
    }
    let head = format!("status {} from {:?}: ", response.status, response.instance());
    Err(io::Error::other(head + &response.text()))
}
