//! HTTP, server-sent events and WebSockets by hand over a socket: as much as the tests need, and nothing clever.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Nothing in a test takes this long; a hang becomes a failure.
const HANG: Duration = Duration::from_secs(60);
/// Long enough to notice a service that hangs up.
const MOMENT: Duration = Duration::from_millis(500);

/// An answer, read whole.
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// What stands between two texts in the body.
    pub(crate) fn between(&self, before: &str, after: &str) -> String {
        let text = self.text();
        let from = text.find(before).unwrap_or_else(|| panic!("no {before} in {text}")) + before.len();
        let to = text[from..].find(after).expect("an end") + from;
        text[from..to].to_owned()
    }
}

fn connect(port: u16) -> BufReader<TcpStream> {
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the service listens");
    socket.set_read_timeout(Some(HANG)).expect("sockets have timeouts");
    BufReader::new(socket)
}

fn write_head(stream: &mut BufReader<TcpStream>, line: &str, headers: &[(&str, &str)]) {
    let mut head = format!("{line} HTTP/1.1\r\nhost: shop.test\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.get_mut().write_all(head.as_bytes()).expect("the service reads");
}

fn read_line(stream: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).expect("the service answers");
    line.trim_end().to_owned()
}

fn read_head(stream: &mut BufReader<TcpStream>) -> Reply {
    let line = read_line(stream);
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let mut reply = Reply {
        status: status.unwrap_or_else(|| panic!("'{line}' is no status line")),
        headers: Vec::new(),
        body: Vec::new(),
    };
    loop {
        let line = read_line(stream);
        let Some((name, value)) = line.split_once(':') else { return reply };
        reply.headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
}

/// The answer on a connection that was asked to close; no answer of the shop that is read so is chunked.
fn read_reply(stream: &mut BufReader<TcpStream>) -> Reply {
    let mut reply = read_head(stream);
    stream.read_to_end(&mut reply.body).expect("the answer comes whole");
    reply
}

/// One request on a connection of its own.
pub(crate) fn send(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    read_reply(&mut begin(port, method, path, headers, body))
}

/// A request whose answer nobody waits for yet.
pub(crate) fn begin(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> BufReader<TcpStream> {
    let mut stream = connect(port);
    let length = body.len().to_string();
    let mut all = vec![("connection", "close"), ("content-length", length.as_str())];
    all.extend(headers);
    write_head(&mut stream, &format!("{method} {path}"), &all);
    stream.get_mut().write_all(body).expect("the service reads");
    stream
}

/// Makes sure that for a moment the service neither answers nor hangs up.
pub(crate) fn expect_silence(stream: &mut BufReader<TcpStream>) {
    stream.get_ref().set_read_timeout(Some(MOMENT)).expect("sockets have timeouts");
    let heard = stream.read(&mut [0]);
    assert!(
        heard.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)),
        "the service was not silent"
    );
    stream.get_ref().set_read_timeout(Some(HANG)).expect("sockets have timeouts");
}

/// Keeps cookies, as browsers do.
pub(crate) struct Browser {
    port: u16,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    pub(crate) fn new(port: u16) -> Self {
        Self { port, cookies: BTreeMap::new() }
    }

    pub(crate) fn get(&mut self, path: &str) -> Reply {
        self.request("GET", path, &[], b"")
    }

    /// Sends a form.
    pub(crate) fn post(&mut self, path: &str, form: &str) -> Reply {
        let kind = [("content-type", "application/x-www-form-urlencoded"), ("origin", "http://shop.test")];
        self.request("POST", path, &kind, form.as_bytes())
    }

    pub(crate) fn keep_cookie(&mut self, name: &str, value: &str) {
        self.cookies.insert(name.to_owned(), value.to_owned());
    }

    /// What a gateway would tell of whoever has the cookie.
    fn told(&self) -> Vec<(&'static str, String)> {
        self.cookies
            .get("session")
            .filter(|token| !token.is_empty())
            .map(|token| told(token))
            .unwrap_or_default()
    }

    fn cookie_header(&self) -> String {
        let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("; ")
    }

    fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let cookies = self.cookie_header();
        let told = self.told();
        let mut all = vec![("cookie", cookies.as_str())];
        all.extend(told.iter().map(|(name, value)| (*name, value.as_str())));
        all.extend(headers);
        let reply = send(self.port, method, path, &all, body);
        for (_, cookie) in reply.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let pair = cookie.split(';').next().unwrap_or_default();
            let (name, value) = pair.split_once('=').expect("a cookie is a pair");
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        reply
    }
}

/// The headers in which a gateway tells who the bearer of a token is; it has checked the token, a test need not.
pub(crate) fn told(token: &str) -> Vec<(&'static str, String)> {
    let claims = token.split('.').nth(1).expect("a token has three parts");
    let claims = data_encoding::BASE64URL_NOPAD.decode(claims.as_bytes()).expect("base64url");
    let claims: Value = serde_json::from_slice(&claims).expect("JSON");
    let text = |name: &str| claims[name].as_str().expect("a text").to_owned();
    vec![("x-auth-subject", text("sub")), ("x-auth-name", text("name")), ("x-auth-email", text("email"))]
}

/// Server-sent events as they come in.
pub(crate) struct Events(BufReader<TcpStream>);

impl Events {
    pub(crate) fn open(browser: &Browser, path: &str) -> Self {
        let mut stream = connect(browser.port);
        let mut headers = vec![("cookie", browser.cookie_header()), ("connection", "close".to_owned())];
        headers.extend(browser.told());
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        write_head(&mut stream, &format!("GET {path}"), &headers);
        let head = read_head(&mut stream);
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        Self(stream)
    }

    /// The name of the next event; `None` at the end. Chunk sizes in between are skipped like comments are.
    pub(crate) fn next(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).expect("events are text") == 0 {
                return None;
            }
            if let Some(event) = line.trim_end().strip_prefix("event: ") {
                return Some(event.to_owned());
            }
        }
    }
}

/// An upload that goes as slowly as the test wants.
pub(crate) struct Upload(BufReader<TcpStream>);

impl Upload {
    /// Returns when the service has asked for the body, and so is busy with the request.
    pub(crate) fn begin(port: u16, path: &str, length: usize) -> Self {
        let mut stream = connect(port);
        let length = length.to_string();
        let headers =
            [("content-length", length.as_str()), ("expect", "100-continue"), ("connection", "close")];
        write_head(&mut stream, &format!("POST {path}"), &headers);
        assert_eq!(read_head(&mut stream).status, 100);
        Self(stream)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("the service reads");
    }

    /// Makes sure that the service goes on waiting for the rest: for a moment it neither answers nor hangs up. (A
    /// service that waits passes however slow the machine is; only one that does not could be missed.)
    pub(crate) fn expect_patience(&mut self) {
        expect_silence(&mut self.0);
    }

    pub(crate) fn finish(mut self) -> Reply {
        read_reply(&mut self.0)
    }
}

/// A WebSocket (RFC 6455) that listens.
pub(crate) struct WebSocket(BufReader<TcpStream>);

impl WebSocket {
    pub(crate) fn open(port: u16, path: &str) -> Self {
        let mut stream = connect(port);
        let headers = [
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        write_head(&mut stream, &format!("GET {path}"), &headers);
        let head = read_head(&mut stream);
        // The example of RFC 6455, section 1.3.
        assert_eq!(head.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(head.status, 101);
        Self(stream)
    }

    /// The next frame: its opcode and what it carries. Servers do not mask, and the shop's frames are small.
    fn frame(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).expect("a frame");
        let mut length = usize::from(head[1]);
        if length == 126 {
            let mut long = [0; 2];
            self.0.read_exact(&mut long).expect("a length");
            length = usize::from(u16::from_be_bytes(long));
        }
        let mut content = vec![0; length];
        self.0.read_exact(&mut content).expect("what was announced");
        (head[0] & 0x0F, content)
    }

    /// The next text, which is JSON.
    pub(crate) fn text(&mut self) -> Value {
        loop {
            match self.frame() {
                (1, content) => return serde_json::from_slice(&content).expect("JSON"),
                (9, _) => (), // pings are answered by patience: a minute of it
                (opcode, _) => panic!("a text was expected, not opcode {opcode}"),
            }
        }
    }

    /// Waits for the goodbye, answers it, and tells its code.
    pub(crate) fn close_code(&mut self) -> u16 {
        loop {
            if let (8, content) = self.frame() {
                // Masked with zeros, which masks nothing, but is a mask.
                self.0.get_mut().write_all(&[0x88, 0x80, 0, 0, 0, 0]).expect("the service listens");
                return u16::from_be_bytes([content[0], content[1]]);
            }
        }
    }
}
