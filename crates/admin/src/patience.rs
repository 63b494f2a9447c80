//! How long a face waits for a peer that has begun to speak, or to listen, and goes no further.
//!
//! A face has only so many places. hyper bounds how long a request's head may take; what it leaves to us is a body that
//! never comes and an answer that nobody reads. Without a bound on both, a hundred sleeping strangers, who need neither
//! token nor session for it, keep the operator out for as long as they like.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// For a whole body; the largest that is taken is 64 KiB.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// For the next byte of an answer to be taken.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A body that comes within its time, or fails.
pub(crate) struct Timely<B> {
    body: B,
    time: Duration,
    /// From the first time that there was nothing to read.
    end: Option<Pin<Box<Sleep>>>,
}

impl<B> Timely<B> {
    pub(crate) fn new(body: B, time: Duration) -> Self {
        Self { body, time, end: None }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Timely<B>
where
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let time = this.time;
        let end = this.end.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
        ready!(end.as_mut().poll(context));
        Poll::Ready(Some(Err(format!("the body took longer than {time:?}").into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection whose peer takes what it is sent, or loses it.
pub(crate) struct Patient<S> {
    stream: S,
    time: Duration,
    /// Since the peer last took anything, while there is something to take.
    end: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    pub(crate) fn new(stream: S, time: Duration) -> Self {
        Self { stream, time, end: None }
    }

    /// What a write came to, unless nothing was taken for too long.
    fn judge<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.end = None;
            return written;
        }
        let time = self.time;
        let end = self.end.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
        ready!(end.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.judge(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;
    use std::convert::Infallible;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::mpsc;

    const SOON: Duration = Duration::from_millis(1);
    const LATE: Duration = Duration::from_secs(60);

    /// What is sent, then silence for as long as the sender lives.
    struct Coming(mpsc::Receiver<Bytes>);

    impl Body for Coming {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
        }
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_given_up() {
        for (time, ends) in [(SOON, false), (LATE, true)] {
            let (sender, receiver) = mpsc::channel(1);
            sender.send(Bytes::from_static(b"to")).await.unwrap();
            let _open = (!ends).then_some(sender);
            let read = to_bytes(axum::body::Body::new(Timely::new(Coming(receiver), time)), 10).await;
            assert_eq!(read.is_ok(), ends);
        }
    }

    #[tokio::test]
    async fn an_answer_that_nobody_reads_is_given_up_and_one_that_is_read_slowly_is_not() {
        let (stream, _asleep) = tokio::io::duplex(1);
        let unread = Patient::new(stream, SOON).write_all(b"hello").await;
        assert_eq!(unread.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let (stream, mut peer) = tokio::io::duplex(1);
        let writing = tokio::spawn(async move { Patient::new(stream, LATE).write_all(b"hello").await });
        let mut read = Vec::new();
        peer.read_to_end(&mut read).await.unwrap();
        assert_eq!((read, writing.await.unwrap().is_ok()), (b"hello".to_vec(), true));
    }
}
