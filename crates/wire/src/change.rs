//! A body that is changed on its way: coded for a client, or put into another protocol's words.
//!
//! This is a [`pump`](crate::pump) beside the plain one, so that a body that nobody changes pays nothing. What the source has
//! is changed at once; when it pauses, all that came of it so far goes on, so that a page is shown while it is still made.
//! To change something may take long: large pieces are taken in slices, and between two of them the core's other tasks have
//! their turn.

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;
use terrace_http::Fields;

use crate::body::{flush_whole, poll_room, poll_wait};
use crate::{Body, Frame, Pace, PumpError, Side, Sink};

/// What becomes of a body on its way.
pub trait Change {
    /// Takes a piece, at most [`Change::slice_bytes`] at once, and appends to `out` what comes of it already. A piece that goes
    /// on as it is may be given back instead.
    ///
    /// # Errors
    /// [`ChangeError`] when nothing whole can come of the body any more.
    fn data(&mut self, data: Bytes, out: &mut Vec<u8>) -> Result<Option<Bytes>, ChangeError>;

    /// The source pauses: appends to `out` all that the taker could have already.
    ///
    /// # Errors
    /// [`ChangeError`] when nothing whole can come of the body any more.
    fn pause(&mut self, out: &mut Vec<u8>) -> Result<(), ChangeError>;

    /// The source ended: appends to `out` the rest, and says which trailers follow.
    ///
    /// # Errors
    /// [`ChangeError`] when the body was not whole.
    fn end(&mut self, trailers: Option<Fields>, out: &mut Vec<u8>) -> Result<Option<Fields>, ChangeError>;

    /// How many bytes cost 100 µs or less.
    fn slice_bytes(&self) -> usize {
        usize::MAX
    }
}

/// A body could not be changed to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ChangeError(pub String);

/// Moves a body from one connection to another as `change` makes it, until its end, and sends it off. `given` counts the bytes
/// that went into the sink; the pace is that of the source.
///
/// # Errors
/// [`PumpError`] says which side it was.
pub async fn pump_changed(
    body: &mut Body<'_>,
    sink: &mut Sink<'_>,
    pace: &mut impl Pace,
    change: &mut impl Change,
    given: &mut u64,
) -> Result<(), PumpError> {
    let mut changing = Changing { sink, change, given, out: Vec::new() };
    loop {
        match poll_fn(|cx| changing.poll_frame(cx, body, pace)).await? {
            Some(Frame::Data(bytes)) => {
                if !pace.admit(bytes.len()) {
                    return Err(PumpError::TooLarge);
                }
                pace.pass(&bytes);
                changing.take(bytes, pace).await?;
            }
            Some(Frame::Trailers(mut fields)) => {
                pace.trail(&mut fields);
                pace.ended();
                changing.end(Some(fields))?;
                break;
            }
            None => {
                pace.ended();
                changing.end(None)?;
                break;
            }
        }
    }
    poll_fn(|cx| flush_whole(cx, changing.sink, pace)).await
}

struct Changing<'p, 's, C> {
    sink: &'p mut Sink<'s>,
    change: &'p mut C,
    given: &'p mut u64,
    out: Vec<u8>,
}

impl<C: Change> Changing<'_, '_, C> {
    /// The next frame of the body. Before waiting for it, all that came of those before is sent.
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Body<'_>,
        pace: &mut impl Pace,
    ) -> Poll<Result<Option<Frame>, PumpError>> {
        match poll_room(cx, self.sink, pace) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
        if let Poll::Ready(frame) = body.poll_frame(cx) {
            return Poll::Ready(frame.map_err(PumpError::Source));
        }
        self.change.pause(&mut self.out).map_err(PumpError::Change)?;
        self.give()?;
        poll_wait(cx, self.sink, pace).map(Err)
    }

    /// Changes a piece, slice by slice.
    async fn take(&mut self, mut bytes: Bytes, pace: &mut impl Pace) -> Result<(), PumpError> {
        loop {
            let slice = bytes.split_to(bytes.len().min(self.change.slice_bytes().max(1)));
            let as_it_is = self.change.data(slice, &mut self.out).map_err(PumpError::Change)?;
            self.give()?;
            if let Some(bytes) = as_it_is {
                *self.given += bytes.len() as u64;
                self.sink.data(bytes).map_err(PumpError::Sink)?;
            }
            if bytes.is_empty() {
                return Ok(());
            }
            poll_fn(|cx| poll_room(cx, self.sink, pace)).await?;
            tokio::task::yield_now().await;
        }
    }

    fn end(&mut self, trailers: Option<Fields>) -> Result<(), PumpError> {
        let trailers = self.change.end(trailers, &mut self.out).map_err(PumpError::Change)?;
        self.give()?;
        self.sink.end(trailers).map_err(PumpError::Sink)
    }

    fn give(&mut self) -> Result<(), PumpError> {
        if self.out.is_empty() {
            return Ok(());
        }
        *self.given += self.out.len() as u64;
        self.sink.data(Bytes::from(std::mem::take(&mut self.out))).map_err(PumpError::Sink)
    }
}

/// Reads a body whole, and what follows it. Nothing is read over the bound of the pace.
///
/// # Errors
/// [`PumpError`], of the source only.
pub async fn collect(
    body: &mut Body<'_>,
    pace: &mut impl Pace,
) -> Result<(Bytes, Option<Fields>), PumpError> {
    let mut whole = Whole::default();
    loop {
        let frame = poll_fn(|cx| match body.poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(frame.map_err(PumpError::Source)),
            Poll::Pending => {
                pace.poll_stalled(cx, Side::Source).map(|()| Err(PumpError::Stalled(Side::Source)))
            }
        });
        match frame.await? {
            Some(Frame::Data(bytes)) if pace.admit(bytes.len()) => {
                pace.pass(&bytes);
                whole.add(bytes);
            }
            Some(Frame::Data(_)) => return Err(PumpError::TooLarge),
            Some(Frame::Trailers(mut fields)) => {
                pace.trail(&mut fields);
                pace.ended();
                return Ok((whole.into_bytes(), Some(fields)));
            }
            None => {
                pace.ended();
                return Ok((whole.into_bytes(), None));
            }
        }
    }
}

/// A body as it comes together. Most come in one piece, which is not copied.
#[derive(Debug, Default)]
struct Whole {
    first: Bytes,
    rest: Vec<u8>,
}

impl Whole {
    fn add(&mut self, bytes: Bytes) {
        if self.first.is_empty() && self.rest.is_empty() {
            self.first = bytes;
            return;
        }
        if self.rest.is_empty() {
            self.rest.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.rest.extend_from_slice(&bytes);
    }

    fn into_bytes(self) -> Bytes {
        if self.rest.is_empty() { self.first } else { Bytes::from(self.rest) }
    }
}
