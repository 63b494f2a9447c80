//! A WebSocket client (RFC 6455), as small as it can be: whole messages of up to 125 bytes out, any frame in.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use crate::http::{Connection, Request, Response};

/// Masking hides nothing, so a fixed key will do (RFC 6455 section 5.3).
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    connection: Connection,
    /// The instance of the app at the other end.
    pub instance: String,
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A text.
    Text(String),
    /// A close frame with its code, if it had one.
    Close(Option<u16>),
}

impl WebSocket {
    /// Opens one.
    ///
    /// # Errors
    /// When the answer is not 101; the error says what it was.
    pub fn open(to: SocketAddr, target: &str) -> io::Result<Self> {
        let mut connection = Connection::open(to)?;
        let request = Request::get(target)
            .with("Connection", "Upgrade")
            .with("Upgrade", "websocket")
            .with("Sec-WebSocket-Version", "13")
            .with("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
        connection.write(&request.to_bytes())?;
        let head: Response = connection.read_head()?;
        if head.status != 101 {
            return Err(io::Error::other(format!("answered with status {}", head.status)));
        }
        Ok(Self { connection, instance: head.instance().to_owned() })
    }

    /// Sends a text of at most 125 bytes.
    ///
    /// # Errors
    /// As writing has them.
    pub fn send(&mut self, text: &str) -> io::Result<()> {
        self.frame(0x1, text.as_bytes())
    }

    /// Reads the next message.
    ///
    /// # Errors
    /// When the connection ends instead.
    pub fn receive(&mut self) -> io::Result<Message> {
        let head = self.connection.read_exact(2)?;
        let length = match head[1] & 0x7f {
            126 => {
                let bytes = self.connection.read_exact(2)?;
                usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))
            }
            127 => {
                return Err(io::Error::new(ErrorKind::InvalidData, "a frame longer than anybody sends here"));
            }
            short => usize::from(short),
        };
        let payload = self.connection.read_exact(length)?;
        match head[0] & 0x0f {
            0x1 => Ok(Message::Text(String::from_utf8_lossy(&payload).into_owned())),
            0x8 => Ok(Message::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code)))),
            other => Err(io::Error::new(ErrorKind::InvalidData, format!("a frame of kind {other}"))),
        }
    }

    /// Sends a text and waits until it comes back.
    ///
    /// # Errors
    /// When anything else comes.
    pub fn echo(&mut self, text: &str) -> io::Result<()> {
        self.send(text)?;
        match self.receive()? {
            Message::Text(same) if same == text => Ok(()),
            other => Err(io::Error::new(ErrorKind::InvalidData, format!("sent {text:?}, got {other:?}"))),
        }
    }

    /// Closes as one should: a close frame each way.
    ///
    /// # Errors
    /// When the other side does not answer with one.
    pub fn close(mut self) -> io::Result<()> {
        self.frame(0x8, &1000_u16.to_be_bytes())?;
        match self.receive()? {
            Message::Close(_) => Ok(()),
            other => Err(io::Error::new(ErrorKind::InvalidData, format!("no close frame but {other:?}"))),
        }
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let length = u8::try_from(payload.len()).ok().filter(|length| *length < 126);
        let length = length.ok_or(ErrorKind::InvalidInput)?;
        let mut frame = vec![0x80 | kind, 0x80 | length];
        frame.extend_from_slice(&MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.connection.write(&frame)
    }
}
