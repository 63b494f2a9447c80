//! An issuer on a real socket, which behaves as it is told.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::house::set;

/// How the issuer answers when it is asked for its keys.
#[derive(Debug, Clone)]
pub(crate) enum Mood {
    /// With this set.
    Keys(String),
    /// With this text in the place of its discovery document.
    Document(String),
    /// With that status.
    Status(u16),
    /// Not at all.
    Silent,
    /// With a body that does not end.
    Endless,
    /// A byte now and then, for ever.
    Dripping,
}

pub(crate) struct Authority {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    mood: Mutex<Mood>,
    /// Times that the keys or the document were asked for.
    asked: AtomicUsize,
    is_over: AtomicBool,
}

impl Authority {
    pub(crate) fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(State {
            mood: Mutex::new(mood),
            asked: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            let mut served = Vec::new();
            while let Ok((stream, _)) = listener.accept() {
                if shared.is_over.load(Ordering::Acquire) {
                    break;
                }
                let state = Arc::clone(&shared);
                served.push(std::thread::spawn(move || serve(&state, address, stream)));
            }
            for one in served {
                one.join().expect("no panic");
            }
        });
        Self { address, state, thread: Some(thread) }
    }

    pub(crate) fn with_keys(keys: &[Value]) -> Self {
        Self::start(Mood::Keys(set(keys)))
    }

    /// Its name.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn be(&self, mood: Mood) {
        *self.state.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }

    pub(crate) fn asked(&self) -> usize {
        self.state.asked.load(Ordering::Acquire)
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Release);
        let _woken = TcpStream::connect(self.address);
        let thread = self.thread.take().expect("joined once");
        assert!(thread.join().is_ok() || std::thread::panicking());
    }
}

/// One request for each connection.
fn serve(state: &State, address: SocketAddr, stream: TcpStream) {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    if reader.read_line(&mut first).is_err() {
        return;
    }
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
        line.clear();
    }
    let stream = reader.get_mut();
    let mood = state.mood.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let is_document = first.contains("/.well-known/openid-configuration");
    let url = format!("http://{address}");
    let document = format!(r#"{{"issuer":"{url}","jwks_uri":"{url}/keys"}}"#);
    let text = match (&mood, is_document) {
        (Mood::Keys(_), true) => document,
        (Mood::Keys(keys), false) => keys.clone(),
        (Mood::Document(document), _) => document.clone(),
        (Mood::Status(status), _) => {
            state.asked.fetch_add(1, Ordering::AcqRel);
            let _gone =
                write!(stream, "HTTP/1.1 {status} Odd\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            return;
        }
        (Mood::Silent | Mood::Endless | Mood::Dripping, _) => {
            state.asked.fetch_add(1, Ordering::AcqRel);
            return hold(state, stream, &mood);
        }
    };
    // Before the answer is read, and the test goes on.
    if !is_document || matches!(mood, Mood::Document(_)) {
        state.asked.fetch_add(1, Ordering::AcqRel);
    }
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", text.len());
    let _gone = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(text.as_bytes()));
}

/// Until the other end has gone, or the test is over.
fn hold(state: &State, stream: &mut TcpStream, mood: &Mood) {
    const TICK: Duration = Duration::from_millis(5);
    if !matches!(mood, Mood::Silent) {
        let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"keys\":[");
    }
    let piece = if matches!(mood, Mood::Endless) { vec![b' '; 64 << 10] } else { b" ".to_vec() };
    stream.set_read_timeout(Some(TICK)).expect("a socket takes it");
    while !state.is_over.load(Ordering::Acquire) {
        let is_gone = match mood {
            Mood::Endless | Mood::Dripping => stream.write_all(&piece).is_err(),
            _ => false,
        };
        if is_gone || (!matches!(mood, Mood::Endless) && is_closed(stream)) {
            return;
        }
    }
}

/// Waits a moment for the other end to close.
fn is_closed(stream: &TcpStream) -> bool {
    match stream.peek(&mut [0]) {
        Ok(bytes) => bytes == 0,
        Err(error) => !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
    }
}
