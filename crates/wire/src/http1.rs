//! The HTTP/1 engine: one connection, on either side of it, read and written by one task.
//!
//! Reading and writing are two halves that share the stream and nothing else, so that a request can be sent while its
//! response already arrives. Between messages a connection holds no buffer. An upgraded connection is two bodies that
//! last until each direction closes, independent of one another.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use terrace_http::{
    BodyLength, Bounds, ChunkedDecoder, Decoded, Fields, Head, ParseError, RequestHead, ResponseHead,
    Version, chunk_header, end_of_chunks, parse_request, parse_response, write_request, write_response,
};
use tokio::io::{AsyncReadExt, AsyncWrite};

use crate::{Frame, Io, WireError, buffers};

/// The preface with which HTTP/2 begins without being negotiated (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Data up to that many bytes is copied beside the head, so that both leave in one write.
const COPY_BYTES_MAX: usize = 8 << 10;
/// The most a read takes at once when a body keeps filling the buffer.
const READ_BYTES_MAX: usize = 128 << 10;
/// Parts of one vectored write.
const PARTS_MAX: usize = 16;

/// A connection that speaks HTTP/1.
#[derive(Debug)]
pub struct Connection {
    io: RefCell<Io>,
    inbound: Inbound,
    outbound: Outbound,
}

/// What a connection's first bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preface {
    /// A request of HTTP/1, or garbage.
    Http1,
    /// The preface of HTTP/2.
    Http2,
    /// Nothing: the peer closed.
    Closed,
}

impl Connection {
    /// A connection on which nothing was read yet.
    #[must_use]
    pub fn new(io: Io) -> Self {
        Self { io: RefCell::new(io), inbound: Inbound::default(), outbound: Outbound::default() }
    }

    /// Waits for the first byte of a message, holding no buffer meanwhile. `false` when the peer closed instead.
    ///
    /// # Errors
    /// What the operating system says.
    pub async fn readable(&mut self) -> Result<bool, WireError> {
        self.release_buffers();
        poll_fn(|cx| self.poll_readable(cx)).await
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, WireError>> {
        if !self.inbound.buffer.is_empty() {
            return Poll::Ready(Ok(true));
        }
        let filled = self.inbound.poll_fill(&self.io, cx);
        if filled.is_pending() {
            buffers::give(std::mem::take(&mut self.inbound.buffer));
        }
        filled.map_ok(|bytes| bytes > 0).map_err(WireError::from)
    }

    /// Whether the peer closed an idle connection or sent what nobody asked for; costs no system call while it did not.
    #[must_use]
    pub fn is_stale(&mut self) -> bool {
        let waker = std::task::Waker::noop();
        !self.inbound.buffer.is_empty() || self.poll_readable(&mut Context::from_waker(waker)).is_ready()
    }

    /// Reads enough to tell HTTP/1 from HTTP/2.
    ///
    /// # Errors
    /// What the operating system says.
    pub async fn preface(&mut self) -> Result<Preface, WireError> {
        if !self.readable().await? {
            return Ok(Preface::Closed);
        }
        loop {
            let shown = &self.inbound.buffer[..self.inbound.buffer.len().min(HTTP2_PREFACE.len())];
            if !HTTP2_PREFACE.starts_with(shown) {
                return Ok(Preface::Http1);
            }
            if shown.len() == HTTP2_PREFACE.len() {
                return Ok(Preface::Http2);
            }
            if self.inbound.fill(&self.io).await? == 0 {
                return Ok(Preface::Closed);
            }
        }
    }

    /// Reads a request's head. `false` when the peer closed before its first byte. The body's length must then be told
    /// to [`Connection::begin_body`].
    ///
    /// # Errors
    /// [`WireError::Head`] for what is none, [`WireError::Closed`] in the middle of one.
    pub async fn read_request(&mut self, bounds: &Bounds, head: &mut RequestHead) -> Result<bool, WireError> {
        self.read_head(bounds, |bytes| parse_request(bytes, bounds, head)).await
    }

    /// Reads a response's head, interim ones too. `false` when the peer closed before its first byte.
    ///
    /// # Errors
    /// As for requests.
    pub async fn read_response(
        &mut self,
        bounds: &Bounds,
        head: &mut ResponseHead,
    ) -> Result<bool, WireError> {
        self.read_head(bounds, |bytes| parse_response(bytes, bounds, head)).await
    }

    async fn read_head(
        &mut self,
        bounds: &Bounds,
        parse: impl FnMut(&[u8]) -> Result<Head, ParseError>,
    ) -> Result<bool, WireError> {
        self.inbound.read_head(&self.io, bounds, parse).await
    }

    /// Says how long the body after the head just read is.
    pub fn begin_body(&mut self, length: BodyLength, trailer_bytes_max: usize) {
        self.inbound.begin(length, trailer_bytes_max);
    }

    /// Whether the body of the message being read was read to its end, so that the next one can begin.
    #[must_use]
    pub fn is_body_read(&self) -> bool {
        matches!(self.inbound.state, Reading::Done)
    }

    /// Whether the message being written was written to its end.
    #[must_use]
    pub fn is_body_written(&self) -> bool {
        matches!(self.outbound.state, Writing::Done) && self.outbound.is_flushed()
    }

    /// The two halves.
    pub fn split(&mut self) -> (Incoming<'_>, Outgoing<'_>) {
        (
            Incoming { io: &self.io, inbound: &mut self.inbound },
            Outgoing { io: &self.io, outbound: &mut self.outbound },
        )
    }

    /// The writing half.
    pub fn outgoing(&mut self) -> Outgoing<'_> {
        Outgoing { io: &self.io, outbound: &mut self.outbound }
    }

    /// The stream, with what was read and not used put back.
    #[must_use]
    pub fn into_io(mut self) -> Io {
        let unread = std::mem::take(&mut self.inbound.buffer);
        let io = self.io.into_inner();
        if unread.is_empty() { io } else { io.with_unread(unread.freeze()) }
    }

    /// Looks at the stream.
    pub fn with_io<T>(&self, look: impl FnOnce(&Io) -> T) -> T {
        look(&self.io.borrow())
    }

    /// Closes the writing direction and reads until the peer closes too, at most `bytes_max` bytes, so that a last
    /// answer is not lost to a reset (RFC 9112 section 9.6). Bound its time from outside.
    pub async fn linger(&mut self, mut bytes_max: usize) {
        if self.outbound.state == Writing::Broken {
            return;
        }
        let shut = poll_fn(|cx| Pin::new(&mut *self.io.borrow_mut()).poll_shutdown(cx)).await;
        while shut.is_ok() && bytes_max > 0 {
            self.inbound.buffer.clear();
            match self.inbound.fill(&self.io).await {
                Ok(bytes) if bytes > 0 => bytes_max = bytes_max.saturating_sub(bytes),
                _ => break,
            }
        }
    }

    fn release_buffers(&mut self) {
        if self.inbound.buffer.is_empty() && self.inbound.buffer.capacity() > 0 {
            buffers::give(std::mem::take(&mut self.inbound.buffer));
        }
        if self.outbound.is_flushed() && self.outbound.tail.capacity() > 0 {
            buffers::give_written(std::mem::take(&mut self.outbound.tail));
        }
        self.outbound.queue = VecDeque::new();
    }
}

/// The reading half's state.
#[derive(Debug, Default)]
struct Inbound {
    buffer: BytesMut,
    state: Reading,
    read_bytes_next: usize,
}

#[derive(Debug, Default)]
enum Reading {
    #[default]
    Done,
    Known(u64),
    Chunked(Box<ChunkedDecoder>),
    UntilClose,
}

impl Inbound {
    /// Reads more bytes into the buffer; 0 when the peer closed.
    fn poll_fill(&mut self, io: &RefCell<Io>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.make_room();
        let room = self.buffer.capacity() - self.buffer.len();
        let mut io = io.borrow_mut();
        let bytes = ready!(pin!(io.read_buf(&mut self.buffer)).poll(cx))?;
        // A read that filled the buffer has more behind it: fewer, larger reads from here on.
        if bytes == room {
            self.read_bytes_next = (2 * room).clamp(buffers::BUFFER_BYTES, READ_BYTES_MAX);
        }
        Poll::Ready(Ok(bytes))
    }

    fn make_room(&mut self) {
        if self.buffer.capacity() == 0 {
            self.buffer = buffers::take();
        }
        let wanted = self.read_bytes_next.max(buffers::BUFFER_BYTES);
        if self.buffer.capacity() - self.buffer.len() < wanted / 4 {
            self.buffer.reserve(wanted);
        }
    }

    async fn fill(&mut self, io: &RefCell<Io>) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(io, cx)).await
    }

    /// Reads until `parse` has a head. Only new lines are worth a new look, so that a head that comes byte by byte
    /// costs no more than its length.
    async fn read_head(
        &mut self,
        io: &RefCell<Io>,
        bounds: &Bounds,
        mut parse: impl FnMut(&[u8]) -> Result<Head, ParseError>,
    ) -> Result<bool, WireError> {
        let mut looked_at = 0;
        loop {
            let bytes = &self.buffer[..];
            let is_new = looked_at == 0 || memchr::memchr(b'\n', &bytes[looked_at..]).is_some();
            let is_worth_it = !bytes.is_empty() && (is_new || bytes.len() > bounds.head_bytes_max);
            if is_worth_it && let Head::Complete { bytes } = parse(bytes)? {
                self.buffer.advance(bytes);
                return Ok(true);
            }
            looked_at = bytes.len();
            if self.fill(io).await? == 0 {
                return if self.buffer.is_empty() { Ok(false) } else { Err(WireError::Closed) };
            }
        }
    }

    fn begin(&mut self, length: BodyLength, trailer_bytes_max: usize) {
        self.read_bytes_next = 0;
        self.state = match length {
            BodyLength::Empty => Reading::Done,
            BodyLength::Known(bytes) => Reading::Known(bytes),
            BodyLength::Framed => Reading::Chunked(Box::new(ChunkedDecoder::new(trailer_bytes_max))),
            BodyLength::UntilClose => Reading::UntilClose,
        };
    }

    fn poll_frame(
        &mut self,
        io: &RefCell<Io>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame>, WireError>> {
        loop {
            if matches!(self.state, Reading::Done) {
                return Poll::Ready(Ok(None));
            }
            if !self.buffer.is_empty() {
                if let Some(frame) = self.next_frame()? {
                    return Poll::Ready(Ok(Some(frame)));
                }
                if matches!(self.state, Reading::Done) {
                    continue;
                }
            }
            if ready!(self.poll_fill(io, cx))? == 0 {
                return Poll::Ready(self.closed());
            }
        }
    }

    fn closed(&mut self) -> Result<Option<Frame>, WireError> {
        match self.state {
            Reading::UntilClose => {
                self.state = Reading::Done;
                Ok(None)
            }
            _ => Err(WireError::Closed),
        }
    }

    /// The next frame among the bytes that are there; `None` when more are needed or the body has ended.
    fn next_frame(&mut self) -> Result<Option<Frame>, WireError> {
        match &mut self.state {
            Reading::Done => Ok(None),
            Reading::UntilClose => Ok(Some(Frame::Data(self.buffer.split().freeze()))),
            Reading::Known(left) => {
                let bytes = usize::try_from(*left).unwrap_or(usize::MAX).min(self.buffer.len());
                *left -= bytes as u64;
                if *left == 0 {
                    self.state = Reading::Done;
                }
                Ok(Some(Frame::Data(self.buffer.split_to(bytes).freeze())))
            }
            Reading::Chunked(decoder) => match decoder.decode(&self.buffer)? {
                Decoded::Partial { framing } => {
                    self.buffer.advance(framing);
                    Ok(None)
                }
                Decoded::Data { framing, data } => {
                    self.buffer.advance(framing);
                    Ok(Some(Frame::Data(self.buffer.split_to(data).freeze())))
                }
                Decoded::End { framing } => {
                    self.buffer.advance(framing);
                    let trailers = decoder.trailers()?;
                    self.state = Reading::Done;
                    Ok(trailers.map(Frame::Trailers))
                }
            },
        }
    }
}

/// The writing half's state.
#[derive(Debug, Default)]
struct Outbound {
    /// Large parts, to be written before `tail`.
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    tail: Vec<u8>,
    /// Bytes of `tail` that were written already.
    tail_written: usize,
    state: Writing,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Writing {
    #[default]
    Done,
    Known(u64),
    Chunked,
    UntilClose,
    /// All was said; what remains is to close this direction.
    Closing,
    /// Not all was said, and an orderly end would hide it.
    Broken,
}

impl Outbound {
    fn is_flushed(&self) -> bool {
        self.queue.is_empty() && self.tail.len() == self.tail_written
    }

    fn buffered_bytes(&self) -> usize {
        self.queued_bytes + self.tail.len() - self.tail_written
    }

    fn tail(&mut self) -> &mut Vec<u8> {
        if self.tail.capacity() == 0 {
            self.tail = buffers::take_to_write();
        }
        &mut self.tail
    }

    fn begin(&mut self, length: BodyLength) {
        self.state = match length {
            BodyLength::Empty => Writing::Done,
            BodyLength::Known(bytes) => Writing::Known(bytes),
            BodyLength::Framed => Writing::Chunked,
            BodyLength::UntilClose => Writing::UntilClose,
        };
    }

    fn data(&mut self, bytes: Bytes) -> Result<(), WireError> {
        match &mut self.state {
            Writing::Known(left) => *left = left.checked_sub(bytes.len() as u64).ok_or(WireError::Length)?,
            Writing::Chunked if bytes.is_empty() => {}
            Writing::Chunked => chunk_header(bytes.len(), self.tail()),
            Writing::UntilClose => {}
            Writing::Done | Writing::Closing | Writing::Broken => return Err(WireError::Length),
        }
        let is_chunk = self.state == Writing::Chunked && !bytes.is_empty();
        self.push(bytes);
        if is_chunk {
            self.tail().extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    fn push(&mut self, bytes: Bytes) {
        if bytes.len() <= COPY_BYTES_MAX {
            self.tail().extend_from_slice(&bytes);
            return;
        }
        if self.tail.len() > self.tail_written {
            let mut before = Bytes::from(std::mem::take(&mut self.tail));
            before.advance(std::mem::take(&mut self.tail_written));
            self.queued_bytes += before.len();
            self.queue.push_back(before);
        }
        self.queued_bytes += bytes.len();
        self.queue.push_back(bytes);
    }

    fn end(&mut self, trailers: Option<&Fields>) -> Result<(), WireError> {
        match self.state {
            Writing::Known(0) | Writing::Done => self.state = Writing::Done,
            Writing::Known(_) => return Err(WireError::Length),
            Writing::Chunked => {
                end_of_chunks(trailers, self.tail());
                self.state = Writing::Done;
            }
            Writing::UntilClose | Writing::Closing => self.state = Writing::Closing,
            Writing::Broken => return Err(WireError::Length),
        }
        Ok(())
    }

    fn poll_flush(&mut self, io: &RefCell<Io>, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        let mut io = io.borrow_mut();
        let mut io = Pin::new(&mut *io);
        while !self.is_flushed() {
            let written = ready!(self.poll_write(io.as_mut(), cx))?;
            if written == 0 {
                return Poll::Ready(Err(WireError::Closed));
            }
            self.advance(written);
        }
        ready!(io.as_mut().poll_flush(cx))?;
        if self.state == Writing::Closing {
            ready!(io.poll_shutdown(cx))?;
            self.state = Writing::Done;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&self, io: Pin<&mut Io>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let tail = &self.tail[self.tail_written..];
        if self.queue.is_empty() {
            return io.poll_write(cx, tail);
        }
        let mut parts = [IoSlice::new(&[]); PARTS_MAX];
        let all = self.queue.iter().map(|part| &part[..]).chain([tail]);
        let mut count = 0;
        for (slot, part) in parts.iter_mut().zip(all) {
            *slot = IoSlice::new(part);
            count += 1;
        }
        io.poll_write_vectored(cx, &parts[..count])
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(part) = self.queue.front_mut() {
            let bytes = part.len().min(written);
            part.advance(bytes);
            written -= bytes;
            self.queued_bytes -= bytes;
            if !part.is_empty() {
                return;
            }
            self.queue.pop_front();
        }
        self.tail_written += written;
        if self.tail_written == self.tail.len() {
            self.tail.clear();
            self.tail_written = 0;
        }
    }
}

/// The reading half of a connection.
#[derive(Debug)]
pub struct Incoming<'a> {
    io: &'a RefCell<Io>,
    inbound: &'a mut Inbound,
}

impl Incoming<'_> {
    /// The next frame of the body; `None` at its end.
    ///
    /// # Errors
    /// [`WireError::Closed`] before its end, [`WireError::Chunked`] for bytes that are no chunks.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame>, WireError>> {
        self.inbound.poll_frame(self.io, cx)
    }

    /// Ready when a byte is there (`true`) or the peer closed (`false`). Takes nothing.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn poll_has_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if !self.inbound.buffer.is_empty() {
            return Poll::Ready(Ok(true));
        }
        self.inbound.poll_fill(self.io, cx).map_ok(|bytes| bytes > 0)
    }

    /// Whether nothing of the body is left to be read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.inbound.state, Reading::Done)
    }

    /// Reads a response's head, see [`Connection::read_response`].
    ///
    /// # Errors
    /// As there.
    pub async fn read_response(
        &mut self,
        bounds: &Bounds,
        head: &mut ResponseHead,
    ) -> Result<bool, WireError> {
        self.inbound.read_head(self.io, bounds, |bytes| parse_response(bytes, bounds, head)).await
    }

    /// See [`Connection::begin_body`].
    pub fn begin_body(&mut self, length: BodyLength, trailer_bytes_max: usize) {
        self.inbound.begin(length, trailer_bytes_max);
    }
}

/// The writing half of a connection. What it is given waits until [`Outgoing::poll_flush`].
#[derive(Debug)]
pub struct Outgoing<'a> {
    io: &'a RefCell<Io>,
    outbound: &'a mut Outbound,
}

impl Outgoing<'_> {
    /// Begins a request whose body has that length.
    pub fn request(&mut self, head: &RequestHead, length: BodyLength) {
        write_request(head, length, self.outbound.tail());
        self.outbound.begin(length);
    }

    /// Begins a response whose body has that length, for a client that speaks that version.
    pub fn response(&mut self, head: &ResponseHead, length: BodyLength, client: Version) {
        write_response(head, length, client, self.outbound.tail());
        self.outbound.begin(length);
    }

    /// Writes an interim response; the final one follows.
    pub fn interim(&mut self, head: &ResponseHead) {
        write_response(head, BodyLength::Empty, Version::Http11, self.outbound.tail());
    }

    /// Adds data to the body.
    ///
    /// # Errors
    /// [`WireError::Length`] when the body gets longer than its head said.
    pub fn data(&mut self, bytes: Bytes) -> Result<(), WireError> {
        self.outbound.data(bytes)
    }

    /// Ends the body.
    ///
    /// # Errors
    /// [`WireError::Length`] when it is shorter than its head said.
    pub fn end(&mut self, trailers: Option<&Fields>) -> Result<(), WireError> {
        self.outbound.end(trailers)
    }

    /// Gives up a body that cannot be completed. One that ends with the connection would look whole if the connection
    /// ended in good order, so it ends by a reset (RFC 9112 section 8).
    pub fn break_off(&mut self) {
        if self.outbound.state == Writing::UntilClose {
            self.outbound.state = Writing::Broken;
            let _closes_in_good_order_then = self.io.borrow().tcp().set_zero_linger();
        }
    }

    /// From here on the connection speaks another protocol: what is given is sent as it is, until the end.
    pub fn upgrade(&mut self) {
        self.outbound.state = Writing::UntilClose;
    }

    /// Bytes that were given and have not left yet.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.outbound.buffered_bytes()
    }

    /// Writes out what was given.
    ///
    /// # Errors
    /// What the operating system says; [`WireError::Closed`] when the peer takes nothing more.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        self.outbound.poll_flush(self.io, cx)
    }

    /// Ready when the peer closed its direction. Takes no byte from it.
    pub fn poll_peer_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.io.borrow().poll_peer_closed(cx)
    }

    /// Waits until all that was given has left.
    ///
    /// # Errors
    /// As for [`Outgoing::poll_flush`].
    pub async fn flush(&mut self) -> Result<(), WireError> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }
}
