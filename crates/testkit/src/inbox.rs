//! Somebody who is told things by POST: a webhook, or a collector. It keeps what came, and takes it, refuses it or never
//! answers, as the test says at the moment.

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::app::wire::Wire;

/// In the place of a status: there is no answer.
const SILENCE: u16 = 0;

/// A server on threads of this process. It is down when this is dropped.
#[derive(Debug)]
pub struct Inbox {
    shared: Arc<Shared>,
    address: SocketAddr,
}

#[derive(Debug)]
struct Shared {
    status: AtomicU16,
    is_down: AtomicBool,
    letters: Mutex<Vec<Letter>>,
    connections: Mutex<Vec<TcpStream>>,
}

/// What somebody sent.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Where to.
    pub path: String,
    /// Header fields in their order.
    pub fields: Vec<(String, String)>,
    /// The body without its framing.
    pub body: Vec<u8>,
}

impl Letter {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

impl Inbox {
    /// Starts one on a free port of loopback that takes everything.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn open() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            status: AtomicU16::new(200),
            is_down: AtomicBool::new(false),
            letters: Mutex::default(),
            connections: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, &accepting));
        Self { shared, address }
    }

    /// Starts one that takes what comes and never answers.
    #[must_use]
    pub fn that_hangs() -> Self {
        let inbox = Self::open();
        inbox.answer(SILENCE);
        inbox
    }

    /// Answers with this status from now on.
    pub fn answer(&self, status: u16) {
        self.shared.status.store(status, Ordering::SeqCst);
    }

    /// `http://127.0.0.1:…`, without a slash behind it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All that came, in its order; also what was refused or not answered.
    #[must_use]
    pub fn letters(&self) -> Vec<Letter> {
        lock(&self.shared.letters).clone()
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.shared.is_down.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts, which then lets the port go.
        let _gone_already = TcpStream::connect(self.address);
        for stream in lock(&self.shared.connections).drain(..) {
            let _closed_already = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.is_down.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        lock(&shared.connections).extend(stream.try_clone());
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            let _sender_gone = shared.serve(&stream);
            // What is kept of it for the end would hold it open.
            let _closed_already = stream.shutdown(Shutdown::Both);
        });
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        let mut wire = Wire::new(stream.try_clone()?)?;
        while let Some(asked) = wire.next()? {
            let mut body = Vec::new();
            while let Some(piece) = wire.chunk()? {
                body.extend(piece);
            }
            let path = asked.path().to_owned();
            lock(&self.letters).push(Letter { path, fields: asked.fields, body });
            match self.status.load(Ordering::SeqCst) {
                // Until the sender gives up.
                SILENCE => return wire.stream.read_to_end(&mut Vec::new()).map(drop),
                status => {
                    let answer = format!("HTTP/1.1 {status} As Told\r\nContent-Length: 0\r\n\r\n");
                    wire.write(answer.as_bytes())?;
                }
            }
        }
        Ok(())
    }
}

/// A thread that panicked leaves a list that is whole.
fn lock<T>(list: &Mutex<Vec<T>>) -> MutexGuard<'_, Vec<T>> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}
