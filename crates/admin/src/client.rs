//! The other end of the Unix socket: what the command line speaks through.

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use tokio::net::UnixStream;

use crate::control::ControlError;
use crate::socket::{self, Short};

/// An answer larger than this is refused.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// A log line longer than this is refused.
const LINE_BYTES_MAX: usize = 1 << 20;
/// A Terrace that is alive takes a connection at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a command got no answer, or a bad one.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing listens: the user's to put right.
    #[error("no Terrace is running here: the socket {socket} {why}; start it with `terrace up`", socket = socket.display())]
    NotRunning {
        /// Where it was looked for.
        socket: PathBuf,
        /// What was found instead.
        why: &'static str,
    },
    /// Somebody else's.
    #[error("the socket {socket} belongs to another user; run the command as the user who runs Terrace, or as root", socket = socket.display())]
    NotYours {
        /// The socket.
        socket: PathBuf,
    },
    /// Terrace answered, and refused.
    #[error("{0}")]
    Refused(#[from] ControlError),
    /// The connection broke; whether the command was carried out is not known, `terrace status` tells.
    #[error("Terrace did not answer: {0}; see `terrace status`")]
    Broken(String),
}

/// For a query or a part of a path: what is not unreserved (RFC 3986, section 2.3) is written as `%XX`, so that a name can lead
/// nowhere else.
#[must_use]
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => write!(out, "%{byte:02X}").expect("a String takes everything"),
        }
    }
    out
}

/// Where the socket of a state folder is.
pub fn socket_path(state: &Path) -> PathBuf {
    state.join(socket::NAME)
}

/// Sends one command and waits for its end, however long that takes. `method` is `GET` or `POST`; an answer with
/// status 400 or above is [`ClientError::Refused`].
pub async fn request(
    socket: &Path,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, ClientError> {
    let mut answer = send(socket, method, path, body).await?;
    let whole = collect(&mut answer).await?;
    serde_json::from_slice(&whole).map_err(|error| broken(format!("its answer is no JSON ({error})")))
}

/// Blocks until the Terrace behind this socket has ended and another may be started in its state folder, which is
/// known by its lock: the system gives it free however its holder ends.
///
/// # Errors
/// The lock file cannot be opened, or a signal came in between.
pub fn wait_until_gone(socket: &Path) -> io::Result<()> {
    let lock = File::open(socket.with_file_name(socket::LOCK))?;
    Ok(flock(&lock, FlockOperation::LockShared)?)
}

/// Asks for a stream of lines.
pub async fn stream(socket: &Path, path: &str) -> Result<Lines, ClientError> {
    let body = send(socket, "GET", path, None).await?;
    Ok(Lines { body, buffer: BytesMut::new() })
}

/// Lines as they come.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    buffer: BytesMut,
}

impl Lines {
    /// The next line without its newline; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<String>, ClientError> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(searched + at);
                self.buffer.advance(1);
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
            searched = self.buffer.len();
            if searched > LINE_BYTES_MAX {
                return Err(broken("a line of the log is too long"));
            }
            match frame(&mut self.body).await? {
                Some(data) => self.buffer.extend_from_slice(&data),
                None if searched == 0 => return Ok(None),
                None => return Err(broken("the stream broke off within a line")),
            }
        }
    }
}

async fn send(
    socket: &Path,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<Incoming, ClientError> {
    let stream = connect(socket).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // Ends with the last answer; what goes wrong with it is seen by whoever reads that answer.
    tokio::spawn(connection);
    let request = build(method, path, body)?;
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status().as_u16();
    let mut answer = response.into_body();
    if status >= 400 {
        let whole = collect(&mut answer).await?;
        return Err(ControlError::read(status, &whole).into());
    }
    Ok(answer)
}

fn build(method: &str, path: &str, body: Option<&Value>) -> Result<Request<String>, ClientError> {
    let method = Method::from_bytes(method.as_bytes()).map_err(broken)?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close");
    let body = body.map(Value::to_string).unwrap_or_default();
    request.body(body).map_err(broken)
}

async fn connect(socket: &Path) -> Result<UnixStream, ClientError> {
    let not_running = |why| ClientError::NotRunning { socket: socket.to_owned(), why };
    let short = Short::of(socket).map_err(|_| not_running("does not exist"))?;
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, UnixStream::connect(&short.path));
    let Ok(connected) = connecting.await else {
        return Err(broken("it takes no connection; is it stopped or stuck?"));
    };
    connected.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => not_running("does not exist"),
        io::ErrorKind::ConnectionRefused => not_running("is left over from one that died"),
        io::ErrorKind::PermissionDenied => ClientError::NotYours { socket: socket.to_owned() },
        _ => broken(error),
    })
}

async fn collect(body: &mut Incoming) -> Result<Bytes, ClientError> {
    let mut whole = BytesMut::new();
    while let Some(data) = frame(body).await? {
        if whole.len() + data.len() > ANSWER_BYTES_MAX {
            return Err(broken("its answer is too large"));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

async fn frame(body: &mut Incoming) -> Result<Option<Bytes>, ClientError> {
    loop {
        let next = std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context)).await;
        match next {
            None => return Ok(None),
            Some(Err(error)) => return Err(broken(error)),
            Some(Ok(frame)) => {
                // Trailers say nothing here.
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

fn broken(why: impl ToString) -> ClientError {
    ClientError::Broken(why.to_string())
}
