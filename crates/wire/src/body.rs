//! A message's body as frames, and the way of frames from one connection to another.

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;
use terrace_http::{BodyLength, Fields};

use crate::{ChangeError, WireError, http1, http2};

/// A piece of a body.
#[derive(Debug, Clone)]
pub enum Frame {
    /// Data.
    Data(Bytes),
    /// Trailer fields; nothing follows them.
    Trailers(Fields),
}

/// Where frames come from.
#[derive(Debug)]
pub enum Body<'a> {
    /// Nowhere.
    Empty,
    /// The reading half of an HTTP/1 connection.
    Http1(http1::Incoming<'a>),
    /// A stream of an HTTP/2 connection.
    Http2(http2::Incoming),
    /// Memory: a body that was read before, and is sent on as it came.
    Held(Held),
}

/// A body in memory.
#[derive(Debug, Default)]
pub struct Held {
    data: Bytes,
    trailers: Option<Fields>,
}

impl Held {
    /// A body of these bytes, and what follows them.
    #[must_use]
    pub fn new(data: Bytes, trailers: Option<Fields>) -> Self {
        Self { data, trailers }
    }

    fn next(&mut self) -> Option<Frame> {
        if !self.data.is_empty() {
            return Some(Frame::Data(std::mem::take(&mut self.data)));
        }
        self.trailers.take().map(Frame::Trailers)
    }
}

/// Where frames go to.
#[derive(Debug)]
pub enum Sink<'a> {
    /// The writing half of an HTTP/1 connection.
    Http1(http1::Outgoing<'a>),
    /// A stream of an HTTP/2 connection.
    Http2(http2::Outgoing),
}

impl Body<'_> {
    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// [`WireError`] when the body breaks off or is not in its coding.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame>, WireError>> {
        match self {
            Self::Empty => Poll::Ready(Ok(None)),
            Self::Http1(incoming) => incoming.poll_frame(cx),
            Self::Http2(incoming) => incoming.poll_frame(cx),
            Self::Held(held) => Poll::Ready(Ok(held.next())),
        }
    }

    /// Whether nothing is left to be read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Http1(incoming) => incoming.is_done(),
            Self::Http2(incoming) => incoming.is_done(),
            Self::Held(held) => held.data.is_empty() && held.trailers.is_none(),
        }
    }
}

impl Body<'_> {
    /// From here on an HTTP/1 connection speaks another protocol, until the peer closes.
    pub fn upgrade(&mut self) {
        if let Self::Http1(incoming) = self {
            incoming.begin_body(BodyLength::UntilClose, 0);
        }
    }
}

impl Sink<'_> {
    /// From here on an HTTP/1 connection speaks another protocol, until we close.
    pub fn upgrade(&mut self) {
        if let Self::Http1(outgoing) = self {
            outgoing.upgrade();
        }
    }

    /// Adds data; it waits until [`Sink::poll_flush`].
    ///
    /// # Errors
    /// [`WireError::Length`] when the body gets longer than its head said.
    pub fn data(&mut self, bytes: Bytes) -> Result<(), WireError> {
        match self {
            Self::Http1(outgoing) => outgoing.data(bytes),
            Self::Http2(outgoing) => {
                outgoing.data(bytes);
                Ok(())
            }
        }
    }

    /// Ends the body.
    ///
    /// # Errors
    /// [`WireError::Length`] when it is shorter than its head said.
    pub fn end(&mut self, trailers: Option<Fields>) -> Result<(), WireError> {
        match self {
            Self::Http1(outgoing) => outgoing.end(trailers.as_ref()),
            Self::Http2(outgoing) => {
                outgoing.end(trailers);
                Ok(())
            }
        }
    }

    /// Bytes that were given and have not left yet.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        match self {
            Self::Http1(outgoing) => outgoing.buffered_bytes(),
            Self::Http2(outgoing) => outgoing.buffered_bytes(),
        }
    }

    /// Sends what was given.
    ///
    /// # Errors
    /// [`WireError`] when the peer takes nothing more.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        match self {
            Self::Http1(outgoing) => outgoing.poll_flush(cx),
            Self::Http2(outgoing) => outgoing.poll_flush(cx),
        }
    }

    /// Ready when the peer broke the stream off; on HTTP/1, when it closed the connection in the clear.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Http1(outgoing) => outgoing.poll_peer_closed(cx),
            Self::Http2(outgoing) => outgoing.poll_reset(cx),
        }
    }

    /// Waits until all that was given is sent.
    ///
    /// # Errors
    /// As for [`Sink::poll_flush`].
    pub async fn flush(&mut self) -> Result<(), WireError> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }
}

/// Which end of a [`pump`] is being waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The body has no frame ready.
    Source,
    /// The sink does not take what it was given.
    Sink,
}

/// Who ended a [`pump`] early, and how.
#[derive(Debug, thiserror::Error)]
pub enum PumpError {
    /// The body broke off.
    #[error("{0}")]
    Source(WireError),
    /// The sink takes no more.
    #[error("{0}")]
    Sink(WireError),
    /// The one waited for was too slow, says the [`Pace`].
    #[error("too slow")]
    Stalled(Side),
    /// The body is larger than the [`Pace`] allows.
    #[error("too large")]
    TooLarge,
    /// The body could not be changed on its way.
    #[error("{0}")]
    Change(ChangeError),
}

/// What a [`pump`] asks about each step: how long to wait for whom, and how much may pass.
pub trait Pace {
    /// Whether a peer that takes the body but closes its own direction is gone: true of streams that may be silent for
    /// long, not of a client that half-closes after its request (RFC 9112 section 9.6).
    fn ends_with_peer(&self) -> bool {
        false
    }
    /// That many bytes of data are about to pass; `false` when they must not.
    fn admit(&mut self, bytes: usize) -> bool;
    /// This data passes.
    fn pass(&mut self, _bytes: &[u8]) {}
    /// These fields pass after the body; what must not is taken out.
    fn trail(&mut self, _fields: &mut Fields) {}
    /// The body has ended as it should; its last bytes may not have left yet.
    fn ended(&mut self) {}
    /// Ready when `side` was waited for long enough.
    fn poll_stalled(&mut self, cx: &mut Context<'_>, side: Side) -> Poll<()>;
}

/// The most that waits in a sink before the source is read further: what bounds memory per direction.
const BUFFERED_BYTES_MAX: usize = 64 << 10;

/// Moves a body from one connection to another until its end, and sends it off. What is there goes on in one write;
/// before waiting for more, everything is sent.
///
/// # Errors
/// [`PumpError`] says which side it was.
pub async fn pump(body: &mut Body<'_>, sink: &mut Sink<'_>, pace: &mut impl Pace) -> Result<(), PumpError> {
    loop {
        match poll_fn(|cx| poll_step(cx, body, sink, pace)).await? {
            Some(Frame::Data(bytes)) => {
                if !pace.admit(bytes.len()) {
                    return Err(PumpError::TooLarge);
                }
                pace.pass(&bytes);
                sink.data(bytes).map_err(PumpError::Sink)?;
            }
            Some(Frame::Trailers(mut fields)) => {
                pace.trail(&mut fields);
                pace.ended();
                sink.end(Some(fields)).map_err(PumpError::Sink)?;
                break;
            }
            None => {
                pace.ended();
                sink.end(None).map_err(PumpError::Sink)?;
                break;
            }
        }
    }
    poll_fn(|cx| flush_whole(cx, sink, pace)).await
}

/// Sends off all that was given.
pub(crate) fn flush_whole(
    cx: &mut Context<'_>,
    sink: &mut Sink<'_>,
    pace: &mut impl Pace,
) -> Poll<Result<(), PumpError>> {
    match sink.poll_flush(cx) {
        Poll::Ready(result) => Poll::Ready(result.map_err(PumpError::Sink)),
        Poll::Pending => pace.poll_stalled(cx, Side::Sink).map(|()| Err(PumpError::Stalled(Side::Sink))),
    }
}

fn poll_step(
    cx: &mut Context<'_>,
    body: &mut Body<'_>,
    sink: &mut Sink<'_>,
    pace: &mut impl Pace,
) -> Poll<Result<Option<Frame>, PumpError>> {
    match poll_room(cx, sink, pace) {
        Poll::Ready(Ok(())) => {}
        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
        Poll::Pending => return Poll::Pending,
    }
    if let Poll::Ready(frame) = body.poll_frame(cx) {
        return Poll::Ready(frame.map_err(PumpError::Source));
    }
    poll_wait(cx, sink, pace).map(Err)
}

/// Ready when the sink takes more.
#[inline]
pub(crate) fn poll_room(
    cx: &mut Context<'_>,
    sink: &mut Sink<'_>,
    pace: &mut impl Pace,
) -> Poll<Result<(), PumpError>> {
    if sink.buffered_bytes() < BUFFERED_BYTES_MAX {
        return Poll::Ready(Ok(()));
    }
    flush_whole(cx, sink, pace)
}

/// Sends off what was given while the source has nothing; ready when that ends the pump.
#[inline]
pub(crate) fn poll_wait(cx: &mut Context<'_>, sink: &mut Sink<'_>, pace: &mut impl Pace) -> Poll<PumpError> {
    let side = match sink.poll_flush(cx) {
        Poll::Ready(Err(error)) => return Poll::Ready(PumpError::Sink(error)),
        Poll::Ready(Ok(())) => Side::Source,
        Poll::Pending => Side::Sink,
    };
    let watches = pace.ends_with_peer() || matches!(sink, Sink::Http2(_));
    if side == Side::Source && watches && sink.poll_closed(cx).is_ready() {
        return Poll::Ready(PumpError::Sink(WireError::Closed));
    }
    pace.poll_stalled(cx, side).map(|()| PumpError::Stalled(side))
}
