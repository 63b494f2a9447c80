//! The endpoints' side of HTTP/1.1: as little of it as a proxy or a client with a fixed request needs.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Endpoint, Verdict};

/// Bytes of an answer's body.
const BODY: [u8; 128] = [b'x'; 128];
/// A stack for each connection's thread: some hundred of them are there at once.
const STACK_BYTES: usize = 128 << 10;

pub(crate) fn accept(listener: &TcpListener, endpoint: &Arc<Endpoint>) {
    for stream in listener.incoming() {
        if endpoint.is_gone.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let endpoint = Arc::clone(endpoint);
        let serve = move || {
            // That a client goes away is its own affair.
            let _client_gone = connection(&stream, &endpoint);
            let _closed_already = stream.shutdown(std::net::Shutdown::Both);
        };
        let _no_thread_closes_it = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(serve);
    }
}

fn connection(stream: &TcpStream, endpoint: &Endpoint) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read_head(&mut reader)? {
        io::copy(&mut (&mut reader).take(asked.body_bytes), &mut io::sink())?;
        match endpoint.work() {
            Verdict::Answer => answer(stream, "200 OK", &BODY)?,
            Verdict::Fail => answer(stream, "500 Internal Server Error", b"ill")?,
            Verdict::HangUp => return Ok(()),
        }
        if asked.is_last {
            return Ok(());
        }
    }
    Ok(())
}

/// What of a request's head matters here.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// Path and query.
    pub(crate) target: String,
    pub(crate) body_bytes: u64,
    /// The client wants the connection closed.
    pub(crate) is_last: bool,
}

/// Reads one head; none when the client has closed.
pub(crate) fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let target = line.split(' ').nth(1).unwrap_or("/").to_owned();
    let mut asked = Asked { target, ..Asked::default() };
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { return Ok(Some(asked)) };
        if name.eq_ignore_ascii_case("content-length") {
            asked.body_bytes = value.trim().parse().unwrap_or(0);
        } else if name.eq_ignore_ascii_case("connection") {
            asked.is_last = value.trim().eq_ignore_ascii_case("close");
        }
    }
}

pub(crate) fn answer(mut stream: &TcpStream, status: &str, body: &[u8]) -> io::Result<()> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat())
}
