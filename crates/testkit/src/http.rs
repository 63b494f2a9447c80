//! An HTTP/1.1 client that shows what came over the wire: interim responses, trailers, framing, and where it broke off.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::wait::DEADLINE;

/// A connection to a server. What it waits for has [`DEADLINE`].
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

/// A request without its framing.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

/// An answer, read to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Header fields in their order.
    pub fields: Vec<(String, String)>,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// Trailer fields of a chunked body.
    pub trailers: Vec<(String, String)>,
    /// The statuses of interim responses before it.
    pub interim: Vec<u16>,
}

impl Request {
    /// A request for `target`, with a `Host` unless one is added.
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        Self { method: method.to_owned(), target: target.to_owned(), fields: Vec::new(), body: None }
    }

    /// `GET`
    #[must_use]
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// `POST` with a body of known length.
    #[must_use]
    pub fn post(target: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { body: Some(body.into()), ..Self::new("POST", target) }
    }

    /// Adds a field.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// As it goes over the wire.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str("Host: localhost\r\n");
        }
        for (name, value) in &self.fields {
            let _infallible = write!(head, "{name}: {value}\r\n");
        }
        if let Some(body) = &self.body {
            let _infallible = write!(head, "Content-Length: {}\r\n", body.len());
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }

    /// Sends it over a connection of its own.
    ///
    /// # Panics
    /// When there is no whole answer.
    #[track_caller]
    #[must_use]
    pub fn send(&self, to: SocketAddr) -> Response {
        match self.try_send(to) {
            Ok(response) => response,
            Err(error) => panic!("{} {} at {to} was not answered: {error}", self.method, self.target),
        }
    }

    /// Sends it over a connection of its own.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub fn try_send(&self, to: SocketAddr) -> io::Result<Response> {
        let mut connection = Connection::open(to)?;
        connection.exchange(self)
    }
}

impl Response {
    /// The value of the first field of that name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        value(&self.fields, name)
    }

    /// The value of the first trailer of that name.
    #[must_use]
    pub fn trailer(&self, name: &str) -> Option<&str> {
        value(&self.trailers, name)
    }

    /// The instance of the app that answered.
    #[must_use]
    pub fn instance(&self) -> &str {
        self.field("x-instance").unwrap_or_default()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("status {} with no JSON ({error}): {}", self.status, self.text()),
        }
    }
}

fn value<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// As connecting has them.
    pub fn open(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to)?;
        // Two ends in one process tree on a port of the ephemeral range could meet themselves (RFC 9293 section 3.5).
        if stream.local_addr()? == to {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// As writing has them.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends a request and reads its answer; the connection can be used again.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub fn exchange(&mut self, request: &Request) -> io::Result<Response> {
        self.write(&request.to_bytes())?;
        self.read(&request.method)
    }

    /// Reads the answer to a request of `method`, after interim ones.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub fn read(&mut self, method: &str) -> io::Result<Response> {
        let mut response = self.read_head()?;
        if method != "HEAD" && !matches!(response.status, 101 | 204 | 304) {
            self.read_body(&mut response)?;
        }
        Ok(response)
    }

    /// Reads only the head of an answer, after interim ones; `101` is an answer.
    ///
    /// # Errors
    /// When there is no whole head.
    pub fn read_head(&mut self) -> io::Result<Response> {
        let mut interim = Vec::new();
        loop {
            let response = self.read_one_head()?;
            if !(100..200).contains(&response.status) || response.status == 101 {
                return Ok(Response { interim, ..response });
            }
            interim.push(response.status);
        }
    }

    /// Reads one head, interim or not.
    ///
    /// # Errors
    /// When there is no whole head.
    pub fn read_one_head(&mut self) -> io::Result<Response> {
        let line = self.read_line()?;
        let mut words = line.splitn(3, ' ');
        let status = match (words.next(), words.next().map(str::parse)) {
            (Some(version), Some(Ok(status))) if version.starts_with("HTTP/1.") => status,
            _ => return Err(io::Error::new(ErrorKind::InvalidData, format!("no status line: {line:?}"))),
        };
        Ok(Response { status, fields: self.read_fields()?, ..Response::default() })
    }

    fn read_fields(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.read_line()?;
            match line.split_once(':') {
                Some((name, value)) => fields.push((name.to_owned(), value.trim().to_owned())),
                None if line.is_empty() => return Ok(fields),
                None => return Err(io::Error::new(ErrorKind::InvalidData, format!("no field: {line:?}"))),
            }
        }
    }

    fn read_body(&mut self, response: &mut Response) -> io::Result<()> {
        let length = response.field("content-length").and_then(|text| text.parse().ok());
        if response.field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            while let Some(chunk) = self.read_chunk()? {
                response.body.extend(chunk);
            }
            response.trailers = self.read_fields()?;
            return Ok(());
        }
        match length {
            Some(length) => {
                response.body = vec![0; length];
                self.stream.read_exact(&mut response.body)
            }
            None => self.stream.read_to_end(&mut response.body).map(drop),
        }
    }

    /// Reads one chunk of a chunked body; `None`: the last.
    ///
    /// # Errors
    /// When there is no whole chunk.
    pub fn read_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.read_line()?;
        let Ok(size) = usize::from_str_radix(line.trim(), 16) else {
            return Err(io::Error::new(ErrorKind::InvalidData, format!("no chunk size: {line:?}")));
        };
        if size == 0 {
            return Ok(None);
        }
        let mut chunk = vec![0; size + 2];
        self.stream.read_exact(&mut chunk)?;
        chunk.truncate(size);
        Ok(Some(chunk))
    }

    /// Reads a line without its end.
    ///
    /// # Errors
    /// When the connection ends before the line does.
    pub fn read_line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        match line.pop() {
            Some(b'\n') => {}
            _ => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection ended")),
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Reads exactly so many bytes.
    ///
    /// # Errors
    /// When the connection ends before.
    pub fn read_exact(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads to the connection's end.
    ///
    /// # Errors
    /// When it does not end well.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Whether the other side has closed, or does while we wait.
    #[must_use]
    pub fn is_closed(&mut self) -> bool {
        match self.stream.fill_buf() {
            Ok(bytes) => bytes.is_empty(),
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }

    /// Our own end.
    ///
    /// # Errors
    /// As asking for it has them.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.stream.get_ref().local_addr()
    }
}

/// A chunked upload under way.
#[derive(Debug)]
pub struct Upload(Connection);

impl Upload {
    /// Begins one.
    ///
    /// # Errors
    /// As connecting and writing have them.
    pub fn begin(to: SocketAddr, request: &Request) -> io::Result<Self> {
        let mut connection = Connection::open(to)?;
        connection.write(&request.clone().with("Transfer-Encoding", "chunked").to_bytes())?;
        Ok(Self(connection))
    }

    /// Sends one piece.
    ///
    /// # Errors
    /// As writing has them.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.0.write(&chunk)
    }

    /// Sends the end and reads the answer.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub fn finish(mut self) -> io::Result<Response> {
        self.0.write(b"0\r\n\r\n")?;
        self.0.read("POST")
    }
}

/// `GET` over a connection of its own.
///
/// # Panics
/// When there is no whole answer.
#[track_caller]
#[must_use]
pub fn get(to: SocketAddr, target: &str) -> Response {
    Request::get(target).send(to)
}

/// `GET` over a connection of its own.
///
/// # Errors
/// When there is no whole answer.
pub fn try_get(to: SocketAddr, target: &str) -> io::Result<Response> {
    Request::get(target).try_send(to)
}

/// `POST` over a connection of its own.
///
/// # Panics
/// When there is no whole answer.
#[track_caller]
#[must_use]
pub fn post(to: SocketAddr, target: &str, body: impl Into<Vec<u8>>) -> Response {
    Request::post(target, body).send(to)
}
