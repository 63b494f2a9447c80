//! A client's connection that speaks HTTP/1: request after request, until one of the two has enough.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use terrace_http::{BodyLength, ParseError, RequestHead, Version, request_body};
use terrace_runtime::clock;
use terrace_runtime::timer::{Elapsed, Timer};
use terrace_wire::http1::{Connection, Preface};
use terrace_wire::{Body, Frame, Io, WireError};

use crate::chain::{self, Way};
use crate::client::Connected;
use crate::config::Bounds;
use crate::core::{ClientGuard, Core};
use crate::exchange::{After, Exchange, Reply, Reused};
use crate::http2;
use crate::problem::Problem;

/// What is read over after a last answer, so that the client sees it rather than a reset.
const LINGER_BYTES_MAX: usize = 256 << 10;
const LINGER: Duration = Duration::from_secs(2);
/// A connection that has been silent for that long gives its memory back.
const BUSY: Duration = Duration::from_secs(1);
/// So long is waited for a request that may be on its way while a listener goes away: from who was just let in, or asks
/// one after the other. It is answered, and told that it was the last; a connection closed meanwhile would be a failure.
const LAST_REQUEST: Duration = Duration::from_secs(1);
/// What of a body is read over to keep the connection.
const LEFT_OVER_BYTES_MAX: usize = 128 << 10;

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) core: Rc<Core>,
    pub(crate) guard: ClientGuard,
    pub(crate) listener: String,
    pub(crate) connected: Connected,
    /// A request may be on its way: none has come yet, or one just now.
    pub(crate) may_ask: Cell<bool>,
}

/// What a connection waits for between requests.
enum Next {
    Request,
    Silence,
    End,
}

/// Serves a connection that may speak HTTP/1 or, where the listener has it, HTTP/2 by prior knowledge.
pub(crate) async fn serve(session: Session, io: Io, bounds: Bounds, http2: bool) {
    let mut connection = Connection::new(io);
    let mut timer = Timer::new();
    if http2 && !session.connected.is_tls {
        let Next::Request = next(&session, &mut connection, &mut timer, bounds.idle).await else { return };
        match timer.run(clock::now() + bounds.head_time, connection.preface()).await {
            Ok(Ok(Preface::Http2)) => {
                return Box::pin(http2::serve(session, connection.into_io(), bounds)).await;
            }
            // What came too slowly to tell is told so as HTTP/1.
            Ok(Ok(Preface::Http1)) | Err(Elapsed) => {}
            Ok(Ok(Preface::Closed) | Err(_)) => return,
        }
    }
    while let Next::Request = next(&session, &mut connection, &mut timer, bounds.idle).await {
        // On the heap, so that a connection that idles is small; and for many requests, since it is large.
        let busy = Busy { session: &session, connection: &mut connection, bounds: &bounds };
        if Box::pin(busy.serve()).await == After::Close {
            break;
        }
    }
    let _elapsed = timer.run(clock::now() + LINGER, connection.linger(LINGER_BYTES_MAX)).await;
}

/// Waits for the next request, at most that long.
async fn next(session: &Session, connection: &mut Connection, timer: &mut Timer, patience: Duration) -> Next {
    let waited = wait(session, connection, timer, patience).await;
    if !(matches!(waited, Next::End) && session.may_ask.get() && session.guard.is_leaving()) {
        return waited;
    }
    match timer.run(clock::now() + LAST_REQUEST, connection.readable()).await {
        Ok(Ok(true)) => Next::Request,
        _ => Next::End,
    }
}

async fn wait(session: &Session, connection: &mut Connection, timer: &mut Timer, patience: Duration) -> Next {
    let until = clock::now() + patience;
    let mut readable = pin!(connection.readable());
    let waited = timer.run(
        until,
        poll_fn(|cx| {
            if let Poll::Ready(result) = readable.as_mut().poll(cx) {
                return Poll::Ready(if matches!(result, Ok(true)) { Next::Request } else { Next::End });
            }
            session.guard.poll_leaving(cx).map(|()| Next::End)
        }),
    );
    waited.await.unwrap_or(Next::Silence)
}

/// A connection while requests come.
struct Busy<'a> {
    session: &'a Session,
    connection: &'a mut Connection,
    bounds: &'a Bounds,
}

impl Busy<'_> {
    /// Serves one request after another until none has come for a while.
    async fn serve(mut self) -> After {
        self.session.may_ask.set(true);
        let mut reused = Reused::default();
        let mut head = RequestHead::new();
        loop {
            if self.serve_one(&mut reused, &mut head).await == After::Close {
                return After::Close;
            }
            let patience = BUSY.min(self.bounds.idle);
            match next(self.session, self.connection, &mut reused.down, patience).await {
                Next::Request => {}
                Next::Silence => {
                    self.session.may_ask.set(false);
                    return After::Keep;
                }
                Next::End => return After::Close,
            }
        }
    }

    async fn serve_one(&mut self, reused: &mut Reused, head: &mut RequestHead) -> After {
        let bounds = self.bounds;
        let until = clock::now() + bounds.head_time;
        let read = match reused.down.run(until, self.connection.read_request(&bounds.head, head)).await {
            Ok(Ok(true)) => request_body(head.version, &head.fields).map_err(WireError::from),
            Ok(Ok(false)) => return After::Close,
            Ok(Err(error)) => Err(error),
            Err(Elapsed) => return Box::pin(self.refuse(reused, too_late())).await,
        };
        match read {
            Ok(length) => self.serve_request(reused, head, length).await,
            Err(WireError::Head(error)) => Box::pin(self.refuse(reused, malformed(&error))).await,
            Err(_) => After::Close,
        }
    }

    async fn serve_request(
        &mut self,
        reused: &mut Reused,
        head: &mut RequestHead,
        length: BodyLength,
    ) -> After {
        let session = self.session;
        self.connection.begin_body(length, self.bounds.head.head_bytes_max);
        let after = {
            let sight = session.core.sight(&session.listener);
            let Some((snapshot, listener)) = sight.look() else { return After::Close };
            let client = head.version;
            let (incoming, outgoing) = self.connection.split();
            let (body, reply) = (Body::Http1(incoming), Reply::Http1 { outgoing, client });
            let mut exchange = Exchange { head, length, body, reply, reused };
            let (core, connected, is_leaving) = (
                &session.core,
                &session.connected,
                session.guard.is_leaving() || session.connected.is_doubted(),
            );
            let way = Way { core, snapshot, listener, connected, is_leaving };
            chain::serve(way, &mut exchange).await
        };
        if after == After::Keep && self.connection.is_body_written() && self.read_over(reused).await {
            After::Keep
        } else {
            After::Close
        }
    }

    /// Reads what is left of a body that nobody wanted.
    async fn read_over(&mut self, reused: &mut Reused) -> bool {
        if self.connection.is_body_read() {
            return true;
        }
        let (incoming, _) = self.connection.split();
        let mut body = Body::Http1(incoming);
        let mut left = LEFT_OVER_BYTES_MAX;
        let until = clock::now() + self.bounds.head_time;
        loop {
            match reused.up.run(until, poll_fn(|cx| body.poll_frame(cx))).await {
                Ok(Ok(None)) => return true,
                Ok(Ok(Some(Frame::Data(bytes)))) if bytes.len() <= left => left -= bytes.len(),
                Ok(Ok(Some(Frame::Trailers(_)))) => {}
                _ => return false,
            }
        }
    }

    /// Answers what is no request, without a route, and ends the connection.
    async fn refuse(&mut self, reused: &mut Reused, problem: Problem) -> After {
        let session = self.session;
        let mut head = RequestHead::new();
        let sight = session.core.sight(&session.listener);
        let reply = Reply::Http1 { outgoing: self.connection.outgoing(), client: Version::Http11 };
        let mut exchange =
            Exchange { head: &mut head, length: BodyLength::Empty, body: Body::Empty, reply, reused };
        if let Some((snapshot, listener)) = sight.look() {
            let (core, connected) = (&session.core, &session.connected);
            let way = Way { core, snapshot, listener, connected, is_leaving: true };
            chain::refuse(way, &mut exchange, &problem).await;
        }
        After::Close
    }
}

fn too_late() -> Problem {
    let detail = "the request's head did not arrive within the listener's header-time";
    Problem::client(408, "http_request_error", detail)
}

fn malformed(error: &ParseError) -> Problem {
    Problem::client(error.status(), "http_request_error", error.to_string())
}
