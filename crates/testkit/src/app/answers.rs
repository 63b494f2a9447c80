//! What the app answers: each path is one behaviour of an app that a proxy must cope with, from a plain page to a
//! response that breaks off.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::json;

use super::wire::{self, Asked, Wire};
use super::{Shared, sha1};
use crate::http::Request;
use crate::wait::until_true;

/// A connection, whose turn it is to be answered.
pub(crate) struct Turn<'a> {
    pub(crate) wire: Wire,
    pub(crate) app: &'a Arc<Shared>,
    pub(crate) peer: SocketAddr,
    /// What a proxy said about the connection.
    pub(crate) proxy: Option<String>,
}

/// Whether the connection can be used again.
type Usable = io::Result<bool>;

/// Answers a request.
pub(crate) fn answer(turn: &mut Turn<'_>, asked: &Asked) -> Usable {
    let query = asked.query();
    let gate = *query.get("gate").unwrap_or(&"");
    let number = |key: &str| query.get(key).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    match asked.path() {
        "/health" if turn.app.is_told("unwell") => turn.send(503, "text/plain", b"unwell\n"),
        "/health" => turn.send(200, "text/plain", b"well\n"),
        _ if turn.app.is_told("failing") => turn.send(500, "text/plain", b"failing\n"),
        "/metrics" => turn.metrics(),
        "/seen" => turn.seen(asked),
        "/upload" => turn.upload(),
        "/pattern" => turn.check_pattern(gate),
        "/mirror" => turn.mirror(),
        "/download" => turn.download(number("bytes")),
        "/status" => turn.send(number("code") as u16, "text/plain", b"as told\n"),
        "/hold" => turn.hold(gate),
        "/events" => turn.events(gate),
        "/early" => turn.early(number("code") as u16),
        "/garbage" => turn.garbage(query.get("kind").unwrap_or(&"text")),
        "/ws" => turn.websocket(asked),
        "/print" => {
            print(query.get("line").unwrap_or(&""));
            turn.send(200, "text/plain", b"printed\n")
        }
        "/env" => {
            let value = std::env::var(query.get("name").unwrap_or(&"")).unwrap_or_default();
            turn.send(200, "text/plain", value.as_bytes())
        }
        "/call" => {
            let path = query.get("path").unwrap_or(&"/");
            turn.call(asked, query.get("url").unwrap_or(&""), path, number("else") as u16)
        }
        "/exit" => std::process::exit(number("code") as i32),
        _ => turn.greet(asked),
    }
}

/// A line of output.
pub(crate) fn print(line: &str) {
    let _nobody_listens = writeln!(io::stdout().lock(), "{line}");
}

impl Turn<'_> {
    fn head(&self, status: u16, content_type: &str) -> String {
        let name = &self.app.name;
        format!("HTTP/1.1 {status} As Told\r\nX-Instance: {name}\r\nContent-Type: {content_type}\r\n")
    }

    fn send(&mut self, status: u16, content_type: &str, body: &[u8]) -> Usable {
        let mut answer = self.head(status, content_type).into_bytes();
        answer.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        answer.extend_from_slice(body);
        self.wire.write(&answer)?;
        Ok(true)
    }

    /// In the older format, with a label that a proxy may want for itself and a histogram.
    fn metrics(&mut self) -> Usable {
        let answered = self.app.requests_counted();
        let text = format!(
            "# HELP app_answers_total Answers.\n# TYPE app_answers_total counter\n\
             app_answers_total{{service=\"own\"}} {answered}\n# TYPE app_took_seconds histogram\n\
             app_took_seconds_bucket{{le=\"0.1\"}} {answered}\napp_took_seconds_bucket{{le=\"1\"}} {answered}\n\
             app_took_seconds_bucket{{le=\"+Inf\"}} {answered}\napp_took_seconds_sum {answered}\n\
             app_took_seconds_count {answered}\napp_up 1\n"
        );
        self.send(200, "text/plain; version=0.0.4", text.as_bytes())
    }

    fn greet(&mut self, asked: &Asked) -> Usable {
        let text = format!("hello from {}\n", self.app.name);
        if asked.method == "HEAD" {
            let head = format!("{}Content-Length: {}\r\n\r\n", self.head(200, "text/plain"), text.len());
            self.wire.write(head.as_bytes())?;
            return Ok(true);
        }
        self.send(200, "text/plain", text.as_bytes())
    }

    fn seen(&mut self, asked: &Asked) -> Usable {
        while self.wire.chunk()?.is_some() {}
        let seen = json!({
            "instance": self.app.name,
            "pid": std::process::id(),
            "method": asked.method,
            "target": asked.target,
            "fields": asked.fields.iter().map(|(name, value)| json!([name.to_lowercase(), value])).collect::<Vec<_>>(),
            "trailers": self.wire.trailers,
            "peer": self.peer.to_string(),
            "proxy": self.proxy,
        });
        self.send(200, "application/json", seen.to_string().as_bytes())
    }

    /// Asks a neighbour, and tells it to which trace that belongs, as an app does that knows of traces.
    fn call(&mut self, asked: &Asked, variable: &str, path: &str, status: u16) -> Usable {
        let url = std::env::var(variable).unwrap_or_default();
        let address = url.trim_start_matches("http://").parse().map_err(io::Error::other)?;
        let mut request = Request::get(path);
        for name in ["traceparent", "tracestate"] {
            if let Some(value) = asked.field(name) {
                request = request.with(name, value);
            }
        }
        let answer = request.try_send(address)?;
        self.send(if status == 0 { answer.status } else { status }, "text/plain", &answer.body)
    }

    fn upload(&mut self) -> Usable {
        let (mut bytes, mut hash) = (0, wire::FINGERPRINT_OF_NOTHING);
        while let Some(piece) = self.wire.chunk()? {
            bytes += piece.len();
            hash = wire::continue_fingerprint(hash, &piece);
        }
        let told = json!({ "bytes": bytes, "fingerprint": hash, "instance": self.app.name });
        self.send(200, "application/json", told.to_string().as_bytes())
    }

    fn check_pattern(&mut self, gate: &str) -> Usable {
        if !gate.is_empty() {
            self.wait(gate);
        }
        let (mut bytes, mut matches) = (0_u64, true);
        let expected = wire::pattern(0, 1 << 20);
        while let Some(piece) = self.wire.chunk()? {
            let at = (bytes % (1 << 16)) as usize;
            matches &= expected.get(at..at + piece.len()).is_some_and(|part| part == piece);
            bytes += piece.len() as u64;
        }
        let told = json!({ "bytes": bytes, "matches": matches });
        self.send(200, "application/json", told.to_string().as_bytes())
    }

    fn mirror(&mut self) -> Usable {
        let head = self.head(200, "application/octet-stream");
        let head = format!("{head}Transfer-Encoding: chunked\r\nTrailer: X-Length\r\n\r\n");
        self.wire.write(head.as_bytes())?;
        let mut bytes = 0;
        while let Some(piece) = self.wire.chunk()? {
            bytes += piece.len();
            self.wire.write(format!("{:x}\r\n", piece.len()).as_bytes())?;
            self.wire.write(&piece)?;
            self.wire.write(b"\r\n")?;
        }
        self.wire.write(format!("0\r\nX-Length: {bytes}\r\n\r\n").as_bytes())?;
        Ok(true)
    }

    fn download(&mut self, bytes: u64) -> Usable {
        let head = self.head(200, "application/octet-stream");
        self.wire.write(format!("{head}Content-Length: {bytes}\r\n\r\n").as_bytes())?;
        let block = wire::pattern(0, 1 << 16);
        let mut left = bytes;
        while left > 0 {
            let count = left.min(block.len() as u64);
            self.wire.write(&block[..count as usize])?;
            left -= count;
        }
        Ok(true)
    }

    fn hold(&mut self, gate: &str) -> Usable {
        let arrived = self.app.folder.join(format!("at-{gate}"));
        std::fs::write(arrived, &self.app.name)?;
        self.wait(gate);
        self.send(200, "text/plain", b"held\n")
    }

    fn events(&mut self, gate: &str) -> Usable {
        let head = self.head(200, "text/event-stream");
        self.wire.write(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes())?;
        self.wire.write(b"d\r\ndata: first\n\n\r\n")?;
        self.wait(gate);
        self.wire.write(b"e\r\ndata: second\n\n\r\n0\r\n\r\n")?;
        Ok(true)
    }

    fn wait(&self, gate: &str) {
        let gate = self.app.folder.join(format!("gate-{gate}"));
        until_true("the gate is open", || gate.exists());
    }

    fn early(&mut self, status: u16) -> Usable {
        self.wire.abandon_body();
        let head = self.head(status, "text/plain");
        self.wire.write(format!("{head}Connection: close\r\nContent-Length: 6\r\n\r\nearly\n").as_bytes())?;
        Ok(false)
    }

    fn garbage(&mut self, kind: &str) -> Usable {
        let bytes: &[u8] = match kind {
            "field" => b"HTTP/1.1 200 OK\r\nthis is no field\r\nContent-Length: 2\r\n\r\nok",
            "lengths" => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
            "chunk" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
            "half" => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
            "nothing" => b"",
            _ => b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n\r\n",
        };
        self.wire.write(bytes)?;
        Ok(false)
    }

    fn websocket(&mut self, asked: &Asked) -> Usable {
        let Some(key) = asked.field("sec-websocket-key") else {
            return self.send(426, "text/plain", b"this is a WebSocket\n");
        };
        let mut head = format!("HTTP/1.1 101 Switching Protocols\r\nX-Instance: {}\r\n", self.app.name);
        let accept = sha1::accept_value(key);
        let _infallible = write!(
            head,
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        self.wire.write(head.as_bytes())?;
        while self.echo_frame()? {}
        Ok(false)
    }

    /// Sends a frame back unmasked; says whether more may come.
    fn echo_frame(&mut self) -> io::Result<bool> {
        let mut head = [0; 2];
        self.wire.stream.read_exact(&mut head)?;
        let mut length = u64::from(head[1] & 0x7f);
        if length >= 126 {
            let mut bytes = [0; 8];
            let count = if length == 126 { 2 } else { 8 };
            self.wire.stream.read_exact(&mut bytes[8 - count..])?;
            length = u64::from_be_bytes(bytes);
        }
        let mut mask = [0; 4];
        self.wire.stream.read_exact(&mut mask)?;
        let mut payload = vec![0; usize::try_from(length).unwrap_or_default()];
        self.wire.stream.read_exact(&mut payload)?;
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        self.reply(head[0], &payload)?;
        Ok(head[0] & 0x0f != 0x8)
    }

    fn reply(&mut self, first: u8, payload: &[u8]) -> io::Result<()> {
        // A ping (9) is answered with a pong (10); everything else with itself.
        let first = if first & 0x0f == 0x9 { (first & 0xf0) | 0xa } else { first };
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..126 => frame.push(length as u8),
            length @ 126..65_536 => {
                frame.push(126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                frame.push(127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(payload);
        self.wire.write(&frame)
    }
}
