//! Certificates for tests, signed by nobody in particular, and an authority that says what the test wants it to say.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};

/// The first of January 2026, in seconds since 1970: days of tests count from there.
pub(crate) const EPOCH: u64 = 1_767_225_600;

/// Moment of the wall clock, so many days after the first one of the tests.
pub(crate) fn day(day: u64) -> Duration {
    Duration::from_secs(EPOCH + day * 86_400)
}

/// Key and certificate in PEM, for these hosts, from the one day to the other.
pub(crate) fn certificate(hosts: &[String], days: Range<u64>) -> Vec<u8> {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(hosts.to_vec()).expect("names");
    let first = rcgen::date_time_ymd(2026, 1, 1);
    params.not_before = first + Duration::from_secs(days.start * 86_400);
    params.not_after = first + Duration::from_secs(days.end * 86_400);
    let certificate = params.self_signed(&key).expect("a certificate");
    format!("{}{}", key.serialize_pem(), certificate.pem()).into_bytes()
}

/// A server over plain HTTP that answers each path with a head and a body of its own. It is gone when this is dropped.
pub(crate) struct Authority {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    /// Path, status and fields, body; the place of the server's own address is `HERE`.
    script: Vec<(&'static str, &'static str, &'static str)>,
    asked: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

impl Authority {
    pub(crate) fn start(script: Vec<(&'static str, &'static str, &'static str)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared { script, asked: Mutex::default(), is_over: AtomicBool::new(false) });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let serving = Arc::clone(&serving);
                std::thread::spawn(move || serving.serve(&stream, address));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The request lines so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().expect("no thread panics here").clone()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        let _gone_already = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream, address: SocketAddr) -> Option<()> {
        let mut lines = BufReader::new(stream);
        loop {
            let (mut line, mut length) = (String::new(), 0);
            lines.read_line(&mut line).ok().filter(|read| *read > 0)?;
            loop {
                let mut field = String::new();
                lines.read_line(&mut field).ok().filter(|read| *read > 0)?;
                if let Some(text) = field.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = text.trim().parse().ok()?;
                }
                if field == "\r\n" {
                    break;
                }
            }
            lines.read_exact(&mut vec![0; length]).ok()?;
            let mut words = line.split(' ');
            let (method, path) = (words.next()?, words.next()?);
            self.asked.lock().ok()?.push(format!("{method} {path}"));
            let found = self.script.iter().find(|(known, _, _)| path.starts_with(known));
            let (_, head, body) = found.unwrap_or(&("", "404 Not Found\r\n", ""));
            let body = body.replace("HERE", &format!("http://{address}"));
            let answer = format!("HTTP/1.1 {head}Replay-Nonce: n\r\nContent-Length: {}\r\n\r\n", body.len());
            let body = if method == "HEAD" { "" } else { &body };
            let mut stream = stream;
            if stream.write_all(format!("{answer}{body}").as_bytes()).is_err() {
                let _gone_already = stream.shutdown(Shutdown::Both);
                return None;
            }
        }
    }
}
