//! The client's side of one exchange: a link to an endpoint, on which a request is sent and its response read.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use terrace_http::{
    BodyLength, Bounds, Known, Method, RequestHead, ResponseHead, Version, contains_token, response_body,
};
use terrace_wire::{Body, Io, Sink, WireError, http1, http2};

use crate::endpoint::ConnectionPermit;

/// Bytes that may be under way on one stream before the other side has taken them.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// The same over all streams of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// The largest field section of a response, and the largest trailer section.
const HEAD_BYTES_MAX: u32 = 64 << 10;

/// The bounds on responses' heads: an endpoint is trusted more than a client, but not without end.
pub const RESPONSE_BOUNDS: Bounds =
    Bounds { head_bytes_max: HEAD_BYTES_MAX as usize, fields_max: 256, target_bytes_max: 0 };

/// A connection to an endpoint on which an exchange can begin.
#[derive(Debug)]
pub enum Link {
    /// One exchange at a time.
    Http1(Box<Http1Link>),
    /// Many at a time.
    Http2(Http2Link),
}

/// A connection of HTTP/1 to an endpoint.
#[derive(Debug)]
pub struct Http1Link {
    pub(crate) connection: http1::Connection,
    pub(crate) permit: ConnectionPermit,
    pub(crate) is_reused: bool,
}

/// A share in a connection of HTTP/2 to an endpoint.
#[derive(Debug, Clone)]
pub struct Http2Link {
    send: SendRequest<Bytes>,
    state: Rc<Http2State>,
}

#[derive(Debug, Default)]
struct Http2State {
    streams: Cell<usize>,
    is_closed: Cell<bool>,
    is_tls: bool,
}

impl Http1Link {
    pub(crate) fn new(connection: http1::Connection, permit: ConnectionPermit) -> Self {
        Self { connection, permit, is_reused: false }
    }
}

impl Http2Link {
    /// Agrees on HTTP/2 and drives the connection on this thread until it ends.
    pub(crate) async fn open(io: Io, permit: ConnectionPermit) -> Result<Self, h2::Error> {
        let is_tls = io.is_tls();
        let (send, connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(HEAD_BYTES_MAX)
            .handshake::<_, Bytes>(io)
            .await?;
        let state = Rc::new(Http2State { is_tls, ..Http2State::default() });
        let watched = Rc::clone(&state);
        tokio::task::spawn_local(async move {
            let _how_it_ended_is_told_to_each_stream = connection.await;
            watched.is_closed.set(true);
            drop(permit);
        });
        Ok(Self { send, state })
    }

    /// Whether another stream can begin on it now.
    pub(crate) fn has_room(&self) -> bool {
        !self.is_closed() && self.state.streams.get() < self.send.current_max_send_streams()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.is_closed.get()
    }
}

/// Counts a stream while it lasts.
#[derive(Debug)]
pub struct StreamCount(Rc<Http2State>);

impl Drop for StreamCount {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
    }
}

/// The response to a request that was sent, or is being sent.
#[derive(Debug)]
pub enum Answer<'a> {
    /// On a connection of HTTP/1.
    Http1(http1::Incoming<'a>),
    /// On a stream of HTTP/2.
    Http2(Box<Http2Answer>),
}

/// The response on a stream of HTTP/2.
#[derive(Debug)]
pub struct Http2Answer {
    future: ResponseFuture,
    body: Option<http2::Incoming>,
    _count: StreamCount,
}

impl Link {
    /// Whether the connection served an exchange before, so that the endpoint may be closing it at this moment.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        match self {
            Self::Http1(link) => link.is_reused,
            Self::Http2(link) => link.state.streams.get() > 0,
        }
    }

    /// Lets nobody begin another exchange on it: an answer did not come in time, and nobody can tell an endpoint that is
    /// slow from a connection that leads nowhere any more. What is under way goes on.
    pub fn retire(&self) {
        if let Self::Http2(link) = self {
            link.state.is_closed.set(true);
        }
    }

    /// Takes up an exchange that was put aside.
    pub fn resume(&mut self, aside: Aside) -> Answer<'_> {
        match (self, aside) {
            (_, Aside(Some(answer))) => Answer::Http2(answer),
            (Self::Http1(link), Aside(None)) => Answer::Http1(link.connection.split().0),
            (Self::Http2(_), Aside(None)) => unreachable!("invariant: it was put aside on this link"),
        }
    }

    /// Begins an exchange. The request's head waits in the sink until it is flushed.
    ///
    /// # Errors
    /// [`WireError`] when HTTP/2 refuses the stream; nothing was sent then.
    pub async fn begin(
        &mut self,
        head: &RequestHead,
        length: BodyLength,
    ) -> Result<(Sink<'_>, Answer<'_>), WireError> {
        match self {
            Self::Http1(link) => {
                let (incoming, mut outgoing) = link.connection.split();
                outgoing.request(head, length);
                Ok((Sink::Http1(outgoing), Answer::Http1(incoming)))
            }
            Self::Http2(link) => link.begin(head, length).await,
        }
    }
}

impl Http2Link {
    async fn begin(
        &mut self,
        head: &RequestHead,
        length: BodyLength,
    ) -> Result<(Sink<'static>, Answer<'static>), WireError> {
        let scheme = if self.state.is_tls { "https" } else { "http" };
        let request = http2::request(head, scheme)?;
        let ready = self.send.clone().ready().await;
        // After GOAWAY the connection serves what was begun and nothing new: the next request looks for another.
        let mut send = ready.inspect_err(|_| self.state.is_closed.set(true))?;
        let is_empty = length == BodyLength::Empty;
        let (future, stream) = send.send_request(request, is_empty)?;
        self.state.streams.set(self.state.streams.get() + 1);
        let count = StreamCount(Rc::clone(&self.state));
        let sink = if is_empty { http2::Outgoing::ended(stream) } else { http2::Outgoing::new(stream) };
        let answer = Http2Answer { future, body: None, _count: count };
        Ok((Sink::Http2(sink), Answer::Http2(Box::new(answer))))
    }
}

/// An exchange whose response's head was read, and whose body waits.
#[derive(Debug)]
pub struct Aside(Option<Box<Http2Answer>>);

impl<'a> Answer<'a> {
    /// Puts the exchange aside after its head was read; [`Link::resume`] on the same link takes it up again.
    #[must_use]
    pub fn put_aside(self) -> Aside {
        match self {
            // What is known of the body stays with the connection.
            Self::Http1(_) => Aside(None),
            Self::Http2(answer) => Aside(Some(answer)),
        }
    }

    /// Reads the next head, interim ones (1xx) too, and says how long the body after it is.
    ///
    /// # Errors
    /// [`WireError::Closed`] when the endpoint closed before a head, [`WireError::Head`] for what is none.
    pub async fn head(&mut self, method: &Method, head: &mut ResponseHead) -> Result<BodyLength, WireError> {
        match self {
            Self::Http1(incoming) => {
                if !incoming.read_response(&RESPONSE_BOUNDS, head).await? {
                    return Err(WireError::Closed);
                }
                let length = match head.status {
                    101 => BodyLength::UntilClose,
                    _ => response_body(method, head.status, head.version, &head.fields)?,
                };
                if !head.is_interim() {
                    incoming.begin_body(length, HEAD_BYTES_MAX as usize);
                }
                Ok(length)
            }
            Self::Http2(answer) => answer.head(method, head).await,
        }
    }

    /// The body of the response whose head was read.
    #[must_use]
    pub fn into_body(self) -> (Body<'a>, Option<StreamCount>) {
        match self {
            Self::Http1(incoming) => (Body::Http1(incoming), None),
            Self::Http2(answer) => {
                let Http2Answer { body, _count, .. } = *answer;
                (body.map_or(Body::Empty, Body::Http2), Some(_count))
            }
        }
    }
}

impl Http2Answer {
    async fn head(&mut self, method: &Method, head: &mut ResponseHead) -> Result<BodyLength, WireError> {
        let (parts, stream) = (&mut self.future).await?.into_parts();
        http2::read_response(&parts, head);
        let incoming = http2::Incoming::new(stream);
        let length = match response_body(method, head.status, Version::Http2, &head.fields)? {
            _ if incoming.is_done() => BodyLength::Empty,
            BodyLength::UntilClose => BodyLength::Framed,
            length => length,
        };
        self.body = Some(incoming);
        Ok(length)
    }
}

/// Whether the endpoint keeps the connection open after this response (RFC 9112 section 9.3).
#[must_use]
pub fn keeps_alive(head: &ResponseHead) -> bool {
    let says = |token| head.fields.all(Known::Connection).any(|value| contains_token(value, token));
    match head.version {
        Version::Http10 => says("keep-alive"),
        _ => !says("close"),
    }
}
