//! The client's side of one request, the same for every version of HTTP: a head, a body, and the place for an answer.

use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use terrace_http::{BodyLength, Known, Method, RequestHead, ResponseHead, Version};
use terrace_runtime::clock;
use terrace_runtime::timer::Timer;
use terrace_wire::{Body, Sink, WireError, http1, http2};

use crate::hop::Asked;
use crate::lookout::Place;

/// One request as it came, and the means to answer it.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    pub(crate) head: &'a mut RequestHead,
    pub(crate) length: BodyLength,
    pub(crate) body: Body<'a>,
    pub(crate) reply: Reply<'a>,
    pub(crate) reused: &'a mut Reused,
}

/// What one request after another uses: a timer for each direction, and the memory of a response's head.
#[derive(Debug, Default)]
pub(crate) struct Reused {
    pub(crate) up: Timer,
    pub(crate) down: Timer,
    pub(crate) response: ResponseHead,
    /// Where the request says from when on it wants to be looked after; had at the first wait.
    pub(crate) place: Option<Rc<Place>>,
}

/// The place for an answer; taken by the final head.
#[derive(Debug)]
pub(crate) enum Reply<'a> {
    Http1 {
        outgoing: http1::Outgoing<'a>,
        client: Version,
    },
    Http2(SendResponse<Bytes>),
    /// The final head was given.
    Begun,
}

/// What becomes of the client's connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// The next request may follow.
    Keep,
    /// It ends.
    Close,
    /// The client went away, or broke its stream off, before the answer was complete.
    Gone,
}

impl<'a> Reply<'a> {
    /// Begins the answer: its head waits in the sink until the first flush. Says what becomes of the connection, which
    /// is `wanted`, unless the body's end can only be told by closing.
    ///
    /// # Errors
    /// [`WireError`] when the stream is over, or the head does not fit the client's version of HTTP.
    pub(crate) fn begin(
        &mut self,
        head: &mut ResponseHead,
        length: BodyLength,
        wanted: After,
    ) -> Result<(Sink<'a>, After), WireError> {
        match std::mem::replace(self, Self::Begun) {
            Self::Http1 { mut outgoing, client } => {
                // What follows 101 is no body: it is the other protocol, as it is (RFC 9110 section 15.2.2).
                let (length, after) = match head.status {
                    101 => (BodyLength::UntilClose, After::Close),
                    _ => fit_to_http1(length, client, wanted),
                };
                if head.status != 101 {
                    say_what_becomes_of_the_connection(head, client, after);
                }
                outgoing.response(head, length, client);
                Ok((Sink::Http1(outgoing), after))
            }
            Self::Http2(mut respond) => {
                let is_empty = length == BodyLength::Empty;
                let stream = respond.send_response(http2::response(head)?, is_empty)?;
                let sink =
                    if is_empty { http2::Outgoing::ended(stream) } else { http2::Outgoing::new(stream) };
                Ok((Sink::Http2(sink), After::Keep))
            }
            Self::Begun => Err(WireError::Length),
        }
    }

    /// Passes an interim response on where the client's version of HTTP has them.
    ///
    /// # Errors
    /// [`WireError`] when the client is gone.
    pub(crate) async fn interim(&mut self, head: &ResponseHead) -> Result<(), WireError> {
        match self {
            Self::Http1 { outgoing, client } if *client == Version::Http11 => {
                outgoing.interim(head);
                outgoing.flush().await
            }
            Self::Http2(respond) => Ok(respond.send_informational(http2::response(head)?)?),
            _ => Ok(()),
        }
    }

    /// Ready when the client broke off the stream on which it waits for an answer. Of an HTTP/1 client nobody knows: it
    /// may close its direction and still listen (RFC 9112 section 9.6).
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Http2(respond) => respond.poll_reset(cx).map(drop),
            Self::Http1 { .. } | Self::Begun => Poll::Pending,
        }
    }
}

impl Reply<'_> {
    /// Ready when the client went away, or at least will not ask anything more: enough to begin nothing for it while others
    /// wait. To be answered all the same, for it may still listen (RFC 9112 section 9.6).
    pub(crate) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Http1 { outgoing, .. } => outgoing.poll_peer_closed(cx),
            Self::Http2(respond) => respond.poll_reset(cx).map(drop),
            Self::Begun => Poll::Pending,
        }
    }
}

impl Exchange<'_> {
    /// Whether the next request may follow this one on an HTTP/1 connection, as far as the client is concerned.
    pub(crate) fn may_keep(&self, asked: &Asked) -> bool {
        match self.head.version {
            Version::Http10 => asked.keep_alive,
            Version::Http11 => !asked.close,
            Version::Http2 => true,
        }
    }

    /// Gives a whole answer.
    ///
    /// # Errors
    /// [`WireError`] when the client is gone.
    pub(crate) async fn answer(
        &mut self,
        head: &mut ResponseHead,
        body: Bytes,
        wanted: After,
    ) -> Result<After, WireError> {
        // Who answers in its own name has a clock, and says when it was (RFC 9110 section 6.6.1).
        if !head.fields.has(Known::Date) {
            head.fields.append_known(Known::Date, httpdate::fmt_http_date(clock::wall()).as_bytes());
        }
        let bytes = body.len() as u64;
        let has_body = self.head.method != Method::Head && !matches!(head.status, 204 | 304);
        let length = match (has_body, bytes) {
            (false, _) => {
                head.fields.append_known(Known::ContentLength, bytes.to_string().as_bytes());
                BodyLength::Empty
            }
            (true, 0) => {
                head.fields.append_known(Known::ContentLength, b"0");
                BodyLength::Empty
            }
            (true, bytes) => BodyLength::Known(bytes),
        };
        if matches!(self.reply, Reply::Http2(_)) && length != BodyLength::Empty {
            head.fields.append_known(Known::ContentLength, bytes.to_string().as_bytes());
        }
        let (mut sink, after) = self.reply.begin(head, length, wanted)?;
        if length != BodyLength::Empty {
            sink.data(body)?;
        }
        sink.end(None)?;
        sink.flush().await?;
        Ok(after)
    }
}

/// RFC 9112 section 6.3: a client of HTTP/1.0 knows no chunks, so its answer ends with the connection.
fn fit_to_http1(length: BodyLength, client: Version, wanted: After) -> (BodyLength, After) {
    match length {
        BodyLength::Framed if client == Version::Http10 => (BodyLength::UntilClose, After::Close),
        // To HTTP/1.1 we can say where it ends, and keep the connection.
        BodyLength::UntilClose if client == Version::Http11 => (BodyLength::Framed, wanted),
        BodyLength::UntilClose => (length, After::Close),
        _ => (length, wanted),
    }
}

fn say_what_becomes_of_the_connection(head: &mut ResponseHead, client: Version, after: After) {
    match (client, after) {
        (_, After::Close | After::Gone) => head.fields.append_known(Known::Connection, b"close"),
        (Version::Http10, After::Keep) => head.fields.append_known(Known::Connection, b"keep-alive"),
        (_, After::Keep) => {}
    }
}
