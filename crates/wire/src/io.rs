//! A connection's byte stream: plain TCP, or TLS on either side of it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

/// A byte stream, with bytes that were already taken from it and are to be read again first.
#[derive(Debug)]
pub struct Io {
    kind: Kind,
    unread: Bytes,
}

#[derive(Debug)]
enum Kind {
    Plain(TcpStream),
    Server(Box<server::TlsStream<TcpStream>>),
    Client(Box<client::TlsStream<TcpStream>>),
}

impl From<TcpStream> for Io {
    fn from(stream: TcpStream) -> Self {
        Self { kind: Kind::Plain(stream), unread: Bytes::new() }
    }
}

impl From<server::TlsStream<TcpStream>> for Io {
    fn from(stream: server::TlsStream<TcpStream>) -> Self {
        Self { kind: Kind::Server(Box::new(stream)), unread: Bytes::new() }
    }
}

impl From<client::TlsStream<TcpStream>> for Io {
    fn from(stream: client::TlsStream<TcpStream>) -> Self {
        Self { kind: Kind::Client(Box::new(stream)), unread: Bytes::new() }
    }
}

impl Io {
    /// Puts bytes back in front of what the stream will give.
    #[must_use]
    pub fn with_unread(mut self, bytes: Bytes) -> Self {
        debug_assert!(self.unread.is_empty(), "bytes put back twice would change places");
        self.unread = bytes;
        self
    }

    /// The socket beneath.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        match &self.kind {
            Kind::Plain(stream) => stream,
            Kind::Server(stream) => stream.get_ref().0,
            Kind::Client(stream) => stream.get_ref().0,
        }
    }

    /// Whether the bytes are encrypted on the wire.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        !matches!(self.kind, Kind::Plain(_))
    }

    /// Ready when the peer closed its direction, as far as that can be seen without taking a byte: in the clear only.
    pub fn poll_peer_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Kind::Plain(stream) = &self.kind else { return Poll::Pending };
        match stream.poll_peek(cx, &mut ReadBuf::new(&mut [0])) {
            Poll::Ready(Ok(1..)) | Poll::Pending => Poll::Pending,
            Poll::Ready(_) => Poll::Ready(()),
        }
    }

    /// The socket alone, off this thread's event loop, when it is plain TCP; for lending it to another thread. A TLS
    /// session stays where it was made.
    #[must_use]
    pub fn into_plain(self) -> Option<std::net::TcpStream> {
        match self.kind {
            Kind::Plain(stream) if self.unread.is_empty() => stream.into_std().ok(),
            _ => None,
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let bytes = self.unread.len().min(buffer.remaining());
            buffer.put_slice(&self.unread[..bytes]);
            self.unread.advance(bytes);
            return Poll::Ready(Ok(()));
        }
        match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Kind::Server(stream) => Pin::new(stream).poll_read(cx, buffer),
            Kind::Client(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Kind::Server(stream) => Pin::new(stream).poll_write(cx, bytes),
            Kind::Client(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Kind::Server(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Kind::Client(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Plain(_) => Poll::Ready(Ok(())),
            Kind::Server(stream) => Pin::new(stream).poll_flush(cx),
            Kind::Client(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Kind::Server(stream) => Pin::new(stream).poll_shutdown(cx),
            Kind::Client(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
