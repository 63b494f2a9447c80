//! HTTP/2 written by hand, so that a test can say what no library would.

use crate::rig::{Peer, Rig};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame as it came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// What the edge said to a stream, or instead.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// A response with that status began.
    Status(u16),
    /// The stream was reset, with that code.
    Reset(u32),
    /// The connection ends, with that code.
    GoAway(u32),
    /// The connection is closed.
    Closed,
}

/// A client's connection of HTTP/2 by prior knowledge.
pub(crate) struct Client {
    pub(crate) peer: Peer,
}

/// The fields of a plain request.
pub(crate) fn get(path: &str) -> Vec<(&str, &str)> {
    vec![(":method", "GET"), (":scheme", "http"), (":authority", "a.example"), (":path", path)]
}

/// A header block of literals without indexing (RFC 7541 section 6.2.2).
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        string(&mut block, name.as_bytes());
        string(&mut block, value.as_bytes());
    }
    block
}

fn string(block: &mut Vec<u8>, text: &[u8]) {
    let mut length = text.len();
    if length < 127 {
        block.push(u8::try_from(length).expect("short"));
    } else {
        block.push(127);
        length -= 127;
        while length >= 128 {
            block.push(u8::try_from(length % 128).expect("seven bits") | 128);
            length /= 128;
        }
        block.push(u8::try_from(length).expect("seven bits"));
    }
    block.extend_from_slice(text);
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

impl Client {
    /// A connection on which nothing was asked yet.
    pub(crate) fn connect(rig: &Rig) -> Self {
        Self::with_settings(rig, &[])
    }

    /// The same, with settings by number.
    pub(crate) fn with_settings(rig: &Rig, settings: &[(u16, u32)]) -> Self {
        let mut payload = Vec::new();
        for (number, value) in settings {
            payload.extend(number.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        let mut peer = rig.client_that_sent("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        peer.send(frame(SETTINGS, 0, 0, &payload));
        Self { peer }
    }

    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.peer.send(frame(kind, flags, stream, payload));
    }

    /// A request without a body, or the head of one with it.
    pub(crate) fn ask(&mut self, stream: u32, fields: &[(&str, &str)], has_body: bool) {
        let flags = END_HEADERS | if has_body { 0 } else { END_STREAM };
        self.send(HEADERS, flags, stream, &block(fields));
    }

    /// The next frame; none at the end.
    pub(crate) fn frame(&mut self) -> Option<Frame> {
        let head = self.peer.exactly_or_end(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let payload = self.peer.exactly_or_end(length)?;
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of that kind; others are passed over.
    #[track_caller]
    pub(crate) fn frame_of(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.frame().expect("the connection is open");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// What is said to `stream`, or instead.
    pub(crate) fn said(&mut self, stream: u32) -> Said {
        loop {
            let Some(frame) = self.frame() else { return Said::Closed };
            match frame.kind {
                HEADERS if frame.stream == stream => return Said::Status(status(&frame.payload)),
                RST_STREAM if frame.stream == stream => return Said::Reset(number(&frame.payload)),
                GOAWAY => return Said::GoAway(number(&frame.payload[4..])),
                _ => {}
            }
        }
    }

    /// The data of `stream` until its end; `Err` with the code when it is reset instead.
    pub(crate) fn body(&mut self, stream: u32) -> Result<Vec<u8>, u32> {
        let mut body = Vec::new();
        loop {
            let frame = self.frame().expect("the connection is open");
            if frame.stream != stream {
                continue;
            }
            match frame.kind {
                RST_STREAM => return Err(number(&frame.payload)),
                DATA => body.extend(frame.payload),
                _ => {}
            }
            if matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0 {
                return Ok(body);
            }
        }
    }
}

pub(crate) fn number(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[..4].try_into().expect("four bytes"))
}

/// The status at the start of a response's first header block: from the static table, or a literal whose digits may be
/// Huffman-coded (RFC 7541 appendices A and B).
fn status(block: &[u8]) -> u16 {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match block[0] {
        first @ 0x88..=0x8e => INDEXED[usize::from(first - 0x88)],
        0x48 | 0x08 | 0x18 => {
            let length = usize::from(block[1] & 0x7f);
            let text = &block[2..2 + length];
            match block[1] & 0x80 {
                0 => std::str::from_utf8(text).expect("digits").parse().expect("digits"),
                _ => huffman_digits(text),
            }
        }
        other => panic!("a status in a way this test does not read: {other:#x}"),
    }
}

fn huffman_digits(bytes: &[u8]) -> u16 {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let value = |bits: &[u8]| bits.iter().fold(0_u16, |value, bit| value * 2 + u16::from(*bit));
    let (mut at, mut status) = (0, 0);
    for _ in 0..3 {
        let five = value(&bits[at..at + 5]);
        let (digit, length) =
            if five < 3 { (five, 5) } else { (value(&bits[at..at + 6]) - 0b01_1001 + 3, 6) };
        status = status * 10 + digit;
        at += length;
    }
    status
}
