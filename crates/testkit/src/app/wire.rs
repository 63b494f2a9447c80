//! The app's end of a connection: requests read, bodies in pieces, answers written.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;

/// The period of [`pattern`], in bytes.
const PATTERN_BYTES: usize = 64 * 1024;

/// A request's head.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) fields: Vec<(String, String)>,
}

/// What of a body is still to come.
#[derive(Debug, Clone, Copy)]
enum Left {
    Bytes(u64),
    Chunks,
    Nothing,
}

/// A connection with a request on it.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) stream: BufReader<TcpStream>,
    left: Left,
    expects: bool,
    /// The request's trailers, once its body is read.
    pub(crate) trailers: Vec<(String, String)>,
}

impl Asked {
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The query; nothing here needs an escape.
    pub(crate) fn query(&self) -> BTreeMap<&str, &str> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        query.split('&').filter_map(|pair| pair.split_once('=')).collect()
    }

    pub(crate) fn wants_close(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), left: Left::Nothing, expects: false, trailers: Vec::new() })
    }

    /// The next request; `None`: the client is done.
    pub(crate) fn next(&mut self) -> io::Result<Option<Asked>> {
        while self.chunk()?.is_some() {}
        let Some(line) = self.line()? else { return Ok(None) };
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let asked = Asked { method: method.to_owned(), target: target.to_owned(), fields: self.fields()? };
        self.left = match (asked.field("transfer-encoding"), asked.field("content-length")) {
            (Some(_), _) => Left::Chunks,
            (None, Some(length)) => Left::Bytes(length.parse().map_err(|_| ErrorKind::InvalidData)?),
            (None, None) => Left::Nothing,
        };
        self.expects = asked.field("expect").is_some();
        self.trailers.clear();
        Ok(Some(asked))
    }

    /// The next piece of the request's body. Whoever waits for leave to send it is given that first.
    pub(crate) fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        if std::mem::take(&mut self.expects) {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        match self.left {
            Left::Nothing | Left::Bytes(0) => Ok(None),
            Left::Bytes(left) => {
                let mut piece = vec![0; left.min(PATTERN_BYTES as u64) as usize];
                let count = self.stream.read(&mut piece)?;
                if count == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                piece.truncate(count);
                self.left = Left::Bytes(left - count as u64);
                Ok(Some(piece))
            }
            Left::Chunks => self.next_chunk(),
        }
    }

    fn next_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.line()?.ok_or(ErrorKind::UnexpectedEof)?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(|_| ErrorKind::InvalidData)?;
        if size == 0 {
            self.left = Left::Nothing;
            self.trailers = self.fields()?;
            return Ok(None);
        }
        let mut piece = vec![0; size + 2];
        self.stream.read_exact(&mut piece)?;
        piece.truncate(size);
        Ok(Some(piece))
    }

    /// Leaves the rest of the body unread; the connection is of no more use.
    pub(crate) fn abandon_body(&mut self) {
        self.left = Left::Nothing;
        self.expects = false;
    }

    fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        if self.stream.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()))
    }

    fn fields(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?.ok_or(ErrorKind::UnexpectedEof)?;
            let Some((name, value)) = line.split_once(':') else { return Ok(fields) };
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// What a proxy says in front of the first request (PROXY protocol, versions 1 and 2), as text.
    pub(crate) fn proxy_header(&mut self) -> io::Result<Option<String>> {
        const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
        let first = self.stream.fill_buf()?;
        if first.starts_with(b"PROXY ") {
            return self.line();
        }
        if !first.starts_with(b"\r\n") {
            return Ok(None);
        }
        let mut head = [0; 16];
        self.stream.read_exact(&mut head)?;
        if !head.starts_with(SIGNATURE) {
            return Err(ErrorKind::InvalidData.into());
        }
        let mut rest = vec![0; usize::from(u16::from_be_bytes([head[14], head[15]]))];
        self.stream.read_exact(&mut rest)?;
        Ok(Some(version_2(head[13], &rest)))
    }
}

fn version_2(family: u8, rest: &[u8]) -> String {
    match (family, rest) {
        (0x11, [a, b, c, d, _, _, _, _, high, low, ..]) => {
            format!("v2 {a}.{b}.{c}.{d} {}", u16::from_be_bytes([*high, *low]))
        }
        _ => format!("v2 of family {family:#x}"),
    }
}

/// FNV-1a of a body, to tell whether it arrived as it was sent.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> u64 {
    continue_fingerprint(FINGERPRINT_OF_NOTHING, bytes)
}

pub(crate) const FINGERPRINT_OF_NOTHING: u64 = 0xcbf2_9ce4_8422_2325;

pub(crate) fn continue_fingerprint(so_far: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(so_far, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Bytes of a large body from `offset` on, which can be told from others as fast as memory is compared.
#[must_use]
pub fn pattern(offset: u64, count: usize) -> Vec<u8> {
    let start = (offset % PATTERN_BYTES as u64) as usize;
    let period: Vec<u8> = (0..PATTERN_BYTES).map(|at| (at % 251) as u8).collect();
    let mut bytes = Vec::with_capacity(count + PATTERN_BYTES);
    bytes.extend_from_slice(&period[start..]);
    while bytes.len() < count {
        bytes.extend_from_slice(&period);
    }
    bytes.truncate(count);
    bytes
}
